//! The PHY behind MDIO: a BCM54213PE, of which only what IEEE 802.3 clause 22 says is used.

use super::registers::*;
use crate::{Clock, Link, Mmio, wait_until};

/// Address of the PHY on a Pi 4 (Circle `m_phy_id`, the device tree's `ethernet-phy@1`).
const PHY: u32 = 1;
/// An MDIO transaction takes some 30 µs; Circle waits 10 ms at most.
const MDIO_LIMIT_US: u64 = 10_000;

// Registers and bits, IEEE 802.3 clause 22 and 40 (Circle `bcm54213.cpp`, NetBSD `mii.h`).
pub(super) const BMCR: u32 = 0;
pub(super) const BMSR: u32 = 1;
pub(super) const PHY_ID: [u32; 2] = [2, 3];
const ADVERTISE: u32 = 4;
const PARTNER: u32 = 5;
const CONTROL_1000: u32 = 9;
const STATUS_1000: u32 = 10;
const BMCR_NEGOTIATE: u16 = 1 << 12;
const BMCR_POWER_DOWN: u16 = 1 << 11;
const BMCR_ISOLATE: u16 = 1 << 10;
const BMCR_RESTART: u16 = 1 << 9;
const BMSR_LINK: u16 = 1 << 2;
const ABILITY_1000_FULL: u16 = 1 << 11;
const ABILITY_1000_HALF: u16 = 1 << 10;
const ABILITY_100_FULL: u16 = 1 << 8;
const ABILITY_100_HALF: u16 = 1 << 7;
const ABILITY_10_FULL: u16 = 1 << 6;

/// The link is asked for this often.
const POLL_US: u64 = 250_000;
/// Failures in a row after which the link counts as down.
const MAX_FAILURES: u8 = 3;

/// Why a PHY register could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhyError {
    /// The MDIO controller stayed busy.
    TimedOut,
    /// No PHY answered.
    NoAnswer,
}

fn begin<M: Mmio>(registers: &mut M, command: u32) {
    registers.write32(MDIO_CMD, command);
    registers.write32(MDIO_CMD, command | MDIO_BUSY);
}

fn read_command(register: u32) -> u32 {
    MDIO_READ | PHY << MDIO_PHY_SHIFT | register << MDIO_REGISTER_SHIFT
}

fn outcome(word: u32) -> Result<u16, PhyError> {
    if word & MDIO_READ_FAIL != 0 { Err(PhyError::NoAnswer) } else { Ok(word as u16) }
}

fn transact<M: Mmio, C: Clock>(registers: &mut M, clock: &mut C, command: u32) -> Result<u16, PhyError> {
    begin(registers, command);
    wait_until(clock, MDIO_LIMIT_US, || registers.read32(MDIO_CMD) & MDIO_BUSY == 0).map_err(|_| PhyError::TimedOut)?;
    outcome(registers.read32(MDIO_CMD))
}

/// Reads a register, waiting for it.
pub(super) fn read<M: Mmio, C: Clock>(registers: &mut M, clock: &mut C, register: u32) -> Result<u16, PhyError> {
    transact(registers, clock, read_command(register))
}

fn write<M: Mmio, C: Clock>(registers: &mut M, clock: &mut C, register: u32, value: u16) -> Result<(), PhyError> {
    let command = MDIO_WRITE | PHY << MDIO_PHY_SHIFT | register << MDIO_REGISTER_SHIFT | u32::from(value);
    transact(registers, clock, command).map(|_| ())
}

/// Wakes the PHY and starts negotiation where the firmware has not already.
pub(super) fn start<M: Mmio, C: Clock>(registers: &mut M, clock: &mut C) -> Result<(), PhyError> {
    // The first transaction after power-up may fail without meaning anything (Circle `mdio_reset`).
    let _ = read(registers, clock, BMSR);
    let control = read(registers, clock, BMCR)?;
    let awake = control & (BMCR_POWER_DOWN | BMCR_ISOLATE) == 0 && control & BMCR_NEGOTIATE != 0;
    if awake {
        return Ok(());
    }
    let control = control & !(BMCR_POWER_DOWN | BMCR_ISOLATE);
    write(registers, clock, BMCR, control | BMCR_NEGOTIATE | BMCR_RESTART)
}

/// Registers read for a link that has come up, in this order.
const ABILITIES: [u32; 4] = [STATUS_1000, CONTROL_1000, PARTNER, ADVERTISE];

/// Watches the link without ever waiting: one MDIO transaction at a time, looked at in the next poll.
#[derive(Debug, Default)]
pub(super) struct LinkWatch {
    next_poll: u64,
    /// Deadline of the transaction on its way.
    waiting: Option<u64>,
    /// How many of the abilities are known; `None` while the status itself is asked for.
    known: Option<usize>,
    abilities: [u16; ABILITIES.len()],
    failures: u8,
}

/// What the watch noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    Link(Link),
    Failure(PhyError),
}

impl LinkWatch {
    /// Goes on watching; `link` is what is known.
    pub(super) fn poll<M: Mmio>(&mut self, registers: &mut M, link: Link, now_us: u64) -> Option<Noticed> {
        let Some(deadline) = self.waiting else {
            if now_us >= self.next_poll {
                self.next_poll = now_us + POLL_US;
                self.known = None;
                self.ask(registers, BMSR, now_us);
            }
            return None;
        };
        let word = registers.read32(MDIO_CMD);
        if word & MDIO_BUSY != 0 {
            return if now_us >= deadline { Some(self.failed(PhyError::TimedOut)) } else { None };
        }
        self.waiting = None;
        let value = match outcome(word) {
            Ok(value) => value,
            Err(error) => return Some(self.failed(error)),
        };
        self.failures = 0;
        match self.known {
            None if value & BMSR_LINK == 0 => Some(Noticed::Link(Link::Down)),
            None if link.is_up() => None,
            None => {
                self.ask_ability(registers, 0, now_us);
                None
            }
            Some(index) => {
                if let Some(ability) = self.abilities.get_mut(index) {
                    *ability = value;
                }
                if index + 1 < ABILITIES.len() {
                    self.ask_ability(registers, index + 1, now_us);
                    return None;
                }
                Some(Noticed::Link(agreed(self.abilities)))
            }
        }
    }

    /// Whether the PHY has not been heard of for so long that the link must count as down.
    pub(super) fn has_lost_phy(&self) -> bool {
        self.failures >= MAX_FAILURES
    }

    fn ask_ability<M: Mmio>(&mut self, registers: &mut M, index: usize, now_us: u64) {
        self.known = Some(index);
        if let Some(&register) = ABILITIES.get(index) {
            self.ask(registers, register, now_us);
        }
    }

    fn ask<M: Mmio>(&mut self, registers: &mut M, register: u32, now_us: u64) {
        begin(registers, read_command(register));
        self.waiting = Some(now_us + MDIO_LIMIT_US);
    }

    fn failed(&mut self, error: PhyError) -> Noticed {
        self.waiting = None;
        self.failures = self.failures.saturating_add(1);
        Noticed::Failure(error)
    }
}

/// The best both ends can do.
fn agreed([status_1000, control_1000, partner, advertised]: [u16; 4]) -> Link {
    // What we offer stands two bits lower than what the partner says it can.
    let gigabit = status_1000 & (control_1000 << 2);
    let common = partner & advertised;
    let (mbit, full_duplex) = if gigabit & ABILITY_1000_FULL != 0 {
        (1000, true)
    } else if gigabit & ABILITY_1000_HALF != 0 {
        (1000, false)
    } else if common & ABILITY_100_FULL != 0 {
        (100, true)
    } else if common & ABILITY_100_HALF != 0 {
        (100, false)
    } else {
        (10, common & ABILITY_10_FULL != 0)
    };
    Link::Up { mbit, full_duplex }
}
