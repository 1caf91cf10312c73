//! The daemon's end of the control socket. Each connection carries one request; it waits in a thread of its own, so
//! that the daemon never waits for a client, and no client for another one: see [`super::clients`].

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::warn;

use super::clients::{Clients, Seat, Stage};
use super::events::Events;
use super::protocol::{Answer, Cause, MAX_REQUEST, Request, Waits};

/// How long a client may take to say all that it wants, and to read all that it asked for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the daemon may take for what it does at once.
const DAEMON: Duration = Duration::from_secs(10);
/// How often a waiting client is looked after: it may have left.
const GLANCE: Duration = Duration::from_millis(250);
/// How long a call waits for room in the daemon's inbox.
const BUSY: Duration = Duration::from_secs(2);
/// A pause after a connection could not be taken, for want of descriptors for instance.
const BREATH: Duration = Duration::from_millis(50);
/// How often the file is looked after.
const LOOK: Duration = Duration::from_secs(1);
/// Stack of a client's thread: a request has 4 kB and an answer is written from the heap.
const STACK: usize = 256 << 10;

/// A request and where its answer goes.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) answer: Reply,
}

/// Where an answer goes. The client may leave before it comes.
pub(crate) struct Reply {
    to: mpsc::Sender<Words>,
    /// Lives as long as the client waits.
    waits: std::sync::Weak<()>,
}

/// An answer, or what makes it: putting much into words takes the time of the client's thread, not of the daemon's.
type Words = Box<dyn FnOnce() -> Answer + Send>;

impl Reply {
    /// Answers, once; `false` when the client has left.
    pub(crate) fn send(&self, answer: Answer) -> bool {
        self.send_later(move || answer)
    }

    /// Answers, once, with what the client's thread makes of it; `false` when the client has left.
    pub(crate) fn send_later(&self, words: impl FnOnce() -> Answer + Send + 'static) -> bool {
        self.to.send(Box::new(words)).is_ok()
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.waits.strong_count() == 0
    }

    /// A reply, and where its answer comes out.
    pub(crate) fn new() -> (Self, Answered) {
        let (to, words) = mpsc::channel();
        let waits = Arc::new(());
        (Self { to, waits: Arc::downgrade(&waits) }, Answered { words, _waits: waits })
    }
}

/// Waits for an answer; its end is the client's.
pub(crate) struct Answered {
    words: mpsc::Receiver<Words>,
    _waits: Arc<()>,
}

impl Answered {
    /// The next answer, if it comes within this time.
    pub(crate) fn next(&self, patience: Duration) -> Result<Answer, RecvTimeoutError> {
        self.words.recv_timeout(patience).map(|words| words())
    }
}

/// Where calls go.
type Calls = Arc<dyn Fn(Call) -> bool + Send + Sync>;

/// The control socket. Its end sends the clients away.
pub(crate) struct Server {
    path: PathBuf,
    /// Whoever comes in is taken; `None`: not at the moment.
    door: Option<Door>,
    clients: Arc<Clients>,
    events: Events,
    calls: Calls,
    /// When the file was looked after last, and whether the log knows that there is none.
    looked: Instant,
    told: bool,
}

impl Server {
    /// Listens at `path`, for the owner alone, and hands each call to `calls`.
    ///
    /// # Errors
    /// `AddrInUse` when another daemon answers there; what creating the socket reports otherwise.
    pub(crate) fn start(
        path: &Path,
        events: Events,
        calls: impl Fn(Call) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (clients, calls): (_, Calls) = (Arc::new(Clients::default()), Arc::new(calls));
        let door = Some(Door::open(path, &clients, &events, &calls)?);
        Ok(Self { path: path.to_owned(), door, clients, events, calls, looked: Instant::now(), told: false })
    }

    /// Puts the file back where somebody removed it: no command finds us then, and nobody tells us. `now` and then is enough.
    pub(crate) fn look_after(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        if self.door.as_ref().is_some_and(Door::is_there) {
            return;
        }
        self.door = None;
        match Door::open(&self.path, &self.clients, &self.events, &self.calls) {
            Ok(door) => {
                self.door = Some(door);
                self.told = false;
                warn!("somebody removed the control socket {}: it is there again", self.path.display());
            }
            Err(error) if !self.told => {
                self.told = true;
                warn!(
                    "somebody removed the control socket {}, and it cannot be made again: {error}; no command reaches this \
                     daemon until it can, and all else goes on",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clients.close();
    }
}

/// The listening socket. Its end removes the file, and waits until nobody is taken any more.
struct Door {
    path: PathBuf,
    /// The file that we made there: another daemon may have put its own in the place.
    ours: Option<(u64, u64)>,
    listener: Arc<UnixListener>,
    accepting: Option<JoinHandle<()>>,
}

impl Door {
    fn open(path: &Path, clients: &Arc<Clients>, events: &Events, calls: &Calls) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        remove_stale(path)?;
        // Bound with its final permissions: no moment in which others could connect.
        let mask = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(mask);
        let listener = Arc::new(listener?);
        let ours = identity(path);
        let (door, room, events, calls) =
            (Arc::clone(&listener), Arc::clone(clients), events.clone(), Arc::clone(calls));
        let accepting = thread::Builder::new().name("control".into()).spawn(move || {
            for client in door.incoming() {
                let client = match client {
                    Ok(client) => client,
                    // It is shut.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                    Err(_) => {
                        thread::sleep(BREATH);
                        continue;
                    }
                };
                let Ok(seat) = getsockopt(&client, PeerCredentials)
                    .map_err(io::Error::from)
                    .and_then(|peer| Clients::admit(&room, &client, peer.uid()))
                else {
                    continue; // closes the connection
                };
                let (calls, events) = (Arc::clone(&calls), events.clone());
                let _ = thread::Builder::new().name("control-client".into()).stack_size(STACK).spawn(move || {
                    let _ = serve(&client, &seat, &events, &*calls); // the client went away: its loss
                });
            }
        })?;
        Ok(Self { path: path.to_owned(), ours, listener, accepting: Some(accepting) })
    }

    fn is_there(&self) -> bool {
        self.ours.is_some() && self.ours == identity(&self.path)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both); // wakes the thread below
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join(); // it has nothing to say
        }
    }
}

/// Removes a socket that nobody listens to (any more); anything else at `path` stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, and it is not a socket"));
    }
    // Who is busy, or has not started to listen yet, is somebody; and is not waited for.
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(()) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another portcullis answers there")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another portcullis listens there, and is busy"))
        }
        Err(error) => Err(error),
    }
}

/// What tells one file from another at the same path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Reads one request, waits for its answer, writes it.
fn serve(
    client: &UnixStream,
    seat: &Seat,
    events: &Events,
    calls: &(impl Fn(Call) -> bool + ?Sized),
) -> io::Result<()> {
    if seat.uid() != 0 && seat.uid() != geteuid().as_raw() {
        let refused =
            refusal("not-allowed", "only root and the daemon's own user may use the control socket", "use sudo");
        return write(client, &refused);
    }
    let answer = match serde_json::from_slice(&read(client)?) {
        Ok(Request::Events) if seat.take(Stage::Listening) => return stream(client, events),
        Ok(Request::Events) => refusal("busy", "too many listen to the events already", "end one of them"),
        Ok(request) => {
            let stage = if request.waits() == Waits::No { Stage::Asking } else { Stage::Waiting };
            match seat.take(stage) {
                true => ask(client, request, calls),
                false => refusal("busy", "too many commands wait for an outcome already", "end one of them"),
            }
        }
        Err(error) => refusal("bad-request", &format!("not a request: {error}"), ""),
    };
    seat.take(Stage::Reading);
    write(client, &answer)
}

/// A request: the octets before the first line end, within the time and the length that one may have.
fn read(client: &UnixStream) -> io::Result<Vec<u8>> {
    let (deadline, mut client) = (Instant::now() + PATIENCE, client);
    let (mut line, mut some) = (Vec::with_capacity(512), [0; 512]);
    loop {
        client.set_read_timeout(Some(left(deadline)?))?;
        let length = client.read(&mut some)?;
        let read = some.get(..length).unwrap_or_default();
        let end = read.iter().position(|octet| *octet == b'\n');
        line.extend_from_slice(read.get(..end.unwrap_or(read.len())).unwrap_or_default());
        if end.is_some() || read.is_empty() || line.len() > MAX_REQUEST {
            return Ok(line); // what is longer is no request
        }
    }
}

/// Writes an answer, within the time that a client may take to read it.
fn write(client: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write_all(client, &line, Instant::now() + PATIENCE)
}

fn write_all(mut client: &UnixStream, mut octets: &[u8], deadline: Instant) -> io::Result<()> {
    while !octets.is_empty() {
        client.set_write_timeout(Some(left(deadline)?))?;
        let written = io::Write::write(&mut client, octets)?;
        octets = octets.get(written..).filter(|_| written > 0).ok_or(io::ErrorKind::WriteZero)?;
    }
    Ok(())
}

/// What is left of a client's time.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn ask(client: &UnixStream, request: Request, calls: &(impl Fn(Call) -> bool + ?Sized)) -> Answer {
    let limit = request.waits().limit(DAEMON); // none: as long as the daemon and the client live
    let progress = matches!(request, Request::Up { progress: true, .. });
    let since = Instant::now();
    // A flood may keep the daemon's inbox full for moments, and lets somebody else in between them.
    let answered = loop {
        let (answer, answered) = Reply::new();
        if calls(Call { request: request.clone(), answer }) {
            break answered;
        }
        if since.elapsed() >= BUSY || has_left(client) {
            return refusal("busy", "the daemon is busy or about to end", "try again");
        }
        thread::sleep(BUSY / 200);
    };
    loop {
        let left = limit.map_or(GLANCE, |limit| limit.saturating_sub(since.elapsed()));
        match answered.next(left.min(GLANCE)) {
            // Who does not read it has left, or is found to be slow at the answer.
            Ok(told @ Answer::Progress { .. }) => drop(progress.then(|| write(client, &told))),
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) if !left.is_zero() && !has_left(client) => {}
            Err(RecvTimeoutError::Timeout) => return refusal("no-answer", "the daemon did not answer in time", ""),
            Err(RecvTimeoutError::Disconnected) => return refusal("no-answer", "the daemon ends", ""),
        }
    }
}

/// Writes events until the client leaves or is too slow for them.
fn stream(client: &UnixStream, events: &Events) -> io::Result<()> {
    let listener = events.listen();
    loop {
        match listener.lines.recv_timeout(GLANCE) {
            Ok(line) => write_all(client, line.as_bytes(), Instant::now() + PATIENCE)?,
            Err(RecvTimeoutError::Timeout) if !has_left(client) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Whether a client closed its end altogether; one that only has nothing more to say still listens.
fn has_left(client: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut look = [PollFd::new(client.as_fd(), PollFlags::empty())];
    let seen = poll(&mut look, PollTimeout::ZERO).is_ok();
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    seen && look.iter().any(|fd| fd.revents().is_some_and(|events| events.intersects(gone)))
}

fn refusal(code: &str, text: &str, hint: &str) -> Answer {
    Answer::Failed { cause: Cause { code: code.into(), text: text.into(), hint: hint.into() } }
}

#[cfg(test)]
mod tests;
