//! ESP that is here before the answer that makes its SA.
//!
//! A responder may send through a Child SA as soon as it has the keys: Libreswan has its kernel do so before it sends its
//! answer, and where the answer was first it may still stand in the control thread's inbox (RFC 7296 §2.8). Packets with an
//! SPI that we have offered wait for the answer; all others with an SPI that nobody knows are lost, as ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ike_core::endpoint::SpiMeaning;

use crate::socket::Origin;

/// Packets that wait, or are on their way to the control thread, at most: strangers can send any SPI.
const PLACES: usize = 256;
/// Packets older than this are of no use to anybody any more.
const AGE: Duration = Duration::from_secs(2);

/// Places for packets that wait.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<AtomicUsize>);

/// One of them, taken until its end.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    /// Keeps a copy of a packet that begins with its SPI, while there is a place for it.
    pub(crate) fn take(&self, now: Instant, origin: Origin, datagram: &[u8]) -> Option<EarlyPacket> {
        let spi = u32::from_be_bytes(*datagram.first_chunk()?);
        let free = |taken: usize| (taken < PLACES).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let place = Place(Arc::clone(&self.0));
        Some(EarlyPacket { since: now, spi, origin, datagram: datagram.to_vec(), _place: place })
    }
}

/// Packets that wait for the answer to a request of ours.
#[derive(Default)]
pub(crate) struct Early(VecDeque<EarlyPacket>);

impl Early {
    pub(crate) fn push(&mut self, packet: EarlyPacket) {
        self.0.push_back(packet);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the packets whose SA is there now, oldest first, and forgets those that wait in vain.
    pub(crate) fn ripe(&mut self, now: Instant, meaning: impl Fn(u32) -> SpiMeaning) -> Vec<EarlyPacket> {
        let mut ripe = Vec::new();
        for packet in std::mem::take(&mut self.0) {
            match meaning(packet.spi) {
                SpiMeaning::Negotiated => ripe.push(packet),
                SpiMeaning::Offered if now.saturating_duration_since(packet.since) < AGE => self.0.push_back(packet),
                SpiMeaning::Offered | SpiMeaning::None => {}
            }
        }
        ripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        let address = "192.0.2.2:0".parse().unwrap();
        Origin { path: ipsec_core::net::Path { local: address, remote: address }, tos: 0 }
    }

    #[test]
    fn packets_wait_for_an_spi_that_we_offered_and_for_no_other() {
        let (start, places, mut early) = (Instant::now(), Places::default(), Early::default());
        for spi in [7_u32, 8, 9, 7] {
            early.push(places.take(start, origin(), &spi.to_be_bytes()).unwrap());
        }
        let offered = |spi| if spi == 7 { SpiMeaning::Offered } else { SpiMeaning::None };
        assert!(early.ripe(start, offered).is_empty());
        assert_eq!(early.0.len(), 2, "8 and 9 wait for nothing");
        let ripe = early.ripe(start, |_| SpiMeaning::Negotiated);
        assert!(ripe.iter().map(|packet| packet.spi).eq([7, 7]));
        assert!(early.is_empty());
        early.push(places.take(start, origin(), &7_u32.to_be_bytes()).unwrap());
        assert!(early.ripe(start + AGE, offered).is_empty());
        assert!(early.is_empty(), "nobody waits for ever");
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
