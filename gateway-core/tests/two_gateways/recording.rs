//! A data plane that carries nothing and notes what it is asked for. It answers at once or later, and insists on order: what
//! is installed is not there yet, what is removed is.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use gateway_core::gateway::{Ended, Gateway, Parts, Report};
use gateway_core::peers::Peers;
use gateway_core::plane::{DataPlane, Half, Incomplete, Pair, PlaneEvent, Progress, Refused, Usage};
use ike_core::child::ChildSlot;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ipsec_core::net::{Encap, Path};
use ipsec_core::sa::{InboundParams, OutboundParams, TfcPadding};
use ipsec_core::spd::Rule;
use ipsec_core::time::Instant;

use crate::overheard::{Ike, overheard};
use crate::world::{config, leak, parts};

/// What happened at one side, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many rules.
    Rules(usize),
    Installed(u64, Half),
    Removed(u64, Half),
    Moved(u64, Half),
    /// A message of IKE left.
    Sent,
}

#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) steps: Vec<Step>,
    /// What is there, and what went through it.
    pub(crate) there: BTreeMap<(Pair, Half), Usage>,
    /// It answers later.
    pub(crate) later: bool,
    /// It takes no SA of this half any more.
    pub(crate) refuses: Option<Half>,
    /// What it has not said yet.
    pub(crate) answers: VecDeque<PlaneEvent>,
    /// Of what it was asked for, what it did not take and has not said so.
    refused: BTreeSet<(Pair, Half)>,
    /// What went through what is gone.
    pub(crate) gone: BTreeMap<(Pair, Half), Usage>,
    /// How often it was asked what went through an SA.
    pub(crate) looks: Cell<usize>,
}

impl Recording {
    fn install(&mut self, pair: Pair, half: Half) -> Result<Progress, Refused> {
        let why = Refused("it is full".to_owned());
        let refused = self.refuses == Some(half);
        if refused && !self.later {
            return Err(why);
        }
        assert!(refused || self.there.insert((pair, half), Usage::default()).is_none(), "{pair:?} {half:?} twice");
        self.steps.extend((!refused).then_some(Step::Installed(pair.0, half)));
        if !self.later {
            return Ok(Progress::Done);
        }
        self.answers.push_back(match refused {
            true => {
                self.refused.insert((pair, half));
                PlaneEvent::Refused { pair, half, why }
            }
            false => PlaneEvent::Installed { pair, half },
        });
        Ok(Progress::Underway)
    }

    /// A packet of so many octets goes through an SA of each half that is there.
    pub(crate) fn carry(&mut self, now: Instant, octets: u64) {
        for usage in self.there.values_mut() {
            usage.packets += 1;
            usage.bytes += octets;
            usage.last_used = Some(now);
        }
    }

    pub(crate) fn pairs(&self) -> Vec<u64> {
        let mut pairs: Vec<_> = self.there.keys().map(|(pair, _)| pair.0).collect();
        pairs.dedup();
        pairs
    }
}

impl DataPlane for Recording {
    fn set_rules(&mut self, rules: &[Rule]) -> Result<(), Incomplete> {
        self.steps.push(Step::Rules(rules.len()));
        Ok(())
    }

    fn install_inbound(&mut self, _: Instant, pair: Pair, _: &InboundParams<'_>) -> Result<Progress, Refused> {
        self.install(pair, Half::Inbound)
    }

    fn install_outbound(
        &mut self,
        _: Instant,
        pair: Pair,
        _: &OutboundParams<'_>,
        _: TfcPadding,
    ) -> Result<Progress, Refused> {
        self.install(pair, Half::Outbound)
    }

    fn remove(&mut self, pair: Pair, half: Half) -> Option<Usage> {
        if self.refused.remove(&(pair, half)) {
            // It never was there, and whoever asks does not know that yet.
            return Some(Usage::default());
        }
        let usage = self.there.remove(&(pair, half)).expect("what is removed is there");
        assert!(self.gone.insert((pair, half), usage).is_none(), "{pair:?} {half:?} twice");
        self.steps.push(Step::Removed(pair.0, half));
        if self.later {
            self.answers.push_back(PlaneEvent::Removed { pair, half, usage });
            return None;
        }
        Some(usage)
    }

    fn move_path(&mut self, pair: Pair, half: Half, _: Path, _: Encap) {
        assert!(
            self.there.contains_key(&(pair, half)) || self.refused.contains(&(pair, half)),
            "what is moved is there"
        );
        self.steps.push(Step::Moved(pair.0, half));
    }

    fn usage(&self, pair: Pair, half: Half) -> Option<Usage> {
        self.looks.set(self.looks.get() + 1);
        self.there.get(&(pair, half)).copied()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _: Instant) {}
}

/// A gateway on a data plane that carries nothing.
pub(crate) struct Side {
    pub(crate) gateway: Gateway,
    pub(crate) endpoint: Endpoint<'static, Ike, Peers>,
    pub(crate) plane: Recording,
    pub(crate) story: Vec<Report>,
    pub(crate) ended: Vec<Ended>,
}

impl Side {
    fn new(seed: u64, text: &str) -> Self {
        let (gateway, peers) = Gateway::new(config(text));
        let storage = Storage {
            sas: leak(8, IkeSlot::default),
            children: leak(32, ChildSlot::default),
            index: leak(IndexBlock::needed(8, 32), IndexBlock::default),
            pairs: leak(8 * 2 * 512, || 0),
            pool: leak(8 * 2 * 2048, || 0),
            blocks: 8,
        };
        let endpoint =
            Endpoint::new(overheard(seed), peers, storage, Settings::default()).unwrap_or_else(|_| panic!("no room"));
        let (plane, story, ended) = (Recording::default(), Vec::new(), Vec::new());
        Self { gateway, endpoint, plane, story, ended }
    }

    /// Hears what the data plane answers, and what there is to tell.
    pub(crate) fn settle(&mut self, now: Instant) {
        while self.hear(now) {}
        self.listen();
    }

    /// Hears the next answer of the data plane, if there is one.
    pub(crate) fn hear(&mut self, now: Instant) -> bool {
        let Some(answer) = self.plane.answers.pop_front() else { return false };
        if let PlaneEvent::Refused { pair, half, .. } = &answer {
            self.plane.refused.remove(&(*pair, *half));
        }
        self.gateway.handle_plane(now, answer, parts!(self));
        true
    }

    pub(crate) fn listen(&mut self) {
        self.story.extend(std::iter::from_fn(|| self.gateway.poll_report()));
        self.ended.extend(std::iter::from_fn(|| self.gateway.poll_ended()));
    }

    pub(crate) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.plane.steps)
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.story.iter().map(ToString::to_string).collect()
    }
}

/// Two of them, and a wire without delay. What a data plane answers later it does once no message is on its way.
pub(crate) struct Two {
    pub(crate) now: Instant,
    pub(crate) left: Side,
    pub(crate) right: Side,
}

impl Two {
    pub(crate) fn new(left: &str, right: &str) -> Self {
        let mut two = Self { now: Instant::from_millis(1000), left: Side::new(1, left), right: Side::new(2, right) };
        two.left.gateway.start(two.now, parts!(two.left)).unwrap();
        two.right.gateway.start(two.now, parts!(two.right)).unwrap();
        two
    }

    /// Carries one message, if there is one.
    pub(crate) fn step(&mut self, lost: bool) -> bool {
        for left in [true, false] {
            let (from, to) = match left {
                true => (&mut self.left, &mut self.right),
                false => (&mut self.right, &mut self.left),
            };
            let Some(transmit) = from.endpoint.poll_transmit() else { continue };
            let marker = if transmit.path.local.port() == 4500 { 4 } else { 0 };
            let path = Path { local: transmit.path.remote, remote: transmit.path.local };
            let mut octets = transmit.datagram.get(marker..).unwrap_or_default().to_vec();
            from.plane.steps.push(Step::Sent);
            if !lost {
                to.gateway.handle_datagram(self.now, path, &mut octets, parts!(to));
            }
            return true;
        }
        false
    }

    /// Nothing is answered by a data plane yet.
    pub(crate) fn carry_messages(&mut self) {
        while self.step(false) {}
    }

    pub(crate) fn exchange(&mut self) {
        loop {
            self.carry_messages();
            let waits = [&mut self.left, &mut self.right].map(|side| {
                let waits = !side.plane.answers.is_empty();
                side.settle(self.now);
                waits
            });
            if waits == [false; 2] {
                break;
            }
        }
    }

    /// Lets time pass, as the gateways ask for it.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.go_on(time, Self::exchange);
    }

    /// Lets time pass while no data plane answers.
    pub(crate) fn linger(&mut self, time: Duration) {
        self.go_on(time, |two| {
            two.carry_messages();
            [&mut two.left, &mut two.right].into_iter().for_each(Side::listen);
        });
    }

    fn go_on(&mut self, time: Duration, meanwhile: impl Fn(&mut Self)) {
        let end = self.now + time;
        loop {
            meanwhile(self);
            let due = [&mut self.left, &mut self.right]
                .map(|side| side.gateway.poll_timeout(&parts!(lent side)))
                .into_iter()
                .flatten()
                .min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            for side in [&mut self.left, &mut self.right] {
                side.gateway.handle_timeout(self.now, parts!(side));
            }
        }
        self.now = end;
    }
}

/// Each run ends with the end of one appliance, and a configuration without peers on the other: then nothing is left.
impl Drop for Two {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.left.gateway.shutdown(self.now, parts!(self.left));
        self.right.gateway.reload(self.now, config(""), parts!(self.right)).1.unwrap();
        self.exchange();
        for side in [&mut self.left, &mut self.right] {
            assert!(side.plane.there.is_empty(), "{:?}", side.plane.steps);
            assert_eq!(side.gateway.pairs().count(), 0);
        }
    }
}
