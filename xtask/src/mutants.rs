//! `cargo xtask mutants`: whether tests notice when the code is broken that decides what a packet may do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::checkout::{cargo, installed, root};
use crate::outcome::{Result, ensure};

/// Break replay windows, padding, transforms and selectors of ipsec-core in every place, and count what its tests notice: some
/// hours. Needs cargo-mutants and cargo-nextest. Fails where less than 85 % of a file is noticed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Parts of names of files; all when absent.
    files: Vec<String>,
    /// Only each n-th mutant, from the k-th on: k/n, the first is 0/n.
    #[arg(long)]
    shard: Option<String>,
}

/// What is broken, and what is to notice it.
pub(crate) struct Campaign<'a> {
    /// A workspace, below the repository.
    pub(crate) workspace: &'a str,
    pub(crate) package: &'a str,
    /// Where the files lie, below the workspace.
    pub(crate) sources: &'a str,
    pub(crate) files: &'a [&'a str],
    /// More arguments of cargo-mutants.
    pub(crate) arguments: &'a [&'a str],
    /// Of a hundred mutants so many must be caught, in each file.
    pub(crate) goal: usize,
    /// Where what came of it is written to, below the repository.
    pub(crate) out: &'a str,
}

/// Replay windows with their extended numbers, padding, transforms, and what a packet is to selectors.
const FILES: [&str; 5] = ["replay.rs", "esp/pad.rs", "transform.rs", "net.rs", "flow.rs"];

/// Runs `cargo xtask mutants`.
///
/// # Errors
/// Without its tools, and when a file misses the goal.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure(installed("cargo-nextest"), || "cargo-nextest is missing: cargo install --locked cargo-nextest".to_owned())?;
    let chosen = |file: &&str| arguments.files.is_empty() || arguments.files.iter().any(|part| file.contains(&**part));
    let files: Vec<&str> = FILES.into_iter().filter(chosen).collect();
    let mut more = vec!["--jobs=1", "--features=suites", "--test-tool=nextest", "--timeout=60"];
    if let Some(shard) = &arguments.shard {
        more.extend(["--sharding=round-robin", "--shard", shard]);
    }
    // All the rest is about what stands on these.
    more.extend(["--", "--lib", "--test=packets", "--test=peripheral", "--test=debug"]);
    let campaign = Campaign {
        workspace: ".",
        package: "ipsec-core",
        sources: "ipsec-core/src",
        files: &files,
        arguments: &more,
        goal: 85,
        out: "target/mutants",
    };
    campaign.run().map(|()| ExitCode::SUCCESS)
}

impl Campaign<'_> {
    /// Breaks the files, one place after the other.
    ///
    /// # Errors
    /// Without cargo-mutants or files, and when one misses the goal.
    pub(crate) fn run(&self) -> Result {
        ensure(installed("cargo-mutants"), || {
            "cargo-mutants is missing: cargo install --locked cargo-mutants".to_owned()
        })?;
        ensure(!self.files.is_empty(), || "no file is named like that".to_owned())?;
        let out = root().join(self.out);
        fs::create_dir_all(&out)?;
        let mut command = cargo(&["mutants", "--package", self.package, "--output"]);
        command.arg(&out).current_dir(root().join(self.workspace));
        for file in self.files {
            command.args(["--file", &format!("{}/{file}", self.sources)]);
        }
        // 2 means that mutants were missed, 3 that some ran into the limit of time: both are counted below.
        let status = command.args(self.arguments).status()?;
        ensure(matches!(status.code(), Some(0 | 2 | 3)), || format!("cargo mutants: {status}"))?;
        self.count(&out)
    }

    fn count(&self, out: &Path) -> Result {
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
        let enough = counts.len() == self.files.len() && counts.values().all(|&count| percent(count) >= self.goal);
        ensure(enough, || {
            let missed = out.join("mutants.out/missed.txt");
            format!("not every file reaches {} %; those missed are in {}", self.goal, missed.display())
        })
    }
}
