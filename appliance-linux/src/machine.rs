//! What the daemon makes of the machine, and unmakes: TUN device, routes, sockets.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::boundary::watch::{self, Touched};
use crate::boundary::{Boundary, Owner};
use crate::clear::ClearSockets;
use crate::clock::Clock;
use crate::listen;
use crate::plane::{Inbox, Plane};
use crate::run::Input;
use crate::socket::{Carrier, Listen};
use crate::tun::{CLONE_DEVICE, Tun};
use gateway_core::config::Config;

/// The machine while the daemon runs.
pub(crate) struct Machine {
    boundary: Boundary,
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
    pub(crate) fn start(
        owner: Owner,
        config: &Config,
        clock: Clock,
        sas: usize,
        inbox: &Inbox,
    ) -> Result<Self, Trouble> {
        let name = &config.gateway.tun;
        let tun = Tun::create(name).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => Trouble {
                text: format!("the interface {name} exists already"),
                hint: "another portcullis runs, or another name is needed: tun = \"…\" under [gateway]".to_owned(),
            },
            _ => trouble(format_args!("the TUN device {name} cannot be made through {CLONE_DEVICE}"), &error),
        })?;
        let clear = ClearSockets::open().map_err(|error| trouble("raw sockets cannot be opened", &error))?;
        let plane =
            Plane::new(tun, clear, clock, sas).map_err(|error| trouble("the data plane cannot start", &error))?;
        let opened = listen::open(config, &[]).map_err(|refused| not_open(&refused))?;
        plane.set_sockets(opened).map_err(|error| trouble("the data plane cannot start", &error))?;
        // Watched from before the first change, so that nothing is missed in between.
        let inbox = inbox.clone();
        watch::start(move |touched| {
            inbox.send(Input::BoundaryTouched(touched));
            if touched.addresses {
                inbox.send(Input::AddressesChanged);
            }
        })
        .map_err(|error| trouble("the kernel's routes cannot be watched", &error))?;
        let boundary = Boundary::start(owner, config);
        let boundary = boundary.map_err(|error| trouble("routes and guard cannot be set", &error))?;
        Ok(Self { boundary, plane: Arc::new(plane) })
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

    /// Makes routes and guard those of the configured children and policies.
    pub(crate) fn route(&mut self, config: &Config) -> Result<(), Trouble> {
        self.boundary.follow(config).map_err(|error| trouble("routes and guard cannot be set", &error))
    }

    pub(crate) fn boundary(&self) -> &Boundary {
        &self.boundary
    }

    /// Puts back what others removed.
    pub(crate) fn reconcile(&mut self, touched: Touched) {
        self.boundary.reconcile(touched);
    }

    /// The address of ours that packets to a peer leave from.
    pub(crate) fn source_for(&mut self, remote: IpAddr) -> io::Result<IpAddr> {
        self.boundary.source_for(remote)
    }

    /// Leaves the boundary closed; the device goes with the process.
    pub(crate) fn stop(self) {
        self.boundary.stop();
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
