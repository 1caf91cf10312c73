//! How what a child sends looks from outside.

use gateway_core::gateway::{Parts, What};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::engine::Verdict;

use crate::secs;
use crate::world::{World, config, packet, parts, peer};

/// Octets of ESP around a packet, and the DF bit before it.
fn sent(world: &mut World, left: bool) -> (usize, bool) {
    let (inner, site) = match left {
        true => (packet(1, 2, b"how long?"), &mut world.left),
        false => (packet(2, 1, b"how long?"), &mut world.right),
    };
    let Ok(Verdict::Protect(sa)) = site.plane.outbound.classify(world.now, &inner) else { panic!("no SA") };
    let mut bytes = vec![0; HEADROOM + 1400 + TAILROOM];
    let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
    let dont_fragment = site.plane.outbound.seal(world.now, sa, &mut packet).unwrap().dont_fragment;
    (packet.as_slice().len(), dont_fragment)
}

/// AES-GCM: SPI, number and IV before, the ICV behind.
const fn around(len: usize) -> usize {
    16 + (len + 2).next_multiple_of(4) + 16
}

#[test]
fn tfc_padding_and_df_of_a_child_are_those_of_all_its_sas_whoever_rekeys() {
    let (plain, padded) = ((around(37), true), (around(500), false));
    let left = peer(true, "", "tfc-padding = 500");
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", "df = \"set\"")).start();
    let told = |world: &World, padded| {
        let up = |what: &What| matches!(what, What::ChildUp { padded: told, .. } if *told == padded);
        (world.left.told(up), world.right.told(up))
    };
    for rekeys in 0..4 {
        if rekeys > 0 {
            let (now, site) = (world.now, if rekeys == 1 { &mut world.left } else { &mut world.right });
            assert_eq!(site.gateway.rekey(now, "other/net", false, parts!(site)), Ok(Ok(())));
            world.pass(secs(60));
        }
        assert_eq!([true, false].map(|left| sent(&mut world, left)), [padded, plain], "{rekeys}\n{}", world.story());
        assert_eq!((told(&world, true), told(&world, false)), ((rekeys + 1, 0), (0, rekeys + 1)));
    }
    let status = world.left.gateway.status(&parts!(lent world.left)).next().unwrap();
    assert!(status.children.iter().all(|child| child.sa.is_some_and(|sa| sa.padded)));
    // Another wish is for the next SA.
    let other = config(&left.replace("tfc-padding = 500", "df = \"set\""));
    world.left.gateway.reload(world.now, other, parts!(world.left)).1.unwrap();
    world.pass(secs(1));
    assert_eq!(sent(&mut world, true), padded);
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    world.pass(secs(60));
    assert_eq!(sent(&mut world, true), plain);
}
