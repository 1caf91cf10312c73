//! `portcullis`: an IKEv2/IPsec gateway for Linux.
//!
//! Reading order: [`cli`] is the contract with the operator, [`daemon`] the daemon, [`control`] what goes between the two.

mod ask;
mod boundary;
mod capacity;
mod clear;
mod cli;
mod clock;
mod compression;
mod configuration;
mod control;
mod daemon;
mod decode;
mod disk;
mod doctor;
mod early;
mod hardening;
mod inbox;
mod kept;
mod ledger;
mod listen;
mod logging;
mod machine;
#[cfg(test)]
mod namespace;
mod netlink;
mod notify;
mod pending;
mod plane;
mod provider;
mod resolve;
mod sequence;
mod signals;
mod socket;
mod story;
mod tun;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;

use ask::{Trouble, trouble};
use cli::{Cli, Command, Target};
use control::client;
use control::print::{Because, Databases, Table};
use control::protocol::{Answer, Cause, Request, Show};
use control::racoonctl::Phase1;
use control::setkey::{Associations, Moment, Policies};
use daemon::Ended;
use doctor::Grade;
use gateway_core::config::Settings;

/// It did not work out.
const FAILED: u8 = 1;
/// The command line (by clap's choice too) or the configuration is wrong.
const REFUSED: u8 = 2;
/// Nobody answers at the control socket.
const NO_DAEMON: u8 = 3;
/// `status`: something is not up that should be, or the boundary does not stand.
const NOT_UP: u8 = 4;

fn main() -> ExitCode {
    // Before the first key is read, whatever the command.
    if let Err(error) = hardening::no_core_dumps() {
        eprintln!("core dumps could not be switched off: {error}");
    }
    let cli = Cli::parse();
    let Cli { control, command } = cli;
    let socket = control.clone().unwrap_or_else(|| PathBuf::from(Settings::CONTROL));
    let code = match command {
        Command::Run { file, log_json, state } => match daemon::run(file.path(), control, state, log_json) {
            Ended::Asked => 0,
            Ended::Failed => FAILED,
            Ended::Configuration => REFUSED,
        },
        Command::Check { file } => check(file.path()),
        Command::Doctor { file, json } => examine(file.path(), control, json),
        Command::Status { name, json, all } => status(&socket, name.as_deref(), json, all),
        Command::Events { json } => events(&socket, json),
        Command::Show { what, format: Some(format), .. } => translated(&socket, what, format),
        Command::Show { what, json, format: None } => ask(&socket, &Request::Show, json, what),
        Command::Up { target } => {
            let Target { name, timeout } = target;
            ask(&socket, &Request::Up { name, timeout_ms: millis(timeout), progress: true }, false, None)
        }
        Command::Down { target } => {
            let Target { name, timeout } = target;
            ask(&socket, &Request::Down { name, timeout_ms: millis(timeout) }, false, None)
        }
        Command::Rekey { target, ike } => {
            let Target { name, timeout } = target;
            ask(&socket, &Request::Rekey { name, ike, timeout_ms: millis(timeout) }, false, None)
        }
        Command::Block { file } => block(file.path()),
        Command::Release => changed(boundary::release(), "released"),
        Command::Decode { file, keys, json } => decode(&file, keys.as_deref(), json),
        Command::Reload { dry_run } => ask(&socket, &Request::Reload { dry_run }, false, None),
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
            doctor::in_clear_beside(config).iter().for_each(|line| eprintln!("{}: warning: {line}", path.display()));
            let children: usize = config.peers.iter().map(|peer| peer.children.len()).sum();
            let manual = match config.manual.len() {
                0 => String::new(),
                pairs => format!(", pairs of SAs with manual keys {pairs}"),
            };
            print(format_args!(
                "{}: fine: peers {}, children {children}, policies {}{manual}\n",
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
fn examine(path: &Path, control: Option<PathBuf>, json: bool) -> u8 {
    let mut loaded = match configuration::load(path) {
        Ok(loaded) => loaded,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return REFUSED;
        }
    };
    loaded.warnings.iter().for_each(|line| eprintln!("{line}"));
    if let Some(socket) = control {
        loaded.config.gateway.control = socket.to_string_lossy().into_owned();
    }
    let mut worst = Grade::Fine;
    doctor::examine(&loaded.config, &mut |finding| {
        if json {
            let _ = print_json(&finding); // texts always have a form in JSON
        } else {
            print(format_args!("{finding}\n"));
        }
        worst = worst.max(finding.grade);
    });
    if worst == Grade::Failure { FAILED } else { 0 }
}

/// `portcullis decode`.
fn decode(capture: &Path, keys: Option<&Path>, json: bool) -> u8 {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (code, told) = match decode::decode(capture, keys, json, &mut out) {
        Ok(tally) => (if tally.trouble().is_some() { FAILED } else { 0 }, tally.trouble()),
        Err(decode::Refused::Keys(told)) => (REFUSED, Some(told)),
        Err(decode::Refused::Capture(told) | decode::Refused::Output(told)) => (FAILED, Some(told)),
    };
    told.iter().for_each(|line| eprintln!("{line}"));
    code
}

/// `portcullis block`.
fn block(path: &Path) -> u8 {
    match configuration::without_keys(path) {
        Ok(config) => {
            let _log = logging::start(daemon::filter(config.gateway.log), false); // without one it blocks all the same
            changed(boundary::block(config), "blocked")
        }
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            REFUSED
        }
    }
}

/// What came of a change to the boundary.
fn changed(outcome: io::Result<String>, done: &str) -> u8 {
    match outcome {
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
            let Trouble { text, hint } = trouble(format_args!("not {done}"), &error);
            eprintln!("{text}\nhint: {hint}");
            FAILED
        }
    }
}

/// Tells why no daemon answered.
fn unanswered(socket: &Path, error: &std::io::Error) -> u8 {
    eprintln!("no portcullis answers at {}: {}", socket.display(), configuration::reason(error));
    eprintln!(
        "hint: {}",
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => "only root and the daemon's own user may talk to it: use sudo",
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                "start it (systemctl start portcullis), or name its socket with --control"
            }
            _ => "something else listens there, or it is busy: `systemctl status portcullis` and its log say more",
        }
    );
    NO_DAEMON
}

/// `portcullis status`: what there is, and whether it is as it should be.
fn status(socket: &Path, name: Option<&str>, json: bool, all: bool) -> u8 {
    let mut status = match client::call(socket, &Request::Status) {
        Ok(Answer::Status { status }) => status,
        Ok(Answer::Failed { cause }) => {
            eprint!("{}", Because(&cause));
            return FAILED;
        }
        Ok(_) => return unanswered(socket, &std::io::ErrorKind::InvalidData.into()),
        Err(error) => return unanswered(socket, &error),
    };
    if !name.is_none_or(|name| status.narrow(name)) {
        eprintln!(
            "unknown-name: no peer or child has this name\nhint: `portcullis status` lists them; a child is peer/child"
        );
        return FAILED;
    }
    if !all {
        status.counters.retain(|_, count| *count > 0);
    }
    match json {
        true => {
            if let Err(error) = print_json(&status) {
                eprintln!("{error}");
                return FAILED;
            }
        }
        false => print(Table(&status)),
    }
    if status.is_fine(name) { 0 } else { NOT_UP }
}

/// `portcullis events`: until it is interrupted, or the daemon ends.
fn events(socket: &Path, json: bool) -> u8 {
    let write = |event: control::protocol::Event| {
        let mut out = io::stdout().lock();
        let written = match json {
            true => serde_json::to_string(&event).map_err(io::Error::from).and_then(|line| writeln!(out, "{line}")),
            false => writeln!(out, "{}  {}", event.time, event.text),
        };
        written.and_then(|()| out.flush()).is_ok()
    };
    match client::listen(socket, write) {
        Ok(Some(Answer::Failed { cause })) => {
            eprint!("{}", Because(&cause));
            FAILED
        }
        Ok(_) => 0,
        Err(error) => unanswered(socket, &error),
    }
}

/// Asks the daemon and prints its answer.
fn ask(socket: &Path, request: &Request, json: bool, what: Option<cli::What>) -> u8 {
    let progress = |cause: Cause| eprint!("not yet: {}", Because(&cause));
    let answer = match client::call_telling(socket, request, progress) {
        Ok(answer) => answer,
        Err(error) => return unanswered(socket, &error),
    };
    let shown = match &answer {
        Answer::Done { lines } => {
            lines.iter().for_each(|line| print(format_args!("{line}\n")));
            Ok(())
        }
        Answer::Failed { cause } => {
            eprint!("{}", Because(cause));
            return if cause.code == Cause::CONFIGURATION { REFUSED } else { FAILED };
        }
        Answer::Progress { .. } => return unanswered(socket, &io::ErrorKind::InvalidData.into()),
        Answer::Status { status } => print_json(status),
        Answer::Show { show } if json => match what {
            Some(cli::What::Spd) => print_json(&show.spd),
            Some(cli::What::Sa) => print_json(&show.sad),
            Some(cli::What::Ike) => print_json(&show.ike),
            Some(cli::What::Accounts) => print_json(&show.accounts),
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

/// `portcullis show … --format …`.
fn translated(socket: &Path, what: Option<cli::What>, format: cli::Format) -> u8 {
    let put: fn(&Show, Moment) = match (what, format) {
        (Some(cli::What::Spd), cli::Format::Setkey) => |show, moment| print(Policies(&show.spd, moment)),
        (Some(cli::What::Sa), cli::Format::Setkey) => |show, moment| print(Associations(&show.sad, moment)),
        (Some(cli::What::Ike), cli::Format::Racoonctl) => |show, moment| print(Phase1(&show.ike, moment)),
        (_, cli::Format::Setkey) => {
            eprintln!("setkey has no words for this\nhint: `spd` and `sa` can be had in its format");
            return REFUSED;
        }
        (_, cli::Format::Racoonctl) => {
            eprintln!("racoonctl has no words for this\nhint: `ike` can be had in its format");
            return REFUSED;
        }
    };
    match client::call(socket, &Request::Show) {
        Ok(Answer::Show { show }) => {
            put(&show, Moment { now: SystemTime::now(), process: std::process::id() });
            0
        }
        Ok(_) => unanswered(socket, &io::ErrorKind::InvalidData.into()),
        Err(error) => unanswered(socket, &error),
    }
}

fn print_json(value: &impl serde::Serialize) -> serde_json::Result<()> {
    print(format_args!("{}\n", serde_json::to_string(value)?));
    Ok(())
}
