//! Echo requests from a site's host, counted one by one.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::namespace::Namespace;
use crate::outcome::{Result, ensure};

/// Sequence numbers go round after so many requests.
const SEQUENCES: usize = 1 << 16;

/// What came of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests sent.
    pub(crate) sent: usize,
    /// Numbers of the requests without an answer.
    pub(crate) lost: Vec<usize>,
    /// How many requests or answers were lost where nobody can help it: inside the other gateway.
    pub(crate) lost_beyond: usize,
    /// Answers that came a second time.
    pub(crate) doubled: usize,
    /// The longest row of lost requests, in time.
    pub(crate) longest_gap: Duration,
}

impl Tally {
    /// Checks that every request was answered exactly once.
    ///
    /// # Errors
    /// The tally in words.
    pub(crate) fn all_answered(&self) -> Result {
        ensure(self.sent > 0 && self.lost.is_empty() && self.doubled == 0, || self.to_string())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pings lost", self.lost.len(), self.sent)?;
        if !self.lost.is_empty() {
            let first: Vec<usize> = self.lost.iter().copied().take(10).collect();
            write!(f, " (numbers {first:?}, longest gap {:.1} s)", self.longest_gap.as_secs_f32())?;
        }
        if self.lost_beyond > 0 {
            write!(f, ", {} inside the peer", self.lost_beyond)?;
        }
        if self.doubled > 0 { write!(f, ", {} answered twice", self.doubled) } else { Ok(()) }
    }
}

/// Pings in the background until it is told to stop.
pub(crate) struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Tally>>,
}

impl Pinger {
    /// Starts to ping `to` from `host`, every `interval`, with `size` octets of data.
    ///
    /// # Errors
    /// When no raw socket can be had.
    pub(crate) fn start(host: &Namespace, to: IpAddr, size: usize, interval: Duration) -> Result<Self> {
        let socket = echo_socket(host, None, to)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread =
            std::thread::spawn(move || run(&socket, to.is_ipv4(), size, interval, || told.load(Ordering::Relaxed)));
        Ok(Self { stop, thread })
    }

    /// Stops, waits a second for late answers and counts.
    ///
    /// # Errors
    /// When the socket failed.
    pub(crate) fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Pings `to` from `host` `count` times, every 20 ms, with `size` octets of data.
///
/// # Errors
/// When the socket fails. Loss is in the tally.
pub(crate) fn ping(host: &Namespace, to: IpAddr, count: usize, size: usize) -> Result<Tally> {
    pings(&echo_socket(host, None, to)?, to, count, size)
}

/// As [`ping`], from one address of `host` and with 56 octets.
///
/// # Errors
/// When the socket fails.
pub(crate) fn ping_from(host: &Namespace, from: IpAddr, to: IpAddr, count: usize) -> Result<Tally> {
    let socket = echo_socket(host, Some(from), to)?;
    pings(&socket, to, count, 56)
}

fn pings(socket: &Socket, to: IpAddr, count: usize, size: usize) -> Result<Tally> {
    let mut left = count;
    run(socket, to.is_ipv4(), size, Duration::from_millis(20), || {
        let done = left == 0;
        left = left.saturating_sub(1);
        done
    })
}

fn echo_socket(host: &Namespace, from: Option<IpAddr>, to: IpAddr) -> Result<Socket> {
    host.within(|| {
        let (domain, protocol) =
            if to.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&SocketAddr::new(to, 0).into())?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(socket)
    })
}

fn run(socket: &Socket, v4: bool, size: usize, interval: Duration, mut done: impl FnMut() -> bool) -> Result<Tally> {
    // Tells our requests from those of another pinger on the same host.
    let token = u16::try_from(std::process::id() & 0x3fff)? ^ socket_number(socket);
    let mut answers: Vec<u32> = Vec::new();
    let mut next = Instant::now();
    let mut finish = None;
    while finish.is_none_or(|finish| Instant::now() < finish) {
        if finish.is_none() && Instant::now() >= next {
            if done() {
                finish = Some(Instant::now() + Duration::from_secs(1));
                continue;
            }
            // A network that is unreachable for now is a lost ping, not the end.
            let _ = socket.send(&request(v4, token, answers.len(), size));
            answers.push(0);
            next += interval;
        }
        if let Some(sequence) = answer(socket, v4, token)? {
            // The last request with this sequence number.
            let behind = answers.len().wrapping_sub(1).wrapping_sub(sequence) % SEQUENCES;
            if let Some(count) = answers.len().checked_sub(1 + behind).and_then(|at| answers.get_mut(at)) {
                *count += 1;
            }
        }
        if finish.is_some() && answers.iter().all(|&count| count > 0) {
            break;
        }
    }
    let mut longest = 0;
    let mut row = 0;
    for &count in &answers {
        row = if count == 0 { row + 1 } else { 0 };
        longest = longest.max(row);
    }
    Ok(Tally {
        sent: answers.len(),
        lost: answers.iter().enumerate().filter(|(_, count)| **count == 0).map(|(number, _)| number).collect(),
        lost_beyond: 0,
        doubled: answers.iter().filter(|&&count| count > 1).count(),
        longest_gap: interval * longest,
    })
}

fn socket_number(socket: &Socket) -> u16 {
    use std::os::fd::AsRawFd;
    u16::try_from(socket.as_raw_fd() & 0xff).unwrap_or(0) << 8
}

fn request(v4: bool, token: u16, number: usize, size: usize) -> Vec<u8> {
    let mut message = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    message.extend(token.to_be_bytes());
    message.extend(u16::try_from(number % SEQUENCES).unwrap_or(0).to_be_bytes());
    message.extend((0..size).map(|at| u8::try_from(at % 251).unwrap_or(0)));
    // For ICMPv6 the kernel fills the checksum in.
    if v4 {
        let sum: u32 =
            message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        message[2..4].copy_from_slice(&(!u16::try_from(folded).unwrap_or(0)).to_be_bytes());
    }
    message
}

/// The sequence number of the next answer, if one comes within a millisecond.
fn answer(mut socket: &Socket, v4: bool, token: u16) -> Result<Option<usize>> {
    let mut buffer = [0; 2048];
    let length = match socket.read(&mut buffer) {
        Ok(length) => length,
        // An ICMP error for one of our requests shows here; the request is lost, that is all.
        Err(error) if error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(libc::EAGAIN) => {
            return Ok(None);
        }
        Err(error) if error.raw_os_error().is_some_and(is_icmp_error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Raw IPv4 sockets deliver the IP header too.
    let start = if v4 { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
    let Some(&[kind, 0, _, _, token_high, token_low, high, low]) =
        buffer.get(start..length.max(start)).and_then(|message| message.first_chunk::<8>())
    else {
        return Ok(None);
    };
    let ours = kind == if v4 { 0 } else { 129 } && u16::from_be_bytes([token_high, token_low]) == token;
    Ok(ours.then(|| usize::from(u16::from_be_bytes([high, low]))))
}

fn is_icmp_error(code: i32) -> bool {
    [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ECONNREFUSED, libc::EMSGSIZE, libc::EPROTO, libc::EACCES]
        .contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loopback of a namespace would need root; the arithmetic does not.
    #[test]
    fn an_echo_request_carries_a_right_checksum() {
        let message = request(true, 0x1234, 65_537, 13);
        let sum: u32 =
            message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(message[6..8], [0, 1]);
    }

    #[test]
    fn a_tally_with_loss_or_doubles_is_an_error() {
        let good = Tally { sent: 3, lost: vec![], lost_beyond: 0, doubled: 0, longest_gap: Duration::ZERO };
        assert!(good.all_answered().is_ok());
        assert!(Tally { lost: vec![1], ..good.clone() }.all_answered().is_err());
        assert!(Tally { doubled: 1, ..good.clone() }.all_answered().is_err());
        assert!(Tally { sent: 0, ..good }.all_answered().is_err());
    }
}
