//! From an inner packet to an ESP packet.

use super::{Aad, FRONT_LEN, nonce, pad};
use crate::buf::PacketBuf;
use crate::crypto::PacketCrypto;
use crate::error::NoRoom;
use crate::sa::Common;
use crate::wire::cursor::{Malformed, Writer};
use crate::wire::esp::Header;

/// Encrypts the packet and puts ESP around it. `sequence` must never have been used with this key.
///
/// # Errors
/// [`NoRoom`]; the packet is as it was.
#[inline]
pub(crate) fn seal<P: PacketCrypto>(
    crypto: &mut P,
    sa: &Common<P::AeadKey>,
    sequence: u64,
    next_header: u8,
    packet: &mut PacketBuf<'_>,
) -> Result<(), NoRoom> {
    if packet.headroom() < FRONT_LEN {
        return Err(NoRoom);
    }
    pad::write(packet.push_back(pad::trailer_len(packet.len()))?, next_header)?;
    let iv = sequence.to_be_bytes();
    let aad = Aad::new(sa.spi, sequence, sa.esn);
    crypto.seal(&sa.key, &nonce(*sa.salt, iv), aad.as_slice(), packet.as_mut_slice());
    let mut front = Writer::new(packet.push_front(FRONT_LEN)?);
    let header = Header { spi: sa.spi, sequence: sequence as u32 };
    header.write(&mut front).and_then(|()| front.put(&iv)).map_err(|Malformed| NoRoom)
}
