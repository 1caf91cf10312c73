//! What the daemon makes of the machine, and unmakes: TUN device, routes, sockets.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use gateway_core::config::Config;
use ipsec_core::net::AddrRange;

use crate::clear::ClearSockets;
use crate::clock::Clock;
use crate::listen;
use crate::netlink::Netlink;
use crate::plane::Plane;
use crate::routes::{MARK, Reach, Routes};
use crate::socket::{Carrier, Listen};
use crate::tun::{CLONE_DEVICE, Tun};

/// The machine while the daemon runs.
pub(crate) struct Machine {
    netlink: Netlink,
    routes: Routes,
    plane: Arc<Plane>,
}

/// Something the machine does not grant.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) text: String,
    pub(crate) hint: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

fn trouble(what: impl fmt::Display, error: &io::Error) -> Trouble {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "root is needed, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrInUse => "another IKE daemon runs: `ss -ulpn` names it; stop it",
        _ => "`portcullis doctor` looks for the cause",
    };
    Trouble { text: format!("{what}: {error}"), hint: hint.to_owned() }
}

impl Machine {
    /// Makes the TUN device and opens the sockets, then leads traffic to the device. In this order: nothing of the
    /// machine is changed unless everything can be had.
    pub(crate) fn start(config: &Config, clock: Clock, sas: usize) -> Result<Self, Trouble> {
        let name = &config.gateway.tun;
        let mut netlink = Netlink::open().map_err(|error| trouble("netlink cannot be opened", &error))?;
        let tun = Tun::create(name).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => Trouble {
                text: format!("the interface {name} exists already"),
                hint: "another portcullis runs, or another name is needed: tun = \"…\" under [gateway]".to_owned(),
            },
            _ => trouble(format_args!("the TUN device {name} cannot be made through {CLONE_DEVICE}"), &error),
        })?;
        let index = tun.index();
        let clear = ClearSockets::open().map_err(|error| trouble("raw sockets cannot be opened", &error))?;
        let plane =
            Plane::new(tun, clear, clock, sas).map_err(|error| trouble("the data plane cannot start", &error))?;
        let opened = listen::open(config, &[]).map_err(|refused| not_open(&refused))?;
        plane.set_sockets(opened).map_err(|error| trouble("the data plane cannot start", &error))?;
        netlink
            .link_up(index, u32::from(config.gateway.mtu))
            .map_err(|error| trouble(format_args!("{name} cannot be switched on"), &error))?;
        let routes = Routes::start(&mut netlink, index);
        let routes = routes.map_err(|error| trouble("the routing rule cannot be added", &error))?;
        let mut machine = Self { netlink, routes, plane: Arc::new(plane) };
        match machine.route(config) {
            Ok(()) => Ok(machine),
            Err(refused) => {
                let _ = machine.stop(); // the first trouble is the one to tell
                Err(refused)
            }
        }
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// Follows a new configuration, touching only what differs.
    pub(crate) fn follow(&mut self, config: &Config) -> Result<(), Trouble> {
        let held = self.plane.sockets();
        let opened = listen::open(config, &held).map_err(|refused| not_open(&refused))?;
        if held.iter().map(|socket| socket.listen()).ne(opened.iter().map(|socket| socket.listen())) {
            self.plane.set_sockets(opened).map_err(|error| trouble("the sockets cannot be changed", &error))?;
        }
        self.route(config)
    }

    /// Makes the routes those of the configured children.
    pub(crate) fn route(&mut self, config: &Config) -> Result<(), Trouble> {
        let addrs = |selectors: &[ipsec_core::net::TrafficSelector]| -> Vec<AddrRange> {
            selectors.iter().map(|selector| selector.addrs).collect()
        };
        let children = config.peers.iter().flat_map(|peer| &peer.children);
        let reaches: Vec<Reach> =
            children.map(|child| Reach { local: addrs(&child.local_ts), remote: addrs(&child.remote_ts) }).collect();
        self.routes.apply(&mut self.netlink, &reaches).map_err(|error| trouble("the routes cannot be set", &error))
    }

    /// The address of ours that packets to a peer leave from.
    pub(crate) fn source_for(&mut self, remote: IpAddr) -> io::Result<IpAddr> {
        let hop = self.netlink.next_hop(remote, MARK)?;
        hop.source.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Removes routes and rules; the device goes with the process.
    pub(crate) fn stop(mut self) -> Result<(), Trouble> {
        let cleared = self.routes.clear(&mut self.netlink);
        cleared.map_err(|error| trouble("routes could not be removed", &error))
    }
}

fn not_open((listen, error): &(Listen, io::Error)) -> Trouble {
    let carrier = match listen.carrier {
        Carrier::Udp(port) => format!("UDP port {port}"),
        Carrier::Esp => "IP protocol 50".to_owned(),
    };
    let interface = listen.interface.as_ref().map_or_else(String::new, |name| format!(" on {name}"));
    trouble(format_args!("{carrier} at {}{interface} cannot be opened", listen.addr), error)
}
