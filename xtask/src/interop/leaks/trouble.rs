//! What happens to a gateway in one round.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::slice::from_ref;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use super::bench::Bench;
use super::kind::policy;
use crate::lab::daemon::Daemon;
use crate::lab::gateway::{Child, Connection, Gateway};
use crate::lab::iproute::{batch, foreign_rules, foreign_tables};
use crate::lab::nat::nft;
use crate::lab::sandbox::WORK;
use crate::lab::wait_for;
use crate::lab::wire::{Dice, Faults};
use crate::outcome::{Result, ensure};

/// A kind of round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Trouble {
    Restart,
    Kill,
    RestartOther,
    ReloadPeer,
    ReloadLess,
    ReloadPolicy,
    ReloadLocal,
    Rules,
    Tables,
    RulesAndTables,
    Networkd,
    Ruleset,
    CopyKilled,
    DeviceDown,
    DeviceGone,
    SecondInstance,
    PeerSilent,
    PeerKilled,
    Address,
    Routes,
    ManyRoutes,
    DefaultRoute,
    MainFirst,
    LanDown,
}

impl Trouble {
    /// All but the one that is done once.
    pub(super) const USUAL: [Self; 23] = [
        Self::Restart,
        Self::Kill,
        Self::RestartOther,
        Self::ReloadPeer,
        Self::ReloadLess,
        Self::ReloadPolicy,
        Self::ReloadLocal,
        Self::Rules,
        Self::Tables,
        Self::RulesAndTables,
        Self::Networkd,
        Self::Ruleset,
        Self::CopyKilled,
        Self::DeviceDown,
        Self::DeviceGone,
        Self::SecondInstance,
        Self::PeerSilent,
        Self::PeerKilled,
        Self::Address,
        Self::Routes,
        Self::DefaultRoute,
        Self::MainFirst,
        Self::LanDown,
    ];

    /// In words, for the table.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Restart => "SIGTERM and start",
            Self::Kill => "kill -9 and start",
            Self::RestartOther => "start with other tun, outside",
            Self::ReloadPeer => "reload: a peer comes and goes",
            Self::ReloadLess => "reload: children narrowed",
            Self::ReloadPolicy => "reload: a policy discards",
            Self::ReloadLocal => "reload: local",
            Self::Rules => "rules removed",
            Self::Tables => "routes flushed",
            Self::RulesAndTables => "rules and routes removed",
            Self::Networkd => "systemd-networkd restarts",
            Self::Ruleset => "nft flush ruleset",
            Self::CopyKilled => "nft killed, then flush ruleset",
            Self::DeviceDown => "device down and up",
            Self::DeviceGone => "device deleted",
            Self::SecondInstance => "second instance",
            Self::PeerSilent => "peer silent for a while",
            Self::PeerKilled => "peer killed and started",
            Self::Address => "outer address gone and back",
            Self::Routes => "1,000 foreign routes",
            Self::ManyRoutes => "200,000 foreign routes",
            Self::DefaultRoute => "default route elsewhere",
            Self::MainFirst => "rule `lookup main` first",
            Self::LanDown => "LAN link down and up",
        }
    }

    /// How long the tunnel may take to carry again, from the end of the trouble.
    pub(super) fn limit(self) -> Duration {
        Duration::from_secs(match self {
            // Liveness checks every 2 s and their retransmissions, before anybody can know.
            Self::PeerSilent | Self::PeerKilled => 60,
            Self::ManyRoutes => 15,
            _ => 6,
        })
    }

    /// Whether the kernel may find no rule of ours, or another before it, when it chooses the source of a packet.
    pub(super) fn hides_our_rules(self) -> bool {
        matches!(self, Self::Rules | Self::Tables | Self::RulesAndTables | Self::Networkd | Self::MainFirst)
    }

    /// Makes it happen. Where the trouble has two parts the tunnel has to carry in between too.
    pub(super) fn happen(self, bench: &mut Bench, dice: &mut Dice) -> Result {
        let limit = self.limit();
        match self {
            Self::Restart => {
                bench.us.stop()?;
                pause(dice, 300);
                bench.us.start()
            }
            Self::Kill => {
                bench.us.kill();
                pause(dice, 1000);
                bench.us.start()
            }
            Self::RestartOther => {
                bench.us.stop()?;
                let other = "tun = \"pcl1\"\noutside = [\"wan\"]\nmtu = 1300";
                bench.us.edit(|text| text.replacen("tun = \"pcl0\"", other, 1))?;
                bench.us.start()?;
                bench.wait_for_traffic(limit)?;
                bench.us.stop()?;
                bench.us.configure(from_ref(&bench.config))?;
                bench.us.start()
            }
            Self::ReloadPeer => {
                let mut other = bench.config.clone();
                other.name = "other".to_owned();
                other.remote_id = "other.lab".to_owned();
                other.remote = Some([192, 0, 2, 77].into());
                other.children = vec![Child::new("net", &["10.1.0.0/16"], &["10.77.0.0/16"])];
                bench.us.configure(&[bench.config.clone(), other])?;
                bench.us.reload()?;
                pause(dice, 500);
                bench.wait_for_traffic(limit)?;
                bench.us.configure(from_ref(&bench.config))?;
                bench.us.reload()
            }
            Self::ReloadLess => {
                let mut narrow = bench.config.clone();
                for (child, less) in narrow.children.iter_mut().zip(bench.kind.less()) {
                    child.remote_ts = vec![less.to_owned()];
                }
                reload_there_and_back(bench, limit, narrow)
            }
            Self::ReloadPolicy => {
                let (networks, flows) = bench.kind.to_close();
                bench.us.edit(|text| text + &policy("discard", networks, 50))?;
                bench.us.reload()?;
                bench.is_silent(flows.as_flattened())?;
                bench.us.configure(from_ref(&bench.config))?;
                bench.us.reload()
            }
            Self::ReloadLocal => {
                let mut moved = bench.config.clone();
                moved.local = Some([192, 0, 2, 3].into());
                reload_there_and_back(bench, limit, moved)
            }
            Self::Rules => without(bench, true, false),
            Self::Tables => without(bench, false, true),
            Self::RulesAndTables => without(bench, true, true),
            Self::Networkd => {
                without(bench, true, true)?;
                // It does so for each link it manages, and once more when the first of them is configured.
                std::thread::sleep(Duration::from_millis(150));
                without(bench, true, true)
            }
            Self::Ruleset => nft(bench.gateway(), "flush ruleset\n").map(drop),
            Self::CopyKilled => {
                // What a trouble before took away is put back: else both are gone at once, and nothing is left to guard.
                wait_for("the guard", limit, || Ok(nft(bench.gateway(), "list table inet portcullis\n").ok()))?;
                for process in bench.us.children()? {
                    // One that only loads or lists ends by itself.
                    match kill(process, Signal::SIGKILL) {
                        Ok(()) | Err(Errno::ESRCH) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                // The copy is there again when the other one goes.
                std::thread::sleep(Duration::from_secs(1));
                nft(bench.gateway(), "flush ruleset\n").map(drop)
            }
            Self::DeviceDown => {
                bench.ip("link set pcl0 down")?;
                pause(dice, 300);
                bench.ip("link set pcl0 up").map(drop)
            }
            Self::DeviceGone => bench.ip("link del pcl0").map(drop),
            Self::SecondInstance => second_instance(bench),
            Self::PeerSilent => {
                bench.pair.wire.faults(Faults { cut: true, ..Faults::default() });
                // Sometimes long enough for us to give the peer up.
                let seconds = if dice.below(4) == 0 { 30 } else { 3 };
                std::thread::sleep(Duration::from_secs(seconds));
                bench.pair.wire.faults(Faults::default());
                Ok(())
            }
            Self::PeerKilled => {
                bench.peer.kill();
                pause(dice, 2000);
                bench.peer.start()
            }
            Self::Address => {
                bench.ip("addr del 192.0.2.1/24 dev wan")?;
                pause(dice, 1500);
                bench.ip("addr add 192.0.2.1/24 dev wan")?;
                bench.ip("route replace default via 192.0.2.2 dev wan").map(drop)
            }
            Self::Routes => foreign_routes(bench, 1_000),
            Self::ManyRoutes => foreign_routes(bench, 200_000),
            Self::DefaultRoute => {
                bench.ip("route replace default via 198.51.100.1 dev wan2")?;
                bench.ip("-6 route replace default via 2001:db8:ff::1 dev wan2")?;
                pause(dice, 500);
                bench.wait_for_traffic(limit)?;
                bench.ip("route replace default via 192.0.2.2 dev wan")?;
                bench.ip("-6 route replace default via 2001:db8:1::2 dev wan").map(drop)
            }
            Self::MainFirst => {
                bench.ip("rule add from all lookup main pref 10")?;
                bench.ip("-6 rule add from all lookup main pref 10")?;
                std::thread::sleep(Duration::from_millis(1500));
                bench.ip("rule del pref 10")?;
                bench.ip("-6 rule del pref 10").map(drop)
            }
            Self::LanDown => {
                bench.ip("link set lan down")?;
                pause(dice, 700);
                bench.ip("link set lan up")?;
                // The kernel forgets IPv6 addresses of a link that goes down.
                bench.ip("addr replace fd01::1/64 dev lan nodad").map(drop)
            }
        }
    }
}

/// A moment of its own in each round, up to so many milliseconds.
fn pause(dice: &mut Dice, most: usize) {
    std::thread::sleep(Duration::from_millis(u64::try_from(dice.below(most)).unwrap_or(0)));
}

fn reload_there_and_back(bench: &mut Bench, limit: Duration, other: Connection) -> Result {
    bench.us.configure(&[other])?;
    bench.us.reload()?;
    std::thread::sleep(Duration::from_millis(200));
    bench.wait_for_traffic(limit)?;
    bench.us.configure(from_ref(&bench.config))?;
    bench.us.reload()
}

/// Removes every rule and every route that is not the kernel's or the administrator's.
fn without(bench: &Bench, rules: bool, routes: bool) -> Result {
    let mut count = 0;
    for family in ["-4", "-6"] {
        let mut lines = String::new();
        if rules {
            for preference in foreign_rules(bench.gateway(), family)? {
                writeln!(lines, "rule del pref {preference}")?;
                count += 1;
            }
        }
        if routes {
            for table in foreign_tables(bench.gateway(), family)? {
                writeln!(lines, "route flush table {table}")?;
                count += 1;
            }
        }
        batch(bench.gateway(), family, &lines)?;
    }
    ensure(count > 0, || "there is no rule and no route to remove".to_owned())
}

fn foreign_routes(bench: &mut Bench, count: u32) -> Result {
    let (mut add, mut delete) = (String::new(), String::new());
    for number in 0..count {
        let address = std::net::Ipv4Addr::from(0xac10_0000 + number * 4);
        writeln!(add, "route add {address}/30 via 198.51.100.1 dev wan2 proto 186")?;
        writeln!(delete, "route del {address}/30 via 198.51.100.1 dev wan2 proto 186")?;
    }
    batch(bench.gateway(), "-4", &add)?;
    if count > 100_000 {
        // F-05: the start that has to find its own among all of these.
        bench.us.kill();
        bench.us.start()?;
        bench.wait_for_traffic(Trouble::ManyRoutes.limit())?;
    }
    batch(bench.gateway(), "-4", &delete)
}

/// A second daemon of somebody who did not know of the first: it ends by itself, and says why.
fn second_instance(bench: &mut Bench) -> Result {
    let folder = PathBuf::from(WORK).join("second");
    let _ = fs::remove_dir_all(&folder); // what the last one said
    fs::create_dir_all(&folder)?;
    let text = format!(
        "[gateway]\ncontrol = \"{}\"\ntun = \"pcl9\"\n\n[[peer]]\nname = \"peer\"\nlocal = \"198.51.100.2\"\n\
         remote = \"198.51.100.9\"\npsk = \"0x7c1f0c8de2b6a3954bd10f6ea7c8239f\"\n\n[[peer.child]]\nname = \"net\"\n\
         local-ts = \"10.11.0.0/16\"\nremote-ts = \"10.12.0.0/16\"\n",
        folder.join("control.sock").display()
    );
    let file = folder.join("portcullis.toml");
    fs::write(&file, text)?;
    let mut second = Daemon::new(folder.join("log"));
    let program = crate::checkout::portcullis()?;
    second.start(bench.gateway(), Command::new(program).arg("run").arg("--config").arg(&file))?;
    wait_for("the end of the second daemon", Duration::from_secs(10), || Ok((!second.runs()).then_some(())))?;
    let said = second.output();
    ensure(said.contains("another portcullis runs in this network namespace"), || {
        format!("the second daemon has ended, and said {said:?}")
    })?;
    // What it changed nevertheless would show by now.
    std::thread::sleep(Duration::from_millis(500));
    bench.wait_for_traffic(Trouble::SecondInstance.limit()).map(drop)
}
