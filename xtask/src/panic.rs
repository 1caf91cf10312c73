//! `cargo xtask panic`: the machine code of the cores contains no way to panic.
//!
//! The programs of xtask/panic-probe call every entry of a core with input the optimiser knows nothing about, and their
//! panic handler calls a symbol that nobody defines: a program links only if no panic path is left. One program with a
//! planted panic must *not* link, else the check itself is broken. Dependencies that can panic stand in
//! PANIC-WAIVERS.md; a waiver that is no longer needed is an error.

use std::fs;
use std::process::{Command, ExitCode};

use crate::checkout::{cargo, root, target};
use crate::cross::{Route, cargo_for, route};
use crate::outcome::{Result, ensure};

/// Show that no panic is reachable in the cores, for this machine, thumbv7em-none-eabihf and aarch64-unknown-none.
///
/// The waivers for dependencies are in PANIC-WAIVERS.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only for this machine: faster while looking for a panic.
    #[arg(long)]
    host: bool,
}

/// Has to link, or not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// No waiver possible: our own code.
    Links,
    /// The counter-check.
    Refused,
    /// Foreign code: links, or stands in the waiver list.
    LinksOrWaived,
}

const PROBES: [(&str, Expected); 7] = [
    ("planted", Expected::Refused),
    ("ipsec_core", Expected::Links),
    ("ike_core", Expected::Links),
    ("gcm", Expected::LinksOrWaived),
    ("prf", Expected::LinksOrWaived),
    ("x25519", Expected::LinksOrWaived),
    ("ecp256", Expected::LinksOrWaived),
];

const WAIVERS: &str = "PANIC-WAIVERS.md";
const SYMBOL: &str = "__panic_must_not_link";
const BARE_METAL: [&str; 2] = ["thumbv7em-none-eabihf", "aarch64-unknown-none"];

/// Runs `cargo xtask panic`.
///
/// # Errors
/// When the waiver list cannot be read; refused links are counted, and the exit code tells.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let waivers = waivers(&fs::read_to_string(root().join(WAIVERS)).map_err(|error| format!("{WAIVERS}: {error}"))?);
    for name in &waivers {
        let known = PROBES.iter().any(|(probe, expected)| probe == name && *expected == Expected::LinksOrWaived);
        ensure(known, || format!("{WAIVERS} waives {name}, which is no dependency's probe"))?;
    }
    let mut machines = vec![Machine { target: host()?, route: None }];
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for target in BARE_METAL {
        match route(target) {
            _ if arguments.host => {}
            Ok(route) => machines.push(Machine { target: target.to_owned(), route: Some(route) }),
            Err(error) => {
                println!("skip  {target}: {error}");
                skipped += 1;
            }
        }
    }
    for (probe, expected) in PROBES {
        let waived = waivers.iter().any(|name| name == probe);
        let mut links_everywhere = true;
        for machine in &machines {
            let links = machine.links(probe, expected)?;
            links_everywhere &= links;
            let good = match expected {
                Expected::Links => links,
                Expected::Refused => !links,
                Expected::LinksOrWaived => links || waived,
            };
            let says = match (links, expected) {
                (true, _) => "no panic",
                (false, Expected::Refused) => "does not link, as it must not",
                (false, _) if waived => "can panic, waived",
                (false, _) => "CAN PANIC: it does not link",
            };
            println!("{}  {probe} for {}: {says}", if good { "ok  " } else { "FAIL" }, machine.target);
            if good { passed += 1 } else { failed += 1 }
        }
        if waived && links_everywhere && !arguments.host {
            println!("FAIL  {probe} is waived in {WAIVERS} and links everywhere: delete the waiver");
            failed += 1;
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first cells of the waiver table.
fn waivers(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

struct Machine {
    target: String,
    /// `None`: this machine.
    route: Option<Route>,
}

impl Machine {
    /// Whether the program links. A build that fails for another reason than the planted symbol is an error.
    fn links(&self, probe: &str, expected: Expected) -> Result<bool> {
        let manifest = root().join("xtask/panic-probe/Cargo.toml");
        let folder = target()?.join("panic");
        let mut arguments = vec!["build", "--quiet", "--locked", "--release", "--bin", probe];
        if expected == Expected::LinksOrWaived {
            arguments.extend(["--features", "rustcrypto"]);
        }
        let mut command = match self.route {
            // Without the start files `_start` is ours; the C library still offers memcpy and its like.
            None => on_host(&arguments, &self.target),
            Some(route) => cargo_for(&self.target, route, &arguments),
        };
        let output = command.arg("--manifest-path").arg(manifest).env("CARGO_TARGET_DIR", folder).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.success() || errors.contains(SYMBOL), || {
            format!("{probe} for {} does not build:\n{errors}", self.target)
        })?;
        Ok(output.status.success())
    }
}

fn on_host(arguments: &[&str], target: &str) -> Command {
    let mut command = cargo(arguments);
    command.args(["--target", target]).env("RUSTFLAGS", "-C link-arg=-nostartfiles -C link-arg=-lc");
    command
}

/// This machine's target triple.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waivers_are_the_first_cells_of_the_table() {
        let text = "# x\n| program | why |\n|---|---|\n| `gcm` | words `code` |\n| `prf` | words |\n";
        assert_eq!(waivers(text), ["gcm", "prf"]);
    }
}
