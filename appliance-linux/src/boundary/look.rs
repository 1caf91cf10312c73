//! Looks at what the plan depends on: our device, which is made what it should be, and the addresses of this machine.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::health::Round;
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
        let mut facing: BTreeSet<u32> =
            self.intent.outside.iter().filter_map(|name| nix::net::if_::if_nametoindex(name.as_str()).ok()).collect();
        if facing.is_empty() {
            // Where the peers are not known, where strangers would be: by the default route.
            let strangers = ["192.0.2.1", "2001:db8::1"].into_iter().filter_map(|addr| addr.parse().ok());
            let remotes = self.intent.remotes.iter().copied().take(64).chain(strangers);
            for remote in remotes {
                facing.extend(self.netlink.next_hop(remote, MARK).ok().map(|hop| hop.link));
            }
        }
        let attached = kernel::attached(&mut self.netlink, v6, tun)?;
        Ok(Seen {
            facing: addresses
                .iter()
                .filter(|local| facing.contains(&local.link))
                .map(|local| local.addr)
                .filter(|addr| !addr.is_loopback() && !is_link_local(*addr))
                .collect(),
            ours: addresses.into_iter().map(|local| local.addr).collect(),
            attached,
            v6,
            device: None,
        })
    }
}

/// Nobody beyond the link meets us there.
fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
