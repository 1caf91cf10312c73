//! Unit, scenario and doc tests.

use super::report::Report;
use crate::checkout::{cargo, cargo_beside, installed, root};

/// All tests of the host.
pub(super) fn tests(report: &mut Report) {
    // defmt stays off: its logger exists on targets only.
    let features = ["--features", "ipsec-core/smoltcp"];
    // Files of others, beside the project and no part of it: whoever clones it alone does not have them.
    let vectors = root().join("../shared/vectors").is_dir();
    let excuse = "they read ../shared/vectors, which is not there";
    let mut tests = if installed("cargo-nextest") {
        cargo(&["nextest", "run", "--locked", "--workspace", "--cargo-quiet", "--status-level=fail", "--no-fail-fast"])
    } else {
        cargo(&["test", "--locked", "--workspace", "--quiet", "--no-fail-fast", "--lib", "--bins", "--tests"])
    };
    tests.args(features);
    if vectors {
        tests.args(if installed("cargo-nextest") { ["--run-ignored", "all"] } else { ["--", "--include-ignored"] });
    }
    report.counted_command_excused("unit and scenario tests", &mut tests, (!vectors).then_some(excuse));
    // What RFC 8221 says not to use changes which words are taken: apart, and only what it is about.
    let mut legacy =
        cargo(&["test", "--locked", "--quiet", "-p", "ipsec-core", "--features", "suites,legacy", "--test", "packets"]);
    report.counted_command("packets under algorithms of another age", legacy.args(["--", "suites"]));
    let mut legacy = cargo(&["test", "--locked", "--quiet", "-p", "ike-core", "--features", "legacy", "--lib"]);
    report.counted_command("words for algorithms of another age", legacy.args(["--", "proposal", "numbers"]));
    let mut docs = cargo(&["test", "--locked", "--workspace", "--quiet", "--doc", "--no-fail-fast"]);
    report.counted_command("doc tests", docs.args(features));
    for (name, manifest, package) in [
        ("corpus replay", "fuzz/Cargo.toml", None),
        ("drivers of the Raspberry Pi image", "appliance-rpi/Cargo.toml", Some("rpi-drivers")),
        ("services of the Raspberry Pi image", "appliance-rpi/Cargo.toml", Some("rpi-services")),
    ] {
        if root().join(manifest).is_file() {
            let mut command = cargo_beside(manifest, &["test", "--locked", "--quiet", "--no-fail-fast"]);
            if let Some(package) = package {
                command.args(["-p", package]);
            }
            report.counted_command(name, &mut command);
        }
    }
}
