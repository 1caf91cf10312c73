//! Reading and writing network byte order without indexing.

use crate::error::texts;
use core::fmt;

/// The octets ended too early, or a field has a value that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Malformed;

texts! {
    Malformed: Self => "a length or a field is wrong",
}

/// Takes fields from the front of octets.
///
/// ```
/// use ipsec_core::wire::cursor::{Malformed, Reader};
/// let mut reader = Reader::new(&[0x11, 0x94, 1, 2, 3]);
/// assert_eq!((reader.u16(), reader.take(2)), (Ok(4500), Ok(&[1, 2][..])));
/// assert_eq!(reader.u32(), Err(Malformed)); // one octet is left, and stays
/// assert_eq!(reader.rest(), [3]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first octet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `len` octets.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` octets.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// One octet.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two octets.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four octets.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }
}

/// Puts fields one behind the other into octets.
///
/// ```
/// use ipsec_core::wire::cursor::{Malformed, Writer};
/// let mut bytes = [0; 3];
/// let mut writer = Writer::new(&mut bytes);
/// writer.put(&4500_u16.to_be_bytes()).unwrap();
/// assert_eq!(writer.put(&[1, 2]), Err(Malformed));
/// assert_eq!(bytes, [0x11, 0x94, 0]);
/// ```
pub struct Writer<'a>(&'a mut [u8]);

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// Starts at the first octet.
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Appends octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit; nothing is written.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (target, rest) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()).ok_or(Malformed)?;
        target.copy_from_slice(bytes);
        self.0 = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_network_order_and_stops_at_the_end() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.u16(), Err(Malformed));
        assert_eq!(reader.rest(), [8]);
        assert_eq!(reader.take(2), Err(Malformed));
        assert_eq!(reader.take(1), Ok(&[8][..]));
    }

    #[test]
    fn writes_until_full() {
        let mut bytes = [0; 3];
        let mut writer = Writer::new(&mut bytes);
        assert_eq!(writer.put(&[1, 2]), Ok(()));
        assert_eq!(writer.put(&[3, 4]), Err(Malformed));
        assert_eq!(bytes, [1, 2, 0]);
    }
}
