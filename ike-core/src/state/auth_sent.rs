//! IKE_AUTH as initiator (RFC 7296 §1.2, §2.15).

use ipsec_core::net::Path;

use crate::agreement;
use crate::auth::ask::Answer;
use crate::auth::course::{Asked, Course};
use crate::auth::{self, Authenticated, Proof, SignedOctets};
use crate::child::{Child, Phase};
use crate::crypto::{IkeCrypto, Secret};
use crate::effects::Effects;
use crate::env::Env;
use crate::error::{Discard, NoRoom};
use crate::exchange;
use crate::failure::{Failure, Side};
use crate::keys::IkeKeys;
use crate::pad::{Authentication, ChildConfigId, Connection};
use crate::proposal;
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Direction, Payloads, Refused, Rule, Stage};
use crate::sa::{AuthSent, First, NONCE_LEN, Sa, State, party};
use crate::wire::auth::Auth;
use crate::wire::header::Header;
use crate::wire::id::{Id, ShortId};
use crate::wire::writer::MessageWriter;

/// IKE_SA_INIT came about: sends IKE_AUTH, or waits for what goes into it. Our IKE_SA_INIT of `own` octets stands in the
/// request buffer, the responder's in the other.
#[inline(never)]
pub(crate) fn begin<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    connection: &Connection<'_>,
    own: usize,
    (nonce, answer_len, child): ([u8; NONCE_LEN], usize, Option<ChildConfigId>),
) -> Result<(), Failure> {
    let (until, course) = (env.now + env.settings.half_open_life, Course::new(own));
    sa.state = State::AuthSent(AuthSent { until, nonce, answer_len, child: First::Wanted(child), course });
    match connection.auth {
        Authentication::Psk(key) => {
            let proof = prove(sa, env, key)?;
            send(sa, env, Some(&proof.auth()))
        }
        Authentication::Signature => {
            ask(sa, env, Asked::Proof);
            Ok(())
        }
        Authentication::Eap => {
            sa.course_mut().map_or(Ok(()), |course| course.set_aside(env.request))?;
            send(sa, env, None)
        }
    }
}

fn ask<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, asked: Asked) {
    if let State::AuthSent(sent) = &mut sa.state {
        sent.until = env.now + env.settings.half_open_life;
        sent.course.ask(asked, env.wall);
    }
}

/// Our proof that we hold this key.
fn prove<C: IkeCrypto>(sa: &Sa<C>, env: &mut Env<'_, '_, C>, key: &[u8]) -> Result<Proof, Failure> {
    let State::AuthSent(sent) = &sa.state else { return Err(Failure::NoRoom) };
    let keys = sa.keys.as_ref().ok_or(Failure::NoRoom)?;
    let id = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::NoRoom)?.local_id;
    let nonce = exchange::nonce_of(env.response.get(..sent.answer_len).ok_or(Failure::NoRoom)?);
    let signed = SignedOctets { message: &[sent.course.own(env.request)], nonce, id, sk_p: &keys.sk_pi };
    Proof::make(env.crypto, keys.suite.prf, key, &signed)
}

/// Sends IKE_AUTH with the first child. The message that our proof covers makes room for it, unless it was set aside.
#[inline(never)]
fn send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, proof: Option<&Auth<'_>>) -> Result<(), Failure> {
    let peer = sa.peer.ok_or(Failure::ClosedHere)?;
    let connection = env.pad.connection(peer).ok_or(Failure::ClosedHere)?;
    let State::AuthSent(AuthSent { child: First::Wanted(child), course, .. }) = &sa.state else { return Ok(()) };
    let config = env.pad.child_or_best(peer, *child).ok_or(Failure::ClosedHere)?; // it was removed since
    let (slot, spi) = env.children.reserve(env.crypto).ok_or(Failure::NoAdditionalSas(Side::Here))?;
    let alone = env.is_alone(peer);

    let header = sa.request_header(ExchangeType::IKE_AUTH).ok_or(Failure::NoRoom)?;
    let keys = sa.keys.as_mut().ok_or(Failure::NoRoom)?;
    let mut message = MessageWriter::protected(course.room(env.request), &header, keys.sender.layout())?;
    message.id(PayloadType::ID_I, &connection.local_id)?;
    if alone {
        message.notify_parts(NotifyKind::INITIAL_CONTACT, &[])?;
    }
    if let Some(id) = &connection.remote_id {
        message.id(PayloadType::ID_R, id)?;
    }
    if let Some(auth) = proof {
        message.auth(auth.method, auth.data)?;
    }
    agreement::write_wishes(&mut message, &config, spi)?;
    // No KE transform here: this child uses the keys of the IKE SA (RFC 7296 §1.2).
    message.sa(ProtocolId::ESP, &spi.get().to_be_bytes(), proposal::offer_esp(config.esp, false))?;
    message.ts(PayloadType::TS_I, config.local)?;
    message.ts(PayloadType::TS_R, config.remote)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;

    let mut new = Child::wanted(env.slot, peer, config.id, spi, env.now);
    new.phase = Phase::Creating;
    env.children.put(slot, new);
    sa.window.request_ready(env.now, message, ExchangeType::IKE_AUTH, &env.settings.retransmission);
    if let State::AuthSent(sent) = &mut sa.state {
        sent.child = First::Asked(slot);
    }
    Ok(())
}

/// Goes on with IKE_AUTH (RFC 7296 §2.16).
fn say<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) -> Result<(), Failure> {
    let header = sa.request_header(ExchangeType::IKE_AUTH).ok_or(Failure::NoRoom)?;
    let State::AuthSent(sent) = &sa.state else { return Ok(()) };
    let keys = sa.keys.as_mut().ok_or(Failure::NoRoom)?;
    let room = sent.course.room(env.request);
    let mut message = MessageWriter::protected(room, &header, keys.sender.layout())?;
    payloads(&mut message)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;
    sa.window.request_ready(env.now, message, ExchangeType::IKE_AUTH, &env.settings.retransmission);
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
    if !header.response || !sa.window.answers(header.message_id, header.exchange) {
        return Err(Discard::Unexpected);
    }
    let keys = sa.keys.as_ref().ok_or(Discard::Unexpected)?;
    let begun = sa.course().is_some_and(Course::has_begun);
    let stage = if begun { Stage::Continued } else { Stage::Keyed };
    let rule = Rule::find(header.exchange, Direction::Response, stage).ok_or(Discard::Unexpected)?;
    let (first, inner) = exchange::open(env, &keys.receiver, header, datagram)?;
    // From here on it is the peer's answer; whatever is wrong with it ends the SA.
    let outcome = match begun {
        false => authenticate(sa, env, (first, inner), rule),
        true => go_on(sa, env, (first, inner), rule),
    };
    if outcome.is_ok() {
        sa.follow(path);
    }
    conclude(sa, env, outcome);
    Ok(Effects::Nothing)
}

/// Whoever was asked has answered.
#[inline(never)]
pub(crate) fn on_answer<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, asked: Asked, answer: &Answer<'_>) {
    // Only after a verdict about what ends IKE_AUTH otherwise.
    let up_there = asked == Asked::Verdict && !sa.course().is_some_and(Course::has_rounds);
    let quietly = |cause| ended(cause, false);
    let outcome = match *answer {
        Answer::Proof(auth) => send(sa, env, Some(&auth)).map_err(quietly),
        Answer::Verdict(true) => match sa.course().is_some_and(Course::has_rounds) {
            true => {
                ask(sa, env, Asked::Eap);
                Ok(())
            }
            false => agree_as_kept(sa, env, Authenticated::by_verdict()),
        },
        Answer::Eap(message) => say(sa, env, |out| out.eap(message)).map_err(quietly),
        Answer::EapDone { key, .. } if !key.is_empty() => done(sa, env, key).map_err(quietly),
        Answer::Verdict(false) | Answer::EapDone { .. } | Answer::Lease(_) | Answer::Refused => {
            Err(ended(Failure::AuthenticationFailed(Side::Here), up_there))
        }
    };
    conclude(sa, env, outcome);
}

/// EAP is over: proves that we hold what came of it.
fn done<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, key: &[u8]) -> Result<(), Failure> {
    let proof = prove(sa, env, key)?;
    let auth = proof.auth();
    say(sa, env, |message| message.auth(auth.method, auth.data))?;
    if let Some(course) = sa.course_mut() {
        course.key = Some(Secret::copy_from(key).ok_or(Failure::NoRoom)?);
    }
    Ok(())
}

/// Ends the SA where it came to nothing.
fn conclude<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, outcome: Result<(), Ended>) {
    if let Err(Ended { cause, tell_peer }) = outcome {
        if tell_peer {
            refuse(sa, env);
        }
        sa.die(env, cause);
    }
}

struct Ended {
    cause: Failure,
    /// The responder believes that the SA is up.
    tell_peer: bool,
}

fn ended(cause: Failure, tell_peer: bool) -> Ended {
    Ended { cause, tell_peer }
}

/// What an answer without a proof says.
fn refused(payloads: &Payloads<'_>) -> Ended {
    let cause = payloads.error().map(|error| exchange::cause_of(&error));
    match cause.unwrap_or(Failure::InvalidSyntax(Side::Here)) {
        Failure::ProposalsRefused => ended(Failure::ChildProposalsRefused, false),
        cause => ended(cause, false),
    }
}

/// The answer to the first request.
#[inline(never)]
fn authenticate<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    (first, inner): (PayloadType, &[u8]),
    rule: &Rule,
) -> Result<(), Ended> {
    let State::AuthSent(sent) = &mut sa.state else { return Ok(()) };
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer));
    let connection = connection.ok_or_else(|| ended(Failure::ClosedHere, true))?;
    let payloads = Payloads::collect(first, inner, rule).map_err(|why| ended(exchange::refused(why), true))?;
    let (Some(id), Some(received)) = (&payloads.id_r, &payloads.auth) else { return Err(refused(&payloads)) };
    sa.named = Some(ShortId::from(id));
    if connection.remote_id.is_some_and(|expected| !expected.matches(id)) {
        return Err(ended(Failure::WrongIdentity, true));
    }
    let (theirs, no_room) = (sent.answer_len, |NoRoom| ended(Failure::NoRoom, true));
    match (connection.auth, sent.course.has_rounds(), payloads.eap) {
        (Authentication::Psk(key), false, None) => {
            let answer = env.response.get(..theirs).unwrap_or_default();
            let keys = sa.keys.as_ref().ok_or_else(|| ended(Failure::ClosedHere, false))?;
            let signed = SignedOctets { message: &[answer], nonce: &sent.nonce, id: *id, sk_p: &keys.sk_pr };
            let peer = auth::verify(env.crypto, keys.suite.prf, key, &signed, received);
            return agree(sa, env, id, &payloads, peer.map_err(|cause| ended(cause, true))?);
        }
        (Authentication::Signature, false, None) => {
            sent.course.keep(env.response, theirs, (first, inner)).map_err(no_room)?;
        }
        (Authentication::Eap, true, Some(message)) => {
            sent.course.keep(env.response, theirs, (first, inner)).map_err(no_room)?;
            sent.course.keep_message(env.response, theirs, message).map_err(no_room)?;
        }
        (_, _, Some(_)) => return Err(ended(exchange::refused(Refused::Unexpected(PayloadType::EAP)), true)),
        _ => return Err(ended(Failure::AuthenticationFailed(Side::Here), true)),
    }
    sa.window.answered();
    ask(sa, env, Asked::Verdict);
    Ok(())
}

/// An answer after the first one: an EAP message, or the proof that the responder holds what came of it.
#[inline(never)]
fn go_on<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    (first, inner): (PayloadType, &[u8]),
    rule: &Rule,
) -> Result<(), Ended> {
    let State::AuthSent(sent) = &mut sa.state else { return Ok(()) };
    let payloads = Payloads::collect(first, inner, rule).map_err(|why| ended(exchange::refused(why), false))?;
    let theirs = sent.answer_len;
    match (sent.course.key.is_some(), payloads.eap, &payloads.auth) {
        (false, Some(message), None) => {
            let kept = sent.course.keep_message(env.response, theirs, message);
            kept.map_err(|NoRoom| ended(Failure::NoRoom, false))?;
            sa.window.answered();
            ask(sa, env, Asked::Eap);
            Ok(())
        }
        (true, None, Some(received)) => {
            let room = core::mem::take(&mut env.response);
            let outcome = match holds(sa, env, room, received) {
                Some((id, peer)) => agree_on(sa, env, room.get(..theirs).unwrap_or_default(), &id, &payloads, peer),
                None => Err(ended(Failure::AuthenticationFailed(Side::Here), true)),
            };
            env.response = room;
            outcome
        }
        _ => Err(refused(&payloads)),
    }
}

/// Whether the responder holds what came of EAP, and who it said to be.
fn holds<'r, C: IkeCrypto>(
    sa: &Sa<C>,
    env: &mut Env<'_, '_, C>,
    room: &'r [u8],
    received: &Auth<'_>,
) -> Option<(Id<'r>, Authenticated)> {
    let State::AuthSent(AuthSent { nonce, answer_len, course, .. }) = &sa.state else { return None };
    let (keys, key) = (sa.keys.as_ref()?, course.key.as_ref()?);
    let id = kept(course, room, *answer_len)?.id_r?;
    let signed = SignedOctets { message: &[room.get(..*answer_len)?], nonce, id, sk_p: &keys.sk_pr };
    Some((id, auth::verify(env.crypto, keys.suite.prf, key.as_slice(), &signed, received).ok()?))
}

/// The payloads of the first answer.
fn kept<'r>(course: &Course, received: &'r [u8], theirs: usize) -> Option<Payloads<'r>> {
    let (first, payloads) = course.kept(received, theirs)?;
    let rule = Rule::find(ExchangeType::IKE_AUTH, Direction::Response, Stage::Keyed)?;
    Payloads::collect(first, payloads, rule).ok()
}

/// The responder is who it said to be in its first answer.
fn agree_as_kept<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, proven: Authenticated) -> Result<(), Ended> {
    let State::AuthSent(sent) = &sa.state else { return Ok(()) };
    let (received, theirs) = (core::mem::take(&mut env.response), sent.answer_len);
    let payloads = kept(&sent.course, received, theirs);
    let outcome = match payloads.as_ref().and_then(|payloads| Some((payloads, payloads.id_r?))) {
        Some((payloads, id)) => agree_on(sa, env, received.get(..theirs).unwrap_or_default(), &id, payloads, proven),
        None => Err(ended(Failure::NoRoom, true)),
    };
    env.response = received;
    outcome
}

fn agree<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    id: &Id<'_>,
    payloads: &Payloads<'_>,
    proven: Authenticated,
) -> Result<(), Ended> {
    let State::AuthSent(sent) = &sa.state else { return Ok(()) };
    let (received, theirs) = (core::mem::take(&mut env.response), sent.answer_len);
    let outcome = agree_on(sa, env, received.get(..theirs).unwrap_or_default(), id, payloads, proven);
    env.response = received;
    outcome
}

/// The responder has proved who it is, and the SA is up; what goes wrong with the child leaves it so (RFC 7296 §1.2).
/// `answer`: its IKE_SA_INIT.
#[inline(never)]
fn agree_on<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    answer: &[u8],
    id: &Id<'_>,
    payloads: &Payloads<'_>,
    proven: Authenticated,
) -> Result<(), Ended> {
    let gone = || ended(Failure::ClosedHere, true);
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or_else(gone)?;
    let State::AuthSent(AuthSent { nonce, child: First::Asked(slot), .. }) = &sa.state else { return Err(gone()) };
    let (keys, slot) = (sa.keys.as_ref().ok_or_else(gone)?, *slot);
    sa.party = party(env.crypto, id);
    let nonces = agreement::Nonces { ni: nonce, nr: exchange::nonce_of(answer) };
    let outcome = first_child(slot, &nonces, keys, agreement::Translated::of(sa), env, payloads);
    let known_to_peer = payloads.sa.is_some();
    match outcome {
        Ok(()) => {}
        Err(cause) => {
            if let Some(mut child) = env.children.get_mut(slot) {
                if known_to_peer {
                    // The responder installed what we refuse.
                    child.refuse(cause);
                } else {
                    child.end(cause);
                }
            }
        }
    }
    sa.window.answered();
    sa.establish(env, &connection, proven, true);
    sa.hear_lifetime(env, payloads);
    Ok(())
}

#[inline(never)]
fn first_child<C: IkeCrypto>(
    slot: u16,
    nonces: &agreement::Nonces<'_>,
    keys: &IkeKeys<C>,
    translated: agreement::Translated,
    env: &mut Env<'_, '_, C>,
    payloads: &Payloads<'_>,
) -> Result<(), Failure> {
    let child = env.children.get(slot).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_by_id(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let Some(answer) = payloads.sa.as_ref().filter(|_| payloads.ts_i.is_some() && payloads.ts_r.is_some()) else {
        let error = payloads.error();
        return Err(error.map_or(Failure::InvalidSyntax(Side::Here), |error| exchange::cause_of(&error)));
    };
    let chosen = proposal::check_esp(config.esp, answer, false).map_err(|_| Failure::AnswerNotOffered)?;
    let child = env.children.get_mut(slot).ok_or(Failure::ClosedHere)?;
    agreement::take_answer((env.crypto, env.now), child, &config, payloads, &chosen, (keys, None, nonces), translated)
}

/// Tells the responder once that we do not accept it (RFC 7296 §2.21.2); there is no SA to repeat it from.
fn refuse<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    sa.window.answered();
    exchange::say_last(sa, env, |message| message.notify_parts(NotifyKind::AUTHENTICATION_FAILED, &[]));
}
