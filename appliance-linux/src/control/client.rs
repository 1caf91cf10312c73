//! The command line's end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{Answer, Cause, Event, Request};

/// More than the daemon takes to answer: it bounds the time itself, unless it is stopped or frozen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends one request and waits for its answer.
///
/// # Errors
/// When nobody listens at `socket`, or what answers is no daemon; `TimedOut`: it does not answer.
pub(crate) fn call(socket: &Path, request: &Request) -> io::Result<Answer> {
    call_telling(socket, request, |_| {})
}

/// The same; `progress` hears what is in the way meanwhile, each cause once, where the request asks for that.
pub(crate) fn call_telling(socket: &Path, request: &Request, progress: impl FnMut(Cause)) -> io::Result<Answer> {
    call_within(socket, request, PATIENCE, progress)
}

fn call_within(
    socket: &Path,
    request: &Request,
    daemon: Duration,
    mut progress: impl FnMut(Cause),
) -> io::Result<Answer> {
    let stream = send(socket, request, daemon)?;
    stream.set_read_timeout(request.waits().limit(daemon))?;
    let mut stream = BufReader::new(stream);
    let mut told = Vec::new();
    loop {
        let mut answer = String::new();
        stream.read_line(&mut answer).map_err(in_words)?;
        if answer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
        }
        match serde_json::from_str(&answer)? {
            Answer::Progress { cause } if told.contains(&cause) => {}
            Answer::Progress { cause } => {
                told.push(cause.clone());
                progress(cause);
            }
            answer => return Ok(answer),
        }
    }
}

/// A time that is over, as what it is.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time: it may be stopped, or frozen")
        }
        _ => error,
    }
}

/// Hands over events as they come, until `take` has enough (`false`) or the daemon ends; what it refuses is the answer.
///
/// # Errors
/// When nobody listens at `socket`, or what answers is no daemon.
pub(crate) fn listen(socket: &Path, mut take: impl FnMut(Event) -> bool) -> io::Result<Option<Answer>> {
    for line in BufReader::new(send(socket, &Request::Events, PATIENCE)?).lines() {
        let line = line?;
        match serde_json::from_str::<Event>(&line) {
            Ok(event) => {
                if !take(event) {
                    break;
                }
            }
            Err(_) => return Ok(Some(serde_json::from_str(&line)?)),
        }
    }
    Ok(None)
}

fn send(path: &Path, request: &Request, patience: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    // Also for the connection: who is stopped takes none, once as many wait as may.
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?).map_err(in_words)?;
    let mut stream = UnixStream::from(OwnedFd::from(socket));
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    match stream.write_all(&line) {
        // It may have answered already, with a refusal.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(stream),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_in_the_way_is_told_once_however_often_it_is_met() {
        let folder = std::env::temp_dir().join(format!("portcullis-progress-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            for code in ["one", "two", "one", "two", "two"] {
                let cause = Cause { code: code.to_owned(), text: String::new(), hint: String::new() };
                let answer = serde_json::to_string(&Answer::Progress { cause }).unwrap();
                writeln!(client, "{answer}").unwrap();
            }
            writeln!(client, "{}", serde_json::to_string(&Answer::Done { lines: Vec::new() }).unwrap()).unwrap();
            drop(BufReader::new(client).read_line(&mut String::new()));
        });
        let mut told = Vec::new();
        let answer = call_telling(&path, &Request::Status, |cause| told.push(cause.code)).unwrap();
        assert!(matches!(answer, Answer::Done { .. }));
        assert_eq!(told, ["one", "two"]);
        daemon.join().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn f_34_a_daemon_that_is_stopped_is_not_waited_for_without_end() {
        let folder = std::env::temp_dir().join(format!("portcullis-stopped-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("sock");
        // The kernel takes connections for it, until as many wait as may.
        let _stopped = UnixListener::bind(&path).unwrap();
        let patience = Duration::from_millis(50);
        let since = Instant::now();
        let asked = call_within(&path, &Request::Status, patience, |_| {});
        assert_eq!(asked.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        let waiting: Vec<_> = (0..10_000)
            .map_while(|_| {
                let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
                socket.connect(&SockAddr::unix(&path).unwrap()).is_ok().then_some(socket)
            })
            .collect();
        let asked = call_within(&path, &Request::Status, patience, |_| {});
        assert_eq!(asked.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut), "{} wait", waiting.len());
        assert!(since.elapsed() < Duration::from_secs(30));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
