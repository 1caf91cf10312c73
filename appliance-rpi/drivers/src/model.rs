//! What the register-level models of all drivers stand on: memory that driver and device share, and a clock that
//! advances whenever it is asked.

extern crate std;

use crate::{Clock, DmaMemory};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// DMA memory with two owners. Its bus address is not 0, so that a forgotten offset shows.
#[derive(Clone)]
pub(crate) struct Memory(Rc<RefCell<Vec<u8>>>);

impl Memory {
    pub(crate) const BUS_ADDRESS: u64 = 0x1000_0000;

    pub(crate) fn new(len: usize) -> Self {
        Self(Rc::new(RefCell::new(vec![0; len])))
    }
}

impl DmaMemory for Memory {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn bus_address(&self) -> u64 {
        Self::BUS_ADDRESS
    }
    fn read(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.borrow()[offset..offset + to.len()]);
    }
    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
    fn read32(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_le_bytes(word)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        self.write(offset, &value.to_le_bytes());
    }
}

/// One microsecond passes with every look at the clock.
#[derive(Default)]
pub(crate) struct Ticking(pub(crate) u64);

impl Clock for Ticking {
    fn now_us(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}
