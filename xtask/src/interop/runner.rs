//! Several scenarios at once, each in a process and a sandbox of its own: nothing is shared but the machine's time.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::{Arguments, Ends, Needs, Scenario};
use crate::checkout::target;
use crate::lab::gateway::Program;
use crate::lab::{guest, pair, sandbox};
use crate::outcome::{Result, ensure};
use crate::test::strict;

/// No scenario needs so long; one that does hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// What became of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Became {
    Good(String),
    Bad(String),
    Skipped(String),
}

/// Runs scenarios, at most `--jobs` at a time, and counts what became of them.
///
/// # Errors
/// When the folder of the logs cannot be made.
pub(super) fn side_by_side(arguments: &Arguments, chosen: &[Scenario]) -> Result<ExitCode> {
    let logs = target()?.join("lab");
    fs::create_dir_all(&logs)?;
    let start = Instant::now();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new((0, 0, 0)));
    // The runner starts processes by name: what it needs of a scenario is that and what it is for.
    let chosen: Vec<(&str, Needs, Program)> = chosen.iter().map(|s| (s.name.as_str(), s.needs, s.peer)).collect();
    let guests = if chosen.iter().any(|(.., peer)| peer.in_a_guest()) { guest::prepare() } else { Ok(()) };
    let no_guests = guests.err().map(|error| error.to_string());
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, chosen.len()) {
            scope.spawn(|| {
                while let Some((name, needs, peer)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let became = match &no_guests {
                        Some(why) if peer.in_a_guest() && strict() => Became::Bad(why.clone()),
                        Some(why) if peer.in_a_guest() => Became::Skipped(why.clone()),
                        _ => one(arguments, name, *needs, &logs).unwrap_or_else(|e| Became::Bad(e.to_string())),
                    };
                    let took = began.elapsed().as_secs_f32();
                    let mut counts = counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    match became {
                        Became::Good(remark) => {
                            counts.0 += 1;
                            println!("ok    {name} ({took:.1} s) {remark}");
                        }
                        Became::Bad(error) => {
                            counts.1 += 1;
                            println!("FAIL  {name} ({took:.1} s) {error}");
                        }
                        Became::Skipped(why) => {
                            counts.2 += 1;
                            println!("skip  {name}: {why}");
                        }
                    }
                }
            });
        }
    });
    let (passed, failed, skipped) = counts.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if failed > 0 {
        println!("logs of what failed: {}", logs.display());
    }
    println!("{} scenarios in {:.0} s", chosen.len(), start.elapsed().as_secs_f32());
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one scenario as a process.
fn one(arguments: &Arguments, name: &str, needs: Needs, logs: &Path) -> Result<Became> {
    if arguments.strongswan_only && needs != Needs::Any {
        return Ok(Became::Skipped("looks at Portcullis itself".to_owned()));
    }
    let said = logs.join(format!("{name}.txt"));
    let file = File::create(&said)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["interop", "--alone", name]).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    if arguments.keep {
        command.arg("--keep");
    }
    if arguments.strongswan_only {
        command.arg("--strongswan-only");
    }
    let mut child = command.spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > LIMIT {
            // Its end is the end of its namespaces and of everything in them.
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Became::Bad(format!("still running after {} s", LIMIT.as_secs())));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let words = String::from_utf8_lossy(&fs::read(&said)?).trim().to_owned();
    fs::remove_file(&said)?;
    Ok(if status.success() { Became::Good(words) } else { Became::Bad(words) })
}

/// Runs one scenario here, in a sandbox of its own: prints its remark, or what is wrong.
///
/// # Errors
/// When there can be no sandbox, or the logs cannot be kept.
pub(super) fn alone(arguments: &Arguments, scenario: &Scenario) -> Result<ExitCode> {
    if !sandbox::inside() {
        // Whoever ends the runner ends this process too, and with it the namespaces.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    sandbox::run(|| {
        let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(ends(arguments, scenario)?)))
            .unwrap_or_else(|_| Err("the scenario itself panicked".into()))
            .and_then(|remark| pair::nothing_panicked().map(|()| remark));
        let folder = target()?.join("lab").join(&scenario.name);
        let _ = fs::remove_dir_all(&folder);
        if outcome.is_err() || arguments.keep {
            pair::keep_logs(&folder)?;
        }
        match outcome {
            Ok(remark) => println!("{remark}"),
            Err(error) => {
                println!("{error}");
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Who stands where.
fn ends(arguments: &Arguments, scenario: &Scenario) -> Result<Ends> {
    let needs = scenario.needs;
    let us = if arguments.strongswan_only { Program::StrongSwan } else { Program::Portcullis };
    ensure(needs == Needs::Any || us == Program::Portcullis, || "looks at Portcullis itself".to_owned())?;
    Ok(match needs {
        Needs::OursTwice => Ends { us, peer: us },
        Needs::Any | Needs::Ours => Ends { us, peer: scenario.peer },
    })
}
