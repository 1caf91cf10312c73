//! The daemon beside a machine that only notes what it is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::ask::{Ends, Stands};
use crate::boundary::Dropped;
use crate::capacity::Need;
use crate::clear::ClearSockets;
use crate::configuration::Loaded;
use crate::control::protocol::Status;
use crate::control::server::Answered;
use crate::machine::Room;
use crate::plane::Listener;
use crate::tun::Tun;

/// What was asked and has not been looked at.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Question>>>, Arc<AtomicU64>);

impl Notes {
    fn take(&self) -> Vec<Question> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Room for Notes {
    fn ask(&mut self, question: Question) {
        self.0.lock().unwrap().push(question);
    }

    fn dropped(&self) -> Dropped {
        [0, 0, self.1.load(Ordering::Relaxed), 0, 0]
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

/// A daemon that nothing runs beside, and what it asks.
fn beside_notes() -> (Daemon, Notes) {
    configured(CONFIG)
}

/// The same with another configuration.
fn configured(text: &str) -> (Daemon, Notes) {
    let (config, notes, clock) = (parse(text), Notes::default(), Clock::start());
    let capacity = Need::of(&config).capacity().unwrap();
    let (tun, clear) = (Tun::nowhere().unwrap(), ClearSockets::of_anybody().unwrap());
    let plane = Arc::new(Plane::new(tun, clear, clock, &capacity).unwrap());
    let machine = Machine::new(Box::new(notes.clone()), config.gateway.clone(), Stands::default());
    let made = Daemon::new(config, capacity, clock, logging::Level::of_no_log(), Stops::default(), (machine, plane));
    let mut daemon = made.unwrap_or_else(|trouble| panic!("{trouble}"));
    let (gateway, mut parts) = daemon.lend();
    gateway.start(clock.now(), &mut parts).unwrap();
    (daemon, notes)
}

/// Tells where the peer is, once it is asked.
fn locate(daemon: &mut Daemon, notes: &Notes) {
    daemon.settle();
    let [Question::Locate(question)] = &notes.take()[..] else { panic!("one question") };
    let (local, remote) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let ways = vec![gateway_core::gateway::Way { local, remote }];
    let located = Ok(gateway_core::gateway::Located { resolved: vec![remote], ways, hindrance: None });
    daemon.told(Told::Located { question: question.clone(), located });
}

/// The answer to the question for the file that was asked with this number.
fn read(number: u64, text: &str) -> Told {
    Told::Read { number, read: Ok(Box::new(Loaded { config: parse(text), warnings: Vec::new() })) }
}

fn names(daemon: &Daemon) -> Vec<String> {
    daemon.endpoint.pad().iter().map(|(_, peer)| peer.name.clone()).collect()
}

fn reload(daemon: &mut Daemon, dry_run: bool) -> Answered {
    let (answer, answered) = Reply::new();
    daemon.answer(Call { request: Request::Reload { dry_run }, answer });
    answered
}

#[test]
fn f_07_that_packets_are_led_past_the_tunnel_for_long_is_trouble_of_the_boundary() {
    let (mut daemon, notes) = beside_notes();
    let start = Instant::now();
    let states = [0, 1000, 2000, 2000].map(|dropped| {
        notes.1.store(dropped, Ordering::Relaxed);
        daemon.keep_vigil(start);
        daemon.boundary().state
    });
    assert_eq!(states, ["closed", "closed", "trouble", "closed"]);
}

#[test]
fn a_peer_is_called_from_where_the_machine_says() {
    let (mut daemon, notes) = beside_notes();
    locate(&mut daemon, &notes);
    let ike = daemon.endpoint.ike_sas().next().unwrap();
    assert_eq!(ike.path.local.ip().to_string(), "192.0.2.2");
}

/// Has no room for packets, and is called all the same.
#[derive(Clone)]
struct Full(Arc<Mutex<usize>>);

impl Listener for Full {
    fn offer(&self, news: News) -> Option<News> {
        match news {
            News::Sas => *self.0.lock().unwrap() += 1,
            other => return Some(other),
        }
        None
    }

    fn tell(&self, _: News) {}
}

#[test]
fn e_13_a_packet_for_which_there_was_no_room_is_asked_for_and_waits_for_its_sa() {
    let (mut daemon, _notes) = beside_notes();
    daemon.settle();
    let policy = policy_of(daemon.endpoint.pad().children().next().unwrap().0);
    let full = Full(Arc::default());
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
    packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
    daemon.plane.offer(&full, News::Acquire { policy, packet });
    assert_eq!((*full.0.lock().unwrap(), daemon.pending.deadline()), (1, None), "who listens is called");
    daemon.settle();
    assert!(daemon.pending.deadline().is_some());
}

#[test]
fn e1_a_packet_that_left_in_clear_asks_for_an_sa_and_is_not_kept() {
    let lax =
        CONFIG.replace("\"active\"", "\"on-demand\"").replace("[[peer.child]]", "[[peer.child]]\nlevel = \"use\"");
    let (mut daemon, notes) = configured(&lax);
    daemon.settle();
    assert!(notes.take().is_empty());
    let policy = policy_of(daemon.endpoint.pad().children().next().unwrap().0);
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
    packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
    daemon.hear(News::Clear { policy, packet });
    daemon.settle();
    assert_eq!(daemon.pending.deadline(), None, "it has gone");
    assert!(matches!(&notes.take()[..], [Question::Locate(_)]), "the peer is called");
}

#[test]
fn f_25_of_the_connections_that_were_asked_about_those_without_a_way_end() {
    let (mut daemon, notes) = beside_notes();
    locate(&mut daemon, &notes);
    let first = daemon.endpoint.ike_sas().next().unwrap().id;
    daemon.told(Told::Moved);
    let ends: Ends = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
    assert!(matches!(&notes.take()[..], [Question::Ways(open)] if *open == [ends].into()));
    let others = [("192.0.2.9".parse().unwrap(), ends.1)].into();
    daemon.told(Told::Ways { gone: others, astray: BTreeSet::new() });
    assert_eq!(daemon.endpoint.ike_sas().next().map(|ike| ike.id), Some(first), "it was not asked about then");
    daemon.told(Told::Ways { gone: BTreeSet::new(), astray: [ends].into() });
    assert_ne!(daemon.endpoint.ike_sas().next().map(|ike| ike.id), Some(first));
}

#[test]
fn f_29_a_reload_asks_for_the_file_then_for_the_boundary_and_takes_up_what_has_been_followed() {
    let (mut daemon, notes) = beside_notes();
    for (number, follows) in [(1, false), (2, true)] {
        let answered = reload(&mut daemon, false);
        assert!(matches!(notes.take()[..], [Question::Configuration(asked)] if asked == number));
        daemon.told(read(number, &CONFIG.replace("cloud", "other")));
        let asked = notes.take();
        let [Question::Follow(needs)] = &asked[..] else { panic!("{asked:?}") };
        assert!(!format!("{needs:?}").contains("a key of"), "the machine needs no keys");
        assert!(answered.next(Duration::ZERO).is_err());
        assert_eq!(daemon.reloads.deadline(), None, "the boundary has its own");
        let busy = reload(&mut daemon, true).next(Duration::ZERO);
        assert!(matches!(busy, Ok(Answer::Failed { cause }) if cause.text.starts_with("another reload")));
        assert_eq!(names(&daemon), ["cloud"]);
        let trouble = || Trouble::without_hint("no room".to_owned());
        daemon.told(Told::Followed(follows.then_some(()).ok_or_else(trouble)));
        let done = matches!(answered.next(Duration::ZERO), Ok(Answer::Done { .. }));
        let taken_up = matches!(notes.take()[..], [Question::TakenUp]);
        let expected = if follows { ["other"] } else { ["cloud"] };
        assert_eq!((done, taken_up, &names(&daemon)[..]), (follows, follows, &expected.map(str::to_owned)[..]));
    }
}

#[test]
fn f_29_a_file_that_cannot_be_read_in_time_is_given_up_and_what_comes_later_is_nobodys() {
    let (mut daemon, notes) = beside_notes();
    locate(&mut daemon, &notes);
    let answered = reload(&mut daemon, false);
    daemon.settle();
    assert!(answered.next(Duration::ZERO).is_err());
    daemon.reloads.pass(Duration::from_secs(30));
    assert_eq!(daemon.patience(), Duration::ZERO);
    daemon.settle();
    let told = answered.next(Duration::ZERO);
    assert!(
        matches!(told, Ok(Answer::Failed { cause }) if cause.text.starts_with("the configuration could not be read"))
    );
    let answered = reload(&mut daemon, false);
    // As the file was before somebody wrote it anew, and as it is.
    for (number, name) in [(1, "another"), (2, "other"), (2, "another")] {
        daemon.told(read(number, &CONFIG.replace("cloud", name)));
    }
    daemon.told(Told::Followed(Ok(())));
    assert!(matches!(answered.next(Duration::ZERO), Ok(Answer::Done { .. })));
    assert_eq!(names(&daemon), ["other"]);
}

#[test]
fn f_81_a_dry_run_asks_for_the_file_and_for_nothing_else() {
    let (mut daemon, notes) = beside_notes();
    let answered = reload(&mut daemon, true);
    daemon.reload(None);
    daemon.told(read(1, &CONFIG.replace("cloud", "other")));
    let answer = answered.next(Duration::ZERO);
    assert!(matches!(answer, Ok(Answer::Done { lines }) if lines.iter().any(|line| line == "other: new")));
    let asked = notes.take();
    assert!(matches!(asked[..], [Question::Configuration(1), Question::Configuration(2)]), "a signal came: {asked:?}");
}

#[test]
fn f_29_the_end_waits_for_what_becomes_of_a_configuration() {
    for followed in [true, false] {
        let (mut daemon, notes) = beside_notes();
        let answered = reload(&mut daemon, false);
        daemon.told(read(1, &CONFIG.replace("cloud", "other")));
        notes.take();
        let (inbox, inputs) = inbox::open(9);
        let given_up = || Trouble::without_hint("the daemon ends".to_owned());
        inbox.send(Input::Wish(Wish::Reload));
        // On its way already, or the answer to our question.
        inbox.send(Input::Told(Told::Followed(followed.then_some(()).ok_or_else(given_up))));
        daemon.end(&inputs);
        let asked = notes.take();
        assert!(matches!(asked[0], Question::GiveUp));
        let begun = |question: &Question| matches!(question, Question::Configuration(_) | Question::Follow(_));
        assert!(!asked.iter().any(begun), "nobody takes up another one: {asked:?}");
        let answer = answered.next(Duration::ZERO).unwrap();
        assert_eq!(matches!(answer, Answer::Done { .. }), followed, "{answer:?}");
        assert_eq!(names(&daemon)[0], if followed { "other" } else { "cloud" });
    }
}

#[test]
fn f_29_whoever_waits_for_a_file_that_is_being_read_hears_of_the_end_and_nobody_waits_for_the_file() {
    let (mut daemon, notes) = beside_notes();
    let answered = reload(&mut daemon, false);
    let (_inbox, inputs) = inbox::open(9);
    daemon.end(&inputs);
    assert!(!notes.take().iter().any(|question| matches!(question, Question::GiveUp)), "nobody follows it yet");
    let answer = answered.next(Duration::ZERO);
    assert!(matches!(&answer, Ok(Answer::Failed { cause }) if cause.text.contains("the daemon ends")), "{answer:?}");
}

#[test]
fn nothing_begins_while_the_end_waits_for_the_disk() {
    let (mut daemon, notes) = beside_notes();
    daemon.told(Told::BroughtForward(Some(Vec::new())));
    let (inbox, inputs) = inbox::open(9);
    inbox.send(Input::Wish(Wish::Reload));
    inbox.send(Input::Told(Told::Failed("it is gone".to_owned()))); // no reason not to wait
    let (answer, answered) = Reply::new();
    inbox.send(Input::Call(Call { request: Request::Reload { dry_run: false }, answer }));
    (0..2).for_each(|_| inbox.send(Input::Told(Told::Kept)));
    daemon.end(&inputs);
    let asked = notes.take();
    assert!(matches!(asked[..], [Question::Accounts(_), Question::Accounts(_)]), "one was due: {asked:?}");
    assert!(inputs.try_recv().is_none(), "it has waited");
    assert!(matches!(answered.next(Duration::ZERO), Err(std::sync::mpsc::RecvTimeoutError::Disconnected)));
}

#[test]
fn f_79_a_status_tells_of_the_boundary_what_was_told_last() {
    let (mut daemon, _notes) = beside_notes();
    let shown = |daemon: &mut Daemon| {
        let Status { boundary, .. } = daemon.snapshot().told();
        boundary.put_back
    };
    // Within the moment for which a snapshot is good.
    for put_back in 1..100 {
        let mut stands = Stands::default();
        stands.boundary.health.put_back = put_back;
        daemon.told(Told::Stands(stands));
        assert_eq!(shown(&mut daemon), put_back);
    }
}

#[test]
fn accounts_that_come_late_are_added_and_nothing_is_kept_before() {
    let (mut daemon, notes) = beside_notes();
    let (_inbox, inputs) = inbox::open(1);
    assert!(daemon.open_books(&inputs).is_ok(), "the start goes on without them");
    let asked = |notes: &Notes| notes.take().into_iter().any(|question| matches!(question, Question::Accounts(_)));
    daemon.settle();
    assert!(!asked(&notes));
    let account = gateway_core::gateway::Account { peer: "cloud".into(), child: "net".into(), party: "a".into() };
    let totals = gateway_core::gateway::Totals { packets_in: 7, ..Default::default() };
    daemon.told(Told::BroughtForward(Some(vec![(account, totals)])));
    assert_eq!(daemon.show().accounts.iter().map(|entry| entry.packets_in).collect::<Vec<_>>(), [7]);
    daemon.settle();
    assert!(asked(&notes));
    // One at a time, but for the end.
    let is_due = |daemon: &mut Daemon| match &mut daemon.books {
        Books::Open { due, .. } => *due = Instant::now(),
        _ => panic!("closed"),
    };
    let told_late = |daemon: &Daemon| matches!(daemon.books, Books::Open { late: true, .. });
    for again in [false, true] {
        assert_eq!(told_late(&daemon), again, "told once");
        is_due(&mut daemon);
        daemon.settle();
        assert!(!asked(&notes));
    }
    daemon.told(Told::Kept);
    assert!(!told_late(&daemon));
    is_due(&mut daemon);
    daemon.settle();
    assert!(asked(&notes));
    daemon.close_books(&inputs);
    assert!(asked(&notes));
}
