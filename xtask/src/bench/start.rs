//! `cargo xtask bench start`: what configured and idle peers cost the daemon, each number of them in a network of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::checkout::{cargo, succeed, target};
use crate::lab::daemon::Daemon;
use crate::lab::namespace::Namespace;
use crate::lab::sandbox::{self, WORK};
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

/// How many peers.
const COUNTS: [usize; 3] = [10, 1_000, 10_000];
/// The shortest of so many times counts: what is slower was disturbed.
const ROUNDS: usize = 5;
const START: Duration = Duration::from_secs(1);
const STATUS: Duration = Duration::from_millis(100);
/// Octets of resident memory for each peer.
const OCTETS: usize = 12_000;
/// What a peer may cost among the most more than among fewer.
const GROWTH: f64 = 1.3;
const LIMIT: Duration = Duration::from_secs(60);
/// After so long the daemon has nothing to do any more, and a status is made anew.
const REST: Duration = Duration::from_secs(1);

/// Builds what is measured, and measures it: first the gateway alone, then the daemon with all that it asks of the kernel.
///
/// # Errors
/// When something does not build or run.
pub(super) fn run() -> Result<ExitCode> {
    let mut alone = true;
    if !sandbox::inside() {
        succeed(&mut cargo(&["build", "--release", "--locked", "-p", "appliance-linux"]))?;
        println!("the gateway alone, in one process\n");
        alone = cargo(&["bench", "-p", "gateway-core", "--bench", "start"]).status()?.success();
    }
    let measured = sandbox::run(|| {
        println!("\nthe daemon, peers that are configured and idle\n");
        Ok(if measure()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })?;
    Ok(if alone { measured } else { ExitCode::FAILURE })
}

/// What so many peers take.
struct Figures {
    peers: usize,
    /// From the beginning of the process until it says that it is ready, and what it computed meanwhile: on a busy machine
    /// that says more.
    start: Duration,
    computed: Duration,
    /// The same after the kernel has been told of everybody before.
    again: Duration,
    /// Until the last octet of the answer is there: right after the start, when a command waits until the routes that were
    /// just made have been looked at, and later; and what `portcullis status` makes of it.
    first_status: Duration,
    status: Duration,
    printed: Duration,
    /// A reload of what is configured already, and of that with one peer more.
    unchanged: Duration,
    one_more: Duration,
    /// Octets of resident memory of the daemon, and of what it has started.
    resident: usize,
    started: usize,
}

fn measure() -> Result<bool> {
    let mut all = Vec::new();
    for peers in COUNTS {
        let figures = figures(peers)?;
        println!(
            "{peers:>7} peers: start {:.1?} (computed for {:.2?}), again {:.1?}, status {:.1?}, later {:.1?} and printed {:.1?}, reload {:.1?} and with one more \
             {:.1?}, resident {} kB and {} kB of nft",
            figures.start,
            figures.computed,
            figures.again,
            figures.first_status,
            figures.status,
            figures.printed,
            figures.unchanged,
            figures.one_more,
            figures.resident / 1000,
            figures.started / 1000
        );
        all.push(figures);
    }
    let [few, some, many] = all.as_slice() else { return Err("there are three counts".into()) };
    println!("\n{:>22} {:>12}   goal", "", format!("{} peers", many.peers));
    let mut met = true;
    let mut judge = |what: &str, found: String, goal: String, holds: bool| {
        println!("{what:>22} {found:>12}   <= {goal} {}", if holds { "met" } else { "MISSED" });
        met &= holds;
    };
    for (what, found, goal) in
        [("start", many.start, START), ("start again", many.again, START), ("status", many.status, STATUS)]
    {
        judge(what, format!("{found:.1?}"), format!("{goal:.1?}"), found <= goal);
    }
    let each = |octets: fn(&Figures) -> usize| octets(many).saturating_sub(octets(few)) / (many.peers - few.peers);
    let octets = each(|figures| figures.resident);
    println!("{:>22} {:>12}", "first status", format!("{:.1?}", many.first_status));
    judge("octets each", octets.to_string(), OCTETS.to_string(), octets <= OCTETS);
    println!("{:>22} {:>12}", "nft's octets each", each(|figures| figures.started));
    // What does not depend on their number is taken off.
    let grown = |time: fn(&Figures) -> Duration| {
        let cost =
            |more: &Figures| time(more).saturating_sub(time(few)).as_secs_f64() / (more.peers - few.peers) as f64;
        cost(many) / cost(some)
    };
    for (what, grown) in [
        ("start", grown(|figures| figures.start)),
        ("start, computed", grown(|figures| figures.computed)),
        ("start again", grown(|figures| figures.again)),
        ("status", grown(|figures| figures.status)),
        ("reload", grown(|figures| figures.unchanged)),
        ("reload with one more", grown(|figures| figures.one_more)),
    ] {
        judge(&format!("{what}, growth"), format!("{grown:.2}"), GROWTH.to_string(), grown <= GROWTH);
    }
    Ok(met)
}

fn figures(peers: usize) -> Result<Figures> {
    let mut rounds = (0..ROUNDS).map(|_| round(peers)).collect::<Result<Vec<_>>>()?.into_iter();
    let first = rounds.next().ok_or("no round")?;
    Ok(rounds.fold(first, |best, other| Figures {
        peers,
        start: best.start.min(other.start),
        computed: best.computed.min(other.computed),
        again: best.again.min(other.again),
        first_status: best.first_status.min(other.first_status),
        status: best.status.min(other.status),
        printed: best.printed.min(other.printed),
        unchanged: best.unchanged.min(other.unchanged),
        one_more: best.one_more.min(other.one_more),
        resident: best.resident.max(other.resident),
        started: best.started.max(other.started),
    }))
}

/// A daemon in a network of its own.
struct Machine {
    network: Namespace,
    folder: PathBuf,
    manager: UnixDatagram,
    daemon: Daemon,
}

fn round(peers: usize) -> Result<Figures> {
    let folder = PathBuf::from(WORK).join("start");
    fs::create_dir_all(&folder)?;
    let notify = folder.join("notify");
    let _ = fs::remove_file(&notify);
    let manager = UnixDatagram::bind(&notify)?;
    manager.set_read_timeout(Some(LIMIT))?;
    let daemon = Daemon::new(folder.join("log"));
    let mut machine = Machine { network: Namespace::new("many")?, folder, manager, daemon };
    machine.configure(&text(peers))?;
    let start = machine.start()?;
    let computed = machine.computed()?;
    let (resident, started) = machine.resident()?;
    let first_status = machine.status()?;
    std::thread::sleep(REST);
    let status = machine.status()?;
    std::thread::sleep(REST);
    let printed = timed(|| machine.command(&["status", "--json"]))?;
    let unchanged = timed(|| machine.command(&["reload"]))?;
    machine.configure(&text(peers + 1))?;
    let one_more = timed(|| machine.command(&["reload"]))?;
    machine.stop()?;
    let again = machine.start()?;
    machine.stop()?;
    Ok(Figures { peers, start, computed, again, first_status, status, printed, unchanged, one_more, resident, started })
}

fn timed(work: impl FnOnce() -> Result) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

impl Machine {
    fn control(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    fn configure(&self, text: &str) -> Result {
        let file = self.folder.join("portcullis.toml");
        fs::write(&file, text)?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?)
    }

    fn program(&self) -> Result<Command> {
        let mut command = Command::new(target()?.join("release/portcullis"));
        command.arg("--control").arg(self.control());
        Ok(command)
    }

    fn start(&mut self) -> Result<Duration> {
        let mut command = self.program()?;
        command.arg("run").arg("--config").arg(self.folder.join("portcullis.toml"));
        command.env("NOTIFY_SOCKET", self.folder.join("notify"));
        let begun = Instant::now();
        self.daemon.start(&self.network, &mut command)?;
        let mut told = [0; 64];
        let length = self.manager.recv(&mut told).map_err(|error| format!("{error}: {}", self.daemon.output()))?;
        let elapsed = begun.elapsed();
        ensure(told.get(..length) == Some(b"READY=1"), || self.daemon.output())?;
        Ok(elapsed)
    }

    /// Ends the daemon, and forgets what it told.
    fn stop(&mut self) -> Result {
        self.daemon.signal(Signal::SIGTERM)?;
        wait_for("the end", LIMIT, || Ok((!self.daemon.runs()).then_some(())))?;
        self.manager.set_nonblocking(true)?;
        while self.manager.recv(&mut [0; 64]).is_ok() {}
        Ok(self.manager.set_nonblocking(false)?)
    }

    /// For how long the daemon, and what it has waited for, computed so far.
    fn computed(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.process()?))?;
        // Behind the name, which may be anything: utime, stime, cutime, cstime from the twelfth on.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(4).map(str::parse::<u64>).sum::<std::result::Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn command(&self, arguments: &[&str]) -> Result {
        let output = self.program()?.args(arguments).stdin(Stdio::null()).output()?;
        ensure(output.status.success(), || {
            format!("portcullis {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
        })
    }

    /// How long the daemon takes to answer.
    fn status(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut stream = UnixStream::connect(self.control())?;
        stream.write_all(b"{\"command\":\"status\"}\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let elapsed = begun.elapsed();
        ensure(answer.starts_with(b"{\"answer\":\"status\""), || String::from_utf8_lossy(&answer).into_owned())?;
        Ok(elapsed)
    }

    fn resident(&self) -> Result<(usize, usize)> {
        let process = self.daemon.process()?;
        let mut started = 0;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let list = fs::read_to_string(thread?.path().join("children"))?;
            for child in list.split_whitespace() {
                started += resident(Path::new("/proc").join(child).as_path())?.unwrap_or(0);
            }
        }
        let daemon = resident(&PathBuf::from(format!("/proc/{process}")))?;
        Ok((daemon.ok_or_else(|| self.daemon.output())?, started))
    }
}

/// Octets of a process that are in memory, unless it has ended.
fn resident(process: &Path) -> Result<Option<usize>> {
    let Ok(status) = fs::read_to_string(process.join("status")) else { return Ok(None) };
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")) else { return Ok(None) };
    Ok(Some(line.split_whitespace().next().ok_or("no number")?.parse::<usize>()? * 1024))
}

/// Passive peers with an identity, an address and a network each, and one network of ours.
fn text(peers: usize) -> String {
    let mut text = String::from("[gateway]\nlog = \"warn\"\n");
    for number in 0..peers {
        let (high, low) = (number / 250, number % 250 + 1);
        let _ = write!(
            text,
            "[[peer]]\nname = \"p{number}\"\nlocal = \"192.0.2.1\"\nremote = \"10.200.{high}.{low}\"\nlocal-id = \"me\"\n\
             remote-id = \"p{number}.lab\"\nstart = \"passive\"\npsk = \"a key of more than twenty characters\"\n\
             [[peer.child]]\nname = \"n\"\nlocal-ts = \"10.0.0.0/16\"\nremote-ts = \"11.{high}.{low}.0/24\"\n"
        );
    }
    text
}
