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
    /// Every child that is meant has another SPI than this one.
    Rekeyed(Vec<(String, String)>),
    /// The IKE SA has another SPI than this one.
    IkeRekeyed(String),
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
            let answer = match wait.reached(now, peer) {
                Some(lines) => Answer::Done { lines },
                None if now >= wait.deadline => Answer::Failed { cause: wait.too_late(now, peer) },
                None => return true,
            };
            let _ = wait.answer.send(answer); // the client may have left
            false
        });
    }

    /// Answers those who wait for what has just failed: `child` of `peer`, or all of it.
    pub(crate) fn fail(&mut self, peer: &str, child: Option<&str>, cause: &Cause) {
        self.0.retain(|wait| {
            let about =
                wait.peer == peer && (child.is_none() || wait.child.is_none() || wait.child.as_deref() == child);
            // What goes away while somebody waits for that is no failure.
            if !about || wait.goal == Goal::Down {
                return true;
            }
            let _ = wait.answer.send(Answer::Failed { cause: cause.clone() });
            false
        });
    }
}

impl Wait {
    fn meant<'p>(&self, peer: &'p PeerStatus) -> impl Iterator<Item = &'p ChildStatus> {
        let only = self.child.clone();
        peer.children.iter().filter(move |child| only.as_ref().is_none_or(|only| *only == child.name))
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
                rekeyed.then(|| self.meant(peer).map(|child| described(peer, child, "rekeyed", after)).collect())
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
        let known = peer.and_then(|peer| peer.cause.clone());
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
}

fn described(peer: &PeerStatus, child: &ChildStatus, what: &str, after: Seconds) -> String {
    let of = |value: &Option<String>| value.clone().unwrap_or_default();
    let remote = peer.ike.as_ref().map(|ike| ike.remote.clone()).unwrap_or_default();
    format!(
        "{}/{} is {what} after {after}: {} in {} with {remote}, {} == {}",
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
mod tests {
    use super::*;
    use crate::control::protocol::IkeStatus;
    use crate::control::server::Answered;

    fn child(name: &str, spi: Option<&str>) -> ChildStatus {
        ChildStatus {
            name: name.into(),
            state: if spi.is_some() { "up" } else { "down" }.into(),
            mode: "tunnel".into(),
            suite: spi.map(|_| "aes256gcm16".into()),
            spi_in: spi.map(Into::into),
            spi_out: spi.map(Into::into),
            local_ts: vec!["10.2.0.0/16".into()],
            remote_ts: vec!["10.1.0.0/16".into()],
            bytes_in: 0,
            bytes_out: 0,
            packets_in: 0,
            packets_out: 0,
            rekeys: 0,
            encap: spi.map(|_| "esp".into()),
            age_s: None,
            held: false,
            last_in_s: None,
            last_out_s: None,
            rekey_s: None,
            expires_s: None,
        }
    }

    fn peer(ike: Option<&str>, children: Vec<ChildStatus>) -> PeerStatus {
        let ike = ike.map(|spi| IkeStatus {
            initiator: true,
            spi_local: spi.into(),
            spi_remote: "2".into(),
            suite: "aes256gcm16-prfsha384-x25519".into(),
            local: "192.0.2.2:500".into(),
            remote: "192.0.2.1:500".into(),
            nat: false,
            nat_local: false,
            nat_remote: false,
            age_s: 0,
            heard_s: None,
            rekey_s: None,
            remote_id: "left.lab".into(),
            local_id: "right.lab".into(),
        });
        let state = if ike.is_some() { PeerState::Connected } else { PeerState::Pending };
        let (name, start) = ("cloud".into(), "active".into());
        PeerStatus { name, state, cause: None, ike, children, start, held: false, retry_ms: None }
    }

    fn wait(goal: Goal, only: Option<&str>, since: Instant) -> (Waiting, Answered) {
        let (answer, answered) = Reply::new();
        let deadline = since + Duration::from_secs(5);
        let child = only.map(Into::into);
        let mut waiting = Waiting::default();
        waiting.push(Wait { goal, peer: "cloud".into(), child, since, deadline, answer });
        (waiting, answered)
    }

    fn code(answer: Answer) -> String {
        match answer {
            Answer::Failed { cause } => cause.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn up_waits_for_every_child_that_is_meant() {
        let start = Instant::now();
        let half = [peer(Some("1"), vec![child("a", Some("0x1")), child("b", None)])];
        let whole = [peer(Some("1"), vec![child("a", Some("0x1")), child("b", Some("0x2"))])];
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        waiting.settle(start, &half);
        assert!(answered.answer.try_recv().is_err());
        waiting.settle(start + Duration::from_millis(120), &whole);
        let Answer::Done { lines } = answered.answer.try_recv().unwrap() else { panic!() };
        assert_eq!(
            lines[0],
            "cloud/a is up after 0.1 s: aes256gcm16 in esp with 192.0.2.1:500, 10.2.0.0/16 == 10.1.0.0/16"
        );
        let (mut waiting, answered) = wait(Goal::Up, Some("a"), start);
        waiting.settle(start, &half);
        assert!(answered.answer.try_recv().is_ok());
    }

    #[test]
    fn a_rekey_is_done_when_the_spi_is_another_and_a_lost_sa_is_no_rekey() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Rekeyed(vec![("a".into(), "0x1".into())]), None, start);
        waiting.settle(start, &[peer(Some("1"), vec![child("a", Some("0x1"))])]);
        waiting.settle(start, &[peer(Some("1"), vec![child("a", None)])]);
        assert!(answered.answer.try_recv().is_err());
        waiting.settle(start, &[peer(Some("1"), vec![child("a", Some("0x9"))])]);
        assert!(answered.answer.try_recv().is_ok());
        let (mut waiting, answered) = wait(Goal::IkeRekeyed("1".into()), None, start);
        waiting.settle(start, &[peer(Some("1"), vec![])]);
        assert!(answered.answer.try_recv().is_err());
        waiting.settle(start, &[peer(Some("7"), vec![])]);
        assert!(answered.answer.try_recv().is_ok());
    }

    #[test]
    fn a_failure_and_the_end_of_patience_are_told_with_their_cause() {
        let start = Instant::now();
        let silent = Cause { code: "peer-silent".into(), text: "…".into(), hint: String::new() };
        let (mut waiting, answered) = wait(Goal::Up, Some("a"), start);
        waiting.fail("other", None, &silent);
        waiting.fail("cloud", Some("b"), &silent);
        assert!(answered.answer.try_recv().is_err());
        waiting.fail("cloud", None, &silent);
        assert_eq!(code(answered.answer.try_recv().unwrap()), "peer-silent");
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        waiting.settle(start + Duration::from_secs(5), &[peer(None, vec![child("a", None)])]);
        assert_eq!(code(answered.answer.try_recv().unwrap()), "timeout");
        assert!(waiting.is_empty());
    }

    #[test]
    fn f_34_who_left_is_not_waited_for() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        waiting.settle(start, &[]);
        assert!(!waiting.is_empty());
        drop(answered);
        waiting.settle(start, &[]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn down_waits_until_the_sas_are_gone() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Down, None, start);
        waiting.fail("cloud", None, &Cause { code: "closed-here".into(), text: String::new(), hint: String::new() });
        waiting.settle(start, &[peer(Some("1"), vec![child("a", None)])]);
        assert!(answered.answer.try_recv().is_err());
        waiting.settle(start, &[peer(None, vec![child("a", None)])]);
        assert!(answered.answer.try_recv().is_ok());
    }
}
