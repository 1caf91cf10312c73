//! Many parties that share what is configured for one peer: what one of them does costs nothing for the sake of the others.

use gateway_core::gateway::{Parts, What};
use ike_core::endpoint::SaState;

use crate::world::{Site, Stopped, World, packet, parts, peer};

/// The newest party rekeys its child, or its IKE SA.
fn rekey(world: &mut World, ike: bool) {
    assert_eq!(world.right.gateway.rekey(world.now, "other", ike, parts!(world.right)), Ok(Ok(())));
    world.exchange();
}

/// How many SAs a gateway looks at beyond those that each event is about: when the last of so many parties connects, rekeys its
/// child and its IKE SA, and when that party goes. Of a packet for none of them it looks at as many.
fn looked(parties: usize) -> [u64; 5] {
    let left = peer(true, "start = \"passive\"", "")
        .replace("remote = \"192.0.2.2\"", "remote = \"any\"")
        .replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
    let party = |number: usize| {
        peer(false, "", "")
            .replace("local-id = \"right.lab\"", &format!("local-id = \"p{number}.lab\""))
            .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"10.2.{number}.0/24\""))
    };
    let mut world = World::new("", &party(0));
    let room = 2 * parties + 4;
    world.left = Site::with_tables(1, &left, 64, [room; 3]);
    let mut world = world.start();
    let mut others = Vec::new();
    let mut looks = Vec::new();
    for number in 1..parties {
        // What each began with is replaced, and drains while others come.
        rekey(&mut world, false);
        rekey(&mut world, true);
        let next = Site::new(2 + number as u64, &party(number), 64);
        others.push(core::mem::replace(&mut world.right, next));
        let before = world.left.gateway.looked();
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        world.exchange();
        looks = vec![world.left.gateway.looked() - before];
    }
    let open = world.left.endpoint.ike_sas().filter(|ike| ike.state == SaState::Established).count();
    assert_eq!((open, world.left.plane.outbound.sas().count()), (parties, parties), "{}", world.story());
    let before = world.left.gateway.looked();
    let sent = world.send(true, &packet_to([10, 2, 200, 1]));
    assert!(matches!(sent, Err(Stopped::Acquire(_, false))), "nobody knows whose it is: {sent:?}");
    looks.push(world.left.gateway.looked() - before);
    let mut count = |world: &mut World, event: fn(&mut World)| {
        let before = world.left.gateway.looked();
        event(world);
        world.exchange();
        looks.push(world.left.gateway.looked() - before);
    };
    count(&mut world, |world| rekey(world, false));
    count(&mut world, |world| rekey(world, true));
    assert_eq!((world.right.told(|what| *what == What::Rekeyed), world.right.child("other", "net").1), (1, 1));
    count(&mut world, |world| world.right.gateway.shutdown(world.now, parts!(world.right)));
    assert_eq!(world.left.plane.outbound.sas().count(), parties - 1, "{}", world.story());
    looks.try_into().unwrap()
}

fn packet_to(host: [u8; 4]) -> Vec<u8> {
    let mut packet = packet(1, 2, b"for whom?");
    packet[16..20].copy_from_slice(&host);
    packet
}

#[test]
fn what_one_of_many_parties_does_has_a_gateway_look_at_nothing_of_the_others() {
    let (few, many) = (looked(3), looked(24));
    assert!(few.iter().all(|looks| *looks > 0), "{few:?}");
    assert_eq!(few, many);
}
