//! What traceroute and mtr do: packets with a hop limit that ends on the way, and who says so. And packets that may not be cut.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::frame::Packet;
use super::namespace::Namespace;
use crate::outcome::Result;

/// How long an answer is waited for, and how often one is asked: routers answer few in a second.
const PATIENCE: Duration = Duration::from_secs(1);
const TIMES: usize = 3;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const TOO_BIG: u8 = 4;
const TIME_EXCEEDED: u8 = 11;
/// Where traceroute's packets go, to be refused by their destination.
const PORT: u16 = 33_434;

/// What is sent to find the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// UDP to a port that nobody has, as traceroute does.
    Udp,
    /// Echo requests, as mtr does.
    Echo,
}

/// Who answers for each hop on the way to `to`, up to it.
///
/// # Errors
/// When a hop does not answer, or the sockets fail.
pub(crate) fn hops(host: &Namespace, to: Ipv4Addr, probe: Probe) -> Result<Vec<IpAddr>> {
    host.within(|| {
        let icmp = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        icmp.set_nonblocking(true)?;
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let mut found = Vec::new();
        for limit in 1..=16_u8 {
            let answer = (0..TIMES).find_map(|_| {
                let _ = answer(&icmp); // what came late
                match probe {
                    Probe::Udp => {
                        udp.set_ttl(limit.into()).ok()?;
                        udp.send_to(&[7; 32], (to, PORT + u16::from(limit))).ok()?;
                    }
                    Probe::Echo => {
                        icmp.set_ttl_v4(limit.into()).ok()?;
                        icmp.send_to(&echo(limit), &SocketAddr::from((to, 0)).into()).ok()?;
                    }
                }
                wait(&icmp, |from, kind, _| (kind == TIME_EXCEEDED || from == to).then_some(from))
            });
            found.push(answer.ok_or_else(|| format!("hop {limit} does not answer; before it {found:?}"))?);
            if found.last() == Some(&to.into()) {
                return Ok(found);
            }
        }
        Err(format!("{to} is not among {found:?}").into())
    })
}

/// Sends a UDP packet of so many octets that may not be cut. Who says how many may pass; `None`: nobody, within a moment.
///
/// # Errors
/// When the sockets fail.
pub(crate) fn too_big(host: &Namespace, to: Ipv4Addr, octets: usize) -> Result<Option<(IpAddr, u16)>> {
    host.within(|| {
        let icmp = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        icmp.set_nonblocking(true)?;
        // Not cut, and whatever was said of the way before is not believed.
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        raw.set_header_included_v4(true)?;
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0];
        packet.extend(to.octets());
        packet.extend([0x82, 0x9a, 0x82, 0x9a]);
        packet.extend(u16::try_from(octets - 20)?.to_be_bytes());
        packet.resize(octets, 0);
        match raw.send_to(&packet, &SocketAddr::from((to, 0)).into()) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Err("too large for the link".into()),
            Err(error) => return Err(error.into()),
        }
        Ok(wait(&icmp, |from, kind, rest| {
            let [TOO_BIG, _, _, _, _, high, low, ..] = *rest else { return None };
            (kind == UNREACHABLE).then_some((from, u16::from_be_bytes([high, low])))
        }))
    })
}

/// Waits for a message that means something; it is given who sent it, its type and what is behind that.
fn wait<T>(icmp: &Socket, means: impl Fn(IpAddr, u8, &[u8]) -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match answer(icmp) {
            Some(message) => {
                let packet = Packet::parse(&message)?;
                let (kind, rest) = packet.payload.split_first()?;
                if let Some(meant) = means(packet.from, *kind, rest) {
                    return Some(meant);
                }
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    None
}

/// The next message, if there is one; none of our own requests.
fn answer(mut icmp: &Socket) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut room = [0; 2048];
    loop {
        match icmp.read(&mut room) {
            Ok(length) => {
                let message = room.get(..length)?;
                let kind = Packet::parse(message).and_then(|packet| packet.payload.first().copied());
                if matches!(kind, Some(ECHO_REPLY | UNREACHABLE | TIME_EXCEEDED)) {
                    return Some(message.to_vec());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn echo(number: u8) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x7a, 0x7a, 0, number];
    let sum = !(0x0800_u16 + 0x7a7a + u16::from(number));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}
