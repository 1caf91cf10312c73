//! A name server that knows one name, and the lab's `/etc/resolv.conf` that names it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::namespace::Namespace;
use super::sandbox::WORK;
use crate::outcome::Result;

const CONFIGURATION: &str = "/etc/resolv.conf";

/// The server. While it lives every program of the lab asks it.
pub(crate) struct Resolver {
    questions: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Answers every question for an IPv4 address with `answer`, at `address` of `namespace`.
    ///
    /// # Errors
    /// When the port cannot be had, or /etc/resolv.conf cannot be covered.
    pub(crate) fn start(namespace: &Namespace, address: Ipv4Addr, answer: Ipv4Addr) -> Result<Self> {
        let socket = namespace.within(|| Ok(UdpSocket::bind(SocketAddr::new(address.into(), 53))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let file = Path::new(WORK).join("resolv.conf");
        fs::write(&file, format!("nameserver {address}\noptions timeout:1 attempts:2\n"))?;
        let nothing: Option<&str> = None;
        mount(Some(&file), CONFIGURATION, nothing, MsFlags::MS_BIND, nothing)?;
        let (questions, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, told) = (Arc::clone(&questions), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(reply) = reply(buffer.get(..length).unwrap_or_default(), answer) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Ok(Self { questions, stop, thread: Some(thread) })
    }

    /// How many questions came.
    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = umount2(CONFIGURATION, MntFlags::MNT_DETACH);
    }
}

/// The answer to a question (RFC 1035 §4): one A record, or none for other types.
fn reply(question: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(*question.get(end)?);
    }
    let asked = question.get(12..end + 5)?;
    let is_address = question.get(end + 1..end + 3)? == [0, 1];
    let mut reply = question.get(..2)?.to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    reply.extend(asked);
    if is_address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(answer.octets());
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_for_an_address_is_answered_and_a_broken_one_is_not() {
        let question = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x04peer\x03lab\0\0\x01\0\x01";
        let reply = reply(question, Ipv4Addr::new(192, 0, 2, 2)).unwrap();
        assert_eq!(reply[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(reply.ends_with(&[0, 4, 192, 0, 2, 2]));
        assert_eq!(super::reply(&question[..20], Ipv4Addr::LOCALHOST), None);
    }
}
