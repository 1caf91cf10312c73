//! Why something did not come about, as data: the appliance turns it into words and a hint.

use ipsec_core::net::TrafficSelector;
use ipsec_core::sa::Mode;

use crate::error::{NoRoom, Unkeyed};
use crate::proposal::Mismatch;
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId, TransformType};
use crate::wire::ts::Ts;

/// Who refused: decides which side's configuration the operator has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Side {
    /// We refused what the peer sent.
    Here,
    /// The peer refused what we sent.
    Peer,
}

/// The typed cause of a failed negotiation or a lost SA.
///
/// ```
/// use ike_core::failure::{Asked, Failure, Side};
/// /// Where the operator has to look.
/// fn look_at(failure: &Failure) -> &'static str {
///     match failure {
///         Failure::AuthenticationFailed(Side::Here) => "the pre-shared keys of both sides",
///         Failure::AuthenticationFailed(Side::Peer) => "the peer's log",
///         Failure::NoSelectorsInCommon(Asked { .. }) => "the traffic selectors",
///         other if other.is_busy() => "nothing: it is asked again",
///         _ => "the rest",
///     }
/// }
/// assert_eq!(look_at(&Failure::AuthenticationFailed(Side::Peer)), "the peer's log");
/// assert!(Failure::TrafficSelectors.is_about_child() && !Failure::ClosedByPeer.is_about_child());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Failure {
    /// No answer to a request of this exchange, after every retransmission (RFC 7296 §2.4).
    PeerSilent(ExchangeType),
    /// The peer accepted none of our proposals (NO_PROPOSAL_CHOSEN); it does not say which transform it missed.
    ProposalsRefused,
    /// The peer ended the handshake because it accepted none of the Child SA's proposals: NO_PROPOSAL_CHOSEN in IKE_AUTH,
    /// where those of the IKE SA were agreed on already.
    ChildProposalsRefused,
    /// None of the peer's proposals suits ours; says what is missing.
    NoProposalInCommon(Mismatch),
    /// The peer refused a rekey with proposals that it took when the Child SA was made with the IKE SA, where they stand
    /// without a key exchange (RFC 7296 §1.2): the sides differ in perfect forward secrecy.
    PfsRefused,
    /// A Child SA in this mode is what the peer asks for or agreed to, and the configuration does not allow it (RFC 7296 §1.3.1).
    ModeNotWanted(Mode),
    /// The peer's answer to our proposals is none of them (RFC 7296 §2.7).
    AnswerNotOffered,
    /// AUTHENTICATION_FAILED. `Here`: the peer's AUTH does not verify, the pre-shared keys differ. `Peer`: the peer
    /// says the same of ours, or does not know our identity.
    AuthenticationFailed(Side),
    /// The connection's pre-shared key has no octets, or only zeros: nothing is proven with it, on either side.
    EmptyKey,
    /// No connection is configured for the identity in the peer's IKE_AUTH request.
    UnknownIdentity,
    /// The responder says to be another than the connection expects.
    WrongIdentity,
    /// Too many handshakes are half-open, all in all or with the same source.
    TooManyHalfOpen,
    /// No connection is configured for the peer's address.
    UnknownAddress,
    /// The same, and one may be soon ([`Pad::may_follow`](crate::pad::Pad::may_follow)): the peer was not answered.
    AddressNotKnownYet,
    /// The peer accepts none of our traffic selectors (TS_UNACCEPTABLE).
    TrafficSelectors,
    /// The traffic selectors that the peer asks for, or answers with, do not fit ours; says which.
    NoSelectorsInCommon(Asked),
    /// The peer asked for a child, or answered our request for one, without any traffic selector.
    EmptyTrafficSelectors,
    /// The peer wants no further Child SA (NO_ADDITIONAL_SAS), or we have no room for one.
    NoAdditionalSas(Side),
    /// A message could not be understood (INVALID_SYNTAX).
    InvalidSyntax(Side),
    /// A payload type marked critical is not known (UNSUPPORTED_CRITICAL_PAYLOAD).
    UnsupportedCriticalPayload(Side, PayloadType),
    /// The peer's Diffie-Hellman value is not a valid one (RFC 6989).
    BadKeyExchange,
    /// The peer asks for a Diffie-Hellman group that we did not offer.
    GroupNotOffered(u16),
    /// The peer kept asking for another cookie or group.
    TooManyRestarts,
    /// The peer speaks another major version of IKE.
    MajorVersion,
    /// The peer answered with an error notification that has no cause of its own here.
    Notified(NotifyKind),
    /// A message does not fit the buffers that the caller provided.
    NoRoom,
    /// A message of the peer has so many octets, more than the buffers that the caller provided.
    MessageTooLong(usize),
    /// The crypto engine does not offer a negotiated algorithm.
    CryptoRefused,
    /// No traffic flowed or rekeying failed until the hard lifetime ended.
    Expired,
    /// The handshake was not finished in time by the peer.
    HalfOpenTimeout,
    /// Whoever was asked for a proof of who we are, or for a verdict about the peer's, did not answer in time.
    SignerSilent,
    /// The peer closed the SA.
    ClosedByPeer,
    /// Closed by the caller.
    ClosedHere,
    /// A newer SA with the same peer took over (INITIAL_CONTACT, RFC 7296 §2.4, or a rekey).
    Replaced,
}

/// Traffic selectors as the peer sent them: the evidence of a refusal. The first ones only, as a [`Failure`] has to be small:
/// it is kept in the slots of SAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Of our side.
    pub local: Option<TrafficSelector>,
    /// Of the peer's side.
    pub remote: Option<TrafficSelector>,
    /// There are more, or some of a type that is not known.
    pub more: bool,
}

impl Asked {
    pub(crate) fn of(local: &Ts<'_>, remote: &Ts<'_>) -> Self {
        let more = |ts: &Ts<'_>| ts.unknown() > 0 || ts.selectors().nth(1).is_some();
        Self { local: local.selectors().next(), remote: remote.selectors().next(), more: more(local) || more(remote) }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Asked {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "selectors of the peer, more: {}", self.more);
    }
}

impl Failure {
    /// Whether the peer refuses what is asked for one child, which says nothing of the others: some peers end a handshake
    /// with it.
    pub fn is_about_child(&self) -> bool {
        matches!(self, Self::ChildProposalsRefused | Self::TrafficSelectors)
    }

    /// Whether the peer refuses only for the moment (TEMPORARY_FAILURE, RFC 7296 §2.25).
    pub fn is_busy(&self) -> bool {
        *self == Self::Notified(NotifyKind::TEMPORARY_FAILURE)
    }

    /// Whether the two sides differ in perfect forward secrecy: no rekey of the child will ever succeed, but a new IKE SA
    /// brings it back.
    pub fn is_about_pfs(&self) -> bool {
        match self {
            Self::PfsRefused => true,
            Self::NoProposalInCommon(mismatch) => {
                mismatch.protocol == ProtocolId::ESP && mismatch.kind == Some(TransformType::KE)
            }
            _ => false,
        }
    }
}

impl From<Unkeyed> for Failure {
    fn from(why: Unkeyed) -> Self {
        match why {
            Unkeyed::BadPublic => Self::BadKeyExchange,
            Unkeyed::NoKey => Self::CryptoRefused,
        }
    }
}

impl From<NoRoom> for Failure {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}
