//! `cargo xtask test`: everything that is checked, in numbered stages.

pub(crate) mod packages;
mod quality;
pub(crate) mod readme;
mod report;
mod targets;
mod units;

use std::process::{Command, ExitCode};
use std::time::Instant;

use report::Report;

use crate::checkout::root;
use crate::outcome::{Result, ensure};

/// Check everything: style, tests, builds for bare metal, absence of panics, and live tunnels against strongSwan.
///
/// As root on Debian it installs the packages it lacks; elsewhere it names them. What cannot be run is skipped and
/// counted; with CI=true in the environment a skip is a failure. The last line counts: `N passed, N failed, N skipped`.
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

/// A part of the pipeline.
struct Stage {
    name: &'static str,
    checks: &'static str,
    run: fn(&mut Report),
}

const STAGES: [Stage; 10] = [
    Stage { name: "packages", checks: "the tools the later stages need are there", run: packages::stage },
    Stage { name: "format", checks: "cargo fmt has nothing to change, in all workspaces", run: quality::format },
    Stage { name: "clippy", checks: "no lint fires, all targets and features", run: quality::clippy },
    Stage { name: "tests", checks: "unit, scenario and doc tests, fuzz corpora replayed", run: units::tests },
    Stage { name: "cross", checks: "the cores build for bare metal, with every feature", run: targets::cross },
    Stage { name: "panic", checks: "no panic is reachable in the cores' machine code", run: targets::panic },
    Stage { name: "rpi", checks: "the Raspberry Pi image in QEMU, from boot to panic", run: targets::rpi },
    Stage { name: "readme", checks: "every command in README.md and docs/operations.md works", run: readme::commands },
    Stage { name: "demo", checks: "cargo xtask demo", run: |report| own_command(report, "demo", &["demo"]) },
    Stage { name: "interop", checks: "scenarios against strongSwan", run: interop },
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
    let start = Instant::now();
    let mut report = Report::new(std::env::var("CI").is_ok_and(|value| value == "true" || value == "1"));
    for (number, stage) in STAGES.iter().enumerate() {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == stage.name) {
            continue;
        }
        println!("[{:2}/{}] {}: {}", number + 1, STAGES.len(), stage.name, stage.checks);
        let began = Instant::now();
        (stage.run)(&mut report);
        println!("        {:.1} s", began.elapsed().as_secs_f32());
        if report.failed() && !arguments.keep_going {
            println!("stopped after the first stage that failed; --keep-going runs the others too");
            break;
        }
    }
    println!("{:.0} s", start.elapsed().as_secs_f32());
    for line in report.remembered() {
        println!("{line}");
    }
    println!("{}", report.counts());
    Ok(if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
