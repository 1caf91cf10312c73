//! `ike` and `esp`: proposals in the words of the field, `aes256gcm16-prfsha384-x25519`.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use ike_core::proposal::{EspProposal, IkeProposal, ProposalError, Reason};

use super::grammar::Bad;
use super::reader::{Reader, Section};

/// More proposals than this do not fit a first message that every network lets through.
const PROPOSALS_MAX: usize = 8;

/// The two kinds of proposals differ in the key and in who reads a word.
pub(super) struct Kind<P> {
    key: &'static str,
    parse: fn(&str) -> Result<P, ProposalError>,
    words: &'static str,
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

/// Reads the proposals under the key of `kind`, or its default.
pub(super) fn read<'t, P: Default>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    kind: &Kind<P>,
) -> Option<Vec<P>> {
    if !section.has(kind.key) {
        return Some(alloc::vec![P::default()]);
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
    Some(found.into_iter().map(|placed| placed.value).collect())
}

fn explained(words: &str, error: ProposalError, expected: &'static str) -> Bad {
    let word = words.split_at_checked(error.offset).and_then(|(_, rest)| rest.get(..error.len)).unwrap_or(words);
    let hint = if matches!(error.reason, Reason::Missing(_)) { format!("it has {error}") } else { error.to_string() };
    Bad::part(error.offset, word, expected).hint(hint)
}
