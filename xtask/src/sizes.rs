//! `cargo xtask sizes`: what a node on a microcontroller needs of memory, and docs/sizes.md held to it.
//!
//! Everything is built for thumbv7em-none-eabihf at `opt-level = "z"` with one unit of code generation and LTO. A core alone
//! is its program of xtask/panic-probe: every entry called, with crypto that does nothing. xtask/size-probe has `ipsec-core`
//! with one tunnel and nothing else, likewise, and the whole node with the crypto of the default provider; the stack is painted
//! while a packet goes out and in and two nodes talk in the emulator.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use object::elf::{SHF_ALLOC, SHF_WRITE};
use object::read::elf::{ElfFile32, SectionHeader};

use crate::checkout::{installed, root, target};
use crate::cross::{Route, cargo_for, route};
use crate::outcome::{Result, ensure};

/// Measure code, static memory and stack on a Cortex-M4, and compare them with docs/sizes.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write what was measured into docs/sizes.md.
    #[arg(long)]
    write: bool,
}

/// What the crypto crates offer to whoever wants less code; and the planted symbol of xtask/panic-probe, for at this level
/// ways to panic are left in that are proven to be dead at the other one. The same for all, so that what they share is built
/// once.
const FLAGS: &str = r#"--cfg sha2_backend_soft="compact" --cfg aes_backend_soft="compact" -C link-arg=--defsym=__panic_must_not_link=0"#;
const TARGET: &str = "thumbv7em-none-eabihf";
const DOCUMENT: &str = "docs/sizes.md";
const EMULATOR: &str = "qemu-system-arm";
/// Hundredths by which a figure may be off.
const TOLERANCE: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// The rows of the table, and the most that each should be, in octets; performance goals are in KB (1,000) for code and in
/// KiB (1,024) for memory.
const ROWS: [(&str, Option<u64>); 14] = [
    ("`ipsec-core`, AES-GCM in tunnel mode, code", Some(12_000)),
    ("`ipsec-core`, every entry, code", None),
    ("`ike-core`, code", Some(25_000)),
    ("whole node, code", Some(96_000)),
    ("whole node, static memory", Some(12 * 1024)),
    ("whole node, static memory with room for rekeys", None),
    ("whole node, most of the stack", Some(8 * 1024)),
    ("an IKE SA with its messages", Some(3 * 1024)),
    ("a Child SA of IKE", None),
    ("an outbound SA with its key", None),
    ("an inbound SA with its key and window", None),
    ("a policy", None),
    ("a packet out, most of the stack", None),
    ("a packet in, most of the stack", None),
];

/// Runs `cargo xtask sizes`.
///
/// # Errors
/// When something does not build or run; figures that differ are counted, and the exit code tells.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let route = match route(TARGET) {
        Ok(route) if installed(EMULATOR) => route,
        Ok(_) => return skipped(&format!("missing {EMULATOR}; on Debian install qemu-system-arm")),
        Err(error) => return skipped(&error.to_string()),
    };
    let measured = measure(route)?;
    let path = root().join(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    if arguments.write {
        fs::write(&path, written(&text, &measured)?)?;
        println!("{DOCUMENT} is written");
    }
    let text = fs::read_to_string(&path)?;
    let documented = figures(&text);
    let (mut passed, mut failed) = (0, 0);
    for ((row, goal), value) in ROWS.iter().zip(measured) {
        let said = documented.get(*row).copied();
        let good = said.is_some_and(|said| said.abs_diff(value) * 100 <= value * TOLERANCE);
        let verdict = verdict(value, *goal).map_or(String::new(), |verdict| format!(", goal {verdict}"));
        let says = said.map_or("not there".to_owned(), |said| format!("{said}"));
        let result = if good { "ok  " } else { "FAIL" };
        println!("{result}  {row}: {value} octets{verdict}; {DOCUMENT}: {says}");
        if good { passed += 1 } else { failed += 1 }
    }
    if failed > 0 {
        println!("what has changed is written down by `cargo xtask sizes --write`");
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn skipped(why: &str) -> Result<ExitCode> {
    println!("skip  sizes: {why}\n0 passed, 0 failed, 1 skipped");
    Ok(ExitCode::SUCCESS)
}

/// The figures of [`ROWS`].
fn measure(route: Route) -> Result<Vec<u64>> {
    let cores = build(route, "xtask/panic-probe", &["ipsec_core", "ike_core"])?;
    let probes = build(route, "xtask/size-probe", &["tunnel", "psk_node", "tunnel_stack", "two_nodes"])?;
    let mut told = talk(&probes[2])?;
    told.extend(talk(&probes[3])?);
    let told = |what: &str| told.get(what).copied().ok_or_else(|| format!("the programs told no {what}"));
    let codes = [code(&probes[0])?, code(&cores[0])?, code(&cores[1])?, code(&probes[1])?];
    let mut measured = codes.to_vec();
    for what in ["static", "static-rekey", "stack", "ike", "child", "outbound", "inbound", "policy", "seal", "open"] {
        measured.push(told(what)?);
    }
    Ok(measured)
}

fn build(route: Route, package: &str, programs: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = target()?.join("sizes");
    let mut command = cargo_for(TARGET, route, &["build", "--quiet", "--locked", "--release"]);
    command.arg("--manifest-path").arg(root().join(package).join("Cargo.toml"));
    command.args(programs.iter().flat_map(|program| ["--bin", program]));
    let linker = if route == Route::Debian { "-C linker=ld.lld " } else { "" }; // what cargo_for would set alone
    command.env("RUSTFLAGS", format!("{linker}{FLAGS}")).env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z");
    crate::checkout::succeed(command.env("CARGO_TARGET_DIR", &folder))?;
    Ok(programs.iter().map(|program| folder.join(TARGET).join("release").join(program)).collect())
}

/// Octets of code and constants. What static memory begins with is left out: a firmware may make it at its start, instead of
/// keeping it in flash, and it is told of with static memory.
fn code(program: &Path) -> Result<u64> {
    let octets = fs::read(program)?;
    let file = ElfFile32::<object::Endianness>::parse(&*octets)?;
    let endian = file.endian();
    let kept = file.elf_section_table().iter().filter(|section| {
        let flags = section.sh_flags(endian);
        flags.contains(SHF_ALLOC) && !flags.contains(SHF_WRITE)
    });
    Ok(kept.map(|section| u64::from(section.sh_size(endian))).sum())
}

/// Runs a program in the emulator; the numbers that it tells, by name.
fn talk(program: &Path) -> Result<BTreeMap<String, u64>> {
    let mut command = Command::new(EMULATOR);
    command.args(["-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none"]);
    command.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(program);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output()?;
    // Semihosting writes where the emulator's own messages go.
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure(text.contains("ended true"), || format!("the program did not come to its end:\n{text}"))?;
    let numbers = text.lines().filter_map(|line| line.split_once(' '));
    Ok(numbers.filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?))).collect())
}

/// `met`, or `missed`.
fn verdict(value: u64, goal: Option<u64>) -> Option<&'static str> {
    goal.map(|goal| if value <= goal { "met" } else { "missed" })
}

/// A number as the table has it: 12,345.
fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// The table's figures by row.
fn figures(text: &str) -> BTreeMap<&str, u64> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    cells.filter_map(|(row, rest)| Some((row, rest.split(" | ").next()?.replace(',', "").parse().ok()?))).collect()
}

/// The text with other figures in its table.
fn written(text: &str, measured: &[u64]) -> Result<String> {
    let mut text = text.to_owned();
    for ((row, goal), value) in ROWS.iter().zip(measured) {
        let line = text.lines().find(|line| line.starts_with(&format!("| {row} | "))).map(str::to_owned);
        let line = line.ok_or_else(|| format!("{DOCUMENT} has no row {row}"))?;
        let goal = goal.map_or_else(
            || "| | |".to_owned(),
            |goal| format!("| {} | {} |", grouped(goal), verdict(*value, Some(goal)).unwrap_or_default()),
        );
        text = text.replace(&line, &format!("| {row} | {} {goal}", grouped(*value)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_says_whether_the_goal_is_met() {
        let rows: String = ROWS.iter().map(|(row, _)| format!("| {row} | 1 | | |\n")).collect();
        let measured = [11_999, 64_000, 25_001, 1_234_567, 1, 999, 8192, 3073, 2, 3, 4, 5, 6, 7];
        let text = written(&rows, &measured).unwrap();
        assert!(text.contains("| `ipsec-core`, AES-GCM in tunnel mode, code | 11,999 | 12,000 | met |\n"), "{text}");
        assert!(text.contains("| `ike-core`, code | 25,001 | 25,000 | missed |\n"), "{text}");
        assert!(text.contains("room for rekeys | 999 | | |\n"), "{text}");
        let read = figures(&text);
        assert_eq!(ROWS.map(|(row, _)| read[row]), measured);
        assert!(written("", &measured).is_err());
    }

    #[test]
    fn every_figure_is_documented() {
        let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
        let read = figures(&text);
        for ((row, goal), line) in ROWS.iter().map(|row| (row, text.lines().find(|line| line.contains(row.0)))) {
            let (value, line) = (read[row], line.unwrap());
            assert!(verdict(value, *goal).is_none_or(|verdict| line.ends_with(&format!("| {verdict} |"))), "{line}");
        }
    }
}
