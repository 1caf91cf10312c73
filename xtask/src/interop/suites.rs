//! Every suite against the peer, both ways round, with and without a fresh key exchange at rekey.

use super::rekey::rekey_child;
use super::tunnel::{PEER, Plan};
use super::{Ends, First, Scenario};
use crate::outcome::{Result, ensure};

const CIPHERS: [&str; 2] = ["aes128gcm16", "aes256gcm16"];
const PRFS: [&str; 3] = ["prfsha256", "prfsha384", "prfsha512"];
const GROUPS: [&str; 2] = ["ecp256", "x25519"];
const ESP: [&str; 3] = ["aes128gcm16", "aes192gcm16", "aes256gcm16"];
/// More of packets, of each construction one at least in the quick selection.
const MORE_ESP: [(&str, bool); 19] = [
    ("aes128-sha256", true),
    ("aes256-sha512", true),
    ("aes192-sha384", false),
    ("aes128-sha1", true),
    ("aes256-aesxcbc", false),
    ("aes256-aescmac", false),
    ("aes128ctr-sha256", true),
    ("aes256ctr-sha1", false),
    ("null-sha256", true),
    ("chacha20poly1305", true),
    ("aes128gcm8", false),
    ("aes256gcm12", false),
    ("aes128ccm8", true),
    ("aes192ccm12", false),
    ("aes256ccm16", false),
    ("aes256-sha256-ecp256", false),
    ("chacha20poly1305-x25519", false),
    ("aes256-sha384-modpnone", false),
    ("aes192ctr-sha384", false),
];

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    for cipher in CIPHERS {
        for prf in PRFS {
            for group in GROUPS {
                let ike = format!("{cipher}-{prf}-{group}");
                // Each IKE suite once in the quick selection: the directions alternate.
                let quick = if (cipher == CIPHERS[0]) == (group == GROUPS[0]) { First::We } else { First::They };
                for first in [First::We, First::They] {
                    let proposal = ike.clone();
                    let scenario = Scenario::new(format!("suite-ike-{ike}-{}", way(first)), move |ends| {
                        established(ends, first, &proposal, "aes256gcm16")
                    });
                    list.push(if first == quick { scenario } else { scenario.thorough() });
                }
            }
        }
    }
    for cipher in ESP {
        for group in ["", "-ecp256", "-x25519"] {
            let esp = format!("{cipher}{group}");
            for first in [First::We, First::They] {
                let proposal = esp.clone();
                let scenario = Scenario::new(format!("suite-esp-{esp}-{}", way(first)), move |ends| {
                    established(ends, first, "aes256gcm16-prfsha384-x25519", &proposal)
                });
                let quick = group.is_empty() && first == First::We || group == "-ecp256" && first == First::They;
                list.push(if quick { scenario } else { scenario.thorough() });
            }
        }
    }
    for (esp, quick) in MORE_ESP {
        for first in [First::We, First::They] {
            let scenario = Scenario::new(format!("suite-esp-{esp}-{}", way(first)), move |ends| {
                established(ends, first, "aes256gcm16-prfsha384-x25519", esp)
            });
            // Either way round, by turns.
            let here = quick && (esp.len() % 2 == 0) == (first == First::We);
            list.push(if here { scenario } else { scenario.thorough() });
        }
    }
    list.extend(Scenario::both_ways("f-57-a-peer-with-21-proposals", many_proposals));
    list
}

/// The peer has everything that it knows in its proposals, and what fits comes last: its first message has more octets
/// than many a buffer, and comes in fragments.
fn many_proposals(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let ciphers = ["aes128", "aes192", "aes256", "aes128ctr", "aes192ctr"];
    let groups = ["ecp256-x25519", "ecp384-ecp256-x25519", "ecp521-ecp256-x25519", "x25519-ecp384-ecp521-ecp256"];
    let others = ciphers.iter().flat_map(|cipher| {
        groups.iter().map(move |group| format!("{cipher}-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-{group}"))
    });
    plan.peer.ike = others.chain(["aes256gcm16-prfsha384-x25519".to_owned()]).collect();
    let proposals = plan.peer.ike.len();
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    // strongSwan's words, as the wire shows of a fragmented message the first part only.
    let log = tunnel.peer.log();
    let sent = log.lines().filter(|line| line.contains("sending packet"));
    let sizes = sent.filter_map(|line| line.rsplit_once('(')?.1.split(' ').next()?.parse::<usize>().ok());
    let longest = sizes.max().unwrap_or(0);
    // As initiator it sends them all; as responder the one it chose.
    ensure(first == First::We || longest > 2048, || format!("{proposals} proposals in {longest} octets"))?;
    Ok(format!("{proposals} proposals, messages of up to {longest} octets"))
}

fn way(first: First) -> &'static str {
    match first {
        First::We => "we-initiate",
        First::They => "they-initiate",
    }
}

/// Established with exactly this suite, carries, gets new keys from either end, still carries.
fn established(ends: Ends, first: First, ike: &str, esp: &str) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.ike(&[ike]);
    plan.esp(&[esp]);
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    rekey_child(&tunnel, First::We)?;
    rekey_child(&tunnel, First::They)?;
    tunnel.carries()?;
    let (sa, child) = (tunnel.us.ike_sa(PEER)?, tunnel.child()?);
    ensure(!sa.suite.is_empty() && !child.suite.is_empty(), || format!("no suite in {sa:?}"))?;
    Ok(format!("{} / {}", sa.suite, child.suite))
}
