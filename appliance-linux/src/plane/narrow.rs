//! Ways on which packets of ours are too large for a link. In IPv6 nobody but their sender may cut them. The kernel does so
//! once an ICMP message to a socket has told it how much passes; but it gives none to a raw socket that is connected to
//! nobody, as the one is that ESP leaves by, and every large packet would be lost for good. So another socket, which carries
//! nothing, is connected to each destination that such a message was about: what the kernel learns by it, from the next
//! message on, holds for whatever goes there.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use ipsec_core::icmp::{Report, Why};
use ipsec_core::net::Encap;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::boundary::MARK;

/// Ways that are remembered, the one known longest making room: strangers can write such messages. What the kernel has
/// learned it keeps for ten minutes without the socket.
const MOST: usize = 64;

/// From an address of ours, to one of a peer, through an interface if the socket of our ESP is bound to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) local: Ipv6Addr,
    pub(super) remote: Ipv6Addr,
    pub(super) link: Option<u32>,
}

/// The ways, with the sockets that hear how much passes there.
#[derive(Default)]
pub(super) struct Narrow(VecDeque<(Way, Socket)>);

impl Narrow {
    /// Something was too large for this way.
    pub(super) fn note(&mut self, way: Way) {
        if self.0.iter().any(|(known, _)| *known == way) {
            return;
        }
        // Without a socket the next message tries again.
        if let Ok(socket) = listen(way) {
            if self.0.len() >= MOST {
                self.0.pop_front();
            }
            self.0.push_back((way, socket));
        }
    }
}

fn listen(way: Way) -> io::Result<Socket> {
    /// BPF_RET | BPF_K with 0: nothing comes in.
    const NOTHING: SockFilter = SockFilter::new(6, 0, 0, 0);
    let kind = Type::RAW.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV6, kind, Some(Protocol::from(libc::IPPROTO_ESP)))?;
    socket.attach_filter(&[NOTHING])?;
    // The way is asked for as it is for our ESP.
    socket.set_mark(MARK)?;
    socket.bind_device_by_index_v6(way.link.and_then(NonZeroU32::new))?;
    socket.set_freebind_v6(true)?;
    socket.bind(&SocketAddr::from((way.local, 0)).into())?;
    socket.connect(&SocketAddr::from((way.remote, 0)).into())?;
    Ok(socket)
}

/// From where to where a packet of ESP was going that was too large for IPv6.
pub(super) fn too_big(report: &Report) -> Option<(Ipv6Addr, Ipv6Addr)> {
    match (report.why, report.path.encap(), report.path.local.ip(), report.path.remote.ip()) {
        (Why::TooBig(_), Encap::None, IpAddr::V6(local), IpAddr::V6(remote)) => Some((local, remote)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::{Duration, Instant};

    use ipsec_core::net::Path;
    use ipsec_core::wire::ip::{PROTOCOL_ESP as ESP, Version};
    use ipsec_core::wire::ipv6::FRAGMENT;

    use super::super::icmp::Errors;
    use super::*;
    use crate::namespace::in_a_network_of_its_own;
    use crate::socket::{Carrier, Listen, Marks};
    use crate::tun::Tun;

    const TOO_BIG: u8 = 2;

    const US: &str = "2001:db8:1::1";
    const PEER: &str = "2001:db8:2::1";
    const ROUTER: &str = "2001:db8:1::fe";

    fn octets(addr: &str) -> [u8; 16] {
        addr.parse::<Ipv6Addr>().unwrap().octets()
    }

    /// "Packet too big" about `packet`, of a router on whose way `mtu` octets pass.
    fn message_about(packet: &[u8], mtu: u32) -> Vec<u8> {
        let mut icmp = vec![TOO_BIG, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(&packet[..600.min(packet.len())]);
        let length = u16::try_from(icmp.len()).unwrap();
        let mut summed = [octets(ROUTER), octets(US)].concat();
        summed.extend([0, 0, length.to_be_bytes()[0], length.to_be_bytes()[1], 0, 0, 0, 58]);
        summed.extend(&icmp);
        let sum: u32 =
            summed.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into())).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0, length.to_be_bytes()[0], length.to_be_bytes()[1], 58, 64];
        packet.extend([octets(ROUTER), octets(US)].concat());
        packet.extend(icmp);
        packet
    }

    /// The next packet to the peer.
    fn out_of(wan: &Tun) -> Vec<u8> {
        let until = Instant::now() + Duration::from_secs(5);
        let mut buffer = [0; 2048];
        while Instant::now() < until {
            match wan.recv(&mut buffer) {
                Ok(length @ 40..) if buffer[24..40] == octets(PEER) => return buffer[..length].to_vec(),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("nothing came out");
    }

    fn ip(words: &str) {
        let words: Vec<_> = words.split_whitespace().collect();
        assert!(std::process::Command::new("ip").args(words).status().unwrap().success());
    }

    #[test]
    fn esp_that_is_too_large_for_an_ipv6_way_is_cut_as_soon_as_a_router_has_told() {
        in_a_network_of_its_own(|| {
            let wan = Tun::create("wan").unwrap();
            ip("link set wan up mtu 1500");
            ip(&format!("-6 addr add {US}/64 dev wan nodad"));
            ip(&format!("-6 route add default via {ROUTER} dev wan onlink"));
            let listen = Listen { carrier: Carrier::Esp, addr: IpAddr::from(Ipv6Addr::UNSPECIFIED), interface: None };
            let esp = crate::socket::Socket::open(listen).unwrap();
            let (sender, _inputs) = sync_channel(9);
            let errors = Errors::open();
            thread::spawn(move || errors.run(|_| Some(None), &sender));
            let end = |addr: &str| SocketAddr::from((addr.parse::<Ipv6Addr>().unwrap(), 0));
            let path = Path { local: end(US), remote: end(PEER) };
            let until = Instant::now() + Duration::from_secs(10);
            let mut lost = 0;
            loop {
                esp.send(path, Marks::default(), &[7; 1400]).unwrap();
                let packet = out_of(&wan);
                if packet.len() <= 1300 {
                    assert_eq!((packet[6], packet[40]), (FRAGMENT, ESP));
                    break;
                }
                assert!(Instant::now() < until, "{lost} packets were too large, and each was told of");
                lost += 1;
                wan.send(&message_about(&packet, 1300)).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
            assert!((1..=5).contains(&lost), "{lost}");
        });
    }

    #[test]
    fn only_what_is_said_of_esp_is_heard_and_the_ways_are_bounded() {
        in_a_network_of_its_own(|| {
            let mut packet = vec![0x60, 0, 0, 0, 5, 120, ESP, 64];
            packet.extend([octets(US), octets(PEER)].concat());
            packet.resize(200, 0);
            let ends = Some((US.parse().unwrap(), PEER.parse().unwrap()));
            let too_big = |message: &[u8]| too_big(&Report::of_message(Version::V6, message)?);
            let message = message_about(&packet, 1300).split_off(40);
            assert_eq!(too_big(&message), ends);
            for length in 0..48 {
                assert_eq!(too_big(&message[..length]), None);
            }
            for next in [17, FRAGMENT, 58] {
                packet[6] = next;
                assert_eq!(too_big(&message_about(&packet, 1300)[40..]), None);
            }
            (packet[6], packet[40]) = (FRAGMENT, ESP);
            let mut message = message_about(&packet, 1300).split_off(40);
            assert_eq!(too_big(&message), ends);
            message[0] = 3;
            assert_eq!(too_big(&message), None);
            let mut narrow = Narrow::default();
            for last in 1..=200 {
                let remote = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1);
                narrow.note(Way { local: Ipv6Addr::LOCALHOST, remote, link: Some(1) });
                assert_eq!(narrow.0.len(), 1, "{last}");
            }
            ip("-6 addr add fd00::1/64 dev lo nodad");
            ip("-6 route add local fd01::/64 dev lo");
            for last in 0..200 {
                let remote = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, last);
                narrow.note(Way { local: "fd00::1".parse().unwrap(), remote, link: None });
            }
            assert_eq!(narrow.0.len(), MOST);
        });
    }
}
