//! A crypto engine that finishes later: the example of one, and what the halves of sealing and opening promise.
#![cfg(feature = "rustcrypto")]

#[path = "../examples/peripheral.rs"]
#[allow(dead_code, unreachable_pub)]
mod peripheral;

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::conformance::{SP800_38D, check, power_on};
use ipsec_core::ecn::Ecn;
use ipsec_core::encap::push_outer;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, Path, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Mode, OutboundParams, Params, SaId};
use ipsec_core::time::Instant;
use peripheral::{Accelerator, Hardware, PACKETS, params, path};

const NOW: Instant = Instant::ZERO;
/// Between the ends of the path, so that it goes in either mode.
const INNER: [u8; 28] =
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 53, 0, 8, 0, 0];

type Out<'h> = Outbound<'h, Accelerator<'h>>;
type In<'h> = Inbound<'h, Accelerator<'h>>;

fn leak<T>(content: T) -> &'static mut T {
    Box::leak(Box::new(content))
}

fn back() -> Path {
    Path { local: path().remote, remote: path().local }
}

fn ends(mode: Mode, hardware: &'static Hardware) -> (Out<'static>, SaId, In<'static>, SaId) {
    let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
    let hosts = [path().local, path().remote].map(|host| [TrafficSelector::addrs(AddrRange::single(host.ip()))]);
    let [here, there] = if mode == Mode::Beet { hosts } else { [all; 2] };
    let mut out: Out<'_> =
        Outbound::new(Accelerator(hardware), &mut [], leak([const { OutboundSlot::<Accelerator<'_>>::EMPTY }]));
    let sa = Params { local_ts: &here, remote_ts: &there, ..params(mode, path(), &all) };
    let sa =
        OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
    let sending = out.install(NOW, &sa).unwrap();
    let slots = leak([const { InboundSlot::<Accelerator<'_>>::EMPTY }]);
    let mut inn: In<'_> = Inbound::new(Accelerator(hardware), &mut [], slots, leak([0]));
    let sa = Params { local_ts: &there, remote_ts: &here, ..params(mode, back(), &all) };
    let receiving = inn.install(NOW, &InboundParams { sa, window: 64, highest_seen: 0 }).unwrap();
    (out, sending, inn, receiving)
}

fn packet() -> PacketBuf<'static> {
    PacketBuf::with_payload(leak([0; HEADROOM + INNER.len() + TAILROOM]), &INNER).unwrap()
}

fn copy(packet: &PacketBuf<'_>) -> PacketBuf<'static> {
    PacketBuf::with_payload(leak([0; 256]), packet.as_slice()).unwrap()
}

#[test]
fn the_peripheral_conforms() {
    let hardware = Hardware::default();
    let mut engine = Accelerator(&hardware);
    for case in SP800_38D {
        assert_eq!(check(&mut engine, case, &mut [0; 76]), Ok(()));
    }
    assert!(power_on(&mut engine).unwrap() >= 12);
}

#[test]
fn packets_are_finished_in_any_order_and_numbered_in_that_of_their_beginning() {
    for mode in [Mode::Tunnel, Mode::Transport, Mode::Beet] {
        let (mut out, sending, mut inn, _) = ends(mode, leak(Hardware::default()));
        let mut packets: Vec<_> = (0..PACKETS).map(|_| packet()).collect();
        let begun: Vec<_> = packets.iter_mut().map(|packet| out.begin_seal(NOW, sending, packet).unwrap()).collect();
        for sealing in begun.into_iter().rev() {
            assert_eq!(out.finish_seal(sealing).unwrap().path, path());
        }
        for (sequence, packet) in (1_u32..).zip(&packets) {
            assert_eq!(packet.as_slice()[4..8], sequence.to_be_bytes());
        }
        let mut begun: Vec<_> =
            packets.iter_mut().map(|packet| inn.begin_open(NOW, back(), Ecn::NotEct, packet).unwrap()).collect();
        begun.swap(0, 2);
        for opening in begun {
            inn.finish_open(NOW, opening).unwrap();
        }
        assert!(packets.iter().all(|packet| packet.as_slice()[20..] == INNER[20..]));
    }
}

#[test]
fn without_a_place_a_packet_stays_as_it_is_and_no_number_is_used() {
    for mode in [Mode::Tunnel, Mode::Transport, Mode::Beet] {
        let hardware = leak(Hardware::default());
        let (mut out, sending, mut inn, _) = ends(mode, hardware);
        let mut packets: Vec<_> = (0..PACKETS).map(|_| packet()).collect();
        let mut begun: Vec<_> =
            packets.iter_mut().map(|packet| out.begin_seal(NOW, sending, packet).unwrap()).collect();
        let mut another = packet();
        assert_eq!(out.begin_seal(NOW, sending, &mut another).unwrap_err(), Discard::OutEngine);
        assert_eq!((another.as_slice(), another.headroom()), (&INNER[..], HEADROOM), "{mode:?}");
        assert_eq!(out.counters().get(Discard::OutEngine), 1);
        out.finish_seal(begun.pop().unwrap()).unwrap();
        let sealing = out.begin_seal(NOW, sending, &mut another).unwrap();
        drop(begun);
        (0..PACKETS).for_each(|_| hardware.step());
        let egress = out.finish_seal(sealing).unwrap();
        assert_eq!(another.as_slice()[4..8], [0, 0, 0, PACKETS as u8 + 1]);
        push_outer(&egress, &mut another).unwrap();

        let mut last = packets.pop().unwrap(); // the one that was finished
        let mut copies: Vec<_> = (0..PACKETS).map(|_| copy(&last)).collect();
        let begun: Vec<_> = copies.iter_mut().map(|copy| inn.begin_open(NOW, back(), Ecn::NotEct, copy)).collect();
        let before = last.as_slice().to_vec();
        assert_eq!(inn.begin_open(NOW, back(), Ecn::NotEct, &mut last).unwrap_err(), Discard::InEngine, "{mode:?}");
        assert_eq!(last.as_slice(), before);
        // Of those with one number, one comes through.
        let opened: Vec<_> =
            begun.into_iter().map(|opening| inn.finish_open(NOW, opening.unwrap()).map(drop)).collect();
        assert_eq!(opened, [Ok(()), Err(Discard::InReplayed), Err(Discard::InReplayed), Err(Discard::InReplayed)]);
    }
}

/// Neither the packet is there nor what it held.
fn assert_nothing_is_left(packet: &mut PacketBuf<'_>) {
    assert!(packet.is_empty());
    let behind = packet.push_back(INNER.len()).unwrap();
    assert!(behind.iter().all(|octet| *octet == 0), "{behind:?}");
}

#[test]
fn what_is_dropped_was_lost_on_the_way_and_its_place_is_free_again() {
    let hardware = leak(Hardware::default());
    let (mut out, sending, mut inn, receiving) = ends(Mode::Tunnel, hardware);
    for round in 0..3 * PACKETS as u64 {
        let mut lost = packet();
        drop(out.begin_seal(NOW, sending, &mut lost).unwrap());
        assert_nothing_is_left(&mut lost);
        assert_eq!(out.sa(sending).unwrap().sequence, 1 + round, "its number is never used again");
        hardware.step();
    }
    let mut sealed = packet();
    out.seal(NOW, sending, &mut sealed).unwrap();
    let mut forgotten = copy(&sealed);
    drop(inn.begin_open(NOW, back(), Ecn::NotEct, &mut forgotten).unwrap());
    assert_nothing_is_left(&mut forgotten);
    assert_eq!((inn.sa(receiving).unwrap().sequence, inn.sa(receiving).unwrap().packets), (0, 0));
    let opening = inn.begin_open(NOW, back(), Ecn::NotEct, &mut sealed).unwrap();
    assert!(inn.finish_open(NOW, opening).is_ok());
}

#[test]
fn forged_packets_change_nothing_and_an_sa_may_go_meanwhile() {
    let (mut out, sending, mut inn, receiving) = ends(Mode::Tunnel, leak(Hardware::default()));
    let (mut one, mut other) = (packet(), packet());
    out.seal(NOW, sending, &mut one).unwrap();
    let mut forged = copy(&one);
    forged.as_mut_slice()[7] = 60; // a later sequence number
    let opening = inn.begin_open(NOW, back(), Ecn::NotEct, &mut forged).unwrap();
    assert_eq!(inn.finish_open(NOW, opening).unwrap_err(), Discard::InForged);
    assert_eq!(inn.sa(receiving).unwrap().sequence, 0);
    let opening = inn.begin_open(NOW, back(), Ecn::NotEct, &mut one).unwrap();
    assert!(inn.remove(receiving));
    assert_eq!(inn.finish_open(NOW, opening).unwrap_err(), Discard::InUnknownSpi);
    assert_nothing_is_left(&mut one);
    let sealing = out.begin_seal(NOW, sending, &mut other).unwrap();
    assert!(out.remove(sending));
    out.finish_seal(sealing).unwrap();
    assert!(!other.as_slice().windows(8).any(|part| INNER.windows(8).any(|clear| clear == part)));
}

#[test]
fn nothing_is_left_of_what_was_cut_off_before_a_packet_was_discarded() {
    let (mut out, sending, mut inn, _) = ends(Mode::Tunnel, leak(Hardware::default()));
    let mut dummy = packet();
    out.seal_dummy(NOW, sending, &mut dummy).unwrap();
    let opening = inn.begin_open(NOW, back(), Ecn::NotEct, &mut dummy).unwrap();
    assert_eq!(inn.finish_open(NOW, opening).unwrap_err(), Discard::InDummy);
    assert_nothing_is_left(&mut dummy);
}
