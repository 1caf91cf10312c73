//! Two smoltcp interfaces talk UDP and TCP; between them only ESP is seen.

#[path = "../examples/smoltcp_tcp.rs"]
#[allow(dead_code, unreachable_pub)]
mod smoltcp_tcp;

use ipsec_core::crypto::AeadAlg;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::phy::Device;
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
use ipsec_core::time;
use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
use smoltcp::phy;
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::net::IpAddr;

use smoltcp_tcp::{Queue as Line, Wire as End};

const POLICY: PolicyId = PolicyId(1);

/// A node at 10.0.0.`host` whose tunnel ends in `local` and `remote`.
struct Node {
    device: Device<'static, End, RustCrypto>,
    interface: Interface,
    sockets: SocketSet<'static>,
    udp: smoltcp::iface::SocketHandle,
}

fn single(host: u8) -> AddrRange {
    AddrRange::single(IpAddr::from([10, 0, 0, host]))
}

fn path(local: u8, remote: u8) -> Path {
    let at = |host| ([192, 0, 2, host], 4500).into();
    Path { local: at(local), remote: at(remote) }
}

impl Node {
    fn new(host: u8, peer: u8, end: End) -> Self {
        let leak = |len: usize| Box::leak(vec![0u8; len].into_boxed_slice());
        let hits = || Box::leak(vec![Hits::NONE; 4].into_boxed_slice());
        let outbound = Box::leak(Box::new([const { OutboundSlot::<RustCrypto>::EMPTY }; 2]));
        let inbound = Box::leak(Box::new([const { InboundSlot::<RustCrypto>::EMPTY }; 2]));
        let windows = Box::leak(Box::new([0u64; 4]));
        let mut outbound = Outbound::new(RustCrypto, hits(), outbound);
        let inbound = Inbound::new(RustCrypto, hits(), inbound, windows);
        let selector = Selector::between(single(host), single(peer));
        let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) };
        let (slots, none) = (Box::leak(Box::new([Slot::EMPTY])), Box::leak(Box::new([])));
        outbound.set_rules(Index::build([rule], &mut slots[..], &mut none[..]).unwrap()).unwrap();
        let mut device = Device::new(end, outbound, inbound, leak(1500), leak(1600)).unwrap();

        let now = Instant::from_millis(0);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
        interface.update_ip_addrs(|addrs| addrs.push(IpCidr::new(IpAddress::v4(10, 0, 0, host), 24)).unwrap());
        let buffer = || {
            let meta = Box::leak(Box::new([udp::PacketMetadata::EMPTY; 4]));
            udp::PacketBuffer::new(&mut meta[..], leak(4096))
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(7000).unwrap();
        let mut sockets = SocketSet::new(Box::leak(Box::new([SocketStorage::EMPTY; 1])) as &mut [_]);
        let udp = sockets.add(socket);
        Self { device, interface, sockets, udp }
    }

    fn install(&mut self, host: u8, peer: u8) {
        let (ours, theirs) = ([TrafficSelector::addrs(single(host))], [TrafficSelector::addrs(single(peer))]);
        let params = |spi: u8| Params {
            spi: Spi::new(0x1000 + u32::from(spi)).unwrap(),
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: &[9; 20],
            esn: false,
            path: path(host, peer),
            encap: Encap::Udp,
            policy: POLICY,
            local_ts: &ours,
            remote_ts: &theirs,
            lifetime: Lifetime::default(),
            compression: None,
        };
        let now = time::Instant::ZERO;
        let out = OutboundParams {
            sa: params(peer),
            last_sent: 0,
            last_number: u64::MAX,
            copy_dscp: true,
            dont_fragment: DontFragment::Copy,
        };
        self.device.outbound.install(now, &out).unwrap();
        self.device.inbound.install(now, &InboundParams { sa: params(host), window: 64, highest_seen: 0 }).unwrap();
    }

    fn send(&mut self, peer: u8, payload: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
        socket.send_slice(payload, (IpAddress::v4(10, 0, 0, peer), 7000)).unwrap();
    }

    fn received(&mut self) -> Option<Vec<u8>> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
        socket.recv().ok().map(|(payload, _)| payload.to_vec())
    }

    fn poll(&mut self) {
        self.interface.poll(Instant::from_millis(1), &mut self.device, &mut self.sockets);
    }
}

fn wire() -> (Node, Node, Line) {
    let (one, other, tap) = (Line::default(), Line::default(), Line::default());
    let end =
        |receives: &Line, sends: &Line| End { receives: receives.clone(), sends: sends.clone(), tap: tap.clone() };
    (Node::new(1, 2, end(&one, &other)), Node::new(2, 1, end(&other, &one)), tap)
}

#[test]
fn datagrams_cross_and_only_esp_is_on_the_wire() {
    let (mut a, mut b, tap) = wire();
    a.install(1, 2);
    b.install(2, 1);
    let mtu = phy::Device::capabilities(&a.device).max_transmission_unit;
    let big = vec![0x42; mtu - 28];
    for payload in [&b"hello"[..], &big] {
        a.send(2, payload);
        a.poll();
        b.poll();
        assert_eq!(b.received().as_deref(), Some(payload));
        b.send(1, payload);
        b.poll();
        a.poll();
        assert_eq!(a.received().as_deref(), Some(payload));
    }
    let tap = tap.borrow();
    assert_eq!(tap.len(), 4);
    for packet in tap.iter() {
        assert!(packet.len() <= 1500);
        assert_eq!((packet[9], &packet[12..16]), (17, &[192, 0, 2, packet[15]][..]));
        assert_eq!(packet[20..24], [0x11, 0x94, 0x11, 0x94], "UDP 4500 to 4500");
        assert!(!packet.windows(5).any(|part| part == b"hello" || part == [0x42; 5]));
    }
}

#[test]
fn without_an_sa_nothing_leaves_and_one_is_asked_for() {
    let (mut a, _, tap) = wire();
    a.send(2, b"early");
    a.poll();
    assert!(tap.borrow().is_empty());
    assert_eq!(a.device.take_acquire(), Some(POLICY));
    assert_eq!(a.device.take_acquire(), None);
    assert_eq!(a.device.outbound.counters().get(Discard::OutNoSa), 1);
}

#[test]
fn clear_and_forged_packets_do_not_reach_the_interface() {
    let (mut a, mut b, tap) = wire();
    a.install(1, 2);
    b.install(2, 1);
    a.send(2, b"hello");
    a.poll();
    let sent = tap.borrow()[0].clone();
    let mut forged = sent.clone();
    forged[35] = 2; // the next sequence number, for which the ICV is wrong
    let clear = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], &[0; 8]].concat();
    // `a` sends into the queue that `b` receives from: the genuine packet is there already.
    a.device.device_mut().sends.borrow_mut().extend([forged, clear, vec![0; 1501], vec![1]]);
    b.poll();
    assert_eq!(b.received().as_deref(), Some(&b"hello"[..]));
    b.poll();
    assert_eq!(b.received(), None);
    let counters = b.device.inbound.counters();
    assert_eq!(counters.get(Discard::InForged), 1);
    assert_eq!(counters.get(Discard::InNoPolicy), 1);
    assert_eq!(counters.get(Discard::InHeader), 2);
}

#[test]
fn tcp_crosses_in_tunnel_and_in_transport_mode_and_only_esp_is_on_the_wire() {
    let text: Vec<u8> =
        (0..40_000_u32).flat_map(|number| (number.wrapping_mul(0x9e37_79b9) ^ 0x5555_5555).to_be_bytes()).collect();
    for (mode, longest) in [(Mode::Tunnel, 1500 - 20 - 8), (Mode::Transport, 1500 - 40 - 8)] {
        let smoltcp_tcp::Exchange { read, wire } = smoltcp_tcp::exchange(mode, &text);
        assert!(read == text, "{mode:?}: {} of {} octets", read.len(), text.len());
        assert!(wire.len() > text.len() / 1460);
        let [mut forth, mut back] = [0, 0];
        for packet in &wire {
            assert_eq!((packet[9], &packet[12..15], &packet[16..19]), (50, &[192, 0, 2][..], &[192, 0, 2][..]));
            *(if packet[15] == 1 { &mut forth } else { &mut back }) += 1;
            assert!(packet.len() <= longest, "{mode:?}: {}", packet.len());
            assert!(!packet.windows(8).any(|part| text.windows(8).step_by(4).take(500).any(|clear| clear == part)));
        }
        assert!(forth > 100 && back > 20, "{mode:?}: {forth}, {back}");
        assert_eq!(wire.iter().map(Vec::len).max(), Some(longest));
    }
}

/// A node of two IPv6 hosts, in BEET mode over IPv4, with so many octets for what it receives.
fn beet(host: u8, end: End, rx: usize) -> Device<'static, End, RustCrypto> {
    let leak = |len: usize| Box::leak(vec![0u8; len].into_boxed_slice());
    let addr = |last: u8| AddrRange::single(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]));
    let peer = 3 - host;
    let (ours, theirs) = ([TrafficSelector::addrs(addr(host))], [TrafficSelector::addrs(addr(peer))]);
    let at = |last| ([192, 0, 2, last], 0).into();
    let params = |spi: u8| Params {
        spi: Spi::new(0x1000 + u32::from(spi)).unwrap(),
        mode: Mode::Beet,
        protection: AeadAlg::Aes128Gcm16.into(),
        keymat: &[9; 20],
        esn: false,
        path: Path { local: at(host), remote: at(peer) },
        encap: Encap::None,
        policy: POLICY,
        local_ts: &ours,
        remote_ts: &theirs,
        lifetime: Lifetime::default(),
        compression: None,
    };
    let sending = Box::leak(Box::new([const { OutboundSlot::<RustCrypto>::EMPTY }]));
    let receiving = Box::leak(Box::new([const { InboundSlot::<RustCrypto>::EMPTY }]));
    let mut outbound = Outbound::new(RustCrypto, &mut [], sending);
    let mut inbound = Inbound::new(RustCrypto, &mut [], receiving, Box::leak(Box::new([0u64])));
    let selector = Selector::between(addr(host), addr(peer));
    let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) };
    let slots = Box::leak(Box::new([Slot::EMPTY]));
    outbound.set_rules(Index::build([rule], &mut slots[..], &mut [][..]).unwrap()).unwrap();
    let now = time::Instant::ZERO;
    let out = OutboundParams {
        sa: params(peer),
        last_sent: 0,
        last_number: u64::MAX,
        copy_dscp: true,
        dont_fragment: DontFragment::Copy,
    };
    outbound.install(now, &out).unwrap();
    inbound.install(now, &InboundParams { sa: params(host), window: 64, highest_seen: 0 }).unwrap();
    Device::new(end, outbound, inbound, leak(rx), leak(1700)).unwrap()
}

#[test]
fn in_beet_mode_a_longer_header_than_the_outer_one_finds_room() {
    let mut packet = [0; 40 + 1400];
    (packet[0], packet[6], packet[7], packet[8], packet[24]) = (0x60, 253, 64, 0xfd, 0xfd);
    (packet[4], packet[5], packet[23], packet[39]) = (0x05, 0x78, 1, 2);
    // The outer packet has 20 + 16 + 1400 + 2 + 2 + 16 octets, and is to get 4 more in front.
    for (rx, comes) in [(1456 + 12, true), (1456 + 4, true), (1456 + 3, false)] {
        let (one, other) = (Line::default(), Line::default());
        let end = |receives: &Line, sends: &Line| End {
            receives: receives.clone(),
            sends: sends.clone(),
            tap: Line::default(),
        };
        let (mut a, mut b) = (beet(1, end(&one, &other), 1500), beet(2, end(&other, &one), rx));
        let now = Instant::ZERO;
        let token = phy::Device::transmit(&mut a, now).unwrap();
        phy::TxToken::consume(token, packet.len(), |to| to.copy_from_slice(&packet));
        assert_eq!(other.borrow()[0].len(), 1456);
        let came =
            phy::Device::receive(&mut b, now).map(|(token, _)| phy::RxToken::consume(token, |came| came == packet));
        assert_eq!(came, comes.then_some(true), "{rx}: {:?}", b.inbound.counters());
    }
}
