//! Whether a gateway has one interface for everything, as in a cloud.
//!
//! Interfaces do not come and go with their addresses. So they tell it from a gateway with a LAN that has no carrier yet.

use std::collections::BTreeSet;

use crate::netlink::Link;

/// Whether there are several interfaces, our own and the loopback one aside: those that are switched on, and those of a
/// driver that are not. What is a part of another one that counts does not.
pub(super) fn several(links: &[Link], ours: [Option<u32>; 2]) -> bool {
    let is_there = |link: &Link| link.up || link.kind.is_none();
    let wholes: BTreeSet<u32> = links
        .iter()
        .filter(|link| is_there(link) && link.kind.as_deref() != Some("vrf"))
        .map(|link| link.index)
        .collect();
    let counts = |link: &&Link| {
        let part = link.master.is_some_and(|master| wholes.contains(&master));
        !link.loopback && !ours.contains(&Some(link.index)) && is_there(link) && !part
    };
    links.iter().filter(counts).count() > 1
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
    fn f_07_an_interface_is_one_whatever_it_is_made_of_and_a_second_one_counts_without_an_address() {
        let eth = link(2, None, None);
        let (loopback, ours) = (Link { loopback: true, ..link(1, None, None) }, link(8, Some("tun"), None));
        let with =
            |more: &[Link]| several(&[&[loopback.clone(), ours.clone(), eth.clone()], more].concat(), [Some(8), None]);
        assert!(!with(&[]));
        for kind in [None, Some("vlan"), Some("dsa"), Some("wwan"), Some("bridge"), Some("wireguard"), Some("tun")] {
            assert!(with(&[link(3, kind, None)]), "{kind:?}");
        }
        assert!(with(&[Link { up: false, ..link(3, None, None) }]), "a port that is off");
        assert!(!with(&[Link { up: false, ..link(3, Some("sit"), None) }]), "what a module of the kernel brings");
        assert!(!with(&[link(3, None, Some(2))]), "half of one, as some clouds have them");
        let parts = [link(2, None, Some(9)), link(3, None, Some(9))];
        let of = |kind: &str| several(&[&parts[..], &[link(9, Some(kind), None)]].concat(), [None; 2]);
        assert!(!of("bond") && of("vrf"));
        let off = Link { up: false, ..link(9, Some("bridge"), None) };
        assert!(several(&[&parts[..], &[off]].concat(), [None; 2]), "parts of nothing");
    }

    #[test]
    fn f_07_the_kernel_tells_what_is_a_part_of_another_interface() {
        in_a_network_of_its_own(|| {
            let ip = super::super::tests::ip;
            let mut netlink = Netlink::open().unwrap();
            let mut several = || several(&netlink.links().unwrap(), [None; 2]);
            ip("link add br0 type bridge");
            ip("link set br0 up");
            assert!(!several());
            ip("link add part type veth peer name other");
            ip("link set part master br0");
            ip("link set part up");
            assert!(!several());
            ip("link set other up");
            assert!(several());
        });
    }
}
