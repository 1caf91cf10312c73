//! IKE_SA_INIT requests of strangers: checks, cookies and choices before any state is made (RFC 7296 §2.6, §2.7).

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::Endpoint;
use crate::crypto::{Group, IkeCrypto};
use crate::error::Discard;
use crate::failure::Failure;
use crate::pad::Pad;
use crate::proposal;
use crate::registry::NotifyKind;
use crate::rules::{Payloads, Refused, Rule};
use crate::sa::{Sa, State};
use crate::state::init_answered;
use crate::wire::header::Header;
use crate::wire::sa;

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
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
        let half_open = match self.repeated(path, header, datagram)? {
            Some(half_open) => half_open,
            None => return Ok(()),
        };
        let rule = Rule::find(header.exchange, false, false).ok_or(Discard::Unexpected)?;
        let body = datagram.get(Header::LEN..).ok_or(Discard::Malformed)?;
        let payloads = match Payloads::collect(header.next, body, rule) {
            Ok(payloads) => payloads,
            Err(Refused::UnsupportedCritical(payload)) => {
                self.answer(path, header, NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD, &[payload.0]);
                return Err(Discard::Malformed);
            }
            Err(_) => return Err(Discard::Malformed),
        };
        let (Some(offered), Some(ke), Some(nonce)) = (&payloads.sa, &payloads.ke, &payloads.nonce) else {
            return Err(Discard::Malformed);
        };
        if half_open >= self.settings.half_open_limit {
            return Err(Discard::NoRoom);
        }
        if half_open >= self.settings.cookie_threshold {
            let remote = path.remote.ip();
            let returned = payloads.notify(NotifyKind::COOKIE).is_some_and(|cookie| {
                self.jar.check(&mut self.crypto, now, cookie.data, nonce.as_slice(), remote, header.spi_i)
            });
            if !returned {
                let cookie = self.jar.bake(&mut self.crypto, now, nonce.as_slice(), remote, header.spi_i);
                self.answer(path, header, NotifyKind::COOKIE, &cookie);
                return Ok(());
            }
        }
        let choice = match self.choose(&path, offered) {
            Ok(choice) => choice,
            Err(cause) => {
                self.answer(path, header, NotifyKind::NO_PROPOSAL_CHOSEN, &[]);
                self.refused = Some((path, cause));
                return Ok(());
            }
        };
        let group: Group = choice.suite.group;
        if ke.group != group.id() {
            self.answer(path, header, NotifyKind::INVALID_KE_PAYLOAD, &group.id().0.to_be_bytes());
            return Ok(());
        }
        let slot = self.vacant().ok_or(Discard::NoRoom)?;
        let spi = self.spi(slot);
        self.put(slot, Sa::new(false, header.spi_i, spi, path, State::Dead));
        let begun = match self.open(now, slot, false) {
            Some((sa, mut env)) => init_answered::begin(sa, &mut env, &choice, datagram, &payloads),
            None => Err(Discard::NoRoom),
        };
        if begun.is_err() {
            self.take_back(slot);
        }
        begun
    }

    /// Looks for an SA that this request already made, or that made this request. `Ok(None)`: it was answered again; else
    /// the number of half-open SAs.
    fn repeated(&mut self, path: Path, header: &Header, datagram: &[u8]) -> Result<Option<usize>, Discard> {
        let mut half_open: usize = 0;
        let mut found = None;
        for (slot, place) in (0..=u16::MAX).zip(self.slots.iter()) {
            let Some(sa) = &place.sa else { continue };
            if sa.initiator && sa.spi_i == header.spi_i {
                // Our own request, sent back: whoever holds our pre-shared key would be we ourselves.
                return Err(Discard::Unexpected);
            }
            let State::InitAnswered(answered) = &sa.state else { continue };
            half_open = half_open.saturating_add(1);
            if sa.spi_i == header.spi_i && sa.window.response_path.remote == path.remote {
                found = Some((slot, answered.request_len));
            }
        }
        let Some((slot, len)) = found else { return Ok(Some(half_open)) };
        let (request, _) = self.messages.pair(slot).ok_or(Discard::NoRoom)?;
        let kept = request.get(super::MARKER_LEN..).and_then(|request| request.get(..len));
        let sa = self.slots.get_mut(usize::from(slot)).and_then(|place| place.sa.as_mut());
        match sa {
            Some(sa) if kept == Some(datagram) => {
                sa.window.send_response = true;
                Ok(None)
            }
            _ => Err(Discard::Window),
        }
    }

    /// The first connection for these addresses that has a proposal in common with the peer's.
    fn choose(&self, path: &Path, offered: &sa::Sa<'_>) -> Result<init_answered::Choice, Failure> {
        let (mut cause, mut after) = (Failure::UnknownAddress, None);
        while let Some(peer) = self.pad.candidate(path.local.ip(), path.remote.ip(), after) {
            after = Some(peer);
            let Some(connection) = self.pad.connection(peer) else { continue };
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
        }
        Err(cause)
    }
}
