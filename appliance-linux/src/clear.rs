//! What a BYPASS policy lets through: back to the kernel, past our routing rule.
//!
//! Routes know addresses only, so everything to a protected network comes to the TUN device, also what a policy on
//! ports or protocols lets go in clear. It leaves again through raw sockets with our firewall mark, as through a router.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipsec_core::flow::Flow;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::boundary::MARK;
use crate::netlink::Netlink;
use crate::tun::{Place, Tun};

/// A raw socket for each family.
pub(crate) struct ClearSockets {
    v4: Socket,
    /// `None` where the kernel has no IPv6.
    v6: Option<Socket>,
    circles: Mutex<Circles>,
}

/// Why a packet was not sent on.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A route leads it back to our device.
    Circle,
    /// It may go no further, or the kernel does not take it.
    Other,
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Self::Other
    }
}

/// What the kernel said of destinations: whether a packet of ours to them comes back.
struct Circles {
    netlink: Netlink,
    known: BTreeMap<IpAddr, (Instant, bool)>,
}

impl Circles {
    /// Packets that go round come by a multiple of this many hops soon, and only then the kernel is asked: most others, which a
    /// router or we have lowered, never do.
    const EACH: u8 = 8;
    /// Routes change: after so much time it is asked again.
    const FRESH: Duration = Duration::from_secs(1);
    /// Destinations that are remembered.
    const MOST: usize = 1024;

    fn leads_back(&mut self, destination: IpAddr, hops: u8, device: &Tun) -> bool {
        let now = Instant::now();
        let known =
            self.known.get(&destination).filter(|(asked, _)| now.saturating_duration_since(*asked) < Self::FRESH);
        if let Some((_, leads_back)) = known {
            return *leads_back;
        }
        if !hops.is_multiple_of(Self::EACH) {
            return false;
        }
        let ours = match device.place() {
            Ok(Place::Here(name)) => if_nametoindex(name.as_str()).ok(),
            _ => None,
        };
        let next = self.netlink.next_hop(destination, MARK).ok().map(|hop| hop.link);
        let leads_back = ours.is_some() && next == ours;
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known.insert(destination, (now, leads_back));
        leads_back
    }
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
        let circles = Mutex::new(Circles { netlink: Netlink::open()?, known: BTreeMap::new() });
        Ok(Self { v4, v6, circles })
    }

    /// Sockets that anybody may have, and that take no whole packet.
    #[cfg(test)]
    pub(crate) fn of_anybody() -> io::Result<Self> {
        let circles = Mutex::new(Circles { netlink: Netlink::open()?, known: BTreeMap::new() });
        Ok(Self { v4: Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?, v6: None, circles })
    }

    /// Sends a whole IP packet that came out of `device` on, its hop limit lowered as by a router. The kernel makes the checksum
    /// of IPv4.
    ///
    /// # Errors
    /// When it comes back, may go no further, or the kernel does not take it.
    pub(crate) fn send(&self, packet: &mut [u8], device: &Tun) -> Result<(), Refused> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let flow = Flow::of(packet).map_err(|_| invalid())?;
        let packet = packet.get_mut(..flow.len).unwrap_or_default();
        let (socket, at) = match flow.destination {
            IpAddr::V4(_) => (&self.v4, 8),
            IpAddr::V6(_) => (self.v6.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?, 7),
        };
        let hops = packet.get_mut(at).ok_or_else(invalid)?;
        let mut circles = self.circles.lock().unwrap_or_else(PoisonError::into_inner);
        if circles.leads_back(flow.destination, *hops, device) {
            return Err(Refused::Circle);
        }
        drop(circles);
        *hops = hops.checked_sub(1).filter(|left| *left > 0).ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        socket.send_to(packet, &SocketAddr::new(flow.destination, 0).into())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

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

    const NOBODYS: u8 = 253;

    /// Packets to 10.1.0.9 and fd01::9 with this hop limit.
    fn packets(hops: u8) -> [Vec<u8>; 2] {
        let v4 = vec![0x45, 0, 0, 20, 0, 7, 0, 0, hops, NOBODYS, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
        let mut v6 = vec![0x60, 0, 0, 0, 0, 0, NOBODYS, hops];
        for site in [2, 1] {
            v6.extend([0xfd, site, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        }
        [v4, v6]
    }

    /// Devices, to the first of which routes lead to 10.1.0.0/16 and fd01::/64.
    fn devices() -> [Tun; 2] {
        let devices = ["pcl0", "wan"].map(|name| {
            let device = Tun::create(name).unwrap();
            Netlink::open().unwrap().link_up(if_nametoindex(name).unwrap(), 1400).unwrap();
            device
        });
        lead_to("pcl0");
        devices
    }

    fn lead_to(device: &str) {
        ip(&format!("-4 route replace 10.1.0.0/16 dev {device}"));
        ip(&format!("-6 route replace fd01::/64 dev {device}"));
    }

    fn ip(words: &str) {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let done = std::process::Command::new("ip").args(words.split(' ')).env("PATH", path).status().unwrap();
        assert!(done.success(), "{words}");
    }

    #[test]
    fn f_11_what_a_route_leads_back_to_our_device_soon_comes_back_no_more() {
        in_a_network_of_its_own(|| {
            let [device, wan] = devices();
            // Rules that ask for the source have no say in packets of raw sockets, nor in our question.
            for words in [
                "-4 rule add from 10.2.0.0/16 lookup 200",
                "-4 route add 10.1.0.0/16 dev wan table 200",
                "-6 rule add from fd02::/64 lookup 200",
                "-6 route add fd01::/64 dev wan table 200",
            ] {
                ip(words);
            }
            let clear = ClearSockets::open().unwrap();
            for mut packet in packets(63) {
                let mut rounds = 0;
                let refused = loop {
                    match clear.send(&mut packet, &device) {
                        Ok(()) => packet = out_of(&device, NOBODYS).expect("the route leads it back"),
                        Err(refused) => break refused,
                    }
                    rounds += 1;
                    assert!(rounds < 64, "it never ends");
                };
                assert!(matches!(refused, Refused::Circle) && rounds == 7, "{refused:?} after {rounds}");
            }
            for mut packet in packets(63) {
                assert!(matches!(clear.send(&mut packet, &device), Err(Refused::Circle)), "the next one is known");
            }
            lead_to("wan");
            std::thread::sleep(Circles::FRESH);
            for mut packet in packets(64) {
                clear.send(&mut packet, &device).unwrap();
                assert!(out_of(&wan, NOBODYS).is_some(), "the route leads elsewhere now");
            }
        });
    }

    #[test]
    fn f_11_a_hop_limit_that_ends_where_no_route_leads_back_is_no_circle() {
        in_a_network_of_its_own(|| {
            let [device, wan] = devices();
            lead_to("wan");
            let clear = ClearSockets::open().unwrap();
            for hops in [64, 1] {
                for mut packet in packets(hops) {
                    match clear.send(&mut packet, &device) {
                        Ok(()) => assert!(out_of(&wan, NOBODYS).is_some()),
                        Err(Refused::Other) => assert_eq!(hops, 1),
                        Err(Refused::Circle) => panic!("no route leads back"),
                    }
                }
            }
        });
    }
}
