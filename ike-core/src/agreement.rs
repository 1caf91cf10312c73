//! What both roles of a child negotiation share: terms, keys, and the Child SA that comes of them
//! (RFC 7296 §1.2, §1.3.1, §2.9, §2.17).

use core::ops::DerefMut;

use ipsec_core::net::{Cpi, Spi, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;
use ipsec_core::wipe;

use crate::auth::ask::Lease;
use crate::child::{Child, ChildKeys, Children, Phase, Report, Selectors, Untold, Up, narrow, within};
use crate::crypto::{EspSuite, IkeCrypto, SharedSecret};
use crate::env::Env;
use crate::error::{NoRoom, Unkeyed};
use crate::event::ChildId;
use crate::exchange::Refusal;
use crate::failure::{Asked, Failure, Side};
use crate::keys::{Exchange, IkeKeys, STACK, child_keymat};
use crate::pad::{ChildConfig, ChildConfigId, Pad, PeerId};
use crate::proposal::{self, ChosenEsp};
use crate::registry::{NotifyKind, PayloadType, ProtocolId};
use crate::rules::{Payloads, Refused};
use crate::sa::Sa;
use crate::settings::{Settings, share};
use crate::timers;
use crate::wire::ts::Ts;
use crate::wire::writer::MessageWriter;

pub(crate) mod compressed;
#[cfg(all(test, feature = "rustcrypto"))]
mod tests;
mod translated;

use translated::Renamed;
pub(crate) use translated::Translated;

/// The nonces of the exchange that makes the Child SA.
pub(crate) struct Nonces<'n> {
    pub(crate) ni: &'n [u8],
    pub(crate) nr: &'n [u8],
}

/// Makes the keys of a Child SA where they stay. `ours`: we began the exchange.
#[inline(never)]
fn make_keys<C: IkeCrypto>(
    crypto: &mut C,
    ike: &IkeKeys<C>,
    suite: EspSuite,
    exchange: Option<Exchange<'_, C>>,
    nonces: &Nonces<'_>,
    ours: bool,
    place: &mut Untold,
) -> Result<(), Unkeyed> {
    let len = suite.protection.encr_key_len().saturating_add(suite.protection.integ_key_len());
    let made = wipe::after(STACK, || {
        let mut shared = SharedSecret::new();
        let exchanged = exchange.map(|exchange| exchange.agree(crypto, &mut shared)).transpose()?.map(|()| &shared);
        let room = ChildKeys::make(place, len, ours).ok_or(Unkeyed::NoKey)?;
        child_keymat(crypto, ike.suite.prf, &ike.sk_d, exchanged, nonces.ni, nonces.nr, room)
            .map_err(|NoRoom| Unkeyed::NoKey)
    });
    if made.is_err() {
        place.wipe_keys();
    }
    made
}

/// What an answer leaves of what `config` asked for: our side and the peer's.
fn narrowed(
    (ts_i, ts_r): (&Ts<'_>, &Ts<'_>),
    config: &ChildConfig<'_>,
    Translated { local, remote }: Translated,
) -> Result<(Selectors, Selectors), Failure> {
    if ts_i.is_empty() || ts_r.is_empty() {
        return Err(Failure::EmptyTrafficSelectors);
    }
    let side = |ts: &Ts<'_>, ours, known| {
        let renamed = Renamed::of(ts, known);
        let selectors = || ts.selectors().map(|selector| Renamed::to_ours(renamed, selector));
        let inside = ts.unknown() == 0 && selectors().all(|selector| within(&[selector], ours));
        inside.then(|| narrow(selectors(), ours))
    };
    let sides = side(ts_i, config.local, local).zip(side(ts_r, config.remote, remote));
    sides.ok_or_else(|| Failure::NoSelectorsInCommon(Asked::of(ts_i, ts_r)))
}

/// The mode that a request asks for, or an answer agrees to (RFC 7296 §1.3.1).
fn mode_of(payloads: &Payloads<'_>) -> Mode {
    match payloads.notify(NotifyKind::USE_TRANSPORT_MODE) {
        Some(_) => Mode::Transport,
        None => Mode::Tunnel,
    }
}

/// Asks for what a Child SA is to have beside its algorithms and selectors.
pub(crate) fn write_wishes(
    message: &mut MessageWriter<'_>,
    config: &ChildConfig<'_>,
    spi_in: Spi,
) -> Result<(), NoRoom> {
    write_mode(message, config.modes.wanted())?;
    if config.compress { compressed::write(message, spi_in) } else { Ok(()) }
}

/// Asks for a mode, or agrees to it.
fn write_mode(message: &mut MessageWriter<'_>, mode: Mode) -> Result<(), NoRoom> {
    match mode {
        Mode::Transport => message.notify_parts(NotifyKind::USE_TRANSPORT_MODE, &[]),
        _ => Ok(()),
    }
}

/// Whether the peer takes packets that look longer than they are (RFC 7296 §1.3.1).
fn takes_padding(payloads: &Payloads<'_>) -> bool {
    payloads.notify(NotifyKind::ESP_TFC_PADDING_NOT_SUPPORTED).is_none()
}

/// The mode that the responder chose, when `config` allows it.
fn check_mode(payloads: &Payloads<'_>, config: &ChildConfig<'_>) -> Result<Mode, Failure> {
    let mode = mode_of(payloads);
    if config.modes.accepts(mode) { Ok(mode) } else { Err(Failure::ModeNotWanted(mode)) }
}

/// What the peer has leased, which its side of a child lies within. Who is to have addresses and got none has no children
/// (RFC 7296 §3.15.4).
pub(crate) fn leased<C: IkeCrypto>(sa: &Sa<C>, pad: &dyn Pad) -> Result<Option<Lease>, Failure> {
    match sa.lease {
        None if !sa.called && sa.peer.is_some_and(|peer| pad.leases(peer)) => {
            Err(Failure::Notified(NotifyKind::INTERNAL_ADDRESS_FAILURE))
        }
        lease => Ok(lease),
    }
}

/// What of the peer's side of a child there is to ask for.
pub(crate) fn askable<C: IkeCrypto>(
    sa: &Sa<C>,
    pad: &dyn Pad,
    remote: &[TrafficSelector],
) -> Result<Option<Selectors>, Failure> {
    let within = within_lease(leased(sa, pad)?, remote);
    // A payload without selectors would end the IKE SA.
    match within {
        Some(within) if within.is_empty() => Err(Failure::Notified(NotifyKind::INTERNAL_ADDRESS_FAILURE)),
        within => Ok(within),
    }
}

/// What a lease leaves of the peer's side of a child; `None`: there is no lease, and nothing to be left out.
pub(crate) fn within_lease(lease: Option<Lease>, remote: &[TrafficSelector]) -> Option<Selectors> {
    lease.map(|lease| narrow(remote.iter().copied(), &lease.selectors()))
}

/// What a Child SA comes up with.
struct Terms<'t> {
    suite: EspSuite,
    mode: Mode,
    spi_out: Spi,
    cpi_out: Option<Cpi>,
    takes_padding: bool,
    local: &'t Selectors,
    remote: &'t Selectors,
    /// We began the exchange: rekeying it is our turn first.
    ours: bool,
}

/// Makes the Child SA of an answer to what we asked for with `config`; what is wrong with the answer leaves it as it was.
#[inline(never)]
pub(crate) fn take_answer<C: IkeCrypto>(
    (crypto, now): (&mut C, Instant),
    mut child: impl DerefMut<Target = Child>,
    config: &ChildConfig<'_>,
    payloads: &Payloads<'_>,
    chosen: &ChosenEsp,
    (ike, exchange, nonces): (&IkeKeys<C>, Option<Exchange<'_, C>>, &Nonces<'_>),
    translated: Translated,
) -> Result<(), Failure> {
    let (Some(ts_i), Some(ts_r)) = (&payloads.ts_i, &payloads.ts_r) else {
        return Err(Failure::InvalidSyntax(Side::Here));
    };
    let mode = check_mode(payloads, config)?;
    let (local, remote) = narrowed((ts_i, ts_r), config, translated.in_mode(mode))?;
    let (suite, spi_out) = (chosen.suite, chosen.spi);
    make_keys(crypto, ike, suite, exchange, nonces, true, &mut child.untold)?;
    let cpi_out = compressed::read(payloads).filter(|_| config.compress);
    let takes_padding = takes_padding(payloads);
    let terms = Terms { suite, mode, spi_out, cpi_out, takes_padding, local: &local, remote: &remote, ours: true };
    come_up(&mut child, crypto, now, config, terms, None);
    Ok(())
}

/// Fills in what was negotiated, beside the keys. `settles_at`: until then the peer may not know of it.
#[inline(never)]
fn come_up<C: IkeCrypto>(
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
        confirmed: settles_at.is_none(),
    });
    child.since = now;
    child.spi_out = terms.spi_out.get();
    child.suite = Some(terms.suite);
    child.mode = terms.mode;
    child.cpi_out = terms.cpi_out;
    child.takes_padding = terms.takes_padding;
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
    pub(crate) mode: Mode,
    pub(crate) suite: EspSuite,
    pub(crate) number: u8,
    pub(crate) spi_out: Spi,
    /// What it carries may be compressed.
    pub(crate) cpi_out: Option<Cpi>,
    takes_padding: bool,
    pub(crate) local: Selectors,
    pub(crate) remote: Selectors,
    /// What the peer calls our side and its own.
    called: [Option<Renamed>; 2],
}

/// Who asks for a Child SA.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'p> {
    pub(crate) pad: &'p dyn Pad,
    pub(crate) settings: &'p Settings,
    pub(crate) peer: PeerId,
    /// Child SAs that it has.
    pub(crate) held: usize,
    pub(crate) lease: Option<Lease>,
    pub(crate) translated: Translated,
}

impl Asker<'_> {
    /// Nobody takes the whole table.
    fn may_have_another(&self, children: &Children<'_>) -> bool {
        let limit = self.settings.children_per_peer.min(share(children.table.len()));
        self.held < limit || self.pad.has_twice(self.peer, self.held)
    }
}

/// Finds the configured child that fits the request, best one that it fits whole and exactly, and a slot for it. `only`: the
/// request rekeys this one. Else one after the other is looked at until one fits like that: the PAD is asked child by child, and
/// only of all of them it is known which is best.
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
    let unfit = match ts_i.is_empty() || ts_r.is_empty() {
        true => Failure::EmptyTrafficSelectors,
        false => Failure::NoSelectorsInCommon(Asked::of(ts_r, ts_i)),
    };
    let mut refusal = Refusal::new(unfit, NotifyKind::TS_UNACCEPTABLE);
    let (asked, mut found, mut best) = (mode_of(payloads), None, [false; 3]);
    let all = only.is_none().then(|| pad.children(peer)).into_iter().flatten();
    for config in all.chain(only.and_then(|only| pad.child_by_id(peer, only))) {
        let translated = asker.translated.in_mode(config.modes.agree(asked).unwrap_or_default());
        let called = [Renamed::of(ts_r, translated.local), Renamed::of(ts_i, translated.remote)];
        let [ours, theirs] = called;
        let [here, there] = called.map(|renamed| move |selector| Renamed::to_ours(renamed, selector));
        let local = narrow(ts_r.selectors().map(here), config.local);
        let remote = narrow(ts_i.selectors().map(there), config.remote);
        let remote = within_lease(asker.lease, &remote).unwrap_or(remote);
        if local.is_empty() || remote.is_empty() {
            continue;
        }
        let Some(mode) = config.modes.agree(asked) else {
            refusal = Refusal::new(Failure::ModeNotWanted(asked), NotifyKind::NO_PROPOSAL_CHOSEN);
            continue;
        };
        match proposal::select_esp(config.esp, offered, with_ke) {
            Err(mismatch) => {
                refusal = Refusal::new(Failure::NoProposalInCommon(mismatch), NotifyKind::NO_PROPOSAL_CHOSEN);
            }
            Ok(chosen) => {
                // What stands first is what the initiator needs most, such as the packet that it has (RFC 7296 §2.9).
                let first = |ts: &Ts<'_>, renamed, ours: &[_]| {
                    let first = ts.selectors().next().map(|first| Renamed::to_ours(renamed, first));
                    first.is_some_and(|first| within(&[first], ours))
                };
                let first = first(ts_r, ours, &local) && first(ts_i, theirs, &remote);
                let exact = within(config.local, &local) && within(config.remote, &remote);
                let fit = [mode == asked, first, exact];
                if found.is_none() || best < fit {
                    found = Some((config, chosen, mode, local, remote, called));
                    best = fit;
                }
                if fit == [true; 3] {
                    break;
                }
            }
        }
    }
    let (config, chosen, mode, local, remote, called) = found.ok_or(refusal)?;
    let full = || Refusal::new(Failure::NoAdditionalSas(Side::Here), NotifyKind::NO_ADDITIONAL_SAS);
    if !asker.may_have_another(children) {
        return Err(full());
    }
    let (slot, spi_in) = children.reserve(crypto).ok_or_else(full)?;
    let proposal::ChosenEsp { suite, number, spi: spi_out } = chosen;
    let cpi_out = compressed::read(payloads).filter(|_| config.compress);
    let takes_padding = takes_padding(payloads);
    Ok(Agreed { config, slot, spi_in, mode, suite, number, spi_out, cpi_out, takes_padding, local, remote, called })
}

/// Mode, compression and SA of our answer; in CREATE_CHILD_SA the nonce and a key exchange follow, then in any case the selectors.
pub(crate) fn write_choice(message: &mut MessageWriter<'_>, agreed: &Agreed<'_>) -> Result<(), NoRoom> {
    write_mode(message, agreed.mode)?;
    if agreed.cpi_out.is_some() {
        compressed::write(message, agreed.spi_in)?;
    }
    let answer = [(agreed.number, agreed.suite.transforms())];
    message.sa(ProtocolId::ESP, &agreed.spi_in.get().to_be_bytes(), answer)
}

/// TSi and TSr of our answer.
pub(crate) fn write_selectors(message: &mut MessageWriter<'_>, agreed: &Agreed<'_>) -> Result<(), NoRoom> {
    let [here, there] = agreed.called;
    message.ts(PayloadType::TS_I, &Renamed::to_theirs(there, &agreed.remote))?;
    message.ts(PayloadType::TS_R, &Renamed::to_theirs(here, &agreed.local))
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
        Some(mut child) => make_keys(crypto, ike, agreed.suite, exchange, nonces, false, &mut child.untold),
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
    let Agreed { config, slot, mode, suite, spi_out, cpi_out, takes_padding, local, remote, .. } = agreed;
    let (slot, mode, suite, spi_out, cpi_out) = (*slot, *mode, *suite, *spi_out, *cpi_out);
    let new = env.children.id(slot)?;
    let mut child = env.children.get_mut(slot)?;
    let takes_padding = *takes_padding;
    let terms = Terms { suite, mode, spi_out, cpi_out, takes_padding, local, remote, ours: false };
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
