//! What a transfer is, and how it ends.

use super::registers::HCTSIZ_PID_SHIFT;

/// What ended a transfer early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// The endpoint is halted, or a control request is not supported.
    Stall,
    /// The device sent more than it may.
    Babble,
    /// No or broken answer, three times in a row.
    Transaction,
    /// The controller could not reach memory.
    Memory,
    /// Nothing to report (where the channel does not wait for something by itself).
    Nak,
    /// The device kept the transfer waiting too long.
    TimedOut,
}

/// Endpoint transfer types, with their value in the channel register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control = 0,
    Bulk = 2,
    Interrupt = 3,
}

/// One pipe of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: u8,
    pub(super) number: u8,
    pub(super) into_host: bool,
    pub(super) kind: Kind,
    /// At least 1; the descriptor reader sees to it.
    pub(super) max_packet: u16,
    pub(super) low_speed: bool,
}

impl Endpoint {
    /// Whether a transfer asks if there is something: then "no" is an answer, and the question is put anew.
    pub(super) fn asks(&self) -> bool {
        self.into_host && self.kind != Kind::Control
    }
}

/// Packet id of the first packet of a transfer, with its value in the channel register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Pid {
    #[default]
    Data0 = 0,
    Data1 = 2,
    Setup = 3,
}

impl Pid {
    pub(super) fn of(size_register: u32) -> Self {
        match size_register >> HCTSIZ_PID_SHIFT & 3 {
            2 => Self::Data1,
            3 => Self::Setup,
            _ => Self::Data0,
        }
    }
}

/// A transfer between an endpoint and DMA memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) endpoint: Endpoint,
    pub(super) pid: Pid,
    /// Where in the DMA region, a multiple of 4.
    pub(super) offset: usize,
    /// Bytes; into the host, room for that many rounded up to whole packets.
    pub(super) length: usize,
}

impl Transfer {
    pub(super) fn packets(&self) -> usize {
        self.length.div_ceil(usize::from(self.endpoint.max_packet.max(1))).max(1)
    }

    /// What the core is told: into the host it only takes whole packets.
    pub(super) fn programmed_bytes(&self) -> usize {
        if self.endpoint.into_host { self.packets() * usize::from(self.endpoint.max_packet) } else { self.length }
    }
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// Bytes moved.
    pub(super) result: Result<usize, TransferError>,
    /// Packet id the endpoint expects next.
    pub(super) next: Pid,
}
