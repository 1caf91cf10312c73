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
    to: mpsc::Sender<Answer>,
    /// Lives as long as the client waits.
    waits: std::sync::Weak<()>,
}

impl Reply {
    /// Answers, once; `false` when the client has left.
    pub(crate) fn send(&self, answer: Answer) -> bool {
        self.to.send(answer).is_ok()
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.waits.strong_count() == 0
    }

    /// A reply, and where its answer comes out.
    pub(crate) fn new() -> (Self, Answered) {
        let (to, answer) = mpsc::channel();
        let waits = Arc::new(());
        (Self { to, waits: Arc::downgrade(&waits) }, Answered { answer, _waits: waits })
    }
}

/// Waits for an answer; its end is the client's.
pub(crate) struct Answered {
    pub(crate) answer: mpsc::Receiver<Answer>,
    _waits: Arc<()>,
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
        match answered.answer.recv_timeout(left.min(GLANCE)) {
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
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::control::client;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn echo(call: Call) -> bool {
        let lines = vec![format!("{:?}", call.request)];
        call.answer.send(Answer::Done { lines })
    }

    fn started(path: &Path, calls: impl Fn(Call) -> bool + Send + Sync + 'static) -> io::Result<Server> {
        Server::start(path, Events::default(), calls)
    }

    fn connected(path: &Path, count: usize) -> Vec<UnixStream> {
        (0..count).map(|_| UnixStream::connect(path).unwrap()).collect()
    }

    fn quick(path: &Path) -> (Answer, Duration) {
        let since = Instant::now();
        (client::call(path, &Request::Status).unwrap(), since.elapsed())
    }

    /// Whoever waits for longer than this waits for ever: tests run on machines that are busy with others.
    const HANGS: Duration = Duration::from_secs(60);

    fn waits(path: &Path, count: usize) -> Vec<UnixStream> {
        let line = serde_json::to_string(&Request::Up { name: "cloud".into(), timeout_ms: 3_600_000, progress: false })
            .unwrap();
        let clients = connected(path, count);
        // Beyond its seats the server may have closed one before it spoke.
        clients.iter().for_each(|mut client| drop(client.write_all(format!("{line}\n").as_bytes())));
        clients
    }

    #[test]
    fn f_34_a_control_socket_that_somebody_removed_is_put_back_and_nobody_elses_is_taken() {
        let folder = Folder::new("gone");
        let path = folder.0.join("run").join("control.sock");
        let mut server = started(&path, echo).unwrap();
        let mut later = Instant::now();
        let mut look = |server: &mut Server| {
            later += LOOK;
            server.look_after(later);
        };
        let is_there = || matches!(client::call(&path, &Request::Status), Ok(Answer::Done { .. }));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(!is_there());
        look(&mut server);
        assert!(is_there());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Another daemon's, until it ends.
        fs::remove_file(&path).unwrap();
        let other = started(&path, |_| false).unwrap();
        look(&mut server);
        assert!(!is_there(), "the other one answers nothing");
        drop(other);
        look(&mut server);
        assert!(is_there());
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_call_finds_its_way_into_an_inbox_that_is_full_for_moments() {
        let folder = Folder::new("full");
        let path = folder.0.join("control.sock");
        let tries = AtomicUsize::new(0);
        let taken = move |call: Call| tries.fetch_add(1, Ordering::Relaxed) >= 3 && echo(call);
        let _server = started(&path, taken).unwrap();
        let (answer, _) = quick(&path);
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    }

    #[test]
    fn f_34_clients_that_connect_and_wait_keep_nobody_from_an_answer() {
        let folder = Folder::new("idle");
        let path = folder.0.join("control.sock");
        let _server = started(&path, echo).unwrap();
        for count in [16, 64, 400] {
            let _idle = connected(&path, count);
            let (answer, took) = quick(&path);
            assert_eq!(answer, Answer::Done { lines: vec!["Status".into()] }, "beside {count}");
            assert!(took < PATIENCE, "{took:?} beside {count}: the idle ones were waited for");
        }
    }

    #[test]
    fn f_34_a_request_that_trickles_is_cut_off_when_its_time_is_over_and_one_without_end_at_its_length() {
        let folder = Folder::new("trickle");
        let path = folder.0.join("control.sock");
        let _server = started(&path, echo).unwrap();
        let mut endless = UnixStream::connect(&path).unwrap();
        let mut sent = 0;
        while sent < 100 * MAX_REQUEST && endless.write_all(&[b'x'; 512]).is_ok() {
            sent += 512;
        }
        assert!(sent < 100 * MAX_REQUEST, "a request of {sent} octets is still read");
        let mut slow = UnixStream::connect(&path).unwrap();
        let since = Instant::now();
        while slow.write_all(b" ").is_ok() && since.elapsed() < HANGS {
            thread::sleep(Duration::from_millis(100));
        }
        assert!(since.elapsed() < HANGS, "still read after {:?}", since.elapsed());
    }

    #[test]
    fn f_34_who_never_reads_an_answer_keeps_nobody_from_theirs() {
        let folder = Folder::new("deaf");
        let path = folder.0.join("control.sock");
        let _server = started(&path, |call| {
            let lines = vec!["x".repeat(if call.request == Request::Show { 4 << 20 } else { 1 })];
            call.answer.send(Answer::Done { lines })
        })
        .unwrap();
        let deaf = connected(&path, 100);
        for mut client in &deaf {
            let _ = client.write_all(b"{\"command\":\"show\"}\n"); // may be sent away meanwhile
        }
        assert!(quick(&path).1 < PATIENCE, "the others were waited for");
    }

    #[test]
    fn f_34_commands_that_wait_leave_room_for_others_and_end_when_their_client_does() {
        let folder = Folder::new("waits");
        let path = folder.0.join("control.sock");
        let held: Arc<std::sync::Mutex<Vec<Reply>>> = Arc::default();
        let holding = Arc::clone(&held);
        let _server = started(&path, move |call| match call.request {
            Request::Up { .. } => {
                holding.lock().unwrap().push(call.answer);
                true
            }
            _ => echo(call),
        })
        .unwrap();
        let clients = waits(&path, 100);
        assert!(quick(&path).1 < PATIENCE, "the others were waited for");
        let taken = held.lock().unwrap().len();
        assert!((1..=crate::control::clients::WAITING).contains(&taken), "{taken} wait");
        drop(clients);
        let since = Instant::now();
        while !held.lock().unwrap().iter().all(Reply::is_abandoned) {
            assert!(since.elapsed() < HANGS, "the clients have left and are waited for");
            thread::sleep(Duration::from_millis(20));
        }
        let _again = waits(&path, 1);
        while held.lock().unwrap().len() == taken {
            assert!(since.elapsed() < HANGS, "their room is not given back");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn f_73_what_is_in_the_way_is_told_before_the_answer_to_whoever_asks_for_that() {
        let folder = Folder::new("progress");
        let path = folder.0.join("control.sock");
        let _server = started(&path, |call| {
            let cause = Cause { code: "peer-silent".into(), text: String::new(), hint: String::new() };
            call.answer.send(Answer::Progress { cause });
            echo(call)
        })
        .unwrap();
        for progress in [true, false] {
            let mut heard = Vec::new();
            let up = Request::Up { name: "cloud".into(), timeout_ms: 1000, progress };
            let answer = client::call_telling(&path, &up, |cause| heard.push(cause.code)).unwrap();
            assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
            assert_eq!(heard.len(), usize::from(progress), "{heard:?}");
        }
    }

    #[test]
    fn f_34_a_client_that_only_stops_talking_still_gets_its_answer() {
        let folder = Folder::new("half");
        let path = folder.0.join("control.sock");
        let _server = started(&path, |call| {
            thread::spawn(move || {
                thread::sleep(3 * GLANCE);
                echo(call)
            });
            true
        })
        .unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"{\"command\":\"status\"}\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer).unwrap();
        assert!(answer.contains("done"), "{answer}");
    }

    #[test]
    fn f_34_a_reload_is_waited_for_as_long_as_its_client_and_the_daemon_live() {
        let folder = Folder::new("reload");
        let path = folder.0.join("control.sock");
        let (held, calls) = mpsc::channel();
        let held = std::sync::Mutex::new(held);
        let _server = started(&path, move |call| held.lock().unwrap().send(call.answer).is_ok()).unwrap();
        let reload = |dry_run| {
            let path = path.clone();
            let client = thread::spawn(move || client::call(&path, &Request::Reload { dry_run }).unwrap());
            (client, calls.recv_timeout(HANGS).unwrap())
        };
        let ((patient, answer), (quick, dry), (orphan, dropped)) = (reload(false), reload(true), reload(false));
        let mut gone = UnixStream::connect(&path).unwrap();
        gone.write_all(b"{\"command\":\"reload\"}\n").unwrap();
        let nobody = calls.recv_timeout(HANGS).unwrap();
        assert!(!nobody.is_abandoned());
        drop((gone, dropped));
        assert!(matches!(orphan.join().unwrap(), Answer::Failed { cause } if cause.text == "the daemon ends"));
        let Answer::Failed { cause } = quick.join().unwrap() else { panic!("nobody answered") };
        assert_eq!((cause.code.as_str(), dry.is_abandoned()), ("no-answer", true), "what is done at once has a bound");
        assert!(nobody.is_abandoned(), "its client has left");
        thread::sleep(3 * GLANCE);
        let done = Answer::Done { lines: vec!["reloaded".into()] };
        assert!(answer.send(done.clone()), "given up");
        assert_eq!(patient.join().unwrap(), done);
    }

    #[test]
    fn f_83_events_reach_who_listens_and_a_slow_reader_is_dropped() {
        let folder = Folder::new("events");
        let path = folder.0.join("control.sock");
        let events = Events::default();
        let server = Server::start(&path, events.clone(), echo).unwrap();
        let listen = || {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"{\"command\":\"events\"}\n").unwrap();
            BufReader::new(client)
        };
        let (mut reader, slow) = (listen(), listen());
        let since = Instant::now();
        while events.listeners() < 2 {
            assert!(since.elapsed() < HANGS);
            thread::sleep(Duration::from_millis(10));
        }
        events.publish("{\"event\":\"first\"}");
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"event\":\"first\"}\n");
        let long = "x".repeat(10_000);
        for _ in 0..2_000 {
            events.publish(&long);
            line.clear();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line.len(), long.len() + 1, "who reads misses nothing");
        }
        assert_eq!(events.listeners(), 1, "20 MB are kept for one who does not read");
        drop((slow, server));
        line.clear();
        assert_eq!(reader.read_line(&mut line).unwrap(), 0, "the end of the daemon ends the stream");
    }

    #[test]
    fn a_request_is_answered_and_the_socket_is_private_and_removed() {
        let folder = Folder::new("serve");
        let path = folder.0.join("run/control.sock");
        let server = started(&path, echo).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let answer = client::call(&path, &Request::Reload { dry_run: false }).unwrap();
        assert_eq!(answer, Answer::Done { lines: vec!["Reload { dry_run: false }".into()] });
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_line_that_is_no_request_is_refused_and_nothing_reaches_the_daemon() {
        let folder = Folder::new("refuse");
        let path = folder.0.join("control.sock");
        // A panic in a thread of the server would not be seen here: it is counted.
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        let server = started(&path, move |call| {
            count.fetch_add(1, Ordering::SeqCst);
            echo(call)
        })
        .unwrap();
        for line in ["halt\n".to_owned(), "x".repeat(100_000), String::new()] {
            let mut client = UnixStream::connect(&path).unwrap();
            let _ = client.write_all(line.as_bytes());
            let _ = client.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            // A line beyond the limit may end in a reset: what counts is that nothing is reached.
            let read = BufReader::new(client).read_line(&mut answer);
            if line.len() < 100 {
                read.unwrap();
                assert!(answer.contains("bad-request"), "{answer}");
            }
        }
        client::call(&path, &Request::Reload { dry_run: false }).unwrap();
        drop(server);
        assert_eq!(reached.load(Ordering::SeqCst), 1, "what is no request reached the daemon");
    }

    #[test]
    fn a_socket_left_by_a_killed_daemon_is_taken_over_and_a_living_one_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _server = started(&path, echo).unwrap();
        assert_eq!(started(&path, echo).map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let file = folder.0.join("file");
        fs::write(&file, "precious").unwrap();
        assert_eq!(started(&file, echo).map(drop).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(file.exists());
    }

    #[test]
    fn f_34_a_daemon_that_is_too_busy_to_answer_is_not_taken_for_dead() {
        let folder = Folder::new("busy");
        let path = folder.0.join("control.sock");
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let mut queued = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            match client.connect(&SockAddr::unix(&path).unwrap()) {
                Ok(()) => queued.push(client),
                Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let since = Instant::now();
        let (sender, outcome) = mpsc::channel();
        let at = path.clone();
        thread::spawn(move || sender.send(started(&at, echo).map(drop)));
        let outcome = outcome.recv_timeout(Duration::from_secs(5)).expect("waits for who is busy");
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists() && since.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn f_34_the_end_of_a_daemon_leaves_the_socket_of_another_one() {
        let folder = Folder::new("other");
        let path = folder.0.join("control.sock");
        let first = started(&path, echo).unwrap();
        // Kept under another name, so that its number is not given away again.
        fs::rename(&path, folder.0.join("moved.sock")).unwrap();
        let second = started(&path, echo).unwrap();
        drop(first);
        assert!(path.exists());
        assert!(matches!(quick(&path).0, Answer::Done { .. }));
        drop(second);
        assert!(!path.exists());
    }
}
