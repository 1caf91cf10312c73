//! A crypto engine as an implementer makes one of a peripheral that works beside the processor: it has slots for keys and slots for
//! packets, is given a packet, and raises an interrupt when one is ready. The peripheral itself is simulated.
//!
//! ```sh
//! cargo run -p ipsec-core --example peripheral
//! ```
#![allow(missing_debug_implementations, reason = "nobody prints them")]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use ipsec_core::aead_only;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::deferred::Deferred;
use ipsec_core::crypto::rustcrypto::{AeadKey, RustCrypto};
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;

/// Slots for keys.
pub const KEYS: usize = 4;
/// And for packets.
pub const PACKETS: usize = 4;
/// Octets of a packet that it takes.
const LONGEST: usize = 2048;

/// The peripheral. What stands here is its own: a driver has addresses of registers and memory for DMA in its place.
#[derive(Default)]
pub struct Hardware {
    keys: [RefCell<Option<Rc<AeadKey>>>; KEYS],
    packets: [Work; PACKETS],
    /// What an interrupt's handler sets, and a loop that sleeps looks at.
    interrupt: Cell<bool>,
}

/// A slot for a packet.
#[derive(Default)]
struct Work {
    state: Cell<State>,
    task: RefCell<Option<Task>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Working,
    /// Nobody wants what it works on.
    Abandoned,
    Done(Result<(), Forged>),
}

struct Task {
    key: Rc<AeadKey>,
    seals: bool,
    nonce: [u8; 12],
    aad: Vec<u8>,
    text_and_tag: Vec<u8>,
}

impl Drop for Task {
    fn drop(&mut self) {
        // It lay there in clear.
        self.text_and_tag.fill(0);
    }
}

impl Hardware {
    /// Some time passes: one of the packets that it works on is ready, the last one first.
    pub fn step(&self) {
        let works = |work: &&Work| [State::Working, State::Abandoned].contains(&work.state.get());
        let Some(work) = self.packets.iter().rev().find(works) else { return };
        let mut task = work.task.borrow_mut();
        let Some(Task { key, seals, nonce, aad, text_and_tag }) = task.as_mut() else { return };
        let done = if *seals {
            RustCrypto.seal(key, nonce, aad, text_and_tag);
            Ok(())
        } else {
            RustCrypto.open(key, nonce, aad, text_and_tag)
        };
        if work.state.get() == State::Abandoned {
            *task = None;
            return work.state.set(State::Free);
        }
        work.state.set(State::Done(done));
        self.interrupt.set(true);
    }

    fn begin(
        &self,
        key: &KeySlot<'_>,
        seals: bool,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &[u8],
    ) -> Option<usize> {
        let free = self.packets.iter().position(|work| work.state.get() == State::Free)?;
        if text_and_tag.len() > LONGEST {
            return None;
        }
        // A key that is removed meanwhile stays for what was begun with it.
        let key = self.keys[key.slot].borrow().clone()?;
        let task = Task { key, seals, nonce: *nonce, aad: aad.to_vec(), text_and_tag: text_and_tag.to_vec() };
        self.packets[free].task.replace(Some(task));
        self.packets[free].state.set(State::Working);
        Some(free)
    }
}

/// The engine: the driver of the peripheral.
#[derive(Clone, Copy)]
pub struct Accelerator<'h>(pub &'h Hardware);

/// A key in the peripheral: nothing but its number. Its slot is wiped when the SA goes.
pub struct KeySlot<'h> {
    hardware: &'h Hardware,
    slot: usize,
}

impl Drop for KeySlot<'_> {
    fn drop(&mut self) {
        self.hardware.keys[self.slot].replace(None);
    }
}

/// A packet in the peripheral.
pub struct Job<'h> {
    hardware: &'h Hardware,
    slot: usize,
}

/// Nobody asks for it any more: the slot is free when the peripheral is done with it, not before.
impl Drop for Job<'_> {
    fn drop(&mut self) {
        let work = &self.hardware.packets[self.slot];
        match work.state.get() {
            State::Working => work.state.set(State::Abandoned),
            _ => {
                work.task.replace(None);
                work.state.set(State::Free);
            }
        }
    }
}

impl<'h> Deferred for Accelerator<'h> {
    type Job = Job<'h>;

    fn begin_seal(&mut self, key: &KeySlot<'h>, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<Job<'h>> {
        let slot = self.0.begin(key, true, nonce, aad, text_and_tag)?;
        Some(Job { hardware: self.0, slot })
    }

    fn begin_open(&mut self, key: &KeySlot<'h>, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<Job<'h>> {
        let slot = self.0.begin(key, false, nonce, aad, text_and_tag)?;
        Some(Job { hardware: self.0, slot })
    }

    fn is_done(&mut self, job: &Job<'h>) -> bool {
        matches!(self.0.packets[job.slot].state.get(), State::Done(_))
    }

    fn finish(&mut self, job: Job<'h>, text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let work = &self.0.packets[job.slot];
        let outcome = loop {
            match work.state.get() {
                State::Done(outcome) => break outcome,
                _ => self.0.step(), // a driver sleeps until there is an interrupt, for so long and no longer
            }
        };
        let task = work.task.borrow();
        let made = task.as_ref().filter(|task| task.text_and_tag.len() == text_and_tag.len()).ok_or(Forged)?;
        outcome.inspect(|()| text_and_tag.copy_from_slice(&made.text_and_tag))
    }
}

/// The calls that wait are made of the others.
impl<'h> PacketCrypto for Accelerator<'h> {
    type AeadKey = KeySlot<'h>;
    type Place<T> = InPlace<T>;
    aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<KeySlot<'h>> {
        let slot = self.0.keys.iter().position(|slot| slot.borrow().is_none())?;
        self.0.keys[slot].replace(Some(Rc::new(RustCrypto.aead_key(alg, key)?)));
        Some(KeySlot { hardware: self.0, slot })
    }

    fn seal(&mut self, key: &KeySlot<'h>, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let job = loop {
            match self.begin_seal(key, nonce, aad, text_and_tag) {
                Some(job) => break job,
                // What is too long it cannot do, and must not leave in clear.
                None if text_and_tag.len() > LONGEST => return text_and_tag.fill(0),
                None => self.0.step(),
            }
        };
        if self.finish(job, text_and_tag).is_err() {
            text_and_tag.fill(0);
        }
    }

    fn open(&mut self, key: &KeySlot<'h>, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let job = loop {
            match self.begin_open(key, nonce, aad, text_and_tag) {
                Some(job) => break job,
                None if text_and_tag.len() > LONGEST => return Err(Forged),
                None => self.0.step(),
            }
        };
        self.finish(job, text_and_tag)
    }
}

/// Where the packets of the example go.
pub fn path() -> Path {
    let at = |last| SocketAddr::from(([192, 0, 2, last], 0));
    Path { local: at(1), remote: at(2) }
}

/// An SA of the example, from either end.
pub fn params<'k>(mode: Mode, path: Path, all: &'k [TrafficSelector]) -> Params<'k> {
    Params {
        spi: Spi::new(0x1000).expect("more than 255"),
        mode,
        protection: AeadAlg::Aes128Gcm16.into(),
        keymat: &[7; 20],
        esn: true,
        path,
        encap: Encap::None,
        policy: PolicyId(1),
        local_ts: all,
        remote_ts: all,
        lifetime: Lifetime::default(),
        compression: None,
    }
}

fn main() -> Result<(), Discard> {
    let (here, there) = (Hardware::default(), Hardware::default());
    let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
    let now = Instant::ZERO;
    let back = Path { local: path().remote, remote: path().local };

    let mut sending = [const { OutboundSlot::<Accelerator<'_>>::EMPTY }];
    let mut outbound: Outbound<'_, _> = Outbound::new(Accelerator(&here), &mut [], &mut sending);
    let sa = params(Mode::Tunnel, path(), &all);
    let sa =
        OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
    let id = outbound.install(now, &sa).expect("a key slot");
    let (mut receiving, mut window) = ([const { InboundSlot::<Accelerator<'_>>::EMPTY }], [0]);
    let mut inbound: Inbound<'_, _> = Inbound::new(Accelerator(&there), &mut [], &mut receiving, &mut window);
    let sa = params(Mode::Tunnel, back, &all);
    inbound.install(now, &InboundParams { sa, window: 64, highest_seen: 0 }).expect("a key slot");

    // As many packets as there are slots are under way at once, and come as they are ready.
    let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let mut memory = [[0; HEADROOM + 20 + TAILROOM]; PACKETS + 1];
    let mut packets: Vec<_> =
        memory.iter_mut().map(|bytes| PacketBuf::with_payload(bytes, &inner).expect("room")).collect();
    let (last, first) = packets.split_last_mut().expect("some");
    let mut under_way = Vec::new();
    for packet in first {
        under_way.push(outbound.begin_seal(now, id, packet)?);
    }
    assert_eq!(outbound.begin_seal(now, id, last).unwrap_err(), Discard::OutEngine, "and no number is lost with it");
    println!("{} packets are under way, and no place is left", under_way.len());
    while !under_way.is_empty() {
        here.step(); // the processor does something else meanwhile, until
        if here.interrupt.take()
            && let Some(ready) = under_way.iter().position(|sealing| outbound.is_sealed(sealing))
        {
            let egress = outbound.finish_seal(under_way.swap_remove(ready))?;
            println!("sealed, to {}", egress.path.remote.ip());
        }
    }
    drop(under_way); // empty by now: what is in it keeps its packets to itself
    for packet in &mut packets[..PACKETS] {
        let opening = inbound.begin_open(now, back, Ecn::NotEct, packet)?;
        inbound.finish_open(now, opening)?;
        assert_eq!(packet.as_slice(), inner);
        println!("opened");
    }
    Ok(())
}
