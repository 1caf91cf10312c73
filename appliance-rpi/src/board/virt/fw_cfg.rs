//! QEMU's firmware configuration device (QEMU docs/specs/fw_cfg.rst): named files from the command line.

use alloc::vec;
use alloc::vec::Vec;
use core::ptr;

const DATA: *const u8 = 0x0902_0000 as *const u8;
const SELECTOR: *mut u16 = 0x0902_0008 as *mut u16;
const FILE_DIRECTORY: u16 = 0x19;
/// Size, key, reserved, name.
const ENTRY: usize = 64;

fn select(key: u16) {
    // SAFETY: the selector register of the device, mapped as device memory; it is big-endian.
    unsafe { ptr::write_volatile(SELECTOR, key.to_be()) };
}

/// Reads on in the selected item; past its end come zeros.
fn read_on(octets: &mut [u8]) {
    for octet in octets {
        // SAFETY: the data register of the device, which may be read octet by octet.
        *octet = unsafe { ptr::read_volatile(DATA) };
    }
}

/// The file with this name, if it is there and has at most `limit` octets.
pub(super) fn read(name: &str, limit: usize) -> Option<Vec<u8>> {
    select(FILE_DIRECTORY);
    let mut count = [0; 4];
    read_on(&mut count);
    for _ in 0..u32::from_be_bytes(count).min(256) {
        let mut entry = [0; ENTRY];
        read_on(&mut entry);
        let [s0, s1, s2, s3, k0, k1, _, _, file @ ..] = entry;
        if file.split(|octet| *octet == 0).next() == Some(name.as_bytes()) {
            let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
            if size > limit {
                return None;
            }
            let mut octets = vec![0; size];
            select(u16::from_be_bytes([k0, k1]));
            read_on(&mut octets);
            return Some(octets);
        }
    }
    None
}
