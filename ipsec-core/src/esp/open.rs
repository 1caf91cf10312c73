//! From an ESP packet to what it carries.

use super::{Aad, FRONT_LEN, ICV_LEN, nonce, pad};
use crate::buf::PacketBuf;
use crate::crypto::{Forged, PacketCrypto};
use crate::error::{Discard, NoRoom};
use crate::sa::Common;
use crate::wire::cursor::{Malformed, Reader};
use crate::wire::esp::Header;

/// The clear part of an ESP packet that is long enough for its AEAD.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    pub(crate) header: Header,
    iv: [u8; 8],
}

impl Front {
    /// Reads header and IV, and sees that the shortest payload and an ICV may follow.
    #[inline]
    pub(crate) fn read(packet: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let front = Self { header: Header::read(&mut reader)?, iv: reader.array()? };
        // Pad length and next header are always there.
        if reader.rest().len() < ICV_LEN.wrapping_add(2) { Err(Malformed) } else { Ok(front) }
    }
}

/// Decrypts an ESP packet in place and leaves its payload, trailer included, as the packet.
///
/// # Errors
/// [`Forged`]; the packet's content is unspecified then.
#[inline]
pub(crate) fn open<P: PacketCrypto>(
    crypto: &mut P,
    sa: &Common<P::AeadKey>,
    front: &Front,
    sequence: u64,
    packet: &mut PacketBuf<'_>,
) -> Result<(), Forged> {
    let aad = Aad::new(sa.spi, sequence, sa.esn);
    packet.pop_front(FRONT_LEN).map_err(|NoRoom| Forged)?;
    crypto.open(&sa.key, &nonce(*sa.salt, front.iv), aad.as_slice(), packet.as_mut_slice())?;
    packet.pop_back(ICV_LEN).map_err(|NoRoom| Forged)
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
