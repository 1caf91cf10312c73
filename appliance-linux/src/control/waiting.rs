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
}

impl Waiting {
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
        let held = || Cause {
            code: "taken-down".into(),
            text: format!("{} was taken down meanwhile", self.name()),
            hint: "`portcullis up` takes it up again".into(),
        };
        match (&self.goal, peer) {
            (Goal::Down, _) => None,
            (_, None) => Some(gone()),
            (Goal::Up, Some(peer)) if self.meant(peer).next().is_none() => Some(gone()),
            (Goal::Up, Some(peer)) => (peer.held || self.meant(peer).any(|child| child.held)).then(held),
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
    let remote = peer.ike.as_ref().map(|ike| ike.remote.clone()).unwrap_or_default();
    let less = child.cause.as_ref().map(|cause| format!("; {}: {}", cause.code, cause.text)).unwrap_or_default();
    format!(
        "{}/{} is {what} after {after}: {} in {} with {remote}, {} == {}{less}",
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
            cause: None,
            retry_ms: None,
        }
    }

    fn peer(ike: Option<&str>, children: Vec<ChildStatus>) -> PeerStatus {
        let ike = ike.map(|spi| IkeStatus {
            initiator: true,
            called: true,
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

    fn cause(code: &str) -> Cause {
        Cause { code: code.into(), text: String::new(), hint: String::new() }
    }

    fn code(answer: Answer) -> String {
        match answer {
            Answer::Failed { cause } => cause.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn f_71_up_says_what_the_peer_gave_less_than_configured() {
        let start = Instant::now();
        let mut less = child("a", Some("0x1"));
        less.cause = Some(Cause { code: "narrowed".into(), text: "from so much".into(), hint: String::new() });
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        waiting.settle(start, &[peer(Some("1"), vec![less])]);
        let Answer::Done { lines } = answered.next(Duration::ZERO).unwrap() else { panic!() };
        assert!(lines[0].ends_with("10.2.0.0/16 == 10.1.0.0/16; narrowed: from so much"), "{lines:?}");
    }

    #[test]
    fn up_waits_for_every_child_that_is_meant() {
        let start = Instant::now();
        let half = [peer(Some("1"), vec![child("a", Some("0x1")), child("b", None)])];
        let whole = [peer(Some("1"), vec![child("a", Some("0x1")), child("b", Some("0x2"))])];
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        waiting.settle(start, &half);
        assert!(answered.next(Duration::ZERO).is_err());
        waiting.settle(start + Duration::from_millis(120), &whole);
        let Answer::Done { lines } = answered.next(Duration::ZERO).unwrap() else { panic!() };
        assert_eq!(
            lines[0],
            "cloud/a is up after 0.1 s: aes256gcm16 in esp with 192.0.2.1:500, 10.2.0.0/16 == 10.1.0.0/16"
        );
        let (mut waiting, answered) = wait(Goal::Up, Some("a"), start);
        waiting.settle(start, &half);
        assert!(answered.next(Duration::ZERO).is_ok());
    }

    #[test]
    fn a_rekey_is_done_when_the_spi_is_another_and_a_lost_sa_is_no_rekey() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Rekeyed(vec![("a".into(), "0x1".into())]), None, start);
        waiting.settle(start, &[peer(Some("1"), vec![child("a", Some("0x1"))])]);
        waiting.settle(start, &[peer(Some("1"), vec![child("a", None)])]);
        assert!(answered.next(Duration::ZERO).is_err());
        waiting.settle(start, &[peer(Some("1"), vec![child("a", Some("0x9"))])]);
        assert!(answered.next(Duration::ZERO).is_ok());
        let (mut waiting, answered) = wait(Goal::IkeRekeyed("1".into()), None, start);
        waiting.settle(start, &[peer(Some("1"), vec![])]);
        assert!(answered.next(Duration::ZERO).is_err());
        waiting.settle(start, &[peer(Some("7"), vec![])]);
        assert!(answered.next(Duration::ZERO).is_ok());
    }

    #[test]
    fn a_failure_and_the_end_of_patience_are_told_with_their_cause() {
        let start = Instant::now();
        let silent = cause("peer-silent");
        let (mut waiting, answered) = wait(Goal::Up, Some("a"), start);
        let away = peer(None, vec![child("a", None), child("b", None)]);
        waiting.fail("other", Failed::Closed, (&silent, false), Some(&away));
        waiting.fail("cloud", Failed::Child("b"), (&silent, false), Some(&away));
        assert!(answered.next(Duration::ZERO).is_err());
        waiting.fail("cloud", Failed::Closed, (&silent, false), Some(&away));
        assert_eq!(code(answered.next(Duration::ZERO).unwrap()), "peer-silent");
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        waiting.settle(start + Duration::from_secs(5), &[peer(None, vec![child("a", None)])]);
        assert_eq!(code(answered.next(Duration::ZERO).unwrap()), "timeout");
        assert!(waiting.is_empty());
    }

    #[test]
    fn f_73_who_waits_hears_what_is_in_the_way_of_what_was_asked_for() {
        let start = Instant::now();
        let hears = |goal: Goal, only, peer: &str, child| {
            let (waiting, answered) = wait(goal, only, start);
            waiting.hinder(peer, child, &cause("no-proposal-chosen"));
            assert!(!waiting.is_empty(), "it goes on waiting");
            matches!(answered.next(Duration::ZERO), Ok(Answer::Progress { .. }))
        };
        assert!(hears(Goal::Up, None, "cloud", None));
        assert!(hears(Goal::Up, Some("a"), "cloud", None));
        assert!(hears(Goal::Up, Some("a"), "cloud", Some("a")));
        assert!(!hears(Goal::Up, Some("a"), "cloud", Some("b")));
        assert!(!hears(Goal::Up, None, "other", None));
        assert!(!hears(Goal::Down, None, "cloud", None));
    }

    #[test]
    fn f_34_who_left_is_not_waited_for() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Up, None, start);
        let away = [peer(None, vec![child("a", None)])];
        waiting.settle(start, &away);
        assert!(!waiting.is_empty());
        drop(answered);
        waiting.settle(start, &away);
        assert!(waiting.is_empty());
    }

    #[test]
    fn down_waits_until_the_sas_are_gone() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Down, None, start);
        waiting.fail("cloud", Failed::Closed, (&cause("closed-here"), true), Some(&peer(None, vec![])));
        waiting.settle(start, &[peer(Some("1"), vec![child("a", None)])]);
        assert!(answered.next(Duration::ZERO).is_err());
        waiting.settle(start, &[peer(None, vec![child("a", None)])]);
        assert!(answered.next(Duration::ZERO).is_ok());
    }

    #[test]
    fn f_34_only_what_fails_of_what_was_asked_for_ends_the_waiting() {
        use Failed::{Child, Closed, Down, Handshake, IkeRekey, Rekey};
        let (start, refused) = (Instant::now(), cause("refused"));
        let up = || vec![child("a", Some("0x1")), child("b", Some("0x2"))];
        let b_is_down = || vec![child("a", Some("0x1")), child("b", None)];
        let a_is_down = || vec![child("a", None), child("b", Some("0x2"))];
        let stands = |children| peer(Some("1"), children);
        let (away, anew) = (peer(None, vec![child("a", None), child("b", None)]), peer(Some("7"), up()));
        let ends = |goal: &Goal, only, failed, goes_on, peer: &PeerStatus| {
            let (mut waiting, answered) = wait(goal.clone(), only, start);
            waiting.fail("cloud", failed, (&refused, goes_on), Some(peer));
            assert_eq!(waiting.is_empty(), answered.next(Duration::ZERO).is_ok());
            waiting.is_empty()
        };
        let ike = Goal::IkeRekeyed("1".into());
        let rekeyed = Goal::Rekeyed(vec![("a".into(), "0x1".into())]);
        for (expected, goal, only, failed, peer) in [
            (true, &Goal::Up, None, Handshake, &away),
            (true, &Goal::Up, Some("a"), Closed, &away),
            (true, &Goal::Up, None, Child("b"), &stands(b_is_down())),
            (true, &Goal::Up, Some("b"), Child("b"), &stands(b_is_down())),
            (false, &Goal::Up, Some("a"), Child("b"), &stands(b_is_down())),
            // For a packet beside what is up; another party; a rekey that leaves up what is up.
            (false, &Goal::Up, None, Child("b"), &stands(up())),
            (false, &Goal::Up, None, Handshake, &stands(b_is_down())),
            (false, &Goal::Up, None, Closed, &stands(b_is_down())),
            (false, &Goal::Up, None, Rekey("a"), &stands(b_is_down())),
            (false, &Goal::Up, None, IkeRekey, &stands(b_is_down())),
            (true, &rekeyed, Some("a"), Rekey("a"), &stands(up())),
            (true, &rekeyed, None, Down("a"), &stands(a_is_down())),
            (true, &rekeyed, None, Closed, &away),
            (false, &rekeyed, None, Rekey("b"), &stands(up())),
            (false, &rekeyed, None, IkeRekey, &stands(up())),
            (false, &rekeyed, None, Child("a"), &stands(up())),
            (false, &rekeyed, None, Child("b"), &stands(b_is_down())),
            (false, &rekeyed, None, Down("b"), &stands(b_is_down())),
            (false, &rekeyed, None, Down("a"), &stands(up())),
            (false, &rekeyed, None, Closed, &stands(up())),
            (false, &rekeyed, None, Handshake, &stands(up())),
            (true, &ike, None, IkeRekey, &stands(up())),
            (true, &ike, None, Closed, &away),
            (true, &ike, None, Closed, &anew),
            (false, &ike, None, Closed, &stands(up())),
            (false, &ike, None, Rekey("a"), &stands(up())),
            (false, &ike, None, Child("b"), &stands(b_is_down())),
            (false, &ike, None, Handshake, &stands(up())),
            (false, &Goal::Down, None, Closed, &away),
        ] {
            let goes_on = *goal != Goal::Up;
            assert_eq!(ends(goal, only, failed, goes_on, peer), expected, "{goal:?} {only:?} {failed:?} {peer:?}");
        }
        // A reload makes it anew.
        assert!(!ends(&Goal::Up, None, Closed, true, &away));
        assert!(!ends(&Goal::Up, None, Child("b"), true, &stands(b_is_down())));
    }

    #[test]
    fn f_34_what_cannot_be_any_more_is_told_at_once() {
        let start = Instant::now();
        let told = |goal: Goal, only, peers: &[PeerStatus]| {
            let (mut waiting, answered) = wait(goal, only, start);
            waiting.settle(start, peers);
            answered.next(Duration::ZERO).ok().map(code)
        };
        let a = || peer(Some("1"), vec![child("a", Some("0x1"))]);
        let rekeyed = |name: &str| Goal::Rekeyed(vec![(name.into(), "0x1".into())]);
        let gone = Some("unknown-name".to_owned());
        assert_eq!(told(Goal::Up, Some("net"), &[a()]), gone);
        for goal in [Goal::Up, rekeyed("a"), Goal::IkeRekeyed("1".into())] {
            assert_eq!(told(goal, None, &[]), gone);
        }
        assert_eq!(told(rekeyed("net"), None, &[a()]), gone);
        assert_eq!(told(rekeyed("a"), None, &[a()]), None);

        let down = Some("taken-down".to_owned());
        let held = PeerStatus { held: true, ..peer(None, vec![child("a", None)]) };
        assert_eq!(told(Goal::Up, None, &[held]), down);
        let half = [ChildStatus { held: true, ..child("a", None) }, child("b", None)];
        let half = [peer(Some("1"), half.to_vec())];
        assert_eq!(told(Goal::Up, None, &half), down);
        assert_eq!(told(Goal::Up, Some("b"), &half), None);
    }

    #[test]
    fn f_34_who_waited_too_long_hears_of_what_was_asked_for_only() {
        let start = Instant::now();
        let with = |name: &str, spi, code: Option<&str>| ChildStatus { cause: code.map(cause), ..child(name, spi) };
        let children = || vec![with("a", None, Some("refused")), with("b", None, None), with("c", Some("0x3"), None)];
        let status = |ike, code: &str, children| PeerStatus { cause: Some(cause(code)), ..peer(ike, children) };
        let connected = status(Some("1"), "refused", children());
        let told = |goal: Goal, only, peer: &PeerStatus| {
            let (mut waiting, answered) = wait(goal, only, start);
            waiting.settle(start + Duration::from_secs(5), std::slice::from_ref(peer));
            code(answered.next(Duration::ZERO).unwrap())
        };
        assert_eq!(told(Goal::Up, None, &connected), "refused");
        assert_eq!(told(Goal::Up, Some("a"), &connected), "refused");
        assert_eq!(told(Goal::Up, Some("b"), &connected), "timeout");
        assert_eq!(told(Goal::Rekeyed(vec![("c".into(), "0x3".into())]), None, &connected), "timeout");
        assert_eq!(told(Goal::IkeRekeyed("1".into()), None, &connected), "timeout");
        assert_eq!(told(Goal::Down, None, &connected), "timeout");
        // What is about all of it is about each.
        let unheard = status(Some("1"), "unheard", children());
        assert_eq!(told(Goal::Up, Some("b"), &unheard), "unheard");
        assert_eq!(told(Goal::Up, Some("a"), &unheard), "refused");
        assert_eq!(told(Goal::IkeRekeyed("1".into()), None, &unheard), "unheard");
        let away = status(None, "peer-silent", vec![with("a", None, Some("refused")), with("b", None, None)]);
        assert_eq!(told(Goal::Up, Some("a"), &away), "peer-silent");
        let same = status(None, "refused", vec![with("a", None, Some("refused")), with("b", None, None)]);
        assert_eq!(told(Goal::Up, Some("b"), &same), "refused");
    }

    #[test]
    fn f_34_of_a_rekey_only_what_was_rekeyed_is_told() {
        let start = Instant::now();
        let (mut waiting, answered) = wait(Goal::Rekeyed(vec![("a".into(), "0x1".into())]), None, start);
        waiting.settle(start, &[peer(Some("1"), vec![child("a", Some("0x9")), child("b", None)])]);
        let Answer::Done { lines } = answered.next(Duration::ZERO).unwrap() else { panic!() };
        assert!(lines.len() == 1 && lines[0].starts_with("cloud/a is rekeyed"), "{lines:?}");
    }
}
