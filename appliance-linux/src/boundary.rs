//! The IPsec boundary as the kernel is told of it: what leads protected traffic to the TUN device, and what keeps it from
//! leaving, or entering, in clear. All of it lies in this room, carries the mark of its owner, and is computed anew from
//! the configuration and the kernel's own state whenever either changes; what is missing is put back.
//!
//! * Routing rules send everything into tables of our own except what carries our firewall mark: IKE, ESP and what a
//!   bypass policy lets through, else they would come back to us for ever.
//! * Per remote network there is a route to the TUN device, and the same route as `unreachable` behind it. A `throw` leads
//!   on to the machine's other tables: to our own networks, and to attached ones inside a remote network that means "all".
//! * A remote network `0.0.0.0/0` or `::/0` stands in a second table, so that our outer addresses can pass it by.
//! * Ahead of all that, rules lead what a bypass policy lets through around our device, where they can tell it apart (see
//!   [`around`]).
//! * The guard (see [`guard`]) drops what goes another way nevertheless. It stands before the first route, and says what it
//!   has to say for a new one before that is there. A thread of its own runs nft ([`keeper`]).
//!
//! [`plan`] computes, [`kernel`] and [`guard`] compare and change, [`watch`] wakes. What fails keeps nothing else from being
//! done, stands in [`Health`], and is tried again until it is done ([`retry`]). When the daemon ends, however it ends,
//! all of this stays but the device and the routes to it: nothing passes until the next start, or [`release`].

mod around;
mod attributes;
mod counters;
mod guard;
mod health;
mod home;
mod keeper;
mod kernel;
mod left;
mod legs;
mod look;
mod net;
mod nft;
mod numbers;
mod owner;
mod plan;
pub(crate) mod retry;
mod routes;
mod ruleset;
mod table;
pub(crate) mod watch;
mod ways;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use gateway_core::config::Config;
use tracing::{error, info, warn};

use crate::netlink::Netlink;
use crate::tun::{Place, Tun};
pub(crate) use counters::Tally;
pub(crate) use guard::{COPY, State as GuardState, is_table_of_ours, tables_of_all};
use guard::{Guard, Report};
pub(crate) use health::View;
use health::{Health, Problem, Round, Standing, Told};
use keeper::Keeper;
pub(crate) use kernel::has_ipv6;
use kernel::{Added, Steps};
use left::{Left, Undo};
pub(crate) use left::{bared, blocked, device, foreign_rules, guard_state, release};
use net::Net;
pub(crate) use net::{is_beyond_links, prefixes};
pub(crate) use numbers::MARK;
use owner::{LOST, MARK_OF_OURS};
pub(crate) use owner::{Owner, TAKEN, TAKEN_HINT, is_claimed};
pub(crate) use plan::Intent;
use plan::{Plan, Planned, Seen};
use retry::Retry;
use watch::Touched;

/// A copy of the guard that ends earlier than this after the one before is not made again at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// What the kernel is told, and the right to tell it.
pub(crate) struct Boundary {
    netlink: Netlink,
    /// The device itself: its name can be changed, and be another's.
    tun: Tun,
    intent: Arc<Intent>,
    /// What the kernel said last.
    seen: Seen,
    planned: Planned,
    /// What was applied last: tells what others removed from what we changed ourselves.
    last: Arc<Plan>,
    /// What the guard is to say, and may not say yet.
    says: Arc<str>,
    /// Runs nft.
    guard: Keeper<Report>,
    /// What it reported last.
    standing: Standing,
    dropped: Arc<Tally>,
    /// A copy of the guard has ended.
    copy_ended: Arc<AtomicBool>,
    /// When the last one did.
    last_copy: Option<Instant>,
    /// Whether nft can tell which socket will take a packet.
    sockets: bool,
    /// When what could not be done is tried again: the guard, its copy, and all else.
    guard_again: Retry,
    copy_again: Retry,
    again: Retry,
    change: Change,
    health: Health,
    told: Told,
    /// Comes to its end after the guard, which could set something yet, and before the right to take anything away.
    undo: Undo,
    owner: Owner,
}

/// What becomes of a new configuration.
enum Change {
    /// There is none, or whoever brought it knows.
    Settled,
    /// Not everybody has said what they think of it. This is what the one before asked for.
    Undecided(Arc<Intent>),
    Decided(io::Result<()>),
}

impl Boundary {
    /// Takes over what an earlier run left, and makes it what the configuration asks for, without a gap. `wake` is called
    /// when [`Boundary::try_again`] has something to do before its time; it must not wait.
    ///
    /// # Errors
    /// When the kernel refuses what no configuration can do without. Where nothing was there before there is then nothing
    /// again: until [`Boundary::keep`] or [`Boundary::stop`] the end of this value takes away what it has set.
    pub(crate) fn start(
        owner: Owner,
        tun: Tun,
        config: &Config,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (dropped, copy_ended, wake) = (Arc::new(Tally::begin()), Arc::new(AtomicBool::new(false)), Arc::new(wake));
        let (ended, woken) = (Arc::clone(&copy_ended), Arc::clone(&wake));
        let sockets = guard::tells_sockets();
        let mut guard = Guard::new(Arc::clone(&dropped), sockets, move || {
            ended.store(true, Ordering::SeqCst);
            woken();
        });
        let guard = Keeper::start("guard", move |script| guard.apply(script), move || wake())?;
        let mut boundary = Self { copy_ended, sockets, ..Self::new(owner, tun, dropped, guard)? };
        boundary.undo.arm(&mut boundary.netlink)?;
        let before = kernel::kept(&mut boundary.netlink)?;
        boundary.follow(Intent::of(config));
        boundary.wait_for_guard();
        boundary.followed().unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        let ranges = |(net, left): (Net, Vec<Net>)| (net.range(), left.into_iter().map(Net::range).collect());
        for net in config.bared(before.into_iter().map(ranges)) {
            warn!("{}", bared(net));
        }
        for net in boundary.last.spared.keys() {
            info!(
                "{net} is attached to this machine and stays reachable in clear; name it in a remote-ts to protect it"
            );
        }
        if let Some(why) = &boundary.health.unguarded {
            warn!(
                "no guard ({why}): if somebody removes our routes or rules, packets leave in clear until they are put back; it takes an nft that works (the package is nftables)"
            );
        }
        Ok(boundary)
    }

    fn new(owner: Owner, tun: Tun, dropped: Arc<Tally>, guard: Keeper<Report>) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            tun,
            intent: Arc::default(),
            seen: Seen::default(),
            planned: Planned::default(),
            last: Arc::default(),
            says: Arc::default(),
            guard,
            standing: Standing::default(),
            dropped,
            copy_ended: Arc::default(),
            last_copy: None,
            sockets: false,
            guard_again: Retry::default(),
            copy_again: Retry::default(),
            again: Retry::default(),
            change: Change::Settled,
            health: Health::default(),
            told: Told::new(Instant::now()),
            undo: Undo::default(),
            owner,
        })
    }

    /// From now on it stays, however we end.
    pub(crate) fn keep(&mut self) {
        self.undo.disarm();
    }

    /// Begins to follow a configuration. All or nothing: when the kernel refuses it, it is told the one before again.
    pub(crate) fn follow(&mut self, intent: Intent) {
        let before = std::mem::replace(&mut self.intent, Arc::new(intent));
        if !self.is_undecided() {
            self.change = Change::Undecided(before);
        }
        self.apply(Touched::ALL, true);
    }

    /// What became of it, once; `None`: nobody knows yet.
    pub(crate) fn followed(&mut self) -> Option<io::Result<()>> {
        match std::mem::replace(&mut self.change, Change::Settled) {
            Change::Decided(outcome) => Some(outcome),
            other => {
                self.change = other;
                None
            }
        }
    }

    /// It has not happened, if nobody knows yet what becomes of it (`true`): what the one before asked for is made so again.
    pub(crate) fn give_up(&mut self) -> bool {
        let undecided = self.is_undecided();
        if undecided && let Change::Undecided(before) = std::mem::replace(&mut self.change, Change::Settled) {
            self.intent = before;
            self.apply(Touched::default(), false);
        }
        undecided
    }

    fn is_undecided(&self) -> bool {
        matches!(self.change, Change::Undecided(_))
    }

    /// Waits until the guard has no more to do, as long as that can take: at the start and at the end.
    fn wait_for_guard(&mut self) {
        let until = Instant::now() + guard::patience(self.guard.ordered()) * self.guard.orders();
        while self.guard.is_busy() && self.guard.wait(until) {
            self.apply(Touched::default(), false);
        }
    }

    /// Looks at what may have changed and puts back what is missing.
    ///
    /// # Errors
    /// When that can never be done: the device was moved to another network namespace.
    pub(crate) fn reconcile(&mut self, touched: Touched) -> io::Result<()> {
        self.apply(touched, false);
        match self.tun.place() {
            Ok(Place::Elsewhere) => Err(io::Error::other("it was moved to another network namespace")),
            _ => Ok(()),
        }
    }

    /// When something that failed is to be tried again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let guard = [self.guard_again.at(), self.copy_again.at()].into_iter().flatten();
        guard.filter(|_| !self.guard.is_busy()).chain(self.again.at()).min()
    }

    /// Goes on where the guard has reported, and tries again what failed, when it is time.
    pub(crate) fn try_again(&mut self) {
        if self.guard.has_reported() {
            self.apply(Touched::default(), false);
        }
        // A report that was made before its end would say that it is there.
        if !self.guard.is_busy() && self.copy_ended.swap(false, Ordering::SeqCst) {
            let now = Instant::now();
            // One that ends as soon as it is there waits as if it had failed.
            match self.last_copy.replace(now) {
                Some(before) if now - before < SHORT_LIFE => self.copy_again.failed(now),
                _ => self.copy_again.wanted(now),
            }
        }
        if self.deadline().is_some_and(|at| at <= Instant::now()) {
            self.apply(Touched::default(), false);
        }
    }

    /// How it stands, for whoever shows it.
    pub(crate) fn view(&self) -> View {
        View {
            health: self.health.clone(),
            spared: self.last.spared.keys().map(ToString::to_string).collect(),
            astray: self.last.astray.iter().cloned().collect(),
            left_to_routes: self.intent.left_to_routes.clone(),
        }
    }

    /// What our device is called now, if it is there.
    pub(crate) fn device_name(&self) -> Option<&str> {
        self.seen.device.as_deref()
    }

    /// What the guard dropped, for whoever looks.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.dropped)
    }

    /// What stays of this boundary when it ends now.
    fn left(&mut self) -> Left {
        let nets = match kernel::blocked(&mut self.netlink) {
            Ok(nets) => nets.into_iter().collect(),
            Err(_) => self.last.captured.clone(),
        };
        let guard = table::stands(ruleset::TABLE).unwrap_or(self.standing.has_table());
        let slow = self.guard.is_busy().then_some("nft takes too long");
        // What stood then and does not now was removed by somebody since, whatever nft said of the copy.
        let why = slow.or_else(|| self.standing.why().filter(|_| guard || !self.standing.has_table()));
        Left {
            nets,
            discards: ruleset::discards(&self.says),
            guard,
            old: !(self.standing.is_latest() && self.guard.is_reported()),
            why: why.map(ToOwned::to_owned),
        }
    }

    /// The end: everything stays, and is looked at once more. What stays blocked is told.
    pub(crate) fn stop(mut self) {
        self.finish();
        if self.health.trouble.as_deref() == Some(LOST) {
            return; // what stays is the other one's
        }
        match self.left().last_words() {
            None => {}
            Some(Ok(words)) => warn!("{words}"),
            Some(Err(words)) => error!("{words}"),
        }
    }

    /// Everything is looked at once more before the end, the guard too: there will be no other turn for it.
    fn finish(&mut self) {
        self.keep();
        self.apply(Touched::ALL, true);
        self.wait_for_guard();
    }

    /// Tells the kernel what is missing of the plan. Whatever fails, the rest is done. The guard is asked for when `now` is
    /// set, when somebody touched it or it changes, and when it is its turn again; one that failed waits for its turn.
    fn apply(&mut self, touched: Touched, now: bool) {
        let mut round = Round::default();
        if let Some(report) = self.guard.report() {
            self.reported(report, &mut round);
        }
        // What is ordered now has a report of its own to come.
        if !now && self.is_undecided() && !self.guard.is_busy() && !round.problems.is_empty() {
            // Before a route of it is set and one of the old goes.
            return self.settle(round);
        }
        match self.owner.hold() {
            Ok(held) => round.put_back.extend(held.then(|| MARK_OF_OURS.to_owned())),
            // What is another's is left alone: each would undo what the other does.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return self.lost(),
            Err(error) => round.fails(false, format!("portcullis-own cannot be made again: {error}")),
        }
        let anew = self.is_undecided();
        let tun = look::device(&mut self.netlink, &mut self.tun, &self.intent, anew, &mut round);
        let index = tun.as_ref().map(|(index, _)| *index);
        match look::look(&mut self.netlink, &self.intent, &self.seen, index) {
            Ok(seen) => self.seen = seen,
            Err(error) => round.fails(true, format!("addresses cannot be read: {error}")),
        }
        (self.seen.device, self.seen.sockets) = (tun.map(|(_, name)| name), self.sockets);
        let mut plan = self.planned.of(&self.intent, &self.seen);
        self.says = Arc::clone(&plan.guard);
        self.order(touched, now);
        let whole = !self.guard.owes(&self.says);
        if !whole {
            // Until the guard says the same, what there was stays, and is put back.
            plan = Arc::clone(&self.last);
        }
        if !self.standing.stands() && plan.leads.iter().any(|lead| lead.is_around()) {
            // What these rules take for bypassed nobody would look at again.
            Arc::make_mut(&mut plan).leads.retain(|lead| !lead.is_around());
        }
        self.route(&mut plan, whole, index, &mut round);
        self.tell_of_networks(&plan);
        self.last = plan;
        self.settle(round);
    }

    /// Has the guard looked at, if there is a reason to.
    fn order(&mut self, touched: Touched, now: bool) {
        let asked = self.guard_again.at().is_none() && (touched.guard || *self.says != *self.guard.ordered());
        let due = [&self.guard_again, &self.copy_again].into_iter().any(|again| again.is_due(Instant::now()));
        if now || asked || due && !self.guard.is_busy() {
            self.guard.order(&self.says);
        }
    }

    /// Says which attached networks are reached in clear from now on, which are not although one might think so, and which
    /// of ours are nowhere.
    fn tell_of_networks(&self, plan: &Plan) {
        if !self.last.routes.is_empty() {
            for net in plan.spared.keys().filter(|net| !self.last.spared.contains_key(net)) {
                warn!("{net} is attached to this machine now and is reached in clear");
            }
        }
        for net in plan.unspared.difference(&self.last.unspared) {
            warn!("{net} is attached to this machine and too large to be reached in clear: it stays in the tunnel");
        }
        let becomes = if self.standing.stands() { "is dropped" } else { "leaves in clear, as there is no guard" };
        // Of which there is a rest, that is told.
        let network = |net: &String| net.rsplit(' ').next().map(ToOwned::to_owned);
        let still: Vec<_> = plan.astray.iter().map(network).collect();
        for net in self.last.astray.iter().filter(|net| !still.contains(&network(net))) {
            info!("{net}: no longer led outside where nothing says that it lies");
        }
        let mut astray = plan.astray.difference(&self.last.astray);
        if let Some(net) = astray.next() {
            let more = astray.count();
            let more = if more == 0 { String::new() } else { format!(" (and {more} more networks)") };
            warn!(
                "{net}{more} is on our side, and is led outside, where nothing says that it lies: what peers send there {becomes}; bring its own interface up, or, where it lies there, give it a route of its own"
            );
        }
    }

    /// What follows from what was found.
    fn settle(&mut self, round: Round) {
        let Round { put_back, problems } = round;
        self.tell(&put_back);
        let found = problems.first().map(|problem| problem.text.clone());
        let told = self.trouble(found.or_else(|| self.standing.trouble()));
        if problems.is_empty() && told {
            self.again.done()
        } else {
            self.again.failed(Instant::now())
        }
        if !self.guard.is_busy() {
            let refused = problems.into_iter().find(|problem| problem.serious);
            self.decide(refused.map_or(Ok(()), |problem| Err(io::Error::other(problem.text))));
        }
    }

    /// The right to change anything is another's.
    fn lost(&mut self) {
        self.again.failed(Instant::now());
        self.undo.disarm(); // what there is may be the other one's
        // Its own turn has come when the right is ours again. Until then no copy drops what the other one lets through.
        self.guard_again.done();
        self.copy_again.done();
        if !self.guard.ordered().is_empty() {
            self.guard.order(&Arc::default());
        }
        self.trouble(Some(LOST.to_owned()));
        self.decide(Err(io::Error::other(LOST)));
    }

    /// Everybody has said what they think of the configuration, if there is a new one.
    fn decide(&mut self, outcome: io::Result<()>) {
        if !self.is_undecided() {
            return;
        }
        let refused = outcome.is_err();
        if let Change::Undecided(before) = std::mem::replace(&mut self.change, Change::Decided(outcome))
            && refused
            && before.mtu != 0
        {
            self.intent = before;
            // The routes at once; the guard, which has just failed, at its turn.
            self.apply(Touched::default(), false);
        }
    }

    /// Guard and copy are those of a script, or why not.
    fn reported(&mut self, report: Report, round: &mut Round) {
        // One that was there when it was asked for may have been killed since.
        let copied = report.copied.is_ok() && report.flush_proof;
        for (again, done) in [(&mut self.guard_again, report.loaded.is_ok()), (&mut self.copy_again, copied)] {
            if done { again.done() } else { again.failed(Instant::now()) }
        }
        self.sockets |= report.sockets;
        self.standing.reported(report, round);
        self.health.flush_proof = self.standing.has_copy();
        self.health.unguarded = self.standing.unguarded();
    }

    /// Makes routes and rules those of the plan, or puts back what is missing when it is not the whole one; what the kernel
    /// refused is not in it afterwards. A configuration that is refused takes nothing away.
    fn route(&mut self, plan: &mut Arc<Plan>, whole: bool, tun: Option<u32>, round: &mut Round) {
        let Steps { added, refused, stale } = match kernel::complete(&mut self.netlink, plan, &self.seen, tun) {
            Ok(steps) => steps,
            Err(error) => {
                round.fails(true, format!("routes cannot be read: {error}"));
                let Plan { routes, leads, .. } = Plan::clone(&self.last);
                *plan = Arc::new(Plan { routes, leads, ..Plan::clone(plan) });
                return;
            }
        };
        let missed = added.into_iter().filter(|added| match added {
            Added::Route(route) => self.last.routes.contains_key(route),
            Added::Lead(lead) => self.last.leads.contains(lead),
        });
        round.put_back.extend(missed.map(|added| added.to_string()));
        for refusal in &refused {
            match &refusal.missing {
                Some(Added::Route(route)) => _ = Arc::make_mut(plan).routes.remove(route),
                Some(Added::Lead(lead)) => _ = Arc::make_mut(plan).leads.remove(lead),
                None => {}
            }
        }
        let device = self.seen.device.clone().unwrap_or_default();
        round.problems.extend(refused.into_iter().map(|refusal| Problem::of(refusal, &device)));
        let is_refused = self.is_undecided() && round.is_serious();
        let stale = match whole && !is_refused {
            true => stale,
            false if self.standing.is_gone() => stale.around(),
            false => return,
        };
        let left = kernel::clear(&mut self.netlink, stale);
        round.problems.extend(left.into_iter().map(|refusal| Problem::of(refusal, &device)));
    }

    /// What is not as it should be. `false`: the log does not know of it yet.
    fn trouble(&mut self, trouble: Option<String>) -> bool {
        self.health.trouble = trouble;
        self.told.trouble(self.health.trouble.as_deref(), Instant::now())
    }

    fn tell(&mut self, put_back: &[String]) {
        if put_back.is_empty() {
            return;
        }
        self.health.put_back = self.health.put_back.saturating_add(u64::try_from(put_back.len()).unwrap_or(u64::MAX));
        self.health.last_put_back = Some(SystemTime::now());
        self.told.put_back(put_back, Instant::now());
    }
}

/// `portcullis block`: keeps in what a daemon with this configuration would protect, as one that ended leaves it. Returns
/// what that is.
///
/// # Errors
/// `AddrInUse`: a daemon runs, and keeps it in. What the kernel says otherwise.
pub(crate) fn block(mut config: Config) -> io::Result<String> {
    let owner = Owner::claim()?;
    // Goes with this process, as the device of a daemon does, and the routes to it: no matter whose the name is.
    let device = Tun::create_anywhere()?;
    if let Place::Here(name) = device.place()? {
        config.gateway.tun = name;
    }
    let mut boundary = Boundary::start(owner, device, &config, || {})?;
    let left = boundary.left();
    if left.kept(1).is_some() {
        boundary.keep();
    }
    left.blocked()
}

#[cfg(test)]
mod promise;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;
