//! Tells when the kernel's links, addresses, routes, rules or our nftables table change, whoever changed them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::poll::PollTimeout;

use super::attributes::{SUBSYSTEM, attribute, messages};
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
}

impl Touched {
    /// After messages were lost, or at the start.
    pub(crate) const ALL: Self = Self { routes: true, addresses: true, guard: true, ways: false };

    fn any(self) -> bool {
        self != Self::default()
    }

    fn add(&mut self, other: Self) {
        self.routes |= other.routes;
        self.addresses |= other.addresses;
        self.guard |= other.guard;
        self.ways |= other.ways;
    }
}

/// Under a storm of changes: told at most this often.
const PACE: Duration = Duration::from_millis(25);
/// Routes of others may change thousands of times a second: after the first we wait this long, then look once.
const CALM: Duration = Duration::from_secs(1);
/// Room for messages that wait.
const ROOM: usize = 4 << 20;

/// RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// NFNLGRP_NFTABLES.
const NFTABLES_GROUP: u32 = 7;

/// Watches until the process ends. `tell` is called in a thread of its own.
///
/// # Errors
/// When the kernel grants no socket or no thread.
pub(crate) fn start(tell: impl Fn(Touched) + Send + 'static) -> io::Result<()> {
    let routes = listen(NETLINK_ROUTE, &ROUTE_GROUPS)?;
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
    // When to look at the ways to the peers.
    let mut look: Option<Instant> = None;
    loop {
        let sockets = std::iter::once(routes).chain(guard);
        let mut descriptors: Vec<_> = sockets.map(readable).collect();
        let left = look.map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, else the last millisecond is spent in circles.
        let left = left.map(|left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        if let Err(error) = nix::poll::poll(&mut descriptors, left.unwrap_or(PollTimeout::NONE))
            && error != nix::errno::Errno::EINTR
        {
            thread::sleep(PACE); // the look below finds out
        }
        let mut touched = drain(routes, of_route);
        touched.add(guard.map(|guard| drain(guard, of_nftables)).unwrap_or_default());
        if std::mem::take(&mut touched.ways) {
            look.get_or_insert_with(|| Instant::now() + CALM);
        }
        if look.is_some_and(|at| at <= Instant::now()) {
            look = None;
            touched.routes = true; // the outer addresses depend on the ways
            touched.addresses = true;
        }
        if touched.any() {
            tell(touched);
            thread::sleep(PACE);
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
            let maybe_ours = table == Some(COMPAT) || table == Some(0);
            let attached = table == Some(254) && protocol.is_some_and(|protocol| ATTACHED.contains(&protocol));
            // Which interfaces are outside: those change seldom.
            let default = body.get(1) == Some(&0) && protocol != Some(OURS);
            let routes = maybe_ours || attached || default;
            Touched { routes, ways: protocol != Some(OURS), ..Touched::default() }
        }
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
    fn f_07_another_default_route_is_looked_at_at_once() {
        let routes = |prefix, protocol| of_route(libc::RTM_NEWROUTE, &[2, prefix, 0, 0, 254, protocol, 0, 1]).routes;
        let (dhcp, ours) = (16, 45);
        assert!(routes(0, dhcp) && !routes(24, dhcp) && !routes(0, ours));
    }
}
