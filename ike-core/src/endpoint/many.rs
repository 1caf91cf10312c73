//! One IKE SA with many children: how many places and configurations are looked at for what concerns one of them.

use std::boxed::Box;
use std::cell::Cell;
use std::vec;
use std::vec::Vec;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use ipsec_core::net::{AddrRange, Path, TrafficSelector};
use ipsec_core::time::Instant;

use super::explorer::toy::Toy;
use super::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use crate::child::ChildSlot;
use crate::event::{ChildId, Event, IkeId};
use crate::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use crate::proposal::{EspProposal, IkeProposal};
use crate::registry::IdKind;
use crate::table::looks;
use crate::wire::id::Id;

const NOW: Instant = Instant::from_millis(1_000_000);
const PEER: PeerId = PeerId(0);
const SAS: usize = 4;
const ROOM: usize = 1_024;

/// One connection with many children, each with a host of the initiator's behind it.
struct Many {
    side: usize,
    ends: [SocketAddr; 2],
    ike: [IkeProposal; 1],
    esp: [EspProposal; 1],
    hosts: Vec<[TrafficSelector; 1]>,
    net: [TrafficSelector; 1],
    looks: Cell<usize>,
}

impl Many {
    fn new(side: usize, children: usize) -> Self {
        let range = |net: u32, bits| {
            let net = IpAddr::V4(Ipv4Addr::from_bits(net));
            [TrafficSelector::addrs(AddrRange::prefix(net, bits).unwrap())]
        };
        Self {
            side,
            ends: ["192.0.2.1:500", "192.0.2.2:500"].map(|end| end.parse().unwrap()),
            ike: [IkeProposal::parse("aes256gcm16-prfsha256-x25519").unwrap()],
            esp: [EspProposal::parse("aes256gcm16").unwrap()],
            hosts: (0..children as u32).map(|number| range(0x0a01_0000 + number, 32)).collect(),
            net: range(0x0a02_0000, 16),
            looks: Cell::new(0),
        }
    }

    fn path(&self) -> Path {
        Path { local: self.ends[self.side], remote: self.ends[1 - self.side] }
    }
}

impl Pad for Many {
    fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
        let names = [&b"left.example"[..], b"right.example"].map(|data| Id { kind: IdKind::FQDN, data });
        Some(Connection {
            path: Some(self.path()),
            local_id: names[self.side],
            remote_id: Some(names[1 - self.side]),
            auth: Authentication::Psk(b"correct horse battery staple"),
            ike: &self.ike,
            force_encap: false,
            dpd: Duration::ZERO,
            rekey: Duration::ZERO,
        })
    }

    fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        self.looks.set(self.looks.get() + 1);
        self.child_by_id(peer, ChildConfigId(index as u32))
    }

    fn child_by_id(&self, _: PeerId, id: ChildConfigId) -> Option<ChildConfig<'_>> {
        let (host, net) = (self.hosts.get(id.0 as usize)?, &self.net);
        let [local, remote] = if self.side == 0 { [host, net] } else { [net, host] };
        let (rekey, lifetime) = (Duration::ZERO, Duration::ZERO);
        Some(ChildConfig { id, modes: Modes::Tunnel, esp: &self.esp, local, remote, rekey, lifetime, compress: false })
    }

    fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        after.is_none().then_some(PEER)
    }
}

/// Two endpoints, and what the first of them has.
struct Two {
    sides: [Endpoint<'static, Toy, Many>; 2],
    now: Instant,
    ike: Option<IkeId>,
    /// The newest of each configuration.
    children: Vec<Option<ChildId>>,
    /// What was told of these, in this order.
    told: Vec<(Told, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    New,
    Rekeyed,
    Down,
}

fn leak<T>(count: usize, new: impl Fn() -> T) -> &'static mut [T] {
    Box::leak((0..count).map(|_| new()).collect::<Vec<_>>().into_boxed_slice())
}

impl Two {
    fn new(children: usize) -> Self {
        // For each that is there and for one in its place.
        let slots = 2 * children + 8;
        let sides = [0, 1].map(|side| {
            let storage = Storage {
                sas: leak(SAS, IkeSlot::default),
                children: leak(slots, || ChildSlot::EMPTY),
                index: leak(IndexBlock::needed(SAS, slots), || IndexBlock::EMPTY),
                pairs: leak(SAS * 2 * ROOM, || 0),
                pool: leak(SAS * 2 * ROOM, || 0),
                blocks: SAS,
            };
            Endpoint::new(Toy::new(side as u64, 1), Many::new(side, children), storage, Settings::default()).unwrap()
        });
        Self { sides, now: NOW, ike: None, children: vec![None; children], told: Vec::new() }
    }

    /// Until there is nothing more to send, to tell and to do now.
    fn settle(&mut self) {
        loop {
            let mut rests = true;
            for (side, other) in [(0, 1), (1, 0)] {
                while let Some(event) = self.sides[side].poll_event() {
                    match event {
                        Event::ChildUp(up) if side == 0 => {
                            let told = if up.replaces.is_some() { Told::Rekeyed } else { Told::New };
                            self.told.push((told, up.config.0));
                            self.children[up.config.0 as usize] = Some(up.child);
                        }
                        Event::ChildDown { child, .. } if side == 0 => {
                            let config = self.children.iter().position(|known| *known == Some(child));
                            self.told.extend(config.map(|config| (Told::Down, config as u32)));
                        }
                        Event::Established { ike, .. } if side == 0 => self.ike = Some(ike),
                        Event::Closed { cause, .. } => panic!("{cause:?}"),
                        _ => {}
                    }
                }
                let sent = self.sides[side].poll_transmit().map(|transmit| transmit.datagram.to_vec());
                if let Some(mut datagram) = sent {
                    let path = self.sides[other].pad().path();
                    self.sides[other].handle_datagram(self.now, path, &mut datagram).unwrap();
                    rests = false;
                }
                if self.sides[side].poll_timeout().is_some_and(|due| due <= self.now) {
                    self.sides[side].handle_timeout(self.now);
                    rests = false;
                }
            }
            if rests {
                break;
            }
        }
    }

    /// With all children, which the first one has asked for at once.
    fn connected(children: usize) -> Self {
        let mut two = Self::new(children);
        two.sides[0].initiate(NOW, PEER, None).unwrap();
        two.settle();
        (1..children).for_each(|number| _ = two.create(number));
        two.settle();
        assert!(two.children.iter().all(Option::is_some));
        two
    }

    fn create(&mut self, number: usize) -> ChildId {
        let ike = self.ike.unwrap();
        self.sides[0].create_child(self.now, ike, ChildConfigId(number as u32)).unwrap()
    }

    fn rekey(&mut self, number: usize) {
        self.sides[0].rekey_child(self.now, self.children[number].unwrap()).unwrap();
    }

    fn close(&mut self, number: usize) {
        self.sides[0].close_child(self.now, self.children[number].unwrap()).unwrap();
    }

    fn ask(&mut self) {
        let ike = self.ike.unwrap();
        self.sides[0].check_liveness(self.now, ike).unwrap();
    }

    fn check(&self) {
        self.sides.iter().for_each(|side| assert_eq!(side.check(), Ok(())));
    }
}

/// At how many places of the tables, and at how many configurations, both sides look for this and all that comes of it.
fn looks(two: &mut Two, act: impl FnOnce(&mut Two)) -> [usize; 2] {
    two.sides.iter().for_each(|side| side.pad().looks.set(0));
    let places = looks::of(|| {
        act(two);
        two.settle();
    });
    [places, two.sides.iter().map(|side| side.pad().looks.get()).sum()]
}

#[test]
fn what_concerns_one_child_costs_the_same_beside_ten_and_beside_many() {
    let costs = |count: usize| {
        let connected = looks::of(|| drop(Two::connected(count))) / count;
        let (mut two, some) = (Two::connected(count), count / 2);
        let rekeyed = looks(&mut two, |two| two.rekey(some));
        let deleted = looks(&mut two, |two| two.close(some));
        let alive = looks(&mut two, Two::ask);
        // Which configuration fits is known only when it was looked at.
        let [created, found] = looks(&mut two, |two| assert_eq!(two.create(some), two.create(some)));
        assert!(found <= some + 2, "{found}");
        two.check();
        [rekeyed, deleted, alive, [created, 0], [connected, 0]]
    };
    let few = costs(10);
    for count in [100, 500] {
        for (few, many) in few.into_iter().zip(costs(count)) {
            // What falls due lies in a heap, which is deeper.
            assert!(many[0] <= few[0] + 10 && many[1] <= few[1] + 1, "{few:?} {many:?}");
        }
    }
}

#[test]
fn what_goes_comes_before_what_is_rekeyed_before_what_is_new_and_of_each_the_oldest_wish_first() {
    let mut two = Two::connected(10);
    for number in [7, 3] {
        two.close(number);
        two.settle();
    }
    two.told.clear();
    // Nothing else is asked for before this is answered.
    two.ask();
    [7, 3].into_iter().for_each(|number| _ = two.create(number));
    [8, 2].into_iter().for_each(|number| two.rekey(number));
    [6, 1].into_iter().for_each(|number| two.close(number));
    two.check();
    two.settle();
    let [new, rekeyed, down] = [Told::New, Told::Rekeyed, Told::Down];
    assert_eq!(two.told, [(down, 6), (down, 1), (rekeyed, 8), (rekeyed, 2), (new, 7), (new, 3)]);
}
