//! Packets in fragments, outside and inside.

use crate::ends::{NOW, Sa, ip, net, open, path, ports, seal, tunnel};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::ecn::Ecn;
use ipsec_core::encap::{Arrival, Egress, pop_outer, push_outer};
use ipsec_core::fragment::cut;
use ipsec_core::net::{Encap, Path, PortRange, TrafficSelector};
use ipsec_core::reassembly::{Outcome, Reassembly, Slot};
use std::time::Duration;

fn reassembly() -> Reassembly<'static> {
    let slots: Vec<Slot> = (0..16).map(|_| Slot::EMPTY).collect();
    let bytes = vec![0; 16 * Reassembly::share(2000)].leak();
    Reassembly::new(7, Duration::from_secs(15), slots.leak(), bytes)
}

fn pieces(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let mut room = vec![0; mtu];
    cut(packet, mtu, 9).unwrap().map(|piece| piece.write(&mut room).unwrap().to_vec()).collect()
}

#[test]
fn esp_that_was_cut_on_its_way_is_opened_when_it_is_whole() {
    let v6 = |last| format!("[2001:db8::{last}]:4500").parse().unwrap();
    let over_v6 = Path { local: v6(1), remote: v6(2) };
    for (outer, encap) in [path(), over_v6].into_iter().flat_map(|path| [(path, Encap::None), (path, Encap::Udp)]) {
        let (mut out, mut inn) = tunnel(&Sa::default());
        let mut reassembly = reassembly();
        let inner = ip("10.1.0.5", "10.2.0.9", 17, &ports(5000, 53, 1400));
        let sealed = seal(&mut out, &inner).unwrap();
        let mut bytes = vec![0; HEADROOM + sealed.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, &sealed).unwrap();
        let egress = Egress { path: outer, encap, traffic_class: 0x02, dont_fragment: false, ident: 7, hops: 64 };
        push_outer(&egress, &mut packet).unwrap();
        let mut pieces = pieces(packet.as_slice(), 1280);
        assert_eq!(pieces.len(), 2);
        pieces.reverse();
        let mut opened = Vec::new();
        for piece in &mut pieces {
            let len = piece.len();
            let mut piece = PacketBuf::new(piece, 0, len).unwrap();
            assert_eq!(pop_outer(&mut piece), Ok(Arrival::Clear), "a fragment is not looked into");
            if let Outcome::Whole(mut whole) = reassembly.take(NOW, 0, &mut piece).unwrap() {
                let Ok(Arrival::Esp { path, ecn: Ecn::Ect0, .. }) = pop_outer(&mut whole) else { panic!() };
                assert_eq!((path.local.ip(), path.encap()), (outer.remote.ip(), encap));
                opened.push(open(&mut inn, whole.as_slice()).unwrap());
            }
        }
        assert_eq!(opened, [inner], "{outer:?}, {encap:?}");
    }
}

#[test]
fn atk_66_rules_for_ports_see_packets_that_come_in_fragments_once_they_are_whole() {
    let only = |site: &str| TrafficSelector { addrs: net(site), protocol: 17, ports: PortRange::ANY };
    let dns = TrafficSelector { ports: PortRange::single(53), ..only("10.2.0.0/16") };
    let sa = Sa { site_a: vec![only("10.1.0.0/16")], site_b: vec![dns], ..Sa::default() };
    for (port, passes) in [(53, true), (54, false)] {
        let (mut out, mut inn) = tunnel(&sa);
        let mut reassembly = reassembly();
        let inner = ip("10.1.0.5", "10.2.0.9", 17, &ports(5000, port, 1000));
        let pieces = pieces(&inner, 576);
        assert!(out.judge(&pieces[1]).is_err(), "nobody knows its port");
        let mut sealed = Vec::new();
        for mut piece in pieces {
            let len = piece.len();
            let mut piece = PacketBuf::new(&mut piece, 0, len).unwrap();
            if let Outcome::Whole(mut whole) = reassembly.take(NOW, 0, &mut piece).unwrap() {
                let verdict = out.classify(NOW, whole.as_slice());
                assert_eq!(verdict.is_ok(), passes);
                if let Some(sa) = verdict.ok().and_then(|verdict| verdict.sa()) {
                    out.seal(NOW, sa, &mut whole).unwrap();
                    sealed.push(whole.as_slice().to_vec());
                }
            }
        }
        let opened: Vec<_> = sealed.iter().map(|esp| open(&mut inn, esp).unwrap()).collect();
        assert_eq!(opened, if passes { vec![inner] } else { vec![] });
    }
}
