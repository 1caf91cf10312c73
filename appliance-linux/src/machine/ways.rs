//! How packets to a peer leave this machine, asked of the kernel's routes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use gateway_core::cause::{Cause, Unsent};
use gateway_core::config::nobodys;
use gateway_core::gateway::{Locate, Located, Way};
use nix::net::if_::if_nametoindex;
use tracing::info;

use crate::ask::Ends;
use crate::boundary::MARK;
use crate::netlink::{LocalAddr, Netlink, NextHop};

/// Who asks. A `device` is what our own is called now, if it is there: no way leads through it.
pub(super) struct Ways {
    netlink: Netlink,
    /// The interfaces that face the peers, where they are named.
    outside: Vec<String>,
}

impl Ways {
    pub(super) fn open(outside: Vec<String>) -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, outside })
    }

    /// Our addresses, with their interfaces.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<LocalAddr>> {
        self.netlink.addresses()
    }

    /// Which of a peer's addresses we can reach, and from where.
    pub(super) fn to(&mut self, question: &Locate, resolved: Vec<IpAddr>, device: Option<&str>) -> Located {
        let (mut ways, mut hindrance) = (Vec::new(), None);
        for remote in resolved.iter().copied() {
            // Names stand for such where DNS blocks them, or is another one inside a network.
            if let Some(what) =
                nobodys(remote, &question.local).or_else(|| self.has(remote).then_some("which is this machine"))
            {
                info!("one place to call is passed over: {remote}, {what}");
                hindrance = Some(Cause::nobodys(remote, what));
                continue;
            }
            let mut own = question.local.iter().copied().filter(|local| local.is_ipv4() == remote.is_ipv4()).peekable();
            if own.peek().is_some() {
                ways.extend(own.map(|local| Way { local, remote }));
            } else if !question.local.is_empty() {
                hindrance = Some(Cause::unroutable(&format!("{remote}: no address under \"local\" is of its family")));
            } else {
                let hop = self.next_hop(remote, device);
                match hop.and_then(|hop| hop.source.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())) {
                    Ok(local) => ways.push(Way { local, remote }),
                    Err(error) => hindrance = Some(Cause::unroutable(&format!("{remote}: {error}"))),
                }
            }
        }
        Located { resolved, ways, hindrance }
    }

    /// Which of the ways from addresses of ours (`ours`, with the interfaces that have them) lead elsewhere. An address that
    /// new connections would not take any more serves those that have it (RFC 4862 §5.5.4), as long as the way leads
    /// through its interface.
    pub(super) fn astray(
        &mut self,
        ours: &BTreeMap<IpAddr, BTreeSet<u32>>,
        mut open: BTreeSet<Ends>,
        device: Option<&str>,
    ) -> BTreeSet<Ends> {
        open.retain(|(local, remote)| {
            ours.get(local).is_some_and(|owners| self.leads_elsewhere(*local, owners, *remote, device))
        });
        open
    }

    /// Why what the kernel takes from us for a peer arrives nowhere, where somebody's route leads it back to us.
    pub(super) fn back(&mut self, local: IpAddr, remote: IpAddr, device: Option<&str>) -> Option<Unsent> {
        let hop = self.netlink.next_hop_outside(&self.outside, Some(local), remote, MARK).ok()?;
        Some(Unsent { why: inwards(hop, device)?, filtered: false })
    }

    /// The address of ours, and the interface, that packets to a peer leave from.
    fn next_hop(&mut self, remote: IpAddr, device: Option<&str>) -> io::Result<NextHop> {
        let hop = self.netlink.next_hop_outside(&self.outside, None, remote, MARK)?;
        inwards(hop, device).map_or(Ok(hop), |why| Err(io::Error::other(why)))
    }

    /// Whether an address is our own: the kernel sends there from nowhere else.
    fn has(&mut self, address: IpAddr) -> bool {
        self.netlink.next_hop(address, MARK).is_ok_and(|hop| hop.source == Some(address))
    }

    /// Whether packets to a peer leave from another address of ours than this one, and those from this one through none of the
    /// interfaces (`owners`) that have it. Of an interface under `outside`, which has sockets of its own, any route that
    /// leads through it will do, also when another one is preferred.
    fn leads_elsewhere(&mut self, local: IpAddr, owners: &BTreeSet<u32>, remote: IpAddr, device: Option<&str>) -> bool {
        let outside = self.outside.iter().filter_map(|name| if_nametoindex(name.as_str()).ok());
        let mut bound = outside.filter(|link| owners.contains(link)).collect::<Vec<_>>().into_iter();
        if bound.any(|link| self.netlink.next_hop_through(link, Some(local), remote, MARK).is_ok()) {
            return false;
        }
        // A rule may lead what has this source where it came from, though it leads what has none elsewhere.
        let from_it = self.netlink.next_hop_outside(&self.outside, Some(local), remote, MARK);
        if from_it.is_ok_and(|hop| owners.contains(&hop.link)) {
            return false;
        }
        let hop = self.next_hop(remote, device).ok();
        hop.is_some_and(|hop| hop.source.is_some_and(|source| source != local) && !owners.contains(&hop.link))
    }

    /// Puts another connection to the kernel in the place of this one.
    #[cfg(test)]
    pub(super) fn ask_through(&mut self, netlink: Netlink) -> Netlink {
        std::mem::replace(&mut self.netlink, netlink)
    }
}

fn inwards(hop: NextHop, device: Option<&str>) -> Option<String> {
    let name = device.filter(|name| if_nametoindex(*name).ok() == Some(hop.link))?;
    Some(format!("the way leads into the tunnel's own device {name}"))
}

#[cfg(test)]
mod tests;
