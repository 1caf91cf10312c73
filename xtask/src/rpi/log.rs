//! What the image logs: frames of defmt on the console, after the banner. `defmt-print` reads them, as a user's would.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::checkout::{cargo, installed, root, succeed};
use crate::outcome::{Result, ensure};

/// The lines of a log.
///
/// # Errors
/// When `defmt-print` is neither there nor to be had, or takes the ELF file for another build's.
pub(super) fn decode(elf: &Path, console: &[u8]) -> Result<Vec<String>> {
    let mut reader = Command::new(program()?)
        .args(["--log-format", "{t} {L} {s}", "-e"])
        .arg(elf)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = reader.stdin.take().ok_or("defmt-print has no input")?;
    input.write_all(console)?;
    drop(input);
    let output = reader.wait_with_output()?;
    ensure(output.status.success(), || format!("defmt-print: {}", output.status))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The one in PATH, or one of our own below `target`.
fn program() -> Result<PathBuf> {
    if installed("defmt-print") {
        return Ok("defmt-print".into());
    }
    let tools = root().join("target/rpi/tools");
    let program = tools.join("bin/defmt-print");
    if !program.exists() {
        // Without optimisation: built in a third of the time, and quick enough for some lines. In a folder of its own: in that of
        // another cargo it would wait for this one, which gets nowhere while a guest computes.
        let mut install = cargo(&["install", "--debug", "--quiet", "--locked", "defmt-print@1.2.0"]);
        succeed(install.arg("--root").arg(&tools).arg("--target-dir").arg(tools.join("build")))?;
    }
    Ok(program)
}
