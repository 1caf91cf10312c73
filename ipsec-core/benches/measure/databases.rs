//! What the benchmarks of both databases measure with: stretches of calls, numbers in no order, packets, and an engine that
//! needs no crypto.

use std::net::Ipv4Addr;
use std::time::Instant;

use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::net::AddrRange;

pub(crate) const SIZES: [u32; 4] = [10, 1_000, 10_000, 100_000];
pub(crate) const LOOKUPS: usize = 20_000;
pub(crate) const STRETCH: usize = 100;
const ROUNDS: usize = 5;

/// Rules, SAs and the flows that go through them need no crypto.
pub(crate) struct Nothing;

impl PacketCrypto for Nothing {
    type AeadKey = ();
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

    fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Err(Forged)
    }
}

pub(crate) fn network(number: u32, prefix: u8) -> AddrRange {
    AddrRange::prefix(Ipv4Addr::from_bits(0x1000_0000 + (number << 8)).into(), prefix).expect("a prefix of IPv4")
}

/// A packet of a protocol with ports; of ICMP, the first port is type and code.
pub(crate) fn packet(protocol: u8, local_port: u16, remote: u32, remote_port: u16) -> [u8; 28] {
    let mut packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
    packet[16..20].copy_from_slice(&remote.to_be_bytes());
    packet[20..22].copy_from_slice(&local_port.to_be_bytes());
    packet[22..24].copy_from_slice(&remote_port.to_be_bytes());
    packet
}

pub(crate) fn udp(local_port: u16, remote: u32, remote_port: u16) -> [u8; 28] {
    packet(17, local_port, remote, remote_port)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds for each of the calls: the median of short stretches, which a busy machine interrupts less often.
pub(crate) fn timed<T>(asked: &[T], mut call: impl FnMut(&T)) -> f64 {
    let mut stretches = Vec::new();
    for stretch in (0..ROUNDS).flat_map(|_| asked.chunks(STRETCH)) {
        stretches.push(once(stretch, &mut call));
    }
    median(stretches)
}

/// The same for one stretch of calls that cannot be made again.
pub(crate) fn once<T>(asked: &[T], call: impl FnMut(&T)) -> f64 {
    let begun = Instant::now();
    asked.iter().for_each(call);
    begun.elapsed().as_nanos() as f64 / asked.len() as f64
}

/// Numbers below `size` in an order that no cache foresees.
pub(crate) fn any_of(size: u32) -> impl FnMut() -> u32 {
    let mut number = 7_u32;
    move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(number) * u64::from(size)) >> 32) as u32
    }
}

/// What is walked along, where nobody has an index: of more than so many, it takes too long to measure.
pub(crate) fn shown(walk: Option<f64>) -> String {
    walk.map_or_else(|| "-".to_owned(), |walk| format!("{walk:.1}"))
}

pub(crate) fn judged(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
