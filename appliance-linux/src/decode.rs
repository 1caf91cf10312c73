//! `portcullis decode`: what a capture says, opened with known keys. It asks no daemon and needs no rights.
//!
//! A capture is read twice. Keys files say no SPIs of IKE, so first it is found out [whose the keys are](ike::Messages), then
//! everything is told, a packet at a time: [`arrival`] finds IKE messages and ESP packets, [`ike`] and [`esp`] open them,
//! [`payloads`] takes messages apart, and each becomes a [tree](tree::Node).

mod arrival;
mod capture;
mod esp;
mod ike;
mod ip;
mod keys;
mod link;
mod payloads;
mod sk;
mod suite;
mod tree;
mod verdict;

use std::fmt::{self, Display, Formatter};
use std::io::{self, Cursor, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use arrival::{Arrival, Arrivals, Found, Memory};
use capture::{Capture, Damage, Source};
use esp::Packets;
use ike::Messages;
use keys::Keys;
use tree::Node;
use verdict::Verdict;

use crate::configuration::reason;

/// Why nothing was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The keys file is wrong; a line that says where.
    Keys(String),
    /// The capture cannot be read; a line that says why.
    Capture(String),
    /// What it says cannot be written; a line that says why.
    Output(String),
}

/// Why a capture is not told to its end.
#[derive(Debug)]
enum Unfinished {
    Capture(Damage),
    Output(io::Error),
}

impl From<Damage> for Unfinished {
    fn from(damage: Damage) -> Self {
        Self::Capture(damage)
    }
}

/// What there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    messages: u64,
    /// SK and SKF payloads.
    protected: Outcomes,
    packets: Outcomes,
    /// Frames that carry nothing of IPsec's.
    others: u64,
    broken: u64,
    /// Whether the file ends before it should.
    damaged: bool,
}

/// What became of all that is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Outcomes {
    opened: u64,
    no_key: u64,
    failed: u64,
}

impl Outcomes {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Opened(_) => self.opened += 1,
            Verdict::NoKey => self.no_key += 1,
            Verdict::Failed(_) => self.failed += 1,
        }
    }
}

impl Display for Outcomes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "opened {}, no-key {}, failed {}", self.opened, self.no_key, self.failed)
    }
}

impl Tally {
    /// What keeps the whole from being a success, in a line; `None`: nothing.
    pub(crate) fn trouble(&self) -> Option<String> {
        let failed = self.protected.failed + self.packets.failed;
        match (failed, self.damaged) {
            (0, false) => None,
            (0, true) => Some("the capture does not end where it should".to_owned()),
            (failed, _) => Some(format!("did not open, although the keys name their SA: {failed}")),
        }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "IKE messages {}; protected: {}", self.messages, self.protected)?;
        writeln!(f, "ESP packets: {}", self.packets)?;
        writeln!(f, "other packets {}, broken {}", self.others, self.broken)
    }
}

/// Tells what a capture says: indented text, or a JSON object for each packet in a line of its own. A reader that went away
/// ends it, and is no failure of ours. `-` is standard input.
///
/// # Errors
/// [`Refused`]; nothing was written, but for [`Refused::Output`].
pub(crate) fn decode(capture: &Path, keys: Option<&Path>, json: bool, out: &mut impl Write) -> Result<Tally, Refused> {
    let keys = keys.map(Keys::load).transpose().map_err(Refused::Keys)?.unwrap_or_default();
    let told = Source::open(capture).map_err(Unfinished::from).and_then(|source| match &source {
        Source::File(file) => tell(|| Capture::new(file), &keys, json, out),
        Source::Octets(octets) => tell(|| Capture::new(Cursor::new(octets)), &keys, json, out),
    });
    told.map_err(|unfinished| match unfinished {
        Unfinished::Capture(damage) => Refused::Capture(format!("{}: {damage}", capture.display())),
        Unfinished::Output(error) => Refused::Output(format!("standard output: {}", reason(&error))),
    })
}

fn tell<R: Read>(
    open: impl Fn() -> Result<Capture<R>, Damage>,
    keys: &Keys,
    json: bool,
    out: &mut impl Write,
) -> Result<Tally, Unfinished> {
    let mut decoder = Decoder { messages: Messages::new(keys), packets: Packets::new(keys), tally: Tally::default() };
    let mut memory = Memory::default();
    Arrivals::new(open()?, &mut memory).for_each(|arrival| decoder.meet(&arrival));
    decoder.messages.settle();
    match decoder.tell_all(Arrivals::new(open()?, &mut memory), json, out) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Unfinished::Output(error)),
        Ok(()) | Err(_) => Ok(decoder.tally),
    }
}

/// The SAs of a capture.
struct Decoder {
    messages: Messages,
    packets: Packets,
    tally: Tally,
}

impl Decoder {
    fn meet(&mut self, arrival: &Arrival) {
        if let Found::Ike(message) = &arrival.found {
            self.messages.meet(message);
        }
    }

    fn tell_all(
        &mut self,
        arrivals: impl Iterator<Item = Arrival>,
        json: bool,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for arrival in arrivals {
            self.tell(&arrival).map_or(Ok(()), |told| told.write(json, out))?;
        }
        if !json {
            write!(out, "{}", self.tally)?;
        }
        out.flush()
    }

    /// `None`: nothing of IPsec's.
    fn tell<'a>(&mut self, arrival: &'a Arrival) -> Option<Told<'a>> {
        let Arrival { found, whole, .. } = arrival;
        let node = match found {
            Found::Ike(message) => {
                self.tally.messages += 1;
                let (node, verdict) = self.messages.read(message, *whole);
                if let Some(verdict) = verdict {
                    self.tally.protected.count(verdict);
                }
                node
            }
            Found::Esp(packet) => {
                let (node, verdict) = self.packets.read(packet, arrival.path, *whole);
                if let Some(verdict) = verdict {
                    self.tally.packets.count(verdict);
                }
                node
            }
            Found::Keepalive => Node::new("keepalive"),
            Found::Fragment(part) => {
                Node::new("fragment").with("id", part.id).with("offset", part.offset).with("more", part.more)
            }
            Found::Other => {
                self.tally.others += 1;
                return None;
            }
            Found::Broken(why) => {
                self.tally.broken += 1;
                Node::new("broken").word("error", why)
            }
            Found::End(why) => {
                self.tally.damaged = true;
                Node::new("broken").word("error", why)
            }
        };
        Some(Told { arrival, node: if *whole { node } else { node.with("captured_whole", false) } })
    }
}

/// What is told of a packet.
struct Told<'a> {
    arrival: &'a Arrival,
    node: Node,
}

/// The same for programs.
#[derive(Serialize)]
struct Line<'t> {
    packet: u64,
    /// Since the first one.
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(flatten)]
    node: &'t Node,
}

impl Told<'_> {
    fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        let Arrival { number, since, path, .. } = self.arrival;
        if json {
            let ends = path.map(|(from, to)| (end(from), end(to))).unzip();
            let (source, destination) = ends;
            let line = Line { packet: *number, seconds: since.as_secs_f64(), source, destination, node: &self.node };
            serde_json::to_writer(&mut *out, &line)?;
            return writeln!(out);
        }
        write!(out, "#{number} {:.6} ", since.as_secs_f64())?;
        if let Some((from, to)) = path {
            write!(out, "{} > {} ", end(*from), end(*to))?;
        }
        write!(out, "{}", self.node)
    }
}

/// An address, and its port where there is one.
fn end(end: SocketAddr) -> String {
    if end.port() == 0 { end.ip().to_string() } else { end.to_string() }
}

#[cfg(test)]
mod tests;
