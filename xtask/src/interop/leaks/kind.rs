//! The two gateways that are watched: one that has networks in its tunnels, and one that has everything but exceptions.

use std::net::IpAddr;

use super::flow::{
    BYPASSED_FROM_GATEWAY, BYPASSED_FROM_LAN, BYPASSED_TO_LAN, DISCARDED_FROM_GATEWAY, DISCARDED_FROM_LAN,
    DISCARDED_IN_TUNNEL, DISCARDED_TO_LAN, FORGED_TO_GATEWAY, FORGED_TO_LAN, FROM_GATEWAY, FROM_INSIDE, FROM_LAN,
    TO_LAN,
};
use crate::lab::frame::Packet;
use crate::lab::gateway::{Child, Connection};

/// How our gateway is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Kind {
    /// A child for each IP family, from network to network.
    Networks,
    /// A child with everything for each family, a policy that lets a network by and one that discards another.
    Everything,
}

impl Kind {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Networks, Self::Everything];

    /// In a word, for the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Everything => "everything",
        }
    }

    /// The networks in the tunnels beyond the peer, by IP family.
    pub(super) fn remote(self) -> [&'static str; 2] {
        match self {
            Self::Networks => ["10.2.0.0/16", "fd02::/64"],
            Self::Everything => ["0.0.0.0/0", "::/0"],
        }
    }

    /// Less of them, with all that flows there.
    pub(super) fn less(self) -> [&'static str; 2] {
        match self {
            Self::Networks => ["10.2.0.0/24", "fd02::/112"],
            Self::Everything => ["10.2.0.0/16", "fd02::/64"],
        }
    }

    /// A network for each family that nothing flows to any more once a policy discards it, and what flowed there.
    pub(super) fn to_close(self) -> ([&'static str; 2], &'static [[u8; 2]]) {
        match self {
            Self::Networks => (Self::Networks.remote(), &[FROM_LAN, TO_LAN, FROM_GATEWAY]),
            Self::Everything => (BYPASSED, &[BYPASSED_FROM_LAN, BYPASSED_FROM_GATEWAY, BYPASSED_TO_LAN]),
        }
    }

    /// Gives a connection one child for each family.
    pub(super) fn children(connection: &mut Connection, local: [&str; 2], remote: [&str; 2]) {
        let names = ["net", "net6"].into_iter().zip(local.into_iter().zip(remote));
        connection.children = names.map(|(name, (local, remote))| Child::new(name, &[local], &[remote])).collect();
    }

    /// What its file has beside peers.
    pub(super) fn policies(self) -> String {
        match self {
            Self::Networks => String::new(),
            Self::Everything => policy("bypass", BYPASSED, 100) + &policy("discard", DISCARDED, 100),
        }
    }

    /// The flows that have to arrive while all is well.
    pub(super) fn to_arrive(self) -> Vec<u8> {
        match self {
            Self::Networks => [FROM_LAN, TO_LAN, FROM_GATEWAY].concat(),
            Self::Everything => {
                let exceptions = [BYPASSED_FROM_LAN, BYPASSED_FROM_GATEWAY, BYPASSED_TO_LAN, FROM_INSIDE].concat();
                [Self::Networks.to_arrive(), exceptions].concat()
            }
        }
    }

    /// The flows that leave in clear where nothing keeps them in.
    pub(super) fn kept_in(self) -> Vec<u8> {
        match self {
            Self::Networks => [FROM_LAN, FROM_GATEWAY].concat(),
            Self::Everything => [FROM_LAN, FROM_INSIDE, DISCARDED_FROM_LAN, DISCARDED_FROM_GATEWAY].concat(),
        }
    }

    /// The flows that arrive, some of them at the peer's host, where nothing keeps them out.
    pub(super) fn kept_out(self) -> Vec<u8> {
        let forged = [TO_LAN, FORGED_TO_LAN, FORGED_TO_GATEWAY].concat();
        match self {
            Self::Networks => forged,
            Self::Everything => {
                let discarded =
                    [DISCARDED_TO_LAN, DISCARDED_IN_TUNNEL, DISCARDED_FROM_LAN, DISCARDED_FROM_GATEWAY].concat();
                [forged, discarded].concat()
            }
        }
    }

    /// What the daemon counts of what it is given here all the time.
    pub(super) fn counters(self) -> &'static [&'static str] {
        match self {
            Self::Networks => &["InClear"],
            Self::Everything => &["InClear", "InBlocked", "OutBlocked"],
        }
    }

    /// Whether a packet is not to be seen outside: what is protected is to be in the tunnel alone (to the peer's side, from
    /// ours, or for ours from the peer's), what is discarded nowhere.
    pub(super) fn hides(self, packet: &Packet<'_>) -> bool {
        let ends = [packet.from, packet.to];
        if self == Self::Everything && ends.into_iter().any(|end| belongs(end, 12)) {
            return false;
        }
        let (ours, theirs) = (|address| belongs(address, 1), |address| belongs(address, 2));
        let discarded = self == Self::Everything && ends.into_iter().any(|end| belongs(end, 22));
        discarded || ours(packet.from) || theirs(packet.to) || theirs(packet.from) && ours(packet.to)
    }

    /// Whether it is a packet of the gateway's own that the kernel has given an outside address: such an address may speak
    /// with everybody where everything is in the tunnel.
    pub(super) fn lets_speak(self, flow: u8, packet: &Packet<'_>) -> bool {
        self == Self::Everything && FROM_GATEWAY.contains(&flow) && !belongs(packet.from, 1)
    }
}

/// What a policy lets by.
const BYPASSED: [&str; 2] = ["10.12.0.0/16", "fd12::/64"];
/// What a policy discards.
const DISCARDED: [&str; 2] = ["10.22.0.0/16", "fd22::/64"];

/// A policy for each of two networks.
pub(super) fn policy(action: &str, remote: [&str; 2], priority: u32) -> String {
    let one = |remote| format!("\n[[policy]]\naction = \"{action}\"\nremote = \"{remote}\"\npriority = {priority}\n");
    remote.map(one).concat()
}

/// Whether an address is in network 10.`site`.0.0/16 or fd`site`::/64.
fn belongs(address: IpAddr, site: u8) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..2] == [10, site],
        IpAddr::V6(address) => {
            let written_alike = u16::from(site / 10) * 16 + u16::from(site % 10);
            address.segments()[..4] == [0xfd00 + written_alike, 0, 0, 0]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn packet(from: &str, to: &str) -> Packet<'static> {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Packet { from, to, protocol: 17, later_fragment: false, payload: &[] }
    }

    #[test]
    fn what_is_protected_is_hidden_and_what_a_policy_lets_by_is_not() {
        for (from, to, networks, everything) in [
            ("10.1.0.10", "10.2.0.10", true, true),
            ("fd01::10", "fd02::10", true, true),
            ("192.0.2.1", "192.0.2.2", false, false),
            ("10.1.0.10", "10.12.0.10", true, false),
            ("fd01::10", "fd12::10", true, false),
            ("fd12::10", "fd01::10", false, false),
            ("192.0.2.1", "10.22.0.10", false, true),
            ("fd22::10", "fd01::10", false, true),
        ] {
            let packet = packet(from, to);
            assert_eq!(Kind::Networks.hides(&packet), networks, "{from} to {to}");
            assert_eq!(Kind::Everything.hides(&packet), everything, "{from} to {to}");
        }
        assert!(belongs(Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, 1).into(), 12));
    }
}
