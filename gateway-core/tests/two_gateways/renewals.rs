//! Rekeys and children that one of several parties refuses, and when that is a reason to connect anew.

use gateway_core::gateway::{Parts, What};

use crate::secs;
use crate::three::{Three, party, refusing};
use crate::world::{World, parts, peer, second};

#[test]
fn f_61_rekeys_with_one_party_hide_none_that_another_one_refuses() {
    let mut three = refusing("dpd = \"0s\"", 1, 16);
    for round in 0..3 {
        let renewed = three.told(|what| *what == What::Renewing);
        assert_eq!(renewed, 0, "{round}\n{}", three.world.story());
        three.world.pass(secs(15));
        let world = &mut three.world;
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        world.exchange();
        three.beside(|world| world.pass(secs(8)));
    }
    let told = (three.told(|what| *what == What::RekeyFailed), three.told(|what| *what == What::Renewing));
    assert_eq!(told, (4, 1), "the last time over the new connection\n{}", three.world.story());
    assert_eq!(three.world.left.child("other", "net").1, 3, "b was rekeyed\n{}", three.world.story());
}

#[test]
fn f_61_what_one_party_refuses_puts_off_no_question_to_another() {
    let mut three = refusing("dpd = \"0s\"", 16, 1);
    three.beside(|world| world.pass(secs(12)));
    let rekey_b = |three: &mut Three| {
        let of_b = |sa: &ike_core::endpoint::ChildView<'_>| {
            sa.remote.iter().any(|remote| remote.addrs.contains("10.2.2.1".parse().unwrap()))
        };
        three.beside(|world| {
            let sa = world.left.endpoint.child_sas().find(of_b).unwrap().id;
            world.left.endpoint.rekey_child(world.now, sa).unwrap();
            world.exchange();
        });
    };
    for _ in 0..5 {
        rekey_b(&mut three);
        three.world.pass(secs(8));
    }
    assert_eq!(three.told(|what| *what == What::RekeyFailed), 5, "{}", three.world.story());
    three.world.right.gateway.down(three.world.now, "other/net", parts!(three.world.right)).unwrap();
    three.world.exchange();
    assert!(!three.world.right.child("other", "net").2, "{}", three.world.story());
    rekey_b(&mut three);
    assert_eq!(three.told(|what| *what == What::RekeyFailed), 6, "{}", three.world.story());
    three.world.pass(secs(5));
    assert!(three.world.right.child("other", "net").2, "{}", three.world.story());
}

/// Keys of the first child need no agreement about key exchanges: what was up with a party, and is refused now, comes back
/// with a new connection.
#[test]
fn f_61_a_child_that_another_party_has_comes_back_with_a_new_connection() {
    let left = peer(true, "", "esp = \"aes256gcm16\"");
    let a = party(2, "start = \"passive\"", ("a.lab", 1), "esp = \"aes256gcm16-ecp256\"", 16);
    let mut three = Three::calling(&left, a, party(3, "", ("b.lab", 2), "esp = \"aes256gcm16\"", 16));
    assert_eq!(three.world.left.plane.outbound.sas().count(), 2, "{}", three.world.story());
    three.world.pass(secs(12));
    let world = &mut three.world;
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    assert!(!world.right.child("other", "net").2, "{}", world.story());
    world.pass(secs(15));
    assert!(world.right.child("other", "net").2, "{}", world.story());
}

/// Of two connections one stays, and is refused the child that only the other one carries.
#[test]
fn f_61_a_child_that_is_up_is_no_reason_to_connect_anew_where_it_is_asked_for_too() {
    let (ours, theirs) = ("esp = \"aes256gcm16\"\n", "esp = \"aes256gcm16-ecp256\"\n");
    let left = peer(true, "", ours) + &second(3, 4) + ours;
    let right = peer(false, "", theirs);
    let (head, net) = right.split_at(right.find("[[peer.child]]").unwrap());
    let mut world = World::new(&left, &(head.to_owned() + &second(4, 3) + theirs + net)).start();
    assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
    world.pass(secs(30));
    for site in [&world.left, &world.right] {
        assert_eq!(site.told(|what| *what == What::Renewing), 0, "{}", world.story());
    }
    let failed =
        world.left.told(|what| *what == What::ChildFailed) + world.right.told(|what| *what == What::ChildFailed);
    assert!(failed > 0, "{}", world.story());
}

#[test]
fn f_61_a_child_that_only_another_party_had_is_no_reason_to_connect_anew() {
    let two = |net: u8, far: u8, esp: &str| "\n".to_owned() + &second(net, far) + &format!("esp = \"{esp}\"\n");
    let left = peer(true, "", "") + &two(3, 4, "aes128gcm16");
    let a = party(2, "start = \"passive\"", ("a.lab", 1), &two(4, 3, "aes256gcm16"), 16);
    let b = party(3, "", ("b.lab", 2), &two(4, 3, "aes128gcm16"), 16);
    let mut three = Three::calling(&left, a, b);
    three.beside(|world| world.pass(secs(3)));
    assert!(three.b.child("other", "two").2, "{}", three.world.story());
    for _ in 0..20 {
        three.world.pass(secs(5));
        three.beside(|world| world.pass(secs(1)));
    }
    assert!(three.told(|what| *what == What::ChildFailed) > 2, "{}", three.world.story());
    assert_eq!(three.told(|what| *what == What::Renewing), 0, "{}", three.world.story());
}
