//! What is lost outside the engines.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is lost outside the engines.
#[derive(Default)]
pub(crate) struct Tally {
    /// Packets that the kernel did not take from us towards the peers.
    pub(super) send_errors: AtomicU64,
    /// Packets that the kernel did not take from us on the TUN device.
    pub(super) tun_errors: AtomicU64,
    /// Datagrams larger than any we take.
    pub(super) truncated: AtomicU64,
    /// IKE messages and packets in want of an SA that came faster than the control thread took them.
    pub(super) inbox_full: AtomicU64,
}

impl Tally {
    /// Every counter with its name.
    pub(crate) fn read(&self) -> [(&'static str, u64); 4] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("SendErrors", of(&self.send_errors)),
            ("TunErrors", of(&self.tun_errors)),
            ("Truncated", of(&self.truncated)),
            ("InboxFull", of(&self.inbox_full)),
        ]
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
