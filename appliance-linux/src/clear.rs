//! What a BYPASS policy lets through: back to the kernel, past our routing rule.
//!
//! Routes know addresses only, so everything to a protected network comes to the TUN device, also what a policy on
//! ports or protocols lets go in clear. It leaves again through raw sockets with our firewall mark, as through a router.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipsec_core::flow::Flow;
use socket2::{Domain, Protocol, Socket, Type};

use crate::boundary::MARK;

/// A raw socket for each family.
pub(crate) struct ClearSockets {
    v4: Socket,
    /// `None` where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl ClearSockets {
    pub(crate) fn open() -> io::Result<Self> {
        let v4 = Socket::new(Domain::IPV4, Type::RAW.cloexec().nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)))?;
        v4.set_header_included_v4(true)?;
        v4.set_mark(MARK)?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW.cloexec().nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)));
        let v6 = match v6 {
            Ok(v6) => {
                v6.set_header_included_v6(true)?;
                v6.set_mark(MARK)?;
                Some(v6)
            }
            Err(_) => None,
        };
        Ok(Self { v4, v6 })
    }

    /// Sends a whole IP packet on, its hop limit lowered as by a router: a route may lead it back to our device, and then
    /// it would never end. The kernel makes the checksum of IPv4.
    ///
    /// # Errors
    /// `TimedOut`: it may go no further. What the kernel says otherwise.
    pub(crate) fn send(&self, packet: &mut [u8]) -> io::Result<()> {
        let flow = Flow::of(packet).map_err(|_| io::ErrorKind::InvalidData)?;
        let packet = packet.get_mut(..flow.len).unwrap_or_default();
        let (socket, at) = match flow.destination {
            IpAddr::V4(_) => (&self.v4, 8),
            IpAddr::V6(_) => (self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?, 7),
        };
        let hops = packet.get_mut(at).ok_or(io::ErrorKind::InvalidData)?;
        *hops = hops.checked_sub(1).filter(|left| *left > 0).ok_or(io::ErrorKind::TimedOut)?;
        socket.send_to(packet, &SocketAddr::new(flow.destination, 0).into()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::namespace::in_a_network_of_its_own;
    use crate::netlink::Netlink;
    use crate::tun::Tun;

    /// What comes out at a device within a moment, of one protocol.
    fn out_of(device: &Tun, protocol: u8) -> Option<Vec<u8>> {
        let (until, mut buffer) = (Instant::now() + Duration::from_millis(200), vec![0; 2048]);
        while Instant::now() < until {
            match device.recv(&mut buffer) {
                Ok(length) if Flow::of(&buffer[..length]).is_ok_and(|flow| flow.protocol == protocol) => {
                    buffer.truncate(length);
                    return Some(buffer);
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        None
    }

    #[test]
    fn f_11_what_a_route_leads_back_to_our_device_does_not_come_back_for_ever() {
        in_a_network_of_its_own(|| {
            const NOBODYS: u8 = 253;
            let device = Tun::create("pcl0").unwrap();
            let index = nix::net::if_::if_nametoindex("pcl0").unwrap();
            Netlink::open().unwrap().link_up(index, 1400).unwrap();
            for words in ["-4 route add 10.1.0.0/16 dev pcl0", "-6 route add fd01::/64 dev pcl0"] {
                let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
                assert!(done.success());
            }
            let v4 = vec![0x45, 0, 0, 20, 0, 7, 0, 0, 64, NOBODYS, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
            let mut v6 = vec![0x60, 0, 0, 0, 0, 0, NOBODYS, 64];
            for site in [2, 1] {
                v6.extend([0xfd, site, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
            }
            let clear = ClearSockets::open().unwrap();
            for mut packet in [v4, v6] {
                let mut rounds = 0;
                let refused = loop {
                    match clear.send(&mut packet) {
                        Ok(()) => packet = out_of(&device, NOBODYS).expect("the route leads it back"),
                        Err(error) => break error.kind(),
                    }
                    rounds += 1;
                    assert!(rounds < 64, "it never ends");
                };
                assert_eq!((refused, rounds), (io::ErrorKind::TimedOut, 63));
            }
        });
    }
}
