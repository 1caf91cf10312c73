//! The network of the leak test: our gateway between a LAN and two uplinks, traffic everywhere, and the watches.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::flow::{
    BYPASSED_FROM_GATEWAY, BYPASSED_FROM_LAN, BYPASSED_TO_LAN, DISCARDED_FROM_GATEWAY, DISCARDED_FROM_LAN,
    DISCARDED_IN_TUNNEL, DISCARDED_TO_LAN, FORGED_TO_GATEWAY, FORGED_TO_LAN, FROM_GATEWAY, FROM_INSIDE, FROM_LAN,
    TO_LAN, name,
};
use super::kind::Kind;
use super::ledger::{Ledger, Seen};
use crate::lab::flood::{Flood, PORT};
use crate::lab::gateway::{Connection, Gateway, Program, Start};
use crate::lab::iproute::{ip, mac};
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::pair::{Outer, Pair, Side};
use crate::lab::portcullis::Portcullis;
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::outcome::{Result, ensure};

/// Everything that a round works on.
pub(super) struct Bench {
    floods: Vec<Flood>,
    watches: Vec<Watch>,
    _ear: Ear,
    _sinks: Vec<UdpSocket>,
    ledger: Arc<Mutex<Ledger>>,
    /// Our daemon.
    pub(super) us: Portcullis,
    /// How it is configured, in the large.
    pub(super) kind: Kind,
    /// The other end.
    pub(super) peer: Box<dyn Gateway>,
    /// How we are configured.
    pub(super) config: Connection,
    /// Sites and wire.
    pub(super) pair: Pair,
    _provider: Namespace,
}

/// Hears what the gateway itself is sent.
struct Ear {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    /// Lays everything out, with traffic and watches and without any gateway program.
    pub(super) fn new(kind: Kind, peer: Program, rate: u32, seed: u64) -> Result<Self> {
        let pair = Pair::new(seed)?;
        let gateway = &pair.west.gateway;
        // A second provider, who takes what he is given and says nothing.
        let provider = Namespace::new("provider")?;
        link::veth((gateway, "wan2"), (&provider, "eth"))?;
        gateway.address("wan2", [198, 51, 100, 2].into(), 24)?;
        provider.address("eth", [198, 51, 100, 1].into(), 24)?;
        gateway.address("wan2", uplink_v6(2), 64)?;
        provider.address("eth", uplink_v6(1), 64)?;
        // A second address of ours, for the reload that changes `local`.
        gateway.address("wan", [192, 0, 2, 3].into(), 32)?;

        // What is bypassed and what is discarded lie at the peer's site too: without us all of it is there.
        for (number, site) in [(1, &pair.east.gateway as &Namespace), (0x10, &pair.east.host)] {
            let interface = if number == 1 { "lan" } else { "eth" };
            for net in [0xfd12, 0xfd22] {
                site.address(interface, Ipv6Addr::new(net, 0, 0, 0, 0, 0, 0, number).into(), 64)?;
            }
        }

        let mut config = pair.connection(Side::West, Outer::V4);
        let mut peer_config = pair.connection(Side::East, Outer::V4);
        let (west, east) = (&pair.west, &pair.east);
        Kind::children(&mut config, INSIDE, kind.remote());
        Kind::children(&mut peer_config, kind.remote(), INSIDE);
        config.start = Start::Active;
        config.dpd = Duration::from_secs(2);
        // We may come from either of our addresses.
        peer_config.remote = None;
        let us = Portcullis::new(gateway, &kind.policies())?;
        us.configure(from_ref(&config))?;
        let peer = pair.gateway(Side::East, peer, "")?;
        peer.configure(from_ref(&peer_config))?;

        let ledger = Arc::new(Mutex::new(Ledger::new(kind)));
        let watch = |namespace: &Namespace, interface, see: fn(&mut Ledger, _, &[u8])| {
            let ledger = Arc::clone(&ledger);
            Watch::start(namespace, interface, move |crossing, frame| see(&mut locked(&ledger), crossing, frame))
        };
        let watches = vec![
            watch(gateway, "wan", Ledger::outside)?,
            watch(gateway, "wan2", Ledger::outside)?,
            watch(gateway, "lan", Ledger::inside)?,
            watch(&east.host, "eth", Ledger::at_peer)?,
        ];
        let ear = listen(gateway, &ledger)?;
        let mut sinks = Vec::new();
        for host in [&west.host, &east.host] {
            // Nobody reads; without them every packet would be answered with an ICMP error.
            sinks.push(host.within(|| Ok(UdpSocket::bind(("::", PORT))?))?);
        }
        let floods = floods(kind, &pair, rate)?;
        Ok(Self {
            floods,
            watches,
            _ear: ear,
            _sinks: sinks,
            ledger,
            us,
            kind,
            peer,
            config,
            pair,
            _provider: provider,
        })
    }

    /// Our gateway's machine.
    pub(super) fn gateway(&self) -> &Namespace {
        &self.pair.west.gateway
    }

    /// Runs `ip` on it.
    pub(super) fn ip(&self, words: &str) -> Result<String> {
        ip(self.gateway(), words)
    }

    /// How many packets were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.floods.iter().map(Flood::sent).sum()
    }

    /// Forgets what was seen.
    pub(super) fn forget(&self) {
        let _ = locked(&self.ledger).turn();
    }

    /// What was seen since the last call of this or of [`Bench::forget`].
    ///
    /// # Errors
    /// When a watch has missed frames, and so proves nothing.
    pub(super) fn seen(&self) -> Result<Seen> {
        // What is under way still counts for this round.
        std::thread::sleep(Duration::from_millis(150));
        for watch in &self.watches {
            watch.saw_all()?;
        }
        Ok(locked(&self.ledger).turn())
    }

    /// No gateway program runs, nothing guards: every watch has to see what it is there for, on either uplink.
    pub(super) fn watches_can_fail(&self) -> Result {
        let from_here = self.kind.kept_in();
        self.planted_leaks(&from_here, &self.kind.kept_out())
            .map_err(|error| format!("the watch cannot fail, so it proves nothing: {error}"))?;
        self.ip("route replace default via 198.51.100.1 dev wan2")?;
        self.ip("-6 route replace default via 2001:db8:ff::1 dev wan2")?;
        let other = self.planted_leaks(&from_here, &[]).and_then(|()| {
            // What came for our host has the default route alone then.
            self.ip("link set lan down")?;
            self.planted_leaks(&TO_LAN, &[])
        });
        self.tidy();
        other.map_err(|error| format!("the watch on wan2 cannot fail, so it proves nothing: {error}").into())
    }

    /// Waits until some packets of each of these flows were seen in clear, out and in.
    fn planted_leaks(&self, out: &[u8], inward: &[u8]) -> Result {
        let least = 10;
        self.forget();
        wait_for("every planted leak to be counted", Duration::from_secs(5), || {
            std::thread::sleep(Duration::from_millis(300));
            let seen = self.seen()?;
            for (flows, counts, how) in [(out, &seen.out, "left"), (inward, &seen.inward, "came in")] {
                for &flow in flows {
                    let count = counts[usize::from(flow)];
                    ensure(count >= least, || format!("{} {how} in clear and was seen {count} times", name(flow)))?;
                }
            }
            Ok(Some(()))
        })
    }

    /// That nothing of these flows arrives any more.
    pub(super) fn is_silent(&self, flows: &[u8]) -> Result {
        // What was under way, and what waits to be judged.
        std::thread::sleep(Duration::from_millis(300));
        let before = locked(&self.ledger).arrived();
        std::thread::sleep(Duration::from_millis(300));
        let now = locked(&self.ledger).arrived();
        let heard = flows.iter().find(|flow| now[usize::from(**flow)] > before[usize::from(**flow)]);
        heard.map_or(Ok(()), |flow| Err(format!("{} goes on", name(*flow)).into()))
    }

    /// That what our gateway drops here all the time is counted by it.
    pub(super) fn is_counted(&self) -> Result {
        let counts = || -> Result<Vec<u64>> {
            let status = self.us.status()?;
            Ok(self.kind.counters().iter().map(|name| status["counters"][name].as_u64().unwrap_or(0)).collect())
        };
        let before = counts()?;
        // On a busy machine a look at the kernel's counters takes long, and then is shown for as long as it took many times over.
        wait_for("what is dropped to be counted", Duration::from_secs(6), || {
            let now = counts()?;
            let all = now.iter().zip(&before).all(|(now, before)| now > before);
            ensure(all, || format!("{:?} went from {before:?} to {now:?}", self.kind.counters())).map(Some)
        })
    }

    /// Starts both programs and waits for the tunnel.
    pub(super) fn start(&mut self) -> Result {
        self.peer.start()?;
        self.us.start()?;
        self.wait_for_traffic(Duration::from_secs(15))?;
        Ok(())
    }

    /// Waits until every honest flow arrives again; how long that took.
    pub(super) fn wait_for_traffic(&mut self, limit: Duration) -> Result<Duration> {
        const ENOUGH: u64 = 5;
        let began = Instant::now();
        let before = locked(&self.ledger).arrived();
        loop {
            let now = locked(&self.ledger).arrived();
            let waits = |flow: &u8| now[usize::from(*flow)] < before[usize::from(*flow)] + ENOUGH;
            let Some(flow) = self.kind.to_arrive().into_iter().find(waits) else { return Ok(began.elapsed()) };
            if began.elapsed() > limit {
                return Err(format!("{} is silent after {:.1} s", name(flow), limit.as_secs_f32()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Puts the machine's own settings back as they were at the start.
    pub(super) fn tidy(&self) {
        for words in [
            "rule del pref 10",
            "-6 rule del pref 10",
            "link set lan up",
            "addr add 192.0.2.1/24 dev wan",
            "addr add 192.0.2.3/32 dev wan",
            "addr add 2001:db8:1::1/64 dev wan nodad",
            "addr add fd01::1/64 dev lan nodad",
            "route replace default via 192.0.2.2 dev wan",
            "-6 route replace default via 2001:db8:1::2 dev wan",
            "route flush proto 186",
            "-6 route flush proto 186",
        ] {
            // What is right already is refused, and that is fine.
            let _ = self.ip(words);
        }
    }
}

/// Our side of the tunnels.
const INSIDE: [&str; 2] = ["10.1.0.0/16", "fd01::/64"];

/// The traffic of such a gateway.
fn floods(kind: Kind, pair: &Pair, rate: u32) -> Result<Vec<Flood>> {
    let (west, east, seldom) = (&pair.west, &pair.east, rate.div_ceil(5));
    let (host, peer) = ([west.host_v4(0), west.host_v6()], [east.host_v4(0), east.host_v6()]);
    // A host of theirs in network 10.`tens`2.0.0/16 and fd`tens`2::/64, and one that there is not.
    let in_network = |tens: u8, v4: u8, v6: u16| -> [IpAddr; 2] {
        let network_v6 = 0xfd02 + 16 * u16::from(tens);
        [[10, 10 * tens + 2, 0, v4].into(), Ipv6Addr::new(network_v6, 0, 0, 0, 0, 0, 0, v6).into()]
    };
    let (beyond, nobody) = (|tens| in_network(tens, 10, 0x10), |tens| in_network(tens, 99, 0x99));
    let to = |flows: [u8; 2], to: [IpAddr; 2]| flows.into_iter().zip(to);
    let from = |flows: [u8; 2], from: [IpAddr; 2], to: [IpAddr; 2]| {
        let ends = from.into_iter().zip(to);
        flows.into_iter().zip(ends).map(|(flow, (from, to))| (flow, from, to)).collect::<Vec<_>>()
    };
    let inside = [[10, 1, 0, 1].into(), Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1).into()];
    let mut forged = [from(FORGED_TO_LAN, nobody(0), host), from(FORGED_TO_GATEWAY, nobody(0), inside)].concat();
    let mut floods = vec![
        Flood::honest(&west.host, &to(FROM_LAN, peer).collect::<Vec<_>>(), rate)?,
        Flood::honest(&east.host, &to(TO_LAN, host).collect::<Vec<_>>(), rate)?,
        Flood::honest(&west.gateway, &to(FROM_GATEWAY, peer).collect::<Vec<_>>(), rate)?,
    ];
    if kind == Kind::Everything {
        let (bypassed, discarded) = (beyond(1), beyond(2));
        for (machine, flows) in [
            (&west.host, (BYPASSED_FROM_LAN, DISCARDED_FROM_LAN)),
            (&*west.gateway, (BYPASSED_FROM_GATEWAY, DISCARDED_FROM_GATEWAY)),
        ] {
            let exceptions = to(flows.0, bypassed).chain(to(flows.1, discarded));
            floods.push(Flood::honest(machine, &exceptions.collect::<Vec<_>>(), seldom)?);
        }
        floods.push(Flood::bound(&west.gateway, &from(FROM_INSIDE, inside, peer), seldom)?);
        floods.push(Flood::bound(&east.host, &from(DISCARDED_IN_TUNNEL, discarded, host), seldom)?);
        forged.extend(from(BYPASSED_TO_LAN, nobody(1), host));
        forged.extend(from(DISCARDED_TO_LAN, nobody(2), host));
    }
    floods.push(Flood::forged((&east.gateway, "wan"), mac(&west.gateway, "wan")?, &forged, seldom)?);
    Ok(floods)
}

/// The second provider's network.
fn uplink_v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, number).into()
}

fn listen(gateway: &Namespace, ledger: &Arc<Mutex<Ledger>>) -> Result<Ear> {
    let stop = Arc::new(AtomicBool::new(false));
    let socket = gateway.within(|| Ok(UdpSocket::bind(("::", PORT))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (told, ledger) = (Arc::clone(&stop), Arc::clone(ledger));
    let hears = move || {
        let mut buffer = [0; 2048];
        while !told.load(Ordering::Relaxed) {
            if let Ok(length) = socket.recv(&mut buffer) {
                locked(&ledger).at_gateway(buffer.get(..length).unwrap_or_default());
            }
        }
    };
    Ok(Ear { stop, threads: vec![std::thread::spawn(hears)] })
}
