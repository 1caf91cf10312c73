//! One IKE SA, and the questions one may ask it.

use heapless::Vec;
use ipsec_core::net::{Encap, Path};
use ipsec_core::time::Instant;

use super::by::By;
use super::established::{ChildRequest, Established, Request};
use super::handshake::{AuthSent, First, InitAnswered, InitSent};
use crate::auth::ask::Lease;
use crate::auth::course::{Course, Wait};
use crate::crypto::{Digest64, IkeCrypto, PrfAlg};
use crate::event::{IkeId, Party};
use crate::failure::Failure;
use crate::keys::IkeKeys;
use crate::natd::Nat;
use crate::pad::{Pad, PeerId};
use crate::registry::{ExchangeType, IdKind};
use crate::room::Block;
use crate::settings::{Settings, share};
use crate::window::{Retransmission, Window};
use crate::wire::header::Header;
use crate::wire::id::{Id, ShortId};
use crate::wire::writer::Written;

/// Over, or not begun yet. Stays for a while to repeat its last response, and until its end was told.
#[derive(Default)]
pub(crate) struct Dead {
    /// How long it stays; `None` when only the caller keeps it.
    pub(crate) until: Option<Instant>,
    /// Its end, when the caller is to be told: whether it had been established, and why it ended.
    pub(crate) untold: Option<(bool, Failure)>,
}

#[allow(clippy::large_enum_variant, reason = "nothing is boxed here: the slot has the size of the largest anyway")]
pub(crate) enum State {
    InitSent(InitSent),
    InitAnswered(InitAnswered),
    AuthSent(AuthSent),
    Established(Established),
    Dead(Dead),
}

/// The party that this identity stands for: the same one for all names that [match](Id::matches), as long as names of
/// hosts and mailboxes can be.
pub(crate) fn party<C: IkeCrypto>(crypto: &mut C, id: &Id<'_>) -> Party {
    let is_name = matches!(id.kind, IdKind::FQDN | IdKind::RFC822_ADDR);
    let mut name = Vec::<u8, 255>::new();
    let data = match name.extend_from_slice(id.data) {
        Ok(()) if is_name => {
            name.make_ascii_lowercase();
            name.as_slice()
        }
        _ => id.data,
    };
    let mut digest = Digest64::new();
    crypto.prf(PrfAlg::HmacSha256, &[id.kind.0], &[data], &mut digest);
    Party { digest: digest.as_slice().first_chunk().copied().unwrap_or_default() }
}

/// How an SA came to the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Established,
    /// In place of this one.
    Rekeyed(IkeId),
}

/// What the caller has to be told while the SA lives, in this order.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) begun: Option<Begun>,
    pub(crate) moved: bool,
    /// It is time to authenticate anew.
    pub(crate) reauthenticate: bool,
    /// A rekey of this SA did not come about.
    pub(crate) rekey_failed: Option<Failure>,
    /// The peer lives and does not answer our request of this exchange.
    pub(crate) unanswered: Option<ExchangeType>,
    /// What somebody in the peer's place says, unproven, is the last that we [noted](InitSent::noted).
    pub(crate) noted: bool,
    /// A child that the peer asked for did not come about.
    pub(crate) child_failed: Option<Failure>,
}

pub(crate) struct Sa<C: IkeCrypto> {
    pub(crate) peer: Option<PeerId>,
    /// Tells the identities apart that share a connection without `remote_id`.
    pub(crate) party: Party,
    /// Who the peer says to be, to be shown; proven once the SA is established.
    pub(crate) named: Option<ShortId>,
    /// We are the original initiator of this SA: our SPI is `spi_i`. Of one that a rekey made, that is whoever rekeyed.
    pub(crate) initiator: bool,
    /// We began with IKE_SA_INIT. Passes on to the SA that takes over, whoever rekeys.
    pub(crate) called: bool,
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    pub(crate) path: Path,
    pub(crate) nat: Nat,
    /// How ESP of the children travels.
    pub(crate) encap: Encap,
    pub(crate) window: Window,
    pub(crate) state: State,
    /// From IKE_SA_INIT to the end. Here and not in the states, so that no change of state moves them: what a move leaves
    /// behind nobody wipes.
    pub(crate) keys: Option<IkeKeys<C>>,
    /// Our secret of the key exchange that our outstanding request began; here for the same reason.
    pub(crate) ke: Option<C::KeSecret>,
    /// Where its messages stand that are too long for its pair.
    pub(crate) block: Option<Block>,
    /// How long the block is kept for the sake of our last answer, at least.
    pub(crate) answer_until: Option<Instant>,
    /// The peer's addresses, for as long as they are leased. Passes on to the SA that takes over; whoever has it when it ends
    /// gives it back.
    pub(crate) lease: Option<Lease>,
    pub(crate) report: Report,
}

impl<C: IkeCrypto> Sa<C> {
    pub(crate) fn new(initiator: bool, spi_i: u64, spi_r: u64, path: Path, state: State) -> Self {
        Self {
            peer: None,
            party: Party::default(),
            named: None,
            initiator,
            called: initiator,
            spi_i,
            spi_r,
            path,
            nat: Nat::default(),
            encap: Encap::None,
            window: Window::new(path),
            state,
            keys: None,
            ke: None,
            block: None,
            answer_until: None,
            lease: None,
            report: Report::default(),
        }
    }

    /// The header of our next request; `None` while one is outstanding.
    pub(crate) fn request_header(&self, exchange: ExchangeType) -> Option<Header> {
        let id = self.window.request_id()?;
        Some(Header { initiator: self.initiator, ..Header::new(self.spi_i, self.spi_r, exchange, id) })
    }

    /// The header of our response to the request we expect next.
    pub(crate) fn response_header(&self, exchange: ExchangeType) -> Header {
        Header {
            initiator: self.initiator,
            response: true,
            ..Header::new(self.spi_i, self.spi_r, exchange, self.window.expected())
        }
    }

    /// The peer was heard from elsewhere: its NAT has a new mapping (RFC 7296 §2.23). Whoever called from behind a NAT of
    /// its own does not follow: its peer is the one that stays.
    pub(crate) fn follow(&mut self, path: Path) {
        if path.remote != self.path.remote && !(self.nat.local && self.called) {
            self.path.remote = path.remote;
            self.report.moved = true;
        }
    }

    pub(crate) fn established_mut(&mut self) -> Option<&mut Established> {
        match &mut self.state {
            State::Established(established) => Some(established),
            _ => None,
        }
    }

    /// Whether a NAT keepalive is to be sent; it no longer is then.
    pub(crate) fn take_keepalive(&mut self) -> bool {
        self.established_mut().is_some_and(|established| core::mem::take(&mut established.keepalive.waits))
    }

    /// Our request of an established SA stands in the buffer: sends it, and keeps what it asks for.
    pub(crate) fn ask(&mut self, now: Instant, message: Written, request: Request, timing: &Retransmission) {
        let State::Established(established) = &mut self.state else { return };
        self.window.request_ready(now, message, request.exchange(), timing);
        established.request = Some(request);
    }

    /// Whether the request that is out, what the state says of it and the key exchange that it began are of one another. They
    /// lie apart: its octets are repeated whatever it asks for, which takes its room in the state from what the handshake has
    /// there, and the secret is there before it and after it, and must not be moved.
    pub(crate) fn is_of_one_mind(&self) -> bool {
        let out = self.window.outstanding().map(|request| request.exchange);
        let (exchange, has_ke) = match &self.state {
            State::InitSent(_) => (Some(ExchangeType::IKE_SA_INIT), true),
            // Or it stands still, and asks for nothing meanwhile.
            State::AuthSent(_) => (out.and(Some(ExchangeType::IKE_AUTH)), false),
            State::Established(established) => {
                let request = established.request.as_ref();
                (request.map(Request::exchange), request.is_some_and(Request::has_ke))
            }
            State::InitAnswered(_) | State::Dead(_) => (None, false),
        };
        (exchange, has_ke) == (out, self.ke.is_some())
    }

    /// Our request for a Child SA, as long as it has no answer.
    pub(crate) fn child_request(&mut self) -> Option<&mut ChildRequest> {
        match self.established_mut()?.request.as_mut()? {
            Request::Child(request) => Some(request),
            _ => None,
        }
    }

    /// How far IKE_AUTH is.
    pub(crate) fn course(&self) -> Option<&Course> {
        match &self.state {
            State::InitAnswered(InitAnswered { course, .. }) | State::AuthSent(AuthSent { course, .. }) => Some(course),
            _ => None,
        }
    }

    pub(crate) fn course_mut(&mut self) -> Option<&mut Course> {
        match &mut self.state {
            State::InitAnswered(InitAnswered { course, .. }) | State::AuthSent(AuthSent { course, .. }) => Some(course),
            _ => None,
        }
    }

    /// What it stands still for.
    pub(crate) fn wait(&self) -> Option<&Wait> {
        self.course()?.wait.as_ref()
    }

    /// Whether its end is to be told, or that its lease is over.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(&self.state, State::Dead(dead) if dead.untold.is_some() || self.lease.is_some())
    }

    /// Over, and for long enough: what is left is to tell the caller.
    pub(crate) fn only_to_tell(&mut self) {
        if let State::Dead(dead) = &mut self.state {
            dead.until = None;
        }
    }

    /// What somebody gave last as the reason why nothing will come of it.
    pub(crate) fn noted(&self) -> Option<&Failure> {
        match &self.state {
            State::InitSent(InitSent { noted, .. }) => noted.last(),
            _ => None,
        }
    }

    /// Why an SA ends whose request of this exchange nobody answered in a way that we could go on with.
    pub(crate) fn silence(&self, exchange: ExchangeType) -> Failure {
        self.noted().cloned().unwrap_or(Failure::PeerSilent(exchange))
    }

    /// When something is to be done. What somebody waits for and may be asked for is due at once, and so is the end of an SA
    /// that has been over for long enough, when that was told.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Dead(Dead { until, .. }) => return until.or((!self.has_ended()).then_some(Instant::ZERO)),
            State::Established(established) if established.work && self.window.outstanding().is_none() => {
                return Some(Instant::ZERO);
            }
            // A long answer is looked at now and then, whether its block is wanted elsewhere.
            State::Established(established) => established.due().into_iter().chain(self.answer_until).min(),
            State::InitAnswered(answered) => Some(answered.until),
            State::AuthSent(sent) => sent.course.wait.as_ref().map(|_| sent.until),
            State::InitSent(_) => None,
        };
        let request = self.window.outstanding().map(|request| request.due);
        own.into_iter().chain(request).min()
    }

    /// Whether its messages are those of a handshake, in which each covers the ones before.
    pub(crate) fn is_handshake(&self) -> bool {
        matches!(self.state, State::InitSent(_) | State::InitAnswered(_) | State::AuthSent(_))
    }

    /// Whether payloads of the peer are kept, decrypted.
    pub(crate) fn keeps_open(&self) -> bool {
        self.course().is_some_and(Course::has_begun)
    }

    /// Octets of what is kept in the request buffer, and in the response buffer.
    pub(crate) fn kept(&self) -> (usize, usize) {
        match &self.state {
            State::InitAnswered(InitAnswered { request_len, course, .. }) => {
                (course.received_len(*request_len), course.sent_len(self.window.response_len()))
            }
            State::AuthSent(AuthSent { answer_len, child, course, .. }) => {
                let written = match child {
                    // Our IKE_SA_INIT stands where the request will.
                    First::Wanted(_) => course.own_len(),
                    First::Asked(_) => self.window.request_len(),
                };
                (course.sent_len(written), course.received_len(*answer_len))
            }
            _ => (self.window.request_len(), self.window.response_len()),
        }
    }

    /// Whether its beginning, or something that happens while it lives, is to be told. Of an SA of which it is not decided yet
    /// whether it takes over, the caller does not know.
    pub(super) fn has_begun(&self) -> bool {
        let Report { begun, moved, reauthenticate, rekey_failed, unanswered, noted, child_failed } = &self.report;
        begun.is_some()
            || (*moved && self.is_known())
            || *reauthenticate
            || rekey_failed.is_some()
            || unanswered.is_some()
            || *noted
            || child_failed.is_some()
            || self.wait().is_some_and(|wait| wait.untold)
    }

    /// Whether the caller knows it.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(&self.state, State::Established(established) if !established.announced)
    }

    /// Our own SPI.
    pub(crate) fn spi(&self) -> u64 {
        if self.initiator { self.spi_i } else { self.spi_r }
    }

    pub(crate) fn by_party(&self) -> By {
        By::Party(self.peer, self.party)
    }

    /// Whether it is established, with the same peer under the same identity as the other.
    pub(crate) fn is_of_party(&self, other: &Self) -> bool {
        self.peer == other.peer && self.party == other.party && matches!(self.state, State::Established(_))
    }

    /// Whether the peer may hold another IKE SA beside so many in a table of so many slots: one and its rekey in any case.
    pub(crate) fn may_have_another(&self, held: usize, settings: &Settings, pad: &dyn Pad, slots: usize) -> bool {
        // One that makes Child SAs with IKE_AUTH alone has an IKE SA for each, and for each another one in its place.
        let own = || self.peer.is_some_and(|peer| pad.has_twice(peer, held));
        held < 2 || (held < share(slots) && (held < settings.ike_sas_per_peer || own()))
    }
}
