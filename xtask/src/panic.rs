//! `cargo xtask panic`: the machine code of the cores contains no way to panic.
//!
//! The programs of xtask/panic-probe call every entry of a core with input the optimiser knows nothing about, and their
//! panic handler calls a symbol that nobody defines: a program links only if no panic path is left. One program with a
//! planted panic must *not* link, else the check itself is broken. Dependencies that can panic stand in
//! PANIC-WAIVERS.md; a waiver that is no longer needed is an error.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitCode};

use serde_json::Value;

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

impl Expected {
    /// Whether the program is about code of others.
    fn is_foreign(self) -> bool {
        self == Self::LinksOrWaived
    }
}

const PROBES: [(&str, Expected); 10] = [
    ("planted", Expected::Refused),
    ("ipsec_core", Expected::Links),
    ("ipsec_path", Expected::Links),
    ("ipsec_deferred", Expected::Links),
    ("ike_core", Expected::Links),
    ("traffic_core", Expected::Links),
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
    let mut refused = BTreeSet::new();
    for machine in &machines {
        for foreign in [false, true] {
            let probes: Vec<_> = PROBES.into_iter().filter(|(_, expected)| expected.is_foreign() == foreign).collect();
            let linked = machine.linked(&probes, foreign)?;
            for (probe, expected) in probes {
                let waived = waivers.iter().any(|name| name == probe);
                let links = linked.contains(probe);
                if !links {
                    refused.insert(probe);
                }
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
        }
    }
    for name in waivers.iter().filter(|name| !arguments.host && !refused.contains(name.as_str())) {
        println!("FAIL  {name} is waived in {WAIVERS} and links everywhere: delete the waiver");
        failed += 1;
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
    /// Which of the programs link, all built at once. A build that fails for another reason than the planted symbol is
    /// an error.
    fn linked(&self, probes: &[(&'static str, Expected)], foreign: bool) -> Result<BTreeSet<String>> {
        let manifest = root().join("xtask/panic-probe/Cargo.toml");
        let folder = target()?.join("panic");
        let mut arguments = vec!["build", "--quiet", "--locked", "--release", "--keep-going", "--message-format=json"];
        if foreign {
            arguments.extend(["--features", "rustcrypto"]);
        }
        arguments.extend(probes.iter().flat_map(|(probe, _)| ["--bin", probe]));
        let mut command = match self.route {
            // Without the start files `_start` is ours; the C library still offers memcpy and its like.
            None => on_host(&arguments, &self.target),
            Some(route) => cargo_for(&self.target, route, &arguments),
        };
        let output = command.arg("--manifest-path").arg(manifest).env("CARGO_TARGET_DIR", folder).output()?;
        let (linked, refused) = outcomes(&String::from_utf8_lossy(&output.stdout));
        for (probe, _) in probes {
            ensure(linked.contains(*probe) || refused.contains(*probe), || {
                let errors = String::from_utf8_lossy(&output.stderr);
                format!("{probe} for {} does not build:\n{errors}", self.target)
            })?;
        }
        Ok(linked)
    }
}

/// The programs that cargo made, and those that did not link for want of the symbol.
fn outcomes(messages: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut linked, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(name) = message["target"]["name"].as_str().filter(|_| message["target"]["kind"][0] == "bin") else {
            continue;
        };
        if message["reason"] == "compiler-artifact" {
            linked.insert(name.to_owned());
        } else if message["message"]["rendered"].as_str().is_some_and(|text| text.contains(SYMBOL)) {
            refused.insert(name.to_owned());
        }
    }
    (linked, refused)
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

    #[test]
    fn what_linked_and_what_was_refused_stands_in_the_messages_of_cargo() {
        let artifact = |kind: &str, name: &str| {
            format!(r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}}}}"#)
        };
        let message = |name: &str, text: &str| {
            format!(
                r#"{{"reason":"compiler-message","target":{{"kind":["bin"],"name":"{name}"}},"message":{{"rendered":"{text}"}}}}"#
            )
        };
        let text = [
            artifact("bin", "good"),
            artifact("lib", "library"),
            message("bad", &format!("undefined symbol: {SYMBOL}")),
            message("broken", "a slip of the pen"),
            "not of cargo".to_owned(),
        ]
        .join("\n");
        let (linked, refused) = outcomes(&text);
        assert_eq!((linked.len(), linked.contains("good")), (1, true));
        assert_eq!((refused.len(), refused.contains("bad")), (1, true));
    }
}
