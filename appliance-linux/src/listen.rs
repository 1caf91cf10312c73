//! Which sockets a configuration needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway_core::config::{Config, Peer, Remote};
use nix::net::if_::if_nametoindex;

use crate::boundary::has_ipv6;
use crate::plane::Sockets;
use crate::socket::{Carrier, Listen, PORTS, Socket};

/// What to listen to: on the interfaces named under `outside` if there are any, else at the peers' `local` addresses, or
/// at all when a peer has none.
pub(crate) fn wanted(config: &Config, outside: &[String]) -> BTreeSet<Listen> {
    let mut ends: BTreeSet<(IpAddr, Option<String>)> = BTreeSet::new();
    for peer in &config.peers {
        if !outside.is_empty() || peer.local.is_empty() {
            for any in families(&peer.local, &peer.remote) {
                let named = outside.iter().map(|name| Some(name.clone()));
                let everywhere = outside.is_empty().then_some(None);
                ends.extend(named.chain(everywhere).map(|interface| (any, interface)));
            }
        } else {
            ends.extend(peer.local.iter().map(|addr| (*addr, None)));
        }
    }
    for pair in &config.manual {
        match outside {
            [] => _ = ends.insert((pair.local, None)),
            outside => ends.extend(outside.iter().map(|name| (unspecified(pair.local), Some(name.clone())))),
        }
    }
    // Whoever could be met in either family is met in the one that there is.
    ends.retain(|(addr, _)| addr.is_ipv4() || !addr.is_unspecified() || has_ipv6());
    // The kernel gives a datagram to one socket: an address beside the wildcard would take its share away.
    let any: Vec<bool> =
        ends.iter().filter(|(addr, _)| addr.is_unspecified()).map(|(addr, _)| addr.is_ipv4()).collect();
    ends.retain(|(addr, _)| addr.is_unspecified() || !any.contains(&addr.is_ipv4()));
    let carriers = PORTS.map(Carrier::Udp).into_iter().chain([Carrier::Esp]);
    carriers
        .flat_map(|carrier| {
            ends.iter().map(move |(addr, interface)| Listen { carrier, addr: *addr, interface: interface.clone() })
        })
        .collect()
}

/// The peers for which it is to listen at `::` alone: where the kernel has no IPv6 they have no socket.
pub(crate) fn in_ipv6_alone(config: &Config) -> impl Iterator<Item = &str> {
    let everywhere = |peer: &&Peer| !config.gateway.outside.is_empty() || peer.local.is_empty();
    let alone = |peer: &&Peer| families(&peer.local, &peer.remote).iter().all(IpAddr::is_ipv6);
    config.peers.iter().filter(everywhere).filter(alone).map(|peer| peer.name.as_str())
}

/// The wildcard address of the same family.
const fn unspecified(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The wildcard addresses of the families that a peer can be met in.
fn families(local: &[IpAddr], remote: &[Remote]) -> Vec<IpAddr> {
    let written = || {
        let remote = remote.iter().filter_map(|place| match place {
            Remote::Address(addr) => Some(*addr),
            Remote::Name(_) => None,
        });
        local.iter().copied().chain(remote)
    };
    let open = local.is_empty() && (remote.is_empty() || remote.iter().any(|place| matches!(place, Remote::Name(_))));
    let mut families = Vec::new();
    if open || written().any(|addr| addr.is_ipv4()) {
        families.push(Ipv4Addr::UNSPECIFIED.into());
    }
    if open || written().any(|addr| addr.is_ipv6()) {
        families.push(Ipv6Addr::UNSPECIFIED.into());
    }
    families
}

/// What came of opening sockets.
pub(crate) struct Opened {
    pub(crate) sockets: Vec<Arc<Socket>>,
    /// What could not be opened, and why.
    pub(crate) refused: Vec<(Listen, io::Error)>,
}

/// Opens what is wanted, each socket for itself; what is open already is kept, and goes on until the new ones are taken into
/// use.
///
/// A socket is bound to an interface by its index, and an interface that is made anew (a PPPoE dial-in that reconnects)
/// has another one: its socket would be deaf for ever and is opened again. Until that can be done the deaf one stays, and
/// with it the port stays ours.
pub(crate) fn open(wanted: &BTreeSet<Listen>, held: &Sockets) -> Opened {
    let mut links: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    let mut opened = Opened { sockets: Vec::new(), refused: Vec::new() };
    for listen in wanted {
        let name = listen.interface.as_deref();
        let link = name.map(|name| *links.entry(name).or_insert_with(|| if_nametoindex(name).ok()));
        let standing = held.iter().find(|socket| socket.listen() == listen);
        let new = match (link, standing) {
            (Some(None), _) => None,
            (_, Some(socket)) if socket.link() == link.flatten() => None,
            _ => match beside(listen, held) {
                Ok(socket) => Some(Arc::new(socket)),
                Err(error) => {
                    opened.refused.push((listen.clone(), error));
                    None
                }
            },
        };
        opened.sockets.extend(new.or_else(|| standing.cloned()));
    }
    opened
}

/// What of it could not be opened, and why. Nothing stays open: the kernel would have its datagrams wait where nobody reads them,
/// those of an address beside our wildcard too. What one of ours has already nobody else can have.
pub(crate) fn refused(wanted: &BTreeSet<Listen>, held: &Sockets) -> Vec<(Listen, io::Error)> {
    let others = |listen: &&Listen| !held.iter().any(|socket| socket.listen().includes(listen));
    open(&wanted.iter().filter(others).cloned().collect(), held).refused
}

/// The interfaces on which nothing can be heard yet, or any more.
pub(crate) fn missing(wanted: &BTreeSet<Listen>, open: &[Arc<Socket>]) -> BTreeSet<String> {
    let mut missing: BTreeSet<String> = wanted.iter().filter_map(|listen| listen.interface.clone()).collect();
    missing.retain(|name| {
        let link = if_nametoindex(name.as_str()).ok();
        let hears = |socket: &Arc<Socket>| socket.listen().interface.as_ref() == Some(name) && socket.link() == link;
        link.is_none() || !open.iter().any(hears)
    });
    missing
}

/// A socket of ours is no other daemon.
fn beside(listen: &Listen, held: &Sockets) -> io::Result<Socket> {
    let in_the_way: Vec<&Socket> =
        held.iter().map(|socket| &**socket).filter(|socket| socket.listen().overlaps(listen)).collect();
    match Socket::open(listen.clone()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !in_the_way.is_empty() => {
            Socket::open_beside(listen.clone(), &in_the_way)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn listens(head: &str, peers: &[&str]) -> Vec<String> {
        let mut text = format!("[gateway]\n{head}\n");
        for (number, peer) in peers.iter().enumerate() {
            text += &format!(
                "[[peer]]\nname = \"p{number}\"\nlocal-id = \"a\"\nremote-id = \"b{number}\"\n\
                 psk = \"0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"\nstart = \"passive\"\n{peer}\n\
                 [[peer.child]]\nname = \"net\"\nlocal-ts = [\"10.2.0.0/16\"]\nremote-ts = [\"10.1{number}.0.0/16\"]\n"
            );
        }
        let (config, _) = Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let sockets = wanted(&config, &config.gateway.outside);
        let of_port_500 = sockets.iter().filter(|listen| listen.carrier == Carrier::Udp(500));
        assert_eq!(of_port_500.clone().count() * 3, sockets.len(), "500, 4500 and protocol 50 at each");
        let shown = |listen: &Listen| match &listen.interface {
            Some(name) => format!("{}%{name}", listen.addr),
            None => listen.addr.to_string(),
        };
        of_port_500.map(shown).collect()
    }

    #[test]
    fn listens_at_the_addresses_that_are_written() {
        let peers =
            ["local = \"192.0.2.2\"\nremote = \"192.0.2.1\"", "local = \"2001:db8::2\"\nremote = \"2001:db8::1\""];
        assert_eq!(listens("", &peers), ["192.0.2.2", "2001:db8::2"]);
    }

    #[test]
    fn listens_everywhere_once_a_peer_has_no_address_of_ours() {
        let peers = ["local = \"192.0.2.2\"\nremote = \"192.0.2.1\"", "local = \"any\"\nremote = \"192.0.2.3\""];
        assert_eq!(listens("", &peers), ["0.0.0.0"]);
        assert_eq!(listens("", &["local = \"any\"\nremote = \"any\""]), ["0.0.0.0", "::"]);
        assert_eq!(listens("", &["local = \"any\"\nremote = \"gw.example\""]), ["0.0.0.0", "::"]);
    }

    #[test]
    fn a_13_listens_outside_only() {
        let peers = ["local = \"192.0.2.2\"\nremote = \"192.0.2.1\""];
        assert_eq!(listens("outside = [\"wan0\", \"wan1\"]", &peers), ["0.0.0.0%wan0", "0.0.0.0%wan1"]);
    }

    fn port_of(number: u16, addr: &str, interface: Option<&str>) -> Listen {
        let interface = interface.map(str::to_owned);
        Listen { carrier: Carrier::Udp(number), addr: addr.parse().unwrap(), interface }
    }

    #[test]
    fn f_28_any_step_between_addresses_wildcard_and_interface_finds_no_other_daemon() {
        in_a_network_of_its_own(|| {
            const PORT: u16 = 45_028;
            let steps = [
                ("127.0.0.1", None),
                ("0.0.0.0", None),
                ("0.0.0.0", Some("lo")),
                ("127.0.0.2", None),
                ("0.0.0.0", None),
            ];
            let mut held = Sockets::default();
            for (addr, interface) in steps {
                let listen = port_of(PORT, addr, interface);
                let opened = beside(&listen, &held).unwrap_or_else(|error| panic!("{listen:?}: {error}"));
                held = Sockets::new(vec![Arc::new(opened)], &[]);
                // Nobody else gets in between, however willing to share.
                let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
                other.set_reuse_address(true).unwrap();
                let at = std::net::SocketAddr::new(addr.parse().unwrap(), PORT);
                assert_eq!(other.bind(&at.into()).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{listen:?}");
                let foreign = beside(&listen, &Sockets::default()).map(drop);
                assert_eq!(foreign.unwrap_err().kind(), io::ErrorKind::AddrInUse, "another daemon is still noticed");
            }
        });
    }

    #[test]
    fn f_28_what_cannot_be_opened_keeps_nothing_else_closed_and_nobody_gets_what_goes_deaf() {
        in_a_network_of_its_own(|| {
            let anybody = |at: &str| {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
                socket.set_reuse_address(true).unwrap();
                let at: std::net::SocketAddr = at.parse().unwrap();
                socket.bind(&at.into()).map(|()| socket)
            };
            let wanted: BTreeSet<_> = [45_029, 45_030].map(|port| port_of(port, "0.0.0.0", Some("ppp0"))).into();
            let listen = |held: &Sockets| {
                let opened = open(&wanted, held);
                let refused: Vec<_> = opened.refused.iter().map(|(listen, _)| listen.carrier).collect();
                let deaf = missing(&wanted, &opened.sockets).len();
                (Sockets::new(opened.sockets, &[]), refused, deaf)
            };
            let (held, refused, deaf) = listen(&Sockets::default());
            assert_eq!((held.iter().count(), refused.len(), deaf), (0, 0, 1), "there is no such interface");
            let somebody = anybody("0.0.0.0:45030").unwrap();
            let first = crate::tun::Tun::create("ppp0").unwrap();
            let (held, refused, deaf) = listen(&held);
            assert_eq!((held.iter().count(), refused, deaf), (1, vec![Carrier::Udp(45_030)], 0));
            drop(somebody);
            let (held, refused, _) = listen(&held);
            assert_eq!((held.iter().count(), refused.len()), (2, 0), "free again");
            drop(first);
            let (held, _, deaf) = listen(&held);
            assert_eq!((held.iter().count(), deaf), (2, 1), "deaf, and ours");
            assert_eq!(anybody("0.0.0.0:45029").unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let _second = crate::tun::Tun::create("ppp0").unwrap();
            let (held, refused, deaf) = listen(&held);
            let link = if_nametoindex("ppp0").ok();
            assert_eq!((refused.len(), deaf, held.iter().filter(|socket| socket.link() == link).count()), (0, 0, 2));
        });
    }

    #[test]
    fn f_28_while_a_reload_waits_the_sockets_in_use_get_what_comes_to_an_address_that_it_names() {
        in_a_network_of_its_own(|| {
            let everywhere = Arc::new(Socket::open(port_of(45_035, "0.0.0.0", None)).unwrap());
            let held = Sockets::new(vec![Arc::clone(&everywhere)], &[]);
            let named: BTreeSet<_> = [port_of(45_035, "127.0.0.1", None)].into();
            let refused = refused(&named, &held);
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:45035").unwrap();
            assert_eq!(crate::socket::Batch::new().receive(&everywhere, |_, _| {}).unwrap(), 1);
            assert!(refused.is_empty(), "it is ours");
            let stranger = std::net::UdpSocket::bind("127.0.0.1:45036").unwrap();
            let taken: BTreeSet<_> = [port_of(45_036, "0.0.0.0", None)].into();
            let found = super::refused(&taken, &held);
            assert_eq!(found.first().map(|(_, error)| error.kind()), Some(io::ErrorKind::AddrInUse));
            drop(stranger);
        });
    }

    #[test]
    fn f_28_while_we_share_with_ourselves_nobody_else_gets_in() {
        in_a_network_of_its_own(|| {
            let held = Socket::open(port_of(45_031, "0.0.0.0", None)).unwrap();
            let _shared = held.shared().unwrap();
            let stranger = std::thread::spawn(|| {
                // SAFETY: it takes no pointer; the raw call changes the user of this thread alone, which ends.
                assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) }, 0);
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
                socket.set_reuse_address(true).unwrap();
                socket.set_reuse_port(true).unwrap();
                let at: std::net::SocketAddr = "127.0.0.1:45031".parse().unwrap();
                socket.bind(&at.into()).map_err(|error| error.kind())
            });
            assert_eq!(stranger.join().unwrap(), Err(io::ErrorKind::AddrInUse));
        });
    }
}
