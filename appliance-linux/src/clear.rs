//! What a BYPASS policy lets through: back to the kernel, past our routing rule.
//!
//! Routes know addresses only, so everything to a protected network comes to the TUN device, also what a policy on
//! ports or protocols lets go in clear. It leaves again through raw sockets with our firewall mark, as through a router.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipsec_core::flow::Flow;
use ipsec_core::fragment::cut;
use ipsec_core::icmp::too_big;
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

/// ICMP errors are no longer, so that they pass any link of IPv6 (RFC 4443 §2.4).
const LONGEST_ERROR: usize = 1280;

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
        let ours = index_of(device);
        let next = self.netlink.next_hop(destination, MARK).ok().map(|hop| hop.link);
        let leads_back = ours.is_some() && next == ours;
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known.insert(destination, (now, leads_back));
        leads_back
    }

    /// Whether a packet is longer than what comes out of this device: it was put together of what somebody had cut.
    fn was_cut(&mut self, packet: &[u8], device: &Tun) -> bool {
        let mtu = index_of(device).and_then(|link| self.netlink.link_mtu(link).ok());
        mtu.and_then(|mtu| usize::try_from(mtu).ok()).is_some_and(|mtu| packet.len() > mtu)
    }

    /// How long a packet may be that leaves for a destination.
    fn mtu(&mut self, destination: IpAddr) -> io::Result<usize> {
        let link = self.netlink.next_hop(destination, MARK)?.link;
        let mtu = self.netlink.link_mtu(link)?;
        usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// Where a device is, if it is in this namespace.
fn index_of(device: &Tun) -> Option<u32> {
    match device.place() {
        Ok(Place::Here(name)) => if_nametoindex(name.as_str()).ok(),
        _ => None,
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
    /// of IPv4. One that is too long for the link it leaves by is cut, or its sender is told through `device`.
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
        match socket.send_to(packet, &SocketAddr::new(flow.destination, 0).into()) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.send_on_narrow(packet, flow.destination, device)
            }
            sent => Ok(sent.map(drop)?),
        }
    }

    /// The kernel cuts no packet that comes with a header. Of IPv6 nobody does but its sender, who has cut it already where it is
    /// longer than our device lets through.
    fn send_on_narrow(&self, packet: &mut [u8], destination: IpAddr, device: &Tun) -> Result<(), Refused> {
        let mut circles = self.circles.lock().unwrap_or_else(PoisonError::into_inner);
        let mtu = circles.mtu(destination)?;
        let socket = match destination {
            IpAddr::V4(_) => Some(&self.v4),
            IpAddr::V6(_) => self.v6.as_ref().filter(|_| circles.was_cut(packet, device)),
        };
        drop(circles);
        if let Some(socket) = socket {
            let number = RandomState::new().hash_one(());
            // The kernel would give each piece a number of its own where there is none.
            if destination.is_ipv4()
                && let Some(id @ [0, 0]) = packet.get_mut(4..).and_then(|rest| rest.first_chunk_mut())
            {
                *id = (number as u16 | 1).to_be_bytes();
            }
            if let Ok(pieces) = cut(packet, mtu, number as u32) {
                let (mut room, to) = (vec![0; mtu], SocketAddr::new(destination, 0).into());
                for piece in pieces {
                    let piece = piece.write(&mut room).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    socket.send_to(piece, &to)?;
                }
                return Ok(());
            }
        }
        // In the name of the destination: what comes out of the device from an address of ours the kernel takes for forged.
        let mut room = [0; LONGEST_ERROR];
        if let Ok(told) = too_big(packet, mtu, destination, &mut room) {
            device.send(told)?;
        }
        Err(Refused::Other)
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

    #[test]
    fn what_is_too_long_for_the_link_is_cut_or_its_sender_is_told() {
        in_a_network_of_its_own(|| {
            let [device, wan] = devices();
            for words in [
                &format!("-4 rule add fwmark {MARK} lookup 200"),
                "-4 route add 10.1.0.0/16 dev wan table 200",
                &format!("-6 rule add fwmark {MARK} lookup 200"),
                "-6 route add fd01::/64 dev wan table 200",
                "link set lo up",
                "link set wan mtu 1300",
                "link set pcl0 mtu 9000",
                "addr add 10.2.0.5/32 dev lo",
                "addr add fd02::9/128 dev lo nodad",
            ] {
                ip(words);
            }
            let clear = ClearSockets::open().unwrap();
            let (mut lengths, mut content, [v4, _]) = (vec![], vec![], packets(64));
            let whole = |id: u8, flags: u8| {
                let mut packet = [v4.clone(), (0..2980_u16).map(|at| (at / 8) as u8).collect()].concat();
                (packet[2], packet[3], packet[5], packet[6]) = (0x0b, 0xb8, id, flags);
                packet
            };
            for id in [7, 0] {
                clear.send(&mut whole(id, 0), &device).unwrap();
                let (mut ids, mut rest) = (vec![], 2980);
                while rest > 0 {
                    let piece = out_of(&wan, NOBODYS).expect("a piece");
                    rest -= piece.len() - 20;
                    ids.push([piece[4], piece[5]]);
                    lengths.push(piece.len());
                    content.extend_from_slice(&piece[20..]);
                }
                assert!(ids.iter().all(|other| *other == ids[0]) && ids[0] != [0, 0], "{ids:?}");
            }
            assert_eq!(lengths, [1300, 1300, 440].repeat(2));
            assert_eq!(content, [&whole(7, 0)[20..], &whole(7, 0)[20..]].concat());

            let hears = |domain, protocol| {
                let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                socket
            };
            let mut heard = [0; 2048];
            let mut told = |socket: &Socket| {
                let length = io::Read::read(&mut &*socket, &mut heard).expect("nothing is told");
                heard[..length].to_vec()
            };
            let socket = hears(Domain::IPV4, Protocol::ICMPV4);
            assert!(matches!(clear.send(&mut whole(7, 0x40), &device), Err(Refused::Other)));
            let message = told(&socket);
            assert_eq!(
                (&message[12..22], &message[26..28]),
                (&[10, 1, 0, 9, 10, 2, 0, 5, 3, 4][..], &[0x05, 0x14][..])
            );

            let socket = hears(Domain::IPV6, Protocol::ICMPV6);
            let [_, v6] = packets(64);
            let mut packet = [v6, vec![7; 1400]].concat();
            (packet[4], packet[5]) = (0x05, 0x78);
            assert!(matches!(clear.send(&mut packet, &device), Err(Refused::Other)));
            let message = std::iter::repeat_with(|| told(&socket)).find(|message| message[0] == 2).unwrap();
            assert_eq!(message[4..8], [0, 0, 0x05, 0x14]);

            // What is longer than the device lets through came out of it in pieces, and goes on in some.
            ip("link set pcl0 mtu 1400");
            let [_, v6] = packets(64);
            let mut packet = [v6, (0..2960_u16).map(|at| (at / 8) as u8).collect()].concat();
            (packet[4], packet[5]) = (0x0b, 0x90);
            clear.send(&mut packet, &device).unwrap();
            let (mut ids, mut content) = (vec![], vec![]);
            while content.len() < 2960 {
                let piece = out_of(&wan, NOBODYS).expect("a piece");
                assert!(piece.len() <= 1300 && piece[6] == 44, "{}", piece.len());
                ids.push(piece[44..48].to_vec());
                content.extend_from_slice(&piece[48..]);
            }
            assert!(ids.len() == 3 && ids.iter().all(|other| *other == ids[0]), "{ids:?}");
            assert_eq!(content, packet[40..]);
        });
    }
}
