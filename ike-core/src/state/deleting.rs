//! INFORMATIONAL: Delete of Child SAs and of the IKE SA, liveness, and SAs that are over (RFC 7296 §1.4, §1.4.1, §2.25).

use heapless::Vec;
use ipsec_core::net::{Path, Spi};

use super::{Effects, Env, Request, Sa, State, established};
use crate::child::Phase;
use crate::crypto::IkeCrypto;
use crate::error::Discard;
use crate::failure::{Failure, Side};
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::Payloads;
use crate::window::Arrival;
use crate::wire::header::Header;

/// Child SAs that one message deletes; what does not fit is deleted by the next one.
const BATCH: usize = 32;

/// A message for an SA that is over: its keys are gone, but the last answer may have been lost.
pub(crate) fn on_message<C: IkeCrypto>(sa: &mut Sa<C>, header: &Header) -> Result<Effects<C>, Discard> {
    if header.response || sa.window.admit(header.message_id) != Arrival::Repeated {
        return Err(Discard::UnknownSa);
    }
    sa.window.send_response = true;
    Ok(Effects::default())
}

/// The peer deletes, or wants a sign of life.
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Effects<C>, Discard> {
    let closes = payloads.deletes().any(|delete| delete.protocol == ProtocolId::IKE);
    // The initiator does not accept us as responder (RFC 7296 §2.21.2).
    let rejects = payloads.notify(NotifyKind::AUTHENTICATION_FAILED).is_some();
    let mut slots = Vec::<u16, BATCH>::new();
    let mut spis = Vec::<Spi, BATCH>::new();
    for spi in payloads.deletes().flat_map(|delete| delete.esp_spis()) {
        let Some(slot) = env.children.by_spi_out(env.slot, spi.get()) else { continue };
        let Some(child) = env.children.get(slot).filter(|_| !slots.contains(&slot)) else { continue };
        // Whose Delete of ours is on its way is not named again (§2.25.1).
        let named = child.phase == Phase::Up;
        if slots.push(slot).is_err() || (named && spis.push(child.spi_in).is_err()) {
            break;
        }
    }
    established::respond(sa, env, path, ExchangeType::INFORMATIONAL, |message| {
        if closes || spis.is_empty() { Ok(()) } else { message.delete_esp(&spis) }
    })?;

    let drain_until = env.now + env.settings.drain;
    for slot in slots {
        let heir = env.children.get_mut(slot).and_then(|child| {
            child.deleted(Failure::ClosedByPeer, drain_until);
            child.replaced_by
        });
        if let Some(heir) = heir.and_then(|heir| env.children.by_id_mut(heir)) {
            heir.send_through();
        }
    }
    if rejects {
        sa.die(env, Failure::AuthenticationFailed(Side::Peer));
    } else if closes {
        return Ok(close(sa));
    }
    Ok(Effects::default())
}

/// The peer closed the IKE SA. When it did so because its rekey crossed ours and stays, the children live on in the SA
/// that its rekey made.
fn close<C: IkeCrypto>(sa: &mut Sa<C>) -> Effects<C> {
    let mut effects = Effects { die: Some(Failure::ClosedByPeer), ..Effects::default() };
    if let State::Established(established) = &mut sa.state
        && let Some(Request::Rekey(request)) = established.request.take()
    {
        effects.release = Some(request.new);
        if let Some(crossed) = request.crossed {
            established.replaced = true;
            effects.heir = Some(crossed.made);
        }
    }
    effects
}

/// Asks the peer to delete every Child SA that has to go.
pub(crate) fn send_child<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    let mut spis = Vec::<Spi, BATCH>::new();
    for (_, child) in env.children.of(env.slot) {
        if child.phase == Phase::Up
            && child.want_delete
            && child.settles_at.is_none()
            && spis.push(child.spi_in).is_ok()
        {
            child.phase = Phase::Deleting;
            child.want_delete = false;
            child.want_rekey = false;
            child.orphan_at = None;
        }
    }
    let sent = established::request(sa, env, ExchangeType::INFORMATIONAL, |message| message.delete_esp(&spis));
    match sent {
        Ok(()) => sa.expect(Request::DeleteChild),
        Err(cause) => sa.die(env, cause),
    }
}

/// The peer confirmed our Delete; it may have named its SPIs or not (§2.25.1).
pub(crate) fn on_child_deleted<C: IkeCrypto>(env: &mut Env<'_, '_, C>) {
    let drain_until = env.now + env.settings.drain;
    for (_, child) in env.children.of(env.slot) {
        if child.phase == Phase::Deleting {
            let cause = child.attempt.take().unwrap_or(Failure::ClosedHere);
            child.deleted(cause, drain_until);
        }
    }
}

/// Asks the peer to delete the IKE SA and all its children.
pub(crate) fn send_ike<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    match established::request(sa, env, ExchangeType::INFORMATIONAL, |message| message.delete_ike()) {
        Ok(()) => sa.expect(Request::DeleteIke),
        Err(cause) => sa.die(env, cause),
    }
}
