use std::format;
use std::string::String;
use std::vec::Vec;

use core::time::Duration;

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

#[test]
fn peers_with_a_known_address_are_candidates_before_those_that_may_be_anywhere() {
    let text = format!(
        "{}{}{}{}",
        peer("roaming", HERE, "\"any\"", "r.lab", &[1]),
        peer("a", HERE, A, "a.lab", &[2]),
        peer("elsewhere", "\"192.0.2.77\"", A, "e.lab", &[3]),
        peer("second", HERE, A, "s.lab", &[4])
    );
    let mut peers = Peers::default();
    peers.replace(config(&text).peers, &Diff::default());
    let candidates = |local: &str, remote: &str| {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        let mut found = Vec::new();
        while let Some(id) = peers.candidate(local, remote, found.last().copied()) {
            found.push(id);
        }
        found.into_iter().map(|id| peers.get(id).unwrap().name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(candidates("192.0.2.2", "192.0.2.1"), ["a", "second", "roaming"]);
    assert_eq!(candidates("192.0.2.2", "203.0.113.5"), ["roaming"]);
    assert_eq!(candidates("192.0.2.77", "192.0.2.1"), ["elsewhere"]);
    assert!(candidates("192.0.2.99", "192.0.2.1").is_empty());
}

#[test]
fn whatever_is_heard_of_peers_their_candidates_are_those_a_look_at_each_finds() {
    let text: String = (1..=40u8)
        .map(|n| {
            let local = if n % 5 == 0 { "\"192.0.2.77\"" } else { HERE };
            let remote = match n % 4 {
                0 => String::from("\"any\""),
                1 => format!("\"198.51.100.{}\"", n % 3),
                _ => format!("[\"gw{n}.example.org\", \"198.51.100.{}\"]", n % 7),
            };
            peer(&format!("p{n}"), local, &remote, &format!("p{n}.lab"), &[n])
        })
        .collect();
    let mut peers = Peers::default();
    peers.replace(config(&text).peers, &Diff::default());
    let ids: Vec<PeerId> = peers.iter().map(|(id, _)| id).collect();
    let (ours, theirs) = ([2, 77, 99].map(|n| IpAddr::from([192, 0, 2, n])), |n| IpAddr::from([198, 51, 100, n]));
    let mut state = 1u32;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % limit) as u8
    };
    for _ in 0..400 {
        let id = ids[usize::from(below(40))];
        match below(2) {
            0 => peers.set_path(id, ours[0], theirs(below(8)), IKE_PORT),
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
        let next = |after: &Option<PeerId>| peers.candidate(local, remote, *after);
        let found: Vec<_> = std::iter::successors(next(&None), |id| next(&Some(*id))).take(100).collect();
        let known = |id: &PeerId| {
            let path = peers.path(*id).map(|path| path.remote.ip());
            peers.addresses(*id).chain(path).any(|addr| addr == remote)
        };
        let calls = |id: &PeerId| peers.get(*id).is_some_and(|peer| peer.local.contains(&local));
        let anywhere = |id: &PeerId| peers.get(*id).is_some_and(|peer| peer.remote.is_empty());
        let here = ids.iter().filter(|id| calls(id) && known(id));
        let rest = ids.iter().filter(|id| calls(id) && anywhere(id) && !known(id));
        assert_eq!(found, here.chain(rest).copied().collect::<Vec<_>>());
    }
}

#[test]
fn f_54_each_peer_is_a_candidate_once() {
    let (local, remote): (IpAddr, IpAddr) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let all = |count: u8| {
        let text: String =
            (1..=count).map(|n| peer(&format!("p{n}"), HERE, "\"any\"", &format!("p{n}.lab"), &[n])).collect();
        let mut peers = Peers::default();
        peers.replace(config(&text).peers, &Diff::default());
        // One that may be anywhere was called, and is known to be there now.
        let known = peers.named("p2").unwrap();
        peers.set_path(known, local, remote, IKE_PORT);
        peers
    };
    let peers = all(200);
    let next = |after: &Option<PeerId>| peers.candidate(local, remote, *after);
    let found: Vec<_> = std::iter::successors(next(&None), |id| next(&Some(*id))).take(1_000).collect();
    let once: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!((found.len(), once.len(), found.first().copied()), (200, 200, peers.named("p2")));
    assert_eq!(peers.candidate(local, remote, Some(PeerId(u32::MAX))), None);
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
        assert_eq!(peers.candidate(local, remote, None), Some(id));
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
    assert_eq!(peers.candidate(local, remote, None), None);
    assert!(peers.connection(id).unwrap().path.is_none());
    peers.set_resolved(id, "gw.example.org", &[remote]);
    assert_eq!(peers.candidate(local, remote, None), Some(id));
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
    assert_eq!(peers.candidate(here, a, None), None, "it moved away");
    assert_eq!(peers.candidate(here, d, None), Some(id));
}
