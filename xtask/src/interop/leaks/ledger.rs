//! What the watches saw.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::flow::{
    BYPASSED_FROM_GATEWAY, BYPASSED_FROM_LAN, BYPASSED_TO_LAN, DISCARDED_FROM_GATEWAY, DISCARDED_FROM_LAN,
    DISCARDED_IN_TUNNEL, DISCARDED_TO_LAN, FLOWS, FORGED_TO_GATEWAY, FORGED_TO_LAN, FROM_GATEWAY, FROM_INSIDE,
    FROM_LAN, TO_LAN, name,
};
use super::kind::Kind;
use crate::lab::flood::Stamp;
use crate::lab::frame::{self, Packet, classify};
use crate::lab::watch::Crossing;

/// What is not to arrive here.
const KEPT_OUT: [[u8; 2]; 4] = [FORGED_TO_LAN, FORGED_TO_GATEWAY, DISCARDED_TO_LAN, DISCARDED_IN_TUNNEL];
/// How long an arrival waits for the other watches to tell that the packet was in clear on its way.
const HEARING: Duration = Duration::from_millis(100);

/// How a flow arrives.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    last: Instant,
    longest: Duration,
    count: u64,
}

/// What was seen since the last [`Ledger::turn`].
pub(super) struct Ledger {
    kind: Kind,
    began: Instant,
    arrivals: [Arrival; FLOWS],
    /// Arrivals that may turn out to have been in clear.
    heard: VecDeque<(Instant, Stamp)>,
    /// Packets that are to be seen nowhere outside and left, by flow; the last is for all else.
    out: [u64; FLOWS + 1],
    /// Packets of the gateway's own that left in clear with an outside address.
    spoken: u64,
    /// Honest packets that left in clear, those that came to the gateway in clear, and those that it delivered.
    left_in_clear: HashSet<Stamp>,
    came_in_clear: HashSet<Stamp>,
    delivered: HashSet<Stamp>,
    /// Forged and discarded packets that arrived, by flow.
    arrived_wrongly: [u64; FLOWS],
    story: Vec<String>,
}

/// What a round ends with.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// In clear, out: by flow, the last one for all else.
    pub(super) out: Vec<u64>,
    /// The gateway's own in clear, out, with an outside address that the kernel has chosen.
    pub(super) spoken: u64,
    /// Arrived in clear, or though it is discarded: by flow.
    pub(super) inward: Vec<u64>,
    /// The longest time that a flow was silent, and which.
    pub(super) outage: (Duration, u8),
    /// The first packets in clear in words.
    pub(super) story: Vec<String>,
}

impl Ledger {
    pub(super) fn new(kind: Kind) -> Self {
        let now = Instant::now();
        Self {
            kind,
            began: now,
            arrivals: [Arrival { last: now, longest: Duration::ZERO, count: 0 }; FLOWS],
            heard: VecDeque::new(),
            out: [0; FLOWS + 1],
            spoken: 0,
            left_in_clear: HashSet::new(),
            came_in_clear: HashSet::new(),
            delivered: HashSet::new(),
            arrived_wrongly: [0; FLOWS],
            story: Vec::new(),
        }
    }

    /// Closes the book and opens a new one.
    pub(super) fn turn(&mut self) -> Seen {
        let now = Instant::now();
        self.settle(now);
        // Younger arrivals are not settled yet.
        let settled = now.checked_sub(HEARING).unwrap_or(now);
        let mut outage = (Duration::ZERO, 0);
        for (flow, arrival) in (0..).zip(&self.arrivals).filter(|(flow, _)| self.kind.to_arrive().contains(flow)) {
            outage = outage.max((arrival.longest.max(settled.saturating_duration_since(arrival.last)), flow));
        }
        let old = std::mem::replace(self, Self::new(self.kind));
        let mut inward = old.arrived_wrongly.to_vec();
        for stamp in old.came_in_clear.intersection(&old.delivered) {
            inward[usize::from(stamp.flow)] += 1;
        }
        Seen { out: old.out.to_vec(), spoken: old.spoken, inward, outage, story: old.story }
    }

    /// How many packets of each flow have arrived by the way that is theirs: through the tunnel, or around it.
    pub(super) fn arrived(&mut self) -> [u64; FLOWS] {
        self.settle(Instant::now());
        self.arrivals.map(|arrival| arrival.count)
    }

    fn settle(&mut self, now: Instant) {
        while let Some(&(at, stamp)) = self.heard.front()
            && now - at > HEARING
        {
            self.heard.pop_front();
            // What did not come through the tunnel does not tell that there is one.
            let clear = self.left_in_clear.contains(&stamp) || self.came_in_clear.contains(&stamp);
            if let Some(arrival) = self.arrivals.get_mut(usize::from(stamp.flow)).filter(|_| !clear) {
                arrival.longest = arrival.longest.max(at.saturating_duration_since(arrival.last));
                arrival.last = at;
                arrival.count += 1;
            }
        }
    }

    fn tell(&mut self, what: &str, frame: &[u8]) {
        if self.story.len() >= 4 {
            return;
        }
        let at = self.began.elapsed().as_secs_f32();
        let words = Packet::in_frame(frame)
            .map_or_else(String::new, |packet| format!("{} > {} protocol {}", packet.from, packet.to, packet.protocol));
        self.story.push(format!("{what} at {at:.3} s: {words}"));
    }

    /// A frame on an interface of the gateway that leads outside.
    pub(super) fn outside(&mut self, crossing: Crossing, frame: &[u8]) {
        let Some(packet) = Packet::in_frame(frame) else { return };
        let stamp = stamp(frame);
        match crossing {
            Crossing::In => {
                if let Some(stamp) = stamp.filter(|stamp| TO_LAN.contains(&stamp.flow)) {
                    self.came_in_clear.insert(stamp);
                }
            }
            // Neighbour discovery is about the link.
            Crossing::Out if classify(frame) != frame::Kind::Neighbour && self.kind.hides(&packet) => {
                self.left_in_clear.extend(stamp);
                if stamp.is_some_and(|stamp| self.kind.lets_speak(stamp.flow, &packet)) {
                    self.spoken += 1;
                } else {
                    self.out[stamp.map_or(FLOWS, |stamp| usize::from(stamp.flow)).min(FLOWS)] += 1;
                }
                self.tell("out in clear", frame);
            }
            Crossing::Out => {
                let bypassed = [BYPASSED_FROM_LAN, BYPASSED_FROM_GATEWAY];
                let passed = stamp.filter(|stamp| bypassed.as_flattened().contains(&stamp.flow));
                self.heard.extend(passed.map(|stamp| (Instant::now(), stamp)));
            }
        }
    }

    /// A frame on the interface of the gateway that faces our host.
    pub(super) fn inside(&mut self, crossing: Crossing, frame: &[u8]) {
        let (Crossing::Out, Some(stamp)) = (crossing, stamp(frame)) else { return };
        if TO_LAN.contains(&stamp.flow) {
            self.heard.push_back((Instant::now(), stamp));
            self.delivered.insert(stamp);
        } else if BYPASSED_TO_LAN.contains(&stamp.flow) {
            self.heard.push_back((Instant::now(), stamp));
        } else {
            self.takes(stamp, &KEPT_OUT, frame);
        }
    }

    /// A packet that the gateway itself was given.
    pub(super) fn at_gateway(&mut self, payload: &[u8]) {
        if let Some(stamp) = Stamp::read(payload) {
            self.takes(stamp, &KEPT_OUT, &[]);
        }
    }

    /// Counts it where it is of one of these flows, which are not to arrive.
    fn takes(&mut self, stamp: Stamp, flows: &[[u8; 2]], frame: &[u8]) {
        if flows.as_flattened().contains(&stamp.flow) {
            self.arrived_wrongly[usize::from(stamp.flow)] += 1;
            self.tell(&name(stamp.flow), frame);
        }
    }

    /// A frame on the interface of the peer's host.
    pub(super) fn at_peer(&mut self, crossing: Crossing, frame: &[u8]) {
        let (Crossing::In, Some(stamp)) = (crossing, stamp(frame)) else { return };
        // What went around the tunnel was noted when it left.
        if [FROM_LAN, FROM_GATEWAY, FROM_INSIDE].as_flattened().contains(&stamp.flow) {
            self.heard.push_back((Instant::now(), stamp));
        }
        self.takes(stamp, &[DISCARDED_FROM_LAN, DISCARDED_FROM_GATEWAY], frame);
    }
}

fn stamp(frame: &[u8]) -> Option<Stamp> {
    Stamp::read(Packet::in_frame(frame)?.udp()?.2)
}
