//! The data plane: two threads, one for each way of a packet, which share sockets, TUN device and counters, and no engine; a
//! third one hears what ICMP says.
//!
//! What they cannot decide (a packet without an SA, an IKE message, a lifetime) goes to whoever listens, and they go on:
//! what has no room there is lost and counted; what an SA has to tell, and the first packet that wants one, stays until it is
//! asked for.

mod discarded;
mod icmp;
mod inbound;
mod narrow;
mod news;
mod outbound;
mod sockets;
mod stray;
mod unsent;
mod wanted;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Instant;

use gateway_core::plane::{self, Hold};
use gateway_core::policy::{Inbound, Outbound};
use ipsec_core::engine::{Egress, InboundSlot, OutboundSlot};
use ipsec_core::net::Path;
use ipsec_core::sa::SaId;
use ipsec_core::spd::{Hits, PolicyId};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::capacity::Capacity;
use crate::clear::ClearSockets;
use crate::clock::Clock;
use crate::early::Places;
use crate::provider::{ENGINE, Engine};
use crate::tun::Tun;

use discarded::Discards;
pub(crate) use news::{Listener, News};
pub(crate) use sockets::Sockets;
use stray::Strays;
use unsent::Unsent;
pub(crate) use unsent::{Lost, unsent};
use wanted::Wanted;

/// Replay window storage for each inbound SA, in words of 64 packets.
const WINDOW_WORDS: usize = 64;

/// An engine that its thread and the control thread share. It is locked for single steps.
pub(crate) struct Locked<E>(Arc<Mutex<E>>);

impl<E> Locked<E> {
    fn new(engine: E) -> Self {
        Self(Arc::new(Mutex::new(engine)))
    }

    /// No engine panics, so a poisoned lock still guards sound data.
    fn lock(&self) -> MutexGuard<'_, E> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Clone for Locked<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Hold for Locked<E> {
    type Engine = E;

    fn with<R>(&self, look: impl FnOnce(&E) -> R) -> R {
        look(&self.lock())
    }

    fn with_mut<R>(&mut self, change: impl FnOnce(&mut E) -> R) -> R {
        change(&mut self.lock())
    }
}

/// The engines as the gateway sees them.
pub(crate) type Engines = plane::Engines<Locked<Outbound<'static, Engine>>, Locked<Inbound<'static, Engine>>>;

/// The data plane's state, shared by its threads and the control thread.
pub(crate) struct Plane {
    outbound: Locked<Outbound<'static, Engine>>,
    inbound: Locked<Inbound<'static, Engine>>,
    tun: Tun,
    sockets: RwLock<Arc<Sockets>>,
    /// Raised when `sockets` changed.
    changed: EventFd,
    clear: ClearSockets,
    clock: Clock,
    tally: Tally,
    early: Places,
    wanted: Wanted,
    /// Who listens knows that SAs have something to tell, or that packets want one.
    called: AtomicBool,
    strays: Strays,
    discards: Discards,
    unsent: Unsent,
}

/// What is lost outside the engines.
#[derive(Default)]
pub(crate) struct Tally {
    /// Packets that the kernel did not take from us towards the peers.
    send_errors: AtomicU64,
    /// Packets that the kernel did not take from us on the TUN device.
    tun_errors: AtomicU64,
    /// Datagrams larger than any we take.
    truncated: AtomicU64,
    /// IKE messages and packets in want of an SA that came faster than the control thread took them.
    inbox_full: AtomicU64,
}

impl Tally {
    /// Every counter with its name.
    pub(crate) fn read(&self) -> [(&'static str, u64); 4] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("SendErrors", of(&self.send_errors)),
            ("TunErrors", of(&self.tun_errors)),
            ("Truncated", of(&self.truncated)),
            ("InboxFull", of(&self.inbox_full)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
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
            outbound: Locked::new(Outbound::new(ENGINE, rules, outbound)),
            inbound: Locked::new(Inbound::new(ENGINE, &mut [], inbound, windows)),
            tun,
            sockets: RwLock::default(),
            changed: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            clear,
            clock,
            tally: Tally::default(),
            early: Places::default(),
            wanted: Wanted::default(),
            called: AtomicBool::default(),
            strays: Strays::new(Instant::now()),
            discards: Discards::new(Instant::now()),
            unsent: Unsent::new(Instant::now()),
        })
    }

    /// Starts the two threads, and one that hears what ICMP says.
    pub(crate) fn start(self: &Arc<Self>, listener: &impl Listener) -> io::Result<()> {
        let (plane, told) = (Arc::clone(self), listener.clone());
        thread::Builder::new().name("outbound".into()).spawn(move || outbound::run(&plane, &told))?;
        let (plane, told) = (Arc::clone(self), listener.clone());
        thread::Builder::new().name("inbound".into()).spawn(move || inbound::run(&plane, &told))?;
        let (errors, plane, told) = (icmp::Errors::open(), Arc::clone(self), listener.clone());
        let outlet = move |local| plane.sockets().outlet(local);
        thread::Builder::new().name("icmp".into()).spawn(move || errors.run(outlet, &told))?;
        Ok(())
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

    /// Sends a datagram from the address and port that its path names.
    pub(crate) fn send(&self, path: Path, tos: u8, datagram: &[u8]) -> io::Result<()> {
        self.sockets().send(path, tos, datagram)
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
    fn call(&self, listener: &impl Listener) {
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
    }

    /// Sends what an SA sealed of a packet of `inner` octets; what the kernel does not take is counted, and told.
    fn send_sealed(&self, sa: SaId, inner: usize, egress: &Egress, packet: &[u8]) {
        let Err(error) = self.send(egress.path, egress.traffic_class, packet) else { return };
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

/// Waits until one of the descriptors can be read.
fn wait(descriptors: &mut [nix::poll::PollFd<'_>]) -> io::Result<()> {
    match nix::poll::poll(descriptors, nix::poll::PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn readable<F: AsFd + ?Sized>(descriptor: &F) -> nix::poll::PollFd<'_> {
    nix::poll::PollFd::new(descriptor.as_fd(), nix::poll::PollFlags::POLLIN)
}
