//! Looks at what the plan depends on: our device, which is made what it should be, and the addresses of this machine.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::health::Round;
use super::home::Outside;
use super::net::Net;
use super::plan::Seen;
use super::{Boundary, MARK, kernel};
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
        // Where the peers are not known, where strangers would be: by the default route.
        let strangers = ["192.0.2.1", "2001:db8::1"].into_iter().filter_map(|addr| addr.parse().ok());
        let remotes = self.intent.remotes.iter().copied().take(64).chain(strangers);
        let ways = remotes.filter_map(|remote| Some(self.netlink.next_hop(remote, MARK).ok()?.link));
        let ways: BTreeSet<u32> = ways.filter(|link| Some(*link) != tun).collect();
        let facing = if named.is_empty() { &ways } else { &named };
        let mut seen = Seen {
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
        outside.interfaces.extend(plain.map(|name| (name.clone(), BTreeSet::new())));
        for link in named.union(&ways) {
            let Some(name) = kernel::plain_name(*link) else { continue };
            let there = addresses.iter().filter(|local| local.link == *link);
            let nets = there.filter_map(|local| Net::new(local.addr, local.prefix)).collect();
            outside.interfaces.insert(name, nets);
        }
        if ways.is_empty() && named.is_empty() {
            // Where the last ones were the next ones come.
            outside.interfaces.clone_from(&self.seen.outside.interfaces);
        }
        outside.follow(self.intent.sites(), &seen.attached, &seen.ours, |addr| {
            let (prefix, link) = self.netlink.matched(addr, MARK).ok()?;
            Some((Net::new(addr, prefix)?, kernel::plain_name(link)?))
        });
        seen.outside = outside;
        Ok(seen)
    }
}

/// Nobody beyond the link meets us there.
fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
