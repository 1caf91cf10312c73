//! What the operator is shown of connections that stand.

use std::net::SocketAddr;

use gateway_core::plane::Half;
use gateway_core::policy::policy_of;
use ike_core::event::IkeId;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::net::Path as Way;

use super::*;
use crate::control::protocol::{Flow, Show};

/// Where the daemon is called.
const OURS: &str = "192.0.2.2:500";

/// A peer at `192.0.2.N` that calls the daemon, known as `NAME.lab`.
struct Caller {
    endpoint: IkeEndpoint,
    at: SocketAddr,
}

impl Caller {
    /// With one child, `10.1.0.0/16` or a part of it to `10.2.0.0/16`.
    fn new(name: &str, number: u8, local: &str) -> Self {
        let text = format!(
            "[[peer]]\nname = \"gateway\"\nlocal = \"192.0.2.{number}\"\nlocal-id = \"{name}.lab\"\nremote = \"192.0.2.2\"\n\
             remote-id = \"right.lab\"\npsk = \"a key of more than twenty characters\"\n\
             [[peer.child]]\nname = \"net\"\nlocal-ts = [\"{local}\"]\nremote-ts = [\"10.2.0.0/16\"]\n"
        );
        let config = Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let capacity = Need::of(&config).capacity().unwrap();
        let mut peers = Gateway::new(config).1;
        let at = SocketAddr::new([192, 0, 2, number].into(), 500);
        let gateway = peers.named("gateway").unwrap();
        peers.set_path(gateway, at.ip(), [192, 0, 2, 2].into(), 500);
        let endpoint = endpoint_for(&capacity, peers, endpoint::Settings::default()).unwrap_or_else(|_| panic!());
        Self { endpoint, at }
    }

    fn call(&mut self, daemon: &Daemon) -> IkeId {
        let gateway = self.endpoint.pad().named("gateway").unwrap();
        self.endpoint.initiate(daemon.clock.now(), gateway, None).unwrap()
    }

    /// Messages go to and fro, until there is none or this one has had so many. Their number.
    fn talk(&mut self, daemon: &mut Daemon, most: usize) -> usize {
        let (ours, mut heard) = (OURS.parse().unwrap(), 0);
        loop {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                let mut message = transmit.datagram.to_vec();
                daemon.heard(Way { local: ours, remote: self.at }, &mut message);
            }
            while self.endpoint.poll_event().is_some() {}
            if heard == most {
                return heard;
            }
            let Some(transmit) = daemon.endpoint.poll_transmit() else { return heard };
            let mut message = transmit.datagram.to_vec();
            let path = Way { local: self.at, remote: ours };
            self.endpoint.handle_datagram(daemon.clock.now(), path, &mut message).unwrap();
            heard += 1;
        }
    }

    fn connect(&mut self, daemon: &mut Daemon) -> IkeId {
        let ike = self.call(daemon);
        self.talk(daemon, usize::MAX);
        ike
    }
}

/// A peer of the daemon: whoever has the key, or who proves to be `NAME.lab`.
fn peer(name: &str, remote_id: &str, remote_ts: &str) -> String {
    format!(
        "[[peer]]\nname = \"{name}\"\nlocal = \"any\"\nlocal-id = \"right.lab\"\nremote = \"any\"\nremote-id = \"{remote_id}\"\n\
         psk = \"a key of more than twenty characters\"\nstart = \"passive\"\n\
         [[peer.child]]\nname = \"net\"\nlocal-ts = [\"10.2.0.0/16\"]\nremote-ts = [\"{remote_ts}\"]\n"
    )
}

/// A packet from 10.2.0.5.
fn packet(to: [u8; 4]) -> Vec<u8> {
    let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5];
    [&head[..], &to, &[0, 7, 0, 9, 0, 8, 0, 0]].concat()
}

#[test]
fn f_60_show_lists_every_ike_sa_with_its_peer_those_of_further_parties_and_those_that_are_on_their_way_out_too() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon_of("every-ike-sa", &peer("cloud", "any", "10.1.0.0/16"));
        let mut one = Caller::new("one", 1, "10.1.0.0/16");
        let first = one.connect(&mut daemon);
        Caller::new("two", 3, "10.1.0.0/16").connect(&mut daemon);
        let shown = |show: Show| -> Vec<_> {
            let told = |id: String| id.trim_start_matches("FQDN/").to_owned();
            show.ike.into_iter().map(|sa| (sa.peer, sa.state, told(sa.ike.remote_id))).collect()
        };
        let sa = |peer: Option<&str>, state: &str, id: &str| (peer.map(str::to_owned), state.to_owned(), id.to_owned());
        let cloud = |state, id| sa(Some("cloud"), state, id);
        assert_eq!(shown(daemon.show()), [cloud("established", "one.lab"), cloud("established", "two.lab")]);

        // Until the peer deletes the old one.
        one.endpoint.rekey_ike(daemon.clock.now(), first).unwrap();
        one.talk(&mut daemon, 0);
        let renewed = shown(daemon.show());
        assert_eq!(renewed.len(), 3, "{renewed:?}");
        assert_eq!(renewed.iter().filter(|sa| sa.2 == "one.lab").count(), 2, "{renewed:?}");

        // Who has only said hello is nobody's yet.
        let mut three = Caller::new("three", 4, "10.1.0.0/16");
        three.call(&daemon);
        three.talk(&mut daemon, 0);
        assert_eq!(shown(daemon.show())[0], sa(None, "connecting", "any"));
        drop(inputs);
    });
}

#[test]
fn f_71_show_prints_what_was_negotiated_and_a_packet_for_the_rest_is_counted_at_once() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon_of("narrowed", &peer("cloud", "one.lab", "10.1.0.0/16"));
        let mut one = Caller::new("one", 1, "10.1.7.0/24");
        one.connect(&mut daemon);
        let show = daemon.show();
        for sa in &show.sad {
            assert_eq!(
                (&sa.local_ts[..], &sa.remote_ts[..]),
                (&["10.2.0.0/16".into()][..], &["10.1.7.0/24".into()][..])
            );
            assert_eq!((&sa.ike, sa.replaced), (&show.ike[0].ike.spi_local, false));
            assert_eq!(&sa.spi, if sa.direction == "in" { &sa.spi_in } else { &sa.spi_out });
        }
        assert_eq!(show.sad.len(), 2, "{:?}", show.sad);
        assert!(show.spd.iter().all(|flow| flow.narrowed), "{:?}", show.spd);

        let lost = |daemon: &mut Daemon| daemon.look().told().counters["OutNoSa"];
        let policy = policy_of(daemon.endpoint.pad().children().next().unwrap().0);
        // An SA for what is left out is asked for, and refused.
        daemon.acquire(Instant::now(), policy, packet([10, 1, 9, 9]));
        assert!(one.talk(&mut daemon, usize::MAX) > 0, "nobody asked for an SA");
        assert_eq!(lost(&mut daemon), 0, "it waits for the answer");
        daemon.acquire(Instant::now(), policy, packet([10, 1, 9, 9]));
        assert_eq!(lost(&mut daemon), 1);

        // What another one replaced receives what is on its way.
        let old = one.endpoint.child_sas().map(|child| child.id).next().unwrap();
        one.endpoint.rekey_child(daemon.clock.now(), old).unwrap();
        one.talk(&mut daemon, 1);
        let halves: Vec<_> = daemon.show().sad.into_iter().map(|sa| (sa.direction, sa.replaced)).collect();
        let half = |direction: &str, replaced| (direction.to_owned(), replaced);
        assert_eq!(halves, [half("in", true), half("in", false), half("out", false)]);
        drop(inputs);
    });
}

#[test]
fn f_71_a_rule_that_an_sa_carries_is_not_narrowed_and_neither_is_one_without() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon_of("whole", &peer("cloud", "one.lab", "10.1.0.0/16"));
        assert!(daemon.show().spd.iter().all(|flow| !flow.narrowed));
        Caller::new("one", 1, "10.1.0.0/16").connect(&mut daemon);
        assert_eq!(daemon.show().sad.len(), 2);
        assert!(daemon.show().spd.iter().all(|flow| !flow.narrowed));
        drop(inputs);
    });
}

#[test]
fn f_32_packets_go_on_while_a_status_is_put_into_words() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon_of("readable", &peer("cloud", "one.lab", "10.1.0.0/16"));
        Caller::new("one", 1, "10.1.0.0/16").connect(&mut daemon);
        let snapshot = daemon.look();
        // It ends only where nobody has them.
        let _engines = (daemon.plane.outbound(), daemon.plane.inbound());
        assert!(snapshot.told().peers[0].children[0].spi_in.is_some());
        drop(inputs);
    });
}

#[test]
fn what_an_sa_has_to_tell_after_a_packet_that_waited_is_heard_in_the_next_turn() {
    in_a_network_of_its_own(|| {
        let config = peer("cloud", "one.lab", "10.1.0.0/16") + "rekey-packets = 1000\n";
        let (mut daemon, inputs, _folder) = daemon_of("resumed", &config);
        Caller::new("one", 1, "10.1.0.0/16").connect(&mut daemon);
        daemon.settle();
        let due = |daemon: &Daemon| daemon.endpoint.child_sas().next().unwrap().rekey_due;
        assert!(!due(&daemon) && !daemon.plane.has_news());
        assert!((0..1000).all(|_| daemon.plane.resume(&packet([10, 1, 0, 9]))));
        assert!(daemon.plane.has_news() && daemon.patience().is_zero());
        daemon.settle();
        assert!(due(&daemon), "the child is to be rekeyed");
        assert!(!daemon.plane.has_news());
        drop(inputs);
    });
}

#[test]
fn f_32_packets_go_on_between_one_sa_and_the_next_and_between_some_rules_and_the_next_while_they_are_shown() {
    in_a_network_of_its_own(|| {
        let parties = [("one", 1), ("two", 3)];
        let peers = parties.map(|(name, number)| peer(name, &format!("{name}.lab"), &format!("10.1.{number}.0/24")));
        // Before the others, so that these stand behind many.
        let policy = |net: u8| format!("[[policy]]\naction = \"discard\"\nremote = \"10.77.{net}.0/24\"\n");
        let config = peers.concat() + &(0..100).map(policy).collect::<String>();
        let (mut daemon, inputs, _folder) = daemon_of("shown", &config);
        for (name, number) in parties {
            Caller::new(name, number, &format!("10.1.{number}.0/24")).connect(&mut daemon);
        }
        let (plane, now) = (Arc::clone(&daemon.plane), daemon.clock.now());
        let (mut sas, mut hits) = (daemon.engines.sas(Half::Outbound), daemon.engines.hits());
        assert_eq!((sas.next().unwrap().1.packets, hits.next().unwrap().outbound), (0, 0));
        // Would wait for ever, or come too late, if the engine were locked over all of them.
        let inner = packet([10, 1, 3, 9]);
        let mut buffer = [vec![0; HEADROOM], inner.clone(), vec![0; TAILROOM]].concat();
        let mut sealed = PacketBuf::new(&mut buffer, HEADROOM, inner.len()).unwrap();
        let mut engine = plane.outbound();
        let Ok(Verdict::Protect(sa)) = engine.classify(now, &inner) else { panic!("there is an SA") };
        engine.seal(now, sa, &mut sealed).unwrap();
        drop(engine);
        assert_eq!(sas.map(|(_, sa)| sa.packets).collect::<Vec<_>>(), [1]);
        let rules = daemon.gateway.rules().len();
        assert_eq!((rules, hits.take(rules - 1).map(|hits| hits.outbound).sum::<u64>()), (102, 1));
        drop(inputs);
    });
}

#[test]
fn f_32_packets_go_on_between_one_peer_and_the_next_while_a_status_is_made() {
    in_a_network_of_its_own(|| {
        let peers = ["one", "two"].map(|name| peer(name, &format!("{name}.lab"), "10.1.0.0/16")).concat();
        let peers = peers.replacen("10.1.0.0/16", "10.9.0.0/16", 1);
        let (mut daemon, inputs, _folder) = daemon_of("between", &peers);
        Caller::new("two", 3, "10.1.0.0/16").connect(&mut daemon);
        let (plane, now) = (Arc::clone(&daemon.plane), daemon.clock.now());
        let (gateway, parts) = daemon.lend();
        let mut shown = gateway.status(&parts);
        assert_eq!(shown.next().unwrap().name, "one");
        // Would wait for ever, or come too late, if the engines were locked over all of them.
        let inner = packet([10, 1, 0, 9]);
        let mut buffer = [vec![0; HEADROOM], inner.clone(), vec![0; TAILROOM]].concat();
        let mut sealed = PacketBuf::new(&mut buffer, HEADROOM, inner.len()).unwrap();
        let mut engine = plane.outbound();
        let Ok(Verdict::Protect(sa)) = engine.classify(now, &inner) else { panic!("there is an SA") };
        engine.seal(now, sa, &mut sealed).unwrap();
        drop(engine);
        assert_eq!(shown.next().unwrap().children[0].totals.packets_out, 1);
        drop(shown);
        drop(inputs);
    });
}

#[test]
fn what_goes_through_an_sa_that_stands_is_kept_while_it_does_and_shown_on_its_account() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, folder) = daemon_of("account", &peer("cloud", "any", "10.1.0.0/16"));
        Caller::new("one", 1, "10.1.0.0/16").connect(&mut daemon);
        let (plane, now, inner) = (Arc::clone(&daemon.plane), daemon.clock.now(), packet([10, 1, 0, 9]));
        let mut buffer = [vec![0; HEADROOM], inner.clone(), vec![0; TAILROOM]].concat();
        let mut sealed = PacketBuf::new(&mut buffer, HEADROOM, inner.len()).unwrap();
        let mut engine = plane.outbound();
        let Ok(Verdict::Protect(sa)) = engine.classify(now, &inner) else { panic!("there is an SA") };
        engine.seal(now, sa, &mut sealed).unwrap();
        drop(engine);
        let shown = daemon.show().accounts;
        let [account] = &shown[..] else { panic!("{shown:?}") };
        assert_eq!([&*account.peer, &account.child, &account.party], ["cloud", "net", "one.lab"]);
        assert_eq!((account.packets_out, account.bytes_out, account.packets_in), (1, 28, 0));
        let file = folder.0.join("state/accounts.jsonl");
        let kept = || fs::read_to_string(&file).unwrap_or_default();
        until(&mut daemon, &inputs, "kept", |_| !kept().is_empty());
        let kept = kept();
        let line = serde_json::to_string(account).unwrap();
        assert!(kept.lines().any(|kept| kept == line), "{line} in {kept}");
        assert!(daemon.books.due().is_some_and(|due| due > Instant::now()));
        drop(inputs);
    });
}

#[test]
fn e5_one_rule_is_shown_as_an_entry_for_each_direction_with_its_level_and_ends() {
    in_a_network_of_its_own(|| {
        let lax = peer("cloud", "one.lab", "10.1.0.0/16") + "level = \"use\"\n";
        let (mut daemon, inputs, _folder) = daemon_of("entries", &lax);
        let shown = |daemon: &mut Daemon| {
            let entries = daemon.show().spd.into_iter();
            let entry = |flow: Flow| {
                (
                    flow.direction,
                    flow.from,
                    flow.to,
                    flow.rule,
                    flow.level.unwrap(),
                    flow.local.unwrap(),
                    flow.peer.unwrap(),
                )
            };
            entries.map(entry).collect::<Vec<_>>()
        };
        let (ours, theirs) = ("10.2.0.0/16", "10.1.0.0/16");
        for ends in [["any", "any"], ["192.0.2.2", "192.0.2.1"]] {
            let expected =
                [("out", ours, theirs), ("in", theirs, ours), ("fwd", theirs, ours)].map(|(way, from, to)| {
                    let [way, from, to, local, remote] = [way, from, to, ends[0], ends[1]].map(str::to_owned);
                    (way, from, to, 0, "use".to_owned(), local, remote)
                });
            if ends[0] != "any" {
                Caller::new("one", 1, "10.1.0.0/16").connect(&mut daemon);
            }
            assert_eq!(shown(&mut daemon), expected);
        }
        drop(inputs);
    });
}
