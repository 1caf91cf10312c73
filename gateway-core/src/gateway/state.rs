//! What a gateway remembers of each peer and child between calls.

use alloc::string::String;
use core::time::Duration;

use ike_core::event::{ChildId, IkeId};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::sa::{Lifetime, Limit};
use ipsec_core::time::Instant;

use super::names::Names;
use super::status::Totals;
use crate::cause::Cause;
use crate::config::{Child, Peer, Start};

/// The side that was called leaves this much time to the one that called to ask for the children itself.
pub(super) const COURTESY: Duration = Duration::from_secs(10);

/// A configured peer.
pub(super) struct PeerEntry {
    pub(super) id: PeerId,
    pub(super) name: String,
    pub(super) start: Start,
    /// The operator wants it down.
    pub(super) held: bool,
    /// Somebody wants it up although nobody would begin by himself.
    pub(super) wanted: bool,
    /// The handshake that we began.
    pub(super) attempt: Option<IkeId>,
    /// The appliance was asked where it is.
    pub(super) locating: bool,
    /// How many places were tried, to try the next one.
    pub(super) turn: usize,
    /// How many places there are to try: only when all failed the pauses grow.
    pub(super) ways: u32,
    /// When its DNS names are asked for.
    pub(super) names: Option<Names>,
    /// Attempts that failed since it was last connected for a while.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    pub(super) established_at: Option<Instant>,
    /// We called, not the peer.
    pub(super) began: bool,
    /// Why it is not connected.
    pub(super) cause: Option<Cause>,
}

impl PeerEntry {
    pub(super) fn new(id: PeerId, peer: &Peer) -> Self {
        Self {
            id,
            name: peer.name.clone(),
            start: peer.start,
            held: false,
            wanted: false,
            attempt: None,
            locating: false,
            turn: 0,
            ways: 1,
            names: Names::of(peer),
            failures: 0,
            retry_at: None,
            established_at: None,
            began: false,
            cause: None,
        }
    }

    /// Whether we are to connect it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted || (self.start == Start::Active && !self.held)
    }

    /// Until when missing children are left to the peer to ask for, when it was the one that called.
    pub(super) fn courtesy(&self) -> Option<Instant> {
        let since = self.established_at.filter(|_| !self.began)?;
        Some(since + COURTESY)
    }

    /// An attempt failed: the next one comes after a pause that grows.
    pub(super) fn fail(&mut self, now: Instant, cause: Cause) {
        self.attempt = None;
        self.locating = false;
        self.turn = self.turn.wrapping_add(1);
        self.failures = self.failures.saturating_add(1);
        let rounds = self.failures.saturating_sub(1).checked_div(self.ways).unwrap_or(0).saturating_add(1);
        self.retry_at = Some(now + super::pause(rounds, self.id.0));
        self.lost(now);
        if self.start != Start::Active {
            self.wanted = false;
        }
        self.cause = Some(cause);
    }
}

/// A configured child.
pub(super) struct ChildEntry {
    pub(super) id: ChildConfigId,
    pub(super) peer: PeerId,
    pub(super) name: String,
    pub(super) lifetime: Lifetime,
    pub(super) held: bool,
    /// Somebody wants it although nobody would begin by himself.
    pub(super) wanted: bool,
    /// The SA that we asked the peer for.
    pub(super) asked: Option<ChildId>,
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    pub(super) cause: Option<Cause>,
    /// What went through SAs that are gone.
    pub(super) past: Totals,
    pub(super) rekeys: u64,
}

impl ChildEntry {
    pub(super) fn new(id: ChildConfigId, peer: PeerId, child: &Child) -> Self {
        Self {
            id,
            peer,
            name: child.name.clone(),
            lifetime: lifetime(child),
            held: false,
            wanted: false,
            asked: None,
            failures: 0,
            retry_at: None,
            cause: None,
            past: Totals::default(),
            rekeys: 0,
        }
    }

    /// Takes over what may change without a new number.
    pub(super) fn follow(&mut self, child: &Child) {
        self.lifetime = lifetime(child);
    }

    pub(super) fn fail(&mut self, now: Instant, cause: Cause) {
        self.asked = None;
        self.wanted = false;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + super::pause(self.failures, self.id.0));
        self.cause = Some(cause);
    }
}

/// Ages are IKE's business, which knows when it can rekey; amounts only the data plane sees. The hard limit leaves a
/// quarter for rekeying.
fn lifetime(child: &Child) -> Lifetime {
    let hard = |soft: Option<u64>| soft.map(|soft| soft.saturating_add(soft.div_ceil(4)));
    Lifetime {
        soft: Limit { age: None, bytes: child.rekey_bytes, packets: child.rekey_packets },
        hard: Limit { age: None, bytes: hard(child.rekey_bytes), packets: hard(child.rekey_packets) },
    }
}
