//! Packets that find no way: those from an address of this machine that no policy wants, and those that a route leads back to
//! our device: what a policy lets through, and our own to the peer. What may have brought them there is told now and then.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipsec_core::flow::{Flow, Ports};
use tracing::warn;

use super::sockets::Sockets;
use crate::boundary::is_beyond_links;
use crate::logging::Throttle;
use crate::socket::PORTS;

/// Whose tunnel is up and whose packets vanish looks into the log; one line in so much time is enough.
const EVERY: Duration = Duration::from_secs(60);

const ESP: u8 = 50;
const UDP: u8 = 17;

const NAT: &str = "where a host behind us has sent it, NAT has rewritten it before it came here: exempt what goes to remote \
                   networks, and have conntrack forget the flow (conntrack -D -d ADDRESS); where this machine has, its \
                   address is in no \"local-ts\"";
const MARK: &str = "it is ESP, or from a port of IKE; where it is our own, somebody changes the firewall mark of our packets, \
                    so that they come back to us; ";

const AMONG_HOSTS: &str = "it is ESP, or from a port of IKE; where another program of this machine sends it, have that take another \
                           port; where it is our own, somebody changes the firewall mark of our packets, so that they come back to us";

/// What was told of them.
pub(super) struct Strays {
    unwanted: Mutex<Throttle>,
    circling: Mutex<Throttle>,
    swallowed: Mutex<Throttle>,
}

impl Strays {
    pub(super) fn new(now: Instant) -> Self {
        let throttle = || Mutex::new(Throttle::new(1, EVERY, now));
        Self { unwanted: throttle(), circling: throttle(), swallowed: throttle() }
    }

    /// Tells of a packet that was dropped because no policy wants it, if its source is one of our own addresses. What never
    /// leaves its link the kernel itself sends through any interface, to find its neighbours.
    pub(super) fn tell(&self, packet: &[u8], sockets: &Sockets) {
        let Ok(flow) = Flow::of(packet) else { return };
        if !sockets.is_ours(flow.source) || ![flow.source, flow.destination].into_iter().all(is_beyond_links) {
            return;
        }
        if let Some(others) = admit(&self.unwanted) {
            let (from, to) = (flow.source, flow.destination);
            let mark = if is_like_ours(&flow) { MARK } else { "" };
            warn!(others, "a packet from {from}, which is ours, to {to} fits no policy and is dropped: {mark}{NAT}");
        }
    }

    /// Tells of a packet of our own to a peer that would have gone through its own tunnel, and is dropped, or that waits for
    /// an SA, which it may be to bring about itself. `hosts`: the two talk in transport mode, so that the route to our device is ours.
    pub(super) fn tell_of_own(&self, (from, to): (IpAddr, IpAddr), waits: bool, hosts: bool) {
        let Some(others) = admit(&self.swallowed) else { return };
        let what = if waits { "waits there for an SA" } else { "is dropped" };
        if hosts {
            return warn!(others, "a packet from {from} to {to} came through our device and {what}: {AMONG_HOSTS}");
        }
        warn!(
            others,
            "a packet of our own from {from} to {to} came through our device and {what}: a route of yours leads there; where {to} \
             is the peer of that tunnel, give it a route through the uplink (ip route add {to} via GATEWAY)"
        );
    }

    /// Tells of a packet that a policy lets through, and that a route leads back to our device.
    pub(super) fn tell_of_circle(&self, packet: &[u8]) {
        let Ok(flow) = Flow::of(packet) else { return };
        if let Some(others) = admit(&self.circling) {
            let (from, to) = (flow.source, flow.destination);
            warn!(
                others,
                "a packet from {from} to {to}, which a policy lets through in clear, is dropped: a route of yours leads it back to \
                 our device; give it a route that leads elsewhere, or take the policy away"
            );
        }
    }
}

/// One of our own packets to a peer, IKE or ESP, that came out of our device: who sent it, and where it was to go.
pub(super) fn own(packet: &[u8], is_ours: impl FnOnce(IpAddr) -> bool) -> Option<(IpAddr, IpAddr)> {
    let flow = Flow::of(packet).ok().filter(is_like_ours)?;
    is_ours(flow.source).then_some((flow.source, flow.destination))
}

/// Whether it is told, and how many were not since the last one.
fn admit(throttle: &Mutex<Throttle>) -> Option<u64> {
    throttle.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
}

/// Whether it may be one of those that carry our mark. NAT leaves protocol and ports of a host behind us as they are, where it can.
fn is_like_ours(flow: &Flow) -> bool {
    flow.protocol == ESP
        || flow.protocol == UDP && matches!(flow.ports, Ports::Pair { source, .. } if PORTS.contains(&source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::LocalAddr;

    /// A packet of this protocol, from 192.0.2.2 and this port.
    fn packet(protocol: u8, source: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 2, 10, 1, 0, 9];
        packet.extend(source.to_be_bytes());
        packet.extend([0x11, 0x94, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn f_72_what_may_carry_our_mark_is_esp_or_from_a_port_of_ike() {
        const TCP: u8 = 6;
        let like_ours = |protocol, source| is_like_ours(&Flow::of(&packet(protocol, source)).unwrap());
        assert!(like_ours(ESP, 7) && like_ours(UDP, 500) && like_ours(UDP, 4500));
        assert!(!like_ours(UDP, 5060) && !like_ours(TCP, 4500) && !like_ours(1, 500));
    }

    #[test]
    fn f_11_our_own_are_those_from_an_address_of_this_machine_that_are_like_ours() {
        let local = LocalAddr { addr: "192.0.2.2".parse().unwrap(), prefix: 32, link: 1, usable: true };
        let (here, elsewhere) = (Sockets::new(vec![], &[local]), Sockets::new(vec![], &[]));
        let ends = ("192.0.2.2".parse().unwrap(), "10.1.0.9".parse().unwrap());
        let own = |protocol, port, sockets: &Sockets| own(&packet(protocol, port), |addr| sockets.is_ours(addr));
        assert_eq!((own(ESP, 7, &here), own(UDP, 4500, &here)), (Some(ends), Some(ends)));
        assert_eq!((own(UDP, 53, &here), own(ESP, 7, &elsewhere)), (None, None));
    }

    #[test]
    fn f_72_what_the_kernel_asks_on_its_links_is_no_stray() {
        let now = Instant::now();
        let is_told = |from: &str, to: &str| {
            let (from, to): (std::net::Ipv6Addr, std::net::Ipv6Addr) = (from.parse().unwrap(), to.parse().unwrap());
            let local = LocalAddr { addr: from.into(), prefix: 64, link: 1, usable: true };
            // A report of group membership (ICMPv6).
            let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 1];
            packet.extend(from.octets().into_iter().chain(to.octets()).chain([143, 0, 0, 0, 0, 0, 0, 0]));
            let strays = Strays::new(now);
            strays.tell(&packet, &Sockets::new(vec![], &[local]));
            strays.unwanted.lock().unwrap().admit(now).is_none()
        };
        assert!(!is_told("fe80::1", "ff02::16") && !is_told("fd00::1", "ff02::16") && !is_told("fe80::1", "fd00::9"));
        assert!(is_told("fd00::1", "fd00:1::9"));
    }

    #[test]
    fn f_72_nobody_else_s_packets_take_the_line_of_those_that_are_ours() {
        let now = Instant::now();
        let is_told = |addr: &str| {
            let local = LocalAddr { addr: addr.parse().unwrap(), prefix: 32, link: 1, usable: true };
            let strays = Strays::new(now);
            strays.tell(&packet(UDP, 500), &Sockets::new(vec![], &[local]));
            strays.unwanted.lock().unwrap().admit(now).is_none()
        };
        assert_eq!((is_told("192.0.2.2"), is_told("192.0.2.3")), (true, false));
    }
}
