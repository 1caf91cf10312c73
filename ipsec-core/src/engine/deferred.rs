//! The two halves of sealing and opening, for crypto engines that finish later.

use core::fmt;

use super::inbound::{Inbound, Ingress, Outside, accept, examine};
use super::outbound::{Outbound, carry};
use crate::buf::PacketBuf;
use crate::crypto::Forged;
use crate::crypto::deferred::Deferred;
use crate::ecn::Ecn;
use crate::encap::Egress;
use crate::error::Discard;
use crate::esp::open::header;
use crate::esp::seal::Unsealed;
use crate::net::Path;
use crate::sa::SaId;
use crate::spd::Rules;
use crate::time::Instant;
use crate::transform::Begun;
use crate::wire::cursor::Malformed;
use crate::wire::esp::Header;

/// A packet that nobody is to see before it is finished. One that never is ends up empty, and what it held is wiped.
struct Held<'p, 'b> {
    packet: &'p mut PacketBuf<'b>,
    /// Where it ended: what was taken off since is wiped with it.
    end: usize,
    finished: bool,
}

impl<'p, 'b> Held<'p, 'b> {
    fn new(packet: &'p mut PacketBuf<'b>) -> Self {
        let end = packet.headroom().saturating_add(packet.len());
        Self { packet, end, finished: false }
    }
}

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        if !self.finished {
            let taken_off = self.end.saturating_sub(self.packet.headroom().saturating_add(self.packet.len()));
            let _ = self.packet.push_back(taken_off); // it was there
            self.packet.as_mut_slice().fill(0);
            self.packet.truncate(0);
        }
    }
}

/// A packet that is being sealed. Its sequence number is used up, whatever becomes of it: dropped, it is a packet that was lost, and
/// empty. Until it is finished nobody gets at it, as it is not encrypted:
///
/// ```compile_fail,E0502
/// use ipsec_core::buf::PacketBuf;
/// use ipsec_core::crypto::deferred::Deferred;
/// use ipsec_core::engine::{Outbound, Sealing};
/// use ipsec_core::sa::SaId;
/// use ipsec_core::time::Instant;
/// fn read_early<P: Deferred>(outbound: &mut Outbound<'_, P>, sa: SaId, packet: &mut PacketBuf<'_>) {
///     let sealing: Sealing<'_, '_, P::Job> = outbound.begin_seal(Instant::ZERO, sa, packet).unwrap();
///     packet.as_slice();
///     outbound.finish_seal(sealing).unwrap();
/// }
/// ```
#[must_use = "what is not finished is never sent"]
pub struct Sealing<'p, 'b, J> {
    held: Held<'p, 'b>,
    begun: Begun<J>,
    egress: Egress,
}

impl<J> fmt::Debug for Sealing<'_, '_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

/// A packet that is being opened. The SA does not know of it: dropped, it is a packet that never came, and empty. Until it is finished
/// nobody gets at it, as it is not known whose it is:
///
/// ```compile_fail,E0502
/// use ipsec_core::buf::PacketBuf;
/// use ipsec_core::crypto::deferred::Deferred;
/// use ipsec_core::ecn::Ecn;
/// use ipsec_core::engine::{Inbound, Opening};
/// use ipsec_core::net::Path;
/// use ipsec_core::time::Instant;
/// fn read_early<P: Deferred>(inbound: &mut Inbound<'_, P>, from: Path, packet: &mut PacketBuf<'_>) {
///     let opening: Opening<'_, '_, P::Job> =
///         inbound.begin_open(Instant::ZERO, from, Ecn::NotEct, packet).unwrap();
///     packet.as_slice();
///     inbound.finish_open(Instant::ZERO, opening).unwrap();
/// }
/// ```
#[must_use = "what is not finished never came"]
pub struct Opening<'p, 'b, J> {
    held: Held<'p, 'b>,
    begun: Begun<J>,
    sa: SaId,
    header: Header,
    sequence: u64,
    outside: Outside,
}

impl<J> fmt::Debug for Opening<'_, '_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}

impl<P: Deferred, R: Rules> Outbound<'_, P, R> {
    /// Begins what [`seal`](Self::seal) does: the packet has its place among those of the SA, and the crypto engine is at it. Several
    /// may be under way, and be finished in any order.
    ///
    /// # Errors
    /// As for [`Outbound::seal`], and [`Discard::OutEngine`]: there is no place for it now. The packet is as it was, and no sequence
    /// number was used.
    pub fn begin_seal<'p, 'b>(
        &mut self,
        now: Instant,
        sa: SaId,
        packet: &'p mut PacketBuf<'b>,
    ) -> Result<Sealing<'p, 'b, P::Job>, Discard> {
        let (crypto, compressor) = (&mut self.crypto, &mut self.compressor);
        let begun = self.sad.edit(sa, Discard::OutNoSa, |sa| {
            carry(crypto, compressor, now, sa, packet, |crypto, transform, number, packet| {
                transform.begin_seal(crypto, number, packet)?.ok_or(Unsealed::Busy)
            })
        });
        let (egress, begun) = begun.inspect_err(|discard| self.counters.count(*discard))?;
        Ok(Sealing { held: Held::new(packet), begun, egress })
    }

    /// Whether [`finish_seal`](Self::finish_seal) would not have to wait.
    pub fn is_sealed(&mut self, sealing: &Sealing<'_, '_, P::Job>) -> bool {
        sealing.begun.job.as_ref().is_none_or(|job| self.crypto.is_done(job))
    }

    /// Waits for the crypto engine if it has to. The packet is then ESP, also when its SA was removed meanwhile.
    ///
    /// # Errors
    /// [`Discard::OutEngine`], counted: the crypto engine failed; the packet is empty.
    pub fn finish_seal(&mut self, sealing: Sealing<'_, '_, P::Job>) -> Result<Egress, Discard> {
        let Sealing { mut held, begun, egress } = sealing;
        let sealed = finish(&mut self.crypto, begun, held.packet).map_err(|Forged| Discard::OutEngine);
        held.finished = sealed.is_ok();
        sealed.map(|()| egress).inspect_err(|discard| self.counters.count(*discard))
    }
}

impl<P: Deferred, R: Rules> Inbound<'_, P, R> {
    /// Begins what [`open`](Self::open) does. Nothing of the SA changes.
    ///
    /// # Errors
    /// As for [`Inbound::open`], and [`Discard::InEngine`]: there is no place for it now, and the packet is as it was.
    pub fn begin_open<'p, 'b>(
        &mut self,
        now: Instant,
        from: Path,
        ecn: Ecn,
        packet: &'p mut PacketBuf<'b>,
    ) -> Result<Opening<'p, 'b, P::Job>, Discard> {
        let (crypto, windows) = (&mut self.crypto, &mut self.windows);
        let begun = header(packet.as_slice()).map_err(|Malformed| Discard::InHeader).and_then(|header| {
            self.sad.edit_by_spi(header.spi, Discard::InUnknownSpi, |id, sa| {
                let sequence = examine(sa, windows.share(id.slot as usize), &header, now, packet)?;
                let begun = sa.common.transform.begin_open(crypto, &sa.common.number(sequence), packet.as_mut_slice());
                let begun = begun.map_err(|Forged| Discard::InForged)?.ok_or(Discard::InEngine)?;
                Ok((begun, id, header, sequence))
            })
        });
        let (begun, sa, header, sequence) = begun.inspect_err(|discard| self.counters.count(*discard))?;
        Ok(Opening { held: Held::new(packet), begun, sa, header, sequence, outside: Outside { from, ecn } })
    }

    /// Whether [`finish_open`](Self::finish_open) would not have to wait.
    pub fn is_open(&mut self, opening: &Opening<'_, '_, P::Job>) -> bool {
        opening.begun.job.as_ref().is_none_or(|job| self.crypto.is_done(job))
    }

    /// Waits for the crypto engine if it has to. The packet is then the inner one. Its sequence number is looked at once more: of two
    /// with the same number that were under way, one comes through.
    ///
    /// # Errors
    /// As for [`Inbound::open`]; the packet is empty.
    pub fn finish_open(&mut self, now: Instant, opening: Opening<'_, '_, P::Job>) -> Result<Ingress, Discard> {
        let Opening { mut held, begun, sa: id, header, sequence, outside } = opening;
        let (windows, policies, packet) = (&mut self.windows, &mut self.policies, &mut *held.packet);
        let compressor = &mut self.compressor;
        let finished = finish(&mut self.crypto, begun, packet).map_err(|Forged| Discard::InForged);
        let opened = finished.and_then(|()| {
            self.sad.edit(id, Discard::InUnknownSpi, |sa| {
                let share = windows.share(id.slot as usize);
                // The window may have moved by so much that the low half means another number now.
                if examine(sa, share, &header, now, packet)? != sequence {
                    return Err(Discard::InStale);
                }
                accept(id, sa, share, sequence, &outside, compressor, policies, now, packet)
            })
        });
        held.finished = opened.is_ok();
        opened.inspect_err(|discard| self.counters.count(*discard))
    }
}

/// Has what the engine made of a packet written into it.
fn finish<P: Deferred>(crypto: &mut P, begun: Begun<P::Job>, packet: &mut PacketBuf<'_>) -> Result<(), Forged> {
    let Some(job) = begun.job else { return Ok(()) };
    crypto.finish(job, packet.as_mut_slice().get_mut(begun.front..).ok_or(Forged)?)
}
