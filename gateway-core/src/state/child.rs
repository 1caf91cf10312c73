//! What a gateway remembers of a child between calls.

use alloc::collections::BTreeSet;
use alloc::string::String;

use ike_core::child::within;
use ike_core::event::{ChildId, ChildUp, IkeId};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::TrafficSelector;
use ipsec_core::sa::{Lifetime, Limit};
use ipsec_core::time::Instant;

use super::ikes::Ikes;
use super::installed::Looks;
use super::setbacks::Setbacks;
use super::uncovered::Uncovered;
use super::uptime::Uptime;
use crate::cause::Cause;
use crate::config::Child;

/// A question to a peer: for an SA of a child.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// The SA to be.
    pub(crate) child: ChildId,
    /// The IKE SA that carries the question, and ends it when it ends.
    pub(crate) ike: IkeId,
    /// For these only: a packet that the peer's narrowing left out, or what an SA carries on another IKE SA.
    pub(crate) only: Option<(TrafficSelector, TrafficSelector)>,
}

/// A configured child.
pub(crate) struct ChildEntry {
    pub(crate) id: ChildConfigId,
    pub(crate) peer: PeerId,
    pub(crate) name: String,
    pub(crate) lifetime: Lifetime,
    pub(crate) looks: Looks,
    /// The operator took it down by itself, and nobody here wanted it since: we do not ask for it of our own accord. The peer
    /// may, and what it wants is kept up for it; that is no end to this.
    pub(crate) held: bool,
    /// Somebody wants it although nobody would begin by himself.
    pub(crate) wanted: bool,
    /// Its SAs in the data plane.
    pub(crate) sas: BTreeSet<ChildId>,
    /// Those that only receive what is on its way, after another one took their place: they carry nothing on.
    pub(crate) draining: BTreeSet<ChildId>,
    /// What we asked the peer for last; it counts only as long as the IKE SA does ([`ChildEntry::waits_in`]).
    pub(crate) asked: Option<Asked>,
    /// What it has no SA for, although others of it are up.
    pub(crate) uncovered: Uncovered,
    /// The last packet that wanted another SA found all places in use.
    pub(crate) crowded: bool,
    /// The sides differ in perfect forward secrecy, as long as no rekey shows otherwise.
    pub(crate) differs: bool,
    /// It was up before, with the one that we call: what refuses it now took it then.
    pub(crate) was_up: bool,
    /// It was told as up, and not as down since.
    pub(crate) told_up: bool,
    /// That it is up, or was.
    pub(crate) uptime: Option<Uptime>,
    /// When its connection was last made anew for its sake.
    pub(crate) renewed_at: Option<Instant>,
    pub(crate) setbacks: Setbacks,
    pub(crate) cause: Option<Cause>,
    pub(crate) rekeys: u64,
    /// When it is to be looked at.
    pub(super) due: Option<Instant>,
}

impl ChildEntry {
    pub(crate) fn new(id: ChildConfigId, peer: PeerId, child: &Child) -> Self {
        Self {
            id,
            peer,
            name: child.name.clone(),
            lifetime: lifetime(child),
            looks: Looks::wanted(child),
            held: false,
            wanted: false,
            sas: BTreeSet::new(),
            draining: BTreeSet::new(),
            asked: None,
            uncovered: Uncovered::default(),
            crowded: false,
            differs: false,
            was_up: false,
            told_up: false,
            uptime: None,
            renewed_at: None,
            setbacks: Setbacks::default(),
            cause: None,
            rekeys: 0,
            due: None,
        }
    }

    /// Takes over what may change without a new number.
    pub(crate) fn follow(&mut self, child: &Child) {
        self.lifetime = lifetime(child);
        self.looks = Looks::wanted(child);
    }

    /// What the peer was asked for and did not answer yet. A question ends without a word with the IKE SA that carries it.
    pub(crate) fn waits_in(&self, ikes: &Ikes) -> Option<Asked> {
        self.asked.filter(|asked| ikes.has(self.peer, asked.ike))
    }

    /// All its SAs in the data plane, those that only drain too.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ChildId> {
        self.sas.iter().chain(&self.draining)
    }

    /// Whether a Child SA that came up is still wanted: not when the operator took the child down since it was asked for, or
    /// since the one was that it replaces. Whoever rekeys, what it replaces was wanted by somebody: by the peer, perhaps,
    /// since the operator took the child down; and so was what stands on another connection, when we ask for it on this one.
    pub(crate) fn wants(&self, up: &ChildUp<'_>) -> bool {
        let taken_down = match up.replaces {
            Some(old) => self.all().all(|sa| *sa != old),
            None => up.ours && !self.wanted && self.sas.is_empty(),
        };
        !(self.held && taken_down)
    }

    /// Whether a Child SA carries what it was asked for.
    pub(crate) fn covers(&self, up: &ChildUp<'_>) -> bool {
        let wanted = self.asked.filter(|asked| asked.child == up.child).and_then(|asked| asked.only);
        wanted.is_none_or(|(local, remote)| within(&[local], up.local) && within(&[remote], up.remote))
    }

    /// Whether somebody wants it, or may: what is held down here and up all the same, the peer wants, and with us.
    pub(crate) fn serves(&self) -> bool {
        !self.held || self.wanted || !self.sas.is_empty()
    }

    /// It is to be up although it is not, or will not be for long. `active`: its peer is one that we call.
    pub(crate) fn is_wanted(&self, active: bool) -> bool {
        self.wanted || (active && !self.held)
    }

    /// A question is answered, whatever the answer. Returns it when it was the last one.
    pub(crate) fn answered(&mut self, child: ChildId) -> Option<Asked> {
        self.asked.take_if(|asked| asked.child == child)
    }

    /// It could not even be asked for, and is tried again for as long as that takes: nobody refused it.
    pub(crate) fn put_off(&mut self, now: Instant, cause: Cause) {
        self.setbacks.put_off(now, self.id.0);
        self.end(cause);
    }

    /// It is down again. `at_once`: one that was up for long comes again without a pause.
    pub(crate) fn lose(&mut self, now: Instant, at_once: bool, cause: Cause) {
        let lasted = self.uptime.is_some_and(|uptime| uptime.lasted(now));
        self.setbacks.lose(now, self.id.0, lasted, at_once);
        self.end(cause);
    }

    pub(crate) fn fail(&mut self, now: Instant, cause: Cause) {
        self.setbacks.fail(now, self.id.0);
        self.end(cause);
    }

    /// Whoever wanted it has to want it again.
    fn end(&mut self, cause: Cause) {
        self.wanted = false;
        self.cause = Some(cause);
    }
}

/// What passes a fast line while a request for a rekey is lost and repeated: 8 s of a gigabit.
const SPARE_OCTETS: u64 = 1_000_000_000;

/// Ages are IKE's business, which knows when it can rekey; amounts only the data plane sees. The hard limit leaves a
/// quarter for rekeying, and of octets at least those that pass meanwhile.
fn lifetime(child: &Child) -> Lifetime {
    let hard = |soft: u64, least: u64| soft.saturating_add(soft.div_ceil(4).max(least));
    let (bytes, packets) = (child.rekey_bytes, child.rekey_packets);
    Lifetime {
        soft: Limit { age: None, bytes, packets },
        hard: Limit {
            age: None,
            bytes: bytes.map(|soft| hard(soft, SPARE_OCTETS)),
            packets: packets.map(|soft| hard(soft, 0)),
        },
    }
}
