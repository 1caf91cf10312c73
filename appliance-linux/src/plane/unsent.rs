//! ESP that the kernel did not take: told now and then, and kept by child, as the engine has counted it as sent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_core::cause::{self, Cause};
use ipsec_core::spd::PolicyId;
use tracing::warn;

use crate::configuration::reason;
use crate::logging::Throttle;

/// A few lines tell it, as each packet of a tunnel would be one.
const LINES: u32 = 3;
const EVERY: Duration = Duration::from_secs(60);

/// What a child lost that way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Inner packets and octets.
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// Why the last packet was not sent; none: it was.
    pub(crate) cause: Option<Cause>,
}

/// What every child lost.
pub(super) struct Unsent {
    children: Mutex<BTreeMap<PolicyId, Lost>>,
    /// Children whose last packet was not sent.
    failing: AtomicUsize,
    lines: Mutex<Throttle>,
}

/// What the kernel says of a message that it did not take.
pub(crate) fn unsent(error: &io::Error) -> cause::Unsent {
    // What a packet filter that drops it has the kernel say.
    cause::Unsent { why: reason(error), filtered: error.raw_os_error() == Some(libc::EPERM) }
}

impl Unsent {
    pub(super) fn new(now: Instant) -> Self {
        let lines = Mutex::new(Throttle::new(LINES, EVERY, now));
        Self { children: Mutex::default(), failing: AtomicUsize::new(0), lines }
    }

    /// Whether packets that are sent make a difference: to a child whose last one was not.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) > 0
    }

    /// What came of sending a packet of a child with so many inner octets.
    pub(super) fn note(&self, child: PolicyId, remote: SocketAddr, octets: u64, sent: Result<(), io::Error>) {
        let mut children = self.children();
        let lost = children.entry(child).or_default();
        lost.cause = sent.err().map(|error| {
            lost.packets += 1;
            lost.octets += octets;
            let unsent = unsent(&error);
            // Protocol 50 has no ports.
            let cause = match remote.port() {
                0 => Cause::unsent("ESP", remote.ip(), &unsent),
                _ => Cause::unsent("ESP in UDP", remote, &unsent),
            };
            let admitted = self.lines.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
            if let Some(others) = admitted {
                warn!(code = cause.code, others, "{}; {}", cause.text, cause.hint);
            }
            cause
        });
        let failing = children.values().filter(|lost| lost.cause.is_some()).count();
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// What a child lost; nothing, of most.
    pub(super) fn of(&self, child: PolicyId) -> Option<Lost> {
        self.children().get(&child).cloned()
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<PolicyId, Lost>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_79_esp_that_the_kernel_refuses_is_counted_by_child_and_has_a_cause_until_one_goes() {
        let unsent = Unsent::new(Instant::now());
        let (child, remote) = (PolicyId(7), "192.0.2.1:0".parse().unwrap());
        assert!(!unsent.is_failing() && unsent.of(child).is_none());
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        unsent.note(child, remote, 84, refused());
        unsent.note(child, remote, 84, refused());
        let lost = unsent.of(child).unwrap();
        assert_eq!((lost.packets, lost.octets), (2, 168));
        let cause = lost.cause.unwrap();
        assert_eq!(cause.code, "not-sent");
        assert!(
            cause.text.starts_with("ESP to 192.0.2.1 could") && cause.hint.contains("a firewall of this machine"),
            "{cause}"
        );
        assert!(unsent.is_failing());
        unsent.note(child, remote, 84, Ok(()));
        assert_eq!(unsent.of(child), Some(Lost { packets: 2, octets: 168, cause: None }));
        assert!(!unsent.is_failing());
        let away = super::unsent(&io::Error::from_raw_os_error(libc::ENETUNREACH));
        assert!(!Cause::unsent("ESP", remote, &away).hint.contains("firewall"));
    }
}
