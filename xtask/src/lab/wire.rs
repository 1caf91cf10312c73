//! The wire between two gateways: a relay between two packet sockets that looks at every frame.
//!
//! Whatever crosses passes through here, so nothing is missed. It counts what it sees, keeps the IKE messages, refuses
//! what its rules refuse, and does to the rest what a bad network would: lose, double, delay, reorder, corrupt. Chance
//! comes from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::frame::{Kind, Packet, classify};
use super::ike::Seen;
use super::link;
use super::namespace::Namespace;
use crate::outcome::Result;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the west gateway to the east one.
    East,
    /// From the east gateway to the west one.
    West,
}

/// What the wire does to frames other than neighbour discovery. Chances are in percent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Chance to lose an IKE message.
    pub(crate) lose_ike: u32,
    /// IKE messages of this exchange that are lost, going this way, and whether the responses or the requests.
    pub(crate) lose_exchange: Option<(u8, Way, bool)>,
    /// Chance to lose an ESP packet.
    pub(crate) lose_esp: u32,
    /// Chance to deliver a frame twice.
    pub(crate) double: u32,
    /// Chance to hold a frame back for 5 ms, so that later ones overtake it.
    pub(crate) reorder: u32,
    /// Chance to flip one bit behind the IP header.
    pub(crate) corrupt: u32,
    /// How long every frame takes.
    pub(crate) delay: Duration,
    /// How much longer those of IKE take: what was sent later overtakes them.
    pub(crate) late_ike: Duration,
    /// Kinds that never pass.
    pub(crate) refuse: Vec<Kind>,
    /// Nothing passes at all.
    pub(crate) cut: bool,
}

/// An IKE message that was seen, also if it was lost afterwards.
#[derive(Debug, Clone)]
pub(crate) struct IkeSeen {
    /// Since the wire exists.
    pub(crate) at: Duration,
    /// Its direction.
    pub(crate) way: Way,
    /// Its readable part.
    pub(crate) seen: Seen,
    /// All of it, for those who want to send it again.
    pub(crate) message: Vec<u8>,
}

#[derive(Default)]
struct Book {
    faults: Faults,
    counts: BTreeMap<Kind, u64>,
    clear: Vec<String>,
    ike: Vec<IkeSeen>,
    /// The first packet with each SPI, and how many there were.
    esp: BTreeMap<(bool, u32), (Duration, u64)>,
}

/// The wire. Dropping it cuts it.
pub(crate) struct Wire {
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Joins two namespaces, each through a new interface of the given name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn between(west: (&Namespace, &str), east: (&Namespace, &str), seed: u64) -> Result<Self> {
        let middle = Namespace::new("wire")?;
        // The relay alone speaks here, not the kernel.
        middle.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
        link::veth((&middle, "west"), west)?;
        link::veth((&middle, "east"), east)?;
        let (to_west, to_east) =
            middle.within(|| Ok((packet_socket("west", Hears::Arriving)?, packet_socket("east", Hears::Arriving)?)))?;
        let book = Arc::new(Mutex::new(Book::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let mut threads = Vec::new();
        for (from, to, way) in [(to_west.try_clone()?, to_east.try_clone()?, Way::East), (to_east, to_west, Way::West)]
        {
            let mut relay = Relay {
                from,
                to,
                way,
                start,
                book: Arc::clone(&book),
                stop: Arc::clone(&stop),
                dice: Dice(seed ^ (way as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                held: BinaryHeap::new(),
                last: start,
                sent: 0,
            };
            threads.push(std::thread::spawn(move || relay.run()));
        }
        Ok(Self { book, stop, threads })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the wire does to frames, from now on.
    pub(crate) fn faults(&self, faults: Faults) {
        self.book().faults = faults;
    }

    /// How many frames of a kind were seen.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.book().counts.get(&kind).copied().unwrap_or(0)
    }

    /// How many ESP packets went that way.
    pub(crate) fn esp(&self, way: Way) -> u64 {
        let book = self.book();
        book.esp.iter().filter(|((east, _), _)| *east == (way == Way::East)).map(|(_, (_, packets))| packets).sum()
    }

    /// What was seen in clear, the first few packets in words.
    pub(crate) fn clear_packets(&self) -> Vec<String> {
        self.book().clear.clone()
    }

    /// Forgets everything seen so far.
    pub(crate) fn forget(&self) {
        let mut book = self.book();
        book.counts.clear();
        book.clear.clear();
        book.ike.clear();
        book.esp.clear();
    }

    /// The IKE messages seen so far.
    pub(crate) fn ike(&self) -> Vec<IkeSeen> {
        self.book().ike.clone()
    }

    /// Everything seen, as `7 IKE, 120 ESP in UDP 4500`.
    pub(crate) fn summary(&self) -> String {
        let counts = &self.book().counts;
        let parts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }

    /// The IKE messages seen and the first packet with each ESP SPI, one line each, in order.
    pub(crate) fn story(&self) -> String {
        let book = self.book();
        let mut lines: Vec<(Duration, Way, String)> =
            book.ike.iter().map(|IkeSeen { at, way, seen, .. }| (*at, *way, seen.to_string())).collect();
        lines.extend(book.esp.iter().map(|((east, spi), (at, packets))| {
            let way = if *east { Way::East } else { Way::West };
            (*at, way, format!("the first of {packets} ESP packets with SPI {spi:08x}"))
        }));
        lines.sort_by_key(|(at, ..)| *at);
        lines.iter().map(|(at, way, what)| format!("{:10.5} s  to {way:?}  {what}\n", at.as_secs_f64())).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One direction.
struct Relay {
    from: Socket,
    to: Socket,
    way: Way,
    start: Instant,
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    dice: Dice,
    /// Frames under way, the earliest on top; the number keeps those of one instant in order.
    held: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sent: u64,
    /// When the last frame that keeps its place arrives.
    last: Instant,
}

impl Relay {
    fn run(&mut self) {
        let mut buffer = vec![0; 65_536];
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            while let Some(Reverse((due, ..))) = self.held.peek()
                && *due <= now
            {
                if let Some(Reverse((_, _, frame))) = self.held.pop() {
                    self.deliver(&frame);
                }
            }
            let wait = self.held.peek().map_or(Duration::from_millis(50), |Reverse((due, ..))| due.duration_since(now));
            // A whole millisecond at least: poll counts in milliseconds.
            let wait = PollTimeout::try_from(wait.max(Duration::from_millis(1))).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, wait).unwrap_or(0) > 0 {
                match nix::unistd::read(&self.from, &mut buffer) {
                    Ok(length) => {
                        if let Some(frame) = buffer.get(..length) {
                            self.take(frame);
                        }
                    }
                    Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR | nix::errno::Errno::ENETDOWN) => {}
                    Err(_) => return,
                }
            }
        }
    }

    fn take(&mut self, frame: &[u8]) {
        let kind = classify(frame);
        let seen = Packet::in_frame(frame).and_then(|packet| packet.ike()).and_then(Seen::parse);
        let exchange = seen.as_ref().map(|seen| (seen.exchange, self.way, seen.response));
        let faults = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            *book.counts.entry(kind).or_default() += 1;
            if kind == Kind::Clear && book.clear.len() < 8 {
                let words = Packet::in_frame(frame).map_or_else(
                    || format!("ethertype {:02x?}", frame.get(12..14)),
                    |packet| format!("{} > {} protocol {}", packet.from, packet.to, packet.protocol),
                );
                book.clear.push(words);
            }
            if let Some(spi) = Packet::in_frame(frame).and_then(|packet| packet.esp_spi()) {
                let now = self.start.elapsed();
                book.esp.entry((self.way == Way::East, spi)).or_insert((now, 0)).1 += 1;
            }
            if let Some(message) = Packet::in_frame(frame).and_then(|packet| packet.ike())
                && let Some(seen) = Seen::parse(message)
            {
                let at = self.start.elapsed();
                book.ike.push(IkeSeen { at, way: self.way, seen, message: message.to_vec() });
            }
            book.faults.clone()
        };
        let loses = faults.lose_exchange.is_some() && faults.lose_exchange == exchange;
        if faults.cut || loses || faults.refuse.contains(&kind) {
            return;
        }
        if kind == Kind::Neighbour {
            self.deliver(frame);
            return;
        }
        let lose = if kind == Kind::Ike { faults.lose_ike } else { faults.lose_esp };
        if self.dice.hit(lose) {
            return;
        }
        let mut frame = frame.to_vec();
        if self.dice.hit(faults.corrupt) {
            // Behind Ethernet and the shortest IP header, so that addresses and lengths stay as they are.
            let span = frame.len().saturating_sub(14 + 20);
            if let Some(octet) = frame.get_mut(14 + 20 + self.dice.below(span.max(1))) {
                *octet ^= 1 << self.dice.below(8);
            }
        }
        let copies = if self.dice.hit(faults.double) { 2 } else { 1 };
        let late = if kind == Kind::Ike { faults.late_ike } else { Duration::ZERO };
        let overtaken = self.dice.hit(faults.reorder) || !late.is_zero();
        for _ in 0..copies {
            if faults.delay.is_zero() && !overtaken && self.held.is_empty() {
                self.deliver(&frame);
                continue;
            }
            let mut due = Instant::now() + faults.delay;
            if overtaken {
                due += late.max(Duration::from_millis(5));
            } else {
                // A shorter delay than a moment ago must not change the order.
                due = due.max(self.last);
                self.last = due;
            }
            self.sent += 1;
            self.held.push(Reverse((due, self.sent, frame.clone())));
        }
    }

    fn deliver(&self, frame: &[u8]) {
        // A full queue or a link that is down loses the frame, as on any wire.
        let _ = self.to.send(frame);
    }
}

/// SplitMix64: chance that repeats.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap_or(0) % limit
    }

    fn hit(&mut self, percent: u32) -> bool {
        percent > 0 && self.roll() % 100 < u64::from(percent)
    }
}

/// Which frames a packet socket delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hears {
    /// It only sends.
    Nothing,
    /// Those that arrive.
    Arriving,
    /// Those that arrive and those that the machine sends.
    Both,
}

/// A packet socket bound to one interface.
pub(super) fn packet_socket(interface: &str, hears: Hears) -> Result<Socket> {
    let all = if hears == Hears::Nothing { 0 } else { u16::try_from(libc::ETH_P_ALL)?.to_be() };
    // Protocol 0 hears nothing until the socket is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    let index = i32::try_from(link::index(interface)?)?;
    // SAFETY: the closure writes a sockaddr_ll, which is shorter than the storage, and its length.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*link).sll_protocol = all;
            (*link).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    socket.set_nonblocking(true)?;
    // Room for bursts; beyond the machine's limit only root of the machine may go.
    const ROOM: usize = 16 << 20;
    if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
        socket.set_recv_buffer_size(ROOM)?;
    }
    if hears != Hears::Arriving {
        return Ok(socket);
    }
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int; the descriptor is that of a live socket.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if code < 0 { Err(io::Error::last_os_error().into()) } else { Ok(socket) }
}
