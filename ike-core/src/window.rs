//! Message IDs, the outstanding request and the cached response (RFC 7296 §2.1–2.3); the window size is 1.

use core::ops::Range;
use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::registry::ExchangeType;
use crate::room::{Datagrams, Half};
#[cfg(test)]
use crate::room::{MARKER_LEN, Pair, cut::cut};
use crate::wire::outline::Outline;
use crate::wire::writer::Written;

/// How often and how far apart a request is repeated before the peer counts as silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retransmission {
    /// Pause before the first repetition; each further pause is twice as long.
    pub first: Duration,
    /// No pause is longer than this.
    pub longest: Duration,
    /// Repetitions.
    pub tries: u8,
}

impl Default for Retransmission {
    /// 0.5, 1, 2, 4 s and then 4 s for each further of 6 repetitions: a silent peer is noticed after 19.5 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(4), tries: 6 }
    }
}

impl Retransmission {
    /// What is due again at once would be repeated in vain.
    fn pause(&self, repetitions: u32) -> Duration {
        let factor = 1u32.checked_shl(repetitions).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest).max(Duration::from_millis(1))
    }

    /// From the request until its last repetition has waited in vain, too.
    pub(crate) fn span(&self) -> Duration {
        (0..=u32::from(self.tries))
            .map(|repetitions| self.pause(repetitions))
            .fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// A message that stands in its room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) datagrams: Datagrams,
    outline: Outline,
}

impl From<Written> for Message {
    fn from(written: Written) -> Self {
        Self { datagrams: Datagrams::one(written.len), outline: written.outline }
    }
}

/// Our request that the peer has not answered yet; its octets stand in the SA's request buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outstanding {
    pub(crate) message: Message,
    pub(crate) exchange: ExchangeType,
    /// Where it goes, until it was repeated there as often as it is to be; `None`: where the SA's peer is by then.
    path: Option<Path>,
    pub(crate) repetitions: u32,
    pub(crate) due: Instant,
}

/// A datagram that is to be sent now.
pub(crate) struct Outgoing {
    /// In which room it stands, and where there.
    pub(crate) half: Half,
    pub(crate) place: Range<usize>,
    pub(crate) path: Path,
    pub(crate) outline: Outline,
    /// It was sent before.
    pub(crate) repeated: bool,
}

/// What a request from the peer is, by its message ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one: handle it.
    New,
    /// The one answered last: send the cached response again.
    Repeated,
    /// Outside the window.
    Outside,
}

/// Tells a repetition of a request from another message: a repetition is the same octets again (RFC 7296 §2.1), so it
/// ends with the same ICV.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    len: u16,
    tail: [u8; 16],
}

impl Mark {
    fn of(datagram: &[u8]) -> Self {
        Self {
            len: u16::try_from(datagram.len()).unwrap_or(u16::MAX),
            tail: datagram.last_chunk().copied().unwrap_or_default(),
        }
    }
}

/// What stands in the SA's request buffer.
#[derive(Debug)]
enum Request {
    Nothing,
    Outstanding(Outstanding),
    /// The last word of an SA that is over, to be said once.
    LastWord(Message),
}

#[derive(Debug)]
pub(crate) struct Window {
    next_request: u32,
    request: Request,
    next_expected: u32,
    /// The datagram that is being handled, and the request that was answered last.
    received: Mark,
    answered: Mark,
    /// The cached response.
    pub(crate) response: Option<Message>,
    /// Where the cached response goes: back to where the request came from (RFC 7296 §2.11).
    pub(crate) response_path: Path,
    /// How often the request that was answered last came again.
    pub(crate) repeated: u8,
    /// What was written since that was asked last.
    written: Fresh,
}

/// Which messages were written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fresh {
    pub(crate) request: bool,
    pub(crate) response: bool,
}

impl Window {
    pub(crate) fn new(path: Path) -> Self {
        Self {
            next_request: 0,
            request: Request::Nothing,
            next_expected: 0,
            received: Mark::default(),
            answered: Mark::default(),
            response: None,
            response_path: path,
            repeated: 0,
            written: Fresh::default(),
        }
    }

    /// The message ID of our next request, or `None` while one is outstanding or when the IDs are used up.
    pub(crate) fn request_id(&self) -> Option<u32> {
        (self.outstanding().is_none() && self.next_request < u32::MAX).then_some(self.next_request)
    }

    /// Our request that the peer has not answered yet.
    pub(crate) fn outstanding(&self) -> Option<&Outstanding> {
        match &self.request {
            Request::Outstanding(request) => Some(request),
            Request::Nothing | Request::LastWord(_) => None,
        }
    }

    fn outstanding_mut(&mut self) -> Option<&mut Outstanding> {
        match &mut self.request {
            Request::Outstanding(request) => Some(request),
            Request::Nothing | Request::LastWord(_) => None,
        }
    }

    /// Our request with `request_id()` stands in the buffer: send it.
    pub(crate) fn request_ready(
        &mut self,
        now: Instant,
        message: Written,
        exchange: ExchangeType,
        timing: &Retransmission,
    ) {
        let (message, due) = (message.into(), now + timing.pause(0));
        self.request = Request::Outstanding(Outstanding { message, exchange, path: None, repetitions: 0, due });
        self.written.request = true;
    }

    /// The outstanding request, and what repeats it, goes on this path, wherever else the SA's peer may be.
    pub(crate) fn send_on(&mut self, path: Path) {
        if let Some(request) = self.outstanding_mut() {
            request.path = Some(path);
        }
    }

    /// Whether the outstanding request has a path of its own: its answer says nothing about the SA's.
    pub(crate) fn has_own_path(&self) -> bool {
        self.outstanding().is_some_and(|request| request.path.is_some())
    }

    /// The last word stands in the request buffer.
    pub(crate) fn part(&mut self, message: Written) {
        self.request = Request::LastWord(message.into());
        self.written.request = true;
    }

    /// What was written since this was asked last.
    pub(crate) fn take_written(&mut self) -> Fresh {
        core::mem::take(&mut self.written)
    }

    /// Octets of what is kept in the request buffer.
    pub(crate) fn request_len(&self) -> usize {
        match &self.request {
            Request::Nothing => 0,
            Request::Outstanding(Outstanding { message, .. }) | Request::LastWord(message) => message.datagrams.len(),
        }
    }

    /// Octets of the last response.
    pub(crate) fn response_len(&self) -> usize {
        self.response.as_ref().map_or(0, |message| message.datagrams.len())
    }

    /// Whether the last response is to be sent.
    pub(crate) fn answers_now(&self) -> bool {
        self.response.is_some_and(|response| response.datagrams.waits())
    }

    /// The last response is given up: whoever repeats its request now hears nothing.
    pub(crate) fn forget_response(&mut self) {
        self.response = None;
    }

    /// Whether a response with this ID and exchange answers the outstanding request.
    pub(crate) fn answers(&self, id: u32, exchange: ExchangeType) -> bool {
        id == self.next_request && self.outstanding().is_some_and(|request| request.exchange == exchange)
    }

    /// The outstanding request was answered.
    pub(crate) fn answered(&mut self) {
        if self.outstanding().is_some() {
            self.request = Request::Nothing;
            self.next_request = self.next_request.saturating_add(1);
        }
    }

    /// The outstanding request is to be replaced by another with the same message ID (IKE_SA_INIT restarts).
    pub(crate) fn restart(&mut self) {
        if self.outstanding().is_some() {
            self.request = Request::Nothing;
        }
    }

    /// Takes the outstanding request back, if it was not sent yet.
    pub(crate) fn take_back(&mut self) {
        let unsent = |request: &Outstanding| request.repetitions == 0 && request.message.datagrams.is_whole();
        if self.outstanding().is_some_and(unsent) {
            self.restart();
        }
    }

    /// Repeats the outstanding request when it is due. `Err`: it was repeated as often as it is to be. On a path of its own
    /// that says nothing about the peer: from then on it goes where all go, as often again.
    pub(crate) fn repeat(&mut self, now: Instant, timing: &Retransmission) -> Result<(), ExchangeType> {
        let Some(request) = self.outstanding_mut().filter(|request| request.due <= now) else {
            return Ok(());
        };
        if request.repetitions >= u32::from(timing.tries) {
            request.path.take().ok_or(request.exchange)?;
            request.repetitions = 0;
        }
        self.repeat_once_more(now, timing);
        Ok(())
    }

    /// Repeats the outstanding request, however often that was done.
    pub(crate) fn repeat_once_more(&mut self, now: Instant, timing: &Retransmission) {
        let Some(request) = self.outstanding_mut() else { return };
        request.repetitions = request.repetitions.saturating_add(1);
        request.due = now + timing.pause(request.repetitions);
        request.message.datagrams.send();
    }

    /// A datagram is about to be handled, and decrypted in place.
    pub(crate) fn receive(&mut self, datagram: &[u8]) {
        self.received = Mark::of(datagram);
    }

    /// Whether the datagram that is being handled is the request that was answered last, once more. It needs no
    /// decryption, and proves nothing: anybody can repeat what it saw.
    pub(crate) fn is_repetition(&self) -> bool {
        self.received == self.answered
    }

    /// How the request ends that was answered last, for a test that compares states.
    #[cfg(test)]
    pub(crate) fn answered_last(&self) -> u64 {
        self.answered.tail.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail))
    }

    /// Cuts the messages that were written into datagrams.
    #[cfg(test)]
    pub(crate) fn cut_written(&mut self, written: Fresh, pair: &mut Pair<'_>) {
        if let Request::Outstanding(Outstanding { message, .. }) | Request::LastWord(message) = &mut self.request
            && written.request
        {
            cut(&mut pair.request[MARKER_LEN..], &mut message.datagrams);
        }
        if let Some(response) = self.response.as_mut().filter(|_| written.response) {
            cut(&mut pair.response[MARKER_LEN..], &mut response.datagrams);
        }
    }

    /// The message ID of the outstanding request, or of the next one, for the same.
    #[cfg(test)]
    pub(crate) fn requested(&self) -> u32 {
        self.next_request
    }

    pub(crate) fn admit(&self, id: u32) -> Arrival {
        if id == self.next_expected {
            Arrival::New
        } else if self.response.is_some() && id.checked_add(1) == Some(self.next_expected) {
            Arrival::Repeated
        } else {
            Arrival::Outside
        }
    }

    /// The request with the expected ID was handled; its response stands in the buffer.
    pub(crate) fn respond(&mut self, response: Written, path: Path) {
        self.next_expected = self.next_expected.saturating_add(1);
        self.answered = self.received;
        self.response = Some(response.into());
        self.response_path = path;
        self.written.response = true;
        self.repeated = 0;
    }

    /// The request that was answered last came again: so does its answer.
    pub(crate) fn respond_again(&mut self, path: Path) {
        self.response.iter_mut().for_each(|response| response.datagrams.send());
        self.response_path = path;
        self.repeated = self.repeated.saturating_add(1);
    }

    /// The datagram that is to be sent next: of an answer first, the peer waits for that. `path`: the SA's own.
    pub(crate) fn next(&mut self, path: Path) -> Option<Outgoing> {
        if let Some(response) = &mut self.response
            && let Some(place) = response.datagrams.take()
        {
            let (path, outline, repeated) = (self.response_path, response.outline, self.repeated > 0);
            return Some(Outgoing { half: Half::Response, place, path, outline, repeated });
        }
        let (message, path, repeated) = match &mut self.request {
            Request::Nothing => return None,
            Request::Outstanding(request) => {
                (&mut request.message, request.path.unwrap_or(path), request.repetitions > 0)
            }
            Request::LastWord(message) => (message, path, false),
        };
        let (place, outline) = (message.datagrams.take()?, message.outline);
        if !message.datagrams.waits() && matches!(self.request, Request::LastWord(_)) {
            self.request = Request::Nothing;
        }
        Some(Outgoing { half: Half::Request, place, path, outline, repeated })
    }

    /// Whether something is to be sent.
    pub(crate) fn sends(&self) -> bool {
        let of_ours = match &self.request {
            Request::Nothing => false,
            Request::Outstanding(Outstanding { message, .. }) | Request::LastWord(message) => message.datagrams.waits(),
        };
        of_ours || self.answers_now()
    }

    /// The ID of the request we expect next.
    pub(crate) fn expected(&self) -> u32 {
        self.next_expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    use crate::wire::header::Header;
    use crate::wire::writer::MessageWriter;

    fn window() -> Window {
        let addr: SocketAddr = "192.0.2.1:500".parse().unwrap();
        Window::new(Path { local: addr, remote: addr })
    }

    fn message() -> Written {
        let header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 0);
        MessageWriter::new(&mut [0; 28], &header).unwrap().finish()
    }

    #[test]
    fn a_request_is_handled_once_and_its_answer_repeated() {
        let mut window = window();
        assert_eq!(window.admit(0), Arrival::New);
        assert_eq!(window.admit(1), Arrival::Outside);
        window.respond(message(), window.response_path);
        assert_eq!(window.admit(0), Arrival::Repeated);
        assert_eq!(window.admit(1), Arrival::New);
        window.respond(message(), window.response_path);
        assert_eq!(window.admit(0), Arrival::Outside);
    }

    #[test]
    fn f_48_an_answer_goes_where_the_request_came_from_last() {
        let mut window = window();
        let first = window.response_path;
        let moved = Path { remote: "198.51.100.7:40123".parse().unwrap(), ..first };
        window.respond(message(), first);
        let sent = |window: &mut Window| window.next(first).map(|sent| (sent.path, sent.repeated));
        assert_eq!(sent(&mut window), Some((first, false)));
        // From behind a NAT that translates otherwise now, because the answer did not arrive (RFC 7296 §2.11).
        window.respond_again(moved);
        assert_eq!(sent(&mut window), Some((moved, true)));
        assert_eq!(sent(&mut window), None);
    }

    #[test]
    fn f_48_a_request_goes_where_the_peer_is_by_then_unless_it_has_a_path_of_its_own() {
        let timing = Retransmission::default();
        let mut window = window();
        let first = window.response_path;
        let [moved, own] = ["198.51.100.7:500", "203.0.113.9:500"].map(|remote: &str| {
            let remote = remote.parse().unwrap();
            Path { remote, ..first }
        });
        for (ours, expected) in [(None, [first, moved]), (Some(own), [own, own])] {
            window.request_ready(Instant::ZERO, message(), ExchangeType::INFORMATIONAL, &timing);
            ours.into_iter().for_each(|own| window.send_on(own));
            assert_eq!(window.has_own_path(), ours.is_some());
            assert_eq!(window.next(first).map(|sent| (sent.path, sent.repeated)), Some((expected[0], false)));
            window.repeat_once_more(Instant::ZERO, &timing);
            assert_eq!(window.next(moved).map(|sent| (sent.path, sent.repeated)), Some((expected[1], true)));
            window.answered();
            assert!(!window.has_own_path(), "the next one goes where all go");
        }
    }

    /// A message of three datagrams.
    fn several() -> Message {
        Message { datagrams: Datagrams::cut(30, 10), ..message().into() }
    }

    #[test]
    fn each_datagram_of_a_message_is_sent_and_each_once_more_when_it_is_repeated() {
        let timing = Retransmission::default();
        let mut window = window();
        let path = window.response_path;
        let all = |window: &mut Window| {
            let sent = core::iter::from_fn(|| window.next(path));
            sent.map(|sent| (sent.half as u8, sent.place, sent.repeated)).collect::<std::vec::Vec<_>>()
        };
        let places = |half: Half, repeated| [0..10, 14..24, 28..30].map(|place| (half as u8, place, repeated)).to_vec();
        window.request_ready(Instant::ZERO, message(), ExchangeType::INFORMATIONAL, &timing);
        window.respond(message(), path);
        window.response = Some(several());
        window.outstanding_mut().unwrap().message = several();
        // The answer first.
        assert_eq!(all(&mut window), [places(Half::Response, false), places(Half::Request, false)].concat());
        assert!(!window.sends());
        window.respond_again(path);
        assert!(window.answers_now());
        assert_eq!(all(&mut window), places(Half::Response, true));
        window.repeat_once_more(Instant::ZERO, &timing);
        let _ = window.next(path);
        // What was sent in part is sent: the peer may have it.
        window.take_back();
        assert!(window.outstanding().is_some() && window.sends());
        assert_eq!(all(&mut window), places(Half::Request, true)[1..]);
        window.answered();
        window.part(message());
        window.request = Request::LastWord(several());
        assert_eq!((all(&mut window), window.request_len()), (places(Half::Request, false), 0));
    }

    #[test]
    fn a_request_is_taken_back_only_while_nothing_of_it_was_sent() {
        let timing = Retransmission::default();
        for sent in [false, true] {
            let mut window = window();
            window.request_ready(Instant::ZERO, message(), ExchangeType::INFORMATIONAL, &timing);
            window.outstanding_mut().unwrap().message = several();
            sent.then(|| window.next(window.response_path));
            window.take_back();
            assert_eq!(window.outstanding().is_some(), sent);
        }
    }

    #[test]
    fn a_silent_peer_is_noticed_after_the_configured_repetitions() {
        let timing = Retransmission::default();
        let mut window = window();
        window.request_ready(Instant::ZERO, message(), ExchangeType::INFORMATIONAL, &timing);
        assert!(window.request_id().is_none());
        let (mut now, mut sent, path) = (Instant::ZERO, 0, window.response_path);
        let silent_at = loop {
            sent += core::iter::from_fn(|| window.next(path)).count();
            now = now + Duration::from_millis(100);
            if window.repeat(now, &timing).is_err() {
                break now;
            }
        };
        assert_eq!(sent, 7);
        assert_eq!(silent_at, Instant::from_millis(19_500));
    }

    #[test]
    fn the_message_ids_are_used_up_before_they_wrap() {
        let mut window = window();
        window.next_request = u32::MAX;
        assert!(window.request_id().is_none());
        window.next_expected = u32::MAX;
        window.respond(message(), window.response_path);
        assert_eq!(window.expected(), u32::MAX);
    }
}
