//! Debian packages the stages need, installed when we may and may not be in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
/// What captures are held against.
const DECODERS: &[&str] = &["tshark"];

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
    if !installed("tshark") {
        wanted.extend(DECODERS);
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

/// Unpacks packages of another suite of Debian beside `place`, installs none, and touches nothing of the system's. Returns the
/// folder, which may take its place: it is whole.
///
/// # Errors
/// When this is not Debian 12, or its archive cannot be reached.
pub(crate) fn unpack(suite: &str, packages: &[&str], place: &Path) -> Result<PathBuf> {
    let site = Command::new("apt-get")
        .args(["indextargets", "--format", "$(SITE)", "Codename: bookworm", "Created-By: Packages"])
        .output()
        .map_err(|error| format!("only Debian 12 is known to have {suite} beside its own: apt-get: {error}"))?;
    let site = String::from_utf8_lossy(&site.stdout).lines().next().map(str::to_owned);
    let site = site.ok_or_else(|| format!("only Debian 12 is known to have {suite} beside its own"))?;
    let work = place.with_extension("new");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    for folder in ["lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(work.join(folder))?;
    }
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(work.join("sources.list"), format!("deb [signed-by={key}] {site} {suite} main\n"))?;
    succeed(apt_of(&work).args(["-qq", "update"]))?;
    let names = packages.iter().map(|package| format!("{package}/{suite}"));
    succeed(apt_of(&work).current_dir(work.join("packages")).args(["-qq", "download"]).args(names))?;
    for package in fs::read_dir(work.join("packages"))? {
        succeed(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(&work))?;
    }
    for folder in ["lists", "cache", "packages"] {
        fs::remove_dir_all(work.join(folder))?;
    }
    Ok(work)
}

/// apt that knows the one source in `work` and touches nothing of the system's.
fn apt_of(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    for (option, value) in [
        ("Dir::Etc::SourceList", work.join("sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".into()),
        ("Dir::State::Lists", work.join("lists")),
        ("Dir::Cache", work.join("cache")),
    ] {
        command.arg("-o").arg(format!("{option}={}", value.display()));
    }
    // Packages are fetched as who we are: apt's own user may not write here.
    command.args(["-o", "APT::Sandbox::User=root"]);
    command
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
