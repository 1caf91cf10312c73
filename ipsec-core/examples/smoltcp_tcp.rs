//! Two smoltcp stacks talk TCP to each other through [`ipsec_core::phy`]; on the wire between them there is ESP and nothing else.
//!
//! ```sh
//! cargo run -p ipsec-core --features smoltcp --example smoltcp_tcp
//! ```
#![allow(missing_debug_implementations, reason = "nobody prints them")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::rc::Rc;

use ipsec_core::buf::{HEADROOM, TAILROOM};
use ipsec_core::crypto::AeadAlg;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::phy::Device;
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

/// The MTU of the wire.
const MTU: usize = 1500;
const PORT: u16 = 7;
const POLICY: PolicyId = PolicyId(1);

/// One end of a wire. In a product: an Ethernet driver behind something that finds neighbours, or a modem.
pub struct Wire {
    /// What the other end sent.
    pub receives: Queue,
    /// What it is to receive.
    pub sends: Queue,
    /// Everything ever sent.
    pub tap: Queue,
}

/// Packets under way.
pub type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// A packet that came.
pub struct Received(Vec<u8>);
/// Where one goes, and where it is noted.
pub struct Sending(Queue, Queue);

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

impl phy::Device for Wire {
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
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, MTU);
        capabilities
    }
}

/// All that a node needs; on a microcontroller a `static`.
struct Memory {
    hits: [Hits; 1],
    rules: [Slot; 1],
    sending: [OutboundSlot<RustCrypto>; 1],
    receiving: [InboundSlot<RustCrypto>; 1],
    window: [u64; 1],
    rx: [u8; MTU],
    tx: [u8; HEADROOM + MTU + TAILROOM],
    tcp: [[u8; 4096]; 2],
}

impl Memory {
    const fn new() -> Self {
        Self {
            hits: [Hits::NONE],
            rules: [Slot::EMPTY],
            sending: [const { OutboundSlot::<RustCrypto>::EMPTY }],
            receiving: [const { InboundSlot::<RustCrypto>::EMPTY }],
            window: [0],
            rx: [0; MTU],
            tx: [0; HEADROOM + MTU + TAILROOM],
            tcp: [[0; 4096]; 2],
        }
    }
}

/// Who a node is, or its peer.
#[derive(Clone, Copy)]
struct End {
    /// What applications see.
    inner: Ipv4Addr,
    /// Where ESP goes. In transport mode the two are one.
    outer: Ipv4Addr,
    /// Of the SA on which it receives. Keys come from IKE, as these do; see `ike-core`.
    spi: u32,
    keymat: [u8; 20],
}

impl End {
    fn new(mode: Mode, last: u8) -> Self {
        let outer = Ipv4Addr::new(192, 0, 2, last);
        let inner = if mode == Mode::Tunnel { Ipv4Addr::new(10, 0, 0, last) } else { outer };
        Self { inner, outer, spi: 0x1000 + u32::from(last), keymat: [0x40 + last; 20] }
    }

    fn host(&self) -> AddrRange {
        AddrRange::single(self.inner.into())
    }
}

struct Node<'m> {
    device: Device<'m, Wire, RustCrypto>,
    interface: Interface,
    sockets: SocketSet<'m>,
    tcp: SocketHandle,
}

impl<'m> Node<'m> {
    fn new(
        mode: Mode,
        us: End,
        peer: End,
        wire: Wire,
        memory: &'m mut Memory,
        place: &'m mut [SocketStorage<'m>],
    ) -> Self {
        let Memory { hits, rules, sending, receiving, window, rx, tx, tcp: [to_send, received] } = memory;
        let start = ipsec_core::time::Instant::ZERO;
        let (local_ts, remote_ts) = ([TrafficSelector::addrs(us.host())], [TrafficSelector::addrs(peer.host())]);
        let params = |spi, keymat| Params {
            spi: Spi::new(spi).expect("more than 255"),
            mode,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat,
            esn: true,
            path: Path { local: (us.outer, 0).into(), remote: (peer.outer, 0).into() },
            encap: Encap::None,
            policy: POLICY,
            local_ts: &local_ts,
            remote_ts: &remote_ts,
            lifetime: Lifetime::default(),
            compression: None,
        };

        // One rule: what the two say to each other is protected. Everything else is discarded.
        let mut outbound = Outbound::new(RustCrypto, hits, sending);
        let selector = Selector::between(us.host(), peer.host());
        let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) };
        outbound.set_rules(Index::build([rule], &mut rules[..], &mut [][..]).expect("room")).expect("room");
        let sa = params(peer.spi, &peer.keymat);
        let sa = OutboundParams {
            sa,
            last_sent: 0,
            last_number: u64::MAX,
            copy_dscp: true,
            dont_fragment: DontFragment::Copy,
        };
        outbound.install(start, &sa).expect("an SA");
        let mut inbound = Inbound::new(RustCrypto, &mut [], receiving, window);
        let sa = params(us.spi, &us.keymat);
        inbound.install(start, &InboundParams { sa, window: 64, highest_seen: 0 }).expect("an SA");

        // From here on it is smoltcp as ever.
        let mut device = Device::new(wire, outbound, inbound, rx, tx).expect("whole IP packets");
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addrs| addrs.push(IpCidr::new(us.inner.into(), 24)).expect("room"));
        let socket =
            tcp::Socket::new(tcp::SocketBuffer::new(&mut received[..]), tcp::SocketBuffer::new(&mut to_send[..]));
        let mut sockets = SocketSet::new(place);
        let tcp = sockets.add(socket);
        Self { device, interface, sockets, tcp }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'m> {
        self.sockets.get_mut(self.tcp)
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.device, &mut self.sockets);
    }
}

/// What came of it.
pub struct Exchange {
    /// What the server read.
    pub read: Vec<u8>,
    /// Every packet on the wire.
    pub wire: Vec<Vec<u8>>,
}

/// One node connects to the other, and sends it all of `text`.
pub fn exchange(mode: Mode, text: &[u8]) -> Exchange {
    let (one, other, tap) = (Queue::default(), Queue::default(), Queue::default());
    let wire =
        |receives: &Queue, sends: &Queue| Wire { receives: receives.clone(), sends: sends.clone(), tap: tap.clone() };
    let (us, peer) = (End::new(mode, 1), End::new(mode, 2));
    let (mut ours, mut theirs) = (Memory::new(), Memory::new());
    let mut places = [const { [SocketStorage::EMPTY] }; 2];
    let [our_place, their_place] = &mut places;
    let mut client = Node::new(mode, us, peer, wire(&one, &other), &mut ours, our_place);
    let mut server = Node::new(mode, peer, us, wire(&other, &one), &mut theirs, their_place);

    server.tcp().listen(PORT).expect("a port");
    let Node { interface, sockets, tcp, .. } = &mut client;
    let socket = sockets.get_mut::<tcp::Socket<'_>>(*tcp);
    socket.connect(interface.context(), (peer.inner, PORT), 49_152).expect("a peer");

    let (mut sent, mut read) = (0, Vec::new());
    for millis in 0..60_000 {
        let now = Instant::from_millis(millis);
        client.poll(now);
        server.poll(now);
        if client.tcp().can_send() {
            sent += client.tcp().send_slice(&text[sent..]).expect("it is open");
            if sent == text.len() {
                client.tcp().close();
            }
        }
        while server.tcp().can_recv() {
            let mut some = [0; 512];
            let len = server.tcp().recv_slice(&mut some).expect("it is open");
            read.extend_from_slice(&some[..len]);
        }
        if read.len() == text.len() && !server.tcp().may_recv() {
            break; // all of it, and the end
        }
    }
    let wire = tap.borrow_mut().drain(..).collect();
    Exchange { read, wire }
}

fn main() {
    let text = vec![b'.'; 20_000];
    for mode in [Mode::Tunnel, Mode::Transport] {
        let Exchange { read, wire } = exchange(mode, &text);
        let octets: usize = wire.iter().map(Vec::len).sum();
        println!("{mode:?}: {} octets of TCP in {} packets of ESP, {octets} octets", read.len(), wire.len());
    }
}
