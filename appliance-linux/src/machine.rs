//! What the daemon makes of the machine, and unmakes: TUN device, routes, sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::boundary::retry::Retry;
use crate::boundary::watch::{self, Touched};
use crate::boundary::{Boundary, MARK, Owner};
use crate::capacity::Capacity;
use crate::clear::ClearSockets;
use crate::clock::Clock;
use crate::inbox::{Inbox, Input};
use crate::listen;
use crate::netlink::{LocalAddr, Netlink, NextHop};
use crate::plane::{Plane, Sockets, unsent};
use crate::socket::Listen;
use crate::tun::{CLONE_DEVICE, Tun};
use gateway_core::cause::Unsent;
use gateway_core::config::{Config, Settings};
use nix::net::if_::if_nametoindex;
use tracing::{info, warn};

/// The machine while the daemon runs.
pub(crate) struct Machine {
    boundary: Boundary,
    netlink: Netlink,
    plane: Arc<Plane>,
    /// `[gateway]` at the start: a reload changes none of what the machine was told by it.
    started: Settings,
    /// What to listen to, as far as it is there.
    wanted: BTreeSet<Listen>,
    /// The interfaces among it that are not there.
    missing: BTreeSet<String>,
    /// What of it could not be opened although it is there.
    closed: BTreeSet<Listen>,
    /// When that is tried again, or addresses that could not be followed are.
    listening: Retry,
    /// Whether there are such addresses.
    behind: bool,
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

/// What the kernel refused, in words.
pub(crate) fn trouble(what: impl fmt::Display, error: &io::Error) -> Trouble {
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
        capacity: &Capacity,
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
        let handle = tun.handle().map_err(|error| trouble("the TUN device cannot be had twice", &error))?;
        let clear = ClearSockets::open().map_err(|error| trouble("raw sockets cannot be opened", &error))?;
        let plane =
            Plane::new(tun, clear, clock, capacity).map_err(|error| trouble("the data plane cannot start", &error))?;
        let mut netlink = Netlink::open().map_err(|error| trouble("netlink cannot be opened", &error))?;
        let started = config.gateway.clone();
        let wanted = listen::wanted(config, &started.outside);
        let opened = listen::open(&wanted, &Sockets::default());
        if let Some(refused) = opened.refused.first() {
            return Err(not_open(refused));
        }
        let ours =
            netlink.addresses().map_err(|error| trouble("the addresses of this machine cannot be read", &error))?;
        let missing = listen::missing(&wanted, &opened.sockets);
        tell_of_interfaces(&BTreeSet::new(), &missing);
        plane
            .set_sockets(Sockets::new(opened.sockets, &ours))
            .map_err(|error| trouble("the data plane cannot start", &error))?;
        // Watched from before the first change, so that nothing is missed in between.
        let to_inbox = inbox.clone();
        watch::start(move |touched| {
            to_inbox.send(Input::Touched(touched));
        })
        .map_err(|error| trouble("the kernel's routes cannot be watched", &error))?;
        let inbox = inbox.clone();
        // Where the inbox is full nobody has to be woken.
        let boundary = Boundary::start(owner, handle, config, move || _ = inbox.try_send(Input::Guarded));
        let boundary = boundary.map_err(|error| trouble("routes and guard cannot be set", &error))?;
        let (closed, listening) = (BTreeSet::new(), Retry::default());
        let plane = Arc::new(plane);
        Ok(Self { boundary, netlink, plane, started, wanted, missing, closed, listening, behind: false })
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// `[gateway]` as it was at the start.
    pub(crate) fn started(&self) -> &Settings {
        &self.started
    }

    /// Our addresses, as far as they are there now, with their interfaces; the data plane sends through the interfaces that have them, and
    /// listens on those outside interfaces that are there.
    ///
    /// # Errors
    /// What the kernel says, which the log is told once. It is tried again: see [`Machine::try_again`].
    pub(crate) fn readdress(&mut self) -> io::Result<BTreeMap<IpAddr, BTreeSet<u32>>> {
        let listened = self.netlink.addresses().and_then(|ours| self.listen(&ours).map(|()| ours));
        let was_behind = std::mem::replace(&mut self.behind, listened.is_err());
        let ours = listened.inspect_err(|error| {
            self.listening.failed(Instant::now());
            if !was_behind {
                warn!("the addresses of this machine cannot be followed: {error}; this is tried again");
            }
        })?;
        let mut links: BTreeMap<IpAddr, BTreeSet<u32>> = BTreeMap::new();
        for local in ours {
            links.entry(local.addr).or_default().insert(local.link);
        }
        Ok(links)
    }

    /// Listens to what there is of what is wanted; what cannot be opened is tried again.
    fn listen(&mut self, ours: &[LocalAddr]) -> io::Result<()> {
        let opened = listen::open(&self.wanted, &self.plane.sockets());
        for refused in opened.refused.iter().filter(|(listen, _)| !self.closed.contains(listen)) {
            warn!("{}", not_open(refused));
        }
        let closed: BTreeSet<Listen> = opened.refused.into_iter().map(|(listen, _)| listen).collect();
        let opened_since = |listen: &&Listen| opened.sockets.iter().any(|socket| socket.hears(listen));
        for listen in self.closed.difference(&closed).filter(opened_since) {
            info!("{listen} is open again");
        }
        self.closed = closed;
        let missing = listen::missing(&self.wanted, &opened.sockets);
        tell_of_interfaces(&self.missing, &missing);
        self.missing = missing;
        self.plane.set_sockets(Sockets::new(opened.sockets, ours))?;
        if self.closed.is_empty() {
            self.listening.done();
        } else {
            self.listening.failed(Instant::now());
        }
        Ok(())
    }

    /// What a new configuration wants to listen to, once that can be had. The running one goes on.
    pub(crate) fn prepare(&self, config: &Config) -> Result<BTreeSet<Listen>, Trouble> {
        let wanted = listen::wanted(config, &self.started.outside);
        let refused = listen::refused(&wanted, &self.plane.sockets());
        // What is closed already is tried again as before.
        match refused.iter().find(|(listen, _)| !self.closed.contains(listen)) {
            Some(refused) => Err(not_open(refused)),
            None => Ok(wanted),
        }
    }

    /// Listens to these too, until [`Machine::listen_only`].
    pub(crate) fn listen_also(&mut self, wanted: &BTreeSet<Listen>) {
        self.wanted.extend(wanted.iter().cloned());
        let _ = self.readdress(); // it has told, and tries again
    }

    /// Listens to these alone from the next [`Machine::readdress`] on; what was to leave through others has left.
    pub(crate) fn listen_only(&mut self, wanted: BTreeSet<Listen>) {
        self.wanted = wanted;
    }

    /// Why a message of ours could not be sent, in words.
    pub(crate) fn why_not_sent(&self, error: &io::Error) -> Unsent {
        let mut unsent = unsent(error);
        if error.kind() == io::ErrorKind::AddrNotAvailable && !self.missing.is_empty() {
            let missing: Vec<_> = self.missing.iter().map(String::as_str).collect();
            unsent.why += &format!("; \"outside\" names {}, and there is no such interface", missing.join(", "));
        }
        unsent
    }

    /// Begins to make routes and guard those of the configured children and policies.
    pub(crate) fn route(&mut self, config: &Config) {
        self.boundary.follow(config);
    }

    /// What became of it, once.
    pub(crate) fn routed(&mut self) -> Option<Result<(), Trouble>> {
        let outcome = self.boundary.followed()?;
        Some(outcome.map_err(|error| trouble("routes and guard cannot be set", &error)))
    }

    /// Nothing becomes of it any more.
    pub(crate) fn give_up_route(&mut self) {
        self.boundary.give_up();
    }

    pub(crate) fn boundary(&self) -> &Boundary {
        &self.boundary
    }

    /// Puts back what others removed.
    ///
    /// # Errors
    /// When that can never be done.
    pub(crate) fn reconcile(&mut self, touched: Touched) -> io::Result<()> {
        self.boundary.reconcile(touched)
    }

    /// When something that the kernel refused is to be tried again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.boundary.deadline().into_iter().chain(self.listening.at()).min()
    }

    /// Tries that again, when it is time, and goes on where the guard has reported. `true`: it is time for
    /// [`Machine::readdress`], and whatever follows from it.
    #[must_use]
    pub(crate) fn try_again(&mut self) -> bool {
        self.boundary.try_again();
        if !self.listening.is_due(Instant::now()) {
            return false;
        }
        if !self.behind && self.netlink.addresses().and_then(|ours| self.listen(&ours)).is_err() {
            self.listening.failed(Instant::now());
        }
        self.behind
    }

    /// Puts another connection to the kernel in the place of this one.
    #[cfg(test)]
    pub(crate) fn ask_through(&mut self, netlink: Netlink) -> Netlink {
        std::mem::replace(&mut self.netlink, netlink)
    }

    /// The address of ours, and the interface, that packets to a peer leave from.
    pub(crate) fn next_hop(&mut self, remote: IpAddr) -> io::Result<NextHop> {
        let hop = self.netlink.next_hop_outside(&self.started.outside, None, remote, MARK)?;
        self.inwards(hop).map_or(Ok(hop), |why| Err(io::Error::other(why)))
    }

    /// Why what the kernel takes from us for a peer arrives nowhere, where somebody's route leads it back to us.
    pub(crate) fn comes_back(&mut self, local: IpAddr, remote: IpAddr) -> Option<Unsent> {
        let hop = self.netlink.next_hop_outside(&self.started.outside, Some(local), remote, MARK).ok()?;
        Some(Unsent { why: self.inwards(hop)?, filtered: false })
    }

    fn inwards(&self, hop: NextHop) -> Option<String> {
        let name = self.boundary.device_name().filter(|name| if_nametoindex(*name).ok() == Some(hop.link))?;
        Some(format!("the way leads into the tunnel's own device {name}"))
    }

    /// Whether an address is our own: the kernel sends there from nowhere else.
    pub(crate) fn has(&mut self, address: IpAddr) -> bool {
        self.netlink.next_hop(address, MARK).is_ok_and(|hop| hop.source == Some(address))
    }

    /// Whether packets to a peer leave from another address of ours than this one, and those from this one through none of the
    /// interfaces (`owners`) that have it. Of an interface under `outside`, which has sockets of its own, any route that
    /// leads through it will do, also when another one is preferred.
    pub(crate) fn leads_elsewhere(&mut self, local: IpAddr, owners: &BTreeSet<u32>, remote: IpAddr) -> bool {
        let outside = self.started.outside.iter().filter_map(|name| if_nametoindex(name.as_str()).ok());
        let mut bound = outside.filter(|link| owners.contains(link)).collect::<Vec<_>>().into_iter();
        if bound.any(|link| self.netlink.next_hop_through(link, Some(local), remote, MARK).is_ok()) {
            return false;
        }
        // A rule may lead what has this source where it came from, though it leads what has none elsewhere.
        let from_it = self.netlink.next_hop_outside(&self.started.outside, Some(local), remote, MARK);
        if from_it.is_ok_and(|hop| owners.contains(&hop.link)) {
            return false;
        }
        let hop = self.next_hop(remote).ok();
        hop.is_some_and(|hop| hop.source.is_some_and(|source| source != local) && !owners.contains(&hop.link))
    }

    /// The daemon runs: from now on the boundary stays closed, however it ends. Before, its end leaves all as it was.
    pub(crate) fn keep(&mut self) {
        self.boundary.keep();
    }

    /// Leaves the boundary closed; the device goes with the process.
    pub(crate) fn stop(self) {
        self.boundary.stop();
    }
}

/// Says which outside interfaces came and went.
fn tell_of_interfaces(before: &BTreeSet<String>, now: &BTreeSet<String>) {
    for name in now.difference(before) {
        warn!("there is no interface {name}: nothing is heard and sent there until there is");
    }
    for name in before.difference(now) {
        info!("the interface {name} is there: listening on it");
    }
}

fn not_open((listen, error): &(Listen, io::Error)) -> Trouble {
    trouble(format_args!("{listen} cannot be opened"), error)
}
