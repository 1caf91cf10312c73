//! ESP that the kernel did not take: told now and then, and kept by child, as the engine has counted it as sent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_core::cause::{self, Cause};
use ipsec_core::spd::PolicyId;
use ipsec_core::time;
use tracing::warn;

use crate::configuration::reason;
use crate::logging::Throttle;

/// A few lines tell it, as each packet of a tunnel would be one.
const LINES: u32 = 3;
const EVERY: Duration = Duration::from_secs(60);

/// A child that sends nothing any more shows for so long that its last packet was not sent: then that says nothing of the way.
const LASTS: Duration = Duration::from_secs(60);

/// What a child lost that way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Inner packets and octets.
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// When the last one was that the kernel refused, and why.
    refused: Option<(time::Instant, Cause)>,
}

impl Lost {
    /// Why the child's last packet was not sent; none: it was, as far as is known. `since`: when its newest SA was installed;
    /// `tried`: when it last had a packet to send.
    pub(crate) fn cause(
        &self,
        since: Option<time::Instant>,
        tried: Option<time::Instant>,
        now: time::Instant,
    ) -> Option<&Cause> {
        let (at, cause) = self.refused.as_ref()?;
        let is_last = tried.is_none_or(|tried| tried <= *at) && since.is_some_and(|since| since <= *at);
        (is_last && now.since(*at) < LASTS).then_some(cause)
    }
}

/// What every child lost. Packets that are sent cost nothing here: that one went since is what the engine knows.
pub(super) struct Unsent {
    children: Mutex<BTreeMap<PolicyId, Lost>>,
    lines: Mutex<Throttle>,
}

/// Whether the kernel has no room at the moment, and takes the next one: the queue of an uplink that is slower than we are.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}

/// What the kernel says of a message that it did not take.
pub(crate) fn unsent(error: &io::Error) -> cause::Unsent {
    // What a packet filter that drops it has the kernel say.
    cause::Unsent { why: reason(error), filtered: error.raw_os_error() == Some(libc::EPERM) }
}

impl Unsent {
    pub(super) fn new(now: Instant) -> Self {
        let lines = Mutex::new(Throttle::new(LINES, EVERY, now));
        Self { children: Mutex::default(), lines }
    }

    /// A packet of a child with so many inner octets was not sent.
    pub(super) fn note(&self, now: time::Instant, child: PolicyId, remote: SocketAddr, octets: u64, error: &io::Error) {
        let mut children = self.children();
        let lost = children.entry(child).or_default();
        lost.packets += 1;
        lost.octets += octets;
        if is_full(error) {
            return;
        }
        let unsent = unsent(error);
        // Protocol 50 has no ports.
        let cause = match remote.port() {
            0 => Cause::unsent("ESP", remote.ip(), &unsent),
            _ => Cause::unsent("ESP in UDP", remote, &unsent),
        };
        let admitted = self.lines.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(others) = admitted {
            warn!(code = cause.code, others, "{}; {}", cause.text, cause.hint);
        }
        lost.refused = Some((now, cause));
    }

    /// What each child lost that lost something.
    pub(super) fn all(&self) -> BTreeMap<PolicyId, Lost> {
        self.children().clone()
    }

    /// The children have these numbers from now on: their losses go on, and of those without one nothing is kept.
    pub(super) fn renumber(&self, number: impl Fn(PolicyId) -> Option<PolicyId>) {
        let mut children = self.children();
        let before = std::mem::take(&mut *children);
        children.extend(before.into_iter().filter_map(|(child, lost)| Some((number(child)?, lost))));
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

    const CHILD: PolicyId = PolicyId(7);

    fn at(seconds: u64) -> time::Instant {
        time::Instant::from_millis(seconds * 1000)
    }

    /// What came of two packets, in the tenth second.
    fn lost(error: i32) -> Lost {
        let unsent = Unsent::new(Instant::now());
        assert!(unsent.of(CHILD).is_none());
        for _ in 0..2 {
            unsent.note(at(10), CHILD, "192.0.2.1:0".parse().unwrap(), 84, &io::Error::from_raw_os_error(error));
        }
        unsent.of(CHILD).unwrap()
    }

    #[test]
    fn f_79_esp_that_the_kernel_refuses_is_counted_by_child_and_has_a_cause_until_one_goes() {
        let lost = lost(libc::EPERM);
        assert_eq!((lost.packets, lost.octets), (2, 168));
        let cause = lost.cause(Some(at(1)), Some(at(10)), at(11)).unwrap();
        assert_eq!(cause.code, "not-sent");
        assert!(
            cause.text.starts_with("ESP to 192.0.2.1 could") && cause.hint.contains("a firewall of this machine"),
            "{cause}"
        );
        assert_eq!(lost.cause(Some(at(1)), Some(at(11)), at(11)), None, "one went");
        let away = super::unsent(&io::Error::from_raw_os_error(libc::ENETUNREACH));
        assert!(!Cause::unsent("ESP", "192.0.2.1", &away).hint.contains("firewall"));
    }

    #[test]
    fn f_79_a_cause_ends_with_time_with_a_new_sa_and_with_the_last_one() {
        let lost = lost(libc::ENETUNREACH);
        let is_told = |since, now| lost.cause(since, Some(at(10)), at(now)).is_some();
        assert!(is_told(Some(at(1)), 69) && !is_told(Some(at(1)), 70));
        assert!(!is_told(Some(at(11)), 12) && !is_told(None, 12));
    }

    #[test]
    fn f_79_esp_that_the_kernel_has_no_room_for_is_counted_and_says_nothing_of_the_way() {
        for error in [libc::EAGAIN, libc::ENOBUFS] {
            let lost = lost(error);
            assert_eq!((lost.packets, lost.cause(Some(at(1)), Some(at(10)), at(10))), (2, None));
        }
    }
}
