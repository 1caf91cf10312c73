//! `cargo xtask interop`: scenarios against a real peer.

mod address;
mod boundary;
mod failure;
mod field;
mod guard;
mod hops;
mod hosts;
mod ipcomp;
mod kernel;
mod leaks;
mod level;
mod libreswan;
mod life;
mod liveness;
mod machine;
mod many;
mod mesh;
mod nat;
mod openiked;
mod ours;
mod padding;
mod rekey;
mod runner;
mod service;
mod suites;
mod tunnel;
mod wild;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use crate::checkout::{build_portcullis, installed};
use crate::lab::gateway::Program;
use crate::lab::sandbox;
use crate::outcome::{Result, ensure};

/// Run scenarios with Portcullis on one end of a wire and strongSwan on the other, in network namespaces; with --all
/// also Libreswan and OpenIKED, in guests with a kernel of their own, and all that such a kernel's ESP has.
///
/// Without names and without --all a quick selection runs, the one `cargo xtask test` uses. The logs of a failed
/// scenario are kept in target/lab.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Other>,
    /// Scenarios with these names; a word that is no whole name means all whose name contains it.
    names: Vec<String>,
    /// Only list the scenarios; with --all also those outside the quick selection.
    #[arg(long)]
    list: bool,
    /// Every scenario: the full matrix of suites too.
    #[arg(long)]
    all: bool,
    /// Keep the logs of every scenario, not only of those that failed.
    #[arg(long)]
    keep: bool,
    /// Put strongSwan on both ends: checks the scenarios themselves.
    #[arg(long)]
    strongswan_only: bool,
    /// So many scenarios at a time, each in namespaces of its own. Most of a scenario is waiting.
    #[arg(long, default_value_t = 4, value_name = "N")]
    jobs: usize,
    /// How the runner starts one scenario: exactly this one, here.
    #[arg(long, hide = true, value_name = "NAME")]
    alone: Option<String>,
}

/// What is more than scenarios.
#[derive(clap::Subcommand, Clone, Debug)]
enum Other {
    Leaks(leaks::Arguments),
}

/// The two ends of a scenario: the west gateway is us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// What runs in the west.
    pub(crate) us: Program,
    /// What runs in the east.
    pub(crate) peer: Program,
}

/// Which end initiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// The west.
    We,
    /// The east.
    They,
}

/// Which programs a scenario is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Any two.
    Any,
    /// Portcullis in the west.
    Ours,
    /// Portcullis on both ends: what strongSwan's user-space ESP cannot do.
    OursTwice,
}

/// One scenario. `run` returns a remark for the report.
pub(crate) struct Scenario {
    name: String,
    quick: bool,
    needs: Needs,
    /// Who stands in the east, unless we do.
    peer: Program,
    run: Box<dyn Fn(Ends) -> Result<String>>,
}

impl Scenario {
    fn new(name: impl Into<String>, run: impl Fn(Ends) -> Result<String> + 'static) -> Self {
        Self { name: name.into(), quick: true, needs: Needs::Any, peer: Program::StrongSwan, run: Box::new(run) }
    }

    /// Not part of the quick selection.
    fn thorough(self) -> Self {
        Self { quick: false, ..self }
    }

    /// Meets another peer than strongSwan, one in a guest, and not in the quick selection.
    fn with(self, peer: Program) -> Self {
        Self { peer, quick: false, ..self }
    }

    /// Meets a kernel's ESP in a guest, and is in the quick selection.
    fn with_a_kernel(self) -> Self {
        Self { peer: Program::Kernel, needs: Needs::Ours, ..self }
    }

    /// The same with such a peer, whose name goes before its own.
    fn also_with(self, peer: Program) -> Self {
        let name = format!("{}-{}", format!("{peer:?}").to_lowercase(), self.name);
        Self { name, ..self.with(peer) }
    }

    /// Looks at what only our program has.
    fn ours(self) -> Self {
        Self { needs: Needs::Ours, ..self }
    }

    /// Runs with our program on both ends.
    fn ours_twice(self) -> Self {
        Self { needs: Needs::OursTwice, ..self }
    }

    /// Both ways round: we initiate, they initiate.
    fn both_ways(name: &str, run: impl Fn(Ends, First) -> Result<String> + Copy + 'static) -> [Self; 2] {
        [
            Self::new(format!("{name}-we-initiate"), move |ends| run(ends, First::We)),
            Self::new(format!("{name}-they-initiate"), move |ends| run(ends, First::They)),
        ]
    }
}

fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for group in [
        life::scenarios,
        rekey::scenarios,
        failure::scenarios,
        guard::scenarios,
        boundary::scenarios,
        liveness::scenarios,
        nat::scenarios,
        address::scenarios,
        many::scenarios,
        wire::scenarios,
        ours::scenarios,
        suites::scenarios,
        hosts::scenarios,
        level::scenarios,
        mesh::scenarios,
        hops::scenarios,
        libreswan::scenarios,
        openiked::scenarios,
        ipcomp::scenarios,
        padding::scenarios,
        kernel::scenarios,
        leaks::scenarios,
        wild::scenarios,
        machine::scenarios,
        service::scenarios,
        field::scenarios,
    ] {
        all.extend(group());
    }
    all
}

/// What the scenarios need beside this program.
const PROGRAMS: [&str; 5] = ["charon-systemd", "swanctl", "nft", "iperf3", "ip"];

/// strongSwan's plugin for ESP in user space, where distributions put it.
const PLUGINS: [&str; 3] = ["/usr/lib/ipsec/plugins", "/usr/lib/strongswan/plugins", "/usr/lib64/strongswan/plugins"];

/// What is missing.
pub(crate) fn missing() -> Vec<&'static str> {
    let mut missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !installed(program)).collect();
    let plugin = |folder: &str| Path::new(folder).join("libstrongswan-kernel-libipsec.so").exists();
    if !PLUGINS.into_iter().any(plugin) {
        missing.push("strongSwan's kernel-libipsec");
    }
    missing
}

/// Whether a word means the scenario of this name, one of `all`: by its whole name, or, where none has that, by a part of it.
fn means(word: &str, name: &str, all: &[String]) -> bool {
    name == word || name.contains(word) && all.iter().all(|name| name != word)
}

/// Runs `cargo xtask interop`.
///
/// # Errors
/// When nothing can be run at all; failed scenarios are counted, and the exit code tells.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut chosen = scenarios();
    if let Some(name) = &arguments.alone {
        let scenario = chosen.iter().find(|scenario| scenario.name == *name);
        return runner::alone(arguments, scenario.ok_or_else(|| format!("no scenario is called {name}"))?);
    }
    let all: Vec<String> = chosen.iter().map(|scenario| scenario.name.clone()).collect();
    chosen.retain(|scenario| {
        let named = arguments.names.iter().any(|word| means(word, &scenario.name, &all));
        named || arguments.names.is_empty() && (arguments.all || scenario.quick)
    });
    ensure(!chosen.is_empty(), || format!("no scenario is called {}", arguments.names.join(" or ")))?;
    if arguments.list {
        for scenario in &chosen {
            println!("{}", scenario.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let missing = missing();
    ensure(missing.is_empty(), || {
        format!(
            "missing: {}; on Debian: apt-get install --no-install-recommends {}",
            missing.join(", "),
            crate::test::packages::INTEROP.join(" ")
        )
    })?;
    if !sandbox::inside() && !arguments.strongswan_only {
        build_portcullis()?;
    }
    match &arguments.command {
        Some(Other::Leaks(arguments)) => sandbox::run(|| leaks::run(arguments)),
        None => runner::side_by_side(arguments, &chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_means_one_scenario_and_a_part_of_names_all_that_have_it() {
        let all = ["rekey", "rekey-twice", "openiked-rekey"].map(str::to_owned);
        let meant = |word| all.iter().filter(|name| means(word, name, &all)).map(String::as_str).collect::<Vec<_>>();
        assert_eq!(meant("rekey"), ["rekey"]);
        assert_eq!(meant("rek"), ["rekey", "rekey-twice", "openiked-rekey"]);
        assert_eq!(meant("rekey-"), ["rekey-twice"]);
        assert!(meant("rekeyed").is_empty());
    }
}
