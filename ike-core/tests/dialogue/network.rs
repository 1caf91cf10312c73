//! Two hosts on a simulated network: one clock, one seed, faults on the wire.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ike_core::endpoint::{SaState, Settings};
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

mod host;
mod peers;
mod seed;

pub(crate) use host::Host;
pub(crate) use peers::{CHILD, Connections, Method, PEER, Peer, child, esp, fqdn, pair, selectors};
pub(crate) use seed::Seed;

/// What the wire does to datagrams, in percent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    pub(crate) corrupt: u64,
}

struct Flight {
    at: Instant,
    to: usize,
    path: Path,
    datagram: Vec<u8>,
}

type Tap = dyn FnMut(usize, &mut Vec<u8>) -> bool;

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) hosts: [Host; 2],
    pub(crate) faults: Faults,
    /// How long a datagram travels.
    pub(crate) delay: Duration,
    pub(crate) seed: Seed,
    flights: Vec<Flight>,
    /// Looks at each datagram before it travels: (from, datagram) → whether it travels.
    pub(crate) tap: Box<Tap>,
    /// Host 0 sits behind a NAT with this public address.
    pub(crate) nat: Option<SocketAddr>,
    /// Host 1 sits behind a NAT with this address that leaves its ports as they are.
    pub(crate) cloud: Option<IpAddr>,
    pub(crate) sent: usize,
}

const DELAY: Duration = Duration::from_millis(10);

impl Network {
    pub(crate) fn new(seed: u64, peers: [Vec<Peer>; 2], settings: Settings) -> Self {
        let [left, right] = peers;
        Self {
            now: Instant::from_millis(1_000_000),
            hosts: [Host::new(seed * 2 + 1, left, settings), Host::new(seed * 2 + 2, right, settings)],
            faults: Faults::default(),
            delay: DELAY,
            seed: Seed(seed ^ 0x5eed),
            flights: Vec::new(),
            tap: Box::new(|_, _| true),
            nat: None,
            cloud: None,
            sent: 0,
        }
    }

    /// Two hosts that fit each other, with an established IKE SA and one child.
    pub(crate) fn connected(seed: u64) -> Self {
        let [left, right] = pair();
        let mut network = Self::new(seed, [vec![left], vec![right]], Settings::default());
        network.connect();
        network
    }

    pub(crate) fn connect(&mut self) {
        self.hosts[0].endpoint.initiate(self.now, PEER, None).unwrap();
        self.run_for(Duration::from_secs(1));
        assert!(self.hosts[0].ike().is_some(), "{:?} {:?}", self.hosts[0].story, self.hosts[1].story);
    }

    /// Puts what the hosts want to send on the wire, and tells them what happened.
    pub(crate) fn settle(&mut self) {
        for from in 0..2 {
            self.hosts[from].listen();
            while let Some(transmit) = self.hosts[from].endpoint.poll_transmit() {
                let (mut path, mut datagram) = (transmit.path, transmit.datagram.to_vec());
                if path.local.port() == 4500 && datagram != [0xff] {
                    assert_eq!(datagram[..4], [0; 4], "no non-ESP marker on port 4500");
                    datagram.drain(..4);
                }
                self.hosts[from].check();
                self.sent += 1;
                if datagram == [0xff] || !(self.tap)(from, &mut datagram) {
                    continue;
                }
                if let Some(public) = self.nat {
                    if from == 0 {
                        path.local = public;
                    } else if path.remote == public {
                        path.remote = SocketAddr::new("192.0.2.1".parse().unwrap(), path.local.port());
                    } else if path.remote.ip() == public.ip() {
                        // No such mapping any more.
                        continue;
                    }
                }
                if let Some(cloud) = self.cloud {
                    match from {
                        0 => path.remote.set_ip("192.0.2.2".parse().unwrap()),
                        _ => path.local.set_ip(cloud),
                    }
                }
                self.fly(1 - from, Path { local: path.remote, remote: path.local }, datagram);
            }
            self.hosts[from].listen();
        }
    }

    /// Puts a datagram on the wire to `to`.
    pub(crate) fn fly(&mut self, to: usize, path: Path, datagram: Vec<u8>) {
        let Faults { loss, duplicate, reorder, corrupt } = self.faults;
        if self.seed.percent(loss) {
            return;
        }
        let copies = if self.seed.percent(duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let mut datagram = datagram.clone();
            if self.seed.percent(corrupt) {
                let at = self.seed.below(datagram.len() as u64) as usize;
                datagram[at] ^= 1 << self.seed.below(8);
            }
            let late = if self.seed.percent(reorder) { self.seed.below(3_000) } else { 0 };
            let at = self.now + self.delay + Duration::from_millis(late);
            self.flights.push(Flight { at, to, path, datagram });
        }
    }

    /// Lets the time pass until the next thing happens, but not beyond `end`. False when `end` is reached.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        self.settle();
        let landing = self.flights.iter().map(|flight| flight.at).min();
        self.hosts.iter_mut().for_each(|host| host.signer.schedule(self.now));
        let timeouts = self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout());
        let answers = self.hosts.iter().filter_map(|host| host.signer.due());
        let next = timeouts.chain(answers).chain(landing).min().map_or(end, |next| next.max(self.now));
        if next >= end {
            self.now = end;
            return false;
        }
        self.now = next;
        let index = self.flights.iter().position(|flight| flight.at <= next);
        if let Some(index) = index {
            let Flight { to, path, mut datagram, .. } = self.flights.remove(index);
            let _ = self.hosts[to].endpoint.handle_datagram(next, path, &mut datagram);
        }
        for host in &mut self.hosts {
            while let Some(pending) = host.signer.ripe(next) {
                let taken = host.endpoint.answer(next, pending.wait, &pending.said.answer()).is_ok();
                host.signer.answered(&pending.said, taken);
                host.listen();
            }
            if host.endpoint.poll_timeout().is_some_and(|due| due <= next) {
                host.endpoint.handle_timeout(next);
                let due = host.endpoint.poll_timeout();
                assert!(due.is_none_or(|due| due > next), "the timeout did not settle what is due");
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 1_000_000, "the hosts never come to rest");
        }
        self.settle();
    }

    /// Whether what each host sends through is what the other one receives with, right now.
    pub(crate) fn passes(&self) -> bool {
        (0..2).all(|from| {
            let sender = &self.hosts[from];
            !sender.sending.is_empty()
                && sender.sending.values().all(|child| {
                    let ours = &sender.installed[child];
                    self.hosts[1 - from]
                        .installed
                        .values()
                        .any(|theirs| theirs.spi_in == ours.spi_out && theirs.key_in == ours.key_out)
                })
        })
    }

    /// Both ends hold the same IKE SAs and Child SAs, none of them on its way out.
    pub(crate) fn agree(&self) -> Result<(), String> {
        let view = |host: &Host, swap: bool| {
            let mut ikes: Vec<_> = host
                .endpoint
                .ike_sas()
                .map(|sa| {
                    let spis = [sa.spi_local, sa.spi_remote];
                    (if swap { [spis[1], spis[0]] } else { spis }, sa.state == SaState::Established)
                })
                .collect();
            ikes.sort_unstable();
            let mut children: Vec<_> = host
                .installed
                .values()
                .map(|child| if swap { (child.spi_out, child.spi_in) } else { (child.spi_in, child.spi_out) })
                .collect();
            children.sort_unstable();
            (ikes, children)
        };
        let (left, right) = (view(&self.hosts[0], false), view(&self.hosts[1], true));
        if left != right {
            return Err(format!("left {left:x?} right {right:x?}"));
        }
        if left.0.iter().any(|(_, established)| !established) {
            return Err(format!("something is left over: {left:x?}"));
        }
        Ok(())
    }
}
