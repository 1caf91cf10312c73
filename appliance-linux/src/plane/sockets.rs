//! Which of the open sockets a datagram leaves through.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ipsec_core::net::Path;

use crate::netlink::LocalAddr;
use crate::socket::{Marks, Origin, Socket};

/// The open sockets, and what tells apart those that could send the same datagram: one for each outside interface, all
/// at the wildcard address.
#[derive(Default)]
pub(crate) struct Sockets {
    open: Box<[Arc<Socket>]>,
    /// The interfaces that have an address of ours.
    owners: BTreeMap<IpAddr, Vec<u32>>,
    arrivals: Mutex<Arrivals>,
}

/// The interface through which an address of ours that none of them has was last asked at: it belongs to the loopback or to
/// an inner interface.
#[derive(Default)]
struct Arrivals {
    links: BTreeMap<IpAddr, u32>,
    /// The addresses, the one known longest first.
    order: VecDeque<IpAddr>,
}

impl Arrivals {
    /// Addresses that are remembered. Where a whole network is local (`ip route add local 10.0.0.0/8 dev lo`) strangers
    /// decide how many are asked at; an answer leaves soon after it was asked for.
    const MOST: usize = 1024;

    fn note(&mut self, local: IpAddr, link: u32) {
        if self.links.insert(local, link).is_some() {
            return;
        }
        self.order.push_back(local);
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.links.remove(&oldest);
        }
    }
}

impl Sockets {
    pub(crate) fn new(open: Vec<Arc<Socket>>, addresses: &[LocalAddr]) -> Self {
        let mut owners: BTreeMap<IpAddr, Vec<u32>> = BTreeMap::new();
        for local in addresses {
            owners.entry(local.addr).or_default().push(local.link);
        }
        Self { open: open.into(), owners, arrivals: Mutex::default() }
    }

    /// The sockets, in the order in which they were opened.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Socket>> {
        self.open.iter()
    }

    /// Whether this is an address of this machine.
    pub(super) fn is_ours(&self, addr: IpAddr) -> bool {
        self.owners.contains_key(&addr)
    }

    /// The interface that the socket is bound to by which we send from this address and port; `None`: we do not.
    pub(super) fn outlet(&self, local: SocketAddr) -> Option<Option<u32>> {
        let owners = self.owners.get(&local.ip()).map_or(&[][..], Vec::as_slice);
        let serving = self.open.iter().filter(|socket| socket.serves(local));
        serving
            .filter(|socket| self.is_ours(local.ip()) || socket.listen().addr == local.ip())
            .map(|socket| socket.link())
            .min_by_key(|link| preference(*link, owners, None))
    }

    /// Notes where a datagram came from, where that decides through which socket its answer leaves.
    pub(super) fn arrived(&self, socket: &Socket, origin: &Origin) {
        let Some(link) = socket.link() else { return };
        let local = origin.path.local.ip();
        if !self.owners.contains_key(&local) {
            self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).note(local, link);
        }
    }

    /// Sends a datagram from the address and port that its path names, through the interface that has the address.
    pub(super) fn send(&self, path: Path, marks: Marks, datagram: &[u8]) -> io::Result<()> {
        let local = path.local.ip();
        let serving = || self.open.iter().filter(|socket| socket.serves(path.local));
        let first = serving().next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        if first.link().is_none() {
            return first.send(path, marks, datagram);
        }
        let owners = self.owners.get(&local).map_or(&[][..], Vec::as_slice);
        // Noted only where nobody has the address, so that packets need not wait to look.
        let noted = || self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).links.get(&local).copied();
        let arrival = owners.is_empty().then(noted).flatten();
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        for place in FIRST..=LAST {
            for socket in serving().filter(|socket| preference(socket.link(), owners, arrival) == place) {
                match socket.send(path, marks, datagram) {
                    // Its interface leads nowhere near: another one may.
                    Err(error) if unreachable(&error) => failed = error,
                    other => return other,
                }
            }
        }
        Err(failed)
    }
}

/// Places in line.
const FIRST: u8 = 0;
const LAST: u8 = 2;

/// The place in line of a socket that is bound to the interface `link`: first who has the address, then who was asked.
fn preference(link: Option<u32>, owners: &[u32], arrival: Option<u32>) -> u8 {
    match link {
        Some(link) if owners.contains(&link) => FIRST,
        Some(_) if link == arrival => 1,
        _ => LAST,
    }
}

fn unreachable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENODEV | libc::ENETDOWN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;
    use crate::socket::{Carrier, Listen};
    use crate::tun::Tun;

    const US: &str = "192.0.2.2";
    const PEER: &str = "198.51.100.1";

    fn ip(line: &str) {
        assert!(std::process::Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    }

    #[test]
    fn f_21_a_datagram_leaves_once_by_the_first_interface_in_line_that_leads_anywhere() {
        in_a_network_of_its_own(|| {
            // Whom Sockets take for its owner is another thing.
            ip(&format!("addr add {US}/32 dev lo"));
            let names = ["wan1", "wan2", "wan3"];
            let devices = names.map(|name| Tun::create(name).unwrap());
            names.iter().for_each(|name| ip(&format!("link set {name} up")));
            let link = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
            let open = |name: &str| {
                let listen = Listen { carrier: Carrier::Udp(500), addr: [0; 4].into(), interface: Some(name.into()) };
                Arc::new(Socket::open(listen).unwrap())
            };
            let of = |owners: &[&str]| {
                let addr = US.parse().unwrap();
                let local = |name: &&str| LocalAddr { addr, prefix: 32, link: link(name), usable: true };
                Sockets::new(names.map(open).into(), &owners.iter().map(local).collect::<Vec<_>>())
            };
            let end = |addr: &str| SocketAddr::new(addr.parse().unwrap(), 500);
            let path = Path { local: end(US), remote: end(PEER) };
            let leaves_by = |sockets: &Sockets| {
                let sent = sockets.send(path, Marks::default(), b"x").map_err(|error| error.raw_os_error());
                let mut buffer = [0; 2048];
                let mut octets = |device: &Tun| device.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec());
                let to_peer = |packet: &[u8]| packet.get(16..20) == Some(&[198, 51, 100, 1]);
                let mut by = String::new();
                for (name, device) in names.iter().zip(&devices) {
                    let packets = std::iter::from_fn(|| octets(device)).filter(|packet| to_peer(packet));
                    by += &name.repeat(packets.count());
                }
                sent.map(|()| by)
            };
            let by = |names: &str| Ok(names.to_owned());

            let sockets = of(&["wan3"]);
            assert_eq!(leaves_by(&sockets), by("wan3"), "it has the address");
            ip("link set wan3 down");
            assert_eq!(leaves_by(&sockets), by("wan1"), "opened first");
            ip("link set wan1 down");
            assert_eq!(leaves_by(&sockets), by("wan2"));
            ip("link set wan2 down");
            assert_eq!(leaves_by(&sockets), Err(Some(libc::ENETUNREACH)), "none is left");
            names.iter().for_each(|name| ip(&format!("link set {name} up")));
            drop(sockets);

            let sockets = of(&[]);
            let asked = Origin { path, marks: Marks::default() };
            assert_eq!(leaves_by(&sockets), by("wan1"), "nobody has it, or was asked");
            sockets.arrived(&sockets.open[1], &asked);
            assert_eq!(leaves_by(&sockets), by("wan2"), "it was asked");
            drop(sockets);
            let sockets = of(&["wan3"]);
            sockets.arrived(&sockets.open[1], &asked);
            ip("link set wan3 down");
            assert_eq!(leaves_by(&sockets), by("wan1"), "who has the address can be known, so nothing was noted");

            // Another interface does not mend what is wrong with the datagram.
            ip("link set wan2 down");
            let failed = sockets.send(path, Marks::default(), &[0; 65_508]).unwrap_err();
            assert_eq!(failed.raw_os_error(), Some(libc::EMSGSIZE));
            let elsewhere = Path { local: SocketAddr::new(US.parse().unwrap(), 4500), ..path };
            let failed = sockets.send(elsewhere, Marks::default(), b"x").unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::AddrNotAvailable, "no socket has the port");
        });
    }

    #[test]
    fn f_21_the_interface_that_has_the_address_comes_first_then_the_one_that_was_asked() {
        let in_line = |owners: &[u32], arrival| {
            let mut links = [Some(2), Some(3), Some(4)];
            links.sort_by_key(|link| preference(*link, owners, arrival));
            links.map(Option::unwrap)
        };
        assert_eq!(in_line(&[3], None), [3, 2, 4]);
        assert_eq!(in_line(&[3], Some(4)), [3, 4, 2], "a datagram that came another way turns nothing round");
        assert_eq!(in_line(&[], Some(4)), [4, 2, 3]);
        assert_eq!(in_line(&[], None), [2, 3, 4]);
    }

    #[test]
    fn f_34_of_addresses_that_strangers_choose_the_last_ones_are_remembered() {
        let mut arrivals = Arrivals::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..100_000 {
            arrivals.note(address(number), 2);
            arrivals.note(address(number), 3);
        }
        assert_eq!((arrivals.links.len(), arrivals.order.len()), (Arrivals::MOST, Arrivals::MOST));
        assert_eq!(arrivals.links.get(&address(99_999)), Some(&3));
        assert_eq!(arrivals.links.get(&address(0)), None);
    }
}
