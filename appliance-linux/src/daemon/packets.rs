//! Packets that wait for an SA, or came before theirs.

use std::time::Instant;

use gateway_core::policy::child_of;
use ipsec_core::buf::PacketBuf;
use ipsec_core::error::Discard;
use ipsec_core::spd::PolicyId;
use tracing::warn;

use super::state::Daemon;
use crate::socket::{DATAGRAM, ROOM};

impl Daemon {
    /// What SAs have to tell, so much at `most`, and which are wanted.
    pub(super) fn hear_sas(&mut self, most: usize) {
        self.plane.listens();
        for (policy, packet) in self.plane.wanted() {
            self.acquire(Instant::now(), policy, packet);
        }
        let now = self.clock.now();
        for _ in 0..most {
            let Some(event) = self.engines.poll_event() else { return };
            let (gateway, mut parts) = self.lend();
            gateway.handle_plane(now, event, &mut parts);
        }
    }

    /// A packet has no SA since this moment: keeps it when one is on its way.
    pub(super) fn acquire(&mut self, since: Instant, policy: PolicyId, packet: Vec<u8>) {
        let now = self.clock.now();
        // It may have come up while the packet was on its way here.
        if self.plane.resume(&packet) {
            return;
        }
        let (gateway, mut parts) = self.lend();
        let lost = match gateway.acquire(now, policy, &packet, &mut parts) {
            true => self.pending.push(since, policy, packet),
            false => 1,
        };
        self.lose(lost);
    }

    /// A packet left in clear for want of an SA: one is asked for, and that is told now and then.
    pub(super) fn clear_meanwhile(&mut self, policy: PolicyId, packet: &[u8]) {
        if let Some(others) = self.told_of_clear.admit(Instant::now())
            && let Some((_, peer, child)) = self.endpoint.pad().get_child(child_of(policy))
        {
            warn!(
                others,
                "NOT PROTECTED: packets of {}/{} leave in clear: there is no SA for them, and level is \"use\"",
                peer.name,
                child.name
            );
        }
        let now = self.clock.now();
        let (gateway, mut parts) = self.lend();
        gateway.acquire(now, policy, packet, &mut parts);
    }

    /// Packets that were here before the answer that made their SA.
    pub(super) fn resume_early(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let (ripe, lost) = self.early.ripe(Instant::now(), |spi| self.endpoint.meaning_of(spi));
        if lost > 0 {
            let mut engine = self.plane.inbound();
            (0..lost).for_each(|_| engine.count(Discard::InUnknownSpi));
        }
        for packet in ripe {
            let mut bytes = [&[0; ROOM][..], &packet.datagram].concat();
            // What is compressed gets longer.
            bytes.resize(ROOM + DATAGRAM, 0);
            if let Ok(mut datagram) = PacketBuf::new(&mut bytes, ROOM, packet.datagram.len()) {
                let _ = self.plane.deliver(packet.origin, &mut datagram); // its SA is asked with the others
            }
        }
    }

    /// Packets that waited for an SA which is there now. What it does not carry waits for another one, which is asked for as
    /// for any packet.
    pub(super) fn release(&mut self, policy: PolicyId) {
        self.pending.take(policy).for_each(|(since, packet)| self.acquire(since, policy, packet));
    }

    /// Packets that waited in vain are counted.
    pub(super) fn lose(&self, packets: usize) {
        if packets == 0 {
            return; // the lock is the packets'
        }
        let mut engine = self.plane.outbound();
        (0..packets).for_each(|_| engine.count(Discard::OutNoSa));
    }
}
