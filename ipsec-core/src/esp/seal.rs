//! From an inner packet to an ESP packet.

use super::pad;
use crate::buf::PacketBuf;
use crate::crypto::{Iv, NoIv, PacketCrypto};
use crate::error::NoRoom;
use crate::transform::{Keys, Layout, MAX_IV_LEN, Number, Transform};
use crate::wire::cursor::{Malformed, Writer};
use crate::wire::esp::Header;

/// Why a packet was not sealed. It is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// Too little head- or tailroom.
    NoRoom,
    /// The crypto engine has no random IV.
    NoIv,
    /// The crypto engine has no place for a packet.
    Busy,
}

impl From<NoRoom> for Unsealed {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Puts ESP around the packet and has `protect` encrypt it, or begin to. The sequence number must never have been used with this key.
///
/// # Errors
/// [`Unsealed`]; the packet is as it was.
#[inline]
pub(crate) fn seal<P: PacketCrypto, T>(
    crypto: &mut P,
    transform: &Transform<Keys<P>>,
    number: &Number,
    next_header: u8,
    packet: &mut PacketBuf<'_>,
    protect: impl FnOnce(&mut P, &Transform<Keys<P>>, &Number, &mut [u8]) -> Result<T, Unsealed>,
) -> Result<T, Unsealed> {
    let layout = transform.layout();
    let len = packet.len();
    let (headroom, trailer_len) = (layout.headroom(), pad::trailer_len(layout, len));
    if packet.headroom() < headroom || packet.tailroom() < trailer_len {
        return Err(Unsealed::NoRoom);
    }
    let octets = iv(crypto, layout, number.sequence).map_err(|NoIv| Unsealed::NoIv)?;
    pad::write(layout, packet.push_back(trailer_len)?, next_header)?;
    let mut front = Writer::new(packet.push_front(headroom)?);
    let header = Header { spi: number.spi, sequence: number.sequence as u32 };
    header.write(&mut front).and_then(|()| put_iv(&mut front, layout, &octets)).map_err(|Malformed| NoRoom)?;
    protect(crypto, transform, number, packet.as_mut_slice()).inspect_err(|_| undo(packet, headroom, len))
}

/// Takes ESP off a packet that was not encrypted.
#[cold]
fn undo(packet: &mut PacketBuf<'_>, headroom: usize, len: usize) {
    let _ = packet.pop_front(headroom);
    packet.truncate(len);
}

/// Most have eight octets, and what is known to be so long is written without a call.
#[inline]
fn put_iv(front: &mut Writer<'_>, layout: &Layout, octets: &[u8; MAX_IV_LEN]) -> Result<(), Malformed> {
    match (layout.iv_len, octets.last_chunk::<8>()) {
        (8, Some(octets)) => front.put(octets),
        (len, _) => front.put(octets.get(MAX_IV_LEN.saturating_sub(len.into())..).unwrap_or_default()),
    }
}

/// An IV, in the last octets.
#[inline]
fn iv<P: PacketCrypto>(crypto: &mut P, layout: &Layout, sequence: u64) -> Result<[u8; MAX_IV_LEN], NoIv> {
    match layout.iv {
        Iv::Counter => Ok(u128::from(sequence).to_be_bytes()),
        Iv::Random => {
            let mut octets = [0; MAX_IV_LEN];
            crypto.iv(octets.get_mut(MAX_IV_LEN.saturating_sub(layout.iv_len.into())..).unwrap_or_default())?;
            Ok(octets)
        }
    }
}
