//! `cargo xtask rpi mutants`: whether the drivers' tests notice when ring or descriptor code is broken.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::checkout::{cargo, installed, root};
use crate::outcome::{Result, ensure};

/// Where devices and the driver share indices, or a device describes itself.
const FILES: [&str; 4] = ["genet/ring.rs", "usb/ring.rs", "usb/descriptor.rs", "virtio_net.rs"];
/// Of a hundred mutants so many must be caught, in each file.
const GOAL: usize = 80;

/// Breaks the files whose path contains `filter`, one place after the other: some ten seconds a mutant.
///
/// # Errors
/// Without cargo-mutants, and when a file misses the goal.
pub(super) fn run(filter: &str) -> Result {
    ensure(installed("cargo-mutants"), || "cargo-mutants is missing: cargo install --locked cargo-mutants".to_owned())?;
    let files: Vec<&str> = FILES.into_iter().filter(|file| file.contains(filter)).collect();
    ensure(!files.is_empty(), || format!("no file is named like {filter:?}; there are {}", FILES.join(", ")))?;
    let out = root().join("target/rpi/mutants");
    fs::create_dir_all(&out)?;
    let mut command = cargo(&["mutants", "--package", "rpi-drivers", "--timeout", "60", "--output"]);
    command.arg(&out).current_dir(root().join("appliance-rpi"));
    for file in &files {
        command.args(["--file", &format!("drivers/src/{file}")]);
    }
    // 2 means that mutants were missed, 3 that some ran into the limit of time: both are counted below.
    let status = command.status()?;
    ensure(matches!(status.code(), Some(0 | 2 | 3)), || format!("cargo mutants: {status}"))?;

    let outcomes: Value = serde_json::from_slice(&fs::read(out.join("mutants.out/outcomes.json"))?)?;
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for outcome in outcomes["outcomes"].as_array().into_iter().flatten() {
        let Some(file) = outcome["scenario"]["Mutant"]["file"].as_str() else { continue };
        let (caught, tried) = counts.entry(file).or_default();
        match outcome["summary"].as_str() {
            // A test that no longer ends was noticed too.
            Some("CaughtMutant" | "Timeout") => (*caught, *tried) = (*caught + 1, *tried + 1),
            Some("MissedMutant") => *tried += 1,
            // It does not compile.
            _ => {}
        }
    }
    let percent = |(caught, tried): (usize, usize)| caught * 100 / tried.max(1);
    for (file, &(caught, tried)) in &counts {
        println!("{file}: {caught} of {tried} caught, {} %", percent((caught, tried)));
    }
    ensure(counts.len() == files.len() && counts.values().all(|&count| percent(count) >= GOAL), || {
        format!("not every file reaches {GOAL} %; those missed are in {}", out.join("mutants.out/missed.txt").display())
    })
}
