//! `cargo xtask fuzz`: every fuzz target for a while.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::checkout::{installed, root};
use crate::outcome::{Result, ensure};

/// Fuzz the parsers and state machines; needs a nightly compiler, cargo-fuzz and g++.
///
/// Without names every target runs. What a run finds lies in fuzz/artifacts; put it into fuzz/corpus and give it a
/// test with a name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets; all when absent.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only name the targets.
    #[arg(long)]
    list: bool,
}

/// Runs `cargo xtask fuzz`.
///
/// # Errors
/// When a tool is missing; a crash is a failed target, and the exit code tells.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let all = targets()?;
    if arguments.list {
        println!("{}", all.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    ensure(installed("cargo-fuzz"), || "cargo-fuzz is missing: cargo install --locked cargo-fuzz".to_owned())?;
    for name in &arguments.targets {
        ensure(all.contains(name), || format!("no fuzz target {name}; there are {}", all.join(", ")))?;
    }
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    let mut failed = 0;
    for target in chosen {
        println!("fuzzing {target} for {} s", arguments.seconds);
        let clean = fuzz(target, arguments.seconds)?;
        println!("{target}: {}", if clean { "clean" } else { "FAILED, see fuzz/artifacts" });
        failed += usize::from(!clean);
    }
    println!("{} passed, {failed} failed, 0 skipped", chosen.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The targets, by their files.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        fs::read_dir(root().join("fuzz/fuzz_targets")).map_err(|error| format!("fuzz/fuzz_targets: {error}"))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    ensure(!names.is_empty(), || "fuzz/fuzz_targets is empty".to_owned())?;
    Ok(names)
}

fn fuzz(target: &str, seconds: u64) -> Result<bool> {
    let mut command = Command::new("cargo");
    // rustup's proxy picks the nightly; what it set for us would override that.
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command.current_dir(root()).args(["+nightly", "fuzz", "run", target]);
    // What a run learns stays out of the checked-in corpus, which is read as seeds.
    let learnt = root().join("fuzz/target/corpus").join(target);
    fs::create_dir_all(&learnt)?;
    command.arg(learnt);
    let seeds = Path::new("fuzz/corpus").join(target);
    if root().join(&seeds).is_dir() {
        command.arg(seeds);
    }
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    command.args(["-use_value_profile=1", "-max_len=4096", "-rss_limit_mb=2048", "-timeout=10"]);
    for dictionary in [format!("fuzz/dict/{target}.dict"), "fuzz/dict/ike.dict".to_owned()] {
        if root().join(&dictionary).is_file() {
            command.arg(format!("-dict={dictionary}"));
            break;
        }
    }
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("cargo +nightly fuzz: {error}"))?;
    Ok(status.success())
}
