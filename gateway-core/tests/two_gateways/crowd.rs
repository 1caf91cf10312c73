//! Many peers in tables that have room for a rekey of each by both sides, and for no more.

use gateway_core::gateway::{Parts, What};

use crate::secs;
use crate::world::{Site, World, parts, peer};

const PEERS: usize = 8;
/// Room for two more SAs of each, and for as many as few have.
const TIGHT: usize = 3 * PEERS;
const WIDE: usize = 4 * PEERS;

/// Peers between the two addresses that only their names tell apart.
fn crowd(left: bool, start: &str) -> String {
    let named = |number: usize| {
        peer(left, start, "")
            .replace("\"other\"", &format!("\"p{number}\""))
            .replace("left.lab", &format!("left{number}.lab"))
            .replace("right.lab", &format!("right{number}.lab"))
            .replace("10.1.0.0/16", &format!("10.1.{number}.0/24"))
            .replace("10.2.0.0/16", &format!("10.2.{number}.0/24"))
    };
    (0..PEERS).map(named).collect()
}

fn rekey_all(world: &mut World, left: bool, ike: bool) {
    let site = if left { &mut world.left } else { &mut world.right };
    for number in 0..PEERS {
        let rekeyed = site.gateway.rekey(world.now, &format!("p{number}"), ike, parts!(site));
        assert_eq!(rekeyed, Ok(Ok(())), "p{number}");
    }
}

/// How many children were rekeyed so often, or are up.
fn having(site: &mut Site, wanted: impl Fn(u64, bool) -> bool) -> usize {
    let child = |number: &usize| {
        let (_, rekeys, up) = site.child(&format!("p{number}"), "net");
        wanted(rekeys, up)
    };
    (0..PEERS).filter(child).count()
}

#[test]
fn where_all_rekey_at_once_there_is_room_for_two_more_each_and_nobody_is_lost() {
    for room in [[TIGHT, TIGHT], [TIGHT, WIDE], [WIDE, TIGHT]] {
        for who in [[true, false], [false, true], [true, true]] {
            let mut world = World::new("", "");
            let site = |seed, left, start, children| {
                Site::with_tables(seed, &crowd(left, start), 64, [children, children, children])
            };
            world.left = site(1, true, "start = \"active\"", room[0]);
            world.right = site(2, false, "start = \"passive\"", room[1]);
            let mut world = world.start();
            world.pass(secs(30));
            for left in [true, false].into_iter().zip(who).filter_map(|(left, begins)| begins.then_some(left)) {
                rekey_all(&mut world, left, false);
                rekey_all(&mut world, left, true);
            }
            for second in 0..60 {
                world.pass(secs(1));
                let up = [&mut world.left, &mut world.right].map(|site| having(site, |_, up| up));
                assert_eq!(up, [PEERS; 2], "{room:?} {who:?} after {second} s\n{}", world.story());
            }
            let told = [&mut world.left, &mut world.right].map(|site| {
                let lost = site.told(|what| matches!(what, What::ChildDown | What::Closed));
                (having(site, |rekeys, _| rekeys > 0), site.told(|what| *what == What::Rekeyed) >= PEERS, lost)
            });
            assert_eq!(told, [(PEERS, true, 0); 2], "{room:?} {who:?}\n{}", world.story());
        }
    }
}
