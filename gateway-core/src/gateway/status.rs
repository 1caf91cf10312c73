//! How the connections of a gateway stand, for display.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::IkeView;
use ike_core::event::{ChildId, Party};
use ike_core::pad::{ChildConfigId, Pad, PeerId};
use ike_core::proposal::EspSuite;
use ipsec_core::net::{Encap, Spi, TrafficSelector};
use ipsec_core::time::Instant;

use super::demand::narrowed;
use crate::cause::{Cause, Kind};
use crate::config::{Identity, ManualId, ManualPair, ManualSa, Mode, Start};
use crate::peers::Peers;
use crate::plane::{DataPlane, Half, Pair};
use crate::state::manual::ManualEntry;
use crate::state::peer::PeerEntry;
use crate::state::usage::Totals;
use crate::state::{Gateway, Parts};

/// So many repetitions of a message are no accident.
pub(super) const OFTEN: u8 = 2;

/// Where a peer stands.
///
/// ```
/// use gateway_core::gateway::PeerState;
/// assert_eq!(PeerState::Connected.as_str(), "connected");
/// ```
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

/// How a gateway stood at a moment. It owns all that it says: whoever has it, and puts it into words, holds nobody up.
///
/// ```
/// use gateway_core::gateway::{ChildStatus, PeerStatus, SaStatus, Snapshot};
/// use ipsec_core::net::Spi;
/// use ipsec_core::time::Instant;
/// /// The SPI that packets of a child are sent with; `None` while it is down.
/// fn spi_of(snapshot: &Snapshot, peer: &str, child: &str) -> Option<Spi> {
///     let PeerStatus { children, .. } = snapshot.peers.iter().find(|status| status.name == peer)?;
///     let ChildStatus { sa, .. } = children.iter().find(|status| status.name == child)?;
///     sa.as_ref().map(|SaStatus { spi_out, .. }| *spi_out)
/// }
/// let nobody = Snapshot { at: Instant::ZERO, peers: Vec::new(), manual: Vec::new() }; // `Gateway::snapshot` makes one
/// assert_eq!(spi_of(&nobody, "cloud", "net"), None);
/// ```
#[derive(Debug)]
pub struct Snapshot {
    /// When that was.
    pub at: Instant,
    /// Every peer, in the order of the file.
    pub peers: Vec<PeerStatus>,
    /// Every pair of SAs with manual keys, in the order of the file.
    pub manual: Vec<ManualStatus>,
}

/// A pair of SAs with manual keys.
///
/// ```
/// use gateway_core::gateway::{ManualSaStatus, ManualStatus, Snapshot};
/// use ipsec_core::time::Instant;
/// /// The pairs that do not carry packets both ways.
/// fn down(snapshot: &Snapshot) -> Vec<&str> {
///     let there = |sa: &ManualSaStatus| sa.since.is_some();
///     let up = |pair: &ManualStatus| there(&pair.outbound) && there(&pair.inbound);
///     snapshot.manual.iter().filter(|pair| !up(pair)).map(|pair| pair.name.as_str()).collect()
/// }
/// let nobody = Snapshot { at: Instant::ZERO, peers: Vec::new(), manual: Vec::new() };
/// assert!(down(&nobody).is_empty());
/// ```
#[derive(Debug)]
pub struct ManualStatus {
    /// Its number.
    pub id: ManualId,
    /// What it is called.
    pub name: String,
    /// How packets are put into ESP.
    pub mode: Mode,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// Selectors of our side.
    pub local_ts: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    /// What we send with.
    pub outbound: ManualSaStatus,
    /// What the peer sends with.
    pub inbound: ManualSaStatus,
    /// The operator took it down; it stays down until `up`.
    pub held: bool,
    /// What went through, over all changes of its keys.
    pub totals: Totals,
}

/// An SA with a manual key.
#[derive(Debug)]
pub struct ManualSaStatus {
    /// Security Parameters Index.
    pub spi: Spi,
    /// Its algorithms.
    pub suite: EspSuite,
    /// Protocol 50 or UDP.
    pub encap: Encap,
    /// When it was installed; `None`: it is not there.
    pub since: Option<Instant>,
    /// Why it is not there, or will not be for long.
    pub cause: Option<Cause>,
    /// When a packet last went through.
    pub last_used: Option<Instant>,
}

/// A configured peer.
#[derive(Debug)]
pub struct PeerStatus {
    /// Its number.
    pub id: PeerId,
    /// Its name.
    pub name: String,
    /// Who begins with it.
    pub start: Start,
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
    /// Who we say we are on that IKE SA, and whom we expect there.
    pub identities: Identities,
    /// Its children.
    pub children: Vec<ChildStatus>,
}

/// The identities of an IKE SA, as they are configured.
///
/// ```
/// use gateway_core::gateway::Identities;
/// use gateway_core::peers::Peers;
/// use ike_core::pad::PeerId;
/// // Of whom there is nobody, nothing is known.
/// assert_eq!(Identities::of(PeerId(1), &Peers::default()), Identities::default());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    /// Ours; `None`: our address, and there is none yet.
    pub local: Option<Identity>,
    /// The peer's; `None`: any.
    pub remote: Option<Identity>,
}

impl Identities {
    /// Those of one peer.
    pub fn of(peer: PeerId, peers: &Peers) -> Self {
        let local = peers.connection(peer).map(|connection| Identity::from(connection.local_id));
        Self { local, remote: peers.get(peer).and_then(|peer| peer.remote_id.clone()) }
    }
}

/// A configured child.
#[derive(Debug)]
pub struct ChildStatus {
    /// Its number.
    pub id: ChildConfigId,
    /// Its name.
    pub name: String,
    /// How packets are put into ESP.
    pub mode: Mode,
    /// Why it is not up, or what is wrong with it, or that the peer narrowed it.
    pub cause: Option<Cause>,
    /// When a connected peer is asked for it again.
    pub retry_at: Option<Instant>,
    /// Its newest SA; `None` while it is down.
    pub sa: Option<SaStatus>,
    /// Selectors of our side: negotiated ones while it is up, else those configured.
    pub local: Vec<TrafficSelector>,
    /// Selectors of the peer's side.
    pub remote: Vec<TrafficSelector>,
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

/// A Child SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaStatus {
    /// The negotiated algorithms.
    pub suite: EspSuite,
    /// SPI of packets we receive.
    pub spi_in: Spi,
    /// SPI of packets we send.
    pub spi_out: Spi,
    /// Protocol 50 or UDP.
    pub encap: Encap,
    /// What it carries may be compressed.
    pub compressed: bool,
    /// What we send looks longer than it is.
    pub padded: bool,
    /// When it was installed.
    pub since: Instant,
    /// When it is to be rekeyed.
    pub rekey_at: Option<Instant>,
    /// When it ends if it is not.
    pub expires_at: Option<Instant>,
}

impl Gateway {
    /// How everything stands. The data plane is asked for single SAs, and goes on in between.
    pub fn snapshot<C: IkeCrypto>(&self, now: Instant, parts: &Parts<'_, '_, C>) -> Snapshot {
        let mut peers = Vec::with_capacity(self.order.len());
        peers.extend(self.status(parts));
        let manual = self.manual.iter().map(|entry| self.manual_status(entry, parts.plane)).collect();
        Snapshot { at: now, peers, manual }
    }

    fn manual_status(&self, entry: &ManualEntry, plane: &dyn DataPlane) -> ManualStatus {
        let ManualPair { mode, local, remote, local_ts, remote_ts, outbound, inbound } = &entry.config;
        let sa = |sa: &ManualSa, half| {
            let end = entry.end(half);
            ManualSaStatus {
                spi: sa.spi,
                suite: sa.suite,
                encap: sa.travels(),
                since: end.there.map(|(_, since)| since),
                cause: end.cause.clone(),
                last_used: entry.used(half, plane).last_used,
            }
        };
        let mut totals = self.past(&entry.account.peer, &entry.account.child);
        totals.add(entry.totals(plane));
        ManualStatus {
            id: entry.id,
            name: entry.config.name(),
            mode: *mode,
            local: *local,
            remote: *remote,
            local_ts: local_ts.clone(),
            remote_ts: remote_ts.clone(),
            outbound: sa(outbound, Half::Outbound),
            inbound: sa(inbound, Half::Inbound),
            held: entry.held,
            totals,
        }
    }

    /// How every peer stands, in the order of the file, each as it is when the iterator comes to it.
    pub fn status<'s, C: IkeCrypto>(&'s self, parts: &'s Parts<'_, '_, C>) -> impl Iterator<Item = PeerStatus> {
        self.order.iter().filter_map(|id| self.peer_status(*id, parts))
    }

    /// The peers, in the order of the file.
    pub fn peers(&self) -> &[PeerId] {
        &self.order
    }

    /// Every Child SA in the data plane, with the number that it has there.
    pub fn pairs(&self) -> impl Iterator<Item = (Pair, ChildId)> {
        self.sas.pairs()
    }

    /// How one peer stands.
    pub fn peer_status<C: IkeCrypto>(&self, id: PeerId, parts: &Parts<'_, '_, C>) -> Option<PeerStatus> {
        self.peers.get(&id).map(|entry| {
            let ike = self.connection(entry.id, parts.endpoint);
            let connected = ike.is_some_and(|ike| entry.looks_after(ike.party));
            let mut children: Vec<_> = self.child_status(entry, ike.map(|ike| ike.party), parts).collect();
            children
                .iter_mut()
                .filter(|child| !connected || child.sa.is_some())
                .for_each(|child| child.retry_at = None);
            let wrong = |child: &&ChildStatus| child.cause.as_ref().is_some_and(|cause| cause.kind != Kind::Intent);
            let worst = children.iter().filter(wrong).min_by_key(|child| child.sa.is_some());
            let child_cause = worst.and_then(|child| child.cause.as_ref());
            // Before anything else that a peer says it has to be there.
            let away = ike.and_then(|ike| unanswered(&ike).or_else(|| unheard(&ike)));
            let cause = match connected {
                // What the peer asked for tells the values of both sides; the children show their own.
                true => {
                    let trouble = entry.contest.cause.as_deref().or(entry.trouble.as_deref());
                    away.or_else(|| trouble.or(child_cause).cloned())
                }
                false => entry.known().cloned().or_else(|| waiting(entry, parts)),
            };
            PeerStatus {
                id: entry.id,
                name: entry.name.clone(),
                start: entry.start,
                state: state(entry, connected),
                cause,
                retry_at: entry
                    .tries
                    .retry_at
                    .filter(|_| !connected && entry.calling.ike().is_none() && entry.is_wanted()),
                held: entry.held,
                identities: ike.map(|_| Identities::of(entry.id, parts.endpoint.pad())).unwrap_or_default(),
                ike,
                children,
            }
        })
    }

    fn child_status<'s, C: IkeCrypto>(
        &'s self,
        peer: &'s PeerEntry,
        party: Option<Party>,
        parts: &'s Parts<'_, '_, C>,
    ) -> impl Iterator<Item = ChildStatus> {
        peer.children.iter().filter_map(|child| self.children.get(child)).map(move |entry| {
            let installed = || entry.all().filter_map(|sa| self.sas.get(*sa));
            // Of a peer that we call, what another party has is not what we are to have.
            let ours = |party_of: Party| !peer.is_active() || party.is_none_or(|party| party == party_of);
            let stands = installed().filter(|sa| ours(sa.party)).filter_map(|sa| {
                let view = parts.endpoint.child_sa(sa.child).filter(|view| !view.replaced)?;
                Some((sa, view))
            });
            let with_party = installed().filter(|sa| Some(sa.party) == party);
            let carrying = with_party.filter_map(|sa| parts.endpoint.child_sa(sa.child)).filter(|view| !view.replaced);
            let mut carried = Vec::new();
            for selectors in carrying.map(|view| (view.local, view.remote)) {
                if !carried.contains(&selectors) {
                    carried.push(selectors);
                }
            }
            let configured = parts.endpoint.pad().get_child(entry.id).map(|(_, _, child)| child);
            let narrowed = || configured.and_then(|child| narrowed(child, &carried));
            let one_way = || {
                let mut ours = installed().filter(|sa| ours(sa.party));
                ours.any(|sa| self.is_one_way(sa, parts.plane)).then(Cause::one_way_still)
            };
            let newest = stands.max_by_key(|(sa, _)| sa.came);
            let negotiated = newest.as_ref().map(|(_, view)| (view.local, view.remote));
            let written = configured.map(|child| (child.local_ts.as_slice(), child.remote_ts.as_slice()));
            let (local, remote) = negotiated.or(written).unwrap_or_default();
            let mut totals = self.past(&peer.name, &entry.name);
            installed().for_each(|sa| totals.add(sa.totals(parts.plane)));
            ChildStatus {
                id: entry.id,
                name: entry.name.clone(),
                mode: configured.map_or(Mode::Tunnel, |child| child.mode),
                cause: entry.cause.clone().or_else(|| entry.too_many()).or_else(one_way).or_else(narrowed),
                retry_at: entry.setbacks.retry_at.filter(|_| entry.is_wanted(peer.is_active())),
                local: local.to_vec(),
                remote: remote.to_vec(),
                sa: newest.map(|(sa, view)| SaStatus {
                    suite: view.suite,
                    spi_in: view.spi_in,
                    spi_out: view.spi_out,
                    encap: sa.encap,
                    compressed: sa.compressed,
                    padded: sa.padded,
                    since: sa.came,
                    rekey_at: view.rekey_at,
                    expires_at: view.expires_at,
                }),
                totals,
                rekeys: entry.rekeys,
                held: entry.held,
                last_in: installed().filter_map(|sa| sa.last_heard(parts.plane)).max(),
                last_out: installed().filter_map(|sa| sa.last_sent(parts.plane)).max(),
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
fn waiting<C: IkeCrypto>(entry: &PeerEntry, parts: &Parts<'_, '_, C>) -> Option<Cause> {
    let call = entry.calling.call();
    if let Some((call, view)) = call.and_then(|call| Some((call, parts.endpoint.ike_sa(call.ike)?))) {
        return call.unanswered(&view);
    }
    match entry.start {
        _ if entry.calling.is_locating() => Some(Cause::for_an_address()),
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
