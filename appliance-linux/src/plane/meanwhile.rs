//! Packets that leave in clear as there is no SA for them yet (level "use"): of each policy one is told in so much time, so that
//! an SA is asked for, and they go on without waiting for one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;

const EVERY: Duration = Duration::from_secs(1);

/// When one of each policy was told last: no more policies than are configured.
#[derive(Default)]
pub(super) struct Meanwhile(Mutex<BTreeMap<PolicyId, Instant>>);

impl Meanwhile {
    /// Whether this one is told.
    pub(super) fn is_due(&self, policy: PolicyId, now: Instant) -> bool {
        let mut told = self.lock();
        let due = told.get(&policy).is_none_or(|last| now.since(*last) >= EVERY);
        if due {
            told.insert(policy, now);
        }
        due
    }

    /// Policies have other numbers.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PolicyId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use gateway_core::config::Config;
    use gateway_core::gateway::Gateway;
    use gateway_core::plane::{DataPlane as _, Pair};
    use gateway_core::policy::rules;
    use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
    use ipsec_core::crypto::AeadAlg;
    use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
    use ipsec_core::sa::{DontFragment, Lifetime, Mode, OutboundParams, Params, TfcPadding};

    use super::super::{News, Plane};
    use super::*;
    use crate::capacity::Capacity;
    use crate::clear::ClearSockets;
    use crate::clock::Clock;
    use crate::namespace::in_a_network_of_its_own;
    use crate::tun::Tun;

    const CONFIG: &str = r#"
        [[peer]]
        name   = "cloud"
        local  = "192.0.2.2"
        remote = "192.0.2.1"
        psk    = "a key of more than twenty characters"
        [[peer.child]]
        name      = "strict"
        local-ts  = "10.2.0.0/16"
        remote-ts = "10.1.5.0/24"
        [[peer.child]]
        name      = "lax"
        level     = "use"
        local-ts  = "10.2.0.0/16"
        remote-ts = "10.1.0.0/16"
    "#;

    fn ip(words: &str) {
        let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "{words}");
    }

    /// Whether a packet to this host comes out of a device within a moment.
    fn comes_out(device: &Tun, to: [u8; 4]) -> bool {
        let (until, mut buffer) = (std::time::Instant::now() + Duration::from_millis(200), [0; 2048]);
        while std::time::Instant::now() < until {
            match device.recv(&mut buffer) {
                Ok(20..) if buffer[16..20] == to => return true,
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        false
    }

    #[test]
    fn e1_a_packet_leaves_in_clear_and_asks_for_an_sa_until_there_is_one_and_no_other_child_lets_any() {
        in_a_network_of_its_own(|| {
            let (device, wan) = (Tun::create("pcl0").unwrap(), Tun::create("wan").unwrap());
            ip("link set pcl0 up");
            ip("link set wan up");
            ip("route add default dev wan");
            let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
            let plane = Plane::new(device, ClearSockets::open().unwrap(), Clock::start(), &capacity).unwrap();
            let (_, peers) = Gateway::new(Config::parse(CONFIG).unwrap().0);
            let lax = policy(&peers, "lax");
            let mut engines = plane.engines();
            engines.set_rules(&rules(&[], &peers, std::iter::empty())).unwrap();
            let (sender, inputs) = sync_channel(9);
            let send = |to: [u8; 4]| {
                let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5];
                packet.extend(to.into_iter().chain([0, 7, 0, 9, 0, 8, 0, 0]));
                let mut buffer = [vec![0; HEADROOM], packet.clone(), vec![0; TAILROOM]].concat();
                plane.dispatch(&sender, &mut PacketBuf::new(&mut buffer, HEADROOM, packet.len()).unwrap());
            };
            let (open, closed) = ([10, 1, 0, 9], [10, 1, 5, 9]);
            for first in [true, false] {
                send(open);
                assert!(comes_out(&wan, open), "in clear");
                let asked =
                    inputs.try_recv().is_ok_and(|news| matches!(news, News::Clear { policy, .. } if policy == lax));
                assert_eq!(asked, first, "one in a second is enough");
            }
            send(closed);
            assert!(!comes_out(&wan, closed));
            assert!(matches!(inputs.try_recv(), Ok(News::Acquire { .. })));
            assert_eq!(plane.outbound().passed_clear(), 2);

            let (all, at) = ([TrafficSelector::addrs(AddrRange::ANY_V4)], |last: u8| ([192, 0, 2, last], 4500).into());
            let sa = Params {
                spi: Spi::new(0x1000).unwrap(),
                mode: Mode::Tunnel,
                protection: AeadAlg::Aes128Gcm16.into(),
                keymat: &[7; 20],
                esn: false,
                path: Path { local: at(2), remote: at(1) },
                encap: Encap::Udp,
                policy: lax,
                local_ts: &all,
                remote_ts: &all,
                lifetime: Lifetime::default(),
                compression: None,
            };
            let params = OutboundParams {
                sa,
                last_sent: 0,
                last_number: u64::MAX,
                copy_dscp: false,
                dont_fragment: DontFragment::Copy,
            };
            let now = plane.clock.now();
            engines.install_outbound(now, Pair(1), &params, TfcPadding::None).unwrap();
            send(open);
            assert!(!comes_out(&wan, open), "there is an SA");
            let sealed: u64 = plane.outbound().sas().map(|sa| sa.packets).sum();
            assert_eq!((sealed, plane.outbound().passed_clear()), (1, 2));
            engines.remove(Pair(1), gateway_core::plane::Half::Outbound);
            send(open);
            assert!(comes_out(&wan, open), "there is none any more");
        });
    }

    fn policy(peers: &gateway_core::peers::Peers, name: &str) -> PolicyId {
        let child = peers.children().find(|(_, child)| child.name == name).unwrap().0;
        gateway_core::policy::policy_of(child)
    }

    #[test]
    fn one_packet_of_each_policy_asks_in_a_second() {
        let meanwhile = Meanwhile::default();
        let is_due = |policy, millis| meanwhile.is_due(PolicyId(policy), Instant::from_millis(millis));
        assert!(is_due(1, 5000) && is_due(2, 5001));
        assert!(!is_due(1, 5999) && !is_due(2, 6000));
        assert!(is_due(1, 6000) && !is_due(1, 6999));
        meanwhile.forget();
        assert!(is_due(1, 6999));
    }
}
