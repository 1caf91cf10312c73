//! Files over TCP from one host to another, and how long a connection takes.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};

use super::namespace::Namespace;
use crate::outcome::{Result, ensure};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a transfer measured.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    /// SHA-256 of what arrived, equal to that of what was sent.
    pub(crate) hash: String,
    /// From connecting until the last octet was acknowledged.
    pub(crate) took: Duration,
}

/// Sends a file of `octets` pseudo-random octets from `sender` to `to`, an address of `receiver`, and compares hashes.
///
/// # Errors
/// When the connection fails, stalls for 20 s, or the hashes differ.
pub(crate) fn transfer(sender: &Namespace, receiver: &Namespace, to: IpAddr, octets: usize) -> Result<Transfer> {
    let listener = receiver.within(|| Ok(TcpListener::bind(SocketAddr::new(to, 0))?))?;
    let address = listener.local_addr()?;
    let receiving = std::thread::spawn(move || -> Result<(String, usize)> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut hash, mut total) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                length => {
                    hash.update(&buffer[..length]);
                    total += length;
                }
            }
        }
        stream.write_all(b"k")?;
        Ok((hex(&hash.finalize()), total))
    });
    let start = Instant::now();
    let sent = sender.within(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
            .map_err(|error| format!("connecting to {address}: {error}"))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut hash = Sha256::new();
        let (mut state, mut left) = (0x2545_f491_4f6c_dd1d_u64, octets);
        let mut block = vec![0; 1 << 16];
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let now = left.min(block.len());
            hash.update(&block[..now]);
            stream.write_all(&block[..now]).map_err(|error| format!("sending to {address}: {error}"))?;
            left -= now;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut [0]).map_err(|error| format!("no acknowledgement from {address}: {error}"))?;
        Ok(hex(&hash.finalize()))
    });
    let took = start.elapsed();
    if sent.is_err() {
        // Nobody connected: wake the receiver up, so that its thread ends.
        let _ = receiver.within(|| Ok(TcpStream::connect(address).map(drop)?));
    }
    let received = receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let sent = sent?;
    let (hash, total) = received?;
    ensure(sent == hash && total == octets, || format!("{octets} octets sent with hash {sent}, {total} came: {hash}"))?;
    Ok(Transfer { hash, took })
}

/// How long `connect` takes to a listener of `receiver`, and what the kernel says of SYN retransmissions.
///
/// # Errors
/// When the connection does not come about.
pub(crate) fn connect(sender: &Namespace, receiver: &Namespace, to: IpAddr) -> Result<Connected> {
    let listener = receiver.within(|| Ok(TcpListener::bind(SocketAddr::new(to, 0))?))?;
    let address = listener.local_addr()?;
    sender.within(|| {
        let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        let start = Instant::now();
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Ok(Connected { took: start.elapsed() })
    })
}

/// A connection that came about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connected {
    /// From SYN to SYN-ACK. The kernel sends a lost SYN again after one second.
    pub(crate) took: Duration,
}

/// Octets as hex.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
