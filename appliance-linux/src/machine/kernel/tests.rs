use std::process::Command;
use std::sync::mpsc::channel;

use super::*;
use crate::capacity::Need;
use crate::inbox::{self, Inputs};
use crate::namespace::in_a_network_of_its_own;

const CONFIG: &str = r#"
[[peer]]
name   = "cloud"
local  = "any"
local-id = "right.lab"
remote = "192.0.2.1"
psk    = "a key of more than twenty characters"

[[peer.child]]
name      = "net"
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.1.0.0/16"]
"#;

/// Who answers, what it is told by others, which nobody takes, and what it tells.
struct Asked {
    told: Inputs,
    kernel: Kernel,
    _works: Receiver<Work>,
}

impl Asked {
    fn start() -> Self {
        let config = parse(CONFIG);
        let capacity = Need::of(&config).capacity().unwrap();
        let ((works, taken), (inbox, told)) = (channel(), inbox::open(100));
        let parts = Parts {
            owner: Owner::claim().unwrap(),
            config: &config,
            path: Path::new("/nowhere"),
            state: None,
            clock: Clock::start(),
            capacity: &capacity,
            inbox: &inbox,
        };
        let started = Kernel::start(parts, &works);
        let (kernel, _) = started.unwrap_or_else(|trouble| panic!("{trouble}"));
        Self { told, kernel, _works: taken }
    }

    fn ask(&mut self, question: Question) {
        self.kernel.take(Work::Question(question));
    }

    /// Does what is due until something is told that is like this.
    fn until(&mut self, what: impl Fn(&Answer) -> bool) -> Answer {
        let began = Instant::now();
        loop {
            self.kernel.settle();
            while let Some(input) = self.told.try_recv() {
                if let Input::Told(answer) = input
                    && what(&answer)
                {
                    return answer;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_silent(&mut self) -> bool {
        self.kernel.settle();
        std::iter::from_fn(|| self.told.try_recv()).all(|input| matches!(input, Input::Told(Answer::BroughtForward(_))))
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

fn ip(line: &str) {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    assert!(Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap().success(), "ip {line}");
}

#[test]
fn what_the_kernel_tells_in_one_go_is_looked_at_once() {
    in_a_network_of_its_own(|| {
        let mut asked = Asked::start();
        let put_back = |asked: &Asked| asked.kernel.stands().boundary.health.put_back;
        ip("route del 10.1.0.0/16 dev pcl0 table 4500");
        (0..3).for_each(|_| asked.kernel.take(Work::Touched(Touched::ALL)));
        assert_eq!(put_back(&asked), 0, "more may have come meanwhile");
        asked.kernel.settle();
        assert_eq!(put_back(&asked), 1);
        let told = asked.until(|answer| matches!(answer, Answer::Stands(_)));
        assert!(matches!(told, Answer::Stands(stands) if stands.boundary.health.put_back == 1));
        assert_eq!(asked.kernel.told, asked.kernel.stands(), "it would be told again and again");
        assert!(!asked.kernel.touched.any(), "it told of nothing since");
        asked.kernel.take(Work::Touched(Touched::ALL));
        asked.until(|answer| matches!(answer, Answer::Moved));
    });
}

#[test]
fn the_end_waits_until_the_boundary_is_left_as_it_is_to_be() {
    in_a_network_of_its_own(|| {
        let config = parse(CONFIG);
        let capacity = Need::of(&config).capacity().unwrap();
        for runs in [false, true] {
            let (inbox, _told) = inbox::open(100);
            let started = crate::machine::Machine::start(Parts {
                owner: Owner::claim().unwrap(),
                config: &config,
                path: Path::new("/nowhere"),
                state: None,
                clock: Clock::start(),
                capacity: &capacity,
                inbox: &inbox,
            });
            let (mut machine, plane) = started.unwrap_or_else(|trouble| panic!("{trouble}"));
            if runs {
                machine.ask(Question::Keep);
            }
            drop((machine, plane));
            assert!(Owner::claim().is_ok(), "somebody is at it yet");
            assert_eq!(crate::boundary::blocked().unwrap().is_some(), runs);
        }
    });
}

#[test]
fn f_25_addresses_that_could_not_be_read_once_are_followed_all_the_same() {
    in_a_network_of_its_own(|| {
        let mut asked = Asked::start();
        let open = [("192.0.2.2", "192.0.2.1"), ("127.0.0.1", "192.0.2.1")];
        let open = open.map(|(local, remote)| (local.parse().unwrap(), remote.parse().unwrap()));
        let whole = asked.kernel.ways.ask_through(crate::netlink::Netlink::to_nobody().unwrap());
        asked.ask(Question::Ways(open.into()));
        assert!(asked.is_silent(), "it does not know");
        drop(asked.kernel.ways.ask_through(whole));
        asked.until(|answer| matches!(answer, Answer::Moved));
        asked.ask(Question::Ways(open.into()));
        let told = asked.until(|answer| matches!(answer, Answer::Ways { .. }));
        assert!(matches!(told, Answer::Ways { gone, astray } if gone == [open[0]].into() && astray.is_empty()));
        assert_eq!(asked.kernel.listening.at(), None, "tried again and again");
    });
}

#[test]
fn a_configuration_is_answered_once_and_both_are_listened_to_until_it_is_taken_up() {
    in_a_network_of_its_own(|| {
        let mut asked = Asked::start();
        let ports = |asked: &Asked| {
            let sockets = asked.kernel.plane.sockets();
            let open = sockets.iter().filter(|socket| socket.listen().carrier == crate::socket::Carrier::Udp(500));
            open.map(|socket| socket.listen().addr.to_string()).collect::<Vec<_>>()
        };
        let before = ports(&asked);
        let needs = |address: &str| Needs::of(&parse(&CONFIG.replace("\"any\"", &format!("\"{address}\""))));
        let followed = |asked: &mut Asked| match asked.until(|answer| matches!(answer, Answer::Followed(_))) {
            Answer::Followed(outcome) => outcome.map_err(|trouble| trouble.text),
            _ => unreachable!(),
        };
        asked.ask(Question::Follow(Box::new(needs("127.0.0.1"))));
        asked.ask(Question::GiveUp);
        assert_eq!(followed(&mut asked), Err("the daemon ends".to_owned()));
        assert_eq!(ports(&asked), before);

        asked.ask(Question::Follow(Box::new(needs("127.0.0.1"))));
        assert_eq!(followed(&mut asked), Ok(()));
        assert_eq!(ports(&asked), [&before[..], &["127.0.0.1".to_owned()]].concat(), "who is gone is yet to be told");
        asked.ask(Question::GiveUp);
        while let Some(input) = asked.told.try_recv() {
            assert!(!matches!(input, Input::Told(Answer::Followed(_))), "the word was given");
        }
        asked.ask(Question::TakenUp);
        asked.until(|answer| matches!(answer, Answer::Moved));
        asked.ask(Question::Ways(BTreeSet::new()));
        assert_eq!(ports(&asked), ["127.0.0.1"]);
    });
}
