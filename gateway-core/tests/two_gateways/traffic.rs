//! Packets through a connection, and through the rekeys of it.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::gateway::{Parts, PeerState, Totals, What};
use gateway_core::plane::Half;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::Verdict;
use ipsec_core::error::Discard;
use ipsec_core::net::Path;

use crate::refusals::down;
use crate::world::{Stopped, World, config, packet, parts, peer};
use crate::{secs, up};

#[test]
fn packets_flow_both_ways_and_are_counted() {
    let mut world = World::connected("", "");
    world.ping();
    world.ping();
    let (totals, rekeys, _) = world.left.child("other", "net");
    assert_eq!((totals.bytes_in, totals.bytes_out, totals.packets_in, totals.packets_out, rekeys), (64, 64, 2, 2, 0));
    assert_eq!(world.left.state("other"), (PeerState::Connected, None));
    let story: Vec<_> = world.left.story.iter().map(ToString::to_string).collect();
    assert_eq!(story[0], "other: connecting to 192.0.2.2:500");
    assert_eq!(story[1], "other: connected, the peer is authenticated");
    assert!(story[2].starts_with("other/net: up, ESP aes256gcm16-esn, SPI in 0x"), "{}", story[2]);
    assert_eq!(story.len(), 3);
}

#[test]
fn what_no_rule_wants_is_discarded_and_what_is_bypassed_stays_clear() {
    let ssh = "[[policy]]\naction = \"bypass\"\nprotocol = \"udp\"\nremote-port = \"5001\"\nremote = \"10.7.0.0/16\"\n";
    let mut world = World::new(&(peer(true, "", "") + ssh), &peer(false, "start = \"passive\"", "")).start();
    world.ping();
    assert_eq!(world.send(true, &packet(1, 7, b"clear")), Err(Stopped::Clear));
    assert_eq!(world.send(true, &packet(1, 8, b"none")), Err(Stopped::Discarded(Discard::OutNoPolicy)));
}

#[test]
fn e10_rekeys_lose_no_packet_and_the_totals_go_on() {
    let mut world =
        World::new(&peer(true, "", "rekey = \"60s\""), &peer(false, "start = \"passive\"", "rekey = \"90s\"")).start();
    for _ in 0..600 {
        world.ping();
        world.pass(secs(1));
    }
    let (totals, rekeys, up) = world.left.child("other", "net");
    assert!(up && rekeys >= 8, "{rekeys}\n{}", world.story());
    assert_eq!((totals.packets_in, totals.packets_out), (600, 600));
    assert_eq!(world.right.child("other", "net").0.packets_in, 600);
    // Old SAs are gone from the engines.
    assert!(world.left.plane.inbound.sas().count() <= 2 && world.left.plane.outbound.sas().count() <= 2);
}

/// The DF bit that a packet of the left side's gets outside.
pub(crate) fn df(world: &mut World) -> bool {
    let (now, inner, engine) = (world.now, packet(1, 2, b"how"), &mut world.left.plane.outbound);
    let Ok(Verdict::Protect(sa)) = engine.classify(now, &inner) else { panic!("there is no SA") };
    let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
    engine.seal(now, sa, &mut PacketBuf::with_payload(&mut bytes, &inner).unwrap()).unwrap().dont_fragment
}

#[test]
fn the_df_bit_is_the_child_s_whoever_asked_for_its_sa() {
    for (ours, theirs) in [("60s", "1h"), ("1h", "60s")] {
        for (word, set) in [("clear", false), ("set", true)] {
            let child = format!("rekey = \"{ours}\"\ndf = \"{word}\"");
            let right = peer(false, "start = \"passive\"", &format!("rekey = \"{theirs}\""));
            let mut world = World::new(&peer(true, "", &child), &right).start();
            assert_eq!(df(&mut world), set, "{word}");
            for _ in 0..100 {
                world.ping();
                world.pass(secs(1));
            }
            assert!(world.left.child("other", "net").1 > 0, "it was rekeyed");
            assert_eq!(df(&mut world), set, "{word}");
        }
    }
}

/// What a router on the left side says of a packet that came out of the tunnel.
fn hop_limit_ran_out() -> Vec<u8> {
    let quoted = packet(2, 1, b"on its way");
    let mut error =
        vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 192, 168, 9, 9, 10, 2, 0, 10, 11, 0, 0, 0, 0, 0, 0, 0];
    error.extend(&quoted[..28]);
    error
}

#[test]
fn icmp_errors_of_routers_go_through_a_tunnel_unless_either_side_is_told_otherwise() {
    let error = hop_limit_ran_out();
    for (left, right, passes) in [("yes", "yes", true), ("yes", "no", false), ("no", "yes", false)] {
        let setting = |word: &str| format!("[gateway]\nrelay-icmp = \"{word}\"\n");
        let right_side = peer(false, "start = \"passive\"", "");
        let mut world = World::new(&(setting(left) + &peer(true, "", "")), &(setting(right) + &right_side)).start();
        let sent = world.send(true, &error);
        let expected = if left == "yes" { Ok(()) } else { Err(Stopped::Discarded(Discard::OutNoPolicy)) };
        assert_eq!(sent, expected, "{left}, {right}");
        assert_eq!(world.right.received.contains(&error), passes, "{left}, {right}");
        world.right.received.clear();
        world.ping();
    }
}

#[test]
fn b19_what_was_damaged_before_esp_is_discarded_where_that_is_looked_at() {
    let mut damaged = packet(1, 2, b"damaged");
    damaged[26] = 0xff;
    for (word, passes) in [("no", true), ("yes", false)] {
        let right = format!("[gateway]\ncheck-checksums = \"{word}\"\n") + &peer(false, "start = \"passive\"", "");
        let mut world = World::new(&peer(true, "", ""), &right).start();
        assert_eq!(world.send(true, &damaged), Ok(()));
        assert_eq!(world.right.received.contains(&damaged), passes, "{word}");
        assert_eq!(world.right.plane.inbound.counters().get(Discard::InChecksum), u64::from(!passes));
        world.right.received.clear();
        world.ping();
    }
}

#[test]
fn c7_over_all_rekeys_the_octets_of_a_connection_are_those_that_went() {
    let child = "rekey = \"60s\"";
    let mut world = World::new(&peer(true, "", child), &peer(false, "start = \"passive\"", child)).start();
    let mut sent = Totals::default();
    for round in 0..400_usize {
        let (out, back) = (packet(1, 2, &vec![1; round % 97]), packet(2, 1, &vec![2; round % 89]));
        assert_eq!((world.send(true, &out), world.send(false, &back)), (Ok(()), Ok(())), "{}", world.story());
        assert_eq!((world.right.received.pop(), world.left.received.pop()), (Some(out.clone()), Some(back.clone())));
        sent.bytes_out += out.len() as u64;
        sent.bytes_in += back.len() as u64;
        sent.packets_out += 1;
        sent.packets_in += 1;
        // As packets went, and whatever of the SAs is new, is draining or gone.
        let accounts = world.left.gateway.accounts(&world.left.plane);
        assert_eq!(accounts.values().copied().collect::<Vec<_>>(), [sent], "round {round}\n{}", world.story());
        world.pass(secs(1));
    }
    let (totals, rekeys, up) = world.left.child("other", "net");
    assert!(up && rekeys >= 5, "{rekeys}\n{}", world.story());
    assert_eq!(totals, sent);
    let mirrored = Totals {
        bytes_in: sent.bytes_out,
        bytes_out: sent.bytes_in,
        packets_in: sent.packets_out,
        packets_out: sent.packets_in,
    };
    let accounts = world.right.gateway.accounts(&world.right.plane);
    assert_eq!(accounts.into_values().collect::<Vec<_>>(), [mirrored]);
}

#[test]
fn an_amount_of_data_makes_a_rekey_too() {
    let limit = "rekey-packets = 1000";
    let mut world = World::new(&peer(true, "", limit), &peer(false, "start = \"passive\"", "")).start();
    for _ in 0..2500 {
        world.ping();
    }
    let (totals, rekeys, _) = world.left.child("other", "net");
    assert_eq!(totals.packets_out, 2500);
    assert!((2..=3).contains(&rekeys), "{rekeys}");
}

#[test]
fn what_cannot_be_rekeyed_ends_at_its_hard_limit() {
    let limit = "rekey-packets = 1000";
    let mut world = World::new(&peer(true, "", limit), &peer(false, "start = \"passive\"", "")).start();
    world.deaf = true;
    let sent = (0..2000).take_while(|_| world.send(true, &packet(1, 2, b"x")).is_ok()).count();
    assert_eq!(sent, 1250);
    assert_eq!(world.left.child("other", "net").0.packets_out, 1250);
}

#[test]
fn octets_that_pass_before_a_rekey_is_answered_cost_no_packet() {
    let limit = "rekey-bytes = \"1MB\"";
    let mut world = World::new(&peer(true, "", limit), &peer(false, "start = \"passive\"", "")).start();
    // The first request is lost. A second of a line that carries twice the amount in that time.
    world.deaf = true;
    for count in 0..2000 {
        assert_eq!(world.send(true, &packet(1, 2, &[0; 1000])), Ok(()), "{count}");
        world.right.received.clear();
        world.pass(Duration::from_micros(500));
    }
    world.deaf = false;
    world.pass(secs(10));
    let (totals, rekeys, up) = world.left.child("other", "net");
    assert!(up && rekeys > 0, "{}", world.story());
    assert_eq!((totals.packets_out, world.left.told(down)), (2000, 0), "{}", world.story());
}

#[test]
fn the_peers_first_packet_on_a_new_sa_moves_ours_to_it_too() {
    let mut world = World::connected("", "");
    world.pass(secs(10));
    let old = world.left.plane.outbound.sas().next().unwrap().id;
    assert_eq!(world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)), Ok(Ok(())));
    assert!(world.step() && world.step(), "request and answer");
    let after = |world: &mut World| world.left.classify(&packet(1, 2, b"x"));
    assert_eq!(after(&mut world), Ok(Verdict::Protect(old)));
    // The Delete of the old SA is lost; packets say it too.
    world.deaf = true;
    world.send(false, &packet(2, 1, b"new")).unwrap();
    assert!(world.left.received.pop().is_some());
    let new = after(&mut world);
    assert!(matches!(new, Ok(Verdict::Protect(id)) if id != old), "{new:?}\n{}", world.story());
}

#[test]
fn an_ike_rekey_keeps_the_children() {
    let mut world = World::connected("", "");
    world.ping();
    assert_eq!(world.left.gateway.rekey(world.now, "other", true, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    world.pass(secs(60));
    world.ping();
    assert_eq!(world.left.told(|what| *what == What::Rekeyed), 1, "{}", world.story());
    assert_eq!(world.left.told(up), 1);
    assert_eq!(world.left.state("other").0, PeerState::Connected);
    // The children are closed with the new SA.
    assert_eq!(world.left.gateway.down(world.now, "other", parts!(world.left)), Ok(()));
    world.exchange();
    assert_eq!(world.right.plane.outbound.sas().count(), 0, "{}", world.story());
}

#[test]
fn traffic_is_a_sign_of_life() {
    let mut world = World::connected("dpd = \"20s\"", "dpd = \"20s\"");
    let before = world.messages;
    for _ in 0..120 {
        world.pass(secs(5));
        world.ping();
    }
    assert_eq!(world.messages, before, "nobody had to ask\n{}", world.story());
    world.pass(secs(120));
    assert!(world.messages > before, "without traffic somebody asks");
}

#[test]
fn d7_a_new_mapping_of_a_nat_is_followed_by_packets() {
    let mut world =
        World::new(&peer(true, "start = \"passive\"\nencap = \"always\"", ""), &peer(false, "encap = \"always\"", ""))
            .start();
    world.ping();
    world.mapping = Some(40_123);
    // The first packet from behind the NAT shows the new mapping; what goes back takes it.
    world.send(false, &packet(2, 1, b"I moved")).unwrap();
    assert!(world.left.received.pop().is_some());
    world.ping();
    let sas: Vec<_> = world.left.plane.outbound.sas().map(|sa| sa.path.remote.port()).collect();
    assert_eq!(sas, [40_123], "{}", world.story());
    assert_eq!(world.left.told(|what| matches!(what, What::Moved { remote } if remote.port() == 40_123)), 1);
    // And back again.
    world.mapping = None;
    world.send(false, &packet(2, 1, b"I am back")).unwrap();
    assert!(world.left.received.pop().is_some());
    world.ping();
    let sas: Vec<_> = world.left.plane.outbound.sas().map(|sa| sa.path.remote.port()).collect();
    assert_eq!(sas, [4500], "{}", world.story());
}

#[test]
fn d7_a_forged_packet_from_a_new_port_changes_nothing_and_a_genuine_one_moves_the_peer_and_is_told_and_counted() {
    let mut world =
        World::new(&peer(true, "start = \"passive\"\nencap = \"always\"", ""), &peer(false, "encap = \"always\"", ""))
            .start();
    world.ping();
    let moved = |world: &World| {
        let to: Vec<_> = world.left.plane.outbound.sas().map(|sa| sa.path.remote.port()).collect();
        let ikes: Vec<_> = world.left.endpoint.ike_sas().map(|ike| ike.path.remote.port()).collect();
        (to, ikes, world.left.told(|what| matches!(what, What::Moved { .. })), world.left.gateway.moves())
    };
    let home = (vec![4500], vec![4500], 0, 0);
    assert_eq!(moved(&world), home);
    let path = world.left.plane.inbound.sas().next().unwrap().path;
    let elsewhere = Path { remote: SocketAddr::new(path.remote.ip(), 40_123), ..path };

    // A message of the IKE SA by its numbers, which nobody can have written who has its keys.
    let ike = world.left.endpoint.ike_sas().next().unwrap();
    let spis = if ike.initiator { [ike.spi_local, ike.spi_remote] } else { [ike.spi_remote, ike.spi_local] };
    let flags = if ike.initiator { 0 } else { 8 };
    let head = [46, 0x20, 37, flags, 0, 0, 0, 2, 0, 0, 0, 80, 0, 0, 0, 52];
    let mut message = [&spis.map(u64::to_be_bytes).concat()[..], &head, &[7; 48]].concat();
    world.left.gateway.handle_datagram(world.now, elsewhere, &mut message, parts!(world.left));
    world.exchange();
    assert_eq!((world.left.gateway.discarded().forged, moved(&world)), (1, home.clone()));

    let sa = world.right.plane.outbound.sas().next().unwrap().id;
    let mut bytes = [0; 300];
    let mut sealed = PacketBuf::with_payload(&mut bytes, &packet(2, 1, b"I moved")).unwrap();
    world.right.plane.outbound.seal(world.now, sa, &mut sealed).unwrap();
    for genuine in [false, true] {
        let mut octets = sealed.as_slice().to_vec();
        let last = octets.len() - 1;
        octets[last] ^= u8::from(!genuine);
        let mut arrived = PacketBuf::new(&mut octets, 0, last + 1).unwrap();
        let opened = world.left.plane.inbound.open(world.now, elsewhere, Ecn::NotEct, &mut arrived);
        assert_eq!(opened.is_ok(), genuine);
        while let Some(event) = world.left.plane.inbound.poll_event() {
            world.left.tell(world.now, Half::Inbound, event);
        }
        world.mapping = genuine.then_some(40_123);
        world.exchange();
        let followed = (vec![40_123], vec![40_123], 1, 1);
        assert_eq!(moved(&world), if genuine { followed } else { home.clone() }, "{}", world.story());
    }
    world.ping();
}

#[test]
fn b9_ssh_is_in_clear_and_all_else_protected_in_the_order_of_priorities() {
    let with = |ssh: u32| {
        let policy = |port: &str, more: &str| {
            format!("[[policy]]\naction = \"bypass\"\nprotocol = \"tcp\"\n{port} = \"22\"\npriority = {ssh}\n{more}")
        };
        peer(true, "", "") + &policy("remote-port", "") + &policy("local-port", "")
    };
    let tcp = |from: u16, to: u16| {
        let mut segment = packet(1, 2, &[0; 12]);
        segment[9] = 6;
        segment[20..24].copy_from_slice(&[from.to_be_bytes(), to.to_be_bytes()].concat());
        segment
    };
    let mut world = World::connected("", "");
    // setkey's `prio def + 100` stands before what is protected, `def - 100` behind it.
    for (priority, clear) in [(900, true), (1100, false)] {
        world.left.gateway.reload(world.now, config(&with(priority)), parts!(world.left)).1.unwrap();
        for (from, to) in [(40_000, 22), (22, 40_000)] {
            let verdict = world.left.classify(&tcp(from, to)).unwrap();
            assert_eq!(verdict == Verdict::Clear, clear, "{from} to {to} at {priority}");
        }
        assert!(matches!(world.left.classify(&tcp(40_000, 23)), Ok(Verdict::Protect(_))), "telnet at {priority}");
        assert!(matches!(world.left.classify(&packet(1, 2, b"udp")), Ok(Verdict::Protect(_))));
    }
}
