//! One exchange on one SA: requests, responses, refusals (RFC 7296 §2.1, §2.21).
//!
//! Every authenticated request is answered: a handler either writes its response or returns the [`Refusal`] that is
//! written for it, and when not even that can be done the SA is over.

use core::time::Duration;

use heapless::Vec;
use ipsec_core::net::Path;

use crate::crypto::{Group, IkeCrypto};
use crate::effects::Effects;
use crate::env::Env;
use crate::error::{Discard, NoRoom, Unkeyed};
use crate::failure::{Failure, Side};
use crate::registry::{ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId};
use crate::rules::Refused;
use crate::sa::{Established, Request, Sa};
use crate::wire::chain::Chain;
use crate::wire::header::Header;
use crate::wire::notify::Notify;
use crate::wire::outline::Outline;
use crate::wire::sk::SkReceiver;
use crate::wire::writer::MessageWriter;

/// How much longer than after TEMPORARY_FAILURE to wait after a rekey that the peer refused for good.
pub(crate) const REFUSED_FACTOR: u32 = 15;

/// What an error notification of the peer means.
pub(crate) fn cause_of(error: &Notify<'_>) -> Failure {
    match error.kind {
        NotifyKind::NO_PROPOSAL_CHOSEN => Failure::ProposalsRefused,
        NotifyKind::AUTHENTICATION_FAILED => Failure::AuthenticationFailed(Side::Peer),
        NotifyKind::TS_UNACCEPTABLE => Failure::TrafficSelectors,
        NotifyKind::NO_ADDITIONAL_SAS => Failure::NoAdditionalSas(Side::Peer),
        NotifyKind::INVALID_SYNTAX => Failure::InvalidSyntax(Side::Peer),
        NotifyKind::INVALID_MAJOR_VERSION => Failure::MajorVersion,
        NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD => {
            let payload = error.data.first().copied().unwrap_or(0);
            Failure::UnsupportedCriticalPayload(Side::Peer, PayloadType(payload))
        }
        other => Failure::Notified(other),
    }
}

/// What it means that we refuse a message.
pub(crate) fn refused(why: Refused) -> Failure {
    match why {
        Refused::UnsupportedCritical(payload) => Failure::UnsupportedCriticalPayload(Side::Here, payload),
        _ => Failure::InvalidSyntax(Side::Here),
    }
}

/// Why we refuse a request, and what the peer is told of it.
pub(crate) struct Refusal {
    pub(crate) cause: Failure,
    pub(crate) kind: NotifyKind,
    data: Vec<u8, 2>,
    /// The Child SA that it is about.
    about: Option<(ProtocolId, Vec<u8, 8>)>,
}

impl Refusal {
    pub(crate) fn new(cause: Failure, kind: NotifyKind) -> Self {
        Self { cause, kind, data: Vec::new(), about: None }
    }

    /// The message itself is wrong (RFC 7296 §2.21).
    pub(crate) fn of(why: Refused) -> Self {
        let mut refusal = Self::new(refused(why), NotifyKind::INVALID_SYNTAX);
        if let Refused::UnsupportedCritical(payload) = why {
            refusal.kind = NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD;
            refusal.data.extend([payload.0]);
        }
        refusal
    }

    /// The peer guessed another group than the one we chose (RFC 7296 §1.3).
    pub(crate) fn group(chosen: Group) -> Self {
        let mut refusal = Self::new(Failure::GroupNotOffered(chosen.id().0), NotifyKind::INVALID_KE_PAYLOAD);
        refusal.data.extend(chosen.id().0.to_be_bytes());
        refusal
    }

    /// Not now (RFC 7296 §2.25).
    pub(crate) fn busy() -> Self {
        Self::new(Failure::Notified(NotifyKind::TEMPORARY_FAILURE), NotifyKind::TEMPORARY_FAILURE)
    }

    /// We have no such Child SA (RFC 7296 §2.25.1).
    pub(crate) fn not_found(named: &Notify<'_>) -> Self {
        let spi = Vec::from_slice(named.spi).unwrap_or_default();
        Self {
            about: Some((named.protocol, spi)),
            ..Self::new(Failure::Notified(NotifyKind::CHILD_SA_NOT_FOUND), NotifyKind::CHILD_SA_NOT_FOUND)
        }
    }

    /// The peer is to have addresses, and got none (RFC 7296 §3.15.4).
    pub(crate) fn no_address(cause: Failure) -> Self {
        Self::new(cause, NotifyKind::INTERNAL_ADDRESS_FAILURE)
    }

    /// The crypto engine does not do what was agreed on.
    pub(crate) fn crypto() -> Self {
        Self::new(Failure::CryptoRefused, NotifyKind::NO_PROPOSAL_CHOSEN)
    }

    /// Whether it is normal traffic during rekeys, and so nothing to report.
    pub(crate) fn is_normal(&self) -> bool {
        [NotifyKind::TEMPORARY_FAILURE, NotifyKind::CHILD_SA_NOT_FOUND, NotifyKind::INVALID_KE_PAYLOAD]
            .contains(&self.kind)
    }

    pub(crate) fn write(&self, message: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        match &self.about {
            Some((protocol, spi)) => message.notify(*protocol, spi, self.kind, &self.data),
            None => message.notify_parts(self.kind, &[&self.data]),
        }
    }
}

impl From<Unkeyed> for Refusal {
    fn from(why: Unkeyed) -> Self {
        match why {
            Unkeyed::BadPublic => Self::new(Failure::BadKeyExchange, NotifyKind::INVALID_SYNTAX),
            Unkeyed::NoKey => Self::crypto(),
        }
    }
}

/// Our answer does not fit our buffers: we have no room for what was asked.
impl From<NoRoom> for Refusal {
    fn from(_: NoRoom) -> Self {
        Self::new(Failure::NoRoom, NotifyKind::NO_ADDITIONAL_SAS)
    }
}

/// The group that INVALID_KE_PAYLOAD asks for (RFC 7296 §1.3).
pub(crate) fn wanted_group(error: &Notify<'_>) -> Option<GroupId> {
    error.data.try_into().ok().map(|group| GroupId(u16::from_be_bytes(group)))
}

/// The nonce in a message in clear that was checked when it came.
pub(crate) fn nonce_of(message: &[u8]) -> &[u8] {
    let payloads = Header::parse(message).ok().zip(message.get(Header::LEN..));
    let nonce = payloads.and_then(|(header, body)| {
        Chain::new(header.next, body).flatten().find(|payload| payload.kind == PayloadType::NONCE)
    });
    nonce.map(|payload| payload.body).unwrap_or_default()
}

/// Decrypts a message of the peer in place: the type of its first payload, and the payloads.
pub(crate) fn open<'m, C: IkeCrypto>(
    env: &mut Env<'_, '_, C>,
    receiver: &SkReceiver<C>,
    header: &Header,
    datagram: &'m mut [u8],
) -> Result<(PayloadType, &'m [u8]), Discard> {
    let (first, payloads) = receiver.open(env.crypto, datagram)?;
    *env.heard = Some(Outline::read(header, first, payloads));
    Ok((first, payloads))
}

/// Answers the request we expect next.
pub(crate) fn respond<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    exchange: ExchangeType,
    payloads: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) -> Result<(), NoRoom> {
    let header = sa.response_header(exchange);
    let keys = sa.keys.as_mut().ok_or(NoRoom)?;
    // What is written in its place is nothing that may be repeated before it is sealed.
    sa.window.forget_response();
    let mut message = MessageWriter::protected(env.response, &header, keys.sender.layout())?;
    payloads(&mut message)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;
    sa.window.respond(message, path);
    Ok(())
}

/// Answers the request we expect next with an error. INVALID_SYNTAX ends the SA on both sides without a Delete (RFC 7296
/// §2.21.3), and so does a request that cannot be answered at all.
pub(crate) fn refuse<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    exchange: ExchangeType,
    refusal: Refusal,
) -> Effects {
    let refusal = if env.cramped && refusal.cause == Failure::NoRoom { Refusal::busy() } else { refusal };
    let answered = respond(sa, env, path, exchange, |message| refusal.write(message));
    match answered {
        Ok(()) if refusal.kind != NotifyKind::INVALID_SYNTAX => Effects::Nothing,
        _ => sa.over(refusal.cause),
    }
}

/// Sends a request whose payloads need nothing but to be written.
pub(crate) fn request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: Request,
    payloads: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) -> Result<(), Failure> {
    let header = sa.request_header(request.exchange()).ok_or(Failure::NoRoom)?;
    let keys = sa.keys.as_mut().ok_or(Failure::NoRoom)?;
    let mut message = MessageWriter::protected(env.request, &header, keys.sender.layout())?;
    payloads(&mut message)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;
    sa.ask(env.now, message, request, &env.settings.retransmission);
    Ok(())
}

/// The peer was busy (TEMPORARY_FAILURE): how long to wait before the next try (RFC 7296 §2.25), and whether that lasts, so
/// that somebody is to know.
pub(crate) fn wait<C: IkeCrypto>(established: &mut Established, env: &mut Env<'_, '_, C>) -> (Duration, bool) {
    let pause = established.busy.refused_by_chance(env.crypto, env.now, env.settings.retry);
    (pause, established.busy.is_over(env.now, env.settings.patience))
}

/// Ends the SA because the two sides do not have the same state any more, and says so once.
pub(crate) fn part<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, cause: Failure) {
    farewell(sa, env);
    sa.die(env, cause);
}

/// The last word where the peer lives and does not answer a request, in its place: the peer took no notice of that one, or it
/// takes this one for a repetition and answers as it did.
pub(crate) fn farewell_instead<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    sa.window.restart();
    farewell(sa, env);
}

/// The last word of an SA that is over, a Delete (RFC 7296 §2.21.3): should the peer not have dropped it too, it would go on
/// sending into the void. Nothing is said while the peer may have a request of ours or not: under the same message ID it
/// is another message (§2.1), under the next it is outside the peer's window (§2.3).
pub(crate) fn farewell<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    sa.window.take_back();
    say_last(sa, env, |message| message.delete_ike());
}

/// The last word of an SA that is over.
pub(crate) fn say_last<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payload: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) {
    let header = sa.request_header(ExchangeType::INFORMATIONAL);
    let Some((header, keys)) = header.zip(sa.keys.as_mut()) else { return };
    let written = MessageWriter::protected(env.request, &header, keys.sender.layout()).and_then(|mut message| {
        payload(&mut message)?;
        message.seal(env.crypto, &mut keys.sender)
    });
    written.into_iter().for_each(|message| sa.window.part(message));
}
