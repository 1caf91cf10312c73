//! strongSwan's words for algorithms: what other people's configurations already say.

use core::fmt;

use ipsec_core::crypto::AeadAlg;

use super::{EspProposal, EspSuite, IkeProposal, IkeSuite, List, encr_spec, esn_spec, group_spec, prf_spec};
use crate::crypto::{Group, PrfAlg};
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

/// Appends what is not there yet; the lists have room for everything that is built.
fn add<T: PartialEq>(list: &mut List<T>, value: T) -> bool {
    list.contains(&value) || list.push(value).is_ok()
}

impl IkeProposal {
    /// Reads a proposal like `aes256gcm16-prfsha384-x25519`; several words of a type are alternatives, the first preferred.
    ///
    /// ```
    /// use ike_core::proposal::IkeProposal;
    /// let proposal = IkeProposal::parse("aes256gcm16-aes128gcm16-prfsha384-curve25519").unwrap();
    /// assert_eq!(proposal.encr.len(), 2);
    /// let refused = IkeProposal::parse("aes256gcm16-prfsha384-modp1024").unwrap_err();
    /// assert_eq!((refused.offset, refused.len), (22, 8));
    /// assert_eq!(refused.to_string(), "refused: too weak (SHOULD NOT, RFC 8247)");
    /// ```
    ///
    /// # Errors
    /// [`ProposalError`]
    pub fn parse(text: &str) -> Result<Self, ProposalError> {
        let mut proposal = Self { encr: List::new(), prf: List::new(), group: List::new() };
        read(text, |word| match word {
            Word::Encr(alg) => add(&mut proposal.encr, alg),
            Word::Prf(alg) => add(&mut proposal.prf, alg),
            Word::Group(Some(group)) => add(&mut proposal.group, group),
            _ => false,
        })?;
        let missing = |kind| Err(ProposalError { offset: 0, len: text.len(), reason: Reason::Missing(kind) });
        match &proposal {
            proposal if proposal.encr.is_empty() => missing(TransformType::ENCR),
            proposal if proposal.prf.is_empty() => missing(TransformType::PRF),
            proposal if proposal.group.is_empty() => missing(TransformType::KE),
            _ => Ok(proposal),
        }
    }
}

impl EspProposal {
    /// Reads a proposal like `aes256gcm16-x25519-noesn`. A key exchange means PFS; beside `modpnone` it may be done without.
    /// With neither `esn` nor `noesn` both will do, ESN preferred.
    ///
    /// ```
    /// use ike_core::proposal::EspProposal;
    /// assert_eq!(EspProposal::parse("aes128gcm16").unwrap().esn.as_slice(), [true, false]);
    /// assert_eq!(EspProposal::parse("AES256GCM128-noesn").unwrap().to_string(), "aes256gcm16-noesn");
    /// ```
    ///
    /// # Errors
    /// [`ProposalError`]
    pub fn parse(text: &str) -> Result<Self, ProposalError> {
        let mut proposal = Self { encr: List::new(), group: List::new(), esn: List::new() };
        read(text, |word| match word {
            Word::Encr(alg) => add(&mut proposal.encr, alg),
            Word::Group(group) => add(&mut proposal.group, group),
            Word::Esn(esn) => add(&mut proposal.esn, esn),
            _ => false,
        })?;
        if proposal.encr.is_empty() {
            let reason = Reason::Missing(TransformType::ENCR);
            return Err(ProposalError { offset: 0, len: text.len(), reason });
        }
        if proposal.esn.is_empty() {
            proposal.esn.extend(ANY_ESN);
        }
        Ok(proposal)
    }
}

const ANY_ESN: [bool; 2] = [true, false];

/// Writes the words with hyphens between them.
fn print(f: &mut fmt::Formatter<'_>, words: impl Iterator<Item = Option<&'static str>>) -> fmt::Result {
    for (index, word) in words.enumerate() {
        if index > 0 {
            f.write_str("-")?;
        }
        f.write_str(word.unwrap_or("?"))?;
    }
    Ok(())
}

fn encr_word(alg: AeadAlg) -> Option<&'static str> {
    WORDS.iter().find(|(_, word)| matches!(word, Word::Encr(listed) if *listed == alg)).map(|(word, _)| *word)
}

fn prf_word(alg: PrfAlg) -> Option<&'static str> {
    WORDS.iter().find(|(_, word)| matches!(word, Word::Prf(listed) if *listed == alg)).map(|(word, _)| *word)
}

fn group_word(group: Option<Group>) -> Option<&'static str> {
    WORDS.iter().find(|(_, word)| matches!(word, Word::Group(listed) if *listed == group)).map(|(word, _)| *word)
}

fn esn_word(esn: bool) -> Option<&'static str> {
    WORDS.iter().find(|(_, word)| matches!(word, Word::Esn(listed) if *listed == esn)).map(|(word, _)| *word)
}

impl TransformSpec {
    /// The word for it in a proposal; `None`: it is not built.
    pub fn word(&self) -> Option<&'static str> {
        let means = |word: &Word| match *word {
            Word::Encr(alg) => encr_spec(alg).is_some_and(|spec| spec == *self),
            Word::Prf(alg) => prf_spec(alg) == *self,
            Word::Group(group) => group_spec(group) == *self,
            Word::Esn(esn) => esn_spec(esn) == *self,
            Word::Weak(_) | Word::NotBuilt => false,
        };
        WORDS.iter().find(|(_, word)| means(word)).map(|(word, _)| *word)
    }
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encr = self.encr.iter().map(|alg| encr_word(*alg));
        let prf = self.prf.iter().map(|alg| prf_word(*alg));
        print(f, encr.chain(prf).chain(self.group.iter().map(|group| group_word(Some(*group)))))
    }
}

impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encr = self.encr.iter().map(|alg| encr_word(*alg));
        let group = self.group.iter().map(|group| group_word(*group));
        let esn = self.esn.iter().filter(|_| *self.esn != ANY_ESN).map(|esn| esn_word(*esn));
        print(f, encr.chain(group).chain(esn))
    }
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, [encr_word(self.encr), prf_word(self.prf), group_word(Some(self.group))].into_iter())
    }
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group.map(|group| group_word(Some(group)));
        print(f, [Some(encr_word(self.aead)), group, Some(esn_word(self.esn))].into_iter().flatten())
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
        let suite = IkeSuite { encr: AeadAlg::Aes256Gcm16, prf: PrfAlg::HmacSha384, group: Group::Curve25519 };
        assert_eq!(suite.to_string(), "aes256gcm16-prfsha384-x25519");
        let suite = EspSuite { aead: AeadAlg::Aes128Gcm16, esn: true, group: None };
        assert_eq!(suite.to_string(), "aes128gcm16-esn");
        assert_eq!(
            EspSuite { group: Some(Group::Ecp256), esn: false, ..suite }.to_string(),
            "aes128gcm16-ecp256-noesn"
        );
    }
}
