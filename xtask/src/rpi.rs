//! The Raspberry Pi image: `cargo xtask image` and `cargo xtask rpi <command>`.

pub(crate) mod bench;
mod build;
mod card;
pub(crate) mod emulator;
pub(crate) mod image;
mod log;
mod mutants;
mod peer;
mod qemu;
mod scenarios;

use std::time::Duration;

use build::Machine;

use crate::outcome::Result;

const USAGE: &str = "\
usage: cargo xtask rpi <command>
  build     build kernel8.img for the Raspberry Pi and for QEMU virt
  boot      build, boot in QEMU and check the banner
  qemu      on Debian 12: unpack a QEMU that has a Raspberry Pi 4 below target/rpi; PORTCULLIS_QEMU names another one
  mutants   break ring and descriptor code in every place and count what the drivers' tests notice: about an hour; a
            part of a file's name chooses among the files
  test      everything the image does, seen from outside; a part of a name chooses among the scenarios";

/// Runs `cargo xtask rpi …`.
///
/// # Errors
/// Any failed step, in words for the person at the terminal.
pub(crate) fn run(arguments: &[String]) -> Result {
    match arguments.first().map(String::as_str) {
        Some("build") => {
            for machine in [Machine::Raspi, Machine::Virt] {
                let built = build::build(machine)?;
                println!("{}: {} octets", built.image.display(), std::fs::metadata(&built.image)?.len());
            }
            Ok(())
        }
        Some("boot") => boot(),
        Some("qemu") => {
            let version = emulator::fetch()?.command().arg("--version").output()?;
            print!("{}", String::from_utf8_lossy(&version.stdout));
            Ok(())
        }
        Some("mutants") => mutants::run(arguments.get(1).map_or("", String::as_str)),
        Some("test") => scenarios::run(arguments.get(1).map_or("", String::as_str)),
        _ => Err(USAGE.into()),
    }
}

/// Boots the image on both machines and waits for the banner.
///
/// # Errors
/// When a build fails or a machine stays silent.
fn boot() -> Result {
    for (machine, arguments, banner) in [
        (Machine::Raspi, &["-M", "raspi3b"][..], "on Raspberry Pi"),
        (Machine::Virt, &["-M", "virt", "-cpu", "cortex-a53", "-nic", "none"][..], "on QEMU virt"),
    ] {
        let built = build::build(machine)?;
        let mut guest = qemu::Guest::start(&emulator::Emulator::usual(), &built.image, arguments)?;
        let line = guest.wait_for(banner, Duration::from_secs(20))?;
        println!("{machine:?}: {line}");
    }
    Ok(())
}
