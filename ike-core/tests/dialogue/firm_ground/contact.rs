//! Two connections with one peer: which of them stays, which is used, and what the peer is told.

use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::registry::PayloadType;
use ike_core::wire::header::Header;

use super::*;

/// The peer's IKE_AUTH with INITIAL_CONTACT; what the host sends then.
fn first_contact(host: &mut Host, peer: &mut Scripted, at: u64) -> Vec<Vec<u8>> {
    let auth = payload(41, 0, &[0, 0, 0x40, 0], &peer.auth_payloads());
    let header = peer.header(ExchangeType::IKE_AUTH, false, 1);
    let message = peer.seal(&header, &auth);
    let (handled, sent) = tell_at(host, NOW + seconds(at), peer.path, &message);
    assert_eq!(handled, Ok(()));
    peer.next[0] = 2;
    sent
}

#[test]
fn d_initial_contact_ends_what_a_rekey_made_too() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 51);
    peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    assert!(host.ike().is_some_and(|sa| sa.spi_remote == u64::from_be_bytes([7; 8])));
    let mut peer = Scripted::initiate(&mut host, 52);
    // The answer, and a Delete for each of the two.
    assert_eq!(first_contact(&mut host, &mut peer, 0).len(), 3);
    assert_eq!(host.endpoint.ike_sas().filter(|sa| sa.since.is_some()).count(), 1, "{:?}", host.story);
    assert_eq!((host.ended.len(), host.installed.len()), (1, 1), "{:?}", host.story);
}

#[test]
fn f_60_a_child_of_a_second_connection_is_used_once_the_peer_shows_that_it_has_it() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let _first = up(&mut host, 62);
    let used = host.sending[&CHILD];
    for shown in ["answers", "asks", "sends", "is silent"] {
        let mut peer = Scripted::initiate(&mut host, 63);
        assert!(begun(&mut host, &mut peer), "the host asks at once");
        let view = |host: &Host, peer: &Scripted| {
            host.endpoint.ike_sas().find(|ike| ike.spi_remote == peer.spis[0]).map(|ike| ike.confirmed)
        };
        let made = *host.installed.keys().find(|child| **child != used).unwrap();
        assert_eq!((host.sending[&CHILD], view(&host, &peer)), (used, Some(false)), "{shown}");
        match shown {
            "answers" => assert_eq!(peer.respond(&mut host, INFO, &NOTHING).0, Ok(())),
            "asks" => assert!(peer.alive(&mut host)),
            "sends" => host.endpoint.heard(NOW, made),
            _ => {
                // It never had it, or is done with it: what works goes on.
                (1..200).for_each(|second| {
                    host.endpoint.handle_timeout(NOW + seconds(second));
                    transmits(&mut host);
                });
                assert_eq!((host.sending[&CHILD], view(&host, &peer), host.installed.len()), (used, None, 1));
                continue;
            }
        }
        let _ = transmits(&mut host);
        assert_eq!((host.sending[&CHILD], view(&host, &peer)), (made, Some(true)), "{shown}");
        host.endpoint.abandon(NOW, host.endpoint.child_sa(made).unwrap().ike, Failure::ClosedHere).unwrap();
        let _ = transmits(&mut host);
        host.sending.insert(CHILD, used);
    }
}

#[test]
fn f_60_only_a_second_connection_of_the_same_party_waits_for_a_sign_of_life() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    host.endpoint.pad_mut().0[0].remote_id = None;
    let _first = up(&mut host, 71);
    // None of them says INITIAL_CONTACT; those that wait answer nothing, and what their party has goes on.
    for (seed, name, waits) in
        [(72, "other.example", false), (73, "left.example", true), (74, "other.example", true), (75, "third", false)]
    {
        let used = host.sending[&CHILD];
        let mut peer = Scripted::initiate(&mut host, seed);
        peer.name = name;
        assert_eq!(begun(&mut host, &mut peer), waits, "{name} {seed}: asked whether it lives");
        let ike = host.endpoint.ike_sas().find(|ike| ike.spi_remote == peer.spis[0]).unwrap().id;
        let made = host.endpoint.child_sas().find(|child| child.ike == ike).unwrap().id;
        assert_eq!(host.sending[&CHILD], if waits { used } else { made }, "{name} {seed}");
        assert!(host.installed.contains_key(&made), "{name} {seed}");
    }
}

#[test]
fn f_60_a_connection_in_place_of_one_that_is_being_closed_is_the_only_one() {
    for closes in [false, true] {
        let (mut host, _old) = Scripted::established_by_host(64);
        if closes {
            // Our address is gone, and the Delete with it.
            let ike = host.ike_id();
            host.endpoint.close(NOW, ike).unwrap();
            assert_eq!(transmits(&mut host).len(), 1);
        }
        let (mut peer, auth) = Scripted::answer(&mut host, 65);
        let says = notifies(&peer.open(&auth)).contains(&NotifyKind::INITIAL_CONTACT);
        assert_eq!(says, closes, "the peer is asked to forget the others");
    }
}

#[test]
fn f_60_initial_contact_is_about_what_was_there_before_and_the_peer_is_told() {
    let mut host = lax(0, [40, 16, 1280], Settings::default());
    let mut before = up(&mut host, 66);
    let mut peer = Scripted::initiate(&mut host, 67);
    // Called from here, or from there once more, while the IKE_AUTH of that one is on its way.
    let mut since = Scripted::initiate(&mut host, 68);
    let auth = since.auth_payloads();
    let header = since.header(ExchangeType::IKE_AUTH, false, 1);
    let message = since.seal(&header, &auth);
    let (_, looks) = tell_at(&mut host, NOW + seconds(1), since.path, &message);
    since.next = [2, 1];
    assert_eq!(looks.len(), 2, "the answer, and whether the peer lives");
    let header = since.header(INFO, true, 0);
    let message = since.seal(&header, &NOTHING);
    assert_eq!(tell_at(&mut host, NOW + seconds(1), since.path, &message).0, Ok(()));
    let used = host.sending[&CHILD];

    let sent = first_contact(&mut host, &mut peer, 2);
    let to =
        |peer: &Scripted| sent.iter().filter(|message| message[..8] == peer.spis[0].to_be_bytes()).collect::<Vec<_>>();
    let farewell = to(&before);
    assert_eq!(farewell.len(), 1, "the one from before is told");
    assert_eq!(body(&before.open(farewell[0]), PayloadType::DELETE).unwrap(), [ProtocolId::IKE.0, 0, 0, 0]);
    assert!(to(&since).is_empty() && since.alive(&mut host), "{:?}", host.story);
    assert_eq!(host.endpoint.ike_sas().count(), 2);
    // What works is used until the new one is known to.
    assert_eq!((host.sending[&CHILD], to(&peer).len()), (used, 2), "{:?}", host.story);
    assert!(peer.alive(&mut host));
    assert_ne!(host.sending[&CHILD], used);
}

#[test]
fn d_a_farewell_is_said_within_the_window_of_the_peer_or_not_at_all() {
    for (asked, sent, repeats) in [(false, false, false), (true, false, false), (true, true, false), (true, true, true)]
    {
        let mut host = lax(0, [12, 16, 1280], Settings::default());
        let mut before = up(&mut host, 69);
        let mut peer = Scripted::initiate(&mut host, 70);
        if asked {
            let ike = host.endpoint.ike_sas().find(|ike| ike.since.is_some()).unwrap().id;
            host.endpoint.rekey_ike(NOW, ike).unwrap();
        }
        if sent {
            assert_eq!(transmits(&mut host).len(), 1);
        }
        if repeats {
            // It is about to be sent once more.
            host.endpoint.handle_timeout(host.endpoint.poll_timeout().unwrap());
        }
        let messages = first_contact(&mut host, &mut peer, 0);
        let farewell: Vec<_> = messages.iter().filter(|message| message[..8] == before.spis[0].to_be_bytes()).collect();
        // The peer may have the request that was sent, or not: what it would take next is not known.
        assert_eq!(farewell.len(), usize::from(!sent), "{asked} {sent}");
        for message in farewell {
            assert_eq!(Header::parse(message).unwrap().message_id, 0, "no request came before it");
            assert!(body(&before.open(message), PayloadType::DELETE).is_some());
        }
        assert_eq!(host.endpoint.ike_sas().count(), 1);
    }
}
