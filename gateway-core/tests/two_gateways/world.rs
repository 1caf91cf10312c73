//! Two sites with a gateway each, and a network between them that can be cut. No clock but this one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway_core::cause::{Cause, Unreachable};
use gateway_core::config::Config;
use gateway_core::gateway::{Gateway, Parts, PeerState, Report, Totals, What};
use gateway_core::peers::Peers;
use gateway_core::plane::{Engines, Half};
use gateway_core::policy::{Inbound, Outbound, manual_of};
use ike_core::child::ChildSlot;
use ike_core::endpoint::{Endpoint, IkeSlot, IkeView, IndexBlock, Occupancy, Settings, Storage};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Egress, InboundSlot, OutboundSlot, Verdict};
use ipsec_core::error::Discard;
use ipsec_core::net::{Encap, Path};
use ipsec_core::sa::{Event, Status};
use ipsec_core::spd::{Hits, PolicyId};
use ipsec_core::time::Instant;

use crate::overheard::{INITIATOR, Ike, overheard, sealed};
use crate::refusals::Refusal;

pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) endpoint: Endpoint<'static, Ike, Peers>,
    pub(crate) plane: Engines<Outbound<'static, RustCrypto>, Inbound<'static, RustCrypto>>,
    pub(crate) story: Vec<Report>,
    /// Every cause that was told of a peer, also before the story was cleared.
    told_of: BTreeSet<(String, &'static str)>,
    /// What came out of ESP.
    pub(crate) received: Vec<Vec<u8>>,
}

macro_rules! parts {
    ($site:expr) => {
        &mut parts!(lent $site)
    };
    (lent $site:expr) => {
        Parts { endpoint: &mut $site.endpoint, plane: &mut $site.plane }
    };
}
pub(crate) use parts;

pub(crate) fn leak<T>(count: usize, make: impl Fn() -> T) -> &'static mut [T] {
    (0..count).map(|_| make()).collect::<Vec<_>>().leak()
}

pub(crate) fn config(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

impl Site {
    pub(crate) fn new(seed: u64, text: &str, rules: usize) -> Self {
        Self::with_children(seed, text, rules, 16)
    }

    pub(crate) fn with_children(seed: u64, text: &str, rules: usize, children: usize) -> Self {
        Self::with_tables(seed, text, rules, [8, children, 16])
    }

    /// With room for so many IKE SAs and Child SAs, and for these in the engines.
    pub(crate) fn with_tables(seed: u64, text: &str, rules: usize, [ikes, children, engine]: [usize; 3]) -> Self {
        let (gateway, peers) = Gateway::new(config(text));
        let settings =
            Settings { cookie_threshold: usize::from(gateway.settings().cookie_threshold), ..Settings::default() };
        let storage = Storage {
            sas: leak(ikes, IkeSlot::default),
            children: leak(children, ChildSlot::default),
            index: leak(IndexBlock::needed(ikes, children), IndexBlock::default),
            pairs: leak(ikes * 2 * 512, || 0),
            pool: leak(ikes * 2 * 2048, || 0),
            blocks: ikes,
        };
        let gateway_settings = gateway.settings().clone();
        let endpoint = Endpoint::new(overheard(seed), peers, storage, settings).unwrap_or_else(|_| panic!());
        Self {
            gateway,
            endpoint,
            plane: Engines::new(
                Outbound::new(
                    RustCrypto,
                    leak(rules, || Hits::NONE),
                    leak(engine, || OutboundSlot::<RustCrypto>::EMPTY),
                ),
                Inbound::new(
                    RustCrypto,
                    leak(rules, || Hits::NONE),
                    leak(engine, || InboundSlot::<RustCrypto>::EMPTY),
                    leak(engine * 16, || 0),
                ),
            )
            .with(&gateway_settings),
            story: Vec::new(),
            told_of: BTreeSet::new(),
            received: Vec::new(),
        }
    }

    /// What there is to tell.
    fn hear(&mut self) {
        while let Some(report) = self.gateway.poll_report() {
            self.told_of.extend(report.peer.clone().zip(report.cause.as_ref().map(|cause| cause.code)));
            self.story.push(report);
        }
    }

    /// Where a peer stands, and the code of its cause. As the README promises, the log has named whatever status names, but for
    /// what still waits.
    pub(crate) fn state(&mut self, peer: &str) -> (PeerState, Option<&'static str>) {
        self.hear();
        let parts = parts!(self);
        let status = self.gateway.status(parts).find(|status| status.name == peer).unwrap();
        let causes = status.children.iter().map(|child| &child.cause).chain([&status.cause]).flatten();
        let waits = |cause: &Cause| status.state == PeerState::Pending || cause.code.starts_with("waiting-for-");
        for cause in causes.filter(|cause| !waits(cause)) {
            let told = self.told_of.contains(&(peer.to_owned(), cause.code));
            assert!(told, "only status names {cause}: {:#?}", self.story);
        }
        (status.state, status.cause.map(|cause| cause.code))
    }

    /// What went through a child, how often it was rekeyed, and whether it is up.
    pub(crate) fn child(&mut self, peer: &str, child: &str) -> (Totals, u64, bool) {
        let parts = parts!(self);
        let status = self.gateway.status(parts).find(|status| status.name == peer).unwrap();
        let child = status.children.iter().find(|status| status.name == child).unwrap();
        (child.totals, child.rekeys, child.sa.is_some())
    }

    /// What is wrong with a child of the only peer.
    pub(crate) fn cause_of(&mut self, child: &str) -> Option<&'static str> {
        let parts = parts!(self);
        let status = self.gateway.status(parts).next().unwrap();
        let child = status.children.iter().find(|status| status.name == child).unwrap();
        child.cause.as_ref().map(|cause| cause.code)
    }

    pub(crate) fn told(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.story.iter().filter(|report| wanted(&report.what)).count()
    }

    /// What an engine says reaches the gateway.
    pub(crate) fn tell(&mut self, now: Instant, half: Half, event: Event) {
        if let Some(event) = self.plane.told(half, &event) {
            self.gateway.handle_plane(now, event, parts!(self));
        }
    }

    /// The data plane loses SAs that IKE does not know of.
    pub(crate) fn lose(&mut self, which: impl Fn(&Status) -> bool) {
        for id in self.plane.inbound.sas().filter(&which).map(|sa| sa.id).collect::<Vec<_>>() {
            self.plane.inbound.remove(id);
        }
        for id in self.plane.outbound.sas().filter(&which).map(|sa| sa.id).collect::<Vec<_>>() {
            self.plane.outbound.remove(id);
        }
    }

    /// What policy says to a packet of ours.
    pub(crate) fn classify(&mut self, packet: &[u8]) -> Result<Verdict, Discard> {
        self.plane.outbound.classify(Instant::ZERO, packet)
    }
}

/// A datagram of IKE or an ESP packet on its way.
pub(crate) struct Flight {
    from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) esp: bool,
    pub(crate) octets: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) left: Site,
    pub(crate) right: Site,
    wire: VecDeque<Flight>,
    /// Nothing arrives.
    pub(crate) cut: bool,
    /// Only ESP arrives.
    pub(crate) deaf: bool,
    /// Nothing of IKE passes on port 4500 to one of the sides: (left, right).
    pub(crate) blocked: (bool, bool),
    /// Ports that a NAT before the left side translates as for an uplink that is gone, and when each was used last. It
    /// forgets that after two minutes.
    pub(crate) stale: BTreeMap<u16, Instant>,
    /// Datagrams of IKE that were sent.
    pub(crate) messages: usize,
    /// Another source port for what the right side sends, as a NAT with a new mapping would make it.
    pub(crate) mapping: Option<u16>,
    /// No message of the IKE SA with this initiator's SPI arrives.
    pub(crate) drop_spi: Option<[u8; 8]>,
    /// What the right side is made to refuse.
    pub(crate) refusal: Option<Refusal>,
    /// Nobody looks at everything after each step.
    pub(crate) unchecked: bool,
}

pub(crate) const LEFT: &str = "192.0.2.1";
pub(crate) const RIGHT: &str = "192.0.2.2";

/// A peer of the left or right site, with lines of its own and of its only child.
pub(crate) fn peer(left: bool, lines: &str, child: &str) -> String {
    let (ours, theirs, id, other, net, far) = match left {
        true => (LEFT, RIGHT, "left.lab", "right.lab", 1, 2),
        false => (RIGHT, LEFT, "right.lab", "left.lab", 2, 1),
    };
    let psk = if lines.contains("psk =") { "" } else { "psk = \"a key of more than twenty characters\"\n" };
    format!(
        "[[peer]]\nname = \"other\"\nlocal = \"{ours}\"\nremote = \"{theirs}\"\nlocal-id = \"{id}\"\n\
         remote-id = \"{other}\"\n{psk}{lines}\n[[peer.child]]\nname = \"net\"\nlocal-ts = \"10.{net}.0.0/16\"\n\
         remote-ts = \"10.{far}.0.0/16\"\n{child}\n"
    )
}

/// UDP from host 10.`from`.0.10 to host 10.`to`.0.10.
pub(crate) fn packet(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let length = 28 + payload.len();
    let mut packet = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(Ipv4Addr::new(10, from, 0, 10).octets());
    packet.extend(Ipv4Addr::new(10, to, 0, 10).octets());
    packet.extend([0x13, 0x88, 0x13, 0x89, 0, 8 + payload.len() as u8, 0, 0]);
    packet.extend(payload);
    packet
}

/// A packet to host 10.`to`.`third`.10.
pub(crate) fn far(from: u8, to: u8, third: u8) -> Vec<u8> {
    let mut packet = packet(from, to, b"far");
    packet[18] = third;
    packet
}

/// A second child of the peer.
pub(crate) fn second(net: u8, far: u8) -> String {
    format!("[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.{net}.0.0/16\"\nremote-ts = \"10.{far}.0.0/16\"\n")
}

impl World {
    pub(crate) fn new(left: &str, right: &str) -> Self {
        Self::with_rules(left, right, 64)
    }

    pub(crate) fn with_rules(left: &str, right: &str, rules: usize) -> Self {
        Self {
            now: Instant::from_millis(1000),
            left: Site::new(1, left, rules),
            right: Site::new(2, right, rules),
            wire: VecDeque::new(),
            cut: false,
            deaf: false,
            blocked: (false, false),
            stale: BTreeMap::new(),
            messages: 0,
            mapping: None,
            drop_spi: None,
            refusal: None,
            unchecked: false,
        }
    }

    pub(crate) fn start(mut self) -> Self {
        self.left.gateway.start(self.now, parts!(self.left)).unwrap();
        self.right.gateway.start(self.now, parts!(self.right)).unwrap();
        self.exchange();
        self
    }

    /// Both sites with the plain peer, connected by the left one.
    pub(crate) fn connected(left: &str, right: &str) -> Self {
        let right = format!("start = \"passive\"\n{right}");
        let mut world = Self::new(&peer(true, left, ""), &peer(false, &right, "")).start();
        assert!(world.left.child("other", "net").2 && world.right.child("other", "net").2, "{}", world.story());
        world
    }

    pub(crate) fn story(&self) -> String {
        let tell = |name: &str, site: &Site| -> String {
            site.story.iter().map(|report| format!("{name} {report}\n")).collect()
        };
        tell("left:", &self.left) + &tell("right:", &self.right)
    }

    /// A side hears in an IKE SA for how many seconds its peer takes it for authenticated (AUTH_LIFETIME, RFC 4478).
    pub(crate) fn limit(&mut self, left: bool, ike: &IkeView, seconds: u32) {
        let spis = if ike.initiator { [ike.spi_local, ike.spi_remote] } else { [ike.spi_remote, ike.spi_local] };
        let spis = spis.map(u64::to_be_bytes).concat();
        let site = if left { &mut self.left } else { &mut self.right };
        // Whichever request of the peer is the next one.
        for id in 0..1000u32 {
            let flags = if ike.initiator { 0 } else { INITIATOR };
            let notify = [&[0, 0, 0, 12, 0, 0, 0x40, 0x13], &seconds.to_be_bytes()[..]].concat();
            let header = [&spis[..], &[46, 0x20, 37, flags], &id.to_be_bytes()].concat();
            let mut message = sealed(&header, 41, &notify);
            site.gateway.handle_datagram(self.now, ike.path, &mut message, parts!(site));
            if site.endpoint.ike_sa(ike.id).unwrap().reauthenticate_at.is_some() {
                return;
            }
        }
        panic!("it was not heard");
    }

    /// Carries what was sent until nothing is on its way.
    pub(crate) fn exchange(&mut self) {
        for _ in 0..1000 {
            if !self.step() {
                return;
            }
        }
        panic!("they talk without end:\n{}", self.story());
    }

    /// Carries what was sent first. Returns whether there was something.
    pub(crate) fn step(&mut self) -> bool {
        for site in [&self.left, &self.right].into_iter().filter(|_| !self.unchecked) {
            assert_eq!(site.endpoint.check(), Ok(()), "{:#?}", site.story);
            assert_eq!(site.gateway.check(&site.endpoint), Ok(()), "{:#?}", site.story);
        }
        self.collect();
        let Some(mut flight) = self.wire.pop_front() else { return false };
        self.refuse(&mut flight);
        let blocked = match flight.to.ip().to_string().as_str() {
            LEFT => self.blocked.0,
            _ => self.blocked.1,
        };
        let dropped = self.drop_spi.is_some_and(|spi| flight.octets.starts_with(&spi));
        let lost = !flight.esp && (dropped || (flight.to.port() == 4500 && blocked));
        let stale = flight.from.ip().to_string() == LEFT && self.astray(flight.from.port());
        if stale {
            return true;
        }
        if !self.cut && (flight.esp || !self.deaf) && !lost {
            self.deliver(flight);
        }
        true
    }

    /// Somebody says to the left side that nothing listens at port 500 of `remote`.
    pub(crate) fn say_unreachable(&mut self, remote: &str) {
        let path =
            Path { local: format!("{LEFT}:500").parse().unwrap(), remote: format!("{remote}:500").parse().unwrap() };
        let said = (remote.parse().unwrap(), Unreachable::Port);
        self.left.gateway.unreachable(self.now, path, said, &self.left.endpoint);
        self.exchange();
    }

    fn astray(&mut self, port: u16) -> bool {
        let now = self.now;
        self.stale.retain(|of, used| *of != port || now.since(*used) < Duration::from_secs(120));
        self.stale.get_mut(&port).map(|used| *used = now).is_some()
    }

    fn collect(&mut self) {
        for site in [&mut self.left, &mut self.right] {
            site.hear();
        }
        let mut sent = Vec::new();
        for site in [&mut self.left, &mut self.right] {
            while let Some(transmit) = site.endpoint.poll_transmit() {
                sent.push((transmit.path, transmit.datagram.to_vec()));
            }
        }
        for (path, octets) in sent {
            let marked = path.local.port() == 4500;
            let octets = if marked { octets[4.min(octets.len())..].to_vec() } else { octets };
            if octets.len() > 1 {
                self.messages += 1; // otherwise a NAT keepalive
                self.wire.push_back(self.flight(path, false, octets));
            }
        }
    }

    fn flight(&self, path: Path, esp: bool, octets: Vec<u8>) -> Flight {
        let mut from = path.local;
        if let Some(port) = self.mapping.filter(|_| from.ip().to_string() == RIGHT && from.port() == 4500) {
            from.set_port(port);
        }
        Flight { from, to: path.remote, esp, octets }
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight { from, to, esp, mut octets } = flight;
        let site = match to.ip().to_string().as_str() {
            LEFT => &mut self.left,
            RIGHT => &mut self.right,
            _ => return,
        };
        // The NAT, if there is one, knows where its mapping leads.
        let to = if self.mapping == Some(to.port()) { SocketAddr::new(to.ip(), 4500) } else { to };
        let path = Path { local: to, remote: from };
        if esp {
            let length = octets.len();
            let mut packet = PacketBuf::new(&mut octets, 0, length).unwrap();
            if site.plane.inbound.open(self.now, path, Ecn::NotEct, &mut packet).is_ok() {
                site.received.push(packet.as_slice().to_vec());
            }
            while let Some(event) = site.plane.inbound.poll_event() {
                site.tell(self.now, Half::Inbound, event);
            }
        } else {
            site.gateway.handle_datagram(self.now, path, &mut octets, parts!(site));
        }
    }

    /// Lets time pass, step by step as the gateways ask for it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            self.exchange();
            let due = [&mut self.left, &mut self.right]
                .into_iter()
                .filter_map(|site| site.gateway.poll_timeout(&parts!(lent site)))
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                self.tick();
                return;
            };
            self.now = self.now.max(due);
            self.tick();
        }
        panic!("a timer that is never satisfied:\n{}", self.story());
    }

    /// Each side is called when it wants to be and not because the other is.
    fn tick(&mut self) {
        for site in [&mut self.left, &mut self.right] {
            if site.gateway.poll_timeout(&parts!(lent site)).is_some_and(|due| due <= self.now) {
                site.gateway.handle_timeout(self.now, parts!(site));
            }
        }
        self.exchange();
    }

    /// A packet from the protected side of a site. Returns what became of it.
    pub(crate) fn send(&mut self, left: bool, inner: &[u8]) -> Result<(), Stopped> {
        let site = if left { &mut self.left } else { &mut self.right };
        let sa = match site.plane.outbound.classify(self.now, inner) {
            Ok(Verdict::Protect(sa)) => sa,
            Ok(Verdict::Clear | Verdict::ClearMeanwhile(_)) => return Err(Stopped::Clear),
            Ok(Verdict::Acquire(policy)) => {
                let kept = site.gateway.acquire(self.now, policy, inner, parts!(site));
                return Err(Stopped::Acquire(policy, kept));
            }
            Err(discard) => return Err(Stopped::Discarded(discard)),
        };
        let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
        let sealed = site.plane.outbound.seal(self.now, sa, &mut packet);
        while let Some(event) = site.plane.outbound.poll_event() {
            site.tell(self.now, Half::Outbound, event);
        }
        let Egress { path, encap, .. } = sealed.map_err(Stopped::Discarded)?;
        assert_eq!(encap == Encap::None, path.local.port() == 0);
        let octets = packet.as_slice().to_vec();
        assert!(!octets.windows(inner.len()).any(|window| window == inner));
        let flight = self.flight(path, true, octets);
        self.wire.push_back(flight);
        self.exchange();
        Ok(())
    }

    /// The right side lost its SAs: the left one, which sends, finds out within three liveness intervals of 10 s.
    pub(crate) fn heals_within_30_s(&mut self) {
        let mut dead = 0;
        while self.send(false, &packet(2, 1, b"back")) != Ok(()) {
            let _ = self.send(true, &packet(1, 2, b"out"));
            self.pass(Duration::from_secs(1));
            dead += 1;
            assert!(dead <= 30, "{}", self.story());
        }
        self.left.received.clear();
        self.right.received.clear();
        self.pass(Duration::from_secs(10));
        self.ping();
    }

    /// A packet each way: both arrive, as they were.
    pub(crate) fn ping(&mut self) {
        for left in [true, false] {
            let inner = if left { packet(1, 2, b"ping") } else { packet(2, 1, b"pong") };
            let sent = self.send(left, &inner);
            assert_eq!(sent, Ok(()), "{}", self.story());
            let there = if left { &mut self.right } else { &mut self.left };
            assert_eq!(there.received.pop(), Some(inner), "{}", self.story());
        }
    }
}

impl Site {
    /// Each SA in an engine belongs to one of IKE's and is known to the gateway, but for those with manual keys.
    fn owned(&self) {
        let by_ike = |sa: &Status| manual_of(sa.policy).is_none();
        let of_ike =
            |out: bool, spi| self.endpoint.child_sas().any(|sa| if out { sa.spi_out == spi } else { sa.spi_in == spi });
        assert!(
            self.plane.inbound.sas().filter(by_ike).all(|sa| of_ike(false, sa.spi)),
            "an SA takes packets and IKE does not know it"
        );
        assert!(
            self.plane.outbound.sas().filter(by_ike).all(|sa| of_ike(true, sa.spi)),
            "an SA sends packets and IKE does not know it"
        );
        assert_eq!(self.plane.inbound.sas().filter(by_ike).count(), self.gateway.pairs().count());
        assert!(self.plane.outbound.sas().filter(by_ike).count() <= self.gateway.pairs().count());
    }

    /// Nobody is configured any more, and nobody answers.
    fn end(&mut self, mut now: Instant) {
        let (_, placed) = self.gateway.reload(now, config(""), parts!(self));
        assert_eq!(placed, Ok(()));
        let engines = |site: &Self| {
            (site.plane.inbound.sas().count(), site.plane.outbound.sas().count(), site.gateway.pairs().count())
        };
        assert_eq!(engines(self), (0, 0, 0), "an SA of nobody takes or sends packets: {:#?}", self.story);
        for round in 0.. {
            assert!(round < 1000, "it never comes to rest: {:#?}", self.story);
            while self.endpoint.poll_transmit().is_some() {}
            let Some(due) = self.gateway.poll_timeout(&parts!(lent self)) else { break };
            now = now.max(due);
            self.gateway.handle_timeout(now, parts!(self));
        }
        assert_eq!(self.endpoint.occupancy(), Occupancy::default(), "something was not given back: {:#?}", self.story);
        assert_eq!((engines(self), self.gateway.rules()), ((0, 0, 0), &[][..]), "{:#?}", self.story);
    }
}

/// After each run the wire is cut and everything is ended, on one side by the end of the appliance, on the other by a
/// configuration without peers. Then every slot, key, timer and SPI must be back.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let now = self.now;
        for site in [&self.left, &self.right] {
            site.owned();
        }
        self.left.gateway.shutdown(now, parts!(self.left));
        for site in [&mut self.left, &mut self.right] {
            site.end(now);
        }
    }
}

/// Why a packet did not leave as ESP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Clear,
    Acquire(PolicyId, bool),
    Discarded(Discard),
}
