//! ESP in tunnel mode with an AEAD (RFC 4303, RFC 4106): one packet, one key, in place.
//!
//! ```text
//!  | SPI | sequence | IV | inner packet | 1 2 3 … | pad length | next header | ICV |
//!  `--- AAD -------'      `------------- encrypted --------------------------'
//! ```

pub(crate) mod open;
mod pad;
pub(crate) mod seal;

use crate::crypto::AeadAlg;
use crate::net::Spi;

/// Octets of SPI, sequence number and IV.
pub(crate) const FRONT_LEN: usize = 16;

/// Octets of the ICV; of every algorithm built so far.
pub(crate) const ICV_LEN: usize = AeadAlg::Aes128Gcm16.tag_len();

/// The AEAD nonce: salt and IV (RFC 4106 §4).
#[inline]
fn nonce(salt: [u8; 4], iv: [u8; 8]) -> [u8; 12] {
    let ([s0, s1, s2, s3], [i0, i1, i2, i3, i4, i5, i6, i7]) = (salt, iv);
    [s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7]
}

/// Additional authenticated data: SPI and the 32- or 64-bit sequence number (RFC 4106 §5).
struct Aad {
    bytes: [u8; 12],
    esn: bool,
}

impl Aad {
    #[inline]
    fn new(spi: Spi, sequence: u64, esn: bool) -> Self {
        let [s0, s1, s2, s3] = spi.get().to_be_bytes();
        let [h0, h1, h2, h3, l0, l1, l2, l3] = sequence.to_be_bytes();
        let bytes = match esn {
            true => [s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3],
            false => [s0, s1, s2, s3, l0, l1, l2, l3, 0, 0, 0, 0],
        };
        Self { bytes, esn }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self.esn {
            true => &self.bytes,
            false => self.bytes.first_chunk::<8>().map_or(&[], |short| short),
        }
    }
}
