//! What a capture has, a frame at a time: where it went, and what of IPsec's it carries.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipsec_core::wire::cursor::Malformed;

use super::capture::{Capture, Damage, Frame};
use super::fragments::Fragments;
use super::ip::{Carried, Packet, Part};
use super::link::{self, Unread};

/// The longest IP packet, with room for what stands before it.
const LONGEST: usize = 65_535 + 64;

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
pub(super) struct Arrivals<R: Read> {
    capture: Capture<R>,
    fragments: Fragments,
    number: u64,
    first: Option<Duration>,
}

impl Arrivals<File> {
    /// # Errors
    /// As for [`Capture::open`].
    pub(super) fn open(path: &Path) -> Result<Self, Damage> {
        Capture::open(path).map(Self::of)
    }
}

impl<R: Read> Arrivals<R> {
    pub(super) fn of(capture: Capture<R>) -> Self {
        Self { capture, fragments: Fragments::default(), number: 0, first: None }
    }
}

impl<R: Read> Iterator for Arrivals<R> {
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
            Ok(packet) => self.carried(&packet, whole),
            Err(Malformed) => (None, broken("in the IP header")),
        };
        Some(Arrival { path, found, ..nothing })
    }
}

impl<R: Read> Arrivals<R> {
    fn carried(&mut self, packet: &Packet<'_>, whole: bool) -> (Option<(SocketAddr, SocketAddr)>, Found) {
        let without_ports = |addr: IpAddr| SocketAddr::new(addr, 0);
        let ends = Some((without_ports(packet.source), without_ports(packet.destination)));
        let together = match packet.part {
            Some(part) if whole => match self.fragments.add(packet, part) {
                Some(together) => Some(together),
                None => return (ends, Found::Fragment(part)),
            },
            Some(part) => return (ends, Found::Fragment(part)),
            None => None,
        };
        let packet = Packet { payload: together.as_deref().unwrap_or(packet.payload), ..*packet };
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
            Err(Malformed) => (ends, broken("behind the IP header")),
        }
    }
}

fn broken(place: &str) -> Found {
    Found::Broken(format!("a length or a field {place} is wrong"))
}
