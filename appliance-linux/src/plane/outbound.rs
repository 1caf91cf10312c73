//! Packets out: TUN device, policy, ESP, socket.

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use gateway_core::policy::Outbound;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::engine::Verdict;
use ipsec_core::error::Discard;
use ipsec_core::sa::SaId;
use tracing::warn;

use super::{Listener, News, Plane, count, readable, stray, wait};
use crate::clear::Refused;
use crate::provider::Engine;

/// The largest packet of the TUN device.
const PACKET: usize = 16 * 1024;
/// Packets taken before looking whether the device has an error.
const BURST: usize = 256;

/// How often, and how many times, a device that somebody removed is made again before we give up.
const AGAIN: Duration = Duration::from_millis(100);
const TIMES: u32 = 100;

/// Runs until the device fails for good.
pub(super) fn run(plane: &Plane, listener: &impl Listener) {
    let mut buffer = vec![0; HEADROOM + PACKET + TAILROOM];
    let failed = loop {
        if let Err(error) = wait(&mut [readable(&plane.tun)]) {
            break error;
        }
        if let Err(error) = drain(plane, listener, &mut buffer)
            && !renewed(plane, &error)
        {
            break error;
        }
    };
    listener.tell(News::Broken { what: "the TUN device", error: failed });
}

/// Whether the device was gone and is there again. The boundary leads traffic to it once the kernel tells of it; until
/// then nothing passes.
fn renewed(plane: &Plane, error: &io::Error) -> bool {
    if error.raw_os_error() != Some(libc::EBADFD) {
        return false;
    }
    warn!("somebody removed the TUN device; it is made again");
    (0..TIMES).any(|_| {
        plane.tun.renew().is_ok() || {
            thread::sleep(AGAIN);
            false
        }
    })
}

/// Takes the packets that wait.
fn drain(plane: &Plane, listener: &impl Listener, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..BURST {
        let room = buffer.get_mut(HEADROOM..HEADROOM + PACKET).unwrap_or_default();
        match plane.tun.recv(room) {
            Ok(length) => {
                if let Ok(mut packet) = PacketBuf::new(buffer, HEADROOM, length) {
                    plane.dispatch(listener, &mut packet);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an SA leads to where a packet of our own is going.
fn leads_back(engine: &Outbound<'_, Engine>, sa: SaId, (from, to): (IpAddr, IpAddr)) -> bool {
    engine.sa(sa).is_some_and(|sa| (sa.path.local.ip(), sa.path.remote.ip()) == (from, to))
}

impl Plane {
    /// One packet from the protected side: sealed and sent, sent in clear, handed on, or dropped and counted.
    pub(super) fn dispatch(&self, listener: &impl Listener, packet: &mut PacketBuf<'_>) {
        let now = self.clock.now();
        let own = stray::own(packet.as_slice(), |addr| self.sockets().is_ours(addr));
        let mut engine = self.outbound();
        match engine.classify(now, packet.as_slice()) {
            Ok(Verdict::Protect(sa)) if own.is_some_and(|own| leads_back(&engine, sa, own)) => {
                drop(engine);
                self.end_circle(own);
            }
            Ok(Verdict::Protect(sa)) => {
                let inner = packet.as_slice().len();
                let sealed = engine.seal(now, sa, packet);
                let call = engine.has_events();
                drop(engine);
                match sealed {
                    Ok(egress) => self.send_sealed(sa, inner, &egress, packet.as_slice()),
                    Err(discard) => self.discards.tell(discard, packet.as_slice()),
                }
                if call {
                    self.call(listener);
                }
            }
            Ok(Verdict::Clear) => {
                drop(engine);
                if let Err(refused) = self.clear.send(packet.as_mut_slice(), &self.tun) {
                    count(&self.tally.send_errors);
                    if matches!(refused, Refused::Circle) {
                        self.strays.tell_of_circle(packet.as_slice());
                    }
                }
            }
            Ok(Verdict::Acquire(policy)) => {
                drop(engine);
                if let Some(own) = own {
                    self.strays.tell_of_own(own, true);
                }
                self.offer(listener, News::Acquire { policy, packet: packet.as_slice().to_vec() });
            }
            Err(discard) => {
                // The engine has counted it.
                drop(engine);
                self.discards.tell(discard, packet.as_slice());
                if discard == Discard::OutNoPolicy {
                    self.strays.tell(packet.as_slice(), &self.sockets());
                }
            }
        }
    }

    /// A packet of our own to the peer would go through its own tunnel, and come back each time, longer than before.
    fn end_circle(&self, own: Option<(IpAddr, IpAddr)>) {
        count(&self.tally.send_errors);
        own.into_iter().for_each(|own| self.strays.tell_of_own(own, false));
    }

    /// A packet that waited for an SA; what that SA has to tell is asked for by the one who calls this. Returns whether that
    /// is over: it went, or the engine dropped and counted it.
    pub(crate) fn resume(&self, packet: &[u8]) -> bool {
        let mut bytes = vec![0; HEADROOM + packet.len() + TAILROOM];
        let Ok(mut packet) = PacketBuf::with_payload(&mut bytes, packet) else { return false };
        let now = self.clock.now();
        let own = stray::own(packet.as_slice(), |addr| self.sockets().is_ours(addr));
        let mut engine = self.outbound();
        let sa = match engine.classify_again(packet.as_slice()) {
            Ok(Verdict::Protect(sa)) => sa,
            Ok(_) => return false,
            Err(_) => return true,
        };
        if own.is_some_and(|own| leads_back(&engine, sa, own)) {
            drop(engine);
            self.end_circle(own);
            return true;
        }
        let inner = packet.as_slice().len();
        let sealed = engine.seal(now, sa, &mut packet);
        drop(engine);
        match sealed {
            Ok(egress) => self.send_sealed(sa, inner, &egress, packet.as_slice()),
            Err(discard) => self.discards.tell(discard, packet.as_slice()),
        }
        true
    }
}
