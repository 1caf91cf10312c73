//! Counts what moving a frame costs, for `cargo xtask bench rpi`. Entered where QEMU was given a file of this name.
//!
//! The other end puts [`FRAMES`] frames into port 0, which nobody takes out yet, and then an order into port 1. Under
//! `-icount shift=0` an instruction takes one nanosecond, so the clock counts instructions, and the answer, a line on
//! the console, is the same on every machine.

use super::{Board, fw_cfg};
use crate::{clock, map};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;
use core::net::Ipv4Addr;
use rpi_drivers::Nic;
use rpi_services::http::{Refusal, Request, Response};
use rpi_services::stack::{Addressing, Ipv4Net, Pages, Stack};
use traffic_core::frame::{Content, Frame};
use traffic_core::wire::ethernet::EtherType;

/// Frames that an order is about; the rings hold more.
const FRAMES: u64 = 16;
const FRAME_MAX: usize = 1522;
/// EtherType of an order: for local experiments (IEEE 802). What is wanted follows.
const ORDER: EtherType = EtherType(0x88b5);
const ADDRESS: Ipv4Net = Ipv4Net { address: Ipv4Addr::new(192, 0, 2, 1), prefix: 24 };

/// Whether this is wanted.
pub(crate) fn is_wanted() -> bool {
    fw_cfg::read("opt/portcullis-bench", 16).is_some()
}

/// Answers orders, for good.
pub(crate) fn run(mut board: Board) -> ! {
    let mut console = map::uart();
    if let Err(error) = board.start_network() {
        let _ = writeln!(console, "bench: {error:?}");
    }
    let mut bench = Bench {
        board,
        frame: vec![0; FRAME_MAX],
        stack: Stack::new(Addressing::Static { address: ADDRESS, router: None }, 80),
    };
    let _ = writeln!(console, "bench: ready");
    loop {
        let Some((what, len)) = bench.next_order() else { continue };
        let nanos = match what {
            b'r' => bench.receive(len),
            b's' => bench.send(len),
            b'f' => bench.forward(len),
            b'e' => bench.echo(),
            b'c' => bench.copy(len),
            _ => None,
        };
        let _ = match nanos {
            Some(nanos) => writeln!(console, "bench: {}", nanos / FRAMES),
            None => writeln!(console, "bench: not as ordered"),
        };
    }
}

struct Bench {
    board: Board,
    frame: Vec<u8>,
    stack: Stack,
}

fn nanos(work: impl FnOnce()) -> u64 {
    let start = clock::nanos();
    work();
    clock::nanos() - start
}

impl Bench {
    /// What is wanted, and the length of the frames.
    fn next_order(&mut self) -> Option<(u8, usize)> {
        let mut order = None;
        self.board.for_each_nic(clock::micros(), &mut |number, nic| {
            if number == 1
                && let Some(len) = nic.receive(&mut self.frame)
                && let Some(Ok(frame)) = self.frame.get(..len).map(Frame::of)
                && let Content::Other { ether_type: ORDER, payload: &[what, high, low, ..] } = frame.content
            {
                order = Some((what, usize::from(u16::from_be_bytes([high, low]))));
            }
        });
        order
    }

    fn on_port_0(&mut self, work: impl FnOnce(&mut dyn Nic, &mut Vec<u8>)) {
        let mut work = Some(work);
        self.board.for_each_nic(clock::micros(), &mut |number, nic| {
            if number == 0
                && let Some(work) = work.take()
            {
                work(nic, &mut self.frame);
            }
        });
    }

    /// The driver takes all frames.
    fn receive(&mut self, len: usize) -> Option<u64> {
        let (mut taken, mut spent) = (0, 0);
        self.on_port_0(|nic, frame| {
            spent = nanos(|| {
                while let Some(received) = nic.receive(frame) {
                    taken += u64::from(received == len);
                }
            });
        });
        (taken == FRAMES).then_some(spent)
    }

    /// The driver gives as many away.
    fn send(&mut self, len: usize) -> Option<u64> {
        let (mut sent, mut spent) = (0, 0);
        self.on_port_0(|nic, frame| {
            spent = nanos(|| {
                for _ in 0..FRAMES {
                    sent += u64::from(frame.get(..len).is_some_and(|frame| nic.send(frame).is_ok()));
                }
            });
        });
        (sent == FRAMES).then_some(spent)
    }

    /// Each goes from port 0 to port 1, one a round of the loop over all ports.
    fn forward(&mut self, len: usize) -> Option<u64> {
        let mut sent = 0;
        let Self { board, frame, .. } = self;
        let spent = nanos(|| {
            for _ in 0..FRAMES {
                let mut received = None;
                board.for_each_nic(clock::micros(), &mut |number, nic| match number {
                    0 => received = nic.receive(frame),
                    _ => {
                        if let Some(frame) = received.take().and_then(|received| frame.get(..received)) {
                            sent += u64::from(frame.len() == len && nic.send(frame).is_ok());
                        }
                    }
                });
            }
        });
        (sent == FRAMES).then_some(spent)
    }

    /// Through the stack and back: each frame is an echo request that is answered. One that asks for our hardware
    /// address must have come before.
    fn echo(&mut self) -> Option<u64> {
        let (mut answered, mut spent) = (0, 0);
        let Self { board, stack, .. } = self;
        board.for_each_nic(clock::micros(), &mut |number, nic| {
            if number == 0 {
                let before = nic.counters().tx_frames;
                spent = nanos(|| {
                    stack.poll(nic, clock::micros(), 0, &mut NoPages);
                });
                answered = nic.counters().tx_frames - before;
            }
        });
        (answered == FRAMES).then_some(spent)
    }

    /// What all others are compared with: the octets of as many frames, from one place in memory to another.
    fn copy(&mut self, len: usize) -> Option<u64> {
        let mut to = vec![0; len];
        let from = self.frame.get(..len)?;
        Some(nanos(|| {
            for _ in 0..FRAMES {
                black_box(&mut to).copy_from_slice(black_box(from));
            }
        }))
    }
}

struct NoPages;

impl Pages for NoPages {
    fn answer(&mut self, _request: Request) -> Result<Response, Refusal> {
        Err(Refusal::NotFound)
    }
}
