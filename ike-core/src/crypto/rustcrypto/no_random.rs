//! A generator for tests in which nothing is random.

use core::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

pub(crate) struct NoRandom;

impl TryRng for NoRandom {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("nothing here is random")
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("nothing here is random")
    }
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        panic!("nothing here is random")
    }
}

impl TryCryptoRng for NoRandom {}
