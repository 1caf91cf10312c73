//! Several SAs of one policy: old and new around a rekey, and one for each of several engines.

use std::collections::VecDeque;
use std::thread;

use crate::ends::{
    In, NOW, Out, POLICY, Rng, Ruled, Sa, a_to_b, inbound, index, ip, net, open, outbound, path, ports, reversed, seal,
    site_a, site_b,
};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::error::Discard;
use ipsec_core::sa::SaId;
use ipsec_core::spd::{Action, Hits, Remembered, Rule, RuleId, Selector};

/// One way of a tunnel: packets under way from the sender to the receiver, and the SAs of both.
struct Way {
    out: Out,
    inn: In,
    /// Of the sender and of the receiver, oldest first.
    sending: VecDeque<SaId>,
    receiving: VecDeque<(u32, SaId)>,
    flight: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// How many packets went, and which SAs they went through.
    sent: u32,
    spis: Vec<u32>,
}

impl Way {
    fn new(rng: &mut Rng, back: bool) -> Self {
        let (local, remote) = if back { (site_b(), site_a()) } else { (site_a(), site_b()) };
        let rule = |local, remote| {
            let selector = Selector { local, remote };
            Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) }
        };
        let (mut out, mut inn) = (outbound(3), inbound(3));
        if rng.below(2) == 0 {
            out = out.remembering(vec![Remembered::NOTHING; 4].leak());
        }
        out.insert_rule(rule(local[0], remote[0])).unwrap();
        inn.insert_rule(rule(remote[0], local[0])).unwrap();
        let (sending, receiving, flight) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { out, inn, sending, receiving, flight, sent: 0, spis: Vec::new() }
    }

    fn sa(spi: u32, back: bool) -> Sa {
        let (site_a, site_b) = if back { (site_b(), site_a()) } else { (site_a(), site_b()) };
        Sa { spi, site_a, site_b, keymat: [&[spi as u8; 32][..], &[7; 4]].concat(), ..Sa::default() }
    }

    fn send(&mut self, back: bool) {
        self.sent += 1;
        let (from, to) = if back { ("10.2.0.9", "10.1.0.5") } else { ("10.1.0.5", "10.2.0.9") };
        let inner = ip(from, to, 17, &[&ports(1, 2, 4)[..], &self.sent.to_be_bytes()].concat());
        let sealed = seal(&mut self.out, &inner).unwrap();
        self.spis.push(u32::from_be_bytes(sealed[..4].try_into().unwrap()));
        self.flight.push_back((sealed, inner));
    }

    /// One of the packets that have been under way for longest.
    fn arrive(&mut self, rng: &mut Rng) {
        let place = rng.below(self.flight.len().clamp(1, 8) as u64) as usize;
        if let Some((sealed, inner)) = self.flight.remove(place) {
            assert_eq!(open(&mut self.inn, &sealed), Ok(inner), "packet of {} SAs", self.receiving.len());
        }
    }
}

/// Make before break, as an IKE that rekeys does it: who receives has the new SA first, who sends takes it up any time later and
/// gives up its old one, and who receives gives up that one when nothing is under way through it any more.
#[test]
fn around_rekeys_no_packet_is_lost_on_either_way_and_the_newest_sa_is_used_at_once() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let mut ways = [false, true].map(|back| Way::new(&mut rng, back));
        for (way, back) in ways.iter_mut().zip([false, true]) {
            let sa = Way::sa(0x1000, back);
            way.receiving.push_back((0x1000, way.inn.install(NOW, &sa.inbound()).unwrap()));
            way.sending.push_back(way.out.install(NOW, &sa.outbound()).unwrap());
        }
        let mut rekeyed = [0; 2];
        for _ in 0..2000 {
            let number = rng.below(2) as usize;
            let (way, back) = (&mut ways[number], number == 1);
            let newest = way.receiving.back().unwrap().0;
            match rng.below(30) {
                0 if way.receiving.len() == 1 => {
                    let id = way.inn.install(NOW, &Way::sa(newest + 0x111, back).inbound()).unwrap();
                    way.receiving.push_back((newest + 0x111, id));
                }
                1 if way.receiving.len() == 2 && way.sending.len() == 1 && way.spis.last() != Some(&newest) => {
                    way.sending.push_back(way.out.install(NOW, &Way::sa(newest, back).outbound()).unwrap());
                    way.send(back);
                    assert_eq!(way.spis.last(), Some(&newest), "seed {seed}: the newest one, at once");
                    rekeyed[number] += 1;
                }
                2 if way.sending.len() == 2 => assert!(way.out.remove(way.sending.pop_front().unwrap())),
                3 if way.receiving.len() == 2 && way.sending.len() == 1 && way.spis.last() == Some(&newest) => {
                    let (old, id) = way.receiving[0];
                    let drained = |(sealed, _): &(Vec<u8>, Vec<u8>)| sealed[..4] != old.to_be_bytes();
                    if way.flight.iter().all(drained) {
                        way.receiving.pop_front();
                        assert!(way.inn.remove(id));
                    }
                }
                4..17 if way.flight.len() < 40 => way.send(back),
                _ => way.arrive(&mut rng),
            }
        }
        for (way, rekeyed) in ways.iter_mut().zip(rekeyed) {
            while !way.flight.is_empty() {
                way.arrive(&mut rng);
            }
            let received: u64 = way.inn.counters().iter().map(|(_, discarded)| discarded).sum();
            assert_eq!(
                (received, way.out.counters().iter().map(|(_, count)| count).sum::<u64>()),
                (0, 0),
                "seed {seed}"
            );
            assert!(way.spis.is_sorted(), "seed {seed}: never back to an old one");
            assert!(rekeyed > 2, "seed {seed}: {rekeyed} rekeys");
        }
    }
}

#[test]
fn an_sa_that_ends_gives_way_to_another_one_of_its_policy() {
    let mut out = outbound(3);
    let selector = Selector::between(net("10.1.0.0/16"), net("10.2.0.0/16"));
    out.insert_rule(Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) }).unwrap();
    let ids = [0x1000, 0x1111, 0x1222].map(|spi| out.install(NOW, &Way::sa(spi, false).outbound()).unwrap());
    for (place, id) in ids.iter().enumerate().rev() {
        assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::Protect(*id)), "{place}");
        assert!(out.remove(*id));
    }
    assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::Acquire(POLICY)));
}

/// RFC 9611: each core has SAs of its own of one policy, so none waits for another one's sequence numbers or window. They share
/// the rules, which nobody changes.
#[test]
fn engines_on_several_cores_own_their_sas_of_one_policy_and_share_nothing_else() {
    const CORES: u32 = 4;
    const PACKETS: u64 = 300;
    let selector = Selector { local: site_a()[0], remote: site_b()[0] };
    let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) };
    let shared = index(&[rule]).unwrap();
    thread::scope(|scope| {
        for core in 0..CORES {
            let shared = &shared;
            scope.spawn(move || {
                let (mut hits, mut sas) = ([Hits::NONE], [const { OutboundSlot::<RustCrypto>::EMPTY }; 2]);
                let mut out = Outbound::new(RustCrypto, &mut hits, &mut sas);
                let (mut none, mut windows) = ([const { InboundSlot::<RustCrypto>::EMPTY }; 2], [0; 2]);
                let mut inn = Inbound::new(RustCrypto, &mut [], &mut none, &mut windows);
                out.set_rules(shared).unwrap();
                inn.set_rules(shared).unwrap();
                let inner = a_to_b(8);
                assert_eq!(out.classify(NOW, &inner), Ok(Verdict::Acquire(POLICY)), "others' SAs are none of ours");
                let sa = Way::sa(0x1000 + core, false);
                let id = out.install(NOW, &sa.outbound()).unwrap();
                inn.install(NOW, &sa.inbound()).unwrap();
                for sequence in 1..=PACKETS {
                    assert_eq!(out.classify(NOW, &inner), Ok(Verdict::Protect(id)));
                    let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
                    let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
                    out.seal(NOW, id, &mut packet).unwrap();
                    // A packet that another core's peer is to get, here.
                    let mut stray = packet.as_slice().to_vec();
                    stray[..4].copy_from_slice(&(0x1000 + (core + 1) % CORES).to_be_bytes());
                    let len = stray.len();
                    let mut stray = PacketBuf::new(&mut stray, 0, len).unwrap();
                    let from = reversed(path());
                    assert_eq!(inn.open(NOW, from, Ecn::NotEct, &mut stray).unwrap_err(), Discard::InUnknownSpi);
                    assert!(inn.open(NOW, from, Ecn::NotEct, &mut packet).is_ok(), "core {core}, {sequence}");
                    assert_eq!(out.sa(id).unwrap().sequence, sequence, "core {core}: nobody else takes a number");
                }
                let (_, hits) = out.rules().next().unwrap();
                assert_eq!(hits.outbound, PACKETS + 1, "core {core}");
            });
        }
    });
}
