//! Every entry of ike-core's endpoint, in any order, with any input.
#![no_std]
#![no_main]

use ike_core::auth::ask::{Answer, Lease, Question};
use ike_core::child::ChildSlot;
use ike_core::clock::{Now, UnixTime};
use ike_core::crypto::{Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ike_core::error::BadPublic;
use ike_core::event::{ChildId, Event, IkeId, WaitId};
use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::net::TrafficSelector;
use panic_probe::{Engine, Key, any, below, duration, instant, keep, octets, path, selector};

panic_probe::program!(run());

fn run() {
    let (ike, esp) =
        ([IkeProposal::default(), IkeProposal::default()], [EspProposal::default(), EspProposal::default()]);
    let (local, remote) = ([selector(), selector()], [selector(), selector()]);
    let pad = Config {
        ike: core::hint::black_box(&ike),
        esp: core::hint::black_box(&esp),
        local: core::hint::black_box(&local),
        remote: core::hint::black_box(&remote),
    };
    let mut sas = [const { IkeSlot::<AnyEngine>::EMPTY }; 4];
    let mut children = [const { ChildSlot::EMPTY }; 8];
    let mut index = [const { IndexBlock::EMPTY }; IndexBlock::needed(4, 8)];
    let (mut pairs, mut pool) = ([0; 4 * 2 * 512], [0; 2 * 2 * 2048]);
    let storage = Storage {
        sas: core::hint::black_box(&mut sas),
        children: core::hint::black_box(&mut children),
        index: core::hint::black_box(&mut index),
        pairs: core::hint::black_box(&mut pairs),
        pool: core::hint::black_box(&mut pool),
        blocks: 2,
    };
    let Ok(mut endpoint) = Endpoint::new(AnyEngine(Engine), pad, storage, Settings::default()) else { return };
    let mut sa: Option<IkeId> = None;
    let mut child: Option<ChildId> = None;
    let mut wait: Option<WaitId> = None;
    while any() != 0 {
        match any() {
            0 => keep(u64::from(endpoint.handle_datagram(now(), path(), octets()).is_ok())),
            1 => endpoint.handle_timeout(instant()),
            2 => keep(endpoint.poll_transmit().map_or(0, |transmit| transmit.datagram.len() as u64)),
            3 => match endpoint.poll_event() {
                Some(Event::Established { ike, .. }) => sa = Some(ike),
                Some(Event::ChildOutbound { child: id }) => child = Some(id),
                Some(Event::Asked { wait: id, question, .. }) => {
                    wait = Some(id);
                    if let Question::Verdict(claim) = question {
                        keep(claim.certs().count() as u64);
                    }
                }
                Some(Event::ChildUp(up)) => keep(up.suite.protection.encr_key_len() as u64),
                Some(_) => keep(1),
                None => keep(0),
            },
            4 => keep(endpoint.poll_timeout().map_or(0, |at| at.as_millis())),
            5 => sa = endpoint.initiate(instant(), PeerId(any() as u32), Some(ChildConfigId(any() as u32))).ok(),
            6 => keep(endpoint.ike_sas().count() as u64 + endpoint.child_sas().count() as u64),
            13 => {
                if let Some(wait) = wait {
                    keep(u64::from(endpoint.answer(now(), wait, &answer()).is_ok()));
                }
            }
            step => {
                if let Some(sa) = sa {
                    on_ike(&mut endpoint, sa, step, &mut child);
                }
                if let Some(child) = child {
                    on_child(&mut endpoint, child, step);
                }
            }
        }
    }
}

fn now() -> Now {
    Now { at: instant(), wall: (any() == 0).then(|| UnixTime(any())) }
}

fn answer() -> Answer<'static> {
    let lease = || Lease {
        v4: (any() == 0).then(|| (any() as u32).into()),
        v6: (any() == 0).then(|| u128::from(any()).into()),
    };
    match below(6) {
        0 => Answer::signature(octets()),
        1 => Answer::Verdict(any() == 0),
        2 => Answer::Eap(octets()),
        3 => Answer::EapDone { last: octets(), key: octets() },
        4 => Answer::Lease(lease()),
        _ => Answer::Refused,
    }
}

fn on_ike(endpoint: &mut Endpoint<'_, AnyEngine, Config<'_>>, sa: IkeId, step: u64, child: &mut Option<ChildId>) {
    match step {
        7 => *child = endpoint.create_child(instant(), sa, ChildConfigId(any() as u32)).ok(),
        8 => keep(u64::from(endpoint.rekey_ike(instant(), sa).is_ok())),
        14 => keep(u64::from(endpoint.probe(instant(), sa, path()).is_ok())),
        _ => keep(u64::from(endpoint.close(instant(), sa).is_ok())),
    }
}

fn on_child(endpoint: &mut Endpoint<'_, AnyEngine, Config<'_>>, child: ChildId, step: u64) {
    match step {
        9 => keep(u64::from(endpoint.rekey_child(instant(), child).is_ok())),
        10 => keep(u64::from(endpoint.close_child(instant(), child).is_ok())),
        11 => endpoint.heard(instant(), child),
        _ => endpoint.moved(child, path()),
    }
}

struct Config<'c> {
    ike: &'c [IkeProposal],
    esp: &'c [EspProposal],
    local: &'c [TrafficSelector],
    remote: &'c [TrafficSelector],
}

impl Pad for Config<'_> {
    fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
        let id = || Id { kind: IdKind(any() as u8), data: octets() };
        Some(Connection {
            path: (any() == 0).then(path),
            local_id: id(),
            remote_id: (any() == 0).then(id),
            auth: match below(3) {
                0 => Authentication::Psk(octets()),
                1 => Authentication::Signature,
                _ => Authentication::Eap,
            },
            ike: self.ike,
            force_encap: any() == 0,
            dpd: duration(),
            rekey: duration(),
        })
    }

    fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        (index < below(64)).then(|| ChildConfig {
            id: ChildConfigId(any() as u32),
            modes: match below(3) {
                0 => Modes::Tunnel,
                1 => Modes::PreferTransport,
                _ => Modes::Transport,
            },
            esp: self.esp,
            local: self.local,
            remote: self.remote,
            rekey: duration(),
            lifetime: duration(),
            compress: any() == 0,
        })
    }

    fn candidate(&self, _: &Initiator<'_>, _: Option<PeerId>) -> Option<PeerId> {
        (any() == 0).then(|| PeerId(any() as u32))
    }

    fn leases(&self, _: PeerId) -> bool {
        any() == 0
    }
}

struct AnyEngine(Engine);

impl PacketCrypto for AnyEngine {
    type AeadKey = Key;
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Key> {
        self.0.aead_key(alg, key)
    }

    fn seal(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        self.0.seal(key, nonce, aad, text_and_tag);
    }

    fn open(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        self.0.open(key, nonce, aad, text_and_tag)
    }
}

impl IkeCrypto for AnyEngine {
    type KeSecret = u64;

    fn random(&mut self, out: &mut [u8]) {
        core::hint::black_box(out);
    }

    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<u64> {
        keep(group.offer_len() as u64);
        public.fill(any() as u8);
        (any() == 0).then(any)
    }

    fn ke_finish(&mut self, secret: &u64, peer_public: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        keep(*secret);
        core::hint::black_box(peer_public);
        core::hint::black_box(shared.resize(below(300)));
        if any() == 0 { Ok(()) } else { Err(BadPublic) }
    }

    fn prf(&mut self, _: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        core::hint::black_box((key, parts));
        core::hint::black_box(out.resize(below(100)));
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        core::hint::black_box(parts);
        core::hint::black_box([0; 20])
    }
}
