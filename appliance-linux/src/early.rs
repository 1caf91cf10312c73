//! ESP that is here before the answer that makes its SA.
//!
//! A responder may send through a Child SA as soon as it has the keys: Libreswan has its kernel do so before it sends its
//! answer, and where the answer was first it may still stand in the control thread's inbox (RFC 7296 §2.8). Packets with an
//! SPI that we have offered wait for the answer; all others with an SPI that nobody knows are lost, as ever. While nothing
//! is offered the control thread does not hear of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ike_core::endpoint::SpiMeaning;

use crate::socket::Origin;

/// Packets that wait, or are on their way to the control thread, at most: strangers can send any SPI.
const PLACES: usize = 256;
/// Packets older than this are of no use to anybody any more.
const AGE: Duration = Duration::from_secs(2);

/// Places for packets that wait, while there is something to wait for.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Default)]
struct Shared {
    offered: AtomicBool,
    taken: AtomicUsize,
}

/// One of them, taken until its end.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A packet whose SPI no SA has.
pub(crate) struct EarlyPacket {
    since: Instant,
    spi: u32,
    pub(crate) origin: Origin,
    pub(crate) datagram: Vec<u8>,
    _place: Place,
}

impl Places {
    /// Whether an SPI of ours waits for an answer. To be asked before the SAs are: an SA is there before its offer goes.
    pub(crate) fn are_open(&self) -> bool {
        self.0.offered.load(Ordering::Acquire)
    }

    /// Keeps a copy of a packet that begins with its SPI, while there is a place for it.
    pub(crate) fn take(&self, now: Instant, origin: Origin, datagram: &[u8]) -> Option<EarlyPacket> {
        let spi = spi_of(datagram)?;
        let free = |taken: usize| (taken < PLACES).then_some(taken + 1);
        self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let place = Place(Arc::clone(&self.0));
        Some(EarlyPacket { since: now, spi, origin, datagram: datagram.to_vec(), _place: place })
    }
}

/// The SPI that an ESP packet begins with.
pub(crate) fn spi_of(datagram: &[u8]) -> Option<u32> {
    datagram.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

/// Packets that wait for the answer to a request of ours. Its end is that of the waiting.
pub(crate) struct Early {
    packets: VecDeque<EarlyPacket>,
    places: Places,
}

impl Early {
    pub(crate) fn new(places: Places) -> Self {
        Self { packets: VecDeque::new(), places }
    }

    /// Whether an SPI of ours waits for an answer. To be told before the offer leaves.
    pub(crate) fn expect(&self, offered: bool) {
        self.places.0.offered.store(offered, Ordering::Release);
    }

    pub(crate) fn push(&mut self, packet: EarlyPacket) {
        self.packets.push_back(packet);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Takes the packets whose SA is there now, oldest first, and forgets those that wait in vain; how many those are.
    pub(crate) fn ripe(&mut self, now: Instant, meaning: impl Fn(u32) -> SpiMeaning) -> (Vec<EarlyPacket>, usize) {
        let (mut ripe, mut lost) = (Vec::new(), 0);
        for packet in std::mem::take(&mut self.packets) {
            match meaning(packet.spi) {
                SpiMeaning::Negotiated => ripe.push(packet),
                SpiMeaning::Offered if now.saturating_duration_since(packet.since) < AGE => {
                    self.packets.push_back(packet);
                }
                SpiMeaning::Offered | SpiMeaning::None => lost += 1,
            }
        }
        (ripe, lost)
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.expect(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Marks;

    fn origin() -> Origin {
        let address = "192.0.2.2:0".parse().unwrap();
        Origin { path: ipsec_core::net::Path { local: address, remote: address }, marks: Marks::default() }
    }

    #[test]
    fn packets_wait_for_an_spi_that_we_offered_and_for_no_other() {
        let (start, places) = (Instant::now(), Places::default());
        let mut early = Early::new(places.clone());
        for spi in [7_u32, 8, 9, 7] {
            early.push(places.take(start, origin(), &spi.to_be_bytes()).unwrap());
        }
        let offered = |spi| if spi == 7 { SpiMeaning::Offered } else { SpiMeaning::None };
        let (ripe, lost) = early.ripe(start, offered);
        assert!(ripe.is_empty() && lost == 2, "8 and 9 wait for nothing");
        let (ripe, lost) = early.ripe(start, |_| SpiMeaning::Negotiated);
        assert!(ripe.iter().map(|packet| packet.spi).eq([7, 7]) && lost == 0);
        assert!(early.is_empty());
        early.push(places.take(start, origin(), &7_u32.to_be_bytes()).unwrap());
        let (ripe, lost) = early.ripe(start + AGE, offered);
        assert!(ripe.is_empty() && lost == 1 && early.is_empty(), "nobody waits for ever");
    }

    #[test]
    fn nobody_waits_where_nothing_is_offered_any_more() {
        let places = Places::default();
        assert!(!places.are_open());
        let early = Early::new(places.clone());
        assert!(!places.are_open());
        early.expect(true);
        assert!(places.are_open());
        early.expect(false);
        assert!(!places.are_open());
        early.expect(true);
        drop(early);
        assert!(!places.are_open());
    }

    #[test]
    fn there_are_so_many_places_and_each_is_given_back() {
        let (now, places) = (Instant::now(), Places::default());
        assert!(places.take(now, origin(), &[1, 2, 3]).is_none(), "no SPI");
        let kept: Vec<_> = (0..PLACES).map(|_| places.take(now, origin(), &[0; 4]).unwrap()).collect();
        assert!(places.take(now, origin(), &[0; 4]).is_none());
        drop(kept);
        assert!(places.take(now, origin(), &[0; 4]).is_some());
    }
}
