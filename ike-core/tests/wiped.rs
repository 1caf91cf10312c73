//! No key of IKE outlives its use anywhere in the memory of a process: tables, heap, and the stacks' dead frames (Linux
//! only).
//!
//! One test, alone in its process: whatever ran beside it would move and copy memory while it is searched. Everything
//! that is secret passes the seam of the crypto engine, and there it is noted, masked. From there the stack is looked at, too,
//! while the endpoint is at work.
#![cfg(all(feature = "rustcrypto", target_os = "linux"))]

#[path = "../../ipsec-core/tests/memory/mod.rs"]
mod memory;

use std::cell::RefCell;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use ike_core::child::ChildSlot;
use ike_core::crypto::rustcrypto::{KeSecret, RustCrypto};
use ike_core::crypto::{Digest64, Group, IkeCrypto, IkeSuite, PrfAlg, SharedSecret};
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, ROOM_PER_BLOCK, ROOM_PER_SA, Settings, Storage};
use ike_core::error::BadPublic;
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::keys::{IkeKeys, IkeSeed, Role};
use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::net::{AddrRange, Path, TrafficSelector};
use ipsec_core::time::Instant;
use zeroize::Zeroize;

use memory::masked;

const PSK: &[u8] = b"correct horse battery staple";

/// What a secret is, which says where it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The private value of a key exchange: in the slot of the SA until the answer comes.
    Private,
    /// g^ir: nowhere once the keys are made.
    Shared,
    /// The key of a PRF: SK_p and the key of AUTH nowhere, SK_d in the slot of its SA.
    Prf,
    /// The key of prf+ for an IKE SA: nowhere once the keys are made.
    Skeyseed,
    /// SK_e: in the slot of its SA.
    Aead,
    /// The keys of a Child SA: in its slot until the caller has them.
    Child,
}

const ALL: [Kind; 6] = [Kind::Private, Kind::Shared, Kind::Prf, Kind::Skeyseed, Kind::Aead, Kind::Child];

type Noted = memory::Noted<Kind>;

thread_local! {
    static NOTED: RefCell<Noted> = const { RefCell::new(Noted::new()) };
    static DRAWING: RefCell<bool> = const { RefCell::new(false) };
}

/// Octets of the stack below and above the one who asks.
const AROUND: u64 = 64 * 1024;

/// Where secrets stand on the stack of this thread, in frames that are in use and below them. To be asked often.
fn on_stack(noted: &Noted) -> Vec<(Kind, u64)> {
    let here = 0;
    let here = std::ptr::from_ref(black_box(&here)) as u64 & !4095;
    let mut found = Vec::new();
    memory::Search::new(noted).through(here - AROUND..here + AROUND, |kind, at| found.push((kind, at)));
    found
}

/// Looks at the stack while the endpoint is at work, at moments when it has nothing of these kinds in hand: whatever is built
/// in these frames next would take what they hold along into its slot, in octets that it does not use.
#[track_caller]
fn look(kinds: &[Kind]) {
    let mut found = NOTED.with_borrow(on_stack);
    found.retain(|(kind, _)| kinds.contains(kind));
    assert!(found.is_empty(), "on the stack: {found:x?}");
}

fn note(kind: Kind, secret: &[u8]) {
    NOTED.with_borrow_mut(|noted| {
        let known = masked(secret);
        noted.entry(known).or_insert(kind);
        match kind {
            // A number may stand in memory with its lowest octet first.
            Kind::Private => {
                noted.entry(masked(secret.iter().rev())).or_insert(kind);
            }
            // HMAC makes two blocks of its key.
            Kind::Prf | Kind::Skeyseed => {
                for pad in [0x36, 0x5c] {
                    noted.entry(known.map(|octet| octet ^ pad)).or_insert(kind);
                }
            }
            _ => {}
        }
    });
}

struct Random;

impl rand_core::TryRng for Random {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|number| number as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut octets = [0; 8];
        self.try_fill_bytes(&mut octets)?;
        Ok(u64::from_le_bytes(octets))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        File::open("/dev/urandom").unwrap().read_exact(out).unwrap();
        if DRAWING.with_borrow(|drawing| *drawing) {
            note(Kind::Private, out);
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Random {}

/// The default engine, which notes what is secret.
struct Engine(RustCrypto<Random>);

impl PacketCrypto for Engine {
    type AeadKey = <RustCrypto<Random> as PacketCrypto>::AeadKey;
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        note(Kind::Aead, key);
        self.0.aead_key(alg, key)
    }

    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        look(&ALL);
        self.0.seal(key, nonce, aad, text_and_tag);
    }

    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged> {
        look(&ALL);
        self.0.open(key, nonce, aad, text_and_tag)
    }
}

impl IkeCrypto for Engine {
    type KeSecret = KeSecret;

    fn random(&mut self, out: &mut [u8]) {
        look(&ALL);
        self.0.random(out);
    }

    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<KeSecret> {
        DRAWING.set(true);
        let made = self.0.ke_offer(group, public);
        DRAWING.set(false);
        made
    }

    fn ke_finish(&mut self, secret: &KeSecret, peer: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        self.0.ke_finish(secret, peer, shared)?;
        note(Kind::Shared, shared.as_slice());
        Ok(())
    }

    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        // prf+ may be at work on keys that the other end has made already.
        if !matches!(parts, [.., [_]]) {
            look(&[Kind::Aead, Kind::Child, Kind::Skeyseed]);
        }
        // Nonces and configured keys are keys too, and no secrets of a session.
        if let [_, _, _, spis, [_]] = parts
            && spis.len() == 16
        {
            note(Kind::Skeyseed, key);
        } else if key.len() == alg.output_len() {
            note(Kind::Prf, key);
        }
        self.0.prf(alg, key, parts, out);
        match parts {
            // The third and fourth block of prf+ for an IKE SA: SK_pi and SK_pr begin behind the rest of what is before.
            [_, _, _, _, [3 | 4]] => note(Kind::Prf, &out.as_slice()[24..]),
            // The first one for a Child SA begins with a key.
            [_, _, _, nonce, [1]] if nonce.len() == 32 => note(Kind::Child, out.as_slice()),
            _ => {}
        }
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        look(&ALL);
        self.0.sha1(parts)
    }
}

struct Single(Connection<'static>, ChildConfig<'static>);

impl Pad for Single {
    fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
        Some(self.0)
    }

    fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        (index == 0).then_some(self.1)
    }

    fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        after.is_none().then_some(PeerId(0))
    }
}

struct Side {
    host: Endpoint<'static, Engine, Single>,
    /// Where its tables are.
    tables: [Range<u64>; 2],
    ike: Option<IkeId>,
    children: Vec<ChildId>,
}

fn place<T>(table: &[T]) -> Range<u64> {
    let range = table.as_ptr_range();
    range.start as u64..range.end as u64
}

impl Side {
    fn new(mine: u8, group: &str) -> Self {
        let theirs = 3 - mine;
        let socket = |last: u8| format!("192.0.2.{last}:500").parse().unwrap();
        let net = |second: u8| -> &'static [TrafficSelector] {
            let addrs = AddrRange::prefix(format!("10.{second}.0.0").parse().unwrap(), 16).unwrap();
            vec![TrafficSelector::addrs(addrs)].leak()
        };
        let id = |last: u8| Id { kind: IdKind::FQDN, data: if last == 1 { b"one.example" } else { b"two.example" } };
        let ike = IkeProposal::parse(&format!("aes256gcm16-prfsha384-{group}")).unwrap();
        let esp = EspProposal::parse(&format!("aes256gcm16-{group}")).unwrap();
        let child = ChildConfig {
            id: ChildConfigId(0),
            modes: Modes::Tunnel,
            esp: vec![esp].leak(),
            local: net(mine),
            remote: net(theirs),
            rekey: Duration::ZERO,
            lifetime: Duration::ZERO,
            compress: false,
        };
        let connection = Connection {
            path: Some(Path { local: socket(mine), remote: socket(theirs) }),
            local_id: id(mine),
            remote_id: Some(id(theirs)),
            auth: Authentication::Psk(PSK),
            ike: vec![ike].leak(),
            force_encap: false,
            dpd: Duration::ZERO,
            rekey: Duration::ZERO,
        };
        let sas: &mut [IkeSlot<Engine>] = (0..4).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak();
        let children: &mut [ChildSlot] = (0..4).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>().leak();
        let tables = [place(sas), place(children)];
        let index = (0..IndexBlock::needed(4, 4)).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak();
        let (pairs, pool) = (vec![0; 4 * ROOM_PER_SA].leak(), vec![0; 2 * ROOM_PER_BLOCK].leak());
        let storage = Storage { sas, children, index, pairs, pool, blocks: 2 };
        let engine = Engine(RustCrypto::new(Random, Packets));
        let host = Endpoint::new(engine, Single(connection, child), storage, Settings::default()).unwrap();
        Self { host, tables, ike: None, children: Vec::new() }
    }

    fn listen(&mut self) {
        while let Some(event) = self.host.poll_event() {
            match event {
                Event::Established { ike, .. } | Event::IkeRekeyed { new: ike, .. } => self.ike = Some(ike),
                Event::ChildUp(up) => {
                    note(Kind::Child, up.key_in);
                    note(Kind::Child, up.key_out);
                    self.children.push(up.child);
                }
                Event::ChildDown { child, .. } => self.children.retain(|have| *have != child),
                Event::Closed { .. } => self.ike = None,
                _ => {}
            }
        }
    }
}

fn settle(now: Instant, sides: &mut [Side; 2]) {
    while pass(now, sides) {
        sides.iter_mut().for_each(Side::listen);
    }
    sides.iter_mut().for_each(Side::listen);
}

/// What one sends, the other gets; the callers are told nothing.
fn pass(now: Instant, sides: &mut [Side; 2]) -> bool {
    let mut moved = false;
    for turn in 0..2 {
        let [one, two] = &mut *sides;
        let (from, to) = if turn == 0 { (one, two) } else { (two, one) };
        while let Some(transmit) = from.host.poll_transmit() {
            moved = true;
            let path = Path { local: transmit.path.remote, remote: transmit.path.local };
            to.host.handle_datagram(now, path, &mut transmit.datagram.to_vec()).unwrap();
        }
    }
    moved
}

/// Where secrets stand in writable memory.
fn places() -> Vec<(Kind, u64, String)> {
    memory::places(&NOTED.with_borrow(Noted::clone))
}

/// What is found lies in the slots of the SAs, no more than once for each end, and nothing of a kind that is used up.
#[track_caller]
fn check(sides: &[Side; 2], most: &[(Kind, usize)], when: &str) {
    let found = places();
    let at_home = |at: u64| sides.iter().flat_map(|side| &side.tables).any(|table| table.contains(&at));
    let strays: Vec<_> = found.iter().filter(|(_, at, _)| !at_home(*at)).collect();
    assert!(strays.is_empty(), "{when}, outside of the tables: {strays:#x?}");
    for kind in [Kind::Private, Kind::Shared, Kind::Skeyseed, Kind::Prf, Kind::Aead, Kind::Child] {
        let most = most.iter().find(|(of, _)| *of == kind).map_or(0, |(_, most)| *most);
        let count = found.iter().filter(|(found, ..)| *found == kind).count();
        assert!(count <= most, "{when}: {count} times {kind:?} instead of {most}: {found:#x?}");
    }
}

fn life(group: &str) {
    let mut sides = [Side::new(1, group), Side::new(2, group)];
    let mut now = Instant::from_millis(1);
    // What one SA needs at each end: SK_d, and SK_e of both directions.
    let lives = [(Kind::Prf, 2), (Kind::Aead, 4)];
    sides[0].host.initiate(now, PeerId(0), None).unwrap();
    check(&sides, &[(Kind::Private, 1)], "while the answer is waited for");
    settle(now, &mut sides);
    assert!(sides.iter().all(|side| side.ike.is_some() && side.children.len() == 1));
    check(&sides, &lives, "after the handshake");

    for round in 0..2 {
        let (child, ike) = (sides[round].children[0], sides[round].ike.unwrap());
        now = now + Duration::from_secs(100);
        sides.iter_mut().for_each(|side| side.host.handle_timeout(now));
        sides[round].host.rekey_child(now, child).unwrap();
        check(&sides, &[&lives[..], &[(Kind::Private, 1)]].concat(), "while a child is rekeyed");
        settle(now, &mut sides);
        check(&sides, &lives, "after a child was rekeyed");
        sides[round].host.rekey_ike(now, ike).unwrap();
        settle(now, &mut sides);
        assert_ne!(sides[round].ike, Some(ike));
        now = now + Duration::from_secs(100);
        sides.iter_mut().for_each(|side| side.host.handle_timeout(now));
        settle(now, &mut sides);
        check(&sides, &lives, "after an IKE SA was rekeyed");
    }
    assert!(sides.iter().all(|side| side.children.len() == 1), "the old ones are gone");

    // Its end comes before the caller has heard of it.
    let (ike, most) = (sides[0].ike.unwrap(), [&lives[..], &[(Kind::Child, 4)]].concat());
    let early = sides[0].host.create_child(now, ike, ChildConfigId(0)).unwrap();
    while pass(now, &mut sides) {}
    check(&sides, &most, "while nobody asks for the keys of a child");
    sides[0].host.close_child(now, early).unwrap();
    while pass(now, &mut sides) {}
    check(&sides, &lives, "after a child that nobody heard of");
    sides.iter_mut().for_each(Side::listen);

    let child = sides[0].children[0];
    sides[0].host.close_child(now, child).unwrap();
    settle(now, &mut sides);
    check(&sides, &lives, "after a child was removed");
    let ike = sides[1].ike.unwrap();
    sides[1].host.close(now, ike).unwrap();
    settle(now, &mut sides);
    check(&sides, &[], "after the end");

    // An SA that nobody answers.
    sides[0].host.initiate(now, PeerId(0), None).unwrap();
    while sides[0].host.poll_transmit().is_some() {}
    let gone = sides[0].host.ike_sas().next().unwrap().id;
    sides[0].host.close(now, gone).unwrap();
    sides.iter_mut().for_each(Side::listen);
    check(&sides, &[], "after an attempt that was given up");
}

/// Whoever derives keys without an endpoint has nothing to wipe but what it got.
fn derived() {
    let mut engine = Engine(RustCrypto::new(Random, Packets));
    let mut shared = SharedSecret::new();
    engine.random(shared.resize(32).unwrap());
    let suite = IkeSuite::new(AeadAlg::Aes256Gcm16.into(), PrfAlg::HmacSha384, Group::Curve25519);
    let seed = IkeSeed { ni: &[1; 32], nr: &[2; 32], spi_i: 1, spi_r: 2 };
    let keys = IkeKeys::derive(&mut engine, suite, &shared, &seed, Role::Initiator).ok().unwrap();
    let skeyseed = NOTED.with_borrow(|noted| noted.values().filter(|kind| **kind == Kind::Skeyseed).count());
    assert_ne!(skeyseed, 0);
    assert!(places().iter().all(|(kind, ..)| *kind != Kind::Skeyseed), "after keys were derived");
    drop(keys);
    // Where this test moved them is its own affair.
    NOTED.with_borrow_mut(Noted::clear);
}

#[test]
fn f_51_a_key_of_ike_is_in_its_slot_and_nowhere_after_it() {
    let mut planted = vec![0; 40];
    File::open("/dev/urandom").unwrap().read_exact(&mut planted).unwrap();
    note(Kind::Shared, &planted);
    // The search reads behind the compiler's back: what nothing else reads might not be written at all.
    black_box(&mut planted);
    assert_eq!(places().len(), 1, "the search finds what is there");
    planted.as_mut_slice().zeroize();
    assert_eq!(places().len(), 0, "and nothing else");
    derived();
    life("x25519");
    life("ecp256");
}
