//! Why something did not come about, in words: a stable code for scripts, a sentence, and what to do about it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use ike_core::failure::{Failure, Side};
use ike_core::registry::{ExchangeType, TransformType};
use ike_core::wire::id::ShortId;
use ipsec_core::net::TrafficSelector;

use crate::config::selector::Selector;
use crate::config::{Child, Identity, Peer};

/// A cause as the operator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// A word in kebab-case that never changes its meaning.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// What it says about trying again.
    pub kind: Kind,
}

/// What a cause says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One side refuses the other: it stays so until somebody changes a configuration.
    Refusal,
    /// The peer or the way to it is not there at the moment.
    Absence,
    /// Somebody wanted it so.
    Intent,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.code)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl Cause {
    /// Puts a failure into words. `peer` is the configuration it is about, where that is known.
    pub fn of(failure: &Failure, peer: Option<&Peer>) -> Self {
        let (code, kind, text, hint) = describe(failure, peer);
        Self { code, text, hint, kind }
    }

    /// The code of [`Cause::unresolved`].
    pub const UNRESOLVED: &'static str = "name-not-resolved";

    /// Puts a failure of a child into words.
    pub fn of_child(failure: &Failure, child: Option<&Child>, peer: Option<&Peer>) -> Self {
        let Some(child) = child else { return Self::of(failure, peer) };
        let mut cause = Self::of(failure, None);
        let evidence = match failure {
            Failure::ProposalsRefused | Failure::PfsRefused | Failure::AnswerNotOffered => {
                listed(&format!("esp of {}", child.name), &child.esp)
            }
            Failure::TrafficSelectors(_) | Failure::EmptyTrafficSelectors | Failure::NoSelectorsInCommon(_) => {
                networks(core::slice::from_ref(child))
            }
            _ => return Self::of(failure, peer),
        };
        cause.text.push_str(&evidence);
        if *failure == Failure::ProposalsRefused {
            cause.hint =
                "it does not say what it wants: compare \"esp\" of the child with the peer's, key exchange groups \
                          (PFS) included"
                    .to_string();
        }
        cause
    }

    /// Puts the failure of a handshake into words, with both identities where the failure is about them: `ours`, and the
    /// one that the peer sent, or else the one that is configured.
    pub fn of_handshake(
        failure: &Failure,
        peer: Option<&Peer>,
        ours: Option<&Identity>,
        sent: Option<&ShortId>,
    ) -> Self {
        let mut cause = Self::of_identity(failure, peer, sent);
        let expected = peer.and_then(|peer| peer.remote_id.as_ref()).filter(|_| sent.is_none());
        let about = match failure {
            Failure::UnknownIdentity | Failure::WrongIdentity | Failure::AuthenticationFailed(_) => true,
            // Some say nothing to those they do not know.
            Failure::PeerSilent(exchange) => *exchange == ExchangeType::IKE_AUTH,
            Failure::HalfOpenTimeout => peer.is_some(),
            _ => false,
        };
        let parts =
            [ours.map(|id| format!("we are \"{id}\"")), expected.map(|id| format!("the peer is to be \"{id}\""))];
        let known: Vec<String> = parts.into_iter().flatten().filter(|_| about).collect();
        if !known.is_empty() {
            cause.text = format!("{} ({})", cause.text, known.join(", "));
        }
        cause
    }

    fn of_identity(failure: &Failure, peer: Option<&Peer>, sent: Option<&ShortId>) -> Self {
        let cause = Self::of(failure, peer);
        let Some(sent) = sent else { return cause };
        let identity = Identity::from(sent.id());
        let writable = sent.is_whole() && identity.is_writable();
        let named = Identity::printed(sent);
        let (text, hint) = match failure {
            Failure::UnknownIdentity => (format!("no [[peer]] has the identity \"{named}\" that the peer sends"), true),
            Failure::WrongIdentity => {
                let expected = peer.and_then(|peer| peer.remote_id.as_ref());
                let expected = expected.map_or_else(String::new, |id| format!(" \"{id}\""));
                (format!("the peer says to be \"{named}\", and not{expected} as under \"remote-id\""), true)
            }
            Failure::AuthenticationFailed(Side::Here) => {
                (format!("the peer's proof that it is \"{named}\" does not verify"), false)
            }
            Failure::AuthenticationFailed(Side::Peer) => {
                (format!("the peer, which says to be \"{named}\", answers AUTHENTICATION_FAILED"), false)
            }
            _ => return cause,
        };
        let hint = match (hint, writable) {
            (false, _) => cause.hint,
            (true, true) => "when that is the right peer, write this identity under \"remote-id\"".to_string(),
            (true, false) => "an identity of this kind cannot be configured: let the peer send another, or have \
                              remote-id = \"any\""
                .to_string(),
        };
        Self { text, hint, ..cause }
    }

    /// A DNS name of the peer has no address.
    pub fn unresolved(name: &str, why: &str) -> Self {
        Self {
            code: Self::UNRESOLVED,
            text: format!("the peer's name {name} has no address: {why}"),
            hint: "check the name under \"remote\" and this machine's resolver".to_string(),
            kind: Kind::Absence,
        }
    }

    /// The code of [`Cause::unroutable`].
    pub const UNROUTABLE: &'static str = "no-route";

    /// This machine does not know how to reach the peer.
    pub fn unroutable(why: &str) -> Self {
        Self {
            code: Self::UNROUTABLE,
            text: format!("there is no way to the peer's address: {why}"),
            hint: "check this machine's routes and the address under \"local\"".to_string(),
            kind: Kind::Absence,
        }
    }

    /// Only the peer can begin.
    pub fn waiting() -> Self {
        Self {
            code: "address-unknown",
            text: "with remote = \"any\" there is no address to call".to_string(),
            hint: "the peer has to begin, or write its address under \"remote\"".to_string(),
            kind: Kind::Absence,
        }
    }

    /// The peer is to begin.
    pub fn for_the_peer() -> Self {
        Self {
            code: "waiting-for-peer",
            text: "the peer has not called, and start = \"passive\" leaves it to the peer".to_string(),
            hint: "start it on the other side, or here with: up".to_string(),
            kind: Kind::Intent,
        }
    }

    /// A packet is to begin.
    pub fn for_a_packet() -> Self {
        Self {
            code: "waiting-for-packet",
            text: "no packet for it has come, and start = \"on-demand\" waits for one".to_string(),
            hint: String::new(),
            kind: Kind::Intent,
        }
    }

    /// The peer limits for how long it takes us for authenticated.
    pub fn for_the_lifetime() -> Self {
        Self {
            code: "authentication-lifetime",
            text: "the peer wants to be shown anew who we are (AUTH_LIFETIME, RFC 4478)".to_string(),
            hint: String::new(),
            kind: Kind::Intent,
        }
    }

    /// Where the peer is is being found out.
    pub fn for_an_address() -> Self {
        Self {
            code: "waiting-for-address",
            text: "the peer's address is being looked up".to_string(),
            hint: String::new(),
            kind: Kind::Absence,
        }
    }

    /// A message of ours waits for its answer.
    pub fn unanswered(exchange: ExchangeType, remote: SocketAddr, repeated: u8) -> Self {
        let again = match repeated {
            0 => String::new(),
            1 => ", repeated once".to_string(),
            times => format!(", repeated {times} times"),
        };
        Self {
            code: "waiting-for-answer",
            text: format!("no answer to {exchange} from {remote} yet{again}"),
            hint: match (repeated, exchange) {
                (0 | 1, _) => String::new(),
                (_, ExchangeType::IKE_AUTH) => {
                    "check that UDP 4500 passes both ways, also fragmented packets".to_string()
                }
                _ => "check the address, that the peer runs, and that UDP 500 and 4500 pass on the way".to_string(),
            },
            kind: Kind::Absence,
        }
    }

    /// The peer repeats a request that we answered.
    pub fn unheard(remote: SocketAddr, repeated: u8) -> Self {
        Self {
            code: "answers-do-not-arrive",
            text: format!(
                "the peer at {remote} sent its last request {} times: our answers do not arrive there",
                repeated.saturating_add(1)
            ),
            hint: "check that UDP 4500 passes both ways between the two, also fragmented packets".to_string(),
            kind: Kind::Absence,
        }
    }

    /// Packets go out and none comes in.
    pub fn one_way() -> Self {
        Self {
            code: "one-way",
            text: "packets go out and none comes back, though some did before: new keys are negotiated".to_string(),
            hint: "the peer may have lost its SAs; if that goes on, look at the way of ESP between the two".to_string(),
            kind: Kind::Absence,
        }
    }

    /// Less than what is configured was negotiated.
    pub fn narrowed(
        (local, remote): (&[TrafficSelector], &[TrafficSelector]),
        (have_local, have_remote): (&[TrafficSelector], &[TrafficSelector]),
    ) -> Self {
        Self {
            code: "narrowed",
            text: format!(
                "narrowed from {} == {} to {} == {}",
                nets(local),
                nets(remote),
                nets(have_local),
                nets(have_remote)
            ),
            hint: "the peer is configured for these only: packets for the rest ask it for an SA of their own"
                .to_string(),
            kind: Kind::Intent,
        }
    }

    /// No SA for a packet that the negotiated selectors leave out.
    pub fn not_covered(local: &TrafficSelector, remote: &TrafficSelector, why: Option<&Cause>) -> Self {
        let why = why.map_or_else(String::new, |why| format!(": {}", why.text));
        Self {
            code: "not-covered",
            text: format!("the peer gives no SA for {} == {}{why}", Selector(local), Selector(remote)),
            hint: "its networks are smaller than ours: compare \"local-ts\" and \"remote-ts\" with its configuration"
                .to_string(),
            kind: Kind::Refusal,
        }
    }

    /// The data plane did not take an SA or a rule.
    pub fn not_installed(why: &str) -> Self {
        Self {
            code: "not-installed",
            text: format!("the data plane refused: {why}"),
            hint: "the tables are sized at the start: restart after adding many peers or children".to_string(),
            kind: Kind::Refusal,
        }
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
            "it does not say what it wants: compare \"ike\" with the peer's IKE proposals".to_string(),
        ),
        Failure::ChildProposalsRefused => (
            "no-proposal-chosen",
            Refusal,
            format!("the peer accepts none of our ESP proposals and so no connection either{}", ciphers(peer)),
            "it does not say what it wants: compare \"esp\" of the child with the peer's".to_string(),
        ),
        Failure::PfsRefused => said(
            "pfs-refused",
            Refusal,
            "the peer took these ESP proposals when it connected and refuses them for the rekey: one side wants perfect \
             forward secrecy (PFS), the other does not",
            "have the same group at the end of \"esp\" on both sides, or modpnone on both",
        ),
        Failure::NoProposalInCommon(mismatch) => (
            "no-proposal-in-common",
            Refusal,
            format!("the peer's proposals do not suit ours: {mismatch}"),
            match mismatch.kind {
                Some(TransformType::KE) => "let both sides have x25519 or ecp256; peers that offer MODP groups alone \
                                            use their vendor's default policy and need one of their own"
                    .to_string(),
                Some(TransformType::ESN) => "write both \"esn\" and \"noesn\", or neither, under \"esp\"".to_string(),
                _ => "give one side an algorithm of the other, under \"ike\" of the peer or \"esp\" of the child"
                    .to_string(),
            },
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
            "the pre-shared keys differ, or the peer does not know our identity: compare \"local-id\" with what it \
             expects",
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
        Failure::TrafficSelectors(side) => (
            "ts-unacceptable",
            Refusal,
            match side {
                Side::Here => format!("there is no child to ask the peer for{}", children(peer)),
                Side::Peer => {
                    format!("the peer accepts none of our traffic selectors (TS_UNACCEPTABLE){}", children(peer))
                }
            },
            match side {
                Side::Here => NETWORKS_MUST_MEET.to_string(),
                Side::Peer => format!(
                    "{NETWORKS_MUST_MEET}; some peers say the same when their own kernel refuses the SA: look at its log"
                ),
            },
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
            "the peer answered without any traffic selector",
            "the peer is faulty, or its networks have nothing in common with ours",
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
        Failure::ClosedByPeer => said("closed-by-peer", Absence, "the peer closed it", ""),
        Failure::ClosedHere => said("closed-here", Intent, "it was closed here", ""),
        Failure::Replaced => said("replaced", Intent, "a newer one took over", ""),
        _ => said("other", Refusal, "a failure that has no words yet", ""),
    }
}

const NETWORKS_MUST_MEET: &str = "our \"local-ts\" must meet its remote networks, and our \"remote-ts\" its local ones";

fn nets(selectors: &[TrafficSelector]) -> String {
    let mut text = String::new();
    for selector in selectors {
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(&Selector(selector).to_string());
    }
    text
}

/// Our side's selectors, of every child.
fn children(peer: Option<&Peer>) -> String {
    networks(peer.map(|peer| peer.children.as_slice()).unwrap_or_default())
}

/// Our side's selectors.
fn networks(children: &[Child]) -> String {
    let mut text = String::new();
    for child in children {
        text.push_str(if text.is_empty() { " (" } else { "; " });
        text.push_str(&format!("{}: {} == {}", child.name, nets(&child.local_ts), nets(&child.remote_ts)));
    }
    text.push_str(if text.is_empty() { "" } else { ")" });
    text
}

/// Our side's ESP proposals, for causes where the peer does not tell its own.
fn ciphers(peer: Option<&Peer>) -> String {
    let children = peer.map(|peer| peer.children.as_slice()).unwrap_or_default();
    children.iter().map(|child| listed(&format!("esp of {}", child.name), &child.esp)).collect()
}

/// Our side's list, for causes where the peer does not tell its own.
fn listed<P: fmt::Display>(key: &str, proposals: &[P]) -> String {
    let mut text = format!(" ({key}:");
    for proposal in proposals {
        text.push_str(&format!(" {proposal}"));
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use ike_core::failure::Asked;
    use ike_core::registry::IdKind;
    use ike_core::wire::id::Id;

    use super::*;
    use crate::config::Config;

    #[test]
    fn f_59_the_identity_that_the_peer_sent_is_told_as_it_is_to_be_written() {
        let cause = |failure, kind, data: &[u8]| {
            Cause::of_handshake(&failure, None, None, Some(&ShortId::from(&Id { kind, data }))).to_string()
        };
        let long = [b'x'; 129];
        for (kind, data, named, writable) in [
            (IdKind::FQDN, &b"other.lab"[..], "\"other.lab\"", true),
            (IdKind::FQDN, b"192.0.2.1", "\"fqdn:192.0.2.1\"", true),
            (IdKind::KEY_ID, &[1, 2], "\"@hex:0102\"", true),
            (IdKind::IPV4_ADDR, &[192, 0, 2, 1], "\"192.0.2.1\"", true),
            (IdKind::DER_ASN1_DN, &[0x30, 0], "ID_DER_ASN1_DN:3000\"", false),
            (IdKind::FQDN, b"a\x1b[2Jb", "a\\x1b[2Jb\"", false),
            (IdKind::FQDN, &long, "…\"", false),
        ] {
            for failure in [Failure::UnknownIdentity, Failure::WrongIdentity] {
                let text = cause(failure, kind, data);
                assert!(text.contains(named), "{text}");
                assert_eq!(text.contains("write this identity"), writable, "{text}");
            }
            let unproven = cause(Failure::AuthenticationFailed(Side::Here), kind, data);
            assert!(unproven.contains(named) && unproven.contains("pre-shared keys differ"), "{unproven}");
        }
        let silent = Failure::PeerSilent(ExchangeType::IKE_AUTH);
        assert_eq!(cause(silent.clone(), IdKind::FQDN, b"a"), Cause::of(&silent, None).to_string());
    }

    #[test]
    fn f_81_unacceptable_selectors_may_be_the_peers_kernel() {
        let hint = |side| Cause::of(&Failure::TrafficSelectors(side), None).hint;
        assert!(hint(Side::Peer).contains("kernel") && !hint(Side::Here).contains("kernel"));
    }

    #[test]
    fn f_72_a_cause_that_is_about_identities_names_both() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\npsk='a key of more than twenty octets'\n\
                    local-id='right.lab'\nremote-id='left.lab'\n[[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\n\
                    remote-ts='10.1.0.0/16'\n";
        let (config, _) = Config::parse(text).unwrap();
        let peer = &config.peers[0];
        let sent = ShortId::from(&Id { kind: IdKind::FQDN, data: b"other.lab" });
        for failure in [
            Failure::UnknownIdentity,
            Failure::WrongIdentity,
            Failure::AuthenticationFailed(Side::Here),
            Failure::AuthenticationFailed(Side::Peer),
            Failure::PeerSilent(ExchangeType::IKE_AUTH),
            Failure::HalfOpenTimeout,
        ] {
            let cause = |sent| Cause::of_handshake(&failure, Some(peer), peer.local_id.as_ref(), sent).text;
            let expected = cause(None);
            assert!(expected.contains("\"right.lab\"") && expected.contains("\"left.lab\""), "{expected}");
            let told = cause(Some(&sent));
            assert!(told.contains("\"right.lab\""), "{told}");
            assert!(!told.contains("the peer is to be"), "{told}");
            let silent = matches!(failure, Failure::PeerSilent(_) | Failure::HalfOpenTimeout);
            assert!(silent || told.contains("\"other.lab\""), "{told}");
        }
        let other = Cause::of_handshake(&Failure::MajorVersion, Some(peer), peer.local_id.as_ref(), Some(&sent)).text;
        assert!(!other.contains(".lab"), "{other}");
    }

    #[test]
    fn f_72_a_cause_of_a_child_names_what_was_asked_and_what_is_configured() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\npsk='a key of more than twenty octets'\n\
                    [[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\nremote-ts='10.1.0.0/16'\nesp='aes256gcm16-ecp256'\n\
                    [[peer.child]]\nname='dmz'\nlocal-ts='10.4.0.0/16'\nremote-ts='10.1.0.0/16'\n";
        let (config, _) = Config::parse(text).unwrap();
        let peer = &config.peers[0];
        let selectors = |child: &Child| Some(child.local_ts[0]);
        let mut asked =
            Asked { local: selectors(&peer.children[1]), remote: selectors(&peer.children[0]), more: false };
        let unfit = |asked: &Asked| Failure::NoSelectorsInCommon(asked.clone());
        let all = Cause::of_child(&unfit(&asked), None, Some(peer)).text;
        assert!(all.contains("10.4.0.0/16 == 10.2.0.0/16, do not fit"), "{all}");
        assert!(all.contains("(net: 10.2.0.0/16 == 10.1.0.0/16; dmz: 10.4.0.0/16 == 10.1.0.0/16)"), "{all}");
        asked.more = true;
        let one = Cause::of_child(&unfit(&asked), peer.child("net"), Some(peer)).text;
        assert!(one.contains("== 10.2.0.0/16 and more, do not fit ours (net: 10.2.0.0/16 == 10.1.0.0/16)"), "{one}");
        for failure in [Failure::TrafficSelectors(Side::Peer), Failure::EmptyTrafficSelectors] {
            let told = Cause::of_child(&failure, peer.child("net"), Some(peer)).text;
            assert!(told.contains("(net: 10.2.0.0/16 == 10.1.0.0/16)") && !told.contains("dmz"), "{told}");
        }
        for failure in [Failure::ProposalsRefused, Failure::PfsRefused, Failure::AnswerNotOffered] {
            let told = Cause::of_child(&failure, peer.child("net"), Some(peer)).text;
            assert!(told.contains("(esp of net: aes256gcm16") && told.contains("ecp256"), "{told}");
        }
    }

    #[test]
    fn f_81_a_refused_proposal_lists_what_was_refused() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\npsk='a key of more than twenty octets'\n\
                    ike='aes128gcm16-prfsha256-x25519'\n[[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\n\
                    remote-ts='10.1.0.0/16'\nesp='aes256gcm16-ecp256'\n";
        let (config, _) = Config::parse(text).unwrap();
        let peer = &config.peers[0];
        let child = Cause::of_child(&Failure::ProposalsRefused, peer.child("net"), None);
        assert!(child.text.contains("(esp of net: aes256gcm16") && !child.text.contains("aes128"), "{child}");
        assert!(child.hint.contains("\"esp\""), "{child}");
        let in_ike_auth = Cause::of(&Failure::ChildProposalsRefused, Some(peer));
        assert_eq!((in_ike_auth.code, &in_ike_auth.hint.contains("\"esp\"")), (child.code, &true));
        assert!(in_ike_auth.text.contains("(esp of net: aes256gcm16"), "{in_ike_auth}");
        let ike = Cause::of(&Failure::ProposalsRefused, Some(peer));
        assert!(ike.text.contains("(ike: aes128gcm16-prfsha256-x25519)") && !ike.text.contains("esp"), "{ike}");
    }
}
