//! Which of the open sockets a datagram leaves through.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ipsec_core::net::Path;

use crate::netlink::LocalAddr;
use crate::socket::{Origin, Socket};

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
    pub(super) fn send(&self, path: Path, tos: u8, datagram: &[u8]) -> io::Result<()> {
        let local = path.local.ip();
        let serving = || self.open.iter().filter(|socket| socket.serves(path.local));
        let first = serving().next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        if first.link().is_none() {
            return first.send(path, tos, datagram);
        }
        let owners = self.owners.get(&local).map_or(&[][..], Vec::as_slice);
        // Noted only where nobody has the address, so that packets need not wait to look.
        let noted = || self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).links.get(&local).copied();
        let arrival = owners.is_empty().then(noted).flatten();
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        for place in FIRST..=LAST {
            for socket in serving().filter(|socket| preference(socket.link(), owners, arrival) == place) {
                match socket.send(path, tos, datagram) {
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
