//! Packets that the kernel has cut before they came out of our device, put together again: in transport and BEET mode ESP carries
//! whole ones alone (RFC 4303 §3.1.1). Tunnels carry fragments as they are.
//!
//! A datagram that is longer than the MTU of our device comes out of it in fragments, one right behind the other, as it is
//! this machine that sends it. Few are under way at a time: one for each processor that sends.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ipsec_core::buf::PacketBuf;
use ipsec_core::flow::Flow;
use ipsec_core::reassembly::{Dropped, Lost, Outcome, Reassembly, Slot, WAYS};
use ipsec_core::time::Instant;

use super::news::Listener;
use super::shared::Plane;
use super::tally::{Tally, add, count};

/// Datagrams that are put together at a time. Two hosts have the places of one set; which set is theirs is by chance, and others
/// may have the same.
const SLOTS: usize = 8 * WAYS;
/// The longest packet there is, its header aside.
const LONGEST: usize = 65_535;
/// How long fragments wait for the others of their datagram. The numbers by which IPv4 tells datagrams apart come again soon.
const PATIENCE: Duration = Duration::from_secs(2);

/// The datagrams of which some fragments are here: 4 MiB, of which the kernel gives what was once in use, and only where there are
/// such hosts at all. Of the thread that reads the device.
#[derive(Default)]
pub(super) struct Wholes {
    reassembly: Option<Reassembly<'static>>,
    /// What was told of its losses.
    told: Lost,
}

impl Wholes {
    /// Takes one packet from our device: a fragment between such hosts waits for the others, all else goes on as it is.
    pub(super) fn dispatch(&mut self, plane: &Plane, listener: &impl Listener, packet: &mut PacketBuf<'_>) {
        let hosts = ends(packet.as_slice()).and_then(|(from, to)| plane.hosts().number(from, to));
        let Some(number) = hosts else { return plane.dispatch(listener, packet) };
        let reassembly = self.reassembly.get_or_insert_with(empty);
        match reassembly.take(plane.clock.now(), number, packet) {
            Ok(Outcome::Unfragmented) => plane.dispatch(listener, packet),
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Whole(mut whole)) => plane.dispatch(listener, &mut whole),
            Err(dropped) => count(counter(&plane.tally, dropped)),
        }
        self.tell(&plane.tally);
    }

    /// How long nothing is to be given up; `None`: nothing waits.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        Some(self.reassembly.as_ref()?.poll_timeout()?.since(now))
    }

    /// Gives up what waits too long.
    pub(super) fn expire(&mut self, plane: &Plane) {
        if let Some(reassembly) = &mut self.reassembly {
            reassembly.handle_timeout(plane.clock.now());
            self.tell(&plane.tally);
        }
    }

    /// Counts what was lost since.
    fn tell(&mut self, tally: &Tally) {
        let Some(lost) = self.reassembly.as_ref().map(Reassembly::lost) else { return };
        add(&tally.fragments_expired, lost.expired.saturating_sub(self.told.expired));
        add(&tally.fragments_displaced, lost.displaced.saturating_sub(self.told.displaced));
        self.told = lost;
    }
}

/// One with nothing in it; there is one as long as the process lives.
fn empty() -> Reassembly<'static> {
    let slots = (0..SLOTS).map(|_| Slot::EMPTY).collect::<Vec<_>>().leak();
    let memory = vec![0; SLOTS * Reassembly::share(LONGEST)].leak();
    Reassembly::new(RandomState::new().hash_one(()), PATIENCE, slots, memory)
}

/// From where to where a fragment goes; `None`: it is none. Behind other extension headers than its own it is not carried
/// in these modes anyway.
fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    const FRAGMENT: u8 = 44;
    let is_fragment = match packet {
        [first, _, _, _, _, _, flags, offset, ..] if first >> 4 == 4 => (flags & 0x3f, *offset) != (0, 0),
        [first, _, _, _, _, _, next, ..] => first >> 4 == 6 && *next == FRAGMENT,
        _ => false,
    };
    let flow = is_fragment.then(|| Flow::of(packet).ok()).flatten()?;
    Some((flow.source, flow.destination))
}

fn counter(tally: &Tally, dropped: Dropped) -> &AtomicU64 {
    match dropped {
        Dropped::Malformed => &tally.fragments_malformed,
        Dropped::TooLong => &tally.fragments_too_long,
        Dropped::Overlap => &tally.fragments_overlap,
        Dropped::TooMany => &tally.fragments_too_many,
        Dropped::Congestion => &tally.fragments_congestion,
        // There are slots: it means that none is left for it.
        Dropped::Full => &tally.fragments_displaced,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use gateway_core::config::Config;
    use gateway_core::gateway::Gateway;
    use gateway_core::plane::DataPlane as _;
    use gateway_core::policy::rules;
    use ipsec_core::fragment::cut;

    use super::super::hosts::Hosts;
    use super::super::news::News;
    use super::*;
    use crate::capacity::Capacity;
    use crate::clear::ClearSockets;
    use crate::clock::Clock;
    use crate::tun::Tun;

    const CONFIG: &str = r#"
        [[peer]]
        name   = "cloud"
        local  = ["192.0.2.2", "2001:db8::2"]
        remote = ["192.0.2.1", "2001:db8::1"]
        psk    = "a key of more than twenty characters"
        [[peer.child]]
        name      = "hosts"
        mode      = "transport"
        local-ts  = ["192.0.2.2[udp/7]", "2001:db8::2[udp/7]"]
        remote-ts = ["192.0.2.1", "2001:db8::1"]
        [[peer.child]]
        name      = "net"
        local-ts  = "10.2.0.1"
        remote-ts = "10.1.0.1"
    "#;

    /// UDP from port 7 of one address to another, of so many octets in all.
    fn datagram(from: &str, to: &str, len: u16) -> Vec<u8> {
        let ends: [IpAddr; 2] = [from, to].map(|addr| addr.parse().unwrap());
        let mut packet = match ends[0] {
            IpAddr::V4(_) => [&[0x45, 0], &len.to_be_bytes()[..], &[0, 9, 0, 0, 64, 17, 0, 0]].concat(),
            IpAddr::V6(_) => [&[0x60, 0, 0, 0], &(len - 40).to_be_bytes()[..], &[17, 64]].concat(),
        };
        for end in ends {
            match end {
                IpAddr::V4(addr) => packet.extend(addr.octets()),
                IpAddr::V6(addr) => packet.extend(addr.octets()),
            }
        }
        packet.extend([0, 7, 0, 9]);
        packet.extend((packet.len()..len.into()).map(|at| (at / 8) as u8));
        packet
    }

    /// As the kernel cuts it for a device with an MTU of 1400.
    fn pieces(packet: &[u8], id: u32) -> Vec<Vec<u8>> {
        cut(packet, 1400, id).unwrap().map(|piece| piece.write(&mut [0; 1400]).unwrap().to_vec()).collect()
    }

    struct Bench {
        plane: Plane,
        wholes: Wholes,
    }

    impl Bench {
        fn new() -> Self {
            let capacity = Capacity { ike_sas: 1, blocks: 1, child_sas: 4, rules: 9 };
            let (tun, clear) = (Tun::nowhere().unwrap(), ClearSockets::of_anybody().unwrap());
            let plane = Plane::new(tun, clear, Clock::start(), &capacity).unwrap();
            let config = || Config::parse(CONFIG).unwrap().0;
            let (_, peers) = Gateway::new(config());
            plane.engines().set_rules(&rules(&[], &peers, std::iter::empty())).unwrap();
            plane.set_hosts(Hosts::of(&config()));
            Self { plane, wholes: Wholes::default() }
        }

        /// Takes packets from the device; returns those that then want an SA.
        fn take(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
            let (sender, inputs) = sync_channel(99);
            for packet in packets {
                let mut bytes = packet.clone();
                let mut packet = PacketBuf::new(&mut bytes, 0, packet.len()).unwrap();
                self.wholes.dispatch(&self.plane, &sender, &mut packet);
            }
            let wanting = inputs.try_iter().map(|news| match news {
                News::Acquire { packet, .. } => packet,
                _ => panic!("not what wants an SA"),
            });
            wanting.collect()
        }

        fn counted(&self) -> Vec<(&'static str, u64)> {
            self.plane.tally().read().into_iter().filter(|(_, count)| *count > 0).collect()
        }
    }

    #[test]
    fn what_hosts_say_to_each_other_in_transport_mode_goes_on_as_a_whole_and_what_a_tunnel_carries_in_pieces() {
        let mut bench = Bench::new();
        for (from, to) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            for (id, len) in (1..).zip([1400, 1401, 9000, 65_535]) {
                let packet = datagram(from, to, len);
                let mut cut = pieces(&packet, id);
                cut.rotate_left(1);
                let mut wanting = bench.take(&cut);
                let [whole] = wanting.as_mut_slice() else { panic!("{} packets of {len} octets", wanting.len()) };
                if from.contains('.') {
                    whole[10..12].fill(0); // cutting makes a checksum
                }
                assert!(*whole == packet, "{from}, {len} octets");
            }
        }
        let packet = datagram("10.2.0.1", "10.1.0.1", 3000);
        assert_eq!(bench.take(&pieces(&packet, 0)), pieces(&packet, 0));
        assert!(bench.wholes.patience(bench.plane.clock.now()).is_none(), "nothing waits");
        assert_eq!(bench.counted(), []);
    }

    #[test]
    fn what_is_refused_of_fragments_is_counted_by_what_is_wrong_with_it() {
        let mut bench = Bench::new();
        let fragments = |len| pieces(&datagram("2001:db8::2", "2001:db8::1", len), 1);
        let mut crossing = fragments(3000)[1].clone();
        crossing[43] -= 8; // an offset one unit earlier
        assert!(bench.take(&[fragments(3000)[0].clone(), crossing]).is_empty());
        let mut broken = fragments(3000)[0].clone();
        broken[5] -= 1; // no multiple of 8 octets
        assert!(bench.take(&[broken]).is_empty());
        assert_eq!(bench.counted(), [("FragmentsMalformed", 1), ("FragmentsOverlap", 1)]);
        let now = bench.plane.clock.now();
        assert!(bench.wholes.patience(now).is_some_and(|patience| patience <= PATIENCE));
        bench.wholes.reassembly.as_mut().unwrap().handle_timeout(now + PATIENCE);
        bench.wholes.expire(&bench.plane);
        assert_eq!(bench.counted()[2], ("FragmentsExpired", 1));
    }

    #[test]
    fn datagrams_that_never_get_whole_make_room_for_others_and_are_counted() {
        let mut bench = Bench::new();
        let packet = datagram("2001:db8::2", "2001:db8::1", 3000);
        let many = 1000;
        for id in 0..many {
            assert!(bench.take(&pieces(&packet, id)[..1]).is_empty());
        }
        let places = u64::try_from(WAYS).unwrap();
        assert_eq!(bench.counted(), [("FragmentsDisplaced", u64::from(many) - places)]);
        assert_eq!(bench.take(&pieces(&packet, many)).len(), 1);
    }
}
