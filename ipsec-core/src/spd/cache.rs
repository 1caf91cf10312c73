//! What was decided about a flow lately, in memory of the caller's.

use super::current::Current;
use super::index::{Met, Rules, Undecided};
use super::rule::Direction;
use crate::flow::{Flow, Ports};
use crate::hash::fold;
use crate::sa::SaId;
use core::net::IpAddr;

/// Memory for what was decided about one flow: 64 octets, a line of most caches.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{Outbound, OutboundSlot};
/// use ipsec_core::spd::Remembered;
/// let mut flows = [Remembered::NOTHING; 64];
/// let mut sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 1];
/// let outbound: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut sas).remembering(&mut flows);
/// assert!(outbound.judge(&[]).is_err());
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Remembered {
    flow: Key,
    answer: Answer,
    /// The SA that was chosen, and the state of the SAs then.
    sa: (SaId, u32),
}

impl Remembered {
    /// Memory of no flow.
    pub const NOTHING: Self = Self::new(Key([0; 5]));

    /// Memory of this flow, about which nothing is known.
    const fn new(flow: Key) -> Self {
        Self { flow, answer: Answer::Unknown, sa: (SaId { slot: 0, generation: 0 }, NEVER) }
    }

    /// The memory of a flow among these, in the place of what was remembered there.
    fn of<'m>(memory: &'m mut [Self], direction: Direction, flow: &Flow, rules: u16) -> Option<&'m mut Self> {
        let key = Key::of(direction, flow, rules);
        let place = (key.hash() >> 32).wrapping_mul(memory.len() as u64) >> 32;
        let place = memory.get_mut(place as usize)?;
        if place.flow != key {
            *place = Self::new(key);
        }
        Some(place)
    }
}

/// [`Remembered::of`], known to whoever has memory: nobody else links it.
type Recall = for<'m> fn(&'m mut [Remembered], Direction, &Flow, u16) -> Option<&'m mut Remembered>;

impl Default for Remembered {
    fn default() -> Self {
        Self::NOTHING
    }
}

/// A state the SAs are never in.
const NEVER: u32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unknown,
    Decided(Met),
    Undecided(Undecided),
}

/// All of a flow that rules and selectors look at, and the state of the rules: what was decided in another one is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u64; 5]);

impl Key {
    #[inline(always)]
    fn of(direction: Direction, flow: &Flow, state: u16) -> Self {
        let number = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => (0, 0, u64::from(addr.to_bits())),
            IpAddr::V6(addr) => (1, (addr.to_bits() >> 64) as u64, addr.to_bits() as u64),
        };
        // No packet is of both families; as a flow it is one of its own.
        let ((from_v6, s1, s0), (to_v6, d1, d0)) = (number(flow.source), number(flow.destination));
        let (kind, ports) = match flow.ports {
            Ports::Pair { source, destination } => (2, u64::from(source) << 16 | u64::from(destination)),
            Ports::Message(message) => (3, message.into()),
            Ports::Opaque => (0, 0),
            Ports::Hidden => (1, 0),
        };
        // Both ways in read the same rules, from the same end.
        let inwards = u64::from(direction != Direction::Out);
        let way = from_v6 << 44 | to_v6 << 43 | inwards << 42;
        let rest = u64::from(state) << 48 | way | kind << 40 | u64::from(flow.protocol) << 32 | ports;
        Self([s1, s0, d1, d0, rest])
    }

    /// A number in which every bit of the flow has its part. Who chooses flows so that they meet makes them forgotten
    /// and looked up, no more.
    #[inline]
    fn hash(&self) -> u64 {
        // Digits of π, for want of others.
        const BITS: [u64; 6] = [
            0x243f_6a88_85a3_08d3,
            0x1319_8a2e_0370_7344,
            0xa409_3822_299f_31d0,
            0x082e_fa98_ec4e_6c89,
            0x4528_21e6_38d0_1377,
            0xbe54_66cf_34e9_0c6c,
        ];
        let [b0, b1, b2, b3, b4, b5] = BITS;
        let Self([s1, s0, d1, d0, rest]) = *self;
        let ends = fold(s1 ^ b0, s0 ^ b1) ^ fold(d1 ^ b2, d0 ^ b3);
        fold(ends ^ b4, rest ^ b5)
    }
}

/// Decisions about flows, until the rules change, and the SAs that were chosen, until there is a newer one. The caller's memory
/// is as large as it likes; without any, each packet is looked up.
#[derive(Debug)]
pub(crate) struct Cache<'a> {
    flows: &'a mut [Remembered],
    recall: Option<Recall>,
    /// The state of the rules: another for each change.
    rules: u16,
    /// How many SAs there had been when this was last asked.
    sas: u64,
    /// The state of the SAs: another for each such number.
    state: u32,
}

impl<'a> Cache<'a> {
    /// No memory.
    pub(crate) fn none() -> Self {
        Self { flows: &mut [], recall: None, rules: 0, sas: 0, state: NEVER.wrapping_add(1) }
    }

    pub(crate) fn new(flows: &'a mut [Remembered]) -> Self {
        flows.fill(Remembered::NOTHING);
        Self { flows, recall: Some(Remembered::of), ..Self::none() }
    }

    /// The rules have changed.
    pub(crate) fn forget(&mut self) {
        self.rules = self.rules.checked_add(1).unwrap_or_else(|| {
            // States come again.
            self.flows.fill(Remembered::NOTHING);
            0
        });
    }

    /// There are newer SAs: those that were noted may not be the right ones any more.
    #[cold]
    #[inline(never)]
    fn forget_sas(&mut self, sas: u64) {
        self.sas = sas;
        self.state = self.state.checked_add(1).unwrap_or_else(|| {
            // States come again.
            self.flows.fill(Remembered::NOTHING);
            NEVER.wrapping_add(1)
        });
    }

    /// What the rules decide, and the SA that was chosen for the flow when there had been as many as now.
    #[inline(always)]
    pub(crate) fn meet<R: Rules>(
        &mut self,
        rules: &Current<'_, R>,
        direction: Direction,
        flow: &Flow,
        sas: u64,
    ) -> Result<(Met, Option<SaId>), Undecided> {
        if sas != self.sas {
            self.forget_sas(sas);
        }
        let state = self.state;
        let place = self.place(direction, flow);
        match place.as_ref().map(|place| place.answer) {
            Some(Answer::Decided(met)) => {
                let sa = place.map(|place| place.sa).filter(|(_, then)| *then == state);
                return Ok((met, sa.map(|(sa, _)| sa)));
            }
            Some(Answer::Undecided(undecided)) => return Err(undecided),
            Some(Answer::Unknown) | None => {}
        }
        let decided = rules.meet(direction, flow);
        if let Some(place) = place {
            place.answer = decided.map_or_else(Answer::Undecided, Answer::Decided);
        }
        decided.map(|met| (met, None))
    }

    /// Takes note of the SA that was chosen for a flow.
    #[inline(always)]
    pub(crate) fn note(&mut self, direction: Direction, flow: &Flow, sa: SaId) {
        let state = self.state;
        if let Some(place) = self.place(direction, flow) {
            place.sa = (sa, state);
        }
    }

    #[inline(always)]
    fn place(&mut self, direction: Direction, flow: &Flow) -> Option<&mut Remembered> {
        self.recall?(self.flows, direction, flow, self.rules)
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::net::AddrRange;
    use crate::spd::{Action, Changed, Index, Node, PolicyId, Rule, RuleId, Selector, Slot};

    const SELECTOR: Selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
    const FLOW: Flow = Flow {
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        protocol: 6,
        ports: Ports::Opaque,
        len: 20,
    };

    fn index(action: Action) -> Index<[Slot; 1], [Node; 0]> {
        let rule = Rule { id: RuleId(1), priority: 1, selector: SELECTOR, action };
        Index::build([rule], [Slot::EMPTY], []).unwrap()
    }

    #[test]
    fn an_sa_is_not_found_again_when_its_state_comes_again() {
        let (index, changes) = (index(Action::protect(PolicyId(1))), Changed::none());
        let rules = Current { rules: Some(&index), changes: &changes };
        let mut flows = [Remembered::NOTHING];
        let mut cache = Cache::new(&mut flows);
        let id = SaId { slot: 7, generation: 7 };
        let known = |cache: &mut Cache<'_>, sas| cache.meet(&rules, Direction::Out, &FLOW, sas).unwrap().1;
        assert_eq!(known(&mut cache, 0), None);
        cache.note(Direction::Out, &FLOW, id);
        assert_eq!(known(&mut cache, 0), Some(id));
        let first = cache.state;
        cache.state = u32::MAX;
        assert_eq!((known(&mut cache, 1), cache.state), (None, first));
        cache.note(Direction::Out, &FLOW, id);
        assert_eq!(known(&mut cache, 1), Some(id), "until there is a newer one");
    }

    #[test]
    fn what_old_rules_decided_is_not_found_again_when_their_state_comes_again() {
        let (old, new, changes) = (index(Action::Bypass), index(Action::Discard), Changed::none());
        let mut flows = [Remembered::NOTHING];
        let mut cache = Cache::new(&mut flows);
        let said = |cache: &mut Cache<'_>, index: &Index<[Slot; 1], [Node; 0]>| {
            let rules = Current { rules: Some(index), changes: &changes };
            cache.meet(&rules, Direction::Out, &FLOW, 0).unwrap().0.action
        };
        let before = cache.rules;
        assert_eq!(said(&mut cache, &old), Action::Bypass);
        assert_eq!(said(&mut cache, &new), Action::Bypass, "it is remembered");
        (0..=u16::MAX).for_each(|_| cache.forget());
        assert_eq!(cache.rules, before);
        assert_eq!(said(&mut cache, &new), Action::Discard);
        cache.forget();
        assert_eq!(said(&mut cache, &old), Action::Bypass, "each change is another state");
    }

    #[test]
    fn a_flow_remembered_is_one_line_of_the_cache() {
        assert_eq!((size_of::<Remembered>(), align_of::<Remembered>()), (64, 64));
    }
}
