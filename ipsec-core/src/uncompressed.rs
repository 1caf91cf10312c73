//! Stands where a build has no compression.

use core::marker::PhantomData;

use crate::buf::PacketBuf;
use crate::error::Discard;
use crate::sa::Common;

/// Leaves packets as they are.
#[derive(Default)]
pub(crate) struct Compressor<'a>(PhantomData<&'a mut ()>);

impl Compressor<'_> {
    pub(crate) fn is_there(&self) -> bool {
        false
    }

    pub(crate) fn compress<K>(&mut self, _: &Common<K>, next_header: u8, _: &mut PacketBuf<'_>) -> u8 {
        next_header
    }

    pub(crate) fn decompress<K>(
        &mut self,
        _: &Common<K>,
        next_header: u8,
        _: &mut PacketBuf<'_>,
    ) -> Result<u8, Discard> {
        Ok(next_header)
    }
}
