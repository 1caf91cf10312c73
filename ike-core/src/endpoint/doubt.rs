//! What somebody claims in clear about an SA. It proves nothing; at most it makes us ask the peer for a sign of life
//! (RFC 7296 §1.5, §2.4, §2.21.4), and that seldom.

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::host::Endpoint;
use crate::crypto::IkeCrypto;
use crate::error::Discard;
use crate::pad::Pad;
use crate::registry::{ExchangeType, NotifyKind, PayloadType};
use crate::sa::{Sa, State};
use crate::wire::chain::Chain;
use crate::wire::header::Header;
use crate::wire::notify::Notify;

/// How many Child SAs are looked at for the SPI that a claim names.
const SAME_SPI: usize = 256;

/// Whether a message only claims something: a notification in clear, where SAs protect theirs.
pub(super) fn is_claim(header: &Header) -> bool {
    header.exchange == ExchangeType::INFORMATIONAL && header.next == PayloadType::NOTIFY
}

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
    /// Somebody claims that the peer knows an SA no more. Asks the peer, when the claim comes from where it is. Nobody's
    /// claim keeps another's from being looked at: what bounds them is how seldom each peer is asked.
    #[inline(never)]
    pub(super) fn hear_claim(&mut self, now: Instant, path: Path, header: &Header, datagram: &[u8]) -> Discard {
        let body = datagram.get(Header::LEN..).unwrap_or_default();
        let first = Chain::new(header.next, body).next().and_then(Result::ok);
        let Some(claim) = first.and_then(|payload| Notify::parse(payload.body).ok()) else { return Discard::Malformed };
        let slot = match claim.kind {
            NotifyKind::INVALID_IKE_SPI => self.find(header),
            NotifyKind::INVALID_SPI => {
                claim.data.try_into().ok().and_then(|spi| self.carrier(now, path, u32::from_be_bytes(spi)))
            }
            _ => None,
        };
        let Some(slot) = slot else { return Discard::Unexpected };
        if !self.may_ask(now, path, slot) {
            return Discard::Unexpected;
        }
        if let Some(established) = self.sas.edit(slot).as_deref_mut().and_then(Sa::established_mut) {
            established.liveness.doubt_from = now + self.settings.doubt;
            established.liveness.wanted = true;
            established.work = true;
        }
        self.pursue(now, slot);
        Discard::Unexpected
    }

    /// The IKE SA with a peer there whose child sends with this SPI.
    fn carrier(&self, now: Instant, path: Path, spi: u32) -> Option<u16> {
        // Peers choose their SPIs by themselves: another one may have the same, and so many that a stranger's claim would be
        // costly. Whoever stands behind those is found by its own liveness check.
        let named = self.children.near_spi_out(spi).take(SAME_SPI).filter(|(_, child)| child.sends_with(spi));
        named.map(|(_, child)| child.ike).find(|ike| self.may_ask(now, path, *ike))
    }

    /// Whether the SA in a slot is with a peer there, that may be asked for a sign of life. Who is never asked is not asked
    /// because of a stranger.
    fn may_ask(&self, now: Instant, path: Path, slot: u16) -> bool {
        self.sas.get(slot).filter(|sa| sa.path.remote.ip() == path.remote.ip()).is_some_and(|sa| match &sa.state {
            State::Established(established) => {
                established.liveness_at().is_some() && established.liveness.doubt_from <= now
            }
            _ => false,
        })
    }
}
