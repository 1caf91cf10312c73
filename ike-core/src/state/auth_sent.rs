//! IKE_AUTH as initiator (RFC 7296 §1.2, §2.15).

use ipsec_core::net::Path;

use crate::agreement;
use crate::auth::{self, Proof, SignedOctets};
use crate::child::{Child, Phase, narrow};
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::Env;
use crate::error::Discard;
use crate::exchange;
use crate::failure::{Failure, Side};
use crate::keys::IkeKeys;
use crate::pad::{ChildConfigId, Connection};
use crate::proposal;
use crate::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Direction, Payloads, Rule, Stage};
use crate::sa::{AuthSent, NONCE_LEN, Sa, State, party};
use crate::wire::header::Header;
use crate::wire::id::ShortId;
use crate::wire::writer::MessageWriter;

/// What IKE_SA_INIT came to.
pub(crate) struct Handshake<'m> {
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) peer_nonce: &'m [u8],
    /// Octets of our IKE_SA_INIT in the request buffer.
    pub(crate) request_len: usize,
    /// Octets of the responder's IKE_SA_INIT in the response buffer.
    pub(crate) answer_len: usize,
    pub(crate) child: Option<ChildConfigId>,
}

/// Sends IKE_AUTH with the first child.
#[inline(never)]
pub(crate) fn begin<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    connection: &Connection<'_>,
    handshake: Handshake<'_>,
) -> Result<(), Failure> {
    let Handshake { nonce, peer_nonce, request_len, answer_len, child } = handshake;
    let peer = sa.peer.ok_or(Failure::ClosedHere)?;
    let config = env.pad.children(peer).find(|config| child.is_none_or(|child| config.id == child));
    let config = config.ok_or(Failure::ClosedHere)?; // it was removed since
    let (slot, spi) = env.children.reserve(env.crypto).ok_or(Failure::NoAdditionalSas(Side::Here))?;
    let alone = env.is_alone(peer);

    // The message it covers makes room for the message it stands in.
    let first = env.request.get(..request_len).ok_or(Failure::NoRoom)?;
    let keys = sa.keys.as_ref().ok_or(Failure::NoRoom)?;
    let signed = SignedOctets { message: &[first], nonce: peer_nonce, id: connection.local_id, sk_p: &keys.sk_pi };
    let proof = Proof::make(env.crypto, keys.suite.prf, connection.auth, &signed)?;

    let header = sa.request_header(ExchangeType::IKE_AUTH).ok_or(Failure::NoRoom)?;
    let mut message = MessageWriter::protected(env.request, &header, keys.sender.layout())?;
    message.id(PayloadType::ID_I, &connection.local_id)?;
    if alone {
        message.notify_parts(NotifyKind::INITIAL_CONTACT, &[])?;
    }
    if let Some(id) = &connection.remote_id {
        message.id(PayloadType::ID_R, id)?;
    }
    proof.write(&mut message)?;
    // No KE transform here: this child uses the keys of the IKE SA (RFC 7296 §1.2).
    message.sa(ProtocolId::ESP, &spi.get().to_be_bytes(), proposal::offer_esp(config.esp, false))?;
    message.ts(PayloadType::TS_I, config.local)?;
    message.ts(PayloadType::TS_R, config.remote)?;
    let keys = sa.keys.as_mut().ok_or(Failure::NoRoom)?;
    let message = message.seal(env.crypto, &mut keys.sender)?;

    let mut new = Child::wanted(env.slot, peer, config.id, spi, env.now);
    new.phase = Phase::Creating;
    env.children.put(slot, new);
    sa.window.request_ready(env.now, message, ExchangeType::IKE_AUTH, &env.settings.retransmission);
    sa.state = State::AuthSent(AuthSent { nonce, answer_len, child: slot });
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
    let rule = Rule::find(header.exchange, Direction::Response, Stage::Keyed).ok_or(Discard::Unexpected)?;
    let (first, inner) = exchange::open(env, &keys.receiver, header, datagram)?;
    // From here on it is the peer's answer; whatever is wrong with it ends the SA.
    match authenticate(sa, env, first, inner, rule) {
        Ok(()) => {
            sa.follow(path);
            Ok(Effects::Nothing)
        }
        Err(Ended { cause, tell_peer }) => {
            if tell_peer {
                refuse(sa, env);
            }
            sa.die(env, cause);
            Ok(Effects::Nothing)
        }
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

#[inline(never)]
fn authenticate<C: IkeCrypto>(
    sa: &mut Sa<C>,
    env: &mut Env<'_, '_, C>,
    first: PayloadType,
    inner: &[u8],
    rule: &Rule,
) -> Result<(), Ended> {
    let State::AuthSent(sent) = &mut sa.state else { return Ok(()) };
    let connection = sa.peer.and_then(|peer| env.pad.connection(peer));
    let connection = connection.ok_or_else(|| ended(Failure::ClosedHere, true))?;
    let payloads = Payloads::collect(first, inner, rule).map_err(|why| ended(exchange::refused(why), true))?;
    let (Some(id), Some(received)) = (&payloads.id_r, &payloads.auth) else {
        let cause = payloads.error().map(|error| exchange::cause_of(&error));
        return Err(match cause.unwrap_or(Failure::InvalidSyntax(Side::Here)) {
            Failure::ProposalsRefused => ended(Failure::ChildProposalsRefused, false),
            cause => ended(cause, false),
        });
    };
    sa.named = Some(ShortId::from(id));
    if connection.remote_id.is_some_and(|expected| !expected.matches(id)) {
        return Err(ended(Failure::WrongIdentity, true));
    }
    let answer = env.response.get(..sent.answer_len).unwrap_or_default();
    let keys = sa.keys.as_ref().ok_or_else(|| ended(Failure::ClosedHere, false))?;
    let signed = SignedOctets { message: &[answer], nonce: &sent.nonce, id: *id, sk_p: &keys.sk_pr };
    if !auth::verify(env.crypto, keys.suite.prf, connection.auth, &signed, received) {
        return Err(ended(Failure::AuthenticationFailed(Side::Here), true));
    }

    sa.party = party(env.crypto, id);
    // The peer is authenticated; what goes wrong with the child leaves the IKE SA alive (RFC 7296 §1.2).
    let slot = sent.child;
    let outcome = first_child(sent, keys, env, &payloads);
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
    sa.establish(env, &connection, true);
    sa.hear_lifetime(env, &payloads);
    Ok(())
}

#[inline(never)]
fn first_child<C: IkeCrypto>(
    sent: &AuthSent,
    keys: &IkeKeys<C>,
    env: &mut Env<'_, '_, C>,
    payloads: &Payloads<'_>,
) -> Result<(), Failure> {
    let child = env.children.get(sent.child).ok_or(Failure::ClosedHere)?;
    let config = env.pad.child_named(child.peer, child.config).ok_or(Failure::ClosedHere)?;
    let (Some(answer), Some(ts_i), Some(ts_r)) = (&payloads.sa, &payloads.ts_i, &payloads.ts_r) else {
        let error = payloads.error();
        return Err(error.map_or(Failure::InvalidSyntax(Side::Here), |error| exchange::cause_of(&error)));
    };
    let chosen = proposal::check_esp(config.esp, answer, false).map_err(|_| Failure::AnswerNotOffered)?;
    let (local, remote) = (narrow(ts_i.selectors(), config.local), narrow(ts_r.selectors(), config.remote));
    agreement::check_answer(ts_i, ts_r, &config)?;
    let peer_nonce = exchange::nonce_of(env.response.get(..sent.answer_len).unwrap_or_default());
    let nonces = agreement::Nonces { ni: &sent.nonce, nr: peer_nonce };
    let mut child = env.children.get_mut(sent.child).ok_or(Failure::ClosedHere)?;
    agreement::make_keys(env.crypto, keys, chosen.suite, None, &nonces, true, &mut child.keys)?;
    let terms =
        agreement::Terms { suite: chosen.suite, spi_out: chosen.spi, local: &local, remote: &remote, ours: true };
    agreement::come_up(&mut child, env.crypto, env.now, &config, terms, None);
    Ok(())
}

/// Tells the responder once that we do not accept it (RFC 7296 §2.21.2); there is no SA to repeat it from.
fn refuse<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) {
    sa.window.answered();
    exchange::say_last(sa, env, |message| message.notify_parts(NotifyKind::AUTHENTICATION_FAILED, &[]));
}
