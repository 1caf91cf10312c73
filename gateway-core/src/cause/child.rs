//! What is said of a child: that it failed, became smaller, or was not taken.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ike_core::failure::Failure;
use ike_core::registry::ProtocolId;
use ipsec_core::net::TrafficSelector;

use super::evidence::{in_common, listed, nets, networks, unlike};
use super::words::{Cause, Kind};
use crate::config::selector::Selector;
use crate::config::{Child, Peer};

/// So many SAs of a child are named one by one.
const NAMED: usize = 4;

impl Cause {
    /// Puts a failure of a child into words.
    pub fn of_child(failure: &Failure, child: Option<&Child>, peer: Option<&Peer>) -> Self {
        let Some(child) = child else { return Self::of(failure, peer) };
        let mut cause = Self::of(failure, None);
        if let Failure::NoProposalInCommon(mismatch) = failure
            && mismatch.protocol == ProtocolId::ESP
        {
            let key = format!("\"esp\" of \"{}\"", child.name);
            (cause.text, cause.hint) = (unlike(mismatch, &key), in_common(mismatch, &key));
            return cause;
        }
        let evidence = match failure {
            Failure::ProposalsRefused | Failure::PfsRefused | Failure::AnswerNotOffered => {
                listed(&format!("esp of {}", child.name), &child.esp)
            }
            Failure::TrafficSelectors | Failure::EmptyTrafficSelectors | Failure::NoSelectorsInCommon(_) => {
                networks(core::slice::from_ref(child))
            }
            _ => return Self::of(failure, peer),
        };
        cause.text.push_str(&evidence);
        if *failure == Failure::ProposalsRefused {
            cause.hint = "it does not say what it wants: compare \"esp\" of the child with the peer's, key exchange groups (PFS) \
                          included; some peers say the same when their own kernel refuses the SA: look at its log"
                .to_string();
        }
        cause
    }

    /// Less than what is configured was negotiated: `sas`, each with our side's selectors and the peer's.
    pub fn narrowed(
        (local, remote): (&[TrafficSelector], &[TrafficSelector]),
        sas: &[(&[TrafficSelector], &[TrafficSelector])],
    ) -> Self {
        let mut text = format!("only a part of {} == {} is agreed on", nets(local), nets(remote));
        for (place, (local, remote)) in sas.iter().take(NAMED).enumerate() {
            text.push_str(if place == 0 { ": " } else { ", " });
            text.push_str(&format!("{} == {}", nets(local), nets(remote)));
        }
        if let Some(more) = sas.len().checked_sub(NAMED).filter(|more| *more > 0) {
            text.push_str(&format!(" and {more} more"));
        }
        Self {
            code: "narrowed",
            text,
            hint: "the peer is configured for these only: write the same networks on both sides; until then packets for the \
                   rest ask it for an SA of their own"
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

    /// No SA for a packet that the negotiated selectors leave out: there are `most` for parts of the child already.
    pub fn too_many_sas(most: usize) -> Self {
        Self {
            code: "too-many-sas",
            text: format!(
                "the child has {most} SAs, each for a part of its networks, and all were used lately: no packet gets another"
            ),
            hint: "let both sides have the same networks, or give each network of the peer's a child of its own"
                .to_string(),
            kind: Kind::Refusal,
        }
    }

    /// IKE has no room for what it is to begin.
    pub fn full() -> Self {
        Self {
            code: "no-room",
            text: "there is no room here for another SA or handshake".to_string(),
            hint: "where many handshakes go on at once it passes by itself; else restart: the tables are sized at the start, for \
                   the peers and children of then"
                .to_string(),
            kind: Kind::Absence,
        }
    }

    /// What IKE is to begin, or to begin it on, is there no more.
    pub fn gone() -> Self {
        Self {
            code: "gone",
            text: "the connection, or the child of it, is there no more".to_string(),
            hint: "it ended, or a reload took it out, just before it was asked for: with `start = \"active\"` it is tried again"
                .to_string(),
            kind: Kind::Absence,
        }
    }

    /// Another party has an SA for addresses that this one wants, and both cannot be there.
    pub fn held_by_another(networks: &[TrafficSelector]) -> Self {
        let networks: Vec<_> = networks.iter().map(|network| Selector(network).to_string()).collect();
        Self {
            code: "address-taken",
            text: format!("another party has an SA for {}", networks.join(", ")),
            hint: "give each party an address of its own, inside a tunnel: behind one NAT two hosts in transport mode look alike \
                   (RFC 3948 §5.2); if that party is gone, it is noticed after \"dpd\""
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

#[cfg(test)]
mod tests {
    use ike_core::failure::Asked;

    use super::*;
    use crate::config::Config;

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
        for failure in [Failure::TrafficSelectors, Failure::EmptyTrafficSelectors] {
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
        assert!(child.hint.contains("\"esp\"") && child.hint.contains("their own kernel refuses"), "{child}");
        let in_ike_auth = Cause::of(&Failure::ChildProposalsRefused, Some(peer));
        assert_eq!((in_ike_auth.code, &in_ike_auth.hint.contains("\"esp\"")), (child.code, &true));
        assert!(in_ike_auth.text.contains("(esp of net: aes256gcm16"), "{in_ike_auth}");
        let ike = Cause::of(&Failure::ProposalsRefused, Some(peer));
        assert!(ike.text.contains("(ike: aes128gcm16-prfsha256-x25519)") && !ike.text.contains("esp"), "{ike}");
    }
}
