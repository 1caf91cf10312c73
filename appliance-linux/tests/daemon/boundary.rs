//! What stays closed over restarts, and what is said of what does not.

use super::*;

#[test]
fn f_03_block_keeps_in_what_is_to_be_protected_whatever_became_of_the_keys() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("keys");
        let key = daemon.folder.join("cloud.psk");
        daemon.configure(
            &CONFIG.replace("psk    = \"a key of more than twenty characters\"", "psk-file = \"cloud.psk\""),
        );
        let run = |program: &str, arguments: &[&str]| {
            said(Command::new(program).args(arguments).env("PATH", &path).output().unwrap())
        };
        let command = |arguments: &[&str]| {
            let output = daemon.command(arguments).env("PATH", &path).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let config = daemon.folder.join("config");
        let open_to_all = || {
            fs::write(&key, "a key of more than twenty characters").unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        };
        let a_folder = || {
            fs::remove_file(&key).unwrap();
            fs::create_dir(&key).unwrap();
        };
        let spoilt: [(&str, &dyn Fn()); 3] = [("gone", &|| ()), ("open", &open_to_all), ("a folder", &a_folder)];
        for (what, spoil) in spoilt {
            spoil();
            assert_eq!(command(&["check", "--config", config.to_str().unwrap()]).0, Some(2), "{what}");
            let (code, error) = command(&["block", "--config", config.to_str().unwrap()]);
            assert_eq!((code, error.as_str()), (Some(0), ""), "{what}");
            let guard = run("nft", &["list", "table", "inet", "portcullis"]);
            assert!(guard.contains("10.1.0.0/16"), "{what}: {guard}");
            let routes = run("ip", &["route", "show", "table", "4500"]);
            assert!(routes.contains("unreachable 10.1.0.0/16"), "{what}: {routes}");
            assert_eq!(command(&["release"]), (Some(0), String::new()), "{what}");
            assert_eq!(run("nft", &["list", "tables"]), "", "{what}");
        }
        // A daemon that does not start for want of its keys leaves that in place.
        assert_eq!(command(&["block", "--config", config.to_str().unwrap()]).0, Some(0));
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.ended(), Some(2));
        let guard = run("nft", &["list", "table", "inet", "portcullis"]);
        assert!(guard.contains("10.1.0.0/16"), "{guard}");
    });
}

#[test]
fn f_81_block_and_release_say_what_they_lack() {
    in_a_network_of_its_own(|| {
        let daemon = Daemon::new("lack");
        let config = daemon.folder.join("config");
        for (arguments, done) in
            [(&["release"][..], "released"), (&["block", "--config", config.to_str().unwrap()], "blocked")]
        {
            let mut command = Command::new("setpriv");
            command.args(["--inh-caps=-all", "--bounding-set=-all", "--", env!("CARGO_BIN_EXE_portcullis")]);
            let output = command.args(arguments).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{error}");
            let lines: Vec<_> = error.lines().collect();
            assert!(lines[0].starts_with(&format!("not {done}: ")), "{error}");
            assert!(lines[1].starts_with("hint: root is needed, or CAP_NET_ADMIN"), "{error}");
        }
    });
}

/// What a start with this configuration logs until it is ended, and what `status --json` said meanwhile.
fn told_by_a_run(daemon: &mut Daemon, config: &str) -> (String, String) {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    daemon.configure(config);
    let (log, write) = pipe().map(|(read, write)| (File::from(read), write)).unwrap();
    let log = drained(log);
    daemon.start(&path, Stdio::from(write));
    assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
    let status = said(daemon.command(&["status", "--json"]).output().unwrap());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.told(SOON).as_deref(), Some("STOPPING=1"));
    assert_eq!(daemon.ended(), Some(0));
    (log.join().unwrap(), status)
}

#[test]
fn f_04_a_restart_names_the_networks_that_the_one_before_protected_and_this_one_does_not() {
    in_a_network_of_its_own(|| {
        let mut daemon = Daemon::new("bared");
        let two = CONFIG.replace("[\"10.1.0.0/16\"]", "[\"10.1.0.0/16\", \"10.4.0.0/15\"]");
        let (first, status) = told_by_a_run(&mut daemon, &two);
        assert!(!first.contains("no child has it any more"), "{first}");
        assert!(status.contains("\"state\":\"closed\""), "{status}");
        // In two parts one of them is still protected.
        let other = two.replace("10.4.0.0/15", "10.4.0.0/16\", \"10.5.0.0/16").replace("10.1.0.0/16", "10.9.0.0/16");
        let (log, _) = told_by_a_run(&mut daemon, &other);
        let told: Vec<&str> = log.lines().filter(|line| line.contains("no child has it any more")).collect();
        assert!(told.len() == 1 && told[0].contains("WARN 10.1.0.0/16: no child has it"), "{log}");
        // One that is ours now is reached as without us; what a reload says of that, a start says too.
        told_by_a_run(&mut daemon, CONFIG);
        let (log, _) =
            told_by_a_run(&mut daemon, &CONFIG.replace("10.1.0.0/16", "10.0.0.0/8").replace("10.2.", "10.1."));
        let told: Vec<&str> = log.lines().filter(|line| line.contains("no child has it any more")).collect();
        assert!(told.len() == 1 && told[0].contains("WARN 10.1.0.0/16: no child has it"), "{log}");
        let all = CONFIG.replace("10.1.0.0/16", "0.0.0.0/0");
        told_by_a_run(&mut daemon, &all);
        let (log, _) = told_by_a_run(&mut daemon, &all.replace("10.2.0.0/16", "10.2.0.0/15"));
        let told: Vec<&str> = log.lines().filter(|line| line.contains("no child has it any more")).collect();
        assert!(told.len() == 1 && told[0].contains("WARN 10.3.0.0/16: no child has it"), "{log}");
    });
}

#[test]
fn f_13_of_everything_to_everything_the_log_and_status_say_that_it_is_not_guarded() {
    in_a_network_of_its_own(|| {
        let mut daemon = Daemon::new("everything");
        let (log, status) =
            told_by_a_run(&mut daemon, &CONFIG.replace("10.2.0.0/16", "any").replace("10.1.0.0/16", "any"));
        assert!(log.contains("warning: everything to everything: what your own routes do not lead to pcl0"), "{log}");
        assert!(
            status.contains("\"state\":\"weak\"") && status.contains("\"left_to_routes\":[\"cloud/net\"]"),
            "{status}"
        );
        assert!(status.contains("what your own routes do not lead to pcl0 is in clear"), "{status}");
    });
}

#[test]
fn f_07_a_network_of_ours_that_the_default_route_alone_leads_to_is_named_as_long_as_it_is_so() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let ip = |line: &str| {
            let output = Command::new("ip").args(line.split(' ')).env("PATH", &path).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        };
        ip("link add wan type veth peer name far");
        ["link set wan up", "link set far up", "addr add 192.0.2.2/24 dev wan"].into_iter().for_each(ip);
        ip("route add default via 192.0.2.1");
        // Without nft, or one that works, nothing drops it.
        let mut unguarded = Daemon::new("nowhere-in-clear");
        let (log, nft) = (unguarded.folder.join("log"), unguarded.folder.join("nft"));
        fs::write(&nft, "#!/bin/sh\nexit 1\n").unwrap();
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
        unguarded.start(&format!("{}:{path}", unguarded.folder.display()), File::create(&log).unwrap().into());
        assert_eq!(unguarded.told(SOON).as_deref(), Some("READY=1"));
        wait_for_words(&log, &["what peers send there leaves in clear, as there is no guard"]);
        drop(unguarded);
        let mut daemon = Daemon::new("nowhere");
        daemon.configure(CONFIG);
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let status = |arguments: &[&str]| said(daemon.command(&[&["status"], arguments].concat()).output().unwrap());
        let listed = || {
            let status: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
            status["boundary"]["led_outside"].clone()
        };
        let file = daemon.folder.join("config");
        let doctor = || said(daemon.command(&["doctor", "--config"]).arg(&file).env("PATH", &path).output().unwrap());
        assert_eq!(listed(), serde_json::json!(["10.2.0.0/16"]));
        let text = status(&[]);
        assert!(text.contains("led outside where nothing says that they lie: 10.2.0.0/16"), "{text}");
        let found = doctor();
        let line = "led outside, where nothing says that they lie: 10.2.0.0/16; what peers send there is dropped";
        assert!(found.contains(line), "{found}");
        ip("route add 10.2.0.0/16 via 192.0.2.9");
        wait_for("it lies there", || listed() == serde_json::json!([]));
        assert!(!doctor().contains("default route leads to"), "{}", doctor());
    });
}
