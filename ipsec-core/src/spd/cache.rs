//! What was decided about a flow lately, in memory of the caller's.

use super::Direction;
use super::index::{Decision, Undecided, View};
use crate::flow::{Flow, Ports};
use crate::sa::SaId;
use core::net::IpAddr;

/// Memory for what was decided about one flow.
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
pub struct Remembered {
    flow: Key,
    answer: Answer,
    /// The SA that was chosen, and the state of the SAs then.
    sa: Option<(SaId, u64)>,
}

impl Remembered {
    /// Memory of no flow.
    pub const NOTHING: Self = Self { flow: Key([0; 5]), answer: Answer::Unknown, sa: None };
}

impl Default for Remembered {
    fn default() -> Self {
        Self::NOTHING
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unknown,
    Decided(Decision),
    Undecided(Undecided),
}

/// All of a flow that rules and selectors look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u64; 5]);

impl Key {
    #[inline]
    fn of(direction: Direction, flow: &Flow) -> Self {
        let halves = |addr: u128| ((addr >> 64) as u64, addr as u64);
        let (family, (s1, s0), (d1, d0)) = match (flow.source, flow.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (4, (0, source.to_bits().into()), (0, destination.to_bits().into()))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (6, halves(source.to_bits()), halves(destination.to_bits()))
            }
            // No packet is of both; as a flow it is one of its own.
            (IpAddr::V4(source), IpAddr::V6(destination)) => {
                (46, (0, source.to_bits().into()), halves(destination.to_bits()))
            }
            (IpAddr::V6(source), IpAddr::V4(destination)) => {
                (64, halves(source.to_bits()), (0, destination.to_bits().into()))
            }
        };
        let (kind, ports) = match flow.ports {
            Ports::Opaque => (0, 0),
            Ports::Hidden => (1, 0),
            Ports::Pair { source, destination } => (2, u64::from(source) << 16 | u64::from(destination)),
            Ports::Message(message) => (3, message.into()),
        };
        // Both ways in read the same rules, from the same end.
        let inwards = u64::from(direction != Direction::Out);
        let rest = family << 56 | inwards << 48 | kind << 40 | u64::from(flow.protocol) << 32 | ports;
        Self([s1, s0, d1, d0, rest])
    }

    /// A number in which every bit of the flow has its part. Who chooses flows so that they meet makes them forgotten
    /// and looked up, no more.
    #[inline]
    fn hash(&self) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0.iter().fold(0_u64, |hash, word| {
            let mixed = (hash ^ word).wrapping_mul(ODD);
            mixed ^ (mixed >> 29)
        })
    }
}

/// Decisions about flows, until the rules change. The caller's memory is as large as it likes; without any, each packet is
/// looked up.
#[derive(Debug)]
pub(crate) struct Cache<'a>(&'a mut [Remembered]);

impl<'a> Cache<'a> {
    pub(crate) fn new(memory: &'a mut [Remembered]) -> Self {
        memory.fill(Remembered::NOTHING);
        Self(memory)
    }

    /// The rules have changed.
    pub(crate) fn forget(&mut self) {
        self.0.fill(Remembered::NOTHING);
    }

    /// What the rules decide, and the SA that was chosen for the flow while the state of the SAs was the same.
    #[inline]
    pub(crate) fn decide(
        &mut self,
        view: View<'_>,
        direction: Direction,
        flow: &Flow,
        sas: u64,
    ) -> (Result<Decision, Undecided>, Option<SaId>) {
        let Some(place) = self.place(direction, flow) else { return (view.decide(direction, flow), None) };
        let key = Key::of(direction, flow);
        if place.flow != key || place.answer == Answer::Unknown {
            let answer = view.decide(direction, flow).map_or_else(Answer::Undecided, Answer::Decided);
            *place = Remembered { flow: key, answer, sa: None };
        }
        let decided = match place.answer {
            Answer::Decided(decision) => Ok(decision),
            Answer::Undecided(undecided) => Err(undecided),
            Answer::Unknown => Err(Undecided::NoRule),
        };
        (decided, place.sa.filter(|(_, then)| *then == sas).map(|(id, _)| id))
    }

    /// Takes note of the SA that was chosen for a flow.
    #[inline]
    pub(crate) fn note(&mut self, direction: Direction, flow: &Flow, sas: u64, id: SaId) {
        if let Some(place) = self.place(direction, flow)
            && place.flow == Key::of(direction, flow)
        {
            place.sa = Some((id, sas));
        }
    }

    #[inline]
    fn place(&mut self, direction: Direction, flow: &Flow) -> Option<&mut Remembered> {
        if self.0.is_empty() {
            return None;
        }
        let wide = u128::from(Key::of(direction, flow).hash()).wrapping_mul(self.0.len() as u128);
        self.0.get_mut((wide >> 64) as usize)
    }
}
