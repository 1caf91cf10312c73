use std::time::Instant;

use super::super::tests::{FakeNft, boundary, config, held, with_policies};
use super::super::watch::Touched;
use gateway_core::config::Config;

use super::super::{Boundary, Intent, block};
use super::*;
use crate::boundary::nft;
use crate::namespace::in_a_network_of_its_own;
use crate::tun::Tun;

const DISCARD: &str = "[[policy]]\naction = \"discard\"\nremote = \"10.66.0.0/16\"\n";

fn start(config: &Config) -> io::Result<Boundary> {
    let (owner, tun) = (Owner::claim().unwrap(), Tun::create(&config.gateway.tun).unwrap());
    Boundary::start(owner, tun, config, || {})
}

/// One that the kernel refuses: with this MTU there is no IPv4.
fn refused() -> Config {
    let mut config = config("10.1.0.0/16");
    config.gateway.mtu = 10;
    config
}

fn guard() -> bool {
    table::stands(ruleset::TABLE).unwrap()
}

fn is_bare() -> bool {
    kernel::is_bare(&mut Netlink::open().unwrap()).unwrap()
}

fn nft(words: &[&str]) {
    nft::run(words, "", nft::deadline("")).map(drop).unwrap();
}

#[test]
fn f_01_a_start_that_fails_leaves_all_as_it_was_and_no_less_than_that() {
    in_a_network_of_its_own(|| {
        start(&refused()).map(drop).unwrap_err();
        assert!(is_bare() && !guard(), "fresh");

        block(config("10.1.0.0/16")).unwrap();
        start(&refused()).map(drop).unwrap_err();
        assert!(held() == ["10.1.0.0/16"] && guard());
        // Somebody flushes rules and routes: the guard alone is left.
        kernel::remove_all(&mut Netlink::open().unwrap()).unwrap();
        start(&refused()).map(drop).unwrap_err();
        assert!(guard(), "what somebody blocked");

        // Somebody flushes routes and guard: the rules alone are left.
        release().unwrap();
        block(config("10.1.0.0/16")).unwrap();
        let mut netlink = Netlink::open().unwrap();
        for route in kernel::tables(&mut netlink, true).unwrap() {
            netlink.remove_route(route).unwrap();
        }
        nft(&["flush", "ruleset"]);
        start(&refused()).map(drop).unwrap_err();
        assert!(!is_bare());
        release().unwrap();
        assert!(is_bare() && !guard());
    });
}

#[test]
fn f_01_what_is_discarded_by_the_newest_rules_is_told_also_while_nft_does_not_answer() {
    in_a_network_of_its_own(|| {
        let (mut boundary, _guard) = boundary();
        boundary.follow(Intent::of(&with_policies("10.1.0.0/16", DISCARD)));
        assert!(boundary.guard.is_busy() && boundary.left().discards);
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        assert!(boundary.guard.is_busy() && !boundary.left().discards);
    });
}

#[test]
fn f_01_what_a_start_has_set_stays_only_when_all_else_has_started() {
    in_a_network_of_its_own(|| {
        let mut boundary = start(&config("10.1.0.0/16")).unwrap();
        assert!(held() == ["10.1.0.0/16"] && guard());
        drop(boundary);
        assert!(is_bare() && !guard());
        boundary = start(&config("10.1.0.0/16")).unwrap();
        boundary.keep();
        drop(boundary);
        assert!(held() == ["10.1.0.0/16"] && guard());
        // It was blocked before.
        drop(start(&config("10.1.0.0/16")).unwrap());
        assert!(held() == ["10.1.0.0/16"] && guard());
        release().unwrap();
        start(&config("10.1.0.0/16")).unwrap().stop();
        assert!(held() == ["10.1.0.0/16"] && guard());
        release().unwrap();
        // Another daemon has the boundary since.
        boundary = start(&config("10.1.0.0/16")).unwrap();
        let index = nix::net::if_::if_nametoindex("portcullis-own").unwrap();
        Netlink::open().unwrap().remove_link(index).unwrap();
        let _other = Owner::claim().unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        drop(boundary);
        assert!(held() == ["10.1.0.0/16"] && guard());
    });
}

#[test]
fn f_01_the_end_tries_a_guard_that_waits_for_its_turn_and_says_when_there_is_none() {
    in_a_network_of_its_own(|| {
        let nft = FakeNft::new();
        for works_again in [true, false] {
            let mut boundary = start(&config("10.1.0.0/16")).unwrap();
            super::tests::nft(&["delete", "table", "inet", ruleset::TABLE]);
            nft.fails(true);
            for _ in 0..4 {
                boundary.reconcile(Touched::ALL).unwrap();
                boundary.wait_for_guard();
                let turn = boundary.guard.again().at().unwrap();
                boundary.guard.again().failed(turn);
            }
            assert!(boundary.guard.again().at().unwrap() > Instant::now() && !guard());
            if works_again {
                nft.fails(false);
            }
            boundary.finish();
            let words = boundary.left().last_words().unwrap();
            drop(boundary);
            assert_eq!(guard(), works_again);
            match words {
                Ok(words) => assert!(works_again && words.contains("10.1.0.0/16 stays blocked"), "{words}"),
                Err(words) => assert!(!works_again && words.contains("no guard stands (nft: no)"), "{words}"),
            }
            assert_eq!(held(), ["10.1.0.0/16"]);
        }
        nft.fails(false);
    });
}

#[test]
fn f_08_what_only_the_guard_drops_is_blocked_and_released_too() {
    in_a_network_of_its_own(|| {
        let discards = || with_policies("0.0.0.0/0", DISCARD);
        assert_eq!(block(config("0.0.0.0/0")).unwrap(), "there is nothing to block");
        assert!(!guard() && is_bare());
        assert_eq!(release().unwrap(), "nothing was blocked");
        assert_eq!(block(discards()).unwrap(), "blocked until the daemon runs: what policies discard");
        assert!(guard());
        assert_eq!(release().unwrap(), "no longer blocked: what policies discard");
        assert!(!guard());

        let mut boundary = start(&discards()).unwrap();
        boundary.finish();
        let words = boundary.left().last_words().unwrap().unwrap();
        assert!(words.starts_with("what policies discard stays blocked"), "{words}");
        drop(boundary);
        let said = block(with_policies("10.1.0.0/16", DISCARD)).unwrap();
        assert_eq!(said, "blocked until the daemon runs: 10.1.0.0/16 and what policies discard");
        assert_eq!(release().unwrap(), "no longer blocked: 10.1.0.0/16, and what policies discard");
        block(config("10.1.0.0/16")).unwrap();
        assert_eq!(release().unwrap(), "no longer blocked: 10.1.0.0/16");
        assert!(!guard());

        let nft = FakeNft::new();
        nft.fails(true);
        let said = block(discards()).unwrap_err().to_string();
        assert_eq!(said, "the guard cannot be set (nft: no); what policies discard is let through");
    });
}

#[test]
fn f_01_a_guard_with_the_newest_rules_is_not_called_an_old_one_because_nft_fails_at_the_end() {
    in_a_network_of_its_own(|| {
        let nft = FakeNft::new();
        let mut boundary = start(&config("10.1.0.0/16")).unwrap();
        nft.fails(true);
        boundary.finish();
        let mut left = boundary.left();
        let words = left.last_words().unwrap().unwrap();
        assert!(words.starts_with("10.1.0.0/16 stays blocked until the next start"), "{words}");
        left.old = true;
        let words = left.last_words().unwrap().unwrap();
        assert!(words.starts_with("10.1.0.0/16 stays blocked by the rules before the last ones (nft: no)"), "{words}");
        // Somebody removes it, and nft had nothing to say of that.
        nft.fails(false);
        boundary.finish();
        super::tests::nft(&["delete", "table", "inet", ruleset::TABLE]);
        let words = boundary.left().last_words().unwrap().unwrap_err();
        assert!(words.starts_with("no guard stands (somebody removed it)"), "{words}");
    });
}

#[test]
fn f_01_block_says_of_a_guard_that_stands_already_that_it_stands() {
    in_a_network_of_its_own(|| {
        let nft = FakeNft::new();
        let both = || with_policies("10.1.0.0/16", DISCARD);
        block(both()).unwrap();
        nft.fails(true);
        let said = block(both()).unwrap_err().to_string();
        assert_eq!(
            said,
            "the guard cannot be renewed (nft: no); routes keep in what goes to 10.1.0.0/16, and what policies discard is \
             dropped as far as that guard does it"
        );
        let said = block(with_policies("0.0.0.0/0", DISCARD)).unwrap_err().to_string();
        assert!(
            said.ends_with("(nft: no); what policies discard is dropped as far as the one that stands does it"),
            "{said}"
        );
        nft.fails(false);

        let mut left = start(&both()).unwrap().left();
        assert_eq!(left.blocked().unwrap(), "blocked until the daemon runs: 10.1.0.0/16 and what policies discard");
        (left.old, left.why) = (true, Some(NO_NFT.to_owned()));
        let said = left.blocked().unwrap();
        assert!(said.contains("with the guard that stood") && !said.contains("alone"), "{said}");
        left.guard = false;
        let said = left.blocked().unwrap();
        assert!(
            said.contains("without a guard") && said.contains("routes alone") && said.contains("let through"),
            "{said}"
        );
    });
}
