//! How the connections of a gateway stand, for display.

use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{ChildView, IkeView};
use ike_core::event::{ChildId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::net::Encap;
use ipsec_core::sa::SaId;
use ipsec_core::time::Instant;

use super::demand::narrowed;
use super::install::Sending;
use super::state::{PeerEntry, Totals};
use super::{Gateway, Parts};
use crate::cause::{Cause, Kind};
use crate::config::Start;

/// So many repetitions of a message are no accident.
pub(super) const OFTEN: u8 = 2;

/// Where a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Nothing was tried yet, or the first handshake is under way.
    Pending,
    /// The peer is authenticated: of several parties that share it, the one that we call.
    Connected,
    /// It is down: silent, lost, closed by the peer, or by the operator.
    Disconnected,
    /// One side refuses the other: somebody has to change a configuration.
    Error,
}

impl PeerState {
    /// The word of `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Error => "error",
        }
    }
}

/// A configured peer.
#[derive(Debug)]
pub struct PeerStatus<'s> {
    /// Its number; its configuration is in the endpoint's [`Peers`](crate::peers::Peers).
    pub id: PeerId,
    /// Its name.
    pub name: &'s str,
    /// Where it stands.
    pub state: PeerState,
    /// Why it is not connected, what it waits for, or what is wrong with a child of it.
    pub cause: Option<Cause>,
    /// When it is tried again.
    pub retry_at: Option<Instant>,
    /// The operator took it down.
    pub held: bool,
    /// Its newest IKE SA, of several parties' with the one that we call. While that one is away it is another one's.
    pub ike: Option<IkeView>,
    /// Its children.
    pub children: Vec<ChildStatus<'s>>,
}

/// A configured child.
#[derive(Debug)]
pub struct ChildStatus<'s> {
    /// Its number; its configuration is in the endpoint's [`Peers`](crate::peers::Peers).
    pub id: ChildConfigId,
    /// Its name.
    pub name: &'s str,
    /// Why it is not up, or what is wrong with it, or that the peer narrowed it.
    pub cause: Option<Cause>,
    /// When a connected peer is asked for it again.
    pub retry_at: Option<Instant>,
    /// Its newest SA; `None` while it is down.
    pub sa: Option<ChildView<'s>>,
    /// Protocol 50 or UDP.
    pub encap: Option<Encap>,
    /// When its newest SA was installed.
    pub since: Option<Instant>,
    /// What went through, over all rekeys.
    pub totals: Totals,
    /// How often it was rekeyed.
    pub rekeys: u64,
    /// The operator took it down.
    pub held: bool,
    /// When a packet last came in through one of its SAs.
    pub last_in: Option<Instant>,
    /// When a packet last went out through one of its SAs.
    pub last_out: Option<Instant>,
}

impl Gateway {
    /// How every peer stands, in the order of the file.
    pub fn status<'s, C: IkeCrypto, P: PacketCrypto>(
        &'s self,
        parts: &'s Parts<'_, '_, C, P>,
    ) -> impl Iterator<Item = PeerStatus<'s>> {
        self.order.iter().filter_map(|id| self.peer_status(*id, parts))
    }

    /// The peers, in the order of the file.
    pub fn peers(&self) -> &[PeerId] {
        &self.order
    }

    /// Every Child SA in the engines: the receiving half, and the sending one, which is not there before it may be used and
    /// goes before the other.
    pub fn halves(&self) -> impl Iterator<Item = (ChildId, SaId, Option<SaId>)> {
        self.sas.values().map(|sa| {
            let sending = match sa.outbound {
                Sending::Through(id) => Some(id),
                Sending::Later(_) | Sending::Over(_) => None,
            };
            (sa.child, sa.inbound, sending)
        })
    }

    /// How one peer stands. An appliance whose engines stand behind locks asks peer by peer, and packets go on in between.
    pub fn peer_status<'s, C: IkeCrypto, P: PacketCrypto>(
        &'s self,
        id: PeerId,
        parts: &'s Parts<'_, '_, C, P>,
    ) -> Option<PeerStatus<'s>> {
        self.peers.get(&id).map(|entry| {
            let ike = self.connection(entry.id, parts.endpoint);
            let connected = self.is_connected(entry.id, parts.endpoint);
            let mut children: Vec<_> = self.child_status(entry, ike.map(|ike| ike.party), parts).collect();
            children
                .iter_mut()
                .filter(|child| !connected || child.sa.is_some())
                .for_each(|child| child.retry_at = None);
            let wrong = |child: &&ChildStatus<'_>| child.cause.as_ref().is_some_and(|cause| cause.kind != Kind::Intent);
            let worst = children.iter().filter(wrong).min_by_key(|child| child.sa.is_some());
            let child_cause = worst.and_then(|child| child.cause.as_ref());
            // Before anything else that a peer says it has to be there.
            let away = ike.and_then(|ike| unanswered(&ike).or_else(|| unheard(&ike)));
            let cause = match connected {
                // What the peer asked for tells the values of both sides; the children show their own.
                true => {
                    let trouble = entry.contest.cause.as_ref().or(entry.trouble.as_ref());
                    away.or_else(|| trouble.or(child_cause).cloned())
                }
                false => entry.known().cloned().or_else(|| waiting(entry, parts)),
            };
            PeerStatus {
                id: entry.id,
                name: &entry.name,
                state: state(entry, connected),
                cause,
                retry_at: entry.retry_at.filter(|_| !connected && entry.attempt.is_none() && entry.is_wanted()),
                held: entry.held,
                ike,
                children,
            }
        })
    }

    fn child_status<'s, C: IkeCrypto, P: PacketCrypto>(
        &'s self,
        peer: &'s PeerEntry,
        party: Option<Party>,
        parts: &'s Parts<'_, '_, C, P>,
    ) -> impl Iterator<Item = ChildStatus<'s>> {
        peer.children.iter().filter_map(|child| self.children.get(child)).map(move |entry| {
            let installed = || entry.all().filter_map(|sa| self.sas.get(sa));
            // Of a peer that we call, what another party has is not what we are to have.
            let ours = |party_of: Party| !peer.is_active() || party.is_none_or(|party| party == party_of);
            let stands = installed().filter(|sa| ours(sa.party)).filter_map(|sa| {
                let view = parts.endpoint.child_sa(sa.child).filter(|view| !view.replaced)?;
                Some((parts.inbound.sa(sa.inbound)?.since, sa.encap, view))
            });
            let with_party = installed().filter(|sa| Some(sa.party) == party);
            let carrying = with_party.filter_map(|sa| parts.endpoint.child_sa(sa.child)).filter(|view| !view.replaced);
            let mut carried = Vec::new();
            for selectors in carrying.map(|view| (view.local, view.remote)) {
                if !carried.contains(&selectors) {
                    carried.push(selectors);
                }
            }
            let configured = parts.endpoint.pad().get_child(entry.id);
            let narrowed = || configured.and_then(|(_, _, child)| narrowed(child, &carried));
            let newest = stands.max_by_key(|(since, ..)| *since);
            let mut totals = entry.past;
            installed().for_each(|sa| totals.add(sa.totals(parts.outbound, parts.inbound)));
            ChildStatus {
                id: entry.id,
                name: &entry.name,
                cause: entry.cause.clone().or_else(|| entry.too_many()).or_else(narrowed),
                retry_at: entry.retry_at.filter(|_| entry.is_wanted(peer.is_active())),
                encap: newest.as_ref().map(|(_, encap, _)| *encap),
                since: newest.as_ref().map(|(since, ..)| *since),
                sa: newest.map(|(.., view)| view),
                totals,
                rekeys: entry.rekeys,
                held: entry.held,
                last_in: installed().filter_map(|sa| sa.last_heard(parts.inbound)).max(),
                last_out: installed().filter_map(|sa| sa.last_sent(parts.outbound)).max(),
            }
        })
    }
}

/// That a peer which is connected does not answer a request of ours, a liveness check mostly; since when shows what was heard
/// last.
fn unanswered(ike: &IkeView) -> Option<Cause> {
    let (exchange, repeated) = ike.waiting.filter(|(_, repeated)| *repeated >= u32::from(OFTEN))?;
    Some(Cause::unanswered(exchange, ike.path.remote, repeated))
}

/// That our answers do not arrive at a peer that called, for as long as nothing else is heard of it.
pub(super) fn unheard(ike: &IkeView) -> Option<Cause> {
    (!ike.confirmed && ike.unheard >= OFTEN).then(|| Cause::unheard(ike.path.remote, ike.unheard))
}

/// What a peer waits for that is neither connected nor failed.
fn waiting<C: IkeCrypto, P: PacketCrypto>(entry: &PeerEntry, parts: &Parts<'_, '_, C, P>) -> Option<Cause> {
    if let Some(view) = entry.attempt.and_then(|ike| parts.endpoint.ike_sa(ike)) {
        return entry.unanswered(&view);
    }
    match entry.start {
        _ if entry.locating => Some(Cause::for_an_address()),
        _ if entry.held => None,
        Start::Passive => {
            let callable = parts.endpoint.pad().get(entry.id).is_some_and(|peer| !peer.remote.is_empty());
            Some(Cause::for_the_peer(callable))
        }
        Start::OnDemand => Some(Cause::for_a_packet()),
        Start::Active => None,
    }
}

pub(super) fn state(entry: &PeerEntry, connected: bool) -> PeerState {
    match entry.known() {
        _ if connected => PeerState::Connected,
        Some(cause) if cause.kind == Kind::Refusal => PeerState::Error,
        Some(_) => PeerState::Disconnected,
        None if entry.held => PeerState::Disconnected,
        None => PeerState::Pending,
    }
}
