//! `portcullis run`: the daemon.
//!
//! The control thread owns IKE and everything that changes; it waits at its inbox for messages, packets in want of an SA,
//! commands and signals. The data plane's threads run beside it and never wait for it.

mod accounts;
mod commands;
mod places;
mod reload;
mod show;
mod status;
mod tell;
mod told;
mod wait;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use gateway_core::config::{Config, LogLevel};
use gateway_core::gateway::{Gateway, Parts};
use gateway_core::peers::Peers;
use ike_core::child::ChildSlot;
use ike_core::endpoint::{self, Endpoint, IkeSlot, IndexBlock, ROOM_PER_BLOCK, ROOM_PER_SA, SaState, Storage};
use ike_core::event::IkeId;
use ipsec_core::error::Discard;
use ipsec_core::net;
use ipsec_core::spd::PolicyId;
use tracing::level_filters::LevelFilter;
use tracing::{debug, enabled, error, info, warn};

use crate::ask::{Question, Trouble, trouble};
use crate::boundary::{Owner, TAKEN, TAKEN_HINT};
use crate::capacity::{Capacity, Need};
use crate::clock::Clock;
use crate::configuration::{self, Loaded};
use crate::control::events::Events;
use crate::control::server::Server;
use crate::control::waiting::Waiting;
use crate::early::Early;
use crate::inbox::{self, Input, Inputs};
use crate::logging::{self, Throttle};
use crate::machine::{self, Machine};
use crate::pending::Pending;
use crate::plane::{self, Engines, News, Plane};
use crate::provider;
use crate::signals::{self, Stops, Wish};
use crate::story;
use crate::tun::CLONE_DEVICE;
use crate::{doctor, notify};
use accounts::Books;
use reload::Reload;
use status::Published;

/// IKE, as this appliance runs it.
type IkeEndpoint = Endpoint<'static, provider::Ike, Peers>;

/// IKE messages, packets and commands that wait for the control thread; what comes beyond that is dropped, and repeated.
const INBOX: usize = 1024;
/// Inputs taken before timers and commands are looked after.
const TURN: usize = 64;
/// For so long at most: then what the kernel told of is looked at, too.
const TURN_TIME: Duration = Duration::from_millis(100);
/// How long peers are given to answer our Delete at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often packets that came before their SA are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// The longest wait: what ends it stands still while the machine sleeps, and the clock does not.
const DOZE: Duration = Duration::from_secs(10);

/// So much later than planned nobody wakes who was only busy.
const SLEPT: Duration = Duration::from_secs(5);

/// Why the daemon ended.
pub(crate) enum Ended {
    /// Somebody asked for it.
    Asked,
    /// The configuration is wrong: told already.
    Configuration,
    /// The machine does not grant what is needed, or no longer does: told already.
    Failed,
}

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

pub(crate) fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// The control thread's state.
pub(crate) struct Daemon {
    pub(crate) level: logging::Level,
    pub(crate) clock: Clock,
    /// Asks for the end.
    stops: Stops,
    pub(crate) machine: Machine,
    pub(crate) capacity: Capacity,
    pub(crate) plane: Arc<Plane>,
    /// What this thread has put into the engines, and the engines, locked for single steps.
    engines: Engines,
    pub(crate) endpoint: IkeEndpoint,
    pub(crate) gateway: Gateway,
    pending: Pending,
    early: Early,
    pub(crate) waiting: Waiting,
    /// A configuration that is being read, or that the boundary is being told of.
    reload: Option<Reload>,
    /// Log lines about messages that came in, those that answer them, and those that could not be sent: strangers decide how
    /// many there are.
    received: Throttle,
    sent: Throttle,
    unsent: Throttle,
    /// Held for its drop, which removes the socket.
    server: Option<Server>,
    /// Who wants to hear what happens.
    events: Events,
    /// What went through, over restarts.
    books: Books,
    /// What was shown last.
    published: Published,
    /// How often the file was asked for: the number of the last time.
    asked: u64,
    /// Nothing new begins any more.
    ends: bool,
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
        (daemon.server, daemon.events) = (Some(server), events);
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

    /// A daemon for whom nothing has begun.
    fn new(
        config: Config,
        capacity: Capacity,
        clock: Clock,
        level: logging::Level,
        stops: Stops,
        (machine, plane): (Machine, Arc<Plane>),
    ) -> Result<Self, Trouble> {
        let settings = endpoint::Settings {
            cookie_threshold: usize::from(config.gateway.cookie_threshold),
            half_open_limit: capacity.half_open(),
            ..endpoint::Settings::default()
        };
        let (gateway, peers) = Gateway::new(config);
        let endpoint = endpoint_for(&capacity, peers, settings)?;
        Ok(Self {
            level,
            clock,
            stops,
            machine,
            capacity,
            engines: plane.engines(),
            endpoint,
            gateway,
            pending: Pending::default(),
            early: Early::new(plane.early()),
            plane,
            waiting: Waiting::default(),
            reload: None,
            received: Throttle::new(200, Duration::from_secs(10), Instant::now()),
            sent: Throttle::new(200, Duration::from_secs(10), Instant::now()),
            unsent: Throttle::new(10, Duration::from_secs(60), Instant::now()),
            server: None,
            events: Events::default(),
            books: Books::default(),
            published: Published::default(),
            asked: 0,
            ends: false,
        })
    }

    /// The gateway, and what it works on.
    fn lend(&mut self) -> (&mut Gateway, Parts<'_, 'static, provider::Ike>) {
        (&mut self.gateway, Parts { endpoint: &mut self.endpoint, plane: &mut self.engines })
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
            if let Some(server) = &mut self.server {
                server.look_after(Instant::now());
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

    /// Whatever has to be done before the end.
    fn end(&mut self, inputs: &Inputs) {
        self.ends = true;
        self.give_up_reload(inputs); // it says READY yet
        notify::notify("STOPPING=1");
        self.say_farewell(inputs);
        self.server = None;
        self.close_books(inputs);
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
        let reload = self.reload.as_ref().and_then(Reload::deadline);
        let waits = [self.waiting.deadline(), self.pending.deadline(), self.books.due(), reload];
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

    /// An IKE message came. The key exchange happens here, and packets go on meanwhile.
    fn heard(&mut self, path: net::Path, message: &mut [u8]) {
        let now = self.clock.now();
        let (gateway, mut parts) = self.lend();
        let dropped = gateway.handle_datagram(now, path, message, &mut parts);
        if enabled!(tracing::Level::DEBUG)
            && let Some(others) = self.received.admit(Instant::now())
        {
            let (octets, dropped) = (message.len(), dropped.map(|discard| format!("{discard:?}")));
            let what = story::heard(self.endpoint.last_message(), message);
            debug!(remote = %path.remote, octets, dropped, others, "received {what}");
        }
    }

    /// What SAs have to tell, as much as a turn takes, and which are wanted.
    fn hear_sas(&mut self) {
        self.plane.listens();
        for (policy, packet) in self.plane.wanted() {
            self.acquire(Instant::now(), policy, packet);
        }
        let now = self.clock.now();
        for _ in 0..TURN {
            let Some(event) = self.engines.poll_event() else { return };
            let (gateway, mut parts) = self.lend();
            gateway.handle_plane(now, event, &mut parts);
        }
    }

    /// A packet has no SA since this moment: keeps it when one is on its way.
    fn acquire(&mut self, since: Instant, policy: PolicyId, packet: Vec<u8>) {
        let now = self.clock.now();
        // It may have come up while the packet was on its way here.
        if self.plane.resume(&packet) {
            return;
        }
        let (gateway, mut parts) = self.lend();
        let lost = match gateway.acquire(now, policy, &packet, &mut parts) {
            true => self.pending.push(since, policy, packet),
            false => 1,
        };
        self.lose(lost);
    }

    /// Packets that were here before the answer that made their SA.
    fn resume_early(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let (ripe, lost) = self.early.ripe(Instant::now(), |spi| self.endpoint.meaning_of(spi));
        if lost > 0 {
            let mut engine = self.plane.inbound();
            (0..lost).for_each(|_| engine.count(Discard::InUnknownSpi));
        }
        for mut packet in ripe {
            let _ = self.plane.deliver(packet.origin, &mut packet.datagram); // its SA is asked with the others
        }
    }

    /// Packets that waited in vain are counted.
    fn lose(&self, packets: usize) {
        let mut engine = self.plane.outbound();
        (0..packets).for_each(|_| engine.count(Discard::OutNoSa));
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
        self.hear_sas();
        loop {
            self.transmit();
            if let Some(question) = self.gateway.poll_locate() {
                self.machine.ask(Question::Locate(question));
            } else if let Some(report) = self.gateway.poll_report() {
                self.tell(&report);
            } else if let Some(ended) = self.gateway.poll_ended() {
                tell::ended(&ended);
            } else {
                break;
            }
        }
        let lost = self.pending.expire(Instant::now());
        self.lose(lost);
        if !self.waiting.is_empty() {
            let names = self.waiting.peers();
            let peers: Vec<_> = names.iter().filter_map(|name| self.peer_named(name)).collect();
            self.waiting.settle(Instant::now(), &peers);
        }
    }

    pub(crate) fn transmit(&mut self) {
        // Before the offer leaves, and after the answer was taken.
        self.early.expect(self.endpoint.offers());
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let (ike, path) = (transmit.ike, transmit.path);
            let (octets, repeated) = (transmit.datagram.len(), transmit.repeated);
            if enabled!(tracing::Level::DEBUG)
                && let Some(others) = self.sent.admit(Instant::now())
            {
                match transmit.outline {
                    Some(what) => debug!(remote = %path.remote, octets, repeated, others, "sent {what}"),
                    None => debug!(remote = %path.remote, octets, others, "sent a NAT keepalive"),
                }
            }
            let sent = self.plane.send(path, 0, transmit.datagram).map_err(|error| self.machine.why_not_sent(&error));
            let Some(ike) = ike else {
                if let Err(unsent) = &sent {
                    self.tell_unsent(None, path, &unsent.why);
                }
                continue;
            };
            // For a call alone the kernel is asked where it went: what strangers send us costs no question.
            let view = self.endpoint.ike_sa(ike).filter(|_| sent.is_ok());
            match view.is_some_and(|view| view.state == SaState::Connecting && view.waiting.is_some()) {
                true => self.machine.ask(Question::Sent { ike, path }),
                false => self.sent(ike, path, sent),
            }
        }
    }

    /// Whether an IKE SA is with a peer that is gone from the configuration.
    fn is_of_nobody(&self, ike: Option<IkeId>) -> bool {
        let peer = ike.and_then(|ike| self.endpoint.ike_sa(ike)?.peer);
        peer.is_some_and(|id| self.endpoint.pad().get(id).is_none())
    }

    /// Tells that a message could not be sent. A peer that is gone from the configuration was told once that it is; that the
    /// repetitions do not go, as nobody listens there any more, is nothing to be looked after.
    fn tell_unsent(&mut self, ike: Option<IkeId>, path: net::Path, why: &str) {
        if self.is_of_nobody(ike) {
            debug!(local = %path.local, remote = %path.remote, "an IKE message to a peer that is gone could not be sent: {why}");
        } else if let Some(others) = self.unsent.admit(Instant::now()) {
            let peer = ike.and_then(|ike| self.endpoint.ike_sa(ike)?.peer);
            let peer = peer.and_then(|id| self.endpoint.pad().get(id)).map(|peer| peer.name.as_str());
            warn!(peer, local = %path.local, remote = %path.remote, others, "an IKE message could not be sent: {why}");
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

/// The endpoint borrows its tables; ours live as long as the process does.
fn endpoint_for(capacity: &Capacity, peers: Peers, settings: endpoint::Settings) -> Result<IkeEndpoint, Trouble> {
    let sas = (0..capacity.ike_sas).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak();
    let children = (0..capacity.child_sas).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>().leak();
    let blocks = IndexBlock::needed(capacity.ike_sas, capacity.child_sas);
    let index = (0..blocks).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak();
    let pairs = vec![0; capacity.ike_sas * ROOM_PER_SA].leak();
    let pool = vec![0; capacity.blocks * ROOM_PER_BLOCK].leak();
    let storage = Storage { sas, children, index, pairs, pool, blocks: capacity.blocks };
    Endpoint::new(provider::ike(), peers, storage, settings).map_err(|_| Trouble {
        text: "too many peers or children for one gateway".to_owned(),
        hint: "at most 65,535 SAs of each kind fit".to_owned(),
    })
}

#[cfg(test)]
mod tests;
