//! `cargo xtask bench ike`: what IKE costs a host with few and with many SAs, in time and in instructions.
//!
//! With many SAs each has to be fetched from memory, so that times grow whatever the tables are like, by what the machine is
//! like. What the code has to do shows in the instructions, which are the same on each run.

use std::fs;
use std::process::ExitCode;

use crate::checkout::{cargo, installed, target};
use crate::outcome::{Result, ensure};

/// How many SAs.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// How much more a step may take among the most than among the fewest.
const GROWTH: f64 = 1.3;
/// Where the measured program does a step, and what of that counts.
const DUMP: &str = "--dump-before=scale::row";
const TOGGLE: &str = "--toggle-collect=scale::counted";
const BENCH: [&str; 6] = ["bench", "--locked", "-p", "ike-core", "--bench", "scale"];

/// Measures times, and then counts instructions.
///
/// # Errors
/// When something does not build or run, or there is no valgrind.
pub(super) fn run() -> Result<ExitCode> {
    ensure(installed("valgrind"), || "valgrind counts the instructions: install it".into())?;
    let timed = cargo(&BENCH).status()?.success();
    let rows = SIZES.into_iter().map(counts).collect::<Result<Vec<_>>>()?;
    let [few, some, many] = rows.as_slice() else { return Err("there are three sizes".into()) };
    println!("\ninstructions of a round of each, on both sides\n");
    println!("{:>34} {:>11} {:>11} {:>11} {:>8}", "", SIZES[0], SIZES[1], SIZES[2], "growth");
    let mut met = true;
    for ((few, some), many) in few.iter().zip(some).zip(many) {
        let growth = many.1 as f64 / few.1 as f64;
        let verdict = if growth <= GROWTH { "met" } else { "MISSED" };
        println!("{:>34} {:>11} {:>11} {:>11} {growth:>8.2} <= {GROWTH} {verdict}", few.0, few.1, some.1, many.1);
        met &= growth <= GROWTH;
    }
    Ok(if met && timed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each step by its name, and its instructions among so many SAs.
fn counts(size: usize) -> Result<Vec<(String, u64)>> {
    let folder = target()?.join("work");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let out = format!("--callgrind-out-file={}", folder.join("out").display());
    let valgrind = ["valgrind", "--quiet", "--tool=callgrind", TOGGLE, DUMP, &out];
    let runner = format!("target.'cfg(all())'.runner = {valgrind:?}");
    let output = cargo(&BENCH).args(["--config", &runner]).env("COUNTED", size.to_string()).output()?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let names: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // What was counted before each step; that of the last one comes at the end, without a number.
    let mut files: Vec<_> = (2..=names.len()).map(|number| folder.join(format!("out.{number}"))).collect();
    files.push(folder.join("out"));
    let mut rows = Vec::new();
    for (name, file) in names.into_iter().zip(files) {
        let text = fs::read_to_string(file)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        rows.push((name, total.ok_or("no total")?));
    }
    ensure(rows.iter().all(|(_, count)| *count > 0), || format!("nothing was counted: {TOGGLE}"))?;
    Ok(rows)
}
