//! What both roles of a child negotiation share: terms, keys, and the Child SA that comes of them
//! (RFC 7296 §1.2, §1.3.1, §2.9, §2.17).

use ipsec_core::net::Spi;
use ipsec_core::time::Instant;
use ipsec_core::wipe;

use crate::child::{Child, ChildKeys, Children, Phase, Report, Selectors, Up, narrow, within};
use crate::crypto::{EspSuite, IkeCrypto, Secret, SharedSecret};
use crate::env::Env;
use crate::error::{NoRoom, Unkeyed};
use crate::event::ChildId;
use crate::exchange::Refusal;
use crate::failure::{Asked, Failure, Side};
use crate::keys::{Exchange, IkeKeys, STACK, child_keymat};
use crate::pad::{ChildConfig, ChildConfigId, Pad, PeerId};
use crate::proposal;
use crate::registry::{NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::settings::{Settings, share};
use crate::timers;
use crate::wire::ts::Ts;
use crate::wire::writer::MessageWriter;

/// The nonces of the exchange that makes the Child SA.
pub(crate) struct Nonces<'n> {
    pub(crate) ni: &'n [u8],
    pub(crate) nr: &'n [u8],
}

/// Makes the keys of a Child SA where they stay. `ours`: we began the exchange.
#[inline(never)]
pub(crate) fn make_keys<C: IkeCrypto>(
    crypto: &mut C,
    ike: &IkeKeys<C>,
    suite: EspSuite,
    exchange: Option<Exchange<'_, C>>,
    nonces: &Nonces<'_>,
    ours: bool,
    place: &mut Option<ChildKeys>,
) -> Result<(), Unkeyed> {
    let len = suite.protection.encr_key_len().saturating_add(suite.protection.integ_key_len());
    wipe::after(STACK, || {
        let mut shared = SharedSecret::new();
        let exchanged = exchange.map(|exchange| exchange.agree(crypto, &mut shared)).transpose()?.map(|()| &shared);
        let mut keymat = Secret::<72>::new();
        let room = keymat.resize(len.saturating_mul(2)).ok_or(Unkeyed::NoKey)?;
        child_keymat(crypto, ike.suite.prf, &ike.sk_d, exchanged, nonces.ni, nonces.nr, room)
            .map_err(|NoRoom| Unkeyed::NoKey)?;
        let (from_initiator, from_responder) = keymat.as_slice().split_at_checked(len).ok_or(Unkeyed::NoKey)?;
        let (inbound, outbound) =
            if ours { (from_responder, from_initiator) } else { (from_initiator, from_responder) };
        let keys = Secret::copy_from(inbound).zip(Secret::copy_from(outbound)).ok_or(Unkeyed::NoKey)?;
        *place = Some(ChildKeys { inbound: keys.0, outbound: keys.1 });
        Ok(())
    })
}

/// Whether the responder's selectors are a narrowing of what `config` asked for.
pub(crate) fn check_answer(ts_i: &Ts<'_>, ts_r: &Ts<'_>, config: &ChildConfig<'_>) -> Result<(), Failure> {
    if ts_i.is_empty() || ts_r.is_empty() {
        return Err(Failure::EmptyTrafficSelectors);
    }
    let inside = |ts: &Ts<'_>, ours| ts.unknown() == 0 && ts.selectors().all(|selector| within(&[selector], ours));
    if inside(ts_i, config.local) && inside(ts_r, config.remote) {
        Ok(())
    } else {
        Err(Failure::NoSelectorsInCommon(Asked::of(ts_i, ts_r)))
    }
}

/// What a Child SA comes up with.
pub(crate) struct Terms<'t> {
    pub(crate) suite: EspSuite,
    pub(crate) spi_out: Spi,
    pub(crate) local: &'t Selectors,
    pub(crate) remote: &'t Selectors,
    /// We began the exchange: rekeying it is our turn first.
    pub(crate) ours: bool,
}

/// Fills in what was negotiated, beside the keys. `settles_at`: until then the peer may not know of it.
#[inline(never)]
pub(crate) fn come_up<C: IkeCrypto>(
    child: &mut Child,
    crypto: &mut C,
    now: Instant,
    config: &ChildConfig<'_>,
    terms: Terms<'_>,
    settles_at: Option<Instant>,
) {
    let latest = timers::in_time(config.lifetime);
    child.phase = Phase::Up(Up {
        leaving: None,
        rekey: timers::rekey_at(crypto, now, config.rekey, latest, terms.ours).into(),
        expires_at: (!config.lifetime.is_zero()).then(|| now + config.lifetime),
        settles_at,
    });
    child.since = now;
    child.spi_out = terms.spi_out.get();
    child.suite = Some(terms.suite);
    child.local.clone_from(terms.local);
    child.remote.clone_from(terms.remote);
    child.ours = terms.ours;
    child.report = Report::Up;
}

/// What we agree to when the peer asks for a Child SA.
pub(crate) struct Agreed<'p> {
    pub(crate) config: ChildConfig<'p>,
    pub(crate) slot: u16,
    pub(crate) spi_in: Spi,
    pub(crate) suite: EspSuite,
    pub(crate) number: u8,
    pub(crate) spi_out: Spi,
    pub(crate) local: Selectors,
    pub(crate) remote: Selectors,
}

/// Who asks for a Child SA.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'p> {
    pub(crate) pad: &'p dyn Pad,
    pub(crate) settings: &'p Settings,
    pub(crate) peer: PeerId,
    /// Slot of the IKE SA.
    pub(crate) ike: u16,
}

impl Asker<'_> {
    /// Nobody takes the whole table.
    fn may_have_another(&self, children: &Children<'_>) -> bool {
        // Identities that share a connection are told apart by their IKE SAs.
        let shared = self.pad.connection(self.peer).is_some_and(|connection| connection.remote_id.is_none());
        let own = self.pad.children(self.peer).count().saturating_mul(2);
        let limit = self.settings.children_per_peer.min(share(children.table.len())).max(own);
        let held = match shared {
            true => children.of(self.ike).filter(|(_, child)| child.peer == self.peer).count(),
            false => children.with(self.peer).count(),
        };
        held < limit
    }
}

/// Finds the configured child that fits the request, best one that it fits whole and exactly, and a slot for it. `only`: the
/// request rekeys this one.
#[inline(never)]
pub(crate) fn agree<'p, C: IkeCrypto>(
    crypto: &mut C,
    children: &Children<'_>,
    asker: Asker<'p>,
    only: Option<ChildConfigId>,
    payloads: &Payloads<'_>,
    with_ke: bool,
) -> Result<Agreed<'p>, Refusal> {
    let Asker { pad, peer, .. } = asker;
    let (Some(offered), Some(ts_i), Some(ts_r)) = (&payloads.sa, &payloads.ts_i, &payloads.ts_r) else {
        return Err(Refusal::of(Refused::Missing(PayloadType::TS_I)));
    };
    let mut refusal = Refusal::new(Failure::NoSelectorsInCommon(Asked::of(ts_r, ts_i)), NotifyKind::TS_UNACCEPTABLE);
    let (mut found, mut best) = (None, (false, false));
    for config in pad.children(peer).filter(|config| only.is_none_or(|only| only == config.id)) {
        let (local, remote) = (narrow(ts_r.selectors(), config.local), narrow(ts_i.selectors(), config.remote));
        if local.is_empty() || remote.is_empty() {
            continue;
        }
        match proposal::select_esp(config.esp, offered, with_ke) {
            Err(mismatch) => {
                refusal = Refusal::new(Failure::NoProposalInCommon(mismatch), NotifyKind::NO_PROPOSAL_CHOSEN);
            }
            Ok(chosen) => {
                // What stands first is what the initiator needs most, such as the packet that it has (RFC 7296 §2.9).
                let first = |ts: &Ts<'_>, ours: &[_]| ts.selectors().next().is_some_and(|first| within(&[first], ours));
                let first = first(ts_r, &local) && first(ts_i, &remote);
                let exact = within(config.local, &local) && within(config.remote, &remote);
                if found.is_none() || best < (first, exact) {
                    found = Some((config, chosen, local, remote));
                    best = (first, exact);
                }
                if first && exact {
                    break;
                }
            }
        }
    }
    let (config, chosen, local, remote) = found.ok_or(refusal)?;
    let full = || Refusal::new(Failure::NoAdditionalSas(Side::Here), NotifyKind::NO_ADDITIONAL_SAS);
    if !asker.may_have_another(children) {
        return Err(full());
    }
    let (slot, spi_in) = children.reserve(crypto).ok_or_else(full)?;
    let proposal::ChosenEsp { suite, number, spi: spi_out } = chosen;
    Ok(Agreed { config, slot, spi_in, suite, number, spi_out, local, remote })
}

/// SA, TSi and TSr of our answer; what stands between them in CREATE_CHILD_SA is written by `between`.
pub(crate) fn write_answer(
    message: &mut MessageWriter<'_>,
    agreed: &Agreed<'_>,
    between: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let answer = [(agreed.number, agreed.suite.transforms())];
    message.sa(ProtocolId::ESP, &agreed.spi_in.get().to_be_bytes(), answer)?;
    between(message)?;
    message.ts(PayloadType::TS_I, &agreed.remote)?;
    Ok(message.ts(PayloadType::TS_R, &agreed.local)?)
}

/// Puts the Child SA that the peer asked for on the IKE SA in slot `ike` into its place.
#[inline(never)]
pub(crate) fn place(children: &mut Children<'_>, ike: u16, peer: PeerId, now: Instant, agreed: &Agreed<'_>) {
    children.put(agreed.slot, Child::wanted(ike, peer, agreed.config.id, agreed.spi_in, now));
}

/// Makes its keys there. When there are none, it is gone.
#[inline(never)]
pub(crate) fn key<C: IkeCrypto>(
    crypto: &mut C,
    children: &mut Children<'_>,
    ike: &IkeKeys<C>,
    agreed: &Agreed<'_>,
    exchange: Option<Exchange<'_, C>>,
    nonces: &Nonces<'_>,
) -> Result<(), Refusal> {
    let made = match children.get_mut(agreed.slot) {
        Some(mut child) => make_keys(crypto, ike, agreed.suite, exchange, nonces, false, &mut child.keys),
        None => return Err(Refusal::crypto()),
    };
    if made.is_err() {
        children.free(agreed.slot);
    }
    Ok(made?)
}

/// The Child SA that the peer asked for, and that has its keys, comes up. After a rekey it sends only once the peer shows that
/// it has it, which time alone does not: it uses it or deletes `old` (RFC 7296 §2.8). Our answer may have been lost.
#[inline(never)]
pub(crate) fn install<C: IkeCrypto>(
    env: &mut Env<'_, '_, C>,
    agreed: &Agreed<'_>,
    old: Option<ChildId>,
) -> Option<ChildId> {
    let Agreed { config, slot, suite, spi_out, local, remote, .. } = agreed;
    let (slot, suite, spi_out) = (*slot, *suite, *spi_out);
    let new = env.children.id(slot)?;
    let mut child = env.children.get_mut(slot)?;
    let terms = Terms { suite, spi_out, local, remote, ours: false };
    come_up(&mut child, env.crypto, env.now, config, terms, Some(env.now + env.settings.settle));
    if old.is_some() {
        child.replaces = old;
        child.outbound_ready = false;
    }
    drop(child);
    if let Some(mut old) = old.and_then(|old| env.children.by_id_mut(old)) {
        // Who rekeys it has it, and may have the new one only later.
        old.send_through();
        old.give_way(new, env.now + env.settings.orphan);
    }
    Some(new)
}
