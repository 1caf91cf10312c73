//! The command line's end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::protocol::{Answer, Event, Request};

/// Sends one request and waits for its answer; the daemon bounds the time.
///
/// # Errors
/// When nobody listens at `socket`, or what answers is no daemon.
pub(crate) fn call(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut answer = String::new();
    BufReader::new(send(socket, request)?).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Hands over events as they come, until `take` has enough (`false`) or the daemon ends; what it refuses is the answer.
///
/// # Errors
/// When nobody listens at `socket`, or what answers is no daemon.
pub(crate) fn listen(socket: &Path, mut take: impl FnMut(Event) -> bool) -> io::Result<Option<Answer>> {
    for line in BufReader::new(send(socket, &Request::Events)?).lines() {
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

fn send(socket: &Path, request: &Request) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    match stream.write_all(&line) {
        // It may have answered already, with a refusal.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(stream),
    }
}
