//! The USB stack against a register-level model of the controller and models of devices behind it.

mod cdc_ethernet;
mod controller;
mod device;
mod hub;
mod lan9514;

mod attach;
mod ecm;
mod faults;
mod smsc95xx;

use controller::{Bus, Region, Registers};
use rpi_drivers::usb::UsbHost;
use rpi_drivers::{MacAddress, Nic};

const BOARD: MacAddress = MacAddress([0xB8, 0x27, 0xEB, 1, 2, 3]);
/// How far time goes between two polls of the main loop.
const TICK_US: u64 = 50;

type Host = UsbHost<Registers, Region>;

/// A host that has been initialised on a bus.
fn host(bus: &Bus) -> Host {
    let mut host = UsbHost::new(bus.registers(), bus.region(Host::DMA_BYTES), BOARD);
    host.init(&mut bus.clock()).expect("the controller comes up");
    host
}

/// Lets the main loop run for a time.
fn run(bus: &Bus, host: &mut Host, us: u64) {
    let end = bus.now() + us;
    while bus.now() < end {
        bus.advance(TICK_US);
        host.poll(bus.now());
    }
}

/// Lets the main loop run until something is so, for at most five seconds.
fn run_until(bus: &Bus, host: &mut Host, what: &str, mut so: impl FnMut(&mut Host) -> bool) {
    let end = bus.now() + 5_000_000;
    while !so(host) {
        assert!(bus.now() < end, "not within five seconds: {what}");
        bus.advance(TICK_US);
        host.poll(bus.now());
    }
}

fn link_is_up(host: &mut Host, index: usize) -> bool {
    host.port(index).is_some_and(|port| port.link().is_up())
}

/// Receives every frame that comes within a time.
fn receive_all(bus: &Bus, host: &mut Host, index: usize, us: u64) -> Vec<Vec<u8>> {
    let end = bus.now() + us;
    let mut frames = Vec::new();
    let mut buffer = [0u8; 1522];
    while bus.now() < end {
        bus.advance(TICK_US);
        host.poll(bus.now());
        while let Some(length) = host.port(index).expect("a port").receive(&mut buffer) {
            frames.push(buffer[..length].to_vec());
        }
    }
    frames
}

/// A frame of a length whose octets say which one it is.
fn frame(length: usize, number: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(7).wrapping_add(number)).collect()
}
