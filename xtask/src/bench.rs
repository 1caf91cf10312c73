//! `cargo xtask bench`: the project's measurements.

mod start;
mod work;

use std::process::ExitCode;

use clap::ValueEnum;

use crate::checkout::{cargo, succeed};
use crate::outcome::Result;

/// Measure. Every figure is printed beside a reference taken in the same run, with the ratio.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure.
    what: What,
    /// With 10, 1,000 and 10,000 SAs; what there is to measure of IKE so far.
    #[arg(long)]
    scale: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// ESP seal and open of 64, 576, 1400 and 8900 octets beside the bare calls of the engine, for both engines.
    Esp,
    /// What a decision about a packet costs with 10 to 100,000 policies, and to change one of them.
    Spd,
    /// What it costs to find one of 10 to 100,000 SAs, and to install, remove and rekey one.
    Sad,
    /// IKE messages, rekeys, timers and lookups on a host with 10, 1,000 and 10,000 SAs: time, and the instructions that each
    /// takes (counted by valgrind).
    Ike,
    /// What thousands of configured peers cost a gateway, and the daemon with all that it asks of the kernel: start, status,
    /// reload, memory.
    Start,
    /// The Raspberry Pi image: instructions a frame beside a copy of its octets, time to network, sizes.
    Rpi,
}

/// Runs `cargo xtask bench`.
///
/// # Errors
/// When the benchmark does not build or run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.scale && !matches!(arguments.what, What::Ike) {
        return Err("--scale goes with ike".into());
    }
    match arguments.what {
        What::Esp => succeed(&mut cargo(&["bench", "-p", "ipsec-aws-lc", "--bench", "esp"]))?,
        What::Spd => succeed(&mut cargo(&["bench", "-p", "ipsec-core", "--bench", "spd"]))?,
        What::Sad => succeed(&mut cargo(&["bench", "-p", "ipsec-core", "--bench", "sad"]))?,
        What::Ike => return work::run(),
        What::Start => return start::run(),
        What::Rpi => crate::rpi::bench::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
