//! Packets in: socket, ESP, selectors, TUN device.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ipsec_core::buf::PacketBuf;
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::Ingress;
use ipsec_core::error::Discard;
use ipsec_core::net::{NATT_PORT, Spi};
use ipsec_core::sa::Mode;
use ipsec_core::wire::natt::{Datagram, classify};
use tracing::warn;

use super::head::mark;
use super::news::{Listener, News};
use super::shared::Plane;
use super::sockets::Sockets;
use super::tally::count;
use super::wait::{readable, wait};
use crate::early::spi_of;
use crate::socket::{Batch, Carrier, Origin, Socket};

/// The longest IKE message that is taken: strangers decide how many there are, and each has a copy of its own.
const MESSAGE: usize = 16 * 1024;

/// What is taken from a socket that goes: more than the kernel holds for it, and not all that somebody may send meanwhile.
const LAST_BATCHES: usize = 512;

/// Runs until waiting fails.
pub(super) fn run(plane: &Plane, listener: &impl Listener) {
    let mut batch = Batch::new();
    let mut sockets = plane.sockets();
    let failed = loop {
        let mut descriptors = vec![readable(&plane.changed)];
        descriptors.extend(sockets.iter().map(|socket| readable(&**socket)));
        if let Err(error) = serve(plane, listener, &mut batch, &sockets, &mut descriptors) {
            break error;
        }
        let next = plane.sockets();
        // What arrived at those that go is not lost with them.
        for gone in sockets.iter().filter(|socket| !next.iter().any(|held| Arc::ptr_eq(held, socket))) {
            drain(|| receive(plane, listener, &mut batch, gone));
        }
        sockets = next;
    };
    listener.tell(News::Broken { what: "receiving", error: failed });
}

/// Takes batches until there is none, or for as long as what waited at the beginning can last.
fn drain(mut batch: impl FnMut() -> usize) {
    let _ = (0..LAST_BATCHES).find(|_| batch() == 0);
}

/// Serves these sockets until there are others.
fn serve(
    plane: &Plane,
    listener: &impl Listener,
    batch: &mut Batch,
    sockets: &Sockets,
    descriptors: &mut [nix::poll::PollFd<'_>],
) -> io::Result<()> {
    loop {
        wait(descriptors, None)?;
        let (changed, rest) = descriptors.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        for (socket, ready) in sockets.iter().zip(rest) {
            if ready.any().unwrap_or(true) {
                receive(plane, listener, batch, socket);
            }
        }
        if changed.any().unwrap_or(true) {
            let _ = plane.changed.read(); // only to lower the flag
            return Ok(());
        }
    }
}

/// Takes one batch from a socket. Errors are those of single datagrams (an ICMP error that came back, say): they are
/// taken off the socket by reporting them. Returns how many datagrams there were.
fn receive(plane: &Plane, listener: &impl Listener, batch: &mut Batch, socket: &Socket) -> usize {
    let carrier = socket.listen().carrier;
    let sockets = plane.sockets();
    let received = batch.receive(socket, |origin, datagram| {
        sockets.arrived(socket, &origin);
        plane.arrive(listener, carrier, origin, datagram);
    });
    received.unwrap_or(0)
}

impl Plane {
    /// One datagram from outside.
    fn arrive(&self, listener: &impl Listener, carrier: Carrier, origin: Origin, datagram: &mut PacketBuf<'_>) {
        let ike = |message: &[u8]| match message.len() {
            ..=MESSAGE => self.offer(listener, News::Ike { path: origin.path, message: message.to_vec() }),
            _ if self.tally.truncated.fetch_add(1, Ordering::Relaxed) > 0 => {}
            _ => warn!("an IKE message of more than {MESSAGE} octets was dropped; others after it are only counted"),
        };
        match carrier {
            Carrier::Esp => self.open(listener, origin, datagram),
            Carrier::Udp(NATT_PORT) => match classify(datagram.as_slice()) {
                Ok(Datagram::Esp(_)) => self.open(listener, origin, datagram),
                Ok(Datagram::Ike(message)) => ike(message),
                Ok(Datagram::Keepalive) => {}
                Err(_) => self.inbound().count(Discard::InHeader),
            },
            Carrier::Udp(_) => ike(datagram.as_slice()),
        }
    }

    fn open(&self, listener: &impl Listener, origin: Origin, datagram: &mut PacketBuf<'_>) {
        if self.early.are_open()
            && spi_of(datagram.as_slice()).and_then(Spi::new).is_some_and(|spi| !self.inbound().has(spi))
            && let Some(packet) = self.early.take(Instant::now(), origin, datagram.as_slice())
            // Behind the answer, when that is here already.
            && listener.offer(News::Early(packet)).is_none()
        {
            return; // counted by who gives it up
        }
        // The engine counts what is wrong with it.
        if self.deliver(origin, datagram) {
            self.call(listener);
        }
    }

    /// Opens an ESP packet and hands what is in it to the kernel. Returns whether SAs have something to tell.
    pub(crate) fn deliver(&self, origin: Origin, packet: &mut PacketBuf<'_>) -> bool {
        let mut engine = self.inbound();
        let opened = engine.open(self.clock.now(), origin.path, Ecn::of(origin.marks.class), packet);
        let call = engine.has_events();
        if let Ok(Ingress { sa, flow, .. }) = opened
            && self.hosts().number(flow.destination, flow.source).is_some()
            && engine.sa(sa).is_some_and(|sa| sa.mode != Mode::Tunnel)
        {
            let _ = mark(packet.as_mut_slice(), origin.marks); // it was read before
        }
        drop(engine);
        if opened.is_ok() {
            self.clamp.lower(packet.as_mut_slice());
        }
        if opened.is_ok() && self.tun.send(packet.as_slice()).is_err() {
            count(&self.tally.tun_errors);
        }
        if let Err(discard) = opened {
            self.discards.tell_of_esp(discard, &origin);
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::capacity::Capacity;
    use crate::clear::ClearSockets;
    use crate::clock::Clock;
    use crate::early::Early;
    use crate::namespace::in_a_network_of_its_own;
    use crate::socket::{Listen, Marks};
    use crate::tun::Tun;

    #[test]
    fn an_spi_that_nobody_knows_reaches_the_control_thread_while_it_waits_for_one_and_is_counted_once() {
        in_a_network_of_its_own(|| {
            let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
            let clear = ClearSockets::open().unwrap();
            let plane = Plane::new(Tun::create("pcl0").unwrap(), clear, Clock::start(), &capacity).unwrap();
            let (sender, inputs) = sync_channel(1);
            let early = Early::new(plane.early());
            let remote = "127.0.0.1:4500".parse().unwrap();
            let origin = Origin { path: ipsec_core::net::Path { local: remote, remote }, marks: Marks::default() };
            let arrives = || plane.open(&sender, origin, &mut PacketBuf::new(&mut [4; 64], 0, 64).unwrap());
            let counted = || plane.inbound().counters().get(Discard::InUnknownSpi);
            arrives();
            assert!(inputs.try_recv().is_err(), "nothing is offered");
            assert_eq!(counted(), 1);
            early.expect(true);
            arrives();
            assert_eq!(counted(), 1, "nobody has given it up");
            arrives();
            assert_eq!(counted(), 2, "the inbox is full");
            assert!(matches!(inputs.try_recv(), Ok(News::Early(_))));
            drop(early);
            arrives();
            assert!(inputs.try_recv().is_err());
            assert_eq!(counted(), 3);
        });
    }

    #[test]
    fn an_ike_message_longer_than_any_we_take_is_dropped_and_counted() {
        in_a_network_of_its_own(|| {
            let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
            let clear = ClearSockets::open().unwrap();
            let plane = Plane::new(Tun::create("pcl0").unwrap(), clear, Clock::start(), &capacity).unwrap();
            let (sender, inputs) = sync_channel(9);
            let remote = "127.0.0.1:4500".parse().unwrap();
            let origin = Origin { path: ipsec_core::net::Path { local: remote, remote }, marks: Marks::default() };
            for (port, marker, longest) in [(500, 0, MESSAGE), (4500, 4, MESSAGE + 4)] {
                for (length, taken) in [(longest, true), (longest + 1, false)] {
                    let mut bytes = vec![7; length];
                    bytes[..marker].fill(0);
                    let mut datagram = PacketBuf::new(&mut bytes, 0, length).unwrap();
                    plane.arrive(&sender, Carrier::Udp(port), origin, &mut datagram);
                    assert_eq!(inputs.try_recv().is_ok(), taken, "port {port}, {length} octets");
                }
            }
            assert_eq!(plane.tally.truncated.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn whoever_has_what_an_sa_tells_calls_once_and_waits_for_nobody() {
        in_a_network_of_its_own(|| {
            let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
            let clear = ClearSockets::open().unwrap();
            let plane = Plane::new(Tun::create("pcl0").unwrap(), clear, Clock::start(), &capacity).unwrap();
            let (sender, inputs) = sync_channel(1);
            plane.call(&sender);
            assert!(matches!(inputs.try_recv(), Ok(News::Sas)));
            plane.call(&sender);
            assert!(inputs.try_recv().is_err(), "who listens has been called");
            plane.listens();
            plane.call(&sender);
            plane.listens();
            plane.call(&sender); // there is no room
            assert!(matches!(inputs.try_recv(), Ok(News::Sas)));
        });
    }

    #[test]
    fn f_34_the_last_of_a_socket_is_taken_and_no_more_than_that() {
        let mut asked = 0;
        drain(|| {
            asked += 1;
            1
        });
        assert_eq!(asked, LAST_BATCHES, "somebody sends faster than we take");
        in_a_network_of_its_own(|| {
            let addr = "127.0.0.1".parse().unwrap();
            let socket = Socket::open(Listen { carrier: Carrier::Udp(45_034), addr, interface: None }).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..20_000 {
                sender.send_to(&[0xff], "127.0.0.1:45034").unwrap();
            }
            let (mut batch, mut taken) = (Batch::new(), 0);
            drain(|| {
                let count = batch.receive(&socket, |_, _| {}).unwrap();
                taken += count;
                count
            });
            assert!(taken < 20_000, "the kernel held all that was sent: send more");
            assert_eq!(batch.receive(&socket, |_, _| {}).unwrap(), 0, "more waited than the {taken} taken");
        });
    }
}
