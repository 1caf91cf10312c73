//! `ipsec-core` alone with one tunnel, between a network and an application that the optimiser knows nothing about.
#![no_std]
#![no_main]

use core::hint::black_box;

use ipsec_core::buf::PacketBuf;
use ipsec_core::time::Instant;
use size_probe::tunnel::{Memory, Nothing, path};

size_probe::program!(run());

fn run() {
    static mut MEMORY: Memory<Nothing> = Memory::EMPTY;
    let memory = &raw mut MEMORY;
    // SAFETY: this is the only reference.
    let memory = unsafe { &mut *memory };
    let keys = [&[1; 36], &[2; 36]];
    let Some(mut tunnel) = memory.start([Nothing, Nothing], black_box(path()), black_box(keys)) else { return };
    let mut octets = [0; 64];
    loop {
        let Ok(mut packet) = PacketBuf::new(black_box(&mut octets), black_box(0), black_box(0)) else { return };
        let now = Instant::from_millis(black_box(0));
        match black_box(0) {
            0 => _ = black_box(tunnel.send(now, &mut packet)),
            _ => _ = black_box(tunnel.receive(now, black_box(path()), &mut packet)),
        }
        black_box(packet.as_slice());
    }
}
