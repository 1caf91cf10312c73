//! strongSwan's words for algorithms: what other people's configurations already say.

use core::fmt;

use ipsec_core::crypto::AeadAlg::{self, *};

use super::codec;
use super::configured::{ANY_ESN, EspProposal, IkeProposal, MAX_TRANSFORMS, Transforms};
use crate::crypto::{CipherAlg, Encryption, EspSuite, Group, IkeSuite, IntegAlg, PrfAlg, integ_from_id};
use crate::registry::{EncrId, IntegId, TransformType};
use crate::wire::sa::TransformSpec;
use crate::wire::sk::suits;

#[derive(Clone, Copy)]
enum Word {
    Encr(Encryption),
    Integ(IntegAlg),
    /// One that may protect packets, and no messages; with its standing in RFC 8247.
    WeakInteg(IntegAlg, &'static str),
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
            Self::Encr(encryption) => codec::encr(encryption),
            Self::Integ(alg) | Self::WeakInteg(alg, _) => codec::integ(alg),
            Self::Prf(alg) => Some(codec::prf(alg)),
            Self::Group(group) => Some(codec::group(group)),
            Self::Esn(esn) => Some(codec::esn(esn)),
            Self::Weak(_) | Self::NotBuilt => None,
        }
    }

    fn put_into(self, list: &mut Transforms) -> Result<(), Reason> {
        let spec = self.spec().ok_or(Reason::NotBuilt)?;
        list.add(spec).then_some(()).ok_or(Reason::TooMany)
    }
}

const SHA1: &str = "MUST-, RFC 8247: on its way out";

const fn aead(alg: AeadAlg) -> Word {
    Word::Encr(Encryption::Aead(alg))
}

const fn implicit(alg: AeadAlg) -> Word {
    Word::Encr(Encryption::ImplicitIv(alg))
}

const fn cipher(alg: CipherAlg) -> Word {
    Word::Encr(Encryption::Cipher(alg))
}

/// The first word for an algorithm is the one we print.
const WORDS: &[(&str, Word)] = &[
    ("aes256gcm16", aead(Aes256Gcm16)),
    ("aes256gcm128", aead(Aes256Gcm16)),
    ("aes256gcm12", aead(Aes256Gcm12)),
    ("aes256gcm96", aead(Aes256Gcm12)),
    ("aes256gcm8", aead(Aes256Gcm8)),
    ("aes256gcm64", aead(Aes256Gcm8)),
    ("aes192gcm16", aead(Aes192Gcm16)),
    ("aes192gcm128", aead(Aes192Gcm16)),
    ("aes192gcm12", aead(Aes192Gcm12)),
    ("aes192gcm96", aead(Aes192Gcm12)),
    ("aes192gcm8", aead(Aes192Gcm8)),
    ("aes192gcm64", aead(Aes192Gcm8)),
    ("aes128gcm16", aead(Aes128Gcm16)),
    ("aes128gcm128", aead(Aes128Gcm16)),
    ("aes128gcm12", aead(Aes128Gcm12)),
    ("aes128gcm96", aead(Aes128Gcm12)),
    ("aes128gcm8", aead(Aes128Gcm8)),
    ("aes128gcm64", aead(Aes128Gcm8)),
    ("aes256ccm16", aead(Aes256Ccm16)),
    ("aes256ccm128", aead(Aes256Ccm16)),
    ("aes256ccm12", aead(Aes256Ccm12)),
    ("aes256ccm96", aead(Aes256Ccm12)),
    ("aes256ccm8", aead(Aes256Ccm8)),
    ("aes256ccm64", aead(Aes256Ccm8)),
    ("aes192ccm16", aead(Aes192Ccm16)),
    ("aes192ccm128", aead(Aes192Ccm16)),
    ("aes192ccm12", aead(Aes192Ccm12)),
    ("aes192ccm96", aead(Aes192Ccm12)),
    ("aes192ccm8", aead(Aes192Ccm8)),
    ("aes192ccm64", aead(Aes192Ccm8)),
    ("aes128ccm16", aead(Aes128Ccm16)),
    ("aes128ccm128", aead(Aes128Ccm16)),
    ("aes128ccm12", aead(Aes128Ccm12)),
    ("aes128ccm96", aead(Aes128Ccm12)),
    ("aes128ccm8", aead(Aes128Ccm8)),
    ("aes128ccm64", aead(Aes128Ccm8)),
    ("chacha20poly1305", aead(ChaCha20Poly1305)),
    ("aes256gmac", aead(Aes256Gmac)),
    ("aes192gmac", aead(Aes192Gmac)),
    ("aes128gmac", aead(Aes128Gmac)),
    ("aes256gcm16iiv", implicit(Aes256Gcm16)),
    ("aes192gcm16iiv", implicit(Aes192Gcm16)),
    ("aes128gcm16iiv", implicit(Aes128Gcm16)),
    ("aes256ccm8iiv", implicit(Aes256Ccm8)),
    ("aes192ccm8iiv", implicit(Aes192Ccm8)),
    ("aes128ccm8iiv", implicit(Aes128Ccm8)),
    ("chacha20poly1305iiv", implicit(ChaCha20Poly1305)),
    ("aes256", cipher(CipherAlg::Aes256Cbc)),
    ("aes192", cipher(CipherAlg::Aes192Cbc)),
    ("aes128", cipher(CipherAlg::Aes128Cbc)),
    ("aes", cipher(CipherAlg::Aes128Cbc)),
    ("aes256ctr", cipher(CipherAlg::Aes256Ctr)),
    ("aes192ctr", cipher(CipherAlg::Aes192Ctr)),
    ("aes128ctr", cipher(CipherAlg::Aes128Ctr)),
    ("null", cipher(CipherAlg::Null)),
    ("sha256", Word::Integ(IntegAlg::HmacSha256)),
    ("sha2_256", Word::Integ(IntegAlg::HmacSha256)),
    ("sha384", Word::Integ(IntegAlg::HmacSha384)),
    ("sha2_384", Word::Integ(IntegAlg::HmacSha384)),
    ("sha512", Word::Integ(IntegAlg::HmacSha512)),
    ("sha2_512", Word::Integ(IntegAlg::HmacSha512)),
    ("aesxcbc", Word::Integ(IntegAlg::AesXcbc)),
    ("aescmac", Word::Integ(IntegAlg::AesCmac)),
    ("sha1", Word::WeakInteg(IntegAlg::HmacSha1, SHA1)),
    ("sha", Word::WeakInteg(IntegAlg::HmacSha1, SHA1)),
    #[cfg(feature = "legacy")]
    ("3des", cipher(CipherAlg::TripleDesCbc)),
    #[cfg(feature = "legacy")]
    ("md5", Word::WeakInteg(IntegAlg::HmacMd5, "MUST NOT, RFC 8247")),
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
    #[cfg(not(feature = "legacy"))]
    ("3des", Word::Weak("MAY in RFC 8247, SHOULD NOT in RFC 8221; 64-bit blocks")),
    ("blowfish", Word::Weak("MUST NOT, RFC 8221")),
    ("blowfish128", Word::Weak("MUST NOT, RFC 8221")),
    ("blowfish192", Word::Weak("MUST NOT, RFC 8221")),
    ("blowfish256", Word::Weak("MUST NOT, RFC 8221")),
    #[cfg(not(feature = "legacy"))]
    ("md5", Word::Weak("MUST NOT, RFC 8247 and RFC 8221")),
    ("md5_128", Word::Weak("MUST NOT, RFC 8247 and RFC 8221")),
    ("prfmd5", Word::Weak("MUST NOT, RFC 8247")),
    ("sha1_160", Word::Weak("MUST-, RFC 8247 and RFC 8221: on its way out")),
    ("prfsha1", Word::Weak("MUST-, RFC 8247: on its way out")),
    ("modp768", Word::Weak("MUST NOT, RFC 8247")),
    ("modp1024", Word::Weak("SHOULD NOT, RFC 8247")),
    ("modp1536", Word::Weak("SHOULD NOT, RFC 8247")),
    ("modp1024s160", Word::Weak("MUST NOT, RFC 8247")),
    ("modp2048s224", Word::Weak("SHOULD NOT, RFC 8247")),
    ("modp2048s256", Word::Weak("SHOULD NOT, RFC 8247")),
    ("camellia", Word::NotBuilt),
    ("camellia128", Word::NotBuilt),
    ("camellia192", Word::NotBuilt),
    ("camellia256", Word::NotBuilt),
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
    /// An AEAD beside a cipher or an integrity algorithm: those are two proposals (RFC 7296 §3.3).
    Mixed,
    /// More than [`MAX_TRANSFORMS`], with what goes without saying.
    TooMany,
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
            Reason::Missing(TransformType::INTEG) => {
                f.write_str("no integrity algorithm, such as sha256, which every cipher but an AEAD needs")
            }
            Reason::Mixed => {
                f.write_str("an AEAD beside another cipher or an integrity algorithm: make it two proposals")
            }
            Reason::Missing(kind) => write!(f, "no algorithm of type {kind}"),
            Reason::TooMany => write!(f, "more than {MAX_TRANSFORMS} algorithms: make it two proposals"),
        }
    }
}

impl core::error::Error for ProposalError {}

/// What a word means, in upper or lower case, if it may stand anywhere.
fn look_up(text: &[u8]) -> Result<Word, Reason> {
    match WORDS.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text)).map(|(_, word)| *word) {
        None => Err(Reason::Unknown),
        Some(Word::Weak(status)) => Err(Reason::Weak(status)),
        Some(Word::NotBuilt) => Err(Reason::NotBuilt),
        Some(word) => Ok(word),
    }
}

/// Looks up every word of `text` and gives it to `place`.
fn read(text: &str, mut place: impl FnMut(Word) -> Result<(), Reason>) -> Result<(), ProposalError> {
    let mut offset = 0usize;
    // On octets: splitting a str may panic as far as the compiler can see.
    for text in text.as_bytes().split(|octet| *octet == b'-') {
        let error = |reason| ProposalError { offset, len: text.len(), reason };
        let placed = look_up(text).and_then(|word| match (place(word), word) {
            (Err(Reason::Misplaced), Word::WeakInteg(_, status)) => Err(Reason::Weak(status)),
            (placed, _) => placed,
        });
        placed.map_err(error)?;
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
            Word::Encr(encryption) if !for_messages(encryption) => Err(Reason::Misplaced),
            Word::Encr(_) | Word::Integ(_) | Word::Prf(_) | Word::Group(Some(_)) => word.put_into(&mut list),
            _ => Err(Reason::Misplaced),
        })?;
        goes_together(&list, text)?;
        if list.of_kind(TransformType::PRF).next().is_none() {
            // Who names an integrity algorithm and no PRF means that of the same hash.
            let hashes =
                list.of_kind(TransformType::INTEG).filter_map(|spec| PrfAlg::of(integ_from_id(IntegId(spec.id))?));
            let prfs: heapless::Vec<_, 3> = hashes.map(codec::prf).take(3).collect();
            complete(&mut list, text, prfs)?;
        }
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
            Word::Encr(_) | Word::Integ(_) | Word::WeakInteg(..) | Word::Group(_) | Word::Esn(_) => {
                word.put_into(&mut list)
            }
            _ => Err(Reason::Misplaced),
        })?;
        lacks_none_of(&list, text, &[TransformType::ENCR])?;
        goes_together(&list, text)?;
        if list.of_kind(TransformType::ESN).next().is_none() {
            complete(&mut list, text, ANY_ESN.map(codec::esn))?;
        }
        Ok(Self(list))
    }
}

/// Adds what goes without saying.
fn complete(
    list: &mut Transforms,
    text: &str,
    specs: impl IntoIterator<Item = TransformSpec>,
) -> Result<(), ProposalError> {
    let all = specs.into_iter().all(|spec| list.add(spec));
    all.then_some(()).ok_or(ProposalError { offset: 0, len: text.len(), reason: Reason::TooMany })
}

/// Whether it may protect messages, with an integrity algorithm where it needs one.
fn for_messages(encryption: Encryption) -> bool {
    let protection = encryption.with(None).or(encryption.with(Some(IntegAlg::HmacSha256)));
    protection.is_some_and(suits)
}

/// An AEAD stands alone, and a cipher never does.
fn goes_together(list: &Transforms, text: &str) -> Result<(), ProposalError> {
    let error = |reason| Err(ProposalError { offset: 0, len: text.len(), reason });
    let (mut aeads, mut ciphers) = (false, false);
    for spec in list.of_kind(TransformType::ENCR) {
        match Encryption::from_id(EncrId(spec.id), spec.key_bits) {
            Some(Encryption::Cipher(_)) => ciphers = true,
            _ => aeads = true,
        }
    }
    match (aeads, ciphers, list.of_kind(TransformType::INTEG).next().is_some()) {
        (true, true, _) | (true, false, true) => error(Reason::Mixed),
        (false, true, false) => error(Reason::Missing(TransformType::INTEG)),
        _ => Ok(()),
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
    /// What a word of a proposal means, wherever it may stand.
    ///
    /// ```
    /// use ike_core::proposal::Reason;
    /// use ike_core::wire::sa::TransformSpec;
    /// assert_eq!(TransformSpec::from_word("aes256gcm128").unwrap().word(), Some("aes256gcm16"));
    /// assert_eq!(TransformSpec::from_word("camellia256"), Err(Reason::NotBuilt));
    /// ```
    ///
    /// # Errors
    /// [`Reason::Unknown`], [`Reason::Weak`] or [`Reason::NotBuilt`]
    pub fn from_word(text: &str) -> Result<Self, Reason> {
        look_up(text.as_bytes())?.spec().ok_or(Reason::NotBuilt)
    }

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
    fn no_proposal_loses_what_there_is_no_room_for() {
        let aeads = WORDS.iter().filter(|(_, word)| matches!(word, Word::Encr(Encryption::Aead(_))));
        let aeads: std::vec::Vec<_> = aeads.map(|(word, _)| *word).collect();
        // Two words for each but the last ones; ESN and none go without saying.
        let most = EspProposal::parse(&aeads[..36].join("-")).unwrap();
        assert_eq!(most.transforms(true).count(), 20);
        let text = std::format!("{}-chacha20poly1305-aes256gmac-x25519-ecp256-modpnone", aeads[..36].join("-"));
        let refused = EspProposal::parse(&text).map_err(|error| (error.reason, error.to_string()));
        let words = "more than 24 algorithms: make it two proposals".to_string();
        assert_eq!(refused, Err((Reason::TooMany, words)));
        assert_eq!(EspProposal::parse(&std::format!("{text}-noesn")).unwrap().transforms(true).count(), 24);
        let text =
            std::format!("{}-prfsha256-prfsha384-prfsha512-x25519-ecp256-chacha20poly1305", aeads[..36].join("-"));
        assert_eq!(IkeProposal::parse(&text).unwrap().transforms().count(), 24);
        let text = "aes256gcm16-".repeat(30) + "prfsha256-x25519";
        assert_eq!(IkeProposal::parse(&text).unwrap().to_string(), "aes256gcm16-prfsha256-x25519");
    }

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
            "aes256-aes128ctr-sha512-sha1-aesxcbc-aescmac-modpnone-esn",
            "null-sha256-noesn",
            "chacha20poly1305-aes192ccm12-aes256gmac-aes128gcm16iiv-aes256ccm8iiv-chacha20poly1305iiv",
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
        let camellia = TransformSpec { kind: TransformType::ENCR, id: 23, key_bits: Some(256) };
        assert_eq!(camellia.word(), None);
    }

    #[test]
    fn defaults_are_what_their_words_say() {
        let text = "aes256gcm16-aes128gcm16-prfsha384-prfsha256-prfsha512-x25519-ecp256";
        assert_eq!(IkeProposal::parse(text), Ok(IkeProposal::default()));
        let text = "aes256gcm16-aes128gcm16-x25519-ecp256-modpnone";
        assert_eq!(EspProposal::parse(text), Ok(EspProposal::default()));
    }

    #[test]
    fn an_integrity_algorithm_brings_its_prf_where_none_is_named() {
        let parsed = |text| IkeProposal::parse(text).unwrap().to_string();
        assert_eq!(parsed("aes256-sha256-sha512-x25519"), "aes256-prfsha256-prfsha512-sha256-sha512-x25519");
        assert_eq!(parsed("aes256-sha256-prfsha384-x25519"), "aes256-prfsha384-sha256-x25519");
        assert_eq!(parsed("aes256ctr-aescmac-prfsha384-x25519"), "aes256ctr-prfsha384-aescmac-x25519");
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
                    (Word::WeakInteg(_, status), Some(Reason::Weak(said))) if ike => assert_eq!(*status, said),
                    (Word::Integ(_) | Word::WeakInteg(..), Some(Reason::Missing(TransformType::ENCR))) if !ike => {}
                    (Word::Integ(_), Some(Reason::Mixed)) if ike => {}
                    (Word::Encr(Encryption::Cipher(CipherAlg::Null)), Some(Reason::Misplaced)) if ike => {}
                    (Word::Encr(Encryption::Cipher(_)), Some(Reason::Mixed)) if ike => {}
                    (Word::Encr(Encryption::Cipher(_)), Some(Reason::Missing(TransformType::INTEG))) if !ike => {}
                    (Word::Encr(Encryption::ImplicitIv(_)), Some(Reason::Misplaced)) if ike => {}
                    (Word::Encr(Encryption::Aead(alg)), Some(Reason::Misplaced)) if ike && !alg.hides() => {}
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
            #[cfg(not(feature = "legacy"))]
            ("md5", "MUST NOT"),
            #[cfg(not(feature = "legacy"))]
            ("3des", "MAY"),
            ("modp768", "MUST NOT"),
            ("modp1024", "SHOULD NOT"),
            ("modp1536", "SHOULD NOT"),
            ("modp1024s160", "MUST NOT"),
        ] {
            let error = EspProposal::parse(word).unwrap_err();
            assert!(matches!(error.reason, Reason::Weak(said) if said.starts_with(status)), "{word}");
        }
        let error = IkeProposal::parse("aes256-sha1-modp1024").unwrap_err();
        assert_eq!((error.offset, error.len), (7, 4));
        assert!(
            matches!(error.reason, Reason::Weak(said) if said.starts_with("MUST-")),
            "for packets, not for messages"
        );
    }

    #[cfg(feature = "legacy")]
    #[test]
    fn atk_39_words_of_another_age_are_for_packets_of_whoever_asks_for_them() {
        let text = "3des-md5-noesn";
        assert_eq!(EspProposal::parse(text).unwrap().to_string(), text);
        let error = IkeProposal::parse("aes256-md5-x25519").unwrap_err();
        assert!(matches!(error.reason, Reason::Weak(said) if said.starts_with("MUST NOT")), "and no messages");
    }

    #[test]
    fn errors_point_at_the_word() {
        for (text, offset, len, reason) in [
            ("", 0, 0, Reason::Unknown),
            ("aes256gcm16-", 12, 0, Reason::Unknown),
            ("aes256gcm16--x25519", 12, 0, Reason::Unknown),
            ("aes256gcm16-prfsha385-x25519", 12, 9, Reason::Unknown),
            ("aes256gcm16-prfsha384-x25519-\u{e9}", 29, 2, Reason::Unknown),
            ("aes256-sha256-modp2048", 14, 8, Reason::NotBuilt),
            ("aes256-aes256gcm16-sha256-x25519", 0, 32, Reason::Mixed),
            ("aes256gcm16-sha256-x25519", 0, 25, Reason::Mixed),
            ("aes256-prfsha256-x25519", 0, 23, Reason::Missing(TransformType::INTEG)),
            ("aes256-aesxcbc-x25519", 0, 21, Reason::Missing(TransformType::PRF)),
            ("null-sha256-x25519", 0, 4, Reason::Misplaced),
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
