//! `portcullis`: an IKEv2/IPsec gateway for Linux.
//!
//! Reading order: [`cli`] is the contract with the operator, [`run`] the daemon, [`control`] what goes between the two.

mod boundary;
mod capacity;
mod clear;
mod cli;
mod clock;
mod commands;
mod configuration;
mod control;
mod doctor;
mod hardening;
mod listen;
mod logging;
mod machine;
mod netlink;
mod notify;
mod pending;
mod plane;
mod resolve;
mod run;
mod signals;
mod socket;
mod status;
mod story;
mod tun;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Target};
use control::client;
use control::print::{Because, Databases, Table};
use control::protocol::{Answer, Request};
use doctor::Grade;
use run::Ended;

/// It did not work out.
const FAILED: u8 = 1;
/// The command line (by clap's choice too) or the configuration is wrong.
const REFUSED: u8 = 2;
/// Nobody answers at the control socket.
const NO_DAEMON: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Run { file, log_json } => match run::run(&file.config, log_json) {
            Ended::Asked => 0,
            Ended::Failed => FAILED,
            Ended::Configuration => REFUSED,
        },
        Command::Check { file } => check(&file.config),
        Command::Doctor { file } => examine(&file.config),
        Command::Status { json } => ask(&cli.control, &Request::Status, json, None),
        Command::Show { what, json } => ask(&cli.control, &Request::Show, json, what),
        Command::Up { target } => {
            let Target { name, timeout } = target;
            ask(&cli.control, &Request::Up { name, timeout_ms: millis(timeout) }, false, None)
        }
        Command::Down { target } => {
            let Target { name, timeout } = target;
            ask(&cli.control, &Request::Down { name, timeout_ms: millis(timeout) }, false, None)
        }
        Command::Rekey { target, ike } => {
            let Target { name, timeout } = target;
            ask(&cli.control, &Request::Rekey { name, ike, timeout_ms: millis(timeout) }, false, None)
        }
        Command::Release => release(),
        Command::Reload => ask(&cli.control, &Request::Reload, false, None),
    };
    ExitCode::from(code)
}

fn millis(wait: std::time::Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// Writes to standard output; a reader that went away (`| head`) is no failure of ours.
fn print(text: impl std::fmt::Display) {
    let _ = write!(io::stdout(), "{text}");
}

/// `portcullis check`.
fn check(path: &Path) -> u8 {
    match configuration::load(path) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|line| eprintln!("{line}"));
            let config = &loaded.config;
            let children: usize = config.peers.iter().map(|peer| peer.children.len()).sum();
            print(format_args!(
                "{}: fine: peers {}, children {children}, policies {}\n",
                path.display(),
                config.peers.len(),
                config.policies.len()
            ));
            0
        }
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            REFUSED
        }
    }
}

/// `portcullis doctor`.
fn examine(path: &Path) -> u8 {
    let loaded = match configuration::load(path) {
        Ok(loaded) => loaded,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return REFUSED;
        }
    };
    loaded.warnings.iter().for_each(|line| eprintln!("{line}"));
    let findings = doctor::examine(&loaded.config);
    for finding in &findings {
        print(format_args!("{finding}\n"));
    }
    let worst = findings.iter().map(|finding| finding.grade).max();
    if worst == Some(Grade::Failure) { FAILED } else { 0 }
}

/// `portcullis release`.
fn release() -> u8 {
    match boundary::release() {
        Ok(line) => {
            print(format_args!("{line}\n"));
            0
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            eprintln!("{}", boundary::TAKEN);
            eprintln!("hint: stop it first (systemctl stop portcullis)");
            FAILED
        }
        Err(error) => {
            eprintln!("not released: {error}");
            FAILED
        }
    }
}

/// Asks the daemon and prints its answer.
fn ask(socket: &Path, request: &Request, json: bool, what: Option<cli::What>) -> u8 {
    let answer = match client::call(socket, request) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("no portcullis answers at {}: {error}", socket.display());
            eprintln!("hint: start it (systemctl start portcullis), or name its socket with --control");
            return NO_DAEMON;
        }
    };
    let shown = match &answer {
        Answer::Done { lines } => {
            lines.iter().for_each(|line| print(format_args!("{line}\n")));
            Ok(())
        }
        Answer::Failed { cause } => {
            eprint!("{}", Because(cause));
            return FAILED;
        }
        Answer::Status { status } if json => print_json(status),
        Answer::Status { status } => {
            print(Table(status));
            Ok(())
        }
        Answer::Show { show } if json => match what {
            Some(cli::What::Spd) => print_json(&show.spd),
            Some(cli::What::Sa) => print_json(&show.sad),
            Some(cli::What::Ike) => print_json(&show.ike),
            None => print_json(show),
        },
        Answer::Show { show } => {
            print(Databases(show, what));
            Ok(())
        }
    };
    match shown {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            FAILED
        }
    }
}

fn print_json(value: &impl serde::Serialize) -> serde_json::Result<()> {
    print(format_args!("{}\n", serde_json::to_string(value)?));
    Ok(())
}
