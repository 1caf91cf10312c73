//! From an ESP packet to what it carries.

use super::pad;
use crate::buf::PacketBuf;
use crate::crypto::Forged;
use crate::error::{Discard, NoRoom};
use crate::transform::{Layout, TRAILER_LEN};
use crate::wire::cursor::{Malformed, Reader};
use crate::wire::esp::{HEADER_LEN, Header};

/// Octets of the shortest ICV.
const SHORTEST_ICV: usize = 8;
/// No transform makes shorter packets: so much is known before the SA is.
const SHORTEST: usize = HEADER_LEN + TRAILER_LEN + SHORTEST_ICV;

/// Reads the header of a packet that is long enough for an ICV.
///
/// # Errors
/// [`Malformed`].
#[inline]
pub(crate) fn header(packet: &[u8]) -> Result<Header, Malformed> {
    let header = Header::read(&mut Reader::new(packet))?;
    if packet.len() < SHORTEST { Err(Malformed) } else { Ok(header) }
}

/// Leaves the payload of a decrypted ESP packet, trailer included, as the packet.
///
/// # Errors
/// [`Forged`]: it is too short for the transform.
#[inline]
pub(crate) fn strip(layout: &Layout, packet: &mut PacketBuf<'_>) -> Result<(), Forged> {
    packet.pop_front(layout.headroom()).and_then(|()| packet.pop_back(layout.icv_len.into())).map_err(|NoRoom| Forged)
}

/// Takes the trailer off an authenticated payload. Returns the next header.
///
/// # Errors
/// [`Discard::InPadding`].
#[inline]
pub(crate) fn strip_trailer(packet: &mut PacketBuf<'_>) -> Result<u8, Discard> {
    let (len, next_header) = pad::check(packet.as_slice()).map_err(|pad::BadPadding| Discard::InPadding)?;
    packet.truncate(len);
    Ok(next_header)
}
