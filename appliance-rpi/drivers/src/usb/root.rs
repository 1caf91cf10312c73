//! The root port, which answers the port requests of a hub so that the rest of the stack sees hubs only.

use super::hub::{PortRequest, PortStatus, change, status};
use super::registers::*;
use crate::Mmio;

/// Length of a reset on the root port (USB 2.0 section 7.1.7.5, TDRSTR: at least 50 ms).
const RESET_US: u64 = 50_000;

/// What the register does not remember of a port: when a reset ends, and that one has ended.
#[derive(Default)]
pub(super) struct RootPort {
    reset_ends: Option<u64>,
    reset_change: bool,
}

impl RootPort {
    pub(super) fn power<M: Mmio>(&mut self, registers: &mut M) {
        change_port(registers, 0, HPRT_POWER);
    }

    /// Ends a reset that is due; says whether the port has a change to report.
    pub(super) fn poll<M: Mmio>(&mut self, registers: &mut M, now_us: u64) -> bool {
        if self.reset_ends.is_some_and(|end| now_us >= end) {
            self.reset_ends = None;
            self.reset_change = true;
            change_port(registers, HPRT_RESET, 0);
        }
        let changes = HPRT_CONNECT_CHANGE | HPRT_ENABLE_CHANGE | HPRT_OVER_CURRENT_CHANGE;
        self.reset_change || (registers.read32(GINTSTS) & GINTSTS_PORT != 0 && registers.read32(HPRT) & changes != 0)
    }

    /// Does what a hub would do on this request and returns the port's status afterwards.
    pub(super) fn request<M: Mmio>(&mut self, registers: &mut M, request: PortRequest, now_us: u64) -> PortStatus {
        match request {
            PortRequest::Status => {}
            PortRequest::Power => self.power(registers),
            PortRequest::Reset => {
                self.reset_ends = Some(now_us + RESET_US);
                change_port(registers, 0, HPRT_RESET);
            }
            PortRequest::Disable => change_port(registers, 0, HPRT_ENABLED),
            PortRequest::Clear(bit) => match bit {
                change::RESET => self.reset_change = false,
                change::CONNECTION => change_port(registers, 0, HPRT_CONNECT_CHANGE),
                change::ENABLE => change_port(registers, 0, HPRT_ENABLE_CHANGE),
                change::OVER_CURRENT => change_port(registers, 0, HPRT_OVER_CURRENT_CHANGE),
                _ => {}
            },
        }
        self.status(registers)
    }

    fn status<M: Mmio>(&self, registers: &mut M) -> PortStatus {
        let port = registers.read32(HPRT);
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
                | if self.reset_change { change::RESET } else { 0 },
        }
    }
}

/// Writes the port register without touching the bits that act when written as 1, save those asked for.
fn change_port<M: Mmio>(registers: &mut M, clear: u32, set: u32) {
    let port = registers.read32(HPRT) & !HPRT_WRITE_ONE;
    registers.write32(HPRT, port & !clear | set);
}
