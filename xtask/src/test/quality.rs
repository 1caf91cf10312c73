//! Style.

use super::report::Report;
use crate::checkout::{cargo, root};

/// Every workspace of the repository, by its manifest.
pub(super) fn workspaces() -> impl Iterator<Item = &'static str> {
    ["Cargo.toml", "appliance-rpi/Cargo.toml", "fuzz/Cargo.toml", "xtask/panic-probe/Cargo.toml"]
        .into_iter()
        .filter(|manifest| root().join(manifest).is_file())
}

/// `cargo fmt --check`.
pub(super) fn format(report: &mut Report) {
    for manifest in workspaces() {
        report.command(manifest, &mut cargo(&["fmt", "--all", "--check", "--manifest-path", manifest]));
    }
}

/// `cargo clippy`, warnings denied.
pub(super) fn clippy(report: &mut Report) {
    let lint = |features: &[&str]| {
        let mut command = cargo(&["clippy", "--quiet", "--locked", "--all-targets"]);
        command.args(features).args(["--", "-D", "warnings"]);
        command
    };
    report.command("all features", &mut lint(&["--workspace", "--all-features"]));
    let image = ["--manifest-path", "appliance-rpi/Cargo.toml", "-p", "rpi-drivers", "-p", "rpi-services"];
    report.command("drivers and services of the Raspberry Pi image", &mut lint(&image));
    for core in ["ipsec-core", "ike-core"] {
        report.command(&format!("{core} without features"), &mut lint(&["-p", core, "--no-default-features"]));
    }
}
