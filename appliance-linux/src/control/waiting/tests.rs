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
        compressed: false,
        padded: false,
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
