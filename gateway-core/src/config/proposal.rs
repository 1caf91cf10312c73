//! `ike` and `esp`: proposals in the words of the field, `aes256gcm16-prfsha384-x25519`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;

use ike_core::crypto::{CipherAlg, Group, IntegAlg};
use ike_core::proposal::{EspProposal, IkeProposal, ProposalError, Reason};

use super::grammar::Bad;
use super::reader::{Reader, Section};

/// More proposals than this do not fit a first message that every network lets through.
const PROPOSALS_MAX: usize = 8;

/// The two kinds of proposals differ in the key and in who reads a word.
pub(super) struct Kind<P> {
    key: &'static str,
    parse: fn(&str) -> Result<P, ProposalError>,
    pub(super) words: &'static str,
    /// What there is when nothing is written.
    defaults: fn() -> Arc<[P]>,
    /// What is to be said of one that is taken.
    doubts: fn(&P) -> Option<&'static str>,
}

impl Kind<IkeProposal> {
    pub(super) const IKE: Self = Self {
        key: "ike",
        parse: IkeProposal::parse,
        words: "words such as aes256gcm16, aes128gcm16, prfsha256, prfsha384, prfsha512, x25519, ecp256",
        defaults: || Arc::new([IkeProposal::default()]),
        doubts: |_| None,
    };
}

impl Kind<EspProposal> {
    pub(super) const ESP: Self = Self {
        key: "esp",
        parse: EspProposal::parse,
        words: "words such as aes256gcm16, chacha20poly1305, aes256, sha256, x25519, ecp256, modpnone, esn, noesn",
        // The second one is for peers without AEADs: many a router, and OpenIKED on Linux.
        defaults: || Arc::new([EspProposal::default(), cbc()]),
        doubts: |proposal| match proposal {
            proposal if !proposal.hides() => Some("packets under null or gmac can be read by anybody on their way"),
            proposal if proposal.has_sha1() => {
                Some("sha1 is on its way out (RFC 8221: MUST-): for peers that have nothing else")
            }
            _ => None,
        },
    };
}

/// `aes256-aes128-sha256-sha384-sha512-x25519-ecp256-modpnone`
fn cbc() -> EspProposal {
    EspProposal::cipher_mac(
        &[CipherAlg::Aes256Cbc, CipherAlg::Aes128Cbc],
        &[IntegAlg::HmacSha256, IntegAlg::HmacSha384, IntegAlg::HmacSha512],
        &[Some(Group::Curve25519), Some(Group::Ecp256), None],
        &[],
    )
}

/// Lists of proposals that many have in common: the same list is there once.
pub(super) struct Lists {
    pub(super) ike: List<IkeProposal>,
    pub(super) esp: List<EspProposal>,
}

pub(super) struct List<P> {
    kind: Kind<P>,
    default: Arc<[P]>,
    /// All so far, by their words.
    known: BTreeMap<String, Arc<[P]>>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self { ike: List::new(Kind::IKE), esp: List::new(Kind::ESP) }
    }
}

impl<P: Display> List<P> {
    fn new(kind: Kind<P>) -> Self {
        let default = (kind.defaults)();
        Self { kind, known: BTreeMap::from([(Self::words(&default), Arc::clone(&default))]), default }
    }

    fn words(list: &[P]) -> String {
        list.iter().map(|proposal| format!("{proposal} ")).collect()
    }
}

/// Reads the proposals under the key of `list`, or its default.
pub(super) fn read<'t, P: Display>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    list: &mut List<P>,
) -> Option<Arc<[P]>> {
    let kind = &list.kind;
    if !section.has(kind.key) {
        return Some(Arc::clone(&list.default));
    }
    let found = reader.read_all(section, kind.key, "a proposal in quotes, or a list of them", |words| {
        (kind.parse)(words).map_err(|error| explained(words, error, kind.words))
    })?;
    if found.len() > PROPOSALS_MAX {
        let hint = "one proposal may name several algorithms of a kind";
        reader.error(
            section.place(kind.key),
            format!("{} proposals", found.len()),
            format!("at most {PROPOSALS_MAX}"),
            hint,
        );
    }
    for placed in &found {
        if let Some(doubt) = (kind.doubts)(&placed.value) {
            reader.warn(placed.at, doubt);
        }
    }
    let found: Vec<P> = found.into_iter().map(|placed| placed.value).collect();
    let known = list.known.entry(List::words(&found)).or_insert_with(|| found.into());
    Some(Arc::clone(known))
}

/// What is wrong with `words`, at the word that it is about.
pub(super) fn explained(words: &str, error: ProposalError, expected: &'static str) -> Bad {
    let word = words.split_at_checked(error.offset).and_then(|(_, rest)| rest.get(..error.len)).unwrap_or(words);
    let hint = if matches!(error.reason, Reason::Missing(_)) { format!("it has {error}") } else { error.to_string() };
    Bad::part(error.offset, word, expected).hint(hint)
}
