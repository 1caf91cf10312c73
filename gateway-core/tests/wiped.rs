//! No key outlives its SA, and no pre-shared key its peer, on the way from IKE to the engines either: tables, heap, and the
//! stacks' dead frames (Linux only).
//!
//! One test, alone in its process: whatever ran beside it would move and copy memory while it is searched.
#![cfg(target_os = "linux")]

#[path = "../../ipsec-core/tests/memory/mod.rs"]
mod memory;

use std::cell::RefCell;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::ops::{Deref, DerefMut, Range};
use std::time::Duration;

use gateway_core::config::Config;
use gateway_core::crypto::Boxed;
use gateway_core::gateway::{Gateway, Parts, PeerState};
use gateway_core::peers::Peers;
use gateway_core::plane::Engines;
use gateway_core::policy::{Inbound, Outbound};
use ike_core::child::ChildSlot;
use ike_core::crypto::rustcrypto::RustCrypto as IkeRustCrypto;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ike_core::failure::Failure;
use ike_core::pad::Pad;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, Forged, PacketCrypto};
use ipsec_core::engine::{InboundSlot, OutboundSlot};
use ipsec_core::net::Path;
use ipsec_core::spd::Hits;
use ipsec_core::time::Instant;
use zeroize::{Zeroize, Zeroizing};

use memory::{MASK, masked};

/// What a secret is, which says where it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A key of an IKE SA: in its box.
    Ike,
    /// A key of a Child SA: in a box of the engine's SAs; one that may not be used for sending yet once beside them.
    Esp,
    /// A pre-shared key: with its peer.
    Psk(usize),
    /// What the code that authenticates makes of one: nowhere.
    Padded,
    /// What follows on the beginning of one of these, where that is: an allocator writes over the beginning of what it gets
    /// back.
    Rest,
}

thread_local! {
    static NOTED: RefCell<memory::Noted<Kind>> = const { RefCell::new(memory::Noted::new()) };
    /// Where keys of Child SAs were when the engines got them.
    static BROUGHT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// Where the boxes of SAs are and were: how many keys are there in all is counted.
    static BOXES: RefCell<Vec<Range<u64>>> = const { RefCell::new(Vec::new()) };
}

fn note(kind: Kind, secret: &[u8]) {
    NOTED.with_borrow_mut(|noted| {
        let known = masked(secret);
        noted.entry(known).or_insert(kind);
        noted.entry(masked(&secret[memory::BEGINNING..])).or_insert(Kind::Rest);
        // HMAC makes two blocks of its key.
        if let Kind::Psk(_) = kind {
            for pad in [0x36, 0x5c] {
                noted.entry(known.map(|octet| octet ^ pad)).or_insert(Kind::Padded);
            }
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
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Random {}

/// The default engine with its SAs on the heap, which notes every key.
struct Noting(Kind);

/// What the default engine puts an SA into, noted.
struct Noted<T>(<Boxed<RustCrypto> as PacketCrypto>::Place<T>);

impl<T> From<T> for Noted<T> {
    fn from(sa: T) -> Self {
        let sa = <Boxed<RustCrypto> as PacketCrypto>::Place::from(sa);
        BOXES.with_borrow_mut(|boxes| boxes.push(place(std::slice::from_ref(&*sa))));
        Self(sa)
    }
}

impl<T> Deref for Noted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Noted<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl PacketCrypto for Noting {
    type AeadKey = <Boxed<RustCrypto> as PacketCrypto>::AeadKey;
    type Place<T> = Noted<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        note(self.0, key);
        if self.0 == Kind::Esp {
            BROUGHT.with_borrow_mut(|brought| brought.push(key.as_ptr() as u64));
        }
        Boxed(RustCrypto).aead_key(alg, key)
    }

    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        Boxed(RustCrypto).seal(key, nonce, aad, text_and_tag);
    }

    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged> {
        Boxed(RustCrypto).open(key, nonce, aad, text_and_tag)
    }
}

type Ike = IkeRustCrypto<Random, Noting>;

struct Site {
    gateway: Gateway,
    endpoint: Endpoint<'static, Ike, Peers>,
    plane: Engines<Outbound<'static, Noting>, Inbound<'static, Noting>>,
    /// Where the tables are.
    tables: Vec<Range<u64>>,
}

macro_rules! parts {
    ($site:expr) => {
        &mut Parts { endpoint: &mut $site.endpoint, plane: &mut $site.plane }
    };
}

fn place<T>(table: &[T]) -> Range<u64> {
    let range = table.as_ptr_range();
    range.start as u64..range.end as u64
}

/// Pre-shared keys, masked: the test never holds one as it is but while it is handed over.
struct Written([[u8; 40]; 2]);

impl Written {
    fn new() -> Self {
        Self([0, 1].map(|number| {
            let mut octets = [0; 40];
            File::open("/dev/urandom").unwrap().read_exact(&mut octets).unwrap();
            // Text that is no hexadecimal one.
            octets.iter_mut().for_each(|octet| *octet = (b'g' + *octet % 16) ^ MASK);
            let plain = Zeroizing::new(octets.map(|octet| octet ^ MASK));
            note(Kind::Psk(number), &plain[..]);
            octets
        }))
    }

    /// A configuration with one peer and its key, or with none.
    fn config(&self, left: bool, key: Option<usize>) -> Config {
        let (ours, theirs, net, far, start) = if left { (1, 2, 1, 2, "on-demand") } else { (2, 1, 2, 1, "passive") };
        let peer = format!(
            "[[peer]]\nname = \"other\"\nlocal = \"192.0.2.{ours}\"\nremote = \"192.0.2.{theirs}\"\nstart = \"{start}\"\n\
             local-id = \"{ours}.lab\"\nremote-id = \"{theirs}.lab\"\npsk-file = \"other.psk\"\n[[peer.child]]\n\
             name = \"net\"\nlocal-ts = \"10.{net}.0.0/16\"\nremote-ts = \"10.{far}.0.0/16\"\n"
        );
        let text = if key.is_some() { peer.as_str() } else { "" };
        let mut config = Config::parse(text).unwrap().0;
        let plain = |octets: &[u8; 40]| Zeroizing::new(octets.iter().map(|octet| octet ^ MASK).collect::<Vec<_>>());
        config.load_secrets(|_| Ok(plain(&self.0[key.unwrap()]))).unwrap();
        config
    }
}

impl Site {
    fn new(config: Config) -> Self {
        let (gateway, peers) = Gateway::new(config);
        let sas = (0..4).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak();
        let children = (0..4).map(|_| ChildSlot::default()).collect::<Vec<_>>().leak();
        let sending = (0..4).map(|_| OutboundSlot::<Noting>::EMPTY).collect::<Vec<_>>().leak();
        let receiving = (0..4).map(|_| InboundSlot::<Noting>::EMPTY).collect::<Vec<_>>().leak();
        let rules = || (0..4).map(|_| Hits::NONE).collect::<Vec<_>>().leak();
        let tables = vec![place(sas), place(children), place(sending), place(receiving)];
        let index = (0..IndexBlock::needed(4, 4)).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak();
        let (pairs, pool) = (vec![0; 4 * 2 * 512].leak(), vec![0; 4 * 2 * 2048].leak());
        let storage = Storage { sas, children, index, pairs, pool, blocks: 4 };
        let engine = Ike::new(Random, Noting(Kind::Ike));
        Self {
            gateway,
            endpoint: Endpoint::new(engine, peers, storage, Settings::default()).unwrap(),
            plane: Engines::new(
                Outbound::new(Noting(Kind::Esp), rules(), sending),
                Inbound::new(Noting(Kind::Esp), rules(), receiving, vec![0; 4 * 16].leak()),
            ),
            tables,
        }
    }

    fn reload(&mut self, now: Instant, config: Config) {
        self.gateway.reload(now, config, parts!(self)).1.unwrap();
    }

    fn wish(&mut self, now: Instant, up: bool) {
        let done = match up {
            true => self.gateway.up(now, "other", parts!(self)),
            false => self.gateway.down(now, "other", parts!(self)),
        };
        done.unwrap();
    }

    fn state(&mut self) -> PeerState {
        let parts = parts!(self);
        self.gateway.status(parts).next().unwrap().state
    }

    /// Where pre-shared keys may be.
    fn psk_homes(&self) -> Vec<u64> {
        let peers = self.endpoint.pad();
        let psk = |connection: ike_core::pad::Connection<'_>| match connection.auth {
            ike_core::pad::Authentication::Psk(key) => key.as_ptr() as u64,
            _ => unreachable!("keys are all that is built"),
        };
        peers.iter().filter_map(|(id, _)| peers.connection(id).map(psk)).collect()
    }
}

struct World {
    now: Instant,
    sites: [Site; 2],
}

impl World {
    /// Carries one message, if there is one.
    fn step(&mut self) -> bool {
        for from in 0..2 {
            while self.sites[from].gateway.poll_report().is_some() {}
            if let Some(transmit) = self.sites[from].endpoint.poll_transmit() {
                let marker = if transmit.path.local.port() == 4500 { 4 } else { 0 };
                let path = Path { local: transmit.path.remote, remote: transmit.path.local };
                let mut octets = transmit.datagram[marker..].to_vec();
                let to = &mut self.sites[1 - from];
                to.gateway.handle_datagram(self.now, path, &mut octets, parts!(to));
                return true;
            }
        }
        false
    }

    fn exchange(&mut self) {
        while self.step() {}
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            for site in &mut self.sites {
                site.gateway.handle_timeout(self.now, parts!(site));
            }
            self.exchange();
        }
    }

    fn connect(&mut self) {
        self.sites[0].wish(self.now, true);
        self.exchange();
        assert!(self.sites.iter_mut().all(|site| site.state() == PeerState::Connected));
        let engines = |site: &Site| (site.plane.inbound.sas().count(), site.plane.outbound.sas().count());
        assert_eq!([engines(&self.sites[0]), engines(&self.sites[1])], [(1, 1); 2]);
    }

    fn in_table(&self, at: u64) -> bool {
        self.sites.iter().flat_map(|site| &site.tables).any(|table| table.contains(&at))
    }

    /// Whether a key may be there.
    fn is_home(&self, at: u64) -> bool {
        self.in_table(at) || BOXES.with_borrow(|boxes| boxes.iter().any(|home| home.contains(&at)))
    }

    /// How many keys of Child SAs came from elsewhere than the table of IKE into an engine, since somebody last asked.
    fn copied(&self) -> usize {
        BROUGHT.take().into_iter().filter(|at| !self.in_table(*at)).count()
    }

    /// So many IKE SAs and Child SAs stand at both ends together, and so many keys wait for their time: what is found is
    /// theirs, once for each end. Of the pre-shared keys so many peers hold the first one, and so many the second.
    #[track_caller]
    fn check(&self, (ike, children, waiting): (usize, usize, usize), psks: [usize; 2], when: &str) {
        let found = memory::places(&NOTED.with_borrow(Clone::clone));
        let psk_homes = self.sites.each_ref().map(Site::psk_homes).concat();
        let is_stray = |kind, at| match kind {
            Kind::Ike | Kind::Esp => !self.is_home(at),
            Kind::Psk(_) => !psk_homes.contains(&at),
            Kind::Padded => true,
            Kind::Rest => !self.is_home(at) && !psk_homes.contains(&(at - memory::BEGINNING as u64)),
        };
        let strays: Vec<_> = found.iter().filter(|(kind, at, _)| is_stray(*kind, *at)).collect();
        let whole = strays.chunks(2).all(|pair| matches!(pair, [(Kind::Esp, ..), (Kind::Rest, ..)]));
        assert!(strays.len() == 2 * waiting && whole, "{when}, where they are not to be: {strays:#x?}");
        let count = |of: Kind| found.iter().filter(|(kind, ..)| *kind == of).count();
        // Engines that work with a key as it is hold both directions; others have made something else of them.
        assert!(count(Kind::Ike) <= 2 * ike, "{when}: {found:#x?}");
        assert!(count(Kind::Esp) <= 2 * children + waiting, "{when}: {found:#x?}");
        assert_eq!([0, 1].map(|number| count(Kind::Psk(number))), psks, "{when}: {found:#x?}");
    }
}

#[test]
fn f_51_a_key_goes_from_ike_to_the_engines_and_is_nowhere_after_its_sa_nor_a_psk_after_its_peer() {
    let mut planted = vec![0; 40];
    File::open("/dev/urandom").unwrap().read_exact(&mut planted).unwrap();
    note(Kind::Ike, &planted);
    // The search reads behind the compiler's back: what nothing else reads might not be written at all.
    black_box(&mut planted);
    let search = || memory::places(&NOTED.with_borrow(Clone::clone)).len();
    assert_eq!(search(), 2, "the search finds what is there, and what follows on it");
    planted.as_mut_slice().zeroize();
    assert_eq!(search(), 0, "and nothing else");

    let keys = Written::new();
    let sites = [true, false].map(|left| Site::new(keys.config(left, Some(0))));
    let mut world = World { now: Instant::from_millis(1000), sites };
    for site in &mut world.sites {
        site.gateway.start(world.now, parts!(site)).unwrap();
    }
    world.check((0, 0, 0), [2, 0], "at the start");
    world.connect();
    world.check((2, 2, 0), [2, 0], "after the handshake");
    assert_eq!(world.copied(), 0, "what is used at once goes straight from IKE to the engines");

    // The peer rekeys: the one that answers sends through the new one when the peer does.
    for taken_down in [false, true] {
        world.pass(20);
        let right = &mut world.sites[1];
        assert_eq!(right.gateway.rekey(world.now, "other/net", false, parts!(right)), Ok(Ok(())));
        assert!(world.step() && world.step(), "request and answer");
        world.check((2, 4, 1), [2, 0], "while the new one waits for its time");
        if taken_down {
            world.sites[0].wish(world.now, false);
        }
        world.exchange();
        world.check((2, 4, 0), [2, 0], "once its time has come, or its end");
        assert_eq!(world.copied(), usize::from(!taken_down), "the one that waited");
        world.pass(10);
        let children = if taken_down { 0 } else { 2 };
        world.check((children, children, 0), [2, 0], "after the old one");
    }

    // One end forgets everything, and says so when it connects anew.
    world.connect();
    let ike = world.sites[0].endpoint.ike_sas().next().unwrap().id;
    let (left, now) = (&mut world.sites[0], world.now);
    left.endpoint.abandon(now, ike, Failure::ClosedHere).unwrap();
    left.gateway.handle_timeout(now, parts!(left));
    world.check((1, 1, 0), [2, 0], "after one end forgot it");
    world.connect();
    world.pass(10);
    world.check((2, 2, 0), [2, 0], "after INITIAL_CONTACT");

    // Another key, which the other end does not have.
    let right = keys.config(false, Some(1));
    world.sites[1].reload(world.now, right);
    world.exchange();
    world.check((0, 0, 0), [1, 1], "after a reload with another key");
    world.sites[0].wish(world.now, true);
    world.exchange();
    assert!(world.sites.iter_mut().all(|site| site.state() != PeerState::Connected));
    world.pass(20);
    world.check((0, 0, 0), [1, 1], "after an authentication that failed");

    let left = keys.config(true, Some(1));
    world.sites[0].reload(world.now, left);
    world.exchange();
    world.check((0, 0, 0), [0, 2], "once nobody has the first key");
    world.connect();
    world.check((2, 2, 0), [0, 2], "with the second key");
    world.sites[1].reload(world.now, keys.config(false, None));
    world.exchange();
    world.check((0, 0, 0), [0, 1], "after a reload that removes the peer");
    world.sites[0].reload(world.now, keys.config(true, None));
    world.check((0, 0, 0), [0, 0], "after both");
}
