//! What `[gateway]` says of all SAs.

use gateway_core::gateway::Parts;
use ipsec_core::error::Discard;

use crate::secs;
use crate::world::{Stopped, World, packet, parts, peer};

/// Both sides with settings of their own, connected, and rekeyed by the right one.
fn world([left, right]: [String; 2]) -> World {
    let mut world =
        World::new(&(left + &peer(true, "", "")), &(right + &peer(false, "start = \"passive\"", ""))).start();
    assert_eq!(world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)), Ok(Ok(())));
    world.pass(secs(60));
    world.ping();
    world
}

fn settings(relay_icmp: bool, check_checksums: bool) -> String {
    let word = |yes| if yes { "yes" } else { "no" };
    format!("[gateway]\nrelay-icmp = \"{}\"\ncheck-checksums = \"{}\"\n", word(relay_icmp), word(check_checksums))
}

#[test]
fn checksums_are_looked_at_where_check_checksums_says_so() {
    for checks in [false, true] {
        let mut world = world([settings(true, !checks), settings(true, checks)]);
        let mut damaged = packet(1, 2, b"damaged in the memory of the sender");
        damaged[26..28].copy_from_slice(&[0xab, 0xcd]);
        assert_eq!(world.send(true, &damaged), Ok(()));
        let dropped = world.right.plane.inbound.counters().get(Discard::InChecksum);
        assert_eq!((world.right.received.len(), dropped), if checks { (0, 1) } else { (1, 0) });
    }
}

#[test]
fn what_routers_say_goes_through_the_tunnel_unless_relay_icmp_says_otherwise_at_either_end() {
    // "Time exceeded" of a router that no selector has, about what the right side sent.
    let about = packet(2, 1, b"how far?");
    let mut message = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 198, 51, 100, 1];
    message.extend([10, 2, 0, 10, 11, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(&about[..28]);
    for (sender, receiver) in [(true, true), (true, false), (false, true)] {
        let mut world = world([settings(sender, false), settings(receiver, false)]);
        let sent = world.send(true, &message);
        assert_eq!(sent, if sender { Ok(()) } else { Err(Stopped::Discarded(Discard::OutNoPolicy)) });
        assert_eq!(world.right.received.len(), usize::from(sender && receiver), "{sender}, {receiver}");
    }
}
