//! Which IKE SA replaces which, tested against the scripted peer: it runs other code than we do.

use std::time::Duration;

use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::pad::ChildConfigId;
use ike_core::registry::PayloadType;
use ike_core::wire::header::Header;
use ipsec_core::net::{Path, Spi};

use super::*;
use crate::network::{Network, child};

#[test]
fn f_38_every_ike_sa_has_an_id_of_its_own_also_where_another_one_was() {
    let mut network = Network::connected(64);
    let mut known = [vec![], vec![]];
    for round in 0..12 {
        for (host, known) in network.hosts.iter().zip(&mut known) {
            assert!(!known.contains(&host.ike_id()), "round {round}");
            known.push(host.ike_id());
        }
        let ike = network.hosts[round % 2].ike_id();
        network.hosts[round % 2].endpoint.rekey_ike(network.now, ike).unwrap();
        network.run_for(seconds(120));
        network.agree().unwrap();
    }
}

#[test]
fn f_40_an_answer_without_a_public_value_leaves_no_sa_behind() {
    let (mut host, mut peer) = asking_ike(32);
    let answer = with_body(&ike_rekey([6; 8], [1; 32]), PayloadType::KE, &[&[0, 31, 0, 0], &[0; 32][..]].concat());
    assert_eq!(peer.respond(&mut host, CREATE, &answer).0, Ok(()));
    assert_eq!(host.endpoint.ike_sas().count(), 1, "{:?}", host.story);
    assert_eq!(host.endpoint.occupancy().ike_sas, 1);
}

#[test]
fn d_of_crossing_ike_rekeys_the_one_with_the_lowest_nonce_goes() {
    for (theirs, answer, ours_goes) in [([1; 32], [0; 32], true), ([0; 32], [1; 32], false)] {
        let (mut host, mut peer) = asking_ike(31);
        let old = host.ike().unwrap();
        let made = peer.ask(&mut host, CREATE, &ike_rekey([7; 8], theirs));
        assert!(notifies(&made).is_empty(), "{:?}", notifies(&made));
        let theirs = host.endpoint.ike_sas().find(|sa| sa.spi_remote == u64::from_be_bytes([7; 8])).unwrap();
        let (handled, sent) = peer.respond(&mut host, CREATE, &ike_rekey([6; 8], answer));
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{:?}", host.story);
        let deletes = Header::parse(&sent[0]).unwrap();
        assert!(host.story.contains(&"ike rekeyed".into()));
        if ours_goes {
            // The host closes what it made, and the children are with the peer's.
            assert_eq!(deletes.spi_r, u64::from_be_bytes([6; 8]));
            assert_eq!(host.ike().unwrap().id, theirs.id);
        } else {
            assert_eq!((deletes.spi_i, deletes.spi_r), (old.spi_local, old.spi_remote));
            assert_eq!(host.ike().unwrap().spi_remote, u64::from_be_bytes([6; 8]));
        }
        assert!(host.endpoint.child_sas().all(|child| child.ike == host.ike_id()));
    }
}

#[test]
fn f_48_an_ike_rekey_that_comes_from_a_new_mapping_is_followed() {
    let [left, mut right] = pair();
    right.remote = None;
    let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    network.run_for(seconds(5));
    network.nat = Some("203.0.113.7:2048".parse().unwrap());
    let ike = network.hosts[0].ike_id();
    network.hosts[0].endpoint.rekey_ike(network.now, ike).unwrap();
    network.run_for(seconds(8));
    network.agree().unwrap();
    let views: Vec<_> = network.hosts.iter().map(|host| host.ike().unwrap()).collect();
    assert_eq!(views[1].path.remote, "203.0.113.7:2048".parse().unwrap());
    // The caller hears of it once the children belong to the new SA.
    let story = &network.hosts[1].story;
    let at = |what: &str| story.iter().position(|line| line == what).unwrap_or_else(|| panic!("no {what}: {story:?}"));
    assert!(at("ike rekeyed") < at("moved to 203.0.113.7:2048"));
    // What was found of NATs stays, and whoever sits behind one keeps its mapping alive.
    assert!(views[0].nat.local && views[1].nat.remote && views[0].encap == ipsec_core::net::Encap::Udp);
    let sent = network.sent;
    network.hosts[1].endpoint.pad_mut().0[0].dpd = Duration::ZERO;
    network.hosts[0].endpoint.pad_mut().0[0].dpd = Duration::ZERO;
    network.run_for(seconds(600));
    assert!(network.sent - sent >= 29, "{} keepalives in 600 s", network.sent - sent);
}

#[test]
fn f_48_who_called_from_behind_a_nat_is_remembered_whoever_rekeys() {
    let ports = [1024, 2048].map(|port| std::net::SocketAddr::new("203.0.113.7".parse().unwrap(), port));
    for rekeys in [&[][..], &[0], &[1], &[1, 0], &[1, 1]] {
        // Both sit behind a NAT; that of the right one keeps its address.
        let [mut left, mut right] = pair();
        left.remote = Some("198.51.100.2:500".parse().unwrap());
        right.remote = None;
        let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
        network.cloud = Some("198.51.100.2".parse().unwrap());
        network.nat = Some(ports[0]);
        network.connect();
        assert!(network.hosts.iter().all(|host| host.ike().unwrap().nat.local && host.ike().unwrap().nat.remote));
        for by in rekeys {
            let ike = network.hosts[*by].ike_id();
            network.hosts[*by].endpoint.rekey_ike(network.now, ike).unwrap();
            network.run_for(seconds(2));
        }
        // The caller stays with the one that it called, whatever is said from elsewhere.
        let sending = network.hosts[0].sending[&CHILD];
        let elsewhere = Path { remote: ports[0], ..network.hosts[0].ike().unwrap().path };
        network.hosts[0].endpoint.moved(sending, elsewhere);
        assert_eq!(network.hosts[0].ike().unwrap().path.remote, "198.51.100.2:4500".parse().unwrap(), "{rekeys:?}");
        // The one that was called follows.
        network.nat = Some(ports[1]);
        network.run_for(seconds(60));
        assert_eq!(network.hosts[1].ike().unwrap().path.remote, ports[1], "{rekeys:?} {:?}", network.hosts[1].story);
        network.agree().unwrap();
    }
}

fn two_children(seed: u64) -> Network {
    let [mut left, mut right] = pair();
    left.children.push(child(1, &["192.168.1.0/24"], &["192.168.2.0/24"], "aes256gcm16"));
    right.children.push(child(1, &["192.168.2.0/24"], &["192.168.1.0/24"], "aes256gcm16"));
    let mut network = Network::new(seed, [vec![left], vec![right]], Settings::default());
    network.connect();
    network
}

#[test]
fn f_49_a_wish_during_an_ike_rekey_is_met_when_it_is_over() {
    let mut network = two_children(7);
    let ike = network.hosts[0].ike_id();
    network.hosts[0].endpoint.rekey_ike(network.now, ike).unwrap();
    network.hosts[0].endpoint.create_child(network.now, ike, ChildConfigId(1)).unwrap();
    network.run_for(Duration::from_millis(200));
    assert!(network.hosts.iter().all(|host| host.installed.len() == 2), "{:?}", network.hosts[0].story);
}

#[test]
fn f_49_a_connection_that_is_closed_during_its_rekey_is_closed() {
    for crossing in [false, true] {
        let mut network = two_children(8);
        let ike = network.hosts[0].ike_id();
        network.hosts[0].endpoint.rekey_ike(network.now, ike).unwrap();
        if crossing {
            let ike = network.hosts[1].ike_id();
            network.hosts[1].endpoint.rekey_ike(network.now, ike).unwrap();
            network.run_for(Duration::from_millis(15));
        }
        network.hosts[0].endpoint.close(network.now, ike).unwrap();
        network.run_for(seconds(2));
        for host in &network.hosts {
            assert!(host.ike().is_none() && host.installed.is_empty(), "{crossing}: {:?}", host.story);
        }
        assert_eq!(network.hosts[0].failures, [Failure::ClosedHere], "{crossing}");
    }
}

#[test]
fn f_49_the_redundant_sa_of_crossing_ike_rekeys_is_deleted_at_once() {
    for seed in 70..80 {
        let mut network = Network::connected(seed);
        for by in 0..2 {
            let ike = network.hosts[by].ike_id();
            network.hosts[by].endpoint.rekey_ike(network.now, ike).unwrap();
        }
        network.run_for(Duration::from_millis(300));
        for host in &network.hosts {
            assert_eq!(host.endpoint.ike_sas().count(), 1, "{:?}", host.story);
        }
        network.agree().unwrap();
    }
}

#[test]
fn d_an_sa_that_is_not_decided_on_is_used_for_nothing_yet() {
    let (mut host, mut peer) = asking_ike(53);
    let old = host.ike_id();
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    let made = host.endpoint.ike_sas().find(|sa| sa.id != old).unwrap();
    assert_eq!(made.state, ike_core::endpoint::SaState::Closing);
    assert!(host.endpoint.create_child(NOW, made.id, CHILD).is_err() && host.endpoint.rekey_ike(NOW, made.id).is_err());
}

#[test]
fn an_sa_that_is_not_decided_on_waits_for_as_long_as_our_rekey_is_repeated() {
    let mut host = lax(0, [12, 16, 1280], Settings { orphan: seconds(2), ..Settings::default() });
    let mut peer = up(&mut host, 64);
    host.endpoint.rekey_ike(NOW, host.ike_id()).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    for second in 1..=15 {
        host.endpoint.handle_timeout(NOW + seconds(second));
        for sent in transmits(&mut host) {
            let header = Header::parse(&sent).unwrap();
            assert_eq!((header.exchange, header.response), (CREATE, false), "{second}");
        }
    }
    assert_eq!(host.endpoint.ike_sas().count(), 2, "{:?}", host.story);
}

#[test]
fn what_a_peer_deletes_on_an_ike_sa_is_found_however_often_that_was_replaced() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 65);
    let mut second = peer.rekey(&mut host, 0x0707_0707_0707_0707, [5; 32]);
    let mut third = second.rekey(&mut host, 0x0808_0808_0808_0808, [5; 32]);
    let mut fourth = third.rekey(&mut host, 0x0909_0909_0909_0909, [5; 32]);
    assert!(fourth.alive(&mut host));
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    assert_eq!(deleted(&peer.ask(&mut host, INFO, &delete)).len(), 1, "{:?}", host.story);
    assert!(host.installed.is_empty(), "{:?}", host.story);
}

#[test]
fn d_an_ike_sa_that_the_peer_should_have_deleted_goes_in_the_end_all_the_same() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 54);
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    host.endpoint.handle_timeout(NOW + Duration::from_millis(29_999));
    assert!(transmits(&mut host).is_empty());
    host.endpoint.handle_timeout(NOW + seconds(30));
    let sent = transmits(&mut host);
    assert_eq!(body(&peer.open(&sent[0]), PayloadType::DELETE).unwrap(), [ProtocolId::IKE.0, 0, 0, 0]);
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    assert_eq!(
        (host.endpoint.ike_sas().count(), host.installed.len(), host.ended.len()),
        (1, 1, 0),
        "{:?}",
        host.story
    );
}

#[test]
fn d_the_loser_of_crossing_ike_rekeys_goes_in_the_end_all_the_same() {
    let (mut host, mut peer) = asking_ike(62);
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [0; 32]));
    let _ = peer.respond(&mut host, CREATE, &ike_rekey([6; 8], [1; 32]));
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    // The peer made it, and should delete it.
    let loser = host.endpoint.ike_sas().find(|sa| sa.spi_remote == u64::from_be_bytes([7; 8])).unwrap();
    host.endpoint.handle_timeout(NOW + Duration::from_millis(29_999));
    assert!(transmits(&mut host).is_empty());
    host.endpoint.handle_timeout(NOW + seconds(30));
    let sent = transmits(&mut host);
    let header = Header::parse(&sent[0]).unwrap();
    assert_eq!((sent.len(), header.spi_i, header.spi_r), (1, loser.spi_remote, loser.spi_local));
}

#[test]
fn d_an_ike_sa_whose_heir_is_gone_goes_on_and_is_rekeyed_later() {
    let (mut host, mut peer) = asking_ike(63);
    let old = host.ike_id();
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    let made = host.endpoint.ike_sas().find(|sa| sa.id != old).unwrap().id;
    host.endpoint.abandon(NOW, made, Failure::ClosedHere).unwrap();
    let (handled, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
    assert_eq!((handled, sent.len(), host.ike_id()), (Ok(()), 0, old));
    host.endpoint.handle_timeout(NOW + Settings::default().retry);
    let sent = transmits(&mut host);
    assert_eq!((sent.len(), Header::parse(&sent[0]).unwrap().exchange), (1, CREATE));
    assert!(body(&peer.open(&sent[0]), PayloadType::TS_I).is_none(), "the IKE SA itself");
}

#[test]
fn f_48_the_heir_of_a_crossing_rekey_follows_where_the_peer_went_meanwhile() {
    let (mut host, mut peer) = asking_ike(55);
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    peer.path.remote = "203.0.113.7:2048".parse().unwrap();
    let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
    let heir = host.ike().unwrap();
    assert_eq!((heir.spi_remote, heir.path.remote), (u64::from_be_bytes([7; 8]), peer.path.remote));
    assert_eq!(host.story.last().map(String::as_str), Some("moved to 203.0.113.7:2048"), "{:?}", host.story);
}

#[test]
fn f_48_where_the_peer_went_is_told_once_the_sa_on_which_it_shows_has_the_children() {
    let (mut host, mut peer) = asking_ike(57);
    let mut heir = peer.rekey(&mut host, 0x0707_0707_0707_0707, [5; 32]);
    heir.path.remote = "203.0.113.7:2048".parse().unwrap();
    heir.ask(&mut host, INFO, &NOTHING);
    let moved = |host: &Host| host.story.iter().filter(|line| line.starts_with("moved")).count();
    assert_eq!(moved(&host), 0, "under an id that nobody knows\n{:?}", host.story);
    let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
    assert_eq!(host.ike().unwrap().path.remote, heir.path.remote);
    assert_eq!(host.story.last().map(String::as_str), Some("moved to 203.0.113.7:2048"), "{:?}", host.story);
    assert_eq!(moved(&host), 1, "{:?}", host.story);
}

#[test]
fn d_an_ike_sa_is_rekeyed_by_one_exchange_of_each_side_and_no_more() {
    let (mut host, mut peer) = asking_ike(60);
    assert!(notifies(&peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]))).is_empty());
    let answer = peer.ask(&mut host, CREATE, &ike_rekey([8; 8], [5; 32]));
    assert_eq!(notifies(&answer), [NotifyKind::TEMPORARY_FAILURE]);
    // What waited while the peer rekeyed is not begun on the SA that was replaced.
    let mut host = lax(20, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 61);
    host.endpoint.handle_timeout(NOW + seconds(20));
    assert_eq!(transmits(&mut host).len(), 1, "a sign of life is asked for");
    let ike = host.ike_id();
    host.endpoint.rekey_ike(NOW, ike).unwrap();
    assert!(notifies(&peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]))).is_empty());
    let (handled, sent) = peer.respond(&mut host, INFO, &NOTHING);
    assert_eq!((handled, sent.len()), (Ok(()), 0), "{:?}", host.story);
}

#[test]
fn where_a_peer_says_the_last_word_on_a_replaced_ike_sa_the_one_that_took_over_follows() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 79);
    let heir = peer.rekey(&mut host, 0x0707_0707_0707_0707, [5; 32]);
    peer.path.remote = "203.0.113.7:2048".parse().unwrap();
    peer.ask(&mut host, INFO, &payloads(|message| message.delete_ike()));
    // Told once, and under its name.
    let moved = host.story.iter().filter(|line| line.starts_with("moved")).count();
    assert_eq!((moved, host.ike().unwrap().path.remote), (1, peer.path.remote), "{:?}", host.story);
    drop(heir);
}
