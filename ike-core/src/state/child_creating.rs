//! CREATE_CHILD_SA for Child SAs, both roles, new and rekeyed (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.25.1).

use ipsec_core::net::Path;

use super::{ChildRequest, Crossed, Env, NONCE_LEN, Refusal, Request, Sa, State, child_agreed, established, lowest};
use crate::child::{Phase, narrow};
use crate::crypto::{Group, IkeCrypto, KePublic, SharedSecret};
use crate::error::Discard;
use crate::event::ChildId;
use crate::failure::{Failure, Side};
use crate::proposal;
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

/// How much longer than after TEMPORARY_FAILURE to wait after a rekey that the peer refused for good.
const REFUSED_FACTOR: u32 = 15;

/// The peer asks for a Child SA.
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<(), Discard> {
    match consent(sa, env, path, payloads)? {
        Ok(()) => {}
        Err(refusal) => {
            let about = payloads.notify(NotifyKind::REKEY_SA);
            if refusal.kind == NotifyKind::CHILD_SA_NOT_FOUND
                && let Some(Notify { protocol, spi, .. }) = about
            {
                established::respond(sa, env, path, ExchangeType::CREATE_CHILD_SA, |message| {
                    message.notify(protocol, spi, NotifyKind::CHILD_SA_NOT_FOUND, &[])
                })?;
            } else {
                established::refuse(sa, env, path, ExchangeType::CREATE_CHILD_SA, &refusal)?;
            }
            // What is normal traffic during rekeys is nothing to report.
            let normal =
                [NotifyKind::TEMPORARY_FAILURE, NotifyKind::CHILD_SA_NOT_FOUND, NotifyKind::INVALID_KE_PAYLOAD];
            if !normal.contains(&refusal.kind) {
                sa.report.child_failed = Some((None, refusal.cause));
            }
        }
    }
    Ok(())
}

/// The child that a request wants to replace: it must be one that neither side is about to close or has replaced.
fn replaced<C: IkeCrypto>(env: &Env<'_, '_, C>, payloads: &Payloads<'_>) -> Result<Option<ChildId>, Refusal> {
    let Some(notify) = payloads.notify(NotifyKind::REKEY_SA) else { return Ok(None) };
    let gone = || Refusal::new(Failure::Notified(NotifyKind::CHILD_SA_NOT_FOUND), NotifyKind::CHILD_SA_NOT_FOUND);
    let spi = Some(notify.spi).filter(|_| notify.protocol == ProtocolId::ESP).ok_or_else(gone)?;
    let spi = spi.try_into().map_err(|_| gone())?;
    let slot = env.children.by_spi_out(env.slot, u32::from_be_bytes(spi)).ok_or_else(gone)?;
    let child = env.children.get(slot).ok_or_else(gone)?;
    if child.phase != Phase::Up || child.want_delete || child.replaced_by.is_some() {
        return Err(Refusal::busy());
    }
    Ok(env.children.id(slot))
}

fn consent<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Result<(), Refusal>, Discard> {
    let header = sa.response_header(ExchangeType::CREATE_CHILD_SA);
    let State::Established(established) = &mut sa.state else { return Err(Discard::Unexpected) };
    if established.closing() || matches!(established.request, Some(Request::Rekey(_))) {
        return Ok(Err(Refusal::busy()));
    }
    let old = match replaced(env, payloads) {
        // It may be the one we asked for: our answer is still on its way.
        Err(refusal) if refusal.kind == NotifyKind::CHILD_SA_NOT_FOUND && creating(&established.request) => {
            return Ok(Err(Refusal::busy()));
        }
        // The peer made it, and ours that crossed it is not answered yet: which of them stays is not known here.
        Ok(old) if old.is_some() && old == undecided(&established.request) => return Ok(Err(Refusal::busy())),
        Ok(old) => old,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let only = old.and_then(|old| env.children.by_id(old)).map(|child| child.config);
    // Without a connection: it was removed, and its SAs are about to be closed.
    let Some(peer) = sa.peer.filter(|peer| env.pad.connection(*peer).is_some()) else {
        return Ok(Err(Refusal::busy()));
    };
    let Some(peer_nonce) = payloads.nonce else { return Ok(Err(Refusal::of(Refused::Malformed))) };
    let agreed = match child_agreed::agree(env.crypto, env.children, (env.pad, peer), only, payloads, true) {
        Ok(agreed) => agreed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let shared = match exchange(env.crypto, agreed.suite.group, payloads) {
        Ok(shared) => shared,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let nonces = child_agreed::Nonces { ni: peer_nonce.as_slice(), nr: &nonce };
    let (secret, public) = shared.unzip();
    let keys = child_agreed::keys(env.crypto, &established.keys, agreed.suite, secret.as_ref(), &nonces, false);
    let Ok(keys) = keys else {
        return Ok(Err(Refusal::new(Failure::CryptoRefused, NotifyKind::NO_PROPOSAL_CHOSEN)));
    };
    let mut message = MessageWriter::protected(env.response, &header)?;
    child_agreed::write_answer(&mut message, &agreed, |message| {
        message.nonce(&nonce)?;
        match agreed.suite.group.zip(public.as_ref()) {
            Some((group, public)) => message.ke(group.id(), public),
            None => Ok(()),
        }
    })?;
    let len = message.seal(env.crypto, &mut established.keys.sender)?;

    sa.window.respond(len, path);
    let made = child_agreed::install(env, peer, agreed, keys, old);
    if let Some(Request::Child(request)) = &mut established.request
        && let Some(made) = made.filter(|_| old.is_some() && request.old == old)
    {
        request.crossed = Some(Crossed { made, lowest: lowest(peer_nonce.as_slice(), &nonce) });
    }
    Ok(Ok(()))
}

fn creating<C: IkeCrypto>(request: &Option<Request<C>>) -> bool {
    matches!(request, Some(Request::Child(_)))
}

/// The Child SA made by a rekey that crossed ours.
fn undecided<C: IkeCrypto>(request: &Option<Request<C>>) -> Option<ChildId> {
    match request {
        Some(Request::Child(request)) => request.crossed.as_ref().map(|crossed| crossed.made),
        _ => None,
    }
}

/// Our half of the key exchange for a chosen group: the shared secret and our public value.
fn exchange<C: IkeCrypto>(
    crypto: &mut C,
    group: Option<Group>,
    payloads: &Payloads<'_>,
) -> Result<Option<(SharedSecret, KePublic)>, Refusal> {
    let Some(group) = group else { return Ok(None) };
    let ke = payloads.ke.filter(|ke| ke.group == group.id()).ok_or_else(|| Refusal::group(group))?;
    let refused = || Refusal::new(Failure::CryptoRefused, NotifyKind::NO_PROPOSAL_CHOSEN);
    let mut public = KePublic::new();
    let secret = crypto.ke_generate(group, &mut public).ok_or_else(refused)?;
    let mut shared = SharedSecret::new();
    let bad = |_| Refusal::new(Failure::BadKeyExchange, NotifyKind::INVALID_SYNTAX);
    crypto.ke_agree(secret, ke.public, &mut shared).map_err(bad)?;
    Ok(Some((shared, public)))
}

/// Asks for the Child SA in slot `new`, in place of `old`. `group`: the one the peer asked for, else our first.
pub(crate) fn send<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    new: u16,
    old: Option<ChildId>,
    group: Option<Group>,
) -> Result<(), Failure> {
    let header = sa.request_header(ExchangeType::CREATE_CHILD_SA).ok_or(Failure::NoRoom)?;
    let State::Established(established) = &mut sa.state else { return Ok(()) };
    let child = env.children.get(new).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_named(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let spi = child.spi_in;
    let first = config.esp.first().and_then(|proposal| proposal.group.first().copied().flatten());
    let mut public = KePublic::new();
    let ke = match group.or(first) {
        Some(group) => {
            let secret = env.crypto.ke_generate(group, &mut public).ok_or(Failure::CryptoRefused)?;
            Some((group, secret))
        }
        None => None,
    };
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let mut message = MessageWriter::protected(env.request, &header)?;
    if let Some(old) = old.and_then(|old| env.children.by_id(old)) {
        message.notify(ProtocolId::ESP, &old.spi_in.get().to_be_bytes(), NotifyKind::REKEY_SA, &[])?;
    }
    message.sa(ProtocolId::ESP, &spi.get().to_be_bytes(), proposal::offer_esp(config.esp, true))?;
    message.nonce(&nonce)?;
    if let Some((group, _)) = &ke {
        message.ke(group.id(), &public)?;
    }
    message.ts(PayloadType::TS_I, config.local)?;
    message.ts(PayloadType::TS_R, config.remote)?;
    let len = message.seal(env.crypto, &mut established.keys.sender)?;

    if let Some(child) = env.children.get_mut(new) {
        child.phase = Phase::Creating;
    }
    established.request = Some(Request::Child(ChildRequest { new, old, nonce, ke, crossed: None }));
    sa.window.request_ready(env.now, len, ExchangeType::CREATE_CHILD_SA, &env.settings.retransmission);
    Ok(())
}

/// The peer's answer to our request.
pub(crate) fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    mut request: ChildRequest<C>,
    payloads: &Payloads<'_>,
) {
    let outcome = match payloads.error() {
        Some(error) if error.kind == NotifyKind::INVALID_KE_PAYLOAD => match retry(sa, env, &request, &error) {
            Ok(()) => return,
            Err(cause) => Err((cause, false)),
        },
        Some(error) => Err((super::cause_of(&error), false)),
        None => complete(sa, env, &mut request, payloads).map_err(|cause| (cause, true)),
    };
    match outcome {
        Ok(()) => succeed(env, &request, payloads),
        Err((cause, known_to_peer)) => fail(env, &request, cause, known_to_peer),
    }
}

/// INVALID_KE_PAYLOAD: the same again with the group the peer wants, when it is one of ours and another than before.
fn retry<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &ChildRequest<C>,
    error: &Notify<'_>,
) -> Result<(), Failure> {
    let wanted = super::wanted_group(error).ok_or(Failure::InvalidSyntax(Side::Here))?;
    let config = env.children.get(request.new).and_then(|child| env.pad.child_named(child.peer, child.config));
    let config = config.ok_or(Failure::ClosedHere)?;
    let before = request.ke.as_ref().map(|(group, _)| *group);
    let group = Group::from_id(wanted)
        .filter(|group| Some(*group) != before)
        .filter(|group| config.esp.iter().any(|proposal| proposal.group.contains(&Some(*group))))
        .ok_or(Failure::GroupNotOffered(wanted.0))?;
    send(sa, env, request.new, request.old, Some(group))
}

fn complete<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &mut ChildRequest<C>,
    payloads: &Payloads<'_>,
) -> Result<(), Failure> {
    let State::Established(established) = &mut sa.state else { return Err(Failure::ClosedHere) };
    let child = env.children.get(request.new).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_named(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let (Some(answer), Some(nonce), Some(ts_i), Some(ts_r)) =
        (&payloads.sa, &payloads.nonce, &payloads.ts_i, &payloads.ts_r)
    else {
        return Err(Failure::InvalidSyntax(Side::Here));
    };
    let chosen = proposal::check_esp(config.esp, answer, true).map_err(|_| Failure::AnswerNotOffered)?;
    child_agreed::check_answer(ts_i, ts_r, &config)?;
    let shared = match (chosen.suite.group, request.ke.take()) {
        (None, _) => None,
        (Some(chosen), Some((group, secret))) if chosen == group => {
            let ke = payloads.ke.filter(|ke| ke.group == group.id()).ok_or(Failure::InvalidSyntax(Side::Here))?;
            let mut shared = SharedSecret::new();
            env.crypto.ke_agree(secret, ke.public, &mut shared).map_err(|_| Failure::BadKeyExchange)?;
            Some(shared)
        }
        // The peer chose a group that we did not send a value for.
        (Some(_), _) => return Err(Failure::AnswerNotOffered),
    };
    let nonces = child_agreed::Nonces { ni: &request.nonce, nr: nonce.as_slice() };
    let keys = child_agreed::keys(env.crypto, &established.keys, chosen.suite, shared.as_ref(), &nonces, true)?;
    let (local, remote) = (narrow(ts_i.selectors(), config.local), narrow(ts_r.selectors(), config.remote));
    let terms = child_agreed::Terms { suite: chosen.suite, spi_out: chosen.spi, local, remote, keys, ours: true };
    let child = env.children.get_mut(request.new).ok_or(Failure::ClosedHere)?;
    child_agreed::come_up(child, env.crypto, env.now, &config, terms);
    Ok(())
}

/// The new Child SA is up: decide what becomes of the old one, and of the one that the peer made at the same time.
fn succeed<C: IkeCrypto>(env: &mut Env<'_, '_, C>, request: &ChildRequest<C>, payloads: &Payloads<'_>) {
    let Some(old) = request.old else { return };
    let ours = lowest(&request.nonce, payloads.nonce.as_ref().map_or(&[][..], |nonce| nonce.as_slice()));
    let orphan_at = env.now + env.settings.orphan;
    let new_id = env.children.id(request.new);
    match &request.crossed {
        // The SA with the lowest nonce goes; whoever made it deletes it, the other side deletes the old one (§2.8.1).
        Some(crossed) if ours < crossed.lowest => {
            if let Some(new) = env.children.get_mut(request.new) {
                new.replaces = Some(old);
                new.outbound_ready = false;
                new.replaced_by = Some(crossed.made);
                new.rekey_at = None;
                new.want_delete = true;
            }
        }
        crossed => {
            if let Some(theirs) = crossed.as_ref().and_then(|crossed| env.children.by_id_mut(crossed.made)) {
                theirs.replaced_by = new_id;
                theirs.outbound_at = None;
                theirs.rekey_at = None;
                theirs.orphan_at = Some(orphan_at);
            }
            if let Some(new) = env.children.get_mut(request.new) {
                new.replaces = Some(old);
            }
            if let Some(old) = env.children.by_id_mut(old) {
                old.replaced_by = new_id;
                old.rekey_at = None;
                old.orphan_at = None;
                old.want_delete = old.phase == Phase::Up;
            }
        }
    }
}

fn fail<C: IkeCrypto>(env: &mut Env<'_, '_, C>, request: &ChildRequest<C>, cause: Failure, known_to_peer: bool) {
    let busy = cause == Failure::Notified(NotifyKind::TEMPORARY_FAILURE);
    let Some(old) = request.old else {
        if let Some(new) = env.children.get_mut(request.new) {
            match known_to_peer {
                _ if busy => new.phase = Phase::Wanted(env.now + env.settings.retry),
                true => new.refuse(cause),
                false => new.end(cause),
            }
        }
        return;
    };
    match env.children.get_mut(request.new) {
        Some(new) if known_to_peer => new.refuse(cause.clone()),
        _ => env.children.free(request.new),
    }
    let retry = env.settings.retry;
    let Some(old) = env.children.by_id_mut(old) else { return };
    if old.phase != Phase::Up || old.replaced_by.is_some() {
        return;
    }
    if cause == Failure::Notified(NotifyKind::CHILD_SA_NOT_FOUND) {
        // The peer does not have it any more (§2.25.1).
        old.end(Failure::ClosedByPeer);
        return;
    }
    old.rekey_at = Some(env.now + if busy { retry } else { retry.saturating_mul(REFUSED_FACTOR) });
    if !busy {
        old.attempt = Some(cause);
        old.report.attempt_failed = true;
    }
}
