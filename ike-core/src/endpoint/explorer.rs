//! Every way in which two endpoints can come out of what happens at once, within bounds: a breadth-first search over what the
//! wire does and what the two ends wish for.
//!
//! An endpoint borrows its memory, so a state is known by the way that leads to it, which is gone anew each time; it is the same
//! as another one when its [`Canon`] is. In each state everything is filed where it is looked for, and while nobody closes
//! anything each side sends through what the other one receives with. From each state the wire is fair for a while, and then
//! both ends hold the same one pair, and nothing else; where nothing was lost or overtaken, that is so before anybody gives up.
//!
//! `cargo nextest run -p ike-core explorer` looks at as many states as a test may take time for. For more of them:
//! `PORTCULLIS_STATES=1000000 cargo test --release -p ike-core --lib explorer::far -- --nocapture`.

use std::boxed::Box;
use std::collections::{BTreeMap, HashSet};
use std::string::String;
use std::vec::Vec;
use std::{format, println, vec};

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use ipsec_core::net::{AddrRange, Path, TrafficSelector};
use ipsec_core::time::Instant;

use super::{Endpoint, IndexBlock, Occupancy, SaState, Settings, Storage};
use crate::child::ChildSlot;
use crate::event::{ChildId, Event, IkeId};
use crate::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use crate::proposal::{EspProposal, IkeProposal};
use crate::registry::{ExchangeType, IdKind};
use crate::room::cut::Arrived;
use crate::sa::IkeSlot;
use crate::wire::header::Header;
use crate::wire::id::Id;

mod canon;
mod several;
pub(super) mod toy;

use canon::{Canon, Name};
use toy::{Toy, digest};

const SAS: usize = 8;
const CHILDREN: usize = 8;
/// Octets for each of the two messages of an SA, beside it and in a block. Every answer has room beside it: one that has not is
/// looked at again and again, and nothing would ever be at rest.
const MESSAGES: [usize; 2] = [600, 600];
/// How often the wire may deliver or the time pass until all has to be at rest.
const PATIENCE: usize = 400;
/// Who waits for a Delete that does not come waits for longer than all else takes where nothing is lost, so that it shows.
const ORPHAN: Duration = Duration::from_secs(200);
const AT_REST: Duration = Duration::from_secs(60);

/// What may happen next. A side is 0 or 1, a message the number of one that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Deliver(u8),
    Lose(u8),
    /// It arrives, and will once more.
    Double(u8),
    /// The time passes until something falls due.
    Wait,
    RekeyChild(u8),
    RekeyIke(u8),
    CloseChild(u8),
}

/// How much of it may happen on one way.
#[derive(Clone, Copy)]
struct Budget {
    wishes: u8,
    faults: u8,
    waits: u8,
    /// Whether a wish may be to close the child.
    closes: bool,
}

/// One connection.
struct One {
    local: SocketAddr,
    remote: SocketAddr,
    names: [&'static [u8]; 2],
    ike: [IkeProposal; 1],
    esp: [EspProposal; 1],
    nets: [[TrafficSelector; 1]; 2],
}

impl One {
    fn new(side: usize) -> Self {
        let ends = ["192.0.2.1:500", "192.0.2.2:500"].map(|end| end.parse().unwrap());
        let nets = ["10.1.0.0", "10.2.0.0"]
            .map(|net| [TrafficSelector::addrs(AddrRange::prefix(net.parse::<IpAddr>().unwrap(), 16).unwrap())]);
        let names: [&[u8]; 2] = [b"left.example", b"right.example"];
        Self {
            local: ends[side],
            remote: ends[1 - side],
            names: [names[side], names[1 - side]],
            ike: [IkeProposal::parse("aes256gcm16-prfsha256-x25519").unwrap()],
            esp: [EspProposal::parse("aes256gcm16-x25519").unwrap()],
            nets: [nets[side], nets[1 - side]],
        }
    }
}

impl Pad for One {
    fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
        let [local_id, remote_id] = self.names.map(|data| Id { kind: IdKind::FQDN, data });
        Some(Connection {
            path: Some(Path { local: self.local, remote: self.remote }),
            local_id,
            remote_id: Some(remote_id),
            auth: Authentication::Psk(b"correct horse battery staple"),
            ike: &self.ike,
            force_encap: false,
            dpd: Duration::ZERO,
            rekey: Duration::ZERO,
        })
    }

    fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        (index == 0).then_some(ChildConfig {
            id: ChildConfigId(0),
            modes: Modes::Tunnel,
            esp: &self.esp,
            local: &self.nets[0],
            remote: &self.nets[1],
            rekey: Duration::ZERO,
            lifetime: Duration::ZERO,
            compress: false,
        })
    }

    fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        after.is_none().then_some(PeerId(0))
    }
}

/// A Child SA as the data plane has it: what it is known by in packets, and the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Installed {
    spis: [u32; 2],
    keys: [u64; 2],
}

struct Side<'m> {
    endpoint: Endpoint<'m, Toy, One>,
    installed: BTreeMap<ChildId, Installed>,
    sending: Option<ChildId>,
    /// Of messages that are not whole yet.
    arrived: Arrived,
}

/// The caller's memory for one side.
struct Memory {
    sas: Vec<IkeSlot<Toy>>,
    children: Vec<ChildSlot>,
    index: Vec<IndexBlock>,
    rooms: [Vec<u8>; 2],
}

impl Memory {
    fn new() -> Self {
        Self {
            sas: (0..SAS).map(|_| IkeSlot::default()).collect(),
            children: (0..CHILDREN).map(|_| ChildSlot::EMPTY).collect(),
            index: (0..IndexBlock::needed(SAS, CHILDREN)).map(|_| IndexBlock::EMPTY).collect(),
            rooms: MESSAGES.map(|octets| vec![0; SAS * 2 * octets]),
        }
    }
}

/// A message on its way.
#[derive(Clone)]
struct Flight {
    to: u8,
    datagram: Vec<u8>,
    /// How many left before it.
    number: u32,
}

struct World<'m> {
    now: Instant,
    sides: [Side<'m>; 2],
    wire: Vec<Flight>,
    left: Budget,
    closed: bool,
    /// How many left.
    sent: u32,
    /// A message arrived before one that left earlier.
    overtaken: bool,
}

impl<'m> World<'m> {
    /// Two ends with one connection and one child, at rest. `lower`: whose nonces are lower.
    fn new(memory: &'m mut [Memory; 2], left: Budget, lower: u8) -> Self {
        let mut side = 0;
        let settings = Settings { orphan: ORPHAN, ..Settings::default() };
        let sides = memory.each_mut().map(|memory| {
            let engine = Toy::new(side, u8::from(u64::from(lower) != side) + 1);
            let Memory { sas, children, index, rooms: [pairs, pool] } = memory;
            let storage = Storage { sas, children, index, pairs, pool, blocks: SAS };
            let endpoint = Endpoint::new(engine, One::new(side as usize), storage, settings).unwrap();
            side += 1;
            Side { endpoint, installed: BTreeMap::new(), sending: None, arrived: Arrived::default() }
        });
        let mut world = Self {
            now: Instant::from_millis(1_000_000),
            sides,
            wire: Vec::new(),
            left,
            closed: false,
            sent: 0,
            overtaken: false,
        };
        world.sides[0].endpoint.initiate(world.now, PeerId(0), None).unwrap();
        world.settle().unwrap();
        world.come_to_rest().unwrap();
        world
    }

    /// What each side wants to send and to tell, until there is nothing more of it now.
    fn settle(&mut self) -> Result<(), String> {
        for round in 0.. {
            for (from, side) in self.sides.iter_mut().enumerate() {
                while let Some(transmit) = side.endpoint.poll_transmit() {
                    self.wire.push(Flight {
                        to: 1 - from as u8,
                        datagram: transmit.datagram.to_vec(),
                        number: self.sent,
                    });
                    self.sent += 1;
                }
                side.listen()?;
                side.endpoint.check().map_err(|what| format!("{what:?}"))?;
            }
            let ripe = |side: &Side<'_>| side.endpoint.poll_timeout().is_some_and(|due| due <= self.now);
            if !self.sides.iter().any(ripe) {
                break;
            }
            if round > 100 {
                return Err("what is due is never done".into());
            }
            self.sides.iter_mut().for_each(|side| side.endpoint.handle_timeout(self.now));
        }
        Ok(())
    }

    fn deliver(&mut self, Flight { to, datagram, number }: Flight) {
        self.overtaken |= self.wire.iter().any(|other| other.to == to && other.number < number);
        let side = &mut self.sides[usize::from(to)];
        let Some(mut datagram) = side.arrived.take(datagram) else { return };
        let (local, remote) = (side.endpoint.pad().local, side.endpoint.pad().remote);
        let header = Header::parse(&datagram).unwrap();
        side.endpoint.crypto.answers = header.exchange == ExchangeType::CREATE_CHILD_SA && !header.response;
        let _ = side.endpoint.handle_datagram(self.now, Path { local, remote }, &mut datagram);
        side.endpoint.crypto.answers = false;
    }

    /// Lets the time pass until something falls due. False: nothing ever does.
    fn wait(&mut self) -> bool {
        let Some(due) = self.sides.iter().filter_map(|side| side.endpoint.poll_timeout()).min() else { return false };
        self.now = self.now.max(due);
        self.sides.iter_mut().for_each(|side| side.endpoint.handle_timeout(self.now));
        true
    }

    /// From here on the wire is fair.
    fn come_to_rest(&mut self) -> Result<(), String> {
        for _ in 0..PATIENCE {
            if !self.wire.is_empty() {
                let earliest = self.wire.iter().enumerate().min_by_key(|(_, flight)| flight.number);
                let flight = self.wire.remove(earliest.map_or(0, |(index, _)| index));
                self.deliver(flight);
            } else if !self.wait() {
                return Ok(());
            }
            self.settle()?;
        }
        Err("they never come to rest".into())
    }

    /// Everything that may happen now.
    fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        let on_their_way = 0..self.wire.len() as u8;
        acts.extend(on_their_way.clone().map(Act::Deliver));
        if self.left.faults > 0 {
            acts.extend(on_their_way.clone().map(Act::Lose));
            acts.extend(on_their_way.map(Act::Double));
        }
        if self.left.waits > 0 {
            acts.push(Act::Wait);
        }
        if self.left.wishes > 0 {
            for side in 0..2 {
                acts.extend([Act::RekeyChild(side), Act::RekeyIke(side)]);
                acts.extend(self.left.closes.then_some(Act::CloseChild(side)));
            }
        }
        acts
    }

    /// False: it cannot be, or nothing would come of it.
    fn act(&mut self, act: Act) -> Result<bool, String> {
        let now = self.now;
        let happened = match act {
            Act::Deliver(index) | Act::Lose(index) | Act::Double(index) => {
                let flight = self.wire.remove(usize::from(index));
                self.left.faults -= u8::from(!matches!(act, Act::Deliver(_)));
                if let Act::Double(_) = act {
                    self.wire.push(flight.clone());
                }
                if !matches!(act, Act::Lose(_)) {
                    self.deliver(flight);
                }
                true
            }
            Act::Wait => {
                self.left.waits -= 1;
                self.wait()
            }
            Act::RekeyChild(side) | Act::RekeyIke(side) | Act::CloseChild(side) => {
                self.left.wishes -= 1;
                let side = &mut self.sides[usize::from(side)];
                let ike = side.ike().ok();
                match (act, side.sending, ike) {
                    (Act::RekeyChild(_), Some(child), _) => side.endpoint.rekey_child(now, child).is_ok(),
                    (Act::RekeyIke(_), _, Some(ike)) => side.endpoint.rekey_ike(now, ike).is_ok(),
                    (Act::CloseChild(_), Some(child), _) => {
                        self.closed = true;
                        side.endpoint.close_child(now, child).is_ok()
                    }
                    _ => false,
                }
            }
        };
        self.settle()?;
        // Each may arrive next: the order in which they left says nothing.
        let key = |Flight { to, datagram, .. }: &Flight| (*to, datagram[16..28].to_vec(), datagram[..16].to_vec());
        self.wire.sort_by_cached_key(key);
        Ok(happened)
    }

    fn canon(&mut self) -> [u64; 2] {
        let mut canon = Canon::new(self.now);
        let Budget { wishes, faults, waits, .. } = self.left;
        [wishes, faults, waits].into_iter().for_each(|left| canon.word(left));
        canon.word(self.closed);
        canon.word(self.overtaken);
        for side in &mut self.sides {
            canon.endpoint(&mut side.endpoint);
            for (child, Installed { spis, keys }) in &side.installed {
                canon.name(Name::Child(*child));
                spis.iter().for_each(|spi| canon.name(Name::Esp(u64::from(*spi))));
                keys.iter().for_each(|key| canon.name(Name::Key(*key)));
            }
            canon.word(side.sending.is_some());
            side.sending.into_iter().for_each(|child| canon.name(Name::Child(child)));
        }
        for flight in &self.wire {
            canon.word(flight.to);
            canon.message(&flight.datagram);
        }
        canon.finish()
    }

    /// What holds in each state: a packet that leaves now arrives, unless somebody is closing what carries it.
    fn check(&self) -> Result<(), String> {
        for (side, other) in [(0, 1), (1, 0)] {
            let (side, other) = (&self.sides[side], &self.sides[other]);
            let Some(sending) = side.sending.map(|child| side.installed[&child]) else {
                if self.closed {
                    continue;
                }
                return Err("a side has nothing to send through".into());
            };
            let received = |theirs: &Installed| theirs.spis[0] == sending.spis[1] && theirs.keys[0] == sending.keys[1];
            if !self.closed && !other.installed.values().any(received) {
                return Err("a side sends through what the other does not receive with".into());
            }
        }
        Ok(())
    }

    /// What holds at rest: both ends have the same IKE SA, and the same Child SA unless it was closed, and nothing else.
    fn check_at_rest(&self) -> Result<(), String> {
        self.check()?;
        for side in &self.sides {
            side.ike()?;
            let expected = Occupancy { ike_sas: 1, reserved: 0, child_sas: side.installed.len() };
            let found = side.endpoint.occupancy();
            if found != expected || side.installed.len() > 1 || (side.installed.is_empty() && !self.closed) {
                return Err(format!("{found:?} with {} installed", side.installed.len()));
            }
        }
        let ikes = self.sides.each_ref().map(|side| {
            let sa = side.endpoint.ike_sas().next().unwrap();
            [sa.spi_local, sa.spi_remote]
        });
        let children = self.sides.each_ref().map(|side| side.installed.values().next().copied());
        let swapped =
            children[1].map(|Installed { spis: [a, b], keys: [k, l] }| Installed { spis: [b, a], keys: [l, k] });
        if ikes[0] != [ikes[1][1], ikes[1][0]] || children[0] != swapped {
            return Err("the ends hold different SAs".into());
        }
        Ok(())
    }
}

impl Side<'_> {
    fn listen(&mut self) -> Result<(), String> {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::ChildUp(up) => {
                    let keys = [up.key_in, up.key_out].map(|key| digest(10, key));
                    let installed = Installed { spis: [up.spi_in.get(), up.spi_out.get()], keys };
                    if up.outbound_ready {
                        self.sending = Some(up.child);
                    }
                    self.installed.insert(up.child, installed);
                }
                Event::ChildOutbound { child } => self.sending = Some(child),
                Event::ChildDraining { child } => _ = self.sending.take_if(|sending| *sending == child),
                Event::ChildDown { child, .. } => {
                    self.installed.remove(&child).ok_or("the end of a child that was not up")?;
                    self.sending.take_if(|sending| *sending == child);
                }
                Event::Closed { cause, .. } => return Err(format!("an IKE SA ends: {cause:?}")),
                _ => {}
            }
        }
        Ok(())
    }

    /// The IKE SA that is in use.
    fn ike(&self) -> Result<IkeId, String> {
        let mut up = self.endpoint.ike_sas().filter(|sa| sa.state == SaState::Established);
        match (up.next(), up.next()) {
            (Some(sa), None) => Ok(sa.id),
            (None, _) => Err("no IKE SA is in use".into()),
            _ => Err("two IKE SAs are in use".into()),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    ways: usize,
    depth: usize,
    /// Every state within the budget was seen.
    whole: bool,
}

/// Looks at so many states, the nearest first.
fn explore(budget: Budget, lower: u8, limit: usize) -> Found {
    let mut memory = [Memory::new(), Memory::new()];
    let mut found = Found { whole: true, ..Found::default() };
    let mut seen = HashSet::new();
    let begin = arrive(&mut memory, budget, lower, &[]).acts();
    let mut next: Vec<(Box<[Act]>, Vec<Act>)> = vec![(Box::default(), begin)];
    while !next.is_empty() {
        for (way, acts) in core::mem::take(&mut next) {
            for act in acts {
                if seen.len() >= limit {
                    found.whole = false;
                    return found;
                }
                let further: Box<[Act]> = way.iter().copied().chain([act]).collect();
                let mut world = arrive(&mut memory, budget, lower, &way);
                let fail = |why: String| -> ! { panic!("nonces of {lower} lower, after {further:?}: {why}") };
                found.ways += 1;
                if !world.act(act).unwrap_or_else(|why| fail(why)) || !seen.insert(world.canon()) {
                    continue;
                }
                found.states = seen.len();
                found.depth = further.len();
                world.check().unwrap_or_else(|why| fail(why));
                let acts = world.acts();
                // A Delete that overtakes the answer before it leaves an SA whose maker never knew it: that one waits.
                let (begin, whole) = (world.now, world.left.faults == budget.faults && !world.overtaken);
                let rest = world.come_to_rest().and_then(|()| world.check_at_rest());
                rest.unwrap_or_else(|why| fail(format!("once the wire is fair: {why}")));
                if whole && world.now.since(begin) > AT_REST {
                    fail("nothing is lost or overtaken, and yet somebody waits for what does not come".into());
                }
                next.push((further, acts));
            }
        }
    }
    found
}

/// The state to which a way leads.
fn arrive<'m>(memory: &'m mut [Memory; 2], budget: Budget, lower: u8, way: &[Act]) -> World<'m> {
    let mut world = World::new(memory, budget, lower);
    for act in way {
        world.act(*act).expect("it was gone before");
    }
    world
}

/// Both exploration runs: which nonces are lower decides which of two crossing rekeys stays.
fn report(what: &str, budget: Budget, limit: usize) -> [Found; 2] {
    [0, 1].map(|lower| {
        let found = explore(budget, lower, limit);
        println!("{what}, nonces of {lower} lower: {found:?}");
        found
    })
}

const REKEYS: Budget = Budget { wishes: 2, faults: 0, waits: 0, closes: false };

#[test]
fn two_rekeys_at_once_come_out_well_in_every_order() {
    for found in report("two rekeys", REKEYS, 100_000) {
        assert!(found.whole && found.states > 100, "{found:?}");
    }
}

#[test]
fn three_rekeys_at_once_come_out_well() {
    report("three rekeys", Budget { wishes: 3, ..REKEYS }, 2_000);
}

#[test]
fn two_wishes_on_a_lossy_wire_come_out_well() {
    report("two wishes, a fault and a wait", Budget { faults: 1, waits: 1, closes: true, ..REKEYS }, 1_500);
}

/// As far as somebody has the patience for; a few steps when nobody says so.
#[test]
fn far() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let budget = Budget {
        wishes: number("PORTCULLIS_WISHES", 3) as u8,
        faults: number("PORTCULLIS_FAULTS", 2) as u8,
        waits: number("PORTCULLIS_WAITS", 2) as u8,
        closes: true,
    };
    report("far", budget, number("PORTCULLIS_STATES", 200));
}
