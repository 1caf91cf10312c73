//! Contradictions between tables.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipsec_core::net::{AddrRange, TrafficSelector};

use super::areas::{Area, meetings};
use super::diff::same_key;
use super::reader::Reader;
use super::selector::Selector;
use super::{Child, Identity, Mode, Peer, Remote, Settings, Traffic};

/// Where the parts of a peer stand: offsets in the text.
pub(super) struct PeerPlaces {
    pub(super) section: usize,
    pub(super) name: usize,
    pub(super) local: usize,
    pub(super) remote: usize,
    pub(super) remote_id: usize,
    pub(super) children: Vec<ChildPlaces>,
}

/// Where the parts of a child stand: offsets in the text, the lists in the order of the child's.
pub(super) struct ChildPlaces {
    pub(super) section: usize,
    pub(super) name: usize,
    pub(super) tfc_padding: usize,
    pub(super) local_ts: Vec<usize>,
    pub(super) remote_ts: Vec<usize>,
}

/// What a child, or a pair of SAs with manual keys, carries, and where its selectors stand.
pub(super) struct Sides<'s> {
    pub(super) traffic: Traffic<'s>,
    pub(super) local_at: &'s [usize],
    pub(super) remote_at: &'s [usize],
}

impl<'s> Sides<'s> {
    fn of(child: &'s Child, places: &'s ChildPlaces) -> Self {
        Self { traffic: child.traffic(), local_at: &places.local_ts, remote_at: &places.remote_ts }
    }

    fn local(&self) -> impl Iterator<Item = (&'s TrafficSelector, &'s usize)> + use<'s> {
        self.traffic.local.iter().zip(self.local_at)
    }

    fn remote(&self) -> impl Iterator<Item = (&'s TrafficSelector, &'s usize)> + use<'s> {
        self.traffic.remote.iter().zip(self.remote_at)
    }
}

type Placed = (Peer, PeerPlaces);

/// Tells what cannot be meant together. Peers are found by what they could have in common, and not each held against
/// each: there may be thousands.
pub(super) fn contradictions(reader: &mut Reader<'_>, gateway: &Settings, peers: &[Placed]) {
    names(reader, peers);
    for peer in peers {
        own_addresses(reader, peer);
        two_ends(reader, peer);
        child_names(reader, peer);
        hosts(reader, peer);
        for (child, places) in peer.0.children.iter().zip(&peer.1.children) {
            carried(reader, gateway, &Sides::of(child, places));
            within_mtu(reader, gateway, child, places);
        }
    }
    identities(reader, peers);
    traffic(reader, peers);
}

/// Tells what is wrong with the selectors of a child, or of SAs with manual keys.
pub(super) fn carried(reader: &mut Reader<'_>, gateway: &Settings, sides: &Sides<'_>) {
    fitting(reader, sides);
    smallest_mtu(reader, gateway, sides);
    two_sides(reader, sides);
    left_to_routes(reader, gateway, sides);
}

fn names(reader: &mut Reader<'_>, peers: &[Placed]) {
    let mut first = BTreeMap::new();
    for (peer, here) in peers {
        if let Some(at) = first.get(peer.name.as_str()) {
            let hint = format!("the first one begins in line {}", reader.position(*at).line);
            reader.error(
                here.name,
                format!("a second peer \"{}\"", peer.name),
                "a name of its own for each peer",
                hint,
            );
        } else {
            first.insert(peer.name.as_str(), here.section);
        }
    }
}

fn child_names(reader: &mut Reader<'_>, (peer, places): &Placed) {
    let mut seen = BTreeSet::new();
    for (child, here) in peer.children.iter().zip(&places.children) {
        if !seen.insert(child.name.as_str()) {
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
    if let Some((address, what)) = addresses.iter().find_map(|address| Some((address, nobodys(*address, &peer.local)?)))
    {
        reader.error(places.remote, format!("{address}, {what}"), "the peer's address", "");
    }
    let v4 = |list: &[core::net::IpAddr]| (list.iter().any(|a| a.is_ipv4()), list.iter().any(|a| a.is_ipv6()));
    let (local, remote) = (v4(&peer.local), v4(&addresses));
    let all_known = !peer.local.is_empty() && !addresses.is_empty() && addresses.len() == peer.remote.len();
    if all_known && !(local.0 && remote.0) && !(local.1 && remote.1) {
        reader.error(places.local, "\"local\" and \"remote\" of two families", "addresses of one family", "");
    }
}

/// In transport mode packets have the addresses by which the two are reached, as far as these are written.
fn hosts(reader: &mut Reader<'_>, (peer, places): &Placed) {
    let remote: Vec<_> = peer.remote.iter().filter_map(Remote::address).collect();
    let remote = if remote.len() == peer.remote.len() { remote } else { Vec::new() };
    for (child, places) in peer.children.iter().zip(&places.children).filter(|(child, _)| child.mode == Mode::Transport)
    {
        let sides = Sides::of(child, places);
        reached_at(reader, &peer.local, sides.local());
        reached_at(reader, &remote, sides.remote());
    }
}

/// Tells of selectors of a host in transport mode that are not one of its addresses; without any, these are not known.
pub(super) fn reached_at<'s>(
    reader: &mut Reader<'_>,
    host: &[IpAddr],
    selectors: impl Iterator<Item = (&'s TrafficSelector, &'s usize)>,
) {
    for (selector, at) in selectors.filter(|(selector, _)| !host.is_empty() && !host.contains(&selector.addrs.start()))
    {
        let found = format!("{} in transport mode", selector.addrs.start());
        let expected: Vec<_> = host.iter().map(ToString::to_string).collect();
        let hint = "transport mode has no addresses but the packet's own, that of a NAT where the other side sees it; \
                    tunnels have";
        reader.error(*at, found, expected.join(" or "), hint);
    }
}

/// One identity for both ends works where both sides say so, and is what becomes of the other side's file when it is copied.
fn two_ends(reader: &mut Reader<'_>, (peer, places): &Placed) {
    let ours = peer.local_id.as_ref().map(Identity::key);
    if let Some(id) = peer.remote_id.as_ref().filter(|id| ours == Some(id.key())) {
        let message = format!(
            "\"{id}\" is both \"local-id\" and \"remote-id\" of \"{}\": the other side's file has the two exchanged",
            peer.name
        );
        reader.warn(places.remote_id, message);
    }
}

/// What an address is that no peer can have which is called from these addresses of ours; none are any. Within the loopback
/// network one may want to try things out.
///
/// ```
/// use gateway_core::config::nobodys;
/// assert_eq!(nobodys([224, 0, 0, 1].into(), &[]), Some("which is a group"));
/// assert_eq!(nobodys([192, 0, 2, 1].into(), &[]), None);
/// ```
pub fn nobodys(address: IpAddr, local: &[IpAddr]) -> Option<&'static str> {
    let address = address.to_canonical();
    let kinds = [
        (address.is_unspecified(), "which is no address"),
        (address.is_loopback() && !local.iter().any(IpAddr::is_loopback), "which is this machine"),
        (address.is_multicast(), "which is a group"),
        (address == IpAddr::V4(core::net::Ipv4Addr::BROADCAST), "which is everybody on the link"),
    ];
    kinds.into_iter().find_map(|(holds, what)| holds.then_some(what))
}

/// Each selector is for some packet: together with one of the other side.
fn fitting(reader: &mut Reader<'_>, sides: &Sides<'_>) {
    let Traffic { local, remote } = sides.traffic;
    let sides = [(local, sides.local_at, remote, "remote-ts"), (remote, sides.remote_at, local, "local-ts")];
    for (ours, at, theirs, other) in sides {
        for (selector, at) in ours.iter().zip(at) {
            let v4 = selector.addrs.is_ipv4();
            if !theirs.iter().any(|theirs| theirs.addrs.is_ipv4() == v4) {
                let family = if v4 { "IPv4" } else { "IPv6" };
                let found = format!("{} without any {family} network under \"{other}\"", Selector(selector));
                reader.error(*at, found, "both sides of one family", "no packet could ever fit");
                continue;
            }
            let alike = |theirs: &TrafficSelector| {
                theirs.addrs.is_ipv4() == v4
                    && (theirs.protocol == selector.protocol || theirs.protocol == 0 || selector.protocol == 0)
            };
            if !theirs.iter().any(alike) {
                let found = format!("{} without any network of that protocol under \"{other}\"", Selector(selector));
                let hint = "no packet could ever fit; a number alone is a protocol, and port 80 of TCP is [tcp/80]";
                reader.error(*at, found, "both sides of one protocol", hint);
            }
        }
    }
}

/// Below this MTU an interface carries no IPv6 (RFC 8200 §5).
const IPV6_MTU: u16 = 1280;

fn smallest_mtu(reader: &mut Reader<'_>, gateway: &Settings, sides: &Sides<'_>) {
    if gateway.mtu < IPV6_MTU
        && let Some((selector, at)) = sides.local().find(|(selector, _)| !selector.addrs.is_ipv4())
    {
        let found = format!("{} with mtu = {} under [gateway]", Selector(selector), gateway.mtu);
        reader.error(*at, found, "an mtu of at least 1280", "IPv6 needs it (RFC 8200)");
    }
}

/// What is padded beyond it would be cut on the way.
fn within_mtu(reader: &mut Reader<'_>, gateway: &Settings, child: &Child, places: &ChildPlaces) {
    if let Some(len) = child.tfc_padding.filter(|len| *len > gateway.mtu) {
        let found = format!("{len} with mtu = {} under [gateway]", gateway.mtu);
        reader.error(places.tfc_padding, found, "no more than the mtu", "that hides the length of all packets");
    }
}

/// The same network on both sides is none: only a tunnel for everything (a VPN with routes of its own) means that.
/// Networks inside each other are two sides, of a hub and its branches.
fn two_sides(reader: &mut Reader<'_>, sides: &Sides<'_>) {
    let covers = |outer: AddrRange, inner: AddrRange| outer.contains(inner.start()) && outer.contains(inner.end());
    let meet = |one: AddrRange, other: AddrRange| one.contains(other.start()) || other.contains(one.start());
    for (remote, at) in sides.remote() {
        let Some(local) = sides.traffic.local.iter().find(|local| meet(local.addrs, remote.addrs)) else { continue };
        if local.addrs == remote.addrs && !sides.traffic.is_left_to_routes(&remote.addrs) {
            let found = format!("{} under both \"local-ts\" and \"remote-ts\"", Selector(remote));
            let hint = "networks with the same addresses cannot reach each other; renumber or translate one of them";
            reader.error(*at, found, "the peer's network", hint);
        } else if !covers(local.addrs, remote.addrs) && !covers(remote.addrs, local.addrs) {
            reader.warn(*at, format!("{} overlaps our own {}", Selector(remote), Selector(local)));
        }
    }
}

fn left_to_routes(reader: &mut Reader<'_>, gateway: &Settings, sides: &Sides<'_>) {
    if let Some((_, at)) = sides.remote().find(|(remote, _)| sides.traffic.is_left_to_routes(&remote.addrs)) {
        let message = format!(
            "everything to everything: what your own routes do not lead to {} leaves in clear, and no guard drops it, nor \
             what comes in in clear",
            gateway.tun
        );
        reader.warn(*at, message);
    }
}

/// A request must lead to one peer: two that fit the same addresses and identities would hide each other.
fn identities(reader: &mut Reader<'_>, peers: &[Placed]) {
    for (earlier, later) in alike(peers.iter().map(|(peer, _)| peer)) {
        let (Some((earlier, places)), Some((peer, here))) = (peers.get(earlier), peers.get(later)) else { continue };
        let line = reader.position(places.section).line;
        let found =
            format!("\"{}\" with the addresses and identities of \"{}\" (line {line})", peer.name, earlier.name);
        let hint = "give them different \"remote-id\"s, or make them children of one peer";
        reader.error(here.section, found, "peers that can be told apart", hint);
    }
}

/// Peers with the same identities and one address of theirs.
#[derive(Default)]
struct Alike {
    /// The first one at each address of ours; `None`: at any.
    at: BTreeMap<Option<IpAddr>, usize>,
}

impl Alike {
    /// The first one that also meets at one of these addresses of ours; none are any.
    fn met(&self, local: &[IpAddr]) -> Option<usize> {
        match local {
            [] => self.at.values().min().copied(),
            local => {
                let here = local.iter().map(|addr| Some(*addr)).chain([None]);
                here.filter_map(|addr| self.at.get(&addr)).min().copied()
            }
        }
    }
}

/// Each peer that cannot be told from an earlier one, behind the first of those.
fn alike<'p>(peers: impl Iterator<Item = &'p Peer>) -> Vec<(usize, usize)> {
    let mut doors: BTreeMap<_, Alike> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (index, peer) in peers.enumerate() {
        let ids = [&peer.local_id, &peer.remote_id].map(|id| id.as_ref().map(Identity::key));
        let any = peer.remote.is_empty().then_some(None);
        let doors_of = || any.into_iter().chain(peer.remote.iter().map(Some)).map(|remote| (ids.clone(), remote));
        let met = doors_of().filter_map(|door| doors.get(&door)?.met(&peer.local)).min();
        pairs.extend(met.map(|earlier| (earlier, index)));
        for door in doors_of() {
            let at = &mut doors.entry(door).or_default().at;
            let any = peer.local.is_empty().then_some(None);
            for local in any.into_iter().chain(peer.local.iter().map(|addr| Some(*addr))) {
                at.entry(local).or_insert(index);
            }
        }
    }
    pairs
}

/// A child, its places, and its peer.
#[derive(Clone, Copy)]
struct Spot<'p> {
    child: &'p Child,
    places: &'p ChildPlaces,
    peer: &'p Peer,
}

impl Spot<'_> {
    fn named(&self, reader: &Reader<'_>) -> alloc::string::String {
        let line = reader.position(self.places.section).line;
        format!("\"{}/{}\" (line {line})", self.peer.name, self.child.name)
    }
}

/// Each packet must have one SA.
fn traffic(reader: &mut Reader<'_>, peers: &[Placed]) {
    let all = peers.iter().flat_map(|(peer, places)| {
        let children = peer.children.iter().zip(&places.children);
        children.map(move |(child, places)| Spot { child, places, peer })
    });
    let mut first: BTreeMap<_, Spot<'_>> = BTreeMap::new();
    let mut different = Vec::new();
    for spot in all {
        let key = (set(&spot.child.local_ts), set(&spot.child.remote_ts));
        let Some(other) = first.get(&key) else {
            first.insert(key, spot);
            different.push(spot);
            continue;
        };
        let found = format!("a child \"{}\" with the same selectors as {}", spot.child.name, other.named(reader));
        let mut why = "only one of the two could ever carry a packet".to_string();
        let (peer, before) = (spot.peer, other.peer);
        let same_ids = peer.local_id == before.local_id && peer.remote_id == before.remote_id;
        if !core::ptr::eq(peer, before) && same_ids && same_key(peer, before) {
            let mut remotes: Vec<&Remote> = before.remote.iter().collect();
            remotes.extend(peer.remote.iter().filter(|remote| !before.remote.contains(remote)));
            let written = remotes.iter().map(|remote| match remote {
                Remote::Address(addr) => format!("\"{addr}\""),
                Remote::Name(name) => format!("\"{name}\""),
            });
            let written = written.collect::<Vec<_>>().join(", ");
            // One written twice has no more places than it had.
            why.push_str(&match remotes.len() > before.remote.len() {
                true => format!(
                    "; where both are one peer at several addresses, write one [[peer]] with remote = [{written}]"
                ),
                false => "; where both are one peer, remove one of them".to_string(),
            });
        } else if !core::ptr::eq(peer, before) {
            why.push_str(
                "; two tunnels to one network, as clouds have them, are one [[peer]] with the addresses of both under \
                 \"remote\", one key for both, and no \"remote-id\" where they have two identities",
            );
        }
        reader.error(spot.places.section, found, "different selectors", why);
    }
    let mut told = BTreeSet::new();
    let areas: Vec<Area> = (0..).zip(&different).flat_map(|(number, spot)| areas(number, spot.child)).collect();
    meetings(&areas, |one, other| {
        let (earlier, later) = (one.min(other), one.max(other));
        let (Some(earlier_one), Some(later_one)) = (different.get(earlier), different.get(later)) else { return true };
        // Children of one peer are tried in their order, as one would expect.
        if !core::ptr::eq(earlier_one.peer, later_one.peer)
            && told.insert((earlier, later))
            && let Some((at, found)) = overlap(later_one.child, later_one.places, earlier_one.child)
        {
            let named = earlier_one.named(reader);
            reader.warn(at, format!("{found} of {named}; what fits both goes to the child with the smaller \"priority\", else to the first one"));
        }
        reader.has_room()
    });
}

/// Selectors regardless of their order.
pub(super) type Set = Vec<(IpAddr, IpAddr, u8, u16, u16)>;

/// That of some.
pub(super) fn set(selectors: &[TrafficSelector]) -> Set {
    let key = |ts: &TrafficSelector| (ts.addrs.start(), ts.addrs.end(), ts.protocol, ts.ports.start, ts.ports.end);
    let mut keys: Vec<_> = selectors.iter().map(key).collect();
    keys.sort_unstable();
    keys
}

fn areas(number: usize, child: &Child) -> impl Iterator<Item = Area> {
    let pair = move |local: &TrafficSelector, remote: &TrafficSelector| Area::new(number, local.addrs, remote.addrs);
    child.local_ts.iter().flat_map(move |local| child.remote_ts.iter().filter_map(move |remote| pair(local, remote)))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::string::String;
    use std::{assert_eq, write};

    use super::*;
    use crate::config::Config;

    /// What the loop over all pairs would find: the first earlier one of each.
    fn alike_one_by_one(peers: &[Peer]) -> Vec<(usize, usize)> {
        let meet = |one: &Peer, other: &Peer| {
            let local =
                one.local.is_empty() || other.local.is_empty() || one.local.iter().any(|a| other.local.contains(a));
            let remote = one.remote.is_empty() && other.remote.is_empty()
                || one.remote.iter().any(|end| other.remote.contains(end));
            let same = |one: &Option<Identity>, other: &Option<Identity>| match (one, other) {
                (Some(one), Some(other)) => one.id().matches(&other.id()),
                _ => one == other,
            };
            local && remote && same(&one.local_id, &other.local_id) && same(&one.remote_id, &other.remote_id)
        };
        let first = |later: usize| (0..later).find(|earlier| meet(&peers[*earlier], &peers[later]));
        (0..peers.len()).filter_map(|later| first(later).map(|earlier| (earlier, later))).collect()
    }

    #[test]
    fn f_32_peers_that_are_alike_are_those_of_the_loop_over_all_pairs() {
        let mut seed = 32_u64;
        let mut below = |limit: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % limit
        };
        let mut found = BTreeSet::new();
        for round in 0..300 {
            let mut peers = Vec::new();
            for _ in 0..12 {
                let local = ["\"any\"", "\"192.0.2.1\"", "[\"192.0.2.1\", \"192.0.2.2\"]", "\"192.0.2.2\""][below(4)];
                let remote = ["\"any\"", "\"192.0.2.9\"", "[\"192.0.2.8\", \"192.0.2.9\"]", "\"gw.lab\""][below(4)];
                let ours = ["a", "A", "b", "10.0.0.1"][below(4)];
                let theirs = ["x.lab", "X.LAB", "y@lab", "any"][below(4)];
                let text = std::format!(
                    "[[peer]]\nname = \"p\"\nlocal = {local}\nremote = {remote}\nlocal-id = \"{ours}\"\n\
                     remote-id = \"{theirs}\"\nstart = \"passive\"\npsk = \"a key of more than twenty characters\"\n\
                     [[peer.child]]\nname = \"n\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n"
                );
                if let Ok((config, _)) = Config::parse(&text) {
                    peers.extend(config.peers);
                }
            }
            let pairs = alike(peers.iter());
            assert_eq!(pairs, alike_one_by_one(&peers), "round {round}");
            found.extend(pairs);
        }
        assert!(found.len() > 20, "there was something to be found: {found:?}");
    }

    #[test]
    fn f_32_children_that_overlap_are_told_once_each_and_those_of_one_peer_not_at_all() {
        let mut text = String::new();
        for (number, networks) in
            [["10.1.0.0/16", "10.1.7.0/24"], ["10.1.0.0/17", "10.9.0.0/16"], ["10.8.0.0/13", "10.7.0.0/16"]]
                .iter()
                .enumerate()
        {
            write!(
                text,
                "[[peer]]\nname = \"p{number}\"\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.1{number}\"\n\
                 psk = \"a key of more than twenty characters\"\n"
            )
            .unwrap();
            for (child, network) in networks.iter().enumerate() {
                write!(
                    text,
                    "[[peer.child]]\nname = \"c{child}\"\nlocal-ts = [\"10.2.0.0/16\", \"10.2.3.0/24\"]\n\
                     remote-ts = \"{network}\"\n"
                )
                .unwrap();
            }
        }
        let (_, warnings) = Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let told: Vec<_> = warnings.iter().map(|warning| warning.message.split(';').next().unwrap()).collect();
        assert_eq!(
            told,
            [
                "10.1.0.0/17 overlaps 10.1.0.0/16 of \"p0/c0\" (line 6)",
                "10.1.0.0/17 overlaps 10.1.7.0/24 of \"p0/c1\" (line 10)",
                "10.8.0.0/13 overlaps 10.9.0.0/16 of \"p1/c1\" (line 23)",
            ]
        );
    }
}
