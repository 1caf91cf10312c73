//! Contradictions between tables.

use alloc::format;
use alloc::vec::Vec;

use ipsec_core::net::{AddrRange, TrafficSelector};

use super::reader::Reader;
use super::selector::Selector;
use super::{Child, Identity, Peer, Remote, Settings};

/// Where the parts of a peer stand: offsets in the text.
pub(super) struct PeerPlaces {
    pub(super) section: usize,
    pub(super) name: usize,
    pub(super) local: usize,
    pub(super) remote: usize,
    pub(super) children: Vec<ChildPlaces>,
}

/// Where the parts of a child stand: offsets in the text, the lists in the order of the child's.
pub(super) struct ChildPlaces {
    pub(super) section: usize,
    pub(super) name: usize,
    pub(super) local_ts: Vec<usize>,
    pub(super) remote_ts: Vec<usize>,
}

type Placed = (Peer, PeerPlaces);

/// Tells what cannot be meant together.
pub(super) fn contradictions(reader: &mut Reader<'_>, gateway: &Settings, peers: &[Placed]) {
    for (index, peer) in peers.iter().enumerate() {
        let earlier = peers.get(..index).unwrap_or_default();
        own_addresses(reader, peer);
        for (child, places) in peer.0.children.iter().zip(&peer.1.children) {
            families(reader, child, places);
            smallest_mtu(reader, gateway, child, places);
            two_sides(reader, child, places);
        }
        child_names(reader, peer);
        for other in earlier {
            names(reader, other, peer);
            identities(reader, other, peer);
        }
        for other in peers.get(..=index).unwrap_or_default() {
            traffic(reader, other, peer);
        }
    }
}

fn names(reader: &mut Reader<'_>, (earlier, places): &Placed, (peer, here): &Placed) {
    if earlier.name == peer.name {
        let line = reader.position(places.section).line;
        let hint = format!("the first one begins in line {line}");
        reader.error(here.name, format!("a second peer \"{}\"", peer.name), "a name of its own for each peer", hint);
    }
}

fn child_names(reader: &mut Reader<'_>, (peer, places): &Placed) {
    for (index, (child, here)) in peer.children.iter().zip(&places.children).enumerate() {
        if peer.children.iter().take(index).any(|earlier| earlier.name == child.name) {
            let found = format!("a second child \"{}\" of \"{}\"", child.name, peer.name);
            reader.error(here.name, found, "a name of its own for each child of a peer", "");
        }
    }
}

fn own_addresses(reader: &mut Reader<'_>, (peer, places): &Placed) {
    let addresses: Vec<_> = peer.remote.iter().filter_map(Remote::address).collect();
    if let Some(address) = addresses.iter().find(|address| peer.local.contains(address)) {
        reader.error(places.remote, format!("{address} as both \"local\" and \"remote\""), "the peer's address", "");
    }
    let v4 = |list: &[core::net::IpAddr]| (list.iter().any(|a| a.is_ipv4()), list.iter().any(|a| a.is_ipv6()));
    let (local, remote) = (v4(&peer.local), v4(&addresses));
    let all_known = !peer.local.is_empty() && !addresses.is_empty() && addresses.len() == peer.remote.len();
    if all_known && !(local.0 && remote.0) && !(local.1 && remote.1) {
        reader.error(places.local, "\"local\" and \"remote\" of two families", "addresses of one family", "");
    }
}

fn families(reader: &mut Reader<'_>, child: &Child, places: &ChildPlaces) {
    let sides = [
        (&child.local_ts, &places.local_ts, &child.remote_ts, "remote-ts"),
        (&child.remote_ts, &places.remote_ts, &child.local_ts, "local-ts"),
    ];
    for (ours, at, theirs, other) in sides {
        for (selector, at) in ours.iter().zip(at) {
            let v4 = selector.addrs.is_ipv4();
            if !theirs.iter().any(|theirs| theirs.addrs.is_ipv4() == v4) {
                let family = if v4 { "IPv4" } else { "IPv6" };
                let found = format!("{} without any {family} network under \"{other}\"", Selector(selector));
                reader.error(*at, found, "both sides of one family", "no packet could ever fit");
            }
        }
    }
}

/// Below this MTU an interface carries no IPv6 (RFC 8200 §5).
const IPV6_MTU: u16 = 1280;

fn smallest_mtu(reader: &mut Reader<'_>, gateway: &Settings, child: &Child, places: &ChildPlaces) {
    let mut placed = child.local_ts.iter().zip(&places.local_ts);
    if gateway.mtu < IPV6_MTU
        && let Some((selector, at)) = placed.find(|(selector, _)| !selector.addrs.is_ipv4())
    {
        let found = format!("{} with mtu = {} under [gateway]", Selector(selector), gateway.mtu);
        reader.error(*at, found, "an mtu of at least 1280", "IPv6 needs it (RFC 8200)");
    }
}

/// The same network on both sides is none: only a tunnel for everything (a VPN with routes of its own) means that.
/// Networks inside each other are two sides, of a hub and its branches.
fn two_sides(reader: &mut Reader<'_>, child: &Child, places: &ChildPlaces) {
    let covers = |outer: AddrRange, inner: AddrRange| outer.contains(inner.start()) && outer.contains(inner.end());
    let meet = |one: AddrRange, other: AddrRange| one.contains(other.start()) || other.contains(one.start());
    let whole = |addrs: AddrRange| Some(addrs) == AddrRange::prefix(addrs.start(), 0);
    for (remote, at) in child.remote_ts.iter().zip(&places.remote_ts) {
        let Some(local) = child.local_ts.iter().find(|local| meet(local.addrs, remote.addrs)) else { continue };
        if local.addrs == remote.addrs && !whole(remote.addrs) {
            let found = format!("{} under both \"local-ts\" and \"remote-ts\"", Selector(remote));
            let hint = "networks with the same addresses cannot reach each other; renumber or translate one of them";
            reader.error(*at, found, "the peer's network", hint);
        } else if !covers(local.addrs, remote.addrs) && !covers(remote.addrs, local.addrs) {
            reader.warn(*at, format!("{} overlaps our own {}", Selector(remote), Selector(local)));
        }
    }
}

/// A request must lead to one peer: two that fit the same addresses and identity would hide each other.
fn identities(reader: &mut Reader<'_>, (earlier, places): &Placed, (peer, here): &Placed) {
    let local_meets =
        earlier.local.is_empty() || peer.local.is_empty() || earlier.local.iter().any(|end| peer.local.contains(end));
    let remote_same = earlier.remote.is_empty() && peer.remote.is_empty()
        || earlier.remote.iter().any(|end| peer.remote.contains(end));
    let same = |one: &Option<Identity>, other: &Option<Identity>| match (one, other) {
        (Some(one), Some(other)) => one.id().matches(&other.id()),
        _ => one == other,
    };
    let ids_same = same(&earlier.remote_id, &peer.remote_id) && same(&earlier.local_id, &peer.local_id);
    if local_meets && remote_same && ids_same {
        let line = reader.position(places.section).line;
        let found =
            format!("\"{}\" with the addresses and identities of \"{}\" (line {line})", peer.name, earlier.name);
        let hint = "give them different \"remote-id\"s, or make them children of one peer";
        reader.error(here.section, found, "peers that can be told apart", hint);
    }
}

/// Each packet must have one SA: compares the children of `peer` with those of `earlier`, which may be the same peer.
fn traffic(reader: &mut Reader<'_>, earlier: &Placed, peer: &Placed) {
    let same_peer = core::ptr::eq(earlier, peer);
    for (index, (child, here)) in peer.0.children.iter().zip(&peer.1.children).enumerate() {
        let others = earlier.0.children.iter().zip(&earlier.1.children);
        let others = others.take(if same_peer { index } else { usize::MAX });
        for (other, places) in others {
            let named = |reader: &Reader<'_>| {
                let line = reader.position(places.section).line;
                format!("\"{}/{}\" (line {line})", earlier.0.name, other.name)
            };
            if same_set(&child.local_ts, &other.local_ts) && same_set(&child.remote_ts, &other.remote_ts) {
                let found = format!("a child \"{}\" with the same selectors as {}", child.name, named(reader));
                reader.error(
                    here.section,
                    found,
                    "different selectors",
                    "only one of the two could ever carry a packet",
                );
            } else if !same_peer
                && reader.has_room()
                && let Some((at, found)) = overlap(child, here, other)
            {
                let named = named(reader);
                reader.warn(at, format!("{found} of {named}; what fits both goes to the child with the smaller \"priority\", else to the first one"));
            }
        }
    }
}

fn same_set(left: &[TrafficSelector], right: &[TrafficSelector]) -> bool {
    left.len() == right.len() && left.iter().all(|selector| right.contains(selector))
}

fn overlap(child: &Child, places: &ChildPlaces, other: &Child) -> Option<(usize, alloc::string::String)> {
    let meet = |ours: &TrafficSelector, theirs: &TrafficSelector| ours.intersect(theirs).is_some();
    if !child.local_ts.iter().any(|ours| other.local_ts.iter().any(|theirs| meet(ours, theirs))) {
        return None;
    }
    child.remote_ts.iter().zip(&places.remote_ts).find_map(|(ours, at)| {
        let theirs = other.remote_ts.iter().find(|theirs| meet(ours, theirs))?;
        Some((*at, format!("{} overlaps {}", Selector(ours), Selector(theirs))))
    })
}
