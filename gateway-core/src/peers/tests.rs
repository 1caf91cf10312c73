use std::format;
use std::string::String;
use std::vec::Vec;

use core::time::Duration;

use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::net::IKE_PORT;

use super::*;
use crate::config::Config;

fn peer(name: &str, local: &str, remote: &str, remote_id: &str, nets: &[u8]) -> String {
    let mut text = format!(
        "[[peer]]\nname = \"{name}\"\nlocal = {local}\nlocal-id = \"we\"\nremote = {remote}\n\
         remote-id = \"{remote_id}\"\npsk = \"a key of more than twenty characters\"\n"
    );
    for net in nets {
        text += &format!(
            "[[peer.child]]\nname = \"n{net}\"\nlocal-ts = \"10.0.0.0/16\"\nremote-ts = \"10.{net}.0.0/16\"\n"
        );
    }
    text
}

fn config(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

/// Peers of `before`, after a reload of `after`.
fn reloaded(before: &str, after: &str) -> (Peers, Peers, Renumbered) {
    let (old, new) = (config(before), config(after));
    let diff = Config::diff(&old, &new);
    let mut peers = Peers::default();
    let first = peers.replace(old.peers, &Diff::default());
    assert!(first.peers_gone.is_empty() && first.children_new.is_empty());
    let mut was = Peers::default();
    was.replace(config(before).peers, &Diff::default());
    let changes = peers.replace(new.peers, &diff);
    (was, peers, changes)
}

fn numbers(peers: &Peers, name: &str) -> (PeerId, Vec<ChildConfigId>) {
    let id = peers.named(name).unwrap();
    (id, peers.children_of(id).map(|(id, _)| id).collect())
}

const A: &str = "\"192.0.2.1\"";
const B: &str = "\"192.0.2.9\"";
const HERE: &str = "\"192.0.2.2\"";

#[test]
fn a_reload_leaves_the_numbers_of_what_did_not_change() {
    let a = peer("a", HERE, A, "a.lab", &[1, 2]);
    let b = peer("b", HERE, B, "b.lab", &[7]);
    let (was, is, changes) = reloaded(&a, &format!("{b}{a}"));
    assert_eq!(numbers(&was, "a"), numbers(&is, "a"));
    let new = numbers(&is, "b");
    assert_eq!(changes, Renumbered { peers_new: std::vec![new.0], ..Renumbered::default() });
    assert!(!numbers(&is, "a").1.contains(&new.1[0]));
}

#[test]
fn what_became_another_party_or_child_has_another_number() {
    let a = peer("a", HERE, A, "a.lab", &[1, 2]);
    let (was, is, changes) = reloaded(&a, &peer("a", HERE, A, "other.lab", &[1, 2]));
    assert_ne!(numbers(&was, "a").0, numbers(&is, "a").0);
    assert_eq!(
        (changes.peers_gone, changes.peers_new),
        (std::vec![numbers(&was, "a").0], std::vec![numbers(&is, "a").0])
    );

    let (was, is, changes) = reloaded(&a, &a.replace("10.2.0.0/16", "10.3.0.0/16"));
    let (before, after) = (numbers(&was, "a"), numbers(&is, "a"));
    assert_eq!((before.0, before.1[0]), (after.0, after.1[0]));
    assert_eq!(changes.children_gone, [before.1[1]]);
    assert_eq!(changes.children_new, [(after.0, after.1[1])]);
    assert!(!before.1.contains(&after.1[1]));

    let (was, is, changes) = reloaded(&a, &peer("a", HERE, A, "a.lab", &[2]));
    assert_eq!(numbers(&is, "a").1, numbers(&was, "a").1[1..]);
    assert_eq!(changes, Renumbered { children_gone: std::vec![numbers(&was, "a").1[0]], ..Renumbered::default() });
}

#[test]
fn a_timer_alone_changes_no_number_and_is_taken_up() {
    let a = peer("a", HERE, A, "a.lab", &[1]);
    let (was, is, changes) = reloaded(&a, &a.replace("psk =", "dpd = \"7s\"\npsk ="));
    assert_eq!((numbers(&was, "a"), changes), (numbers(&is, "a"), Renumbered::default()));
    assert_eq!(is.connection(numbers(&is, "a").0).unwrap().dpd, Duration::from_secs(7));
}

/// All candidates of a caller, in their order.
fn candidates(peers: &Peers, initiator: &Initiator<'_>) -> Vec<PeerId> {
    let next = |after: &Option<PeerId>| peers.candidate(initiator, *after);
    std::iter::successors(next(&None), |id| next(&Some(*id))).take(1_000).collect()
}

const LISTS: [&str; 4] = [
    "aes256gcm16-prfsha384-x25519",
    "aes128gcm16-prfsha256-ecp256",
    "aes256gcm16-prfsha256-x25519",
    "aes128gcm16-prfsha256-x25519",
];

/// A peer with proposals of its own.
fn with(text: &str, list: &str) -> String {
    text.replace("psk =", &format!("ike = \"{list}\"\npsk ="))
}

#[test]
fn peers_with_a_known_address_are_candidates_before_those_that_may_be_anywhere() {
    let text = [
        peer("roaming", HERE, "\"any\"", "r.lab", &[1]),
        peer("a", HERE, A, "a.lab", &[2]),
        peer("elsewhere", "\"192.0.2.77\"", A, "e.lab", &[3]),
        peer("second", HERE, A, "s.lab", &[4]),
    ];
    let text: String = text.iter().zip(LISTS).map(|(text, list)| with(text, list)).collect();
    let mut peers = Peers::default();
    peers.replace(config(&text).peers, &Diff::default());
    let candidates = |local: &str, remote: &str| {
        let found = candidates(&peers, &Initiator::new(local.parse().unwrap(), remote.parse().unwrap()));
        found.into_iter().map(|id| peers.get(id).unwrap().name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(candidates("192.0.2.2", "192.0.2.1"), ["a", "second", "roaming"]);
    assert_eq!(candidates("192.0.2.2", "203.0.113.5"), ["roaming"]);
    assert_eq!(candidates("192.0.2.77", "192.0.2.1"), ["elsewhere"]);
    assert!(candidates("192.0.2.99", "192.0.2.1").is_empty());
}

#[test]
fn whatever_is_heard_of_peers_their_candidates_are_those_a_look_at_each_finds() {
    let mut text = String::new();
    for n in 1..=60u8 {
        let local = ["\"192.0.2.77\"", HERE, "\"any\""][usize::from(n % 5 % 3)];
        let remote = match n % 4 {
            0 => String::from("\"any\""),
            1 => format!("\"198.51.100.{}\"", n % 3),
            _ => format!("[\"gw{n}.example.org\", \"198.51.100.{}\"]", n % 7),
        };
        let names = ["a.lab", "A.lab", "b.lab", "any", "keyid:a.lab", "keyid:A.lab", "192.0.2.7", "fqdn:192.0.2.7"];
        let theirs = names[usize::from(n % 17 % 8)];
        let more = with(&peer(&format!("p{n}"), local, &remote, theirs, &[n]), LISTS[usize::from(n % 13 % 3)]);
        let ours = ["local-id = \"we\"\n", "local-id = \"us\"\n", ""][usize::from(n % 7 % 3)];
        let longer = format!("{text}{}", more.replace("local-id = \"we\"\n", ours));
        // Some could not be told from others.
        if Config::parse(&longer).is_ok() {
            text = longer;
        }
    }
    let mut peers = Peers::default();
    peers.replace(config(&text).peers, &Diff::default());
    let ids: Vec<PeerId> = peers.iter().map(|(id, _)| id).collect();
    assert!(ids.len() > 30, "{}", ids.len());
    let (ours, theirs) = ([2, 77, 99].map(|n| IpAddr::from([192, 0, 2, n])), |n| IpAddr::from([198, 51, 100, n]));
    let mut state = 1u32;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % limit) as u8
    };
    let names: [(IdKind, &[u8]); 10] = [
        (IdKind::FQDN, b"b.lab"),
        (IdKind::FQDN, b"A.LAB"),
        (IdKind::FQDN, b"we"),
        (IdKind::FQDN, b"US"),
        (IdKind::FQDN, b"nobody"),
        (IdKind::KEY_ID, b"a.lab"),
        (IdKind::KEY_ID, b"A.lab"),
        (IdKind::IPV4_ADDR, &[192, 0, 2, 7]),
        (IdKind::FQDN, b"192.0.2.7"),
        (IdKind::DER_ASN1_DN, b"a.lab"),
    ];
    for _ in 0..2000 {
        let id = ids[usize::from(below(ids.len() as u32))];
        match below(2) {
            0 => peers.set_path(id, ours[usize::from(below(2))], theirs(below(8)), IKE_PORT),
            _ => {
                let name = peers.get(id).unwrap().remote.iter().find_map(|place| match place {
                    Remote::Name(name) => Some(name.clone()),
                    Remote::Address(_) => None,
                });
                let heard: Vec<IpAddr> = (0..below(3)).map(|_| theirs(below(8))).collect();
                name.into_iter().for_each(|name| peers.set_resolved(id, &name, &heard));
            }
        }
        let (local, remote) = (ours[usize::from(below(3))], theirs(below(8)));
        let said = below(3);
        let mut initiator = Initiator::new(local, remote);
        let mut name = || {
            let (kind, data) = names[usize::from(below(names.len() as u32))];
            Some(Id { kind, data })
        };
        if said > 0 {
            initiator.id_i = name();
        }
        if said > 1 {
            initiator.id_r = name();
        }
        let known = |id: &PeerId| {
            let path = peers.path(*id).map(|path| path.remote.ip());
            peers.addresses(*id).chain(path).any(|addr| addr == remote)
        };
        let fits = |id: &PeerId| {
            let Some(connection) = peers.connection(*id) else { return false };
            let is = |said: Option<Id<'_>>, id: Option<Id<'_>>| said.zip(id).is_none_or(|(said, id)| said.matches(&id));
            let local_addrs = &peers.get(*id).unwrap().local;
            (local_addrs.is_empty() || local_addrs.contains(&local))
                && is(initiator.id_i, connection.remote_id)
                && is(initiator.id_r, Some(connection.local_id))
        };
        let anywhere = |id: &PeerId| peers.get(*id).is_some_and(|peer| peer.remote.is_empty());
        let here = ids.iter().filter(|id| fits(id) && known(id));
        let rest = ids.iter().filter(|id| fits(id) && anywhere(id) && !known(id));
        let all: Vec<PeerId> = here.chain(rest).copied().collect();
        let found = candidates(&peers, &initiator);
        // None but those that fit, in their order; all that are the first with their proposals.
        let mut left = all.iter();
        assert!(found.iter().all(|id| left.any(|other| other == id)), "{found:?} of {all:?}");
        let firsts = |of: &[PeerId]| {
            let list = |id: &PeerId| &peers.get(*id).unwrap().ike;
            let new = |(place, id): (usize, &PeerId)| of[..place].iter().all(|other| list(other) != list(id));
            of.iter().enumerate().filter(|(place, id)| new((*place, id))).map(|(_, id)| *id).collect::<Vec<_>>()
        };
        assert_eq!(firsts(&found), firsts(&all));
        assert!(found.len() <= 3 * 8, "{found:?}");
        let mut there = ids.iter().filter(|id| peers.addresses(**id).any(|addr| addr == remote));
        let only = there.next().filter(|_| there.next().is_none());
        assert_eq!(peers.only_one_at(remote), only.copied());
    }
}

#[test]
fn f_54_each_peer_is_a_candidate_once() {
    let (local, remote): (IpAddr, IpAddr) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let list = |n: u8| LISTS[usize::from(n % 4)];
    let text: String = (1..=200u8)
        .map(|n| with(&peer(&format!("p{n}"), HERE, "\"any\"", &format!("p{n}.lab"), &[n]), list(n)))
        .collect();
    let mut peers = Peers::default();
    peers.replace(config(&text).peers, &Diff::default());
    // One that may be anywhere was called, and is known to be there now.
    let [p1, p2, p3, p4] = ["p1", "p2", "p3", "p4"].map(|name| peers.named(name).unwrap());
    peers.set_path(p2, local, remote, IKE_PORT);
    let stranger = Initiator::new(local, remote);
    assert_eq!(candidates(&peers, &stranger), [p2, p1, p3, p4]);
    for n in 1..=200 {
        let name = format!("P{n}.lab");
        let mut named = stranger;
        named.id_i = Some(Id { kind: IdKind::FQDN, data: name.as_bytes() });
        assert_eq!(candidates(&peers, &named), [peers.named(&format!("p{n}")).unwrap()]);
    }
    assert_eq!(peers.candidate(&stranger, Some(PeerId(u32::MAX))), None);
}

#[test]
fn b4_both_addresses_of_a_box_lead_to_its_key() {
    let text = "[[peer]]\nname = \"box\"\nlocal = [\"10.0.0.2\", \"50.0.0.2\"]\nremote = [\"10.0.0.5\", \"50.0.0.5\"]\n\
                psk = \"0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"\n\
                [[peer.child]]\nname = \"n\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n";
    let mut peers = Peers::default();
    peers.replace(config(text).peers, &Diff::default());
    let id = peers.named("box").unwrap();
    for (local, remote) in [("10.0.0.2", "10.0.0.5"), ("50.0.0.2", "50.0.0.5")] {
        let (local, remote): (IpAddr, IpAddr) = (local.parse().unwrap(), remote.parse().unwrap());
        assert_eq!(peers.candidate(&Initiator::new(local, remote), None), Some(id));
        peers.set_path(id, local, remote, IKE_PORT);
        let connection = peers.connection(id).unwrap();
        assert!(matches!(connection.auth, Authentication::Psk(key) if key.len() == 32));
        assert!(connection.remote_id.is_none());
        assert_eq!(connection.local_id, Identity::from(local).id());
        assert_eq!(connection.path.unwrap().remote, SocketAddr::new(remote, IKE_PORT));
    }
}

#[test]
fn a_resolved_name_makes_its_addresses_the_peers() {
    let mut peers = Peers::default();
    peers.replace(config(&peer("a", HERE, "\"gw.example.org\"", "a.lab", &[1])).peers, &Diff::default());
    let id = peers.named("a").unwrap();
    let (local, remote) = ("192.0.2.2".parse().unwrap(), "198.51.100.7".parse().unwrap());
    assert_eq!(peers.candidate(&Initiator::new(local, remote), None), None);
    assert!(peers.connection(id).unwrap().path.is_none());
    peers.set_resolved(id, "gw.example.org", &[remote]);
    assert_eq!(peers.candidate(&Initiator::new(local, remote), None), Some(id));
}

#[test]
fn f_22_a_name_that_is_asked_for_again_keeps_the_order_of_its_addresses() {
    let mut peers = Peers::default();
    peers.replace(
        config(&peer("a", HERE, "[\"gw.example.org\", \"gw2.example.org\"]", "a.lab", &[1])).peers,
        &Diff::default(),
    );
    let id = peers.named("a").unwrap();
    let [a, b, c, d]: [IpAddr; 4] = [1, 2, 3, 4].map(|last| [192, 0, 2, last + 100].into());
    peers.set_resolved(id, "gw.example.org", &[a, b]);
    peers.set_resolved(id, "gw2.example.org", &[d]);
    peers.set_resolved(id, "gw.example.org", &[c, b, a]);
    assert!(peers.addresses(id).eq([a, b, c, d]));
    peers.set_resolved(id, "gw.example.org", &[c]);
    assert!(peers.addresses(id).eq([c, d]));
    let here = HERE.trim_matches('"').parse().unwrap();
    assert_eq!(peers.candidate(&Initiator::new(here, a), None), None, "it moved away");
    assert_eq!(peers.candidate(&Initiator::new(here, d), None), Some(id));
}

#[test]
fn only_where_a_name_may_lead_and_nobody_is_a_caller_may_follow() {
    let named = peer("a", A, "\"a.lab\"", "a.lab", &[1]);
    let fixed = peer("b", A, B, "b.lab", &[2]);
    for (text, remote, follows) in
        [(&named, "192.0.2.77", true), (&named, "192.0.2.9", false), (&String::new(), "192.0.2.77", false)]
    {
        let (_, peers, _) = reloaded("", &format!("{text}{fixed}"));
        let initiator = Initiator::new("192.0.2.200".parse().unwrap(), remote.parse().unwrap());
        assert_eq!(peers.may_follow(&initiator), follows, "{remote}");
    }
}
