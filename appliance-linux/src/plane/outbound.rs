//! Packets out: TUN device, policy, ESP, socket.

use std::io;
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::thread;
use std::time::Duration;

use gateway_core::policy::Outbound;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::engine::Verdict;
use ipsec_core::error::Discard;
use ipsec_core::sa::{Mode, SaId};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;
use tracing::warn;

use super::head::has_options;
use super::news::{Listener, News};
use super::shared::Plane;
use super::stray;
use super::tally::count;
use super::wait::{readable, wait};
use super::whole::Wholes;
use crate::clear::Refused;
use crate::provider::Engine;

/// The largest packet there is.
const PACKET: usize = 65_535;
/// Packets taken before looking whether the device has an error.
const BURST: usize = 256;

/// How often, and how many times, a device that somebody removed is made again before we give up.
const AGAIN: Duration = Duration::from_millis(100);
const TIMES: u32 = 100;

/// Runs until the device fails for good.
pub(super) fn run(plane: &Plane, listener: &impl Listener) {
    let mut buffer = vec![0; HEADROOM + PACKET + TAILROOM];
    let mut wholes = Wholes::default();
    let failed = loop {
        if let Err(error) = wait(&mut [readable(&plane.tun)], wholes.patience(plane.clock.now())) {
            break error;
        }
        wholes.expire(plane);
        if let Err(error) = drain(plane, listener, &mut wholes, &mut buffer)
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
fn drain(plane: &Plane, listener: &impl Listener, wholes: &mut Wholes, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..BURST {
        let room = buffer.get_mut(HEADROOM..HEADROOM + PACKET).unwrap_or_default();
        match plane.tun.recv(room) {
            Ok(length) => {
                if let Ok(mut packet) = PacketBuf::new(buffer, HEADROOM, length) {
                    wholes.dispatch(plane, listener, &mut packet);
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
        let (now, own) = (self.clock.now(), self.own(packet));
        let mut engine = self.outbound();
        let verdict = engine.classify(now, packet.as_slice());
        // One of them is enough to ask for an SA, and most that come behind it find none either.
        if let Ok(Verdict::ClearMeanwhile(policy)) = verdict
            && self.meanwhile.is_due(policy, now)
        {
            // When there is no room, the next one that is due asks.
            drop(listener.offer(News::Clear { policy, packet: packet.as_slice().to_vec() }));
        }
        let Carried { waits, news } = self.carry(engine, now, verdict, own, packet);
        if let Some(policy) = waits {
            if let Some(own) = own {
                self.strays.tell_of_own(own, true, self.are_hosts(own));
            }
            self.offer(listener, News::Acquire { policy, packet: packet.as_slice().to_vec() });
        }
        if news {
            self.call(listener);
        }
    }

    /// A packet that waited for an SA; what that SA has to tell is asked for by the one who calls this. Returns whether that
    /// is over: it went, or it was dropped and counted.
    pub(crate) fn resume(&self, packet: &[u8]) -> bool {
        // It may be made to look longer.
        let mut bytes = vec![0; HEADROOM + PACKET + TAILROOM];
        let Ok(mut packet) = PacketBuf::with_payload(&mut bytes, packet) else { return false };
        let (now, own) = (self.clock.now(), self.own(&packet));
        let mut engine = self.outbound();
        let verdict = match engine.classify_again(packet.as_slice()) {
            // It met another rule before.
            Ok(Verdict::Clear | Verdict::ClearMeanwhile(_)) => engine.classify(now, packet.as_slice()),
            verdict => verdict,
        };
        self.carry(engine, now, verdict, own, &mut packet).waits.is_none()
    }

    /// Does with a packet what was decided.
    fn carry(
        &self,
        mut engine: MutexGuard<'_, Outbound<'static, Engine>>,
        now: Instant,
        verdict: Result<Verdict, Discard>,
        own: Option<(IpAddr, IpAddr)>,
        packet: &mut PacketBuf<'_>,
    ) -> Carried {
        let (mut waits, mut news) = (None, false);
        match verdict {
            Ok(Verdict::Protect(sa)) => match own.filter(|own| leads_back(&engine, sa, *own)) {
                // A packet of our own to the peer would go through its own tunnel, and come back each time, longer than before.
                Some(own) => {
                    drop(engine);
                    count(&self.tally.send_errors);
                    self.strays.tell_of_own(own, false, self.are_hosts(own));
                }
                // The kernel makes the header that they would stand in.
                None if has_options(packet.as_slice())
                    && engine.sa(sa).is_some_and(|sa| sa.mode == Mode::Transport) =>
                {
                    engine.count(Discard::OutMode);
                    drop(engine);
                    self.discards.tell(Discard::OutMode, packet.as_slice());
                }
                None if self.path_mtus.is_too_long(sa, packet.as_slice(), &self.tun) => {
                    engine.count(Discard::OutNoRoom);
                    drop(engine);
                    self.discards.tell(Discard::OutNoRoom, packet.as_slice());
                }
                None => {
                    self.clamp.lower(packet.as_mut_slice());
                    let inner = packet.as_slice().len();
                    let sealed = engine.seal(now, sa, packet);
                    news = engine.has_events();
                    drop(engine);
                    match sealed {
                        Ok(egress) => self.send_sealed(sa, inner, &egress, packet.as_slice()),
                        Err(discard) => self.discards.tell(discard, packet.as_slice()),
                    }
                }
            },
            Ok(Verdict::Clear | Verdict::ClearMeanwhile(_)) => {
                drop(engine);
                if let Err(refused) = self.clear.send(packet.as_mut_slice(), &self.tun) {
                    count(&self.tally.send_errors);
                    if matches!(refused, Refused::Circle) {
                        self.strays.tell_of_circle(packet.as_slice());
                    }
                }
            }
            Ok(Verdict::Acquire(policy)) => waits = Some(policy),
            Err(discard) => {
                // The engine has counted it.
                drop(engine);
                self.discards.tell(discard, packet.as_slice());
                if discard == Discard::OutNoPolicy {
                    self.strays.tell(packet.as_slice(), &self.sockets());
                }
            }
        }
        Carried { waits, news }
    }

    /// Whether these two talk in transport mode.
    fn are_hosts(&self, (from, to): (IpAddr, IpAddr)) -> bool {
        self.hosts().number(from, to).is_some()
    }

    /// From where to where a packet goes that this machine itself sends from an address of ours outside.
    fn own(&self, packet: &PacketBuf<'_>) -> Option<(IpAddr, IpAddr)> {
        stray::own(packet.as_slice(), |addr| self.sockets().is_ours(addr))
    }
}

/// What became of a packet.
struct Carried {
    /// It is as it was, and goes when there is an SA of this policy.
    waits: Option<PolicyId>,
    /// An SA has something to tell.
    news: bool,
}
