//! CREATE_CHILD_SA for the IKE SA itself, both roles (RFC 7296 §1.3.2, §2.8, §2.18, §2.25.2).

use ipsec_core::net::Path;
use ipsec_core::wipe;

use crate::crypto::{Group, IkeCrypto, IkeSuite, KePublic, SharedSecret};
use crate::error::NoKey;
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::keys::{IkeKeys, IkeSeed, Role, STACK};
use crate::proposal;
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::sa::{Effects, Env, Established, Heir, NONCE_LEN, RekeyRequest, Request, Sa, State};
use crate::succession::{self, lowest, successor};
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

/// How often in a row the peer may ask for another group.
const MAX_REGROUPS: u8 = 3;
/// How much longer than after TEMPORARY_FAILURE to wait after a rekey that the peer refused for good.
const REFUSED_FACTOR: u32 = 15;

/// The peer rekeys.
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Effects<C>, Refusal> {
    let consent = consent(sa, env, path, payloads);
    if let Err(refusal) = &consent
        && !refusal.is_normal()
    {
        sa.report.rekey_failed = Some(refusal.cause.clone());
    }
    consent
}

fn consent<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Effects<C>, Refusal> {
    let header = sa.response_header(ExchangeType::CREATE_CHILD_SA);
    let State::Established(established) = &mut sa.state else { return Err(Refusal::busy()) };
    let child_at_work = matches!(established.request, Some(Request::Child(_) | Request::DeleteChild));
    if established.closing() || child_at_work {
        return Err(Refusal::busy());
    }
    // Without a connection: it was removed, and its SAs are about to be closed.
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or_else(Refusal::busy)?;
    if matches!(&established.request, Some(Request::Rekey(request)) if request.crossed.is_some()) {
        return Err(Refusal::busy());
    }
    let full = || Refusal::new(Failure::NoAdditionalSas(Side::Here), NotifyKind::NO_ADDITIONAL_SAS);
    let (slot, spi) = env.spare.ok_or_else(full)?;
    let (Some(offered), Some(peer_nonce)) = (&payloads.sa, &payloads.nonce) else {
        return Err(Refusal::of(Refused::Malformed));
    };
    let chosen = proposal::select_ike(connection.ike, offered, true)
        .map_err(|mismatch| Refusal::new(Failure::NoProposalInCommon(mismatch), NotifyKind::NO_PROPOSAL_CHOSEN))?;
    let group = chosen.suite.group;
    let ke = payloads.ke.filter(|ke| ke.group == group.id()).ok_or_else(|| Refusal::group(group))?;
    let mut public = KePublic::new();
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let seed = IkeSeed { ni: peer_nonce.as_slice(), nr: &nonce, spi_i: chosen.spi, spi_r: spi };
    let old = sa.keys.as_mut().ok_or_else(Refusal::busy)?;
    let mut effects = Effects::default();
    let exchanged = exchange_keys(env.crypto, old, chosen.suite, ke.public, &seed, &mut public, &mut effects.keys);
    wipe::stack(STACK);
    exchanged?;
    let mut message = MessageWriter::protected(env.response, &header)?;
    message.sa(ProtocolId::IKE, &spi.to_be_bytes(), [(chosen.number, chosen.suite.transforms())])?;
    message.nonce(&nonce)?;
    message.ke(group.id(), &public)?;
    let message = message.seal(env.crypto, &mut old.sender)?;

    sa.window.respond(message, path);
    let mut state = Established::new(env, group, &connection, false);
    let made = Heir { slot, spi };
    let lowest = lowest(peer_nonce.as_slice(), &nonce);
    let orphan_at = env.now + env.settings.orphan;
    succession::ike_rekeyed_by_peer(established, &mut state, &mut effects, made, lowest, orphan_at);
    effects.place = Some((slot, successor(sa, false, (chosen.spi, spi), state)));
    Ok(effects)
}

/// Our half of the key exchange, and the keys that come of both.
#[inline(never)]
fn exchange_keys<C: IkeCrypto>(
    crypto: &mut C,
    old: &IkeKeys<C>,
    suite: IkeSuite,
    theirs: &[u8],
    seed: &IkeSeed<'_>,
    public: &mut KePublic,
    keys: &mut Option<IkeKeys<C>>,
) -> Result<(), Refusal> {
    let mut shared = SharedSecret::new();
    let secret = crypto.ke_generate(suite.group, public).ok_or_else(Refusal::crypto)?;
    let bad = |_| Refusal::new(Failure::BadKeyExchange, NotifyKind::INVALID_SYNTAX);
    crypto.ke_agree(&secret, theirs, &mut shared).map_err(bad)?;
    derive(crypto, old, suite, &shared, seed, Role::Responder, keys).map_err(|_| Refusal::crypto())
}

/// The keys of the new SA. Nobody proves who it is with them.
fn derive<C: IkeCrypto>(
    crypto: &mut C,
    old: &IkeKeys<C>,
    suite: IkeSuite,
    shared: &SharedSecret,
    seed: &IkeSeed<'_>,
    role: Role,
    keys: &mut Option<IkeKeys<C>>,
) -> Result<(), NoKey> {
    let made = IkeKeys::derive_rekey(crypto, suite, old.suite.prf, &old.sk_d, shared, seed, role)?;
    keys.insert(made).forget_auth();
    Ok(())
}

/// Rekeys.
pub(crate) fn send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    if let Err(cause) = try_send(sa, env) {
        if let State::Established(established) = &mut sa.state {
            established.rekey_at = Some(env.now + established.refused.refused(env.now, env.settings.retry));
        }
        sa.report.rekey_failed = Some(cause);
    }
}

fn try_send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Result<(), Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::Established(established) = &mut sa.state else { return Ok(()) };
    let (new, spi) = env.spare.ok_or(Failure::NoAdditionalSas(Side::Here))?;
    // The connection may have changed since the suite was negotiated.
    let ours = |group: &Group| connection.ike.iter().any(|proposal| proposal.group.contains(group));
    let first = connection.ike.first().and_then(|proposal| proposal.group.first().copied());
    let group = Some(established.rekey_group).filter(ours).or(first).ok_or(Failure::CryptoRefused)?;
    let mut public = KePublic::new();
    sa.begin_key_exchange(env.crypto, group, &mut public)?;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    exchange::request(sa, env, ExchangeType::CREATE_CHILD_SA, |message| {
        message.sa(ProtocolId::IKE, &spi.to_be_bytes(), proposal::offer_ike(connection.ike))?;
        message.nonce(&nonce)?;
        message.ke(group.id(), &public)
    })?;
    sa.expect(Request::Rekey(RekeyRequest { new, spi, nonce, group, crossed: None }));
    Ok(())
}

/// The peer's answer to our rekey.
pub(crate) fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: RekeyRequest,
    payloads: &Payloads<'_>,
) -> Effects<C> {
    let mut effects = Effects::default();
    let completed = match payloads.error() {
        Some(error) if error.kind == NotifyKind::INVALID_KE_PAYLOAD => match take_group(sa, env, &request, &error) {
            Ok(()) => return effects,
            Err(cause) => Err(cause),
        },
        Some(error) => Err(exchange::cause_of(&error)),
        None => {
            let spi_r = complete(sa, env, &request, payloads, &mut effects.keys);
            wipe::stack(STACK);
            let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere);
            spi_r.and_then(|spi_r| Ok((Established::new(env, request.group, &connection?, true), spi_r)))
        }
    };
    match completed {
        Ok((mut state, spi_r)) => {
            let State::Established(established) = &mut sa.state else { return effects };
            let ours = lowest(&request.nonce, payloads.nonce.as_ref().map_or(&[][..], |nonce| nonce.as_slice()));
            let made = Heir { slot: request.new, spi: request.spi };
            let crossed = (ours, request.crossed);
            let orphan_at = env.now + env.settings.orphan;
            succession::ike_rekeyed_by_us(established, &mut state, &mut effects, made, crossed, orphan_at);
            effects.place = Some((request.new, successor(sa, true, (request.spi, spi_r), state)));
        }
        Err(cause) => fail(sa, env, &mut effects, request, cause),
    }
    effects
}

fn fail<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    effects: &mut Effects<C>,
    request: RekeyRequest,
    cause: Failure,
) {
    let State::Established(established) = &mut sa.state else { return };
    if let Some(crossed) = request.crossed {
        succession::give_way(established, effects, crossed.made, env.now + env.settings.orphan);
    } else if cause == Failure::Notified(NotifyKind::TEMPORARY_FAILURE) {
        established.rekey_at = Some(env.now + exchange::wait(established, env.now, env.settings));
    } else {
        let first = env.settings.retry.saturating_mul(REFUSED_FACTOR);
        established.rekey_at = Some(env.now + established.refused.refused(env.now, first));
        sa.report.rekey_failed = Some(cause);
    }
}

/// The peer wants another group: begins anew with it, a few times, when it is one of ours.
fn take_group<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &Env<'_, '_, C>,
    request: &RekeyRequest,
    error: &Notify<'_>,
) -> Result<(), Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let State::Established(established) = &mut sa.state else { return Err(Failure::ClosedHere) };
    let wanted = exchange::wanted_group(error).ok_or(Failure::InvalidSyntax(Side::Here))?;
    established.regroups = established.regroups.saturating_add(1);
    // After a rekey of the peer that crossed ours nothing is to be begun anew.
    if request.crossed.is_some() || established.regroups > MAX_REGROUPS {
        established.regroups = 0;
        return Err(Failure::TooManyRestarts);
    }
    let group = Group::from_id(wanted)
        .filter(|group| *group != request.group)
        .filter(|group| connection.ike.iter().any(|proposal| proposal.group.contains(group)))
        .ok_or(Failure::GroupNotOffered(wanted.0))?;
    established.rekey_group = group;
    established.want_rekey = true;
    Ok(())
}

/// Makes the new keys; returns the peer's SPI.
#[inline(never)]
fn complete<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: &RekeyRequest,
    payloads: &Payloads<'_>,
    keys: &mut Option<IkeKeys<C>>,
) -> Result<u64, Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let (Some(answer), Some(nonce), Some(ke)) = (&payloads.sa, &payloads.nonce, &payloads.ke) else {
        return Err(Failure::InvalidSyntax(Side::Here));
    };
    let chosen = proposal::check_ike(connection.ike, answer, true).map_err(|_| Failure::AnswerNotOffered)?;
    if chosen.suite.group != request.group || ke.group != request.group.id() {
        return Err(Failure::AnswerNotOffered);
    }
    let secret = sa.ke.as_ref().ok_or(Failure::CryptoRefused)?;
    let mut shared = SharedSecret::new();
    env.crypto.ke_agree(secret, ke.public, &mut shared).map_err(|_| Failure::BadKeyExchange)?;
    let seed = IkeSeed { ni: &request.nonce, nr: nonce.as_slice(), spi_i: request.spi, spi_r: chosen.spi };
    let old = sa.keys.as_ref().ok_or(Failure::ClosedHere)?;
    derive(env.crypto, old, chosen.suite, &shared, &seed, Role::Initiator, keys).map_err(|_| Failure::CryptoRefused)?;
    Ok(chosen.spi)
}
