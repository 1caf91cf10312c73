//! Commands that wait for an outcome: `up`, `down`, `rekey`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::protocol::{Answer, Cause, ChildStatus, PeerState, PeerStatus};
use super::server::Reply;

/// What a command waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Every child that is meant has an SA.
    Up,
    /// Nothing that is meant has an SA.
    Down,
    /// Each of these children has another SPI than this one.
    Rekeyed(Vec<(String, String)>),
    /// The IKE SA has another SPI than this one.
    IkeRekeyed(String),
}

/// What did not come about, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed<'r> {
    /// A handshake with the peer.
    Handshake,
    /// An IKE SA is gone.
    Closed,
    /// An SA of this child.
    Child(&'r str),
    /// The SAs of this child are gone.
    Down(&'r str),
    /// A rekey of this child.
    Rekey(&'r str),
    /// A rekey of the IKE SA.
    IkeRekey,
}

/// A waiting command.
pub(crate) struct Wait {
    pub(crate) goal: Goal,
    pub(crate) peer: String,
    /// One child, or all of the peer's.
    pub(crate) child: Option<String>,
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    pub(crate) answer: Reply,
}

/// Every waiting command.
#[derive(Default)]
pub(crate) struct Waiting(Vec<Wait>);

impl Waiting {
    pub(crate) fn push(&mut self, wait: Wait) {
        self.0.push(wait);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The peers that somebody waits for, each once.
    pub(crate) fn peers(&self) -> BTreeSet<String> {
        self.0.iter().map(|wait| wait.peer.clone()).collect()
    }

    /// When the next one gives up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|wait| wait.deadline).min()
    }

    /// Answers those whose goal is reached, and those whose time is over; forgets those whose client has left.
    pub(crate) fn settle(&mut self, now: Instant, peers: &[PeerStatus]) {
        self.0.retain(|wait| {
            if wait.answer.is_abandoned() {
                return false;
            }
            let peer = peers.iter().find(|peer| peer.name == wait.peer);
            let answer = match (wait.hindrance(peer), wait.reached(now, peer)) {
                (Some(cause), _) => Answer::Failed { cause },
                (None, Some(lines)) => Answer::Done { lines },
                (None, None) if now >= wait.deadline => Answer::Failed { cause: wait.too_late(now, peer) },
                (None, None) => return true,
            };
            let _ = wait.answer.send(answer); // the client may have left
            false
        });
    }

    /// Answers those who wait for what has just failed at the peer `name`, which stands like `peer` since. `goes_on`: what is
    /// to come up may do so all the same, as somebody here wanted that end, or the peer is called already.
    pub(crate) fn fail(
        &mut self,
        name: &str,
        failed: Failed<'_>,
        (cause, goes_on): (&Cause, bool),
        peer: Option<&PeerStatus>,
    ) {
        self.0.retain(|wait| {
            if wait.peer != name || !peer.is_some_and(|peer| wait.ends_with(failed, goes_on, peer)) {
                return true;
            }
            let _ = wait.answer.send(Answer::Failed { cause: cause.clone() });
            false
        });
    }

    /// Tells those who wait for the peer `name`, or for `child` of it, to come up what is in the way.
    pub(crate) fn hinder(&self, name: &str, child: Option<&str>, cause: &Cause) {
        let meant =
            |wait: &&Wait| wait.goal == Goal::Up && wait.peer == name && child.is_none_or(|child| wait.means(child));
        for wait in self.0.iter().filter(meant) {
            let _ = wait.answer.send(Answer::Progress { cause: cause.clone() }); // the client may have left
        }
    }
}

impl Wait {
    fn means(&self, child: &str) -> bool {
        self.child.as_ref().is_none_or(|only| only == child)
    }

    fn meant<'p>(&self, peer: &'p PeerStatus) -> impl Iterator<Item = &'p ChildStatus> {
        peer.children.iter().filter(|child| self.means(&child.name))
    }

    /// Whether nothing comes of what is waited for, now that this has failed at its peer.
    fn ends_with(&self, failed: Failed<'_>, goes_on: bool, peer: &PeerStatus) -> bool {
        let has_sa = |name: &str| peer.children.iter().any(|child| child.name == name && child.spi_in.is_some());
        match (&self.goal, failed) {
            // What goes away while somebody waits for that is no failure.
            (Goal::Down, _) => false,
            // Others may share the peer, or come in its name.
            (Goal::Up, Failed::Handshake | Failed::Closed) => !goes_on && peer.state != PeerState::Connected,
            (Goal::Up, Failed::Child(child)) => !goes_on && self.means(child) && !has_sa(child),
            (Goal::Rekeyed(before), Failed::Rekey(child)) => before.iter().any(|(name, _)| name == child),
            // What is made anew is not rekeyed.
            (Goal::Rekeyed(before), Failed::Down(child)) => {
                before.iter().any(|(name, _)| name == child) && !has_sa(child)
            }
            (Goal::Rekeyed(before), Failed::Closed) => before.iter().any(|(name, _)| !has_sa(name)),
            (Goal::IkeRekeyed(_), Failed::IkeRekey) => true,
            (Goal::IkeRekeyed(before), Failed::Closed) => peer.ike.as_ref().is_none_or(|ike| ike.spi_local != *before),
            _ => false,
        }
    }

    /// Why the goal cannot be reached any more, however things go on.
    fn hindrance(&self, peer: Option<&PeerStatus>) -> Option<Cause> {
        let gone = || Cause {
            code: "unknown-name".into(),
            text: format!("the running configuration has no {} any more", self.name()),
            hint: "a reload has removed it; `portcullis status` lists what there is".into(),
        };
        let held = |name: String| Cause {
            code: "taken-down".into(),
            text: format!("{name} was taken down meanwhile"),
            hint: "`portcullis up` takes it up again".into(),
        };
        match (&self.goal, peer) {
            (Goal::Down, _) => None,
            (_, None) => Some(gone()),
            (Goal::Up, Some(peer)) if self.meant(peer).next().is_none() => Some(gone()),
            (Goal::Up, Some(peer)) if peer.held => Some(held(self.peer.clone())),
            (Goal::Up, Some(peer)) => {
                let child = self.meant(peer).find(|child| child.held);
                child.map(|child| held(format!("{}/{}", self.peer, child.name)))
            }
            (Goal::Rekeyed(before), Some(peer)) => {
                let is_there = |(name, _): &(String, String)| peer.children.iter().any(|child| child.name == *name);
                (!before.iter().all(is_there)).then(gone)
            }
            (Goal::IkeRekeyed(_), Some(_)) => None,
        }
    }

    /// What to say when the goal is reached.
    fn reached(&self, now: Instant, peer: Option<&PeerStatus>) -> Option<Vec<String>> {
        let after = Seconds(now.saturating_duration_since(self.since));
        match (&self.goal, peer) {
            (Goal::Down, None) => Some(vec![format!("{} is down", self.peer)]),
            (_, None) => None,
            (Goal::Up, Some(peer)) => {
                let up = |child: &ChildStatus| child.spi_in.is_some();
                let all_up = peer.state == PeerState::Connected && self.meant(peer).all(up);
                all_up.then(|| self.meant(peer).map(|child| described(peer, child, "up", after)).collect())
            }
            (Goal::Down, Some(peer)) => {
                let down = self.meant(peer).all(|child| child.spi_in.is_none());
                let gone = down && (self.child.is_some() || peer.ike.is_none());
                gone.then(|| vec![format!("{} is down after {after}", self.name())])
            }
            (Goal::Rekeyed(before), Some(peer)) => {
                let fresh = |(name, spi): &(String, String)| {
                    let child = peer.children.iter().find(|child| child.name == *name);
                    child.and_then(|child| child.spi_in.as_ref()).is_some_and(|now| now != spi)
                };
                let rekeyed = before.iter().all(fresh);
                let asked = |child: &&ChildStatus| before.iter().any(|(name, _)| *name == child.name);
                let told = |child| described(peer, child, "rekeyed", after);
                rekeyed.then(|| peer.children.iter().filter(asked).map(told).collect())
            }
            (Goal::IkeRekeyed(before), Some(peer)) => {
                let ike =
                    peer.ike.as_ref().filter(|ike| ike.spi_local != *before && peer.state == PeerState::Connected)?;
                Some(vec![format!("the IKE SA of {} is rekeyed after {after}: {}", peer.name, ike.suite)])
            }
        }
    }

    fn name(&self) -> String {
        match &self.child {
            Some(child) => format!("{}/{child}", self.peer),
            None => self.peer.clone(),
        }
    }

    fn too_late(&self, now: Instant, peer: Option<&PeerStatus>) -> Cause {
        let known = peer.filter(|_| self.goal != Goal::Down).and_then(|peer| self.known(peer));
        known.unwrap_or_else(|| Cause {
            code: "timeout".into(),
            text: format!(
                "no outcome for {} after {}",
                self.name(),
                Seconds(now.saturating_duration_since(self.since))
            ),
            hint: "the daemon goes on trying; `portcullis status` tells how it stands, --timeout waits longer".into(),
        })
    }

    /// What is known to be in the way: of the connection, or of a child that is meant and down.
    fn known(&self, peer: &PeerStatus) -> Option<Cause> {
        let of_a_child = |cause: &&Cause| peer.children.iter().any(|child| child.cause.as_ref() == Some(*cause));
        let of_all = peer.cause.as_ref().filter(|cause| peer.state != PeerState::Connected || !of_a_child(cause));
        let down = self.meant(peer).filter(|child| child.spi_in.is_none());
        let of_these = down.filter(|_| self.goal == Goal::Up).find_map(|child| child.cause.as_ref());
        match peer.state {
            PeerState::Connected => of_these.or(of_all),
            _ => of_all,
        }
        .cloned()
    }
}

fn described(peer: &PeerStatus, child: &ChildStatus, what: &str, after: Seconds) -> String {
    let of = |value: &Option<String>| value.clone().unwrap_or_default();
    let with = peer.ike.as_ref().map(|ike| format!(" with {}", ike.remote)).unwrap_or_default();
    let less = child.cause.as_ref().map(|cause| format!("; {}: {}", cause.code, cause.text)).unwrap_or_default();
    format!(
        "{}/{} is {what} after {after}: {} in {}{with}, {} == {}{less}",
        peer.name,
        child.name,
        of(&child.suite),
        of(&child.encap),
        child.local_ts.join(" "),
        child.remote_ts.join(" ")
    )
}

/// Seconds with one digit behind the point.
#[derive(Clone, Copy)]
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
