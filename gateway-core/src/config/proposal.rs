//! `ike` and `esp`: proposals in the words of the field, `aes256gcm16-prfsha384-x25519`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;

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
}

impl Kind<IkeProposal> {
    pub(super) const IKE: Self = Self {
        key: "ike",
        parse: IkeProposal::parse,
        words: "words among aes256gcm16, aes192gcm16, aes128gcm16, prfsha256, prfsha384, prfsha512, x25519, ecp256",
    };
}

impl Kind<EspProposal> {
    pub(super) const ESP: Self = Self {
        key: "esp",
        parse: EspProposal::parse,
        words: "words among aes256gcm16, aes192gcm16, aes128gcm16, x25519, ecp256, modpnone, esn, noesn",
    };
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

impl<P: Default + Display> List<P> {
    fn new(kind: Kind<P>) -> Self {
        let default: Arc<[P]> = Arc::new([P::default()]);
        Self { kind, known: BTreeMap::from([(Self::words(&default), Arc::clone(&default))]), default }
    }

    fn words(list: &[P]) -> String {
        list.iter().map(|proposal| format!("{proposal} ")).collect()
    }
}

/// Reads the proposals under the key of `list`, or its default.
pub(super) fn read<'t, P: Default + Display>(
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
