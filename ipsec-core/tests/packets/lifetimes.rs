//! Lifetimes by age, octets and packets, soft and hard, on both engines.

use crate::ends::{In, NOW, Out, Rng, Sa, a_to_b, tunnel};
use ipsec_core::buf::PacketBuf;
use ipsec_core::ecn::Ecn;
use ipsec_core::error::{Discard, Refused};
use ipsec_core::sa::{Event, Lifetime, Limit, Reached, SaId};
use ipsec_core::time::Instant;
use std::time::Duration;

const INNER_LEN: usize = 100;

fn send(out: &mut Out, id: SaId, now: Instant) -> Result<Vec<u8>, Discard> {
    let mut bytes = [0; 300];
    let mut packet = PacketBuf::with_payload(&mut bytes, &a_to_b(INNER_LEN - 20)).unwrap();
    out.seal(now, id, &mut packet)?;
    Ok(packet.as_slice().to_vec())
}

fn receive(inn: &mut In, esp: &[u8], now: Instant) -> Result<(), Discard> {
    let mut bytes = esp.to_vec();
    let mut packet = PacketBuf::new(&mut bytes, 0, esp.len()).unwrap();
    inn.open(now, crate::ends::reversed(crate::ends::path()), Ecn::NotEct, &mut packet).map(|_| ())
}

fn soft(event: Option<Event>) -> Option<Reached> {
    match event {
        Some(Event::SoftLifetime { reached, .. }) => Some(reached),
        _ => None,
    }
}

fn hard(event: Option<Event>) -> Option<Reached> {
    match event {
        Some(Event::HardLifetime { reached, .. }) => Some(reached),
        _ => None,
    }
}

#[test]
fn outbound_limits_raise_one_soft_and_one_hard_event_and_then_stop_the_sa() {
    let age = |seconds| Limit { age: Some(Duration::from_secs(seconds)), ..Limit::default() };
    let bytes = |bytes| Limit { bytes: Some(bytes), ..Limit::default() };
    let packets = |packets| Limit { packets: Some(packets), ..Limit::default() };
    // One packet of 100 octets a second, of which 104 are encrypted; soft with the third, hard at the sixth.
    let cases = [
        (Lifetime { soft: age(2), hard: age(5) }, Reached::Age),
        (Lifetime { soft: bytes(312), hard: bytes(520) }, Reached::Bytes),
        (Lifetime { soft: packets(3), hard: packets(5) }, Reached::Packets),
    ];
    for (lifetime, which) in cases {
        let (mut out, _) = tunnel(&Sa { lifetime, ..Sa::default() });
        let id = out.sas().next().unwrap().id;
        for second in 0..8 {
            let sent = send(&mut out, id, NOW + Duration::from_secs(second));
            assert_eq!(sent.err(), (second >= 5).then_some(Discard::OutExpired), "{which:?}, second {second}");
            let event = out.poll_event();
            match second {
                2 => assert_eq!(soft(event), Some(which)),
                5 => assert_eq!(hard(event), Some(which)),
                _ => assert_eq!(event, None, "{which:?}, second {second}"),
            }
            assert_eq!(out.poll_event(), None);
        }
        let status = out.sa(id).unwrap();
        assert_eq!((status.packets, status.bytes, status.dead), (5, 500, true));
        assert_eq!(status.last_used, Some(NOW + Duration::from_secs(4)));
    }
}

#[test]
fn inbound_limits_count_what_was_authentic() {
    let limit = |packets| Limit { packets: Some(packets), ..Limit::default() };
    let lifetime = Lifetime { soft: limit(2), hard: limit(3) };
    let (mut out, _) = tunnel(&Sa::default());
    let (_, mut inn) = tunnel(&Sa { lifetime, ..Sa::default() });
    let id = out.sas().next().unwrap().id;
    let packets: Vec<_> = (0..5).map(|_| send(&mut out, id, NOW).unwrap()).collect();
    let mut forged = packets[0].clone();
    forged[30] ^= 1;
    for _ in 0..10 {
        assert_eq!(receive(&mut inn, &forged, NOW), Err(Discard::InForged));
    }
    assert_eq!(inn.poll_event(), None);
    receive(&mut inn, &packets[0], NOW).unwrap();
    assert!(matches!(inn.poll_event(), Some(Event::FirstPacket { .. })));
    assert_eq!(inn.poll_event(), None);
    receive(&mut inn, &packets[1], NOW).unwrap();
    assert_eq!(soft(inn.poll_event()), Some(Reached::Packets));
    assert_eq!(inn.poll_event(), None);
    receive(&mut inn, &packets[2], NOW).unwrap();
    assert_eq!(receive(&mut inn, &packets[3], NOW), Err(Discard::InExpired));
    assert_eq!(hard(inn.poll_event()), Some(Reached::Packets));
    assert_eq!(inn.poll_event(), None);
}

#[test]
fn sas_without_traffic_age_by_the_callers_clock() {
    let age = |seconds| Limit { age: Some(Duration::from_secs(seconds)), ..Limit::default() };
    let lifetime = Lifetime { soft: age(60), hard: age(90) };
    let (mut out, mut inn) = tunnel(&Sa { lifetime, ..Sa::default() });
    let (soft_at, hard_at) = (NOW + Duration::from_secs(60), NOW + Duration::from_secs(90));
    assert_eq!((out.poll_timeout(), inn.poll_timeout()), (Some(soft_at), Some(soft_at)));
    out.handle_timeout(soft_at + Duration::ZERO);
    inn.handle_timeout(soft_at);
    assert_eq!(soft(out.poll_event()), Some(Reached::Age));
    assert_eq!(soft(inn.poll_event()), Some(Reached::Age));
    assert_eq!((out.poll_timeout(), inn.poll_timeout()), (Some(hard_at), Some(hard_at)));
    // A clock that went back changes nothing.
    out.handle_timeout(NOW);
    assert_eq!(out.poll_event(), None);
    out.handle_timeout(hard_at);
    inn.handle_timeout(hard_at);
    assert_eq!(hard(out.poll_event()), Some(Reached::Age));
    assert_eq!(hard(inn.poll_event()), Some(Reached::Age));
    assert_eq!((out.poll_timeout(), inn.poll_timeout()), (None, None));
    assert!(out.classify(NOW, &a_to_b(8)).unwrap().sa().is_none());
}

#[test]
fn what_falls_due_together_is_all_told_and_of_a_dead_sa_only_its_end() {
    let age = |seconds| Limit { age: Some(Duration::from_secs(seconds)), ..Limit::default() };
    let sa = Sa { lifetime: Lifetime { soft: age(60), hard: age(90) }, ..Sa::default() };
    let (mut out, mut inn) = tunnel(&sa);
    let other = Sa { spi: 0x7777_7700, ..sa };
    out.install(NOW, &other.outbound()).unwrap();
    inn.install(NOW, &other.inbound()).unwrap();
    out.handle_timeout(NOW + Duration::from_secs(90));
    inn.handle_timeout(NOW + Duration::from_secs(90));
    for told in
        [std::iter::from_fn(|| out.poll_event()).collect::<Vec<_>>(), std::iter::from_fn(|| inn.poll_event()).collect()]
    {
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.into_iter().all(|event| hard(Some(event)) == Some(Reached::Age)));
    }
}

#[test]
fn the_last_quarter_of_the_numbers_that_an_sa_may_use_asks_for_another_one_and_the_last_one_ends_it() {
    let last = u64::from(u32::MAX);
    for (sequence, last_number, soft_at) in [(0, 16, 12), (last / 4 * 3, last / 4 * 3 + 4, 3), (last - 8, u64::MAX, 6)]
    {
        let (mut out, _) = tunnel(&Sa { sequence, last_number, ..Sa::default() });
        let id = out.sas().next().unwrap().id;
        let count = last_number.min(last) - sequence;
        for number in 1..=count {
            send(&mut out, id, NOW).unwrap();
            assert_eq!(soft(out.poll_event()), (number == soft_at).then_some(Reached::Sequence), "{number} of {count}");
        }
        assert_eq!(send(&mut out, id, NOW).unwrap_err(), Discard::OutExhausted);
        assert_eq!(hard(out.poll_event()), Some(Reached::Sequence));
        assert_eq!(out.sa(id).unwrap().sequence, last_number.min(last));
    }
    let none = Sa { sequence: 7, last_number: 6, ..Sa::default() };
    assert_eq!(crate::ends::outbound(1).install(NOW, &none.outbound()).unwrap_err(), Refused::Sequence);
}

#[test]
fn no_number_goes_beyond_the_last_one_whatever_it_is_used_for() {
    let (mut out, _) = tunnel(&Sa { sequence: 5, last_number: 8, ..Sa::default() });
    let id = out.sas().next().unwrap().id;
    let mut dummy = || {
        let mut bytes = [0; 200];
        out.seal_dummy(NOW, id, &mut PacketBuf::with_payload(&mut bytes, &[]).unwrap())
    };
    let numbers = [(); 3].map(|()| dummy().unwrap().ident);
    assert_eq!((numbers, dummy().unwrap_err()), ([6, 7, 8], Discard::OutExhausted));
    assert_eq!(send(&mut out, id, NOW).unwrap_err(), Discard::OutExhausted);
}

#[test]
fn no_limit_means_never() {
    let (mut out, _) = tunnel(&Sa::default());
    assert_eq!(out.poll_timeout(), None);
    out.handle_timeout(Instant::from_millis(u64::MAX - 1));
    assert_eq!(out.poll_event(), None);
}

/// An SA of the model: when it ages softly and hard, and what of that was reached and told.
struct Aging {
    id: SaId,
    soft: (Option<Instant>, bool),
    hard: (Option<Instant>, bool),
    told: [bool; 2],
}

impl Aging {
    /// The event that is due: of a dead SA only its end, after which nothing else falls due.
    fn due(&mut self) -> Option<bool> {
        if self.hard.1 && !self.told[1] {
            self.told = [true, true];
            self.soft.1 = true;
            return Some(true);
        }
        let soft = self.soft.1 && !self.told[0];
        self.told[0] |= soft;
        soft.then_some(false)
    }
}

#[test]
fn what_falls_due_is_told_as_by_a_walk_over_every_sa() {
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let mut out = crate::ends::outbound(1 + rng.below(40) as usize);
        let (mut model, mut now): (Vec<Aging>, _) = (Vec::new(), NOW);
        for step in 0..200 {
            match rng.below(10) {
                0..4 => {
                    let mut age = || {
                        let seconds = rng.below(40);
                        (seconds < 30).then(|| Duration::from_secs(seconds))
                    };
                    let [soft, hard] = [age(), age()];
                    let limit = |age| Limit { age, ..Limit::default() };
                    let lifetime = Lifetime { soft: limit(soft), hard: limit(hard) };
                    if let Ok(id) = out.install(now, &Sa { lifetime, ..Sa::default() }.outbound()) {
                        let at = |age: Option<Duration>| (age.map(|age| now + age), false);
                        model.push(Aging { id, soft: at(soft), hard: at(hard), told: [false; 2] });
                    }
                }
                4..6 if !model.is_empty() => {
                    // With or without something untold.
                    let gone = model.swap_remove(rng.below(model.len() as u64) as usize);
                    assert!(out.remove(gone.id), "seed {seed}, step {step}");
                }
                6..9 => {
                    now = now + Duration::from_millis(rng.below(5000));
                    out.handle_timeout(now);
                    for sa in &mut model {
                        for (at, reached) in [&mut sa.soft, &mut sa.hard] {
                            *reached |= at.is_some_and(|at| at <= now);
                        }
                    }
                }
                _ => {
                    let mut told: Vec<_> = std::iter::from_fn(|| out.poll_event())
                        .map(|event| match event {
                            Event::SoftLifetime { sa, .. } => (sa, false),
                            Event::HardLifetime { sa, .. } => (sa, true),
                            other => panic!("{other:?}"),
                        })
                        .collect();
                    let mut expected: Vec<_> = model.iter_mut().filter_map(|sa| Some((sa.id, sa.due()?))).collect();
                    told.sort_by_key(|(id, _)| format!("{id:?}"));
                    expected.sort_by_key(|(id, _)| format!("{id:?}"));
                    assert_eq!(told, expected, "seed {seed}, step {step}");
                }
            }
            let ahead = model.iter().flat_map(|sa| [sa.soft, sa.hard]);
            let next = ahead.filter_map(|(at, reached)| at.filter(|_| !reached)).min();
            assert_eq!(out.poll_timeout(), next, "seed {seed}, step {step}");
        }
    }
}
