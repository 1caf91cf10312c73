//! `cargo xtask deny`: licences, sources and duplicate versions of the dependencies.

use std::process::ExitCode;

use crate::checkout::{cargo, installed, succeed};
use crate::outcome::Result;

/// Check the dependencies' licences and sources against deny.toml, with cargo-deny (`cargo install cargo-deny`).
///
/// Advisories are left out: their database has to be fetched (`cargo deny check advisories` does it).
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Runs `cargo xtask deny`.
///
/// # Errors
/// When cargo-deny is missing or finds something.
pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    if !installed("cargo-deny") {
        return Err("cargo-deny is missing: cargo install --locked cargo-deny".into());
    }
    succeed(&mut cargo(&["deny", "--all-features", "check", "bans", "sources", "licenses"]))?;
    Ok(ExitCode::SUCCESS)
}
