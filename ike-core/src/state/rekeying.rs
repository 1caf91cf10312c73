//! CREATE_CHILD_SA for the IKE SA itself, both roles (RFC 7296 §1.3.2, §2.8, §2.18, §2.25.2).

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::crypto::{Group, IkeCrypto};
use crate::effects::Effects;
use crate::env::Env;
use crate::exchange::{self, Refusal};
use crate::failure::{Failure, Side};
use crate::keys::{self, Exchange, IkeKeys, IkeSeed, Role};
use crate::proposal::{self, ChosenIke};
use crate::registry::{ExchangeType, NotifyKind, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::sa::{Established, Heir, NONCE_LEN, RekeyRequest, Request, Sa, State};
use crate::succession::{self, lowest, successor};
use crate::timers::When;
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

/// How often in a row the peer may ask for another group.
const MAX_REGROUPS: u8 = 3;

/// The peer rekeys.
#[inline(never)]
pub(crate) fn on_request<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    payloads: &Payloads<'_>,
) -> Result<Effects, Refusal> {
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
) -> Result<Effects, Refusal> {
    let State::Established(established) = &sa.state else { return Err(Refusal::busy()) };
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
    let (slot, spi) = env.spare(sa).ok_or_else(full)?;
    let (Some(offered), Some(peer_nonce)) = (&payloads.sa, &payloads.nonce) else {
        return Err(Refusal::of(Refused::Malformed));
    };
    let chosen = proposal::select_ike(connection.ike, offered, true)
        .map_err(|mismatch| Refusal::new(Failure::NoProposalInCommon(mismatch), NotifyKind::NO_PROPOSAL_CHOSEN))?;
    let group = chosen.suite.group;
    let ke = payloads.ke.filter(|ke| ke.group == group.id()).ok_or_else(|| Refusal::group(group))?;
    let state = Established::new(env.crypto, env.now, group, Some(&connection), false);
    let place = env.take(slot).ok_or_else(full)?;
    let new = successor(place, sa, false, (chosen.spi, spi), state);
    let accepted = accept(sa, env, path, &chosen, (peer_nonce.as_slice(), ke.public), new, Heir { slot, spi });
    if accepted.is_err() {
        *place = None;
    }
    accepted
}

/// Makes the keys of the SA that takes over, and answers. `theirs`: the peer's nonce and public value.
#[inline(never)]
fn accept<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    path: Path,
    chosen: &ChosenIke,
    theirs: (&[u8], &[u8]),
    new: &mut Sa<C>,
    made: Heir,
) -> Result<Effects, Refusal> {
    let (peer_nonce, theirs) = theirs;
    let header = sa.response_header(ExchangeType::CREATE_CHILD_SA);
    let group = chosen.suite.group;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let seed = IkeSeed { ni: peer_nonce, nr: &nonce, spi_i: chosen.spi, spi_r: made.spi };
    let this = Heir { slot: env.slot, spi: sa.spi() };
    let old = sa.keys.as_mut().ok_or_else(Refusal::busy)?;
    let mut message = MessageWriter::protected(env.response, &header, old.sender.layout())?;
    message.sa(ProtocolId::IKE, &made.spi.to_be_bytes(), [(chosen.number, chosen.suite.transforms())])?;
    message.nonce(&nonce)?;
    message.ke_made(group.id(), group.answer_len(), |public| {
        let exchange = Exchange::Answer { group, theirs, public };
        let made = IkeKeys::make(env.crypto, Some(old), chosen.suite, exchange, &seed, Role::Responder, &mut new.keys);
        made.map_err(Refusal::from)
    })?;
    let message = message.seal(env.crypto, &mut old.sender)?;

    sa.window.respond(message, path);
    let (State::Established(old), State::Established(new)) = (&mut sa.state, &mut new.state) else {
        return Ok(Effects::Nothing);
    };
    let until = (env.now + env.settings.orphan, env.now + env.settings.undecided());
    Ok(succession::ike_rekeyed_by_peer(old, new, (this, made), lowest(peer_nonce, &nonce), until))
}

/// Rekeys.
#[inline(never)]
pub(crate) fn send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    let Err(cause) = try_send(sa, env) else { return };
    let State::Established(established) = &mut sa.state else { return };
    let (now, retry) = (env.now, env.settings.retry);
    match cause {
        // A block may be free soon.
        Failure::NoRoom if env.cramped => established.rekey = When::At(now + retry),
        cause => {
            established.rekey = When::At(now + established.refused.refused(now, retry));
            sa.report.rekey_failed = Some(cause);
        }
    }
}

fn try_send<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Result<(), Failure> {
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer)).ok_or(Failure::ClosedHere)?;
    let (new, spi) = env.spare(sa).ok_or(Failure::NoAdditionalSas(Side::Here))?;
    let State::Established(established) = &mut sa.state else { return Ok(()) };
    // The connection may have changed since the suite was negotiated.
    let ours = |group: &Group| connection.ike.iter().any(|proposal| proposal.groups().any(|ours| ours == *group));
    let first = connection.ike.first().and_then(|proposal| proposal.groups().next());
    let group = Some(established.rekey_group).filter(ours).or(first).ok_or(Failure::CryptoRefused)?;
    let header = sa.request_header(ExchangeType::CREATE_CHILD_SA).ok_or(Failure::NoRoom)?;
    let keys = sa.keys.as_mut().ok_or(Failure::NoRoom)?;
    let mut nonce = [0; NONCE_LEN];
    env.crypto.random(&mut nonce);
    let mut message = MessageWriter::protected(env.request, &header, keys.sender.layout())?;
    message.sa(ProtocolId::IKE, &spi.to_be_bytes(), proposal::offer_ike(connection.ike))?;
    message.nonce(&nonce)?;
    let secret = &mut sa.ke;
    message.ke_made(group.id(), group.offer_len(), |public| keys::offer(env.crypto, group, public, secret))?;
    let message = message.seal(env.crypto, &mut keys.sender)?;
    let request = Request::Rekey(RekeyRequest { new, spi, nonce, group, crossed: None });
    sa.ask(env.now, message, request, &env.settings.retransmission);
    Ok(())
}

/// The peer's answer to our rekey.
#[inline(never)]
pub(crate) fn on_response<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    request: RekeyRequest,
    payloads: &Payloads<'_>,
) -> Effects {
    let orphan_at = env.now + env.settings.orphan;
    let cause = match payloads.error() {
        Some(error) if error.kind == NotifyKind::INVALID_KE_PAYLOAD => match take_group(sa, env, &request, &error) {
            Ok(()) => return Effects::Nothing,
            Err(cause) => cause,
        },
        Some(error) => exchange::cause_of(&error),
        None => match complete(sa, env, &request, payloads) {
            Ok((new, unwanted)) => {
                let nonce = payloads.nonce.as_ref().map_or(&[][..], |nonce| nonce.as_slice());
                return take_over(sa, new, orphan_at, request, nonce, unwanted);
            }
            Err(cause) => cause,
        },
    };
    let State::Established(established) = &mut sa.state else { return Effects::Nothing };
    if let Some(crossed) = request.crossed {
        // The peer decides which of the two goes. When it keeps the one that cannot be made, that ends the connection.
        return succession::give_way(established, crossed.made, orphan_at);
    }
    if payloads.error().is_none() {
        // The peer made an SA that cannot be made here, and takes the children for moved there: this one cannot go on, and
        // ends as soon as the peer knows. What the peer has goes when the connection is made anew (INITIAL_CONTACT), or is
        // silent.
        established.rekey = When::Never;
        established.leaving.get_or_insert(cause);
    } else {
        refused(sa, env, cause);
    }
    Effects::Nothing
}

/// Our rekey made `new`. `unwanted`: why it goes again at once, with all that it takes over.
fn take_over<C: IkeCrypto>(
    sa: &mut Sa<C>,
    new: &mut Sa<C>,
    orphan_at: Instant,
    request: RekeyRequest,
    nonce: &[u8],
    unwanted: Option<Failure>,
) -> Effects {
    let (State::Established(old), State::Established(new)) = (&mut sa.state, &mut new.state) else {
        return Effects::Nothing;
    };
    new.leaving = unwanted;
    let ours = lowest(&request.nonce, nonce);
    let made = Heir { slot: request.new, spi: request.spi };
    succession::ike_rekeyed_by_us(old, new, made, (ours, request.crossed), orphan_at)
}

/// The peer refused: it is asked again later.
fn refused<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>, cause: Failure) {
    let State::Established(established) = &mut sa.state else { return };
    if cause.is_busy() {
        let (pause, told) = exchange::wait(established, env);
        established.rekey = When::At(env.now + pause);
        sa.report.rekey_failed = told.then_some(cause);
    } else {
        let first = env.settings.retry.saturating_mul(exchange::REFUSED_FACTOR);
        established.rekey = When::At(env.now + established.refused.refused(env.now, first));
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
        .filter(|group| connection.ike.iter().any(|proposal| proposal.groups().any(|ours| ours == *group)))
        .ok_or(Failure::GroupNotOffered(wanted.0))?;
    established.rekey_group = group;
    established.rekey = When::Now;
    Ok(())
}

/// Puts the SA that the peer agreed to into its place, with its keys. The peer has it by now: what is not as it should be is
/// made all the same where it can be, to be deleted for the reason that comes with it.
#[inline(never)]
fn complete<'x, C: IkeCrypto>(
    sa: &Sa<C>,
    env: &mut Env<'x, '_, C>,
    request: &RekeyRequest,
    payloads: &Payloads<'_>,
) -> Result<(&'x mut Sa<C>, Option<Failure>), Failure> {
    let (Some(answer), Some(nonce), Some(ke)) = (&payloads.sa, &payloads.nonce, &payloads.ke) else {
        return Err(Failure::InvalidSyntax(Side::Here));
    };
    // It may have been removed meanwhile, or have other proposals.
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer));
    let chosen = connection.map(|connection| proposal::check_ike(connection.ike, answer, true));
    let (chosen, unwanted) = match chosen {
        Some(Ok(chosen)) => (chosen, None),
        Some(Err(_)) => (proposal::read_ike(answer).ok_or(Failure::AnswerNotOffered)?, Some(Failure::AnswerNotOffered)),
        None => (proposal::read_ike(answer).ok_or(Failure::ClosedHere)?, Some(Failure::ClosedHere)),
    };
    if chosen.suite.group != request.group || ke.group != request.group.id() {
        return Err(Failure::AnswerNotOffered);
    }
    let (old, secret) = sa.keys.as_ref().zip(sa.ke.as_ref()).ok_or(Failure::ClosedHere)?;
    let state = Established::new(env.crypto, env.now, request.group, connection.as_ref(), true);
    let place = env.take(request.new).ok_or(Failure::ClosedHere)?;
    let new = successor(place, sa, true, (request.spi, chosen.spi), state);
    let seed = IkeSeed { ni: &request.nonce, nr: nonce.as_slice(), spi_i: request.spi, spi_r: chosen.spi };
    let exchange = Exchange::Finish { secret, theirs: ke.public };
    let made = IkeKeys::make(env.crypto, Some(old), chosen.suite, exchange, &seed, Role::Initiator, &mut new.keys);
    if let Err(why) = made {
        *place = None;
        return Err(why.into());
    }
    place.as_deref_mut().map(|new| (new, unwanted)).ok_or(Failure::ClosedHere)
}
