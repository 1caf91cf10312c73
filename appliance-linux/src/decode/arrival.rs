//! What a capture has, a frame at a time: where it went, and what of IPsec's it carries.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipsec_core::buf::PacketBuf;
use ipsec_core::reassembly::{Dropped, MAX_FRAGMENTS, Outcome, Reassembly, Slot};
use ipsec_core::time::Instant;
use ipsec_core::wire::cursor::Malformed;

use super::capture::{Capture, Frame};
use super::ip::{Carried, Packet, Part};
use super::link::{self, Unread};

/// The longest IP packet, with room for what stands before it.
const LONGEST: usize = 65_535 + 64;

/// Packets that are kept while parts of them are missing, of one source at most [`WAYS`](ipsec_core::reassembly::WAYS).
const OPEN: usize = 256;
/// The longest payload.
const LONGEST_PAYLOAD: usize = 65_535;
/// How long parts are kept (RFC 8200 §4.5), by the times of the capture.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where a source's packets are kept is no secret: whoever made the capture loses only packets of it.
const SEED: u64 = 1;

/// Memory for packets that come in fragments.
pub(super) struct Memory {
    slots: Vec<Slot>,
    octets: Vec<u8>,
}

impl Default for Memory {
    fn default() -> Self {
        let octets = vec![0; OPEN * Reassembly::share(LONGEST_PAYLOAD)];
        Self { slots: (0..OPEN).map(|_| Slot::EMPTY).collect(), octets }
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    /// From 1, as others number them.
    pub(super) number: u64,
    /// Since the first frame; none for one from before it.
    pub(super) since: Duration,
    pub(super) path: Option<(SocketAddr, SocketAddr)>,
    pub(super) found: Found,
    /// Whether the capture has all of it.
    pub(super) whole: bool,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Ike(Vec<u8>),
    Esp(Vec<u8>),
    Keepalive,
    /// A part of a packet, of which others are missing so far.
    Fragment(Part),
    /// Nothing of IPsec's.
    Other,
    /// It cannot be read.
    Broken(String),
    /// The file cannot be read on.
    End(String),
}

/// The frames of a capture.
pub(super) struct Arrivals<'m, R: Read> {
    capture: Capture<R>,
    fragments: Reassembly<'m>,
    number: u64,
    first: Option<Duration>,
}

impl<'m, R: Read> Arrivals<'m, R> {
    pub(super) fn new(capture: Capture<R>, memory: &'m mut Memory) -> Self {
        let fragments = Reassembly::new(SEED, PATIENCE, &mut memory.slots, &mut memory.octets);
        Self { capture, fragments, number: 0, first: None }
    }
}

impl<R: Read> Iterator for Arrivals<'_, R> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let frame = self.capture.next()?;
        self.number += 1;
        let nothing =
            Arrival { number: self.number, since: Duration::ZERO, path: None, found: Found::Other, whole: true };
        let Frame { time, link, mut octets, length } = match frame {
            Ok(frame) => frame,
            Err(damage) => {
                let found = if damage.is_end() { Found::End } else { Found::Broken };
                return Some(Arrival { found: found(damage.to_string()), ..nothing });
            }
        };
        let since = time.saturating_sub(*self.first.get_or_insert(time));
        let whole = octets.len() >= length;
        // Headers say how long all of it was, and are read as if it were there.
        octets.resize(octets.len().max(length.min(LONGEST)), 0);
        let nothing = Arrival { since, whole, ..nothing };
        let packet = match link::ip(link, &octets) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Some(nothing),
            Err(Unread::Malformed) => return Some(Arrival { found: broken("below IP"), ..nothing }),
            Err(Unread::Link(number)) => {
                let found = Found::Broken(format!("frames of link type {number} are not looked into"));
                return Some(Arrival { found, ..nothing });
            }
        };
        let (path, found) = match Packet::read(packet) {
            Ok(Packet { part: Some(part), .. }) if whole => self.gather(since, packet, part),
            Ok(packet) => carried(&packet),
            Err(Malformed) => (None, broken("in the IP header")),
        };
        Some(Arrival { path, found, ..nothing })
    }
}

impl<R: Read> Arrivals<'_, R> {
    /// Takes a part of a packet, and looks into the packet when it was the last one that was missing.
    fn gather(&mut self, since: Duration, octets: &[u8], part: Part) -> (Option<Ends>, Found) {
        let now = Instant::ZERO.after(since);
        let (mut octets, len) = (octets.to_vec(), octets.len());
        let ends = Packet::read(&octets).ok().map(|packet| ends(&packet));
        let taken =
            PacketBuf::new(&mut octets, 0, len).map_err(|_| Dropped::TooLong).and_then(|mut fragment| {
                match self.fragments.take(now, 0, &mut fragment)? {
                    Outcome::Whole(whole) => Ok(Packet::read(whole.as_slice()).map(|packet| carried(&packet))),
                    Outcome::Kept | Outcome::Unfragmented => Ok(Ok((ends, Found::Fragment(part)))),
                }
            });
        match taken {
            Ok(Ok(found)) => found,
            Ok(Err(Malformed)) => (ends, broken("in the IP header")),
            Err(why) => (ends, Found::Broken(format!("a fragment {}", dropped(why)))),
        }
    }
}

/// Where a packet comes from and goes to.
type Ends = (SocketAddr, SocketAddr);

/// Without ports.
fn ends(packet: &Packet<'_>) -> Ends {
    let without_ports = |addr: IpAddr| SocketAddr::new(addr, 0);
    (without_ports(packet.source), without_ports(packet.destination))
}

fn carried(packet: &Packet<'_>) -> (Option<Ends>, Found) {
    if let Some(part) = packet.part {
        return (Some(ends(packet)), Found::Fragment(part));
    }
    match packet.carried() {
        Ok((from, to, carried)) => {
            let found = match carried {
                Carried::Ike(message) => Found::Ike(message.to_vec()),
                Carried::Esp(packet) => Found::Esp(packet.to_vec()),
                Carried::Keepalive => Found::Keepalive,
                Carried::Other => Found::Other,
            };
            (Some((from, to)), found)
        }
        Err(Malformed) => (Some(ends(packet)), broken("behind the IP header")),
    }
}

fn broken(place: &str) -> Found {
    Found::Broken(format!("a length or a field {place} is wrong"))
}

/// Why a receiver drops a fragment.
fn dropped(why: Dropped) -> String {
    match why {
        Dropped::Malformed => {
            "has a length that none has, or begins the packet and does not say what it carries".into()
        }
        Dropped::TooLong => "makes a packet that is too long".into(),
        Dropped::Overlap => "overlaps another one, or is of a packet of which some do".into(),
        Dropped::TooMany => format!("is of a packet in more than {MAX_FRAGMENTS}"),
        Dropped::Congestion => "is of a packet that cannot be told of congestion".into(),
        Dropped::Full => "finds no room".into(),
    }
}
