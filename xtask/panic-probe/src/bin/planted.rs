//! The counter-check: indexes a slice with a number nobody knows, and therefore must not link.
#![no_std]
#![no_main]

panic_probe::program!(panic_probe::keep(u64::from(panic_probe::octets()[panic_probe::any() as usize])));
