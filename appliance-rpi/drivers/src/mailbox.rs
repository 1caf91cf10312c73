//! VideoCore property mailbox: what the firmware knows about the board.

use crate::{Clock, DmaMemory, Mmio, wait_until};

// Register offsets and bits agree in Circle (lib/bcmmailbox.cpp) and QEMU (hw/misc/bcm2835_mbox.c).
const READ: usize = 0x00;
const STATUS: usize = 0x18;
const WRITE: usize = 0x20;
const WRITE_STATUS: usize = 0x38;
const STATUS_FULL: u32 = 1 << 31;
const STATUS_EMPTY: u32 = 1 << 30;
const PROPERTY_CHANNEL: u32 = 8;

const REQUEST: u32 = 0;
const SUCCESS: u32 = 0x8000_0000;
const ANSWERED: u32 = 0x8000_0000;

/// Some answers take their time: power that is waited for, a clock that changes.
const LIMIT_US: u64 = 1_000_000;
/// Mails that may lie in the mailbox, twice over.
const MAILS_MAX: usize = 16;

/// Tags of the property interface. The numbers agree in Circle (include/circle/bcmpropertytags.h) and QEMU
/// (include/hw/arm/raspberrypi-fw-defs.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tag {
    /// Build time of the firmware, seconds since 1970.
    FirmwareRevision = 0x0000_0001,
    /// Board revision code.
    BoardRevision = 0x0001_0002,
    /// MAC address of the on-board Ethernet.
    MacAddress = 0x0001_0003,
    /// Serial number, low word first.
    Serial = 0x0001_0004,
    /// Start and size of the ARM's memory.
    ArmMemory = 0x0001_0005,
    /// Switches a device's power; argument device, state.
    SetPower = 0x0002_8001,
    /// Sets a line of the GPIO expander; argument line, state.
    SetGpio = 0x0003_8041,
    /// Rate of the clock given as argument, in Hz.
    ClockRate = 0x0003_0002,
    /// Highest rate of the clock given as argument, in Hz.
    FastestClockRate = 0x0003_0004,
    /// Sets a clock; argument clock, Hz. Voltage follows.
    SetClockRate = 0x0003_8002,
}

/// Why the firmware gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxError {
    /// The mailbox stayed full or empty.
    TimedOut,
    /// The firmware does not know the tag, or the answer is not one.
    Refused,
}

/// The property channel with its message buffer.
#[derive(Debug)]
pub struct Mailbox<M, D> {
    registers: M,
    buffer: D,
}

impl<M: Mmio, D: DmaMemory> Mailbox<M, D> {
    /// `registers` is the mailbox block (peripherals + 0xB880), `buffer` at least 48 octets below 1 GiB.
    pub fn new(registers: M, buffer: D) -> Self {
        Self { registers, buffer }
    }

    /// Asks one property; `arguments` are written into the two value words, which are returned with the answer.
    ///
    /// # Errors
    /// [`MailboxError`].
    pub fn ask(&mut self, clock: &mut impl Clock, tag: Tag, arguments: [u32; 2]) -> Result<[u32; 2], MailboxError> {
        let [first, second] = arguments;
        // The third value word is an option of some tags; zero is the usual thing.
        let message = [36, REQUEST, tag as u32, 12, REQUEST, first, second, 0, 0];
        for (index, word) in message.into_iter().enumerate() {
            self.buffer.write32(index * 4, word);
        }
        let address = u32::try_from(self.buffer.bus_address()).map_err(|_| MailboxError::Refused)?;
        let mail = address | PROPERTY_CHANNEL;

        let registers = &mut self.registers;
        registers.barrier();
        // An answer that came too late for its question is not one to this.
        for _ in 0..MAILS_MAX {
            if registers.read32(STATUS) & STATUS_EMPTY != 0 {
                break;
            }
            registers.read32(READ);
        }
        wait_until(clock, LIMIT_US, || registers.read32(WRITE_STATUS) & STATUS_FULL == 0)
            .map_err(|_| MailboxError::TimedOut)?;
        registers.write32(WRITE, mail);
        // A mail for someone else may come first; it is dropped.
        wait_until(clock, LIMIT_US, || registers.read32(STATUS) & STATUS_EMPTY == 0 && registers.read32(READ) == mail)
            .map_err(|_| MailboxError::TimedOut)?;
        registers.barrier();

        let answered = self.buffer.read32(16);
        if self.buffer.read32(4) != SUCCESS || answered & ANSWERED == 0 || answered & !ANSWERED > 12 {
            return Err(MailboxError::Refused);
        }
        Ok([self.buffer.read32(20), self.buffer.read32(24)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Memory, Ticking};

    /// A firmware that knows the board revision only.
    struct Firmware {
        memory: Memory,
        answer_at: Option<u32>,
        stray: Option<u32>,
        deaf: bool,
    }

    impl Mmio for Firmware {
        fn read32(&mut self, offset: usize) -> u32 {
            match offset {
                WRITE_STATUS => 0,
                STATUS if self.stray.is_none() && self.answer_at.is_none() => STATUS_EMPTY,
                STATUS => 0,
                READ => self.stray.take().or_else(|| self.answer_at.take()).unwrap_or(0),
                _ => panic!("read of {offset:#x}"),
            }
        }
        fn write32(&mut self, offset: usize, value: u32) {
            assert_eq!(offset, WRITE);
            assert_eq!(value & 0xf, PROPERTY_CHANNEL);
            assert_eq!(u64::from(value & !0xf), self.memory.bus_address());
            if self.deaf {
                return;
            }
            self.memory.write32(4, SUCCESS);
            if self.memory.read32(8) == Tag::BoardRevision as u32 {
                self.memory.write32(16, ANSWERED | 4);
                self.memory.write32(20, 0xa0_2082);
            }
            self.answer_at = Some(value);
        }
        fn barrier(&mut self) {}
    }

    fn mailbox(deaf: bool, stray: Option<u32>) -> Mailbox<Firmware, Memory> {
        let memory = Memory::new(64);
        Mailbox::new(Firmware { memory: memory.clone(), answer_at: None, stray, deaf }, memory)
    }

    #[test]
    fn a_property_is_answered() {
        let mut mailbox = mailbox(false, None);
        let answer = mailbox.ask(&mut Ticking::default(), Tag::BoardRevision, [0, 0]);
        assert_eq!(answer.map(|[revision, _]| revision), Ok(0xa0_2082));
    }

    #[test]
    fn an_answer_that_came_too_late_is_not_taken_for_the_next() {
        let late = Memory::BUS_ADDRESS as u32 | PROPERTY_CHANNEL;
        let answer = mailbox(true, Some(late)).ask(&mut Ticking::default(), Tag::BoardRevision, [0, 0]);
        assert_eq!(answer, Err(MailboxError::TimedOut));
    }

    #[test]
    fn a_stray_mail_is_passed_over() {
        let mut mailbox = mailbox(false, Some(0x1234_5671));
        assert!(mailbox.ask(&mut Ticking::default(), Tag::BoardRevision, [0, 0]).is_ok());
    }

    #[test]
    fn an_unknown_tag_is_refused() {
        let mut mailbox = mailbox(false, None);
        assert_eq!(mailbox.ask(&mut Ticking::default(), Tag::MacAddress, [0, 0]), Err(MailboxError::Refused));
    }

    #[test]
    fn silent_firmware_is_given_up() {
        let mut mailbox = mailbox(true, None);
        assert_eq!(mailbox.ask(&mut Ticking::default(), Tag::BoardRevision, [0, 0]), Err(MailboxError::TimedOut));
    }
}
