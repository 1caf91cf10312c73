//! What a gateway remembers of a peer between calls.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use ike_core::event::{IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::time::Instant;

use super::calling::Calling;
use super::contest::Contest;
use super::merges::{COURTESY, Merges};
use super::names::Names;
use super::renewal::{Renewal, Renewals};
use super::tries::Tries;
use super::unconfirmed::Unconfirmed;
use crate::cause::Cause;
use crate::config::{Peer, Start};

/// A configured peer. What most never have is in boxes.
pub(crate) struct PeerEntry {
    pub(crate) id: PeerId,
    pub(crate) name: String,
    pub(crate) start: Start,
    /// It may be anywhere: whoever can prove to be it.
    pub(crate) anywhere: bool,
    /// Its children, in the order of the file.
    pub(crate) children: Vec<ChildConfigId>,
    /// The connection on which they were asked for when they were looked at last, and whether by ourselves.
    pub(crate) asked_on: Option<(IkeId, bool)>,
    /// The operator took it down, and nobody here wanted it since: we do not call it. The peer may.
    pub(crate) held: bool,
    /// Somebody wants it up although nobody would begin by himself.
    pub(crate) wanted: bool,
    /// Whom we met when we called last: others may share what is configured for it, when they know the key and no identity
    /// is asked of them.
    pub(crate) party: Option<Party>,
    pub(crate) calling: Calling,
    pub(crate) tries: Tries,
    /// The last handshake that we ended ourselves, and why.
    pub(crate) cut: Option<Box<(IkeId, Cause)>>,
    /// When its DNS names are asked for.
    pub(crate) names: Option<Names>,
    pub(crate) established_at: Option<Instant>,
    /// It is to be authenticated anew beside the IKE SA that stands.
    pub(crate) renew: Option<Renewal>,
    pub(crate) renewals: Renewals,
    pub(crate) merges: Merges,
    /// Whether our answers arrive at it, where that is not known yet.
    pub(crate) unconfirmed: Option<Box<Unconfirmed>>,
    /// Why a request of the peer for a child was refused.
    pub(crate) trouble: Option<Box<Cause>>,
    /// Whether callers from two places throw each other out.
    pub(crate) contest: Contest,
    /// When it stands in the queue.
    pub(crate) due: Option<Instant>,
}

impl PeerEntry {
    /// The peer wants to know anew who we are, as often as it likes; with `child` first.
    pub(crate) fn reauthenticate(&mut self, child: ChildConfigId) -> bool {
        if self.held || matches!(self.renew, Some(Renewal::Proof(_))) {
            return false;
        }
        self.renew = Some(Renewal::Proof(child));
        self.tries.hurry();
        true
    }

    /// A configuration may give it names, and take them.
    pub(crate) fn follow_names(&mut self, peer: &Peer) {
        self.names = Names::of(peer).map(|new| self.names.unwrap_or(new));
    }

    /// The peer was lost, or did not answer: it may be elsewhere by now. Whom we call we ask for then anyway.
    pub(crate) fn lost(&mut self, now: Instant) {
        if let Some(names) = self.names.as_mut().filter(|_| self.start != Start::Active) {
            names.hurry(now);
        }
    }

    pub(crate) fn new(id: PeerId, peer: &Peer) -> Self {
        Self {
            id,
            name: peer.name.clone(),
            start: peer.start,
            anywhere: peer.remote.is_empty(),
            children: Vec::new(),
            asked_on: None,
            held: false,
            wanted: false,
            party: None,
            calling: Calling::default(),
            tries: Tries::default(),
            cut: None,
            names: Names::of(peer),
            established_at: None,
            renew: None,
            renewals: Renewals::default(),
            merges: Merges::default(),
            unconfirmed: None,
            trouble: None,
            contest: Contest::default(),
            due: None,
        }
    }

    /// Whether it is the one that we are to be connected with, when it is on us to see to that.
    pub(crate) fn looks_after(&self, party: Party) -> bool {
        self.only_party().is_none_or(|ours| ours == party)
    }

    /// Whom alone we are to be connected with, of several that may share it.
    pub(crate) fn only_party(&self) -> Option<Party> {
        self.party.filter(|_| self.is_active())
    }

    /// We call it by ourselves.
    pub(crate) fn is_active(&self) -> bool {
        self.start == Start::Active && !self.held
    }

    /// Whether we are to connect it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted || self.is_active()
    }

    /// Why it is not connected, as far as that is known: of the handshake under way, or of what was before.
    pub(crate) fn known(&self) -> Option<&Cause> {
        self.calling.call().and_then(|call| call.doubt.as_deref()).or(self.tries.cause.as_ref())
    }

    /// Whether other places of the peer are tried before the first one is again.
    pub(crate) fn has_other_places(&self) -> bool {
        self.is_wanted() && self.tries.go_on()
    }

    /// Until when missing children are left to the peer to ask for, where it was the one that called.
    pub(crate) fn courtesy(&self) -> Option<Instant> {
        self.established_at.map(|since| since + COURTESY)
    }

    /// An attempt failed, or a connection did soon: the next attempt comes after a pause that grows. `at_its_place`: it was made
    /// where the connection stands.
    pub(crate) fn fail(&mut self, now: Instant, at_its_place: bool, cause: Cause) {
        self.calling = Calling::Idle;
        self.renew.take_if(|renewal| matches!(renewal, Renewal::Refused(_)));
        self.tries.fail(now, at_its_place, self.id.0, cause);
        self.lost(now);
        if self.start != Start::Active && !self.has_other_places() {
            self.wanted = false;
        }
    }
}
