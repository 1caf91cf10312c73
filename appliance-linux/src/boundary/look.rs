//! Looks at what the plan depends on: our device, which is made what it should be, and the addresses of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::health::Round;
use super::home::Outside;
use super::net::{Net, is_default, prefixes};
use super::plan::Seen;
use super::{Boundary, MARK, kernel, legs, owner, ways};
use crate::tun::Place;

impl Boundary {
    /// Our device, switched on and under its own name: index and name, if it is there.
    pub(super) fn device(&mut self, round: &mut Round) -> Option<(u32, String)> {
        let wanted = self.intent.tun.clone();
        let found = match self.tun.place() {
            Ok(Place::Here(name)) => nix::net::if_::if_nametoindex(name.as_str()).ok().map(|index| (index, name)),
            _ => None,
        };
        let Some((index, mut name)) = found else {
            round.fails(false, format!("the device {wanted} is not there"));
            return None;
        };
        if name != wanted {
            let taken = nix::net::if_::if_nametoindex(wanted.as_str()).is_ok();
            let renamed =
                if taken { Err(io::ErrorKind::AlreadyExists.into()) } else { self.netlink.rename(index, &wanted) };
            match renamed {
                Ok(()) => {
                    round.put_back.push(format!("the name of {wanted}, which somebody had called {name}"));
                    name = wanted;
                }
                Err(error) => round.fails(
                    false,
                    format!("the device is called {name} and not {wanted}, and that cannot be changed: {error}"),
                ),
            }
        }
        if !self.netlink.link_is(index, self.intent.mtu).unwrap_or(false)
            && let Err(error) = self.netlink.link_up(index, self.intent.mtu)
        {
            round.fails(true, format!("{name} cannot be switched on: {error}"));
        }
        Some((index, name))
    }

    /// What the kernel says of addresses and networks. `tun` is the index of our device.
    pub(super) fn look(&mut self, tun: Option<u32>) -> io::Result<Seen> {
        let v6 = kernel::has_ipv6();
        let mut addresses = self.netlink.addresses()?;
        addresses.retain(|local| local.usable && Some(local.link) != tun && (v6 || local.addr.is_ipv4()));
        let named: BTreeSet<u32> =
            self.intent.outside.iter().filter_map(|name| nix::net::if_::if_nametoindex(name.as_str()).ok()).collect();
        // Of everything nothing is barred, wherever a part of it is led.
        let nets = self.intent.sites().flatten().flat_map(prefixes);
        let sites: Vec<AddrRange> =
            nets.filter(|net| !is_default(net.is_ipv4(), net.prefix)).map(|net| net.range()).collect();
        let ways = ways::ways(&mut self.netlink, v6, &sites, tun)?;
        // Where the peers are, and where strangers are.
        let remotes = self.intent.remotes.iter().copied().take(64);
        let mut uplinks: BTreeSet<u32> =
            remotes.filter_map(|remote| Some(self.netlink.next_hop(remote, MARK).ok()?.link)).collect();
        uplinks.extend(ways.defaults.iter().map(|(_, link)| *link));
        uplinks.extend(addresses.iter().filter(|at| self.intent.outer.contains(&at.addr)).map(|at| at.link));
        uplinks.retain(|link| Some(*link) != tun);
        let facing = if named.is_empty() { &uplinks } else { &named };
        let seen = Seen {
            facing: addresses
                .iter()
                .filter(|local| facing.contains(&local.link))
                .map(|local| local.addr)
                .filter(|addr| !addr.is_loopback() && !is_link_local(*addr))
                .collect(),
            ours: addresses.iter().map(|local| local.addr).collect(),
            attached: kernel::attached(&mut self.netlink, v6, tun)?,
            outside: Outside::default(),
            v6,
            device: None,
            sockets: self.sockets,
        };
        let mut outside = Outside::default();
        let plain = self.intent.outside.iter().filter(|name| kernel::is_plain(name));
        outside.interfaces.extend(plain.cloned());
        outside.interfaces.extend(named.union(&uplinks).filter_map(|link| kernel::plain_name(*link)));
        if uplinks.is_empty() && named.is_empty() {
            // Where the last ones were the next ones come.
            outside.interfaces.extend(self.seen.outside.interfaces.iter().cloned());
        }
        let names = |links: BTreeSet<u32>| links.into_iter().map(name).collect::<BTreeSet<_>>();
        outside.defaults = ways.defaults.into_iter().map(|(v4, link)| (v4, name(link))).collect();
        // An interface that is switched off keeps its addresses of IPv4, and its networks nowhere else.
        for local in addresses.iter().filter(|local| !is_link_local(local.addr)) {
            outside.addresses.insert((local.addr, name(local.link)));
            if let Some(net) = Net::new(local.addr, local.prefix) {
                outside.addressed.entry(net).or_default().insert(name(local.link));
            }
        }
        let led =
            |ways: BTreeMap<Net, BTreeSet<u32>>| ways.into_iter().map(|(net, links)| (net, names(links))).collect();
        (outside.given, outside.routed) = (led(ways.given), led(ways.others));
        outside.several = match self.netlink.links() {
            Ok(links) => legs::several(&links, [tun, owner::index()]),
            // One with a name or words that nobody can read is one more in any case.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => true,
            Err(error) => return Err(error),
        };
        outside.remember(&self.seen.outside, self.intent.sites(), self.intent.outer.iter().copied());
        Ok(Seen { outside, ..seen })
    }
}

/// The name of an interface, or something that stands for it.
fn name(link: u32) -> String {
    kernel::plain_name(link).unwrap_or_else(|| format!("#{link}"))
}

/// Nobody beyond the link meets us there.
fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
