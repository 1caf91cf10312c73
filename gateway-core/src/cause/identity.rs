//! What is said of a handshake that failed: who we are, and who the peer is or says to be.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;

use ike_core::failure::{Failure, Side};
use ike_core::registry::ExchangeType;
use ike_core::wire::id::ShortId;

use super::words::Cause;
use crate::config::{Identity, Peer};

impl Cause {
    /// Puts the failure of a handshake with `remote` into words, with both identities where the failure is about them: `ours`,
    /// and the one that the peer sent, or else the one that is configured.
    pub fn of_handshake(
        failure: &Failure,
        remote: SocketAddr,
        peer: Option<&Peer>,
        ours: Option<&Identity>,
        sent: Option<&ShortId>,
    ) -> Self {
        let mut cause = Self::of_identity(failure, peer, sent);
        if matches!(failure, Failure::PeerSilent(_)) {
            // It may have several addresses.
            cause.text = cause.text.replacen("the peer", &format!("the peer at {remote}"), 1);
        }
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
}

#[cfg(test)]
mod tests {
    use ike_core::registry::IdKind;
    use ike_core::wire::id::Id;

    use super::*;
    use crate::config::Config;

    const THERE: SocketAddr = SocketAddr::V4(core::net::SocketAddrV4::new(core::net::Ipv4Addr::new(192, 0, 2, 1), 500));

    #[test]
    fn f_59_the_identity_that_the_peer_sent_is_told_as_it_is_to_be_written() {
        let cause = |failure, kind, data: &[u8]| {
            Cause::of_handshake(&failure, THERE, None, None, Some(&ShortId::from(&Id { kind, data }))).to_string()
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
        let told = Cause::of(&silent, None).to_string().replacen("the peer", "the peer at 192.0.2.1:500", 1);
        assert_eq!(cause(silent, IdKind::FQDN, b"a"), told);
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
            let cause = |sent| Cause::of_handshake(&failure, THERE, Some(peer), peer.local_id.as_ref(), sent).text;
            let expected = cause(None);
            assert!(expected.contains("\"right.lab\"") && expected.contains("\"left.lab\""), "{expected}");
            let told = cause(Some(&sent));
            assert!(told.contains("\"right.lab\""), "{told}");
            assert!(!told.contains("the peer is to be"), "{told}");
            let silent = matches!(failure, Failure::PeerSilent(_) | Failure::HalfOpenTimeout);
            assert!(silent || told.contains("\"other.lab\""), "{told}");
        }
        let other =
            Cause::of_handshake(&Failure::MajorVersion, THERE, Some(peer), peer.local_id.as_ref(), Some(&sent)).text;
        assert!(!other.contains(".lab"), "{other}");
    }
}
