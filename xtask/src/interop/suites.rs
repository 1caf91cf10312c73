//! Every suite against the peer, both ways round, with and without a fresh key exchange at rekey.

use super::rekey::rekey_child;
use super::tunnel::{PEER, Plan};
use super::{Ends, First, Scenario};
use crate::outcome::{Result, ensure};

const CIPHERS: [&str; 2] = ["aes128gcm16", "aes256gcm16"];
const PRFS: [&str; 3] = ["prfsha256", "prfsha384", "prfsha512"];
const GROUPS: [&str; 2] = ["ecp256", "x25519"];
const ESP: [&str; 3] = ["aes128gcm16", "aes192gcm16", "aes256gcm16"];

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
    list
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
