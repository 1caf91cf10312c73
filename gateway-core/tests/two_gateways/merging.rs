//! Of two of a kind one stays: what the one that goes knew, and when the next look comes.

use gateway_core::gateway::{Parts, What};
use ike_core::endpoint::IkeView;
use ipsec_core::net::Spi;

use crate::secs;
use crate::world::{Site, World, packet, parts, peer, second};

/// The peer has lost the SA with one of these SPIs, and talks through another one until that is closed as spare: what sends
/// through the lost one then finds out within three liveness intervals of 10 s, and not only at the next rekey.
fn heals_after_the_spare_one_is_closed(world: &mut World, lost: &[Spi]) {
    world.right.lose(|sa| lost.contains(&sa.spi));
    let since = world.now;
    while world.left.plane.inbound.sas().count() > 1 {
        let _ = world.send(true, &packet(1, 2, b"out"));
        world.send(false, &packet(2, 1, b"back")).unwrap();
        world.pass(secs(1));
        assert!(world.now.since(since) <= secs(60), "none was spare\n{}", world.story());
    }
    world.heals_within_30_s();
    assert_eq!(world.left.told(|what| *what == What::Waiting), 1, "{}", world.story());
}

fn spi(ike: &IkeView) -> u64 {
    if ike.initiator { ike.spi_local } else { ike.spi_remote }
}

#[test]
fn f_65_what_the_spare_connection_heard_counts_for_the_one_that_stays() {
    let mut called = [false; 2];
    for seed in 2..12 {
        let mut world = World::new("", "");
        // Whose number is higher is chance on both sides.
        world.left = Site::new(100 + seed, &peer(true, "dpd = \"10s\"", ""), 64);
        world.right = Site::new(seed, &peer(false, "dpd = \"0s\"", ""), 64);
        let mut world = world.start();
        assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
        let kept = world.left.endpoint.ike_sas().max_by_key(spi).unwrap();
        called[usize::from(kept.initiator)] = true;
        let of_kept = world.left.endpoint.child_sas().filter(|sa| sa.ike == kept.id);
        let lost: Vec<_> = of_kept.flat_map(|sa| [sa.spi_in, sa.spi_out]).collect();
        heals_after_the_spare_one_is_closed(&mut world, &lost);
    }
    assert_eq!(called, [true; 2], "whoever called for the one that stays");
}

#[test]
fn f_65_what_the_spare_sa_of_a_child_heard_counts_for_the_one_that_stays() {
    let left = peer(true, "start = \"passive\"\ndpd = \"10s\"", "");
    let mut world = World::new(&left, &peer(false, "dpd = \"0s\"", "")).start();
    let theirs = world.left.endpoint.child_sas().next().map(|sa| (sa.ike, sa.config)).unwrap();
    world.left.endpoint.create_child(world.now, theirs.0, theirs.1).unwrap();
    world.pass(secs(1));
    let spis = |sa: &ike_core::endpoint::ChildView<'_>| [sa.spi_in.min(sa.spi_out), sa.spi_in.max(sa.spi_out)];
    let lost = world.left.endpoint.child_sas().map(|sa| spis(&sa)).max().unwrap();
    assert_eq!(world.left.plane.inbound.sas().count(), 2, "{}", world.story());
    heals_after_the_spare_one_is_closed(&mut world, &lost);
}

#[test]
fn f_65_an_sa_that_the_peer_never_had_is_rekeyed_once_its_spare_one_is_closed_though_nothing_was_heard_on_either() {
    let left = peer(true, "start = \"passive\"\ndpd = \"10s\"", "");
    let mut world = World::new(&left, &peer(false, "dpd = \"0s\"", "")).start();
    let theirs = world.left.endpoint.child_sas().next().map(|sa| (sa.ike, sa.config)).unwrap();
    world.left.endpoint.create_child(world.now, theirs.0, theirs.1).unwrap();
    let spis = |sa: &ike_core::endpoint::ChildView<'_>| [sa.spi_in.min(sa.spi_out), sa.spi_in.max(sa.spi_out)];
    world.exchange();
    let lost = world.left.endpoint.child_sas().map(|sa| spis(&sa)).max().unwrap();
    world.right.lose(|sa| lost.contains(&sa.spi));
    for _ in 0..60 {
        let _ = world.send(true, &packet(1, 2, b"out"));
        world.pass(secs(1));
    }
    world.ping();
    assert_eq!(world.left.plane.inbound.sas().count(), 1, "{}", world.story());
}

#[test]
fn f_65_of_two_connections_that_are_to_stay_the_newest_one_is_shown_also_when_a_rekey_made_it() {
    for called in [true, false] {
        let mut world = World::new(&peer(true, "", ""), &peer(false, "", "")).start();
        assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
        world.pass(secs(2));
        let one = world.left.endpoint.ike_sas().find(|ike| ike.called == called).unwrap();
        world.left.endpoint.rekey_ike(world.now, one.id).unwrap();
        world.exchange();
        let newest = world.left.endpoint.ike_sas().max_by_key(|ike| ike.since).unwrap();
        assert_eq!((newest.called, newest.since), (called, Some(world.now)), "{}", world.story());
        let shown = world.left.gateway.status(&parts!(lent world.left)).next().unwrap().ike.map(|ike| ike.id);
        assert_eq!(shown, Some(newest.id), "called: {called}\n{}", world.story());
    }
}

#[test]
fn f_63_the_connection_that_was_made_anew_is_shown_and_stays_although_the_other_is_rekeyed_before_it_goes() {
    let mut above = false;
    for (seed, ours) in (2..5).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = World::new(&peer(true, "dpd = \"10m\"", ""), "");
        world.right = Site::new(seed, &peer(false, "start = \"passive\"\ndpd = \"10m\"", ""), 64);
        let mut world = world.start();
        let old = world.left.endpoint.ike_sas().next().unwrap();
        world.limit(true, &old, 20);
        // What was said in the right side's name has a number that its next request has again.
        let theirs = world.right.endpoint.ike_sas().next().unwrap();
        world.right.endpoint.check_liveness(world.now, theirs.id).unwrap();
        world.exchange();
        let due = world.left.endpoint.ike_sa(old.id).and_then(|ike| ike.reauthenticate_at).unwrap();
        world.pass(due.since(world.now));
        let anew = world.left.endpoint.ike_sas().find(|ike| ike.id != old.id).unwrap();
        world.pass(secs(2));
        let (site, id) = if ours { (&mut world.left, old.id) } else { (&mut world.right, theirs.id) };
        site.endpoint.rekey_ike(world.now, id).unwrap();
        world.exchange();
        let rekeyed = world.left.endpoint.ike_sas().filter(|ike| ike.since > anew.since).collect::<Vec<_>>();
        assert_eq!(rekeyed.len(), 1, "{}", world.story());
        above |= spi(&rekeyed[0]) > spi(&anew);
        let shown = world.left.gateway.status(&parts!(lent world.left)).next().unwrap().ike.map(|ike| ike.id);
        assert_eq!(shown, Some(anew.id), "rekeyed by us: {ours}\n{}", world.story());
        world.pass(secs(20));
        let left: Vec<_> = world.left.endpoint.ike_sas().map(|ike| ike.id).collect();
        assert_eq!(left, [anew.id], "rekeyed by us: {ours}\n{}", world.story());
        world.ping();
    }
    assert!(above, "the other one never was the one that the numbers keep");
}

/// Each side begins with another child, and ours is to come over to the connection that the peer called for. There is no
/// room for that at first, and nothing but the pause says when to ask again.
#[test]
fn f_60_a_child_that_could_not_even_be_asked_for_comes_over_after_a_pause() {
    let away = |left: bool| {
        let names = [("\"other\"", "\"away\""), (".lab", ".org"), ("10.1.", "10.5."), ("10.2.", "10.6.")];
        let text = peer(left, "start = \"passive\"", "");
        names.iter().fold(text, |text, (this, another)| text.replace(this, another))
    };
    let right = peer(false, "", "");
    let (head, net) = right.split_at(right.find("[[peer.child]]").unwrap());
    let right = head.to_owned() + &second(4, 3) + net + &away(false);
    let world = |seed| {
        let mut world = World::new("", "");
        world.left = Site::with_children(1, &(peer(true, "", "") + &second(3, 4) + &away(true)), 64, 3);
        world.right = Site::new(seed, &right, 64);
        let world = world.start();
        assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
        world
    };
    let ours_is_spare = |world: &World| !world.left.endpoint.ike_sas().max_by_key(spi).unwrap().initiator;
    // For as long as it takes, for nobody refused anything.
    for full in [2, 10, 30] {
        let mut world = (2..20).map(world).find(ours_is_spare).unwrap();
        world.pass(secs(9));
        world.left.gateway.up(world.now, "away", parts!(world.left)).unwrap();
        world.pass(secs(full));
        assert_eq!(world.left.endpoint.occupancy().child_sas, 3, "{}", world.story());
        world.left.gateway.down(world.now, "away", parts!(world.left)).unwrap();
        world.pass(secs(full.max(5)));
        assert_eq!(world.left.endpoint.ike_sas().count(), 1, "{}", world.story());
        assert_eq!(world.left.told(|what| *what == What::ChildDown), 1, "that of the other peer\n{}", world.story());
        world.ping();
    }
}
