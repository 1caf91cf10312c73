//! A packet as a window in the caller's bytes: headers are pushed in front and trailers behind without moving it.

use core::fmt;

use crate::error::NoRoom;

/// Octets to keep free in front of an inner packet: IPv6 (40) + UDP (8) + ESP (8) + IV (at most 16), rounded up.
pub const HEADROOM: usize = 80;
/// Octets to keep free behind an inner packet: padding (at most 15) + pad length + next header + ICV (at most 32), rounded up.
pub const TAILROOM: usize = 56;

/// A packet inside a larger buffer. The bytes stay where they are; only the window changes.
///
/// ```
/// use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
/// let mut bytes = [0u8; HEADROOM + 1500 + TAILROOM];
/// let mut packet = PacketBuf::with_payload(&mut bytes, b"datagram").unwrap();
/// packet.push_front(2).unwrap().copy_from_slice(b"a ");
/// packet.push_back(1).unwrap().copy_from_slice(b"!");
/// assert_eq!(packet.as_slice(), b"a datagram!");
/// ```
///
/// Two packets never share memory (ATK-58); this does not compile:
/// ```compile_fail,E0499
/// use ipsec_core::buf::PacketBuf;
/// let mut bytes = [0u8; 100];
/// let mut one = PacketBuf::new(&mut bytes, 0, 50).unwrap();
/// let other = PacketBuf::new(&mut bytes, 40, 50).unwrap();
/// one.as_mut_slice();
/// ```
///
/// It knows where its own header lies that was taken off in front of ESP, by an engine in transport mode or by
/// [`pop_outer`](crate::encap::pop_outer), so that it can have that again with all options.
pub struct PacketBuf<'a> {
    bytes: &'a mut [u8],
    start: usize,
    end: usize,
    aside: Option<Aside>,
}

/// A header that lies in front of its packet.
#[derive(Debug, Clone, Copy)]
struct Aside {
    at: usize,
    len: usize,
    /// Where in it stands what follows.
    next_at: usize,
}

impl fmt::Debug for PacketBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketBuf").field("start", &self.start).field("end", &self.end).finish_non_exhaustive()
    }
}

impl<'a> PacketBuf<'a> {
    /// The `len` octets at `offset` of `bytes`; the rest is room to grow.
    ///
    /// # Errors
    /// [`NoRoom`] when they do not lie inside `bytes`.
    pub fn new(bytes: &'a mut [u8], offset: usize, len: usize) -> Result<Self, NoRoom> {
        let end = offset.checked_add(len).filter(|end| *end <= bytes.len()).ok_or(NoRoom)?;
        Ok(Self { bytes, start: offset, end, aside: None })
    }

    /// Copies `payload` behind [`HEADROOM`] octets of `bytes`.
    ///
    /// # Errors
    /// [`NoRoom`] when it does not fit.
    pub fn with_payload(bytes: &'a mut [u8], payload: &[u8]) -> Result<Self, NoRoom> {
        let mut packet = Self::new(bytes, HEADROOM, payload.len())?;
        packet.as_mut_slice().copy_from_slice(payload);
        Ok(packet)
    }

    /// The packet.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The packet, to write to.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Octets of the packet.
    #[inline]
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the window is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the packet starts in the caller's bytes: its headroom.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Free octets behind the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.bytes.len().saturating_sub(self.end)
    }

    /// Grows the packet by `len` octets in front and lends them; they hold whatever was there.
    ///
    /// # Errors
    /// [`NoRoom`]; the packet is unchanged.
    #[inline]
    pub fn push_front(&mut self, len: usize) -> Result<&mut [u8], NoRoom> {
        let start = self.start.checked_sub(len).ok_or(NoRoom)?;
        let pushed = self.bytes.get_mut(start..self.start).ok_or(NoRoom)?;
        self.start = start;
        self.aside = self.aside.filter(|aside| aside.at.saturating_add(aside.len) <= start);
        Ok(pushed)
    }

    /// Grows the packet by `len` octets behind and lends them; they hold whatever was there.
    ///
    /// # Errors
    /// [`NoRoom`]; the packet is unchanged.
    #[inline]
    pub fn push_back(&mut self, len: usize) -> Result<&mut [u8], NoRoom> {
        let end = self.end.checked_add(len).ok_or(NoRoom)?;
        let pushed = self.bytes.get_mut(self.end..end).ok_or(NoRoom)?;
        self.end = end;
        Ok(pushed)
    }

    /// Takes the first `len` octets off, a header that names what follows it at `next_at`, and leaves them `by` octets further in
    /// front, until it is [brought back](Self::bring_back) or something is pushed over it.
    ///
    /// # Errors
    /// [`NoRoom`]: there are less of them, or too little headroom; the packet is unchanged.
    pub(crate) fn set_aside(&mut self, len: usize, next_at: usize, by: usize) -> Result<(), NoRoom> {
        let at = self.start.checked_sub(by).ok_or(NoRoom)?;
        self.pop_front(len)?;
        let moved = self.bytes.get_mut(at..self.start).filter(|moved| by <= moved.len()).ok_or(NoRoom)?;
        moved.copy_within(by.., 0);
        self.aside = Some(Aside { at, len, next_at });
        Ok(())
    }

    /// The header that was set aside.
    pub(crate) fn aside(&self) -> Option<&[u8]> {
        self.aside.and_then(|Aside { at, len, .. }| self.bytes.get(at..at.saturating_add(len)))
    }

    /// Nothing is aside any more.
    #[inline]
    pub(crate) fn forget_aside(&mut self) {
        self.aside = None;
    }

    /// Grows the packet by the header that was set aside, which is moved up to it. Returns its length, and where in it stands what
    /// follows; `None`: there is none.
    ///
    /// # Errors
    /// [`NoRoom`]: it does not lie in front of the packet; that is unchanged.
    pub(crate) fn bring_back(&mut self) -> Result<Option<(usize, usize)>, NoRoom> {
        let Some(Aside { at, len, next_at }) = self.aside.take() else { return Ok(None) };
        let moved = self.bytes.get_mut(at..self.start).ok_or(NoRoom)?;
        let by = moved.len().checked_sub(len).ok_or(NoRoom)?;
        moved.copy_within(..len, by);
        self.start = at.saturating_add(by);
        Ok(Some((len, next_at)))
    }

    /// Drops `len` octets in front.
    ///
    /// # Errors
    /// [`NoRoom`] when the packet is shorter; it is unchanged.
    #[inline]
    pub fn pop_front(&mut self, len: usize) -> Result<(), NoRoom> {
        self.start = self.start.checked_add(len).filter(|start| *start <= self.end).ok_or(NoRoom)?;
        Ok(())
    }

    /// Drops `len` octets behind.
    ///
    /// # Errors
    /// [`NoRoom`] when the packet is shorter; it is unchanged.
    #[inline]
    pub fn pop_back(&mut self, len: usize) -> Result<(), NoRoom> {
        self.end = self.end.checked_sub(len).filter(|end| *end >= self.start).ok_or(NoRoom)?;
        Ok(())
    }

    /// Shortens the packet to `len` octets; a shorter packet stays as it is.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_at_both_ends_until_the_buffer_is_full() {
        let mut bytes = [0u8; 8];
        let mut packet = PacketBuf::new(&mut bytes, 3, 2).unwrap();
        assert_eq!((packet.headroom(), packet.len(), packet.tailroom()), (3, 2, 3));
        assert!(packet.push_front(4).is_err());
        assert!(packet.push_back(4).is_err());
        packet.push_front(3).unwrap().fill(1);
        packet.push_back(3).unwrap().fill(2);
        assert_eq!(packet.as_slice(), [1, 1, 1, 0, 0, 2, 2, 2]);
        packet.pop_front(2).unwrap();
        packet.pop_back(2).unwrap();
        assert_eq!(packet.as_slice(), [1, 0, 0, 2]);
        assert!(packet.pop_front(5).is_err());
        assert!(packet.pop_back(5).is_err());
        packet.truncate(9);
        assert_eq!(packet.len(), 4);
        packet.truncate(1);
        assert_eq!(packet.as_slice(), [1]);
    }

    #[test]
    fn a_header_that_is_set_aside_is_brought_back_until_something_lies_over_it() {
        for by in 0..=4 {
            let mut bytes = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6];
            let mut packet = PacketBuf::new(&mut bytes, 4, 6).unwrap();
            packet.set_aside(3, 1, by).unwrap();
            assert_eq!((packet.as_slice(), packet.aside()), (&[4, 5, 6][..], Some(&[1, 2, 3][..])));
            let pushed = packet.push_front(by).map(|pushed| pushed.len());
            assert_eq!(pushed, Ok(by));
            packet.pop_front(by.min(2)).unwrap();
            assert_eq!(packet.bring_back(), Ok(Some((3, 1))));
            assert_eq!(packet.as_slice()[..3], [1, 2, 3]);
            assert_eq!(packet.len(), 6 + by - by.min(2));
            assert_eq!(packet.bring_back(), Ok(None), "once");
            packet.set_aside(3, 1, 0).unwrap();
            packet.push_front(1).unwrap();
            assert_eq!(packet.aside(), None);
            assert_eq!(packet.bring_back(), Ok(None));
        }
        let mut bytes = [0; 8];
        let mut packet = PacketBuf::new(&mut bytes, 3, 2).unwrap();
        assert!(packet.set_aside(3, 1, 0).is_err() && packet.set_aside(1, 0, 4).is_err());
        assert_eq!((packet.headroom(), packet.len(), packet.aside()), (3, 2, None));
    }

    #[test]
    fn a_window_outside_the_bytes_is_refused() {
        let mut bytes = [0u8; 8];
        assert!(PacketBuf::new(&mut bytes, 8, 1).is_err());
        assert!(PacketBuf::new(&mut bytes, usize::MAX, 2).is_err());
        assert!(PacketBuf::new(&mut bytes, 8, 0).is_ok());
        assert!(PacketBuf::with_payload(&mut bytes, &[0; 9]).is_err());
    }
}
