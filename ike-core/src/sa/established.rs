//! What an established IKE SA holds.

use core::time::Duration;

use heapless::Vec;
use ipsec_core::net::Spi;
use ipsec_core::time::Instant;

use super::handshake::NONCE_LEN;
use crate::crypto::{Group, IkeCrypto};
use crate::event::ChildId;
use crate::failure::Failure;
use crate::pad::Connection;
use crate::registry::ExchangeType;
use crate::settings::Settings;
use crate::timers::{self, Patience, When};

/// The beginning of the lowest nonce of an exchange: decides which of two crossing rekeys stays (RFC 7296 §2.8.1).
/// Nonces are random, 32 octets of each are enough to tell which is lower.
pub(crate) type LowestNonce = Vec<u8, 32>;

/// Both sides are authenticated.
pub(crate) struct Established {
    pub(crate) since: Instant,
    pub(crate) standing: Standing,
    /// Why the SA is to be deleted, as soon as no request is outstanding.
    pub(crate) leaving: Option<Failure>,
    /// What our outstanding request asks for.
    pub(crate) request: Option<Request>,
    /// Something may be waiting for the window.
    pub(crate) work: bool,
    pub(crate) liveness: Liveness,
    pub(crate) keepalive: Keepalive,
    pub(crate) rekey: When,
    /// The group to begin our next rekey with.
    pub(crate) rekey_group: Group,
    /// How often in a row the peer asked for another group.
    pub(crate) regroups: u8,
    /// When to authenticate anew, because the peer said for how long it takes us for authenticated (RFC 4478). Passes on to
    /// the SA that takes over: a rekey proves nothing.
    pub(crate) reauthenticate_at: Option<Instant>,
    /// What the peer's refusals of CREATE_CHILD_SA come to.
    pub(crate) busy: Patience,
    /// What the peer's refusals of our rekeys come to.
    pub(crate) refused: Patience,
    /// Something was heard after our answer that made it. Until then the peer may have no such SA: its own attempt may be
    /// over, because both called at once and ours was answered first.
    pub(crate) confirmed: bool,
    /// The caller knows this SA, so its end is told. Passes on to the SA that takes over.
    pub(crate) announced: bool,
}

/// Where an SA stands among those that rekeys made of it, or that it was made from (RFC 7296 §2.8).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The children are its own.
    #[default]
    Stands,
    /// Made by a rekey of the peer that crossed ours: it is not known yet whether it stays. The one that it was made from has
    /// the children; should that end first, nobody will know what this one is for, and it goes at this moment.
    Undecided { from: Heir, until: Instant },
    /// Another one has the children, and the peer is to delete this one; we do, should it not until then.
    GaveWay { to: Heir, until: Instant },
    /// The one that our rekey made took over. It is ours to delete this one.
    Replaced { by: Heir },
    /// Made by our rekey, which the peer's crossed and won. It never had children, and is ours to delete.
    Redundant,
}

impl Standing {
    /// Whether it waits for nothing but its Delete: nothing is asked for on it any more.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::GaveWay { .. } | Self::Replaced { .. } | Self::Redundant)
    }

    /// Who has the children, where others have them.
    pub(crate) fn kin(self) -> Option<Heir> {
        match self {
            Self::Undecided { from: kin, .. } | Self::GaveWay { to: kin, .. } | Self::Replaced { by: kin } => Some(kin),
            Self::Stands | Self::Redundant => None,
        }
    }

    /// When to delete it ourselves, because the peer that should have did not.
    fn until(self) -> Option<Instant> {
        match self {
            Self::Undecided { until, .. } | Self::GaveWay { until, .. } => Some(until),
            Self::Stands | Self::Replaced { .. } | Self::Redundant => None,
        }
    }
}

/// Signs of life (RFC 7296 §2.4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Liveness {
    /// The last authenticated one.
    pub(crate) heard: Instant,
    /// To be asked for, as soon as the window is free.
    pub(crate) wanted: bool,
    /// After what time without one to ask for one, as the connection says now; zero: never.
    pub(crate) dpd: Duration,
    /// From when on somebody's claim in clear may make us ask.
    pub(crate) doubt_from: Instant,
}

/// Whoever is behind a NAT keeps its mapping alive (RFC 7296 §2.23).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keepalive {
    at: Option<Instant>,
    /// One is to be sent.
    pub(crate) waits: bool,
}

impl Keepalive {
    pub(crate) fn begin(&mut self, now: Instant, settings: &Settings) {
        self.at = (!settings.keepalive.is_zero()).then(|| now + settings.keepalive);
    }

    pub(crate) fn on_time(&mut self, now: Instant, settings: &Settings) {
        if self.at.is_some_and(|at| at <= now) {
            self.waits = true;
            self.begin(now, settings);
        }
    }
}

impl Established {
    /// `ours`: we began the exchange that made it, so rekeying it is our turn first. Without a connection, which may have been
    /// removed, nothing falls due.
    pub(crate) fn new<C: IkeCrypto>(
        crypto: &mut C,
        now: Instant,
        group: Group,
        connection: Option<&Connection<'_>>,
        ours: bool,
    ) -> Self {
        let (rekey, dpd) = connection.map_or_else(Default::default, |connection| (connection.rekey, connection.dpd));
        Self {
            since: now,
            standing: Standing::Stands,
            leaving: None,
            request: None,
            work: true,
            liveness: Liveness { heard: now, wanted: false, dpd, doubt_from: Instant::ZERO },
            keepalive: Keepalive::default(),
            rekey: timers::rekey_at(crypto, now, rekey, Duration::MAX, ours).into(),
            rekey_group: group,
            regroups: 0,
            reauthenticate_at: None,
            busy: Patience::default(),
            refused: Patience::default(),
            confirmed: true,
            announced: false,
        }
    }

    /// Whether the SA is about to go, or may be: nothing new may begin on it.
    pub(crate) fn closing(&self) -> bool {
        self.leaving.is_some() || self.standing != Standing::Stands || self.is_deleting()
    }

    fn is_deleting(&self) -> bool {
        matches!(self.request, Some(Request::DeleteIke(_)))
    }

    /// When the peer has to show that it lives; `None` while an outstanding request does that.
    pub(crate) fn liveness_at(&self) -> Option<Instant> {
        let Liveness { heard, wanted, dpd, .. } = self.liveness;
        let asked = self.request.is_some() || wanted || self.closing();
        (!asked && !dpd.is_zero()).then(|| heard + dpd)
    }

    /// When to delete it ourselves, because the peer that should have did not; `None` once that is under way.
    fn orphan_at(&self) -> Option<Instant> {
        self.standing.until().filter(|_| self.leaving.is_none() && !self.is_deleting())
    }

    /// When something falls due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let rekey = self.rekey.at();
        let times = [rekey, self.reauthenticate_at, self.orphan_at(), self.liveness_at(), self.keepalive.at];
        times.into_iter().flatten().min()
    }

    /// Makes wishes of what is due. `true`: it is time to authenticate anew.
    pub(crate) fn on_time(&mut self, now: Instant, settings: &Settings) -> bool {
        self.keepalive.on_time(now, settings);
        let reauthenticate = self.reauthenticate_at.take_if(|at| *at <= now).is_some() && !self.closing();
        let liveness = self.liveness_at().is_some_and(|at| at <= now);
        let orphan = self.orphan_at().is_some_and(|at| at <= now);
        if orphan {
            self.leaving = Some(Failure::Replaced);
        }
        self.liveness.wanted |= liveness;
        self.work |= self.rekey.ripen(now) || orphan || liveness;
        reauthenticate
    }

    /// The slot that our outstanding rekey keeps for the new SA, and its SPI.
    pub(crate) fn keeps(&self) -> Option<(u16, u64)> {
        match &self.request {
            Some(Request::Rekey(rekey)) => Some((rekey.new, rekey.spi)),
            _ => None,
        }
    }

    /// Another one takes over, which the peer's rekey made; the peer deletes this one, or we do from `until` on.
    pub(crate) fn give_way(&mut self, to: Heir, until: Instant) {
        self.standing = Standing::GaveWay { to, until };
        self.rekey = When::Never;
    }
}

/// What an outstanding request asks for.
pub(crate) enum Request {
    Child(ChildRequest),
    Rekey(RekeyRequest),
    DeleteChild,
    /// Why the IKE SA goes.
    DeleteIke(Failure),
    Liveness,
}

impl Request {
    /// The exchange that it begins.
    pub(crate) fn exchange(&self) -> ExchangeType {
        match self {
            Self::Child(_) | Self::Rekey(_) => ExchangeType::CREATE_CHILD_SA,
            Self::DeleteChild | Self::DeleteIke(_) | Self::Liveness => ExchangeType::INFORMATIONAL,
        }
    }

    /// Whether it began a key exchange.
    pub(super) fn has_ke(&self) -> bool {
        match self {
            Self::Child(request) => request.group.is_some(),
            Self::Rekey(_) => true,
            Self::DeleteChild | Self::DeleteIke(_) | Self::Liveness => false,
        }
    }
}

/// SPIs that a peer may delete before it has answered with one of them.
const OVERTAKEN: usize = 4;

/// CREATE_CHILD_SA for a Child SA, new or in place of another.
pub(crate) struct ChildRequest {
    /// Slot of the new child.
    pub(crate) new: u16,
    /// The child to replace.
    pub(crate) old: Option<ChildId>,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Whose private value stands in [`Sa::ke`](super::Sa::ke).
    pub(crate) group: Option<Group>,
    /// Only the proposals with `group` were offered.
    pub(crate) narrow: bool,
    /// Asked for as a new one, without REKEY_SA: the peer may have lost `old`.
    pub(crate) fresh: bool,
    /// How often the same was asked before, with another group or other proposals.
    pub(crate) restarts: u8,
    /// The peer's rekey of the same child that crossed ours.
    pub(crate) crossed: Option<Crossed<ChildId>>,
    /// What the peer deleted meanwhile and is not known here: its Delete may overtake the answer that names it.
    pub(crate) overtaken: Vec<Spi, OVERTAKEN>,
}

impl ChildRequest {
    /// The peer deletes this SPI of its own, which is not known here.
    pub(crate) fn overtake(&mut self, spi: Spi) {
        // A peer that names more only fools itself.
        let _ = self.overtaken.push(spi);
    }
}

/// CREATE_CHILD_SA for a new IKE SA in place of this one.
pub(crate) struct RekeyRequest {
    /// Slot and SPI of the new SA. The slot is kept as long as this request stands.
    pub(crate) new: u16,
    pub(crate) spi: u64,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Whose private value stands in [`Sa::ke`](super::Sa::ke).
    pub(crate) group: Group,
    /// The peer's rekey that crossed ours.
    pub(crate) crossed: Option<Crossed<Heir>>,
}

/// What the peer's rekey that crossed ours came to: the SA it made, and the lowest nonce of its exchange.
pub(crate) struct Crossed<T> {
    pub(crate) made: T,
    pub(crate) lowest: LowestNonce,
}

/// An SA that takes over: its slot, and our SPI to tell whether it is still there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heir {
    pub(crate) slot: u16,
    pub(crate) spi: u64,
}
