//! What the log says of single packets and messages, and how often.

use super::*;

/// What NAT has rewritten, and what comes back because somebody changes our firewall mark, has an address of ours.
#[test]
fn f_72_packets_of_ours_that_fit_no_policy_are_told_with_what_may_have_brought_them() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut ip = Command::new("ip");
        assert!(ip.args(["addr", "add", "192.0.2.2/32", "dev", "lo"]).env("PATH", &path).status().unwrap().success());
        for (port, may_be_ours) in [(5060, false), (4500, true), (500, true)] {
            let mut daemon = Daemon::new(&format!("strays-{port}"));
            let log = daemon.folder.join("log");
            daemon.start(&path, File::create(&log).unwrap().into());
            assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
            let socket = UdpSocket::bind(("192.0.2.2", port)).unwrap();
            let dropped = || {
                let status = said(daemon.command(&["status", "--all", "--json"]).output().unwrap());
                let status: serde_json::Value = serde_json::from_str(&status).unwrap();
                status["counters"]["OutNoPolicy"].as_u64().unwrap()
            };
            // The one before the last is done with when the last one is counted.
            let before = dropped();
            wait_for("all of them are dropped", || {
                socket.send_to(b"x", "10.1.0.9:4500").unwrap();
                dropped() >= before + 20
            });
            wait_for_words(&log, &["192.0.2.2, which is ours, to 10.1.0.9"]);
            let log = fs::read_to_string(&log).unwrap();
            let lines: Vec<_> =
                log.lines().filter(|line| line.contains("192.0.2.2, which is ours, to 10.1.0.9")).collect();
            assert_eq!(lines.len(), 1, "{log}");
            // A host behind us may have sent the others as well.
            assert!(lines[0].contains("NAT has rewritten it"), "{log}");
            assert_eq!(lines[0].contains("firewall mark"), may_be_ours, "{log}");
        }
    });
}

/// An IKE_SA_INIT request with this SPI, which everybody answers with a cookie.
fn knock(spi: u32) -> Vec<u8> {
    let mut message = vec![0xff; 4];
    message.extend(spi.to_be_bytes());
    message.extend([0; 8]);
    message.extend([33, 0x20, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 144]);
    // AES-256 in GCM, PRF_HMAC_SHA2_256, x25519.
    message.extend([34, 0, 0, 40, 0, 0, 0, 36, 1, 1, 0, 3]);
    message.extend([3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 1, 0, 3, 0, 0, 8, 2, 0, 0, 5, 0, 0, 0, 8, 4, 0, 0, 31]);
    message.extend([40, 0, 0, 40, 0, 31, 0, 0]);
    message.extend([9; 32]);
    message.extend([0, 0, 0, 36]);
    message.extend([7; 32]);
    message
}

#[test]
fn atk_50_strangers_do_not_fill_the_log_of_messages_with_our_answers_to_them() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("flood");
        daemon.configure(&format!("[gateway]\nlog = \"debug\"\ncookie-threshold = 0\n{CONFIG}"));
        let log = daemon.folder.join("log");
        daemon.start(&path, File::create(&log).unwrap().into());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let socket = UdpSocket::bind(("127.0.0.2", 500)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let began = Instant::now();
        for spi in 1..=2000 {
            socket.send_to(&knock(spi), "127.0.0.1:500").unwrap();
            socket.recv(&mut [0; 256]).unwrap();
        }
        let periods = usize::try_from(began.elapsed().as_secs() / 10).unwrap() + 2;
        let log = fs::read_to_string(&log).unwrap();
        let told = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        let (sent, received) = (told("sent IKE_SA_INIT response"), told("received IKE_SA_INIT request"));
        assert!((100..=200 * periods).contains(&sent), "{sent} lines of 2000 answers, {received} of the questions");
    });
}

#[test]
fn f_83_at_trace_each_packet_that_is_discarded_is_told_with_the_reason_and_a_flood_of_them_is_not() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("trace");
        daemon.configure(&format!("[gateway]\nlog = \"trace\"\n{CONFIG}"));
        let log = daemon.folder.join("log");
        daemon.start(&path, File::create(&log).unwrap().into());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        let lines = || {
            let log = fs::read_to_string(&log).unwrap();
            log.lines().filter(|line| line.contains("a packet was discarded")).map(str::to_owned).collect::<Vec<_>>()
        };
        let began = Instant::now();
        wait_for("one of them is told", || {
            let _ = socket.send_to(b"x", "10.1.0.9:7");
            lines()
                .iter()
                .any(|line| line.contains("OutNoPolicy") && line.contains("10.1.0.9") && line.contains("TRACE"))
        });
        (0..2000).for_each(|_| drop(socket.send_to(b"x", "10.1.0.9:7")));
        let periods = usize::try_from(began.elapsed().as_secs() / 10).unwrap() + 2;
        assert!(lines().len() <= 200 * periods, "{} lines", lines().len());
    });
}
