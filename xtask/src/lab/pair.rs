//! Two sites and the wire between them.
//!
//! ```text
//! host ──── gateway ─┬──────┬─ wire ─┬──────┬─ gateway ──── host
//! 10.1.0.10          └─ NAT ┘        └─ NAT ┘          10.2.0.10
//! ```
//! Everything speaks both IP families. Each gateway's default route is the other gateway (or its NAT), so that packets
//! which no tunnel takes would reach the other site in clear, and the wire would see them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::gateway::{Child, Connection, Gateway, Program, Start};
use super::iked::OpenIked;
use super::in_guest::InGuest;
use super::libreswan::Libreswan;
use super::link;
use super::namespace::Namespace;
use super::nat::{Nat, Translation};
use super::ping::{Tally, ping_from};
use super::portcullis::Portcullis;
use super::sandbox::WORK;
use super::strongswan::StrongSwan;
use super::terrain::Wild;
use super::wire::Wire;
use crate::outcome::Result;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Site 1, 10.1.0.0/16 and fd01::/64.
    West,
    /// Site 2, 10.2.0.0/16 and fd02::/64.
    East,
}

/// IP family between the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outer {
    /// 192.0.2.0/24.
    V4,
    /// 2001:db8:1::/64.
    V6,
}

/// One site.
pub(crate) struct Site {
    side: Side,
    /// Where people ping from.
    pub(crate) host: Namespace,
    /// Where the gateway program runs: `lan` faces the host, `wan` the wire or the NAT.
    pub(crate) gateway: Arc<Namespace>,
    /// What stands between the gateway and the wire.
    pub(crate) nat: Option<Nat>,
}

impl Site {
    fn number(&self) -> u8 {
        match self.side {
            Side::West => 1,
            Side::East => 2,
        }
    }

    /// The host's address in network 10.`tens`N.0.0/16, where N is the site's number; `tens` is 0, 1 or 2.
    pub(crate) fn host_v4(&self, tens: u8) -> IpAddr {
        Ipv4Addr::new(10, tens * 10 + self.number(), 0, 10).into()
    }

    /// The host's address in fd0N::/64.
    pub(crate) fn host_v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00 + u16::from(self.number()), 0, 0, 0, 0, 0, 0, 0x10).into()
    }

    /// Pings `to` from the host's address in network 10.`tens`N.0.0/16.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn ping_from(&self, tens: u8, to: IpAddr, count: usize) -> Result<Tally> {
        ping_from(&self.host, self.host_v4(tens), to, count)
    }

    /// A network of the site as a selector: `tens` as above.
    pub(crate) fn net_v4(&self, tens: u8) -> String {
        format!("10.{}.0.0/16", tens * 10 + self.number())
    }

    /// The IPv6 network of the site as a selector.
    pub(crate) fn net_v6(&self) -> String {
        format!("fd0{}::/64", self.number())
    }

    /// The gateway's own address, on its interface.
    pub(crate) fn address(&self, outer: Outer) -> IpAddr {
        match (outer, &self.nat) {
            (Outer::V6, _) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(self.number())).into(),
            (Outer::V4, Some(_)) => Ipv4Addr::new(172, 31, self.number(), 2).into(),
            (Outer::V4, None) => self.public().into(),
        }
    }

    /// Where the other site reaches the gateway over IPv4.
    pub(crate) fn public(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.number())
    }

    fn lay_out(side: Side, nat: Option<Translation>) -> Result<Self> {
        let name = match side {
            Side::West => "west",
            Side::East => "east",
        };
        let gateway = Arc::new(Namespace::new(name)?);
        let mut site = Self { side, host: Namespace::new(&format!("{name}-host"))?, gateway, nat: None };
        gateway_and_host(&site)?;
        if let Some(translation) = nat {
            let router = Namespace::new(&format!("{name}-nat"))?;
            link::veth((&router, "inside"), (&site.gateway, "wan"))?;
            let (inside, private) =
                (Ipv4Addr::new(172, 31, site.number(), 1), Ipv4Addr::new(172, 31, site.number(), 2));
            router.address("inside", inside.into(), 24)?;
            site.gateway.address("wan", private.into(), 24)?;
            site.gateway.default_route(inside.into())?;
            site.nat = Some(Nat::new(router, translation, private, site.public())?);
        }
        Ok(site)
    }

    /// Whose interface touches the wire.
    fn edge(&self) -> (&Namespace, &'static str) {
        self.nat.as_ref().map_or((&*self.gateway, "wan"), |nat| (&nat.router, "outside"))
    }
}

fn gateway_and_host(site: &Site) -> Result {
    site.gateway.forward()?;
    link::veth((&site.gateway, "lan"), (&site.host, "eth"))?;
    for tens in 0..3 {
        let IpAddr::V4(host) = site.host_v4(tens) else { continue };
        let [a, b, c, _] = host.octets();
        site.gateway.address("lan", Ipv4Addr::new(a, b, c, 1).into(), 16)?;
        site.host.address("eth", host.into(), 16)?;
    }
    let router_v6 = Ipv6Addr::new(0xfd00 + u16::from(site.number()), 0, 0, 0, 0, 0, 0, 1);
    site.gateway.address("lan", router_v6.into(), 64)?;
    site.host.address("eth", site.host_v6(), 64)?;
    site.host.default_route(Ipv4Addr::new(10, site.number(), 0, 1).into())?;
    site.host.default_route(router_v6.into())
}

/// Two sites and the wire.
pub(crate) struct Pair {
    /// Site 1.
    pub(crate) west: Site,
    /// Site 2.
    pub(crate) east: Site,
    /// What lies between.
    pub(crate) wire: Wire,
    /// Who else lives on the western gateway's machine.
    pub(crate) wild: Option<Wild>,
}

impl Pair {
    /// Two sites, each gateway directly on the wire.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        Self::with_nat(seed, None, None)
    }

    /// Two sites, with a NAT in front of either gateway or both.
    ///
    /// # Errors
    /// When the kernel refuses or nft is missing.
    pub(crate) fn with_nat(seed: u64, west: Option<Translation>, east: Option<Translation>) -> Result<Self> {
        let west = Site::lay_out(Side::West, west)?;
        let east = Site::lay_out(Side::East, east)?;
        let wire = Wire::between(west.edge(), east.edge(), seed)?;
        for (site, other) in [(&west, &east), (&east, &west)] {
            let (edge, interface) = site.edge();
            edge.address(interface, site.public().into(), 24)?;
            edge.default_route(other.public().into())?;
            if site.nat.is_none() {
                edge.address(interface, site.address(Outer::V6), 64)?;
                edge.default_route(other.address(Outer::V6))?;
            }
        }
        Ok(Self { west, east, wire, wild: None })
    }

    /// The same, where the western gateway is not alone on its machine.
    ///
    /// # Errors
    /// When the kernel or a tool refuses.
    pub(crate) fn in_the_wild(mut self) -> Result<Self> {
        // Behind a NAT the peer is not on the link.
        let peer = self.west.nat.is_some().then_some("192.0.2.0/24 via 172.31.1.1 dev wan");
        self.wild = Some(Wild::new(&self.west.gateway, peer)?);
        Ok(self)
    }

    /// A site.
    pub(crate) fn site(&self, side: Side) -> &Site {
        match side {
            Side::West => &self.west,
            Side::East => &self.east,
        }
    }

    /// A plain connection as one end sees it: PSK, one child `net` between 10.1.0.0/16 and 10.2.0.0/16, passive.
    pub(crate) fn connection(&self, side: Side, outer: Outer) -> Connection {
        let (own, other) = match side {
            Side::West => (&self.west, &self.east),
            Side::East => (&self.east, &self.west),
        };
        let remote = if other.nat.is_some() { other.public().into() } else { other.address(outer) };
        let id = |site: &Site| if site.side == Side::West { "west.lab" } else { "east.lab" }.to_owned();
        Connection {
            name: "peer".to_owned(),
            local: Some(own.address(outer)),
            remote: Some(remote),
            local_id: id(own),
            remote_id: id(other),
            psk: "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff".to_owned(),
            ike: vec!["aes256gcm16-prfsha384-x25519".to_owned()],
            esp: vec!["aes256gcm16".to_owned()],
            children: vec![Child::new("net", &[&own.net_v4(0)], &[&other.net_v4(0)])],
            start: Start::Passive,
            encap: false,
            dpd: Duration::from_secs(20),
        }
    }

    /// A gateway program for one end, not started. `settings` are further lines of its own configuration: of
    /// strongswan.conf, or of our `[gateway]`.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn gateway(&self, side: Side, program: Program, settings: &str) -> Result<Box<dyn Gateway>> {
        let namespace = &self.site(side).gateway;
        Ok(match program {
            Program::StrongSwan => Box::new(StrongSwan::new(namespace, settings)?),
            Program::Portcullis => Box::new(Portcullis::new(namespace, settings)?),
            Program::Libreswan => Box::new(InGuest::<Libreswan>::new(namespace, settings)?),
            Program::OpenIked => Box::new(InGuest::<OpenIked>::new(namespace, settings)?),
            Program::Kernel => return Err("a kernel is no IKE daemon".into()),
        })
    }
}

/// What a panic says.
const PANIC: &str = "panicked at";

/// That no log in the sandbox tells of a panic: sums are checked in what runs there.
///
/// # Errors
/// The line that does; when a log cannot be read.
pub(crate) fn nothing_panicked() -> Result {
    every_file(&mut |path| {
        // Programs lie there too, which hold these words.
        if !path.ends_with("log") && path.extension().is_none_or(|extension| extension != "log") {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        let line = text.lines().find(|line| line.contains(PANIC));
        line.map_or(Ok(()), |line| Err(format!("{}: {line}", path.display()).into()))
    })
}

/// Copies the daemons' folders out of the sandbox, for whoever wants to know why.
///
/// # Errors
/// When they cannot be read or written.
pub(crate) fn keep_logs(to: &Path) -> Result {
    every_file(&mut |path| {
        let kept = to.join(path.strip_prefix(WORK)?);
        fs::create_dir_all(kept.parent().unwrap_or(to))?;
        fs::copy(path, kept)?;
        Ok(())
    })
}

/// Goes through the plain files of the sandbox.
fn every_file(look: &mut dyn FnMut(&Path) -> Result) -> Result {
    let mut folders = vec![Path::new(WORK).to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                look(&entry.path())?;
            }
        }
    }
    Ok(())
}
