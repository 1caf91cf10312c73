//! Debian packages the stages need, installed when we may and may not be in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::report::Report;
use crate::checkout::{installed, succeed};
use crate::cross;
use crate::outcome::Result;

/// For the scenarios against strongSwan.
pub(crate) const INTEROP: &[&str] = &[
    "strongswan-swanctl",
    "charon-systemd",
    "libcharon-extra-plugins",
    "libstrongswan-standard-plugins",
    "libstrongswan-extra-plugins",
    "nftables",
    "iproute2",
    "iperf3",
];
/// A compiler with library sources for bare-metal targets, where rustup has none.
const CROSS: &[&str] = &["rustc-web", "rust-web-src", "lld"];
/// For the Raspberry Pi image: emulator, readers of its card, disassembler.
const IMAGE: &[&str] = &["qemu-system-arm", "mtools", "dosfstools", "llvm"];

/// Asked for by maintainer scripts before they start a daemon; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing.
pub(super) fn stage(report: &mut Report) {
    install_missing(report);
    // After the packages: what a Raspberry Pi 4 needs is not among them. Nothing depends on it but scenarios that say so.
    match crate::rpi::emulator::fetch() {
        Ok(_) => report.passed("a QEMU that has a Raspberry Pi 4"),
        Err(error) => println!("        --    no QEMU that has a Raspberry Pi 4: {error}"),
    }
}

fn install_missing(report: &mut Report) {
    let mut wanted = Vec::new();
    if !crate::interop::missing().is_empty() {
        wanted.extend(INTEROP);
    }
    if super::targets::TARGETS.iter().any(|target| cross::route(target).is_err()) {
        wanted.extend(CROSS);
    }
    if !["qemu-system-aarch64", "mtype", "fsck.fat", "llvm-objdump"].into_iter().all(installed) {
        wanted.extend(IMAGE);
    }
    if wanted.is_empty() {
        return report.passed("nothing is missing");
    }
    let wanted: Vec<&str> = wanted.into_iter().copied().collect();
    if !nix::unistd::geteuid().is_root() || !installed("apt-get") {
        return report.skipped("packages", &format!("not root on Debian; install {}", wanted.join(" ")));
    }
    report.check(&format!("installed {}", wanted.join(" ")), install(&wanted));
}

/// Installs packages; no daemon of theirs is started.
///
/// # Errors
/// When apt-get fails.
pub(crate) fn install(packages: &[&str]) -> Result {
    let _guard = NoDaemons::new()?;
    succeed(apt().args(["update", "-qq"]))?;
    succeed(apt().args(["install", "-qq", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    command
}

/// While it lives no package starts a daemon. What stood at its place comes back.
struct NoDaemons {
    before: Option<(Vec<u8>, fs::Permissions)>,
}

impl NoDaemons {
    fn new() -> Result<Self> {
        let before = match fs::read(POLICY) {
            Ok(octets) => Some((octets, fs::metadata(POLICY)?.permissions())),
            Err(_) => None,
        };
        let guard = Self { before };
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        match self.before.take() {
            Some((octets, permissions)) => {
                let _ = fs::write(POLICY, octets).and_then(|()| fs::set_permissions(POLICY, permissions));
            }
            None => {
                let _ = fs::remove_file(Path::new(POLICY));
            }
        }
    }
}
