//! Peers that leave ESP to a kernel: Libreswan and OpenIKED, each in a guest in the east.

use std::time::{Duration, Instant};

use super::failure::{AUTHENTICATION, PROPOSAL, SELECTORS, nothing_stands, refused};
use super::rekey::{rekey_child, rekey_ike};
use super::tunnel::{PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::Kind;
use crate::lab::gateway::{Program, Start};
use crate::lab::ike::INVALID_KE_PAYLOAD;
use crate::lab::ping::ping;
use crate::lab::wait_for;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};

/// Silence after which both ends ask for a sign of life.
const DPD: Duration = Duration::from_secs(3);
/// `DPD` and every retransmission, with room for a busy machine.
const NOTICED: Duration = Duration::from_secs(60);

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("libreswan-establish", establish));
    for (who, by) in [(First::We, "us"), (First::They, "peer")] {
        list.extend(both(&format!("libreswan-rekey-child-by-{by}"), move |ends, first| child(ends, first, who, "")));
        list.extend(both(&format!("libreswan-rekey-child-pfs-by-{by}"), move |ends, first| {
            child(ends, first, who, "-x25519")
        }));
        list.extend(both(&format!("libreswan-rekey-ike-by-{by}"), move |ends, first| ike(ends, first, who)));
    }
    list.extend(Scenario::both_ways("libreswan-rekeys-in-a-row", in_a_row));
    list.extend(Scenario::both_ways("f-64-libreswan-group-of-our-child-rekey", group_of_the_rekey));
    list.extend(Scenario::both_ways("f-65-libreswan-loses-its-sas", loses_its_sas));
    list.extend(Scenario::both_ways("libreswan-invalid-ke-payload", invalid_ke_payload));
    list.extend(Scenario::both_ways("libreswan-wrong-psk", wrong_psk));
    list.extend(Scenario::both_ways("libreswan-no-ike-proposal", no_ike_proposal));
    list.extend(Scenario::both_ways("libreswan-no-esp-proposal", no_esp_proposal));
    list.extend(Scenario::both_ways("libreswan-unacceptable-traffic-selectors", unacceptable_selectors));
    list.push(Scenario::new("f-60-libreswan-both-call-at-once", both_at_once));
    list.push(Scenario::new("libreswan-is-killed-and-comes-back", |ends| comes_back(ends, false)));
    list.push(Scenario::new("libreswan-restarts", |ends| comes_back(ends, true)));
    list.push(Scenario::new("libreswan-is-silent-for-a-while", silent));
    list.extend(Scenario::both_ways("libreswan-we-are-killed-and-come-back", we_are_killed));
    let mut list: Vec<_> = list.into_iter().map(|scenario| scenario.thorough().with(Program::Libreswan)).collect();
    let iked = Scenario::both_ways("openiked-ike-stands-or-is-refused-in-words", empty_sa_payload);
    list.extend(iked.map(|scenario| scenario.thorough().with(Program::OpenIked)));
    list
}

fn both(name: &str, run: impl Fn(Ends, First) -> Result<String> + Copy + 'static) -> [Scenario; 2] {
    [
        Scenario::new(format!("{name}-we-initiate"), move |ends| run(ends, First::We)),
        Scenario::new(format!("{name}-they-initiate"), move |ends| run(ends, First::They)),
    ]
}

fn plan(ends: Ends) -> Result<Plan> {
    let mut plan = Plan::new(ends)?;
    // strongSwan's ESP in user space knows no protocol 50.
    plan.us.encap = ends.us == Program::StrongSwan;
    plan.peer.encap = plan.us.encap;
    Ok(plan)
}

fn establish(ends: Ends, first: First) -> Result<String> {
    let tunnel = plan(ends)?.establish(first)?;
    tunnel.carries()?;
    let (deletes, other) = tunnel.ends(first);
    deletes.down(PEER)?;
    other.wait_down(PEER, Duration::from_secs(5))?;
    tunnel.establish(first)?;
    tunnel.carries()?;
    Ok(format!("{}; {}", tunnel.peer.ike_sa(PEER)?.suite, tunnel.pair.wire.summary()))
}

fn child(ends: Ends, first: First, who: First, group: &str) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.esp(&[&format!("aes256gcm16{group}")]);
    let tunnel = plan.establish(first)?;
    let tally = tunnel.under_pings(|| rekey_child(&tunnel, who))?;
    tally.all_answered()?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn ike(ends: Ends, first: First, who: First) -> Result<String> {
    let tunnel = plan(ends)?.establish(first)?;
    let child = tunnel.child()?.spi_in;
    let tally = tunnel.under_pings(|| rekey_ike(&tunnel, who))?;
    tally.all_answered()?;
    ensure(tunnel.child()?.spi_in == child, || "the Child SA did not survive".to_owned())?;
    rekey_child(&tunnel, First::We)?;
    rekey_child(&tunnel, First::They)?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn in_a_row(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.esp(&["aes256gcm16-x25519"]);
    let tunnel = plan.establish(first)?;
    let tally = tunnel.under_pings(|| {
        for round in 0..6 {
            let who = if round % 2 == 0 { First::We } else { First::They };
            rekey_child(&tunnel, who)?;
            rekey_ike(&tunnel, who)?;
        }
        Ok(())
    })?;
    tally.all_answered()?;
    Ok(tally.to_string())
}

/// The IKE SA was made with one group and our rekey offers another one first. Whatever the peer says to that, the tunnel
/// that worked goes on working.
fn group_of_the_rekey(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.ike(&["aes256gcm16-prfsha384-ecp256"]);
    plan.us.esp = vec!["aes256gcm16-x25519-ecp256".to_owned()];
    plan.peer.esp = vec!["aes256gcm16-ecp256".to_owned()];
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    let before = tunnel.child()?.spi_in;
    let tally = tunnel.under_pings(|| {
        tunnel.us.rekey_child(PEER, "net")?;
        wait_for("a new Child SA", Duration::from_secs(15), || Ok((tunnel.child()?.spi_in != before).then_some(())))
    })?;
    tally.all_answered()?;
    tunnel.agree()?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

/// The peer's kernel has forgotten its SAs, its daemon does not know. Traffic is back within three liveness intervals.
fn loses_its_sas(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    plan.us.start = if first == First::We { Start::Active } else { Start::Passive };
    let tunnel = plan.start()?;
    tunnel.establish(first)?;
    tunnel.carries()?;
    tunnel.peer.lose_sas()?;
    let (host, to) = (&tunnel.pair.west.host, tunnel.pair.east.host_v4(0));
    let lost = Instant::now();
    ensure(!ping(host, to, 1, 56)?.lost.is_empty(), || "the peer has not lost its SAs".to_owned())?;
    let limit = 3 * DPD;
    wait_for("traffic within three liveness intervals", limit, || {
        Ok(ping(host, to, 1, 56)?.lost.is_empty().then_some(()))
    })?;
    let took = lost.elapsed();
    tunnel.is_protected()?;
    Ok(format!("traffic again after {:.1} s", took.as_secs_f32()))
}

fn invalid_ke_payload(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    let (guesses, insists) = match first {
        First::We => (&mut plan.us.ike, &mut plan.peer.ike),
        First::They => (&mut plan.peer.ike, &mut plan.us.ike),
    };
    *guesses = vec!["aes256gcm16-prfsha384-x25519-ecp256".to_owned()];
    *insists = vec!["aes256gcm16-prfsha384-ecp256".to_owned()];
    let tunnel = plan.establish(first)?;
    let asked = tunnel.pair.wire.ike().iter().any(|m| m.seen.notifies.contains(&INVALID_KE_PAYLOAD));
    ensure(asked, || format!("no INVALID_KE_PAYLOAD:\n{}", tunnel.pair.wire.story()))?;
    tunnel.carries()?;
    Ok(String::new())
}

fn wrong_psk(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.peer.psk = "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff".to_owned();
    let tunnel = plan.start()?;
    let words = refused(&tunnel, first, &AUTHENTICATION)?;
    nothing_stands(&tunnel)?;
    Ok(words)
}

fn no_ike_proposal(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.us.ike = vec!["aes128gcm16-prfsha256-x25519".to_owned()];
    plan.peer.ike = vec!["aes256gcm16-prfsha512-x25519".to_owned()];
    let tunnel = plan.start()?;
    refused(&tunnel, first, &PROPOSAL)
}

fn no_esp_proposal(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.us.esp = vec!["aes128gcm16".to_owned()];
    plan.peer.esp = vec!["aes256gcm16".to_owned()];
    let tunnel = plan.start()?;
    refused(&tunnel, first, &PROPOSAL)
}

fn unacceptable_selectors(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.peer.children[0].local_ts = vec!["10.12.0.0/16".to_owned()];
    let tunnel = plan.start()?;
    refused(&tunnel, first, &SELECTORS)
}

/// Both begin at the same moment: in the end one IKE SA and one pair of Child SAs stand, and stay.
fn both_at_once(ends: Ends) -> Result<String> {
    let mut plan = plan(ends)?;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    plan.us.start = Start::Active;
    plan.peer.start = Start::Active;
    plan.pair.wire.faults(Faults { delay: Duration::from_millis(300), ..Faults::default() });
    // The peer calls while its guest has just booted, and we are there a moment later: its call is under way.
    let tunnel = plan.start()?;
    tunnel.wait_up_within(Duration::from_secs(40))?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.carries()?;
    std::thread::sleep(4 * DPD);
    tunnel.agree()?;
    tunnel.carries()?;
    Ok(String::new())
}

/// The peer goes, with or without a word, and is there again some seconds later.
fn comes_back(ends: Ends, with_a_word: bool) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.us.start = Start::Active;
    plan.us.dpd = DPD;
    let mut tunnel = plan.start()?;
    tunnel.wait_up_within(Duration::from_secs(30))?;
    tunnel.carries()?;
    if with_a_word {
        tunnel.peer.stop()?;
    } else {
        tunnel.peer.kill();
    }
    tunnel.us.wait_down(PEER, NOTICED)?;
    tunnel.peer.start()?;
    let back = Instant::now();
    tunnel.wait_up_within(NOTICED)?;
    tunnel.carries()?;
    Ok(format!("up again {:.1} s after its restart", back.elapsed().as_secs_f32()))
}

fn silent(ends: Ends) -> Result<String> {
    let mut plan = plan(ends)?;
    plan.us.start = Start::Active;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    let tunnel = plan.start()?;
    tunnel.wait_up_within(Duration::from_secs(30))?;
    tunnel.pair.wire.faults(Faults { cut: true, ..Faults::default() });
    tunnel.us.wait_down(PEER, NOTICED)?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.wait_up_within(NOTICED)?;
    tunnel.carries()?;
    Ok(String::new())
}

fn we_are_killed(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    match first {
        First::We => plan.us.start = Start::Active,
        First::They => plan.peer.start = Start::Active,
    }
    let mut tunnel = plan.start()?;
    tunnel.wait_up_within(Duration::from_secs(30))?;
    tunnel.carries()?;
    let before = tunnel.us.ike_sa(PEER)?.spis;
    let killed = Instant::now();
    tunnel.restart_us()?;
    tunnel.wait_up_within(NOTICED)?;
    ensure(tunnel.us.ike_sa(PEER)?.spis != before, || "the IKE SA is the old one".to_owned())?;
    tunnel.carries()?;
    Ok(format!("up again after {:.1} s", killed.elapsed().as_secs_f32()))
}

/// OpenIKED 7.2 on Linux sends an empty SA payload where its child proposals are AEAD. That is its fault: here it has to
/// be told in words, on our side as a cause with a code, and to harm nothing.
fn empty_sa_payload(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends)?;
    if first == First::They {
        plan.peer.start = Start::Active;
    }
    let tunnel = plan.start()?;
    if first == First::We {
        let answer = tunnel.us.up(PEER, "net");
        ensure(answer.is_err(), || "it came up: OpenIKED can do it now, test it as Libreswan is tested".to_owned())?;
    }
    if ends.us == Program::Portcullis {
        wait_for("a cause in our log", Duration::from_secs(15), || {
            Ok(CODES.into_iter().find(|code| tunnel.us.log().contains(&format!("[{code}]"))))
        })?;
    }
    no_traffic(&tunnel)?;
    // And it is no harm to life: we still answer.
    tunnel.us.shown()?;
    let codes: Vec<&str> = CODES.into_iter().filter(|code| tunnel.us.log().contains(&format!("[{code}]"))).collect();
    Ok(format!("told as {}", codes.join(", ")))
}

/// How we may call it.
const CODES: [&str; 4] = ["no-proposal-in-common", "no-proposal-chosen", "ts-unacceptable", "invalid-syntax"];

fn no_traffic(tunnel: &Tunnel) -> Result {
    tunnel.pair.wire.forget();
    let tally = ping(&tunnel.pair.west.host, tunnel.pair.east.host_v4(0), 3, 56)?;
    ensure(tally.lost.len() == 3, || format!("without a tunnel: {tally}"))?;
    ensure(tunnel.pair.wire.count(Kind::Clear) == 0, || "in clear".to_owned())
}
