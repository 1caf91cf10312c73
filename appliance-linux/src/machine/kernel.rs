//! The thread that the kernel is asked and told by: TUN device, boundary, addresses, ways, sockets.
//!
//! What the kernel tells of goes here and is put back here; the control thread hears what follows for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use gateway_core::cause::Cause;
use gateway_core::config::{Config, Remote};
use gateway_core::gateway::{Locate, Ticket};
use tracing::{info, warn};

use super::ways::Ways;
use crate::ask::{Answer, Needs, Question, Stands, Trouble, trouble};
use crate::boundary::retry::Retry;
use crate::boundary::watch::{self, Touched};
use crate::boundary::{Boundary, Owner, Tally};
use crate::capacity::Capacity;
use crate::clear::ClearSockets;
use crate::clock::Clock;
use crate::configuration;
use crate::disk;
use crate::inbox::{Inbox, Input};
use crate::ledger::{self, Ledger, Said};
use crate::listen;
use crate::netlink::LocalAddr;
use crate::plane::{Hosts, Plane, Sockets};
use crate::resolve::{self, Resolver};
use crate::sequence::{self, Outcome, Sequence};
use crate::socket::Listen;
use crate::tun::{CLONE_DEVICE, Tun};

/// The longest wait: what ends it stands still while the machine sleeps, and the clock does not.
const DOZE: Duration = Duration::from_secs(10);

/// What the kernel told of waits no longer for questions, however many there are: of it may be a rule that somebody removed.
const TURN_TIME: Duration = Duration::from_millis(100);

/// What the machine is made of.
pub(crate) struct Parts<'p> {
    pub(crate) owner: Owner,
    pub(crate) config: &'p Config,
    /// Where the configuration is read again.
    pub(crate) path: &'p Path,
    /// What is to last lies there.
    pub(crate) state: Option<&'p Path>,
    pub(crate) clock: Clock,
    pub(crate) capacity: &'p Capacity,
    pub(crate) inbox: &'p Inbox,
}

/// What there is to do.
pub(super) enum Work {
    /// The control thread asks.
    Question(Question),
    /// The kernel tells: something of the boundary, or interfaces and addresses, may have changed.
    Touched(Touched),
    /// The resolver answers.
    Resolved { question: Locate, result: resolve::Answer },
    /// The thread that runs nft is done with something.
    Guarded,
    /// The daemon ends.
    End,
}

/// What the kernel is asked through, and what it was told.
pub(super) struct Kernel {
    path: PathBuf,
    boundary: Boundary,
    ways: Ways,
    plane: Arc<Plane>,
    resolver: Resolver<Locate>,
    ledger: Ledger,
    sequence: Sequence,
    /// Who is told.
    inbox: Inbox,
    /// What to listen to, as far as it is there.
    wanted: BTreeSet<Listen>,
    /// The interfaces among it that are not there.
    missing: BTreeSet<String>,
    /// What of it could not be opened although it is there.
    closed: BTreeSet<Listen>,
    /// What to listen to instead, once a new configuration is taken up.
    next: Option<BTreeSet<Listen>>,
    /// When that is tried again, or addresses that could not be followed are.
    listening: Retry,
    /// Whether there are such addresses.
    behind: bool,
    /// What the kernel has told of since it was looked at.
    touched: Touched,
    /// What was told of how things stand.
    told: Stands,
    /// The boundary stays closed at the end.
    kept: bool,
}

impl Kernel {
    /// Makes the TUN device and opens the sockets, then leads traffic to the device. In this order: nothing of the
    /// machine is changed unless everything can be had.
    pub(super) fn start(parts: Parts<'_>, works: &Sender<Work>) -> Result<(Self, Arc<Plane>), Trouble> {
        let Parts { owner, config, path, state, clock, capacity, inbox } = parts;
        let ledger = Ledger::start(state, inbox.clone()).map_err(|error| trouble("accounts cannot be kept", &error))?;
        let sequence =
            Sequence::start(state, inbox.clone()).map_err(|error| trouble("numbers cannot be kept", &error))?;
        let name = &config.gateway.tun;
        let tun = Tun::create(name).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => Trouble {
                text: format!("the interface {name} exists already"),
                hint: "another portcullis runs, or another name is needed: tun = \"…\" under [gateway]".to_owned(),
            },
            _ => trouble(format_args!("the TUN device {name} cannot be made through {CLONE_DEVICE}"), &error),
        })?;
        let handle = tun.handle().map_err(|error| trouble("the TUN device cannot be had twice", &error))?;
        let clear = ClearSockets::open().map_err(|error| trouble("raw sockets cannot be opened", &error))?;
        let plane =
            Plane::new(tun, clear, clock, capacity).map_err(|error| trouble("the data plane cannot start", &error))?;
        let plane = plane.with(&config.gateway);
        plane.set_hosts(Hosts::of(config));
        let ways = Ways::open(config.gateway.outside.clone());
        let mut ways = ways.map_err(|error| trouble("netlink cannot be opened", &error))?;
        let wanted = listen::wanted(config, &config.gateway.outside);
        let opened = listen::open(&wanted, &Sockets::default());
        if let Some(refused) = opened.refused.first() {
            return Err(not_open(refused));
        }
        let ours = ways.addresses().map_err(|error| trouble("the addresses of this machine cannot be read", &error))?;
        let missing = listen::missing(&wanted, &opened.sockets);
        tell_of_interfaces(&BTreeSet::new(), &missing);
        plane
            .set_sockets(Sockets::new(opened.sockets, &ours))
            .map_err(|error| trouble("the data plane cannot start", &error))?;
        let tell = works.clone();
        let resolver = Resolver::start(move |question, result| _ = tell.send(Work::Resolved { question, result }))
            .map_err(|error| trouble("names cannot be asked for", &error))?;
        // Watched from before the first change, so that nothing is missed in between.
        let tell = works.clone();
        watch::start(move |touched| _ = tell.send(Work::Touched(touched)))
            .map_err(|error| trouble("the kernel's routes cannot be watched", &error))?;
        let tell = works.clone();
        let boundary = Boundary::start(owner, handle, config, move || _ = tell.send(Work::Guarded));
        let boundary = boundary.map_err(|error| trouble("routes and guard cannot be set", &error))?;
        let plane = Arc::new(plane);
        let kernel = Self {
            path: path.to_owned(),
            told: Stands { boundary: boundary.view(), missing: missing.clone() },
            boundary,
            ways,
            plane: Arc::clone(&plane),
            resolver,
            ledger,
            sequence,
            inbox: inbox.clone(),
            wanted,
            next: None,
            missing,
            closed: BTreeSet::new(),
            listening: Retry::default(),
            behind: false,
            touched: Touched::default(),
            kept: false,
        };
        Ok((kernel, plane))
    }

    /// How things stand.
    pub(super) fn stands(&self) -> Stands {
        Stands { boundary: self.boundary.view(), missing: self.missing.clone() }
    }

    /// What the guard counts.
    pub(super) fn dropped(&self) -> Arc<Tally> {
        self.boundary.tally()
    }

    /// Works until the daemon ends. Then the boundary is left closed, or, where the daemon never ran, as it was; the device
    /// goes with the process.
    pub(super) fn run(mut self, works: &Receiver<Work>) {
        loop {
            let patience = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            match works.recv_timeout(patience.unwrap_or(DOZE).min(DOZE)) {
                Ok(first) => {
                    let begun = Instant::now();
                    let more = std::iter::from_fn(|| (begun.elapsed() < TURN_TIME).then(|| works.try_recv().ok())?);
                    for work in std::iter::once(first).chain(more) {
                        if matches!(work, Work::End) {
                            return self.end();
                        }
                        self.take(work);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            self.settle();
        }
    }

    fn end(self) {
        if self.kept {
            self.boundary.stop();
        }
    }

    fn tell(&self, answer: Answer) {
        self.inbox.send(Input::Told(answer));
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Question(question) => self.answer(question),
            Work::Touched(touched) => self.touched.add(touched),
            Work::Resolved { question, result } => self.located(question, result),
            Work::Guarded | Work::End => {} // woke us
        }
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Locate(question) => match question.remote.clone() {
                Remote::Address(address) => self.located(question, Ok(vec![address])),
                Remote::Name(name) => {
                    if let Err(question) = self.resolver.ask(name, question) {
                        self.located(question, Err("too many names are being asked for".to_owned()));
                    }
                }
            },
            Question::Ways(open) => {
                // If not, it is tried again.
                if let Ok(ours) = self.readdress() {
                    let (there, gone) = open.into_iter().partition(|(local, _)| ours.contains_key(local));
                    let astray = self.ways.astray(&ours, there, self.device().as_deref());
                    self.tell(Answer::Ways { gone, astray });
                }
            }
            Question::Sent { ike, path } => {
                let astray = self.ways.back(path.local.ip(), path.remote.ip(), self.device().as_deref());
                self.tell(Answer::Sent { ike, path, astray });
            }
            Question::Configuration(number) => self.read(number),
            Question::Follow(needs) => self.follow(*needs),
            Question::TakenUp => {
                if let Some(wanted) = self.next.take() {
                    self.wanted = wanted;
                    self.tell(Answer::Moved);
                }
            }
            Question::GiveUp => {
                if self.next.is_some() && self.boundary.give_up() {
                    self.next = None;
                    self.tell(Answer::Followed(Err(Trouble::without_hint("the daemon ends".to_owned()))));
                }
            }
            Question::Keep => {
                self.kept = true;
                self.boundary.keep();
            }
            Question::Accounts(accounts) => self.ledger.keep(accounts),
            Question::SetAside(order) => self.sequence.order(order),
        }
    }

    /// In a thread of its own each time: where the file lies may answer late or never.
    fn read(&self, number: u64) {
        let read = disk::thread("configuration", (self.path.clone(), self.inbox.clone(), number), |it| {
            let (path, inbox, number) = it;
            let read = configuration::load(&path).map(Box::new);
            inbox.send(Input::Told(Answer::Read { number, read }));
        });
        if let Err(error) = read {
            let read = Err(vec![format!("{}: {error}", self.path.display())]);
            self.tell(Answer::Read { number, read });
        }
    }

    /// Does what is due: what the kernel told of, once for all that it told meanwhile (what we change ourselves it tells
    /// too, and of thousands of routes again and again), and what failed.
    fn settle(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        if touched.any() {
            if let Err(error) = self.boundary.reconcile(touched) {
                self.tell(Answer::Failed(format!("the TUN device failed: {error}")));
            }
            if touched.addresses {
                self.tell(Answer::Moved);
            }
        }
        self.boundary.try_again();
        if self.listening.is_due(Instant::now()) {
            self.listen_again();
        }
        let followed = if self.next.is_some() { self.boundary.followed() } else { None };
        let followed = followed.map(|outcome| self.followed(outcome));
        let stands = self.stands();
        if stands != self.told {
            self.told = stands.clone();
            self.tell(Answer::Stands(stands));
        }
        if let Some(outcome) = followed {
            self.tell(Answer::Followed(outcome)); // who hears it looks at how things stand
        }
    }

    /// Begins to make routes and guard those of a new configuration, once its sockets can be had. The running one goes on.
    fn follow(&mut self, Needs { intent, wanted }: Needs) {
        let refused = listen::refused(&wanted, &self.plane.sockets());
        // What is closed already is tried again as before.
        if let Some(refused) = refused.iter().find(|(listen, _)| !self.closed.contains(listen)) {
            return self.tell(Answer::Followed(Err(not_open(refused))));
        }
        self.next = Some(wanted);
        self.boundary.follow(intent);
    }

    /// The boundary has followed, or has not. Where it has, who is gone is told through the sockets that he knows, and who
    /// is new is called through his: until it is taken up, both are listened to.
    fn followed(&mut self, outcome: io::Result<()>) -> Result<(), Trouble> {
        match &outcome {
            Ok(()) => {
                self.wanted.extend(self.next.iter().flatten().cloned());
                let _ = self.readdress(); // it has told, and tries again
            }
            Err(_) => self.next = None,
        }
        outcome.map_err(|error| trouble("routes and guard cannot be set", &error))
    }

    /// Our addresses, as far as they are there now, with their interfaces; the data plane sends through the interfaces that have them, and
    /// listens on those outside interfaces that are there.
    ///
    /// # Errors
    /// What the kernel says, which the log is told once. It is tried again: see [`Kernel::settle`].
    fn readdress(&mut self) -> io::Result<BTreeMap<IpAddr, BTreeSet<u32>>> {
        let listened = self.ways.addresses().and_then(|ours| self.listen(&ours).map(|()| ours));
        let was_behind = std::mem::replace(&mut self.behind, listened.is_err());
        let ours = listened.inspect_err(|error| {
            self.listening.failed(Instant::now());
            if !was_behind {
                warn!("the addresses of this machine cannot be followed: {error}; this is tried again");
            }
        })?;
        let mut links: BTreeMap<IpAddr, BTreeSet<u32>> = BTreeMap::new();
        for local in ours {
            links.entry(local.addr).or_default().insert(local.link);
        }
        Ok(links)
    }

    /// Listens to what there is of what is wanted; what cannot be opened is tried again.
    fn listen(&mut self, ours: &[LocalAddr]) -> io::Result<()> {
        let opened = listen::open(&self.wanted, &self.plane.sockets());
        for refused in opened.refused.iter().filter(|(listen, _)| !self.closed.contains(listen)) {
            warn!("{}", not_open(refused));
        }
        let closed: BTreeSet<Listen> = opened.refused.into_iter().map(|(listen, _)| listen).collect();
        let opened_since = |listen: &&Listen| opened.sockets.iter().any(|socket| socket.hears(listen));
        for listen in self.closed.difference(&closed).filter(opened_since) {
            info!("{listen} is open again");
        }
        self.closed = closed;
        let missing = listen::missing(&self.wanted, &opened.sockets);
        tell_of_interfaces(&self.missing, &missing);
        self.missing = missing;
        self.plane.set_sockets(Sockets::new(opened.sockets, ours))?;
        if self.closed.is_empty() {
            self.listening.done();
        } else {
            self.listening.failed(Instant::now());
        }
        Ok(())
    }

    /// When something that the kernel refused is to be tried again.
    fn deadline(&self) -> Option<Instant> {
        self.boundary.deadline().into_iter().chain(self.listening.at()).min()
    }

    /// Listens again; where addresses could not be followed, asks to be asked for them.
    fn listen_again(&mut self) {
        if self.behind {
            self.listening.failed(Instant::now());
            self.tell(Answer::Moved);
        } else if self.ways.addresses().and_then(|ours| self.listen(&ours)).is_err() {
            self.listening.failed(Instant::now());
        }
    }

    /// Tells what there is to know about where a peer is.
    fn located(&mut self, question: Locate, result: resolve::Answer) {
        let located = match (result, &question.remote) {
            (Ok(resolved), _) => Ok(self.ways.to(&question, resolved, self.device().as_deref())),
            (Err(why), Remote::Name(name)) => Err(Cause::unresolved(name, &why)),
            (Err(why), Remote::Address(_)) => Err(Cause::unroutable(&why)),
        };
        self.tell(Answer::Located { question, located });
    }

    /// What our device is called now, if it is there.
    fn device(&self) -> Option<String> {
        self.boundary.device_name().map(ToOwned::to_owned)
    }
}

impl sequence::Listener for Inbox {
    fn set_aside(&self, ticket: Ticket, outcome: Outcome) {
        self.send(Input::Told(Answer::SetAside { ticket, outcome }));
    }
}

impl ledger::Listener for Inbox {
    fn hear(&self, said: Said) {
        self.send(Input::Told(match said {
            Said::Before(before) => Answer::BroughtForward(before),
            Said::Kept => Answer::Kept,
        }));
    }
}

/// Says which outside interfaces came and went.
fn tell_of_interfaces(before: &BTreeSet<String>, now: &BTreeSet<String>) {
    for name in now.difference(before) {
        warn!("there is no interface {name}: nothing is heard and sent there until there is");
    }
    for name in before.difference(now) {
        info!("the interface {name} is there: listening on it");
    }
}

fn not_open((listen, error): &(Listen, io::Error)) -> Trouble {
    trouble(format_args!("{listen} cannot be opened"), error)
}

#[cfg(test)]
mod tests;
