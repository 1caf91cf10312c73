//! What somebody claims in clear about an SA. It proves nothing; at most it makes us ask the peer for a sign of life
//! (RFC 7296 §1.5, §2.4, §2.21.4), and that seldom.

use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::Endpoint;
use crate::crypto::IkeCrypto;
use crate::error::Discard;
use crate::pad::Pad;
use crate::registry::{ExchangeType, NotifyKind, PayloadType};
use crate::sa::State;
use crate::wire::chain::Chain;
use crate::wire::header::Header;
use crate::wire::notify::Notify;

/// The least time between two claims that are looked at, whoever makes them.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a message only claims something: a notification in clear, where SAs protect theirs.
pub(super) fn is_claim(header: &Header) -> bool {
    header.exchange == ExchangeType::INFORMATIONAL && header.next == PayloadType::NOTIFY
}

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
    /// Somebody claims that the peer knows an SA no more. Asks the peer, when the claim comes from where it is.
    pub(super) fn hear_claim(&mut self, now: Instant, path: Path, header: &Header, datagram: &[u8]) -> Discard {
        if now < self.doubt_at {
            return Discard::Unexpected;
        }
        let body = datagram.get(Header::LEN..).unwrap_or_default();
        let first = Chain::new(header.next, body).next().and_then(Result::ok);
        let Some(claim) = first.and_then(|payload| Notify::parse(payload.body).ok()) else { return Discard::Malformed };
        let slot = match claim.kind {
            NotifyKind::INVALID_IKE_SPI => self.find(header),
            NotifyKind::INVALID_SPI => claim.data.try_into().ok().map(u32::from_be_bytes).and_then(|spi| {
                self.doubt_at = now + PAUSE;
                let mut children = self.children.iter().filter(|(_, child)| child.live());
                children.find(|(_, child)| child.spi_out == spi).map(|(_, child)| child.ike)
            }),
            _ => None,
        };
        let Some(slot) = slot else { return Discard::Unexpected };
        let pad: &dyn Pad = &self.pad;
        let Some(sa) = self.slots.get_mut(usize::from(slot)).and_then(|place| place.sa.as_mut()) else {
            return Discard::UnknownSa;
        };
        let there = sa.path.remote.ip() == path.remote.ip();
        if let State::Established(established) = &mut sa.state
            // Who never asks for signs of life does not ask for one because of a stranger.
            && there && established.liveness_at(sa.peer, pad).is_some()
            && established.doubted_at.is_none_or(|at| at <= now)
        {
            established.doubted_at = Some(now + self.settings.doubt);
            established.want_liveness = true;
            sa.work = true;
            self.pursue(now, slot);
        }
        Discard::Unexpected
    }
}
