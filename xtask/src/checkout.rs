//! The checkout this program was built from, and cargo in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::outcome::{Result, ensure};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The target directory this program was built into.
///
/// # Errors
/// When the program has been moved out of it.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).ok_or("xtask does not lie in a target directory")?.to_path_buf())
}

/// The cargo that runs us, in the root of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    // What cargo tells a build script or `cargo run` about *this* package would only confuse the next cargo.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(variable);
    }
    command
}

/// The same cargo in another workspace of the repository, by its manifest. It builds into our target directory, so that
/// what the workspaces share is built once.
pub(crate) fn cargo_beside(manifest: &str, arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.args(["--manifest-path", manifest]);
    if let Ok(target) = target() {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

/// Runs a command to its end, output to the terminal.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn succeed(command: &mut Command) -> Result {
    let words = words(command);
    let status = command.status().map_err(|error| format!("{words}: {error}"))?;
    ensure(status.success(), || format!("{words}: {status}"))
}

/// A command as one would type it.
pub(crate) fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(program, |words, argument| words + " " + &argument.to_string_lossy())
}

/// Whether a program is in PATH.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|folder| folder.join(program).exists())
}

/// Builds `portcullis` as the lab runs it: the build of the tests, in which sums are checked.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_portcullis() -> Result {
    succeed(&mut cargo(&["build", "--quiet", "--locked", "-p", "appliance-linux"]))?;
    let (built, kept) = (target()?.join("debug/portcullis"), portcullis()?);
    let new = kept.with_extension(std::process::id().to_string());
    fs::create_dir_all(kept.parent().unwrap_or(&kept))?;
    // Another cargo may put its own there at any time, and for a moment there is none.
    for _ in 0..100 {
        if built.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    fs::copy(built, &new)?;
    Ok(fs::rename(new, kept)?)
}

/// The `portcullis` that the lab runs.
///
/// # Errors
/// When this program has been moved out of its target directory.
pub(crate) fn portcullis() -> Result<PathBuf> {
    Ok(target()?.join("lab/portcullis"))
}
