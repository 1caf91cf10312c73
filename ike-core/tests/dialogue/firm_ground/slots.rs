//! Slots, keys, timers: given back in whatever way an SA ends, and not all taken by one peer.

use ike_core::endpoint::{Occupancy, Settings};
use ike_core::failure::{Failure, Side};
use ike_core::registry::{ExchangeType, NotifyKind};
use ike_core::wire::header::Header;

use super::*;
use crate::engine::held;
use crate::network::{Network, PEER, Peer};

#[test]
fn f_40_an_ike_rekey_that_ends_in_silence_gives_its_slot_back() {
    let mut network = Network::connected(1);
    for _ in 0..14 {
        let ike = network.hosts[0].ike_id();
        network.hosts[0].endpoint.rekey_ike(network.now, ike).unwrap();
        assert_eq!(network.hosts[0].endpoint.occupancy(), Occupancy { ike_sas: 1, reserved: 1, child_sas: 1 });
        assert!(network.hosts[0].ike().unwrap().rekeying);
        network.tap = Box::new(|_, _| false);
        network.run_for(seconds(100));
        assert_eq!(network.hosts[0].endpoint.occupancy(), Occupancy::default());
        network.tap = Box::new(|_, _| true);
        network.connect();
    }
}

#[test]
fn f_40_an_ike_rekey_gives_its_slot_back_however_it_ends() {
    let ends: [fn(&mut Host, &mut Scripted); 6] = [
        |host, peer| drop(peer.respond(host, CREATE, &notify(NotifyKind::INVALID_SYNTAX, &[]))),
        |host, peer| drop(peer.respond(host, CREATE, &Payloads(41, vec![0, 0, 0, 1]))),
        |host, peer| drop(peer.ask(host, INFO, &notify(NotifyKind::AUTHENTICATION_FAILED, &[]))),
        |host, peer| drop(peer.ask(host, INFO, &payloads(|message| message.delete_ike()))),
        |host, peer| drop(peer.respond(host, CREATE, &notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]))),
        |host, _| {
            let ike = host.ike_id();
            host.endpoint.abandon(NOW, ike, Failure::ClosedHere).unwrap();
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (mut host, mut peer) = asking_ike(2);
        assert_eq!(host.endpoint.occupancy().reserved, 1);
        end(&mut host, &mut peer);
        assert_eq!(host.endpoint.occupancy().reserved, 0, "end {number}");
        while let Some(due) = host.endpoint.poll_timeout().filter(|due| *due < NOW + seconds(20)) {
            host.endpoint.handle_timeout(due);
            let _ = transmits(&mut host);
        }
        let left = usize::from(host.ike().is_some());
        assert_eq!((host.endpoint.occupancy().ike_sas, left), (left, usize::from(number == 4)), "end {number}");
    }
}

#[test]
fn f_40_initial_contact_during_our_ike_rekey_gives_the_slot_back() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    for seed in 1..30 {
        let mut peer = Scripted::initiate(&mut host, seed);
        let auth = payload(41, 0, &[0, 0, 0x40, 0], &peer.auth_payloads());
        assert!(notifies(&peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth)).is_empty());
        let ike = host.ike_id();
        host.endpoint.rekey_ike(NOW, ike).unwrap();
        let _ = transmits(&mut host);
        assert_eq!(host.endpoint.occupancy().reserved, 1);
    }
}

#[test]
fn f_40_a_kept_slot_is_not_given_to_another() {
    let (mut host, mut peer) = asking_ike(3);
    let mut begun = 0;
    while host.endpoint.initiate(NOW, PEER, None).is_ok() {
        begun += 1;
    }
    assert_eq!(begun, 10, "12 slots, one SA, one kept for its rekey");
    let _ = transmits(&mut host);
    let (handled, _) = peer.respond(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    assert_eq!(handled, Ok(()));
    assert!(host.story.contains(&"ike rekeyed".into()), "{:?}", host.story);
}

#[test]
fn f_44_one_peer_does_not_take_every_slot_for_children() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 11);
    let mut made = 1;
    for number in 0..40 {
        let answer = peer.ask(&mut host, CREATE, &child_of(None, 0x0100_0000 + number));
        match notifies(&answer)[..] {
            [] => made += 1,
            [kind] => assert_eq!(kind, NotifyKind::NO_ADDITIONAL_SAS),
            _ => panic!("{:?}", notifies(&answer)),
        }
    }
    assert_eq!(made, 12, "three quarters of the table");
    assert_eq!(host.failures.first(), Some(&Failure::NoAdditionalSas(Side::Here)));
    assert!(peer.alive(&mut host));
    // What we want ourselves still has room.
    let ike = host.ike_id();
    assert!(host.endpoint.create_child(NOW, ike, CHILD).is_ok());
    let _ = transmits(&mut host);
}

#[test]
fn f_44_a_small_table_still_has_room_for_what_is_configured_and_its_rekey() {
    let mut host = lax(0, [2, 2, 1280], Settings { children_per_peer: 0, ike_sas_per_peer: 0, ..Settings::default() });
    let mut peer = up(&mut host, 12);
    let answer = peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    assert!(notifies(&answer).is_empty(), "{:?}", notifies(&answer));
    let answer = peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    assert!(notifies(&answer).is_empty(), "{:?}", notifies(&answer));
}

#[test]
fn f_44_one_peer_that_begins_anew_all_the_time_does_not_take_every_slot() {
    let mut host = lax(0, [12, 64, 1280], Settings::default());
    let mut last = None;
    for seed in 0..40 {
        let mut peer = Scripted::initiate(&mut host, 100 + seed);
        let auth = peer.auth_payloads();
        let header = peer.header(ExchangeType::IKE_AUTH, false, 1);
        let message = peer.seal(&header, &auth);
        assert_eq!(peer.tell(&mut host, &message).0, Ok(()));
        peer.next[0] = 2;
        last = Some(peer);
        let held = host.endpoint.ike_sas().filter(|sa| sa.since.is_some()).count();
        assert!(held <= 8, "{held} of 12 slots");
    }
    assert!(last.unwrap().alive(&mut host), "the newest one stays");
    assert!(host.failures.iter().all(|cause| *cause == Failure::Replaced) && host.failures.len() == 32);
    assert!(host.endpoint.initiate(NOW, PEER, None).is_ok());
}

#[test]
fn f_56_whom_a_stranger_claims_to_be_is_not_who_it_was() {
    let mut host = host(false);
    let mut peer = Scripted::initiate(&mut host, 20);
    let mut auth = peer.auth_payloads();
    let at = auth.1.windows(16).position(|octets| *octets == peer.auth()[..16]).unwrap();
    auth.1[at] ^= 1;
    let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth);
    assert_eq!(notifies(&answer), [NotifyKind::AUTHENTICATION_FAILED]);
    assert_eq!(host.ended, [[None, Some(PEER)]]);
    // Whom we called, we know; and who proved itself.
    let (mut host, mut peer) = Scripted::established(21);
    peer.ask(&mut host, INFO, &payloads(|message| message.delete_ike()));
    assert_eq!(host.ended, [[Some(PEER), None]]);
}

#[test]
fn f_56_a_dead_sa_repeats_its_answer_and_says_nothing_to_anybody_else() {
    let (mut host, mut peer) = Scripted::established(22);
    let header = peer.header(INFO, false, peer.next[0]);
    let last = peer.seal(&header, &payloads(|message| message.delete_ike()));
    let (_, answer) = peer.tell(&mut host, &last);
    for exchange in [34, 35, 36, 37, 240].map(ExchangeType) {
        let bare = in_clear(&Header { exchange, ..header }, &NOTHING);
        let (handled, sent) = peer.tell(&mut host, &bare);
        assert!(handled.is_err() && sent.is_empty(), "{exchange:?}: {handled:?}");
    }
    for at in Header::LEN..last.len() {
        let mut other = last.clone();
        other.remove(at);
        other[27] -= 1;
        assert!(peer.tell(&mut host, &other).1.is_empty());
    }
    assert_eq!(peer.tell(&mut host, &last), (Ok(()), answer));
}

#[test]
fn f_56_a_table_of_65_535_slots_works() {
    let mut host = lax(20, [4, 65_535, 1280], Settings::default());
    assert_eq!(host.endpoint.poll_timeout(), None);
    let mut peer = up(&mut host, 23);
    assert!(host.endpoint.poll_timeout().is_some());
    peer.ask(&mut host, INFO, &payloads(|message| message.delete_ike()));
}

#[test]
fn f_56_the_end_is_told_although_the_heir_of_a_crossing_rekey_died_first() {
    // The host's rekey and the peer's cross; what the peer's made is lost before it is decided which one stays.
    let crossed = |seed| {
        let (mut host, mut peer) = asking_ike(seed);
        let old = host.ike_id();
        let answer = peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
        assert!(notifies(&answer).is_empty());
        let heir = host.endpoint.ike_sas().find(|sa| sa.id != old).unwrap().id;
        host.endpoint.abandon(NOW, heir, Failure::ClosedHere).unwrap();
        assert!(host.failures.is_empty(), "nobody ever heard of it");
        (host, peer)
    };
    let (mut host, mut peer) = crossed(24);
    peer.ask(&mut host, INFO, &payloads(|message| message.delete_ike()));
    assert_eq!((&host.failures[..], host.ended.len()), (&[Failure::ClosedByPeer][..], 1), "{:?}", host.story);
    assert!(host.installed.is_empty());
    // And when ours comes to nothing, the old one goes on.
    let (mut host, mut peer) = crossed(25);
    let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
    assert!(host.ike().is_some() && host.installed.len() == 1, "{:?}", host.story);
    assert!(peer.alive(&mut host));
    host.endpoint.handle_timeout(NOW + seconds(31));
    assert!(host.ike().is_some() || host.endpoint.ike_sas().any(|sa| sa.rekeying), "{:?}", host.story);
}

/// Two ends that let SAs expire and replace each other for hours.
#[test]
fn f_40_a_day_of_rekeys_on_a_bad_wire_leaves_the_tables_as_full_as_before() {
    let mut ends: [Peer; 2] = pair();
    for peer in &mut ends {
        peer.rekey = seconds(600);
        peer.children[0].rekey = seconds(200);
        peer.children[0].lifetime = seconds(260);
    }
    let [left, right] = ends;
    let mut network = Network::new(26, [vec![left], vec![right]], Settings::default());
    network.connect();
    network.faults.loss = 10;
    network.faults.duplicate = 10;
    network.run_for(seconds(24 * 3600));
    network.faults = crate::network::Faults::default();
    network.run_for(seconds(100));
    for host in &network.hosts {
        let full = host.endpoint.occupancy();
        assert!(full.ike_sas <= 2 && full.child_sas <= 3, "{full:?}");
    }
}

#[test]
fn f_44_a_peer_with_its_share_of_ike_sas_gets_no_rekey() {
    let mut host = lax(0, [12, 16, 1280], Settings { ike_sas_per_peer: 2, ..Settings::default() });
    let _first = up(&mut host, 60);
    let mut peer = up(&mut host, 61);
    let answer = peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    assert_eq!(notifies(&answer), [NotifyKind::NO_ADDITIONAL_SAS]);
    assert_eq!(host.failures, [Failure::NoAdditionalSas(Side::Here)], "and it is told");
    assert!(peer.alive(&mut host));
}

#[test]
fn f_44_the_oldest_goes_first() {
    let mut host = lax(0, [12, 64, 1280], Settings::default());
    let mut spis = Vec::new();
    for second in 0..9 {
        let mut peer = Scripted::initiate(&mut host, 70 + second);
        let auth = peer.auth_payloads();
        let header = peer.header(ExchangeType::IKE_AUTH, false, 1);
        let message = peer.seal(&header, &auth);
        // The second one was there first.
        let at = if second == 1 { 0 } else { second + 1 };
        assert_eq!(tell_at(&mut host, NOW + seconds(at), peer.path, &message).0, Ok(()));
        spis.push(peer.spis[0]);
    }
    let gone = spis.remove(1);
    let held: Vec<_> = host.endpoint.ike_sas().map(|sa| sa.spi_remote).collect();
    assert!(!held.contains(&gone) && spis.iter().all(|spi| held.contains(spi)), "{held:x?}");
}

#[test]
fn f_40_a_rekey_of_a_child_that_is_refused_gives_its_slot_back_at_once() {
    for kind in [NotifyKind::TEMPORARY_FAILURE, NotifyKind::NO_ADDITIONAL_SAS] {
        let (mut host, mut peer, _) = asking(16);
        assert_eq!(host.endpoint.occupancy().child_sas, 2);
        let (handled, sent) = peer.respond(&mut host, CREATE, &notify(kind, &[]));
        assert_eq!((handled, sent.len(), host.endpoint.occupancy().child_sas), (Ok(()), 0, 1), "{kind:?}");
    }
}

#[test]
fn a_rekey_with_another_group_begins_anew_at_once_in_a_full_table() {
    let [mut left, _] = pair();
    left.ike = vec![IkeProposal::parse(SUITE).unwrap(), IkeProposal::parse("aes256gcm16-prfsha384-ecp256").unwrap()];
    left.dpd = Duration::ZERO;
    let mut host = Host::sized(77, vec![left], Settings::default(), [2, 4, 1280]);
    let (mut peer, _) = Scripted::answer(&mut host, 3);
    peer.next[1] = 1;
    let auth = peer.auth_payloads();
    assert_eq!(peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth), (Ok(()), vec![]));
    let ike = host.ike_id();
    host.endpoint.rekey_ike(NOW, ike).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    // The slot that the first request kept is free again.
    let (handled, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19]));
    assert_eq!((handled, sent.len(), &host.failures[..]), (Ok(()), 1, &[][..]));
}

#[test]
fn the_secret_of_a_request_that_has_no_room_goes_at_once() {
    let [mut left, _] = pair();
    left.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    left.dpd = Duration::ZERO;
    let nets: Vec<_> = (0..8).map(|net| format!("2001:db8:{net}::/48")).collect();
    let nets: Vec<_> = nets.iter().map(String::as_str).collect();
    left.children.push(crate::network::child(1, &nets, &nets, "aes256gcm16-x25519"));
    let mut host = Host::sized(77, vec![left], Settings::default(), [3, 4, 600]);
    let (mut peer, _) = Scripted::answer(&mut host, 4);
    peer.next[1] = 1;
    let auth = peer.auth_payloads();
    assert_eq!(peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth), (Ok(()), vec![]));
    assert_eq!(held(), 0);
    let ike = host.ike_id();
    host.endpoint.create_child(NOW, ike, ike_core::pad::ChildConfigId(1)).unwrap();
    assert!(transmits(&mut host).is_empty());
    assert_eq!((&host.failures[..], held()), (&[Failure::NoRoom][..], 0));
}
