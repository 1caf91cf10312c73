//! Steady traffic of numbered packets, honest and forged.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::iproute::mac;
use super::link;
use super::namespace::Namespace;
use super::wire::{Hears, packet_socket};
use crate::outcome::Result;

/// The UDP port of all this traffic.
pub(crate) const PORT: u16 = 7777;

const MAGIC: [u8; 8] = *b"pcl-leak";

/// What each packet carries, so that it is known wherever it turns up in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    /// Which stream.
    pub(crate) flow: u8,
    /// Which packet of it.
    pub(crate) number: u64,
}

impl Stamp {
    fn payload(self) -> Vec<u8> {
        let mut payload = MAGIC.to_vec();
        payload.push(self.flow);
        payload.extend(self.number.to_be_bytes());
        payload.resize(64, 0);
        payload
    }

    /// The stamp of a UDP payload.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&MAGIC)?;
        let (flow, rest) = rest.split_first()?;
        Some(Self { flow: *flow, number: u64::from_be_bytes(*rest.first_chunk()?) })
    }
}

/// The sender. Dropping it ends it.
pub(crate) struct Flood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends `rate` packets a second from `namespace` in each flow, each to its address, with the source that the kernel
    /// gives them.
    ///
    /// # Errors
    /// When no socket can be had.
    pub(crate) fn honest(namespace: &Namespace, flows: &[(u8, IpAddr)], rate: u32) -> Result<Self> {
        let from_any = |&(flow, to): &(u8, IpAddr)| (flow, link::unspecified(to), to);
        Self::bound(namespace, &flows.iter().map(from_any).collect::<Vec<_>>(), rate)
    }

    /// The same, each from an address of its own.
    ///
    /// # Errors
    /// When no socket can be had.
    pub(crate) fn bound(namespace: &Namespace, flows: &[(u8, IpAddr, IpAddr)], rate: u32) -> Result<Self> {
        let mut senders = Vec::new();
        for &(flow, from, to) in flows {
            // Not connected: the kernel looks for the route anew with each packet.
            senders.push((flow, namespace.within(|| Ok(UdpSocket::bind((from, 0))?))?, SocketAddr::new(to, PORT)));
        }
        Ok(Self::start(rate, move |number| {
            for (flow, socket, to) in &senders {
                // What the machine refuses to send is no leak.
                let _ = socket.send_to(&Stamp { flow: *flow, number }.payload(), to);
            }
            senders.len()
        }))
    }

    /// Puts `rate` frames a second on `interface` for the machine with the Ethernet address `to`, in each flow, with IP
    /// addresses of its choice.
    ///
    /// # Errors
    /// When no socket can be had.
    pub(crate) fn forged(
        (namespace, interface): (&Namespace, &str),
        to: [u8; 6],
        flows: &[(u8, IpAddr, IpAddr)],
        rate: u32,
    ) -> Result<Self> {
        let socket = namespace.within(|| packet_socket(interface, Hears::Nothing))?;
        let (from, flows) = (mac(namespace, interface)?, flows.to_vec());
        Ok(Self::start(rate, move |number| {
            for &(flow, source, destination) in &flows {
                let payload = Stamp { flow, number }.payload();
                let _ = socket.send(&frame(to, from, source, destination, &payload));
            }
            flows.len()
        }))
    }

    fn start(rate: u32, mut send: impl FnMut(u64) -> usize + Send + 'static) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, told) = (Arc::clone(&sent), Arc::clone(&stop));
        let interval = Duration::from_secs(1) / rate.max(1);
        let thread = std::thread::spawn(move || {
            let mut next = Instant::now();
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                let now = Instant::now();
                if now < next {
                    std::thread::sleep(next - now);
                    continue;
                }
                number += 1;
                count.fetch_add(u64::try_from(send(number)).unwrap_or(0), Ordering::Relaxed);
                // A machine that was busy for a while is not to be flooded afterwards.
                next = (next + interval).max(now.checked_sub(Duration::from_millis(20)).unwrap_or(now));
            }
        });
        Self { sent, stop, thread: Some(thread) }
    }

    /// How many packets it has sent, or tried to.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ethernet, IP and UDP around a payload.
fn frame(to: [u8; 6], from: [u8; 6], source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(8);
    let mut udp = Vec::new();
    udp.extend(PORT.to_be_bytes());
    udp.extend(PORT.to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut addresses = octets(source);
    addresses.extend(octets(destination));
    let pseudo = [addresses.as_slice(), &[0, 17], &length.to_be_bytes()].concat();
    let sum = checksum(&[pseudo, udp.clone()].concat());
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [to, from].concat();
    if source.is_ipv4() {
        let mut header = vec![0x45, 0];
        header.extend((20 + length).to_be_bytes());
        header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        header.extend(&addresses);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend([0x08, 0x00]);
        frame.extend(header);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([17, 64]);
        frame.extend(addresses);
    }
    frame.extend(udp);
    frame
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame::Packet;

    #[test]
    fn a_forged_frame_is_read_again() {
        let stamp = Stamp { flow: 9, number: 77 };
        for (source, destination) in [("10.2.0.99", "10.1.0.10"), ("fd02::99", "fd01::10")] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let frame = frame([1; 6], [2; 6], source, destination, &stamp.payload());
            let packet = Packet::in_frame(&frame).unwrap();
            assert_eq!((packet.from, packet.to), (source, destination));
            let (_, to, payload) = packet.udp().unwrap();
            assert_eq!((to, Stamp::read(payload)), (PORT, Some(stamp)));
            assert_eq!(
                checksum(&[octets(source), octets(destination), vec![0, 17, 0, 72], packet.payload.to_vec()].concat()),
                0
            );
        }
        assert_eq!(Stamp::read(b"pcl-leak"), None);
    }
}
