//! What ends: Child SAs leave the data plane, by themselves or with a connection, and what went through them is counted and
//! told.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::event::{ChildId, IkeId};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::Spi;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::plane::{DataPlane, Half, Pair, Usage};
use crate::state::installed::{Installed, Sending};
use crate::state::report::What;
use crate::state::usage::{Account, Ended, Ending, Last, Totals};
use crate::state::{Gateway, Parts};

impl Gateway {
    /// Takes the SAs of a child out of the data plane and tells the peer. The peer's answer is not waited for: what nobody wants
    /// any more protects nothing. Returns whether there were any.
    pub(super) fn end_child<C: IkeCrypto>(
        &mut self,
        now: Instant,
        config: ChildConfigId,
        parts: &mut Parts<'_, '_, C>,
    ) -> bool {
        let Some(child) = self.children.get(&config) else { return false };
        let (peer, asked) = (child.peer, child.asked.map(|asked| asked.child));
        let mut stood = false;
        for sa in child.all().copied().chain(asked).collect::<Vec<_>>() {
            drop(parts.endpoint.close_child(now, sa)); // denied: it is being deleted, or is not up yet
            stood |= self.uninstall(now, sa, parts);
        }
        if stood {
            let cause = Cause::of(&Failure::ClosedHere, None);
            self.tell_down(peer, config, Some(cause));
        }
        stood
    }

    /// The same for a peer and everything it has.
    pub(super) fn end_peer<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, parts: &mut Parts<'_, '_, C>) {
        let Some(entry) = self.peers.get(&id) else { return };
        let all: Vec<_> = self.ikes.of(id).chain(entry.calling.ike()).collect();
        self.end_ikes(now, id, &all, &Cause::of(&Failure::ClosedHere, None), parts);
    }

    /// The same for some IKE SAs of a peer and what they carry, because of `cause`.
    pub(super) fn end_ikes<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        ended: &[IkeId],
        cause: &Cause,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        if let Some(call) = ended.iter().find_map(|ike| entry.calling.end(*ike)) {
            entry.cut = Some(Box::new((call.ike, cause.clone())));
        }
        let (mut told, children) = (false, entry.children.clone());
        for ike in ended {
            told |= self.forget_ike(id, *ike);
            drop(parts.endpoint.close(now, *ike)); // denied: it is gone
        }
        for config in children {
            let mut stood = false;
            let lost = ended.iter().flat_map(|ike| self.sas.of(config, *ike));
            for sa in lost.map(|sa| sa.child).collect::<Vec<_>>() {
                stood |= self.uninstall(now, sa, parts);
            }
            if stood && self.children.get(&config).is_some_and(|child| child.sas.is_empty()) {
                self.tell_down(id, config, Some(cause.clone()));
            }
        }
        if told {
            self.tell(Some(id), None, What::Closed, Some(cause.clone()));
        }
        self.agenda.touch(id);
    }

    /// An IKE SA is no more. Whatever waits in it is asked for anew. Returns whether it was there.
    pub(super) fn forget_ike(&mut self, id: PeerId, ike: IkeId) -> bool {
        let known = self.ikes.remove(ike);
        if let Some(entry) = self.peers.get(&id).filter(|_| known) {
            self.children.touch(&entry.children);
        }
        known
    }

    /// A child that was told as up is down, with one of several parties that share it at least.
    pub(super) fn tell_down(&mut self, peer: PeerId, config: ChildConfigId, cause: Option<Cause>) {
        let Some(child) = self.children.get_mut(&config).filter(|child| child.told_up) else { return };
        child.told_up = !child.sas.is_empty();
        self.tell(Some(peer), Some(config), What::ChildDown, cause);
    }

    /// Takes a Child SA out of the data plane and keeps what went through it. Whether it stood: `false` when it was gone
    /// already, or only received what was on its way.
    pub(super) fn uninstall<C: IkeCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        parts: &mut Parts<'_, '_, C>,
    ) -> bool {
        let Some(sa) = self.sas.remove(child) else { return false };
        sa.look_at.map(|at| self.looks.remove(&(at, child)));
        let entry = self.children.get_mut(&sa.config);
        let stood = entry.is_none_or(|entry| {
            entry.draining.remove(&child);
            entry.sas.remove(&child)
        });
        self.hand_silence_on(&sa, stood, parts.plane);
        let (config, spent) = (sa.config, sa.spent);
        self.settle_account(now, sa, parts.plane);
        self.leave(now, config, spent);
        stood
    }

    /// An SA of a child is gone, or carries nothing on: with the last one with whom we look after it is down.
    pub(super) fn leave(&mut self, now: Instant, config: ChildConfigId, spent: bool) {
        let Some(child) = self.children.get(&config) else { return };
        let ours = self.peers.get(&child.peer).and_then(|entry| entry.only_party());
        let up = ours.map_or(!child.sas.is_empty(), |party| self.is_up_with(child, party));
        let uptime = self.children.get_mut(&config).and_then(|child| child.uptime.as_mut());
        if let Some(uptime) = uptime.filter(|_| !up) {
            uptime.leave(now, spent);
        }
    }

    /// Takes a Child SA out of the data plane. What went through it goes on its account, and is told.
    fn settle_account(&mut self, now: Instant, sa: Installed, plane: &mut dyn DataPlane) {
        let Installed { pair, account, came: since, spi_in, spi_out, .. } = sa;
        let sent = match sa.outbound {
            Sending::Through => Last::of(pair, Half::Outbound, plane),
            Sending::Later(_) => Last::default(),
            Sending::Over(last) => last,
        };
        let received = if sa.inbound { Last::of(pair, Half::Inbound, plane) } else { Last::default() };
        self.close_account(now, (pair, account), (spi_in, spi_out), since, (received, sent));
    }

    /// What went through an SA that is gone goes on its account, and is told.
    pub(super) fn close_account(
        &mut self,
        now: Instant,
        (pair, account): (Pair, Arc<Account>),
        (spi_in, spi_out): (Spi, Spi),
        since: Instant,
        (received, sent): (Last, Last),
    ) {
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
        if let Some(sa) = self.sas.of_pair_mut(pair) {
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
