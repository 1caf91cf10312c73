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
    let lint = |selection: &[&str]| {
        let mut command = cargo(&["clippy", "--quiet", "--locked"]);
        command.args(selection).args(["--", "-D", "warnings"]);
        command
    };
    report.command("all features", &mut lint(&["--workspace", "--all-features", "--all-targets"]));
    for core in ["ipsec-core", "ike-core"] {
        report.command(&format!("{core} without features"), &mut lint(&["-p", core, "--no-default-features"]));
    }
    let others: [(&str, &[&str]); 3] = [
        ("fuzz/Cargo.toml", &["--all-targets"]),
        ("appliance-rpi/Cargo.toml", &["-p", "rpi-drivers", "--all-targets"]),
        ("xtask/panic-probe/Cargo.toml", &["--features", "rustcrypto"]),
    ];
    for (manifest, selection) in others {
        report.command(manifest, &mut lint(&[&["--manifest-path", manifest], selection].concat()));
    }
}
