//! The root port, which answers the port requests of a hub so that the rest of the stack sees hubs only.

use super::dwc2::Dwc2;
use super::hub::{PortRequest, PortStatus, change, status};
use super::registers::*;
use crate::{DmaMemory, Mmio};

/// Length of a reset on the root port (USB 2.0 section 7.1.7.5, TDRSTR: at least 50 ms).
const RESET_US: u64 = 50_000;

/// What the register does not remember of a port: when a reset ends, and that one has ended.
#[derive(Default)]
pub(super) struct RootPort {
    reset_ends: Option<u64>,
    reset_change: bool,
}

impl<M: Mmio, D: DmaMemory> Dwc2<M, D> {
    pub(super) fn power_root_port(&mut self) {
        self.change_root_port(0, HPRT_POWER);
    }

    /// Ends a reset that is due; says whether the port has a change to report.
    pub(super) fn poll_root_port(&mut self, now_us: u64) -> bool {
        if self.root.reset_ends.is_some_and(|end| now_us >= end) {
            self.root.reset_ends = None;
            self.root.reset_change = true;
            self.change_root_port(HPRT_RESET, 0);
        }
        let changes = HPRT_CONNECT_CHANGE | HPRT_ENABLE_CHANGE | HPRT_OVER_CURRENT_CHANGE;
        self.root.reset_change
            || (self.registers.read32(GINTSTS) & GINTSTS_PORT != 0 && self.registers.read32(HPRT) & changes != 0)
    }

    /// Does what a hub would do on this request and returns the port's status afterwards.
    pub(super) fn root_port_request(&mut self, request: PortRequest, now_us: u64) -> PortStatus {
        match request {
            PortRequest::Status => {}
            PortRequest::Power => self.power_root_port(),
            PortRequest::Reset => {
                self.root.reset_ends = Some(now_us + RESET_US);
                self.change_root_port(0, HPRT_RESET);
            }
            PortRequest::Disable => self.change_root_port(0, HPRT_ENABLED),
            PortRequest::Clear(bit) => match bit {
                change::RESET => self.root.reset_change = false,
                change::CONNECTION => self.change_root_port(0, HPRT_CONNECT_CHANGE),
                change::ENABLE => self.change_root_port(0, HPRT_ENABLE_CHANGE),
                change::OVER_CURRENT => self.change_root_port(0, HPRT_OVER_CURRENT_CHANGE),
                _ => {}
            },
        }
        self.root_port_status()
    }

    /// Writes the port register without touching the bits that act when written as 1, save those asked for.
    fn change_root_port(&mut self, clear: u32, set: u32) {
        let port = self.registers.read32(HPRT) & !HPRT_WRITE_ONE;
        self.registers.write32(HPRT, port & !clear | set);
    }

    fn root_port_status(&mut self) -> PortStatus {
        let port = self.registers.read32(HPRT);
        let speed = match port >> HPRT_SPEED_SHIFT & 3 {
            0 => status::HIGH_SPEED,
            2 => status::LOW_SPEED,
            _ => 0,
        };
        let bit = |register: u32, bit: u16| if port & register != 0 { bit } else { 0 };
        PortStatus {
            status: bit(HPRT_CONNECTED, status::CONNECTION)
                | bit(HPRT_ENABLED, status::ENABLE)
                | bit(HPRT_OVER_CURRENT, status::OVER_CURRENT)
                | bit(HPRT_RESET, status::RESET)
                | bit(HPRT_POWER, status::POWER)
                | speed,
            change: bit(HPRT_CONNECT_CHANGE, change::CONNECTION)
                | bit(HPRT_ENABLE_CHANGE, change::ENABLE)
                | bit(HPRT_OVER_CURRENT_CHANGE, change::OVER_CURRENT)
                | if self.root.reset_change { change::RESET } else { 0 },
        }
    }
}
