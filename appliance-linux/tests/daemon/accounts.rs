//! What went through is counted on over restarts, however the daemon ended.

use super::*;

const HEAD: &str = "{\"version\":1,\"accounts\":2}\n";
const NET: &str = "{\"peer\":\"cloud\",\"child\":\"net\",\"party\":\"127.0.0.2\",\"bytes_in\":4711,\"bytes_out\":5,\
                   \"packets_in\":3,\"packets_out\":1}\n";
/// Of what is configured no more.
const OLD: &str = "{\"peer\":\"gone\",\"child\":\"net\",\"party\":\"127.0.0.3\",\"bytes_in\":1,\"bytes_out\":0,\
                   \"packets_in\":1,\"packets_out\":0}\n";

#[test]
fn what_went_through_is_counted_on_after_an_end_a_kill_a_damage_and_without_a_place_to_keep_it() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("accounts");
        let (state, log) = (daemon.folder.join("state"), daemon.folder.join("log"));
        let kept = || fs::read_to_string(state.join("accounts.jsonl")).unwrap_or_default();
        let whole = [HEAD, NET, OLD].concat();
        let start = |daemon: &mut Daemon| {
            while daemon.told(Duration::from_millis(1)).is_some() {}
            daemon.start(&path, Stdio::from(File::create(&log).unwrap()));
            assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"), "{}", fs::read_to_string(&log).unwrap());
        };
        let octets = |daemon: &Daemon| {
            let status = said(daemon.command(&["status", "--json"]).output().unwrap());
            let shown = said(daemon.command(&["show", "accounts", "--json"]).output().unwrap());
            (status.contains("\"bytes_in\":4711"), shown.contains(NET.trim()), shown.contains(OLD.trim()))
        };

        fs::create_dir(&state).unwrap();
        fs::write(state.join("accounts.jsonl"), &whole).unwrap();
        start(&mut daemon);
        assert_eq!(octets(&daemon), (true, true, true));
        daemon.signal(Signal::SIGTERM);
        assert_eq!((daemon.ended(), kept()), (Some(0), whole.clone()));

        start(&mut daemon);
        daemon.signal(Signal::SIGKILL);
        assert_eq!((daemon.ended(), kept()), (None, whole.clone()));

        fs::write(state.join("accounts.jsonl"), [HEAD, NET, "what is this\n"].concat()).unwrap();
        start(&mut daemon);
        assert_eq!(octets(&daemon), (true, true, false));
        wait_for("what can be read is written", || kept() == [&HEAD.replace('2', "1"), NET].concat());
        wait_for_words(&log, &["is damaged (line 3: ", "accounts.unreadable"]);
        assert!(fs::read_to_string(state.join("accounts.unreadable")).unwrap().contains("what is this"));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));

        fs::remove_dir_all(&state).unwrap();
        fs::write(&state, "no folder").unwrap();
        start(&mut daemon);
        assert_eq!(octets(&daemon), (false, false, false));
        wait_for_words(&log, &["is not kept over restarts"]);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
    });
}

#[test]
fn a_disk_that_hangs_holds_up_no_start_and_what_it_says_late_is_counted_on() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("slow-disk");
        let (state, log) = (daemon.folder.join("state"), daemon.folder.join("log"));
        let file = state.join("accounts.jsonl");
        fs::create_dir(&state).unwrap();
        // Whoever reads it waits until somebody writes.
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        daemon.start(&path, Stdio::from(File::create(&log).unwrap()));
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        wait_for_words(&log, &["the disk takes too long: what went through before"]);
        let shown = || said(daemon.command(&["show", "accounts", "--json"]).output().unwrap());
        assert!(!shown().contains(NET.trim()));
        fs::write(&file, [HEAD, NET, OLD].concat()).unwrap();
        wait_for("it is read", || shown().contains(NET.trim()));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
        assert_eq!(fs::read_to_string(&file).unwrap(), [HEAD, NET, OLD].concat());
    });
}

#[test]
fn a_stop_while_the_start_waits_for_a_disk_that_hangs_is_not_made_to_wait_for_it() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("stop-at-disk");
        let (state, log) = (daemon.folder.join("state"), daemon.folder.join("log"));
        let file = state.join("accounts.jsonl");
        fs::create_dir(&state).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        daemon.start(&path, Stdio::from(File::create(&log).unwrap()));
        // The last thread that is begun before that.
        let tasks = format!("/proc/{}/task", daemon.pid());
        let is_icmp =
            |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "icmp\n");
        wait_for("the data plane runs", || fs::read_dir(&tasks).unwrap().flatten().any(is_icmp));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("portcullis ends") && !log.contains("the disk takes too long"), "{log}");
        let kept = fs::symlink_metadata(&file).unwrap();
        assert!(!kept.is_file(), "nothing is written in the place of what was not read");
    });
}
