//! The sockets that face the peers: UDP 500 and 4500, and IP protocol 50.
//!
//! Each carries our firewall mark, so that what it sends never comes back through the TUN device. Answers leave from the
//! address that the question was sent to, which a socket bound to a wildcard address learns with each datagram.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipsec_core::buf::PacketBuf;
use ipsec_core::net::{IKE_PORT, NATT_PORT, Path};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Type};

use crate::boundary::MARK;

/// Datagrams taken from a socket with one system call.
const BATCH: usize = 32;
/// The largest datagram there is, with an IPv4 header: one that was cut on its way comes whole.
pub(crate) const DATAGRAM: usize = 65_535;
/// Octets in front of a datagram: room for the header that a packet gets back which came through an SA between two hosts.
pub(crate) const ROOM: usize = 40;
/// What the kernel may hold for a socket while we are busy, as far as it lets us.
const KERNEL_BUFFER: usize = 4 << 20;

sockopt_impl!(
    /// Whether, and how, the kernel sets the DF bit.
    Ipv4MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);

sockopt_impl!(
    /// Whether UDP over IPv6 comes in without a checksum.
    UdpNoCheck6Rx,
    SetOnly,
    libc::IPPROTO_UDP,
    libc::UDP_NO_CHECK6_RX,
    bool
);

/// The ports of ours that IKE comes to.
pub(crate) const PORTS: [u16; 2] = [IKE_PORT, NATT_PORT];

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Carrier {
    /// UDP on this port of ours: IKE, and on 4500 also ESP (RFC 3948).
    Udp(u16),
    /// ESP directly on IP, protocol 50.
    Esp,
}

/// What a socket listens to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Listen {
    /// The kind of datagrams.
    pub(crate) carrier: Carrier,
    /// An address of ours, or the unspecified one for all of its family.
    pub(crate) addr: IpAddr,
    /// Only what comes through this interface.
    pub(crate) interface: Option<String>,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.carrier {
            Carrier::Udp(port) => write!(f, "UDP port {port}")?,
            Carrier::Esp => f.write_str("IP protocol 50")?,
        }
        write!(f, " at {}", self.addr)?;
        self.interface.as_ref().map_or(Ok(()), |name| write!(f, " on {name}"))
    }
}

impl Listen {
    /// Whether the kernel keeps two such sockets apart only when both agree to share.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let one_address = self.addr == other.addr || self.addr.is_unspecified() || other.addr.is_unspecified();
        let one_interface = self.interface == other.interface || self.interface.is_none() || other.interface.is_none();
        self.carrier == other.carrier && self.addr.is_ipv4() == other.addr.is_ipv4() && one_address && one_interface
    }

    /// Whether all that comes to the other one came here if there were no other one.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let address = self.addr == other.addr || self.addr.is_unspecified();
        self.overlaps(other) && address && (self.interface == other.interface || self.interface.is_none())
    }
}

/// An open socket.
pub(crate) struct Socket {
    fd: OwnedFd,
    listen: Listen,
    /// The UDP port; 0 for protocol 50.
    port: u16,
    /// The index of the interface that it is bound to.
    link: Option<u32>,
    /// Whether the DF bit is set in what leaves by it over IPv4: the kernel is told so of a socket, not of a datagram.
    whole: Mutex<bool>,
}

/// What an IP header says beside addresses and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// The type-of-service or traffic-class octet.
    pub(crate) class: u8,
    /// TTL or hop limit; `None`: what the kernel takes by itself, or did not tell.
    pub(crate) hops: Option<u8>,
    /// Routers must not cut it; of IPv6 none may. What came in does not tell.
    pub(crate) whole: bool,
}

/// Where a received datagram came from, and how it was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Our address and the sender's; ports are 0 for protocol 50.
    pub(crate) path: Path,
    /// Of the outer header.
    pub(crate) marks: Marks,
}

impl Socket {
    /// Opens and binds a socket. The address need not be there yet.
    pub(crate) fn open(listen: Listen) -> io::Result<Self> {
        Self::open_as(listen, false)
    }

    /// Opens and binds a socket beside `held` ones of ours that are in its way.
    pub(crate) fn open_beside(listen: Listen, held: &[&Self]) -> io::Result<Self> {
        let shared = held.iter().map(|socket| socket.shared()).collect::<io::Result<Vec<_>>>()?;
        let opened = Self::open_as(listen, true)?;
        // From here on the port is this socket's alone again.
        opened.share(false)?;
        drop(shared);
        Ok(opened)
    }

    /// Lets sockets of the same user in for as long as the value lasts.
    pub(crate) fn shared(&self) -> io::Result<Shared<'_>> {
        self.share(true)?;
        Ok(Shared(self))
    }

    /// With others of the same user: SO_REUSEADDR would let in anybody's who sets it too.
    fn share(&self, shared: bool) -> io::Result<()> {
        setsockopt(&self.fd, sockopt::ReusePort, &shared).map_err(io::Error::from)
    }

    fn open_as(listen: Listen, shared: bool) -> io::Result<Self> {
        let domain = if listen.addr.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let (kind, protocol, port) = match listen.carrier {
            Carrier::Udp(port) => (Type::DGRAM, Protocol::UDP, port),
            Carrier::Esp => (Type::RAW, Protocol::from(libc::IPPROTO_ESP), 0),
        };
        let socket = socket2::Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        let link = listen.interface.as_deref().map(if_nametoindex).transpose()?;
        if let Some(interface) = &listen.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        socket.set_mark(MARK)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        // More than the system-wide limit where we may, else as much as it allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &KERNEL_BUFFER).is_err() {
            socket.set_recv_buffer_size(KERNEL_BUFFER)?;
        }
        if listen.addr.is_ipv4() {
            socket.set_freebind_v4(true)?;
            socket.set_recv_tos_v4(true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            // Fragmenting outside is slow but arrives; the MTU of the TUN device keeps it from happening on our link.
            setsockopt(&socket, Ipv4MtuDiscover, &libc::IP_PMTUDISC_DONT)?;
        } else {
            socket.set_freebind_v6(true)?;
            // A raw socket has one family anyway, and the kernel refuses the option there (EINVAL).
            if listen.carrier != Carrier::Esp {
                socket.set_only_v6(true)?;
            }
            // ESP in UDP may have none (RFC 3948 §2.1, RFC 6935): it has a check of its own. What we send has one all the same: IKE
            // leaves by the same socket, and datagrams without one the kernel neither cuts nor joins (UDP_SEGMENT, UDP_GRO).
            if matches!(listen.carrier, Carrier::Udp(port) if port != IKE_PORT) {
                setsockopt(&socket, UdpNoCheck6Rx, &true)?;
            }
            socket.set_recv_tclass_v6(true)?;
            socket.set_recv_hoplimit_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        socket.bind(&SocketAddr::new(listen.addr, port).into())?;
        let port = match listen.carrier {
            Carrier::Udp(_) => socket.local_addr()?.as_socket().map_or(port, |bound| bound.port()),
            Carrier::Esp => 0,
        };
        Ok(Self { fd: socket.into(), listen, port, link, whole: Mutex::new(false) })
    }

    /// What the socket listens to.
    pub(crate) fn listen(&self) -> &Listen {
        &self.listen
    }

    /// The index of the interface that it is bound to; `None`: it is bound to none.
    pub(crate) fn link(&self) -> Option<u32> {
        self.link
    }

    /// Whether this is such a socket, and its interface the one that has the name now.
    pub(crate) fn hears(&self, listen: &Listen) -> bool {
        let link = listen.interface.as_deref().map(|name| if_nametoindex(name).ok());
        self.listen == *listen && link != Some(None) && self.link == link.flatten()
    }

    /// Whether a datagram that leaves from `local` (port 0: protocol 50) is sent here.
    pub(crate) fn serves(&self, local: SocketAddr) -> bool {
        self.port == local.port()
            && self.listen.addr.is_ipv4() == local.is_ipv4()
            && (self.listen.addr.is_unspecified() || self.listen.addr == local.ip())
    }

    /// Sends a datagram with these marks.
    pub(crate) fn send(&self, path: Path, marks: Marks, datagram: &[u8]) -> io::Result<()> {
        let to = SockaddrStorage::from(path.remote);
        let data = [io::IoSlice::new(datagram)];
        let fd = self.fd.as_raw_fd();
        let (class, hops) = (i32::from(marks.class), i32::from(marks.hops.unwrap_or_default()));
        let told = if marks.hops.is_some() { ..3 } else { ..2 };
        match (path.local.ip(), path.remote.ip()) {
            (IpAddr::V4(from), IpAddr::V4(_)) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [
                    ControlMessage::Ipv4PacketInfo(&from),
                    ControlMessage::Ipv4Tos(&marks.class),
                    ControlMessage::Ipv4Ttl(&hops),
                ];
                let _as_told = self.keep_whole(marks.whole)?;
                sendmsg(fd, &data, control.get(told).unwrap_or_default(), MsgFlags::empty(), Some(&to))
            }
            (IpAddr::V6(from), IpAddr::V6(_)) => {
                let from = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
                let control = [
                    ControlMessage::Ipv6PacketInfo(&from),
                    ControlMessage::Ipv6TClass(&class),
                    ControlMessage::Ipv6HopLimit(&hops),
                ];
                sendmsg(fd, &data, control.get(told).unwrap_or_default(), MsgFlags::empty(), Some(&to))
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }?;
        Ok(())
    }
}

impl Socket {
    /// Has the DF bit set in what is sent over IPv4, or not, for as long as the value lasts. With it, the kernel refuses what is
    /// longer than it knows to pass (EMSGSIZE).
    fn keep_whole(&self, whole: bool) -> io::Result<MutexGuard<'_, bool>> {
        let mut now = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != whole {
            let how = if whole { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
            setsockopt(&self.fd, Ipv4MtuDiscover, &how)?;
            *now = whole;
        }
        Ok(now)
    }
}

/// A socket whose port may be taken once more, by the same user, for as long as this lasts.
pub(crate) struct Shared<'s>(&'s Socket);

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let _ = self.0.share(false); // it could be set, so it can be unset
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for one batch of received datagrams; made once, used for ever.
pub(crate) struct Batch {
    buffers: Box<[[u8; ROOM + DATAGRAM]; BATCH]>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        // By way of a vector, as the array is too large for the stack.
        let buffers: Result<Box<[_; BATCH]>, _> = vec![[0; ROOM + DATAGRAM]; BATCH].try_into();
        Self { buffers: buffers.unwrap_or_else(|_| unreachable!("the vector has as many as the array")) }
    }

    /// Takes what waits at `socket`, at most one batch, and shows each datagram, behind [`ROOM`]; returns how many there were.
    pub(crate) fn receive(
        &mut self,
        socket: &Socket,
        mut each: impl FnMut(Origin, &mut PacketBuf<'_>),
    ) -> io::Result<usize> {
        // The kernel writes into the headers how much of each room it used, and takes that for the room there is the next
        // time: they are made for one call.
        let control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo, libc::c_int, libc::c_int, libc::c_int);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(control));
        let mut origins = [const { None }; BATCH];
        let mut count = 0;
        {
            let mut slices =
                self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer.get_mut(ROOM..).unwrap_or_default())]);
            let received =
                recvmmsg(socket.fd.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None);
            let received = match received {
                Ok(received) => received,
                Err(nix::errno::Errno::EAGAIN) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            for (message, origin) in received.zip(&mut origins) {
                count += 1;
                let from = message.address.as_ref().and_then(socket_addr);
                *origin = from.map(|from| (socket.origin(from, message.cmsgs()), message.bytes));
            }
        }
        for (origin, buffer) in origins.into_iter().zip(self.buffers.iter_mut()) {
            let Some((origin, length)) = origin else { continue };
            let Ok(mut datagram) = PacketBuf::new(buffer, ROOM, length) else { continue };
            if socket.listen.carrier == Carrier::Esp && socket.listen.addr.is_ipv4() {
                // A raw IPv4 socket hands over the IP header too, an IPv6 one does not.
                let header = datagram.as_slice().first().map_or(0, |first| usize::from(first & 0x0f) * 4);
                if datagram.pop_front(header).is_err() {
                    continue;
                }
            }
            each(origin, &mut datagram);
        }
        Ok(count)
    }
}

impl Socket {
    /// Who sent to which address of ours, and how marked.
    fn origin(&self, from: SocketAddr, control: nix::Result<nix::sys::socket::CmsgIterator<'_>>) -> Origin {
        let mut local = self.listen.addr;
        let mut marks = Marks::default();
        for message in control.into_iter().flatten() {
            match message {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into();
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => local = Ipv6Addr::from(info.ipi6_addr.s6_addr).into(),
                ControlMessageOwned::Ipv4Tos(octet) => marks.class = octet,
                ControlMessageOwned::Ipv6TClass(class) => marks.class = u8::try_from(class).unwrap_or(0),
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    marks.hops = u8::try_from(hops).ok();
                }
                _ => {}
            }
        }
        // A raw socket reports the protocol as the sender's port.
        let remote = SocketAddr::new(from.ip(), if self.port == 0 { 0 } else { from.port() });
        Origin { path: Path { local: SocketAddr::new(local, self.port), remote }, marks }
    }
}

fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    /// Opens a UDP socket of any free port.
    fn open(addr: &str) -> (Socket, SocketAddr) {
        let listen = Listen { carrier: Carrier::Udp(0), addr: addr.parse().unwrap(), interface: None };
        let socket = Socket::open(listen).unwrap();
        let at = SocketAddr::new(addr.parse().unwrap(), socket.port);
        (socket, at)
    }

    #[test]
    fn sockets_for_protocol_50_open_at_addresses_of_both_families() {
        in_a_network_of_its_own(|| {
            for addr in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
                let listen = Listen { carrier: Carrier::Esp, addr: addr.parse().unwrap(), interface: None };
                let socket = Socket::open(listen).unwrap_or_else(|error| panic!("{addr}: {error}"));
                assert!(socket.serves(SocketAddr::new(addr.parse().unwrap(), 0)));
            }
        });
    }

    fn receive_one(batch: &mut Batch, socket: &Socket) -> (Origin, Vec<u8>) {
        let mut got = Vec::new();
        for _ in 0..1000 {
            batch.receive(socket, |origin, datagram| got.push((origin, datagram.as_slice().to_vec()))).unwrap();
            if let Some(one) = got.pop() {
                return one;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("nothing arrived");
    }

    #[test]
    fn a_wildcard_socket_learns_the_address_it_was_asked_at_and_answers_from_it() {
        in_a_network_of_its_own(|| {
            for (wildcard, asked) in [("0.0.0.0", "127.0.0.9"), ("::", "::1")] {
                let (server, at) = open(wildcard);
                let (client, from) = open(if at.is_ipv4() { "127.0.0.1" } else { "::1" });
                let (mut batch, marks) = (Batch::new(), Marks { class: 0xb9, hops: Some(255), whole: false });
                let asked = SocketAddr::new(asked.parse().unwrap(), at.port());
                client.send(Path { local: from, remote: asked }, marks, b"question").unwrap();
                let (origin, datagram) = receive_one(&mut batch, &server);
                assert_eq!(datagram, b"question");
                assert_eq!(origin.path.local.ip(), asked.ip());
                assert_eq!(origin.path.remote, from);
                assert_eq!(origin.marks, marks, "DSCP, ECN and hop limit of the outer header come along");
                server.send(Path { local: asked, remote: from }, Marks::default(), b"answer").unwrap();
                let origin = receive_one(&mut batch, &client).0;
                assert_eq!((origin.path.remote, origin.marks.hops), (asked, Some(64)), "the kernel's own");
            }
        });
    }

    #[test]
    fn f_20_a_batch_that_served_one_family_serves_the_other() {
        in_a_network_of_its_own(|| {
            let ((v4, v4_at), (v6, v6_at)) = (open("127.0.0.1"), open("::1"));
            let ((from_v4, v4_from), (from_v6, v6_from)) = (open("127.0.0.1"), open("::1"));
            let (mut batch, class) = (Batch::new(), |class| Marks { class, ..Marks::default() });
            for round in 0..3 {
                from_v4.send(Path { local: v4_from, remote: v4_at }, class(2), b"short address").unwrap();
                let origin = receive_one(&mut batch, &v4).0;
                assert_eq!(
                    (origin.path.local, origin.path.remote, origin.marks.class),
                    (v4_at, v4_from, 2),
                    "round {round}"
                );
                from_v6.send(Path { local: v6_from, remote: v6_at }, class(3), b"long address").unwrap();
                let origin = receive_one(&mut batch, &v6).0;
                assert_eq!(
                    (origin.path.local, origin.path.remote, origin.marks.class),
                    (v6_at, v6_from, 3),
                    "round {round}"
                );
            }
        });
    }

    #[test]
    fn a_datagram_without_a_checksum_comes_in_over_either_version() {
        sockopt_impl!(NoCheck, SetOnly, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool);
        sockopt_impl!(NoCheck6, SetOnly, libc::IPPROTO_UDP, libc::UDP_NO_CHECK6_TX, bool);
        in_a_network_of_its_own(|| {
            let mut batch = Batch::new();
            for addr in ["127.0.0.1", "::1"] {
                let (server, at) = open(addr);
                let sender = std::net::UdpSocket::bind((addr, 0)).unwrap();
                match at.is_ipv4() {
                    true => setsockopt(&sender, NoCheck, &true).unwrap(),
                    false => setsockopt(&sender, NoCheck6, &true).unwrap(),
                }
                sender.send_to(b"unchecked", at).unwrap();
                assert_eq!(receive_one(&mut batch, &server).1, b"unchecked");
            }
        });
    }

    #[test]
    fn the_longest_datagrams_there_are_come_whole() {
        in_a_network_of_its_own(|| {
            let mut batch = Batch::new();
            for (addr, headers) in [("127.0.0.1", 20 + 8), ("::1", 8)] {
                let ((server, at), (client, from)) = (open(addr), open(addr));
                let datagram = vec![7; 65_535 - headers];
                client.send(Path { local: from, remote: at }, Marks::default(), &datagram).unwrap();
                assert_eq!(receive_one(&mut batch, &server).1, datagram);
            }
        });
    }

    #[test]
    fn a_socket_serves_its_port_and_address() {
        in_a_network_of_its_own(|| {
            let (socket, at) = open("127.0.0.1");
            assert!(socket.serves(at));
            for other in ["127.0.0.2", "::1"] {
                assert!(!socket.serves(SocketAddr::new(other.parse().unwrap(), at.port())));
            }
            assert!(!socket.serves(SocketAddr::new(at.ip(), 0)), "a UDP socket does not carry protocol 50");
            let (wildcard, at) = open("0.0.0.0");
            assert!(wildcard.serves(SocketAddr::new("192.0.2.7".parse().unwrap(), at.port())));
        });
    }
}
