//! Two nodes talk in one image: a handshake, a second child, packets both ways, rekeys and the end. What the stack was
//! used for at most is printed, and what a node needs of memory.
#![no_std]
#![no_main]

use core::fmt::Write;

use ike_core::event::IkeId;
use ike_core::pad::{ChildConfigId, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ipsec_core::net::Path;
use ipsec_core::time::Instant;
use size_probe::machine::{Console, paint, used};
use size_probe::node::{MESSAGE, Memory, Node, address};

size_probe::program!(run());

/// Every key exchange has a stack of its own, and the rekey of a child with it, too.
const PROPOSALS: [(&str, &str); 2] =
    [("aes256gcm16-prfsha512-x25519", "aes256gcm16-x25519"), ("aes128gcm16-prfsha256-ecp256", "aes128gcm16-ecp256")];

static mut MEMORY: [[Memory<2, 4>; 2]; PROPOSALS.len()] = [const { [Memory::EMPTY, Memory::EMPTY] }; PROPOSALS.len()];
static mut WIRE: [u8; MESSAGE] = [0; MESSAGE];
static mut PACKET: [u8; 1400] = [0; 1400];

fn run() {
    paint();
    let memory = &raw mut MEMORY;
    // SAFETY: this is the only reference.
    let memory = unsafe { &mut *memory };
    let good = memory.iter_mut().zip(PROPOSALS).filter_map(|(memory, proposals)| talk(begin(memory, proposals)?));
    let good = good.count();
    let stack = used();
    let _ = writeln!(Console, "ended {}", good == PROPOSALS.len());
    let _ = writeln!(Console, "stack {stack}");
    for (what, octets) in size_probe::node::sizes() {
        let _ = writeln!(Console, "{what} {octets}");
    }
}

#[inline(never)]
fn begin([left, right]: &'static mut [Memory<2, 4>; 2], (ike, esp): (&str, &str)) -> Option<[&'static mut Node; 2]> {
    let (ike, esp) = (IkeProposal::parse(ike).ok()?, EspProposal::parse(esp).ok()?);
    Some([left.start(true, ike.clone(), esp.clone())?, right.start(false, ike, esp)?])
}

#[inline(never)]
fn talk([left, right]: [&mut Node; 2]) -> Option<()> {
    let ike = left.ike.initiate(at(0), PeerId(0), Some(ChildConfigId(0))).ok()?;
    exchange(left, right, 0);
    left.ike.create_child(at(100), ike, ChildConfigId(1)).ok()?;
    exchange(left, right, 100);
    told("children", (left.children() == 2 && right.children() == 2).then_some(()))?;
    for child in 0..2 {
        packet(left, right, true, child)?;
        packet(right, left, false, child)?;
    }
    told("packets", (left.arrived == 2 && right.arrived == 2).then_some(()))?;
    rekey(left, right, ike)
}

/// Rekeys by either side, then the end.
fn rekey(left: &mut Node, right: &mut Node, ike: IkeId) -> Option<()> {
    left.ike.rekey_ike(at(20_000), ike).ok()?;
    exchange(left, right, 20_000);
    let child = right.ike.child_sas().next()?.id;
    right.ike.rekey_child(at(60_000), child).ok()?;
    exchange(left, right, 60_000);
    packet(left, right, true, 0)?;
    let ike = right.ike.ike_sas().next()?.id;
    right.ike.close(at(120_000), ike).ok()?;
    exchange(left, right, 120_000);
    told("closed", (left.children() == 0 && right.children() == 0).then_some(()))
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(1 + millis)
}

fn told(what: &str, good: Option<()>) -> Option<()> {
    if good.is_none() {
        let _ = writeln!(Console, "failed: {what}");
    }
    good
}

/// What each has to say, until neither has anything.
#[inline(never)]
fn exchange(left: &mut Node, right: &mut Node, millis: u64) {
    for round in 0..40 {
        let now = at(millis + round * 500);
        left.tick(now);
        right.tick(now);
        while carry(left, right, now) | carry(right, left, now) {}
    }
}

/// A datagram from one to the other.
#[inline(never)]
fn carry(from: &mut Node, to: &mut Node, now: Instant) -> bool {
    let wire = &raw mut WIRE;
    // SAFETY: the only reference while this runs.
    let wire = unsafe { &mut *wire };
    let Some(transmit) = from.ike.poll_transmit() else { return false };
    let path = Path { local: transmit.path.remote, remote: transmit.path.local };
    let Some(room) = wire.get_mut(..transmit.datagram.len()) else { return false };
    room.copy_from_slice(transmit.datagram);
    to.handle(now, path, room);
    true
}

/// A packet of 1,400 octets from one to the other.
#[inline(never)]
fn packet(from: &mut Node, to: &mut Node, left: bool, child: u8) -> Option<()> {
    let inner = &raw mut PACKET;
    // SAFETY: the only reference while this runs.
    let inner = unsafe { &mut *inner };
    let (source, destination) = if left { (1, 2) } else { (2, 1) };
    let header = [
        0x45,
        0,
        5,
        120,
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
        10,
        source,
        child,
        5,
        10,
        destination,
        child,
        9,
        0,
        9,
        0,
        9,
        5,
        100,
        0,
        0,
    ];
    inner.get_mut(..header.len())?.copy_from_slice(&header);
    let path = Path { local: address(!left), remote: address(left) };
    let Some(outer) = from.send(at(15_000), inner) else { return told("sealed", None) };
    told("opened", to.receive(at(15_000), path, outer))
}
