//! Both sides act at once (RFC 7296 §2.8, §2.25): exactly one SA pair is left, and traffic never stops.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::network::{CHILD, Network};

/// Lets both sides begin at the same moment, or one a little later than the other. The wire takes 40 ms, so that what
/// begins later still crosses.
fn at_once(seed: u64, gap: u64, act: impl Fn(&mut Network, usize)) -> Network {
    at_once_and(seed, gap, act).0
}

/// The same, and the most IKE SAs and Child SAs that each side held at a time.
fn at_once_and(seed: u64, gap: u64, act: impl Fn(&mut Network, usize)) -> (Network, [[usize; 2]; 2]) {
    let mut network = Network::connected(seed);
    // The responder rekeys no child before it knows that the initiator has its answer.
    network.run_for(Duration::from_secs(11));
    network.delay = Duration::from_millis(40);
    act(&mut network, 0);
    network.run_for(Duration::from_millis(gap));
    act(&mut network, 1);
    let end = network.now + Duration::from_secs(90);
    let mut most = [[0; 2]; 2];
    while network.step(end) {
        for (most, host) in most.iter_mut().zip(&network.hosts) {
            let full = host.endpoint.occupancy();
            *most = [most[0].max(full.ike_sas), most[1].max(full.child_sas)];
        }
    }
    network.settle();
    (network, most)
}

fn rekey_child(network: &mut Network, by: usize) {
    let child = network.hosts[by].sending[&CHILD];
    let _ = network.hosts[by].endpoint.rekey_child(network.now, child);
}

fn rekey_ike(network: &mut Network, by: usize) {
    if let Some(ike) = network.hosts[by].ike() {
        let _ = network.hosts[by].endpoint.rekey_ike(network.now, ike.id);
    }
}

fn one_pair_is_left(network: &Network, what: &str) {
    assert!(network.passes(), "{what}: {:?} {:?}", network.hosts[0].story, network.hosts[1].story);
    network
        .agree()
        .unwrap_or_else(|why| panic!("{what}: {why}\n{:?}\n{:?}", network.hosts[0].story, network.hosts[1].story));
    for host in &network.hosts {
        assert_eq!(host.installed.len(), 1, "{what}: {:?}", host.story);
        assert!(host.failures.is_empty(), "{what}: {:?}", host.story);
        assert!(host.ike().is_some(), "{what}");
    }
}

#[test]
fn atk_41_crossing_child_rekeys_leave_one_pair() {
    for seed in 0..24 {
        for gap in [0, 5, 12, 25, 35] {
            let (network, most) = at_once_and(100 + seed, gap, rekey_child);
            assert!(most.iter().all(|[_, children]| *children >= 3), "they do not cross: {most:?}");
            one_pair_is_left(&network, &format!("seed {seed} gap {gap}"));
        }
    }
}

#[test]
fn atk_41_crossing_ike_rekeys_leave_one_sa() {
    for seed in 0..24 {
        for gap in [0, 5, 12, 25, 35] {
            let (network, most) = at_once_and(200 + seed, gap, rekey_ike);
            assert!(most.iter().all(|[ikes, _]| *ikes >= 3), "they do not cross: {most:?}");
            one_pair_is_left(&network, &format!("seed {seed} gap {gap}"));
        }
    }
}

#[test]
fn atk_41_a_child_rekey_crossing_an_ike_rekey_is_settled() {
    for seed in 0..16 {
        for gap in [0, 5, 12, 25, 35] {
            let network = at_once(300 + seed, gap, |network, by| match by {
                0 => rekey_child(network, by),
                _ => rekey_ike(network, by),
            });
            one_pair_is_left(&network, &format!("seed {seed} gap {gap}"));
        }
    }
}

/// Two ends that pause for as long as each other meet again, try after try: both come to take the connection for broken.
#[test]
fn f_52_what_crosses_an_ike_rekey_is_done_soon_and_costs_no_connection() {
    for seed in 0..8 {
        for gap in [0, 5, 25, 35] {
            for first in [0, 1] {
                let network = at_once(700 + seed, gap, |network, by| match by == first {
                    true => rekey_child(network, by),
                    false => rekey_ike(network, by),
                });
                one_pair_is_left(&network, &format!("seed {seed} gap {gap}"));
                for host in &network.hosts {
                    let done = |what: &str| host.story.iter().filter(|line| line.starts_with(what)).count();
                    assert_eq!(
                        (done("ike rekeyed"), done("child 0 up")),
                        (1, 2),
                        "seed {seed} gap {gap}: {:?}",
                        host.story
                    );
                }
            }
        }
    }
}

#[test]
fn f_52_a_wish_for_a_child_that_crosses_an_ike_rekey_is_met_soon_and_costs_no_connection() {
    for seed in 0..8 {
        for gap in [0, 5, 25, 35] {
            for first in [0, 1] {
                let network = at_once(740 + seed, gap, |network, by| {
                    let ike = network.hosts[by].ike_id();
                    match by == first {
                        true => drop(network.hosts[by].endpoint.create_child(network.now, ike, CHILD).unwrap()),
                        false => rekey_ike(network, by),
                    }
                });
                let at = format!("seed {seed} gap {gap} first {first}");
                network.agree().unwrap_or_else(|why| panic!("{at}: {why}"));
                for host in &network.hosts {
                    let done = |what: &str| host.story.iter().filter(|line| line.starts_with(what)).count();
                    assert_eq!((done("ike rekeyed"), host.installed.len()), (1, 2), "{at}: {:?}", host.story);
                    assert!(host.failures.is_empty(), "{at}: {:?}", host.story);
                }
            }
        }
    }
}

/// The peer's rekey is done and ours is not: the peer deletes a child on the new SA, of which only it knows that it stays.
#[test]
fn f_41_a_child_that_the_peer_deletes_on_an_sa_that_is_not_decided_on_is_gone() {
    for seed in 0..4 {
        let mut network = Network::connected(760 + seed);
        network.run_for(Duration::from_secs(11));
        network.delay = Duration::from_millis(40);
        let old = network.hosts[0].ike().unwrap().spi_local.to_be_bytes();
        for by in 0..2 {
            rekey_ike(&mut network, by);
        }
        let late = Rc::new(Cell::new(true));
        let held = late.clone();
        network.tap = Box::new(move |from, datagram| {
            let (exchange, is_response) = (datagram[18], datagram[19] & 0x20 != 0);
            !held.get() || datagram[..8] != old || (exchange == 36 && is_response != (from == 1))
        });
        network.run_for(Duration::from_millis(400));
        let child = network.hosts[1].sending[&CHILD];
        network.hosts[1].endpoint.close_child(network.now, child).unwrap();
        network.run_for(Duration::from_secs(1));
        assert!(
            network.hosts.iter().all(|host| host.installed.is_empty()),
            "seed {seed}: {:?}",
            network.hosts[0].story
        );
        late.set(false);
        network.run_for(Duration::from_secs(60));
        network.agree().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(network.hosts.iter().all(|host| host.ike().is_some() && host.failures.is_empty()));
    }
}

/// The peer's rekey is done; of what happens on the old SA nothing arrives any more, neither our own rekey nor a Delete.
#[test]
fn f_40_what_the_peers_rekey_made_outlives_an_old_sa_on_which_ours_is_never_answered() {
    for seed in 0..8 {
        let mut network = Network::connected(720 + seed);
        network.run_for(Duration::from_secs(11));
        network.delay = Duration::from_millis(40);
        let old = network.hosts[0].ike().unwrap().spi_local.to_be_bytes();
        for by in 0..2 {
            rekey_ike(&mut network, by);
        }
        network.tap = Box::new(move |from, datagram| {
            let (exchange, is_response) = (datagram[18], datagram[19] & 0x20 != 0);
            datagram[..8] != old || (exchange == 36 && is_response != (from == 1))
        });
        network.run_for(Duration::from_secs(90));
        for host in &network.hosts {
            assert!(host.ended.is_empty(), "seed {seed}: {:?}", host.story);
        }
        one_pair_is_left(&network, &format!("seed {seed}"));
    }
}

#[test]
fn atk_41_traffic_goes_on_during_crossing_rekeys() {
    for seed in 0..16 {
        let mut network = Network::connected(400 + seed);
        rekey_child(&mut network, 0);
        rekey_child(&mut network, 1);
        let end = network.now + Duration::from_secs(60);
        loop {
            let more = network.step(end);
            network.settle();
            assert!(network.passes(), "seed {seed}: {:?} {:?}", network.hosts[0].story, network.hosts[1].story);
            if !more {
                break;
            }
        }
    }
}

#[test]
fn atk_41_both_sides_delete_the_same_child() {
    let mut network = at_once(500, 0, |network, by| {
        let child = network.hosts[by].sending[&CHILD];
        network.hosts[by].endpoint.close_child(network.now, child).unwrap();
    });
    network.run_for(Duration::from_secs(1));
    network.agree().unwrap();
    assert!(network.hosts.iter().all(|host| host.installed.is_empty() && host.ike().is_some()));
}

#[test]
fn atk_41_both_sides_close_the_ike_sa() {
    let network = at_once(501, 0, |network, by| {
        let ike = network.hosts[by].ike_id();
        network.hosts[by].endpoint.close(network.now, ike).unwrap();
    });
    assert!(network.hosts.iter().all(|host| host.installed.is_empty() && host.ike().is_none()));
}

#[test]
fn atk_41_a_rekey_crossing_the_delete_of_the_child_ends_without_leftovers() {
    for gap in [0, 5, 12, 25] {
        let network = at_once(502 + gap, gap, |network, by| match by {
            0 => rekey_child(network, by),
            _ => {
                if let Some(child) = network.hosts[by].sending.get(&CHILD) {
                    let _ = network.hosts[by].endpoint.close_child(network.now, *child);
                }
            }
        });
        network.agree().unwrap();
        assert!(network.hosts.iter().all(|host| host.ike().is_some()));
    }
}

#[test]
fn atk_41_a_close_crossing_an_ike_rekey_closes() {
    for gap in [0, 5, 12] {
        let network = at_once(510 + gap, gap, |network, by| match by {
            0 => rekey_ike(network, by),
            _ => {
                if let Some(ike) = network.hosts[by].ike() {
                    let _ = network.hosts[by].endpoint.close(network.now, ike.id);
                }
            }
        });
        network.agree().unwrap_or_else(|why| {
            panic!("gap {gap}: {why}\n{:?}\n{:?}", network.hosts[0].story, network.hosts[1].story)
        });
    }
}

#[test]
fn atk_41_crossing_ike_rekeys_with_a_peer_that_then_falls_silent_leave_nothing() {
    let mut network = Network::connected(520);
    for by in 0..2 {
        rekey_ike(&mut network, by);
    }
    // The two requests arrive, their answers do not.
    let mut travelled = 0;
    network.tap = Box::new(move |_, _| {
        travelled += 1;
        travelled <= 2
    });
    network.run_for(Duration::from_secs(120));
    for host in &network.hosts {
        assert_eq!(host.endpoint.ike_sas().count(), 0, "{:?}", host.story);
        // The SAs that the requests made were never announced, so their end is nothing to tell.
        assert_eq!(host.failures.len(), 1, "{:?}", host.story);
    }
}
