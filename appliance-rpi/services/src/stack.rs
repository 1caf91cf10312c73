//! One port's IP: addresses, ping and the status page, on smoltcp.

use crate::http::{self, HEAD_MAX, Refusal, Request, Response};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use rpi_drivers::{MacAddress, Nic};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr, Ipv6Cidr};

/// An IPv4 address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Net {
    /// The address.
    pub address: Ipv4Addr,
    /// Prefix length, at most 32.
    pub prefix: u8,
}

/// Where a port gets its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// Asks for one (RFC 2131); until an answer comes, and after [`FALLBACK_AFTER_MS`], uses the fallback.
    Dhcp {
        /// Used while no server answers.
        fallback: Ipv4Net,
    },
    /// Has one.
    Static {
        /// The address.
        address: Ipv4Net,
        /// The router for everything else.
        router: Option<Ipv4Addr>,
    },
}

/// Milliseconds without an answer of a DHCP server after which the fallback address is used.
pub const FALLBACK_AFTER_MS: i64 = 4_000;

const CONNECTIONS: usize = 4;
const SEND_BUFFER: usize = 8192;
const FRAME: usize = 1522;
const MTU: usize = 1514;
/// Frames taken from the device in one go, so that a flood cannot hold up the main loop.
const BURST: usize = 64;
/// A request must be complete, and its answer taken, within this time.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);

/// What the rest of the image decides about a request.
pub trait Pages {
    /// Answers a request, or refuses it.
    ///
    /// # Errors
    /// The refusal to send instead.
    fn answer(&mut self, request: Request) -> Result<Response, Refusal>;
}

/// A connection to the status page.
struct Connection {
    socket: SocketHandle,
    since: Instant,
    head: Vec<u8>,
    answer: Option<Answer>,
}

struct Answer {
    response: Response,
    sent: usize,
}

/// Where the current IPv4 address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    None,
    Static,
    Dhcp,
    Fallback,
}

/// One port's IP stack.
pub struct Stack {
    addressing: Addressing,
    port: u16,
    interface: Option<Interface>,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    connections: Vec<Connection>,
    mac: MacAddress,
    link: bool,
    link_since: Instant,
    origin: Origin,
    received: Vec<u8>,
    sent: Vec<u8>,
}

/// What one [`Stack::poll`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Frames were taken from the device; there may be more.
    pub busy: bool,
    /// The IPv4 address changed.
    pub readdressed: bool,
}

impl Stack {
    /// A stack without a device yet, with the status page on TCP `port`.
    pub fn new(addressing: Addressing, port: u16) -> Self {
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = matches!(addressing, Addressing::Dhcp { .. }).then(|| sockets.add(dhcpv4::Socket::new()));
        let connections = (0..CONNECTIONS)
            .map(|_| {
                let mut socket = tcp::Socket::new(
                    tcp::SocketBuffer::new(vec![0; HEAD_MAX]),
                    tcp::SocketBuffer::new(vec![0; SEND_BUFFER]),
                );
                socket.set_timeout(Some(CONNECTION_LIMIT));
                let socket = sockets.add(socket);
                Connection { socket, since: Instant::ZERO, head: Vec::with_capacity(HEAD_MAX), answer: None }
            })
            .collect();
        Self {
            addressing,
            port,
            interface: None,
            sockets,
            dhcp,
            connections,
            mac: MacAddress([0; 6]),
            link: false,
            link_since: Instant::ZERO,
            origin: Origin::None,
            received: vec![0; FRAME],
            sent: vec![0; FRAME],
        }
    }

    /// Forgets the device, for it was unplugged.
    pub fn detach(&mut self) {
        self.interface = None;
        self.link = false;
        self.origin = Origin::None;
        self.abort_connections();
    }

    /// Moves frames both ways, keeps addresses and connections up; bounded work.
    ///
    /// `seed` makes TCP sequence numbers and DHCP transaction ids hard to guess; it is used when a device appears.
    pub fn poll(&mut self, nic: &mut dyn Nic, now_us: u64, seed: u64, pages: &mut dyn Pages) -> Progress {
        let now = Instant::from_micros(i64::try_from(now_us).unwrap_or(i64::MAX));
        let mut progress = Progress::default();
        if self.interface.is_none() || self.mac != nic.mac() {
            self.attach(nic, now, seed);
        }
        let Some(mut interface) = self.interface.take() else { return progress };
        progress.readdressed |= self.follow_link(&mut interface, nic.link().is_up(), now);

        let mut device = Adapter { nic, received: &mut self.received, sent: &mut self.sent };
        for _ in 0..BURST {
            match interface.poll_ingress_single(now, &mut device, &mut self.sockets) {
                PollIngressSingleResult::None => break,
                _ => progress.busy = true,
            }
        }
        progress.readdressed |= self.follow_dhcp(&mut interface, now);
        self.serve(now, pages);
        let mut device = Adapter { nic, received: &mut self.received, sent: &mut self.sent };
        interface.poll_maintenance(now);
        interface.poll_egress(now, &mut device, &mut self.sockets);
        self.interface = Some(interface);
        progress
    }

    /// Addresses with prefix length.
    pub fn addresses(&self) -> Vec<String> {
        self.interface.iter().flat_map(|interface| interface.ip_addrs()).map(ToString::to_string).collect()
    }

    /// Whether there is an IPv4 address and a link.
    pub fn is_up(&self) -> bool {
        self.link && self.origin != Origin::None
    }

    /// Where the IPv4 address comes from: `static`, `dhcp`, `fallback` or `none`.
    pub fn origin(&self) -> &'static str {
        match self.origin {
            Origin::None => "none",
            Origin::Static => "static",
            Origin::Dhcp => "dhcp",
            Origin::Fallback => "fallback",
        }
    }

    fn attach(&mut self, nic: &mut dyn Nic, now: Instant, seed: u64) {
        self.detach();
        self.mac = nic.mac();
        let address = EthernetAddress(self.mac.0);
        // smoltcp refuses to have a group address as its own.
        if !address.is_unicast() {
            return;
        }
        let mut config = Config::new(HardwareAddress::Ethernet(address));
        config.random_seed = seed;
        let mut device = Adapter { nic, received: &mut self.received, sent: &mut self.sent };
        let mut interface = Interface::new(config, &mut device, now);
        interface.update_ip_addrs(|addresses| {
            // There is room: the list is empty.
            let _ = addresses.push(IpCidr::Ipv6(link_local(self.mac)));
        });
        self.interface = Some(interface);
    }

    /// Starts over when the cable was plugged in.
    fn follow_link(&mut self, interface: &mut Interface, link: bool, now: Instant) -> bool {
        if link == self.link {
            return false;
        }
        self.link = link;
        self.link_since = now;
        if !link {
            return false;
        }
        match self.addressing {
            Addressing::Static { address, router } => {
                self.origin = Origin::Static;
                readdress(interface, Some(address.into()), router);
                true
            }
            Addressing::Dhcp { .. } => {
                if let Some(dhcp) = self.dhcp {
                    self.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).reset();
                }
                self.origin = Origin::None;
                readdress(interface, None, None);
                false
            }
        }
    }

    fn follow_dhcp(&mut self, interface: &mut Interface, now: Instant) -> bool {
        let (Some(dhcp), Addressing::Dhcp { fallback }) = (self.dhcp, self.addressing) else { return false };
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll() {
            Some(dhcpv4::Event::Configured(lease)) => {
                self.origin = Origin::Dhcp;
                readdress(interface, Some(lease.address), lease.router);
                true
            }
            Some(dhcpv4::Event::Deconfigured) if self.origin == Origin::Dhcp => {
                self.origin = Origin::None;
                self.link_since = now;
                readdress(interface, None, None);
                true
            }
            _ => {
                let waited = (now - self.link_since).total_millis() as i64;
                if self.link && self.origin == Origin::None && waited >= FALLBACK_AFTER_MS {
                    self.origin = Origin::Fallback;
                    readdress(interface, Some(fallback.into()), None);
                    return true;
                }
                false
            }
        }
    }

    fn abort_connections(&mut self) {
        for connection in &mut self.connections {
            self.sockets.get_mut::<tcp::Socket<'_>>(connection.socket).abort();
            connection.head.clear();
            connection.answer = None;
        }
    }

    /// Moves every connection one step on.
    fn serve(&mut self, now: Instant, pages: &mut dyn Pages) {
        for connection in &mut self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.socket);
            connection.step(socket, self.port, now, pages);
        }
    }
}

impl Connection {
    fn step(&mut self, socket: &mut tcp::Socket<'_>, port: u16, now: Instant, pages: &mut dyn Pages) {
        if !socket.is_open() {
            self.head.clear();
            self.answer = None;
            self.since = now;
            // Fails only for port 0, which the configuration refuses.
            let _ = socket.listen(port);
            return;
        }
        if !socket.is_active() {
            self.since = now;
            return;
        }
        if now - self.since > CONNECTION_LIMIT {
            socket.abort();
            return;
        }
        if self.answer.is_none() && socket.can_recv() {
            let room = HEAD_MAX - self.head.len().min(HEAD_MAX);
            let head = &mut self.head;
            // The socket can receive, so this does not fail.
            let _ = socket.recv(|octets| {
                let taken = octets.len().min(room);
                head.extend(octets.iter().take(taken));
                (taken, ())
            });
            let outcome = match http::parse(&self.head) {
                Ok(None) => return,
                Ok(Some(request)) => pages.answer(request),
                Err(refusal) => Err(refusal),
            };
            let response = outcome.unwrap_or_else(Response::refusal);
            self.answer = Some(Answer { response, sent: 0 });
        } else if self.answer.is_none() && socket.state() == tcp::State::CloseWait {
            socket.close();
        }
        if let Some(answer) = &mut self.answer {
            let rest = answer.response.octets().get(answer.sent..).unwrap_or(&[]);
            if rest.is_empty() {
                socket.close();
            } else if let Ok(sent) = socket.send_slice(rest) {
                answer.sent += sent;
            }
        }
    }
}

/// Gives the interface `address` as its only IPv4 address and `router` as its default route.
fn readdress(interface: &mut Interface, address: Option<Ipv4Cidr>, router: Option<Ipv4Addr>) {
    interface.update_ip_addrs(|addresses| {
        addresses.retain(|address| matches!(address, IpCidr::Ipv6(_)));
        if let Some(address) = address {
            // There is room: one IPv6 address is left.
            let _ = addresses.push(IpCidr::Ipv4(address));
        }
    });
    interface.routes_mut().remove_default_ipv4_route();
    if let Some(router) = router {
        // There is room: the route was just removed.
        let _ = interface.routes_mut().add_default_ipv4_route(router);
    }
}

impl From<Ipv4Net> for Ipv4Cidr {
    fn from(net: Ipv4Net) -> Self {
        Self::new(net.address, net.prefix.min(32))
    }
}

/// The link-local address made of a MAC address (RFC 4291 appendix A).
fn link_local(mac: MacAddress) -> Ipv6Cidr {
    let [a, b, c, d, e, f] = mac.0;
    let octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Ipv6Cidr::new(Ipv6Addr::from(octets), 64)
}

/// A [`Nic`] as smoltcp wants it.
struct Adapter<'a> {
    nic: &'a mut dyn Nic,
    received: &'a mut [u8],
    sent: &'a mut [u8],
}

impl Device for Adapter<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sender<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        let len = self.nic.receive(self.received)?;
        let frame = self.received.get(..len)?;
        Some((Received { frame }, Sender { nic: self.nic, frame: self.sent }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        if self.nic.can_send() { Some(Sender { nic: self.nic, frame: self.sent }) } else { None }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

struct Received<'a> {
    frame: &'a [u8],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.frame)
    }
}

struct Sender<'a> {
    nic: &'a mut dyn Nic,
    frame: &'a mut [u8],
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let len = len.min(self.frame.len());
        let (frame, _) = self.frame.split_at_mut(len);
        frame.fill(0);
        let result = write(frame);
        // A frame that finds no room is lost as on a wire; the device has counted it.
        let _ = self.nic.send(frame);
        result
    }
}

#[cfg(test)]
mod tests;
