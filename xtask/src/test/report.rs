//! Counting what passed, failed and was skipped.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::checkout::words;
use crate::outcome::Result;

/// What came of the checks of one stage so far. Every line begins with the stage's name, as stages run side by side.
pub(super) struct Report {
    stage: &'static str,
    /// Whether a skip is a failure.
    strict: bool,
    counts: Counts,
    remembered: Vec<String>,
}

/// Numbers of checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Checks that held.
    pub(super) passed: usize,
    /// Checks that did not.
    pub(super) failed: usize,
    /// Checks that could not be made.
    pub(super) skipped: usize,
}

impl Report {
    /// Nothing counted yet. `strict`: a skip is a failure.
    pub(super) fn new(stage: &'static str, strict: bool) -> Self {
        Self { stage, strict, counts: Counts::default(), remembered: Vec::new() }
    }

    fn line(&self, word: &str, rest: &str) {
        println!("{:<8} {word:<5} {rest}", self.stage);
    }

    /// How long the stage took. A stage above its budget is a finding, not a failure: the machine may be a slow one.
    pub(super) fn took(&mut self, time: Duration, budget: Duration) {
        let (time, budget) = (time.as_secs_f32(), budget.as_secs());
        self.line("time", &format!("{time:.1} s of {budget} s"));
        if time > budget as f32 {
            self.remembered.push(format!("finding: {} took {time:.0} s, its budget is {budget} s", self.stage));
        }
    }

    /// Whether anything failed.
    pub(super) fn failed(&self) -> bool {
        self.counts.failed > 0
    }

    /// One check.
    pub(super) fn check(&mut self, name: &str, outcome: Result) {
        match outcome {
            Ok(()) => self.passed(name),
            Err(error) => self.fail(name, &error.to_string()),
        }
    }

    /// One check that held.
    pub(super) fn passed(&mut self, name: &str) {
        self.line("ok", name);
        self.counts.passed += 1;
    }

    fn fail(&mut self, name: &str, why: &str) {
        self.line("FAIL", &format!("{name}: {why}"));
        let last = why.lines().last().unwrap_or_default();
        self.remembered.push(format!("failed: {}: {name}: {last}", self.stage));
        self.counts.failed += 1;
    }

    /// One check that could not be made: with CI=true a failure.
    pub(super) fn skipped(&mut self, name: &str, why: &str) {
        if self.strict {
            self.fail(name, &format!("{why} (with CI=true nothing is skipped)"));
        } else {
            self.line("skip", &format!("{name}: {why}"));
            self.remembered.push(format!("skipped: {}: {name}: {why}", self.stage));
            self.counts.skipped += 1;
        }
    }

    /// A command that must succeed. Its output is shown when it does not.
    pub(super) fn command(&mut self, name: &str, command: &mut Command) {
        let outcome = quietly(command).and_then(|(success, output)| {
            if success { Ok(()) } else { Err(format!("{}\n{output}", words(command)).into()) }
        });
        self.check(name, outcome);
    }

    /// A command whose output contains counts of tests, shown as it comes; a command that prints none is one check.
    pub(super) fn counted_command(&mut self, name: &str, command: &mut Command) {
        self.counted_command_excused(name, command, None);
    }

    /// The same, where what it skips is counted and told and no failure even with CI=true, for this reason.
    pub(super) fn counted_command_excused(&mut self, name: &str, command: &mut Command, excuse: Option<&str>) {
        let outcome = streamed(self.stage, command);
        let (success, output) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.fail(name, &error.to_string()),
        };
        let counts = count(&output);
        match excuse {
            None if self.strict && counts.skipped > 0 => {
                self.fail(name, &format!("{} skipped (with CI=true nothing is skipped)", counts.skipped));
            }
            None => self.counts.skipped += counts.skipped,
            Some(why) => {
                self.counts.skipped += counts.skipped;
                self.remembered.push(format!("skipped: {}: {name}: {}: {why}", self.stage, counts.skipped));
            }
        }
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        match success {
            true if counts == Counts::default() => self.passed(name),
            true => self.line("ok", &format!("{name}: {} passed, {} skipped", counts.passed, counts.skipped)),
            false if counts.failed > 0 => {
                self.line("FAIL", &format!("{name}: {} failed", counts.failed));
                self.remembered.push(format!("failed: {}: {name}: {} of its checks", self.stage, counts.failed));
            }
            false => self.fail(name, &words(command)),
        }
    }
}

/// What came of all stages.
#[derive(Default)]
pub(super) struct Total {
    counts: Counts,
    remembered: Vec<String>,
}

impl Total {
    /// Takes over what came of a stage.
    pub(super) fn add(&mut self, stage: Report) {
        self.counts.passed += stage.counts.passed;
        self.counts.failed += stage.counts.failed;
        self.counts.skipped += stage.counts.skipped;
        self.remembered.extend(stage.remembered);
    }

    /// Whether anything failed.
    pub(super) fn failed(&self) -> bool {
        self.counts.failed > 0
    }

    /// The last line of the pipeline.
    pub(super) fn counts(&self) -> String {
        let Counts { passed, failed, skipped } = self.counts;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    /// Failures, skips and findings again, for those who only read the end.
    pub(super) fn remembered(&self) -> &[String] {
        &self.remembered
    }
}

/// Runs a command and keeps its output.
fn quietly(command: &mut Command) -> Result<(bool, String)> {
    let output = command.output().map_err(|error| format!("{}: {error}", words(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

/// Runs a command, shows its output indented, and keeps it.
fn streamed(stage: &str, command: &mut Command) -> Result<(bool, String)> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", words(command)))?;
    // Our copies of the pipe's writing end live in `command`.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{stage:<8} |     {line}");
        writeln!(output, "{line}")?;
    }
    Ok((child.wait()?.success(), output))
}

/// Sums up the lines that count tests: of cargo test, of nextest, of our own commands.
fn count(output: &str) -> Counts {
    let mut total = Counts::default();
    for line in output.lines() {
        let line = line.trim();
        let numbers = if let Some(rest) = line.strip_prefix("test result:") {
            rest.split_once(". ").map_or(rest, |(_, rest)| rest)
        } else if line.starts_with("Summary [") {
            // `Summary [   0.1s] 12 tests run: 11 passed, 1 failed, 2 skipped`
            line.split_once("run:").map_or("", |(_, rest)| rest)
        } else if line.split(", ").count() == 3 && line.ends_with(" skipped") {
            line
        } else {
            continue;
        };
        for part in numbers.split([',', ';']) {
            let mut words = part.split_whitespace();
            let (number, word) = (words.next().and_then(|number| number.parse().ok()), words.next());
            let Some(number): Option<usize> = number else { continue };
            match word {
                Some("passed") => total.passed += number,
                Some("failed" | "timed") => total.failed += number,
                Some("skipped" | "ignored") => total.skipped += number,
                _ => {}
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_every_runner_are_understood() {
        let cargo = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(count(cargo), Counts { passed: 12, failed: 0, skipped: 1 });
        let nextest = "     Summary [   0.152s] 30 tests run: 28 passed (1 slow), 2 failed, 4 skipped";
        assert_eq!(count(nextest), Counts { passed: 28, failed: 2, skipped: 4 });
        assert_eq!(count("7 passed, 1 failed, 2 skipped"), Counts { passed: 7, failed: 1, skipped: 2 });
        assert_eq!(count("0 of 3 pings lost, all passed"), Counts::default());
    }

    #[test]
    fn a_skip_is_a_failure_where_strict() {
        let mut report = Report::new("stage", true);
        report.skipped("peer", "not there");
        assert!(report.failed());
        assert_eq!(total([report]).counts(), "0 passed, 1 failed, 0 skipped");
        let mut report = Report::new("stage", false);
        report.skipped("peer", "not there");
        assert!(!report.failed());
        assert_eq!(total([report]).counts(), "0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn skips_of_a_command_are_counted_and_fail_where_strict() {
        let counts = |strict, excuse: Option<&str>| {
            let mut report = Report::new("stage", strict);
            let mut command = Command::new("sh");
            report.counted_command_excused("tests", command.args(["-c", "echo 3 passed, 0 failed, 2 skipped"]), excuse);
            let total = total([report]);
            (total.counts(), total.remembered().to_vec())
        };
        assert_eq!(counts(false, None).0, "3 passed, 0 failed, 2 skipped");
        assert_eq!(counts(true, None).0, "3 passed, 1 failed, 0 skipped");
        let (counted, told) = counts(true, Some("not ours"));
        assert_eq!((counted.as_str(), told.len()), ("3 passed, 0 failed, 2 skipped", 1));
        assert!(told.iter().all(|line| line.contains("2: not ours")), "{told:?}");
    }

    #[test]
    fn a_stage_above_its_budget_is_a_finding_and_no_failure() {
        let mut slow = Report::new("slow", false);
        slow.took(Duration::from_secs(61), Duration::from_secs(60));
        let mut quick = Report::new("quick", false);
        quick.took(Duration::from_secs(59), Duration::from_secs(60));
        let total = total([slow, quick]);
        assert!(!total.failed());
        assert_eq!(total.remembered(), ["finding: slow took 61 s, its budget is 60 s"]);
    }

    fn total<const N: usize>(stages: [Report; N]) -> Total {
        let mut total = Total::default();
        stages.into_iter().for_each(|stage| total.add(stage));
        total
    }

    #[test]
    fn a_failing_command_is_counted_whether_it_counts_or_not() {
        let mut report = Report::new("stage", false);
        report.counted_command("silent", Command::new("sh").args(["-c", "exit 1"]));
        report
            .counted_command("counting", Command::new("sh").args(["-c", "echo 1 passed, 2 failed, 0 skipped; exit 1"]));
        report.counted_command("good", &mut Command::new("true"));
        report.command("quiet", Command::new("sh").args(["-c", "exit 3"]));
        assert_eq!(total([report]).counts(), "2 passed, 4 failed, 0 skipped");
    }
}
