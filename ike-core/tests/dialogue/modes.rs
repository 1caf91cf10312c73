//! Tunnel and transport mode, as they are asked for and agreed on (RFC 7296 §1.3.1).

use std::time::Duration;

use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfig, ChildConfigId, Modes};
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType};
use ipsec_core::sa::Mode;

use crate::hostile::peer::{
    NOTHING, NOW, Payloads, Scripted, child_payloads, host, notifies, payload, transmits, without,
};
use crate::network::{CHILD, Network, child, esp, pair};

const ALL: [Modes; 3] = [Modes::Tunnel, Modes::PreferTransport, Modes::Transport];
const LATER: Duration = Duration::from_secs(5);

/// What comes of a child between one that asks with these and one that answers with those.
fn expected(asks: Modes, answers: Modes) -> Option<Mode> {
    match (asks, answers) {
        (Modes::Tunnel, Modes::Transport) | (Modes::Transport, Modes::Tunnel) => None,
        (Modes::Tunnel, _) | (_, Modes::Tunnel) => Some(Mode::Tunnel),
        _ => Some(Mode::Transport),
    }
}

fn network(seed: u64, modes: [Modes; 2]) -> Network {
    let [mut left, mut right] = pair();
    left.children[0].modes = modes[0];
    right.children[0].modes = modes[1];
    Network::new(seed, [vec![left], vec![right]], Settings::default())
}

fn told(network: &Network) -> [Vec<Mode>; 2] {
    network.hosts.each_ref().map(|host| host.installed.values().map(|child| child.mode).collect())
}

#[test]
fn a_child_is_in_the_mode_that_both_sides_have_or_in_none() {
    for (number, (asks, answers)) in ALL.iter().flat_map(|asks| ALL.map(|answers| (*asks, answers))).enumerate() {
        let mut network = network(600 + number as u64, [asks, answers]);
        network.connect();
        network.run_for(LATER);
        let expected = Vec::from_iter(expected(asks, answers));
        assert_eq!(told(&network), [expected.clone(), expected.clone()], "{asks:?} {answers:?}");
        network.agree().unwrap();
        if expected.is_empty() {
            let refused = Failure::ModeNotWanted(Mode::Tunnel);
            let by = usize::from(asks == Modes::Tunnel);
            assert_eq!(network.hosts[by].failures, [refused], "{asks:?} {answers:?}");
            continue;
        }
        // A rekey from either side asks and answers anew.
        for side in [0, 1] {
            let child = network.hosts[side].sending[&CHILD];
            network.hosts[side].endpoint.rekey_child(network.now, child).unwrap();
            network.run_for(Duration::from_secs(40));
            let asked = [asks, answers][side];
            let other = [asks, answers][1 - side];
            let expected = Vec::from_iter(self::expected(asked, other));
            assert_eq!(told(&network), [expected.clone(), expected], "{asks:?} {answers:?}, rekeyed by {side}");
        }
        assert!(network.passes());
    }
}

#[test]
fn of_two_configured_children_the_one_in_the_mode_asked_for_is_taken() {
    let (local, remote) = (&["10.2.0.0/16"], &["10.1.0.0/16"]);
    let child = |id, modes| ChildConfig { modes, ..child(id, local, remote, "aes256gcm16-x25519-ecp256") };
    for (asks, taken) in [(Modes::Tunnel, 0), (Modes::PreferTransport, 1), (Modes::Transport, 1)] {
        let [mut left, mut right] = pair();
        left.children[0].modes = asks;
        right.children = vec![child(0, Modes::Tunnel), child(1, Modes::PreferTransport)];
        let mut network = Network::new(620, [vec![left], vec![right]], Settings::default());
        network.connect();
        let configs: Vec<_> = network.hosts[1].installed.values().map(|child| child.config).collect();
        assert_eq!(configs, [ChildConfigId(taken)], "{asks:?}");
        assert_eq!(told(&network)[0], [asks.wanted()]);
    }
}

fn with_transport(all: &Payloads) -> Payloads {
    let [high, low] = NotifyKind::USE_TRANSPORT_MODE.0.to_be_bytes();
    payload(PayloadType::NOTIFY.0, 0, &[0, 0, high, low], all)
}

#[test]
fn only_who_wants_transport_mode_asks_for_it_and_nobody_grants_what_was_not_asked() {
    for modes in ALL {
        let mut host = host(true);
        host.endpoint.pad_mut().0[0].children[0].modes = modes;
        let (mut peer, request) = Scripted::answer(&mut host, 630);
        let asked = notifies(&peer.open(&request)).contains(&NotifyKind::USE_TRANSPORT_MODE);
        assert_eq!(asked, modes != Modes::Tunnel);
        peer.next[1] = 1;
        let granted = with_transport(&peer.auth_payloads());
        let (handled, sent) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &granted);
        assert_eq!(handled, Ok(()));
        let expected: &[Mode] = if asked { &[Mode::Transport] } else { &[] };
        assert_eq!(host.installed.values().map(|child| child.mode).collect::<Vec<_>>(), expected);
        if !asked {
            // The peer has it, and is told that it goes.
            assert_eq!(sent.len(), 1);
            assert_eq!(peer.open(&sent[0]).0, PayloadType::DELETE.0);
            let _ = peer.respond(&mut host, ExchangeType::INFORMATIONAL, &NOTHING);
            assert_eq!(host.failures, [Failure::ModeNotWanted(Mode::Transport)]);
        }
    }
}

#[test]
fn a_responder_says_it_only_where_it_agrees() {
    for (modes, asked, says, up) in [
        (Modes::Tunnel, false, false, true),
        (Modes::Tunnel, true, false, true),
        (Modes::PreferTransport, false, false, true),
        (Modes::PreferTransport, true, true, true),
        (Modes::Transport, false, false, false),
        (Modes::Transport, true, true, true),
    ] {
        let mut host = host(false);
        let usual = host.endpoint.pad().0[0].children[0];
        host.endpoint.pad_mut().0[0].children[0] = ChildConfig { modes, esp: esp("aes256gcm16-modpnone"), ..usual };
        let mut peer = Scripted::initiate(&mut host, 640);
        let auth = without(&peer.auth_payloads(), PayloadType::NOTIFY);
        let asking = |all: &Payloads| if asked { with_transport(all) } else { all.clone() };
        for exchange in [ExchangeType::IKE_AUTH, ExchangeType::CREATE_CHILD_SA] {
            let request = if exchange == ExchangeType::IKE_AUTH { auth.clone() } else { child_payloads(None) };
            let answer = peer.ask(&mut host, exchange, &asking(&request));
            let kinds = notifies(&answer);
            assert_eq!(kinds.contains(&NotifyKind::USE_TRANSPORT_MODE), says, "{modes:?} {asked} {exchange}");
            assert_eq!(kinds.contains(&NotifyKind::NO_PROPOSAL_CHOSEN), !up, "{modes:?} {asked} {exchange}");
        }
        assert_eq!(host.installed.len(), if up { 2 } else { 0 });
        let refused = Failure::ModeNotWanted(Mode::Tunnel);
        assert_eq!(host.failures, if up { vec![] } else { vec![refused.clone(), refused] });
        host.endpoint.handle_timeout(NOW);
        assert!(transmits(&mut host).is_empty());
    }
}
