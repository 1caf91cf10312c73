//! The life of an IKE SA: what arrives, and what is asked next (RFC 7296 §1.3, §1.4, §2.4, §2.21.3, §2.25). The exchanges
//! themselves are in the files beside this one.

use ipsec_core::net::Path;

use super::{child_creating, deleting, rekeying};
use crate::agenda::{self, Task};
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::Env;
use crate::error::Discard;
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::{Direction, Payloads, Refused, Rule, Stage};
use crate::sa::{Request, Sa, State};
use crate::window::Arrival;
use crate::wire::header::Header;

/// A message for an SA in this state.
#[inline(never)]
pub(crate) fn on_message<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    datagram: &mut [u8],
) -> Result<Effects, Discard> {
    let arrival = sa.window.admit(header.message_id);
    let expected = match header.response {
        true => sa.window.answers(header.message_id, header.exchange),
        false => arrival == Arrival::New || (arrival == Arrival::Repeated && sa.window.is_repetition()),
    };
    if !expected {
        return Err(Discard::Window);
    }
    let State::Established(established) = &mut sa.state else { return Err(Discard::Unexpected) };
    if !header.response && arrival == Arrival::Repeated {
        sa.window.respond_again(path);
        env.children.unsettle(env.slot, env.now, env.settings.settle);
        return Ok(Effects::Nothing);
    }
    let keys = sa.keys.as_ref().ok_or(Discard::Unexpected)?;
    let (first, inner) = exchange::open(env, &keys.receiver, header, datagram)?;
    // Only what is authenticated and new shows that the peer lives (RFC 7296 §2.4), and where (§2.23).
    established.liveness.heard = env.now;
    established.liveness.wanted = false;
    established.work = true;
    if !core::mem::replace(&mut established.confirmed, true) {
        env.children.confirm(env.slot);
    }
    if !(header.response && sa.window.has_own_path()) {
        sa.follow(path);
    }
    let rule = Rule::find(header.exchange, Direction::of(header), Stage::Established);
    let payloads = rule.ok_or(Refused::Malformed).and_then(|rule| Payloads::collect(first, inner, rule));
    if header.response {
        let effects = on_response(sa, env, payloads);
        if sa.window.outstanding().is_none() {
            // The exchange that it was for is over; when it is made again, it has another.
            sa.ke = None;
        }
        return Ok(effects);
    }
    env.children.settle(env.slot);
    Ok(on_request(sa, env, path, header, payloads)
        .unwrap_or_else(|refusal| exchange::refuse(sa, env, path, header.exchange, refusal)))
}

#[inline(never)]
fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    header: &Header,
    payloads: Result<Payloads<'_>, Refused>,
) -> Result<Effects, Refusal> {
    let effects = match payloads.map_err(Refusal::of)? {
        payloads if header.exchange == ExchangeType::INFORMATIONAL => deleting::on_request(sa, env, path, &payloads),
        payloads if header.exchange == ExchangeType::CREATE_CHILD_SA && asks_for_ike_sa(&payloads) => {
            rekeying::on_request(sa, env, path, &payloads)
        }
        payloads if header.exchange == ExchangeType::CREATE_CHILD_SA => {
            child_creating::on_request(sa, env, path, &payloads).map(|()| Effects::Nothing)
        }
        // A second IKE_AUTH is nothing that an SA in this state can do anything with.
        _ => Err(Refusal::of(Refused::Malformed)),
    }?;
    if header.exchange == ExchangeType::CREATE_CHILD_SA
        && let State::Established(established) = &mut sa.state
    {
        // Who makes SAs itself has not lost its state, however busy it was with ours.
        established.busy.renew();
    }
    Ok(effects)
}

fn asks_for_ike_sa(payloads: &Payloads<'_>) -> bool {
    let first = payloads.sa.as_ref().and_then(|sa| sa.proposals().next());
    payloads.ts_i.is_none() && first.is_some_and(|proposal| proposal.protocol == ProtocolId::IKE)
}

#[inline(never)]
fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    payloads: Result<Payloads<'_>, Refused>,
) -> Effects {
    sa.window.answered();
    let (payloads, error) = match payloads.map(|payloads| (payloads.error().map(|error| error.kind), payloads)) {
        // What the peer did is not to be known: neither side can go on with this SA.
        Err(why) => {
            exchange::farewell(sa, env);
            return sa.over(exchange::refused(why));
        }
        // Fatal on both sides (RFC 7296 §2.21.3), but not every peer keeps to that.
        Ok((Some(NotifyKind::INVALID_SYNTAX), _)) => {
            exchange::farewell(sa, env);
            return sa.over(Failure::InvalidSyntax(Side::Peer));
        }
        Ok((error, payloads)) => (payloads, error),
    };
    let State::Established(established) = &mut sa.state else { return Effects::Nothing };
    let Some(request) = established.request.take() else { return Effects::Nothing };
    if error != Some(NotifyKind::TEMPORARY_FAILURE) && matches!(request, Request::Child(_) | Request::Rekey(_)) {
        established.busy.renew();
    }
    match request {
        Request::Child(request) => child_creating::on_response(sa, env, request, &payloads),
        Request::Rekey(request) => return rekeying::on_response(sa, env, request, &payloads),
        Request::DeleteChild => deleting::on_child_deleted(env),
        Request::DeleteIke(cause) => sa.die(env, cause),
        Request::Liveness => {}
    }
    Effects::Nothing
}

/// Sends the next request that somebody waits for.
#[inline(never)]
pub(crate) fn pursue<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    while let Some(task) = agenda::next(sa, env) {
        match task {
            Task::DeleteIke(cause) => deleting::send_ike(sa, env, cause),
            Task::RekeyIke => rekeying::send(sa, env),
            Task::DeleteChildren => deleting::send_child(sa, env),
            Task::RekeyChild(slot, old) => child_creating::rekey(sa, env, slot, old),
            Task::CreateChild(slot) => child_creating::create(sa, env, slot),
            Task::Liveness => deleting::send_liveness(sa, env),
        }
        if sa.window.outstanding().is_none() {
            // The request that its key exchange was for could not be written.
            sa.ke = None;
        }
    }
}
