//! Runs of nft, each with a deadline: a program that hangs must not keep us from anything else. Its child belongs to a
//! value whose end is its end.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid, access};

/// How long nft may take for a small thing.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// And for each octet of a ruleset.
const PER_OCTET: Duration = Duration::from_micros(5);
/// How often a child is asked whether it has ended.
const GLANCE: Duration = Duration::from_millis(1);
/// How long a killed child may take to end before somebody else waits for it.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// Until when something with `script` has to be done.
pub(super) fn deadline(script: &str) -> Instant {
    let octets = u32::try_from(script.len()).unwrap_or(u32::MAX);
    Instant::now() + PATIENCE + PER_OCTET.saturating_mul(octets)
}

/// A process of nft, which ends with this value, and so do those that it has begun.
pub(super) struct Nft(Option<Child>);

/// One that waits for commands.
pub(super) struct Interactive {
    nft: Nft,
    errors: File,
}

impl Interactive {
    /// Lives until it is dropped, or somebody ends it: then `ended` is called, in a thread of its own. It is given this
    /// line.
    pub(super) fn start(line: &str, until: Instant, ended: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let errors = memory()?;
        let mut command = command(&["-i"]);
        let mut nft = Nft::start(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(pass(&errors)?))?;
        // Its end of the pipe stays open with the child.
        if let Some(stdin) = nft.0.as_mut().and_then(|child| child.stdin.as_mut()) {
            feed(stdin, line.as_bytes(), until)?;
            let pipe = stdin.as_fd().try_clone_to_owned()?;
            thread::Builder::new().name("nft".into()).spawn(move || {
                // Nothing is asked for: what is told all the same is that nobody reads any more.
                let _ = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::empty())], PollTimeout::NONE);
                ended();
            })?;
        }
        Ok(Self { nft, errors })
    }

    pub(super) fn runs(&mut self) -> bool {
        self.nft.runs()
    }

    /// What it has against what it was told, if it said anything.
    pub(super) fn refusal(&mut self) -> io::Result<Option<io::Error>> {
        let words = said(&mut self.errors)?;
        Ok((!words.is_empty()).then(|| refusal(&words)))
    }
}

impl Nft {
    fn start(command: &mut Command) -> io::Result<Self> {
        command.process_group(0).spawn().map(|child| Self(Some(child)))
    }

    fn runs(&mut self) -> bool {
        self.ended().is_ok_and(|ended| ended.is_none())
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.as_mut().map_or(Err(io::ErrorKind::NotFound.into()), Child::try_wait)
    }

    fn wait(&mut self, until: Instant) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(too_long());
            }
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Nft {
    fn drop(&mut self) {
        if let (true, Some(child)) = (self.runs(), &self.0) {
            // With whatever it has begun itself, be it the nft that it stands for.
            let group = Pid::from_raw(child.id().cast_signed());
            let _ = killpg(group, Signal::SIGKILL); // it may have ended since
        }
        if self.wait(Instant::now() + LAST_BREATH).is_ok() {
            return;
        }
        // The kernel holds it in a call that no signal ends.
        if let Some(mut child) = self.0.take() {
            let _ = thread::Builder::new().name("nft".into()).spawn(move || child.wait());
        }
    }
}

/// Writes without ever waiting for a reader that does not read.
fn feed(stdin: &mut ChildStdin, mut octets: &[u8], until: Instant) -> io::Result<()> {
    fcntl(&*stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while !octets.is_empty() {
        match stdin.write(octets) {
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => thread::sleep(GLANCE),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_long()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refusal(words: &str) -> io::Error {
    io::Error::other(format!("nft: {}", words.lines().next().unwrap_or("failed")))
}

pub(super) fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nft takes too long")
}

fn command(arguments: &[&str]) -> Command {
    // A daemon's PATH may lack the folders of the administrator's programs.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/local/sbin";
    // Found here: to look along a PATH that is not its own the child would have to be forked, and that takes a copy of all
    // our page tables, after which each page of ours faults when it is next written to.
    let mut command = Command::new(found(&path, "nft").unwrap_or("/usr/sbin/nft".into()));
    // An interactive one would write all it is told into a history below HOME.
    command.args(arguments).env("PATH", path).env("LC_ALL", "C").env("HOME", "/dev/null");
    command
}

/// Where a program is along this path. A folder of its name is none, and what lies where we happen to be is not meant.
fn found(path: &str, name: &str) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

/// Runs nft; its output.
///
/// # Errors
/// `NotFound`: there is no nft here. `TimedOut`: it did not end, and was ended. What it says otherwise.
pub(super) fn run(arguments: &[&str], input: &str, until: Instant) -> io::Result<String> {
    run_command(command(arguments), input, until)
}

fn run_command(mut command: Command, input: &str, until: Instant) -> io::Result<String> {
    // Files in memory: whatever it, or a child of its own, does with them, nobody waits for a pipe.
    let (mut from, mut out, mut errors) = (memory()?, memory()?, memory()?);
    from.write_all(input.as_bytes())?;
    from.rewind()?;
    let mut nft = Nft::start(command.stdin(pass(&from)?).stdout(pass(&out)?).stderr(pass(&errors)?))?;
    let status = nft.wait(until)?;
    if status.success() {
        return said(&mut out);
    }
    Err(refusal(&said(&mut errors)?))
}

fn pass(file: &File) -> io::Result<Stdio> {
    file.try_clone().map(|file| Stdio::from(OwnedFd::from(file)))
}

fn memory() -> io::Result<File> {
    Ok(memfd_create(c"nft", MFdFlags::MFD_CLOEXEC)?.into())
}

fn said(file: &mut File) -> io::Result<String> {
    let mut octets = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn shell(script: &str, input: &str, limit: Duration) -> io::Result<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_command(command, input, Instant::now() + limit)
    }

    #[test]
    fn f_01_what_hangs_is_ended_at_its_deadline_and_so_is_the_wait_for_it() {
        let began = Instant::now();
        let hung = shell("sleep 3; true", "x", Duration::from_millis(200)).map_err(|error| error.kind());
        assert_eq!(hung, Err(io::ErrorKind::TimedOut));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[test]
    fn f_01_what_hangs_is_ended_with_what_it_has_begun() {
        // Whoever has an end of this pipe lives: nobody writes.
        let (mut read, write) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo; wait"]).stdin(Stdio::null()).stdout(write);
        let nft = Nft::start(&mut command).unwrap();
        let child = nft.0.as_ref().map(Child::id).unwrap().cast_signed();
        drop(command);
        read.read_exact(&mut [0]).unwrap(); // both are there
        drop(nft);
        let mut ended = Vec::new();
        read.read_to_end(&mut ended).unwrap();
        // And somebody took note of its end.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let until = Instant::now() + Duration::from_secs(30);
        while waitid(Id::Pid(Pid::from_raw(child)), flags) != Err(Errno::ECHILD) {
            assert!(Instant::now() < until, "it is still there");
            thread::sleep(GLANCE);
        }
    }

    #[test]
    fn f_01_what_an_interactive_one_refuses_is_heard() {
        in_a_network_of_its_own(|| {
            let until = Instant::now() + Duration::from_secs(30);
            let mut nft = Interactive::start("nonsense\n", until, || {}).unwrap();
            let refused = loop {
                if let Some(refused) = nft.refusal().unwrap() {
                    break refused.to_string();
                }
                assert!(Instant::now() < until && nft.runs(), "it said nothing");
                thread::sleep(GLANCE);
            };
            assert!(refused.contains("rror"), "{refused}");
        });
    }

    #[test]
    fn a_long_ruleset_has_more_time() {
        let now = Instant::now();
        assert!(deadline(&" ".repeat(2_000_000)) >= now + PATIENCE + Duration::from_secs(10));
    }

    #[test]
    fn nft_is_begun_by_its_path_so_that_nothing_is_copied_for_it() {
        let command = command(&[]);
        let program = std::path::Path::new(command.get_program());
        assert!(program.is_absolute() && program.is_file(), "{program:?}");
        // What it says is understood, and what it is told goes into nobody's history.
        let has = |name: &str, value: &str| command.get_envs().any(|env| env == (name.as_ref(), Some(value.as_ref())));
        assert!(has("LC_ALL", "C") && has("HOME", "/dev/null"));
    }

    #[test]
    fn a_folder_that_is_called_like_a_program_is_passed_by_and_so_is_what_lies_where_we_are() {
        // There is a folder of this name in the first.
        let sh = |path: &str| found(path, "sh");
        let folder = std::env::temp_dir().join(format!("portcullis-found-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sh")).unwrap();
        let past = || sh(&format!("{}:/usr/bin:/bin", folder.display()));
        let by_folder = past();
        std::fs::remove_dir(folder.join("sh")).unwrap();
        // And now a file that nobody may run.
        std::fs::write(folder.join("sh"), "").unwrap();
        let by_file = past();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(by_folder.is_some() && by_folder == sh("/usr/bin:/bin") && by_file == by_folder, "{by_file:?}");
        assert_eq!(sh(&format!(":.:{}", "../".repeat(32) + "bin")), None);
    }

    #[test]
    fn what_was_said_is_returned_however_long_and_whatever_was_read() {
        let long = "0123456789abcdef".repeat(20_000);
        assert_eq!(shell("cat", &long, Duration::from_secs(10)).unwrap(), long);
        assert_eq!(shell("echo x", &long, Duration::from_secs(10)).unwrap(), "x\n");
        let failed = shell("echo no >&2; exit 1", "", Duration::from_secs(10)).unwrap_err();
        assert_eq!(failed.to_string(), "nft: no");
    }

    #[test]
    fn f_01_a_reader_that_does_not_read_keeps_nobody() {
        let mut command = Command::new("sleep");
        let mut nft = Nft::start(command.arg("3").stdin(Stdio::piped())).unwrap();
        let stdin = nft.0.as_mut().and_then(|child| child.stdin.as_mut()).unwrap();
        let began = Instant::now();
        let fed = feed(stdin, &[0; 1 << 20], began + Duration::from_millis(200)).map_err(|error| error.kind());
        assert_eq!(fed, Err(io::ErrorKind::TimedOut));
        assert!(nft.runs());
        drop(nft);
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
