//! What people read.

use super::*;
use crate::control::protocol::BoundaryStatus;

#[test]
fn ages_and_octets_are_readable() {
    let ages = [(0, "0s"), (63, "1m03s"), (3_700, "1h01m"), (90_000, "1d01h")];
    for (seconds, text) in ages {
        assert_eq!(Age(seconds).to_string(), text);
    }
    let octets =
        [(999, "999 B"), (1_000, "1.0 kB"), (999_949, "999.9 kB"), (999_999, "1.0 MB"), (u64::MAX, "18446.7 PB")];
    for (count, text) in octets {
        assert_eq!(Octets(count).to_string(), text);
    }
}

fn peer(change: impl FnOnce(&mut PeerStatus)) -> PeerStatus {
    let mut peer: PeerStatus = serde_json::from_str(
        r#"{"name":"cloud","state":"connected","cause":null,"start":"active","retry_ms":null,
            "ike":{"initiator":false,"called":true,"spi_local":"1","spi_remote":"2","suite":"aes256gcm16-prfsha384-x25519",
                   "local":"192.0.2.2:4500","remote":"192.0.2.1:4500","nat":true,"nat_local":true,"age_s":63,
                   "heard_s":3,"rekey_s":10740,"remote_id":"left.lab","local_id":"right.lab"},
            "children":[{"name":"net","state":"up","mode":"tunnel","suite":"aes256gcm16-esn","spi_in":"0x1",
                   "spi_out":"0x2","local_ts":["10.2.0.0/16"],"remote_ts":["10.1.0.0/16"],"bytes_in":84,
                   "bytes_out":168,"packets_in":1,"packets_out":2,"rekeys":0,"encap":"esp-in-udp","age_s":63,
                   "last_in_s":5,"last_out_s":4,"rekey_s":3000,"expires_s":3900}]}"#,
    )
    .unwrap();
    change(&mut peer);
    peer
}

fn shown_ike(change: impl FnOnce(&mut IkeStatus)) -> IkeStatus {
    peer(|peer| change(peer.ike.as_mut().unwrap())).ike.unwrap()
}

fn status(peers: Vec<PeerStatus>) -> Status {
    let boundary = BoundaryStatus { state: "closed".into(), ..BoundaryStatus::default() };
    Status { version: "1".into(), uptime_s: 70, peers, manual: Vec::new(), counters: [].into(), boundary }
}

fn shown(change: impl FnOnce(&mut PeerStatus)) -> String {
    Table(&status(vec![peer(change)])).to_string()
}

#[test]
fn f_79_status_says_what_comes_next_and_on_whose_side_the_nat_is() {
    assert_eq!(
        shown(|_| {}),
        "portcullis 1, up 1m10s\n\n\
         cloud  connected     192.0.2.1:4500 (left.lab), NAT on our side, aes256gcm16-prfsha384-x25519, called by us\n\
         \u{20}                    last heard 3s ago, IKE SA 1m03s old, next rekey in 2h59m\n  \
         net  up            10.2.0.0/16 == 10.1.0.0/16, aes256gcm16-esn, esp-in-udp\n\
         \u{20}                    next rekey in 50m00s, ends in 1h05m if that fails\n\
         \u{20}                    in 1 packet, 84 B, last 5s ago; out 2 packets, 168 B, last 4s ago; 0 rekeys\n"
    );
    let there = shown(|peer| {
        let ike = peer.ike.as_mut().unwrap();
        (ike.nat_local, ike.nat_remote) = (false, true);
    });
    assert!(there.contains("NAT on the peer's side"), "{there}");
}

#[test]
fn a_pair_with_manual_keys_has_lines_of_its_own_and_what_is_wrong_with_it() {
    let manual = r#"{"name":"sa/0x00002001","state":"down","mode":"tunnel","local":"192.0.2.2","remote":"192.0.2.1",
        "suite_in":"aes128gcm16-esn","suite_out":"aes128gcm16-noesn","spi_in":"0x00001001","spi_out":"0x00002001",
        "encap":"esp","local_ts":["10.2.0.0/16"],"remote_ts":["10.1.0.0/16"],"bytes_in":84,"bytes_out":0,"packets_in":1,
        "packets_out":0,"last_in_s":5,"last_out_s":null,"cause":{"code":"sequence-lost","text":"lost","hint":"a new key"}}"#;
    let mut status = Status { manual: vec![serde_json::from_str(manual).unwrap()], ..status(Vec::new()) };
    let text = "portcullis 1, up 1m10s\n\n\
                sa/0x00002001  down  192.0.2.1, 10.2.0.0/16 == 10.1.0.0/16\n  \
                in 0x00001001 aes128gcm16-esn, out 0x00002001 aes128gcm16-noesn, esp\n  \
                sequence-lost: lost\n  hint: a new key\n  in 1 packet, 84 B, last 5s ago; out 0 packets, 0 B\n";
    assert_eq!(Table(&status).to_string(), text);
    assert!(!status.is_fine(None), "what is not there is not fine");
    (status.manual[0].cause, status.manual[0].held) = (None, true);
    assert!(Table(&status).to_string().contains("== 10.1.0.0/16, held down by you\n"), "{}", Table(&status));
    assert!(status.is_fine(None) && !status.is_fine(Some("sa/0x00002001")), "by intent, and not up");
    assert!(status.narrow("sa") && status.narrow("sa/0x00002001") && !status.narrow("sa/0x00003001"));
}

#[test]
fn of_several_peers_it_says_first_how_many_are_in_which_state() {
    let away = |peer: &mut PeerStatus| {
        (peer.state, peer.ike) = (PeerState::Error, None);
        peer.children[0].state = "down".into();
    };
    let table = |peers| Table(&status(peers)).to_string();
    let text = table(vec![peer(|_| {}), peer(away), peer(|_| {})]);
    let lines = "portcullis 1, up 1m10s\npeers 3: 2 connected, 1 error; children 3: 2 up, 1 down\n\ncloud  connected";
    assert!(text.starts_with(lines), "{text}");
    let text = table(vec![peer(|_| {}), peer(|_| {})]);
    assert!(text.contains("peers 2: 2 connected; children 2: 2 up\n"), "{text}");
    assert!(!shown(|_| {}).contains("peers"), "one can be counted");
}

#[test]
fn counters_are_shown_as_they_are_given_also_those_at_zero_and_say_what_they_mean() {
    let mut status = status(vec![peer(|_| {})]);
    assert!(!Table(&status).to_string().contains("counters"));
    status.counters = [("InClear".to_owned(), 0), ("OutNoSa".to_owned(), 12)].into();
    let lines = "\ncounters\n  InClear                                   0\n  OutNoSa                                  12  \
                 waited in vain for an SA\n";
    assert!(Table(&status).to_string().ends_with(lines), "{}", Table(&status));
    status.boundary.put_back = 1;
    assert!(Table(&status).to_string().contains("\nboundary: 1 thing removed by others and put back\n"));
}

#[test]
fn f_71_a_child_that_is_up_for_less_than_configured_says_so_at_its_line_and_is_fine() {
    let cause = |code: &str| Cause { code: code.into(), text: "less".into(), hint: "look".into() };
    let change = |peer: &mut PeerStatus| peer.children[0].cause = Some(cause("narrowed"));
    let told = shown(change);
    let line = "ends in 1h05m if that fails\n                     narrowed: less\n                     hint: look\n";
    assert!(told.contains(line), "{told}");
    assert!(status(vec![peer(change)]).is_fine(None));
    let twice = shown(|peer| {
        (peer.cause, peer.children[0].cause) = (Some(cause("not-covered")), Some(cause("not-covered")));
    });
    assert_eq!(twice.matches("not-covered").count(), 1, "{twice}");
}

#[test]
fn f_79_who_called_stays_the_same_whoever_rekeyed_the_ike_sa_since() {
    for called in [true, false] {
        for initiator in [true, false] {
            let text = shown(|peer| {
                let ike = peer.ike.as_mut().unwrap();
                (ike.called, ike.initiator) = (called, initiator);
            });
            let who = if called { ", called by us\n" } else { ", called by the peer\n" };
            assert!(text.contains(who), "{text}");
        }
    }
}

#[test]
fn f_79_that_the_one_who_is_called_is_away_shows_whoever_else_is_there() {
    let away = shown(|peer| {
        (peer.state, peer.retry_ms) = (PeerState::Disconnected, Some(4100));
        peer.cause = Some(Cause { code: "peer-silent".into(), text: "no answer".into(), hint: String::new() });
    });
    let lines = "\n       who is called is not there, next try in 5s\n       peer-silent: no answer\n";
    assert!(away.contains("cloud  disconnected  192.0.2.1:4500") && away.contains(lines), "{away}");
    assert!(!shown(|_| {}).contains("is called"));
}

#[test]
fn f_79_what_is_wrong_with_a_child_stands_under_it_with_its_next_try() {
    let cause = |code: &str, hint: &str| Some(Cause { code: code.into(), text: "why".into(), hint: hint.into() });
    let table = shown(|peer| {
        let child = &mut peer.children[0];
        (child.spi_in, child.suite, child.rekey_s, child.expires_s) = (None, None, None, None);
        (child.cause, child.retry_ms, child.packets_in, child.packets_out) = (cause("refused", "do"), Some(2100), 0, 0);
        peer.cause = child.cause.clone();
    });
    let child = "10.2.0.0/16 == 10.1.0.0/16, next try in 3s\n                     refused: why\n                     hint: do\n";
    assert!(table.ends_with(child) && table.matches("refused").count() == 1, "{table}");
    let other = shown(|peer| (peer.cause, peer.children[0].cause) = (cause("unheard", ""), cause("refused", "")));
    assert!(
        other.contains("\n       unheard: why\n") && other.contains("\n                     refused: why\n"),
        "{other}"
    );
}

#[test]
fn f_79_what_is_held_and_away_is_no_failure_unless_the_peer_is_asked_for_by_name() {
    let fine = |change: fn(&mut PeerStatus)| {
        [None, Some("cloud"), Some("cloud/net")].map(|name| status(vec![peer(change)]).is_fine(name))
    };
    assert_eq!(fine(|_| {}), [true, true, true]);
    assert_eq!(fine(|peer| peer.state = PeerState::Disconnected), [false, false, false]);
    assert_eq!(fine(|peer| (peer.held, peer.state) = (true, PeerState::Disconnected)), [true, false, false]);
    assert_eq!(fine(|peer| peer.children[0].spi_in = None), [false, false, false]);
    assert_eq!(fine(|peer| (peer.children[0].held, peer.children[0].spi_in) = (true, None)), [true, true, false]);
}

#[test]
fn f_01_a_boundary_that_does_not_stand_is_a_failure_of_status_and_of_nobody_by_name() {
    let fine = |state: &str, guard: &str| {
        let mut status = status(vec![peer(|_| {})]);
        (status.boundary.state, status.boundary.guard) = (state.to_owned(), guard.to_owned());
        [None, Some("cloud")].map(|name| status.is_fine(name))
    };
    assert_eq!(fine("closed", "nftables"), [true, true]);
    assert_eq!(fine("weak", "none"), [false, true]);
    assert_eq!(fine("trouble", "nftables"), [false, true]);
    assert_eq!(fine("weak", "nftables"), [true, true], "everything to everything is for the operator's routes");
}

#[test]
fn f_79_what_the_operator_took_down_does_not_look_like_a_lost_peer() {
    let held = shown(|peer| {
        (peer.held, peer.ike, peer.state) = (true, None, PeerState::Disconnected);
    });
    assert!(held.contains("disconnected  held down by you: `portcullis up cloud` ends that"), "{held}");
    assert!(shown(|peer| peer.children[0].held = true).contains("held down by you"));
    let by_a_packet = shown(|peer| {
        (peer.held, peer.ike, peer.state, peer.start) = (true, None, PeerState::Disconnected, "on-demand".to_owned());
    });
    assert!(by_a_packet.contains("`portcullis up cloud`, or a packet for it, ends that"), "{by_a_packet}");
    let by_the_peer = shown(|peer| peer.held = true);
    assert!(by_the_peer.contains("\n       held down by you, and connected by the peer\n"), "{by_the_peer}");
}

#[test]
fn f_83_what_was_discarded_stands_beside_the_rule_that_did_it_or_under_its_reason() {
    let deny = Flow {
        direction: "out".into(),
        action: "discard".into(),
        priority: 100,
        hits: Some(3),
        last_s: Some(2),
        from: "10.2.0.0/16".into(),
        to: "10.9.0.0/16".into(),
        ..Flow::default()
    };
    let discarded =
        |direction: &str, reason: &str| Discarded { direction: direction.into(), reason: reason.into(), packets: 5 };
    let discards = vec![discarded("in", "InSelectors"), discarded("out", "OutNoPolicy")];
    let show = Show { spd: vec![deny], discards, sad: vec![], ike: vec![], accounts: vec![] };
    assert_eq!(
        Databases(&show, Some(What::Spd)).to_string(),
        "flow esp out from 10.2.0.0/16 to 10.9.0.0/16 type deny priority 100 packets 3 last 2s ago\n\
         drop in InSelectors packets 5\ndrop out OutNoPolicy packets 5\n"
    );
    assert!(Databases(&show, None).to_string().contains("\n\nDISCARDED:\ndrop in InSelectors packets 5\n"));
}

#[test]
fn flows_and_sas_look_like_those_of_ipsecctl() {
    let flow = |direction: &str, from: &str, to: &str| Flow {
        direction: direction.into(),
        action: "protect".into(),
        level: Some("require".into()),
        priority: 1000,
        hits: (direction == "out").then_some(7),
        last_s: (direction == "out").then_some(64),
        from: from.into(),
        to: to.into(),
        child: Some("cloud/net".into()),
        peer: Some("192.0.2.1".into()),
        local_id: Some("FQDN/right.lab".into()),
        remote_id: Some("FQDN/left.lab".into()),
        ..Flow::default()
    };
    let sa = Sa {
        child: "cloud/net".into(),
        direction: "in".into(),
        mode: "tunnel".into(),
        from: "192.0.2.1".into(),
        to: "192.0.2.2".into(),
        spi: "0x0000beef".into(),
        suite: "aes256gcm16-esn".into(),
        esn: true,
        encap: "esp".into(),
        local_ts: vec!["10.2.0.0/16".into()],
        remote_ts: vec!["10.1.7.0/24".into(), "10.1.9.0/24".into()],
        bytes: 84,
        packets: 1,
        ..Sa::default()
    };
    let show = Show {
        spd: vec![flow("in", "10.1.0.0/16", "10.2.0.0/16"), flow("out", "10.2.0.0/16", "10.1.0.0/16")],
        discards: vec![],
        sad: vec![sa],
        ike: vec![],
        accounts: vec![Entry {
            peer: "cloud".into(),
            child: "net".into(),
            party: "left.lab".into(),
            bytes_in: 84,
            bytes_out: 2,
            packets_in: 1,
            packets_out: 3,
        }],
    };
    assert_eq!(
        Databases(&show, None).to_string(),
        "IKE:\nNo entries\n\n\
         FLOWS:\n\
         flow esp in from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.1 srcid FQDN/right.lab dstid FQDN/left.lab \
         type require child cloud/net\n\
         flow esp out from 10.2.0.0/16 to 10.1.0.0/16 peer 192.0.2.1 srcid FQDN/right.lab dstid FQDN/left.lab \
         type require child cloud/net packets 7 last 1m04s ago\n\n\
         SAD:\n\
         esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0x0000beef enc aes256gcm16-esn child cloud/net \
         for 10.2.0.0/16 == 10.1.7.0/24 10.1.9.0/24 packets 1 bytes 84\n\n\
         ACCOUNTS:\naccount cloud/net party left.lab in packets 1 bytes 84 out packets 3 bytes 2\n\n"
    );
    let none = Show { accounts: vec![], ..show.clone() };
    assert_eq!(Databases(&none, Some(What::Accounts)).to_string(), "No entries\n");
    assert!(!Databases(&none, None).to_string().contains("ACCOUNTS"));
    assert_eq!(Databases(&show, Some(What::Ike)).to_string(), "No entries\n");
}

#[test]
fn f_60_an_ike_sa_that_nobody_is_known_of_or_that_is_on_its_way_out_has_a_line_like_the_others() {
    let shown = |peer: Option<&str>, state: &str| {
        let ike = shown_ike(|ike| {
            if state == "connecting" {
                (ike.suite, ike.local_id, ike.age_s) = (String::new(), String::new(), 0);
            }
        });
        let ike = vec![ShownIke { peer: peer.map(str::to_owned), state: state.to_owned(), children: 1, ike }];
        Databases(&Show { spd: vec![], discards: vec![], sad: vec![], ike, accounts: vec![] }, Some(What::Ike))
            .to_string()
    };
    let ends = "from 192.0.2.2:4500 to 192.0.2.1:4500";
    let known = format!(
        "ike cloud responder aes256gcm16-prfsha384-x25519 {ends} srcid right.lab dstid left.lab spi 1 2 age 1m03s nat"
    );
    assert_eq!(shown(Some("cloud"), "established"), format!("{known}\n"));
    assert_eq!(shown(Some("cloud"), "closing"), format!("{known} closing\n"));
    let nobodys = format!("ike - responder - {ends} srcid - dstid left.lab spi 1 2 age 0s nat connecting\n");
    assert_eq!(shown(None, "connecting"), nobodys);
}

#[test]
fn f_71_show_marks_a_rule_that_no_sa_carries_whole_and_an_sa_that_another_one_replaced() {
    let flow: Flow = serde_json::from_str(
        r#"{"direction":"out","action":"protect","priority":1000,"hits":7,"last_s":null,"from":"10.2.0.0/16",
            "to":"10.1.0.0/16","child":"cloud/net","narrowed":true,"peer":null,"local_id":null,"remote_id":null}"#,
    )
    .unwrap();
    let net = |net: &str| vec![net.to_owned()];
    let sa = Sa { replaced: true, local_ts: net("10.2.0.0/16"), remote_ts: net("10.1.7.0/24"), ..Sa::default() };
    let shown =
        Databases(&Show { spd: vec![flow], discards: vec![], sad: vec![sa], ike: vec![], accounts: vec![] }, None)
            .to_string();
    assert!(shown.contains(" type require child cloud/net narrowed packets 7\n"), "{shown}");
    assert!(shown.contains(" for 10.2.0.0/16 == 10.1.7.0/24 replaced packets 0 bytes 0\n"), "{shown}");
}
