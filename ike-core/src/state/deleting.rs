//! INFORMATIONAL: Delete of Child SAs and of the IKE SA, liveness, and SAs that are over (RFC 7296 §1.4, §1.4.1, §2.25).

use heapless::Vec;
use ipsec_core::net::{Path, Spi};

use crate::child::{Phase, Turn};
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::Env;
use crate::error::{Discard, NoRoom};
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::Payloads;
use crate::sa::{Request, Sa};
use crate::succession;
use crate::timers::When;
use crate::window::Arrival;
use crate::wire::header::Header;
use crate::wire::writer::MessageWriter;

/// Child SAs that one message of ours deletes; what does not fit is deleted by the next one.
const BATCH: usize = 32;
/// Octets of such a message beside the SPIs, at most: IKE header, header of SK, IV, header of the payload, a block of padding, ICV.
const AROUND: usize = 28 + 4 + 16 + 8 + 16 + 32;

/// A message for an SA that is over: its keys are gone, but the last answer may have been lost.
pub(crate) fn on_message<C: IkeCrypto>(sa: &mut Sa<C>, path: Path, header: &Header) -> Result<Effects, Discard> {
    let repeated = sa.window.admit(header.message_id) == Arrival::Repeated && sa.window.is_repetition();
    if header.response || !repeated {
        return Err(Discard::UnknownSa);
    }
    sa.window.respond_again(path);
    Ok(Effects::Nothing)
}

/// The peer deletes, wants a sign of life, or says what it thinks.
#[inline(never)]
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Effects, Refusal> {
    let closes = payloads.deletes().any(|delete| delete.protocol == ProtocolId::IKE);
    // The initiator does not accept us as responder (RFC 7296 §2.21.2).
    let rejects = payloads.notify(NotifyKind::AUTHENTICATION_FAILED).is_some();
    // Who names what it once carried while it closes an IKE SA that was replaced takes nothing from the one that took over.
    let holder = if closes { env.slot } else { env.holder };
    let spis = || payloads.deletes().flat_map(|delete| delete.esp_spis());
    let names = spis().next().is_some();
    spis().for_each(|spi| env.children.each_sending(holder, spi.get(), |child| child.named = true));
    if let Some(request) = sa.child_request() {
        let unknown = |spi: &Spi| env.children.by_spi_out(holder, spi.get()).is_none();
        spis().filter(unknown).for_each(|spi| request.overtake(spi));
    }
    // No room for all: the peer knows which it named (§1.4.1), and is answered in any case.
    let answered = answer(sa, env, path, names && !closes)
        .or_else(|NoRoom| exchange::respond(sa, env, path, ExchangeType::INFORMATIONAL, |_| Ok(())));
    while let Some(slot) = env.children.take_named(holder) {
        succession::deleted_by_peer(env, slot);
    }
    answered?;
    if rejects {
        sa.die(env, Failure::AuthenticationFailed(Side::Peer));
    } else if closes {
        return Ok(sa.over(Failure::ClosedByPeer));
    } else {
        on_invalid_spi(env, payloads);
        sa.hear_lifetime(env, payloads);
    }
    Ok(Effects::Nothing)
}

/// Names our halves of the Child SAs that the peer named. Whose Delete of ours is on its way is not named again (§2.25.1).
fn answer<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, path: Path, names: bool) -> Result<(), NoRoom> {
    let header = sa.response_header(ExchangeType::INFORMATIONAL);
    let keys = sa.keys.as_mut().ok_or(NoRoom)?;
    let in_turn = |turn| env.children.waiting(env.holder, turn).map(|(_, child)| child);
    let named = in_turn(Turn::Succeeded).chain(in_turn(Turn::Named));
    let spis = named.filter(|child| matches!(child.phase, Phase::Up(_))).map(|child| child.spi_in);
    let mut message = MessageWriter::protected(env.response, &header, keys.sender.layout())?;
    if names && spis.clone().next().is_some() {
        message.delete_each_esp(spis)?;
    }
    let message = message.seal(env.crypto, &mut keys.sender)?;
    sa.window.respond(message, path);
    Ok(())
}

/// The peer got packets on a Child SA that it does not know (RFC 7296 §1.5): it has lost it, or never had it. A rekey
/// brings another, or tells that the IKE SA does not know it either.
fn on_invalid_spi<C: IkeCrypto>(env: &mut Env<'_, '_, C>, payloads: &Payloads<'_>) {
    let lost = payloads.notifies().filter(|notify| notify.kind == NotifyKind::INVALID_SPI);
    for spi in lost.filter_map(|notify| notify.data.try_into().ok().map(u32::from_be_bytes)) {
        env.children.each_sending(env.holder, spi, |child| {
            // Its packets may have come before it did.
            let settled = child.stays() && child.since + env.settings.settle <= env.now;
            child.up_mut().into_iter().filter(|_| settled).for_each(|up| up.rekey = When::Now);
        });
    }
}

/// Asks the peer to delete every Child SA that has to go.
#[inline(never)]
pub(crate) fn send_child<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    let mut spis = Vec::<Spi, BATCH>::new();
    // Without a block there is less room.
    let most = env.request.len().saturating_sub(AROUND).div_euclid(4).max(1);
    while spis.len() < most
        && let Some(slot) = env.children.next(env.slot, Turn::Leaving)
        && let Some(mut child) = env.children.get_mut(slot)
    {
        let spi = child.spi_in;
        match child.up_mut().and_then(|up| up.leaving.take_if(|_| spis.push(spi).is_ok())) {
            Some(why) => child.phase = Phase::Deleting(why),
            None => break,
        }
    }
    if let Err(cause) = exchange::request(sa, env, Request::DeleteChild, |message| message.delete_esp(&spis)) {
        exchange::part(sa, env, cause);
    }
}

/// The peer confirmed our Delete; it may have named its SPIs or not (§2.25.1).
#[inline(never)]
pub(crate) fn on_child_deleted<C: IkeCrypto>(env: &mut Env<'_, '_, C>) {
    // Who is deleted waits no more.
    while let Some(slot) = env.children.next(env.slot, Turn::Deleting) {
        let gone = env.children.id(slot);
        // We deleted what the peer should have: nothing is left but the one that it replaced that with. What only crossed ours
        // it may not have yet.
        if let Some(mut heir) = succession::deleted(env, slot).and_then(|heir| env.children.by_id_mut(heir))
            && heir.replaces == gone
        {
            heir.send_through();
        }
    }
}

/// Asks the peer to delete the IKE SA and all its children.
#[inline(never)]
pub(crate) fn send_ike<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, why: Failure) {
    if let Err(cause) = exchange::request(sa, env, Request::DeleteIke(why), |message| message.delete_ike()) {
        sa.die(env, cause);
    }
}

/// Asks for a sign of life: an empty request (RFC 7296 §2.4).
#[inline(never)]
pub(crate) fn send_liveness<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    if let Err(cause) = exchange::request(sa, env, Request::Liveness, |_| Ok(())) {
        exchange::part(sa, env, cause);
    }
}
