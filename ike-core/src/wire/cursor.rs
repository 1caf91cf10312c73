//! Reading from the front of a slice; past its end there is nothing but [`Malformed`].

use crate::error::Malformed;

#[derive(Clone, Copy)]
pub(super) struct Cursor<'m>(&'m [u8]);

impl<'m> Cursor<'m> {
    pub(super) const fn new(octets: &'m [u8]) -> Self {
        Self(octets)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(super) const fn rest(self) -> &'m [u8] {
        self.0
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'m [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'m [u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|&[octet]| octet)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(|octets| u16::from_be_bytes(*octets))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(|octets| u32::from_be_bytes(*octets))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(|octets| u64::from_be_bytes(*octets))
    }

    /// What a substructure holds whose length field, already read, counts `header` octets before this cursor too.
    pub(super) fn body(&mut self, length: u16, header: usize) -> Result<&'m [u8], Malformed> {
        self.take(usize::from(length).checked_sub(header).ok_or(Malformed)?)
    }
}
