//! ICMP errors about what an SA carries.

use super::error::Error;
use crate::flow::Flow;
use crate::wire::ip::Content;

/// The packet that an ICMP error is about, as selectors see it. It went the other way: it fits an SA by which the error may come
/// or go when an SA of the opposite direction, with the same selectors, would carry it (RFC 4301 §6.2).
///
/// `None`: the packet carries no ICMP error, or one that is not for whoever sent what it quotes, so that nobody who makes up a
/// quote can reach anybody else with it.
///
/// ```
/// use ipsec_core::flow::Ports;
/// use ipsec_core::icmp::quoted;
/// let mut packet = [
///     0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 198, 51, 100, 1, 10, 1, 0, 5, // IPv4: a router, to the sender
///     11, 0, 0, 0, 0, 0, 0, 0, // ICMP: the hop limit ran out
///     0x45, 0, 0, 99, 0, 0, 0, 0, 1, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, 0x13, 0x88, 0x82, 0x9b, 0, 79, 0, 0, // of this
/// ];
/// let flow = quoted(&packet).unwrap();
/// assert_eq!(flow.destination, core::net::IpAddr::from([10, 2, 0, 9]));
/// assert_eq!(flow.ports, Ports::Pair { source: 5000, destination: 33_435 });
/// packet[19] = 6; // to somebody else
/// assert_eq!(quoted(&packet), None);
/// ```
pub fn quoted(packet: &[u8]) -> Option<Flow> {
    let content = Content::of(packet).ok()?;
    let flow = Flow::quoted(Error::in_packet(&content)?.quoted).ok()?;
    (flow.source == content.destination).then_some(flow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Ports;
    use std::vec::Vec;

    /// "Time exceeded" of a router, to fd01::1, about a UDP packet from there to fd02::2, behind this extension header.
    fn message(extension: &[u8]) -> Vec<u8> {
        let addr = |network: u8, last: u8| {
            let mut octets = [0; 16];
            (octets[0], octets[1], octets[15]) = (0xfd, network, last);
            octets
        };
        let header = |len: usize, next: u8| [0x60, 0, 0, 0, 0, len as u8, next, 64];
        let mut quoted = header(99, if extension.is_empty() { 17 } else { 44 }).to_vec();
        quoted.extend([addr(1, 1), addr(2, 2)].concat());
        quoted.extend(extension);
        quoted.extend([0x13, 0x88, 0, 53]);
        let mut packet = header(8 + quoted.len(), 58).to_vec();
        packet.extend([addr(0x99, 9), addr(1, 1)].concat());
        packet.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(quoted);
        packet
    }

    #[test]
    fn what_is_quoted_is_read_as_far_as_it_goes() {
        let packet = message(&[]);
        let flow = quoted(&packet).unwrap();
        assert_eq!((flow.protocol, flow.len), (17, 139));
        assert_eq!(flow.ports, Ports::Pair { source: 5000, destination: 53 });
        let mut without_ports = packet[..packet.len() - 1].to_vec();
        without_ports[5] -= 1;
        assert_eq!(quoted(&without_ports).map(|flow| flow.ports), Some(Ports::Opaque));
        for len in 0..packet.len() {
            assert_eq!(quoted(&packet[..len]), None, "{len} octets");
        }
        let later = message(&[17, 0, 0, 9, 0, 0, 0, 1]);
        assert_eq!(quoted(&later).map(|flow| flow.ports), Some(Ports::Opaque));
    }

    #[test]
    fn what_is_no_error_or_for_somebody_else_quotes_nothing() {
        let packet = message(&[]);
        for (at, octet) in [(6, 17), (6, 1), (39, 2), (40, 128), (40, 137), (48, 0x45), (48 + 23, 2)] {
            let mut packet = packet.clone();
            packet[at] = octet;
            assert_eq!(quoted(&packet), None, "octet {at}");
        }
        assert!(quoted(&packet).is_some());
    }
}
