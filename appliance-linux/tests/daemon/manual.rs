//! Manual keys over restarts: no sequence number is ever used twice, and where that cannot be known nothing is sent.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;

const KEYS: [&str; 2] = ["0x000102030405060708090a0b0c0d0e0f10111213", "0x202122232425262728292a2b2c2d2e2f30313233"];

fn config(lines: &str) -> String {
    [("out", "0x2001", KEYS[0], lines), ("in", "0x1001", KEYS[1], "")]
        .map(|(direction, spi, key, lines)| {
            format!(
                "[[sa]]\ndirection = \"{direction}\"\nspi = {spi}\nlocal = \"127.0.0.1\"\nremote = \"127.0.0.2\"\n\
                 suite = \"aes128gcm16\"\nkey = \"{key}\"\nencap = 4500\nlocal-ts = \"10.2.0.0/16\"\n\
                 remote-ts = \"10.1.0.0/16\"\n{lines}\n"
            )
        })
        .concat()
}

/// The peer's end: what it is sent, and a host behind us that sends.
struct Ends {
    peer: UdpSocket,
    host: UdpSocket,
}

impl Ends {
    fn new(path: &str) -> Self {
        let run = |arguments: &[&str]| {
            assert!(Command::new("ip").args(arguments).env("PATH", path).status().unwrap().success(), "{arguments:?}");
        };
        run(&["address", "add", "10.2.0.1/16", "dev", "lo"]);
        let peer = UdpSocket::bind("127.0.0.2:4500").unwrap();
        peer.set_nonblocking(true).unwrap();
        let host = UdpSocket::bind("10.2.0.1:5000").unwrap();
        host.set_nonblocking(true).unwrap();
        Self { peer, host }
    }

    /// Sends packets for so long; the sequence numbers that came out.
    fn send(&self, time: Duration) -> Vec<u32> {
        let until = Instant::now() + time;
        let mut numbers = Vec::new();
        while Instant::now() < until {
            let _ = self.host.send_to(b"a secret", "10.1.0.5:5000"); // there may be no device
            numbers.extend(self.hear());
            thread::sleep(Duration::from_micros(300));
        }
        numbers
    }

    /// What has come.
    fn hear(&self) -> Vec<u32> {
        let mut octets = [0; 2048];
        let mut numbers = Vec::new();
        loop {
            match self.peer.recv(&mut octets) {
                Ok(8..) => {
                    assert_eq!(octets[..4], 0x2001_u32.to_be_bytes(), "nothing but ESP of this SA");
                    numbers.push(u32::from_be_bytes(octets[4..8].try_into().unwrap()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return numbers,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until something goes through.
    fn goes(&self) -> Vec<u32> {
        let mut numbers = Vec::new();
        wait_for("packets go", || {
            numbers.extend(self.send(Duration::from_millis(20)));
            !numbers.is_empty()
        });
        numbers
    }
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_uses_no_number_twice() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("killed");
        daemon.configure(&config(""));
        let ends = Ends::new(&path);
        let (mut used, mut starts) = (BTreeSet::new(), 0);
        let mut moment = 0x9e37_79b9_u32;
        for round in 0..16 {
            daemon.start(&path, Stdio::null());
            let mut numbers = Vec::new();
            moment = moment.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if round % 3 == 0 {
                numbers = ends.goes();
            }
            // From before anything is set aside to some time after.
            numbers.extend(ends.send(Duration::from_millis(u64::from(moment >> 23))));
            daemon.signal(Signal::SIGKILL);
            assert_eq!(daemon.ended(), None, "killed");
            numbers.extend(ends.hear());
            starts += usize::from(!numbers.is_empty());
            for number in numbers {
                assert!(used.insert(number), "number {number} a second time, in round {round}");
            }
            while daemon.told(Duration::from_millis(1)).is_some() {}
        }
        assert!(starts >= 6 && used.len() > 100, "{starts} starts sent {} packets", used.len());
    });
}

#[test]
fn without_what_was_kept_nothing_is_sent_until_the_operator_says_from_where_on() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("lost");
        daemon.configure(&config(""));
        let (ends, state) = (Ends::new(&path), daemon.folder.join("state"));
        let log = daemon.folder.join("log");
        let start = |daemon: &mut Daemon| {
            while daemon.told(Duration::from_millis(1)).is_some() {}
            daemon.start(&path, Stdio::from(File::create(&log).unwrap()));
            assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"), "{}", fs::read_to_string(&log).unwrap());
        };
        let stop = |daemon: &mut Daemon| {
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.ended(), Some(0));
        };
        let cause = |daemon: &Daemon| said(daemon.command(&["status", "--json"]).output().unwrap());

        start(&mut daemon);
        wait_for_words(&log, &["must not have manual keys (RFC 8221", "manual{peer=\"sa\"}: SAs with manual keys up"]);
        let first = ends.goes();
        assert_eq!(first[0], 1);
        let shown = said(daemon.command(&["show"]).output().unwrap());
        assert!(shown.contains("spi 0x00002001 enc aes128gcm16-noesn udpencap child sa/0x00002001"), "{shown}");
        assert!(
            shown.contains("from 10.2.0.0/16 to 10.1.0.0/16 peer 127.0.0.2 type require child sa/0x00002001"),
            "{shown}"
        );
        assert_eq!(daemon.command(&["status"]).output().unwrap().status.code(), Some(0));
        let kept = fs::read_to_string(state.join("sequence.jsonl")).unwrap();
        assert!(kept.contains("\"until\":1048576") && !kept.contains("0001020304"), "{kept}");
        stop(&mut daemon);
        drop(ends.hear());

        fs::remove_file(state.join("sequence.jsonl")).unwrap();
        start(&mut daemon);
        wait_for("it is refused", || cause(&daemon).contains("sequence-lost"));
        assert!(ends.send(Duration::from_millis(200)).is_empty(), "neither protected nor in clear");
        assert_eq!(daemon.command(&["status"]).output().unwrap().status.code(), Some(4));
        daemon.configure(&config("sequence = 5000000"));
        assert_eq!(daemon.command(&["reload"]).output().unwrap().status.code(), Some(0));
        let sent = *ends.goes().last().unwrap();
        assert!(sent > 5_000_000);
        // The number need not stand there any more: what goes on goes on behind it.
        daemon.configure(&config(""));
        assert_eq!(daemon.command(&["reload"]).output().unwrap().status.code(), Some(0));
        assert!(ends.goes()[0] > sent);
        // And back again, with the same key.
        daemon.configure(&config("sequence = 5000000"));
        assert_eq!(daemon.command(&["reload"]).output().unwrap().status.code(), Some(0));
        daemon.configure(&config("sequence = 4000000"));
        let refused = daemon.command(&["reload"]).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && told.contains("found sequence = 4000000 with a key that had 5000000"),
            "{told}"
        );
        assert!(!ends.goes().is_empty(), "everything is as it was");
        stop(&mut daemon);

        fs::remove_dir_all(&state).unwrap();
        fs::write(&state, "no folder").unwrap();
        start(&mut daemon);
        wait_for("it is refused", || cause(&daemon).contains("sequence-not-kept"));
        drop(ends.hear());
        assert!(ends.send(Duration::from_millis(200)).is_empty());
        assert_eq!(daemon.command(&["status"]).output().unwrap().status.code(), Some(4));
        // Nobody has to start it anew.
        fs::remove_file(&state).unwrap();
        assert!(!ends.goes().is_empty());
        assert_eq!(daemon.command(&["status"]).output().unwrap().status.code(), Some(0));
        stop(&mut daemon);
    });
}

#[test]
fn a_pair_is_taken_down_and_up_by_its_name_and_whoever_asks_hears_what_came_of_it() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("named");
        daemon.configure(&config(""));
        let ends = Ends::new(&path);
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let last = *ends.goes().last().unwrap();
        let asked = |arguments: &[&str]| {
            let output = daemon.command(arguments).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (code, told) = asked(&["down", "sa/0x00002001"]);
        assert!(code == Some(0) && told.contains("sa/0x00002001 is down"), "{told}");
        drop(ends.hear());
        assert!(ends.send(Duration::from_millis(200)).is_empty(), "neither protected nor in clear");
        let (code, told) = asked(&["status"]);
        assert!(code == Some(0) && told.contains("sa/0x00002001  down  127.0.0.2, "), "{told}");
        assert_eq!(asked(&["status", "sa/0x00002001"]).0, Some(4), "what is asked for by name is not up");
        let (code, told) = asked(&["up", "sa/0x00002001"]);
        assert!(code == Some(0) && told.contains("sa/0x00002001 is up after"), "{told}");
        assert!(ends.goes()[0] > last, "behind all that was used before");
        let (code, told) = asked(&["rekey", "sa/0x00002001"]);
        assert!(code == Some(1) && told.contains("manual-keys"), "{told}");
        assert_eq!(asked(&["down", "sa/0x00003001"]).0, Some(1));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
    });
}

#[test]
fn what_the_kernel_does_not_take_is_no_traffic_of_a_pair_and_status_says_so() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("nowhere");
        // An address that this machine does not have.
        daemon.configure(&config("").replace("127.0.0.1", "192.0.2.77").replace("127.0.0.2", "192.0.2.31"));
        let ends = Ends::new(&path);
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let status = || daemon.command(&["status", "--json"]).output().unwrap();
        wait_for("it is told", || {
            assert!(ends.send(Duration::from_millis(20)).is_empty());
            String::from_utf8_lossy(&status().stdout).contains("\"not-sent\"")
        });
        // The packets are those that the counters are without.
        let output = status();
        assert_eq!(output.status.code(), Some(4));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let pair = &told["manual"][0];
        let [packets, octets] = ["packets_out", "bytes_out"].map(|key| pair[key].as_u64());
        assert_eq!((packets, octets, pair["last_out_s"].as_u64()), (Some(0), Some(0), None), "{pair}");
        assert!(told["counters"]["SendErrors"].as_u64() > Some(0), "{told}");
        // A reload that is about something else forgets none of that.
        daemon.configure(
            &(config("").replace("127.0.0.1", "192.0.2.77").replace("127.0.0.2", "192.0.2.31")
                + "[[policy]]\naction = \"discard\"\nprotocol = \"gre\"\n"),
        );
        assert_eq!(daemon.command(&["reload"]).output().unwrap().status.code(), Some(0));
        let told: serde_json::Value = serde_json::from_slice(&status().stdout).unwrap();
        assert_eq!(told["manual"][0]["packets_out"].as_u64(), Some(0), "{told}");
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
    });
}
