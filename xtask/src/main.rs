//! The project's own commands: `cargo xtask <command>`. `cargo xtask help` lists them.

mod bench;
mod checkout;
mod cross;
mod demo;
mod deny;
mod fuzz;
mod interop;
mod lab;
mod mutants;
mod outcome;
mod panic;
mod rpi;
mod sizes;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Portcullis' own commands: see it work, test all of it, measure it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Demo(demo::Arguments),
    Test(test::Arguments),
    Interop(interop::Arguments),
    Panic(panic::Arguments),
    Sizes(sizes::Arguments),
    Fuzz(fuzz::Arguments),
    Mutants(mutants::Arguments),
    Bench(bench::Arguments),
    Deny(deny::Arguments),
    Image(rpi::image::Arguments),
    /// The Raspberry Pi image: `cargo xtask rpi` lists its commands.
    Rpi {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Interop(arguments) => interop::run(&arguments),
        Command::Panic(arguments) => panic::run(&arguments),
        Command::Sizes(arguments) => sizes::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Deny(arguments) => deny::run(&arguments),
        Command::Image(arguments) => rpi::image::run(&arguments),
        Command::Rpi { arguments } => rpi::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
