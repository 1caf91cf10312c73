//! Configurations that are taken up while connections stand.

use gateway_core::config::PeerDiff;
use gateway_core::gateway::{Parts, Report, What};
use gateway_core::policy::Inbound;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{InboundSlot, Verdict};
use ipsec_core::error::Discard;
use ipsec_core::spd::Hits;

use crate::secs;
use crate::world::{Site, Stopped, World, config, leak, packet, parts, peer, second};

#[test]
fn b2_a_reload_adds_a_peer_and_touches_nothing_else() {
    let mut world = World::connected("", "");
    let spis = |world: &World| world.left.plane.outbound.sas().map(|sa| (sa.spi, sa.since)).collect::<Vec<_>>();
    let (before, messages) = (spis(&world), world.messages);
    let text = "[[peer]]\nname = \"third\"\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.99\"\nlocal-id = \"left.lab\"\n\
                remote-id = \"third.lab\"\npsk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"net\"\n\
                local-ts = \"10.1.0.0/16\"\nremote-ts = \"10.99.0.0/16\"\n";
    let third = text.to_string() + &peer(true, "", "");
    world.ping();
    let (diff, placed) = world.left.gateway.reload(world.now, config(&third), parts!(world.left));
    assert_eq!((diff.peers, placed), (vec![("third".to_string(), PeerDiff::Added)], Ok(())));
    world.ping();
    assert_eq!(spis(&world), before);
    assert!(matches!(world.left.classify(&packet(1, 99, b"x")), Ok(Verdict::Acquire(_))));
    assert!(world.story().contains("third: connecting to 192.0.2.99:500"));
    assert_eq!(world.messages, messages + 1, "only the new peer was called");
    // And removed again.
    let (diff, _) = world.left.gateway.reload(world.now, config(&peer(true, "", "")), parts!(world.left));
    assert_eq!(diff.peers, [("third".to_string(), PeerDiff::Removed)]);
    world.ping();
    world.pass(secs(300));
    world.ping();
    let third: Vec<_> = world.left.story.iter().filter(|report| report.peer.as_deref() == Some("third")).collect();
    assert_eq!(third.len(), 2, "called once, closed once\n{}", world.story());
    assert_eq!(world.left.classify(&packet(1, 99, b"x")), Err(Discard::OutNoPolicy));
    assert_eq!(spis(&world), before);
}

#[test]
fn b2_a_reload_renegotiates_only_the_child_that_changed() {
    let second = |net: u8, far: u8| {
        format!("[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.{net}.0.0/16\"\nremote-ts = \"10.{far}.0.0/16\"\n")
    };
    let mut world =
        World::new(&(peer(true, "", "") + &second(3, 4)), &(peer(false, "start = \"passive\"", "") + &second(4, 3)))
            .start();
    let spi = |world: &World| world.left.plane.outbound.sas().map(|sa| sa.spi).next().unwrap();
    let before = spi(&world);
    for (left, text) in
        [(false, peer(false, "start = \"passive\"", "") + &second(5, 3)), (true, peer(true, "", "") + &second(3, 5))]
    {
        let site = if left { &mut world.left } else { &mut world.right };
        site.gateway.reload(world.now, config(&text), parts!(site)).1.unwrap();
        world.exchange();
    }
    world.pass(secs(30));
    world.ping();
    assert_eq!(spi(&world), before, "{}", world.story());
    assert_eq!(world.send(true, &packet(3, 5, b"new")), Ok(()), "{}", world.story());
    assert_eq!(world.send(true, &packet(3, 4, b"old")), Err(Stopped::Discarded(Discard::OutNoPolicy)));
    assert_eq!(world.left.told(|what| *what == What::Closed), 0);
}

#[test]
fn b2_a_reload_deletes_the_child_that_is_gone() {
    let second = |net: u8, far: u8| {
        format!("[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.{net}.0.0/16\"\nremote-ts = \"10.{far}.0.0/16\"\n")
    };
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &right).start();
    assert!(world.right.child("other", "two").2);
    world.left.gateway.reload(world.now, config(&peer(true, "", "")), parts!(world.left)).1.unwrap();
    world.exchange();
    assert!(!world.right.child("other", "two").2, "{}", world.story());
    assert_eq!(world.left.gateway.status(&parts!(lent world.left)).map(|peer| peer.children.len()).sum::<usize>(), 1);
    world.ping();
}

#[test]
fn b2_a_new_key_connects_that_peer_anew() {
    let mut world = World::connected("", "");
    for left in [false, true] {
        let start = if left { "" } else { "start = \"passive\"\n" };
        let text = peer(left, &format!("{start}psk = \"a new key of more than twenty characters\""), "");
        let site = if left { &mut world.left } else { &mut world.right };
        site.gateway.reload(world.now, config(&text), parts!(site)).1.unwrap();
        world.exchange();
    }
    world.pass(secs(60));
    world.ping();
    assert_eq!(world.left.told(|what| matches!(what, What::Connected { .. })), 2, "{}", world.story());
}

#[test]
fn rules_that_do_not_fit_fail_closed() {
    let policies: String = (0..3)
        .map(|n| format!("[[policy]]\naction = \"bypass\"\nremote = \"10.{}.0.0/16\"\npriority = {n}\n", 50 + n))
        .collect();
    let mut world = World::with_rules(&(policies + &peer(true, "", "")), &peer(false, "", ""), 2);
    let placed = world.left.gateway.start(world.now, parts!(world.left));
    assert_eq!(placed.unwrap_err().code, "not-installed");
    assert_eq!(world.send(true, &packet(1, 50, b"x")), Err(Stopped::Clear));
    assert_eq!(world.send(true, &packet(1, 52, b"x")), Err(Stopped::Discarded(Discard::OutNoPolicy)));
    assert_eq!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Discarded(Discard::OutNoPolicy)));
}

#[test]
fn f_61_a_reload_during_a_renewal_begins_with_a_child_that_there_is() {
    let right = peer(false, "start = \"passive\"", "esp = \"aes256gcm16-modpnone\"");
    let before = peer(true, "", "esp = \"aes256gcm16-x25519\"\nrekey = \"1h\"\nlifetime = \"2h\"");
    let mut world = World::new(&before, &right).start();
    assert!(world.left.child("other", "net").2, "{}", world.story());
    world.pass(secs(20));
    let _ = world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap();
    while world.left.told(|what| *what == What::Renewing) == 0 {
        assert!(world.step(), "{}", world.story());
    }
    world.cut = true;
    world.pass(secs(90));
    let after = before.replace("aes256gcm16-x25519", "aes256gcm16-modpnone");
    world.left.gateway.reload(world.now, config(&after), parts!(world.left)).1.unwrap();
    world.cut = false;
    world.pass(secs(900));
    assert!(world.left.child("other", "net").2, "never reconnects\n{}", world.story());
}

/// Of the child: negotiated anew.
pub(crate) const OTHERS: &str = "esp = \"aes256gcm16-x25519\"";

#[test]
fn f_10_what_is_down_stays_down_through_a_reload() {
    let texts = [peer(true, "", OTHERS), peer(true, "encap = \"always\"", "")];
    for (name, text) in ["other/net", "other"].into_iter().zip(texts) {
        let mut world = World::connected("", "");
        world.left.gateway.down(world.now, name, parts!(world.left)).unwrap();
        world.pass(secs(20));
        let diff = world.left.gateway.reload(world.now, config(&text), parts!(world.left)).0;
        assert!(!diff.peers.is_empty());
        world.pass(secs(100));
        assert!(!world.left.child("other", "net").2, "{name} came back by itself\n{}", world.story());
        world.left.gateway.up(world.now, name, parts!(world.left)).unwrap();
        world.pass(secs(10));
        assert!(world.left.child("other", "net").2, "{name}\n{}", world.story());
    }
}

/// The reload comes while the peer does not answer yet, or is answering already; it changes the child, or the peer too.
#[test]
fn f_53_what_was_wished_for_and_not_there_yet_is_wished_for_through_a_reload() {
    let key = "psk = \"another key of more than twenty characters\"";
    let before = peer(true, "start = \"passive\"", "");
    for (lines, child, steps) in [("", OTHERS, 0), ("", OTHERS, 1), ("", OTHERS, 2), ("", OTHERS, 3), (key, "", 0)] {
        let right = peer(false, &format!("start = \"passive\"\n{lines}"), "");
        let mut world = World::new(&before, &right).start();
        world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
        (0..steps).for_each(|_| assert!(world.step()));
        world.cut = true;
        world.pass(secs(1));
        let after = peer(true, &format!("start = \"passive\"\n{lines}"), child);
        world.left.gateway.reload(world.now, config(&after), parts!(world.left)).1.unwrap();
        world.pass(secs(1));
        world.cut = false;
        world.pass(secs(60));
        assert!(world.left.child("other", "net").2, "{child:?} {lines:?} after {steps}\n{}", world.story());
        let refused = |report: &Report| report.cause.as_ref().is_some_and(|cause| cause.code == "ts-unacceptable");
        assert!(!world.left.story.iter().any(refused), "{}", world.story());
    }
}

/// What the peer called for, and what it wanted although it is down here.
#[test]
fn f_29_what_a_reload_changes_is_made_anew_at_once_whoever_wanted_it() {
    for (start, down) in [("passive", None), ("active", None), ("active", Some("other")), ("active", Some("other/net"))]
    {
        let mut world = World::connected("", "");
        if let Some(name) = down {
            world.right.gateway.down(world.now, name, parts!(world.right)).unwrap();
            world.pass(secs(40));
        }
        assert!(world.right.child("other", "net").2, "{}", world.story());
        let text = peer(false, &format!("start = \"{start}\""), OTHERS);
        let ups = |world: &World| world.right.told(|what| matches!(what, What::ChildUp { .. }));
        let before = ups(&world);
        world.right.gateway.reload(world.now, config(&text), parts!(world.right)).1.unwrap();
        world.exchange();
        assert!(world.right.child("other", "net").2, "{start} {down:?}\n{}", world.story());
        world.pass(secs(5));
        assert_eq!(ups(&world), before + 1, "{}", world.story());
    }
}

#[test]
fn f_29_a_peer_that_a_reload_replaces_is_called_again_where_we_had_called_it_and_for_what_was_up() {
    const KEY: &str = "psk = \"another key of more than twenty characters\"";
    let connecting = |site: &Site| site.told(|what| matches!(what, What::Connecting { .. }));
    for (start, lines) in [("on-demand", "encap = \"always\""), ("on-demand", KEY), ("passive", "encap = \"always\"")] {
        for down in [false, true] {
            let text = |lines: &str| peer(true, &format!("start = \"{start}\"\n{lines}"), "") + &second(3, 4);
            let right = |lines: &str| peer(false, &format!("start = \"passive\"\n{lines}"), "") + &second(4, 3);
            let mut world = World::new(&text(""), &right("")).start();
            match start {
                "passive" => world.left.gateway.up(world.now, "other/two", parts!(world.left)).unwrap(),
                _ => drop(world.send(true, &packet(3, 4, b"first"))),
            }
            world.exchange();
            assert!(world.left.child("other", "two").2 && !world.left.child("other", "net").2, "{}", world.story());
            if down {
                world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
            }
            world.pass(secs(20));
            if lines == KEY {
                world.right.gateway.reload(world.now, config(&right(lines)), parts!(world.right)).1.unwrap();
            }
            world.left.gateway.reload(world.now, config(&text(lines)), parts!(world.left)).1.unwrap();
            world.pass(secs(10));
            assert_eq!(connecting(&world.left), if down { 1 } else { 2 }, "{}", world.story());
            assert_eq!(world.left.child("other", "two").2, !down, "{start} {lines}\n{}", world.story());
            assert!(!world.left.child("other", "net").2, "{}", world.story());
            // Who was called waits.
            let other = right(if lines == KEY { "" } else { KEY });
            world.right.gateway.reload(world.now, config(&other), parts!(world.right)).1.unwrap();
            world.pass(secs(10));
            assert_eq!(connecting(&world.right), 0, "{}", world.story());
        }
    }
}

#[test]
fn f_31_rules_that_do_not_fit_are_told_at_each_reload() {
    let text = peer(true, "", "");
    let mut world = World::with_rules(&text, &peer(false, "start = \"passive\"", ""), 1).start();
    let more = text + &second(3, 4);
    let first = world.left.gateway.reload(world.now, config(&more), parts!(world.left)).1;
    let again = world.left.gateway.reload(world.now, config(&more), parts!(world.left)).1;
    assert!(first.is_err());
    assert!(again.is_err(), "the second reload says all is well");
}

#[test]
fn f_31_rules_that_do_not_fit_are_told_at_each_start() {
    let text = peer(true, "", "") + &second(3, 4);
    let mut world = World::with_rules(&text, "", 1);
    assert!(world.left.gateway.start(world.now, parts!(world.left)).is_err());
    assert!(world.left.gateway.start(world.now, parts!(world.left)).is_err(), "the second start says all is well");
}

#[test]
fn f_31_a_rule_that_fits_one_engine_only_is_in_neither() {
    let policies = |count: u8| -> String {
        (0..count)
            .map(|n| {
                let net = 50 + n;
                format!("[[policy]]\naction = \"bypass\"\nremote = \"10.{net}.0.0/16\"\npriority = {n}\n")
            })
            .collect()
    };
    let mut world = World::new(&policies(2), "");
    world.left.plane.inbound = Inbound::new(
        RustCrypto,
        leak(1, || Hits::NONE),
        leak(16, || InboundSlot::<RustCrypto>::EMPTY),
        leak(16 * 16, || 0),
    );
    assert!(world.left.gateway.start(world.now, parts!(world.left)).is_err());
    // Nobody wants the second one any more.
    assert!(world.left.gateway.reload(world.now, config(&policies(1)), parts!(world.left)).1.is_ok());
    assert_eq!(world.send(true, &packet(1, 50, b"x")), Err(Stopped::Clear));
    assert_eq!(world.send(true, &packet(1, 51, b"x")), Err(Stopped::Discarded(Discard::OutNoPolicy)));
}

#[test]
fn e1_the_level_of_a_child_changes_while_its_sas_go_on_and_decides_only_where_there_is_none() {
    let with = |level: &str| config(&peer(true, "", &format!("level = \"{level}\"\n")));
    let mut world = World::connected("", "");
    let spis = |world: &World| world.left.plane.outbound.sas().map(|sa| (sa.spi, sa.since)).collect::<Vec<_>>();
    let before = spis(&world);
    for level in ["use", "require", "use"] {
        world.left.gateway.reload(world.now, with(level), parts!(world.left)).1.unwrap();
        world.ping();
        assert!(matches!(world.left.classify(&packet(1, 2, b"x")), Ok(Verdict::Protect(_))), "{level}");
    }
    assert_eq!((spis(&world), world.left.plane.outbound.passed_clear()), (before, 0));
    // Without one it goes in clear, asks for one all the same, and is protected as soon as that is there.
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    assert_eq!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Clear));
    assert_eq!(world.left.plane.outbound.passed_clear(), 1);
    world.left.gateway.reload(world.now, with("require"), parts!(world.left)).1.unwrap();
    assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(..))));
    world.left.gateway.reload(world.now, with("use"), parts!(world.left)).1.unwrap();
    world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    world.ping();
    assert_eq!(world.left.plane.outbound.passed_clear(), 1);
}
