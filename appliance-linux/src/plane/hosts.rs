//! Who talks to whom in transport or BEET mode: hosts whose packets are not carried as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gateway_core::config::{Child, Config, ManualPair, Mode, Traffic};

/// Pairs of an address of our side and one of the peer's, each with a number.
#[derive(Default)]
pub(crate) struct Hosts(BTreeMap<(IpAddr, IpAddr), u32>);

impl Hosts {
    /// Those of a configuration. The selectors of such children are single addresses.
    pub(crate) fn of(config: &Config) -> Self {
        let children =
            config.peers.iter().flat_map(|peer| &peer.children).map(|child| (child.mode, Child::traffic(child)));
        let manual = config.manual.iter().map(|pair| (pair.mode, ManualPair::traffic(pair)));
        let hosts = children.chain(manual).filter(|(mode, _)| *mode != Mode::Tunnel);
        let pairs: BTreeSet<_> = hosts
            .flat_map(|(_, Traffic { local, remote })| {
                local.iter().flat_map(move |local| remote.iter().map(move |remote| (local.addrs, remote.addrs)))
            })
            .map(|(local, remote)| (local.start(), remote.start()))
            .collect();
        Self(pairs.into_iter().zip(0..).collect())
    }

    /// The number of a pair; `None`: these are none.
    pub(super) fn number(&self, local: IpAddr, remote: IpAddr) -> Option<u32> {
        self.0.get(&(local, remote)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [[peer]]
        name   = "cloud"
        local  = "192.0.2.2"
        remote = ["192.0.2.1", "192.0.2.3"]
        psk    = "a key of more than twenty characters"
        [[peer.child]]
        name      = "net"
        local-ts  = "10.2.0.1"
        remote-ts = "10.1.0.1"
        [[peer.child]]
        name      = "udp"
        mode      = "transport"
        local-ts  = ["192.0.2.2[udp/500]", "192.0.2.2[udp/4060]"]
        remote-ts = ["192.0.2.1", "192.0.2.3"]
    "#;

    #[test]
    fn the_ends_of_children_in_transport_mode_are_hosts_and_those_of_tunnels_are_none() {
        let hosts = Hosts::of(&Config::parse(CONFIG).unwrap().0);
        let number = |local: &str, remote: &str| hosts.number(local.parse().unwrap(), remote.parse().unwrap());
        assert_eq!((number("192.0.2.2", "192.0.2.1"), number("192.0.2.2", "192.0.2.3")), (Some(0), Some(1)));
        assert_eq!((number("192.0.2.1", "192.0.2.2"), number("10.2.0.1", "10.1.0.1")), (None, None));
    }
}
