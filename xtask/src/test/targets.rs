//! Builds for machines without an operating system.

use super::report::Report;
use crate::cross::{cargo_for, route};

/// A Cortex-M4 or larger with hardware floats, and any 64-bit Arm.
pub(super) const TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "aarch64-unknown-none"];

/// Each core, alone, with each of its features.
const BUILDS: [(&str, &[&str]); 7] = [
    ("ipsec-core", &["--no-default-features"]),
    ("ipsec-core", &["--features", "defmt"]),
    ("ipsec-core", &["--features", "smoltcp"]),
    ("ike-core", &["--no-default-features"]),
    ("ike-core", &["--features", "defmt"]),
    ("gateway-core", &[]),
    ("traffic-core", &[]),
];

/// The cores for bare metal. Compiled, not linked: the panic check makes machine code of them for the same targets.
pub(super) fn cross(report: &mut Report) {
    for target in TARGETS {
        let route = match route(target) {
            Ok(route) => route,
            Err(error) => {
                report.skipped(&format!("cross builds for {target}"), &error.to_string());
                continue;
            }
        };
        for (package, features) in BUILDS {
            let mut command = cargo_for(target, route, &["check", "--locked", "--quiet", "-p", package]);
            // A folder of its own: in the one of the tests it would wait for them.
            if let Ok(folder) = crate::checkout::target() {
                command.env("CARGO_TARGET_DIR", folder.join("cross"));
            }
            report.command(&format!("{package} {} for {target} ({route})", features.join(" ")), command.args(features));
        }
    }
}

/// `cargo xtask panic`.
pub(super) fn panic(report: &mut Report) {
    super::own_command(report, "panic", &["panic"]);
}

/// `cargo xtask sizes`.
pub(super) fn sizes(report: &mut Report) {
    super::own_command(report, "sizes", &["sizes"]);
}

/// The image.
pub(super) fn rpi(report: &mut Report) {
    match route("aarch64-unknown-none") {
        Ok(_) if crate::checkout::installed("qemu-system-aarch64") => {
            super::own_command(report, "rpi", &["rpi", "test"]);
        }
        Ok(_) => report.skipped("rpi", "missing qemu-system-aarch64; on Debian install qemu-system-arm"),
        Err(error) => report.skipped("rpi", &error.to_string()),
    }
}
