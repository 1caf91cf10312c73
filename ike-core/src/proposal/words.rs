//! strongSwan's words for algorithms: what other people's configurations already say.

use core::fmt;

use ipsec_core::crypto::AeadAlg;

use super::codec;
use super::configured::{ANY_ESN, EspProposal, IkeProposal, Transforms};
use crate::crypto::{EspSuite, Group, IkeSuite, PrfAlg};
use crate::registry::TransformType;
use crate::wire::sa::TransformSpec;

#[derive(Clone, Copy)]
enum Word {
    Encr(AeadAlg),
    Prf(PrfAlg),
    Group(Option<Group>),
    Esn(bool),
    Weak(&'static str),
    NotBuilt,
}

impl Word {
    /// The transform that it means.
    fn spec(self) -> Option<TransformSpec> {
        match self {
            Self::Encr(alg) => codec::aead(alg),
            Self::Prf(alg) => Some(codec::prf(alg)),
            Self::Group(group) => Some(codec::group(group)),
            Self::Esn(esn) => Some(codec::esn(esn)),
            Self::Weak(_) | Self::NotBuilt => None,
        }
    }
}

/// The first word for an algorithm is the one we print.
const WORDS: &[(&str, Word)] = &[
    ("aes256gcm16", Word::Encr(AeadAlg::Aes256Gcm16)),
    ("aes256gcm128", Word::Encr(AeadAlg::Aes256Gcm16)),
    ("aes192gcm16", Word::Encr(AeadAlg::Aes192Gcm16)),
    ("aes192gcm128", Word::Encr(AeadAlg::Aes192Gcm16)),
    ("aes128gcm16", Word::Encr(AeadAlg::Aes128Gcm16)),
    ("aes128gcm128", Word::Encr(AeadAlg::Aes128Gcm16)),
    ("prfsha256", Word::Prf(PrfAlg::HmacSha256)),
    ("prfsha384", Word::Prf(PrfAlg::HmacSha384)),
    ("prfsha512", Word::Prf(PrfAlg::HmacSha512)),
    ("x25519", Word::Group(Some(Group::Curve25519))),
    ("curve25519", Word::Group(Some(Group::Curve25519))),
    ("ecp256", Word::Group(Some(Group::Ecp256))),
    ("modpnone", Word::Group(None)),
    ("esn", Word::Esn(true)),
    ("noesn", Word::Esn(false)),
    ("des", Word::Weak("MUST NOT, RFC 8247 and RFC 8221")),
    ("3des", Word::Weak("MAY in RFC 8247, SHOULD NOT in RFC 8221; 64-bit blocks")),
    ("blowfish", Word::Weak("MUST NOT, RFC 8221")),
    ("blowfish128", Word::Weak("MUST NOT, RFC 8221")),
    ("blowfish192", Word::Weak("MUST NOT, RFC 8221")),
    ("blowfish256", Word::Weak("MUST NOT, RFC 8221")),
    ("md5", Word::Weak("MUST NOT, RFC 8247 and RFC 8221")),
    ("md5_128", Word::Weak("MUST NOT, RFC 8247 and RFC 8221")),
    ("prfmd5", Word::Weak("MUST NOT, RFC 8247")),
    ("sha", Word::Weak("MUST-, RFC 8247 and RFC 8221: on its way out")),
    ("sha1", Word::Weak("MUST-, RFC 8247 and RFC 8221: on its way out")),
    ("sha1_160", Word::Weak("MUST-, RFC 8247 and RFC 8221: on its way out")),
    ("prfsha1", Word::Weak("MUST-, RFC 8247: on its way out")),
    ("modp768", Word::Weak("MUST NOT, RFC 8247")),
    ("modp1024", Word::Weak("SHOULD NOT, RFC 8247")),
    ("modp1536", Word::Weak("SHOULD NOT, RFC 8247")),
    ("modp1024s160", Word::Weak("MUST NOT, RFC 8247")),
    ("modp2048s224", Word::Weak("SHOULD NOT, RFC 8247")),
    ("modp2048s256", Word::Weak("SHOULD NOT, RFC 8247")),
    ("null", Word::NotBuilt),
    ("aes", Word::NotBuilt),
    ("aes128", Word::NotBuilt),
    ("aes192", Word::NotBuilt),
    ("aes256", Word::NotBuilt),
    ("aes128ctr", Word::NotBuilt),
    ("aes192ctr", Word::NotBuilt),
    ("aes256ctr", Word::NotBuilt),
    ("aes128ccm8", Word::NotBuilt),
    ("aes128ccm12", Word::NotBuilt),
    ("aes128ccm16", Word::NotBuilt),
    ("aes192ccm8", Word::NotBuilt),
    ("aes192ccm12", Word::NotBuilt),
    ("aes192ccm16", Word::NotBuilt),
    ("aes256ccm8", Word::NotBuilt),
    ("aes256ccm12", Word::NotBuilt),
    ("aes256ccm16", Word::NotBuilt),
    ("aes128gcm8", Word::NotBuilt),
    ("aes128gcm12", Word::NotBuilt),
    ("aes192gcm8", Word::NotBuilt),
    ("aes192gcm12", Word::NotBuilt),
    ("aes256gcm8", Word::NotBuilt),
    ("aes256gcm12", Word::NotBuilt),
    ("aes128gmac", Word::NotBuilt),
    ("aes192gmac", Word::NotBuilt),
    ("aes256gmac", Word::NotBuilt),
    ("chacha20poly1305", Word::NotBuilt),
    ("camellia", Word::NotBuilt),
    ("camellia128", Word::NotBuilt),
    ("camellia192", Word::NotBuilt),
    ("camellia256", Word::NotBuilt),
    ("sha256", Word::NotBuilt),
    ("sha2_256", Word::NotBuilt),
    ("sha384", Word::NotBuilt),
    ("sha2_384", Word::NotBuilt),
    ("sha512", Word::NotBuilt),
    ("sha2_512", Word::NotBuilt),
    ("aesxcbc", Word::NotBuilt),
    ("aescmac", Word::NotBuilt),
    ("prfaesxcbc", Word::NotBuilt),
    ("prfaescmac", Word::NotBuilt),
    ("modp2048", Word::NotBuilt),
    ("modp3072", Word::NotBuilt),
    ("modp4096", Word::NotBuilt),
    ("modp6144", Word::NotBuilt),
    ("modp8192", Word::NotBuilt),
    ("ecp192", Word::NotBuilt),
    ("ecp224", Word::NotBuilt),
    ("ecp384", Word::NotBuilt),
    ("ecp521", Word::NotBuilt),
    ("ecp224bp", Word::NotBuilt),
    ("ecp256bp", Word::NotBuilt),
    ("ecp384bp", Word::NotBuilt),
    ("ecp512bp", Word::NotBuilt),
    ("x448", Word::NotBuilt),
    ("curve448", Word::NotBuilt),
    ("mlkem512", Word::NotBuilt),
    ("mlkem768", Word::NotBuilt),
    ("mlkem1024", Word::NotBuilt),
];

/// What is wrong with a proposal's text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ProposalError {
    /// Octets before the word in question.
    pub offset: usize,
    /// Octets of the word.
    pub len: usize,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a word, or with the proposal as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reason {
    /// No algorithm we have heard of.
    Unknown,
    /// Refused by name; with its standing in RFC 8247 (IKE) or RFC 8221 (ESP).
    Weak(&'static str),
    /// A sound algorithm that this build does not offer.
    NotBuilt,
    /// A word that belongs to the other protocol, or `modpnone` for an IKE SA, which needs a key exchange.
    Misplaced,
    /// The proposal lacks an algorithm of this type.
    Missing(TransformType),
}

impl fmt::Display for ProposalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Unknown => f.write_str("unknown algorithm"),
            Reason::Weak(status) => write!(f, "refused: too weak ({status})"),
            Reason::NotBuilt => f.write_str("known, but not built into this version"),
            Reason::Misplaced => f.write_str("has no place in this kind of proposal"),
            Reason::Missing(TransformType::ENCR) => f.write_str("no encryption algorithm, such as aes256gcm16"),
            Reason::Missing(TransformType::PRF) => f.write_str("no PRF, such as prfsha384"),
            Reason::Missing(TransformType::KE) => f.write_str("no key exchange, such as x25519"),
            Reason::Missing(kind) => write!(f, "no algorithm of type {kind}"),
        }
    }
}

impl core::error::Error for ProposalError {}

/// Looks up every word of `text` and gives it to `place`, which says whether it took it.
fn read(text: &str, mut place: impl FnMut(Word) -> bool) -> Result<(), ProposalError> {
    let mut offset = 0usize;
    // On octets: splitting a str may panic as far as the compiler can see.
    for text in text.as_bytes().split(|octet| *octet == b'-') {
        let error = |reason| ProposalError { offset, len: text.len(), reason };
        let word = WORDS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text)).map(|(_, word)| *word);
        match word.ok_or(error(Reason::Unknown))? {
            Word::Weak(status) => return Err(error(Reason::Weak(status))),
            Word::NotBuilt => return Err(error(Reason::NotBuilt)),
            word => place(word).then_some(()).ok_or(error(Reason::Misplaced))?,
        }
        offset = offset.saturating_add(text.len()).saturating_add(1);
    }
    Ok(())
}

impl IkeProposal {
    /// Reads a proposal like `aes256gcm16-prfsha384-x25519`; several words of a type are alternatives, the first preferred.
    ///
    /// ```
    /// use ike_core::proposal::{IkeProposal, Reason};
    /// let proposal = IkeProposal::parse("aes256gcm16-aes128gcm16-prfsha384-curve25519").unwrap();
    /// assert_eq!(proposal.transforms().count(), 4);
    /// let refused = IkeProposal::parse("aes256gcm16-prfsha384-modp1024").unwrap_err();
    /// assert_eq!((refused.offset, refused.len), (22, 8));
    /// assert!(matches!(refused.reason, Reason::Weak(_)));
    /// assert_eq!(refused.to_string(), "refused: too weak (SHOULD NOT, RFC 8247)");
    /// ```
    ///
    /// # Errors
    /// [`ProposalError`]
    pub fn parse(text: &str) -> Result<Self, ProposalError> {
        let mut list = Transforms::default();
        read(text, |word| match word {
            Word::Encr(_) | Word::Prf(_) | Word::Group(Some(_)) => word.spec().is_some_and(|spec| list.add(spec)),
            _ => false,
        })?;
        lacks_none_of(&list, text, &[TransformType::ENCR, TransformType::PRF, TransformType::KE])?;
        Ok(Self(list))
    }
}

impl EspProposal {
    /// Reads a proposal like `aes256gcm16-x25519-noesn`. A key exchange means PFS; beside `modpnone` it may be done without.
    /// With neither `esn` nor `noesn` both will do, ESN preferred.
    ///
    /// ```
    /// use ike_core::proposal::EspProposal;
    /// assert_eq!(EspProposal::parse("aes128gcm16"), EspProposal::parse("aes128gcm16-esn-noesn"));
    /// assert_eq!(EspProposal::parse("AES256GCM128-noesn").unwrap().to_string(), "aes256gcm16-noesn");
    /// ```
    ///
    /// # Errors
    /// [`ProposalError`]
    pub fn parse(text: &str) -> Result<Self, ProposalError> {
        let mut list = Transforms::default();
        read(text, |word| match word {
            Word::Encr(_) | Word::Group(_) | Word::Esn(_) => word.spec().is_some_and(|spec| list.add(spec)),
            _ => false,
        })?;
        lacks_none_of(&list, text, &[TransformType::ENCR])?;
        if list.of_kind(TransformType::ESN).next().is_none() {
            ANY_ESN.into_iter().for_each(|esn| _ = list.add(codec::esn(esn)));
        }
        Ok(Self(list))
    }
}

fn lacks_none_of(list: &Transforms, text: &str, kinds: &[TransformType]) -> Result<(), ProposalError> {
    match kinds.iter().find(|kind| list.of_kind(**kind).next().is_none()) {
        Some(kind) => Err(ProposalError { offset: 0, len: text.len(), reason: Reason::Missing(*kind) }),
        None => Ok(()),
    }
}

/// Writes the words with hyphens between them; what has none is called as the registry calls it.
fn print(f: &mut fmt::Formatter<'_>, specs: impl Iterator<Item = TransformSpec>) -> fmt::Result {
    for (index, spec) in specs.enumerate() {
        if index > 0 {
            f.write_str("-")?;
        }
        match spec.word() {
            Some(word) => f.write_str(word)?,
            None => write!(f, "{spec}")?,
        }
    }
    Ok(())
}

impl TransformSpec {
    /// The word for it in a proposal; `None`: it is not built.
    pub fn word(&self) -> Option<&'static str> {
        WORDS.iter().find(|(_, word)| word.spec() == Some(*self)).map(|(word, _)| *word)
    }
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0.iter())
    }
}

impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any_esn = self.0.of_kind(TransformType::ESN).eq(ANY_ESN.map(codec::esn));
        print(f, self.0.iter().filter(|spec| !any_esn || spec.kind != TransformType::ESN))
    }
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.transforms())
    }
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.transforms())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        for text in [
            "aes256gcm16-prfsha384-x25519",
            "aes128gcm16-aes192gcm16-aes256gcm16-prfsha512-prfsha256-prfsha384-ecp256-x25519",
        ] {
            assert_eq!(IkeProposal::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "aes256gcm16",
            "aes256gcm16-esn",
            "aes256gcm16-aes128gcm16-noesn",
            "aes128gcm16-x25519-ecp256-modpnone-noesn-esn",
        ] {
            assert_eq!(EspProposal::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_transform_of_a_proposal_has_its_word() {
        let text = "aes256gcm16-aes192gcm16-aes128gcm16-prfsha256-prfsha384-prfsha512-x25519-ecp256";
        let words = |spec: TransformSpec| spec.word().unwrap();
        assert!(IkeProposal::parse(text).unwrap().transforms().map(words).eq(text.split('-')));
        let text = "aes128gcm16-ecp256-modpnone-noesn-esn";
        assert!(EspProposal::parse(text).unwrap().transforms(true).map(words).eq(text.split('-')));
        let cbc = TransformSpec { kind: TransformType::ENCR, id: 12, key_bits: Some(256) };
        assert_eq!(cbc.word(), None);
    }

    #[test]
    fn defaults_are_what_their_words_say() {
        let text = "aes256gcm16-aes128gcm16-prfsha384-prfsha256-prfsha512-x25519-ecp256";
        assert_eq!(IkeProposal::parse(text), Ok(IkeProposal::default()));
        let text = "aes256gcm16-aes128gcm16-x25519-ecp256-modpnone";
        assert_eq!(EspProposal::parse(text), Ok(EspProposal::default()));
    }

    #[test]
    fn synonyms_and_repetitions_are_one() {
        let text = "aes256gcm128-AES256GCM16-prfsha256-x25519-curve25519-x25519-prfsha256";
        assert_eq!(IkeProposal::parse(text).unwrap().to_string(), "aes256gcm16-prfsha256-x25519");
    }

    #[test]
    fn every_word_is_taken_or_refused_by_name() {
        for (word, meaning) in WORDS {
            for (text, ike) in [(std::format!("aes128gcm16-prfsha256-x25519-{word}"), true), (word.to_string(), false)]
            {
                let reason = if ike {
                    IkeProposal::parse(&text).err().map(|error| error.reason)
                } else {
                    EspProposal::parse(&text).err().map(|error| error.reason)
                };
                match (meaning, reason) {
                    (Word::Weak(status), Some(Reason::Weak(said))) => assert_eq!(*status, said),
                    (Word::NotBuilt, Some(Reason::NotBuilt)) | (Word::Encr(_), None) => {}
                    (Word::Prf(_), reason) => assert_eq!(reason, (!ike).then_some(Reason::Misplaced)),
                    (Word::Esn(_), reason) if ike => assert_eq!(reason, Some(Reason::Misplaced)),
                    (Word::Group(group), reason) if ike => {
                        assert_eq!(reason, group.is_none().then_some(Reason::Misplaced));
                    }
                    (Word::Esn(_) | Word::Group(_), Some(Reason::Missing(TransformType::ENCR))) => {}
                    (_, reason) => panic!("{word}: {reason:?}"),
                }
            }
        }
    }

    #[test]
    fn atk_39_weak_words_are_refused_with_what_the_rfcs_say_of_them() {
        for (word, status) in [
            ("des", "MUST NOT"),
            ("md5", "MUST NOT"),
            ("sha1", "MUST-"),
            ("modp768", "MUST NOT"),
            ("modp1024", "SHOULD NOT"),
            ("modp1536", "SHOULD NOT"),
            ("modp1024s160", "MUST NOT"),
        ] {
            let error = EspProposal::parse(word).unwrap_err();
            assert!(matches!(error.reason, Reason::Weak(said) if said.starts_with(status)), "{word}");
        }
        let error = IkeProposal::parse("3des-sha1-modp1024").unwrap_err();
        assert_eq!((error.offset, error.len), (0, 4));
    }

    #[test]
    fn errors_point_at_the_word() {
        for (text, offset, len, reason) in [
            ("", 0, 0, Reason::Unknown),
            ("aes256gcm16-", 12, 0, Reason::Unknown),
            ("aes256gcm16--x25519", 12, 0, Reason::Unknown),
            ("aes256gcm16-prfsha385-x25519", 12, 9, Reason::Unknown),
            ("aes256gcm16-prfsha384-x25519-\u{e9}", 29, 2, Reason::Unknown),
            ("aes256-sha256-ecp256", 0, 6, Reason::NotBuilt),
            ("aes256gcm16-prfsha384-x25519-noesn", 29, 5, Reason::Misplaced),
            ("prfsha384-x25519", 0, 16, Reason::Missing(TransformType::ENCR)),
            ("aes256gcm16-x25519", 0, 18, Reason::Missing(TransformType::PRF)),
            ("aes256gcm16-prfsha384", 0, 21, Reason::Missing(TransformType::KE)),
        ] {
            let error = IkeProposal::parse(text).unwrap_err();
            assert_eq!(error, ProposalError { offset, len, reason }, "{text}");
            assert!(text.get(offset..offset + len).is_some() && !error.to_string().is_empty());
        }
    }

    #[test]
    fn suites_print_in_the_same_words() {
        let suite = IkeSuite::new(AeadAlg::Aes256Gcm16.into(), PrfAlg::HmacSha384, Group::Curve25519);
        assert_eq!(suite.to_string(), "aes256gcm16-prfsha384-x25519");
        let suite = EspSuite::new(AeadAlg::Aes128Gcm16.into(), true, None);
        assert_eq!(suite.to_string(), "aes128gcm16-esn");
        assert_eq!(
            EspSuite { group: Some(Group::Ecp256), esn: false, ..suite }.to_string(),
            "aes128gcm16-ecp256-noesn"
        );
    }
}
