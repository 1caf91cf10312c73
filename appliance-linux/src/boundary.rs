//! The IPsec boundary as the kernel is told of it: what leads protected traffic to the TUN device, and what keeps it from
//! leaving, or entering, in clear. All of it lies in this room, carries the mark of its owner, and is computed anew from
//! the configuration and the kernel's own state whenever either changes; what is missing is put back.
//!
//! * Routing rules send everything into tables of our own except what carries our firewall mark: IKE, ESP and what a
//!   bypass policy lets through, else they would come back to us for ever.
//! * Per remote network there is a route to the TUN device, and the same route as `unreachable` behind it. A `throw` leads
//!   on to the machine's other tables: to our own networks, and to attached ones inside a remote network that means "all".
//! * A remote network `0.0.0.0/0` or `::/0` stands in a second table, so that our outer addresses can pass it by.
//! * Ahead of all that, rules lead what a bypass policy lets through around our device, where they can tell it apart (see
//!   [`around`]).
//! * The guard (see [`guard`]) drops what goes another way nevertheless. It stands before the first route.
//!
//! [`plan`] computes, [`kernel`] and [`guard`] compare and change, [`watch`] wakes. What fails keeps nothing else from being
//! done, stands in [`Health`], and is tried again until it is done ([`retry`]). When the daemon ends, however it ends,
//! all of this stays but the device and the routes to it: nothing passes until the next start, or [`release`].

mod around;
mod attributes;
mod counters;
mod guard;
mod kernel;
mod net;
mod nft;
mod owner;
mod plan;
mod retry;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use gateway_core::config::Config;
use tracing::{error, info, warn};

use crate::logging::Throttle;
use crate::netlink::Netlink;
use crate::tun::{Place, Tun};
pub(crate) use guard::State as GuardState;
use guard::{Applied, Guard};
use kernel::{Added, Steps};
pub(crate) use net::prefixes;
pub(crate) use owner::{Owner, TAKEN, TAKEN_HINT};
use plan::{Intent, Plan, Seen};
use retry::Retry;
use watch::Touched;

/// Our routing table, and the priority of the rule that leads there.
pub(crate) const TABLE: u32 = 4500;
/// The table for a remote network that is everything.
pub(crate) const TABLE_OF_THE_REST: u32 = 4501;
/// The first priority of the rules that lead around our device.
pub(crate) const AROUND: u32 = TABLE - 100;
/// Where they lead: behind the last of our rules.
pub(crate) const BEYOND: u32 = TABLE_OF_THE_REST + 2;
/// The firewall mark of our own packets.
pub(crate) const MARK: u32 = 0x4500;

/// What the kernel is told, and the right to tell it.
pub(crate) struct Boundary {
    netlink: Netlink,
    /// The device itself: its name can be changed, and be another's.
    tun: Tun,
    intent: Intent,
    /// What the kernel said last.
    seen: Seen,
    /// What was applied last: tells what others removed from what we changed ourselves.
    last: Plan,
    guard: Guard,
    /// When what could not be done is tried again: nft, which can take its time to fail, and all else.
    guard_again: Retry,
    again: Retry,
    /// What nft said last, unless all is well.
    guard_trouble: Option<String>,
    health: Health,
    told: Throttle,
    _owner: Owner,
}

/// How it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// What is not as it should be; none when all is.
    pub(crate) trouble: Option<String>,
    /// Things that others removed or changed and that were put back.
    pub(crate) put_back: u64,
    /// When that was last.
    pub(crate) last_put_back: Option<SystemTime>,
    /// Why there is no guard of nftables, if there is none.
    pub(crate) unguarded: Option<String>,
    /// Whether the guard has a copy that nobody else can change.
    pub(crate) flush_proof: bool,
}

/// What could not be done.
struct Problem {
    text: String,
    /// Whether a configuration that meets it is refused.
    serious: bool,
}

impl Boundary {
    /// Takes over what an earlier run left, and makes it what the configuration asks for, without a gap.
    ///
    /// # Errors
    /// When the kernel refuses what no configuration can do without. What was not there before is then gone again.
    pub(crate) fn start(owner: Owner, tun: Tun, config: &Config) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let fresh = kernel::blocked(&mut netlink)?.is_empty();
        let mut boundary = Self {
            netlink,
            tun,
            intent: Intent::default(),
            seen: Seen::default(),
            last: Plan::default(),
            guard: Guard::new(),
            guard_again: Retry::default(),
            again: Retry::default(),
            guard_trouble: None,
            health: Health::default(),
            told: Throttle::new(20, Duration::from_secs(60), Instant::now()),
            _owner: owner,
        };
        if let Err(error) = boundary.follow(config) {
            if fresh {
                let _ = remove(&mut boundary.netlink); // the first trouble is the one to tell
            }
            return Err(error);
        }
        for net in boundary.last.spared.keys() {
            info!(
                "{net} is attached to this machine and stays reachable in clear; name it in a remote-ts to protect it"
            );
        }
        if let Some(why) = &boundary.health.unguarded {
            warn!(
                "no guard ({why}): if somebody removes our routes or rules, packets leave in clear until they are put back; install nftables"
            );
        }
        Ok(boundary)
    }

    /// Follows a configuration. All or nothing: when the kernel refuses it, it is told the one before again.
    pub(crate) fn follow(&mut self, config: &Config) -> io::Result<()> {
        let before = std::mem::replace(&mut self.intent, Intent::of(config));
        let outcome = self.apply(Touched::ALL, true);
        if outcome.is_err() && before.mtu != 0 {
            self.intent = before;
            let _ = self.apply(Touched::ALL, false); // what that leaves undone is tried again
        }
        outcome
    }

    /// Looks at what may have changed and puts back what is missing.
    ///
    /// # Errors
    /// When that can never be done: the device was moved to another network namespace.
    pub(crate) fn reconcile(&mut self, touched: Touched) -> io::Result<()> {
        let _ = self.apply(touched, false); // told, and tried again
        match self.tun.place() {
            Ok(Place::Elsewhere) => Err(io::Error::other("it was moved to another network namespace")),
            _ => Ok(()),
        }
    }

    /// When something that failed is to be tried again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.again.at(), self.guard_again.at()].into_iter().flatten().min()
    }

    /// Tries again what failed, when it is time.
    pub(crate) fn try_again(&mut self) {
        if self.deadline().is_some_and(|at| at <= Instant::now()) {
            let _ = self.apply(Touched::default(), false);
        }
    }

    /// How it stands.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Attached networks that stay reachable in clear although a remote network covers them.
    pub(crate) fn spared(&self) -> Vec<String> {
        self.last.spared.keys().map(ToString::to_string).collect()
    }

    /// What the guard dropped: in, in by a discard policy, out, out by a discard policy.
    pub(crate) fn dropped(&self) -> [u64; 4] {
        self.guard.dropped()
    }

    /// The end: everything stays, and is looked at once more. What stays blocked is told.
    pub(crate) fn stop(mut self) {
        let _ = self.apply(Touched::ALL, false);
        if !self.last.captured.is_empty() {
            warn!(
                "{} stay blocked until the next start, so that nothing leaves in clear; `portcullis release` opens them",
                shown(self.last.captured.iter(), 5)
            );
        }
    }

    /// Tells the kernel what is missing of the plan. Whatever fails, the rest is done. nft is left alone until its next turn
    /// when it failed the last time, unless `now` is set.
    ///
    /// # Errors
    /// The first problem for which a configuration is refused.
    fn apply(&mut self, touched: Touched, now: bool) -> io::Result<()> {
        let (mut put_back, mut problems) = (Vec::new(), Vec::new());
        let tun = self.device(&mut put_back, &mut problems);
        let index = tun.as_ref().map(|(index, _)| *index);
        match self.look(index) {
            Ok(seen) => self.seen = seen,
            Err(error) => problems.push(Problem { text: format!("addresses cannot be read: {error}"), serious: true }),
        }
        self.seen.device = tun.map(|(_, name)| name);
        let mut plan = plan::plan(&self.intent, &self.seen);
        let asked = self.guard_again.at().is_none() && (touched.guard || plan.guard != self.last.guard);
        if now || asked || self.guard_again.is_due(Instant::now()) {
            self.guard(&plan.guard, &mut put_back, &mut problems);
        }
        if !self.guard.stands() {
            // What these rules take for bypassed nobody would look at again.
            plan.leads.retain(|lead| !lead.is_around());
        }
        self.route(&mut plan, index, &mut put_back, &mut problems);
        if !self.last.routes.is_empty() {
            for net in plan.spared.keys().filter(|net| !self.last.spared.contains_key(net)) {
                warn!("{net} is attached to this machine now and is reached in clear");
            }
        }
        for net in plan.unspared.difference(&self.last.unspared) {
            warn!("{net} is attached to this machine and too large to be reached in clear: it stays in the tunnel");
        }
        self.last = plan;
        self.tell(&put_back);
        let found = problems.first().map(|problem| problem.text.clone());
        if problems.is_empty() {
            self.again.done()
        } else {
            self.again.failed(Instant::now())
        }
        self.told_of(found.or_else(|| self.guard_trouble.clone()));
        match problems.into_iter().find(|problem| problem.serious) {
            Some(problem) => Err(io::Error::other(problem.text)),
            None => Ok(()),
        }
    }

    /// Makes guard and copy those of this script.
    fn guard(&mut self, script: &str, put_back: &mut Vec<String>, problems: &mut Vec<Problem>) {
        let stood = self.guard.stands();
        let (loaded, copied) = self.guard.apply(script);
        put_back.extend(matches!(loaded, Ok(Applied::PutBack)).then(|| "the guard".to_owned()));
        self.health.flush_proof = self.guard.is_flush_proof();
        // A copy with the rules before these blocks what these let through.
        let stale = copied.is_err() && self.guard.is_flush_proof();
        let failed = loaded.err().or(copied.err());
        match &failed {
            Some(_) => self.guard_again.failed(Instant::now()),
            None => self.guard_again.done(),
        }
        let why = failed.map(|error| match error.kind() {
            io::ErrorKind::NotFound => "nft is not installed".to_owned(),
            _ => error.to_string(),
        });
        self.health.unguarded = why.clone().filter(|_| !self.guard.stands());
        self.guard_trouble = why.filter(|_| self.guard.stands());
        if let Some(text) = self.guard_trouble.clone().filter(|_| stood || stale) {
            problems.push(Problem { text, serious: true });
        }
    }

    /// Makes routes and rules those of the plan; what the kernel refused is not in it afterwards.
    fn route(&mut self, plan: &mut Plan, tun: Option<u32>, put_back: &mut Vec<String>, problems: &mut Vec<Problem>) {
        let Steps { added, refused } = match kernel::reconcile(&mut self.netlink, plan, &self.seen, tun) {
            Ok(steps) => steps,
            Err(error) => {
                problems.push(Problem { text: format!("routes cannot be read: {error}"), serious: true });
                plan.routes.clone_from(&self.last.routes);
                plan.leads.clone_from(&self.last.leads);
                return;
            }
        };
        let missed = added.into_iter().filter(|added| match added {
            Added::Route(route) => self.last.routes.contains_key(route),
            Added::Lead(lead) => self.last.leads.contains(lead),
        });
        put_back.extend(missed.map(|added| added.to_string()));
        for refusal in refused {
            match refusal.missing {
                Some(Added::Route(route)) => _ = plan.routes.remove(&route),
                Some(Added::Lead(lead)) => _ = plan.leads.remove(&lead),
                None => {}
            }
            // IPv6 that is switched off must not keep IPv4 from working.
            problems.push(Problem { text: format!("{}: {}", refusal.what, refusal.error), serious: refusal.v4 });
        }
    }

    /// Says what is not as it should be, when that is another thing than before.
    fn told_of(&mut self, trouble: Option<String>) {
        if trouble != self.health.trouble && self.told.admit(Instant::now()).is_some() {
            match &trouble {
                Some(trouble) => error!("the boundary is not as it should be: {trouble}; this is tried again"),
                None => info!("the boundary is as it should be again"),
            }
        }
        self.health.trouble = trouble;
    }

    fn tell(&mut self, put_back: &[String]) {
        if put_back.is_empty() {
            return;
        }
        self.health.put_back = self.health.put_back.saturating_add(u64::try_from(put_back.len()).unwrap_or(u64::MAX));
        self.health.last_put_back = Some(SystemTime::now());
        if let Some(others) = self.told.admit(Instant::now()) {
            warn!(
                others,
                "somebody removed what keeps packets from leaving in clear; put back: {}",
                shown(put_back.iter(), 5)
            );
        }
    }

    /// Our device, switched on and under its own name: index and name, if it is there.
    fn device(&mut self, put_back: &mut Vec<String>, problems: &mut Vec<Problem>) -> Option<(u32, String)> {
        let wanted = self.intent.tun.clone();
        let found = match self.tun.place() {
            Ok(Place::Here(name)) => nix::net::if_::if_nametoindex(name.as_str()).ok().map(|index| (index, name)),
            _ => None,
        };
        let Some((index, mut name)) = found else {
            problems.push(Problem { text: format!("the device {wanted} is not there"), serious: false });
            return None;
        };
        if name != wanted {
            let taken = nix::net::if_::if_nametoindex(wanted.as_str()).is_ok();
            let renamed =
                if taken { Err(io::ErrorKind::AlreadyExists.into()) } else { self.netlink.rename(index, &wanted) };
            match renamed {
                Ok(()) => {
                    put_back.push(format!("the name of {wanted}, which somebody had called {name}"));
                    name = wanted;
                }
                Err(error) => problems.push(Problem {
                    text: format!("somebody called {wanted} {name}, and that cannot be undone: {error}"),
                    serious: false,
                }),
            }
        }
        if !self.netlink.link_is(index, self.intent.mtu).unwrap_or(false)
            && let Err(error) = self.netlink.link_up(index, self.intent.mtu)
        {
            problems.push(Problem { text: format!("{name} cannot be switched on: {error}"), serious: true });
        }
        Some((index, name))
    }

    fn look(&mut self, tun: Option<u32>) -> io::Result<Seen> {
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

/// The first of a list, and how many more there are.
fn shown<T: std::fmt::Display>(list: impl ExactSizeIterator<Item = T>, most: usize) -> String {
    let more = list.len().saturating_sub(most);
    let mut text = list.take(most).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// Takes everything away: rules, routes, then the guard.
fn remove(netlink: &mut Netlink) -> io::Result<Vec<net::Net>> {
    let nets = kernel::remove_all(netlink)?;
    match guard::remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(nets),
    }
}

/// `portcullis release`: opens what a daemon that ended left blocked. Returns what that was.
///
/// # Errors
/// `AddrInUse`: a daemon runs. What the kernel says otherwise.
pub(crate) fn release() -> io::Result<String> {
    let _owner = Owner::claim()?;
    let nets: BTreeSet<_> = remove(&mut Netlink::open()?)?.into_iter().collect();
    Ok(if nets.is_empty() {
        "nothing was blocked".to_owned()
    } else {
        format!("no longer blocked: {}", shown(nets.iter(), 20))
    })
}

/// `portcullis block`: keeps in what a daemon with this configuration would protect, as one that ended leaves it. Returns
/// what that is.
///
/// # Errors
/// `AddrInUse`: a daemon runs, and keeps it in. What the kernel says otherwise.
pub(crate) fn block(config: &Config) -> io::Result<String> {
    let owner = Owner::claim()?;
    // Goes with this process, as the device of a daemon does, and the routes to it.
    let device = Tun::create(&config.gateway.tun)?;
    let nets: BTreeSet<_> = Boundary::start(owner, device, config)?.last.captured.iter().copied().collect();
    Ok(if nets.is_empty() {
        "there is nothing to block".to_owned()
    } else {
        format!("blocked until the daemon runs: {}", shown(nets.iter(), 20))
    })
}

/// What a daemon that ended left blocked, for `doctor`; it changes nothing.
pub(crate) fn blocked() -> io::Result<Option<String>> {
    let nets: BTreeSet<_> = kernel::blocked(&mut Netlink::open()?)?.into_iter().collect();
    Ok((!nets.is_empty()).then(|| shown(nets.iter(), 5)))
}

/// The priorities of routing rules of others that come before ours, for `doctor`.
pub(crate) fn foreign_rules(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    kernel::foreign_before(netlink)
}

/// How it stands with the guard, for `doctor`; it changes nothing.
pub(crate) fn guard_state() -> GuardState {
    guard::state()
}
