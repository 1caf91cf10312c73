//! Reloads that come to nothing.

use super::*;

#[test]
fn f_29_a_reload_that_is_refused_after_its_client_has_left_is_told_in_the_log() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("left");
        // An nft that, when it is told to, waits and then refuses.
        let [refuse, asked, go] = daemon.nft("echo no >&2; exit 1");
        let log = daemon.folder.join("log");
        let search = format!("{}:{path}", daemon.folder.display());
        daemon.start(&search, Stdio::from(File::create(&log).unwrap()));
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        File::create(&refuse).unwrap();
        daemon.configure(&CONFIG.replace("10.1.0.0/16", "10.3.0.0/16"));
        let mut client = daemon.command(&["reload"]).stderr(Stdio::null()).spawn().unwrap();
        assert!(daemon.told(SOON).unwrap().starts_with("RELOADING=1"));
        wait_for("nft is asked", || asked.exists());
        client.kill().unwrap();
        client.wait().unwrap();
        File::create(&go).unwrap();
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        wait_for_words(&log, &["reload: ", "the running configuration is unchanged"]);
    });
}

#[test]
fn f_29_a_reload_that_the_end_comes_before_has_not_happened() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("given-up");
        let [wait, asked, go] = daemon.nft(":");
        let log = daemon.folder.join("log");
        let search = format!("{}:{path}", daemon.folder.display());
        daemon.start(&search, Stdio::from(File::create(&log).unwrap()));
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        File::create(&wait).unwrap();
        daemon.configure(&CONFIG.replace("10.1.0.0/16", "10.3.0.0/16"));
        daemon.signal(Signal::SIGHUP);
        assert!(daemon.told(SOON).unwrap().starts_with("RELOADING=1"));
        wait_for("nft is asked", || asked.exists());
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        assert_eq!(daemon.told(SOON).as_deref(), Some("STOPPING=1"));
        File::create(&go).unwrap();
        assert_eq!(daemon.ended(), Some(0));
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("the running configuration is unchanged"), "{log}");
        assert!(log.contains("10.1.0.0/16 stays blocked until"), "{log}");
    });
}

#[test]
fn f_81_a_reload_of_a_file_that_is_wrong_exits_as_check_does() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("wrong");
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        daemon.configure(&CONFIG.replace("10.1.0.0/16", "10.1.0.0/99"));
        for arguments in [&["reload"][..], &["reload", "--dry-run"]] {
            let output = daemon.command(arguments).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{told}");
            assert!(told.contains("config:12:") && told.contains("unchanged"), "{told}");
        }
    });
}
