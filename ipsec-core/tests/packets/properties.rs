//! Random inputs against plain models. Every assertion names the seed that broke it.

use crate::ends::{
    NOW, POLICY, Rng, Ruled, Sa, a_to_b, inbound, ip, later_fragment, open, outbound, ports, seal, tunnel,
};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::ecn::Ecn;
use ipsec_core::encap::pop_outer;
use ipsec_core::engine::Verdict;
use ipsec_core::error::Discard;
use ipsec_core::flow::Flow;
use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::replay::Window;
use ipsec_core::sa::{Lifetime, Limit, SaId};
use ipsec_core::spd::{Action, PolicyId, Rule, RuleId, Selector};
use ipsec_core::wire::natt;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A number near `centre`, mostly; sometimes far away.
fn near(rng: &mut Rng, centre: u64, spread: u64) -> u64 {
    match rng.below(20) {
        0 => rng.next(),
        1 => centre.saturating_add(rng.below(spread * 10)),
        _ => centre.saturating_add(rng.below(2 * spread)).saturating_sub(spread),
    }
}

#[test]
fn the_window_agrees_with_a_set_of_all_numbers_seen() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let words = 1usize << rng.below(7);
        let size = words as u64 * 64;
        let start = [0, 1, size, u64::from(u32::MAX), u64::MAX - 3 * size][rng.below(5) as usize];
        let mut bits = vec![0; words];
        let mut window = Window::new(start, &mut bits);
        let (mut top, mut seen) = (start, HashSet::new());
        for _ in 0..3000 {
            // Half of the time an exact edge of the window.
            let sequence = match rng.below(8) {
                0 => top.wrapping_sub(size),
                1 => top.wrapping_sub(size).wrapping_add(1),
                2 => top.saturating_add(size - rng.below(2)),
                3 => top.saturating_add(1),
                _ => near(&mut rng, top, size),
            };
            let too_old = sequence == 0 || top >= size && sequence <= top - size;
            let expected = match sequence {
                sequence if sequence > top => Ok(()),
                _ if too_old => Err(Discard::InStale),
                sequence if sequence <= start || seen.contains(&sequence) => Err(Discard::InReplayed),
                _ => Ok(()),
            };
            assert_eq!(window.check(sequence, &bits), expected, "seed {seed}: {sequence:#x}, top {top:#x}, {size}");
            if expected.is_ok() && rng.below(4) != 0 {
                window.commit(sequence, &mut bits);
                seen.insert(sequence);
                top = top.max(sequence);
            }
        }
    }
}

#[test]
fn an_extended_number_within_reach_is_inferred_right() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let words = 1usize << rng.below(7);
        let size = words as u64 * 64;
        let mut bits = vec![0; words];
        let edge = (1 + rng.below(5)) << 32;
        let top = near(&mut rng, edge, 2 * size);
        let window = Window::new(top, &mut bits);
        for _ in 0..500 {
            // Anything from the oldest in the window to less than 2^32 - size ahead is told apart by its low half.
            let oldest = top.saturating_sub(size - 1);
            let ahead = (1u64 << 32) - 1;
            let Some(sequence) = oldest.checked_add(rng.below(ahead)) else { continue };
            assert_eq!(window.extend(sequence as u32, &bits), Some(sequence), "seed {seed}: top {top:#x}");
        }
    }
}

#[test]
fn whatever_is_sealed_opens_to_the_same_packet() {
    let algs = [AeadAlg::Aes128Gcm16, AeadAlg::Aes192Gcm16, AeadAlg::Aes256Gcm16];
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let alg = algs[rng.below(3) as usize];
        let (esn, keymat) = (rng.below(2) == 0, rng.bytes(alg.key_len() + 4));
        let sa = Sa { protection: alg.into(), keymat, esn, window: 1024, ..Sa::default() };
        let (mut out, mut inn) = tunnel(&sa);
        for _ in 0..40 {
            let len = [0, 1, 15, 16, 17, 1000, 1400, 9000][rng.below(8) as usize] + rng.below(40) as usize;
            let payload = rng.bytes(len);
            let inner = match rng.below(2) {
                0 => ip("10.1.3.4", "10.2.9.8", 200, &payload),
                _ => ip("fd01::7", "fd02::8", 200, &payload),
            };
            let esp = seal(&mut out, &inner).unwrap();
            assert_eq!((esp.len() - 16 - 16) % 4, 0);
            assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&inner[..]), "seed {seed}, {len} octets");
        }
    }
}

#[test]
fn a_batch_is_what_its_packets_are_one_by_one() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let limit = Limit { packets: Some(rng.below(80)), ..Limit::default() };
        let lifetime = Lifetime { soft: Limit { packets: Some(rng.below(60)), ..limit }, hard: limit };
        let lifetime = if rng.below(2) == 0 { lifetime } else { Lifetime::default() };
        let sa = Sa { lifetime, window: 64, ..Sa::default() };
        let ((mut out, mut inn), (mut batch_out, mut batch_inn)) = (tunnel(&sa), tunnel(&sa));
        let id = out.sas().next().unwrap().id;
        for _ in 0..6 {
            // Some are no packets, some have no room.
            let inner: Vec<(usize, Vec<u8>)> = (0..rng.below(20))
                .map(|_| match rng.below(12) {
                    0 => (64, vec![0; 30]),
                    1 => (8, a_to_b(20)),
                    _ => (64, a_to_b(rng.below(90) as usize)),
                })
                .collect();
            let bytes = || inner.iter().map(|(head, inner)| [&vec![0; *head], &inner[..], &[0; 24]].concat());
            let (mut one_by_one, mut batch): (Vec<_>, Vec<_>) = (bytes().collect(), bytes().collect());
            let mut expected = Vec::new();
            for (bytes, (head, inner)) in one_by_one.iter_mut().zip(&inner) {
                let mut packet = PacketBuf::new(bytes, *head, inner.len()).unwrap();
                let sealed = out.seal(NOW, id, &mut packet);
                expected.push((sealed, packet.as_slice().to_vec()));
            }
            let mut packets: Vec<_> = batch
                .iter_mut()
                .zip(&inner)
                .map(|(bytes, (head, inner))| PacketBuf::new(bytes, *head, inner.len()).unwrap())
                .collect();
            let mut done = Vec::new();
            batch_out.seal_batch(NOW, id, &mut packets, |packet, sealed| {
                done.push((sealed, packet.as_slice().to_vec()));
            });
            assert_eq!(done, expected, "seed {seed}");

            // On the way some are lost, repeated, exchanged and changed.
            let mut wire: Vec<Vec<u8>> =
                done.into_iter().filter(|(sealed, _)| sealed.is_ok()).map(|(_, p)| p).collect();
            for _ in 0..wire.len() / 3 {
                let (one, other) = (rng.below(wire.len() as u64) as usize, rng.below(wire.len() as u64) as usize);
                match rng.below(4) {
                    0 => wire.push(wire[one].clone()),
                    1 => wire.swap(one, other),
                    2 => wire[one][20] ^= 1,
                    _ => _ = wire.remove(one),
                }
                if wire.is_empty() {
                    break;
                }
            }
            let from = crate::ends::reversed(crate::ends::path());
            let mut expected = Vec::new();
            // Some met congestion on the way, which their senders do not understand.
            let marks: Vec<_> = wire.iter().map(|_| [Ecn::NotEct, Ecn::Ce][usize::from(rng.below(5) == 0)]).collect();
            let (mut one_by_one, mut batch) = (wire.clone(), wire);
            for (bytes, ecn) in one_by_one.iter_mut().zip(&marks) {
                let len = bytes.len();
                let mut packet = PacketBuf::new(bytes, 0, len).unwrap();
                let opened = inn.open(NOW, from, *ecn, &mut packet);
                expected.push((opened, opened.is_ok().then(|| packet.as_slice().to_vec())));
            }
            let mut packets: Vec<_> = batch
                .iter_mut()
                .map(|bytes| {
                    let len = bytes.len();
                    PacketBuf::new(bytes, 0, len).unwrap()
                })
                .collect();
            let mut done = Vec::new();
            let arrived = packets.iter_mut().zip(marks).map(|(packet, ecn)| (from, ecn, packet));
            batch_inn.open_batch(NOW, arrived, |packet, opened| {
                done.push((opened, opened.is_ok().then(|| packet.as_slice().to_vec())));
            });
            assert_eq!(done, expected, "seed {seed}");
        }
        assert_eq!(out.counters(), batch_out.counters(), "seed {seed}");
        assert_eq!(inn.counters(), batch_inn.counters(), "seed {seed}");
        assert!(out.sas().eq(batch_out.sas()) && inn.sas().eq(batch_inn.sas()), "seed {seed}");
        let told = |engine: &mut crate::ends::Out| std::iter::from_fn(|| engine.poll_event()).collect::<Vec<_>>();
        assert_eq!(told(&mut out), told(&mut batch_out), "seed {seed}");
    }
}

#[test]
fn atk_45_noise_is_discarded_without_a_trace() {
    let sa = Sa::default();
    let (mut out, mut inn) = tunnel(&sa);
    let good = seal(&mut out, &a_to_b(60)).unwrap();
    let mut rng = Rng(45);
    for round in 0..30_000u32 {
        let mut noise = if rng.below(2) == 0 {
            let len = rng.below(100) as usize;
            rng.bytes(len)
        } else {
            good.clone()
        };
        for _ in 0..=rng.below(4) {
            if let Some(last) = noise.len().checked_sub(1) {
                let (at, bit) = (rng.below(last as u64 + 1) as usize, rng.below(8));
                noise[at] ^= 1 << bit;
            }
        }
        if noise != good {
            assert!(open(&mut inn, &noise).is_err(), "round {round}");
        }
        // Parsers on the way of a packet take anything.
        _ = Flow::of(&noise);
        _ = natt::classify(&noise);
        _ = out.classify(NOW, &noise);
        let len = noise.len();
        if let Some(first) = noise.first_mut() {
            *first = if round % 2 == 0 { 0x45 } else { 0x60 };
        }
        _ = Flow::of(&noise);
        _ = pop_outer(&mut PacketBuf::new(&mut noise, 0, len).unwrap());
    }
    let status = inn.sas().next().unwrap();
    assert_eq!((status.packets, status.sequence), (0, 0));
    assert_eq!(inn.poll_event(), None);
    assert!(open(&mut inn, &good).is_ok());
}

#[test]
fn rules_decide_as_a_sorted_list_does() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut out = outbound(1);
        let mut model: Vec<Rule> = Vec::new();
        for step in 0..60 {
            let id = RuleId(rng.below(12) as u32);
            if rng.below(3) == 0 {
                assert_eq!(out.remove_rule(id), model.iter().any(|rule| rule.id == id), "seed {seed}");
                model.retain(|rule| rule.id != id);
            } else {
                let rule =
                    Rule { id, priority: rng.below(4) as u32, selector: selector(&mut rng), action: action(&mut rng) };
                let known = model.iter().any(|rule| rule.id == id);
                assert_eq!(out.insert_rule(rule).is_ok(), !known, "seed {seed}");
                if !known {
                    model.push(rule);
                    model.sort_by_key(|rule| rule.priority); // stable: first come, first served
                }
            }
            let (source, destination) = (host(&mut rng), host(&mut rng));
            let protocol = [6, 17][rng.below(2) as usize];
            let (source_port, destination_port) = (rng.below(8) as u16, rng.below(8) as u16);
            let packet =
                ip(&source.to_string(), &destination.to_string(), protocol, &ports(source_port, destination_port, 0));
            let matches = |rule: &&Rule| {
                let end = |ts: &TrafficSelector, addr: IpAddr, port: u16| {
                    ts.addrs.start() <= addr
                        && addr <= ts.addrs.end()
                        && (ts.protocol == 0 || ts.protocol == protocol)
                        && ts.ports.start <= port
                        && port <= ts.ports.end
                };
                end(&rule.selector.local, source, source_port)
                    && end(&rule.selector.remote, destination, destination_port)
            };
            let expected = match model.iter().find(matches).map(|rule| rule.action) {
                None => Err(Discard::OutNoPolicy),
                Some(Action::Discard) => Err(Discard::OutBlocked),
                Some(Action::Bypass) => Ok(Verdict::Clear),
                Some(Action::Protect { policy, .. }) => Ok(Verdict::Acquire(policy)),
            };
            assert_eq!(out.classify(NOW, &packet), expected, "seed {seed}, step {step}");
            // F-09: no part of a packet passes in clear that does not pass as a whole.
            if expected != Ok(Verdict::Clear) {
                for part in [later_fragment(&packet), ip(&source.to_string(), &destination.to_string(), protocol, &[])]
                {
                    assert_ne!(out.classify(NOW, &part), Ok(Verdict::Clear), "seed {seed}, step {step}");
                }
            }
            assert!(out.rules().map(|(rule, _)| rule).eq(&model), "seed {seed}, step {step}");
        }
    }
}

fn host(rng: &mut Rng) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, rng.below(8) as u8).into()
}

fn selector(rng: &mut Rng) -> Selector {
    let range = |rng: &mut Rng| {
        let (one, other) = (host(rng), host(rng));
        AddrRange::new(one.min(other), one.max(other)).unwrap()
    };
    let ports = |rng: &mut Rng| match rng.below(3) {
        0 => PortRange::ANY,
        _ => {
            let (one, other) = (rng.below(8) as u16, rng.below(8) as u16);
            PortRange { start: one.min(other), end: one.max(other) }
        }
    };
    let (local, remote) = (range(rng), range(rng));
    let protocol = [0, 6, 17][rng.below(3) as usize];
    Selector::between(local, remote).protocol(protocol).local_ports(ports(rng)).remote_ports(ports(rng))
}

fn action(rng: &mut Rng) -> Action {
    match rng.below(3) {
        0 => Action::Bypass,
        1 => Action::Discard,
        _ => Action::protect(POLICY),
    }
}

#[test]
fn the_sa_table_finds_what_a_map_holds() {
    for seed in 0..100 {
        let mut rng = Rng(seed);
        let slots = 1 + rng.below(20) as usize;
        let mut inn = inbound(slots);
        let mut model = HashMap::new();
        for _ in 0..120 {
            let spi = 256 + rng.below(40) as u32;
            match rng.below(3) {
                0 => {
                    let id = model.remove(&spi);
                    assert_eq!(id.is_some_and(|id| inn.remove(id)), id.is_some(), "seed {seed}");
                }
                1 => match inn.install(NOW, &Sa { spi, ..Sa::default() }.inbound()) {
                    Ok(id) => assert!(model.insert(spi, id).is_none(), "seed {seed}: twice {spi}"),
                    Err(_) => assert!(model.contains_key(&spi) || model.len() >= 8.min(slots), "seed {seed}"),
                },
                _ => {
                    let sa = Sa { spi, ..Sa::default() };
                    let esp = sa.esp(1 + rng.below(1 << 30), &[1, 2, 2, 59]);
                    let expected = if model.contains_key(&spi) { None } else { Some(Discard::InUnknownSpi) };
                    let discard = open(&mut inn, &esp).unwrap_err();
                    assert_eq!(Some(discard).filter(|d| *d == Discard::InUnknownSpi), expected, "seed {seed}: {spi}");
                }
            }
            assert_eq!(inn.sas().count(), model.len(), "seed {seed}");
        }
    }
}

/// Addresses and networks of both families, close to each other and far apart.
fn near_network(rng: &mut Rng) -> AddrRange {
    let (one, other) = (near_host(rng), near_host(rng));
    match rng.below(4) {
        0 => AddrRange::single(one),
        1 => AddrRange::new(one.min(other), one.max(other)).unwrap_or(AddrRange::single(one)),
        _ if one.is_ipv4() => AddrRange::prefix(one, rng.below(33) as u8).unwrap(),
        _ => AddrRange::prefix(one, [0, 20, 32, 40, 48, 60, 64, 100, 128][rng.below(9) as usize]).unwrap(),
    }
}

fn near_host(rng: &mut Rng) -> IpAddr {
    let mut few = || rng.below(3) as u8;
    match few() {
        0 => Ipv6Addr::new(0xfd00, few().into(), few().into(), few().into(), few().into(), 0, 0, few().into()).into(),
        _ => Ipv4Addr::new(10 + few(), few(), few(), few()).into(),
    }
}

#[test]
fn of_the_sas_that_carry_a_packet_the_newest_is_used_whatever_their_networks_and_whatever_is_removed() {
    let mut answers = [0; 3];
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let slots = 1 + rng.below(40) as usize;
        let mut out = outbound(slots);
        // The policy of a packet is said by its port.
        for (id, any) in (0..).zip([AddrRange::ANY_V4, AddrRange::ANY_V6]) {
            for number in 0..3 {
                let port = PortRange::single(number as u16);
                let selector = Selector::between(any, any).protocol(17).remote_ports(port);
                let action = Action::protect(PolicyId(7 * number));
                out.insert_rule(Rule { id: RuleId(3 * id + number), priority: 1, selector, action }).unwrap();
            }
        }
        let mut newest_last: Vec<(PolicyId, Vec<TrafficSelector>, SaId)> = Vec::new();
        for _ in 0..100 {
            if rng.below(3) > 0 {
                let policy = PolicyId(7 * rng.below(3) as u32);
                let site_b: Vec<_> =
                    (0..=rng.below(3)).map(|_| TrafficSelector::addrs(near_network(&mut rng))).collect();
                let site_a = [AddrRange::ANY_V4, AddrRange::ANY_V6].map(TrafficSelector::addrs).to_vec();
                match out.install(NOW, &Sa { policy, site_a, site_b: site_b.clone(), ..Sa::default() }.outbound()) {
                    Ok(id) => newest_last.push((policy, site_b, id)),
                    Err(_) => assert_eq!(newest_last.len(), slots, "seed {seed}"),
                }
            } else if !newest_last.is_empty() {
                let (_, _, id) = newest_last.remove(rng.below(newest_last.len() as u64) as usize);
                assert!(out.remove(id));
            }
            for _ in 0..6 {
                let (to, number) = (near_host(&mut rng), rng.below(3) as u16);
                let policy = PolicyId(7 * u32::from(number));
                let carries = |of: PolicyId, remote: &[TrafficSelector]| {
                    of == policy && remote.iter().any(|ts| ts.addrs.contains(to))
                };
                let newest = newest_last.iter().rev().find(|(of, remote, _)| carries(*of, remote));
                let expected = newest.map_or(Verdict::Acquire(policy), |(_, _, id)| Verdict::Protect(*id));
                let from = if to.is_ipv4() { "10.1.0.5" } else { "fd01::5" };
                let packet = ip(from, &to.to_string(), 17, &ports(1, number, 0));
                assert_eq!(out.classify(NOW, &packet), Ok(expected), "seed {seed}: {to}, {newest_last:?}");
                let overtaken = newest_last.iter().filter(|(of, remote, _)| carries(*of, remote)).count();
                answers[overtaken.min(2)] += 1;
            }
        }
    }
    assert!(answers.iter().all(|count| *count > 5000), "{answers:?}: some answer is hardly ever asked for");
}
