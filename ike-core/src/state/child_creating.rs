//! CREATE_CHILD_SA for Child SAs, both roles, new and rekeyed (RFC 7296 §1.3.1, §1.3.3, §2.8, §2.25.1).

use core::time::Duration;

use heapless::Vec;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::agreement;
use crate::child::{Child, Phase, first_of, within};
use crate::crypto::{Group, IkeCrypto};
use crate::env::Env;
use crate::event::ChildId;
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::keys::{self, Exchange};
use crate::pad::ChildConfig;
use crate::proposal::{self, Asked, EspProposal};
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::sa::{ChildRequest, Crossed, NONCE_LEN, Request, Sa, State};
use crate::succession::{self, lowest};
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

/// How often one request is made again with another group or other proposals.
const MAX_RESTARTS: u8 = 3;

/// The peer asks for a Child SA.
#[inline(never)]
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<(), Refusal> {
    let consent = consent(sa, env, path, payloads);
    if let Err(refusal) = &consent
        && !refusal.is_normal()
    {
        sa.report.child_failed = Some(refusal.cause.clone());
    }
    consent
}

/// The child that a request wants to replace: it must be one that neither side is about to close or has replaced.
fn replaced<C: IkeCrypto>(env: &Env<'_, '_, C>, payloads: &Payloads<'_>) -> Result<Option<ChildId>, Refusal> {
    let Some(notify) = payloads.notify(NotifyKind::REKEY_SA) else { return Ok(None) };
    let gone = || Refusal::not_found(&notify);
    let spi = Some(notify.spi).filter(|_| notify.protocol == ProtocolId::ESP).ok_or_else(gone)?;
    let spi = spi.try_into().map_err(|_| gone())?;
    let slot = env.children.by_spi_out(env.slot, u32::from_be_bytes(spi)).ok_or_else(gone)?;
    let child = env.children.get(slot).ok_or_else(gone)?;
    if !child.stays() {
        return Err(Refusal::busy());
    }
    Ok(env.children.id(slot))
}

fn consent<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<(), Refusal> {
    let State::Established(established) = &sa.state else { return Err(Refusal::busy()) };
    if established.closing() || matches!(established.request, Some(Request::Rekey(_))) {
        return Err(Refusal::busy());
    }
    let old = match replaced(env, payloads) {
        // It may be the one we asked for: our answer is still on its way.
        Err(refusal) if refusal.kind == NotifyKind::CHILD_SA_NOT_FOUND && creating(&established.request) => {
            return Err(Refusal::busy());
        }
        // The peer made it, and ours that crossed it is not answered yet: which of them stays is not known here.
        Ok(old) if old.is_some() && old == undecided(&established.request) => return Err(Refusal::busy()),
        outcome => outcome?,
    };
    let only = old.and_then(|old| env.children.by_id(old)).map(|child| child.config);
    // Without a connection: it was removed, and its SAs are about to be closed.
    let Some(peer) = sa.peer.filter(|peer| env.pad.connection(*peer).is_some()) else {
        return Err(Refusal::busy());
    };
    let lease = agreement::leased(sa, env.pad).map_err(Refusal::no_address)?;
    let (held, translated) = (env.held(sa, peer), agreement::Translated::of(sa));
    let asker = agreement::Asker { pad: env.pad, settings: env.settings, peer, held, lease, translated };
    let agreed = agreement::agree(env.crypto, env.children, asker, only, payloads, true)?;
    agreement::place(env.children, env.slot, peer, env.now, &agreed);
    let accepted = accept(sa, env, path, payloads, &agreed, old);
    if accepted.is_err() {
        env.children.free(agreed.slot);
    }
    accepted
}

/// Makes the Child SA that was agreed on, and answers.
#[inline(never)]
fn accept<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
    agreed: &agreement::Agreed<'_>,
    old: Option<ChildId>,
) -> Result<(), Refusal> {
    let header = sa.response_header(ExchangeType::CREATE_CHILD_SA);
    let ike = sa.keys.as_mut().ok_or_else(Refusal::crypto)?;
    let peer_nonce = payloads.nonce.ok_or_else(|| Refusal::of(Refused::Malformed))?;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let nonces = agreement::Nonces { ni: peer_nonce.as_slice(), nr: &nonce };
    let begun = match agreed.suite.group {
        None => None,
        Some(group) => {
            let ke = payloads.ke.filter(|ke| ke.group == group.id()).ok_or_else(|| Refusal::group(group))?;
            Some((group, ke.public))
        }
    };
    let mut message = MessageWriter::protected(env.response, &header, ike.sender.layout())?;
    agreement::write_choice(&mut message, agreed)?;
    message.nonce(&nonce)?;
    match begun {
        None => agreement::key(env.crypto, env.children, ike, agreed, None, &nonces)?,
        Some((group, theirs)) => message.ke_made(group.id(), group.answer_len(), |public| {
            let exchange = Some(Exchange::Answer { group, theirs, public });
            agreement::key(env.crypto, env.children, ike, agreed, exchange, &nonces)
        })?,
    }
    agreement::write_selectors(&mut message, agreed)?;
    let message = message.seal(env.crypto, &mut ike.sender)?;

    sa.window.respond(message, path);
    let made = agreement::install(env, agreed, old);
    if let State::Established(established) = &mut sa.state
        && let Some(Request::Child(request)) = &mut established.request
        && let Some(made) = made.filter(|_| old.is_some() && request.old == old)
    {
        request.crossed = Some(Crossed { made, lowest: lowest(peer_nonce.as_slice(), &nonce) });
    }
    Ok(())
}

fn creating(request: &Option<Request>) -> bool {
    matches!(request, Some(Request::Child(_)))
}

/// The Child SA made by a rekey that crossed ours.
fn undecided(request: &Option<Request>) -> Option<ChildId> {
    match request {
        Some(Request::Child(request)) => request.crossed.as_ref().map(|crossed| crossed.made),
        _ => None,
    }
}

/// What one try offers.
#[derive(Clone, Copy)]
struct Offer {
    group: Option<Group>,
    /// Only proposals with that group: the peer has nothing to choose from, and so cannot choose another than the one
    /// whose value it gets. Not every peer answers INVALID_KE_PAYLOAD then.
    narrow: bool,
    /// Without REKEY_SA, as what the peer knows nothing of.
    fresh: bool,
    restarts: u8,
}

/// Rekeys the Child SA in `slot`.
#[inline(never)]
pub(crate) fn rekey<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, slot: u16, old: ChildId) {
    let retry_at = env.now + env.settings.retry;
    let reserved = env.children.reserve(env.crypto);
    let Some(mut child) = env.children.get_mut(slot) else { return };
    let Some((new, spi)) = reserved else {
        // No room now: some Child SA may be gone soon.
        child.rekey_later(retry_at);
        return;
    };
    let wanted = Child::wanted(env.slot, child.peer, child.config, spi, env.now);
    drop(child);
    env.children.put(new, Child { replaces: Some(old), ..wanted });
    if let Err(cause) = begin(sa, env, new, Some(old)) {
        env.children.free(new);
        if let Some(mut child) = env.children.get_mut(slot) {
            match cause {
                // A block may be free soon.
                Failure::NoRoom if env.cramped => child.rekey_later(retry_at),
                _ => put_off(&mut child, env.now, env.settings.retry, cause),
            }
        }
    }
}

/// A rekey failed for a reason that will not be gone soon: told, and tried again later and later.
fn put_off(old: &mut Child, now: Instant, pause: Duration, cause: Failure) {
    let pause = old.refused.refused(now, pause.saturating_mul(exchange::REFUSED_FACTOR));
    old.rekey_later(now + pause);
    old.rekey_failed(cause);
}

/// Asks for the Child SA that waits in `slot`.
#[inline(never)]
pub(crate) fn create<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, slot: u16) {
    if let Err(cause) = begin(sa, env, slot, None)
        && let Some(mut child) = env.children.get_mut(slot)
    {
        match cause {
            // A block may be free soon; what is wanted at once would be asked for without end.
            Failure::NoRoom if env.cramped => {
                child.phase = Phase::Wanted(env.now + env.settings.retry.max(Duration::from_millis(1)));
            }
            _ => child.end(cause),
        }
    }
}

/// The first try: with the group that is known to work with this peer, that of the SA before or else of the IKE SA.
fn begin<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    new: u16,
    old: Option<ChildId>,
) -> Result<(), Failure> {
    let ike = sa.keys.as_ref().map(|keys| keys.suite.group);
    let child = env.children.get(new).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_by_id(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let before = old.and_then(|old| env.children.by_id(old)).and_then(|old| old.suite?.group);
    let ours = |group: &Group| lists(config.esp, *group);
    let first = config.esp.first().and_then(|proposal| proposal.groups().next().flatten());
    // Without a key exchange first, the operator wants none where it can be.
    let known = [before, ike].into_iter().flatten().find(ours).filter(|_| first.is_some());
    let others = |group: &Option<Group>| group.is_some() && *group != known;
    let narrow = known.is_some() && config.esp.iter().flat_map(EspProposal::groups).any(|group| others(&group));
    send(sa, env, new, old, Offer { group: known.or(first), narrow, fresh: false, restarts: 0 })
}

fn lists(all: &[EspProposal], group: Group) -> bool {
    all.iter().any(|proposal| proposal.groups().any(|listed| listed == Some(group)))
}

/// What a try with this group asks for.
fn asked(group: Option<Group>, narrow: bool) -> Asked {
    group.filter(|_| narrow).map_or(Asked::Any, Asked::Only)
}

/// Asks for the Child SA in slot `new`, in place of `old`.
#[inline(never)]
fn send<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    new: u16,
    old: Option<ChildId>,
    offer: Offer,
) -> Result<(), Failure> {
    let Offer { group, narrow, fresh, restarts } = offer;
    let header = sa.request_header(ExchangeType::CREATE_CHILD_SA).ok_or(Failure::NoRoom)?;
    let spi = env.children.renew_spi(new, env.crypto).ok_or(Failure::CryptoRefused)?;
    let child = env.children.get(new).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_by_id(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let askable = agreement::askable(sa, env.pad, config.remote)?;
    let remote = askable.as_deref().unwrap_or(config.remote);
    // What replaces an SA is for the same packets.
    let packet = child.packet.or_else(|| old.and_then(|old| env.children.by_id(old)?.packet));
    let (first_local, first_remote) = packet.unzip();
    let first_remote = first_remote.filter(|first| within(&[*first], remote));
    sa.ke = None;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let keys = sa.keys.as_mut().ok_or(Failure::NoRoom)?;
    let mut message = MessageWriter::protected(env.request, &header, keys.sender.layout())?;
    if let Some(old) = old.filter(|_| !fresh).and_then(|old| env.children.by_id(old)) {
        message.notify(ProtocolId::ESP, &old.spi_in.get().to_be_bytes(), NotifyKind::REKEY_SA, &[])?;
    }
    agreement::write_wishes(&mut message, &config, spi)?;
    let offered = proposal::ask_esp(config.esp, asked(group, narrow));
    message.sa(ProtocolId::ESP, &spi.get().to_be_bytes(), offered)?;
    message.nonce(&nonce)?;
    if let Some(group) = group {
        let secret = &mut sa.ke;
        message.ke_made(group.id(), group.offer_len(), |public| keys::offer(env.crypto, group, public, secret))?;
    }
    message.ts(PayloadType::TS_I, &first_of(first_local, config.local))?;
    message.ts(PayloadType::TS_R, &first_of(first_remote, remote))?;
    let message = message.seal(env.crypto, &mut keys.sender)?;

    if let Some(mut child) = env.children.get_mut(new) {
        child.packet = packet;
        child.phase = Phase::Creating;
    }
    let (crossed, overtaken) = (None, Vec::new());
    let request = ChildRequest { new, old, nonce, group, narrow, fresh, restarts, crossed, overtaken };
    sa.ask(env.now, message, Request::Child(request), &env.settings.retransmission);
    Ok(())
}

/// The peer's answer to our request.
#[inline(never)]
pub(crate) fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: ChildRequest,
    payloads: &Payloads<'_>,
) {
    let (cause, known_to_peer) = match payloads.error() {
        Some(error) => match retry(sa, env, &request, &error) {
            Ok(()) => return,
            Err(cause) => (cause, false),
        },
        None => match complete(sa, env, &request, payloads) {
            Ok(()) => {
                let nonce = payloads.nonce.as_ref().map_or(&[][..], |nonce| nonce.as_slice());
                succession::child_came_up(env, &request, nonce);
                let made = env.children.get(request.new);
                if made.is_some_and(|made| request.overtaken.iter().any(|spi| spi.get() == made.spi_out)) {
                    succession::deleted_by_peer(env, request.new);
                }
                return;
            }
            Err(cause) => (cause, true),
        },
    };
    fail(sa, env, &request, cause, known_to_peer);
}

/// The same again, once more of a few times, when the peer wants another group (INVALID_KE_PAYLOAD) that is one of ours,
/// or none of the proposals with the group we began with; and as a new Child SA when it may refuse because it has lost the
/// one that is to be rekeyed. Else what the error means.
fn retry<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &ChildRequest,
    error: &Notify<'_>,
) -> Result<(), Failure> {
    let ChildRequest { group: before, narrow, fresh, .. } = *request;
    let restarts = request.restarts.saturating_add(1);
    let child = env.children.get(request.new).ok_or(Failure::ClosedHere)?;
    let old = request.old.filter(|old| env.children.by_id(*old).is_some_and(Child::stays));
    if old.is_none() && child.replaces.is_some() {
        // The peer's rekey crossed ours, or the child goes: there is nothing left to ask for.
        return Err(exchange::cause_of(error));
    }
    let offer = match error.kind {
        NotifyKind::NO_PROPOSAL_CHOSEN if narrow => Offer { group: before, narrow: false, fresh, restarts },
        NotifyKind::INVALID_KE_PAYLOAD => {
            let wanted = exchange::wanted_group(error).ok_or(Failure::InvalidSyntax(Side::Here))?;
            let config = env.pad.child_by_id(child.peer, child.config).ok_or(Failure::ClosedHere)?;
            let group = Group::from_id(wanted)
                .filter(|group| Some(*group) != before)
                .filter(|group| lists(config.esp, *group))
                .ok_or(Failure::GroupNotOffered(wanted.0))?;
            Offer { group: Some(group), narrow: true, fresh, restarts }
        }
        kind if request.old.is_some() && !fresh && may_have_lost_it(kind) => {
            Offer { group: before, narrow, fresh: true, restarts }
        }
        _ => return Err(exchange::cause_of(error)),
    };
    if restarts > MAX_RESTARTS {
        return Err(Failure::TooManyRestarts);
    }
    send(sa, env, request.new, old, offer)
}

/// Whether a peer that refuses a rekey may have lost the SA: not every one says CHILD_SA_NOT_FOUND then (§2.25.1), and what
/// it took once it may take again. The others of its reasons speak as much against a new SA.
fn may_have_lost_it(why: NotifyKind) -> bool {
    !matches!(
        why,
        NotifyKind::CHILD_SA_NOT_FOUND
            | NotifyKind::TEMPORARY_FAILURE
            | NotifyKind::NO_ADDITIONAL_SAS
            | NotifyKind::NO_PROPOSAL_CHOSEN
            | NotifyKind::INVALID_KE_PAYLOAD
    )
}

#[inline(never)]
fn complete<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &ChildRequest,
    payloads: &Payloads<'_>,
) -> Result<(), Failure> {
    let child = env.children.get(request.new).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_by_id(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let (Some(answer), Some(nonce)) = (&payloads.sa, &payloads.nonce) else {
        return Err(Failure::InvalidSyntax(Side::Here));
    };
    let chosen = proposal::check_asked(config.esp, answer, asked(request.group, request.narrow));
    let chosen = chosen.map_err(|_| Failure::AnswerNotOffered)?;
    let within = agreement::within_lease(sa.lease, config.remote);
    let config = ChildConfig { remote: within.as_deref().unwrap_or(config.remote), ..config };
    let exchange = match (chosen.suite.group, request.group.zip(sa.ke.as_ref())) {
        (None, _) => None,
        (Some(chosen), Some((group, secret))) if chosen == group => {
            let ke = payloads.ke.filter(|ke| ke.group == group.id()).ok_or(Failure::InvalidSyntax(Side::Here))?;
            Some(Exchange::Finish { secret, theirs: ke.public })
        }
        // The peer chose a group that we did not send a value for.
        (Some(_), _) => return Err(Failure::AnswerNotOffered),
    };
    let nonces = agreement::Nonces { ni: &request.nonce, nr: nonce.as_slice() };
    let ike = sa.keys.as_ref().ok_or(Failure::ClosedHere)?;
    let (child, translated) =
        (env.children.get_mut(request.new).ok_or(Failure::ClosedHere)?, agreement::Translated::of(sa));
    let keys = (ike, exchange, &nonces);
    agreement::take_answer((env.crypto, env.now), child, &config, payloads, &chosen, keys, translated)
}

#[inline(never)]
fn fail<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &ChildRequest,
    cause: Failure,
    known_to_peer: bool,
) {
    let State::Established(established) = &mut sa.state else { return };
    let busy = cause.is_busy();
    let (pause, told) = if busy { exchange::wait(established, env) } else { (env.settings.retry, true) };
    let old = request.old.and_then(|old| env.children.by_id(old));
    let stays = old.is_some_and(Child::stays);
    // The peer took the same proposals before, where no key exchange of the child's own is negotiated (§1.2).
    let without_pfs = old.is_some_and(|old| old.suite.is_some_and(|suite| suite.group.is_none()));
    let cause = if cause == Failure::ProposalsRefused && without_pfs { Failure::PfsRefused } else { cause };
    let lost = request.old.is_some() && cause == Failure::Notified(NotifyKind::CHILD_SA_NOT_FOUND);
    let for_itself = env.children.get(request.new).is_some_and(|new| new.replaces.is_none());
    // Made for the one that it was to replace, and nothing comes of that.
    let is_idle = !(known_to_peer || for_itself || (lost && stays));
    if is_idle {
        env.children.free(request.new);
    } else if let Some(mut new) = env.children.get_mut(request.new) {
        if known_to_peer {
            new.refuse(cause.clone());
        } else if lost {
            // The peer does not have the old one any more: made anew (§2.25.1).
            new.replaces = None;
            new.phase = Phase::WANTED_NOW;
        } else if !told {
            new.phase = Phase::Wanted(env.now + pause);
        } else {
            new.end(cause.clone());
        }
    }
    let Some(id) = request.old.filter(|_| stays) else { return };
    let Some(mut old) = env.children.by_id_mut(id) else { return };
    if lost {
        old.end(Failure::ClosedByPeer);
        drop(old);
        succession::child_deleted(env.children, id, Failure::ClosedByPeer, env.now + env.settings.retry);
    } else if busy {
        old.rekey_later(env.now + pause);
        if told {
            old.rekey_failed(cause);
        }
    } else {
        put_off(&mut old, env.now, pause, cause);
    }
}
