//! `portcullis run`: the daemon.
//!
//! The control thread owns IKE and everything that changes; it waits at its inbox for messages, packets in want of an SA,
//! commands and signals. The data plane's threads run beside it and never wait for it.

mod accounts;
mod books;
mod commands;
mod lines;
mod messages;
mod packets;
mod places;
mod reload;
mod reloading;
mod served;
mod show;
mod snapshot;
mod state;
mod status;
mod tell;
mod told;
mod vigil;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use gateway_core::config::Config;
use gateway_core::gateway::{Reserve, What};
use ipsec_core::error::Discard;
use tracing::{error, info, warn};

use crate::ask::{Question, Trouble, trouble};
use crate::boundary::{Owner, TAKEN, TAKEN_HINT};
use crate::capacity::Need;
use crate::clock::Clock;
use crate::configuration::{self, Loaded};
use crate::control::events::Events;
use crate::control::server::Server;
use crate::inbox::{self, Input, Inputs};
use crate::logging;
use crate::machine::{self, Machine};
use crate::plane::{self, News};
use crate::sequence::{Mark, Order};
use crate::signals::{self, Wish};
use crate::tun::CLONE_DEVICE;
use crate::{doctor, notify};
use served::Served;
use state::Daemon;
pub(crate) use state::{Ended, filter};

/// IKE messages, packets and commands that wait for the control thread; what comes beyond that is dropped, and repeated.
const INBOX: usize = 1024;
/// Inputs taken before timers and commands are looked after.
const TURN: usize = 64;
/// For so long at most: then what the kernel told of is looked at, too.
const TURN_TIME: Duration = Duration::from_millis(100);
/// How long peers are given to answer our Delete at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the start waits for the disk, and the end.
const OPENING: Duration = Duration::from_secs(2);
const CLOSING: Duration = Duration::from_secs(5);
/// How long the end waits for what becomes of a configuration.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How often packets that came before their SA are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// The longest wait: what ends it stands still while the machine sleeps, and the clock does not.
const DOZE: Duration = Duration::from_secs(10);

/// So much later than planned nobody wakes who was only busy.
const SLEPT: Duration = Duration::from_secs(5);

/// Runs the daemon until it is asked to end.
pub(crate) fn run(path: &Path, control: Option<PathBuf>, state: Option<PathBuf>, json: bool) -> Ended {
    let loaded = match configuration::load(path) {
        Ok(loaded) => loaded,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return Ended::Configuration;
        }
    };
    let Loaded { config, warnings } = loaded;
    let (level, _written) = match logging::start(filter(config.gateway.log), json) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("the log cannot be kept: {error}");
            return Ended::Failed;
        }
    };
    warnings.iter().for_each(|line| warn!("{line}"));
    let control = control.unwrap_or_else(|| PathBuf::from(&config.gateway.control));
    // Of several directories that systemd gives, the first.
    let first =
        |all: OsString| all.as_bytes().split(|octet| *octet == b':').next().map(|path| OsStr::from_bytes(path).into());
    let state = state.or_else(|| std::env::var_os("STATE_DIRECTORY").and_then(first));
    match Daemon::start(path, &control, state.as_deref(), config, level) {
        Ok((daemon, inputs)) => daemon.serve(inputs),
        Err(trouble) => {
            error!("{trouble}");
            Ended::Failed
        }
    }
}

impl Daemon {
    fn start(
        path: &Path,
        control: &Path,
        state: Option<&Path>,
        config: Config,
        level: logging::Level,
    ) -> Result<(Self, Inputs), Trouble> {
        // First of all: a second daemon must not touch what the first one has.
        let owner = Owner::claim().map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Trouble { text: TAKEN.to_owned(), hint: TAKEN_HINT.to_owned() },
            _ => trouble(format_args!("the boundary cannot be claimed through {CLONE_DEVICE}"), &error),
        })?;
        let clock = Clock::start();
        let (inbox, inputs) = inbox::open(INBOX);
        let to_inbox = inbox.clone();
        let stops = signals::start(move |wish| to_inbox.send(Input::Wish(wish)))
            .map_err(|error| Trouble::without_hint(format!("signals cannot be taken: {error}")))?;

        let capacity = Need::of(&config).capacity().map_err(Trouble::without_hint)?;
        let found = doctor::forwarding(&config).into_iter().chain(doctor::without_ipv6(&config));
        for line in found.filter(|finding| finding.grade > doctor::Grade::Note) {
            warn!("{}; {}", line.text, line.fix);
        }
        for line in doctor::reminders(&config) {
            info!("{line}");
        }
        let to_inbox = inbox.clone();
        let events = Events::default();
        let calls = move |call| to_inbox.try_send(Input::Call(call));
        let server = Server::start(control, events.clone(), calls).map_err(|error| {
            let hint = "control = \"…\" under [gateway], or --control, names the socket".to_owned();
            Trouble { text: format!("the control socket {} cannot be made: {error}", control.display()), hint }
        })?;
        let made = Machine::start(machine::Parts {
            owner,
            config: &config,
            path,
            state,
            clock,
            capacity: &capacity,
            inbox: &inbox,
        });
        let mut daemon = Self::new(config, capacity, clock, level, stops, made?)?;
        daemon.served = Served::at(server, events);
        // Rules before packets: the device is there, and what waits at it would fit none.
        let (gateway, mut parts) = daemon.lend();
        if let Err(cause) = gateway.start(clock.now(), &mut parts) {
            error!("{cause}");
        }
        let started = plane::start(&daemon.plane, &inbox);
        started.map_err(|error| Trouble::without_hint(format!("no threads to be had: {error}")))?;
        daemon.machine.ask(Question::Keep);
        Ok((daemon, inputs))
    }

    /// Serves the inbox until the daemon is asked to end.
    fn serve(mut self, inputs: Inputs) -> Ended {
        if let Err(ended) = self.open_books(&inputs) {
            return ended;
        }
        info!(version = env!("CARGO_PKG_VERSION"), "portcullis runs");
        notify::notify("READY=1");
        let ended = loop {
            self.settle();
            self.served.look_after(Instant::now());
            if self.vigil.is_due(Instant::now()) {
                self.keep_vigil(Instant::now());
            }
            if self.stops.count() > 0 {
                break Ended::Asked;
            }
            let patience = self.patience();
            let planned = self.clock.now() + patience;
            let input = inputs.recv_timeout(patience);
            let now = self.clock.now();
            if now > planned + SLEPT {
                info!("this machine slept, or we were stopped: every peer is asked for a sign of life");
                let (gateway, mut parts) = self.lend();
                gateway.woke(now, &mut parts);
            }
            match input {
                Ok(first) => {
                    let (stops, begun) = (self.stops.clone(), Instant::now());
                    // Asked before anything is taken off the inbox: what is taken is handled.
                    let goes_on = move || stops.count() == 0 && begun.elapsed() < TURN_TIME;
                    let more = std::iter::from_fn(|| goes_on().then(|| inputs.try_recv()).flatten()).take(TURN);
                    let mut all = std::iter::once(first).chain(more);
                    if let Some(ended) = all.find_map(|input| self.take(input)) {
                        break ended;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ended::Failed,
            }
        };
        self.end(&inputs);
        drop(self); // the machine has a last look at the boundary
        info!("portcullis ends");
        ended
    }

    /// Looks whether packets are kept from passing in clear.
    fn keep_vigil(&mut self, now: Instant) {
        let [_, _, out, ..] = self.machine.dropped();
        let into = self.discarded().get(Discard::InClear);
        let astray = !self.machine.boundary().astray.is_empty();
        self.vigil.look(now, (out, astray), into);
    }

    /// Whatever has to be done before the end.
    fn end(&mut self, inputs: &Inputs) {
        self.ends = true;
        // It says READY yet.
        if self.give_up_reload() {
            let _ = self.wait_for(inputs, LAST_WORD, |daemon| daemon.reloads.are_over());
        }
        self.drop_reload();
        notify::notify("STOPPING=1");
        self.say_farewell(inputs);
        self.served.close();
        self.close_books(inputs);
    }

    /// Waits for what an earlier run kept, or for as long as a start waits for a disk.
    fn open_books(&mut self, inputs: &Inputs) -> Result<(), Ended> {
        if !self.wait_for(inputs, OPENING, |daemon| daemon.books.are_open() || daemon.stops.count() > 0)? {
            warn!(
                "the disk takes too long: what went through before is added when it is read, and nothing kept until then"
            );
        }
        Ok(())
    }

    /// Has the accounts kept for the last time, and waits until that is done, or for as long as one waits for a disk.
    fn close_books(&mut self, inputs: &Inputs) {
        self.order_books();
        if matches!(self.wait_for(inputs, CLOSING, |daemon| daemon.books.are_written()), Ok(false)) {
            warn!("the disk takes too long: what went through since it was kept last is lost");
        }
    }

    /// Takes inputs, as ever, until this holds; `false`: it does not by then.
    fn wait_for(&mut self, inputs: &Inputs, patience: Duration, holds: impl Fn(&Self) -> bool) -> Result<bool, Ended> {
        let until = Instant::now() + patience;
        while !holds(self) {
            let left = until.saturating_duration_since(Instant::now());
            // What is there already is given without waiting, and there may be more of it than ever ends.
            if left.is_zero() {
                return Ok(false);
            }
            match inputs.recv_timeout(left) {
                Ok(input) => self.take(input).map_or(Ok(()), Err)?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// When the gateway wants to be called.
    fn due(&mut self) -> Option<ipsec_core::time::Instant> {
        let (gateway, parts) = self.lend();
        gateway.poll_timeout(&parts)
    }

    /// How long nothing has to be done.
    fn patience(&mut self) -> Duration {
        if self.plane.has_news() {
            return Duration::ZERO; // more than one turn takes
        }
        let now = self.clock.now();
        let due = self.due();
        let core = due.map(|due| due.since(now));
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        let served = self.served.waiting.deadline();
        let waits = [served, self.pending.deadline(), self.books.due(), self.reloads.deadline()];
        let sweep = (!self.early.is_empty()).then_some(SWEEP);
        waits.map(|at| at.map(until)).into_iter().chain([core, sweep]).flatten().min().unwrap_or(DOZE).min(DOZE)
    }

    /// Takes one input; `Some` when it ends the daemon.
    fn take(&mut self, input: Input) -> Option<Ended> {
        // Who ends waits for answers of peers and of the machine. A command, a signal or a packet would begin something.
        if self.ends && !matches!(input, Input::Told(_) | Input::News(News::Ike { .. } | News::Broken { .. })) {
            return None;
        }
        let ended = match input {
            Input::News(news) => self.hear(news),
            Input::Call(call) => {
                self.answer(call);
                None
            }
            Input::Wish(Wish::Stop) => None, // woke us; it is counted
            Input::Wish(Wish::Reload) => {
                self.reload(None);
                None
            }
            Input::Told(answer) => self.told(answer),
        };
        ended.filter(|_| !self.ends)
    }

    /// Takes what the data plane tells; `Some` when it ends the daemon.
    fn hear(&mut self, news: News) -> Option<Ended> {
        let now = self.clock.now();
        match news {
            News::Ike { path, mut message } => {
                self.heard(path, &mut message);
                // Of answers in clear, such as cookies, the endpoint keeps the last one: each goes before the next message comes.
                self.transmit();
            }
            News::Acquire { policy, packet } => self.acquire(Instant::now(), policy, packet),
            News::Clear { policy, packet } => self.clear_meanwhile(policy, &packet),
            News::Early(packet) => self.early.push(packet),
            News::Sas => {} // woke us
            News::Unreachable { path, from, why } => {
                self.gateway.unreachable(now, path, (from, why), &self.endpoint);
            }
            News::Broken { what, error } => {
                error!("{what} failed: {error}");
                return Some(Ended::Failed);
            }
        }
        None
    }

    /// Does what is due: accounts, timers, messages to send, places to find, news to tell, packets to resume, commands to answer.
    fn settle(&mut self) {
        self.resume_early();
        self.keep_books();
        self.expire_reload();
        let now = self.clock.now();
        if self.due().is_some_and(|due| due <= now) {
            // Rekeys begin here with a key exchange, and packets go on meanwhile.
            let (gateway, mut parts) = self.lend();
            gateway.handle_timeout(now, &mut parts);
        }
        self.hear_sas(TURN);
        loop {
            self.transmit();
            if let Some(question) = self.gateway.poll_locate() {
                self.machine.ask(Question::Locate(question));
            } else if let Some(reserve) = self.gateway.poll_reserve() {
                let Reserve { ticket, key, theirs, after, stated, last } = reserve;
                let (mark, theirs) = (Mark::of(key), Mark::of(theirs));
                let order = Order { ticket, mark, theirs, after, stated, last };
                self.machine.ask(Question::SetAside(order));
            } else if let Some(report) = self.gateway.poll_report() {
                if let What::ChildUp { policy, .. } = report.what {
                    self.release(policy);
                }
                self.tell(&report);
            } else if let Some(ended) = self.gateway.poll_ended() {
                tell::ended(&ended);
            } else {
                break;
            }
        }
        let lost = self.pending.expire(Instant::now());
        self.lose(lost);
        if !self.served.waiting.is_empty() {
            let names = self.served.waiting.peers();
            let peers: Vec<_> = names.iter().filter_map(|name| self.peer_named(name)).collect();
            self.served.waiting.settle(Instant::now(), &peers);
        }
    }

    /// Tells the peers that we end, and waits a moment for their answers.
    fn say_farewell(&mut self, inputs: &Inputs) {
        let now = self.clock.now();
        let (gateway, mut parts) = self.lend();
        gateway.shutdown(now, &mut parts);
        let (deadline, asked) = (Instant::now() + FAREWELL, self.stops.count());
        loop {
            self.settle();
            let left = deadline.saturating_duration_since(Instant::now());
            let at_once = self.stops.count() > asked; // asked again
            if at_once || left.is_zero() || self.endpoint.ike_sas().next().is_none() {
                break;
            }
            match inputs.recv_timeout(left.min(self.patience())) {
                Ok(input) => drop(self.take(input)), // answers to our Deletes are what we wait for
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
