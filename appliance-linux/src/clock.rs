//! The clock that the cores are told of.

use std::time::Duration;

use ipsec_core::time::Instant;
use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, monotonic, those included that it slept: the lifetimes of keys go on then, and
/// the peer's timers do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: boot_time() }
    }

    #[allow(clippy::unused_self, reason = "the clock is given to those who may ask it")]
    pub(crate) fn now(self) -> Instant {
        boot_time()
    }

    /// For how long this daemon has run.
    pub(crate) fn uptime(self) -> Duration {
        self.now().since(self.started)
    }
}

fn boot_time() -> Instant {
    // Every kernel that runs us has this clock.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    Instant::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set in the second run of the test below.
    const SLEPT: &str = "PORTCULLIS_TEST_SLEPT";

    #[test]
    fn f_79_status_tells_how_long_the_daemon_runs_and_not_the_machine() {
        let clock = Clock::start();
        let earlier = Clock { started: Instant::from_millis(clock.started.as_millis().saturating_sub(5000)) };
        assert!((5..60).contains(&earlier.uptime().as_secs()), "{:?}", earlier.uptime());
    }

    /// A namespace where the machine seems to have slept for two days.
    #[test]
    fn f_34_what_the_machine_slept_counts() {
        let awake = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap();
        let now = Clock::start().now().as_millis();
        if std::env::var_os(SLEPT).is_some() {
            assert!(now > 172_000_000 + u64::try_from(awake.as_millis()).unwrap(), "{now} ms, awake for {awake:?}");
            return;
        }
        if !std::path::Path::new("/proc/self/ns/time").exists() {
            return println!("this kernel has no time namespaces: nothing is shown here");
        }
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new("unshare");
        // As root, or where that is not so as root of a user namespace.
        let root = nix::unistd::geteuid().is_root();
        command.args(if root { &[][..] } else { &["--map-root-user"] });
        command.args(["--time", "--boottime", "172800", "--fork", "--"]).arg(this);
        command.args(["--exact", "clock::tests::f_34_what_the_machine_slept_counts"]).env(SLEPT, "1");
        let output = command.output().expect("unshare(1)");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "this test needs a time namespace: {said}");
    }
}
