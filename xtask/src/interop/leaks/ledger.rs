//! What the watches saw.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::lab::flood::Stamp;
use crate::lab::frame::{Kind, Packet, classify};
use crate::lab::watch::Crossing;

/// Streams of numbered packets. Even ones are IPv4, odd ones IPv6.
pub(super) const FROM_LAN: [u8; 2] = [0, 1];
/// From the peer's host to ours.
pub(super) const TO_LAN: [u8; 2] = [2, 3];
/// From the gateway itself, its source left to the kernel.
pub(super) const FROM_GATEWAY: [u8; 2] = [4, 5];
/// Forged outside, for our host.
pub(super) const FORGED_TO_LAN: [u8; 2] = [6, 7];
/// Forged outside, for the gateway's address inside.
pub(super) const FORGED_TO_GATEWAY: [u8; 2] = [8, 9];
/// How many of the flows are to arrive; the others are not.
const HONEST: usize = 6;
/// How long an arrival waits for the other watches to tell that the packet was in clear on its way.
const HEARING: Duration = Duration::from_millis(100);

/// Words for a flow.
pub(super) fn name(flow: u8) -> &'static str {
    [
        "LAN to peer, IPv4",
        "LAN to peer, IPv6",
        "peer to LAN, IPv4",
        "peer to LAN, IPv6",
        "gateway to peer, IPv4",
        "gateway to peer, IPv6",
        "forged to LAN, IPv4",
        "forged to LAN, IPv6",
        "forged to gateway, IPv4",
        "forged to gateway, IPv6",
    ]
    .get(usize::from(flow))
    .copied()
    .unwrap_or("no flow of ours")
}

/// How a flow arrives.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    last: Instant,
    longest: Duration,
    count: u64,
}

/// What was seen since the last [`Ledger::turn`].
pub(super) struct Ledger {
    began: Instant,
    arrivals: [Arrival; HONEST],
    /// Arrivals that may turn out to have been in clear.
    heard: VecDeque<(Instant, Stamp)>,
    /// Packets with a protected address that left in clear, by flow; the last is for all else.
    out: [u64; HONEST + 1],
    /// Honest packets that left in clear, those that came to the gateway in clear, and those that it delivered.
    left_in_clear: HashSet<Stamp>,
    came_in_clear: HashSet<Stamp>,
    delivered: HashSet<Stamp>,
    /// Forged packets that arrived, by flow.
    forged: [u64; 10],
    story: Vec<String>,
}

/// What a round ends with.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// In clear, out: by flow, the last one for all else.
    pub(super) out: Vec<u64>,
    /// In clear, in: by flow.
    pub(super) inward: Vec<u64>,
    /// The longest time that a flow was silent, and which.
    pub(super) outage: (Duration, u8),
    /// The first packets in clear in words.
    pub(super) story: Vec<String>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            arrivals: [Arrival { last: now, longest: Duration::ZERO, count: 0 }; HONEST],
            heard: VecDeque::new(),
            out: [0; HONEST + 1],
            left_in_clear: HashSet::new(),
            came_in_clear: HashSet::new(),
            delivered: HashSet::new(),
            forged: [0; 10],
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
        for (flow, arrival) in (0..).zip(&self.arrivals) {
            outage = outage.max((arrival.longest.max(settled.saturating_duration_since(arrival.last)), flow));
        }
        let old = std::mem::replace(self, Self::new());
        let mut inward = old.forged.to_vec();
        for stamp in old.came_in_clear.intersection(&old.delivered) {
            inward[usize::from(stamp.flow)] += 1;
        }
        Seen { out: old.out.to_vec(), inward, outage, story: old.story }
    }

    /// How many packets of each honest flow have arrived through the tunnel.
    pub(super) fn arrived(&mut self) -> [u64; HONEST] {
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
            Crossing::Out if classify(frame) != Kind::Neighbour && is_protected(&packet) => {
                let flow = stamp.map_or(HONEST, |stamp| usize::from(stamp.flow)).min(HONEST);
                self.out[flow] += 1;
                self.left_in_clear.extend(stamp);
                self.tell("out in clear", frame);
            }
            Crossing::Out => {}
        }
    }

    /// A frame on the interface of the gateway that faces our host.
    pub(super) fn inside(&mut self, crossing: Crossing, frame: &[u8]) {
        let (Crossing::Out, Some(stamp)) = (crossing, stamp(frame)) else { return };
        if TO_LAN.contains(&stamp.flow) {
            self.heard.push_back((Instant::now(), stamp));
            self.delivered.insert(stamp);
        } else {
            self.takes_forged(stamp, frame);
        }
    }

    /// A packet that the gateway itself was given.
    pub(super) fn at_gateway(&mut self, payload: &[u8]) {
        if let Some(stamp) = Stamp::read(payload) {
            self.takes_forged(stamp, &[]);
        }
    }

    fn takes_forged(&mut self, stamp: Stamp, frame: &[u8]) {
        if FORGED_TO_LAN.contains(&stamp.flow) || FORGED_TO_GATEWAY.contains(&stamp.flow) {
            self.forged[usize::from(stamp.flow)] += 1;
            self.tell(name(stamp.flow), frame);
        }
    }

    /// A frame on the interface of the peer's host.
    pub(super) fn at_peer(&mut self, crossing: Crossing, frame: &[u8]) {
        if let (Crossing::In, Some(stamp)) = (crossing, stamp(frame)) {
            self.heard.push_back((Instant::now(), stamp));
        }
    }
}

fn stamp(frame: &[u8]) -> Option<Stamp> {
    Stamp::read(Packet::in_frame(frame)?.udp()?.2)
}

/// Whether it is to be seen outside in the tunnel alone: to the peer's side, from ours, or for ours from the peer's.
fn is_protected(packet: &Packet<'_>) -> bool {
    ours(packet.from) || theirs(packet.to) || theirs(packet.from) && ours(packet.to)
}

/// 10.1.0.0/16 and fd01::/64: what is protected on our side.
fn ours(address: IpAddr) -> bool {
    belongs(address, 1)
}

/// 10.2.0.0/16 and fd02::/64.
fn theirs(address: IpAddr) -> bool {
    belongs(address, 2)
}

fn belongs(address: IpAddr, site: u8) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..2] == [10, site],
        IpAddr::V6(address) => address.segments()[..4] == [0xfd00 + u16::from(site), 0, 0, 0],
    }
}
