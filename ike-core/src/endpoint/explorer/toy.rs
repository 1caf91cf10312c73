//! A crypto engine that hides nothing and can be told what to draw: what it seals stands in clear, and its state is two
//! numbers. For tests only.

use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};

use crate::crypto::{Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use crate::error::BadPublic;

/// The octets that the text of a sealed message is longer by: the tag.
const TAG: usize = 16;

#[derive(Clone)]
pub(in crate::endpoint) struct Toy {
    /// Whose it is.
    pub(super) side: u64,
    /// What the nonces of its requests begin with: of two crossing rekeys the one with the lowest nonce goes.
    pub(super) rank: u8,
    /// It is about to answer a request: the nonce of an answer is never the lowest.
    pub(super) answers: bool,
    draws: u64,
}

impl Toy {
    pub(in crate::endpoint) fn new(side: u64, rank: u8) -> Self {
        Self { side, rank, answers: false, draws: 0 }
    }
}

/// One number for all these octets.
pub(super) fn digest(seed: u64, octets: &[u8]) -> u64 {
    let mut state = mixed(seed ^ octets.len() as u64);
    let (whole, rest) = octets.as_chunks::<8>();
    for chunk in whole {
        state = mixed(state ^ u64::from_le_bytes(*chunk));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mixed(state ^ u64::from_le_bytes(last))
}

/// SplitMix64's finisher.
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn spread(number: u64, out: &mut [u8]) {
    for (index, chunk) in out.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mixed(number ^ index as u64).to_le_bytes()[..chunk.len()]);
    }
}

fn tag(key: u64, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    spread(digest(digest(digest(key, nonce), aad), text), &mut tag);
    tag
}

impl PacketCrypto for Toy {
    type AeadKey = u64;
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, _: AeadAlg, key: &[u8]) -> Option<u64> {
        Some(digest(1, key))
    }

    fn seal(&mut self, key: &u64, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let (text, room) = text_and_tag.split_last_chunk_mut::<TAG>().unwrap();
        *room = tag(*key, nonce, aad, text);
    }

    fn open(&mut self, key: &u64, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (text, found) = text_and_tag.split_last_chunk::<TAG>().ok_or(Forged)?;
        if *found == tag(*key, nonce, aad, text) { Ok(()) } else { Err(Forged) }
    }
}

impl IkeCrypto for Toy {
    type KeSecret = u64;

    fn random(&mut self, out: &mut [u8]) {
        self.draws += 1;
        spread(mixed(self.side) ^ self.draws, out);
        if out.len() == crate::sa::NONCE_LEN {
            out[0] = if core::mem::take(&mut self.answers) { u8::MAX } else { self.rank };
        }
    }

    fn ke_offer(&mut self, _: Group, public: &mut [u8]) -> Option<u64> {
        let mut secret = [0; 8];
        self.random(&mut secret);
        public.fill(0);
        *public.first_chunk_mut()? = secret;
        Some(u64::from_le_bytes(secret))
    }

    fn ke_finish(&mut self, secret: &u64, peer: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        let theirs = u64::from_le_bytes(peer.first_chunk().copied().ok_or(BadPublic)?);
        shared.resize(8).ok_or(BadPublic)?.copy_from_slice(&(secret ^ theirs).to_le_bytes());
        Ok(())
    }

    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        // Over the concatenation: where one part ends does not count.
        let whole = parts.concat();
        spread(digest(digest(2, key), &whole), out.resize(alg.output_len()).unwrap());
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        let mut out = [0; 20];
        spread(digest(3, &parts.concat()), &mut out);
        out
    }
}
