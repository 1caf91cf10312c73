//! We asked for an IKE SA: IKE_SA_INIT as initiator (RFC 7296 §1.2, §2.6, §2.7).

use heapless::Vec;
use ipsec_core::net::{Encap, Path};

use super::auth_sent;
use crate::crypto::{Group, IkeCrypto, KePublic, SharedSecret};
use crate::error::Discard;
use crate::exchange;
use crate::failure::{Failure, Side};
use crate::keys::{IkeKeys, IkeSeed, Role};
use crate::natd;
use crate::pad::{ChildConfigId, Connection};
use crate::proposal;
use crate::registry::{ExchangeType, GroupId, NotifyKind, ProtocolId};
use crate::rules::{Payloads, Rule};
use crate::sa::{Effects, Env, InitSent, NONCE_LEN, Sa, State};
use crate::wire::header::Header;
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

/// How often the responder may ask for another cookie or group before we give up.
const MAX_RESTARTS: u8 = 5;

/// The state in which an initiator begins, with the group of its first proposal.
pub(crate) fn begin<C: IkeCrypto>(
    crypto: &mut C,
    connection: &Connection<'_>,
    child: Option<ChildConfigId>,
) -> Result<InitSent<C>, Failure> {
    let group =
        connection.ike.iter().find_map(|proposal| proposal.group.first().copied()).ok_or(Failure::ProposalsRefused)?;
    let mut nonce = [0; NONCE_LEN];
    crypto.random(&mut nonce);
    let (ke, public) = key_pair(crypto, group)?;
    Ok(InitSent { ke: Some(ke), public, group, nonce, cookie: Vec::new(), restarts: 0, child })
}

fn key_pair<C: IkeCrypto>(crypto: &mut C, group: Group) -> Result<(C::KeSecret, KePublic), Failure> {
    let mut public = KePublic::new();
    let secret = crypto.ke_generate(group, &mut public).ok_or(Failure::CryptoRefused)?;
    Ok((secret, public))
}

/// Writes IKE_SA_INIT and sends it.
pub(crate) fn send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Result<(), Failure> {
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
    message.ke(init.group.id(), &init.public)?;
    message.nonce(&init.nonce)?;
    message.notify_parts(NotifyKind::NAT_DETECTION_SOURCE_IP, &[&source])?;
    message.notify_parts(NotifyKind::NAT_DETECTION_DESTINATION_IP, &[&destination])?;
    let len = message.finish();
    sa.window.request_ready(env.now, len, ExchangeType::IKE_SA_INIT, &env.settings.retransmission);
    Ok(())
}

/// A message for an SA in this state: only the answer is of interest, and it comes in clear.
pub(crate) fn on_message<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &[u8],
) -> Result<Effects<C>, Discard> {
    if !sa.window.answers(header.message_id, header.exchange) || !header.response {
        return Err(Discard::Unexpected);
    }
    let rule = Rule::find(header.exchange, true, false).ok_or(Discard::Unexpected)?;
    let body = datagram.get(Header::LEN..).ok_or(Discard::Malformed)?;
    // Anybody could have sent what does not parse: the genuine answer may still come.
    let payloads = Payloads::collect(header.next, body, rule).map_err(|_| Discard::Malformed)?;
    let outcome = match (payloads.notify(NotifyKind::COOKIE), payloads.error()) {
        (Some(cookie), _) if payloads.sa.is_none() => take_cookie(sa, env, &cookie),
        (_, Some(error)) if error.kind == NotifyKind::INVALID_KE_PAYLOAD => take_group(sa, env, &error),
        (_, Some(error)) => Err(exchange::cause_of(&error)),
        _ => complete(sa, env, path, header, datagram, &payloads),
    };
    if let Err(cause) = outcome {
        sa.die(env, cause);
    }
    Ok(Effects::default())
}

fn restart<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Result<(), Failure> {
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    init.restarts = init.restarts.saturating_add(1);
    if init.restarts > MAX_RESTARTS {
        return Err(Failure::TooManyRestarts);
    }
    sa.window.restart();
    send(sa, env)
}

fn take_cookie<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, cookie: &Notify<'_>) -> Result<(), Failure> {
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    init.cookie = Vec::from_slice(cookie.data).map_err(|_| Failure::InvalidSyntax(Side::Here))?;
    restart(sa, env)
}

/// INVALID_KE_PAYLOAD: the responder wants another group of those we offered (RFC 7296 §1.3, §2.7).
fn take_group<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, error: &Notify<'_>) -> Result<(), Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    let wanted = exchange::wanted_group(error).ok_or(Failure::InvalidSyntax(Side::Here))?;
    let group = Group::from_id(wanted)
        .filter(|group| *group != init.group)
        .filter(|group| connection.ike.iter().any(|proposal| proposal.group.contains(group)))
        .ok_or(Failure::GroupNotOffered(wanted.0))?;
    let (secret, public) = key_pair(env.crypto, group)?;
    init.ke = Some(secret);
    init.public = public;
    init.group = group;
    restart(sa, env)
}

/// The responder has chosen: derive keys, find NATs, go on with IKE_AUTH.
fn complete<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &[u8],
    payloads: &Payloads<'_>,
) -> Result<(), Failure> {
    const SYNTAX: Failure = Failure::InvalidSyntax(Side::Here);
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::InitSent(init) = &mut sa.state else { return Ok(()) };
    let (Some(answer), Some(ke), Some(nonce)) = (&payloads.sa, &payloads.ke, &payloads.nonce) else {
        return Err(SYNTAX);
    };
    let suite = proposal::check_ike(connection.ike, answer, false).map_err(|_| Failure::AnswerNotOffered)?.suite;
    let group: GroupId = init.group.id();
    if header.spi_r == 0 || suite.group != init.group || ke.group != group {
        return Err(SYNTAX);
    }
    let secret = init.ke.take().ok_or(Failure::CryptoRefused)?;
    let mut shared = SharedSecret::new();
    env.crypto.ke_agree(secret, ke.public, &mut shared).map_err(|_| Failure::BadKeyExchange)?;
    let our_nonce = init.nonce;
    let child = init.child;
    let seed = IkeSeed { ni: &our_nonce, nr: nonce.as_slice(), spi_i: sa.spi_i, spi_r: header.spi_r };
    let keys =
        IkeKeys::derive(env.crypto, suite, &shared, &seed, Role::Initiator).map_err(|_| Failure::CryptoRefused)?;
    // Kept for AUTH and for the nonce.
    env.response.get_mut(..datagram.len()).ok_or(Failure::NoRoom)?.copy_from_slice(datagram);

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
    let request_len = sa.window.outstanding.map(|request| request.len).unwrap_or(0);
    sa.window.answered();
    auth_sent::begin(
        sa,
        env,
        &connection,
        auth_sent::Handshake {
            keys,
            nonce: our_nonce,
            peer_nonce: nonce.as_slice(),
            request_len,
            answer_len: datagram.len(),
            child,
        },
    )
}
