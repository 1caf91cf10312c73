//! What a cause lists to be compared: networks and proposals.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ike_core::proposal::Mismatch;
use ike_core::registry::{ProtocolId, TransformType};
use ike_core::wire::sa::TransformSpec;
use ipsec_core::net::TrafficSelector;

use crate::config::selector::Selector;
use crate::config::{Child, Peer};

pub(super) fn nets(selectors: &[TrafficSelector]) -> String {
    let mut text = String::new();
    for selector in selectors {
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(&Selector(selector).to_string());
    }
    text
}

/// Our side's selectors, of every child.
pub(super) fn children(peer: Option<&Peer>) -> String {
    networks(peer.map(|peer| peer.children.as_slice()).unwrap_or_default())
}

/// Our side's selectors.
pub(super) fn networks(children: &[Child]) -> String {
    let mut text = String::new();
    for child in children {
        text.push_str(if text.is_empty() { " (" } else { "; " });
        text.push_str(&format!("{}: {} == {}", child.name, nets(&child.local_ts), nets(&child.remote_ts)));
    }
    text.push_str(if text.is_empty() { "" } else { ")" });
    text
}

/// Our side's ESP proposals, for causes where the peer does not tell its own.
pub(super) fn ciphers(peer: Option<&Peer>) -> String {
    let children = peer.map(|peer| peer.children.as_slice()).unwrap_or_default();
    children.iter().map(|child| listed(&format!("esp of {}", child.name), &child.esp)).collect()
}

/// Our side's list, for causes where the peer does not tell its own.
pub(super) fn listed<P: fmt::Display>(key: &str, proposals: &[P]) -> String {
    let mut text = format!(" ({key}:");
    for proposal in proposals {
        text.push_str(&format!(" {proposal}"));
    }
    text.push(')');
    text
}

/// The key whose proposals have nothing in common with the peer's.
pub(super) fn key(mismatch: &Mismatch) -> &'static str {
    if mismatch.protocol == ProtocolId::ESP { "\"esp\" of the child" } else { "\"ike\" of the peer" }
}

/// Both lists, in the file's words as far as it has any; ours stands under `key`.
pub(super) fn unlike(mismatch: &Mismatch, key: &str) -> String {
    let Some(kind) = mismatch.kind else {
        return format!("the peer offers no usable {} proposal for {key}", mismatch.protocol);
    };
    let list = |specs: &[TransformSpec]| {
        let named = specs.iter().map(|spec| match word(mismatch, spec) {
            Some(word) => format!("{word} ({spec})"),
            None => format!("{spec} (not built here)"),
        });
        let named: Vec<_> = named.collect();
        if named.is_empty() { "none".to_string() } else { named.join(" ") }
    };
    let (ours, theirs) = (list(&mismatch.ours), list(&mismatch.theirs));
    format!("the peer's proposals do not suit {key}, no common {kind}: ours {ours}; peer's {theirs}")
}

/// What to do about it: nothing that the file cannot say.
pub(super) fn in_common(mismatch: &Mismatch, key: &str) -> String {
    let words = |specs: &[TransformSpec], but: &[TransformSpec]| {
        let wanted = specs.iter().filter(|spec| !but.contains(spec)).filter_map(|spec| word(mismatch, spec));
        wanted.collect::<Vec<_>>().join(" or ")
    };
    let ours = words(&mismatch.ours, &[]);
    match (mismatch.kind, words(&mismatch.theirs, &mismatch.ours).as_str()) {
        (Some(TransformType::ESN), _) => "write both \"esn\" and \"noesn\", or neither, under \"esp\"".to_string(),
        (Some(TransformType::KE), "") if mismatch.theirs.is_empty() => {
            format!("let the peer have {ours} too, or write modpnone under {key}")
        }
        (Some(TransformType::KE), "") => format!(
            "let the peer have {ours} too; peers that offer MODP groups alone use their vendor's default policy and need one \
             of their own"
        ),
        (Some(_), "") if !ours.is_empty() => format!("let the peer have {ours} too"),
        (Some(_), theirs) if !theirs.is_empty() && !ours.is_empty() => {
            format!("write {theirs} under {key}, or let the peer have {ours} too")
        }
        _ => format!("compare {key} with the peer's proposals"),
    }
}

/// What the file says for an algorithm of theirs or ours under that key.
fn word(mismatch: &Mismatch, spec: &TransformSpec) -> Option<&'static str> {
    // An IKE SA without key exchange cannot be written.
    spec.word().filter(|word| mismatch.protocol == ProtocolId::ESP || *word != "modpnone")
}

#[cfg(test)]
mod tests {
    use ike_core::failure::Failure;

    use crate::cause::Cause;
    use crate::config::Config;

    use super::*;

    const AES_256: TransformSpec = TransformSpec { kind: TransformType::ENCR, id: 20, key_bits: Some(256) };
    const AES_128: TransformSpec = TransformSpec { key_bits: Some(128), ..AES_256 };
    const CAMELLIA: TransformSpec = TransformSpec { id: 23, ..AES_256 };
    const X25519: TransformSpec = TransformSpec { kind: TransformType::KE, id: 31, key_bits: None };
    const MODP_2048: TransformSpec = TransformSpec { id: 14, ..X25519 };

    fn mismatch(protocol: ProtocolId, ours: &[TransformSpec], theirs: &[TransformSpec]) -> Failure {
        let all = || ours.iter().chain(theirs);
        let kind = all().next().map(|spec| spec.kind);
        let (ours, theirs) = (ours.iter().copied().collect(), theirs.iter().copied().collect());
        Failure::NoProposalInCommon(Mismatch { protocol, kind, ours, theirs })
    }

    #[test]
    fn what_is_not_in_common_is_named_in_the_words_of_the_file_with_the_key_it_concerns() {
        let ike = |ours: &[TransformSpec], theirs: &[TransformSpec]| {
            let cause = Cause::of(&mismatch(ProtocolId::IKE, ours, theirs), None);
            (cause.text, cause.hint)
        };
        let (text, hint) = ike(&[AES_256], &[CAMELLIA, AES_128]);
        assert_eq!(
            text,
            "the peer's proposals do not suit \"ike\" of the peer, no common ENCR: ours aes256gcm16 (ENCR_AES_GCM_16/256); \
             peer's ENCR_CAMELLIA_CBC/256 (not built here) aes128gcm16 (ENCR_AES_GCM_16/128)"
        );
        assert_eq!(hint, "write aes128gcm16 under \"ike\" of the peer, or let the peer have aes256gcm16 too");
        assert_eq!(ike(&[AES_256], &[CAMELLIA]).1, "let the peer have aes256gcm16 too");
        let (text, hint) = ike(&[X25519], &[MODP_2048]);
        assert!(
            text.ends_with("(not built here)") && hint.starts_with("let the peer have x25519 too;"),
            "{text}; {hint}"
        );
        assert!(ike(&[], &[]).1.starts_with("compare \"ike\" of the peer"));
    }

    #[test]
    fn a_child_that_has_nothing_in_common_with_the_peers_is_named() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\npsk='a key of more than twenty octets'\n\
                    [[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\nremote-ts='10.1.0.0/16'\n";
        let (config, _) = Config::parse(text).unwrap();
        let peer = &config.peers[0];
        let told = |ours: &[TransformSpec], theirs: &[TransformSpec]| {
            Cause::of_child(&mismatch(ProtocolId::ESP, ours, theirs), peer.child("net"), Some(peer))
        };
        let cause = told(&[AES_256], &[AES_128]);
        assert!(cause.text.contains("do not suit \"esp\" of \"net\", no common ENCR"), "{cause}");
        assert_eq!(cause.hint, "write aes128gcm16 under \"esp\" of \"net\", or let the peer have aes256gcm16 too");
        let pfs = told(&[X25519], &[]);
        assert!(
            pfs.text.ends_with("peer's none") && pfs.hint.ends_with("write modpnone under \"esp\" of \"net\""),
            "{pfs}"
        );
    }
}
