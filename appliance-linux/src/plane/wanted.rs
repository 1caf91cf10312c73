//! Packets in want of an SA for which there was no room where they are told: one of each policy, as one is enough to ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipsec_core::spd::PolicyId;

/// Policies at most.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Wanted(Mutex<BTreeMap<PolicyId, Vec<u8>>>);

impl Wanted {
    /// Keeps the packet of a policy that has none here. `false`: it has, or there is no room.
    pub(super) fn keep(&self, policy: PolicyId, packet: Vec<u8>) -> bool {
        let mut wanted = self.lock();
        let takes = wanted.len() < MOST && !wanted.contains_key(&policy);
        if takes {
            wanted.insert(policy, packet);
        }
        takes
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> BTreeMap<PolicyId, Vec<u8>> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PolicyId, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::sync_channel;

    use gateway_core::config::Config;
    use gateway_core::gateway::Gateway;
    use gateway_core::plane::DataPlane as _;
    use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};

    use super::super::{News, Plane};
    use super::*;
    use crate::capacity::Capacity;
    use crate::clear::ClearSockets;
    use crate::clock::Clock;
    use crate::tun::Tun;

    const CONFIG: &str = r#"
        [[peer]]
        name   = "cloud"
        local  = "192.0.2.2"
        remote = "192.0.2.1"
        psk    = "a key of more than twenty characters"
        [[peer.child]]
        name      = "net"
        local-ts  = "10.2.0.0/16"
        remote-ts = "10.1.0.0/16"
    "#;

    #[test]
    fn one_packet_is_enough_to_ask_for_an_sa_however_full_the_inbox_is() {
        let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
        let (tun, clear) = (Tun::nowhere().unwrap(), ClearSockets::of_anybody().unwrap());
        let plane = Plane::new(tun, clear, Clock::start(), &capacity).unwrap();
        let (_, peers) = Gateway::new(Config::parse(CONFIG).unwrap().0);
        plane.engines().set_rules(&gateway_core::policy::rules(&[], &peers, std::iter::empty())).unwrap();
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        let (sender, inputs) = sync_channel(1);
        let arrives = || {
            let mut buffer = [vec![0; HEADROOM], packet.clone(), vec![0; TAILROOM]].concat();
            plane.dispatch(&sender, &mut PacketBuf::new(&mut buffer, HEADROOM, packet.len()).unwrap());
        };
        let full = || plane.tally().read().into_iter().find(|(name, _)| *name == "InboxFull").map(|(_, count)| count);
        arrives();
        assert!(matches!(inputs.try_recv(), Ok(News::Acquire { .. })) && plane.wanted().is_empty());
        sender.send(News::Sas).unwrap();
        arrives();
        assert_eq!(full(), Some(0), "it is not lost");
        assert!(plane.called.load(Ordering::Acquire), "who listens is called for it");
        arrives();
        assert_eq!(full(), Some(1), "one is enough");
        let kept: Vec<_> = plane.wanted().into_values().collect();
        assert_eq!(kept, [packet.clone()]);
        assert!(plane.wanted().is_empty());
    }

    #[test]
    fn no_more_policies_than_there_is_room_for() {
        let wanted = Wanted::default();
        let kept = (0..1000).filter(|number| wanted.keep(PolicyId(*number), vec![1])).count();
        assert_eq!((kept, wanted.take().len()), (MOST, MOST));
        assert!(wanted.keep(PolicyId(1), vec![1]));
    }
}
