//! Thousands of peers: what there is room for is taken, and what there is not is refused with the numbers.

use super::*;

/// Peers that wait, each with a network of its own.
fn peers(count: usize) -> String {
    let peer = |number: usize| {
        let (high, low) = (number / 250, number % 250);
        CONFIG
            .replace("\"cloud\"", &format!("\"p{number}\""))
            .replace("127.0.0.2", &format!("10.200.{high}.{}", low + 1))
            .replace("10.1.0.0/16", &format!("11.{high}.{low}.0/24"))
    };
    (0..count).map(peer).collect()
}

/// Children of one peer with 64 rules each, as a pair of networks of both sides is one, and the child of `CONFIG` with one.
fn children(count: usize) -> String {
    let nets = |side: usize, child: usize| {
        let numbers = (8 * child..8 * child + 8).map(|net| format!("\"{side}.{}.{}.0/24\"", net / 250, net % 250));
        numbers.collect::<Vec<_>>().join(", ")
    };
    let child = |number: usize| {
        let (ours, theirs) = (nets(12, number), nets(13, number));
        format!("[[peer.child]]\nname = \"c{number}\"\nlocal-ts = [{ours}]\nremote-ts = [{theirs}]\n")
    };
    CONFIG.to_owned() + &(0..count).map(child).collect::<String>()
}

#[test]
fn f_31_five_thousand_peers_are_served_from_a_start_on_and_who_has_no_room_says_so_before() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("capacity");
        let (config, log) = (daemon.folder.join("config"), daemon.folder.join("log"));
        let command = |daemon: &Daemon, arguments: &[&str]| {
            let output = daemon.command(arguments).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let check = |daemon: &Daemon| command(daemon, &["check", "--config", config.to_str().unwrap()]);
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        daemon.configure(&children(1024));
        let (code, error) = check(&daemon);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("found 65537 rules") && error.contains("room for 65535"), "{error}");
        // There is room for these, but not in tables that were made for one peer.
        daemon.configure(&peers(5000));
        assert_eq!(check(&daemon).0, Some(0));
        let (code, error) = command(&daemon, &["reload"]);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("5000 peers, and the running daemon has room for 62"), "{error}");
        assert!(error.contains("the running configuration is unchanged"), "{error}");
        assert!(error.contains("a restart makes room"), "{error}");
        let routes = || {
            let ip = Command::new("ip").args(["route", "show", "table", "4500"]).env("PATH", &path).output();
            said(ip.unwrap()).lines().filter(|line| line.contains(" dev pcl0")).count()
        };
        assert_eq!(routes(), 1);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
        while daemon.told(Duration::from_millis(1)).is_some() {}

        daemon.start(&path, Stdio::from(File::create(&log).unwrap()));
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        assert_eq!(routes(), 5000);
        let nft = Command::new("nft").args(["list", "map", "inet", "portcullis", "out4"]).env("PATH", &path).output();
        let guarded = said(nft.unwrap());
        assert!(
            guarded.contains("11.0.0.0-11.0.249.255 : ") && guarded.contains("11.19.0.0-11.19.249.255 : "),
            "{guarded}"
        );
        let log = fs::read_to_string(log).unwrap();
        assert!(!log.contains("ERROR") && log.contains("portcullis runs"), "did rules find no room? {log}");
    });
}
