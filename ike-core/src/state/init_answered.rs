//! IKE_SA_INIT and IKE_AUTH as responder (RFC 7296 §1.2, §2.15, §2.21.2).

use ipsec_core::net::{Encap, Path};

use crate::agreement;
use crate::auth::ask::Answer;
use crate::auth::course::{Asked, Course};
use crate::auth::{self, Authenticated, Proof, SignedOctets};
use crate::crypto::{IkeCrypto, IkeSuite, Secret};
use crate::effects::Effects;
use crate::env::Env;
use crate::error::{Discard, NoRoom};
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::keys::{Exchange, IkeKeys, IkeSeed, Role};
use crate::natd;
use crate::pad::{Authentication, Connection, Initiator, Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Direction, Payloads, Refused, Rule, Stage};
use crate::sa::{InitAnswered, NONCE_LEN, Sa, State, party};
use crate::window::Arrival;
use crate::wire::auth::Auth;
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
    let (request_len, course) = (request.len(), Course::new(message.len));
    sa.state = State::InitAnswered(InitAnswered { since: env.now, until, nonce, request_len, course });
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
    let State::InitAnswered(answered) = &sa.state else { return Err(Discard::Unexpected) };
    if header.response || header.exchange != ExchangeType::IKE_AUTH {
        return Err(Discard::Unexpected);
    }
    let begun = answered.course.has_begun();
    if begun && sa.window.admit(header.message_id) == Arrival::Repeated && sa.window.is_repetition() {
        sa.window.respond_again(path);
        return Ok(Effects::Nothing);
    }
    if header.message_id != sa.window.expected() {
        return Err(Discard::Unexpected);
    }
    let keys = sa.keys.as_ref().ok_or(Discard::Unexpected)?;
    let stage = if begun { Stage::Continued } else { Stage::Keyed };
    let rule = Rule::find(header.exchange, Direction::Request, stage).ok_or(Discard::Unexpected)?;
    let (first, inner) = exchange::open(env, &keys.receiver, header, datagram)?;
    // The initiator of IKE_SA_INIT speaks, though not yet somebody we know.
    sa.path = path;
    let outcome = Payloads::collect(first, inner, rule).map_err(Refusal::of).and_then(|payloads| match begun {
        false => authenticate(sa, env, &payloads, (first, inner)),
        true => go_on(sa, env, &payloads),
    });
    conclude(sa, env, outcome)
}

/// Whoever was asked has answered.
#[inline(never)]
pub(crate) fn on_answer<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    asked: Asked,
    answer: &Answer<'_>,
) -> Result<Effects, Discard> {
    let State::InitAnswered(answered) = &mut sa.state else { return Err(Discard::Unexpected) };
    let InitAnswered { request_len, course, until, .. } = answered;
    // The peer's time begins anew where it is its turn.
    *until = (*until).max(env.now + env.settings.half_open_life);
    let no_room = |_| unauthenticated(Failure::NoRoom);
    let outcome = match *answer {
        Answer::Verdict(true) => admit(sa, env, Authenticated::by_verdict()),
        Answer::Lease(lease) => {
            let peer = course.peer.take();
            sa.lease = Some(lease);
            prove_ours(sa, env, peer)
        }
        // It has no children then.
        Answer::Refused if asked == Asked::Lease => {
            let peer = course.peer.take();
            prove_ours(sa, env, peer)
        }
        Answer::Proof(auth) => match course.peer.take() {
            Some(peer) => agree_as_kept(sa, env, &auth, peer),
            None => begin_rounds(sa, env, &auth),
        },
        Answer::Eap(message) if course.has_rounds() => say(sa, env, |out| out.eap(message)).map_err(no_room),
        // It goes with our proof.
        Answer::Eap(message) => course.keep_message(env.request, *request_len, message).map_err(no_room).map(|()| {
            course.ask(Asked::Proof, env.wall);
            Effects::Nothing
        }),
        Answer::EapDone { last, key } if course.has_rounds() && !key.is_empty() => match Secret::copy_from(key) {
            Some(key) => {
                course.key = Some(key);
                say(sa, env, |out| out.eap(last)).map_err(no_room)
            }
            None => Err(unauthenticated(Failure::NoRoom)),
        },
        Answer::Verdict(false) | Answer::EapDone { .. } | Answer::Refused => {
            Err(unauthenticated(Failure::AuthenticationFailed(Side::Here)))
        }
    };
    conclude(sa, env, outcome)
}

/// The peer has proved who it is, in what is kept of it: asks for its addresses, where it is to have some, before anything is
/// agreed on.
fn admit<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, peer: Authenticated) -> Result<Effects, Refusal> {
    if !sa.peer.is_some_and(|peer| env.pad.leases(peer)) {
        return prove_ours(sa, env, Some(peer));
    }
    if let Some(course) = sa.course_mut() {
        course.peer = Some(peer);
        course.ask(Asked::Lease, env.wall);
    }
    Ok(Effects::Nothing)
}

/// Goes on with our proof, or asks for it.
fn prove_ours<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    peer: Option<Authenticated>,
) -> Result<Effects, Refusal> {
    let gone = || unauthenticated(Failure::ClosedHere);
    let peer = peer.ok_or_else(gone)?;
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or_else(gone)?;
    let key = sa.course().and_then(|course| course.key.as_ref()).map(Secret::as_slice);
    let proof = match (connection.auth, key) {
        (Authentication::Psk(key), _) | (Authentication::Eap, Some(key)) => prove(sa, env, key),
        _ => {
            if let Some(course) = sa.course_mut() {
                course.peer = Some(peer);
                course.ask(Asked::Proof, env.wall);
            }
            return Ok(Effects::Nothing);
        }
    };
    let proof = proof.map_err(unauthenticated)?;
    agree_as_kept(sa, env, &proof.auth(), peer)
}

/// Says what a request was refused for, and ends the SA then.
fn conclude<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    outcome: Result<Effects, Refusal>,
) -> Result<Effects, Discard> {
    match outcome {
        Ok(effects) => Ok(effects),
        Err(refusal) => {
            // Who cannot even say that cannot go on either.
            let said = say(sa, env, |message| refusal.write(message));
            sa.die(env, refusal.cause);
            Ok(said.unwrap_or_default())
        }
    }
}

/// The initiator learns no more than this (RFC 7296 §2.21.2); the caller learns the cause.
fn unauthenticated(cause: Failure) -> Refusal {
    Refusal::new(cause, NotifyKind::AUTHENTICATION_FAILED)
}

/// Answers the request that we expect next.
fn say<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) -> Result<Effects, NoRoom> {
    let State::InitAnswered(answered) = &sa.state else { return Err(NoRoom) };
    let room = answered.course.room(env.response);
    let header = sa.response_header(ExchangeType::IKE_AUTH);
    let keys = sa.keys.as_mut().ok_or(NoRoom)?;
    sa.window.forget_response();
    let mut message = MessageWriter::protected(room, &header, keys.sender.layout())?;
    payloads(&mut message)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;
    sa.window.respond(message, sa.path);
    Ok(Effects::Nothing)
}

/// The connection that these identities may use from this address with this suite. Best one whose identity on our side
/// is the one that the initiator asks for; but with the others, too, we may answer as who we are, and the initiator
/// decides whether it wants to talk to that one (RFC 7296 §3.5).
fn find_connection<'p>(
    pad: &'p dyn Pad,
    initiator: Initiator<'_>,
    suite: &IkeSuite,
) -> Option<(PeerId, Connection<'p>)> {
    let is = |named: Option<Id<'_>>, id: Id<'_>| named.is_none_or(|named| named.matches(&id));
    let find = |initiator: Initiator<'_>| {
        pad.candidates(initiator).find(|(_, connection)| {
            connection.remote_id.is_none_or(|id| is(initiator.id_i, id))
                && is(initiator.id_r, connection.local_id)
                && connection.ike.iter().any(|proposal| proposal.allows(suite))
        })
    };
    let asked = initiator.id_r.and_then(|_| find(initiator));
    asked.or_else(|| find(Initiator { id_r: None, ..initiator }))
}

/// The first IKE_AUTH request.
#[inline(never)]
fn authenticate<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: &Payloads<'_>,
    whole: (PayloadType, &[u8]),
) -> Result<Effects, Refusal> {
    let failed = || unauthenticated(Failure::AuthenticationFailed(Side::Here));
    let no_room = |_| unauthenticated(Failure::NoRoom);
    let State::InitAnswered(answered) = &mut sa.state else { return Ok(Effects::Nothing) };
    let keys = sa.keys.as_ref().ok_or_else(Refusal::crypto)?;
    let id_i = payloads.id_i.ok_or_else(|| Refusal::of(Refused::Malformed))?;
    sa.named = Some(ShortId::from(&id_i));
    let initiator =
        Initiator { id_i: Some(id_i), id_r: payloads.id_r, ..Initiator::new(sa.path.local.ip(), sa.path.remote.ip()) };
    let (peer, connection) =
        find_connection(env.pad, initiator, &keys.suite).ok_or_else(|| unauthenticated(Failure::UnknownIdentity))?;
    sa.peer = Some(peer);
    let leases = env.pad.leases(peer);
    let (prf, theirs) = (keys.suite.prf, answered.request_len);
    let asked = match (connection.auth, &payloads.auth) {
        (Authentication::Psk(key), Some(received)) => {
            let request = env.request.get(..theirs).unwrap_or_default();
            let signed = SignedOctets { message: &[request], nonce: &answered.nonce, id: id_i, sk_p: &keys.sk_pi };
            let peer = auth::verify(env.crypto, prf, key, &signed, received).map_err(unauthenticated)?;
            if leases {
                answered.course.keep(env.request, theirs, whole).map_err(no_room)?;
                return admit(sa, env, peer);
            }
            let proof = prove(sa, env, key).map_err(unauthenticated)?;
            return agree(sa, env, payloads, &proof.auth(), peer);
        }
        (Authentication::Signature, Some(_)) => Asked::Verdict,
        (Authentication::Eap, None) => Asked::Eap,
        _ => return Err(failed()),
    };
    answered.course.keep(env.request, theirs, whole).map_err(no_room)?;
    answered.course.ask(asked, env.wall);
    Ok(Effects::Nothing)
}

/// Our proof that we hold this key.
fn prove<C: IkeCrypto>(sa: &Sa<C>, env: &mut Env<'_, '_, C>, key: &[u8]) -> Result<Proof, Failure> {
    let State::InitAnswered(answered) = &sa.state else { return Err(Failure::NoRoom) };
    let keys = sa.keys.as_ref().ok_or(Failure::NoRoom)?;
    let id = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::NoRoom)?.local_id;
    let nonce = exchange::nonce_of(env.request.get(..answered.request_len).ok_or(Failure::NoRoom)?);
    let signed = SignedOctets { message: &[answered.course.own(env.response)], nonce, id, sk_p: &keys.sk_pr };
    Proof::make(env.crypto, keys.suite.prf, key, &signed)
}

/// Answers the first request with our proof and our first EAP message (RFC 7296 §2.16). Both messages of IKE_SA_INIT stay.
#[inline(never)]
fn begin_rounds<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, auth: &Auth<'_>) -> Result<Effects, Refusal> {
    let no_room = |_| unauthenticated(Failure::NoRoom);
    let id = sa.peer.and_then(|peer| env.pad.connection(peer)).map(|connection| connection.local_id);
    let id = id.ok_or_else(|| unauthenticated(Failure::ClosedHere))?;
    let State::InitAnswered(answered) = &mut sa.state else { return Ok(Effects::Nothing) };
    answered.course.set_aside(env.response).map_err(no_room)?;
    let received = core::mem::take(&mut env.request);
    let first = answered.course.message(received, answered.request_len);
    let said = say(sa, env, |message| {
        message.id(PayloadType::ID_R, &id)?;
        message.auth(auth.method, auth.data)?;
        message.eap(first.ok_or(NoRoom)?)
    });
    env.request = received;
    said.map_err(no_room)
}

/// A request after the first one: an EAP message, or the proof that the initiator holds what came of it.
#[inline(never)]
fn go_on<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, payloads: &Payloads<'_>) -> Result<Effects, Refusal> {
    let failed = || unauthenticated(Failure::AuthenticationFailed(Side::Here));
    let State::InitAnswered(answered) = &sa.state else { return Ok(Effects::Nothing) };
    let InitAnswered { request_len, nonce, course, .. } = answered;
    match (&course.key, payloads.eap, &payloads.auth) {
        (None, Some(message), None) => {
            let theirs = *request_len;
            let Some(course) = sa.course_mut() else { return Ok(Effects::Nothing) };
            course.keep_message(env.request, theirs, message).map_err(|_| unauthenticated(Failure::NoRoom))?;
            course.ask(Asked::Eap, env.wall);
            Ok(Effects::Nothing)
        }
        (Some(key), None, Some(received)) => {
            let keys = sa.keys.as_ref().ok_or_else(Refusal::crypto)?;
            let request = env.request.get(..*request_len).unwrap_or_default();
            let kept = kept(course, env.request, *request_len).and_then(|kept| kept.id_i);
            let signed = SignedOctets { message: &[request], nonce, id: kept.ok_or_else(failed)?, sk_p: &keys.sk_pi };
            let peer = auth::verify(env.crypto, keys.suite.prf, key.as_slice(), &signed, received);
            admit(sa, env, peer.map_err(unauthenticated)?)
        }
        _ => Err(Refusal::of(Refused::Malformed)),
    }
}

/// The payloads of the first request.
fn kept<'r>(course: &Course, received: &'r [u8], theirs: usize) -> Option<Payloads<'r>> {
    let (first, payloads) = course.kept(received, theirs)?;
    let rule = Rule::find(ExchangeType::IKE_AUTH, Direction::Request, Stage::Keyed)?;
    Payloads::collect(first, payloads, rule).ok()
}

/// The initiator is who it said to be in its first request.
fn agree_as_kept<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    auth: &Auth<'_>,
    proven: Authenticated,
) -> Result<Effects, Refusal> {
    let State::InitAnswered(answered) = &sa.state else { return Ok(Effects::Nothing) };
    let (received, theirs) = (core::mem::take(&mut env.request), answered.request_len);
    let outcome = match kept(&answered.course, received, theirs) {
        Some(payloads) => agree_on(sa, env, received.get(..theirs).unwrap_or_default(), &payloads, auth, proven),
        None => Err(unauthenticated(Failure::NoRoom)),
    };
    env.request = received;
    outcome
}

fn agree<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: &Payloads<'_>,
    auth: &Auth<'_>,
    proven: Authenticated,
) -> Result<Effects, Refusal> {
    let State::InitAnswered(answered) = &sa.state else { return Ok(Effects::Nothing) };
    let (received, theirs) = (core::mem::take(&mut env.request), answered.request_len);
    let outcome = agree_on(sa, env, received.get(..theirs).unwrap_or_default(), payloads, auth, proven);
    env.request = received;
    outcome
}

/// The initiator has proved who it is: agrees on the child that it asks for, answers with our proof, and the SA is up.
/// `first`: its IKE_SA_INIT.
#[inline(never)]
fn agree_on<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    first: &[u8],
    payloads: &Payloads<'_>,
    auth: &Auth<'_>,
    proven: Authenticated,
) -> Result<Effects, Refusal> {
    let no_room = |_| unauthenticated(Failure::NoRoom);
    let gone = || unauthenticated(Failure::ClosedHere);
    let id_i = payloads.id_i.ok_or_else(|| Refusal::of(Refused::Malformed))?;
    sa.party = party(env.crypto, &id_i);
    let State::InitAnswered(answered) = &sa.state else { return Ok(Effects::Nothing) };
    // It may have been removed meanwhile.
    let peer = sa.peer.ok_or_else(gone)?;
    let connection = env.pad.connection(peer).ok_or_else(gone)?;
    let keys = sa.keys.as_ref().ok_or_else(Refusal::crypto)?;
    let agreed = agreement::leased(sa, env.pad).map_err(Refusal::no_address).and_then(|lease| {
        // Who has lost its others holds this one alone (RFC 7296 §2.4).
        let lost = payloads.notify(NotifyKind::INITIAL_CONTACT).is_some();
        let held = if lost { env.children.count_of(env.slot) } else { env.held(sa, peer) };
        let translated = agreement::Translated::of(sa);
        let asker = agreement::Asker { pad: env.pad, settings: env.settings, peer, held, lease, translated };
        agreement::agree(env.crypto, env.children, asker, None, payloads, false)
    });
    let header = sa.response_header(ExchangeType::IKE_AUTH);
    let room = answered.course.room(env.response);
    let mut message = MessageWriter::protected(room, &header, keys.sender.layout()).map_err(no_room)?;
    if !answered.course.has_rounds() {
        message.id(PayloadType::ID_R, &connection.local_id).map_err(no_room)?;
    }
    message.auth(auth.method, auth.data).map_err(no_room)?;
    let agreed = agreed.and_then(|agreed| {
        let nonces = agreement::Nonces { ni: exchange::nonce_of(first), nr: &answered.nonce };
        agreement::place(env.children, env.slot, peer, env.now, &agreed);
        agreement::key(env.crypto, env.children, keys, &agreed, None, &nonces)?;
        Ok(agreed)
    });
    match &agreed {
        Ok(agreed) => {
            agreement::write_choice(&mut message, agreed).map_err(no_room)?;
            agreement::write_selectors(&mut message, agreed).map_err(no_room)?;
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
    sa.establish(env, &connection, proven, false);
    Ok(Effects::Connected { child, alone_since })
}
