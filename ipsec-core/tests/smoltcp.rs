//! Two smoltcp interfaces talk UDP; between them only ESP is seen.

use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, Protection};
use ipsec_core::encap::push_outer;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::phy::Device;
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
use ipsec_core::time;
use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

type Line = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a wire: what it sends is in the other end's queue.
struct End {
    receives: Line,
    sends: Line,
    /// Everything ever sent.
    tap: Line,
}

struct Received(Vec<u8>);
struct Sending(Line, Line);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Sending {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.borrow_mut().push_back(packet.clone());
        self.1.borrow_mut().push_back(packet);
        result
    }
}

impl phy::Device for End {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending;

    fn receive(&mut self, timestamp: Instant) -> Option<(Received, Sending)> {
        let packet = self.receives.borrow_mut().pop_front()?;
        Some((Received(packet), self.transmit(timestamp)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending> {
        Some(Sending(self.sends.clone(), self.tap.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

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
        };
        let now = time::Instant::ZERO;
        let out = OutboundParams { sa: params(peer), last_sent: 0, copy_dscp: true, dont_fragment: DontFragment::Copy };
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
fn a_device_has_room_for_headers_that_become_longer() {
    let ends = ["fd09::1", "fd09::2"].map(|addr| addr.parse::<IpAddr>().unwrap());
    let ends = ends.map(|addr| [TrafficSelector::addrs(AddrRange::single(addr))]);
    let (one, other) = (Line::default(), Line::default());
    let mut sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 1];
    let mut outbound: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut sas);
    let sa = |path, local_ts, remote_ts| Params {
        spi: Spi::new(0x1000).unwrap(),
        mode: Mode::Beet,
        protection: Protection::ImplicitIv(AeadAlg::Aes256Gcm16),
        keymat: &[7; 36],
        esn: false,
        path,
        encap: Encap::None,
        policy: POLICY,
        local_ts,
        remote_ts,
        lifetime: Lifetime::default(),
    };
    let params = OutboundParams {
        sa: sa(path(1, 2), &ends[0], &ends[1]),
        last_sent: 0,
        copy_dscp: true,
        dont_fragment: DontFragment::Copy,
    };
    let id = outbound.install(time::Instant::ZERO, &params).unwrap();
    let (mut sas, mut windows) = ([const { InboundSlot::<RustCrypto>::EMPTY }; 1], [0; 1]);
    let mut inbound: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut sas, &mut windows);
    let params = InboundParams { sa: sa(path(2, 1), &ends[1], &ends[0]), window: 64, highest_seen: 0 };
    inbound.install(time::Instant::ZERO, &params).unwrap();

    let end = End { receives: one.clone(), sends: other.clone(), tap: other };
    let (mut rx, mut tx) = ([0; 600], [0; 700]);
    let nobody: Outbound<'_, RustCrypto> = Outbound::new(RustCrypto, &mut [], &mut []);
    let mut device = Device::new(end, nobody, inbound, &mut rx, &mut tx).unwrap();
    for len in [40, 41, 300, 581] {
        let mut inner = vec![0x42; len];
        inner[..8].copy_from_slice(&[0x60, 0, 0, 0, ((len - 40) >> 8) as u8, (len - 40) as u8, 17, 9]);
        for (at, last) in [(8, 1), (24, 2)] {
            inner[at..at + 16].copy_from_slice(&[0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        let mut bytes = vec![0; len + 200];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        let egress = outbound.seal(time::Instant::ZERO, id, &mut packet).unwrap();
        push_outer(&egress, &mut packet).unwrap();
        assert!(packet.len() <= 600 - 12, "{len}: {}", packet.len());
        one.borrow_mut().push_back(packet.as_slice().to_vec());
        let (came, _) = phy::Device::receive(&mut device, Instant::from_millis(0)).unwrap();
        phy::RxToken::consume(came, |came| assert_eq!(came, inner));
    }
}
