//! SAs whose packets routers must not cut (`df`), on ways where long ones do not pass. The kernel hears what ICMP says about our
//! sockets and refuses what is longer. It believes no less than 552 octets, and that for ten minutes (net.ipv4.route.min_pmtu
//! and mtu_expires), so that whoever forges such a message gains no more than that (RFC 4301 §8.2.1). From the first packet that
//! it refuses on, the senders of the packets inside are told what fits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipsec_core::engine::Egress;
use ipsec_core::flow::Flow;
use ipsec_core::icmp::too_big;
use ipsec_core::mtu::Overhead;
use ipsec_core::net::NATT_PORT;
use ipsec_core::sa::SaId;
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use crate::boundary::MARK;
use crate::logging::Throttle;
use crate::tun::Tun;

/// After so long the kernel is asked again, at the price of one packet: the way may have become wider.
const FRESH: Duration = Duration::from_secs(60);
/// SAs that are remembered.
const MOST: usize = 1024;
/// Senders are told so many times in so long (RFC 4443 §2.4 f).
const TOLD: u32 = 100;
const PERIOD: Duration = Duration::from_secs(1);
/// Nobody is told more than this of IPv4; IPv6 alone has longer messages, which no outer IPv4 header needs.
const LONGEST_ERROR: usize = 1280;

/// How long packets may be that such SAs take.
pub(super) struct PathMtus {
    /// Whether there is any: most gateways have none, and their packets do not look further.
    any: AtomicBool,
    longest: Mutex<HashMap<SaId, (usize, Instant)>>,
    told: Mutex<Throttle>,
}

impl PathMtus {
    pub(super) fn new(now: Instant) -> Self {
        let told = Mutex::new(Throttle::new(TOLD, PERIOD, now));
        Self { any: AtomicBool::new(false), longest: Mutex::default(), told }
    }

    fn note(&self, sa: SaId, longest: usize, now: Instant) {
        let mut all = self.all();
        all.retain(|_, (_, until)| *until > now);
        if all.len() < MOST {
            all.insert(sa, (longest, now + FRESH));
        }
        self.any.store(!all.is_empty(), Ordering::Release);
    }

    fn longest(&self, sa: SaId, now: Instant) -> Option<usize> {
        self.all().get(&sa).filter(|(_, until)| *until > now).map(|(longest, _)| *longest)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SaId, (usize, Instant)>> {
        self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel refused what an SA sealed of a packet of `inner` octets, for its length: what fits is known from now on.
    pub(super) fn learn(
        &self,
        sa: SaId,
        inner: usize,
        egress: &Egress,
        link: Option<u32>,
        overhead: impl FnOnce() -> Option<Overhead>,
    ) {
        // What cannot be told of comes again.
        if self.longest(sa, Instant::now()).is_some_and(|longest| inner > longest) {
            return;
        }
        let Ok(mtu) = path_mtu(egress.path.local.ip(), egress.path.remote.ip(), link) else { return };
        if let Some(overhead) = overhead() {
            self.note(sa, overhead.max_inner_len(mtu), Instant::now());
        }
    }

    /// Whether a packet is longer than an SA can take, and must not be cut: its sender is told, through the device that it came
    /// from. Where it may be cut, so may what carries it.
    pub(super) fn is_too_long(&self, sa: SaId, packet: &[u8], device: &Tun) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let now = Instant::now();
        let longest = self.longest(sa, now).filter(|longest| packet.len() > *longest);
        let (Some(longest), Ok(flow)) = (longest, Flow::of(packet)) else { return false };
        let mut room = [0; LONGEST_ERROR];
        // In the name of the destination, as for what passes in clear.
        let Ok(message) = too_big(packet, longest, flow.destination, &mut room) else { return false };
        let admitted = self.told.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        if admitted.is_some() {
            drop(device.send(message)); // who is not told sends again
        }
        true
    }
}

/// What the kernel knows to pass between these two; through an interface, if our socket is bound to one.
fn path_mtu(local: IpAddr, remote: IpAddr, link: Option<u32>) -> io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    socket.set_mark(MARK)?;
    socket.bind_device_by_index_v4(link.and_then(NonZeroU32::new))?;
    socket.set_freebind_v4(true)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect(&SocketAddr::new(remote, NATT_PORT).into())?;
    usize::try_from(getsockopt(&socket, sockopt::IpMtu)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    use gateway_core::config::Config;
    use gateway_core::gateway::Gateway;
    use gateway_core::plane::{DataPlane as _, Pair};
    use gateway_core::policy::rules;
    use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
    use ipsec_core::crypto::AeadAlg;
    use ipsec_core::error::Discard;
    use ipsec_core::net::{AddrRange, Encap, IKE_PORT, Path, Spi, TrafficSelector};
    use ipsec_core::sa::{DontFragment, Lifetime, Mode, OutboundParams, Params, TfcPadding};
    use ipsec_core::wire::checksum::Sum;
    use nix::sys::socket::setsockopt;

    use super::super::Sockets;
    use super::super::shared::Plane;
    use super::*;
    use crate::capacity::Capacity;
    use crate::clear::ClearSockets;
    use crate::clock::Clock;
    use crate::namespace::in_a_network_of_its_own;
    use crate::socket::{Carrier, Ipv4MtuDiscover, Listen, Marks};

    const CONFIG: &str = r#"
        [[peer]]
        name   = "cloud"
        local  = "192.0.2.2"
        remote = "198.51.100.1"
        psk    = "a key of more than twenty characters"
        [[peer.child]]
        name      = "net"
        local-ts  = "10.2.0.0/16"
        remote-ts = "10.1.0.0/16"
    "#;

    fn ip(words: &str) {
        let done = std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(done.success(), "{words}");
    }

    /// What comes out of a device within a moment that goes to this host.
    fn out_of(device: &Tun, to: [u8; 4]) -> Option<Vec<u8>> {
        let (until, mut buffer) = (Instant::now() + Duration::from_millis(300), vec![0; 2048]);
        while Instant::now() < until {
            match device.recv(&mut buffer) {
                Ok(length @ 20..) if buffer[16..20] == to => {
                    buffer.truncate(length);
                    return Some(buffer);
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        None
    }

    /// What a router says on whose way `mtu` octets pass.
    fn fragmentation_needed(about: &[u8], mtu: u16) -> Vec<u8> {
        let mut icmp = vec![3, 4, 0, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(&about[..548]);
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 254, 192, 0, 2, 2];
        packet[2..4].copy_from_slice(&576_u16.to_be_bytes());
        let [head, whole] = [&packet, &icmp].map(|octets| Sum::default().bytes(octets).finish().to_be_bytes());
        packet[10..12].copy_from_slice(&head);
        icmp[2..4].copy_from_slice(&whole);
        [packet, icmp].concat()
    }

    const PEER: [u8; 4] = [198, 51, 100, 1];
    const HOST: [u8; 4] = [10, 1, 0, 9];

    fn installed(plane: &Plane, encap: Encap, dont_fragment: DontFragment) {
        let (_, peers) = Gateway::new(Config::parse(CONFIG).unwrap().0);
        let policy = gateway_core::policy::policy_of(peers.children().next().unwrap().0);
        let mut engines = plane.engines();
        engines.set_rules(&rules(&[], &peers, std::iter::empty())).unwrap();
        let port = if encap == Encap::Udp { NATT_PORT } else { 0 };
        let path = Path { local: ([192, 0, 2, 2], port).into(), remote: (PEER, port).into() };
        let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
        let sa = Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: &[7; 20],
            esn: false,
            path,
            encap,
            policy,
            local_ts: &all,
            remote_ts: &all,
            lifetime: Lifetime::default(),
            compression: None,
        };
        let params = OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment };
        engines.install_outbound(plane.clock.now(), Pair(1), &params, TfcPadding::None).unwrap();
    }

    /// A host sends 1,400 octets at a time, a router lets 1,400 pass, and `fits` octets are left inside.
    fn a_sender_hears(carrier: Carrier, encap: Encap, fits: i32) {
        let (device, wan) = (Tun::create("pcl0").unwrap(), Tun::create("wan").unwrap());
        for words in [
            "link set lo up",
            "link set pcl0 up mtu 1438",
            "link set wan up mtu 1500",
            "addr add 192.0.2.2/24 dev wan",
            "addr add 10.2.0.5/32 dev lo",
            "route add default via 192.0.2.254 dev wan onlink",
            "route add 10.1.0.0/16 dev pcl0",
        ] {
            ip(words);
        }
        let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
        let plane = Plane::new(device, ClearSockets::open().unwrap(), Clock::start(), &capacity).unwrap();
        let listen = Listen { carrier, addr: [0; 4].into(), interface: None };
        let socket = Arc::new(crate::socket::Socket::open(listen).unwrap());
        plane.set_sockets(Sockets::new(vec![socket], &[])).unwrap();
        installed(&plane, encap, DontFragment::Copy);

        // A host of ours that sends 1,400 octets at a time, which must not be cut.
        let host = UdpSocket::bind((Ipv4Addr::new(10, 2, 0, 5), 7)).unwrap();
        host.connect((Ipv4Addr::from(HOST), IKE_PORT)).unwrap();
        setsockopt(&host, Ipv4MtuDiscover, &libc::IP_PMTUDISC_DO).unwrap();
        let (sender, _inputs) = sync_channel(9);
        let send = |length: usize| {
            host.send(&vec![7; length - 28]).map_err(|error| error.raw_os_error())?;
            let packet = out_of(&plane.tun, HOST).expect("it comes to the device");
            let mut buffer = [vec![0; HEADROOM], packet.clone(), vec![0; TAILROOM]].concat();
            plane.dispatch(&sender, &mut PacketBuf::new(&mut buffer, HEADROOM, packet.len()).unwrap());
            Ok(out_of(&wan, PEER))
        };
        let outer: Option<Vec<u8>> = send(1400).unwrap();
        let outer = outer.expect("nothing is known yet");
        assert_eq!(outer[6] & 0x40, 0x40, "it must not be cut either");

        wan.send(&fragmentation_needed(&outer, 1400)).unwrap();
        assert_eq!(send(1400), Ok(None), "the kernel refuses it, and is asked why");
        assert_eq!(send(1400), Ok(None), "its sender is told");
        assert_eq!(send(1400), Err(Some(libc::EMSGSIZE)), "and knows");
        assert_eq!(getsockopt(&host, sockopt::IpMtu).unwrap(), fits);
        host.take_error().unwrap(); // what ICMP said would be the answer to the next packet, too
        let fits = usize::try_from(fits).unwrap();
        let outer = send(fits).unwrap().expect("what fits goes");
        assert!(outer.len() <= 1400 && outer.len() > 1396, "{}", outer.len());
        let path = plane.outbound().sas().next().unwrap().path;
        plane.send(path, Marks::default(), &[7; 100]).unwrap();
        assert_eq!(out_of(&wan, PEER).unwrap()[6] & 0x40, 0, "and others by the same socket may be cut as ever");
        assert_eq!(plane.outbound().counters().get(Discard::OutNoRoom), 1);
        let refused = plane.tally().read().into_iter().find(|(name, _)| *name == "SendErrors").unwrap();
        assert_eq!(refused.1, 1);
    }

    #[test]
    fn b16_a_sender_hears_what_fits_once_a_router_on_the_way_has_said_so() {
        in_a_network_of_its_own(|| a_sender_hears(Carrier::Esp, Encap::None, 1346));
    }

    #[test]
    fn b16_a_sender_hears_what_fits_beside_udp() {
        in_a_network_of_its_own(|| a_sender_hears(Carrier::Udp(NATT_PORT), Encap::Udp, 1338));
    }

    #[test]
    fn what_is_known_of_a_way_is_forgotten_after_a_minute() {
        let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
        let plane = Plane::new(Tun::nowhere().unwrap(), ClearSockets::of_anybody().unwrap(), Clock::start(), &capacity)
            .unwrap();
        installed(&plane, Encap::Udp, DontFragment::Copy);
        let (sa, now) = (plane.outbound().sas().next().unwrap().id, Instant::now());
        assert_eq!(plane.path_mtus.longest(sa, now), None);
        plane.path_mtus.note(sa, 1338, now);
        assert_eq!(plane.path_mtus.longest(sa, now + FRESH - Duration::from_secs(1)), Some(1338));
        assert_eq!(plane.path_mtus.longest(sa, now + FRESH), None);
    }
}
