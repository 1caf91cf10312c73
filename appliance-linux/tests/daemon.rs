//! The daemon as its service manager meets it: when it says that it is ready, and how it ends.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
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
#[path = "daemon/capacity.rs"]
mod capacity;
#[path = "../src/namespace.rs"]
mod namespace;
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
        let folder = std::env::temp_dir().join(format!("portcullis-daemon-{name}-{}", std::process::id()));
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

/// Shows a program a kernel without IPv6, as far as its settings tell: as booted with `ipv6.disable=1` it has none of it there.
const WITHOUT_IPV6: &str = "mkdir \"$1/net\" && mount --bind /proc/sys/net \"$1/net\" && mount -t tmpfs none /proc/sys/net && \
                            mkdir /proc/sys/net/ipv4 && mount --bind \"$1/net/ipv4\" /proc/sys/net/ipv4 && shift && exec \"$@\"";

#[test]
fn f_37_without_ipv6_whoever_may_be_anywhere_is_waited_for_in_ipv4() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("without-ipv6");
        let anywhere = CONFIG.replace("\"127.0.0.1\"", "\"any\"\nlocal-id = \"a.example\"\nremote-id = \"b.example\"");
        let anywhere = anywhere.replace("\"127.0.0.2\"", "\"any\"").replace("16\"]", "16\", \"fd0N::/64\"]");
        daemon.configure(&anywhere.replacen("fd0N", "fd02", 1).replacen("fd0N", "fd01", 1));
        let listens = |family: &str| fs::read_to_string(format!("/proc/net/{family}")).unwrap().contains(":01F4 ");
        let folder = daemon.folder.clone();
        let mut with = daemon.command(&["run", "--config"]);
        with.arg(folder.join("config")).env("NOTIFY_SOCKET", folder.join("notify")).env("PATH", &path);
        let mut without = Command::new("unshare");
        without.args(["--mount", "--", "sh", "-c", WITHOUT_IPV6, "sh"]).arg(&folder).arg(with.get_program());
        without.args(with.get_args()).envs(with.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut start = |mut run: Command, six: bool| {
            daemon.process = Some(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
            assert_eq!((listens("udp"), listens("udp6")), (true, six));
            let rules = said(Command::new("ip").args(["-6", "rule"]).env("PATH", &path).output().unwrap());
            assert_eq!(rules.contains("4500"), six, "{rules}");
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.ended(), Some(0));
            while daemon.told(Duration::from_millis(1)).is_some() {}
            let release = daemon.command(&["release"]).env("PATH", &path).output().unwrap();
            assert_eq!(release.status.code(), Some(0));
        };
        start(with, true);
        start(without, false);
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
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("reload: ") && log.contains("the running configuration is unchanged"), "{log}");
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
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("what peers send there leaves in clear, as there is no guard"), "{log}");
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

#[test]
fn f_13_doctor_finds_nothing_wrong_with_networks_that_are_reached_in_clear_and_sees_what_is() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let ip = |line: &str| {
            let output = Command::new("ip").args(line.split(' ')).env("PATH", &path).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        };
        ip("link add wan type veth peer name far");
        ["link set wan up", "link set far up"].into_iter().for_each(ip);
        // Two inside a network that means all, one inside a smaller one, where the tunnel wins but for the address.
        for net in ["192.168.0.9/24", "10.0.0.5/24", "172.20.0.1/24"] {
            ip(&format!("addr add {net} dev wan"));
        }
        ip("route add default via 192.168.0.1");
        let mut daemon = Daemon::new("clear");
        let remote = "\"192.168.0.0/16\", \"10.0.0.0/8\", \"172.20.0.0/16\", \"0.0.0.0/1\"";
        let config = CONFIG.replace("\"10.1.0.0/16\"", remote).replace("10.2.0.0/16", "198.18.0.0/24");
        daemon.configure(&config);
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let file = daemon.folder.join("config");
        let doctor = || said(daemon.command(&["doctor", "--config"]).arg(&file).env("PATH", &path).output().unwrap());
        let found = doctor();
        assert!(found.contains("an address of each of 4 remote networks is led to pcl0"), "{found}");
        ip("rule add pref 10 lookup main");
        let found = doctor();
        assert!(found.contains("FAIL  routes: packets to remote networks do not go to pcl0"), "{found}");
    });
}

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
            let told = || fs::read_to_string(&log).unwrap();
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
            let log = told();
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
