//! Which QEMU: the system's, the one that PORTCULLIS_QEMU names, or a newer one unpacked beside the system's.
//!
//! Debian 12 has QEMU 7.2, which knows no Raspberry Pi 4. Its backports have a newer one; that is not installed over the
//! system's but unpacked below `target`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::checkout::root;
use crate::outcome::{Result, ensure};
use crate::test::packages::unpack;

const PROGRAM: &str = "qemu-system-aarch64";
const SUITE: &str = "bookworm-backports";
const PACKAGES: [&str; 3] = ["qemu-system-arm", "qemu-system-common", "qemu-system-data"];

/// An emulator and what it has to be told of its own files.
#[derive(Clone, Debug)]
pub(crate) struct Emulator {
    program: PathBuf,
    /// Where its files were unpacked, if not where it expects them.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// The one in PATH, or the one PORTCULLIS_QEMU names.
    pub(crate) fn usual() -> Self {
        let program = std::env::var_os("PORTCULLIS_QEMU").map_or_else(|| PROGRAM.into(), PathBuf::from);
        Self { program, unpacked: None }
    }

    /// The first one that has this machine.
    ///
    /// # Errors
    /// What to do when none has.
    pub(crate) fn with_machine(machine: &str) -> Result<Self> {
        let unpacked = place();
        let candidates =
            [Self::usual(), Self { program: unpacked.join("usr/bin").join(PROGRAM), unpacked: Some(unpacked) }];
        candidates.into_iter().find(|candidate| candidate.has(machine)).ok_or_else(|| {
            format!("no QEMU here has {machine}; name one with PORTCULLIS_QEMU, or on Debian `cargo xtask rpi qemu`")
                .into()
        })
    }

    fn has(&self, machine: &str) -> bool {
        let output = self.command().args(["-M", "help"]).output();
        output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).lines().any(|line| line.split(' ').next() == Some(machine))
        })
    }

    /// A command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(folder) = &self.unpacked {
            command.arg("-L").arg(folder.join("usr/share/qemu"));
            // It looks for modules of the system's QEMU too, and says at length that those are of another build.
            command.stderr(std::process::Stdio::null());
            let libraries = fs::read_dir(folder.join("usr/lib")).into_iter().flatten().flatten();
            for library in libraries {
                command.env("QEMU_MODULE_DIR", library.path().join("qemu"));
            }
        }
        command
    }
}

fn place() -> PathBuf {
    root().join("target/rpi/qemu")
}

/// Unpacks the QEMU of Debian's backports below `target`, when no other here has a Raspberry Pi 4.
///
/// # Errors
/// When this is not Debian 12, or its backports cannot be reached.
pub(crate) fn fetch() -> Result<Emulator> {
    if let Ok(emulator) = Emulator::with_machine("raspi4b") {
        return Ok(emulator);
    }
    let place = place();
    let work = unpack(SUITE, &PACKAGES, &place)?;
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(&work, &place)?;
    let emulator = Emulator::with_machine("raspi4b")?;
    let started = emulator.command().arg("--version").output()?;
    ensure(started.status.success(), || String::from_utf8_lossy(&started.stderr).into_owned())?;
    Ok(emulator)
}
