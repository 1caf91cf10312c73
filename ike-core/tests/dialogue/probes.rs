//! Requests whose path is their own, while the SA's stays as it is.

use std::time::Duration;

use ike_core::endpoint::{Denied, Settings};
use ipsec_core::net::Path;

use crate::network::{CHILD, Faults, Host, Network, Peer, pair};

const SECOND: Duration = Duration::from_secs(1);

/// Another way to the same peer.
fn detour(host: &Host) -> Path {
    let path = host.ike().unwrap().path;
    Path { remote: "203.0.113.9:500".parse().unwrap(), ..path }
}

#[test]
fn a_request_on_its_own_path_is_repeated_there_and_moves_nothing() {
    let mut network = Network::connected(4_400);
    let (ike, usual) = (network.hosts[0].ike_id(), network.hosts[0].ike().unwrap().path);
    let own = detour(&network.hosts[0]);
    let mut now = network.now;
    let host = &mut network.hosts[0];
    host.endpoint.probe(now, ike, own).unwrap();
    assert_eq!(host.endpoint.probe(now, ike, own), Err(Denied::UnknownSa), "one after the other");
    let sent = |host: &mut Host| host.endpoint.poll_transmit().map(|sent| (sent.path, sent.repeated));
    assert_eq!((sent(host), sent(host)), (Some((own, false)), None));
    // The SA itself goes elsewhere meanwhile.
    let moved = Path { remote: "198.51.100.7:500".parse().unwrap(), ..usual };
    host.endpoint.moved(host.sending[&CHILD], moved);
    host.listen();
    now = host.endpoint.poll_timeout().unwrap();
    host.endpoint.handle_timeout(now);
    assert_eq!((sent(host), host.ike().unwrap().path), (Some((own, true)), moved));
    now = host.endpoint.poll_timeout().unwrap();
    host.endpoint.handle_timeout(now);
    let repeated = host.endpoint.poll_transmit().unwrap().datagram.to_vec();
    network.now = now;
    network.fly(1, Path { local: own.remote, remote: own.local }, repeated);
    network.run_for(SECOND);
    let host = &mut network.hosts[0];
    let view = host.endpoint.ike_sa(ike).unwrap();
    assert_eq!((view.path, view.waiting), (moved, None), "it is answered, and that is all");
    assert!(view.heard.unwrap() > now);
    host.endpoint.check_liveness(network.now, ike).unwrap();
    assert_eq!(sent(host), Some((moved, false)), "the next one goes where all go");
}

#[test]
fn a_path_that_leads_nowhere_costs_an_idle_sa_nothing() {
    let quiet = pair().map(|peer| vec![Peer { dpd: Duration::ZERO, ..peer }]);
    let mut network = Network::new(4_410, quiet, Settings::default());
    network.connect();
    // Nobody has heard anything of the other one for long.
    network.run_for(600 * SECOND);
    let (now, ike) = (network.now, network.hosts[0].ike_id());
    let own = detour(&network.hosts[0]);
    network.hosts[0].endpoint.probe(now, ike, own).unwrap();
    // What goes there is lost.
    let mut lost = 1 + usize::from(Settings::default().retransmission.tries);
    network.tap = Box::new(move |from, _| {
        let there = from == 0 && lost > 0;
        lost -= usize::from(there);
        !there
    });
    network.run_for(600 * SECOND);
    let view = network.hosts[0].endpoint.ike_sa(ike).unwrap();
    assert!(view.waiting.is_none() && view.heard > Some(now), "{:?}", network.hosts[0].story);
    assert!(network.passes());
}

#[test]
fn probes_among_all_else_get_through_loss_and_change_no_path() {
    for seed in 0..200 {
        let mut network = Network::new(4_500 + seed, pair().map(|end| vec![end]), Settings::default());
        network.connect();
        network.run_for(11 * SECOND);
        let usual = network.hosts.each_ref().map(|host| host.ike().unwrap().path);
        network.faults = Faults { loss: 10, duplicate: 20, reorder: 20, corrupt: 0 };
        for _ in 0..6 {
            for host in &mut network.hosts {
                let Some(ike) = host.ike().map(|ike| ike.id) else { continue };
                let child = host.sending.get(&CHILD).copied();
                match (network.seed.below(5), child) {
                    (0, _) => drop(host.endpoint.rekey_ike(network.now, ike)),
                    (1, Some(child)) => drop(host.endpoint.rekey_child(network.now, child)),
                    (2 | 3, _) => drop(host.endpoint.probe(network.now, ike, detour(host))),
                    _ => {}
                }
            }
            let pause = Duration::from_millis(network.seed.below(3_000));
            network.run_for(pause);
        }
        network.faults = Faults::default();
        network.run_for(90 * SECOND);
        assert!(network.passes() && network.agree().is_ok(), "{seed} {:?}", network.hosts[0].story);
        for (host, usual) in network.hosts.iter().zip(usual) {
            assert_eq!(host.ike().unwrap().path, usual, "{seed}");
            assert!(!host.story.iter().any(|line| line.starts_with("moved")), "{seed} {:?}", host.story);
        }
    }
}
