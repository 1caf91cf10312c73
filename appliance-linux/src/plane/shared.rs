//! What the threads of the data plane and the control thread share.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use gateway_core::config::Settings;
use gateway_core::policy::{Inbound, Outbound};
use ipsec_core::engine::{Egress, InboundSlot, OutboundSlot};
use ipsec_core::net::Path;
use ipsec_core::sa::SaId;
use ipsec_core::spd::{Hits, PolicyId};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::clamp::Clamp;
use super::discarded::Discards;
use super::hosts::Hosts;
use super::locked::{Engines, Locked};
use super::meanwhile::Meanwhile;
use super::news::{Listener, News};
use super::path_mtu::PathMtus;
use super::sockets::Sockets;
use super::stray::Strays;
use super::tally::{Tally, count};
use super::unsent::{Lost, Unsent};
use super::wanted::Wanted;
use crate::capacity::Capacity;
use crate::clear::ClearSockets;
use crate::clock::Clock;
use crate::compression::Deflate;
use crate::early::Places;
use crate::provider::{Engine, tested};
use crate::socket::Marks;
use crate::tun::Tun;

/// Replay window storage for each inbound SA, in words of 64 packets.
const WINDOW_WORDS: usize = 64;

/// The data plane's state, shared by its threads and the control thread.
pub(crate) struct Plane {
    pub(super) outbound: Locked<Outbound<'static, Engine>>,
    pub(super) inbound: Locked<Inbound<'static, Engine>>,
    pub(super) tun: Tun,
    pub(super) sockets: RwLock<Arc<Sockets>>,
    /// Raised when `sockets` changed.
    pub(super) changed: EventFd,
    hosts: RwLock<Arc<Hosts>>,
    pub(super) clear: ClearSockets,
    pub(super) clock: Clock,
    pub(super) tally: Tally,
    pub(super) early: Places,
    pub(super) wanted: Wanted,
    pub(super) meanwhile: Meanwhile,
    pub(super) clamp: Clamp,
    /// Who listens knows that SAs have something to tell, or that packets want one.
    pub(super) called: AtomicBool,
    pub(super) strays: Strays,
    pub(super) discards: Discards,
    pub(super) unsent: Unsent,
    pub(super) path_mtus: PathMtus,
}

/// Likewise.
fn deflate() -> &'static mut Deflate {
    Box::leak(Box::default())
}

impl Plane {
    /// A data plane without rules, SAs and sockets; nothing runs yet.
    pub(crate) fn new(tun: Tun, clear: ClearSockets, clock: Clock, capacity: &Capacity) -> io::Result<Self> {
        let sas = capacity.child_sas;
        // The engines borrow their tables; ours live as long as the process does.
        let rules = vec![Hits::NONE; capacity.rules].leak();
        let outbound = (0..sas).map(|_| OutboundSlot::<Engine>::EMPTY).collect::<Vec<_>>().leak();
        let inbound = (0..sas).map(|_| InboundSlot::<Engine>::EMPTY).collect::<Vec<_>>().leak();
        let windows = vec![0; sas * WINDOW_WORDS].leak();
        Ok(Self {
            outbound: Locked::new(Outbound::new(tested()?, rules, outbound).compressing(deflate())),
            inbound: Locked::new(Inbound::new(tested()?, &mut [], inbound, windows).compressing(deflate())),
            tun,
            sockets: RwLock::default(),
            changed: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            hosts: RwLock::default(),
            clear,
            clock,
            tally: Tally::default(),
            early: Places::default(),
            wanted: Wanted::default(),
            meanwhile: Meanwhile::default(),
            clamp: Clamp::default(),
            called: AtomicBool::default(),
            strays: Strays::new(Instant::now()),
            discards: Discards::new(Instant::now()),
            unsent: Unsent::new(Instant::now()),
            path_mtus: PathMtus::new(Instant::now()),
        })
    }

    /// As these settings have it.
    pub(crate) fn with(self, settings: &Settings) -> Self {
        Self { clamp: Clamp::of(settings), ..self }
    }

    /// Both engines, without SAs yet, for the one who says what is in them.
    pub(crate) fn engines(&self) -> Engines {
        Engines::new(self.outbound.clone(), self.inbound.clone())
    }

    /// The sending engine.
    pub(crate) fn outbound(&self) -> MutexGuard<'_, Outbound<'static, Engine>> {
        self.outbound.lock()
    }

    /// The receiving engine.
    pub(crate) fn inbound(&self) -> MutexGuard<'_, Inbound<'static, Engine>> {
        self.inbound.lock()
    }

    /// Where packets wait whose SA is not there yet.
    pub(crate) fn early(&self) -> Places {
        self.early.clone()
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn sockets(&self) -> Arc<Sockets> {
        Arc::clone(&self.sockets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Listens on these sockets from now on, and sends through them.
    pub(crate) fn set_sockets(&self, sockets: Sockets) -> io::Result<()> {
        *self.sockets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sockets);
        self.changed.write(1)?;
        Ok(())
    }

    /// Who talks in transport or BEET mode.
    pub(super) fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.hosts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// These do so from now on.
    pub(crate) fn set_hosts(&self, hosts: Hosts) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
    }

    /// Sends a datagram from the address and port that its path names.
    pub(crate) fn send(&self, path: Path, marks: Marks, datagram: &[u8]) -> io::Result<()> {
        self.sockets().send(path, marks, datagram)
    }

    /// Hands over what may be lost when who listens does not keep up; that is counted. Of packets that want an SA one waits here
    /// until who listens asks, as it may be the only one that comes.
    pub(crate) fn offer(&self, listener: &impl Listener, news: News) {
        let stays = match listener.offer(news) {
            None => return,
            Some(News::Acquire { policy, packet }) => self.wanted.keep(policy, packet),
            Some(_) => false,
        };
        if stays {
            self.call(listener);
        } else {
            count(&self.tally.inbox_full);
        }
    }

    /// Packets that wait for who listens to ask, with their policies.
    pub(crate) fn wanted(&self) -> BTreeMap<PolicyId, Vec<u8>> {
        self.wanted.take()
    }

    /// SAs have something to tell. It stays with them, so nobody waits here: when there is no room, who listens has something
    /// to do and asks when that is done.
    pub(super) fn call(&self, listener: &impl Listener) {
        if !self.called.swap(true, Ordering::AcqRel) {
            listener.offer(News::Sas);
        }
    }

    /// Whether SAs have something to tell, or had.
    pub(crate) fn has_news(&self) -> bool {
        self.outbound().has_events() || self.inbound().has_events()
    }

    /// Who listens is about to ask the engines, and wants to be called for what comes from now on.
    pub(crate) fn listens(&self) {
        self.called.store(false, Ordering::Release);
    }

    /// What the kernel did not take of the packets of each child that lost some.
    pub(crate) fn all_lost(&self) -> BTreeMap<PolicyId, Lost> {
        self.unsent.all()
    }

    /// What the kernel did not take of a child's packets.
    pub(crate) fn lost(&self, child: PolicyId) -> Option<Lost> {
        self.unsent.of(child)
    }

    /// Which numbers the children have from now on that had others; none: it is gone.
    pub(crate) fn renumber(&self, number: impl Fn(PolicyId) -> Option<PolicyId>) {
        self.unsent.renumber(number);
        self.meanwhile.forget();
    }

    /// Sends what an SA sealed of a packet of `inner` octets; what the kernel does not take is counted, and told.
    pub(super) fn send_sealed(&self, sa: SaId, inner: usize, egress: &Egress, packet: &[u8]) {
        let marks = Marks { class: egress.traffic_class, hops: Some(egress.hops), whole: egress.dont_fragment };
        let Err(error) = self.send(egress.path, marks, packet) else { return };
        if egress.dont_fragment && error.raw_os_error() == Some(libc::EMSGSIZE) {
            let link = self.sockets().outlet(egress.path.local).flatten();
            self.path_mtus.learn(sa, inner, egress, link, || self.outbound().overhead(sa));
        }
        let child = self.outbound().sa(sa).map(|status| status.policy);
        self.not_sent(child, inner, egress.path.remote, &error);
    }

    /// The kernel did not take a packet of a child with so many inner octets.
    pub(crate) fn not_sent(&self, child: Option<PolicyId>, inner: usize, remote: SocketAddr, error: &io::Error) {
        count(&self.tally.send_errors);
        if let (Some(child), Ok(octets)) = (child, u64::try_from(inner)) {
            self.unsent.note(self.clock.now(), child, remote, octets, error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipsec_core::crypto::AeadAlg;
    use ipsec_core::net::{AddrRange, Encap, Spi, TrafficSelector};
    use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Limit, Mode, OutboundParams, Params};

    use super::*;

    fn plane() -> Plane {
        let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 4 };
        let (tun, clear) = (Tun::nowhere().unwrap(), ClearSockets::of_anybody().unwrap());
        Plane::new(tun, clear, Clock::start(), &capacity).unwrap()
    }

    #[test]
    fn what_the_kernel_does_not_take_is_counted_under_its_name_and_for_its_child() {
        let plane = plane();
        let (remote, error) = ("192.0.2.1:4500".parse().unwrap(), io::ErrorKind::NetworkUnreachable.into());
        plane.not_sent(Some(PolicyId(3)), 40, remote, &error);
        plane.not_sent(None, 40, remote, &error);
        let counted = plane.tally().read().into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        assert_eq!(counted, [("SendErrors", 2)]);
        assert!(plane.lost(PolicyId(3)).is_some() && plane.lost(PolicyId(4)).is_none());
        assert_eq!(plane.all_lost().len(), 1);
    }

    #[test]
    fn who_listens_on_sockets_is_told_of_others() {
        let plane = plane();
        assert!(plane.changed.read().is_err(), "nothing has changed");
        plane.set_sockets(Sockets::default()).unwrap();
        assert_eq!(plane.changed.read(), Ok(1));
    }

    #[test]
    fn either_engine_has_news() {
        let everything = [TrafficSelector::addrs(AddrRange::ANY_V4)];
        let at = |last: u8| SocketAddr::from(([192, 0, 2, last], 4500));
        let sa = || Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: &[7; 20],
            esn: false,
            path: Path { local: at(2), remote: at(1) },
            encap: Encap::Udp,
            policy: PolicyId(1),
            local_ts: &everything,
            remote_ts: &everything,
            lifetime: Lifetime {
                hard: Limit { age: Some(Duration::from_secs(1)), ..Limit::default() },
                ..Lifetime::default()
            },
            compression: None,
        };
        for sends in [true, false] {
            let plane = plane();
            let now = plane.clock.now();
            let later = now + Duration::from_secs(2);
            assert!(!plane.has_news());
            if sends {
                let (copy_dscp, dont_fragment) = (false, DontFragment::Copy);
                let sa = OutboundParams { sa: sa(), last_sent: 0, last_number: u64::MAX, copy_dscp, dont_fragment };
                plane.outbound().install(now, &sa).unwrap();
                plane.outbound().handle_timeout(later);
            } else {
                let sa = InboundParams { sa: sa(), window: 64, highest_seen: 0 };
                plane.inbound().install(now, &sa).unwrap();
                plane.inbound().handle_timeout(later);
            }
            assert!(plane.has_news(), "sends: {sends}");
        }
    }
}
