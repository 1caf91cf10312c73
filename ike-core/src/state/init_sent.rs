//! We asked for an IKE SA: IKE_SA_INIT as initiator (RFC 7296 §1.2, §2.6, §2.7).

use heapless::Vec;
use ipsec_core::net::{Encap, Path};

use super::auth_sent;
use crate::crypto::{Group, IkeCrypto};
use crate::effects::Effects;
use crate::env::Env;
use crate::error::{Discard, Unkeyed};
use crate::exchange;
use crate::failure::{Failure, Side};
use crate::keys::{self, Exchange, IkeKeys, IkeSeed, Role};
use crate::natd;
use crate::pad::ChildConfigId;
use crate::proposal;
use crate::registry::{ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Direction, Payloads, Rule, Stage};
use crate::sa::{InitSent, NONCE_LEN, Sa, State};
use crate::wire::chain::{Chain, Payload};
use crate::wire::header::Header;
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

/// How often the responder may ask for another cookie or group before we no longer listen.
const MAX_RESTARTS: u8 = 5;

/// Begins as initiator, with the group of the first proposal.
#[inline(never)]
pub(crate) fn begin<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    child: Option<ChildConfigId>,
) -> Result<(), Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let group = connection.ike.iter().find_map(|proposal| proposal.groups().next()).ok_or(Failure::ProposalsRefused)?;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let init = InitSent { group, nonce, cookie: Vec::new(), restarts: 0, late: 0, noted: Vec::new(), child };
    sa.state = State::InitSent(init);
    send(sa, env)
}

/// Writes IKE_SA_INIT with a key exchange of its own, and sends it.
fn send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Result<(), Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::InitSent(init) = &sa.state else { return Ok(()) };
    let header = Header { initiator: true, ..Header::new(sa.spi_i, 0, ExchangeType::IKE_SA_INIT, 0) };
    let mut source = natd::digest(env.crypto, sa.spi_i, 0, sa.path.local);
    if connection.force_encap {
        // A source that cannot be right makes the peer find a NAT, and encapsulate.
        env.crypto.random(&mut source);
    }
    let destination = natd::digest(env.crypto, sa.spi_i, 0, sa.path.remote);
    let mut message = MessageWriter::new(env.request, &header)?;
    if !init.cookie.is_empty() {
        message.notify_parts(NotifyKind::COOKIE, &[&init.cookie])?;
    }
    message.sa(ProtocolId::IKE, &[], proposal::offer_ike(connection.ike))?;
    let (group, secret) = (init.group, &mut sa.ke);
    message.ke_made(group.id(), group.offer_len(), |public| keys::offer(env.crypto, group, public, secret))?;
    message.nonce(&init.nonce)?;
    message.notify_parts(NotifyKind::NAT_DETECTION_SOURCE_IP, &[&source])?;
    message.notify_parts(NotifyKind::NAT_DETECTION_DESTINATION_IP, &[&destination])?;
    let message = message.finish();
    sa.window.request_ready(env.now, message, ExchangeType::IKE_SA_INIT, &env.settings.retransmission);
    Ok(())
}

/// What comes of an answer that nobody vouches for: everything up to IKE_AUTH is in clear, and anybody can have sent it.
enum Doubt {
    /// An answer to an earlier version of our request, or nothing that could be an answer.
    Ignored,
    /// It says why this will not come about. True or not, the genuine answer may still come (RFC 7296 §2.21.1).
    Noted(Failure),
    /// We cannot go on, whoever sent it.
    Ended(Failure),
}

impl From<Failure> for Doubt {
    fn from(cause: Failure) -> Self {
        Self::Ended(cause)
    }
}

/// A message for an SA in this state: only the answer is of interest, and it comes in clear.
#[inline(never)]
pub(crate) fn on_message<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &[u8],
) -> Result<Effects, Discard> {
    if !sa.window.answers(header.message_id, header.exchange) || !header.response {
        return Err(Discard::Unexpected);
    }
    let rule = Rule::find(header.exchange, Direction::Response, Stage::Clear).ok_or(Discard::Unexpected)?;
    let body = datagram.get(Header::LEN..).ok_or(Discard::Malformed)?;
    let payloads = Payloads::collect(header.next, body, rule).map_err(|_| Discard::Malformed)?;
    let outcome = match (payloads.notify(NotifyKind::COOKIE), payloads.error()) {
        (Some(cookie), _) if payloads.sa.is_none() => take_cookie(sa, env, &cookie),
        (_, Some(error)) if error.kind == NotifyKind::INVALID_KE_PAYLOAD => take_group(sa, env, &error),
        (_, Some(error)) => Err(Doubt::Noted(exchange::cause_of(&error))),
        _ => complete(sa, env, path, header, datagram, &payloads),
    };
    match outcome {
        Ok(()) => {}
        Err(Doubt::Ignored) => return Err(Discard::Unexpected),
        Err(Doubt::Noted(cause)) => note(sa, cause),
        Err(Doubt::Ended(cause)) => sa.die(env, cause),
    }
    Ok(Effects::Nothing)
}

/// Keeps what will be told as the cause should nothing better come, and tells it once at once. Causes beyond the first few
/// are somebody's game.
fn note<C: IkeCrypto>(sa: &mut Sa<C>, cause: Failure) {
    let State::InitSent(init) = &mut sa.state else { return };
    sa.report.noted |= !init.noted.contains(&cause) && init.noted.push(cause).is_ok();
}

/// The request is to be asked again, with another cookie or group. Whatever answers it as it was before may still be on
/// its way. Returns its octets, which stand in the request buffer.
fn restart<C: IkeCrypto>(sa: &mut Sa<C>) -> usize {
    let State::InitSent(init) = &mut sa.state else { return 0 };
    // One copy of it was answered just now.
    let repeated = sa.window.outstanding().map_or(0, |request| request.repetitions);
    init.late = init.late.saturating_add(u8::try_from(repeated).unwrap_or(u8::MAX));
    init.restarts = init.restarts.saturating_add(1);
    let len = sa.window.request_len();
    sa.window.restart();
    len
}

/// Sends the request that stands in the request buffer once more, with our cookie before all else and the rest as it was
/// (RFC 7296 §2.6). It is put together where the answer has its room, which has not come.
#[inline(never)]
fn send_with_cookie<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, len: usize) -> Result<(), Failure> {
    let State::InitSent(init) = &sa.state else { return Ok(()) };
    let before = env.request.get(..len).ok_or(Failure::NoRoom)?;
    let header = Header::parse(before).map_err(|_| Failure::NoRoom)?;
    let payloads = Chain::new(header.next, before.get(Header::LEN..).unwrap_or_default()).flatten();
    let mut message = MessageWriter::new(env.response, &header)?;
    message.notify_parts(NotifyKind::COOKIE, &[&init.cookie])?;
    let is_cookie = |payload: &Payload<'_>| {
        payload.kind == PayloadType::NOTIFY
            && Notify::parse(payload.body).is_ok_and(|notify| notify.kind == NotifyKind::COOKIE)
    };
    for payload in payloads.filter(|payload| !is_cookie(payload)) {
        message.copy(&payload)?;
    }
    let message = message.finish();
    let (to, from) = (env.request.get_mut(..message.len), env.response.get(..message.len));
    let (to, from) = to.zip(from).ok_or(Failure::NoRoom)?;
    to.copy_from_slice(from);
    sa.window.request_ready(env.now, message, ExchangeType::IKE_SA_INIT, &env.settings.retransmission);
    Ok(())
}

fn take_cookie<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, cookie: &Notify<'_>) -> Result<(), Doubt> {
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    if cookie.data == init.cookie.as_slice() {
        return Err(Doubt::Ignored);
    }
    // A responder may hand out another cookie for each copy of a request: the answer to the cookie that we returned
    // already is on its way, and AUTH covers the request that it answers.
    if !init.cookie.is_empty() && init.late > 0 {
        init.late = init.late.saturating_sub(1);
        return Err(Doubt::Ignored);
    }
    let cookie = Vec::from_slice(cookie.data).map_err(|_| Doubt::Noted(Failure::InvalidSyntax(Side::Here)))?;
    if init.restarts >= MAX_RESTARTS {
        return Err(Doubt::Noted(Failure::TooManyRestarts));
    }
    init.cookie = cookie;
    let len = restart(sa);
    Ok(send_with_cookie(sa, env, len)?)
}

/// INVALID_KE_PAYLOAD: the responder wants another group of those we offered (RFC 7296 §1.3, §2.7).
///
/// Who forges that makes us deaf for the answer to the request as it was. To understand it the secret would have to be kept, and
/// also that whole request, which AUTH covers, so each handshake would need room for three messages; and all that it costs is
/// time: the responder has the other group, too, or asks for the first one again.
#[inline(never)]
fn take_group<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, error: &Notify<'_>) -> Result<(), Doubt> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::InitSent(init) = &sa.state else { return Ok(()) };
    let wanted = exchange::wanted_group(error).ok_or(Doubt::Noted(Failure::InvalidSyntax(Side::Here)))?;
    // Nobody asks for the group that it was given: this answers a request from before.
    if wanted == init.group.id() {
        return Err(Doubt::Ignored);
    }
    let group = Group::from_id(wanted)
        .filter(|group| connection.ike.iter().any(|proposal| proposal.groups().any(|ours| ours == *group)))
        .ok_or(Doubt::Noted(Failure::GroupNotOffered(wanted.0)))?;
    if init.restarts >= MAX_RESTARTS {
        return Err(Doubt::Noted(Failure::TooManyRestarts));
    }
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    init.group = group;
    restart(sa);
    Ok(send(sa, env)?)
}

/// The responder has chosen: derive keys, find NATs, go on with IKE_AUTH.
#[inline(never)]
fn complete<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &[u8],
    payloads: &Payloads<'_>,
) -> Result<(), Doubt> {
    const SYNTAX: Doubt = Doubt::Noted(Failure::InvalidSyntax(Side::Here));
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    let (Some(answer), Some(ke), Some(nonce)) = (&payloads.sa, &payloads.ke, &payloads.nonce) else {
        return Err(SYNTAX);
    };
    let chosen = proposal::check_ike(connection.ike, answer, false);
    let suite = chosen.map_err(|_| Doubt::Noted(Failure::AnswerNotOffered))?.suite;
    let group: GroupId = init.group.id();
    if header.spi_r == 0 || suite.group != init.group || ke.group != group {
        return Err(SYNTAX);
    }
    // Kept for AUTH and for the nonce.
    let room = env.response.get_mut(..datagram.len());
    room.ok_or(Doubt::Noted(Failure::MessageTooLong(datagram.len())))?.copy_from_slice(datagram);
    let our_nonce = init.nonce;
    let child = init.child;
    let seed = IkeSeed { ni: &our_nonce, nr: nonce.as_slice(), spi_i: sa.spi_i, spi_r: header.spi_r };
    let secret = sa.ke.as_ref().ok_or(Failure::CryptoRefused)?;
    let exchange = Exchange::Finish { secret, theirs: ke.public };
    IkeKeys::make(env.crypto, None, suite, exchange, &seed, Role::Initiator, &mut sa.keys).map_err(
        |why| match why {
            Unkeyed::BadPublic => Doubt::Noted(why.into()),
            Unkeyed::NoKey => Doubt::Ended(why.into()),
        },
    )?;

    sa.ke = None;
    sa.spi_r = header.spi_r;
    if let Some(nat) = natd::detect(env.crypto, sa.spi_i, sa.spi_r, &path, payloads) {
        sa.nat = nat;
        if nat.found() || connection.force_encap {
            sa.encap = Encap::Udp;
            if sa.path.local.port() == env.settings.ike_port {
                sa.path.local.set_port(env.settings.natt_port);
                sa.path.remote.set_port(env.settings.natt_port);
            }
        }
    }
    let request_len = sa.window.request_len();
    sa.window.answered();
    auth_sent::begin(sa, env, &connection, request_len, (our_nonce, datagram.len(), child))?;
    Ok(())
}
