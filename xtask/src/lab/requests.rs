//! Requests over TCP, each in a connection of its own: what a user of a service notices.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::namespace::Namespace;
use crate::outcome::{Result, ensure};

const PORT: u16 = 8080;
/// After so much time a user has given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// Requests that were begun.
    pub(crate) asked: usize,
    /// Why some were not answered.
    pub(crate) failed: Vec<String>,
}

impl Answers {
    /// Checks that none failed.
    ///
    /// # Errors
    /// Those that did.
    pub(crate) fn all(&self) -> Result {
        ensure(self.asked > 0 && self.failed.is_empty(), || {
            format!("{self}: {:?}", self.failed.iter().take(5).collect::<Vec<_>>())
        })
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests failed", self.failed.len(), self.asked)
    }
}

/// Services on some machines, each of which asks all others, until it is told to stop.
pub(crate) struct Load {
    /// Nobody asks any more, and then nobody answers.
    asked: Arc<AtomicBool>,
    answered: Arc<AtomicBool>,
    services: Vec<JoinHandle<Result>>,
    users: Vec<JoinHandle<Answers>>,
}

impl Load {
    /// Each of these machines, with its address, answers at port 8080 and asks every other one, `interval` apart.
    ///
    /// # Errors
    /// When a service cannot be started.
    pub(crate) fn start(machines: &[(Arc<Namespace>, IpAddr)], interval: Duration) -> Result<Self> {
        let mut load =
            Self { asked: Arc::default(), answered: Arc::default(), services: Vec::new(), users: Vec::new() };
        for (machine, address) in machines {
            let listener = machine.within(|| Ok(TcpListener::bind(SocketAddr::new(*address, PORT))?))?;
            let stop = Arc::clone(&load.answered);
            listener.set_nonblocking(true)?;
            load.services.push(std::thread::spawn(move || serve(&listener, &stop)));
        }
        for (machine, address) in machines {
            for (_, other) in machines.iter().filter(|(_, other)| other != address) {
                let (machine, to, stop) = (Arc::clone(machine), SocketAddr::new(*other, PORT), Arc::clone(&load.asked));
                load.users.push(std::thread::spawn(move || {
                    let all = || -> Result<Answers> { machine.within(|| Ok(use_it(to, interval, &stop))) };
                    all().unwrap_or_else(|error| Answers { asked: 0, failed: vec![error.to_string()] })
                }));
            }
        }
        Ok(load)
    }

    /// Ends it; what came of all requests.
    ///
    /// # Errors
    /// When a service ended before.
    pub(crate) fn stop(self) -> Result<Answers> {
        let mut answers = Answers::default();
        self.asked.store(true, Ordering::Relaxed);
        for user in self.users {
            let Answers { asked, failed } = user.join().map_err(|_| "a user panicked")?;
            answers.asked += asked;
            answers.failed.extend(failed);
        }
        self.answered.store(true, Ordering::Relaxed);
        for service in self.services {
            service.join().map_err(|_| "a service panicked")??;
        }
        Ok(answers)
    }
}

/// Answers each connection with what it says.
fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                std::thread::spawn(move || -> Result {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let mut question = [0; 64];
                    stream.read_exact(&mut question)?;
                    Ok(stream.write_all(&question)?)
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn use_it(to: SocketAddr, interval: Duration, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        answers.asked += 1;
        if let Err(error) = ask(to, answers.asked) {
            answers.failed.push(format!("{to}, number {}: {error}", answers.asked));
        }
        std::thread::sleep(interval);
    }
    answers
}

fn ask(to: SocketAddr, number: usize) -> Result {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = [u8::try_from(number % 251)?; 64];
    stream.write_all(&question)?;
    let mut answer = [0; 64];
    stream.read_exact(&mut answer)?;
    ensure(answer == question, || "another answer".to_owned())
}
