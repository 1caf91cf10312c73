//! One node, initiator and responder, between a network and an application that the optimiser knows nothing about.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr};

use ike_core::pad::PeerId;
use ike_core::proposal::{EspProposal, IkeProposal};
use ipsec_core::net::Path;
use ipsec_core::time::Instant;
use size_probe::node::Memory;

size_probe::program!(run());

fn run() {
    static mut MEMORY: Memory<2, 4> = Memory::EMPTY;
    let memory = &raw mut MEMORY;
    // SAFETY: this is the only reference.
    let Some(node) = (unsafe { &mut *memory }).start(black_box(true), IkeProposal::default(), EspProposal::default())
    else {
        return;
    };
    let mut octets = [0; 64];
    loop {
        let now = Instant::from_millis(black_box(0));
        let octets: &mut [u8] = black_box(&mut octets);
        let socket = |port| SocketAddr::new(Ipv4Addr::from_bits(black_box(1)).into(), port);
        let path = Path { local: socket(500), remote: socket(black_box(500)) };
        match black_box(0) {
            0 => node.handle(now, path, octets),
            1 => node.tick(now),
            2 => _ = black_box(node.send(now, octets).is_some()),
            3 => _ = black_box(node.receive(now, path, octets).is_some()),
            4 => _ = black_box(node.ike.initiate(now, PeerId(0), None).is_ok()),
            _ => _ = black_box(node.ike.poll_timeout().is_some()),
        }
        while let Some(transmit) = node.ike.poll_transmit() {
            black_box((transmit.path, transmit.datagram));
        }
    }
}
