//! `cargo xtask interop leaks`: nothing protected leaves in clear and nothing comes in, whatever happens to the gateway.

mod bench;
mod flow;
mod kind;
mod ledger;
mod trouble;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench::Bench;
use kind::Kind;
use ledger::Seen;
use trouble::Trouble;

use super::{Ends, Scenario};
use crate::checkout::target;
use crate::lab::gateway::{Gateway as _, Program};
use crate::lab::pair;
use crate::lab::wire::Dice;
use crate::outcome::{Result, ensure};

/// Watch both sides of our gateway for packets in clear through many rounds of trouble.
///
/// A LAN, our gateway, a wire and the peer, in network namespaces, with steady traffic in both directions and both IP
/// families, from hosts and from the gateway itself, and forged packets from outside. First the watch has to see leaks
/// that are planted: without any gateway program. Then rounds of trouble; in each the tunnel has to carry again within
/// its limit, and nothing may have been in clear. Half of the rounds are with networks in the tunnel; in the others it has
/// everything, but what a policy lets by, which has to pass then, and what a policy discards, which is to be seen nowhere.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Arguments {
    /// How many rounds.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Packets per second in each direction and family; forged ones a fifth of it.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only rounds of this trouble; may be given several times.
    #[arg(long, value_name = "TROUBLE")]
    only: Vec<Trouble>,
    /// Only rounds with such a gateway.
    #[arg(long)]
    kind: Option<Kind>,
    /// Put Portcullis on the other end too.
    #[arg(long)]
    ours_twice: bool,
}

/// What became of a round.
struct Round {
    kind: Kind,
    trouble: Trouble,
    sent: u64,
    seen: Seen,
    /// What else was wrong.
    finding: Option<String>,
}

impl Round {
    fn out(&self) -> u64 {
        self.seen.out.iter().sum()
    }

    fn inward(&self) -> u64 {
        self.seen.inward.iter().sum()
    }

    fn is_good(&self) -> bool {
        let spoken = self.seen.spoken > 0 && !self.trouble.hides_our_rules();
        self.out() == 0 && !spoken && self.inward() == 0 && self.finding.is_none()
    }

    /// One line, and one more for each thing that was wrong.
    fn words(&self) -> String {
        let (outage, flow) = self.seen.outage;
        let mut words = format!(
            "{:10} {:30} {:6} sent, {} out, {} in, longest silence {:.2} s ({})",
            self.kind.word(),
            self.trouble.words(),
            self.sent,
            self.out(),
            self.inward(),
            outage.as_secs_f32(),
            flow::name(flow)
        );
        if self.seen.spoken > 0 {
            words += &format!(", {} from an outside address", self.seen.spoken);
        }
        for line in self.finding.iter().chain(&self.seen.story).filter(|_| !self.is_good()) {
            words += &format!("\n            {line}");
        }
        words
    }
}

/// How many rounds with which gateway, and their troubles.
fn plan(arguments: &Arguments, dice: &mut Dice) -> Vec<(Kind, Vec<Trouble>)> {
    let kinds = arguments.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
    let first = arguments.rounds.div_ceil(kinds.len());
    let shares = [first, arguments.rounds - first];
    kinds.into_iter().zip(shares).map(|(kind, rounds)| (kind, troubles(rounds, &arguments.only, dice))).collect()
}

/// Which troubles, in which order: each kind once, then each again in another order; the longest one once at the end.
fn troubles(rounds: usize, only: &[Trouble], dice: &mut Dice) -> Vec<Trouble> {
    let kinds = if only.is_empty() { Trouble::USUAL.to_vec() } else { only.to_vec() };
    let mut plan = Vec::new();
    while plan.len() < rounds {
        let mut left = kinds.clone();
        while !left.is_empty() && plan.len() < rounds {
            plan.push(left.remove(dice.below(left.len())));
        }
    }
    if let Some(last) = plan.last_mut().filter(|_| only.is_empty() && rounds > Trouble::USUAL.len()) {
        *last = Trouble::ManyRoutes;
    }
    plan
}

fn round(bench: &mut Bench, trouble: Trouble, dice: &mut Dice) -> Result<Round> {
    let before = bench.sent();
    bench.forget();
    let mut finding = trouble.happen(bench, dice).err().map(|error| error.to_string());
    if finding.is_none() {
        finding = recover(bench, trouble).err().map(|error| error.to_string());
    }
    let seen = bench.seen()?;
    if finding.is_some() {
        // The next round is to begin with a tunnel that carries; what goes in clear now is not counted again.
        bench.us.kill();
        bench.peer.kill();
        bench.tidy();
        bench.us.configure(std::slice::from_ref(&bench.config))?;
        bench.start().map_err(|error| format!("after {}: {error}", trouble.words()))?;
    }
    Ok(Round { kind: bench.kind, trouble, sent: bench.sent() - before, seen, finding })
}

fn recover(bench: &mut Bench, trouble: Trouble) -> Result {
    let began = Instant::now();
    // What goes on for a moment only because nobody has noticed yet is no recovery.
    std::thread::sleep(Duration::from_millis(200));
    let again = bench.wait_for_traffic(trouble.limit());
    ensure(bench.us.runs(), || "the daemon has ended".to_owned())?;
    again.map_err(|error| format!("{error} ({:.1} s after the trouble)", began.elapsed().as_secs_f32()))?;
    bench.is_counted()
}

/// Runs `cargo xtask interop leaks`, inside the lab.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut dice = Dice(arguments.seed);
    let began = Instant::now();
    let (mut rounds, mut broken) = (Vec::new(), None);
    for (kind, plan) in plan(arguments, &mut dice) {
        broken = rounds_of(kind, &plan, arguments, &mut dice, &mut rounds).err();
        if broken.is_some() {
            break;
        }
    }
    let broken = broken.or_else(|| pair::nothing_panicked().err());
    let bad = rounds.iter().filter(|round| !round.is_good()).count();
    print!("{}", table(&rounds));
    if bad > 0 || broken.is_some() {
        let folder = target()?.join("lab/leaks");
        let _ = std::fs::remove_dir_all(&folder);
        pair::keep_logs(&folder)?;
        println!("logs: {}", folder.display());
    }
    println!("{} rounds in {:.0} s, {bad} bad", rounds.len(), began.elapsed().as_secs_f32());
    match broken {
        Some(error) => Err(error),
        None => Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// Rounds with one gateway, told as they are done.
fn rounds_of(kind: Kind, plan: &[Trouble], arguments: &Arguments, dice: &mut Dice, done: &mut Vec<Round>) -> Result {
    let peer = if arguments.ours_twice { Program::Portcullis } else { Program::StrongSwan };
    let mut bench = Bench::new(kind, peer, arguments.rate, arguments.seed)?;
    bench.watches_can_fail()?;
    println!("{}: every planted leak was counted", kind.word());
    bench.start()?;
    println!("the tunnel carries; {} rounds", plan.len());
    for (number, &trouble) in plan.iter().enumerate() {
        let place = format!("{:4}/{}", number + 1, plan.len());
        let round = round(&mut bench, trouble, dice)
            .inspect_err(|error| println!("{place} FAIL {} {}: {error}", kind.word(), trouble.words()))?;
        println!("{place} {} {}", if round.is_good() { "ok  " } else { "FAIL" }, round.words());
        done.push(round);
    }
    Ok(())
}

/// By kind: rounds, packets sent, in clear out, in clear in, longest silence, other findings.
fn table(rounds: &[Round]) -> String {
    let mut kinds: BTreeMap<(Kind, Trouble), Vec<&Round>> = BTreeMap::new();
    for round in rounds {
        kinds.entry((round.kind, round.trouble)).or_default().push(round);
    }
    let mut text = format!(
        "\n{:41} {:>6} {:>10} {:>8} {:>8} {:>9} {:>8}\n",
        "trouble", "rounds", "sent", "out", "in", "silence", "findings"
    );
    let mut line = |name: &str, rounds: &[&Round]| {
        let sum = |of: fn(&Round) -> u64| rounds.iter().map(|round| of(round)).sum::<u64>();
        let silence = rounds.iter().map(|round| round.seen.outage.0).max().unwrap_or_default();
        text += &format!(
            "{name:41} {:>6} {:>10} {:>8} {:>8} {:>7.2} s {:>8}\n",
            rounds.len(),
            sum(|round| round.sent),
            sum(Round::out),
            sum(Round::inward),
            silence.as_secs_f32(),
            rounds.iter().filter(|round| round.finding.is_some()).count()
        );
    };
    for ((kind, trouble), rounds) in &kinds {
        line(&format!("{:10} {}", kind.word(), trouble.words()), rounds);
    }
    line("all", &rounds.iter().collect::<Vec<_>>());
    text
}

/// A few of the rounds: in the pipeline the commonest, and what belongs together.
pub(super) fn scenarios() -> Vec<Scenario> {
    use Kind::{Everything, Networks};
    let group = |name: &str, kind: Kind, troubles: &'static [Trouble]| {
        Scenario::new(name, move |ends| few(ends, kind, troubles)).ours()
    };
    let commonest = &[Trouble::Restart, Trouble::Kill, Trouble::ReloadLess, Trouble::Ruleset];
    let ends = &[Trouble::Restart, Trouble::Kill, Trouble::RestartOther, Trouble::DeviceGone];
    let reload = &[Trouble::ReloadPeer, Trouble::ReloadLess, Trouble::ReloadPolicy, Trouble::ReloadLocal];
    let kernel = &[Trouble::Rules, Trouble::Tables, Trouble::Networkd, Trouble::DeviceDown];
    let others = &[Trouble::SecondInstance, Trouble::Routes, Trouble::DefaultRoute, Trouble::MainFirst];
    let removed = &[Trouble::Rules, Trouble::Tables, Trouble::Networkd];
    let mut list = vec![
        group("leaks-commonest", Everything, commonest),
        group("leaks-kernel", Networks, kernel),
        group("leaks-others", Networks, others),
        group("leaks-machine", Networks, &[Trouble::Address, Trouble::LanDown]),
    ];
    let thorough = [
        group("leaks-ends", Networks, ends),
        group("leaks-reload", Networks, reload),
        group("leaks-ruleset", Networks, &[Trouble::Ruleset, Trouble::CopyKilled]),
        group("leaks-peer", Networks, &[Trouble::PeerSilent, Trouble::PeerKilled]),
        group("leaks-everything-ends", Everything, ends),
        group("leaks-everything-reload", Everything, reload),
        group("leaks-everything-kernel", Everything, kernel),
        group("leaks-everything-others", Everything, others),
        group("leaks-everything-machine", Everything, &[Trouble::Address, Trouble::LanDown, Trouble::CopyKilled]),
        group("f-01-removed-rules-and-routes-are-put-back", Networks, removed),
        group("f-02-a-device-that-was-down-carries-again", Networks, &[Trouble::DeviceDown]),
        group("f-03-a-device-that-is-removed-leaves-nothing-open", Networks, &[Trouble::DeviceGone]),
        group("f-04-a-restart-leaves-nothing-open", Networks, &[Trouble::Restart]),
        group("f-05-a-kill-and-a-start-among-200000-routes-leave-nothing-open", Networks, &[Trouble::ManyRoutes]),
        group("f-06-a-second-daemon-changes-nothing", Networks, &[Trouble::SecondInstance]),
        group("f-07-forged-packets-stay-out-while-the-ruleset-is-flushed", Networks, &[Trouble::Ruleset]),
    ];
    list.extend(thorough.map(Scenario::thorough));
    list
}

fn few(ends: Ends, kind: Kind, troubles: &[Trouble]) -> Result<String> {
    let mut bench = Bench::new(kind, ends.peer, 500, 1)?;
    bench.watches_can_fail()?;
    bench.start()?;
    let (mut dice, mut sent, mut silence) = (Dice(1), 0, Duration::ZERO);
    for &trouble in troubles {
        let round = round(&mut bench, trouble, &mut dice)?;
        ensure(round.is_good(), || round.words())?;
        sent += round.sent;
        silence = silence.max(round.seen.outage.0);
    }
    Ok(format!("{sent} packets, none in clear, longest silence {:.2} s", silence.as_secs_f32()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_rounds_have_every_kind_with_either_gateway() {
        let arguments = Arguments { rounds: 200, rate: 500, seed: 1, only: Vec::new(), kind: None, ours_twice: false };
        let plan = plan(&arguments, &mut Dice(1));
        assert_eq!(plan.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), Kind::ALL);
        for (kind, troubles) in plan {
            assert_eq!(troubles.len(), 100);
            for trouble in Trouble::USUAL {
                assert!(troubles.iter().filter(|&&planned| planned == trouble).count() >= 3, "{kind:?} {trouble:?}");
            }
            assert_eq!(troubles.last(), Some(&Trouble::ManyRoutes));
        }
    }
}
