//! IKE_SA_INIT requests of strangers: checks, cookies and choices before any state is made (RFC 7296 §2.6, §2.7).

use core::time::Duration;

use heapless::Vec;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::host::Endpoint;
use crate::crypto::{Group, IkeCrypto};
use crate::error::Discard;
use crate::failure::Failure;
use crate::pad::{Initiator, Pad};
use crate::proposal::{self, IkeProposal};
use crate::registry::NotifyKind;
use crate::room::MARKER_LEN;
use crate::rules::{Direction, Payloads, Refused, Rule, Stage};
use crate::sa::{By, NONCE_LEN, Sa, State, same_source};
use crate::state::init_answered;
use crate::wire::header::Header;
use crate::wire::sa;

/// The least time between two requests that are told to be too long.
const PAUSE: Duration = Duration::from_secs(60);
/// Which part of the half-open SAs one source may hold.
const SHARE: usize = 4;
/// How many that may be in the largest table: each first message from there looks at them.
const MOST_FROM_ONE: usize = 64;
/// What looking for a connection may cost, in octets of proposals that are compared.
const SEARCH: usize = 64 * 1024;
/// How many lists of proposals are remembered that did not fit: most connections have the same as others.
const LISTS: usize = 8;

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
    #[inline(never)]
    pub(super) fn handle_init(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        if header.message_id != 0 || header.spi_r != 0 || header.spi_i == 0 || !header.initiator {
            return Err(Discard::Unexpected);
        }
        // It is kept for AUTH: what has no room there costs nothing but a look at its header.
        if datagram.len() > self.rooms.longest() {
            if now >= self.told_size_at {
                self.told_size_at = now + PAUSE;
                self.refused = Some((path, Failure::MessageTooLong(datagram.len())));
            }
            return Err(Discard::NoRoom);
        }
        if self.is_repeated(path, header, datagram)? {
            return Ok(());
        }
        let rule = Rule::find(header.exchange, Direction::Request, Stage::Clear).ok_or(Discard::Unexpected)?;
        let body = datagram.get(Header::LEN..).ok_or(Discard::Malformed)?;
        let payloads = match Payloads::collect(header.next, body, rule) {
            Ok(payloads) => payloads,
            Err(Refused::UnsupportedCritical(payload)) => {
                self.answer_in_clear(path, header, NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD, &[payload.0]);
                return Err(Discard::Malformed);
            }
            Err(_) => return Err(Discard::Malformed),
        };
        let nonce = payloads.nonce.as_ref().ok_or(Discard::Malformed)?;
        // Whatever the settings, strangers leave half of the table and of the pool, and half of theirs is for whoever shows
        // where it is.
        let room = self.sas.len().min(self.rooms.blocks());
        let limit = self.settings.half_open_limit.min((room / 2).max(1));
        let threshold = self.settings.cookie_threshold.min((limit / 2).max(1));
        let share = (limit / SHARE).clamp(2, MOST_FROM_ONE);
        let (half_open, here) = (self.sas.counted(), self.half_open_here(path));
        if half_open >= limit || here >= share || !self.rooms.has_spare() {
            self.refused = Some((path, Failure::TooManyHalfOpen));
            return Err(Discard::NoRoom);
        }
        // Without a cookie anybody can take what is there for the owner of an address, so that is only half of it.
        let pressed = half_open.saturating_add(self.fruitless.lately(now)) >= threshold;
        // Nor does it get the last block that is there for handshakes. An answer is no longer, but for its nonce.
        let longer = NONCE_LEN.saturating_sub(nonce.as_slice().len());
        let last = !self.rooms.is_short(datagram.len().saturating_add(longer)) && !self.rooms.has_another();
        if pressed || last || here >= share / 2 {
            let remote = path.remote.ip();
            let returned = payloads.notify(NotifyKind::COOKIE).is_some_and(|cookie| {
                self.jar.check(&mut self.crypto, now, cookie.data, nonce.as_slice(), remote, header.spi_i)
            });
            if !returned {
                let cookie = self.jar.bake(&mut self.crypto, now, nonce.as_slice(), remote, header.spi_i);
                self.answer_in_clear(path, header, NotifyKind::COOKIE, &cookie);
                return Ok(());
            }
        }
        let made = self.make(now, path, header, datagram, &payloads);
        if !matches!(made, Ok(true)) {
            self.fruitless.count = self.fruitless.count.saturating_add(1);
        }
        made.map(|_| ())
    }

    /// Chooses and answers. Returns whether an SA came of it.
    #[inline(never)]
    fn make(
        &mut self,
        now: Instant,
        path: Path,
        header: &Header,
        datagram: &[u8],
        payloads: &Payloads<'_>,
    ) -> Result<bool, Discard> {
        let (Some(offered), Some(ke)) = (&payloads.sa, &payloads.ke) else { return Err(Discard::Malformed) };
        let choice = match self.choose(&path, offered, datagram.len()) {
            Ok(choice) => choice,
            Err(Failure::UnknownAddress) if self.pad.may_follow(&caller(&path)) => {
                self.refused = Some((path, Failure::AddressNotKnownYet));
                return Ok(false);
            }
            Err(cause) => {
                self.answer_in_clear(path, header, NotifyKind::NO_PROPOSAL_CHOSEN, &[]);
                self.refused = Some((path, cause));
                return Ok(false);
            }
        };
        let group: Group = choice.suite.group;
        if ke.group != group.id() {
            self.answer_in_clear(path, header, NotifyKind::INVALID_KE_PAYLOAD, &group.id().0.to_be_bytes());
            return Ok(false);
        }
        let slot = self.sas.vacant().ok_or(Discard::NoRoom)?;
        let spi = self.spi(slot);
        self.open(slot, None, (header.spi_i, spi), path);
        let begun = self.begin(now, slot, |sa, env| init_answered::begin(sa, env, &choice, datagram, payloads));
        begun.unwrap_or(Err(Discard::NoRoom)).map(|()| true)
    }

    /// The half-open SAs of strangers with the same source.
    fn half_open_here(&self, path: Path) -> usize {
        let source = path.remote.ip();
        let here = |sa: &Sa<C>| matches!(sa.state, State::InitAnswered(_)) && same_source(sa.path.remote.ip(), source);
        self.sas.near(By::Source(source)).filter(|(_, sa)| here(sa)).count()
    }

    /// Looks for an SA that this request already made, or that made this request. `Ok(true)`: it was answered again.
    fn is_repeated(&mut self, path: Path, header: &Header, datagram: &[u8]) -> Result<bool, Discard> {
        let ours = |sa: &Sa<C>| sa.initiator && sa.spi_i == header.spi_i;
        if self.sas.near(By::Ours(header.spi_i)).any(|(_, sa)| ours(sa)) {
            // Our own request, sent back: whoever holds our pre-shared key would be we ourselves.
            return Err(Discard::Unexpected);
        }
        let found = self.sas.near(By::Request(header.spi_i, path.remote)).find_map(|(slot, sa)| match &sa.state {
            State::InitAnswered(answered)
                if sa.spi_i == header.spi_i && sa.window.response_path.remote == path.remote =>
            {
                // Whoever went on has our answer.
                Some((slot, Some(answered.request_len).filter(|_| !answered.course.has_begun())))
            }
            _ => None,
        });
        let Some((slot, len)) = found else { return Ok(false) };
        let block = self.sas.get(slot).and_then(|sa| sa.block.as_ref());
        let request = self.rooms.of(slot, block).ok_or(Discard::NoRoom)?.request;
        let kept = len.and_then(|len| request.get(MARKER_LEN..)?.get(..len));
        match self.sas.edit(slot) {
            Some(mut sa) if kept == Some(datagram) => {
                sa.window.respond_again(path);
                Ok(true)
            }
            _ => Err(Discard::Window),
        }
    }

    /// The first connection for these addresses that has a proposal in common with the peer's, whose request has `len`
    /// octets.
    fn choose(&self, path: &Path, offered: &sa::Sa<'_>, len: usize) -> Result<init_answered::Choice, Failure> {
        let mut cause = Failure::UnknownAddress;
        let (mut unfit, mut left) = (Vec::<&[IkeProposal], LISTS>::new(), SEARCH);
        let pad: &dyn Pad = &self.pad;
        for (_, connection) in pad.candidates(caller(path)) {
            if unfit.contains(&connection.ike) {
                continue;
            }
            // It is used up by a stranger who offers more than anybody needs, or where a hundred lists do not fit.
            let Some(rest) = left.checked_sub(len) else { break };
            left = rest;
            match proposal::select_ike(connection.ike, offered, false) {
                Ok(chosen) => {
                    return Ok(init_answered::Choice {
                        suite: chosen.suite,
                        number: chosen.number,
                        force_encap: connection.force_encap,
                    });
                }
                Err(mismatch) => cause = Failure::NoProposalInCommon(mismatch),
            }
            // Those beyond the first few are compared each time.
            let _ = unfit.push(connection.ike);
        }
        Err(cause)
    }
}

/// Whoever calls, as long as it has not said who it is.
fn caller(path: &Path) -> Initiator<'static> {
    Initiator::new(path.local.ip(), path.remote.ip())
}
