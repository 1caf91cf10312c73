//! What our guard holds beside the tunnels, and what happens when the kernel, nft or somebody else is in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::tunnel::Plan;
use super::{Ends, First, Scenario};
use crate::lab::frame::Kind;
use crate::lab::gateway::{Child, Gateway as _};
use crate::lab::iproute::ip;
use crate::lab::namespace::Namespace;
use crate::lab::pair::Outer;
use crate::lab::ping::ping;
use crate::lab::portcullis::Portcullis;
use crate::lab::sandbox::WORK;
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("f-08-discard-holds-where-no-child-is", discard).ours(),
        Scenario::new("f-07-ours-inside-all-and-behind-another-child", ours_inside_all).ours(),
        Scenario::new("f-37-without-ipv6-ipv4-works", without_v6).ours(),
        Scenario::new("f-01-nft-fails-for-a-while", nft_fails).ours(),
        Scenario::new("f-01-doctor-sees-a-rule-before-ours", rule_before_ours).ours(),
        Scenario::new("f-01-nft-hangs", nft_hangs).ours().thorough(),
        Scenario::new("f-01-nft-fails-at-the-start", nft_fails_at_the_start).ours(),
        Scenario::new("f-02-the-device-is-renamed", device_renamed).ours(),
        Scenario::new("f-01-the-copy-of-the-guard-is-killed", copy_killed).ours(),
        Scenario::new("f-01-no-copy-of-the-guard-can-be-had", no_copy).ours(),
        Scenario::new("f-03-the-device-is-taken-away", device_taken_away).ours(),
        Scenario::new("f-04-the-boundary-is-opened-during-the-farewell", opened_during_the_farewell).ours(),
        Scenario::new("f-13-a-huge-attached-network-is-not-spared", huge_network).ours(),
    ]
}

/// An nft that stands before the real one, and does what it is told.
struct Nft(PathBuf);

impl Nft {
    fn new() -> Result<Self> {
        let folder = Path::new(WORK).join("programs");
        fs::create_dir_all(&folder)?;
        let (nft, mode) = (folder.join("nft"), folder.join("mode"));
        let text = format!(
            "#!/bin/sh\ncase \"$(cat {})\" in\nfail) echo out of order >&2; exit 1 ;;\nhang) exec sleep 1000 ;;\n\
             no-copy) case \"$*\" in -i) echo no line editor >&2; exit 1 ;; esac ;;\nesac\n\
             PATH=\"${{PATH#*:}}\"\nexec nft \"$@\"\n",
            mode.display()
        );
        fs::write(&nft, text)?;
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755))?;
        let nft = Self(folder);
        nft.does("work")?;
        Ok(nft)
    }

    fn does(&self, mode: &str) -> Result {
        Ok(fs::write(self.0.join("mode"), mode)?)
    }
}

/// Our gateway alone, with everything beyond it in tunnels, and a network that has one of its own, in both families.
fn alone(plan: &mut Plan, nft: Option<&Nft>) -> Result<Portcullis> {
    plan.us.children[0].remote_ts = vec!["0.0.0.0/0".to_owned()];
    let (v4, v6) = (plan.pair.west.net_v4(0), plan.pair.west.net_v6());
    plan.us.children.push(Child::new("all6", &[&v6], &["::/0"]));
    plan.us.children.push(Child::new("named", &[&v4, &v6], &["10.77.0.0/16", "fd77::/64"]));
    let mut us = Portcullis::new(&plan.pair.west.gateway, "")?;
    if let Some(nft) = nft {
        us.look_first_in(&nft.0);
    }
    us.configure(from_ref(&plan.us))?;
    Ok(us)
}

fn boundary(us: &Portcullis) -> Result<Value> {
    Ok(us.status()?["boundary"].clone())
}

fn wait_for_boundary(us: &Portcullis, state: &str, guard: &str) -> Result {
    let mut last = Value::Null;
    let wanted = wait_for(state, Duration::from_secs(5), || {
        last = boundary(us)?;
        Ok((last["state"] == state && last["guard"] == guard).then_some(()))
    });
    wanted.map_err(|error| format!("{error}: {last}").into())
}

/// Removes something of ours: within the second of F-01 it is there again, as what shows it says.
fn remove(gateway: &Namespace, removal: &str, shows: &str, it: &str) -> Result {
    ip(gateway, removal)?;
    wait_for(&format!("{it} after `ip {removal}`"), Duration::from_secs(1), || {
        Ok(ip(gateway, shows)?.contains(it).then_some(()))
    })
}

fn remove_rule(gateway: &Namespace, family: &str, priority: &str) -> Result {
    remove(
        gateway,
        &format!("{family} rule del pref {priority}"),
        &format!("{family} rule show"),
        &format!("{priority}:"),
    )
}

fn remove_routes(gateway: &Namespace, family: &str, table: &str) -> Result {
    let shows = format!("{family} route show table {table}");
    remove(gateway, &format!("{family} route flush table {table}"), &shows, "dev pcl0")
}

/// Rule by rule and table by table.
fn remove_all(gateway: &Namespace) -> Result {
    for family in ["-4", "-6"] {
        for (priority, table) in [("4502", "4501"), ("4500", "4500")] {
            remove_rule(gateway, family, priority)?;
            remove_routes(gateway, family, table)?;
        }
    }
    Ok(())
}

/// One failure of nft keeps nothing else from being put back, and is mended when nft works again.
fn nft_fails(ends: Ends) -> Result<String> {
    let (mut plan, nft) = (Plan::new(ends)?, Nft::new()?);
    let mut us = alone(&mut plan, Some(&nft))?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    let gateway = &plan.pair.west.gateway;
    remove_all(gateway)?;
    nft.does("fail")?;
    // The guard names this address.
    ip(gateway, "addr add 192.0.2.77/24 dev wan")?;
    wait_for_boundary(&us, "trouble", "nftables")?;
    remove_all(gateway)?;
    ensure(us.log().contains("somebody removed what keeps packets from leaving in clear"), || {
        "the log tells nothing of what was removed".to_owned()
    })?;
    let found = us.doctor()?;
    ensure(!found.0 && found.1.contains("out of order"), || format!("doctor says {}", found.1))?;
    nft.does("work")?;
    // What failed four times waits for four seconds.
    wait_for_boundary(&us, "closed", "nftables")?;
    let guard = listed(gateway)?;
    ensure(guard.contains("192.0.2.77"), || format!("the guard is the old one: {guard}"))?;
    Ok(String::new())
}

fn listed(gateway: &Namespace) -> Result<String> {
    nft(gateway, &["list", "table", "inet", "portcullis"])
}

/// What the real nft says; nothing when it fails.
fn nft(gateway: &Namespace, arguments: &[&str]) -> Result<String> {
    let mut nft = std::process::Command::new("nft");
    nft.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let output = gateway.spawn(&mut nft)?.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A rule of somebody else leads remote networks elsewhere: the guard makes a black hole of it, and doctor says so.
fn rule_before_ours(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let mut us = alone(&mut plan, None)?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    let (fine, words) = us.doctor()?;
    ensure(fine && words.contains("is led to pcl0"), || format!("doctor says {words}"))?;
    let gateway = &plan.pair.west.gateway;
    ip(gateway, "route add default via 192.0.2.2 dev wan table 77")?;
    ip(gateway, "rule add pref 1000 lookup 77")?;
    let (fine, words) = us.doctor()?;
    ensure(!fine && words.contains("by wan"), || format!("doctor says {words}"))?;
    ensure(words.contains("at priority 1000"), || format!("doctor names no rule: {words}"))?;
    Ok(String::new())
}

/// An nft that never ends keeps the daemon from nothing: commands are answered, a peer connects, rules are put back. A reload
/// that it keeps from being done is refused.
fn nft_hangs(ends: Ends) -> Result<String> {
    let (mut plan, nft) = (Plan::new(ends)?, Nft::new()?);
    let mut peer = plan.pair.gateway(crate::lab::pair::Side::East, ends.peer, "")?;
    plan.peer.children[0].local_ts = vec!["0.0.0.0/0".to_owned()];
    peer.configure(from_ref(&plan.peer))?;
    peer.start()?;
    let mut us = alone(&mut plan, Some(&nft))?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    nft.does("hang")?;
    let gateway = &plan.pair.west.gateway;
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    ip(gateway, "addr add 192.0.2.77/24 dev wan")?;
    remove_rule(gateway, "-4", "4500")?;
    us.up(super::tunnel::PEER, super::tunnel::NET)?;
    let connected = began.elapsed();
    ensure(connected < Duration::from_millis(1800), || format!("a rule and a tunnel took {connected:?}"))?;
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        us.status()?;
        longest = longest.max(asked.elapsed());
    }
    ensure(longest < Duration::from_millis(200), || format!("status took {longest:?}"))?;
    ensure(boundary(&us)?["state"] == "trouble", || "nft hangs, and all is well".to_owned())?;
    let refused = us.reload().err().map(|error| error.to_string()).unwrap_or_default();
    ensure(refused.contains("nft takes too long"), || format!("reload said {refused:?}"))?;
    let began = Instant::now();
    us.stop()?;
    ensure(began.elapsed() < Duration::from_secs(8), || format!("ended after {:?}", began.elapsed()))?;
    Ok(format!("status took {} ms at most, a rule and a tunnel {} ms", longest.as_millis(), connected.as_millis()))
}

/// A guard that could not be had at the start comes when it can be had.
fn nft_fails_at_the_start(ends: Ends) -> Result<String> {
    let (mut plan, nft) = (Plan::new(ends)?, Nft::new()?);
    let mut us = alone(&mut plan, Some(&nft))?;
    nft.does("fail")?;
    us.start()?;
    wait_for_boundary(&us, "weak", "none")?;
    nft.does("work")?;
    wait_for_boundary(&us, "closed", "nftables")?;
    Ok(String::new())
}

/// The device is asked what it is called. Where its name is somebody else's, nothing goes to him.
fn device_renamed(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let mut us = alone(&mut plan, None)?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    let gateway = &plan.pair.west.gateway;
    let leads_to = |name: &str| {
        let what = format!("a route to {name}");
        wait_for(&what, Duration::from_secs(2), || {
            Ok(ip(gateway, "route show table 4501")?.contains(&format!("default dev {name} ")).then_some(()))
        })
    };
    // In one process, before the daemon has it switched on again.
    let rename = || ip(gateway, "link set pcl0 down name foo");
    rename()?;
    leads_to("pcl0")?;
    wait_for_boundary(&us, "closed", "nftables")?;
    ensure(boundary(&us)?["put_back"].as_u64() > Some(0), || "not counted".to_owned())?;
    // While it sleeps, the name becomes somebody else's.
    us.signal(Signal::SIGSTOP)?;
    rename()?;
    ip(gateway, "link add pcl0 type veth peer name other")?;
    ip(gateway, "link set pcl0 up")?;
    us.signal(Signal::SIGCONT)?;
    leads_to("foo")?;
    wait_for_boundary(&us, "trouble", "nftables")?;
    wait_for("the guard to let foo pass, and pcl0 no more", Duration::from_secs(2), || {
        let guard = listed(gateway)?;
        Ok((guard.contains("\"foo\"") && !guard.contains("\"pcl0\"")).then_some(()))
    })?;
    ip(gateway, "link del pcl0")?;
    leads_to("pcl0")?;
    wait_for_boundary(&us, "closed", "nftables")?;
    Ok(String::new())
}

/// A device that is in another namespace serves nobody: the daemon ends, so that a new start makes a new one.
fn device_taken_away(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let mut us = alone(&mut plan, None)?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    let gateway = &plan.pair.west.gateway;
    let away = Namespace::new("away")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&away.fd());
    ip(gateway, &format!("link set pcl0 netns /proc/{}/fd/{fd}", std::process::id()))?;
    wait_for("the end", Duration::from_secs(5), || Ok((!us.runs()).then_some(())))?;
    let held = ip(gateway, "route show table 4501")?;
    ensure(held.contains("unreachable default"), || format!("open: {held}"))?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    Ok(String::new())
}

/// The process that keeps the copy of the guard is an easy prey for whoever looks for memory or for nft.
fn copy_killed(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let mut us = alone(&mut plan, None)?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    let gateway = &plan.pair.west.gateway;
    let copies = || -> Result<Vec<String>> {
        let tables = nft(gateway, &["list", "tables", "inet"])?;
        Ok(tables.lines().filter(|line| line.contains("portcullis_live")).map(str::to_owned).collect())
    };
    let before = copies()?;
    ensure(before.len() == 1, || format!("copies: {before:?}"))?;
    // Its nft waits for commands; any other does one thing and ends.
    let keeps =
        |process: &Pid| fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.ends_with(b"\0-i\0"));
    for process in us.children()?.into_iter().filter(keeps) {
        kill(process, Signal::SIGKILL)?;
    }
    let began = Instant::now();
    wait_for("another copy", Duration::from_secs(2), || {
        let now = copies()?;
        Ok((now.len() == 1 && now != before).then_some(()))
    })?;
    let took = began.elapsed();
    wait_for_boundary(&us, "closed", "nftables")?;
    ensure(boundary(&us)?["put_back"] == 1, || "not counted".to_owned())?;
    us.stop()?;
    ensure(copies()?.is_empty(), || "a copy outlives the daemon".to_owned())?;
    Ok(format!("there again after {} ms", took.as_millis()))
}

/// An nft that was built without its command line: the guard stands all the same, is put back at once, and can change.
fn no_copy(ends: Ends) -> Result<String> {
    let (mut plan, nft) = (Plan::new(ends)?, Nft::new()?);
    nft.does("no-copy")?;
    let mut us = alone(&mut plan, Some(&nft))?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables, not flush-proof")?;
    us.reload()?;
    // Long enough for the copy to be tried less and less often.
    std::thread::sleep(Duration::from_secs(8));
    let gateway = &plan.pair.west.gateway;
    self::nft(gateway, &["flush", "ruleset"])?;
    let began = Instant::now();
    wait_for("the guard", Duration::from_secs(1), || Ok(listed(gateway)?.contains("chain").then_some(())))?;
    let took = began.elapsed();
    us.reload()?;
    wait_for_boundary(&us, "closed", "nftables, not flush-proof")?;
    Ok(format!("there again after {} ms", took.as_millis()))
}

/// The peer does not answer our farewell, and somebody uses the time.
fn opened_during_the_farewell(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let mut peer = plan.pair.gateway(crate::lab::pair::Side::East, ends.peer, "")?;
    plan.peer.children[0].local_ts = vec!["0.0.0.0/0".to_owned()];
    peer.configure(from_ref(&plan.peer))?;
    peer.start()?;
    let mut us = alone(&mut plan, None)?;
    us.start()?;
    us.up(super::tunnel::PEER, super::tunnel::NET)?;
    peer.kill();
    us.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure(us.runs(), || "nobody was waited for".to_owned())?;
    let gateway = &plan.pair.west.gateway;
    ip(gateway, "rule del pref 4500")?;
    us.stop()?;
    let rules = ip(gateway, "rule show")?;
    ensure(rules.contains("4500:"), || format!("open after the end: {rules}"))?;
    Ok(String::new())
}

/// Whoever can give an interface an address does not take half of the internet out of the tunnel.
fn huge_network(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let mut us = alone(&mut plan, None)?;
    us.start()?;
    wait_for_boundary(&us, "closed", "nftables")?;
    let gateway = &plan.pair.west.gateway;
    ip(gateway, "addr add 128.0.0.9/1 dev wan")?;
    wait_for("a word about it", Duration::from_secs(2), || Ok(us.log().contains("128.0.0.0/1").then_some(())))?;
    let way = ip(gateway, "route get 203.0.113.5")?;
    ensure(way.contains("dev pcl0"), || format!("in clear: {way}"))?;
    Ok(String::new())
}

/// F-08: no route leads such packets to the device, and they are dropped nevertheless, both ways.
fn discard(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us_settings = "\n[[policy]]\naction = \"discard\"\nremote = \"10.12.0.0/16\"".to_owned();
    let there = plan.pair.east.host_v4(1);
    ping(&plan.pair.west.host, there, 3, 56)?.all_answered()?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let out = ping(&west.host, there, 5, 56)?;
    ensure(out.lost.len() == 5, || format!("answered in spite of the policy: {out}"))?;
    // strongSwan's own route would take such packets into its ESP in user space, which drops them: here they come in clear.
    ip(&east.gateway, "rule add from 10.12.0.0/16 lookup main pref 100")?;
    tunnel.pair.wire.forget();
    let back = east.ping_from(1, west.host_v4(0), 5)?;
    ensure(back.lost.len() == 5, || format!("answered in spite of the policy: {back}"))?;
    ensure(tunnel.pair.wire.count(Kind::Clear) >= 5, || "they did not reach us at all".to_owned())?;
    let shown = tunnel.us.shown()?;
    for counter in ["OutBlocked", "InBlocked"] {
        ensure(shown.contains(counter), || format!("{counter} is not counted:\n{shown}"))?;
    }
    Ok(String::new())
}

/// F-07: a child with all on the other side says of a network that it is on ours; it lies behind another child all the same.
fn ours_inside_all(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us_settings = format!(
        "\n[[peer]]\nname = \"upstream\"\nlocal = \"{}\"\nremote = \"203.0.113.9\"\nstart = \"passive\"\n\
         psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"all\"\nlocal-ts = \"10.2.0.0/24\"\n\
         remote-ts = \"0.0.0.0/0\"\n",
        plan.pair.west.address(Outer::V4)
    );
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    // As in `discard`: in clear, past strongSwan's own route.
    ip(&east.gateway, "rule add from 10.2.0.0/16 lookup main pref 100")?;
    tunnel.pair.wire.forget();
    let back = east.ping_from(0, west.host_v4(0), 5)?;
    ensure(back.lost.len() == 5, || format!("answered although it came in clear: {back}"))?;
    ensure(tunnel.pair.wire.count(Kind::Clear) == 5, || "they did not reach us, or were answered in clear".to_owned())?;
    Ok(String::new())
}

/// F-37: the kernel refuses what concerns IPv6, and IPv4 does not mind.
fn without_v6(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let gateway = &plan.pair.west.gateway;
    gateway.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
    plan.us.children[0].local_ts.push(plan.pair.west.net_v6());
    plan.us.children[0].remote_ts.push(plan.pair.east.net_v6());
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let left = ip(&tunnel.pair.west.gateway, "-6 route show table 4500")?;
    ensure(left.contains("unreachable"), || format!("nothing keeps IPv6 in: {left}"))?;
    Ok(String::new())
}
