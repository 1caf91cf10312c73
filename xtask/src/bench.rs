//! `cargo xtask bench`: the project's measurements.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::checkout::{cargo, succeed};
use crate::outcome::Result;

/// Measure. Every figure is printed beside a reference taken in the same run, with the ratio.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure.
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// ESP seal and open of 64, 576, 1400 and 8900 octets beside the bare AEAD.
    Esp,
    /// What 4,000 and 20,000 peers cost while a gateway starts, and when it is reloaded.
    Start,
    /// The Raspberry Pi image: instructions a frame beside a copy of its octets, time to network, sizes.
    Rpi,
}

/// Runs `cargo xtask bench`.
///
/// # Errors
/// When the benchmark does not build or run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments.what {
        What::Esp => succeed(&mut cargo(&["bench", "-p", "ipsec-core", "--bench", "esp"]))?,
        What::Start => succeed(&mut cargo(&["bench", "-p", "gateway-core", "--bench", "start"]))?,
        What::Rpi => crate::rpi::bench::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
