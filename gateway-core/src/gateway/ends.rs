//! Child SAs that leave the data plane: what went through them is counted and told.

use ipsec_core::time::Instant;

use super::Gateway;
use super::install::{Installed, Sending};
use super::usage::{Ended, Ending, Last, Totals};
use crate::plane::{DataPlane, Half, Pair, Usage};

impl Gateway {
    /// Takes a Child SA out of the data plane. What went through it goes on its account, and is told.
    pub(super) fn settle_account(&mut self, now: Instant, sa: Installed, plane: &mut dyn DataPlane) {
        let Installed { pair, account, came: since, spi_in, spi_out, .. } = sa;
        let sent = match sa.outbound {
            Sending::Through => Last::of(pair, Half::Outbound, plane),
            Sending::Later(_) => Last::default(),
            Sending::Over(last) => last,
        };
        let received = if sa.inbound { Last::of(pair, Half::Inbound, plane) } else { Last::default() };
        let totals = Totals::of(received.usage, sent.usage);
        self.credit(&account, totals);
        let ended = Ended { pair, account, spi_in, spi_out, since, until: now, totals };
        let ending = Ending { ended, inbound: received.counted(), outbound: sent.counted() };
        match received.waits || sent.waits {
            true => _ = self.ending.insert(pair, ending),
            false => self.tell_end(ending.ended),
        }
    }

    /// The data plane says what went through an SA that it was asked to end.
    pub(super) fn removed(&mut self, pair: Pair, half: Half, usage: Usage) {
        // Of one that stands otherwise it is the sending half, which ends first.
        if let Some(sa) = self.pairs.get(&pair).and_then(|child| self.sas.get_mut(child)) {
            if let (Half::Outbound, Sending::Over(last @ Last { waits: true, .. })) = (half, &mut sa.outbound) {
                *last = Last { usage, waits: false };
            }
            return;
        }
        let Some(ending) = self.ending.get_mut(&pair) else { return };
        let Some(counted) = ending.counted(half).take() else { return };
        let rest = Usage {
            packets: usage.packets.saturating_sub(counted.packets),
            bytes: usage.bytes.saturating_sub(counted.bytes),
            ..usage
        };
        let more = match half {
            Half::Inbound => Totals::of(rest, Usage::default()),
            Half::Outbound => Totals::of(Usage::default(), rest),
        };
        ending.ended.totals.add(more);
        let (account, over) = (ending.ended.account.clone(), ending.inbound.is_none() && ending.outbound.is_none());
        self.credit(&account, more);
        if over && let Some(ending) = self.ending.remove(&pair) {
            self.tell_end(ending.ended);
        }
    }
}
