//! A6: what a tunnel carries is compressed where both ends want that, also by the Linux kernel under Libreswan.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::hosts::{between_hosts, carry};
use super::rekey::rekey_child;
use super::tunnel::{Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::{Kind, classify};
use crate::lab::gateway::Program;
use crate::lab::pair::Outer;
use crate::lab::ping::ping;
use crate::lab::wait_for;
use crate::lab::watch::{Crossing, Watch};
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![
        Scenario::new("a6-ipcomp", |ends| tunnel(ends, First::We, [true, true])).ours_twice(),
        Scenario::new("a6-ipcomp-declined", |ends| tunnel(ends, First::We, [true, false])),
        Scenario::new("a6-ipcomp-in-transport-mode", |ends| transport(ends, First::We)).ours_twice(),
    ];
    for first in [First::We, First::They] {
        let name = if first == First::We { "we" } else { "they" };
        let plain = format!("a6-libreswan-ipcomp-{name}");
        list.push(Scenario::new(plain, move |ends| tunnel(ends, first, [true, true])).with(Program::Libreswan));
        let hosts = format!("a6-libreswan-ipcomp-in-transport-mode-{name}");
        list.push(Scenario::new(hosts, move |ends| transport(ends, first)).with(Program::Libreswan));
    }
    for (name, first, wanted) in [
        ("a6-libreswan-ipcomp-declined", First::We, [true, false]),
        ("a6-libreswan-ipcomp-declined-by-us", First::They, [false, true]),
    ] {
        list.push(Scenario::new(name, move |ends| tunnel(ends, first, wanted)).with(Program::Libreswan));
    }
    list
}

/// Payload of a ping that has a pattern in it, from its 251st octet on.
const SIZE: usize = 1300;

/// The longest ESP frames of ours, out and in.
struct Longest([Arc<AtomicUsize>; 2], #[expect(dead_code, reason = "its end is the end of the watch")] Watch);

impl Longest {
    fn watch(tunnel: &Tunnel) -> Result<Self> {
        let longest = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let noted = longest.clone();
        let watch = Watch::start(&tunnel.pair.west.gateway, "wan", move |crossing, frame| {
            if matches!(classify(frame), Kind::Esp | Kind::EspInUdp) {
                noted[usize::from(crossing == Crossing::In)].fetch_max(frame.len(), Ordering::Relaxed);
            }
        })?;
        Ok(Self(longest, watch))
    }

    /// Of what went since the last call.
    fn take(&self) -> [usize; 2] {
        self.0.each_ref().map(|longest| longest.swap(0, Ordering::Relaxed))
    }
}

/// Pings from both sides; what is compressed takes less than half of them.
fn lengths(tunnel: &Tunnel, longest: &Longest, compressed: bool, talk: impl Fn() -> Result) -> Result<[usize; 2]> {
    longest.take();
    talk()?;
    let seen = longest.take();
    let fits = |len: &usize| *len > 0 && (*len < SIZE / 2) == compressed;
    ensure(seen.iter().all(fits), || format!("frames of up to {seen:?} octets, compressed: {compressed}"))?;
    tunnel.is_protected()?;
    Ok(seen)
}

fn tunnel(ends: Ends, first: First, wanted: [bool; 2]) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    [plan.us.children[0].compress, plan.peer.children[0].compress] = wanted;
    let tunnel = plan.establish(first)?;
    let longest = Longest::watch(&tunnel)?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let talk = || {
        ping(&west.host, east.host_v4(0), 5, SIZE)?.all_answered()?;
        ping(&east.host, west.host_v4(0), 5, SIZE)?.all_answered()
    };
    tunnel.carries()?;
    let compressed = wanted == [true, true];
    let mut seen = vec![lengths(&tunnel, &longest, compressed, talk)?];
    if ends.peer != Program::StrongSwan {
        for who in [First::We, First::They] {
            rekey_child(&tunnel, who)?;
            seen.push(lengths(&tunnel, &longest, compressed, talk)?);
        }
    }
    tunnel.carries()?;
    Ok(format!("pings of {SIZE} in frames of up to {seen:?}"))
}

fn transport(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let (_, east) = between_hosts(&mut plan, Outer::V4);
    (plan.us.children[0].compress, plan.peer.children[0].compress) = (true, true);
    let tunnel = plan.establish(first)?;
    let longest = Longest::watch(&tunnel)?;
    let west = &tunnel.pair.west.gateway;
    let talk = || ping(west, east, 5, SIZE)?.all_answered();
    // Linux 7.2 panics where more than a page comes out of a packet, so its guest is spared what `carry` sends.
    let all = || match ends.peer {
        Program::Libreswan => {
            [0, 1, 64, 1600, 3500].into_iter().try_for_each(|size| ping(west, east, 3, size)?.all_answered())
        }
        _ => carry(&tunnel, east),
    };
    wait_for("the first ping", Duration::from_secs(5), || Ok(ping(west, east, 1, 56)?.lost.is_empty().then_some(())))?;
    all()?;
    let before = lengths(&tunnel, &longest, true, talk)?;
    rekey_child(&tunnel, First::We)?;
    let after = lengths(&tunnel, &longest, true, talk)?;
    all()?;
    Ok(format!("pings of {SIZE} in frames of up to {before:?} and {after:?}"))
}
