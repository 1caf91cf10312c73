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
}

impl From<NoRoom> for Unsealed {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Encrypts the packet and puts ESP around it. The sequence number must never have been used with this key.
///
/// # Errors
/// [`Unsealed`]; the packet is as it was.
#[inline]
pub(crate) fn seal<P: PacketCrypto>(
    crypto: &mut P,
    transform: &Transform<Keys<P>>,
    number: &Number,
    next_header: u8,
    packet: &mut PacketBuf<'_>,
) -> Result<(), Unsealed> {
    let layout = transform.layout();
    let (headroom, trailer_len) = (layout.headroom(), pad::trailer_len(layout, packet.len()));
    if packet.headroom() < headroom || packet.tailroom() < trailer_len {
        return Err(Unsealed::NoRoom);
    }
    let octets = iv(crypto, layout, number.sequence).map_err(|NoIv| Unsealed::NoIv)?;
    pad::write(layout, packet.push_back(trailer_len)?, next_header)?;
    let mut front = Writer::new(packet.push_front(headroom)?);
    let header = Header { spi: number.spi, sequence: number.sequence as u32 };
    let octets = octets.get(MAX_IV_LEN.saturating_sub(layout.iv_len.into())..).unwrap_or_default();
    header.write(&mut front).and_then(|()| front.put(octets)).map_err(|Malformed| NoRoom)?;
    Ok(transform.seal(crypto, number, packet.as_mut_slice())?)
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
