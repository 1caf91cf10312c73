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
//! done, stands in [`Health`], and is tried again until it is done ([`retry`], and [`guarding`] for what the guard is asked). A
//! new configuration is followed or refused as a whole ([`change`]). When the daemon ends, however it ends, all of this stays
//! but the device and the routes to it: nothing passes until the next start, or [`release`].

mod around;
mod attributes;
mod change;
mod counters;
mod guard;
mod guarding;
mod health;
mod home;
mod intent;
mod keeper;
mod kernel;
mod left;
mod legs;
mod look;
mod net;
mod networks;
mod nft;
mod numbers;
mod owner;
mod plan;
pub(crate) mod retry;
mod routes;
mod routing;
mod ruleset;
mod table;
pub(crate) mod watch;
mod ways;

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use gateway_core::config::Config;
use tracing::{error, warn};

use crate::netlink::Netlink;
use crate::tun::{Place, Tun};
use change::Change;
pub(crate) use counters::{Dropped, Tally};
pub(crate) use guard::{COPY, State as GuardState, is_table_of_ours, tables_of_all};
use guarding::Guarding;
pub(crate) use health::View;
use health::{Health, Round, Told};
pub(crate) use intent::Intent;
pub(crate) use kernel::has_ipv6;
use left::{Left, Undo};
pub(crate) use left::{bared, blocked, device, foreign_rules, guard_state, release};
use net::Net;
pub(crate) use net::{is_beyond_links, prefixes};
pub(crate) use numbers::MARK;
use owner::{LOST, MARK_OF_OURS};
pub(crate) use owner::{Owner, TAKEN, TAKEN_HINT, is_claimed};
use plan::{Plan, Planned, Seen};
use retry::Retry;
use watch::Touched;

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
    guard: Guarding,
    dropped: Arc<Tally>,
    /// When what could not be done is tried again: all but the guard.
    again: Retry,
    change: Change,
    health: Health,
    told: Told,
    /// Comes to its end after the guard, which could set something yet, and before the right to take anything away.
    undo: Undo,
    owner: Owner,
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
        let dropped = Arc::new(Tally::begin());
        let guard = Guarding::start(Arc::clone(&dropped), wake)?;
        let mut boundary = Self::new(owner, tun, dropped, guard)?;
        boundary.undo.arm(&mut boundary.netlink)?;
        let before = kernel::kept(&mut boundary.netlink)?;
        boundary.follow(Intent::of(config));
        boundary.wait_for_guard();
        boundary.followed().unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        let ranges = |(net, left): (Net, Vec<Net>)| (net.range(), left.into_iter().map(Net::range).collect());
        for net in config.bared(before.into_iter().map(ranges)) {
            warn!("{}", bared(net));
        }
        networks::tell_spared(&boundary.last);
        if let Some(why) = &boundary.health.unguarded {
            warn!(
                "no guard ({why}): if somebody removes our routes or rules, packets leave in clear until they are put back; it takes an nft that works (the package is nftables)"
            );
        }
        Ok(boundary)
    }

    fn new(owner: Owner, tun: Tun, dropped: Arc<Tally>, guard: Guarding) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            tun,
            intent: Arc::default(),
            seen: Seen::default(),
            planned: Planned::default(),
            last: Arc::default(),
            guard,
            dropped,
            again: Retry::default(),
            change: Change::default(),
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
        self.change.begin(before);
        self.apply(Touched::ALL, true);
    }

    /// What became of it, once; `None`: nobody knows yet.
    pub(crate) fn followed(&mut self) -> Option<io::Result<()>> {
        self.change.outcome()
    }

    /// It has not happened, if nobody knows yet what becomes of it (`true`): what the one before asked for is made so again.
    pub(crate) fn give_up(&mut self) -> bool {
        let Some(before) = self.change.give_up() else { return false };
        self.intent = before;
        self.apply(Touched::default(), false);
        true
    }

    /// Waits until the guard has no more to do, as long as that can take: at the start and at the end.
    fn wait_for_guard(&mut self) {
        let until = self.guard.patience();
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
        self.guard.deadline().into_iter().chain(self.again.at()).min()
    }

    /// Goes on where the guard has reported, and tries again what failed, when it is time.
    pub(crate) fn try_again(&mut self) {
        if self.guard.has_reported() {
            self.apply(Touched::default(), false);
        }
        self.guard.look_after_copy();
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
            clear_meanwhile: self.intent.clear_meanwhile.clone(),
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
        Left::of(&mut self.netlink, &self.guard, &self.last.captured)
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

    /// Tells the kernel what is missing of the plan. Whatever fails, the rest is done. `now`: the guard is looked at in any case
    /// ([`Guarding::order`]).
    fn apply(&mut self, touched: Touched, now: bool) {
        let mut round = Round::default();
        self.guard.hear(&mut round);
        self.health.flush_proof = self.guard.standing().has_copy();
        self.health.unguarded = self.guard.standing().unguarded();
        // What is ordered now has a report of its own to come.
        if !now && self.change.is_undecided() && !self.guard.is_busy() && !round.problems.is_empty() {
            // Before a route of it is set and one of the old goes.
            return self.settle(round);
        }
        match self.owner.hold() {
            Ok(held) => round.put_back.extend(held.then(|| MARK_OF_OURS.to_owned())),
            // What is another's is left alone: each would undo what the other does.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return self.lost(),
            Err(error) => round.fails(false, format!("portcullis-own cannot be made again: {error}")),
        }
        let anew = self.change.is_undecided();
        let tun = look::device(&mut self.netlink, &mut self.tun, &self.intent, anew, &mut round);
        let index = tun.as_ref().map(|(index, _)| *index);
        match look::look(&mut self.netlink, &self.intent, &self.seen, index) {
            Ok(seen) => self.seen = seen,
            Err(error) => round.fails(true, format!("addresses cannot be read: {error}")),
        }
        (self.seen.device, self.seen.sockets) = (tun.map(|(_, name)| name), self.guard.tells_sockets());
        let mut plan = self.planned.of(&self.intent, &self.seen);
        self.guard.order(&plan.guard, touched.guard, now);
        let whole = self.guard.is_settled();
        if !whole {
            // Until the guard says the same, what there was stays, and is put back.
            plan = Arc::clone(&self.last);
        }
        if !self.guard.standing().stands() && plan.leads.iter().any(|lead| lead.is_around()) {
            // What these rules take for bypassed nobody would look at again.
            Arc::make_mut(&mut plan).leads.retain(|lead| !lead.is_around());
        }
        self.route(&mut plan, whole, index, &mut round);
        networks::tell_changes(&self.last, &plan, self.guard.standing().stands());
        self.last = plan;
        self.settle(round);
    }

    /// What follows from what was found.
    fn settle(&mut self, round: Round) {
        let Round { put_back, problems } = round;
        self.tell(&put_back);
        let found = problems.first().map(|problem| problem.text.clone());
        let told = self.trouble(found.or_else(|| self.guard.standing().trouble()));
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
        self.guard.withdraw();
        self.trouble(Some(LOST.to_owned()));
        self.decide(Err(io::Error::other(LOST)));
    }

    /// Everybody has said what they think of the configuration, if there is a new one.
    fn decide(&mut self, outcome: io::Result<()>) {
        if let Some(before) = self.change.decide(outcome) {
            self.intent = before;
            // The routes at once; the guard, which has just failed, at its turn.
            self.apply(Touched::default(), false);
        }
    }

    /// Makes routes and rules those of the plan, or puts back what is missing when it is not the whole one. A configuration that
    /// is refused takes nothing away.
    fn route(&mut self, plan: &mut Arc<Plan>, whole: bool, tun: Option<u32>, round: &mut Round) {
        let Some(stale) = routing::complete(&mut self.netlink, plan, &self.last, (&self.seen, tun), round) else {
            return;
        };
        let is_refused = self.change.is_undecided() && round.is_serious();
        let stale = match whole && !is_refused {
            true => stale,
            false if self.guard.standing().is_gone() => stale.around(),
            false => return,
        };
        routing::clear(&mut self.netlink, stale, &self.seen, round);
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
