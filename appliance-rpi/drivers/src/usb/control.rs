//! Control transfers: setup, data and status stage, one transfer at a time.

use super::descriptor::MAX_CONFIGURATION;
use super::dwc2::Dwc2;
use super::setup::Setup;
use super::transfer::{Completion, Endpoint, Kind, Pid, Transfer, TransferError};
use crate::{DmaMemory, Mmio};

/// The channel that belongs to control transfers.
pub(super) const CHANNEL: usize = 0;

/// How long a device may take for a whole control transfer (USB 2.0 section 9.2.6.4: 500 ms for a data stage).
const LIMIT_US: u64 = 500_000;

/// 64 bytes, so that a whole packet of the status stage fits.
const SETUP_OFFSET: usize = 0;
const DATA_OFFSET: usize = 64;
/// Bytes of the DMA region that control transfers use.
pub(super) const DMA_BYTES: usize = DATA_OFFSET + MAX_CONFIGURATION;

/// The default endpoint of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlTarget {
    pub(super) address: u8,
    pub(super) max_packet: u16,
    pub(super) low_speed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Setup,
    Data,
    Status,
}

struct Running {
    target: ControlTarget,
    setup: Setup,
    stage: Stage,
    moved: usize,
    deadline: u64,
}

/// The one control transfer on its way, if any.
#[derive(Default)]
pub(super) struct ControlPipe {
    running: Option<Running>,
}

impl ControlPipe {
    /// Starts a transfer. `out` is the data stage of a request to the device that has one.
    ///
    /// Returns `false` where the channel has not yet come to rest after a cancelled transfer.
    pub(super) fn start<M: Mmio, D: DmaMemory>(
        &mut self,
        host: &mut Dwc2<M, D>,
        target: ControlTarget,
        setup: Setup,
        out: &[u8],
        now_us: u64,
    ) -> bool {
        if self.running.is_some() || !host.is_idle(CHANNEL) {
            return false;
        }
        host.dma.write(SETUP_OFFSET, &setup.bytes());
        host.dma.write(DATA_OFFSET, out.get(..usize::from(setup.length)).unwrap_or_default());
        let running = Running { target, setup, stage: Stage::Setup, moved: 0, deadline: now_us + LIMIT_US };
        host.start(CHANNEL, running.transfer());
        self.running = Some(running);
        true
    }

    /// Goes on with the transfer; the result is the length of the answer, which [`answer`](Self::answer) then copies.
    pub(super) fn poll<M: Mmio, D: DmaMemory>(
        &mut self,
        host: &mut Dwc2<M, D>,
        halted: u32,
        now_us: u64,
    ) -> Option<Result<usize, TransferError>> {
        let completion = if halted & 1 << CHANNEL != 0 { host.finish(CHANNEL) } else { None };
        let running = self.running.as_mut()?;
        let outcome = match completion {
            Some(Completion { result: Ok(length), .. }) => running.advance(length),
            Some(Completion { result: Err(error), .. }) => Some(Err(error)),
            None if now_us >= running.deadline => {
                host.cancel(CHANNEL);
                Some(Err(TransferError::TimedOut))
            }
            None => return None,
        };
        match outcome {
            Some(result) => {
                self.running = None;
                Some(result)
            }
            None => {
                let transfer = running.transfer();
                host.start(CHANNEL, transfer);
                None
            }
        }
    }

    /// Copies the answer of the last transfer.
    pub(super) fn answer<M: Mmio, D: DmaMemory>(host: &Dwc2<M, D>, to: &mut [u8]) {
        host.dma.read(DATA_OFFSET, to);
    }
}

impl Running {
    /// Takes note of a finished stage; `Some` when it was the last.
    fn advance(&mut self, length: usize) -> Option<Result<usize, TransferError>> {
        match self.stage {
            Stage::Setup if self.setup.length > 0 => {
                self.stage = Stage::Data;
                None
            }
            Stage::Setup => {
                self.stage = Stage::Status;
                None
            }
            Stage::Data => {
                // The core receives whole packets, so a device may send more than it was asked for.
                self.moved = length.min(usize::from(self.setup.length));
                self.stage = Stage::Status;
                None
            }
            Stage::Status => Some(Ok(self.moved)),
        }
    }

    fn transfer(&self) -> Transfer {
        let data_into_host = self.setup.is_into_host() && self.setup.length > 0;
        let (into_host, pid, offset, length) = match self.stage {
            Stage::Setup => (false, Pid::Setup, SETUP_OFFSET, 8),
            Stage::Data => (data_into_host, Pid::Data1, DATA_OFFSET, usize::from(self.setup.length)),
            // The status stage goes the other way than the data did, and to the host where there was none. What a
            // device sends in it by mistake must not land on the answer.
            Stage::Status => (!data_into_host, Pid::Data1, SETUP_OFFSET, 0),
        };
        let ControlTarget { address, max_packet, low_speed } = self.target;
        let endpoint = Endpoint { address, number: 0, into_host, kind: Kind::Control, max_packet, low_speed };
        Transfer { endpoint, pid, offset, length }
    }
}
