//! What ICMP says of our IKE messages: that nothing listens where they go, or that nothing leads there. Anybody can write that,
//! and nothing is ended by it: it is told, where there would be nothing to tell but silence. And what it says of our ESP in
//! IPv6: that it is too large for a link on its way.
//!
//! A socket that hears errors (IP_RECVERR) would fail to send the next packet, whosever that is, for each of them. These are read
//! from sockets of their own, which carry nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use gateway_core::cause::Unreachable;
use ipsec_core::icmp::{Report, Why};
use ipsec_core::net::Encap;
use ipsec_core::wire::ip::{Content, Version};
use nix::sys::socket::{SockaddrStorage, recvfrom, setsockopt};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

use super::narrow::{Narrow, Way, too_big};
use super::news::{Listener, News};
use super::wait::{readable, wait};
use crate::logging::Throttle;
use crate::socket::PORTS;

/// So many are looked at in so much time: each call brings seven at most.
const MOST: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

/// Messages that are read of each family in a turn; a pause comes after it.
/// What comes faster than that the kernel drops.
const TURN: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// linux/icmp.h: the types that are not taken, a bit each.
const ICMP_FILTER: i32 = 1;
const UNREACHABLE: u8 = 3;
/// linux/icmpv6.h: the same, for 256 types.
const ICMPV6_FILTER: i32 = 1;
const UNREACHABLE_V6: u8 = 1;
const TOO_BIG_V6: u8 = 2;

sockopt_impl!(
    /// Which messages of ICMP are not taken.
    FilterV4,
    SetOnly,
    libc::SOL_RAW,
    ICMP_FILTER,
    u32
);
sockopt_impl!(
    /// Which messages of ICMPv6 are not taken.
    FilterV6,
    SetOnly,
    libc::IPPROTO_ICMPV6,
    ICMPV6_FILTER,
    [u32; 8]
);

/// A socket of each family, as far as there is one, that hears only that something is unreachable or too large.
pub(super) struct Errors(Vec<Socket>);

impl Errors {
    pub(super) fn open() -> Self {
        let open = |domain, protocol| {
            let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol)).ok()?;
            let filtered = match domain {
                Domain::IPV4 => setsockopt(&socket, FilterV4, &!(1 << UNREACHABLE)),
                _ => setsockopt(
                    &socket,
                    FilterV6,
                    &[!(1 << UNREACHABLE_V6 | 1 << TOO_BIG_V6), !0, !0, !0, !0, !0, !0, !0],
                ),
            };
            filtered.is_ok().then_some(socket)
        };
        Self(
            [open(Domain::IPV4, Protocol::ICMPV4), open(Domain::IPV6, Protocol::ICMPV6)]
                .into_iter()
                .flatten()
                .collect(),
        )
    }

    /// Runs until waiting fails, which costs nothing but these words, and large packets on narrow ways. `outlet`: the interface
    /// that the socket is bound to by which we send from that address and port; `None`: we do not.
    pub(super) fn run(&self, outlet: impl Fn(SocketAddr) -> Option<Option<u32>>, listener: &impl Listener) {
        let mut throttle = Throttle::new(MOST, PERIOD, Instant::now());
        let mut narrow = Narrow::default();
        while !self.0.is_empty() {
            let mut descriptors: Vec<_> = self.0.iter().map(readable).collect();
            if wait(&mut descriptors, None).is_err() {
                return;
            }
            for socket in &self.0 {
                // Of what is quoted the ports are wanted.
                let mut room = [0; 256];
                for _ in 0..TURN {
                    let Ok((from, length)) = receive(socket, &mut room) else { break };
                    let message = room.get(..length).unwrap_or_default();
                    let Some(report) = report(from.is_ipv4(), message) else { continue };
                    if let Some((local, remote)) = too_big(&report)
                        && let Some(link) = outlet(SocketAddr::from((local, 0)))
                    {
                        narrow.note(Way { local, remote, link });
                    }
                    if let Some(why) = unreachable(&report)
                        && outlet(report.path.local).is_some()
                        && throttle.admit(Instant::now()).is_some()
                    {
                        listener.offer(News::Unreachable { path: report.path, from, why });
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }
}

fn receive(socket: &Socket, room: &mut [u8]) -> io::Result<(IpAddr, usize)> {
    let (length, from) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), room)?;
    let v4 = from.as_ref().and_then(|from| from.as_sockaddr_in()).map(|from| IpAddr::from(from.ip()));
    let v6 = || from.as_ref().and_then(|from| from.as_sockaddr_in6()).map(|from| IpAddr::from(from.ip()));
    Ok((v4.or_else(v6).ok_or(io::ErrorKind::InvalidData)?, length))
}

/// What a message says of a packet of ours. One of IPv4 has its IP header in front.
fn report(v4: bool, message: &[u8]) -> Option<Report> {
    match v4 {
        true => Report::of_message(Version::V4, Content::quoted(message).ok()?.payload),
        false => Report::of_message(Version::V6, message),
    }
}

/// Why a message of ours did not arrive.
fn unreachable(report: &Report) -> Option<Unreachable> {
    let why = match report.why {
        Why::Port => Unreachable::Port,
        Why::Host => Unreachable::Host,
        Why::Network => Unreachable::Network,
        Why::Forbidden => Unreachable::Forbidden,
        _ => return None,
    };
    (report.path.encap() == Encap::Udp && PORTS.contains(&report.path.local.port())).then_some(why)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    #[test]
    fn f_73_what_icmp_says_of_a_message_of_ours_is_heard_and_what_of_others_is_not() {
        in_a_network_of_its_own(|| {
            let (sender, inputs) = std::sync::mpsc::sync_channel(9);
            let errors = Errors::open();
            assert_eq!(errors.0.len(), 2);
            thread::spawn(move || errors.run(|_| Some(None), &sender));
            for (ours, theirs) in [("127.0.0.1", "127.0.0.2:500"), ("::1", "[::1]:4501")] {
                for port in [5000, 500] {
                    let socket = UdpSocket::bind((ours, port)).unwrap();
                    socket.send_to(&[7; 600], theirs).unwrap();
                }
                let heard = inputs.recv_timeout(Duration::from_secs(10)).unwrap();
                let News::Unreachable { path, from, why } = heard else { panic!() };
                let remote: SocketAddr = theirs.parse().unwrap();
                assert_eq!(
                    (path.local.to_string(), path.remote),
                    (SocketAddr::new(ours.parse().unwrap(), 500).to_string(), remote)
                );
                assert_eq!((from, why), (remote.ip(), Unreachable::Port));
            }
            assert!(inputs.recv_timeout(Duration::from_millis(100)).is_err());
        });
    }

    #[test]
    fn f_73_what_icmp_says_of_others_does_not_take_the_place_of_what_it_says_of_ours() {
        in_a_network_of_its_own(|| {
            let (sender, inputs) = std::sync::mpsc::sync_channel(99);
            let errors = Errors::open();
            let ours = "127.0.0.9:500".parse().unwrap();
            thread::spawn(move || errors.run(|local| (local == ours).then_some(None), &sender));
            // All within one period of the throttle; a machine that is slower than that shows nothing here.
            for addr in ["127.0.0.1:500", "127.0.0.9:500"] {
                let socket = UdpSocket::bind(addr).unwrap();
                for _ in 0..300 {
                    socket.send_to(&[7; 60], "127.0.0.2:500").unwrap();
                }
                thread::sleep(Duration::from_millis(100));
            }
            let heard = inputs.recv_timeout(Duration::from_secs(10)).expect("what is ours has a place");
            assert!(matches!(heard, News::Unreachable { path, .. } if path.local == ours));
        });
    }

    #[test]
    fn f_73_an_icmp_message_of_any_length_is_read_or_not() {
        let mut message =
            vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 3, 13, 0, 0, 0, 0, 0, 0];
        message.extend([0x45, 0, 1, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1, 1, 0xf4, 1, 0xf4]);
        let said = |v4, message: &[u8]| report(v4, message).map(|said| (said.path.remote, unreachable(&said)));
        assert_eq!(said(true, &message), Some(("192.0.2.1:500".parse().unwrap(), Some(Unreachable::Forbidden))));
        for length in 0..message.len() {
            assert_eq!(said(true, &message[..length]), None);
            let _ = said(false, &message[..length]);
        }
        message[20..22].copy_from_slice(&[11, 0]);
        assert_eq!(said(true, &message).unwrap().1, None, "that the hop limit ran out ends nothing");
        message[20..22].copy_from_slice(&[3, 3]);
        message[48] = 7;
        assert_eq!(said(true, &message).unwrap().1, None, "of a port that is not ours");
    }
}
