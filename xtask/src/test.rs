//! `cargo xtask test`: everything that is checked, in numbered stages.

pub(crate) mod packages;
mod quality;
pub(crate) mod readme;
mod report;
mod targets;
mod units;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use report::{Report, Total};

use crate::checkout::root;
use crate::outcome::{Result, ensure};

/// Check everything: style, tests, builds for bare metal, absence of panics, and live tunnels against strongSwan.
///
/// As root on Debian it installs the packages it lacks; elsewhere it names them. What cannot be run is skipped and
/// counted; with CI=true in the environment a skip is a failure. Stages that wait run beside those that compile. Each
/// stage's time is printed beside its budget. The last line counts: `N passed, N failed, N skipped`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these stages, by name; may be given several times.
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// Name the stages and what they check.
    #[arg(long)]
    list: bool,
    /// Go on after a stage that failed.
    #[arg(long)]
    keep_going: bool,
}

/// Who a stage shares the machine with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Brings the tools that `Compiles` and `Beside` need.
    Tools,
    /// Keeps the processors busy, one stage after the other, and needs no tools: runs beside `Tools`.
    Style,
    /// Follows `Style` when the tools are there.
    Compiles,
    /// Waits for clocks and guests most of the time, or builds where the others do not: runs beside the compilers, which
    /// are nicer than it.
    Beside,
}

/// A part of the pipeline.
struct Stage {
    name: &'static str,
    checks: &'static str,
    lane: Lane,
    /// Seconds it may take from an empty target on two cores, the other lane running. A stage above it is a finding.
    budget: u64,
    run: fn(&mut Report),
}

/// Seconds that all of it may take from an empty target on two cores.
const WHOLE: u64 = 1800;

const STAGES: [Stage; 11] = [
    Stage {
        name: "packages",
        checks: "the tools the later stages need are there",
        lane: Lane::Tools,
        budget: 120,
        run: packages::stage,
    },
    Stage {
        name: "format",
        checks: "cargo fmt has nothing to change, in all workspaces",
        lane: Lane::Style,
        budget: 40,
        run: quality::format,
    },
    Stage {
        name: "clippy",
        checks: "no lint fires, all targets and features, nor one of the documentation",
        lane: Lane::Style,
        budget: 960,
        run: quality::clippy,
    },
    Stage {
        name: "tests",
        checks: "unit, scenario and doc tests, fuzz corpora replayed",
        lane: Lane::Compiles,
        budget: 840,
        run: units::tests,
    },
    Stage {
        name: "readme",
        checks: "every command in README.md and docs/operations.md works",
        lane: Lane::Compiles,
        budget: 120,
        run: readme::commands,
    },
    // First of those that wait: it builds elsewhere, and what the others run is there when it is done.
    Stage {
        name: "rpi",
        checks: "the Raspberry Pi image in QEMU, from boot to panic",
        lane: Lane::Beside,
        budget: 800,
        run: targets::rpi,
    },
    Stage {
        name: "demo",
        checks: "cargo xtask demo",
        lane: Lane::Beside,
        budget: 180,
        run: |report| own_command(report, "demo", &["demo"]),
    },
    Stage { name: "interop", checks: "scenarios against strongSwan", lane: Lane::Beside, budget: 300, run: interop },
    // They build elsewhere too.
    Stage {
        name: "cross",
        checks: "the cores build for bare metal, with every feature",
        lane: Lane::Beside,
        budget: 300,
        run: targets::cross,
    },
    Stage {
        name: "panic",
        checks: "no panic is reachable in the cores' machine code",
        lane: Lane::Beside,
        budget: 300,
        run: targets::panic,
    },
    Stage {
        name: "sizes",
        checks: "docs/sizes.md says what a node on a microcontroller needs",
        lane: Lane::Beside,
        budget: 240,
        run: targets::sizes,
    },
];

/// Runs `cargo xtask test`.
///
/// # Errors
/// When a stage of --only does not exist; failed checks are counted, and the exit code tells.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let width = STAGES.iter().map(|stage| stage.name.len()).max().unwrap_or(0);
    if arguments.list {
        for (number, stage) in STAGES.iter().enumerate() {
            println!("{:2}  {:width$}  {}", number + 1, stage.name, stage.checks);
        }
        return Ok(ExitCode::SUCCESS);
    }
    for name in &arguments.only {
        ensure(STAGES.iter().any(|stage| stage.name == name), || format!("no stage {name}; --list names them"))?;
    }
    let pipeline = Pipeline {
        arguments,
        strict: strict(),
        start: Instant::now(),
        stop: AtomicBool::new(false),
        total: Mutex::new(Total::default()),
    };
    thread::scope(|scope| {
        let compiles = |lane| {
            nicer();
            pipeline.lane(lane);
        };
        let style = scope.spawn(move || compiles(Lane::Style));
        pipeline.lane(Lane::Tools);
        scope.spawn(|| pipeline.lane(Lane::Beside));
        if style.join().is_ok() {
            compiles(Lane::Compiles);
        }
    });
    let total = pipeline.total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    println!("{:.0} s of {WHOLE} s", pipeline.start.elapsed().as_secs_f32());
    for line in total.remembered() {
        println!("{line}");
    }
    println!("{}", total.counts());
    Ok(if total.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Pipeline<'a> {
    arguments: &'a Arguments,
    strict: bool,
    start: Instant,
    /// A stage has failed, and the others need not begin.
    stop: AtomicBool,
    total: Mutex<Total>,
}

impl Pipeline<'_> {
    /// Runs the stages of a lane that are asked for, in their order.
    fn lane(&self, lane: Lane) {
        for (number, stage) in STAGES.iter().enumerate().filter(|(_, stage)| stage.lane == lane) {
            if !self.arguments.only.is_empty() && !self.arguments.only.iter().any(|name| name == stage.name) {
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                println!("{:<8} not begun: another stage has failed; --keep-going runs all", stage.name);
                continue;
            }
            println!("[{:2}/{}] {}: {}", number + 1, STAGES.len(), stage.name, stage.checks);
            let mut report = Report::new(stage.name, self.strict);
            let began = Instant::now();
            (stage.run)(&mut report);
            report.took(began.elapsed(), Duration::from_secs(stage.budget));
            if report.failed() && !self.arguments.keep_going {
                self.stop.store(true, Ordering::Relaxed);
            }
            self.total.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(report);
        }
    }
}

/// Lets everything this thread starts give way to the daemons and guests of the other lane, whose clocks run.
fn nicer() {
    // SAFETY: no memory is handed over; 0 is the calling thread, and what it starts inherits its priority.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// Whether what cannot be run has failed.
pub(crate) fn strict() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Runs another command of this program and takes over its counts; one without counts is one check.
fn own_command(report: &mut Report, name: &str, arguments: &[&str]) {
    // Not by its path: the stages before may have built another program there.
    let mut command = Command::new("/proc/self/exe");
    report.counted_command(name, command.args(arguments).current_dir(root()));
}

fn interop(report: &mut Report) {
    let missing = crate::interop::missing();
    if missing.is_empty() {
        own_command(report, "interop", &["interop"]);
    } else {
        let packages = packages::INTEROP.join(" ");
        report.skipped("interop", &format!("missing {}; on Debian install {packages}", missing.join(", ")));
    }
}
