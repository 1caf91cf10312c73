//! The stack that one packet takes on its way out and in: its rule, its SA, and the default crypto.
#![no_std]
#![no_main]

use core::fmt::Write;

use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::time::Instant;
use size_probe::machine::{Console, used_by};
use size_probe::tunnel::{INNER, Memory, ROOM, path};

size_probe::program!(run());

fn run() {
    static mut MEMORY: Memory<RustCrypto> = Memory::EMPTY;
    static mut PACKET: [u8; ROOM] = [0; ROOM];
    let (memory, octets) = (&raw mut MEMORY, &raw mut PACKET);
    // SAFETY: these are the only references.
    let (memory, octets) = unsafe { (&mut *memory, &mut *octets) };
    let keys = [&[1; 36]; 2];
    let Some(mut tunnel) = memory.start([RustCrypto, RustCrypto], path(), keys) else { return };
    let Ok(mut packet) = PacketBuf::with_payload(octets, &INNER) else { return };
    let (mut sealed, mut opened) = (None, None);
    let seal = used_by(|| sealed = tunnel.send(Instant::ZERO, &mut packet));
    let open = used_by(|| opened = tunnel.receive(Instant::ZERO, path(), &mut packet));
    let good = sealed == Some(path()) && opened.is_some() && packet.as_slice() == INNER;
    let _ = writeln!(Console, "ended {good}");
    let _ = writeln!(Console, "seal {seal}");
    let _ = writeln!(Console, "open {open}");
}
