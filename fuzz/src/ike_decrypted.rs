//! Two endpoints in dialogue. The fuzzer orders wishes, loss, repetition and time, and changes, puts in and replaces
//! messages behind the tag: what is left of the protocol when the peer holds the keys and wishes us ill.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use ike_core::child::within;
use ike_core::endpoint::{ChildView, IkeView, Settings};
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, Pad};
use ike_core::registry::{ExchangeType, PayloadType};
use ike_core::wire::header::Header;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::crypto::TAG;
use crate::input::Input;
use crate::sites::{Host, PEER, Tables, pair};

/// Octets of generic header and IV before what an SK payload hides.
const SK_FRONT: usize = 4 + 8;
/// What the SK payload ends with: pad length and tag.
const SK_END: usize = 1 + TAG.len();
/// Steps of one run.
const STEPS: usize = 96;
/// Messages that honest endpoints may exchange without any time passing.
const CHATTER: usize = 400;

/// An octet that says where the dialogue starts, then steps.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut tables = [Tables::default(), Tables::default()];
    let mut dialogue = Dialogue::new(&mut tables);
    let start = input.octet();
    for (index, side) in dialogue.sides.iter_mut().enumerate() {
        side.host.pad_mut().anybody = start & (2 << index) != 0;
    }
    let _ = dialogue.sides[0].host.initiate(dialogue.now, PEER, None);
    dialogue.settle();
    if start & 1 == 0 {
        dialogue.deliver_all();
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        dialogue.step(&mut input);
    }
    dialogue.come_to_rest();
}

/// A datagram on its way to a side.
struct Flight {
    to: usize,
    path: Path,
    datagram: Vec<u8>,
}

/// A host, and what it told.
struct Side<'t> {
    host: Host<'t>,
    ikes: BTreeSet<IkeId>,
    /// The SPI of each Child SA that is installed.
    children: BTreeMap<ChildId, u32>,
}

struct Dialogue<'t> {
    now: Instant,
    sides: [Side<'t>; 2],
    wire: VecDeque<Flight>,
}

impl<'t> Dialogue<'t> {
    fn new(tables: &'t mut [Tables; 2]) -> Self {
        let ([left, right], [left_site, right_site]) = (tables.each_mut(), pair());
        let side = |host: Host<'t>| Side { host, ikes: BTreeSet::new(), children: BTreeMap::new() };
        let left = side(left.host(1, left_site, Settings::default()));
        let right = side(right.host(2, right_site, Settings::default()));
        Self { now: Instant::from_millis(1_000_000), sides: [left, right], wire: VecDeque::new() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.octet();
        let side = usize::from(choice >> 7);
        match choice & 0x0f {
            0..=3 => self.deliver(),
            4 => drop(self.wire.pop_front()),
            5 => self.repeat(),
            6 => self.wire.rotate_left(usize::from(!self.wire.is_empty())),
            7 => self.change(input),
            8 => self.replace(input),
            9 | 10 => self.inject(side, input),
            11 => self.pass(input),
            12..=14 => self.wish(side, input),
            _ => self.configure(side, input),
        }
        self.settle();
    }

    fn deliver(&mut self) {
        let Some(Flight { to, path, mut datagram }) = self.wire.pop_front() else { return };
        let host = &mut self.sides[to].host;
        let before = snapshot(host);
        if host.handle_datagram(self.now, path, &mut datagram).is_err() {
            assert_eq!(snapshot(host), before, "a discarded message changed something");
        }
    }

    fn repeat(&mut self) {
        if let Some(Flight { to, path, datagram }) = self.wire.front() {
            let copy = Flight { to: *to, path: *path, datagram: datagram.clone() };
            self.wire.push_back(copy);
        }
    }

    /// Changes an octet of the next message.
    fn change(&mut self, input: &mut Input<'_>) {
        let (at, by) = (usize::from(input.u16()), input.octet());
        if let Some(octet) = self.wire.front_mut().and_then(|flight| flight.datagram.get_mut(at)) {
            *octet = octet.wrapping_add(by);
        }
    }

    /// Replaces what the next message hides from an offset on.
    fn replace(&mut self, input: &mut Input<'_>) {
        let (first, at, len) = (input.octet(), usize::from(input.octet()), usize::from(input.u16() % 1024));
        let tail = input.take(len);
        let Some(Flight { datagram, .. }) = self.wire.front_mut() else { return };
        let Some(header) = Header::parse(datagram).ok().filter(|header| header.next == PayloadType::SK) else { return };
        let hidden = datagram.get(Header::LEN + SK_FRONT..datagram.len().saturating_sub(SK_END)).unwrap_or_default();
        let kept = &hidden[..at.min(hidden.len())];
        let first = if first == 0 { datagram[Header::LEN] } else { first };
        *datagram = protect(header, first, &[kept, tail].concat());
    }

    /// Puts a message on the wire that belongs to an SA of `to`.
    fn inject(&mut self, to: usize, input: &mut Input<'_>) {
        let (nth, exchange, flags, id) = (input.octet(), input.octet(), input.octet(), input.octet());
        let (first, len) = (input.octet(), usize::from(input.u16() % 1024));
        let inner = input.take(len);
        let Some(sa) = self.nth(to, nth) else { return };
        let (spi_i, spi_r) = if sa.initiator { (sa.spi_local, sa.spi_remote) } else { (sa.spi_remote, sa.spi_local) };
        let exchange = ExchangeType(34 + exchange % 5);
        let header = Header {
            initiator: !sa.initiator ^ (flags & 2 != 0),
            response: flags & 1 != 0,
            ..Header::new(spi_i, spi_r, exchange, u32::from(id))
        };
        let datagram = if flags & 4 == 0 {
            protect(header, first, inner)
        } else {
            let length = (Header::LEN + inner.len()) as u32;
            [&Header { next: PayloadType(first), length, ..header }.to_octets()[..], inner].concat()
        };
        self.wire.push_front(Flight { to, path: sa.path, datagram });
    }

    fn pass(&mut self, input: &mut Input<'_>) {
        let time = Duration::from_millis(u64::from(input.octet()) * 500);
        self.now = self.now + time;
        self.wake();
    }

    fn wake(&mut self) {
        for side in &mut self.sides {
            side.host.handle_timeout(self.now);
            let due = side.host.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "the timeout did not settle what is due");
        }
    }

    fn nth(&self, side: usize, nth: u8) -> Option<IkeView> {
        let count = self.sides[side].host.ike_sas().count();
        self.sides[side].host.ike_sas().nth(usize::from(nth).checked_rem(count)?)
    }

    fn wish(&mut self, side: usize, input: &mut Input<'_>) {
        let (what, nth) = (input.octet(), input.octet());
        let ike = self.nth(side, nth).map(|sa| sa.id);
        let Side { host, children, .. } = &mut self.sides[side];
        let child = usize::from(nth).checked_rem(children.len()).and_then(|nth| children.keys().nth(nth)).copied();
        let config = ChildConfigId(u32::from(nth % 3));
        let now = self.now;
        // A wish that cannot be met is denied; what counts is what becomes of the others.
        match (what % 9, ike, child) {
            (0, ..) => drop(host.initiate(now, PEER, (nth & 1 == 0).then_some(config))),
            (1, _, Some(child)) => drop(host.rekey_child(now, child)),
            (2, Some(ike), _) => drop(host.rekey_ike(now, ike)),
            (3, _, Some(child)) => drop(host.close_child(now, child)),
            (4, Some(ike), _) => drop(host.close(now, ike)),
            (5, Some(ike), _) => drop(host.create_child(now, ike, config)),
            (6, Some(ike), _) => drop(host.abandon(now, ike, Failure::Expired)),
            (7, _, Some(child)) => host.heard(now, child),
            (8, _, Some(child)) => {
                let remote = SocketAddr::from(([203, 0, 113, nth], 4500));
                host.moved(child, Path { local: SocketAddr::from(([192, 0, 2, 9], 4500)), remote });
            }
            _ => {}
        }
    }

    fn configure(&mut self, side: usize, input: &mut Input<'_>) {
        self.sides[side].host.pad_mut().present = input.octet() & 1 == 0;
    }

    /// Puts what the hosts send on the wire, and holds what they tell against what they told before.
    fn settle(&mut self) {
        for (from, side) in self.sides.iter_mut().enumerate() {
            side.listen();
            let mut sent = 0;
            while let Some(transmit) = side.host.poll_transmit() {
                sent += 1;
                assert!(sent <= 64, "a host sends without end");
                let path = Path { local: transmit.path.remote, remote: transmit.path.local };
                let marker = if transmit.path.local.port() == 4500 { 4 } else { 0 };
                if transmit.datagram != [0xff] {
                    let datagram = transmit.datagram[marker..].to_vec();
                    self.wire.push_back(Flight { to: 1 - from, path, datagram });
                }
            }
            side.listen();
        }
    }

    fn deliver_all(&mut self) {
        let mut delivered = 0;
        while !self.wire.is_empty() {
            self.deliver();
            self.settle();
            delivered += 1;
            assert!(delivered < CHATTER, "the hosts never come to rest");
        }
    }

    /// From here on nobody interferes: every message is answered, and time passes.
    fn come_to_rest(&mut self) {
        self.deliver_all();
        let end = self.now + Duration::from_secs(120);
        while self.now < end {
            let due = self.sides.iter().filter_map(|side| side.host.poll_timeout()).min();
            self.now = due.map_or(end, |due| due.clamp(self.now, end));
            self.wake();
            self.settle();
            self.deliver_all();
        }
        for side in &self.sides {
            let known = side.host.child_sas().map(|child| child.id).collect::<BTreeSet<_>>();
            assert_eq!(known, side.children.keys().copied().collect(), "told is not what stands in the table");
        }
    }
}

impl Side<'_> {
    fn listen(&mut self) {
        while let Some(event) = self.host.poll_event() {
            match event {
                Event::Established { ike, .. } => assert!(self.ikes.insert(ike), "established twice"),
                Event::IkeRekeyed { old, new, .. } => {
                    assert!(old != new && self.ikes.insert(new), "the heir was there before");
                }
                Event::ChildUp(up) => {
                    assert!(self.ikes.contains(&up.ike), "a Child SA without an authenticated IKE SA");
                    let protection = up.suite.protection;
                    let len = protection.encr_key_len() + protection.integ_key_len();
                    assert_eq!((up.key_in.len(), up.key_out.len()), (len, len));
                    assert!(!up.local.is_empty() && !up.remote.is_empty());
                    let twice = self.children.values().any(|spi| *spi == up.spi_in.get());
                    assert!(!twice && self.children.insert(up.child, up.spi_in.get()).is_none(), "up twice");
                    let (child, local, remote) = (up.config, up.local.to_vec(), up.remote.to_vec());
                    // The connection may have been taken out of the configuration since.
                    if let Some(config) = (0..).map_while(|at| self.host.pad().child(PEER, at)).find(|c| c.id == child)
                    {
                        assert!(within(&local, config.local) && within(&remote, config.remote), "more than allowed");
                    }
                }
                Event::ChildOutbound { child } | Event::ChildDraining { child } => {
                    assert!(self.children.contains_key(&child))
                }
                Event::ChildDown { child, .. } => assert!(self.children.remove(&child).is_some(), "down, never up"),
                Event::Closed { ike, established, .. } => {
                    assert_eq!(self.ikes.remove(&ike), established);
                }
                _ => {}
            }
        }
    }
}

/// What must not change when a message is discarded.
fn snapshot(host: &Host<'_>) -> impl PartialEq + Debug + use<> {
    let ike = |sa: IkeView| (sa.id, sa.peer, sa.state, [sa.spi_local, sa.spi_remote], sa.path, sa.nat, sa.since);
    let child = |child: ChildView<'_>| (child.id, child.ike, [child.spi_in, child.spi_out], child.replaced);
    (host.ike_sas().map(ike).collect::<Vec<_>>(), host.child_sas().map(child).collect::<Vec<_>>())
}

/// A message whose SK payload hides `inner`, under the tag that passes.
pub fn protect(header: Header, first: u8, inner: &[u8]) -> Vec<u8> {
    let sk_len = SK_FRONT + inner.len() + SK_END;
    let length = (Header::LEN + sk_len) as u32;
    let header = Header { next: PayloadType::SK, length, ..header }.to_octets();
    let [high, low] = (sk_len as u16).to_be_bytes();
    [&header[..], &[first, 0, high, low], &[0; 8], inner, &[0], &TAG].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(dialogue: &mut Dialogue<'_>) {
        dialogue.sides[0].host.initiate(dialogue.now, PEER, None).expect("a first message");
        dialogue.settle();
        dialogue.deliver_all();
    }

    #[test]
    fn without_interference_the_dialogue_connects_and_rekeys() {
        let mut tables = [Tables::default(), Tables::default()];
        let mut dialogue = Dialogue::new(&mut tables);
        connect(&mut dialogue);
        let spis = |dialogue: &Dialogue<'_>| {
            dialogue.sides.iter().flat_map(|side| side.children.values().copied()).collect::<Vec<_>>()
        };
        let before = spis(&dialogue);
        assert_eq!(before.len(), 2);
        dialogue.come_to_rest();
        dialogue.come_to_rest();
        let after = spis(&dialogue);
        assert_eq!(after.len(), 2);
        assert!(after.iter().all(|spi| !before.contains(spi)), "a child lives for 150 s");
    }

    #[test]
    fn a_message_of_the_fuzzer_is_taken_for_the_peers() {
        let mut tables = [Tables::default(), Tables::default()];
        let mut dialogue = Dialogue::new(&mut tables);
        connect(&mut dialogue);
        // INFORMATIONAL 2 to right with a Delete of the IKE SA, and its delivery.
        let mut input = Input::new(&[0x80 | 9, 0, 3, 0, 2, 42, 0, 8, 0, 0, 0, 8, 1, 0, 0, 0, 0]);
        dialogue.step(&mut input);
        dialogue.step(&mut input);
        assert!(dialogue.sides[1].children.is_empty() && !dialogue.sides[0].children.is_empty());
    }
}
