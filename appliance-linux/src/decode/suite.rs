//! The algorithms that a proposal in strongSwan's words may mean: `ike-core` says what a word is.

use std::fmt;

use ike_core::crypto::{Encryption, IntegAlg, Protection, integ_from_id, integ_id};
use ike_core::registry::{EncrId, EsnId, IntegId, TransformType};
use ike_core::wire::sa::TransformSpec;

/// What keeps packets or messages secret and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) protection: Protection,
    /// Extended sequence numbers.
    pub(super) esn: bool,
}

/// The registry's words.
impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (encryption, integ) = Encryption::of(self.protection);
        if let Some((encr, key_bits)) = encryption.id() {
            write!(f, "{encr}")?;
            key_bits.map_or(Ok(()), |bits| write!(f, "/{bits}"))?;
        }
        integ.and_then(integ_id).map_or(Ok(()), |integ| write!(f, "+{integ}"))?;
        f.write_str(if self.esn { "+ESN" } else { "" })
    }
}

/// The suites that proposals (`aes256gcm16-aes128gcm16-prfsha256-x25519`, several with commas in between) may have come to for
/// messages. Words of PRFs and key exchanges are not looked at: what those made stands in the keys. Empty: no cipher that is
/// built is whole with what stands beside it.
pub(super) fn for_messages(proposals: &str) -> Vec<Suite> {
    suites(proposals, |_| vec![false])
}

/// The same for packets: with neither `esn` nor `noesn` both, as in our configurations.
pub(super) fn for_packets(proposals: &str) -> Vec<Suite> {
    suites(proposals, |specs| {
        let esns = specs.iter().filter(|spec| spec.kind == TransformType::ESN).map(|spec| EsnId(spec.id) == EsnId::ESN);
        let esns: Vec<bool> = esns.collect();
        if esns.is_empty() { vec![false, true] } else { esns }
    })
}

/// `esns`: with which sequence numbers, by what else stands in a proposal.
fn suites(proposals: &str, esns: impl Fn(&[TransformSpec]) -> Vec<bool>) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for proposal in proposals.split(',') {
        let words = proposal.trim().split('-');
        let specs: Vec<_> = words.filter_map(|word| TransformSpec::from_word(word).ok()).collect();
        let of = |kind| specs.iter().filter(move |spec| spec.kind == kind);
        let integs = of(TransformType::INTEG).filter_map(|spec| integ_from_id(IntegId(spec.id)));
        let integs: Vec<Option<IntegAlg>> = [None].into_iter().chain(integs.map(Some)).collect();
        let encryptions =
            of(TransformType::ENCR).filter_map(|spec| Encryption::from_id(EncrId(spec.id), spec.key_bits));
        for encryption in encryptions {
            for protection in integs.iter().filter_map(|integ| encryption.with(*integ)) {
                for esn in esns(&specs) {
                    let suite = Suite { protection, esn };
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
    use super::*;

    fn named(suites: &[Suite]) -> Vec<String> {
        suites.iter().map(Suite::to_string).collect()
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
        ] {
            assert_eq!(named(&for_messages(proposals)), [suite]);
        }
    }

    #[test]
    fn packets_may_have_whatever_the_gateway_speaks() {
        for (word, suite) in [
            ("aes256gcm96", "ENCR_AES_GCM_12/256"),
            ("aes128ccm64", "ENCR_AES_CCM_8/128"),
            ("aes256ccm128", "ENCR_AES_CCM_16/256"),
            ("aes128gcm16iiv", "ENCR_AES_GCM_16_IIV/128"),
            ("chacha20poly1305iiv", "ENCR_CHACHA20_POLY1305_IIV"),
            ("aes256gmac", "ENCR_NULL_AUTH_AES_GMAC/256"),
            ("null-aescmac", "ENCR_NULL+AUTH_AES_CMAC_96"),
        ] {
            assert_eq!(named(&for_packets(&format!("{word}-noesn"))), [suite]);
            assert_eq!(named(&for_packets(&format!("{word}-esn"))), [format!("{suite}+ESN")]);
        }
    }

    #[test]
    fn without_a_word_on_it_there_may_be_extended_sequence_numbers_or_none() {
        assert_eq!(named(&for_packets("aes256gcm16-x25519")), ["ENCR_AES_GCM_16/256", "ENCR_AES_GCM_16/256+ESN"]);
        assert_eq!(for_packets("aes256gcm16"), for_packets("aes256gcm16-noesn-esn"));
    }

    #[test]
    fn alternatives_are_all_meant() {
        assert_eq!(for_packets("aes256gcm16-aes128gcm16-esn-noesn").len(), 4);
        assert_eq!(for_messages("aes128-aes256-sha256-sha384-ecp256, AES128-SHA256").len(), 4);
        for none in ["ecp256-sha256", "aes128-ecp256", "camellia256-sha256", ""] {
            assert!(for_messages(none).is_empty() && for_packets(none).is_empty(), "{none}");
        }
        assert_eq!(for_packets("camellia256-sha256,aes256gcm16-noesn").len(), 1);
    }
}
