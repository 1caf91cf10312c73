//! The life of an IKE SA: what arrives, what falls due, what is asked next (RFC 7296 §1.3, §1.4, §2.4, §2.21.3, §2.25).

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::{Effects, Env, Established, Refusal, Request, Sa, State, child_agreed, child_creating, deleting, rekeying};
use crate::child::{Child, Phase};
use crate::crypto::IkeCrypto;
use crate::error::{Discard, NoRoom};
use crate::event::ChildId;
use crate::failure::{Failure, Side};
use crate::keys::IkeKeys;
use crate::pad::{ChildConfigId, Connection, Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::{Payloads, Refused, Rule};
use crate::window::Arrival;
use crate::wire::header::Header;
use crate::wire::writer::MessageWriter;

impl<C: IkeCrypto> Established<C> {
    pub(crate) fn new(env: &mut Env<'_, '_, C>, keys: IkeKeys<C>, connection: &Connection<'_>, ours: bool) -> Self {
        Self {
            rekey_group: keys.suite.group,
            keys,
            since: env.now,
            heard: env.now,
            request: None,
            want_delete: false,
            want_rekey: false,
            want_liveness: false,
            rekey_at: child_agreed::rekey_at(env.crypto, env.now, connection.rekey, ours),
            replaced: false,
            undecided: false,
            orphan_at: None,
        }
    }

    /// Whether the SA is about to go, or may be: nothing new may begin on it.
    pub(crate) fn closing(&self) -> bool {
        self.want_delete || self.replaced || self.undecided || matches!(self.request, Some(Request::DeleteIke))
    }

    /// When the peer has to show that it lives; `None` while an outstanding request does that.
    pub(crate) fn liveness_at(&self, peer: Option<PeerId>, pad: &dyn Pad) -> Option<Instant> {
        if self.request.is_some() || self.want_liveness || self.closing() {
            return None;
        }
        let dpd = pad.connection(peer?)?.dpd;
        (!dpd.is_zero()).then(|| self.heard + dpd)
    }
}

/// The peer is authenticated.
pub(crate) fn begin<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    keys: IkeKeys<C>,
    connection: &Connection<'_>,
) {
    sa.state = State::Established(Established::new(env, keys, connection, sa.initiator));
    sa.expires = None;
    sa.keep_alive(env.now, env.settings);
    sa.work = true;
}

/// A message for an SA in this state.
pub(crate) fn on_message<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &mut [u8],
) -> Result<Effects<C>, Discard> {
    let arrival = sa.window.admit(header.message_id);
    let expected = match header.response {
        true => sa.window.answers(header.message_id, header.exchange),
        false => arrival != Arrival::Outside,
    };
    if !expected {
        return Err(Discard::Window);
    }
    let State::Established(established) = &mut sa.state else { return Err(Discard::Unexpected) };
    let (first, inner) = established.keys.receiver.open(env.crypto, datagram)?;
    established.heard = env.now;
    established.want_liveness = false;
    sa.work = true;
    if !header.response && arrival == Arrival::Repeated {
        sa.window.send_response = true;
        sa.window.response_path = path;
        return Ok(Effects::default());
    }
    if !header.response {
        env.children.settle(env.slot);
    }
    let rule = Rule::find(header.exchange, header.response, true);
    let payloads = rule.ok_or(Refused::Malformed).and_then(|rule| Payloads::collect(first, inner, rule));
    if header.response {
        sa.follow(path);
        return Ok(on_response(sa, env, payloads));
    }
    let effects = on_request(sa, env, path, header, payloads)?;
    sa.follow(path);
    Ok(effects)
}

fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    payloads: Result<Payloads<'_>, Refused>,
) -> Result<Effects<C>, Discard> {
    match payloads {
        Ok(payloads) if header.exchange == ExchangeType::INFORMATIONAL => {
            deleting::on_request(sa, env, path, &payloads)
        }
        Ok(payloads) if header.exchange == ExchangeType::CREATE_CHILD_SA => {
            if asks_for_ike_sa(&payloads) {
                return rekeying::on_request(sa, env, path, &payloads);
            }
            child_creating::on_request(sa, env, path, &payloads).map(|()| Effects::default())
        }
        // A second IKE_AUTH is nothing that an SA in this state can do anything with.
        Ok(_) => refuse(sa, env, path, header.exchange, &Refusal::of(Refused::Malformed)).map(|()| Effects::default()),
        Err(why) => {
            let refusal = Refusal::of(why);
            refuse(sa, env, path, header.exchange, &refusal)?;
            // INVALID_SYNTAX ends the SA on both sides without a Delete (RFC 7296 §2.21.3).
            if refusal.kind == NotifyKind::INVALID_SYNTAX {
                sa.die(env, refusal.cause);
            }
            Ok(Effects::default())
        }
    }
}

fn asks_for_ike_sa(payloads: &Payloads<'_>) -> bool {
    let first = payloads.sa.as_ref().and_then(|sa| sa.proposals().next());
    payloads.ts_i.is_none() && first.is_some_and(|proposal| proposal.protocol == ProtocolId::IKE)
}

fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: Result<Payloads<'_>, Refused>,
) -> Effects<C> {
    sa.window.answered();
    let State::Established(established) = &mut sa.state else { return Effects::default() };
    let Some(request) = established.request.take() else { return Effects::default() };
    let payloads = match payloads {
        Ok(payloads) => payloads,
        Err(why) => {
            // What the peer did is not to be known: neither side can go on with this SA.
            let release = match request {
                Request::Rekey(rekey) => Some(rekey.new),
                _ => None,
            };
            sa.die(env, super::refused(why));
            return Effects { release, ..Effects::default() };
        }
    };
    if payloads.error().is_some_and(|error| error.kind == NotifyKind::INVALID_SYNTAX) {
        let release = match request {
            Request::Rekey(rekey) => Some(rekey.new),
            _ => None,
        };
        sa.die(env, Failure::InvalidSyntax(Side::Peer));
        return Effects { release, ..Effects::default() };
    }
    match request {
        Request::Child(request) => child_creating::on_response(sa, env, request, &payloads),
        Request::Rekey(request) => return rekeying::on_response(sa, env, request, &payloads),
        Request::DeleteChild => deleting::on_child_deleted(env),
        Request::DeleteIke => sa.die(env, Failure::ClosedHere),
        Request::Liveness => {}
    }
    Effects::default()
}

/// Answers the request we expect next.
pub(crate) fn respond<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    exchange: ExchangeType,
    payloads: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) -> Result<(), Discard> {
    let header = sa.response_header(exchange);
    let State::Established(established) = &mut sa.state else { return Err(Discard::Unexpected) };
    let mut message = MessageWriter::protected(env.response, &header)?;
    payloads(&mut message)?;
    let len = message.seal(env.crypto, &mut established.keys.sender)?;
    sa.window.respond(len, path);
    Ok(())
}

/// Answers the request we expect next with an error.
pub(crate) fn refuse<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    exchange: ExchangeType,
    refusal: &Refusal,
) -> Result<(), Discard> {
    respond(sa, env, path, exchange, |message| refusal.write(message))
}

/// Sends a request whose payloads need nothing but to be written.
pub(crate) fn request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    exchange: ExchangeType,
    payloads: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>,
) -> Result<(), Failure> {
    let header = sa.request_header(exchange).ok_or(Failure::NoRoom)?;
    let State::Established(established) = &mut sa.state else { return Ok(()) };
    let mut message = MessageWriter::protected(env.request, &header)?;
    payloads(&mut message)?;
    let len = message.seal(env.crypto, &mut established.keys.sender)?;
    sa.window.request_ready(env.now, len, exchange, &env.settings.retransmission);
    Ok(())
}

/// What falls due by itself; in every state but a dead one.
pub(crate) fn on_time<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    if matches!(sa.state, State::Dead | State::Reserved) {
        return;
    }
    if let Err(exchange) = sa.window.repeat(env.now, &env.settings.retransmission) {
        sa.die(env, Failure::PeerSilent(exchange));
        return;
    }
    if sa.expires.is_some_and(|at| at <= env.now) {
        sa.die(env, Failure::HalfOpenTimeout);
        return;
    }
    if sa.keepalive_at.is_some_and(|at| at <= env.now) {
        sa.send_keepalive = true;
        sa.keep_alive(env.now, env.settings);
    }
    let peer = sa.peer;
    let State::Established(established) = &mut sa.state else { return };
    let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= env.now).is_some();
    let rekey = due(&mut established.rekey_at);
    let orphan = due(&mut established.orphan_at);
    let liveness = established.liveness_at(peer, env.pad).is_some_and(|at| at <= env.now);
    established.want_rekey |= rekey;
    established.want_delete |= orphan;
    established.want_liveness |= liveness;
    sa.work |= rekey || orphan || liveness;
}

/// What a Child SA waits for.
enum Task {
    Delete,
    Rekey(u16, ChildId),
    Create(u16),
}

/// Sends the next request that somebody waits for. Returns a slot to be kept for a new IKE SA.
pub(crate) fn pursue<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Option<(u16, Sa<C>)> {
    if !sa.work || sa.window.outstanding.is_some() {
        return None;
    }
    let State::Established(established) = &mut sa.state else { return None };
    if established.want_delete {
        deleting::send_ike(sa, env);
        return None;
    }
    let replaced = established.replaced;
    if established.want_rekey && !replaced {
        established.want_rekey = false;
        return rekeying::send(sa, env);
    }
    // Each turn settles one wish; a request that could not be written settles it too.
    while !replaced && sa.window.outstanding.is_none() {
        let Some(task) = next_task(env) else { break };
        match task {
            Task::Delete => deleting::send_child(sa, env),
            Task::Rekey(slot, old) => rekey_child(sa, env, slot, old),
            Task::Create(slot) => {
                if let Err(cause) = child_creating::send(sa, env, slot, None, None)
                    && let Some(child) = env.children.get_mut(slot)
                {
                    child.end(cause);
                }
            }
        }
    }
    let State::Established(established) = &mut sa.state else { return None };
    if sa.window.outstanding.is_none() && core::mem::take(&mut established.want_liveness) {
        match request(sa, env, ExchangeType::INFORMATIONAL, |_| Ok(())) {
            Ok(()) => sa.expect(Request::Liveness),
            Err(cause) => sa.die(env, cause),
        }
    }
    // Whatever is answered or falls due later sets it again.
    sa.work = sa.window.outstanding.is_some();
    None
}

fn next_task<C: IkeCrypto>(env: &mut Env<'_, '_, C>) -> Option<Task> {
    let mut best = None;
    for (slot, child) in env.children.of(env.slot) {
        match &child.phase {
            Phase::Up if child.settles_at.is_some() => {}
            Phase::Up if child.want_delete => return Some(Task::Delete),
            Phase::Up if child.want_rekey => best = Some((slot, true)),
            Phase::Wanted(at) if *at <= env.now && best.is_none() => best = Some((slot, false)),
            _ => {}
        }
    }
    match best? {
        (slot, true) => Some(Task::Rekey(slot, env.children.id(slot)?)),
        (slot, false) => Some(Task::Create(slot)),
    }
}

fn rekey_child<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, slot: u16, old: ChildId) {
    let retry_at = env.now + env.settings.retry;
    let Some(child) = env.children.get_mut(slot) else { return };
    child.want_rekey = false;
    let (peer, config): (PeerId, ChildConfigId) = (child.peer, child.config);
    let Some((new, spi)) = env.children.reserve(env.crypto) else {
        // No room now: some Child SA may be gone soon.
        if let Some(child) = env.children.get_mut(slot) {
            child.rekey_at = Some(retry_at);
        }
        return;
    };
    env.children.put(new, Child::wanted(env.slot, peer, config, spi, env.now));
    if let Err(cause) = child_creating::send(sa, env, new, Some(old), None) {
        env.children.free(new);
        if let Some(child) = env.children.get_mut(slot) {
            child.attempt = Some(cause);
            child.report.attempt_failed = true;
        }
    }
}

impl<C: IkeCrypto> Sa<C> {
    pub(crate) fn expect(&mut self, request: Request<C>) {
        if let State::Established(established) = &mut self.state {
            established.request = Some(request);
        }
    }

    /// Whoever is behind a NAT keeps its mapping alive (RFC 7296 §2.23).
    pub(crate) fn keep_alive(&mut self, now: Instant, settings: &crate::endpoint::Settings) {
        self.keepalive_at = (self.nat.local && !settings.keepalive.is_zero()).then(|| now + settings.keepalive);
    }
}
