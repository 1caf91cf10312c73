//! What is lost outside the engines.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is lost outside the engines.
#[derive(Default)]
pub(crate) struct Tally {
    /// Packets that the kernel did not take from us towards the peers.
    pub(super) send_errors: AtomicU64,
    /// Packets that the kernel did not take from us on the TUN device.
    pub(super) tun_errors: AtomicU64,
    /// IKE messages longer than any we take.
    pub(super) truncated: AtomicU64,
    /// Fragments and datagrams of hosts in transport or BEET mode that were given up: see [`Dropped`](ipsec_core::reassembly::Dropped)
    /// and [`Lost`](ipsec_core::reassembly::Lost).
    pub(super) fragments_malformed: AtomicU64,
    pub(super) fragments_too_long: AtomicU64,
    pub(super) fragments_overlap: AtomicU64,
    pub(super) fragments_too_many: AtomicU64,
    pub(super) fragments_congestion: AtomicU64,
    pub(super) fragments_expired: AtomicU64,
    pub(super) fragments_displaced: AtomicU64,
    /// IKE messages and packets in want of an SA that came faster than the control thread took them.
    pub(super) inbox_full: AtomicU64,
}

impl Tally {
    /// Every counter with its name.
    pub(crate) fn read(&self) -> [(&'static str, u64); 11] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("SendErrors", of(&self.send_errors)),
            ("TunErrors", of(&self.tun_errors)),
            ("Truncated", of(&self.truncated)),
            ("FragmentsMalformed", of(&self.fragments_malformed)),
            ("FragmentsTooLong", of(&self.fragments_too_long)),
            ("FragmentsOverlap", of(&self.fragments_overlap)),
            ("FragmentsTooMany", of(&self.fragments_too_many)),
            ("FragmentsCongestion", of(&self.fragments_congestion)),
            ("FragmentsExpired", of(&self.fragments_expired)),
            ("FragmentsDisplaced", of(&self.fragments_displaced)),
            ("InboxFull", of(&self.inbox_full)),
        ]
    }
}

pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}
