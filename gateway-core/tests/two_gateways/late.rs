//! Whatever chance makes of data planes that answer late, twice, or that they do not take something.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::gateway::{Ended, Parts};
use gateway_core::plane::{Half, Pair};

use crate::chance::Chance;
use crate::recording::{Side, Two};
use crate::secs;
use crate::world::{config, parts, peer, second};

/// Something befalls one side.
fn befall(two: &mut Two, chance: &mut Chance, configurations: [&str; 2]) {
    let now = two.now;
    let left = chance.below(2) == 0;
    let side = if left { &mut two.left } else { &mut two.right };
    match chance.below(14) {
        0 => drop(side.gateway.rekey(now, "other", false, parts!(side))),
        1 => drop(side.gateway.rekey(now, "other", true, parts!(side))),
        2 => side.gateway.down(now, "other", parts!(side)).unwrap(),
        3 => side.gateway.up(now, "other", parts!(side)).unwrap(),
        4 => side.gateway.down(now, "other/net", parts!(side)).unwrap(),
        5 => side.gateway.up(now, "other/net", parts!(side)).unwrap(),
        6 => side.plane.refuses = Some(Half::Inbound),
        7 => side.plane.refuses = Some(Half::Outbound),
        8 | 9 => side.plane.refuses = None,
        10 => side.plane.carry(now, 10),
        11 => side.plane.later = !side.plane.later,
        12 => {
            let text = configurations[usize::try_from(chance.below(2)).unwrap()];
            two.left.gateway.reload(now, config(text), parts!(two.left)).1.unwrap();
        }
        _ => two.left.gateway.readdress(now, |_, _| false, parts!(two.left)),
    }
}

/// What was told of each pair once is what went through it.
fn accounts(side: &Side, ended: &[Ended], what: &str) {
    let mut told = BTreeMap::new();
    for ended in ended {
        assert!(told.insert(ended.pair, ended.totals).is_none(), "{what}: {:?} ended twice", ended.pair);
    }
    let mut carried: BTreeMap<Pair, [u64; 2]> = BTreeMap::new();
    for ((pair, half), usage) in &side.plane.gone {
        carried.entry(*pair).or_default()[usize::from(*half == Half::Outbound)] += usage.bytes;
    }
    for (pair, [bytes_in, bytes_out]) in carried {
        let Some(totals) = told.get(&pair) else {
            assert_eq!((bytes_in, bytes_out), (0, 0), "{what}: nobody told of {pair:?}");
            continue;
        };
        assert_eq!((totals.bytes_in, totals.bytes_out), (bytes_in, bytes_out), "{what}: {pair:?}");
    }
}

#[test]
fn whatever_planes_answer_and_whenever_nothing_is_left_over_and_all_is_accounted_for() {
    for seed in 0..60_u64 {
        let mut chance = Chance(seed * 104_729 + 11);
        let lines = "dpd = \"10s\"\nrekey = \"150s\"";
        let child = "rekey = \"60s\"\nlifetime = \"90s\"";
        let mode = chance.below(3);
        let theirs = if mode == 0 { format!("start = \"passive\"\n{lines}") } else { lines.into() };
        let two_of = |net, far| second(net, far) + child + "\n";
        let left = peer(true, lines, child) + &two_of(3, 4);
        let other = peer(true, lines, &format!("{child}\nesp = \"aes256gcm16-x25519\"")) + &two_of(3, 4);
        let mut two = Two::new(&left, &(peer(false, &theirs, child) + &two_of(4, 3)));
        two.left.plane.later = chance.below(4) > 0;
        two.right.plane.later = chance.below(4) > 0;
        for _ in 0..40 {
            befall(&mut two, &mut chance, [&left, &other]);
            for _ in 0..chance.below(12) {
                match chance.below(4) {
                    0 => drop(two.left.hear(two.now)),
                    1 => drop(two.right.hear(two.now)),
                    _ => {
                        let lost = chance.below(8) == 0;
                        two.step(lost);
                    }
                }
                // What was said may be said again.
                for side in [&mut two.left, &mut two.right] {
                    if chance.below(16) == 0
                        && let Some(answer) = side.plane.answers.front().cloned()
                    {
                        side.plane.answers.push_back(answer);
                    }
                    assert_eq!(side.endpoint.check(), Ok(()));
                    side.listen();
                }
            }
            match chance.below(3) {
                0 => {}
                1 => two.linger(Duration::from_millis(chance.below(20_000))),
                _ => two.pass(Duration::from_millis(chance.below(20_000))),
            }
        }
        for side in [&mut two.left, &mut two.right] {
            side.plane.refuses = None;
            side.gateway.up(two.now, "other", parts!(side)).unwrap();
        }
        two.pass(secs(20));
        for _ in 0..40 {
            two.left.plane.carry(two.now, 1);
            two.right.plane.carry(two.now, 1);
            two.pass(secs(10));
        }
        for side in [&mut two.left, &mut two.right] {
            let parts = parts!(side);
            let status = side.gateway.status(parts).next().unwrap();
            assert!(status.children.iter().all(|child| child.sa.is_some()), "seed {seed}: {:#?}", side.told());
        }
        let what = format!("seed {seed}");
        two.left.gateway.shutdown(two.now, parts!(two.left));
        two.right.gateway.reload(two.now, config(""), parts!(two.right)).1.unwrap();
        two.pass(secs(10));
        for side in [&two.left, &two.right] {
            accounts(side, &side.ended, &what);
        }
    }
}
