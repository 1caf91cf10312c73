//! The Peer Authorization Database (RFC 4301 §4.4.3): who may connect, how it proves who it is, and what it may carry.
//!
//! The caller implements [`Pad`] over whatever holds its configuration. Connections may be added, changed and removed
//! at any time: the endpoint asks anew for each exchange and keeps no copy but of [`Connection::dpd`], at which it looks again
//! after [`Endpoint::pad_mut`](crate::endpoint::Endpoint::pad_mut). Where they change behind a shared reference (a `RefCell`, a
//! lock), call that all the same, and drop what it gives: otherwise SAs that are up keep the `dpd` that they came up with.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use ipsec_core::net::{Path, TrafficSelector};
use ipsec_core::sa::Mode;

use crate::proposal::{EspProposal, IkeProposal};
use crate::wire::id::Id;

/// So many candidates for one caller, and children of one connection, are looked at: as many as there can be SAs. What a [`Pad`]
/// says beyond that is not asked for, so that one that never comes to an end costs no more.
const MOST: usize = 0xffff;

/// Names a connection; chosen by the caller and stable as long as the connection exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeerId(pub u32);

/// Names a child of a connection's configuration; chosen by the caller, unique within the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ChildConfigId(pub u32);

/// What is known of a peer that calls us, before it has proved anything.
///
/// ```
/// use ike_core::pad::Initiator;
/// let stranger = Initiator::new([192, 0, 2, 1].into(), [198, 51, 100, 7].into());
/// assert!(stranger.id_i.is_none() && stranger.id_r.is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Initiator<'m> {
    /// Our address that it calls.
    pub local: IpAddr,
    /// Where it calls from.
    pub remote: IpAddr,
    /// Who it says to be; its first message does not say that.
    pub id_i: Option<Id<'m>>,
    /// Who we are to be, where it asks for one of several.
    pub id_r: Option<Id<'m>>,
}

impl Initiator<'_> {
    /// Of whom nothing is known but the addresses.
    pub const fn new(local: IpAddr, remote: IpAddr) -> Self {
        Self { local, remote, id_i: None, id_r: None }
    }
}

/// The caller's connections.
///
/// ```
/// use ike_core::pad::{ChildConfig, Connection, Initiator, Pad, PeerId};
/// /// Connections with the children of each, in the order in which they are tried, numbered from 0.
/// struct Table<'p>(Vec<(Connection<'p>, Vec<ChildConfig<'p>>)>);
///
/// impl Table<'_> {
///     fn peer(&self, peer: PeerId) -> Option<&(Connection<'_>, Vec<ChildConfig<'_>>)> {
///         self.0.get(peer.0 as usize)
///     }
/// }
///
/// impl Pad for Table<'_> {
///     fn connection(&self, peer: PeerId) -> Option<Connection<'_>> {
///         Some(self.peer(peer)?.0)
///     }
///     fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>> {
///         self.peer(peer)?.1.get(index).copied()
///     }
///     fn candidate(&self, initiator: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
///         let next = after.map_or(0, |after| after.0 + 1);
///         let at = |peer: &PeerId| self.peer(*peer).and_then(|(connection, _)| connection.path).map(|path| path.remote.ip());
///         (next..self.0.len() as u32).map(PeerId).find(|peer| at(peer).is_none_or(|at| at == initiator.remote))
///     }
/// }
///
/// let initiator = Initiator::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
/// assert_eq!(Table(Vec::new()).candidate(&initiator, None), None);
/// ```
pub trait Pad {
    /// The connection with this name, or `None` when it no longer exists.
    fn connection(&self, peer: PeerId) -> Option<Connection<'_>>;

    /// The child at `index` in this connection's order of preference, or `None` after the last one. The first 65,535 count.
    fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>>;

    /// The child with this number, or `None` when the connection has it no longer. Where there are many children, find it.
    fn child_by_id(&self, peer: PeerId, id: ChildConfigId) -> Option<ChildConfig<'_>> {
        (0..MOST).map_while(|index| self.child(peer, index)).find(|child| child.id == id)
    }

    /// The connections that whoever calls may use, in order of preference: the first with `after: None`, then the one that
    /// follows `after`. Those that may not be used from these addresses are not among them.
    ///
    /// Strangers have each looked at until one fits. Where there are many, leave out those of which nothing can come:
    /// those for another [`remote_id`](Connection::remote_id) than the initiator's, or
    /// another [`local_id`](Connection::local_id) than it asks for, and of the rest those with the same proposals as one before.
    /// The first 65,535 count, and one that follows itself is the last.
    fn candidate(&self, initiator: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId>;

    /// Whether a caller for whom there is no [`candidate`](Self::candidate) may be one soon, as where a peer is known by a
    /// name that is asked for anew. It is then not answered and calls again, where a refusal would be the end for many.
    fn may_follow(&self, _initiator: &Initiator<'_>) -> bool {
        false
    }

    /// Whether the peer has no addresses but those that it is leased when it calls (RFC 7296 §2.19). The door for that:
    /// configuration payloads are neither read nor written yet.
    #[doc(hidden)]
    fn leases(&self, _peer: PeerId) -> bool {
        false
    }
}

impl<'p> dyn Pad + 'p {
    /// The children of a connection, best first.
    pub(crate) fn children(&self, peer: PeerId) -> impl Iterator<Item = ChildConfig<'_>> {
        (0..MOST).map_while(move |index| self.child(peer, index))
    }

    /// This one of them, or the best.
    pub(crate) fn child_or_best(&self, peer: PeerId, child: Option<ChildConfigId>) -> Option<ChildConfig<'_>> {
        match child {
            Some(child) => self.child_by_id(peer, child),
            None => self.child(peer, 0),
        }
    }

    /// Whether twice the children of a connection are more than so many. Does not count them.
    pub(crate) fn has_twice(&self, peer: PeerId, held: usize) -> bool {
        // Where half of them is an index, there is one child more than that.
        self.child(peer, held / 2).is_some()
    }

    /// The connections that whoever calls may use, best first.
    pub(crate) fn candidates(&self, initiator: Initiator<'_>) -> impl Iterator<Item = (PeerId, Connection<'_>)> {
        let mut last = None;
        core::iter::from_fn(move || {
            last = self.candidate(&initiator, last).filter(|next| Some(*next) != last);
            last
        })
        .take(MOST)
        .filter_map(|peer| Some((peer, self.connection(peer)?)))
    }
}

/// How both sides of a connection prove who they are, and with what (RFC 4301 §4.4.3.1).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Authentication<'p> {
    /// A pre-shared key that both know (RFC 7296 §2.15). An empty one, or one of zeros, is none: nothing is
    /// proven with it ([`Failure::EmptyKey`](crate::failure::Failure::EmptyKey)).
    Psk(&'p [u8]),
    /// Each side by what somebody else makes and judges, in one AUTH payload each: who holds the keys is asked, and may answer
    /// later. The door for signatures; certificates are neither sent nor asked for yet.
    #[doc(hidden)]
    Signature,
    /// The responder like this, the initiator by EAP (RFC 7296 §2.16). The door for it, likewise.
    #[doc(hidden)]
    Eap,
}

impl fmt::Debug for Authentication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psk(_) => f.write_str("Psk(..)"),
            Self::Signature => f.write_str("Signature"),
            Self::Eap => f.write_str("Eap"),
        }
    }
}

/// What is configured for a peer. Borrowed from the caller for the time of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'p> {
    /// Where to reach the peer (IKE ports, normally 500); `None` when we can only answer.
    pub path: Option<Path>,
    /// Who we say we are.
    pub local_id: Id<'p>,
    /// Who the peer must prove to be; `None` accepts every identity that proves itself.
    pub remote_id: Option<Id<'p>>,
    /// How both sides prove who they are.
    pub auth: Authentication<'p>,
    /// IKE proposals, best first.
    pub ike: &'p [IkeProposal],
    /// Encapsulate ESP in UDP although no NAT is found.
    pub force_encap: bool,
    /// Ask for a sign of life after this time without one (RFC 7296 §2.4); zero: never.
    pub dpd: Duration,
    /// Rekey the IKE SA after about this time; zero: never.
    pub rekey: Duration,
}

/// Which modes a Child SA may have, and which one we ask for (RFC 7296 §1.3.1).
///
/// ```
/// use ike_core::pad::Modes;
/// use ipsec_core::sa::Mode;
/// assert_eq!([Modes::Tunnel, Modes::PreferTransport].map(Modes::wanted), [Mode::Tunnel, Mode::Transport]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Modes {
    /// Tunnel mode. Who asks for transport mode is answered without it, and has a Child SA in tunnel mode or none.
    #[default]
    Tunnel,
    /// Transport mode, or tunnel mode with a peer that does not want or ask for the other one.
    PreferTransport,
    /// Transport mode. What came up in another one is deleted, and who does not ask for it is refused.
    Transport,
}

impl Modes {
    /// The one to ask for.
    pub const fn wanted(self) -> Mode {
        match self {
            Self::Tunnel => Mode::Tunnel,
            Self::PreferTransport | Self::Transport => Mode::Transport,
        }
    }

    /// What comes of it between one that asks for `asked` and one that has these; `None`: nothing that both can have.
    pub(crate) fn agree(self, asked: Mode) -> Option<Mode> {
        match (asked, self) {
            // To ask for transport mode is to say that there may be tunnel mode: whoever asks decides about that.
            (_, Self::Tunnel) | (Mode::Tunnel, Self::PreferTransport) => Some(Mode::Tunnel),
            (Mode::Transport, Self::PreferTransport | Self::Transport) => Some(Mode::Transport),
            _ => None,
        }
    }

    /// Whether an answer to what we asked for may say so.
    pub(crate) fn accepts(self, answered: Mode) -> bool {
        answered == self.wanted() || (answered == Mode::Tunnel && self == Self::PreferTransport)
    }
}

/// What is configured for a Child SA.
#[derive(Debug, Clone, Copy)]
pub struct ChildConfig<'p> {
    /// The caller's name for it.
    pub id: ChildConfigId,
    /// Tunnel or transport mode.
    pub modes: Modes,
    /// ESP proposals, best first.
    pub esp: &'p [EspProposal],
    /// Traffic selectors of our side, at most [`MAX_SELECTORS`](crate::child::MAX_SELECTORS).
    pub local: &'p [TrafficSelector],
    /// Traffic selectors of the peer's side, at most [`MAX_SELECTORS`](crate::child::MAX_SELECTORS).
    pub remote: &'p [TrafficSelector],
    /// Rekey after about this time, earlier where that leaves no room for a few tries before the end; zero: never.
    pub rekey: Duration,
    /// Delete after this time when rekeying did not succeed; zero: never.
    pub lifetime: Duration,
    /// Ask for compression of what it carries (IPComp, RFC 7296 §2.22), and agree to it. Where one side does not want it, a Child SA
    /// comes up without.
    pub compress: bool,
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// A child that carries nothing.
    fn nothing(id: ChildConfigId) -> ChildConfig<'static> {
        let (rekey, lifetime) = (Duration::ZERO, Duration::ZERO);
        ChildConfig { id, modes: Modes::Tunnel, esp: &[], local: &[], remote: &[], rekey, lifetime, compress: false }
    }

    /// A connection with so many children.
    struct Few(usize);

    impl Pad for Few {
        fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
            None
        }

        fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
            (index < self.0).then_some(nothing(ChildConfigId(index as u32)))
        }

        fn candidate(&self, _: &Initiator<'_>, _: Option<PeerId>) -> Option<PeerId> {
            None
        }
    }

    /// Says of whatever is asked that there is more, and has none of the connections that it names.
    struct Endless {
        asked: Cell<usize>,
        /// After how many candidates the first one comes again.
        round: u32,
    }

    impl Endless {
        fn new(round: u32) -> Self {
            Self { asked: Cell::new(0), round }
        }

        fn ask(&self) {
            self.asked.set(self.asked.get() + 1);
            assert!(self.asked.get() <= MOST + 1, "it is asked without end");
        }
    }

    impl Pad for Endless {
        fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
            None
        }

        fn child(&self, _: PeerId, _: usize) -> Option<ChildConfig<'_>> {
            self.ask();
            Some(nothing(ChildConfigId(0)))
        }

        fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
            self.ask();
            Some(PeerId(after.map_or(0, |after| (after.0 + 1) % self.round)))
        }
    }

    #[test]
    fn of_candidates_without_end_so_many_count_and_no_more() {
        let stranger = Initiator::new([192, 0, 2, 1].into(), [198, 51, 100, 7].into());
        for (round, asked) in [(1, 2), (2, MOST), (u32::MAX, MOST)] {
            let pad = Endless::new(round);
            assert_eq!((&pad as &dyn Pad).candidates(stranger).count(), 0);
            assert_eq!(pad.asked.get(), asked, "{round}");
        }
    }

    #[test]
    fn of_children_without_end_so_many_count_and_no_more() {
        let pad = Endless::new(1);
        assert_eq!((&pad as &dyn Pad).children(PeerId(0)).count(), MOST);
        let pad = Endless::new(1);
        assert!(pad.child_by_id(PeerId(0), ChildConfigId(1)).is_none());
        assert_eq!(pad.asked.get(), MOST);
    }

    #[test]
    fn whether_twice_the_children_are_more_is_known_without_counting_them() {
        for (own, held) in (0..5).flat_map(|own| (0..12).map(move |held| (own, held))) {
            let pad: &dyn Pad = &Few(own);
            assert_eq!(pad.has_twice(PeerId(0), held), 2 * own > held, "{own} {held}");
        }
    }
}
