//! SMSC LAN9500/9505/9512/9514, the Ethernet port of a Raspberry Pi 3: registers behind vendor requests, frames in
//! bulk transfers with a header before each.
//!
//! Never run on hardware by us. Sources, two for each constant: **F** = FreeBSD `sys/dev/usb/net/if_smscreg.h`,
//! `if_smsc.c`; **U** = U-Boot `drivers/usb/eth/smsc95xx.c`; **L** = Linux `drivers/net/usb/smsc95xx.h`.

use super::descriptor::is_station;
use super::procedure::{Event, Next, Request};
use super::setup::Setup;
use crate::{Link, MacAddress};

// Registers (F, U).
const HW_CFG: u16 = 0x014;
const INT_STS: u16 = 0x008;
const TX_CFG: u16 = 0x010;
const PM_CTRL: u16 = 0x020;
const LED_GPIO_CFG: u16 = 0x024;
const AFC_CFG: u16 = 0x02C;
const BURST_CAP: u16 = 0x038;
const BULK_IN_DLY: u16 = 0x06C;
const MAC_CR: u16 = 0x100;
const ADDRH: u16 = 0x104;
const ADDRL: u16 = 0x108;
const MII_ADDR: u16 = 0x114;
const MII_DATA: u16 = 0x118;
const FLOW: u16 = 0x11C;
const VLAN1: u16 = 0x120;
const COE_CR: u16 = 0x130;

// HW_CFG (F, U).
/// NAK instead of an empty packet while there is nothing to receive.
const HW_CFG_BIR: u32 = 1 << 12;
const HW_CFG_RX_OFFSET: u32 = 3 << 9;
/// Several frames in one transfer.
const HW_CFG_MEF: u32 = 1 << 5;
const HW_CFG_LITE_RESET: u32 = 1 << 3;
/// Obey the burst cap.
const HW_CFG_BCE: u32 = 1 << 1;

const PM_CTRL_PHY_RESET: u32 = 1 << 4; // F, U
const TX_CFG_ON: u32 = 1 << 2; // F, U
const LED_SPEED_LINK_DUPLEX: u32 = 1 << 24 | 1 << 20 | 1 << 16; // F, U
const AFC_DEFAULT: u32 = 0x00F8_30A1; // F, U
const BULK_IN_DELAY: u32 = 0x2000; // F, U
const COE_BOTH: u32 = 1 << 16 | 1; // F, U
const VLAN_TYPE: u32 = 0x8100; // F, U; without it a tagged frame of full length counts as too long

// MAC_CR (F, L).
const MAC_CR_RECEIVE_OWN: u32 = 1 << 23;
const MAC_CR_FULL_DUPLEX: u32 = 1 << 20;
const MAC_CR_ALL_MULTICAST: u32 = 1 << 19;
const MAC_CR_PROMISCUOUS: u32 = 1 << 18;
const MAC_CR_HASH_FILTER: u32 = 1 << 13;
const MAC_CR_TX: u32 = 1 << 3;
const MAC_CR_RX: u32 = 1 << 2;

// MII access (F, U); the internal PHY has address 1 (F `sc_phyno`, U `SMSC95XX_INTERNAL_PHY_ID`).
const MII_WRITE: u32 = 1 << 1;
const MII_BUSY: u32 = 1 << 0;
const PHY: u32 = 1;

// PHY registers and bits, IEEE 802.3 clause 22 (F `mii.h`, L `mii.h`).
const BMCR: u32 = 0;
const BMSR: u32 = 1;
const ANAR: u32 = 4;
const ANLPAR: u32 = 5;
const BMCR_NEGOTIATE: u32 = 1 << 12 | 1 << 9;
const BMSR_LINK: u32 = 1 << 2;
const ANAR_ALL_CSMA: u32 = 0x1E1;
const ABILITY_100_FULL: u32 = 1 << 8;
const ABILITY_100_HALF: u32 = 1 << 7;
const ABILITY_10_FULL: u32 = 1 << 6;

/// Registers that clear a bit by themselves are asked this often, this far apart.
const ASK_US: u64 = 10_000;
const ASKS: u8 = 100;

// Frame headers (F, U).
const TX_FIRST: u32 = 1 << 13;
const TX_LAST: u32 = 1 << 12;
const RX_ERROR: u32 = 1 << 15;
const RX_LENGTH_SHIFT: u32 = 16;
const RX_LENGTH_MASK: u32 = 0x3FFF;

/// The longest burst of frames in one transfer.
pub(super) const RX_BURST_BYTES: usize = 8 * 1024;
/// Bytes in front of a frame to send.
pub(super) const TX_HEADER: usize = 8;
/// Bytes in front of a received frame.
pub const RX_HEADER: usize = 4;
const FCS: usize = 4;
const ETHERNET_HEADER: usize = 14;

/// The header of a frame to send; `length` at most 2047.
pub(super) fn tx_header(length: u16) -> [u8; TX_HEADER] {
    let command_a = u32::from(length) | TX_FIRST | TX_LAST;
    let ([a, b, c, d], [e, f, g, h]) = (command_a.to_le_bytes(), u32::from(length).to_le_bytes());
    [a, b, c, d, e, f, g, h]
}

/// A received frame in a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxFrame {
    /// Length without FCS; `None` for a frame the device reports as damaged.
    pub length: Option<usize>,
    /// From this frame's header to the next one's.
    pub advance: usize,
}

/// Reads the header word of a received frame with `available` bytes left in the burst, header included. `None` where
/// the burst cannot be right; the rest of it is lost.
pub fn rx_header(word: u32, available: usize) -> Option<RxFrame> {
    let with_fcs = (word >> RX_LENGTH_SHIFT & RX_LENGTH_MASK) as usize;
    let end = RX_HEADER + with_fcs;
    if end > available {
        return None;
    }
    let advance = end.next_multiple_of(4);
    if word & RX_ERROR != 0 {
        return Some(RxFrame { length: None, advance });
    }
    let length = with_fcs.checked_sub(FCS).filter(|&length| length >= ETHERNET_HEADER)?;
    Some(RxFrame { length: Some(length), advance })
}

/// One step with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Write(u16, u32),
    Modify { register: u16, clear: u32, set: u32 },
    AwaitClear(u16, u32),
    Read(u16),
    ReadMacLow,
    WriteMacLow,
    WriteMacHigh,
    WriteBurstCap,
}

const fn mii(register: u32, write: bool) -> Op {
    let command = PHY << 11 | register << 6 | MII_BUSY | if write { MII_WRITE } else { 0 };
    Op::Write(MII_ADDR, command)
}

const MII_READY: Op = Op::AwaitClear(MII_ADDR, MII_BUSY);

const RESET: &[Op] = &[
    Op::Write(HW_CFG, HW_CFG_LITE_RESET),
    Op::AwaitClear(HW_CFG, HW_CFG_LITE_RESET),
    Op::Write(PM_CTRL, PM_CTRL_PHY_RESET),
    Op::AwaitClear(PM_CTRL, PM_CTRL_PHY_RESET),
    Op::ReadMacLow,
    Op::Read(ADDRH),
];

const START: &[Op] = &[
    Op::WriteMacLow,
    Op::WriteMacHigh,
    Op::WriteBurstCap,
    Op::Write(BULK_IN_DLY, BULK_IN_DELAY),
    Op::Modify { register: HW_CFG, clear: HW_CFG_RX_OFFSET, set: HW_CFG_BIR | HW_CFG_MEF | HW_CFG_BCE },
    Op::Write(INT_STS, u32::MAX),
    Op::Write(LED_GPIO_CFG, LED_SPEED_LINK_DUPLEX),
    Op::Write(FLOW, 0),
    Op::Write(AFC_CFG, AFC_DEFAULT),
    Op::Modify { register: COE_CR, clear: COE_BOTH, set: 0 },
    Op::Write(VLAN1, VLAN_TYPE),
    MII_READY,
    Op::Write(MII_DATA, ANAR_ALL_CSMA),
    mii(ANAR, true),
    MII_READY,
    Op::Write(MII_DATA, BMCR_NEGOTIATE),
    mii(BMCR, true),
    MII_READY,
    Op::Modify {
        register: MAC_CR,
        clear: MAC_CR_PROMISCUOUS | MAC_CR_HASH_FILTER,
        set: MAC_CR_ALL_MULTICAST | MAC_CR_TX | MAC_CR_RX,
    },
    Op::Write(TX_CFG, TX_CFG_ON),
];

const READ_STATUS: &[Op] = &[MII_READY, mii(BMSR, false), MII_READY, Op::Read(MII_DATA)];
const READ_PARTNER: &[Op] = &[MII_READY, mii(ANLPAR, false), MII_READY, Op::Read(MII_DATA)];
const FULL_DUPLEX: &[Op] = &[Op::Modify { register: MAC_CR, clear: MAC_CR_RECEIVE_OWN, set: MAC_CR_FULL_DUPLEX }];
const HALF_DUPLEX: &[Op] = &[Op::Modify { register: MAC_CR, clear: MAC_CR_FULL_DUPLEX, set: MAC_CR_RECEIVE_OWN }];
const PROMISCUOUS: &[Op] = &[Op::Modify { register: MAC_CR, clear: 0, set: MAC_CR_PROMISCUOUS }];
const SELECTIVE: &[Op] = &[Op::Modify { register: MAC_CR, clear: MAC_CR_PROMISCUOUS, set: 0 }];

/// Runs a row of register steps; done with the value last read.
#[derive(Debug)]
struct Script {
    ops: &'static [Op],
    at: usize,
    asked: u8,
    /// The write of a read-modify-write is on its way.
    writing: bool,
    value: u32,
    mac_low: u32,
    /// What is written by the steps that name it.
    mac: MacAddress,
    /// The same; in packets of the endpoint (U).
    burst_cap: u32,
}

impl Script {
    fn new(ops: &'static [Op]) -> Self {
        Self { ops, at: 0, asked: 0, writing: false, value: 0, mac_low: 0, mac: MacAddress([0; 6]), burst_cap: 0 }
    }

    fn step(&mut self, event: Event<'_>) -> Next<u32> {
        let Some(&op) = self.ops.get(self.at) else { return Next::Done(self.value) };
        match event {
            Event::Begin | Event::Elapsed => self.request(op),
            Event::Answer(Err(_)) => Next::Failed,
            Event::Answer(Ok(answer)) => match op {
                Op::Write(..) | Op::WriteMacLow | Op::WriteMacHigh | Op::WriteBurstCap => self.advance(),
                Op::Modify { .. } if self.writing => {
                    self.writing = false;
                    self.advance()
                }
                Op::Modify { register, clear, set } => {
                    let Some(value) = word(answer) else { return Next::Failed };
                    self.writing = true;
                    write(register, value & !clear | set)
                }
                Op::AwaitClear(_, bits) => {
                    let Some(value) = word(answer) else { return Next::Failed };
                    if value & bits == 0 {
                        return self.advance();
                    }
                    self.asked += 1;
                    if self.asked < ASKS { Next::Wait(ASK_US) } else { Next::Failed }
                }
                Op::Read(_) | Op::ReadMacLow => {
                    let Some(value) = word(answer) else { return Next::Failed };
                    if op == Op::ReadMacLow {
                        self.mac_low = value;
                    }
                    self.value = value;
                    self.advance()
                }
            },
        }
    }

    fn advance(&mut self) -> Next<u32> {
        self.at += 1;
        self.asked = 0;
        match self.ops.get(self.at) {
            Some(&op) => self.request(op),
            None => Next::Done(self.value),
        }
    }

    fn request(&self, op: Op) -> Next<u32> {
        let [a, b, c, d, e, f] = self.mac.0;
        match op {
            Op::Write(register, value) => write(register, value),
            Op::WriteMacLow => write(ADDRL, u32::from_le_bytes([a, b, c, d])),
            Op::WriteMacHigh => write(ADDRH, u32::from_le_bytes([e, f, 0, 0])),
            Op::WriteBurstCap => write(BURST_CAP, self.burst_cap),
            Op::Modify { register, .. } | Op::AwaitClear(register, _) | Op::Read(register) => {
                Next::request(Setup::read_register(register))
            }
            Op::ReadMacLow => Next::request(Setup::read_register(ADDRL)),
        }
    }
}

fn write<T>(register: u16, value: u32) -> Next<T> {
    Next::Request(Request { setup: Setup::write_register(register), out: value.to_le_bytes() })
}

fn word(answer: &[u8]) -> Option<u32> {
    answer.first_chunk().map(|&bytes| u32::from_le_bytes(bytes))
}

/// Brings a configured device into service: reset, station address, receiver, transmitter, negotiation.
#[derive(Debug)]
pub(super) struct SmscSetup {
    script: Script,
    mac: MacAddress,
    burst_cap: u32,
    started: bool,
}

impl SmscSetup {
    /// `board_mac` is used where the device has no address of its own (a Raspberry Pi has no EEPROM on it);
    /// `max_packet` is that of the endpoint frames come in by.
    pub(super) fn new(board_mac: MacAddress, max_packet: u16) -> Self {
        let burst_cap = RX_BURST_BYTES as u32 / u32::from(max_packet.max(1));
        Self { script: Script::new(RESET), mac: board_mac, burst_cap, started: false }
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Next<MacAddress> {
        let next = self.script.step(event);
        let Next::Done(high) = next else { return next.map(|_| self.mac) };
        if self.started {
            return Next::Done(self.mac);
        }
        let ([a, b, c, d], [e, f, _, _]) = (self.script.mac_low.to_le_bytes(), high.to_le_bytes());
        let own = [a, b, c, d, e, f];
        if is_station(own) {
            self.mac = MacAddress(own);
        }
        self.started = true;
        self.script = Script { mac: self.mac, burst_cap: self.burst_cap, ..Script::new(START) };
        self.script.step(Event::Begin).map(|_| self.mac)
    }
}

/// Asks the PHY for the link and, when it has just come up, tells the MAC which duplex was agreed on.
#[derive(Debug)]
pub(super) struct LinkPoll {
    script: Script,
    phase: LinkPhase,
    known: Link,
}

#[derive(Debug)]
enum LinkPhase {
    Status,
    Partner,
    Duplex(Link),
}

impl LinkPoll {
    pub(super) fn new(known: Link) -> Self {
        Self { script: Script::new(READ_STATUS), phase: LinkPhase::Status, known }
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Next<Link> {
        let next = self.script.step(event);
        let Next::Done(value) = next else { return next.map(|_| self.known) };
        let ops = match self.phase {
            LinkPhase::Status if value & BMSR_LINK == 0 => return Next::Done(Link::Down),
            LinkPhase::Status if self.known.is_up() => return Next::Done(self.known),
            LinkPhase::Status => {
                self.phase = LinkPhase::Partner;
                READ_PARTNER
            }
            LinkPhase::Partner => {
                let link = agreed(value);
                self.phase = LinkPhase::Duplex(link);
                if matches!(link, Link::Up { full_duplex: true, .. }) { FULL_DUPLEX } else { HALF_DUPLEX }
            }
            LinkPhase::Duplex(link) => return Next::Done(link),
        };
        self.script = Script::new(ops);
        self.script.step(Event::Begin).map(|_| self.known)
    }
}

/// The best of what the partner can do; everything is offered to it.
fn agreed(partner: u32) -> Link {
    let (mbit, full_duplex) = match partner {
        ability if ability & ABILITY_100_FULL != 0 => (100, true),
        ability if ability & ABILITY_100_HALF != 0 => (100, false),
        ability if ability & ABILITY_10_FULL != 0 => (10, true),
        _ => (10, false),
    };
    Link::Up { mbit, full_duplex }
}

/// Sets which frames are received.
#[derive(Debug)]
pub(super) struct FilterChange(Script);

impl FilterChange {
    pub(super) fn new(promiscuous: bool) -> Self {
        Self(Script::new(if promiscuous { PROMISCUOUS } else { SELECTIVE }))
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Next<()> {
        self.0.step(event).map(|_| ())
    }
}
