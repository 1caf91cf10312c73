//! A packet of which some fragments are here.

use super::dropped::{Dropped, MAX_FRAGMENTS};
use super::part::{Key, MAX_HEADERS, Part};
use crate::buf::{HEADROOM, TAILROOM};
use crate::ecn::Ecn;
use crate::time::Instant;
use crate::wire::cursor::{Malformed, Writer};
use crate::wire::ip::set_ecn;
use crate::wire::{ipv4, ipv6};

/// What stands in front of the content in a share of the memory.
pub(super) const FRONT: usize = HEADROOM + MAX_HEADERS;

/// What a fragment has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Others are missing.
    Waits,
    /// Nothing is missing: where the packet begins in its share of the memory, and its length.
    Whole { start: usize, len: usize },
}

/// A packet that is not whole.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) key: Key,
    /// When it is given up.
    pub(super) due: Instant,
    state: State,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap, and most are gathering")]
enum State {
    Gathering(Gathering),
    /// It was given up for this, and so is what comes of it until it is forgotten.
    Condemned(Dropped),
}

impl Datagram {
    pub(super) fn new(key: Key, due: Instant) -> Self {
        Self { key, due, state: State::Gathering(Gathering::default()) }
    }

    /// Adds a fragment to what lies in `share`.
    pub(super) fn add(&mut self, part: &Part<'_>, share: &mut [u8]) -> Result<Progress, Dropped> {
        let gathering = match &mut self.state {
            State::Gathering(gathering) => gathering,
            State::Condemned(why) => return Err(*why),
        };
        let added = gathering.add(part, share);
        if let Err(why @ (Dropped::Overlap | Dropped::TooMany | Dropped::Congestion)) = added {
            self.state = State::Condemned(why);
        }
        added
    }
}

/// From the first octet to the one behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u16,
    end: u16,
}

/// What is here of a packet.
#[derive(Debug, Default)]
struct Gathering {
    /// In order, and none overlaps another.
    spans: heapless::Vec<Span, MAX_FRAGMENTS>,
    /// Octets of them.
    held: u16,
    /// Where the packet ends, once the last fragment is here.
    end: Option<u16>,
    /// Octets of the headers, once the first fragment is here.
    headers: Option<u8>,
    /// ECN fields that were seen, a bit each.
    marks: u8,
}

impl Gathering {
    fn add(&mut self, part: &Part<'_>, share: &mut [u8]) -> Result<Progress, Dropped> {
        let span = Span { start: part.start, end: part.end };
        let room = room(share, span).filter(|room| room.len() == part.content.len()).ok_or(Dropped::TooLong)?;
        if !self.agrees(part) {
            return Err(Dropped::Overlap);
        }
        let at = self.spans.partition_point(|other| other.end <= span.start);
        match self.spans.get(at) {
            Some(same) if *same == span && *room == *part.content => return Ok(Progress::Waits),
            Some(next) if next.start < span.end => return Err(Dropped::Overlap),
            _ => {}
        }
        self.insert(at, span)?;
        Writer::new(room).put(part.content)?;
        self.held = self.held.saturating_add(span.end.saturating_sub(span.start));
        self.marks |= 1 << part.ecn as u8;
        if !part.more {
            self.end = Some(span.end);
        }
        if span.start == 0 {
            self.take_headers(part, share)?;
        }
        match (self.end, self.headers) {
            (Some(end), Some(headers)) if end == self.held => self.finish(headers, end, share),
            _ => Ok(Progress::Waits),
        }
    }

    /// Whether all fragments say the same of where the packet ends.
    fn agrees(&self, part: &Part<'_>) -> bool {
        let furthest = self.spans.last().map_or(0, |last| last.end);
        match self.end {
            Some(end) if part.more => part.end < end,
            Some(end) => part.end == end,
            None => part.more || furthest < part.end,
        }
    }

    fn insert(&mut self, at: usize, span: Span) -> Result<(), Dropped> {
        if self.spans.is_full() {
            return Err(Dropped::TooMany);
        }
        let mut carried = span;
        self.spans.iter_mut().skip(at).for_each(|place| core::mem::swap(place, &mut carried));
        self.spans.push(carried).map_err(|_| Dropped::TooMany)
    }

    /// Puts the headers right in front of the content.
    fn take_headers(&mut self, part: &Part<'_>, share: &mut [u8]) -> Result<(), Dropped> {
        let front = share.get_mut(..FRONT).ok_or(Dropped::TooLong)?;
        let start = FRONT.saturating_sub(part.headers.len());
        let headers = front.get_mut(start..).ok_or(Dropped::TooLong)?;
        Writer::new(headers).put(part.headers)?;
        if let Some((named_at, next_header)) = part.follows {
            *headers.get_mut(named_at).ok_or(Dropped::Malformed)? = next_header;
        }
        self.headers = Some(u8::try_from(part.headers.len()).map_err(|_| Dropped::TooLong)?);
        Ok(())
    }

    /// Makes the packet a whole one.
    fn finish(&self, headers: u8, end: u16, share: &mut [u8]) -> Result<Progress, Dropped> {
        let start = FRONT.saturating_sub(headers.into());
        let len = usize::from(headers).saturating_add(end.into());
        let packet = share.get_mut(start..start.saturating_add(len)).ok_or(Dropped::TooLong)?;
        match packet.first().map(|first| first >> 4) {
            Some(4) => ipv4::set_fragment(packet, 0, false),
            _ => ipv6::set_payload_len(packet),
        }
        .map_err(|Malformed| Dropped::TooLong)?;
        let seen = |ecn: Ecn| self.marks & 1 << ecn as u8 != 0;
        match (seen(Ecn::Ce), seen(Ecn::NotEct)) {
            (true, true) => return Err(Dropped::Congestion),
            (true, false) => set_ecn(packet, Ecn::Ce),
            (false, _) => {}
        }
        Ok(Progress::Whole { start, len })
    }
}

/// The place of a part of the content in a share of the memory.
fn room(share: &mut [u8], span: Span) -> Option<&mut [u8]> {
    let (start, end) = (FRONT.saturating_add(span.start.into()), FRONT.saturating_add(span.end.into()));
    let tail = share.len().checked_sub(TAILROOM)?;
    share.get_mut(..tail)?.get_mut(start..end)
}
