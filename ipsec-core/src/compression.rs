//! IP Payload Compression (RFC 3173): what a packet carries is compressed before it is protected.
//!
//! How, is the caller's: an engine borrows a [`Compression`], and asks it for the SAs whose
//! [parameters](crate::sa::Params::compression) say so. Both ends have to want it. It pays on slow links and for what nobody compressed
//! before; and whoever sees how long packets are, and can have some of their content sent, learns about the rest of it from that.

use core::fmt;

use crate::buf::PacketBuf;
use crate::error::{Discard, NoRoom};
use crate::net::Cpi;
use crate::sa::Common;
use crate::wire::ip::PROTOCOL_IPCOMP;

/// Octets of the header.
const HEADER_LEN: usize = 4;
/// What is shorter seldom gets any shorter (RFC 2394 §2.2).
const WORTH: usize = 90;

/// An algorithm of compression, such as DEFLATE (RFC 2394). Each packet stands for itself: nothing is kept from one to the next.
///
/// Nothing here stops it from panicking: it is given what an authenticated peer sends.
///
/// ```
/// use ipsec_core::compression::Compression;
/// /// Leaves zeros at the end out, and says how many there were.
/// struct Zeros([u8; 1500]);
///
/// impl Compression for Zeros {
///     fn compress(&mut self, data: &[u8]) -> Option<&[u8]> {
///         let len = data.iter().rposition(|octet| *octet != 0).map_or(0, |at| at + 1);
///         let zeros = u16::try_from(data.len() - len).ok()?;
///         let made = self.0.get_mut(..len + 2)?;
///         made[..2].copy_from_slice(&zeros.to_be_bytes());
///         made[2..].copy_from_slice(&data[..len]);
///         Some(made)
///     }
///
///     fn decompress(&mut self, data: &[u8], at_most: usize) -> Option<&[u8]> {
///         let (zeros, data) = data.split_first_chunk()?;
///         let len = data.len() + usize::from(u16::from_be_bytes(*zeros));
///         let made = self.0.get_mut(..len).filter(|_| len <= at_most)?;
///         made.fill(0);
///         made[..data.len()].copy_from_slice(data);
///         Some(made)
///     }
/// }
///
/// let mut zeros = Zeros([0; 1500]);
/// let compressed = zeros.compress(&[7, 8, 0, 0, 0, 0, 0]).unwrap().to_vec();
/// assert_eq!(compressed, [0, 5, 7, 8]);
/// assert_eq!(zeros.decompress(&compressed, 1500), Some(&[7, 8, 0, 0, 0, 0, 0][..]));
/// assert_eq!(zeros.decompress(&[255, 255, 7], 1500), None); // 65,535 zeros are more than anybody asked for
/// ```
pub trait Compression {
    /// Compresses the content of a packet into memory of its own. `None`: it does not get shorter, and is sent as it is.
    fn compress(&mut self, data: &[u8]) -> Option<&[u8]>;

    /// Does the reverse. `None`: it is nothing that was compressed, or would be more than `at_most` octets, which is to be found out
    /// without making them.
    fn decompress(&mut self, data: &[u8], at_most: usize) -> Option<&[u8]>;
}

/// What compresses for an engine, if anything does.
#[derive(Default)]
pub(crate) struct Compressor<'a>(Option<&'a mut (dyn Compression + Send)>);

impl fmt::Debug for Compressor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl<'a> Compressor<'a> {
    pub(crate) fn new(with: &'a mut (dyn Compression + Send)) -> Self {
        Self(Some(with))
    }

    /// Whether there is anything that does.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Compresses what an SA carries, if it gets shorter by that. Returns what ESP is to say that it carries.
    pub(crate) fn compress<K>(&mut self, sa: &Common<K>, next_header: u8, packet: &mut PacketBuf<'_>) -> u8 {
        let (Some(with), Some(Cpi(cpi))) = (&mut self.0, sa.compression) else { return next_header };
        let len = packet.len();
        if len < WORTH || next_header == PROTOCOL_IPCOMP {
            return next_header;
        }
        let Some(made) = with.compress(packet.as_slice()).filter(|made| made.len().saturating_add(HEADER_LEN) < len)
        else {
            return next_header;
        };
        let [c0, c1] = cpi.to_be_bytes();
        let octets = [next_header, 0, c0, c1].into_iter().chain(made.iter().copied());
        packet.as_mut_slice().iter_mut().zip(octets).for_each(|(to, from)| *to = from);
        packet.truncate(made.len().saturating_add(HEADER_LEN));
        PROTOCOL_IPCOMP
    }

    /// Does the reverse, once: what is compressed twice is nobody's (RFC 3173 §2.1). Returns what the packet is now.
    ///
    /// # Errors
    /// [`Discard::InCompression`].
    pub(crate) fn decompress<K>(
        &mut self,
        sa: &Common<K>,
        next_header: u8,
        packet: &mut PacketBuf<'_>,
    ) -> Result<u8, Discard> {
        let (Some(with), Some(Cpi(cpi)), PROTOCOL_IPCOMP) = (&mut self.0, sa.compression, next_header) else {
            return Ok(next_header);
        };
        let room = packet.len().saturating_add(packet.tailroom()).min(u16::MAX.into());
        let ([next_header, _, c0, c1], data) = packet.as_slice().split_first_chunk().ok_or(Discard::InCompression)?;
        let (next_header, named) = (*next_header, u16::from_be_bytes([*c0, *c1]));
        if named != cpi || next_header == PROTOCOL_IPCOMP {
            return Err(Discard::InCompression);
        }
        let made = with.decompress(data, room).ok_or(Discard::InCompression)?;
        packet.truncate(0);
        let whole = packet.push_back(made.len()).map_err(|NoRoom| Discard::InCompression)?;
        whole.iter_mut().zip(made).for_each(|(to, from)| *to = *from);
        Ok(next_header)
    }
}
