//! Moving over: children that pass in clear while there is no SA for them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Ends, First, Scenario};
use crate::lab::frame::{Kind, Packet, classify};
use crate::lab::gateway::Gateway;
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::pair::{Outer, Pair, Site};
use crate::lab::ping::ping_from;
use crate::lab::portcullis::Portcullis;
use crate::lab::requests::Load;
use crate::lab::wait_for;
use crate::lab::watch::{Crossing, Watch};
use crate::outcome::{Result, ensure};

pub(super) const PSK: &str = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list: Vec<_> = Scenario::both_ways("e1-in-clear-before-an-sa-and-protected-after", before_and_after)
        .into_iter()
        .map(Scenario::ours_twice)
        .collect();
    list.push(
        Scenario::new("e1-five-hosts-move-from-clear-to-require-and-back", |_| five_hosts()).ours_twice().thorough(),
    );
    list
}

/// One site's view: two children, of which one insists on protection.
fn two_children(here: &Site, there: &Site) -> String {
    let mut text = format!(
        "[[peer]]\nname = \"peer\"\nlocal = \"{}\"\nremote = \"{}\"\npsk-file = \"peer.psk\"\nstart = \"passive\"\n",
        here.address(Outer::V4),
        there.address(Outer::V4)
    );
    for (name, level, tens) in [("net", "use", 0), ("strict", "require", 1)] {
        let _ = write!(
            text,
            "[[peer.child]]\nname = \"{name}\"\nlevel = \"{level}\"\nlocal-ts = \"{}\"\nremote-ts = \"{}\"\n",
            here.net_v4(tens),
            there.net_v4(tens)
        ); // writing into a string does not fail
    }
    text
}

/// A counter of `status --all`.
fn counted(gateway: &Portcullis, name: &str) -> Result<u64> {
    Ok(gateway.status()?["counters"][name].as_u64().ok_or_else(|| format!("no counter {name}"))?)
}

fn before_and_after(_: Ends, first: First) -> Result<String> {
    let pair = Pair::new(1)?;
    let mut us = Portcullis::new(&pair.west.gateway, "")?;
    let mut peer = Portcullis::new(&pair.east.gateway, "")?;
    us.configure_as_written(&two_children(&pair.west, &pair.east), PSK)?;
    peer.configure_as_written(&two_children(&pair.east, &pair.west), PSK)?;
    for gateway in [&mut us, &mut peer] {
        gateway.start()?;
        gateway.status()?; // it has its rules once it answers
    }
    let answered = |from: &Site, to: &Site, tens: u8| -> Result<bool> {
        let tally = ping_from(&from.host, from.host_v4(tens), to.host_v4(tens), 5)?;
        Ok(tally.lost.is_empty() && tally.doubled == 0)
    };
    let (west, east) = (&pair.west, &pair.east);
    for (from, to) in [(west, east), (east, west)] {
        ensure(answered(from, to, 0)?, || format!("what may pass in clear is lost: {}", pair.wire.summary()))?;
        ensure(!answered(from, to, 1)?, || "the child that insists lets something through".to_owned())?;
    }
    let seen = pair.wire.clear_packets();
    let strict = |packet: &&String| packet.contains("10.11.") || packet.contains("10.12.");
    ensure(!seen.is_empty() && !seen.iter().any(|packet| strict(&packet)), || format!("on the wire: {seen:?}"))?;
    // Five requests and five answers each way.
    for gateway in [&us, &peer] {
        let clear = (counted(gateway, "ClearOut")?, counted(gateway, "ClearIn")?, counted(gateway, "InClear")?);
        ensure(clear == (10, 10, 0), || format!("counted: {clear:?}"))?;
        let boundary = gateway.status()?["boundary"].clone();
        let named = boundary["clear_meanwhile"] == serde_json::json!(["peer/net"]) && boundary["state"] == "weak";
        ensure(named, || format!("{boundary}"))?;
    }

    let (initiator, _): (&dyn Gateway, _) = if first == First::We { (&us, &peer) } else { (&peer, &us) };
    for child in ["net", "strict"] {
        initiator.up("peer", child)?;
        for gateway in [&us as &dyn Gateway, &peer] {
            gateway.wait_up("peer", child, Duration::from_secs(10))?;
        }
    }
    pair.wire.forget();
    for (from, to) in [(west, east), (east, west)] {
        for tens in [0, 1] {
            ensure(answered(from, to, tens)?, || "a ping through the tunnel is lost".to_owned())?;
        }
    }
    let clear = pair.wire.clear_packets();
    ensure(clear.is_empty() && pair.wire.count(Kind::Esp) >= 40, || format!("{clear:?}, {}", pair.wire.summary()))?;
    for gateway in [&us, &peer] {
        let clear = (counted(gateway, "ClearOut")?, counted(gateway, "ClearIn")?);
        ensure(clear == (10, 10), || format!("counted since: {clear:?}"))?;
        let log = gateway.log();
        ensure(log.contains("NOT PROTECTED: packets of peer/net leave in clear"), || log)?;
    }
    Ok(pair.wire.summary())
}

const HOSTS: u8 = 5;

/// Host `number` of those around a router, and how it is addressed.
struct Host {
    number: u8,
    machine: Arc<Namespace>,
    daemon: Portcullis,
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, number, 2).into()
}

/// One other host, as a host sees it that has the first of these addresses.
pub(super) fn in_transport_mode(other: u8, (here, there): (IpAddr, IpAddr), start: &str, level: &str) -> String {
    format!(
        "[[peer]]\nname = \"h{other}\"\nlocal = \"{here}\"\nremote = \"{there}\"\npsk-file = \"h{other}.psk\"\n\
         start = \"{start}\"\n[[peer.child]]\nname = \"host\"\nmode = \"transport\"\nlevel = \"{level}\"\n\
         local-ts = \"{here}\"\nremote-ts = \"{there}\"\n"
    )
}

impl Host {
    /// Its configuration, with this level for each other one.
    fn configuration(&self, level: &str) -> String {
        let mut text = String::new();
        for other in (1..=HOSTS).filter(|other| *other != self.number) {
            let (here, there) = (address(self.number), address(other));
            // The one with the smaller number calls.
            let start = if self.number < other { "active" } else { "passive" };
            text += &in_transport_mode(other, (here, there), start, level);
        }
        text
    }

    fn insist(&self, level: &str) -> Result {
        self.daemon.configure_as_written(&self.configuration(level), PSK)?;
        self.daemon.reload()
    }

    /// What it sent and took in clear so far.
    fn clear(&self) -> Result<u64> {
        Ok(counted(&self.daemon, "ClearOut")? + counted(&self.daemon, "ClearIn")?)
    }
}

/// What crosses the router between hosts and is neither IKE nor ESP.
#[derive(Clone, Default)]
pub(super) struct InClear(Arc<AtomicU64>, Arc<Mutex<BTreeSet<String>>>);

impl InClear {
    /// The packets in words.
    pub(super) fn packets(&self) -> Vec<String> {
        self.1.lock().map(|seen| seen.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn see(&self, frame: &[u8]) {
        if classify(frame) == Kind::Clear {
            self.0.fetch_add(1, Ordering::Relaxed);
            if let Some(packet) = Packet::in_frame(frame)
                && let Ok(mut seen) = self.1.lock()
            {
                seen.insert(format!("{} to {}, protocol {}", packet.from, packet.to, packet.protocol));
            }
        }
    }

    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Every host asks every other one all the time, over TCP; one by one they get a daemon with `use`, then `require`, then go back to
/// `use`. Not one request fails.
fn five_hosts() -> Result<String> {
    let router = Namespace::new("router")?;
    router.forward()?;
    let (mut hosts, mut watches, clear) = (Vec::new(), Vec::new(), InClear::default());
    for number in 1..=HOSTS {
        let machine = Arc::new(Namespace::new(&format!("host{number}"))?);
        let port = format!("to{number}");
        link::veth((&router, &port), (&machine, "eth"))?;
        let hop = Ipv4Addr::new(10, 9, number, 1);
        router.address(&port, hop.into(), 24)?;
        machine.address("eth", address(number), 24)?;
        machine.default_route(hop.into())?;
        let seen = clear.clone();
        watches.push(Watch::start(&router, &port, move |crossing, frame| {
            if crossing == Crossing::In {
                seen.see(frame);
            }
        })?);
        let daemon = Portcullis::new(&machine, "")?;
        hosts.push(Host { number, machine, daemon });
    }
    let machines: Vec<_> = hosts.iter().map(|host| (Arc::clone(&host.machine), address(host.number))).collect();
    let load = Load::start(&machines, Duration::from_millis(100))?;
    std::thread::sleep(Duration::from_secs(1));
    ensure(clear.take() > 0, || "no load".to_owned())?;

    for host in &mut hosts {
        host.daemon.configure_as_written(&host.configuration("use"), PSK)?;
        host.daemon.start()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    for host in &hosts {
        for other in (1..=HOSTS).filter(|other| *other != host.number) {
            let daemon: &dyn Gateway = &host.daemon;
            daemon.wait_up(&format!("h{other}"), "host", Duration::from_secs(90))?;
        }
    }
    // The gate: nothing has passed in clear for a while.
    let counted = || hosts.iter().map(Host::clear).sum::<Result<u64>>();
    wait_for("nothing to pass in clear", Duration::from_secs(30), || {
        let before = counted()?;
        clear.take();
        std::thread::sleep(Duration::from_secs(2));
        Ok((counted()? == before && clear.take() == 0).then_some(()))
    })?;
    let moved = counted()?;
    for level in ["require", "use"] {
        for host in &hosts {
            host.insist(level)?;
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let (seen, after) = (clear.take(), counted()?);
    let answers = load.stop()?;
    answers.all()?;
    ensure(seen == 0 && after == moved, || {
        format!("{seen} in clear: {:?}, counted {moved}, {after}", clear.packets())
    })?;
    for watch in &watches {
        watch.saw_all()?;
    }
    Ok(format!("{answers}, {moved} packets in clear while they moved over"))
}
