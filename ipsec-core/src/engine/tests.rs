//! Whatever is done with the engines, each SA is filed as it says.

use core::net::IpAddr;
use core::time::Duration;
use std::vec::Vec;

use super::{Inbound, InboundSlot, Outbound, OutboundSlot};
use crate::buf::PacketBuf;
use crate::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use crate::ecn::Ecn;
use crate::error::Refused;
use crate::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use crate::sa::{DontFragment, InboundParams, Lifetime, Limit, Mode, OutboundParams, Params, PolicyId, SaId};
use crate::time::Instant;

/// Neither encrypts nor refuses.
struct Clear;

impl PacketCrypto for Clear {
    type AeadKey = ();
    type Place<T> = InPlace<T>;
    crate::aead_only!();

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

    fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Ok(())
    }
}

/// A row of numbers that looks like chance (SplitMix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let place = self.below(of.len().max(1) as u64);
        of.get(place as usize).copied()
    }

    fn limit(&mut self) -> Limit {
        let mut maybe = |limit| Some(self.below(limit)).filter(|number| *number > limit / 2);
        Limit { age: maybe(40).map(Duration::from_secs), bytes: maybe(600), packets: maybe(12) }
    }

    fn path(&mut self) -> Path {
        let host = |last: u64| core::net::SocketAddr::from(([192, 0, 2, last as u8], 0));
        Path { local: host(1), remote: host(2 + self.below(2)) }
    }

    fn network(&mut self) -> AddrRange {
        let addr = IpAddr::from([10, self.below(2) as u8, self.below(2) as u8, self.below(3) as u8]);
        let addr =
            if self.below(4) == 0 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, self.below(3) as u16]) } else { addr };
        let width = self.below(if addr.is_ipv4() { 33 } else { 129 });
        AddrRange::prefix(addr, width as u8).unwrap_or(AddrRange::ANY_V4)
    }
}

/// Both ways of some SAs.
struct World<'a> {
    rng: Rng,
    now: Instant,
    out: Outbound<'a, Clear>,
    inn: Inbound<'a, Clear>,
    sending: Vec<SaId>,
    receiving: Vec<SaId>,
    reserved: Vec<Spi>,
    /// What was sealed and may be opened, once or more.
    sealed: Vec<Vec<u8>>,
    told: usize,
}

impl World<'_> {
    fn step(&mut self) {
        match self.rng.below(12) {
            0 => self.now = self.now.after(Duration::from_secs(self.rng.below(20))),
            1 => self.install(),
            2 => self.remove(),
            3 => {
                self.out.handle_timeout(self.now);
                self.inn.handle_timeout(self.now);
            }
            4 => {
                self.told += usize::from(self.out.poll_event().is_some());
                self.told += usize::from(self.inn.poll_event().is_some());
            }
            5 => {
                let (one, path) = (self.rng.one(&self.receiving), self.rng.path());
                assert!(one.is_none_or(|id| self.inn.set_path(id, path, Encap::None)));
                let (one, path) = (self.rng.one(&self.sending), self.rng.path());
                assert!(one.is_none_or(|id| self.out.set_path(id, path, Encap::None)));
            }
            6 => self.reserved.extend(self.inn.reserve_spi(self.rng.below(1 << 32) as u32)),
            7 => {
                if let Some(spi) = self.rng.one(&self.reserved) {
                    self.reserved.retain(|other| *other != spi);
                    self.inn.release_spi(spi);
                }
            }
            8 | 9 => self.seal(),
            _ => self.open(),
        }
    }

    /// An SA for each way, or for one, with the same SPI.
    fn install(&mut self) {
        let local = [AddrRange::ANY_V4, AddrRange::ANY_V6].map(TrafficSelector::addrs);
        let remote: Vec<_> = (0..=self.rng.below(2)).map(|_| TrafficSelector::addrs(self.rng.network())).collect();
        let given = self.rng.one(&self.reserved).filter(|_| self.rng.below(4) > 0);
        let spi = given.or_else(|| Spi::new(256 + self.rng.below(40) as u32)).unwrap();
        let (esn, path, policy) = (self.rng.below(2) == 0, self.rng.path(), PolicyId(self.rng.below(3) as u32));
        let lifetime = Lifetime { soft: self.rng.limit(), hard: self.rng.limit() };
        let sa = || Params {
            spi,
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: &[7; 20],
            esn,
            path,
            encap: Encap::None,
            policy,
            local_ts: &local,
            remote_ts: &remote,
            lifetime,
            compression: None,
        };
        let near_the_end = if self.rng.below(4) == 0 { u64::from(u32::MAX) - 8 - self.rng.below(3) } else { 0 };
        let inbound = InboundParams { sa: sa(), window: 64, highest_seen: near_the_end };
        if let Ok(id) = self.inn.install(self.now, &inbound) {
            self.reserved.retain(|other| *other != spi);
            self.receiving.push(id);
        }
        let outbound = OutboundParams {
            sa: sa(),
            last_sent: near_the_end,
            last_number: u64::MAX,
            copy_dscp: false,
            dont_fragment: DontFragment::Copy,
        };
        self.sending.extend(self.out.install(self.now, &outbound));
    }

    fn remove(&mut self) {
        if let Some(id) = self.rng.one(&self.sending) {
            self.sending.retain(|other| *other != id);
            assert!(self.out.remove(id));
            assert!(!self.out.remove(id));
        }
        if let Some(id) = self.rng.one(&self.receiving) {
            self.receiving.retain(|other| *other != id);
            assert!(self.inn.remove(id));
        }
    }

    fn seal(&mut self) {
        let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let mut bytes = [0; 120];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        let Some(id) = self.rng.one(&self.sending) else { return };
        if self.out.seal(self.now, id, &mut packet).is_ok() {
            self.sealed.push(packet.as_slice().to_vec());
        }
    }

    fn open(&mut self) {
        let place = self.rng.below(self.sealed.len().max(1) as u64) as usize;
        let Some(mut esp) = self.sealed.get(place).cloned() else { return };
        if self.rng.below(3) > 0 {
            self.sealed.remove(place);
        }
        let (from, len) = (self.rng.path(), esp.len());
        let mut packet = PacketBuf::new(&mut esp, 0, len).unwrap();
        _ = self.inn.open(self.now, from, Ecn::NotEct, &mut packet);
    }
}

fn params<'p>(spi: u32, (local_ts, remote_ts): (&'p [TrafficSelector], &'p [TrafficSelector])) -> Params<'p> {
    Params {
        spi: Spi::new(spi).unwrap(),
        mode: Mode::Tunnel,
        protection: AeadAlg::Aes128Gcm16.into(),
        keymat: &[7; 20],
        esn: false,
        path: Rng(0).path(),
        encap: Encap::None,
        policy: PolicyId(1),
        local_ts,
        remote_ts,
        lifetime: Lifetime::default(),
        compression: None,
    }
}

#[test]
fn an_sa_is_looked_for_where_the_peers_side_lies() {
    let net = |second| TrafficSelector::addrs(AddrRange::prefix([10, second, 0, 0].into(), 16).unwrap());
    let (ours, theirs) = ([net(1)], [net(2)]);
    let mut slots: Vec<OutboundSlot<Clear>> = (0..256).map(|_| OutboundSlot::<Clear>::EMPTY).collect();
    let mut out: Outbound<'_, Clear> = Outbound::new(Clear, &mut [], &mut slots);
    let sa = params(0x1000, (&ours, &theirs));
    let sa =
        OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: false, dont_fragment: DontFragment::Copy };
    let id = out.install(Instant::ZERO, &sa).unwrap();
    assert_eq!(out.sad.newest(PolicyId(1), [10, 2, 0, 9].into(), |_| true), Some(id));
}

#[test]
fn a_free_slot_whose_spi_is_another_ones_keeps_nobody_from_the_next() {
    let mut slots = [const { InboundSlot::<Clear>::EMPTY }; 4];
    let mut windows = [0; 4];
    let mut inn: Inbound<'_, Clear> = Inbound::new(Clear, &mut [], &mut slots, &mut windows);
    let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
    // The second one has the first one's place in its SPI, and another.
    let ids = [0x1000, 0x2000, 0x1002, 0x1003].map(|spi| {
        let sa = params(spi, (&all, &all));
        inn.install(Instant::ZERO, &InboundParams { sa, window: 64, highest_seen: 0 }).unwrap()
    });
    assert!(inn.remove(ids[0]) && inn.remove(ids[2]));
    assert_eq!(inn.reserve_spi(0x2000).map(|spi| spi.get()), Ok(0x2002));
}

#[test]
fn spis_that_we_did_not_choose_fill_a_table_of_any_size_and_are_found_with_few_looks() {
    const COUNT: u32 = 1000;
    let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
    // At random, one after the other, the same in the bits of a slot, and as a table of children of another size makes them.
    let sets: [fn(u32, u32) -> u32; 4] = [
        |_, random| random | 0x100,
        |number, _| 0x100 + number,
        |number, _| 0x1000 + (number << 12),
        |number, random| (random & !0x7f) | 0x1000 | (number & 0x7f),
    ];
    for (set, of) in (0..).zip(sets) {
        let mut slots: Vec<InboundSlot<Clear>> = (0..COUNT).map(|_| InboundSlot::<Clear>::EMPTY).collect();
        let mut windows: Vec<u64> = (0..COUNT).map(|_| 0).collect();
        let mut inn: Inbound<'_, Clear> = Inbound::new(Clear, &mut [], &mut slots, &mut windows);
        let mut rng = Rng(set);
        let install = |inn: &mut Inbound<'_, Clear>, spi| {
            let sa = params(spi, (&all, &all));
            inn.install(Instant::ZERO, &InboundParams { sa, window: 64, highest_seen: 0 })
        };
        let mut installed = Vec::new();
        while installed.len() < COUNT as usize {
            let spi = of(installed.len() as u32, rng.below(1 << 32) as u32);
            match install(&mut inn, spi) {
                Ok(id) => installed.push((Spi::new(spi).unwrap(), id)),
                Err(refused) => assert_eq!(refused, Refused::Duplicate, "set {set}, {} of them", installed.len()),
            }
        }
        assert_eq!((inn.sad.check(), install(&mut inn, 0xffff_ffff)), (Ok(()), Err(Refused::Full)), "set {set}");
        assert!(installed.iter().all(|(spi, _)| inn.has(*spi)) && !inn.has(Spi::new(0xffff_ffff).unwrap()));
        let looks: u32 = installed.iter().map(|(spi, _)| inn.sad.looks(*spi)).sum();
        assert!(looks <= 3 * COUNT, "set {set}: {looks} looks");
        assert!(installed.iter().all(|(spi, id)| inn.remove(*id) && !inn.has(*spi)), "set {set}");
        assert_eq!(inn.sad.check(), Ok(()), "set {set}");
    }
}

#[test]
fn whatever_is_done_each_sa_is_filed_as_it_says() {
    let mut told = 0;
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let count = 1 + rng.below(12) as usize;
        let mut receiving: Vec<InboundSlot<Clear>> = (0..count).map(|_| InboundSlot::<Clear>::EMPTY).collect();
        let mut sending: Vec<OutboundSlot<Clear>> = (0..count).map(|_| OutboundSlot::<Clear>::EMPTY).collect();
        let mut windows: Vec<u64> = (0..count).map(|_| 0).collect();
        let mut world = World {
            rng,
            now: Instant::ZERO,
            out: Outbound::new(Clear, &mut [], &mut sending),
            inn: Inbound::new(Clear, &mut [], &mut receiving, &mut windows),
            sending: Vec::new(),
            receiving: Vec::new(),
            reserved: Vec::new(),
            sealed: Vec::new(),
            told: 0,
        };
        for step in 0..400 {
            world.step();
            assert_eq!(world.out.sad.check(), Ok(()), "seed {seed}, step {step}");
            assert_eq!(world.inn.sad.check(), Ok(()), "seed {seed}, step {step}");
        }
        told += world.told;
        let (sends, receives) = (world.sending.len(), world.receiving.len());
        // Other engines take the slots over with what is in them.
        let out: Outbound<'_, Clear> = Outbound::new(Clear, &mut [], &mut sending);
        assert_eq!((out.sad.check(), out.sas().count()), (Ok(()), sends), "seed {seed}");
        let inn: Inbound<'_, Clear> = Inbound::new(Clear, &mut [], &mut receiving, &mut windows);
        assert_eq!((inn.sad.check(), inn.sas().count()), (Ok(()), receives), "seed {seed}");
    }
    assert!(told > 1000, "{told} events");
}
