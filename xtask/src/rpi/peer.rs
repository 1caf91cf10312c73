//! The other end of a guest's network cable: QEMU puts each Ethernet frame into one UDP datagram on loopback, so no
//! privilege is needed to ping the guest, fetch its pages, or throw anything at it.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant as Wall};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IPV4_HEADER_LEN,
    Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use crate::outcome::{Result, ensure};

const FRAME_MAX: usize = 2048;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0xff, 0xff, 0x01];
const ECHO_IDENT: u16 = 0x5043;
const ECHO_TEXT: [u8; 56] = [0x5a; 56];

/// One end of a cable.
pub(crate) struct Peer {
    cable: Cable,
    guest_port: u16,
    interface: Interface,
    start: Wall,
    next_port: u16,
}

/// An answer of the guest's web server.
pub(crate) struct Answer {
    /// The number in the status line.
    pub(crate) status: u16,
    /// What follows the head.
    pub(crate) body: String,
}

impl Peer {
    /// A peer with this address in a /24.
    ///
    /// # Errors
    /// When loopback has no free ports.
    pub(crate) fn new(address: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // The port is given back for QEMU to take.
        let guest_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        socket.connect((Ipv4Addr::LOCALHOST, guest_port))?;
        socket.set_nonblocking(true)?;
        let mut cable = Cable { socket, buffer: vec![0; FRAME_MAX] };
        let mut interface =
            Interface::new(Config::new(EthernetAddress(MAC).into()), &mut cable, Instant::from_millis(0));
        interface.update_ip_addrs(|addresses| {
            // There is room: the list is empty.
            let _ = addresses.push(IpCidr::new(address.into(), 24));
        });
        Ok(Self { cable, guest_port, interface, start: Wall::now(), next_port: 40_000 })
    }

    /// The value of QEMU's `-netdev` for the guest's end.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) fn netdev(&self, id: &str) -> Result<String> {
        let (here, there) = (self.cable.socket.local_addr()?.port(), self.guest_port);
        Ok(format!(
            "dgram,id={id},local.type=inet,local.host=127.0.0.1,local.port={there},\
             remote.type=inet,remote.host=127.0.0.1,remote.port={here}"
        ))
    }

    /// Sends a frame as it is. One that finds no room is lost, as on a wire.
    pub(crate) fn throw(&mut self, frame: &[u8]) {
        let _ = self.cable.socket.send(frame);
    }

    /// Sends `count` echo requests one after the other; how many went unanswered for two seconds.
    ///
    /// # Errors
    /// When the first is not answered within `patience`.
    pub(crate) fn ping(&mut self, guest: Ipv4Addr, count: u16, patience: Duration) -> Result<u16> {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(ECHO_IDENT)).map_err(|error| format!("{error:?}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let mut lost = 0;
        let until = Wall::now() + patience;
        // Until the guest is up, one request may be repeated.
        while !self.echo(&mut sockets, handle, guest, 0) {
            ensure(Wall::now() < until, || format!("{guest} does not answer"))?;
        }
        for sequence in 1..=count {
            if !self.echo(&mut sockets, handle, guest, sequence) {
                lost += 1;
            }
        }
        Ok(lost)
    }

    fn echo(
        &mut self,
        sockets: &mut SocketSet<'_>,
        handle: smoltcp::iface::SocketHandle,
        guest: Ipv4Addr,
        sequence: u16,
    ) -> bool {
        let checksums = ChecksumCapabilities::default();
        let request = Icmpv4Repr::EchoRequest { ident: ECHO_IDENT, seq_no: sequence, data: &ECHO_TEXT };
        let socket = sockets.get_mut::<icmp::Socket<'_>>(handle);
        // While the guest's address is not resolved the buffer fills; those in it will do.
        if let Ok(room) = socket.send(request.buffer_len(), IpAddress::Ipv4(guest)) {
            request.emit(&mut Icmpv4Packet::new_unchecked(room), &checksums);
        }
        self.run(sockets, Duration::from_secs(2), |sockets| {
            let socket = sockets.get_mut::<icmp::Socket<'_>>(handle);
            while let Ok((octets, from)) = socket.recv() {
                let reply = Icmpv4Packet::new_checked(octets).and_then(|packet| Icmpv4Repr::parse(&packet, &checksums));
                if let Ok(Icmpv4Repr::EchoReply { ident, seq_no, data }) = reply
                    && (ident, seq_no, data) == (ECHO_IDENT, sequence, &ECHO_TEXT[..])
                    && from == IpAddress::Ipv4(guest)
                {
                    return true;
                }
            }
            false
        })
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When no whole answer comes within ten seconds.
    pub(crate) fn get(&mut self, guest: Ipv4Addr, path: &str) -> Result<Answer> {
        self.request(guest, "GET", path)
    }

    /// `method path`, without a body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn request(&mut self, guest: Ipv4Addr, method: &str, path: &str) -> Result<Answer> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {guest}\r\nConnection: close\r\n\r\n");
        let text = String::from_utf8(self.converse(guest, head.as_bytes())?)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no whole answer: {text:?}"))?;
        let status = head.split(' ').nth(1).and_then(|number| number.parse().ok());
        Ok(Answer { status: status.ok_or("no status line")?, body: body.to_owned() })
    }

    /// Sends `octets` to port 80 and takes all that comes back until the guest closes.
    ///
    /// # Errors
    /// When it does not close within ten seconds.
    pub(crate) fn converse(&mut self, guest: Ipv4Addr, octets: &[u8]) -> Result<Vec<u8>> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.next_port += 1;
        socket
            .connect(self.interface.context(), (IpAddress::Ipv4(guest), 80), self.next_port)
            .map_err(|error| format!("connect: {error:?}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (mut sent, mut received) = (0, Vec::new());
        let whole = self.run(&mut sockets, Duration::from_secs(10), |sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if socket.may_send() && sent < octets.len() {
                sent += socket.send_slice(&octets[sent..]).unwrap_or(0);
            }
            while socket.can_recv() {
                // The socket can receive, so this does not fail.
                let _ = socket.recv(|part| (part.len(), received.extend_from_slice(part)));
            }
            if socket.state() == tcp::State::CloseWait {
                socket.close();
            }
            matches!(socket.state(), tcp::State::LastAck | tcp::State::Closed | tcp::State::TimeWait)
        });
        // Lets the last acknowledgement out.
        self.run(&mut sockets, Duration::from_millis(20), |_| false);
        ensure(whole, || format!("{guest} did not finish; {} octets came", received.len()))?;
        Ok(received)
    }

    /// Runs the stack until `done` says yes or the time is over.
    fn run(
        &mut self,
        sockets: &mut SocketSet<'_>,
        limit: Duration,
        mut done: impl FnMut(&mut SocketSet<'_>) -> bool,
    ) -> bool {
        let until = Wall::now() + limit;
        loop {
            let now = Instant::from_micros(i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX));
            self.interface.poll(now, &mut self.cable, sockets);
            if done(sockets) {
                return true;
            }
            if Wall::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

struct Cable {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Device for Cable {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Frame<'_>, Sender<'_>)> {
        let len = self.socket.recv(&mut self.buffer).ok()?;
        Some((Frame(&self.buffer[..len]), Sender(&self.socket)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        Some(Sender(&self.socket))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Frame<'a>(&'a [u8]);

impl RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Sender<'a>(&'a UdpSocket);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        // Fails while QEMU is not there yet; the frame is lost, as on a wire.
        let _ = self.0.send(&frame);
        result
    }
}

/// An ARP request of a peer at `from`.
pub(crate) fn arp_request(to: Ipv4Addr, from: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(MAC),
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: to,
    };
    let mut octets = frame(EthernetAddress::BROADCAST, EthernetProtocol::Arp, 60);
    request.emit(&mut ArpPacket::new_unchecked(&mut octets[ETHERNET..]));
    octets
}

/// An echo request of a peer at `from` that fills a frame of `len` octets, which has room for its headers.
pub(crate) fn echo_request(mac: [u8; 6], to: Ipv4Addr, from: Ipv4Addr, len: usize) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let mut octets = frame(EthernetAddress(mac), EthernetProtocol::Ipv4, len);
    let payload_len = len - ETHERNET - IPV4_HEADER_LEN;
    let ip = Ipv4Repr { src_addr: from, dst_addr: to, next_header: IpProtocol::Icmp, payload_len, hop_limit: 64 };
    let data = vec![0x5a; payload_len - 8];
    let request = Icmpv4Repr::EchoRequest { ident: ECHO_IDENT, seq_no: 1, data: &data };
    let (head, body) = octets[ETHERNET..].split_at_mut(IPV4_HEADER_LEN);
    ip.emit(&mut Ipv4Packet::new_unchecked(head), &checksums);
    request.emit(&mut Icmpv4Packet::new_unchecked(body), &checksums);
    octets
}

const ETHERNET: usize = EthernetFrame::<&[u8]>::header_len();

fn frame(to: EthernetAddress, kind: EthernetProtocol, len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    EthernetRepr { src_addr: EthernetAddress(MAC), dst_addr: to, ethertype: kind }
        .emit(&mut EthernetFrame::new_unchecked(&mut octets));
    octets
}
