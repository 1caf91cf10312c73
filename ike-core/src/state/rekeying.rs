//! CREATE_CHILD_SA for the IKE SA itself, both roles (RFC 7296 §1.3.2, §2.8, §2.18, §2.25.2).

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::lowest;
use super::{
    Crossed, Effects, Env, Established, Heir, NONCE_LEN, Refusal, RekeyRequest, Request, Sa, State, established,
};
use crate::crypto::{Group, IkeCrypto, KePublic, SharedSecret};
use crate::error::Discard;
use crate::failure::{Failure, Side};
use crate::keys::{IkeKeys, IkeSeed, Role};
use crate::proposal;
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::wire::writer::MessageWriter;

/// How much longer than after TEMPORARY_FAILURE to wait after a rekey that the peer refused for good.
const REFUSED_FACTOR: u32 = 15;

/// A new SA on the same path with the same peer, in place of `sa`.
fn successor<C: IkeCrypto>(sa: &Sa<C>, initiator: bool, spi_i: u64, spi_r: u64, state: Established<C>) -> Sa<C> {
    Sa {
        peer: sa.peer,
        identity: sa.identity,
        nat: sa.nat,
        encap: sa.encap,
        keepalive_at: sa.keepalive_at,
        work: true,
        ..Sa::new(initiator, spi_i, spi_r, sa.path, State::Established(state))
    }
}

/// The peer rekeys.
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Effects<C>, Discard> {
    match consent(sa, env, path, payloads)? {
        Ok(effects) => Ok(effects),
        Err(refusal) => {
            established::refuse(sa, env, path, ExchangeType::CREATE_CHILD_SA, &refusal)?;
            Ok(Effects::default())
        }
    }
}

fn consent<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Result<Effects<C>, Refusal>, Discard> {
    let header = sa.response_header(ExchangeType::CREATE_CHILD_SA);
    let State::Established(established) = &mut sa.state else { return Err(Discard::Unexpected) };
    let child_at_work = matches!(established.request, Some(Request::Child(_) | Request::DeleteChild));
    if established.closing() || child_at_work {
        return Ok(Err(Refusal::busy()));
    }
    let crosses_twice = matches!(&established.request, Some(Request::Rekey(request)) if request.crossed.is_some());
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer));
    let (Some(connection), Some((slot, spi)), false) = (connection, env.spare, crosses_twice) else {
        return Ok(Err(Refusal::busy()));
    };
    let (Some(offered), Some(peer_nonce)) = (&payloads.sa, &payloads.nonce) else {
        return Ok(Err(Refusal::of(Refused::Malformed)));
    };
    let chosen = match proposal::select_ike(connection.ike, offered, true) {
        Ok(chosen) => chosen,
        Err(mismatch) => {
            let cause = Failure::NoProposalInCommon(mismatch);
            return Ok(Err(Refusal::new(cause, NotifyKind::NO_PROPOSAL_CHOSEN)));
        }
    };
    let group = chosen.suite.group;
    let Some(ke) = payloads.ke.filter(|ke| ke.group == group.id()) else {
        return Ok(Err(Refusal::group(group)));
    };
    let mut public = KePublic::new();
    let mut shared = SharedSecret::new();
    let secret = env.crypto.ke_generate(group, &mut public).ok_or(Discard::NoRoom)?;
    if env.crypto.ke_agree(secret, ke.public, &mut shared).is_err() {
        return Ok(Err(Refusal::new(Failure::BadKeyExchange, NotifyKind::INVALID_SYNTAX)));
    }
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let seed = IkeSeed { ni: peer_nonce.as_slice(), nr: &nonce, spi_i: chosen.spi, spi_r: spi };
    let old = &established.keys;
    let keys =
        IkeKeys::derive_rekey(env.crypto, chosen.suite, old.suite.prf, &old.sk_d, &shared, &seed, Role::Responder)
            .map_err(|_| Discard::NoRoom)?;
    let mut message = MessageWriter::protected(env.response, &header)?;
    message.sa(ProtocolId::IKE, &spi.to_be_bytes(), [(chosen.number, chosen.suite.transforms())])?;
    message.nonce(&nonce)?;
    message.ke(group.id(), &public)?;
    let len = message.seal(env.crypto, &mut established.keys.sender)?;

    sa.window.respond(len, path);
    let mut effects = Effects::default();
    let mut state = Established::new(env, keys, &connection, false);
    let made = Heir { slot, spi };
    match &mut established.request {
        // Which of the two SAs stays is known when our answer comes.
        Some(Request::Rekey(request)) => {
            state.undecided = true;
            // Should the old SA end before that, nobody will know what this one is for.
            state.orphan_at = Some(env.now + env.settings.orphan);
            request.crossed = Some(Crossed { made, lowest: lowest(peer_nonce.as_slice(), &nonce) });
        }
        _ => give_way(established, env, &mut effects, made),
    }
    effects.place = Some((slot, successor(sa, false, chosen.spi, spi, state)));
    Ok(Ok(effects))
}

/// Rekeys. Returns the slot to be kept for the new SA.
pub(crate) fn send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Option<(u16, Sa<C>)> {
    let retry_at = Some(env.now + env.settings.retry);
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer))?;
    let State::Established(established) = &mut sa.state else { return None };
    let Some((new, spi)) = env.spare else {
        established.rekey_at = retry_at;
        return None;
    };
    // The connection may have changed since the suite was negotiated.
    let ours = |group: &Group| connection.ike.iter().any(|proposal| proposal.group.contains(group));
    let first = connection.ike.first().and_then(|proposal| proposal.group.first().copied());
    let group = Some(established.rekey_group).filter(ours).or(first)?;
    let mut public = KePublic::new();
    let ke = env.crypto.ke_generate(group, &mut public)?;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let sent = established::request(sa, env, ExchangeType::CREATE_CHILD_SA, |message| {
        message.sa(ProtocolId::IKE, &spi.to_be_bytes(), proposal::offer_ike(connection.ike))?;
        message.nonce(&nonce)?;
        message.ke(group.id(), &public)
    });
    if let Err(cause) = sent {
        sa.die(env, cause);
        return None;
    }
    sa.expect(Request::Rekey(RekeyRequest { new, spi, nonce, group, ke: Some(ke), crossed: None }));
    let reserved = Sa { peer: sa.peer, ..Sa::new(true, spi, 0, sa.path, State::Reserved) };
    Some((new, reserved))
}

/// The peer's answer to our rekey.
pub(crate) fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    mut request: RekeyRequest<C>,
    payloads: &Payloads<'_>,
) -> Effects<C> {
    let completed = match payloads.error() {
        Some(error) => {
            if error.kind == NotifyKind::INVALID_KE_PAYLOAD {
                take_group(sa, env, &request, super::wanted_group(&error).and_then(Group::from_id));
            }
            Err(super::cause_of(&error))
        }
        None => complete(sa, env, &mut request, payloads),
    };
    let State::Established(established) = &mut sa.state else { return Effects::default() };
    let mut effects = Effects::default();
    let new = match completed {
        Ok(new) => new,
        Err(cause) => {
            effects.release = Some(request.new);
            match request.crossed {
                Some(crossed) => give_way(established, env, &mut effects, crossed.made),
                None => {
                    let busy = cause == Failure::Notified(NotifyKind::TEMPORARY_FAILURE);
                    let retry = env.settings.retry;
                    let pause = if busy { retry } else { retry.saturating_mul(REFUSED_FACTOR) };
                    // A change of group was set off already.
                    if !established.want_rekey {
                        established.rekey_at = Some(env.now + pause);
                    }
                }
            }
            return effects;
        }
    };
    let ours = lowest(&request.nonce, payloads.nonce.as_ref().map_or(&[][..], |nonce| nonce.as_slice()));
    let mut new = new;
    match request.crossed {
        // The SA with the lowest nonce goes; whoever made it deletes it, the other side deletes the old one (§2.8.1).
        Some(crossed) if ours < crossed.lowest => {
            if let State::Established(redundant) = &mut new.state {
                redundant.replaced = true;
                redundant.want_delete = true;
            }
            give_way(established, env, &mut effects, crossed.made);
        }
        crossed => {
            effects.orphan = crossed.map(|crossed| crossed.made);
            effects.heir = Some(Heir { slot: request.new, spi: request.spi });
            established.replaced = true;
            established.want_delete = true;
            established.rekey_at = None;
        }
    }
    effects.place = Some((request.new, new));
    effects
}

/// The SA that the peer's rekey made takes over; the peer deletes this one.
fn give_way<C: IkeCrypto>(
    established: &mut Established<C>,
    env: &Env<'_, '_, C>,
    effects: &mut Effects<C>,
    heir: Heir,
) {
    established.replaced = true;
    established.orphan_at = Some(env.now + env.settings.orphan);
    established.rekey_at = None;
    effects.heir = Some(heir);
}

fn take_group<C: IkeCrypto>(sa: &mut Sa<C>, env: &Env<'_, '_, C>, request: &RekeyRequest<C>, wanted: Option<Group>) {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer));
    let State::Established(established) = &mut sa.state else { return };
    let ours = |group: &Group| {
        connection.is_some_and(|connection| connection.ike.iter().any(|proposal| proposal.group.contains(group)))
    };
    if let Some(group) = wanted.filter(|group| *group != request.group).filter(ours) {
        established.rekey_group = group;
        established.want_rekey = true;
    }
}

fn complete<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &mut RekeyRequest<C>,
    payloads: &Payloads<'_>,
) -> Result<Sa<C>, Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::Established(established) = &mut sa.state else { return Err(Failure::ClosedHere) };
    let (Some(answer), Some(nonce), Some(ke)) = (&payloads.sa, &payloads.nonce, &payloads.ke) else {
        return Err(Failure::InvalidSyntax(Side::Here));
    };
    let chosen = proposal::check_ike(connection.ike, answer, true).map_err(|_| Failure::AnswerNotOffered)?;
    if chosen.suite.group != request.group || ke.group != request.group.id() {
        return Err(Failure::AnswerNotOffered);
    }
    let secret = request.ke.take().ok_or(Failure::CryptoRefused)?;
    let mut shared = SharedSecret::new();
    env.crypto.ke_agree(secret, ke.public, &mut shared).map_err(|_| Failure::BadKeyExchange)?;
    let seed = IkeSeed { ni: &request.nonce, nr: nonce.as_slice(), spi_i: request.spi, spi_r: chosen.spi };
    let old = &established.keys;
    let keys =
        IkeKeys::derive_rekey(env.crypto, chosen.suite, old.suite.prf, &old.sk_d, &shared, &seed, Role::Initiator)
            .map_err(|_| Failure::CryptoRefused)?;
    let state = Established::new(env, keys, &connection, true);
    Ok(successor(sa, true, request.spi, chosen.spi, state))
}

/// This SA lost against a crossing rekey: it goes, by the peer's Delete or else by ours.
pub(crate) fn orphan<C: IkeCrypto>(sa: &mut Sa<C>, at: Instant) {
    if let State::Established(established) = &mut sa.state {
        established.replaced = true;
        established.rekey_at = None;
        established.orphan_at = Some(at);
    }
}
