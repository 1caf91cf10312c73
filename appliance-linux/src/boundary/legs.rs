//! By how many ways a network can come into this machine.
//!
//! Lines do not come and go with their addresses. So they tell a gateway that has a LAN, which may have no carrier yet, from
//! one in a cloud, which has one interface for everything.

use std::collections::{BTreeMap, BTreeSet};

use crate::netlink::Link;

/// How many lines there are: interfaces that are switched on and made by a driver, and what stands for such a line: VLANs,
/// several lines that are one, what a namespace is given. Bridges, containers and tunnels are none.
pub(super) fn lines(links: &[Link]) -> usize {
    let kinds: BTreeMap<u32, Option<&str>> = links.iter().map(|link| (link.index, link.kind.as_deref())).collect();
    let is_line = |link: &&Link| {
        let master = link.master.map(|master| kinds.get(&master).copied().flatten());
        let made = match link.kind.as_deref() {
            None => !matches!(master, Some(Some("bond" | "team"))),
            Some("vlan" | "macvlan" | "ipvlan" | "bond" | "team") => true,
            Some("veth") => master.is_none(),
            Some(_) => false,
        };
        link.up && !link.loopback && made
    };
    links.iter().filter(is_line).map(|link| link.index).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;
    use crate::netlink::Netlink;

    fn link(index: u32, kind: Option<&str>, master: Option<u32>) -> Link {
        Link { index, up: true, loopback: false, kind: kind.map(str::to_owned), master }
    }

    #[test]
    fn f_07_a_line_is_one_whatever_is_built_on_it_and_a_second_one_counts_without_an_address() {
        let eth = link(2, None, None);
        let loopback = Link { loopback: true, ..link(1, None, None) };
        let with = |more: &[Link]| lines(&[&[loopback.clone(), eth.clone()], more].concat());
        assert_eq!(with(&[]), 1);
        assert_eq!(with(&[link(3, None, None)]), 2);
        assert_eq!(with(&[Link { up: false, ..link(3, None, None) }]), 1, "never switched on");
        assert_eq!(with(&[link(3, Some("bridge"), None), link(4, Some("veth"), Some(3))]), 1, "containers");
        assert_eq!(with(&[link(3, Some("tun"), None), link(4, Some("wireguard"), None)]), 1, "tunnels");
        assert_eq!(with(&[link(3, Some("vlan"), None)]), 2, "a LAN on the same line");
        let parts = [link(2, None, Some(9)), link(3, None, Some(9))];
        assert_eq!(lines(&[&parts[..], &[link(9, Some("bond"), None)]].concat()), 1);
        assert_eq!(lines(&[&parts[..], &[link(9, Some("bridge"), None)]].concat()), 2);
        assert_eq!(lines(&[link(2, Some("veth"), None)]), 1, "of a namespace");
    }

    #[test]
    fn f_07_the_kernel_tells_lines_from_what_is_built_on_them() {
        in_a_network_of_its_own(|| {
            let ip = super::super::tests::ip;
            let mut netlink = Netlink::open().unwrap();
            let mut count = || lines(&netlink.links().unwrap());
            assert_eq!(count(), 0);
            ip("link add line type veth peer name far");
            ip("link set line up");
            assert_eq!(count(), 1);
            ip("link add br0 type bridge");
            ip("link add guest type veth peer name inside");
            ip("link set guest master br0");
            ip("link set br0 up");
            ip("link set guest up");
            assert_eq!(count(), 1);
            ip("link set far up");
            assert_eq!(count(), 2);
        });
    }
}
