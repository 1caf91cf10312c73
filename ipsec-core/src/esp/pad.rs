//! Padding, pad length and next header (RFC 4303 §2.4–2.6).

use crate::error::NoRoom;
use crate::transform::{Layout, TRAILER_LEN};

/// Room behind an inner packet of `len` octets for padding, pad length, next header and the ICV.
#[inline]
pub(crate) const fn trailer_len(layout: &Layout, len: usize) -> usize {
    layout.pad_len(len).wrapping_add(TRAILER_LEN).wrapping_add(layout.icv_len as usize)
}

/// Fills a trailer of [`trailer_len`] octets; the ICV at its end is left to the transform.
#[inline]
pub(crate) fn write(layout: &Layout, trailer: &mut [u8], next_header: u8) -> Result<(), NoRoom> {
    match trailer.len().checked_sub(TRAILER_LEN.wrapping_add(layout.icv_len.into())).ok_or(NoRoom)? {
        0 => fill(trailer, [0, next_header]),
        1 => fill(trailer, [1, 1, next_header]),
        2 => fill(trailer, [1, 2, 2, next_header]),
        3 => fill(trailer, [1, 2, 3, 3, next_header]),
        pad_len => {
            // A whole block and more, for ciphers that have some.
            let last = u8::try_from(pad_len).map_err(|_| NoRoom)?;
            let octets = (1..=last).chain([last, next_header]);
            trailer.iter_mut().zip(octets).for_each(|(to, octet)| *to = octet);
            Ok(())
        }
    }
}

#[inline]
fn fill<const N: usize>(trailer: &mut [u8], octets: [u8; N]) -> Result<(), NoRoom> {
    *trailer.first_chunk_mut().ok_or(NoRoom)? = octets;
    Ok(())
}

/// The trailer of a decrypted payload does not hold together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPadding;

/// Checks the trailer at the end of a decrypted payload. Returns the octets before it and the next header.
#[inline]
pub(crate) fn check(payload: &[u8]) -> Result<(usize, u8), BadPadding> {
    let (rest, [pad_len, next_header]) = payload.split_last_chunk().ok_or(BadPadding)?;
    let text_len = rest.len().checked_sub(usize::from(*pad_len)).ok_or(BadPadding)?;
    let pad = rest.get(text_len..).ok_or(BadPadding)?;
    let counts_up = pad.iter().zip(1..=u8::MAX).all(|(octet, expected)| *octet == expected);
    if counts_up { Ok((text_len, *next_header)) } else { Err(BadPadding) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Iv;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn what_is_written_aligns_and_checks() {
        for (align, icv_len) in [(4, 16), (4, 12), (8, 0), (16, 32), (128, 16)] {
            let layout = Layout { iv_len: 8, iv: Iv::Counter, icv_len, align };
            for len in 0..600 {
                let mut payload = vec![0xee; len + trailer_len(&layout, len)];
                write(&layout, &mut payload[len..], 41).unwrap();
                assert!(payload.len() <= len + layout.tailroom(), "{align}, {len}");
                payload.truncate(payload.len() - usize::from(icv_len));
                assert_eq!(payload.len() % usize::from(align), 0);
                assert_eq!(check(&payload), Ok((len, 41)));
            }
        }
    }

    #[test]
    fn atk_65_every_pad_octet_is_checked() {
        let mut payload: Vec<u8> = (1..=255).collect();
        payload.extend([255, 4]);
        assert_eq!(check(&payload), Ok((0, 4)));
        for index in 0..255 {
            let mut wrong = payload.clone();
            wrong[index] ^= 0x10;
            assert_eq!(check(&wrong), Err(BadPadding), "pad octet {index}");
        }
    }

    #[test]
    fn atk_05_a_pad_length_beyond_the_payload_is_refused() {
        assert_eq!(check(&[]), Err(BadPadding));
        assert_eq!(check(&[4]), Err(BadPadding));
        for len in 0..=20u8 {
            let pad: Vec<u8> = (1..=len).collect();
            for pad_len in 0..=255 {
                let payload = [&pad[..], &[pad_len, 4]].concat();
                // All pad octets count up from 1, so only the whole of them or none is right.
                let expected =
                    if pad_len == len || pad_len == 0 { Ok(usize::from(len - pad_len)) } else { Err(BadPadding) };
                assert_eq!(check(&payload).map(|(text_len, _)| text_len), expected, "{pad_len} of {len}");
            }
        }
    }
}
