//! What is said of each failure of IKE.

use alloc::format;
use alloc::string::{String, ToString};

use ike_core::failure::{Failure, Side};
use ike_core::registry::ExchangeType;
use ipsec_core::sa::Mode;

use super::evidence::{children, ciphers, in_common, key, listed, nets, unlike};
use super::words::{Cause, Kind};
use crate::config::Peer;

impl Cause {
    /// Puts a failure into words. `peer` is the configuration it is about, where that is known.
    pub fn of(failure: &Failure, peer: Option<&Peer>) -> Self {
        let (code, kind, text, hint) = describe(failure, peer);
        Self { code, text, hint, kind }
    }
}

fn describe(failure: &Failure, peer: Option<&Peer>) -> (&'static str, Kind, String, String) {
    use Kind::{Absence, Intent, Refusal};
    let said = |code, kind, text: &str, hint: &str| (code, kind, text.to_string(), hint.to_string());
    let exchange = |exchange: &ExchangeType| match *exchange {
        ExchangeType::IKE_SA_INIT => said(
            "peer-silent",
            Absence,
            "the peer does not answer (no answer to IKE_SA_INIT)",
            "check the address under \"remote\", that the peer runs, and that UDP 500 and 4500 pass on the way",
        ),
        ExchangeType::IKE_AUTH => said(
            "peer-silent-at-auth",
            Absence,
            "the peer answered IKE_SA_INIT and then fell silent (no answer to IKE_AUTH)",
            "check that UDP 4500 passes both ways, also fragmented packets; some peers say nothing when they do not \
             know our identity",
        ),
        _ => said(
            "peer-lost",
            Absence,
            "the peer does not answer any more",
            "it was connected: it was stopped, lost its state, or the way to it is interrupted",
        ),
    };
    match failure {
        Failure::PeerSilent(during) => exchange(during),
        Failure::ProposalsRefused => (
            "no-proposal-chosen",
            Refusal,
            format!(
                "the peer accepts none of our proposals{}",
                peer.map_or_else(String::new, |peer| listed("ike", &peer.ike))
            ),
            "it does not say what it wants: compare \"ike\" with the peer's IKE proposals (where it calls us too, the log names \
             the difference); some peers say the same when they have no connection for our address: look at its log"
                .to_string(),
        ),
        Failure::ChildProposalsRefused => (
            "no-proposal-chosen",
            Refusal,
            format!("the peer accepts none of our ESP proposals and so no connection either{}", ciphers(peer)),
            "it does not say what it wants: compare \"esp\" of the child with the peer's; some peers say the same when their \
             own kernel refuses the SA: look at its log"
                .to_string(),
        ),
        Failure::PfsRefused => said(
            "pfs-refused",
            Refusal,
            "the peer took these ESP proposals when it connected and refuses them for the rekey: one side wants perfect \
             forward secrecy (PFS), the other does not",
            "have the same group at the end of \"esp\" on both sides, or modpnone on both",
        ),
        Failure::NoProposalInCommon(mismatch) => {
            ("no-proposal-in-common", Refusal, unlike(mismatch, key(mismatch)), in_common(mismatch, key(mismatch)))
        }
        Failure::ModeNotWanted(mode) => (
            "mode-not-wanted",
            Refusal,
            format!("the peer wants {} mode for this SA", match mode { Mode::Transport => "transport", Mode::Beet => "BEET", _ => "tunnel" }),
            "have the same mode on both sides".to_string(),
        ),
        Failure::AnswerNotOffered => (
            "answer-not-offered",
            Refusal,
            format!(
                "the peer chose algorithms that we did not offer{}",
                peer.map_or_else(String::new, |peer| listed("ike", &peer.ike))
            ),
            "the peer is faulty: it must choose from our proposals (RFC 7296 §2.7)".to_string(),
        ),
        Failure::AuthenticationFailed(Side::Here) => said(
            "authentication-failed",
            Refusal,
            "the peer's proof of its identity does not verify",
            "the pre-shared keys differ: compare \"psk\" or \"psk-file\" on both sides, octet for octet",
        ),
        Failure::AuthenticationFailed(Side::Peer) => said(
            "authentication-refused",
            Refusal,
            "the peer says AUTHENTICATION_FAILED",
            "the pre-shared keys differ, or the peer knows other identities: compare \"local-id\" with what it expects, and \
             \"remote-id\" with its own",
        ),
        Failure::UnknownIdentity => said(
            "unknown-identity",
            Refusal,
            "no [[peer]] has the identity that the peer sends",
            "compare \"remote-id\" with the peer's own identity",
        ),
        Failure::WrongIdentity => said(
            "wrong-identity",
            Refusal,
            "the peer says to be another than the one under \"remote-id\"",
            "compare \"remote-id\" with the peer's own identity",
        ),
        Failure::TooManyHalfOpen => said(
            "too-many-half-open",
            Absence,
            "too many handshakes are half-open, all in all or with this address",
            "a flood, or many peers behind one address that do not hear our answers; it passes by itself",
        ),
        Failure::UnknownAddress => said(
            "unknown-address",
            Refusal,
            "no [[peer]] has this address",
            "write the address under \"remote\", or remote = \"any\" with a \"remote-id\"",
        ),
        Failure::AddressNotKnownYet => said(
            "unknown-address",
            Refusal,
            "no [[peer]] has this address, nor has any peer's name so far; it gets no answer, so that it calls again",
            "where it is one of yours, have its name lead to this address; names are asked for now",
        ),
        Failure::TrafficSelectors => (
            "ts-unacceptable",
            Refusal,
            format!("the peer accepts none of our traffic selectors (TS_UNACCEPTABLE){}", children(peer)),
            format!("{NETWORKS_MUST_MEET}; some peers say the same when their own kernel refuses the SA: look at its log"),
        ),
        Failure::NoSelectorsInCommon(asked) => (
            "ts-unacceptable",
            Refusal,
            format!(
                "the traffic selectors of the peer, {} == {}{}, do not fit ours{}",
                nets(asked.local.as_slice()),
                nets(asked.remote.as_slice()),
                if asked.more { " and more" } else { "" },
                children(peer)
            ),
            NETWORKS_MUST_MEET.to_string(),
        ),
        Failure::EmptyTrafficSelectors => said(
            "ts-empty",
            Refusal,
            "the peer names no traffic selector that is known here",
            "its networks have nothing in common with ours, or it is to carry networks in transport mode, where strongSwan names \
             none of them: tunnel mode is what it needs",
        ),
        Failure::NoAdditionalSas(Side::Here) => said(
            "no-room",
            Refusal,
            "there is no room for another SA here",
            "the tables are sized at the start: restart after adding many peers or children",
        ),
        Failure::NoAdditionalSas(Side::Peer) => said(
            "no-additional-sas",
            Refusal,
            "the peer wants no further Child SA (NO_ADDITIONAL_SAS)",
            "put the selectors of several children into one, or look for the peer's limit",
        ),
        Failure::InvalidSyntax(side) => said(
            "invalid-syntax",
            Refusal,
            match side {
                Side::Here => "a message of the peer cannot be understood",
                Side::Peer => "the peer says that it cannot understand a message of ours (INVALID_SYNTAX)",
            },
            "one of the two implementations is faulty: a capture of the exchange shows which",
        ),
        Failure::UnsupportedCriticalPayload(side, payload) => (
            "unsupported-critical-payload",
            Refusal,
            match side {
                Side::Here => format!("the peer insists on a payload that is not built here: {payload}"),
                Side::Peer => format!("the peer does not know a payload that we insist on: {payload}"),
            },
            "switch the feature off on the side that insists".to_string(),
        ),
        Failure::BadKeyExchange => said(
            "bad-key-exchange",
            Refusal,
            "the peer's key exchange value is not valid (RFC 6989)",
            "the peer is faulty, or somebody tampers with the handshake",
        ),
        Failure::GroupNotOffered(group) => (
            "group-not-offered",
            Refusal,
            format!("the peer asks for key exchange group {group}, which is not under \"ike\" or \"esp\""),
            "let both sides have x25519 (31) or ecp256 (19)".to_string(),
        ),
        Failure::TooManyRestarts => said(
            "too-many-restarts",
            Refusal,
            "the peer kept asking for another cookie or group",
            "the peer is faulty, or somebody answers in its place",
        ),
        Failure::MajorVersion => said(
            "major-version",
            Refusal,
            "the peer speaks another version of IKE",
            "IKEv1 is deprecated (RFC 9395) and not built: switch the peer to IKEv2",
        ),
        busy if busy.is_busy() => said(
            "peer-busy",
            Refusal,
            "the peer is busy (TEMPORARY_FAILURE)",
            "it is asked again; a peer that stays busy for minutes has lost track of the connection, or means something else \
             by it: its log says more",
        ),
        Failure::Notified(kind) => {
            ("notified", Refusal, format!("the peer answered with {kind}"), "the peer's log says more".to_string())
        }
        Failure::NoRoom => said(
            "message-too-large",
            Refusal,
            "a message does not fit into its buffer",
            "offer fewer proposals or selectors",
        ),
        Failure::MessageTooLong(octets) => (
            "peer-message-too-large",
            Refusal,
            format!("the peer's first message has {octets} octets, more than there is room for"),
            "let the peer offer fewer proposals: the one that both sides have will do".to_string(),
        ),
        Failure::CryptoRefused => said(
            "crypto-refused",
            Refusal,
            "the crypto engine does not offer a negotiated algorithm",
            "leave the algorithm out of \"ike\" and \"esp\"",
        ),
        Failure::Expired => said(
            "expired",
            Absence,
            "the SA reached the end of its lifetime before it was replaced",
            "rekeying did not succeed: the causes before this one say why",
        ),
        Failure::HalfOpenTimeout => said(
            "half-open",
            Absence,
            "the peer began a handshake and did not finish it",
            "our answers do not reach it, its next message over UDP 4500 does not reach us, or it does not like our \
             answer: check that UDP 500 and 4500 pass both ways, and its log",
        ),
        Failure::SignerSilent => said(
            "signer-silent",
            Absence,
            "who holds the keys for this connection did not answer in time",
            "check that it runs",
        ),
        Failure::ClosedByPeer => said("closed-by-peer", Absence, "the peer closed it", ""),
        Failure::ClosedHere => said("closed-here", Intent, "it was closed here", ""),
        Failure::Replaced => said("replaced", Intent, "a newer one took over", ""),
        _ => said("other", Refusal, "a failure that has no words yet", ""),
    }
}

const NETWORKS_MUST_MEET: &str = "our \"local-ts\" must meet its remote networks, and our \"remote-ts\" its local ones";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_81_unacceptable_selectors_may_be_the_peers_kernel() {
        assert!(Cause::of(&Failure::TrafficSelectors, None).hint.contains("kernel"));
    }
}
