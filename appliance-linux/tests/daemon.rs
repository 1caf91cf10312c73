//! The daemon as its service manager meets it: when it says that it is ready, and how it ends.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe};

use namespace::in_a_network_of_its_own;
use src::netlink;

#[path = "daemon/accounts.rs"]
mod accounts;
#[path = "daemon/boundary.rs"]
mod boundary;
#[path = "daemon/capacity.rs"]
mod capacity;
#[path = "daemon/log.rs"]
mod log;
#[path = "daemon/manual.rs"]
mod manual;
#[path = "../src/namespace.rs"]
mod namespace;
#[path = "daemon/network.rs"]
mod network;
#[path = "daemon/reloads.rs"]
mod reloads;
/// The modules of the daemon that a test uses, too.
#[allow(dead_code, unused_imports, reason = "the other half serves the daemon")]
#[path = "../src"]
mod src {
    pub(crate) mod netlink;
}

/// Long enough for whatever must happen.
const SOON: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[[peer]]
name   = "cloud"
local  = "127.0.0.1"
remote = "127.0.0.2"
psk    = "a key of more than twenty characters"
start  = "passive"

[[peer.child]]
name      = "net"
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.1.0.0/16"]
"#;

/// A daemon, and what it tells its service manager; its end is that of the daemon and of its files.
struct Daemon {
    folder: PathBuf,
    manager: UnixDatagram,
    process: Option<Child>,
}

impl Daemon {
    fn new(name: &str) -> Self {
        // What is under /tmp may be in memory, where no numbers of manual keys are kept.
        let folder = PathBuf::from(format!("/var/tmp/portcullis-daemon-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let manager = UnixDatagram::bind(folder.join("notify")).unwrap();
        let daemon = Self { folder, manager, process: None };
        daemon.configure(CONFIG);
        daemon
    }

    fn configure(&self, text: &str) {
        let path = self.folder.join("config");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("--control").arg(self.folder.join("control")).args(arguments);
        command
    }

    /// An nft that waits once the first of these files is there, says so with the second, and does this when the third is.
    fn nft(&self, then: &str) -> [PathBuf; 3] {
        let nft = self.folder.join("nft");
        let [wait, asked, go] = ["wait", "asked", "go"].map(|name| self.folder.join(name));
        let text = format!(
            "#!/bin/sh\nif [ -e {} ]; then : > {}; while [ ! -e {} ]; do sleep 0.02; done; {then}; fi\n\
             PATH=\"${{PATH#*:}}\"\nexec nft \"$@\"\n",
            wait.display(),
            asked.display(),
            go.display()
        );
        fs::write(&nft, text).unwrap();
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
        [wait, asked, go]
    }

    fn start(&mut self, path: &str, log: Stdio) {
        let mut run = self.command(&["run", "--config"]);
        run.arg(self.folder.join("config")).env("NOTIFY_SOCKET", self.folder.join("notify")).env("PATH", path);
        run.env("STATE_DIRECTORY", self.folder.join("state"));
        self.process = Some(run.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// What the manager is told next; none within this time.
    fn told(&self, limit: Duration) -> Option<String> {
        self.manager.set_read_timeout(Some(limit)).unwrap();
        let mut text = [0; 256];
        let length = self.manager.recv(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().unwrap().id().cast_signed())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Its exit code, when it has ended by itself.
    fn ended(&mut self) -> Option<i32> {
        let process = self.process.as_mut().unwrap();
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if let Some(status) = process.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn said(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !there() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the log tells each of these: it is written by a thread of its own, behind what else is told.
fn wait_for_words(log: &Path, words: &[&str]) {
    let told = || fs::read_to_string(log).unwrap();
    wait_for(&format!("the log tells {words:?}"), || words.iter().all(|words| told().contains(words)));
}

#[test]
fn ready_is_said_when_the_boundary_stands_and_the_sockets_listen() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("ready");
        let taken = UdpSocket::bind("0.0.0.0:500").unwrap();
        daemon.start(&path, Stdio::null());
        assert_ne!(daemon.ended(), Some(0), "without a socket");
        assert_eq!(daemon.told(Duration::from_millis(1)), None);
        drop(taken);

        // An nft that waits before it does anything.
        let nft = daemon.folder.join("nft");
        let (asked, go) = (daemon.folder.join("asked"), daemon.folder.join("go"));
        let text = format!(
            "#!/bin/sh\n: > {}\nwhile [ ! -e {} ]; do sleep 0.02; done\nPATH=\"${{PATH#*:}}\"\nexec nft \"$@\"\n",
            asked.display(),
            go.display()
        );
        fs::write(&nft, text).unwrap();
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
        daemon.start(&format!("{}:{path}", daemon.folder.display()), Stdio::null());
        wait_for("nft is asked", || asked.exists());
        assert_eq!(daemon.told(Duration::from_millis(300)), None, "before the guard");
        File::create(&go).unwrap();
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let run = |program: &str, arguments: &[&str]| {
            said(Command::new(program).args(arguments).env("PATH", &path).output().unwrap())
        };
        let guard = run("nft", &["list", "tables", "inet"]);
        assert!(guard.lines().any(|line| line == "table inet portcullis"), "{guard}");
        let routes = run("ip", &["route", "show", "table", "4500"]);
        assert!(routes.contains("10.1.0.0/16 dev pcl0"), "{routes}");
        assert!(fs::read_to_string("/proc/net/udp").unwrap().contains(":01F4 "), "nobody listens");
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.told(SOON).as_deref(), Some("STOPPING=1"));
        assert_eq!(daemon.ended(), Some(0));
    });
}

/// The control thread, which stands still as long as this is there.
struct Halted(Pid);

impl Halted {
    fn control(daemon: &Daemon) -> Self {
        let control = daemon.pid();
        ptrace::seize(control, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(control).unwrap();
        waitpid(control, Some(WaitPidFlag::__WALL)).unwrap();
        Self(control)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn sigterm_ends_the_daemon_in_order_although_its_inbox_is_full() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("full");
        let log = daemon.folder.join("log");
        daemon.start(&path, Stdio::from(File::create(&log).unwrap()));
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let flooded = |daemon: &Daemon| {
            let halted = Halted::control(daemon);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..128 {
                (0..32).for_each(|_| drop(socket.send_to(&[0; 28], "127.0.0.1:500")));
                wait_for("datagrams are taken", || {
                    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
                    sockets.lines().filter(|line| line.contains(":01F4 ")).all(|line| line.contains(":00000000 "))
                });
            }
            halted
        };
        // Once round without the end: the inbox is full indeed.
        drop(flooded(&daemon));
        wait_for("the inbox was full", || {
            let status = said(daemon.command(&["status", "--json"]).output().unwrap());
            status.split("\"InboxFull\":").nth(1).is_some_and(|full| !full.trim_start().starts_with('0'))
        });

        let halted = flooded(&daemon);
        daemon.signal(Signal::SIGTERM);
        wait_for("the signal is taken", || {
            let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
            status.lines().any(|line| line.starts_with("ShdPnd:") && line.ends_with("\t0000000000000000"))
        });
        drop(halted);
        assert_eq!(daemon.told(SOON).as_deref(), Some("STOPPING=1"));
        assert_eq!(daemon.ended(), Some(0));
        assert!(!daemon.folder.join("control").exists(), "the socket is left");
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("portcullis ends"), "{log}");
    });
}

#[test]
fn a_log_that_nobody_reads_keeps_nothing_waiting() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("unread");
        let (log, write) = pipe().map(|(read, write)| (File::from(read), write)).unwrap();
        fill(&write);
        let first = Stdio::from(write);
        daemon.start(&path, first);
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let command = |arguments: &[&str]| daemon.command(arguments).output().unwrap().status.code();
        assert_eq!(command(&["status"]), Some(0));
        daemon.configure("what is this");
        assert_eq!(command(&["reload"]), Some(2));
        assert_eq!(command(&["status"]), Some(0));
        let log = drained(log);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended(), Some(0));
        let log = log.join().unwrap();
        assert!(log.contains("portcullis runs") && log.contains("portcullis ends"), "{log}");
    });
}

/// Reads what there is to read until the other end is closed.
fn drained(mut pipe: File) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Fills a pipe, so that the next one who writes waits.
fn fill(pipe: &OwnedFd) {
    // Of this end alone: a new opening of the pipe has flags of its own.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(pipe));
    let mut file = File::options().write(true).open(path).unwrap();
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while file.write(&[b'x'; 64]).is_ok() {}
    while file.write(b"x").is_ok() {}
}
