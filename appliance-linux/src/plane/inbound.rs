//! Packets in: socket, ESP, selectors, TUN device.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ipsec_core::buf::PacketBuf;
use ipsec_core::ecn::Ecn;
use ipsec_core::error::Discard;
use ipsec_core::sa::Event;
use ipsec_core::wire::natt::{Datagram, classify};
use tracing::warn;

use super::{Plane, Sockets, count, readable, wait};
use crate::inbox::{Inbox, Input, News};
use crate::socket::{Batch, Carrier, DATAGRAM, Origin, Socket};

/// The port on which ESP comes in UDP (RFC 3948).
const NATT_PORT: u16 = 4500;

/// Runs until waiting fails.
pub(super) fn run(plane: &Plane, inbox: &Inbox) {
    let mut batch = Batch::new();
    let mut sockets = plane.sockets();
    let failed = loop {
        let mut descriptors = vec![readable(&plane.changed)];
        descriptors.extend(sockets.iter().map(|socket| readable(&**socket)));
        if let Err(error) = serve(plane, inbox, &mut batch, &sockets, &mut descriptors) {
            break error;
        }
        let next = plane.sockets();
        // What arrived at those that go is not lost with them.
        for gone in sockets.iter().filter(|socket| !next.iter().any(|held| Arc::ptr_eq(held, socket))) {
            while receive(plane, inbox, &mut batch, gone) > 0 {}
        }
        sockets = next;
    };
    inbox.tell(News::Broken { what: "receiving", error: failed });
}

/// Serves these sockets until there are others.
fn serve(
    plane: &Plane,
    inbox: &Inbox,
    batch: &mut Batch,
    sockets: &Sockets,
    descriptors: &mut [nix::poll::PollFd<'_>],
) -> io::Result<()> {
    loop {
        wait(descriptors)?;
        let (changed, rest) = descriptors.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        for (socket, ready) in sockets.iter().zip(rest) {
            if ready.any().unwrap_or(true) {
                receive(plane, inbox, batch, socket);
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
fn receive(plane: &Plane, inbox: &Inbox, batch: &mut Batch, socket: &Socket) -> usize {
    let carrier = socket.listen().carrier;
    let sockets = plane.sockets();
    let received = batch.receive(socket, |origin, datagram| {
        sockets.arrived(socket, &origin);
        plane.arrive(inbox, carrier, origin, datagram);
    });
    let cut = std::mem::take(&mut batch.truncated);
    if cut > 0 && plane.tally.truncated.fetch_add(cut, Ordering::Relaxed) == 0 {
        warn!("a datagram of more than {DATAGRAM} octets was dropped; others after it are only counted");
    }
    received.unwrap_or(0)
}

impl Plane {
    /// One datagram from outside.
    fn arrive(&self, inbox: &Inbox, carrier: Carrier, origin: Origin, datagram: &mut [u8]) {
        let ike = |message: &[u8]| News::Ike { path: origin.path, message: message.to_vec() };
        match carrier {
            Carrier::Esp => self.open(inbox, origin, datagram),
            Carrier::Udp(NATT_PORT) => match classify(datagram) {
                Ok(Datagram::Esp(_)) => self.open(inbox, origin, datagram),
                Ok(Datagram::Ike(message)) => self.offer(inbox, ike(message)),
                Ok(Datagram::Keepalive) | Err(_) => {}
            },
            Carrier::Udp(_) => {
                self.offer(inbox, ike(datagram));
            }
        }
    }

    fn open(&self, inbox: &Inbox, origin: Origin, datagram: &mut [u8]) {
        let opened = self.deliver(origin, datagram, |event| inbox.tell(News::Inbound(event)));
        if opened == Err(Discard::InUnknownSpi)
            && let Some(packet) = self.early.take(Instant::now(), origin, datagram)
        {
            // Behind the answer, when that is here already.
            inbox.try_send(Input::News(News::Early(packet)));
        }
    }

    /// Opens an ESP packet and hands what is in it to the kernel. `tell` hears what happened to its SA.
    pub(crate) fn deliver(
        &self,
        origin: Origin,
        datagram: &mut [u8],
        mut tell: impl FnMut(Event),
    ) -> Result<(), Discard> {
        let length = datagram.len();
        let mut packet = PacketBuf::new(datagram, 0, length).map_err(|_| Discard::InHeader)?;
        let mut engine = self.inbound();
        let opened = engine.open(self.clock.now(), origin.path, Ecn::of(origin.tos), &mut packet);
        let mut next = engine.poll_event();
        drop(engine);
        if opened.is_ok() && self.tun.send(packet.as_slice()).is_err() {
            count(&self.tally.tun_errors);
        }
        while let Some(event) = next {
            tell(event);
            next = self.inbound().poll_event();
        }
        opened.map(drop)
    }
}
