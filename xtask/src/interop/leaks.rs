//! `cargo xtask interop leaks`: nothing protected leaves in clear and nothing comes in, whatever happens to the gateway.

mod bench;
mod ledger;
mod trouble;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench::Bench;
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
/// its limit, and nothing may have been in clear.
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
    /// Only rounds of this kind; may be given several times.
    #[arg(long, value_name = "KIND")]
    only: Vec<Trouble>,
    /// Put Portcullis on the other end too.
    #[arg(long)]
    ours_twice: bool,
}

/// What became of a round.
struct Round {
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
        self.out() == 0 && self.inward() == 0 && self.finding.is_none()
    }

    /// One line, and one more for each thing that was wrong.
    fn words(&self) -> String {
        let (outage, flow) = self.seen.outage;
        let mut words = format!(
            "{:30} {:6} sent, {} out, {} in, longest silence {:.2} s ({})",
            self.trouble.words(),
            self.sent,
            self.out(),
            self.inward(),
            outage.as_secs_f32(),
            ledger::name(flow)
        );
        for line in self.finding.iter().chain(&self.seen.story) {
            words += &format!("\n            {line}");
        }
        words
    }
}

/// Which troubles, in which order: each kind once, then each again in another order; the longest one once at the end.
fn plan(rounds: usize, only: &[Trouble], dice: &mut Dice) -> Vec<Trouble> {
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
    Ok(Round { trouble, sent: bench.sent() - before, seen, finding })
}

fn recover(bench: &mut Bench, trouble: Trouble) -> Result {
    let began = Instant::now();
    // What goes on for a moment only because nobody has noticed yet is no recovery.
    std::thread::sleep(Duration::from_millis(200));
    let again = bench.wait_for_traffic(trouble.limit());
    let ended = !bench.us.runs();
    ensure(!ended || trouble.may_end_the_daemon(), || "the daemon has ended".to_owned())?;
    if ended {
        bench.us.start()?;
        bench.wait_for_traffic(trouble.limit())?;
    } else {
        again.map_err(|error| format!("{error} ({:.1} s after the trouble)", began.elapsed().as_secs_f32()))?;
    }
    Ok(())
}

/// Runs `cargo xtask interop leaks`, inside the lab.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let peer = if arguments.ours_twice { Program::Portcullis } else { Program::StrongSwan };
    let mut dice = Dice(arguments.seed);
    let plan = plan(arguments.rounds, &arguments.only, &mut dice);
    let began = Instant::now();
    let mut bench = Bench::new(peer, arguments.rate, arguments.seed)?;
    bench.watches_can_fail()?;
    println!("every planted leak was counted");
    bench.start()?;
    println!("the tunnel carries; {} rounds", plan.len());
    let mut rounds = Vec::new();
    let mut broken = None;
    for (number, &trouble) in plan.iter().enumerate() {
        match round(&mut bench, trouble, &mut dice) {
            Ok(round) => {
                let verdict = if round.is_good() { "ok  " } else { "FAIL" };
                println!("{:4}/{} {verdict} {}", number + 1, plan.len(), round.words());
                rounds.push(round);
            }
            Err(error) => {
                println!("{:4}/{} FAIL {}: {error}", number + 1, plan.len(), trouble.words());
                broken = Some(error);
                break;
            }
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

/// By kind: rounds, packets sent, in clear out, in clear in, longest silence, other findings.
fn table(rounds: &[Round]) -> String {
    let mut kinds: BTreeMap<Trouble, Vec<&Round>> = BTreeMap::new();
    for round in rounds {
        kinds.entry(round.trouble).or_default().push(round);
    }
    let mut text = format!(
        "\n{:30} {:>6} {:>10} {:>8} {:>8} {:>9} {:>8}\n",
        "trouble", "rounds", "sent", "out", "in", "silence", "findings"
    );
    let mut line = |name: &str, rounds: &[&Round]| {
        let sum = |of: fn(&Round) -> u64| rounds.iter().map(|round| of(round)).sum::<u64>();
        let silence = rounds.iter().map(|round| round.seen.outage.0).max().unwrap_or_default();
        text += &format!(
            "{name:30} {:>6} {:>10} {:>8} {:>8} {:>7.2} s {:>8}\n",
            rounds.len(),
            sum(|round| round.sent),
            sum(Round::out),
            sum(Round::inward),
            silence.as_secs_f32(),
            rounds.iter().filter(|round| round.finding.is_some()).count()
        );
    };
    for (trouble, rounds) in &kinds {
        line(trouble.words(), rounds);
    }
    line("all", &rounds.iter().collect::<Vec<_>>());
    text
}

/// A few of the rounds, in the pipeline.
pub(super) fn scenarios() -> Vec<Scenario> {
    let group = |name: &str, troubles: &'static [Trouble]| {
        Scenario::new(format!("leaks-{name}"), move |ends| few(ends, troubles)).ours()
    };
    let fault = |name: &str, troubles: &'static [Trouble]| {
        Scenario::new(name, move |ends| few(ends, troubles)).ours().thorough()
    };
    vec![
        group("ends", &[Trouble::Restart, Trouble::Kill, Trouble::DeviceGone]).thorough(),
        group("kernel", &[Trouble::Rules, Trouble::Tables, Trouble::Networkd, Trouble::DeviceDown]),
        group("others", &[Trouble::SecondInstance, Trouble::Routes, Trouble::DefaultRoute, Trouble::MainFirst]),
        fault("f-01-removed-rules-and-routes-are-put-back", &[Trouble::Rules, Trouble::Tables, Trouble::Networkd]),
        fault("f-02-a-device-that-was-down-carries-again", &[Trouble::DeviceDown]),
        fault("f-03-a-device-that-is-removed-leaves-nothing-open", &[Trouble::DeviceGone]),
        fault("f-04-a-restart-leaves-nothing-open", &[Trouble::Restart]),
        fault("f-05-a-kill-and-a-start-leave-nothing-open", &[Trouble::Kill]),
        fault("f-06-a-second-daemon-changes-nothing", &[Trouble::SecondInstance]),
        fault("f-07-forged-packets-stay-out-while-the-ruleset-is-flushed", &[Trouble::Ruleset]),
        group("reload", &[Trouble::ReloadPeer, Trouble::ReloadMtu, Trouble::ReloadOutside, Trouble::ReloadLocal])
            .thorough(),
        group("ruleset", &[Trouble::Ruleset, Trouble::CopyKilled]).thorough(),
        group("machine", &[Trouble::Address, Trouble::LanDown]),
        group("peer", &[Trouble::PeerSilent, Trouble::PeerKilled]).thorough(),
    ]
}

fn few(ends: Ends, troubles: &[Trouble]) -> Result<String> {
    let mut bench = Bench::new(ends.peer, 500, 1)?;
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
    fn two_hundred_rounds_have_every_kind() {
        let plan = plan(200, &[], &mut Dice(1));
        assert_eq!(plan.len(), 200);
        for trouble in Trouble::USUAL {
            assert!(plan.iter().filter(|&&planned| planned == trouble).count() >= 9, "{trouble:?}");
        }
        assert_eq!(plan.last(), Some(&Trouble::ManyRoutes));
    }
}
