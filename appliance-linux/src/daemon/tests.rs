mod asked;
mod show;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use gateway_core::cause::{Cause, Kind};
use gateway_core::config::Remote;
use gateway_core::gateway::{Gateway, Locate, Report, What};
use gateway_core::policy::policy_of;
use ike_core::crypto::Group;
use ike_core::endpoint;
use ike_core::pad::PeerId;
use ike_core::proposal::{EspSuite, IkeProposal, offer_ike};
use ike_core::registry::{ExchangeType, ProtocolId};
use ike_core::wire::header::Header;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::engine::Verdict;
use ipsec_core::net::{self, Encap, Spi};
use ipsec_core::spd::PolicyId;
use tracing::level_filters::LevelFilter;

use super::books::Books;
use super::state::{IkeEndpoint, endpoint_for};
use super::*;
use crate::ask::Answer as Told;
use crate::control::protocol::{Answer, Request};
use crate::control::server::{Call, Reply};
use crate::control::waiting::{Goal, Wait, Waiting};
use crate::namespace::in_a_network_of_its_own;
use crate::netlink::Netlink;
use crate::plane::{Listener as _, News, Plane};
use crate::signals::Stops;

const CONFIG: &str = r#"
[[peer]]
name   = "cloud"
local  = "any"
local-id = "right.lab"
remote = "192.0.2.1"
psk    = "a key of more than twenty characters"
start  = "active"

[[peer.child]]
name      = "net"
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.1.0.0/16"]
"#;

/// A folder that goes with its value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn daemon(name: &str) -> (Daemon, Inputs, Folder) {
    daemon_of(name, CONFIG)
}

fn daemon_of(name: &str, config: &str) -> (Daemon, Inputs, Folder) {
    let folder = Folder(std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id())));
    fs::create_dir_all(&folder.0).unwrap();
    let config = Config::parse(config).unwrap_or_else(|errors| panic!("{errors:?}")).0;
    let (level, _) = logging::start(LevelFilter::OFF, false).unwrap();
    let (file, control, state) = (folder.0.join("config"), folder.0.join("control"), folder.0.join("state"));
    let started = Daemon::start(&file, &control, Some(&state), config, level);
    let (daemon, inputs) = started.unwrap_or_else(|trouble| panic!("{trouble}"));
    (daemon, inputs, folder)
}

/// From here on the peer can be called.
fn add_address() {
    ip("addr add 192.0.2.2/24 dev lo");
}

/// Takes what comes until this holds.
fn until(daemon: &mut Daemon, inputs: &Inputs, what: &str, mut holds: impl FnMut(&mut Daemon) -> bool) {
    let began = Instant::now();
    loop {
        daemon.settle();
        if holds(daemon) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", daemon.peer_named("cloud"));
        if let Ok(input) = inputs.recv_timeout(daemon.patience().min(Duration::from_millis(20))) {
            assert!(daemon.take(input).is_none(), "{what}");
        }
    }
}

fn has_called(daemon: &mut Daemon) -> bool {
    daemon.endpoint.ike_sas().next().is_some()
}

#[test]
fn a_wait_ends_also_while_more_comes_than_can_be_taken() {
    in_a_network_of_its_own(|| {
        let (mut daemon, _inputs, _folder) = daemon("wait");
        let (inbox, inputs) = crate::inbox::open(1024);
        let begun = Instant::now();
        let one_more = |_: &Daemon| {
            let _ = inbox.offer(News::Sas);
            begun.elapsed() > Duration::from_secs(5)
        };
        assert!(matches!(daemon.wait_for(&inputs, Duration::from_millis(50), one_more), Ok(false)));
    });
}

/// Has the machine asked for ways, and takes what comes until it has answered all that was asked so far.
fn readdress(daemon: &mut Daemon, inputs: &Inputs) {
    let last = Locate { peer: PeerId(999), remote: Remote::Address("192.0.2.1".parse().unwrap()), local: Vec::new() };
    daemon.readdress();
    daemon.machine.ask(Question::Locate(last.clone()));
    loop {
        match inputs.recv_timeout(Duration::from_secs(10)).unwrap() {
            Input::Told(Told::Located { question, .. }) if question == last => return,
            input => assert!(daemon.take(input).is_none()),
        }
    }
}

fn ip(line: &str) {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    assert!(Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap().success(), "ip {line}");
}

#[test]
fn f_34_a_handshake_that_fails_while_we_call_is_somebody_elses_and_what_is_wanted_here_no_failure() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon("waits");
        let told_of = |daemon: &mut Daemon, goal: Goal, what: What, kind: Kind| {
            let (answer, answered) = Reply::new();
            let (since, peer, child) = (Instant::now(), "cloud".to_owned(), None);
            daemon.served.waiting = Waiting::default();
            daemon.served.waiting.push(Wait { goal, peer: peer.clone(), child, since, deadline: since + DOZE, answer });
            let cause = Cause { code: "refused", text: String::new(), hint: String::new(), kind };
            daemon.tell(&Report { peer: Some(peer), child: None, what, cause: Some(cause) });
            matches!(answered.next(Duration::ZERO), Ok(Answer::Failed { .. }))
        };
        let told = |daemon: &mut Daemon, what: What, kind: Kind| told_of(daemon, Goal::Up, what, kind);
        let failed = || What::Failed { remote: None };
        let waits = |daemon: &mut Daemon| daemon.peer_named("cloud").unwrap().retry_ms.is_some();
        until(&mut daemon, &inputs, "nowhere to call it from", waits);
        assert!(told(&mut daemon, failed(), Kind::Refusal));
        assert!(told(&mut daemon, What::Closed, Kind::Absence));
        assert!(!told(&mut daemon, failed(), Kind::Intent));
        add_address();
        until(&mut daemon, &inputs, "called", has_called);
        assert!(!told(&mut daemon, failed(), Kind::Refusal));
        assert!(!told(&mut daemon, What::Closed, Kind::Absence));
        // What comes up in its place is new, and has not been rekeyed.
        let rekey = Goal::IkeRekeyed("1".to_owned());
        assert!(told_of(&mut daemon, rekey, What::Closed, Kind::Absence), "it was lost, and would be told as rekeyed");
        drop(inputs);
    });
}

#[test]
fn f_29_a_message_to_a_peer_that_is_gone_from_the_configuration_is_nobodys_concern() {
    in_a_network_of_its_own(|| {
        add_address();
        let (mut daemon, inputs, _folder) = daemon("gone");
        until(&mut daemon, &inputs, "called", has_called);
        let ike = daemon.endpoint.ike_sas().next().unwrap().id;
        assert!(!daemon.is_of_nobody(Some(ike)) && !daemon.is_of_nobody(None));
        let parse = |text: &str| Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let (before, after) = (parse(CONFIG), parse(&CONFIG.replace("cloud", "other")));
        let diff = Config::diff(&before, &after);
        let _ = daemon.endpoint.pad_mut().replace(after.peers, &diff);
        assert!(daemon.is_of_nobody(Some(ike)));
        drop(inputs);
    });
}

#[test]
fn f_83_a_packet_that_waits_for_an_sa_has_met_its_policy_once() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon("hits");
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        // As the data plane does, before it hands the packet on.
        let verdict = daemon.plane.outbound().classify(daemon.clock.now(), &packet);
        let Ok(Verdict::Acquire(policy)) = verdict else { panic!("{verdict:?}") };
        daemon.acquire(Instant::now(), policy, packet.clone());
        assert!(!daemon.plane.resume(&packet), "there is none yet");
        let hits: Vec<_> = daemon.show().spd.iter().filter_map(|flow| flow.hits).collect();
        assert_eq!(hits, [1]);
        drop(inputs);
    });
}

#[test]
fn f_62_an_sa_that_comes_up_throws_away_no_packet_that_waits_for_another_one_of_its_child() {
    in_a_network_of_its_own(|| {
        add_address();
        let (mut daemon, inputs, _folder) = daemon("another-sa");
        daemon.settle();
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5, 10, 1, 0, 9];
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        let verdict = daemon.plane.outbound().classify(daemon.clock.now(), &packet);
        let Ok(Verdict::Acquire(policy)) = verdict else { panic!("{verdict:?}") };
        let since = Instant::now();
        daemon.acquire(since, policy, packet.clone());
        // Whichever this is, it is none for that packet.
        let suite = EspSuite::new(AeadAlg::Aes128Gcm16.into(), true, None);
        let spi = Spi::new(4711).unwrap();
        let (spi_in, spi_out, encap) = (spi, spi, Encap::Udp);
        let (local, remote) = Default::default();
        let what = What::ChildUp {
            policy,
            suite,
            spi_in,
            spi_out,
            encap,
            local,
            remote,
            compressed: false,
            padded: false,
            rekeyed: true,
        };
        let [peer, child] = ["cloud", "net"].map(|name| Some(name.to_owned()));
        daemon.tell(&Report { peer, child, what, cause: None });
        assert_eq!(daemon.look().told().counters["OutNoSa"], 0, "lost");
        assert_eq!(daemon.pending.take(policy).collect::<Vec<_>>(), [(since, packet)]);
        drop(inputs);
    });
}

#[test]
fn f_53_what_is_taken_down_is_not_wanted_back_by_a_packet_that_waited_for_it() {
    const TWO: &str = "[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.3.0.0/16\"\n";
    in_a_network_of_its_own(|| {
        add_address();
        let config = CONFIG.replace("\"active\"", "\"on-demand\"") + TWO;
        let (mut daemon, inputs, _folder) = daemon_of("taken-down", &config);
        let waits = |daemon: &mut Daemon, there: u8| {
            let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 5, 10, there, 0, 9];
            packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
            let verdict = daemon.plane.outbound().classify(daemon.clock.now(), &packet);
            let Ok(Verdict::Acquire(policy)) = verdict else { panic!("{verdict:?}") };
            daemon.acquire(Instant::now(), policy, packet);
            policy
        };
        for (name, stays) in [("cloud/net", 1), ("cloud", 0)] {
            let policies = [1, 3].map(|there| waits(&mut daemon, there));
            let before = daemon.look().told().counters["OutNoSa"];
            let (answer, _answered) = Reply::new();
            daemon.answer(Call { request: Request::Down { name: name.to_owned(), timeout_ms: 0 }, answer });
            let left = policies.map(|policy| daemon.pending.take(policy).count());
            assert_eq!(left, [0, stays], "{name}");
            assert_eq!(daemon.look().told().counters["OutNoSa"] - before, 2 - u64::try_from(stays).unwrap());
        }
        drop(inputs);
    });
}

#[test]
fn f_21_the_way_to_a_peer_leads_through_an_interface_under_outside_whatever_others_are_preferred() {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let _devices = ["wan0", "wan1", "wan2"].map(|name| {
            let device = crate::tun::Tun::create(name).unwrap();
            netlink.link_up(nix::net::if_::if_nametoindex(name).unwrap(), 1500).unwrap();
            device
        });
        for line in [
            "addr add 198.51.100.2/24 dev wan0",
            "addr add 198.51.101.2/24 dev wan1",
            "addr add 203.0.113.2/24 dev wan2",
            "route add default via 198.51.101.1 metric 100",
            "route add default via 203.0.113.1 metric 10",
        ] {
            ip(line);
        }
        let outside = "[gateway]\noutside = [\"wan0\", \"wan1\"]\n";
        let (mut daemon, inputs, _folder) = daemon_of("outside", &format!("{outside}{CONFIG}"));
        let standing = |daemon: &mut Daemon| {
            until(daemon, &inputs, "called", has_called);
            let sas: Vec<_> = daemon.endpoint.ike_sas().map(|ike| (ike.id, ike.path.local.ip().to_string())).collect();
            let [(id, local)] = sas.try_into().expect("one IKE SA");
            (id, local)
        };
        let (id, local) = standing(&mut daemon);
        assert_eq!(local, "198.51.101.2", "no route leads through wan0, and wan2 is not named");
        for line in ["route add default via 203.0.113.9 metric 1", "route add default via 198.51.100.1 metric 5"] {
            ip(line);
            readdress(&mut daemon, &inputs);
            assert_eq!(standing(&mut daemon), (id, local.clone()), "{line}: it was thrown away");
        }
        ip("route del default via 198.51.101.1");
        readdress(&mut daemon, &inputs);
        assert_eq!(standing(&mut daemon).1, "198.51.100.2", "its own interface leads nowhere any more");
        drop(inputs);
    });
}

#[test]
fn f_21_what_cannot_be_sent_for_want_of_an_outside_interface_says_so() {
    in_a_network_of_its_own(|| {
        add_address();
        let outside = format!("[gateway]\noutside = [\"wan7\"]\n{}", CONFIG.replace("\"any\"", "\"192.0.2.2\""));
        let (mut daemon, inputs, _folder) = daemon_of("missing", &outside);
        let cause = |daemon: &mut Daemon| daemon.peer_named("cloud").unwrap().cause;
        until(&mut daemon, &inputs, "not sent", |daemon| cause(daemon).is_some_and(|cause| cause.code == "not-sent"));
        let told = cause(&mut daemon).unwrap();
        assert!(told.text.contains("\"outside\" names wan7"), "{told:?}");
        drop(inputs);
    });
}

#[test]
fn f_79_what_a_child_lost_goes_with_its_name_over_reloads_and_goes_with_the_child() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, folder) = daemon("lost");
        let number = |daemon: &Daemon| daemon.endpoint.pad().children().next().map(|(child, _)| policy_of(child));
        let reload = |daemon: &mut Daemon, config: &str| {
            fs::write(folder.0.join("config"), config).unwrap();
            daemon.reload(None);
            until(daemon, &inputs, "reloaded", |daemon| daemon.reloads.are_over());
            number(daemon)
        };
        let first = number(&daemon);
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        daemon.plane.not_sent(first, 84, "192.0.2.1:0".parse().unwrap(), &refused);
        let packets = |daemon: &Daemon, child: Option<PolicyId>| Some(daemon.plane.lost(child?)?.packets);
        assert_eq!(reload(&mut daemon, &CONFIG.replace("active", "passive")), first);
        assert_eq!(packets(&daemon, first), Some(1), "it is the same child");
        let second = reload(&mut daemon, &CONFIG.replace("a key", "another key"));
        assert_ne!(second, first);
        assert_eq!(packets(&daemon, second), Some(1), "its totals go on, and would tell this as sent");
        assert_eq!(packets(&daemon, first), None, "each reload would leave one more");
        reload(&mut daemon, &CONFIG.replace("cloud", "other"));
        assert_eq!(packets(&daemon, second), None);
        drop(inputs);
    });
}

/// The names in the first column of the table of counters in docs/operations.md.
fn documented_counters() -> BTreeSet<String> {
    let text = include_str!("../../../docs/operations.md");
    let table = text.split("| counter | counts |").nth(1).unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    rows.flat_map(|names| names.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn f_83_every_counter_is_documented_and_no_other() {
    in_a_network_of_its_own(|| {
        let (mut daemon, inputs, _folder) = daemon("counters");
        let counters = daemon.look().told().counters;
        let ours: BTreeSet<String> = counters.into_keys().filter(|name| !name.starts_with("Xfrm")).collect();
        assert_eq!(documented_counters(), ours);
        drop(inputs);
    });
}

/// Calls while the default route leads into our device, and again when it leads to the gateway. Why not, the first time.
fn called_inwards(name: &str, local: &str, code: &str) -> crate::control::protocol::Cause {
    let mut netlink = Netlink::open().unwrap();
    let _wan = crate::tun::Tun::create("wan").unwrap();
    netlink.link_up(nix::net::if_::if_nametoindex("wan").unwrap(), 1500).unwrap();
    ip("addr add 198.51.100.2/24 dev wan");
    let full = CONFIG.replace("10.1.0.0/16", "0.0.0.0/0").replace("\"any\"", local);
    let (mut daemon, inputs, _folder) = daemon_of(name, &full);
    ip("route add default via 198.51.100.9 dev pcl0 onlink");
    let cause = |daemon: &mut Daemon| daemon.peer_named("cloud").unwrap().cause;
    until(&mut daemon, &inputs, code, |daemon| cause(daemon).is_some_and(|cause| cause.code == code));
    let told = cause(&mut daemon).unwrap();
    ip("route replace default via 198.51.100.9");
    readdress(&mut daemon, &inputs);
    let called = |daemon: &mut Daemon| cause(daemon).is_none_or(|cause| cause.code != "not-sent") && has_called(daemon);
    until(&mut daemon, &inputs, "called", called);
    drop(inputs);
    told
}

#[test]
fn f_11_a_way_that_leads_into_our_own_device_is_none() {
    in_a_network_of_its_own(|| {
        let told = called_inwards("inwards", "\"any\"", "no-route");
        assert!(told.text.ends_with("192.0.2.1: the way leads into the tunnel's own device pcl0"), "{told:?}");
    });
}

#[test]
fn f_11_what_goes_into_our_own_device_was_not_sent() {
    in_a_network_of_its_own(|| {
        let told = called_inwards("inwards-from", "\"198.51.100.2\"", "not-sent");
        assert!(told.text.ends_with("could not be sent: the way leads into the tunnel's own device pcl0"), "{told:?}");
    });
}

#[test]
fn a_packet_that_comes_while_the_daemon_starts_meets_the_rules_that_are_for_it() {
    in_a_network_of_its_own(|| {
        // Else the kernel's own multicast on the new device counts, which no rule is for.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        ip("addr add 10.2.0.1/32 dev lo");
        // So many rules that they take longer than the first packet.
        let child = |number: u16| {
            let eight = |of: &str| {
                let port = |port: u16| format!("\"{of}[udp/{}]\"", 8 * number + port);
                (1000..1008).map(port).collect::<Vec<_>>().join(", ")
            };
            let (local, remote) = (eight("10.2.0.0/16"), eight("10.1.0.0/16"));
            format!("[[peer.child]]\nname = \"c{number}\"\nlocal-ts = [{local}]\nremote-ts = [{remote}]\n")
        };
        let config = CONFIG.to_owned() + &(0..20).map(child).collect::<String>();
        std::thread::scope(|scope| {
            let (_stop, stopped) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let socket = std::net::UdpSocket::bind("10.2.0.1:0").unwrap();
                while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let _ = socket.send_to(b"early", "10.1.0.1:9"); // nowhere to go until the device is there
                }
            });
            let (daemon, inputs, _folder) = daemon_of("early-packets", &config);
            let unwanted = daemon.discarded().iter().find(|(reason, _)| *reason == Discard::OutNoPolicy);
            assert_eq!(unwanted.map(|(_, count)| count), Some(0));
            drop(inputs);
        });
    });
}

/// An IKE_SA_INIT request of somebody who calls.
fn call(spi_i: u64) -> Vec<u8> {
    let mut octets = vec![0; 400];
    let header = Header { initiator: true, ..Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, 0) };
    let mut message = MessageWriter::new(&mut octets, &header).unwrap();
    message.sa(ProtocolId::IKE, &[], offer_ike(&[IkeProposal::default()])).unwrap();
    message.ke(Group::Curve25519.id(), &[9; 32]).unwrap();
    message.nonce(&[7; 32]).unwrap();
    let len = message.finish().len;
    octets.truncate(len);
    octets
}

#[test]
fn everybody_in_a_crowd_that_calls_at_once_is_answered() {
    in_a_network_of_its_own(|| {
        ip("addr add 192.0.2.2/24 dev lo");
        ip("addr add 192.0.2.1/32 dev lo");
        let asked = CONFIG.replace("\"active\"", "\"passive\"");
        let (mut daemon, inputs, _folder) = daemon_of("crowd", &format!("[gateway]\ncookie-threshold = 0\n{asked}"));
        daemon.settle();
        let callers: Vec<_> = (0..5).map(|_| std::net::UdpSocket::bind("192.0.2.1:0").unwrap()).collect();
        for (caller, spi) in callers.iter().zip(1..) {
            let path = net::Path { local: "192.0.2.2:500".parse().unwrap(), remote: caller.local_addr().unwrap() };
            assert!(daemon.take(Input::News(News::Ike { path, message: call(spi) })).is_none());
        }
        daemon.settle();
        for (caller, spi) in callers.iter().zip(1u64..) {
            let mut cookie = [0; 100];
            caller.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let len = caller.recv(&mut cookie).expect("an answer to each");
            assert!(len > Header::LEN && cookie.starts_with(&spi.to_be_bytes()));
        }
        drop(inputs);
    });
}
