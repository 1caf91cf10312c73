//! Style.

use std::process::Command;

use super::report::Report;
use crate::checkout::{cargo, cargo_beside, root};

/// Every workspace of the repository, by its manifest.
pub(super) fn workspaces() -> impl Iterator<Item = &'static str> {
    [
        "Cargo.toml",
        "appliance-rpi/Cargo.toml",
        "fuzz/Cargo.toml",
        "xtask/panic-probe/Cargo.toml",
        "xtask/size-probe/Cargo.toml",
    ]
    .into_iter()
    .filter(|manifest| root().join(manifest).is_file())
}

/// `cargo fmt --check`.
pub(super) fn format(report: &mut Report) {
    for manifest in workspaces() {
        report.command(manifest, &mut cargo(&["fmt", "--all", "--check", "--manifest-path", manifest]));
    }
}

/// `cargo clippy` and `cargo doc`, warnings denied.
pub(super) fn clippy(report: &mut Report) {
    const LINT: [&str; 3] = ["clippy", "--quiet", "--locked"];
    let mut lint = |name: &str, mut command: Command, selection: &[&str]| {
        report.command(name, command.args(selection).args(["--", "-D", "warnings"]));
    };
    lint("all features", cargo(&LINT), &["--workspace", "--all-features", "--all-targets"]);
    for core in ["ipsec-core", "ike-core"] {
        lint(&format!("{core} without features"), cargo(&LINT), &["-p", core, "--no-default-features"]);
    }
    let others: [(&str, &[&str]); 3] = [
        ("fuzz/Cargo.toml", &["--all-targets"]),
        ("appliance-rpi/Cargo.toml", &["-p", "rpi-drivers", "--all-targets"]),
        ("xtask/panic-probe/Cargo.toml", &["--features", "rustcrypto"]),
    ];
    for (manifest, selection) in others {
        lint(manifest, cargo_beside(manifest, &LINT), selection);
    }
    // Here, as what clippy has checked is not checked again for it.
    const DOCUMENT: [&str; 4] = ["doc", "--quiet", "--locked", "--no-deps"];
    let mut document = |name: &str, mut command: Command, selection: &[&str]| {
        report.command(name, command.args(selection).env("RUSTDOCFLAGS", "-D warnings"));
    };
    document("documentation", cargo(&DOCUMENT), &["--workspace", "--all-features"]);
    let image = "appliance-rpi/Cargo.toml";
    document("documentation of the image's drivers", cargo_beside(image, &DOCUMENT), &["-p", "rpi-drivers"]);
}
