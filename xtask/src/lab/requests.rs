//! Requests over TCP, each in a connection of its own, and over UDP: what a user of a service notices.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::link;
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

/// What answers at port 8080 of some machines, over TCP and UDP. Dropping it ends it.
pub(crate) struct Services {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result>>,
}

impl Services {
    /// One on each of these machines, at its address.
    ///
    /// # Errors
    /// When a port cannot be had.
    pub(crate) fn start(machines: &[(Arc<Namespace>, IpAddr)]) -> Result<Self> {
        let mut services = Self { stop: Arc::default(), threads: Vec::new() };
        for (machine, address) in machines {
            let at = SocketAddr::new(*address, PORT);
            let (listener, datagrams) = machine.within(|| Ok((TcpListener::bind(at)?, UdpSocket::bind(at)?)))?;
            let stop = Arc::clone(&services.stop);
            listener.set_nonblocking(true)?;
            datagrams.set_nonblocking(true)?;
            services.threads.push(std::thread::spawn(move || serve(&listener, &datagrams, &stop)));
        }
        Ok(services)
    }

    /// Ends them.
    ///
    /// # Errors
    /// When one had ended before.
    pub(crate) fn stop(mut self) -> Result {
        self.stop.store(true, Ordering::Relaxed);
        for service in self.threads.drain(..) {
            service.join().map_err(|_| "a service panicked")??;
        }
        Ok(())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for service in self.threads.drain(..) {
            let _ = service.join();
        }
    }
}

/// Services on some machines, each of which asks all others, until it is told to stop.
pub(crate) struct Load {
    services: Services,
    stop: Arc<AtomicBool>,
    users: Vec<JoinHandle<Answers>>,
}

impl Load {
    /// Each of these machines, with its address, answers at port 8080 and asks every other one, `interval` apart.
    ///
    /// # Errors
    /// When a service cannot be started.
    pub(crate) fn start(machines: &[(Arc<Namespace>, IpAddr)], interval: Duration) -> Result<Self> {
        let mut load = Self { services: Services::start(machines)?, stop: Arc::default(), users: Vec::new() };
        for (machine, address) in machines {
            for (_, other) in machines.iter().filter(|(_, other)| other != address) {
                let (machine, to, stop) = (Arc::clone(machine), *other, Arc::clone(&load.stop));
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
        self.stop.store(true, Ordering::Relaxed);
        for user in self.users {
            let Answers { asked, failed } = user.join().map_err(|_| "a user panicked")?;
            answers.asked += asked;
            answers.failed.extend(failed);
        }
        self.services.stop()?;
        Ok(answers)
    }
}

/// Answers each connection and each datagram with what it says.
fn serve(listener: &TcpListener, datagrams: &UdpSocket, stop: &AtomicBool) -> Result {
    let mut question = [0; QUESTION];
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                std::thread::spawn(move || -> Result {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let mut question = [0; QUESTION];
                    stream.read_exact(&mut question)?;
                    Ok(stream.write_all(&question)?)
                });
                continue;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        // An ICMP error about an answer shows here, and so it does where one cannot leave: who asked will notice.
        if let Ok((length, from)) = datagrams.recv_from(&mut question) {
            let _ = datagrams.send_to(question.get(..length).unwrap_or_default(), from);
            continue;
        }
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let _ = poll(&mut [readable(listener.as_fd()), readable(datagrams.as_fd())], PollTimeout::from(50_u8));
    }
    Ok(())
}

fn use_it(to: IpAddr, interval: Duration, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        answers.asked += 1;
        if let Err(error) = ask(to, answers.asked, PATIENCE) {
            answers.failed.push(format!("{to}, number {}: {error}", answers.asked));
        }
        std::thread::sleep(interval);
    }
    answers
}

const QUESTION: usize = 64;

/// Asks a service over TCP, from the namespace of the calling thread.
///
/// # Errors
/// When it does not answer within about `patience`.
pub(crate) fn ask(to: IpAddr, number: usize, patience: Duration) -> Result {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, PORT), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let question = [u8::try_from(number % 251)?; QUESTION];
    stream.write_all(&question)?;
    let mut answer = [0; QUESTION];
    stream.read_exact(&mut answer)?;
    ensure(answer == question, || "another answer".to_owned())
}

/// Asks a service once over UDP, where nobody repeats what is lost, from the namespace of the calling thread.
///
/// # Errors
/// When it does not answer within `patience`.
pub(crate) fn ask_once(to: IpAddr, number: usize, patience: Duration) -> Result {
    let socket = UdpSocket::bind((link::unspecified(to), 0))?;
    socket.connect((to, PORT))?;
    socket.set_read_timeout(Some(patience))?;
    let question = [u8::try_from(number % 251)?; QUESTION];
    socket.send(&question)?;
    let mut answer = [0; QUESTION];
    ensure(socket.recv(&mut answer)? == QUESTION && answer == question, || "another answer".to_owned())
}
