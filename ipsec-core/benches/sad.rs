//! What it costs to find one of 10 to 100,000 SAs, and to install and remove one: `cargo bench -p ipsec-core --bench sad`.
//!
//! An SA is found by its SPI, any in turn: `own` carries its slot, as those do that we choose, `foreign` does not; `miss` are SPIs
//! that no SA has. That is all: an SA here is for one receiver, so its SPI is enough (RFC 4301 §4.1). `list` is a walk along
//! them. `chosen` is the choice of the SA for a packet, by an engine that remembers nothing, where one policy has all of them,
//! `none` the same where none of them fits; both include reading the packet's headers and the policy. `installed` and `removed`
//! are one SA more, and the same one less; `rekeyed` is a new one beside an old one, and then without that, of the receiving
//! engine and of the sending one. Keys are none: how they are made is another one's time. Medians; times are hints, growth counts.

use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
use ipsec_core::time::Instant as Tick;
use measure::{LOOKUPS, Nothing, SIZES, STRETCH, any_of, judged, median, network, once, shown, timed, udp};

#[path = "measure/databases.rs"]
mod measure;

const ROUNDS: usize = 21;
/// SAs that come and go at a time.
const SOME: u32 = 64;

const GOAL_SA: f64 = 30.0;
const GOAL_CHOICE: f64 = 1000.0;
const GOAL_UPDATE: f64 = 10_000.0;

const ANY: [TrafficSelector; 1] = [TrafficSelector::addrs(AddrRange::ANY_V4)];

fn params<'k>(spi: Spi, remote_ts: &'k [TrafficSelector]) -> Params<'k> {
    Params {
        spi,
        mode: Mode::Tunnel,
        protection: ipsec_core::crypto::AeadAlg::Aes128Gcm16.into(),
        keymat: &[7; 20],
        esn: true,
        path: Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() },
        encap: Encap::Udp,
        policy: PolicyId(1),
        local_ts: &ANY,
        remote_ts,
        lifetime: Lifetime::default(),
        compression: None,
    }
}

fn receiving(inbound: &mut Inbound<'_, Nothing>, spi: Spi) -> SaId {
    let sa = params(spi, &ANY);
    inbound.install(Tick::ZERO, &InboundParams { sa, window: 64, highest_seen: 0 }).expect("room")
}

/// An SA for a network of its own.
fn sending(outbound: &mut Outbound<'_, Nothing>, spi: Spi, number: u32) -> SaId {
    let behind = [TrafficSelector::addrs(network(number, 24))];
    let sa = params(spi, &behind);
    let sa =
        OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
    outbound.install(Tick::ZERO, &sa).expect("room")
}

/// What the receiving engine takes.
struct Receiving {
    own: f64,
    foreign: f64,
    miss: f64,
    list: Option<f64>,
    installed: f64,
    removed: f64,
    rekeyed: f64,
}

fn receive(size: u32) -> Receiving {
    let room = size + SOME;
    let (mut none, mut slots): ([Hits; 0], Vec<_>) = ([], (0..room).map(|_| InboundSlot::<Nothing>::EMPTY).collect());
    let mut windows = vec![0; room as usize];
    let mut inbound = Inbound::<Nothing>::new(Nothing, &mut none, &mut slots, &mut windows);
    let (mut random, mut any) = (any_of(u32::MAX), any_of(size));
    let mut reserve = |inbound: &mut Inbound<'_, Nothing>| inbound.reserve_spi(random()).expect("room");
    let mut sas: Vec<(Spi, SaId)> = Vec::new();
    for _ in 0..size {
        let spi = reserve(&mut inbound);
        sas.push((spi, receiving(&mut inbound, spi)));
    }
    let asked: Vec<Spi> = (0..LOOKUPS).map(|_| sas[any() as usize].0).collect();
    let own = timed(&asked, |spi| assert!(inbound.has(*spi)));
    let strangers: Vec<Spi> = asked.iter().filter_map(|spi| Spi::new(spi.get() ^ 0x4000_0000)).collect();
    let miss = timed(&strangers, |spi| assert!(!inbound.has(*spi)));
    let list = (size <= 1000).then(|| {
        let all: Vec<Spi> = sas.iter().map(|(spi, _)| *spi).collect();
        timed(&asked[..2000], |spi| assert!(std::hint::black_box(&all).contains(spi)))
    });
    let [mut installed, mut removed, mut rekeyed] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let spis: Vec<Spi> = (0..SOME).map(|_| reserve(&mut inbound)).collect();
        let mut ids = Vec::with_capacity(spis.len());
        installed.push(once(&spis, |spi| ids.push(receiving(&mut inbound, *spi))));
        removed.push(once(&ids, |id| assert!(inbound.remove(*id))));
        let old: Vec<u32> = (0..SOME).map(|_| any()).collect();
        rekeyed.push(once(&old, |number| {
            let sa = &mut sas[*number as usize];
            let spi = inbound.reserve_spi(sa.0.get().rotate_left(7)).expect("room");
            let new = (spi, receiving(&mut inbound, spi));
            assert!(inbound.remove(std::mem::replace(sa, new).1));
        }));
    }
    // Those that another one chose: all of them name the same few slots.
    sas.into_iter().for_each(|(_, id)| assert!(inbound.remove(id)));
    let spis: Vec<Spi> = (0..size).filter_map(|number| Spi::new(0x8000_0000 + (number << 14))).collect();
    spis.iter().for_each(|spi| _ = receiving(&mut inbound, *spi));
    let asked: Vec<Spi> = (0..LOOKUPS).map(|_| spis[any() as usize]).collect();
    let foreign = timed(&asked, |spi| assert!(inbound.has(*spi)));
    let [installed, removed, rekeyed] = [installed, removed, rekeyed].map(median);
    Receiving { own, foreign, miss, list, installed, removed, rekeyed }
}

/// What the sending engine takes.
struct Sending {
    chosen: f64,
    none: f64,
    rekeyed: f64,
}

fn send(size: u32) -> Sending {
    let room = size + SOME;
    let (mut none, mut slots): ([Hits; 0], Vec<_>) = ([], (0..room).map(|_| OutboundSlot::<Nothing>::EMPTY).collect());
    let mut outbound = Outbound::<Nothing>::new(Nothing, &mut none, &mut slots);
    let (mut rules, mut nodes) = ([Slot::EMPTY], []);
    let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
    let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(PolicyId(1)) };
    outbound.set_rules(Index::build([rule], &mut rules[..], &mut nodes[..]).expect("room")).expect("room");
    let spi = Spi::new(0x1000).expect("not reserved");
    let mut sas: Vec<SaId> = (0..size).map(|number| sending(&mut outbound, spi, number)).collect();
    let mut any = any_of(size);
    let packets: Vec<_> = (0..LOOKUPS).map(|_| udp(1, 0x1000_0005 + (any() << 8), 2)).collect();
    let chosen = timed(&packets, |packet| {
        assert!(matches!(outbound.classify(Tick::ZERO, packet), Ok(Verdict::Protect(_))));
    });
    let strangers: Vec<_> = (0..LOOKUPS).map(|_| udp(1, 0x0800_0000 + any(), 2)).collect();
    let none = timed(&strangers, |packet| {
        assert!(matches!(outbound.classify(Tick::ZERO, packet), Ok(Verdict::Acquire(_))));
    });
    let rekeyed = (0..ROUNDS).map(|_| {
        let old: Vec<u32> = (0..SOME).map(|_| any()).collect();
        once(&old, |number| {
            let new = sending(&mut outbound, spi, *number);
            assert!(outbound.remove(std::mem::replace(&mut sas[*number as usize], new)));
        })
    });
    Sending { chosen, none, rekeyed: median(rekeyed.collect()) }
}

fn measure(size: u32) -> bool {
    let Receiving { own, foreign, miss, list, installed, removed, rekeyed } = receive(size);
    let Sending { chosen, none, rekeyed: anew } = send(size);
    let met = own <= GOAL_SA
        && chosen.max(none) <= GOAL_CHOICE
        && [installed, removed, rekeyed, anew].into_iter().all(|ns| ns <= GOAL_UPDATE);
    println!(
        "{size:>8} {own:>8.1} {miss:>8.1} {foreign:>8.1} {:>8} {chosen:>8.1} {none:>8.1} {installed:>10.0} {removed:>8.0} {rekeyed:>8.0} \
         {anew:>8.0}   {}",
        shown(list),
        judged(met)
    );
    met
}

fn main() {
    println!("SAs: medians of stretches of {STRETCH}, ns");
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8}",
        "SAs", "own", "miss", "foreign", "list", "chosen", "none", "installed", "removed", "rekeyed", "sending"
    );
    let met = SIZES.map(measure).into_iter().all(|met| met);
    println!(
        "goals: own <= {GOAL_SA}, chosen and none <= {GOAL_CHOICE}, installed, removed and rekeyed <= {GOAL_UPDATE} (the last two \
         columns, of the receiving engine and of the sending one)"
    );
    println!(
        "an SA without its key: {} octets to receive, and 8 for each 64 packets of its window; {} to send",
        size_of::<InboundSlot<Nothing>>(),
        size_of::<OutboundSlot<Nothing>>()
    );
    println!("goals {}", if met { "met" } else { "missed" });
}
