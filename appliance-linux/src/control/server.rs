//! The daemon's end of the control socket. Each connection carries one request; it waits in a thread of its own, so
//! that the daemon never waits for a client.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use super::protocol::{Answer, Cause, MAX_REQUEST, Request};

/// Connections served at once.
const CLIENTS: usize = 16;
/// How long a client may take to say what it wants, or to read what it asked for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the daemon may take for what it does at once.
const DAEMON: Duration = Duration::from_secs(10);

/// A request and where its answer goes.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) answer: mpsc::Sender<Answer>,
}

/// The listening socket; its file is removed on drop.
pub(crate) struct Server {
    path: PathBuf,
}

impl Server {
    /// Listens at `path`, for the owner alone, and hands each call to `calls`.
    ///
    /// # Errors
    /// `AddrInUse` when another daemon answers there; what creating the socket reports otherwise.
    pub(crate) fn start(path: &Path, calls: impl Fn(Call) -> bool + Send + Sync + 'static) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        remove_stale(path)?;
        // Bound with its final permissions: no moment in which others could connect.
        let mask = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(mask);
        let listener = listener?;
        let calls = Arc::new(calls);
        let open = Arc::new(AtomicUsize::new(0));
        thread::Builder::new().name("control".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                if open.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue; // closes the connection
                }
                let (calls, still_open) = (Arc::clone(&calls), Arc::clone(&open));
                let served = thread::Builder::new().name("control-client".into()).spawn(move || {
                    let _ = serve(client, &*calls); // the client went away: its loss
                    still_open.fetch_sub(1, Ordering::Relaxed);
                });
                if served.is_err() {
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens to (any more); anything else at `path` stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, and it is not a socket"));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another portcullis answers there"));
    }
    fs::remove_file(path)
}

/// Reads one request, waits for its answer, writes it.
fn serve(client: UnixStream, calls: &(impl Fn(Call) -> bool + ?Sized)) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let peer = getsockopt(&client, PeerCredentials)?;
    let answer = if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
        refusal("not-allowed", "only root and the daemon's own user may use the control socket", "use sudo")
    } else {
        let mut line = String::new();
        BufReader::new((&client).take(MAX_REQUEST as u64)).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(request) => ask(request, calls),
            Err(error) => refusal("bad-request", &format!("not a request: {error}"), ""),
        }
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    (&client).write_all(&line)
}

fn ask(request: Request, calls: &(impl Fn(Call) -> bool + ?Sized)) -> Answer {
    let wait = match &request {
        Request::Up { timeout_ms, .. } | Request::Down { timeout_ms, .. } | Request::Rekey { timeout_ms, .. } => {
            Duration::from_millis(*timeout_ms).saturating_add(DAEMON)
        }
        Request::Status | Request::Show | Request::Reload => DAEMON,
    };
    let (answer, answered) = mpsc::channel();
    if !calls(Call { request, answer }) {
        return refusal("busy", "the daemon is busy or about to end", "try again");
    }
    answered.recv_timeout(wait).unwrap_or_else(|_| refusal("no-answer", "the daemon did not answer in time", ""))
}

fn refusal(code: &str, text: &str, hint: &str) -> Answer {
    Answer::Failed { cause: Cause { code: code.into(), text: text.into(), hint: hint.into() } }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
        call.answer.send(Answer::Done { lines }).is_ok()
    }

    #[test]
    fn a_request_is_answered_and_the_socket_is_private_and_removed() {
        let folder = Folder::new("serve");
        let path = folder.0.join("run/control.sock");
        let server = Server::start(&path, echo).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let answer = client::call(&path, &Request::Reload).unwrap();
        assert_eq!(answer, Answer::Done { lines: vec!["Reload".into()] });
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_line_that_is_no_request_is_refused_and_nothing_reaches_the_daemon() {
        let folder = Folder::new("refuse");
        let path = folder.0.join("control.sock");
        let _server = Server::start(&path, |_| panic!("reached the daemon")).unwrap();
        for line in ["halt\n".to_owned(), "x".repeat(100_000), String::new()] {
            let mut client = UnixStream::connect(&path).unwrap();
            let _ = client.write_all(line.as_bytes());
            let _ = client.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            // A line beyond the limit may end in a reset: what counts is that the panic above does not happen.
            if BufReader::new(client).read_line(&mut answer).is_ok() && line.len() < 100 {
                assert!(answer.contains("bad-request"), "{answer}");
            }
        }
    }

    #[test]
    fn a_socket_left_by_a_killed_daemon_is_taken_over_and_a_living_one_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _server = Server::start(&path, echo).unwrap();
        assert_eq!(Server::start(&path, echo).map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let file = folder.0.join("file");
        fs::write(&file, "precious").unwrap();
        assert_eq!(Server::start(&file, echo).map(drop).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(file.exists());
    }
}
