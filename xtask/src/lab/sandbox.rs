//! Namespaces around the whole command.

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getgid, getuid};

use crate::outcome::Result;

/// Set for the process inside; its value means nothing.
const INSIDE: &str = "PORTCULLIS_LAB";

/// Where the lab keeps the daemons' configurations, sockets and logs: a tmpfs of its own. The path is short because that
/// of a Unix socket may have 107 octets at most.
pub(crate) const WORK: &str = "/run";

/// Whether this process runs inside already.
pub(crate) fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs `body` as process 1 of new process, mount and network namespaces; as root of a new user namespace when the
/// caller is not root. When the process ends, for whatever reason, the kernel ends what it started and removes every
/// interface, address, rule and mount it made.
///
/// The first call starts this program once more with the same arguments, so that the second call finds itself inside.
///
/// # Errors
/// When the kernel refuses namespaces, and whatever `body` returns.
pub(crate) fn run(body: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    if inside() {
        settle_in()?;
        return body();
    }
    leave_the_machine()?;
    let status = Command::new("/proc/self/exe").args(env::args_os().skip(1)).env(INSIDE, "1").status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn leave_the_machine() -> Result {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() && unshare(own).is_ok() {
        return Ok(());
    }
    unshare(own | CloneFlags::CLONE_NEWUSER).map_err(|error| {
        format!(
            "the lab needs network namespaces and got \"{error}\": run it as root, or allow user namespaces \
             (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns)"
        )
    })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(())
}

fn settle_in() -> Result {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    // Where the kernel refuses a fresh /proc (a container that masks parts of it) the old one serves as well.
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing);
    mount(Some("tmpfs"), WORK, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    Ok(())
}
