//! How what was up ends, and what brings it back.

use gateway_core::gateway::{Parts, PeerState, What};
use gateway_core::plane::Half;
use gateway_core::policy::Outbound;
use ike_core::failure::Failure;
use ike_core::registry::ExchangeType;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::OutboundSlot;
use ipsec_core::sa::{Event, Reached};
use ipsec_core::spd::Hits;

use crate::secs;
use crate::world::{RIGHT, World, leak, parts, peer};

fn ends(world: &World) -> Vec<String> {
    let down = world.left.story.iter().filter(|report| report.what == What::ChildDown);
    down.filter_map(|report| report.cause.as_ref()).map(|cause| cause.code.to_string()).collect()
}

#[test]
fn f_72_a_child_that_ends_at_its_limit_is_told_as_expired() {
    let mut world = World::connected("", "");
    world.pass(secs(60));
    let sa = world.left.plane.outbound.sas().next().unwrap();
    let event = Event::HardLifetime { sa: sa.id, spi: sa.spi, reached: Reached::Bytes };
    world.left.tell(world.now, Half::Outbound, event);
    world.exchange();
    assert_eq!(ends(&world), ["expired"], "{}", world.story());
    // What is closed here later is told as that.
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    assert_eq!(ends(&world), ["expired", "closed-here"], "{}", world.story());
}

/// The engine that sends has room for one SA: the peer rekeys, and ours is still in its place when the new one may send.
#[test]
fn f_72_a_child_that_the_engine_has_no_room_for_is_told_as_that() {
    let right = peer(false, "start = \"passive\"", "");
    let mut world = World::new(&peer(true, "", ""), &right);
    world.left.plane.outbound =
        Outbound::new(RustCrypto, leak(64, || Hits::NONE), leak(1, || OutboundSlot::<RustCrypto>::EMPTY));
    let mut world = world.start();
    world.pass(secs(60));
    assert_eq!(world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)), Ok(Ok(())));
    world.exchange();
    world.pass(secs(30));
    assert_eq!(ends(&world).first().map(String::as_str), Some("not-installed"), "{}", world.story());
    world.ping();
}

#[test]
fn f_72_a_child_whose_peer_is_lost_while_it_is_deleted_at_its_limit_is_told_as_that() {
    let mut world = World::connected("", "dpd = \"0s\"");
    let sa = world.left.plane.outbound.sas().next().unwrap();
    let event = Event::HardLifetime { sa: sa.id, spi: sa.spi, reached: Reached::Bytes };
    world.cut = true;
    world.left.tell(world.now, Half::Outbound, event);
    world.pass(secs(60));
    assert_eq!(ends(&world), ["peer-lost"], "{}", world.story());
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
}

#[test]
fn f_25_a_nat_that_keeps_what_it_translated_to_does_not_keep_us_away_for_ever() {
    for (encap, somebody_says) in [("", false), ("encap = \"always\"", false), ("", true)] {
        let mut world = World::connected("dpd = \"3s\"", encap);
        world.ping();
        world.stale = [(500, world.now), (4500, world.now)].into();
        for _ in 0..300 {
            world.pass(secs(1));
            if somebody_says {
                world.say_unreachable(RIGHT);
            }
        }
        assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
        world.ping();
        assert!(world.stale.contains_key(&500), "each call at port 500 kept it there");
    }
}

#[test]
fn f_34_after_a_sleep_each_peer_is_asked_for_a_sign_of_life_at_once() {
    let mut world = World::connected("dpd = \"30s\"", "dpd = \"0s\"");
    world.pass(secs(1));
    // We sleep, and the peer gives us up.
    let (slept, given_up) = (world.now + secs(24), world.now);
    for ike in world.right.endpoint.ike_sas().collect::<Vec<_>>() {
        world.right.endpoint.abandon(given_up, ike.id, Failure::PeerSilent(ExchangeType::INFORMATIONAL)).unwrap();
    }
    world.now = slept;
    world.left.gateway.woke(world.now, parts!(world.left));
    world.pass(secs(22));
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "{}", world.story());
    world.ping();
}
