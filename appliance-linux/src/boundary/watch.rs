//! Tells when the kernel's links, addresses, routes, rules or our nftables table change, whoever changed them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::poll::PollTimeout;

use super::attributes::{SUBSYSTEM, attribute, messages, word};
use super::net::is_default;
use super::numbers;
use super::ruleset::TABLE;

/// What may have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Our rules or routes.
    pub(crate) routes: bool,
    /// Interfaces, addresses or attached networks.
    pub(crate) addresses: bool,
    /// Our nftables table.
    pub(crate) guard: bool,
    /// Somebody else's routes: the way to a peer may be another one.
    ways: bool,
    /// Somebody else's default routes: other interfaces may be outside.
    defaults: bool,
}

impl Touched {
    /// After messages were lost, or at the start.
    pub(crate) const ALL: Self = Self { routes: true, addresses: true, guard: true, ways: false, defaults: false };

    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.routes |= other.routes;
        self.addresses |= other.addresses;
        self.guard |= other.guard;
        self.ways |= other.ways;
        self.defaults |= other.defaults;
    }
}

/// Under a storm of changes: told at most this often.
const PACE: Duration = Duration::from_millis(25);
/// Routes of others may change thousands of times a second: after the first we wait this long, then look once. At a default
/// route we look at once, and then not for this long.
const CALM: Duration = Duration::from_secs(1);
/// Room for messages that wait.
const ROOM: usize = 4 << 20;

/// RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// RTNLGRP_NEXTHOP, and what it tells of: hops that routes name by a number.
const NEXTHOP_GROUP: u32 = 32;
const NEXTHOPS: [u16; 2] = [104, 105];
/// NFNLGRP_NFTABLES.
const NFTABLES_GROUP: u32 = 7;

/// Watches until the process ends. `tell` is called in a thread of its own.
///
/// # Errors
/// When the kernel grants no socket or no thread.
pub(crate) fn start(tell: impl Fn(Touched) + Send + 'static) -> io::Result<()> {
    let routes = listen(NETLINK_ROUTE, &ROUTE_GROUPS)?;
    let _ = routes.add_membership(NEXTHOP_GROUP); // Linux 5.3
    // A kernel without nftables has nothing to tell of it.
    let guard = listen(NETLINK_NETFILTER, &[NFTABLES_GROUP]).ok();
    thread::Builder::new().name("watch".into()).spawn(move || run(&routes, guard.as_ref(), tell)).map(drop)
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    let _ = socket.set_rx_buf_sz(i32::try_from(ROOM).unwrap_or(i32::MAX)); // less room is more full looks
    groups.iter().try_for_each(|group| socket.add_membership(*group))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn run(routes: &Socket, guard: Option<&Socket>, tell: impl Fn(Touched)) {
    let mut calm = Calm::default();
    loop {
        let sockets = std::iter::once(routes).chain(guard);
        let mut descriptors: Vec<_> = sockets.map(readable).collect();
        let left = calm.look.map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, else the last millisecond is spent in circles.
        let left = left.map(|left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        if let Err(error) = nix::poll::poll(&mut descriptors, left.unwrap_or(PollTimeout::NONE))
            && error != nix::errno::Errno::EINTR
        {
            thread::sleep(PACE); // the look below finds out
        }
        let mut touched = drain(routes, of_route);
        touched.add(guard.map(|guard| drain(guard, of_nftables)).unwrap_or_default());
        calm.weigh(&mut touched, Instant::now());
        if touched.any() {
            tell(touched);
            thread::sleep(PACE);
        }
    }
}

/// When routes of others are looked at.
#[derive(Default)]
struct Calm {
    /// The next look at the ways to the peers.
    look: Option<Instant>,
    /// The last one for a default route.
    looked: Option<Instant>,
}

impl Calm {
    /// Turns what others did to routes into a look now, or later.
    fn weigh(&mut self, touched: &mut Touched, now: Instant) {
        let (ways, defaults) = (std::mem::take(&mut touched.ways), std::mem::take(&mut touched.defaults));
        if ways {
            self.look.get_or_insert(now + CALM);
        }
        if defaults && self.looked.is_none_or(|at| now.saturating_duration_since(at) >= CALM) {
            self.looked = Some(now);
            touched.routes = true;
        }
        if self.look.is_some_and(|at| at <= now) {
            self.look = None;
            touched.routes = true; // the outer addresses depend on the ways
            touched.addresses = true;
        }
    }
}

fn readable(socket: &Socket) -> nix::poll::PollFd<'_> {
    // SAFETY: the descriptor belongs to `socket`, which is borrowed for as long as the result lives.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    nix::poll::PollFd::new(descriptor, nix::poll::PollFlags::POLLIN)
}

/// Takes all that waits.
fn drain(socket: &Socket, meaning: fn(u16, &[u8]) -> Touched) -> Touched {
    let mut touched = Touched::default();
    loop {
        match socket.recv_from_full() {
            Ok((datagram, _)) => messages(&datagram, |kind, body| touched.add(meaning(kind, body))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return touched,
            // Messages were lost (ENOBUFS): look at everything.
            Err(_) => return Touched::ALL,
        }
    }
}

/// Links, addresses, rules; routes that may be ours or of an attached network; and those of others.
fn of_route(kind: u16, body: &[u8]) -> Touched {
    /// Stands for numbers of tables that do not fit one octet.
    const COMPAT: u8 = 252;
    /// Made by the kernel itself, or by router advertisements.
    const ATTACHED: [u8; 2] = [2, 9];
    const OURS: u8 = 45;
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            Touched { routes: true, addresses: true, ..Touched::default() }
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let (table, protocol) = (body.get(4).copied(), body.get(5).copied());
            let number = body.get(12..).and_then(|attributes| attribute(attributes, 15)); // RTA_TABLE
            let maybe_ours = match number.and_then(|octets| word(octets, 0)) {
                Some(number) => [numbers::TABLE, numbers::TABLE_OF_THE_REST].contains(&number),
                None => table == Some(COMPAT) || table == Some(0),
            };
            let attached = table == Some(254) && protocol.is_some_and(|protocol| ATTACHED.contains(&protocol));
            let v4 = body.first().copied().map(i32::from) == Some(libc::AF_INET);
            let defaults = body.get(1).is_some_and(|prefix| is_default(v4, *prefix)) && protocol != Some(OURS);
            // One of a router's advertisements, too, is no attached network.
            let routes = maybe_ours || attached && !defaults;
            Touched { routes, ways: protocol != Some(OURS), defaults, ..Touched::default() }
        }
        // A default route may go by it now.
        kind if NEXTHOPS.contains(&kind) => Touched { ways: true, defaults: true, ..Touched::default() },
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Touched { routes: true, ways: true, ..Touched::default() },
        _ => Touched::default(),
    }
}

/// Messages about our own tables. All kinds begin with the name of a table.
fn of_nftables(kind: u16, body: &[u8]) -> Touched {
    if kind >> 8 != SUBSYSTEM {
        return Touched::default();
    }
    // nfgenmsg (4), then attributes.
    let name = body.get(4..).and_then(|attributes| attribute(attributes, 1));
    let ours = name.is_some_and(|name| name.starts_with(TABLE.as_bytes()));
    Touched { guard: ours, ..Touched::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_25_a_route_of_somebody_else_is_a_reason_to_look_at_the_ways() {
        // struct rtmsg: family, two lengths, type of service, table, protocol, scope, kind.
        let touched = |kind, table, protocol| of_route(kind, &[2, 24, 0, 0, table, protocol, 0, 1]);
        let (main, compat, dhcp, ours) = (254, 252, 16, 45);
        let foreign = touched(libc::RTM_NEWROUTE, main, dhcp);
        assert!(foreign.ways && !foreign.routes && !foreign.addresses);
        assert!(touched(libc::RTM_DELROUTE, main, dhcp).ways);
        assert!(touched(libc::RTM_NEWROUTE, compat, dhcp).ways, "a table of a policy rule");
        assert!(touched(libc::RTM_NEWROUTE, main, 9).ways, "router advertisements");
        assert!(touched(libc::RTM_NEWRULE, main, dhcp).ways);
        assert!(!touched(libc::RTM_NEWROUTE, compat, ours).ways, "what we write ourselves is none");
    }

    #[test]
    fn f_07_another_default_route_is_looked_at_at_once_and_a_storm_of_them_now_and_then() {
        let route = |prefix, table, protocol| of_route(libc::RTM_NEWROUTE, &[2, prefix, 0, 0, table, protocol, 0, 1]);
        let (dhcp, advertised, ours) = (16, 9, 45);
        for (table, protocol) in [(254, dhcp), (254, advertised)] {
            let (mut calm, start) = (Calm::default(), Instant::now());
            let looks = |calm: &mut Calm, millis| {
                let mut touched = route(0, table, protocol);
                calm.weigh(&mut touched, start + Duration::from_millis(millis));
                touched.any()
            };
            assert!(looks(&mut calm, 0), "at once");
            assert!((1..40).all(|turn| !looks(&mut calm, turn * 25)), "a storm");
            let mut later = Touched::default();
            calm.weigh(&mut later, start + CALM);
            assert!(later.routes && calm.look.is_none(), "what the last of them left");
            assert!(looks(&mut calm, 3000), "at once again");
        }
        let in_table = |table: u32| {
            let mut body = vec![2, 0, 0, 0, 252, dhcp, 0, 1, 0, 0, 0, 0, 8, 0, 15, 0];
            body.extend(table.to_ne_bytes());
            of_route(libc::RTM_NEWROUTE, &body)
        };
        assert!(!in_table(1000).routes && in_table(1000).defaults && in_table(4501).routes, "a table of somebody else");
        assert!(!route(24, 254, dhcp).defaults && !route(0, 254, ours).defaults);
        assert!(route(1, 254, dhcp).defaults, "a half of it");
        assert!(of_route(104, &[2, 0, 0, 0, 0, 0, 0, 0]).defaults, "the hop of it may be another one");
    }
}
