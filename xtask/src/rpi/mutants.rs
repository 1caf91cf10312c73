//! `cargo xtask rpi mutants`: whether the drivers' tests notice when ring or descriptor code is broken.

use crate::mutants::Campaign;
use crate::outcome::{Result, ensure};

/// Where devices and the driver share indices, or a device describes itself.
const FILES: [&str; 4] = ["genet/ring.rs", "usb/ring.rs", "usb/descriptor.rs", "virtio_net.rs"];

/// Breaks the files whose path contains `filter`, one place after the other: some ten seconds a mutant.
///
/// # Errors
/// Without cargo-mutants, and when a file misses the goal.
pub(super) fn run(filter: &str) -> Result {
    let files: Vec<&str> = FILES.into_iter().filter(|file| file.contains(filter)).collect();
    ensure(!files.is_empty(), || format!("no file is named like {filter:?}; there are {}", FILES.join(", ")))?;
    let campaign = Campaign {
        workspace: "appliance-rpi",
        package: "rpi-drivers",
        sources: "drivers/src",
        files: &files,
        arguments: &["--timeout", "60"],
        goal: 80,
        out: "target/rpi/mutants",
    };
    campaign.run()
}
