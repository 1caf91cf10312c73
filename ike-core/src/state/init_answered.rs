//! IKE_SA_INIT and IKE_AUTH as responder (RFC 7296 §1.2, §2.15, §2.21.2).

use ipsec_core::net::{Encap, Path};

use crate::agreement;
use crate::auth::{self, Proof, SignedOctets};
use crate::crypto::{IkeCrypto, IkeSuite};
use crate::effects::Effects;
use crate::env::Env;
use crate::error::Discard;
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::keys::{Exchange, IkeKeys, IkeSeed, Role};
use crate::natd;
use crate::pad::{Connection, Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Direction, Payloads, Refused, Rule, Stage};
use crate::sa::{InitAnswered, NONCE_LEN, Sa, State, party};
use crate::wire::header::Header;
use crate::wire::id::{Id, ShortId};
use crate::wire::writer::MessageWriter;

/// What we chose from an IKE_SA_INIT request.
pub(crate) struct Choice {
    pub(crate) suite: IkeSuite,
    /// Number of the chosen proposal.
    pub(crate) number: u8,
    pub(crate) force_encap: bool,
}

/// Answers an IKE_SA_INIT request whose KE payload is of the chosen group. Nothing of `sa` is in the table yet.
///
/// # Errors
/// [`Discard`]: the SA is not to be kept.
#[inline(never)]
pub(crate) fn begin<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    choice: &Choice,
    request: &[u8],
    payloads: &Payloads<'_>,
) -> Result<(), Discard> {
    let (Some(ke), Some(peer_nonce)) = (&payloads.ke, &payloads.nonce) else { return Err(Discard::Malformed) };
    let Choice { suite, number, force_encap } = choice;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let seed = IkeSeed { ni: peer_nonce.as_slice(), nr: &nonce, spi_i: sa.spi_i, spi_r: sa.spi_r };
    let nat = natd::detect(env.crypto, sa.spi_i, 0, &sa.path, payloads);
    if let Some(nat) = nat {
        sa.nat = nat;
        if nat.found() || *force_encap {
            sa.encap = Encap::Udp;
        }
    }
    let header = sa.response_header(ExchangeType::IKE_SA_INIT);
    let mut message = MessageWriter::new(env.response, &header)?;
    message.sa(ProtocolId::IKE, &[], [(*number, suite.transforms())])?;
    let (group, theirs, keys) = (suite.group, ke.public, &mut sa.keys);
    message.ke_made(group.id(), group.answer_len(), |public| {
        let exchange = Exchange::Answer { group, theirs, public };
        IkeKeys::make(env.crypto, None, *suite, exchange, &seed, Role::Responder, keys).map_err(Discard::from)
    })?;
    message.nonce(&nonce)?;
    // Whoever asks for no NAT detection gets none: to a stranger nothing is sent that is much longer than what it sent.
    if nat.is_some() {
        let mut source = natd::digest(env.crypto, sa.spi_i, sa.spi_r, sa.path.local);
        if *force_encap {
            // A source that cannot be right makes the peer find a NAT, and encapsulate.
            env.crypto.random(&mut source);
        }
        let destination = natd::digest(env.crypto, sa.spi_i, sa.spi_r, sa.path.remote);
        message.notify_parts(NotifyKind::NAT_DETECTION_SOURCE_IP, &[&source])?;
        message.notify_parts(NotifyKind::NAT_DETECTION_DESTINATION_IP, &[&destination])?;
    }
    let message = message.finish();
    // Kept for AUTH, for the nonce, and to tell a repetition from another request.
    env.request.get_mut(..request.len()).ok_or(Discard::NoRoom)?.copy_from_slice(request);
    sa.window.respond(message, sa.path);
    let until = env.now + env.settings.half_open_life;
    sa.state = State::InitAnswered(InitAnswered { since: env.now, until, nonce, request_len: request.len() });
    Ok(())
}

/// A message for an SA in this state.
#[inline(never)]
pub(crate) fn on_message<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &mut [u8],
) -> Result<Effects, Discard> {
    if header.response || header.exchange != ExchangeType::IKE_AUTH || header.message_id != sa.window.expected() {
        return Err(Discard::Unexpected);
    }
    let keys = sa.keys.as_ref().ok_or(Discard::Unexpected)?;
    let rule = Rule::find(header.exchange, Direction::Request, Stage::Keyed).ok_or(Discard::Unexpected)?;
    let (first, inner) = exchange::open(env, &keys.receiver, header, datagram)?;
    // The initiator of IKE_SA_INIT speaks, though not yet somebody we know.
    sa.path = path;
    let outcome = Payloads::collect(first, inner, rule)
        .map_err(Refusal::of)
        .and_then(|payloads| authenticate(sa, env, &payloads));
    match outcome {
        Ok(effects) => Ok(effects),
        Err(refusal) => {
            answer_error(sa, env, path, &refusal)?;
            sa.die(env, refusal.cause);
            Ok(Effects::Nothing)
        }
    }
}

/// The initiator learns no more than this (RFC 7296 §2.21.2); the caller learns the cause.
fn unauthenticated(cause: Failure) -> Refusal {
    Refusal::new(cause, NotifyKind::AUTHENTICATION_FAILED)
}

fn answer_error<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    refusal: &Refusal,
) -> Result<(), Discard> {
    let header = sa.response_header(ExchangeType::IKE_AUTH);
    let keys = sa.keys.as_mut().ok_or(Discard::Unexpected)?;
    let mut message = MessageWriter::protected(env.response, &header, keys.sender.layout())?;
    refusal.write(&mut message)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;
    sa.window.respond(message, path);
    Ok(())
}

/// The connection that these identities may use from this address with this suite. Best one whose identity on our side
/// is the one that the initiator asks for; but with the others, too, we may answer as who we are, and the initiator
/// decides whether it wants to talk to that one (RFC 7296 §3.5).
fn find_connection<'p>(
    pad: &'p dyn Pad,
    path: &Path,
    suite: &IkeSuite,
    id_i: &Id<'_>,
    id_r: Option<&Id<'_>>,
) -> Option<(PeerId, Connection<'p>)> {
    let (mut after, mut other) = (None, None);
    while let Some(peer) = pad.candidate(path.local.ip(), path.remote.ip(), after) {
        after = Some(peer);
        let fits = |connection: &Connection<'_>| {
            connection.remote_id.is_none_or(|id| id.matches(id_i))
                && connection.ike.iter().any(|proposal| proposal.allows(suite))
        };
        if let Some(connection) = pad.connection(peer).filter(fits) {
            if id_r.is_none_or(|id| connection.local_id.matches(id)) {
                return Some((peer, connection));
            }
            other = other.or(Some((peer, connection)));
        }
    }
    other
}

#[inline(never)]
fn authenticate<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: &Payloads<'_>,
) -> Result<Effects, Refusal> {
    let syntax = || Refusal::of(Refused::Malformed);
    let State::InitAnswered(answered) = &sa.state else { return Ok(Effects::Nothing) };
    let keys = sa.keys.as_ref().ok_or_else(Refusal::crypto)?;
    let id_i = payloads.id_i.ok_or_else(syntax)?;
    sa.named = Some(ShortId::from(&id_i));
    let (peer, connection) = find_connection(env.pad, &sa.path, &keys.suite, &id_i, payloads.id_r.as_ref())
        .ok_or_else(|| unauthenticated(Failure::UnknownIdentity))?;
    sa.peer = Some(peer);
    let prf = keys.suite.prf;
    let request = env.request.get(..answered.request_len).unwrap_or_default();
    let signed = SignedOctets { message: &[request], nonce: &answered.nonce, id: id_i, sk_p: &keys.sk_pi };
    let mut received = payloads.auth.iter();
    if !received.any(|received| auth::verify(env.crypto, prf, connection.auth, &signed, received)) {
        return Err(unauthenticated(Failure::AuthenticationFailed(Side::Here)));
    }

    let no_room = |_| unauthenticated(Failure::NoRoom);
    let peer_nonce = exchange::nonce_of(request);
    let first = env.response.get(..sa.window.response.map_or(0, |response| response.len)).unwrap_or_default();
    let signed = SignedOctets { message: &[first], nonce: peer_nonce, id: connection.local_id, sk_p: &keys.sk_pr };
    let proof = Proof::make(env.crypto, prf, connection.auth, &signed).map_err(no_room)?;

    let asker = agreement::Asker { pad: env.pad, settings: env.settings, peer, ike: env.slot };
    let agreed = agreement::agree(env.crypto, env.children, asker, None, payloads, false);
    let header = sa.response_header(ExchangeType::IKE_AUTH);
    let mut message = MessageWriter::protected(env.response, &header, keys.sender.layout()).map_err(no_room)?;
    message.id(PayloadType::ID_R, &connection.local_id).map_err(no_room)?;
    proof.write(&mut message).map_err(no_room)?;
    let agreed = agreed.and_then(|agreed| {
        let nonces = agreement::Nonces { ni: peer_nonce, nr: &answered.nonce };
        agreement::place(env.children, env.slot, peer, env.now, &agreed);
        agreement::key(env.crypto, env.children, keys, &agreed, None, &nonces)?;
        Ok(agreed)
    });
    match &agreed {
        Ok(agreed) => {
            agreement::write_answer(&mut message, agreed, |_| Ok(())).map_err(|_| unauthenticated(Failure::NoRoom))?
        }
        // The IKE SA comes up without the child (RFC 7296 §1.2).
        Err(refusal) => refusal.write(&mut message).map_err(no_room)?,
    }
    let message =
        message.seal(env.crypto, &mut sa.keys.as_mut().ok_or_else(Refusal::crypto)?.sender).map_err(no_room)?;
    sa.window.respond(message, sa.path);
    let alone_since = payloads.notify(NotifyKind::INITIAL_CONTACT).map(|_| answered.since);
    let child = match agreed {
        Ok(agreed) => agreement::install(env, &agreed, None),
        Err(refusal) => {
            sa.report.child_failed = Some(refusal.cause);
            None
        }
    };
    sa.party = party(env.crypto, &id_i);
    sa.establish(env, &connection, false);
    Ok(Effects::Connected { child, alone_since })
}
