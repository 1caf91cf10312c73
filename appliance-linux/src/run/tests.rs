use std::fs;
use std::process::Command;

use super::*;
use crate::namespace::in_a_network_of_its_own;
use crate::netlink::Netlink;

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

#[test]
fn f_25_addresses_that_could_not_be_read_once_are_followed_all_the_same() {
    in_a_network_of_its_own(|| {
        let folder = Folder(std::env::temp_dir().join(format!("portcullis-readdress-{}", std::process::id())));
        fs::create_dir_all(&folder.0).unwrap();
        let config = Config::parse(CONFIG).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let level = logging::start(LevelFilter::OFF, false);
        let started = Daemon::start(&folder.0.join("config"), &folder.0.join("control"), config, level);
        let (mut daemon, inputs) = started.unwrap_or_else(|trouble| panic!("{trouble}"));
        let peer = |daemon: &mut Daemon| daemon.peer_named("cloud").unwrap();
        // Until its next turn is far enough away.
        while peer(&mut daemon).retry_ms.is_none_or(|wait| wait < 3500) {
            std::thread::sleep(daemon.patience().min(Duration::from_millis(20)));
            daemon.settle();
        }
        assert_eq!(peer(&mut daemon).cause.unwrap().code, Cause::UNROUTABLE);

        // What its threads tell of this nobody takes here: it is told once, and then not read.
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut ip = Command::new("ip");
        assert!(ip.args(["addr", "add", "192.0.2.2/24", "dev", "lo"]).env("PATH", path).status().unwrap().success());
        let whole = daemon.machine.ask_through(Netlink::to_nobody().unwrap());
        daemon.readdress();
        daemon.settle();
        assert_eq!(daemon.endpoint.ike_sas().count(), 0);
        drop(daemon.machine.ask_through(whole));
        let began = Instant::now();
        while daemon.endpoint.ike_sas().next().is_none() {
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", peer(&mut daemon));
            std::thread::sleep(daemon.patience().min(Duration::from_millis(20)));
            daemon.settle();
        }
        assert_eq!(daemon.machine.deadline(), None, "tried again and again");
        drop(inputs);
    });
}
