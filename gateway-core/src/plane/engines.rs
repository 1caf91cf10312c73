//! The engines of `ipsec-core` as a data plane, wherever they are.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use ipsec_core::crypto::PacketCrypto;
use ipsec_core::error;
use ipsec_core::net::{Encap, Path, Spi};
use ipsec_core::sa::{Event, InboundParams, OutboundParams, SaId, Status, TfcPadding};
use ipsec_core::spd::{Hits, Rule};
use ipsec_core::time::Instant;

use crate::config::Settings;
use crate::policy::{self, Inbound, Outbound};

use super::seam::{DataPlane, Half, Incomplete, Pair, PlaneEvent, Progress, Refused, Usage};

/// How an engine is had for a moment: it is there, or it is locked for just as long.
///
/// An engine behind a lock, so that packets can go on in another thread:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use gateway_core::plane::{Engines, Hold};
/// use gateway_core::policy::{Inbound, Outbound};
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
///
/// struct Locked<E>(Arc<Mutex<E>>);
///
/// impl<E> Hold for Locked<E> {
///     type Engine = E;
///
///     fn with<R>(&self, look: impl FnOnce(&E) -> R) -> R {
///         look(&self.0.lock().unwrap())
///     }
///     fn with_mut<R>(&mut self, change: impl FnOnce(&mut E) -> R) -> R {
///         change(&mut self.0.lock().unwrap())
///     }
/// }
///
/// let outbound: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut []);
/// let inbound: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut [], &mut []);
/// let for_packets = Arc::new(Mutex::new(outbound));
/// let plane = Engines::new(Locked(Arc::clone(&for_packets)), inbound);
/// assert_eq!(plane.outbound.with(|engine| engine.sas().count()), 0);
/// assert!(for_packets.try_lock().is_ok()); // held for one step, and no longer
/// ```
pub trait Hold {
    /// The engine.
    type Engine;

    /// Does something with it.
    fn with<R>(&self, look: impl FnOnce(&Self::Engine) -> R) -> R;

    /// Does something to it.
    fn with_mut<R>(&mut self, change: impl FnOnce(&mut Self::Engine) -> R) -> R;
}

impl<P: PacketCrypto> Hold for Outbound<'_, P> {
    type Engine = Self;

    fn with<R>(&self, look: impl FnOnce(&Self) -> R) -> R {
        look(self)
    }

    fn with_mut<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        change(self)
    }
}

impl<P: PacketCrypto> Hold for Inbound<'_, P> {
    type Engine = Self;

    fn with<R>(&self, look: impl FnOnce(&Self) -> R) -> R {
        look(self)
    }

    fn with_mut<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        change(self)
    }
}

/// The two engines, and which of their SAs are a pair. Each engine is held for single steps, so that packets go on in
/// between, but for a change of the rules.
///
/// ```
/// use gateway_core::plane::{DataPlane, Engines};
/// use gateway_core::policy::{Inbound, Outbound};
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{InboundSlot, OutboundSlot};
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Hits, Rule, RuleId, Selector};
/// let (mut out_hits, mut in_hits, mut windows) = ([Hits::NONE; 8], [Hits::NONE; 8], [0; 4 * 16]);
/// let mut out_sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 4];
/// let mut in_sas = [const { InboundSlot::<RustCrypto>::EMPTY }; 4];
/// let mut plane = Engines::new(
///     Outbound::new(RustCrypto, &mut out_hits, &mut out_sas),
///     Inbound::new(RustCrypto, &mut in_hits, &mut in_sas, &mut windows),
/// );
/// let selector = Selector::between(AddrRange::ANY_V6, AddrRange::ANY_V6);
/// let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::Bypass };
/// plane.set_rules(&[rule]).unwrap(); // both look into one index
/// assert_eq!((plane.outbound.rules().count(), plane.inbound.rules().count()), (1, 1));
/// let incomplete = plane.set_rules(&[rule; 9]).unwrap_err();
/// assert_eq!(incomplete.placed, 0); // nine rules with one id
/// ```
pub struct Engines<O, I> {
    /// The sending engine.
    pub outbound: O,
    /// The receiving engine.
    pub inbound: I,
    pairs: BTreeMap<Pair, Halves>,
    /// Pairs by the SPIs of their halves, which peers may choose alike.
    by_spi: BTreeSet<(Half, Spi, Pair)>,
    /// Of every SA: see [`Engines::with`].
    relays_errors: bool,
    checks_checksums: bool,
}

#[derive(Default)]
struct Halves {
    inbound: Option<(SaId, Spi)>,
    outbound: Option<(SaId, Spi)>,
}

impl Halves {
    fn half(&mut self, half: Half) -> &mut Option<(SaId, Spi)> {
        match half {
            Half::Inbound => &mut self.inbound,
            Half::Outbound => &mut self.outbound,
        }
    }

    const fn get(&self, half: Half) -> Option<(SaId, Spi)> {
        match half {
            Half::Inbound => self.inbound,
            Half::Outbound => self.outbound,
        }
    }
}

impl<O, I> fmt::Debug for Engines<O, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

impl<O, I> Engines<O, I> {
    /// Engines without SAs.
    pub fn new(outbound: O, inbound: I) -> Self {
        let (pairs, by_spi) = (BTreeMap::new(), BTreeSet::new());
        Self { outbound, inbound, pairs, by_spi, relays_errors: true, checks_checksums: false }
    }

    /// Has SAs from now on relay ICMP errors, and look at checksums, as these settings have it.
    pub fn with(self, settings: &Settings) -> Self {
        Self { relays_errors: settings.relay_icmp, checks_checksums: settings.check_checksums, ..self }
    }

    /// What an event of one of the engines says, in the words of a data plane; `None`: the SA is gone already.
    pub fn told(&self, half: Half, event: &Event) -> Option<PlaneEvent> {
        let (Event::SoftLifetime { sa, spi, .. }
        | Event::HardLifetime { sa, spi, .. }
        | Event::FirstPacket { sa, spi }
        | Event::PathChanged { sa, spi, .. }) = *event;
        let pair = self.pair_of(half, sa, spi)?;
        Some(match *event {
            Event::SoftLifetime { .. } => PlaneEvent::SoftLifetime { pair, half },
            Event::HardLifetime { .. } => PlaneEvent::HardLifetime { pair, half },
            Event::FirstPacket { .. } => PlaneEvent::FirstPacket { pair },
            Event::PathChanged { path, .. } => PlaneEvent::PathChanged { pair, path },
        })
    }

    /// The pair that an SA of an engine belongs to.
    pub fn pair_of(&self, half: Half, sa: SaId, spi: Spi) -> Option<Pair> {
        let alike = self.by_spi.range((half, spi, Pair(0))..=(half, spi, Pair(u64::MAX))).map(|(.., pair)| *pair);
        alike.into_iter().find(|pair| self.id(*pair, half) == Some(sa))
    }

    fn id(&self, pair: Pair, half: Half) -> Option<SaId> {
        self.pairs.get(&pair)?.get(half).map(|(id, _)| id)
    }

    fn enter(&mut self, pair: Pair, half: Half, id: SaId, spi: Spi) {
        *self.pairs.entry(pair).or_default().half(half) = Some((id, spi));
        self.by_spi.insert((half, spi, pair));
    }

    fn strike(&mut self, pair: Pair, half: Half) -> Option<SaId> {
        let halves = self.pairs.get_mut(&pair)?;
        let (id, spi) = halves.half(half).take()?;
        if halves.inbound.is_none() && halves.outbound.is_none() {
            self.pairs.remove(&pair);
        }
        self.by_spi.remove(&(half, spi, pair));
        Some(id)
    }
}

/// So much is copied of what an engine counted while it is held.
const PIECE: usize = 64;

impl<'o, 'i, P, Q, O, I> Engines<O, I>
where
    P: PacketCrypto<AeadKey: 'o> + 'o,
    Q: PacketCrypto<AeadKey: 'i> + 'i,
    O: Hold<Engine = Outbound<'o, P>>,
    I: Hold<Engine = Inbound<'i, Q>>,
{
    /// The SAs of one direction, the oldest pair first, each as it is when the iterator comes to it.
    pub fn sas(&self, half: Half) -> impl Iterator<Item = (Pair, Status)> {
        self.pairs.iter().filter_map(move |(pair, halves)| Some((*pair, self.status(half, halves.get(half)?.0)?)))
    }

    /// What was counted of the rules that packets met on their way out, in the order of the rules. The engine is held for
    /// some at a time.
    pub fn hits(&self) -> impl Iterator<Item = Hits> {
        let piece = move |from: usize| {
            let copy = |engine: &Outbound<'o, P>| {
                engine.rules_from(from).take(PIECE).map(|(_, hits)| hits).collect::<Vec<_>>()
            };
            Some(self.outbound.with(copy)).filter(|piece| !piece.is_empty())
        };
        (0..).step_by(PIECE).map_while(piece).flatten()
    }

    fn status(&self, half: Half, id: SaId) -> Option<Status> {
        match half {
            Half::Inbound => self.inbound.with(|engine| engine.sa(id)),
            Half::Outbound => self.outbound.with(|engine| engine.sa(id)),
        }
    }
}

impl<'o, 'i, P, Q, O, I> Engines<O, I>
where
    P: PacketCrypto<AeadKey: 'o> + 'o,
    Q: PacketCrypto<AeadKey: 'i> + 'i,
    O: Hold<Engine = Outbound<'o, P>>,
    I: Hold<Engine = Inbound<'i, Q>>,
{
    /// What an SA has to tell, in the words of a data plane. To be called until `None` after packets went and after
    /// [`handle_timeout`](DataPlane::handle_timeout).
    pub fn poll_event(&mut self) -> Option<PlaneEvent> {
        loop {
            let sent = self.outbound.with_mut(Outbound::poll_event).map(|event| (Half::Outbound, event));
            let event = sent.or_else(|| self.inbound.with_mut(Inbound::poll_event).map(|event| (Half::Inbound, event)));
            let (half, event) = event?;
            if let Some(told) = self.told(half, &event) {
                return Some(told);
            }
        }
    }
}

impl<'o, 'i, P, Q, O, I> DataPlane for Engines<O, I>
where
    P: PacketCrypto<AeadKey: 'o> + 'o,
    Q: PacketCrypto<AeadKey: 'i> + 'i,
    O: Hold<Engine = Outbound<'o, P>>,
    I: Hold<Engine = Inbound<'i, Q>>,
{
    fn set_rules(&mut self, rules: &[Rule]) -> Result<(), Incomplete> {
        // As many as fit into both, the first ones: what stands behind what is missing must not overrule it.
        let room = self.outbound.with(Outbound::room_for_rules).min(self.inbound.with(Inbound::room_for_rules));
        let placed = rules.len().min(room);
        // Built, and what was there taken down, while packets go on; put into both while none does.
        let index = policy::index(rules.get(..placed).unwrap_or_default());
        let Self { outbound, inbound, .. } = self;
        let swapped = outbound.with_mut(|outbound| {
            inbound.with_mut(|inbound| {
                let before = (outbound.clear_rules(), inbound.clear_rules());
                let swapped = index.and_then(|index| {
                    outbound.set_rules(index.clone())?;
                    inbound.set_rules(index)
                });
                (swapped, before)
            })
        });
        match swapped.0 {
            Ok(_) if placed == rules.len() => Ok(()),
            Ok(_) => Err(Incomplete { placed, why: error::Refused::Full.into() }),
            Err(why) => Err(Incomplete { placed: 0, why: why.into() }),
        }
    }

    fn install_inbound(&mut self, now: Instant, pair: Pair, params: &InboundParams<'_>) -> Result<Progress, Refused> {
        let id = self.inbound.with_mut(|engine| {
            let id = engine.install(now, params)?;
            engine.relay_icmp_errors(id, self.relays_errors);
            engine.check_checksums(id, self.checks_checksums);
            Ok::<_, error::Refused>(id)
        })?;
        self.enter(pair, Half::Inbound, id, params.sa.spi);
        Ok(Progress::Done)
    }

    fn install_outbound(
        &mut self,
        now: Instant,
        pair: Pair,
        params: &OutboundParams<'_>,
        padding: TfcPadding,
    ) -> Result<Progress, Refused> {
        let id = self.outbound.with_mut(|engine| {
            let id = engine.install(now, params)?;
            engine.relay_icmp_errors(id, self.relays_errors);
            engine.set_padding(id, padding);
            Ok::<_, error::Refused>(id)
        })?;
        self.enter(pair, Half::Outbound, id, params.sa.spi);
        Ok(Progress::Done)
    }

    fn remove(&mut self, pair: Pair, half: Half) -> Option<Usage> {
        let Some(id) = self.strike(pair, half) else { return Some(Usage::default()) };
        let last = match half {
            Half::Inbound => self.inbound.with_mut(|engine| {
                let last = engine.sa(id);
                engine.remove(id);
                last
            }),
            Half::Outbound => self.outbound.with_mut(|engine| {
                let last = engine.sa(id);
                engine.remove(id);
                last
            }),
        };
        Some(last.map(|status| used(&status)).unwrap_or_default())
    }

    fn move_path(&mut self, pair: Pair, half: Half, path: Path, encap: Encap) {
        let Some(id) = self.id(pair, half) else { return };
        // Gone meanwhile: then there is nothing to lead anywhere.
        match half {
            Half::Inbound => _ = self.inbound.with_mut(|engine| engine.set_path(id, path, encap)),
            Half::Outbound => _ = self.outbound.with_mut(|engine| engine.set_path(id, path, encap)),
        }
    }

    fn usage(&self, pair: Pair, half: Half) -> Option<Usage> {
        self.status(half, self.id(pair, half)?).map(|status| used(&status))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let engines = [self.outbound.with(Outbound::poll_timeout), self.inbound.with(Inbound::poll_timeout)];
        engines.into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.outbound.with_mut(|engine| engine.handle_timeout(now));
        self.inbound.with_mut(|engine| engine.handle_timeout(now));
    }
}

fn used(status: &Status) -> Usage {
    Usage { packets: status.packets, bytes: status.bytes, sequence: status.sequence, last_used: status.last_used }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;
    use std::vec::Vec;

    use ipsec_core::crypto::AeadAlg;
    use ipsec_core::crypto::rustcrypto::RustCrypto;
    use ipsec_core::engine::{InboundSlot, OutboundSlot};
    use ipsec_core::net::{AddrRange, TrafficSelector};
    use ipsec_core::sa::{DontFragment, Lifetime, Mode, Params, Reached};
    use ipsec_core::spd::{self, Hits, PolicyId, RuleId, Selector};

    use super::*;

    const ANY: TrafficSelector = TrafficSelector::addrs(AddrRange::ANY_V4);

    fn outbound(remote: &str) -> OutboundParams<'static> {
        let at = |text: &str| text.parse().unwrap();
        let sa = Params {
            spi: Spi::new(4711).unwrap(),
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: &[7; 20],
            esn: true,
            path: Path { local: at("192.0.2.2:0"), remote: at(remote) },
            encap: Encap::None,
            policy: PolicyId(1),
            local_ts: &[ANY],
            remote_ts: &[ANY],
            lifetime: Lifetime::default(),
            compression: None,
        };
        OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Clear }
    }

    #[test]
    fn an_event_finds_its_pair_although_two_peers_chose_the_same_spi_and_nobody_once_that_is_gone() {
        let (mut out_rules, mut in_rules) = ([Hits::NONE; 1], [Hits::NONE; 0]);
        let mut sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 2];
        let mut none: [InboundSlot<RustCrypto>; 0] = [];
        let sending = Outbound::new(RustCrypto, &mut out_rules, &mut sas);
        let mut engines = Engines::new(sending, Inbound::new(RustCrypto, &mut in_rules, &mut none, &mut []));
        for (pair, remote) in [(Pair(1), "192.0.2.1:0"), (Pair(2), "192.0.2.3:0")] {
            assert_eq!(
                engines.install_outbound(Instant::ZERO, pair, &outbound(remote), TfcPadding::None),
                Ok(Progress::Done)
            );
        }
        let third = engines.install_outbound(Instant::ZERO, Pair(3), &outbound("192.0.2.4:0"), TfcPadding::None);
        assert_eq!(third, Err(Refused("the table is full".into())));
        let ids: Vec<_> = engines.outbound.sas().map(|sa| (sa.id, sa.path.remote.ip())).collect();
        for (id, remote) in ids {
            let event = Event::SoftLifetime { sa: id, spi: Spi::new(4711).unwrap(), reached: Reached::Bytes };
            let pair = if remote.to_string().ends_with('1') { Pair(1) } else { Pair(2) };
            let told = PlaneEvent::SoftLifetime { pair, half: Half::Outbound };
            assert_eq!(engines.told(Half::Outbound, &event), Some(told));
            assert_eq!(engines.told(Half::Inbound, &event), None);
            assert_eq!(engines.remove(pair, Half::Outbound), Some(Usage::default()));
            assert_eq!(engines.told(Half::Outbound, &event), None);
        }
        assert_eq!(engines.outbound.sas().count(), 0);
        assert!(engines.pairs.is_empty() && engines.by_spi.is_empty());
    }

    #[test]
    fn f_31_a_rule_that_one_engine_has_no_room_for_is_in_neither() {
        let (mut out_rules, mut in_rules) = ([Hits::NONE; 2], [Hits::NONE; 1]);
        let mut engines = Engines::new(
            Outbound::new(RustCrypto, &mut out_rules, &mut [] as &mut [OutboundSlot<RustCrypto>]),
            Inbound::new(RustCrypto, &mut in_rules, &mut [] as &mut [InboundSlot<RustCrypto>], &mut []),
        );
        let rule = |number| Rule {
            id: RuleId(number),
            priority: number,
            selector: Selector { local: ANY, remote: ANY },
            action: spd::Action::Bypass,
        };
        let why = Refused("the table is full".into());
        assert_eq!(engines.set_rules(&[rule(1), rule(2)]), Err(Incomplete { placed: 1, why }));
        assert_eq!((engines.outbound.rules().count(), engines.inbound.rules().count()), (1, 1));
        assert_eq!(engines.set_rules(&[]), Ok(()));
        assert_eq!((engines.outbound.rules().count(), engines.inbound.rules().count()), (0, 0));
    }
}
