//! The algorithms that a proposal in strongSwan's words may mean: from words to the numbers of the registry, here and nowhere else,
//! and from numbers to what is built, as `ike-core` says.

use std::fmt;

use ike_core::crypto::{Encryption, Protection, integ_from_id};
use ike_core::registry::{EncrId, IntegId};

/// What keeps packets or messages secret and whole, by its numbers, built or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    encr: EncrId,
    /// Key Length attribute; 0 for an algorithm that has none.
    key_bits: u16,
    /// [`IntegId::NONE`] beside an AEAD.
    integ: IntegId,
    /// Extended sequence numbers.
    pub(super) esn: bool,
}

impl Suite {
    /// `None`: it is not built.
    pub(super) fn protection(self) -> Option<Protection> {
        let encryption = Encryption::from_id(self.encr, Some(self.key_bits).filter(|bits| *bits > 0))?;
        match self.integ {
            IntegId::NONE => encryption.with(None),
            integ => encryption.with(Some(integ_from_id(integ)?)),
        }
    }
}

/// The registry's words.
impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.encr)?;
        if self.key_bits > 0 {
            write!(f, "/{}", self.key_bits)?;
        }
        if self.integ != IntegId::NONE {
            write!(f, "+{}", self.integ)?;
        }
        f.write_str(if self.esn { "+ESN" } else { "" })
    }
}

/// The encryption algorithms; whether each is an AEAD.
const ENCR: &[(&str, EncrId, u16, bool)] = &[
    ("null", EncrId::NULL, 0, false),
    ("3des", EncrId::TRIPLE_DES, 0, false),
    ("aes", EncrId::AES_CBC, 128, false),
    ("aes128", EncrId::AES_CBC, 128, false),
    ("aes192", EncrId::AES_CBC, 192, false),
    ("aes256", EncrId::AES_CBC, 256, false),
    ("aes128ctr", EncrId::AES_CTR, 128, false),
    ("aes192ctr", EncrId::AES_CTR, 192, false),
    ("aes256ctr", EncrId::AES_CTR, 256, false),
    ("camellia", EncrId::CAMELLIA_CBC, 128, false),
    ("camellia128", EncrId::CAMELLIA_CBC, 128, false),
    ("camellia192", EncrId::CAMELLIA_CBC, 192, false),
    ("camellia256", EncrId::CAMELLIA_CBC, 256, false),
    ("aes128gcm8", EncrId::AES_GCM_8, 128, true),
    ("aes192gcm8", EncrId::AES_GCM_8, 192, true),
    ("aes256gcm8", EncrId::AES_GCM_8, 256, true),
    ("aes128gcm12", EncrId::AES_GCM_12, 128, true),
    ("aes192gcm12", EncrId::AES_GCM_12, 192, true),
    ("aes256gcm12", EncrId::AES_GCM_12, 256, true),
    ("aes128gcm16", EncrId::AES_GCM_16, 128, true),
    ("aes192gcm16", EncrId::AES_GCM_16, 192, true),
    ("aes256gcm16", EncrId::AES_GCM_16, 256, true),
    ("aes128gcm128", EncrId::AES_GCM_16, 128, true),
    ("aes192gcm128", EncrId::AES_GCM_16, 192, true),
    ("aes256gcm128", EncrId::AES_GCM_16, 256, true),
    ("aes128ccm8", EncrId::AES_CCM_8, 128, true),
    ("aes192ccm8", EncrId::AES_CCM_8, 192, true),
    ("aes256ccm8", EncrId::AES_CCM_8, 256, true),
    ("aes128ccm12", EncrId::AES_CCM_12, 128, true),
    ("aes192ccm12", EncrId::AES_CCM_12, 192, true),
    ("aes256ccm12", EncrId::AES_CCM_12, 256, true),
    ("aes128ccm16", EncrId::AES_CCM_16, 128, true),
    ("aes192ccm16", EncrId::AES_CCM_16, 192, true),
    ("aes256ccm16", EncrId::AES_CCM_16, 256, true),
    ("aes128gmac", EncrId::NULL_AUTH_AES_GMAC, 128, true),
    ("aes192gmac", EncrId::NULL_AUTH_AES_GMAC, 192, true),
    ("aes256gmac", EncrId::NULL_AUTH_AES_GMAC, 256, true),
    ("chacha20poly1305", EncrId::CHACHA20_POLY1305, 0, true),
];

/// The integrity algorithms.
const INTEG: &[(&str, IntegId)] = &[
    ("md5", IntegId::HMAC_MD5_96),
    ("md5_128", IntegId::HMAC_MD5_128),
    ("sha", IntegId::HMAC_SHA1_96),
    ("sha1", IntegId::HMAC_SHA1_96),
    ("sha1_160", IntegId::HMAC_SHA1_160),
    ("sha256", IntegId::HMAC_SHA2_256_128),
    ("sha2_256", IntegId::HMAC_SHA2_256_128),
    ("sha384", IntegId::HMAC_SHA2_384_192),
    ("sha2_384", IntegId::HMAC_SHA2_384_192),
    ("sha512", IntegId::HMAC_SHA2_512_256),
    ("sha2_512", IntegId::HMAC_SHA2_512_256),
    ("aesxcbc", IntegId::AES_XCBC_96),
    ("aescmac", IntegId::AES_CMAC_96),
];

/// The suites that proposals (`aes256gcm16-aes128gcm16-prfsha256-x25519`, several with commas in between) may have come to. Words
/// of PRFs and key exchanges are not looked at: what those made stands in the keys. Without a word on it there are no extended
/// sequence numbers. None: no cipher is known that is whole with what stands beside it.
pub(super) fn suites(proposals: &str) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for proposal in proposals.to_ascii_lowercase().split(',') {
        let words: Vec<&str> = proposal.trim().split('-').collect();
        let integs: Vec<IntegId> =
            words.iter().filter_map(|word| INTEG.iter().find(|known| known.0 == *word)).map(|known| known.1).collect();
        let (esn, noesn) = (words.contains(&"esn"), words.contains(&"noesn"));
        for (_, encr, key_bits, aead) in words.iter().filter_map(|word| ENCR.iter().find(|known| known.0 == *word)) {
            let beside = if *aead { &[IntegId::NONE][..] } else { &integs };
            for integ in beside {
                // Both may have been offered.
                for esn in [false, true].into_iter().filter(|wanted| if *wanted { esn } else { noesn || !esn }) {
                    let suite = Suite { encr: *encr, key_bits: *key_bits, integ: *integ, esn };
                    if !suites.contains(&suite) {
                        suites.push(suite);
                    }
                }
            }
        }
    }
    suites
}

#[cfg(test)]
mod tests {
    use ike_core::crypto::{CipherAlg, IntegAlg};
    use ipsec_core::crypto::AeadAlg;

    use super::*;

    fn named(proposals: &str) -> Vec<String> {
        suites(proposals).iter().map(Suite::to_string).collect()
    }

    #[test]
    fn the_words_of_recorded_sessions_are_known() {
        for (proposals, suite) in [
            ("aes128gcm16-prfsha256-x25519", "ENCR_AES_GCM_16/128"),
            ("aes256gcm16-ecp384-ecp256", "ENCR_AES_GCM_16/256"),
            ("aes128ctr-sha1-modp3072", "ENCR_AES_CTR/128+AUTH_HMAC_SHA1_96"),
            ("aes128-sha1", "ENCR_AES_CBC/128+AUTH_HMAC_SHA1_96"),
            ("aes256-sha256-modp2048", "ENCR_AES_CBC/256+AUTH_HMAC_SHA2_256_128"),
            ("aes128-sha512-ecp384", "ENCR_AES_CBC/128+AUTH_HMAC_SHA2_512_256"),
            ("aes256gcm16-esn", "ENCR_AES_GCM_16/256+ESN"),
            ("chacha20poly1305-noesn", "ENCR_CHACHA20_POLY1305"),
        ] {
            assert_eq!(named(proposals), [suite]);
        }
    }

    #[test]
    fn alternatives_are_all_meant() {
        assert_eq!(named("aes256gcm16-aes128gcm16-esn-noesn").len(), 4);
        assert_eq!(named("aes128-aes256-sha256-sha384-ecp256, AES128-SHA256").len(), 4);
        assert!(named("ecp256-sha256").is_empty() && named("aes128-ecp256").is_empty() && named("").is_empty());
    }

    #[test]
    fn what_is_built_is_protection() {
        assert_eq!(suites("aes192gcm16")[0].protection(), Some(AeadAlg::Aes192Gcm16.into()));
        let both = Protection::CipherMac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha384);
        assert_eq!(suites("aes256-sha384")[0].protection(), Some(both));
        assert_eq!(suites("chacha20poly1305")[0].protection(), Some(AeadAlg::ChaCha20Poly1305.into()));
        assert_eq!(suites("camellia-sha256")[0].protection(), None);
    }
}
