//! The Raspberry Pi image: `cargo xtask rpi <command>`.

mod build;
mod qemu;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use build::Machine;

/// What every command of this module returns.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: cargo xtask rpi <command>
  build     build kernel8.img for the Raspberry Pi and for QEMU virt
  boot      build, boot in QEMU and check the banner";

/// Runs `cargo xtask rpi …`.
///
/// # Errors
/// Any failed step, in words for the person at the terminal.
pub(crate) fn run(arguments: &[String]) -> Result {
    match arguments.first().map(String::as_str) {
        Some("build") => {
            for machine in [Machine::Raspi, Machine::Virt] {
                let built = build::build(machine)?;
                println!("{}: {} bytes", built.image.display(), std::fs::metadata(&built.image)?.len());
            }
            Ok(())
        }
        Some("boot") => boot(),
        _ => Err(USAGE.into()),
    }
}

/// Boots the image on both machines and waits for the banner.
pub(crate) fn boot() -> Result {
    for (machine, arguments, banner) in [
        (Machine::Raspi, &["-M", "raspi3b"][..], "on Raspberry Pi"),
        (Machine::Virt, &["-M", "virt", "-cpu", "cortex-a53", "-nic", "none"][..], "on QEMU virt"),
    ] {
        let built = build::build(machine)?;
        let mut guest = qemu::Guest::start(&built.image, arguments)?;
        let line = guest.wait_for(banner, Duration::from_secs(20))?;
        println!("{machine:?}: {line}");
    }
    Ok(())
}

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_path_buf()
}
