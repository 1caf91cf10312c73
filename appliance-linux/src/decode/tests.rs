use std::fs;
use std::io::Cursor;

use ike_core::registry::PayloadType;
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, Protection};
use ipsec_core::engine::{Outbound, OutboundSlot};
use ipsec_core::net::{AddrRange, Encap, Path as Way, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;

use super::capture::{Capture, Frame};
use super::*;

const GCM: &str = "psk-aes256gcm16-p256";

fn file(name: &str, end: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ike-core/tests/vectors").join(format!("{name}.{end}"))
}

fn keys(name: &str) -> Keys {
    Keys::load(&file(name, "keys.json")).unwrap()
}

/// The IP packets of a session.
fn packets(name: &str) -> Vec<Vec<u8>> {
    let frames = Capture::new(fs::File::open(file(name, "pcap")).unwrap()).unwrap().map(Result::unwrap);
    frames.map(|Frame { octets, .. }| octets[14..].to_vec()).collect()
}

/// A capture of these frames.
fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 262_144, link] {
        file.extend(u32::to_be_bytes(number));
    }
    for (second, frame) in frames.iter().enumerate() {
        let (second, len) = (u32::try_from(second).unwrap(), u32::try_from(frame.len()).unwrap());
        for number in [second, 0, len, len] {
            file.extend(number.to_be_bytes());
        }
        file.extend(frame);
    }
    file
}

fn told(capture: &[u8], keys: &Keys, json: bool) -> Result<(Tally, String), Unfinished> {
    let mut out = Vec::new();
    let tally = tell(|| Capture::new(Cursor::new(capture)), keys, json, &mut out)?;
    Ok((tally, String::from_utf8(out).unwrap()))
}

fn opened(capture: &[u8], keys: &Keys) -> (u64, u64) {
    let (tally, text) = told(capture, keys, false).unwrap();
    assert_eq!(tally.trouble(), None, "{text}");
    (tally.protected.opened, tally.packets.opened)
}

#[test]
fn a_session_opens_whatever_the_interface_put_in_front_of_its_packets() {
    let (keys, packets) = (keys(GCM), packets(GCM));
    let vlans = [&[2; 12][..], &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0]].concat();
    let cooked = [&[0; 14][..], &[8, 0]].concat();
    let newer = [&[8, 0][..], &[0; 18]].concat();
    for (link, header) in [(101, &[][..]), (0, &[2, 0, 0, 0]), (1, &vlans), (113, &cooked), (276, &newer)] {
        let frames: Vec<_> = packets.iter().map(|packet| [header, packet].concat()).collect();
        assert_eq!(opened(&pcap(link, &frames), &keys), (10, 12), "{link}");
    }
}

#[test]
fn a_session_in_fragments_opens() {
    let mut frames = Vec::new();
    for packet in packets(GCM) {
        let (header, payload) = packet.split_at(20);
        let parts: Vec<_> = payload.chunks(64).collect();
        for (index, part) in parts.iter().enumerate().rev() {
            let mut header = header.to_vec();
            header[2..4].copy_from_slice(&u16::try_from(20 + part.len()).unwrap().to_be_bytes());
            let more = if index + 1 < parts.len() { 0x2000 } else { 0 };
            header[6..8].copy_from_slice(&u16::try_from(more | (index * 8)).unwrap().to_be_bytes());
            frames.push([&header, *part].concat());
        }
    }
    assert_eq!(opened(&pcap(101, &frames), &keys(GCM)), (10, 12));
}

#[test]
fn of_several_sessions_each_gets_its_keys_in_whatever_order_they_stand() {
    let names = [GCM, "ecdsa256-aes128gcm16-x25519", "psk-cookie-invalidke"];
    let frames: Vec<_> = names.iter().flat_map(|name| packets(name)).collect();
    let json =
        |name: &str| serde_json::from_slice::<serde_json::Value>(&fs::read(file(name, "keys.json")).unwrap()).unwrap();
    let lists = |list: &str, names: &[&str]| {
        names.iter().rev().flat_map(|name| json(name)[list].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let keys = |ike: &[&str]| {
        let text = serde_json::json!({
            "ike_proposal": "aes256gcm16-prfsha384-ecp256,aes128gcm16-prfsha256-x25519",
            "esp_proposal": "aes128gcm16-aes256gcm16",
            "ike_sas": lists("ike_sas", ike),
            "child_sas": lists("child_sas", &names),
        });
        Keys::parse(text.to_string().as_bytes()).unwrap()
    };
    assert_eq!(opened(&pcap(101, &frames), &keys(&names)), (30, 36));
    // The keys of SAs that rekeys made and that said nothing are not taken for those of the third session.
    let (tally, _) = told(&pcap(101, &frames), &keys(&names[..2]), false).unwrap();
    assert_eq!((tally.protected.opened, tally.protected.no_key, tally.packets.opened), (20, 10, 36));
    assert_eq!(tally.trouble(), None);
}

#[test]
fn packets_that_come_again_or_late_open_and_are_told() {
    let mut frames = packets(GCM);
    let esp = frames.iter().position(|packet| packet[28..32] != [0; 4] && packet[22..24] == [0x11, 0x94]).unwrap();
    frames.insert(esp + 5, frames[esp].clone());
    let late = frames.remove(esp + 2);
    frames.insert(esp + 6, late);
    let (tally, text) = told(&pcap(101, &frames), &keys(GCM), false).unwrap();
    assert_eq!((tally.packets.opened, tally.trouble()), (13, None));
    assert_eq!(
        ["order replayed", "order late", "order ahead"].map(|order| text.matches(order).count()),
        [1, 1, 1],
        "{text}"
    );
}

/// Packets on the wire of an SA with 7 in all octets of its key, and SPI 1000 in hex.
fn sealed(mode: Mode, encap: Encap, esn: bool, last_sent: u64, inner: &[&[u8]]) -> Vec<Vec<u8>> {
    sealed_with(AeadAlg::Aes128Gcm16.into(), &[7; 20], mode, encap, esn, last_sent, inner)
}

fn sealed_with(
    protection: Protection,
    keymat: &[u8],
    mode: Mode,
    encap: Encap,
    esn: bool,
    last_sent: u64,
    inner: &[&[u8]],
) -> Vec<Vec<u8>> {
    let any = [TrafficSelector::addrs(AddrRange::ANY_V4)];
    let host = |last| [TrafficSelector::addrs(AddrRange::single([10, 0, 0, last].into()))];
    let end = |last| std::net::SocketAddr::from(([192, 0, 2, last], if encap == Encap::Udp { 4500 } else { 0 }));
    let hosts = (host(1), host(2));
    let (local_ts, remote_ts) = if mode == Mode::Beet { (&hosts.0, &hosts.1) } else { (&any, &any) };
    let sa = Params {
        spi: Spi::new(0x1000).unwrap(),
        mode,
        protection,
        keymat,
        esn,
        path: Way { local: end(1), remote: end(2) },
        encap,
        policy: PolicyId(1),
        local_ts,
        remote_ts,
        lifetime: Lifetime::default(),
        compression: None,
    };
    let params =
        OutboundParams { sa, last_sent, last_number: u64::MAX, copy_dscp: false, dont_fragment: DontFragment::Clear };
    let mut slots = [const { OutboundSlot::<RustCrypto>::EMPTY }];
    let mut engine: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut slots);
    let id = engine.install(Instant::ZERO, &params).unwrap();
    let seal = |inner: &&[u8]| {
        let mut octets = [0; 300];
        let mut packet = PacketBuf::with_payload(&mut octets, inner).unwrap();
        let egress = engine.seal(Instant::ZERO, id, &mut packet).unwrap();
        ipsec_core::encap::push_outer(&egress, &mut packet).unwrap();
        packet.as_slice().to_vec()
    };
    inner.iter().map(seal).collect()
}

/// The keys of such an SA.
fn keys_of_sealed(proposal: &str) -> Keys {
    keys_of(proposal, &"07".repeat(20))
}

fn keys_of(proposal: &str, key: &str) -> Keys {
    let text = r#"{"esp_proposal": "PROPOSAL", "child_sas": [{"spi_of_initiator_traffic": "00001000",
        "spi_of_responder_traffic": "00002000", "encryption initiator key": "KEY", "encryption responder key": "KEY"}]}"#;
    Keys::parse(text.replace("PROPOSAL", proposal).replace("KEY", key).as_bytes()).unwrap()
}

#[test]
fn extended_sequence_numbers_are_followed_over_their_low_half() {
    let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let frames = sealed(Mode::Tunnel, Encap::Udp, true, u64::from(u32::MAX) - 2, &[&inner[..]; 4]);
    let (tally, text) = told(&pcap(101, &frames), &keys_of_sealed("aes128gcm16-esn-noesn"), false).unwrap();
    assert_eq!((tally.packets.opened, tally.trouble()), (4, None), "{text}");
    assert_eq!(text.matches("extended_sequence").count(), 4);
    assert!(
        text.contains("sequence 1 verdict opened suite ENCR_AES_GCM_16/128+ESN icv right extended_sequence 4294967297"),
        "{text}"
    );
}

#[test]
fn of_two_directions_with_one_spi_each_has_its_keys_and_its_order() {
    let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let text = format!(
        r#"{{"esp_proposal": "aes128gcm16-esn", "child_sas": [{{"spi_of_initiator_traffic": "00001000",
        "spi_of_responder_traffic": "00001000", "encryption initiator key": "{}", "encryption responder key": "{}"}}]}}"#,
        "07".repeat(20),
        "09".repeat(20)
    );
    let keys = Keys::parse(text.as_bytes()).unwrap();
    let sealed = |octet: u8, last_sent| {
        let protection = AeadAlg::Aes128Gcm16.into();
        sealed_with(protection, &[octet; 20], Mode::Tunnel, Encap::Udp, true, last_sent, &[&inner[..]; 2])
    };
    // Of the first no packet has a number like those of the second, and the other way round.
    let (one, two) = (sealed(7, 0), sealed(9, u64::from(u32::MAX) - 4));
    let frames = [&one[0], &two[0], &one[1], &two[1]].map(Clone::clone);
    let (tally, text) = told(&pcap(101, &frames), &keys, false).unwrap();
    assert_eq!((tally.packets.opened, tally.trouble()), (4, None), "{text}");
    assert_eq!((text.matches("order first").count(), text.matches("order next").count()), (2, 2), "{text}");
}

#[test]
fn packets_open_with_whatever_the_gateway_speaks_and_without_a_word_on_their_numbers() {
    let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    for (word, protection) in [
        ("aes128gcm16iiv", Protection::ImplicitIv(AeadAlg::Aes128Gcm16)),
        ("chacha20poly1305iiv", Protection::ImplicitIv(AeadAlg::ChaCha20Poly1305)),
        ("aes256gcm96", AeadAlg::Aes256Gcm12.into()),
        ("aes128ccm64", AeadAlg::Aes128Ccm8.into()),
        ("aes256ccm128", AeadAlg::Aes256Ccm16.into()),
    ] {
        for esn in [false, true] {
            let key = vec![7; protection.encr_key_len()];
            let frames = sealed_with(protection, &key, Mode::Tunnel, Encap::None, esn, 0, &[&inner[..]; 2]);
            let keys = keys_of(word, &"07".repeat(key.len()));
            let (tally, text) = told(&pcap(101, &frames), &keys, false).unwrap();
            assert_eq!((tally.packets.opened, tally.trouble()), (2, None), "{text}");
            assert_eq!(text.matches("+ESN").count(), if esn { 2 } else { 0 }, "{text}");
        }
    }
}

/// A UDP datagram to port 53 between two addresses that end so.
fn datagram(network: [u8; 3], payload: &[u8]) -> Vec<u8> {
    let [a, b, c] = network;
    let (total, len) = (u8::try_from(28 + payload.len()).unwrap(), u8::try_from(8 + payload.len()).unwrap());
    let ip = [0x45, 0, 0, total, 0, 0, 0, 0, 64, 17, 0, 0, a, b, c, 1, a, b, c, 2];
    [&ip[..], &[0x13, 0x88, 0, 53, 0, len, 0, 0], payload].concat()
}

#[test]
fn packets_of_every_mode_open_and_are_told() {
    let (hosts, ends) = (datagram([10, 0, 0], b"ping"), datagram([192, 0, 2], b"ping"));
    for encap in [Encap::None, Encap::Udp] {
        for (mode, inner, begins) in [
            (Mode::Tunnel, &hosts, "mode tunnel source 10.0.0.1 destination 10.0.0.2"),
            (Mode::Transport, &ends, "mode transport source 192.0.2.1 destination 192.0.2.2"),
            (Mode::Beet, &hosts, "mode transport source 192.0.2.1 destination 192.0.2.2"),
        ] {
            let frames = sealed(mode, encap, false, 0, &[&inner[..]; 2]);
            let (tally, text) = told(&pcap(101, &frames), &keys_of_sealed("aes128gcm16"), false).unwrap();
            assert_eq!((tally.packets.opened, tally.trouble()), (2, None), "{text}");
            let told = format!("  packet {begins} protocol udp source_port 5000 destination_port 53 length 32\n");
            assert_eq!(text.matches(&told).count(), 2, "{text}");
        }
    }
}

#[test]
fn what_says_that_it_is_an_ip_packet_and_is_none_is_what_one_host_says_to_the_other() {
    let mut other = datagram([192, 0, 2], b"");
    other[9] = 4; // RFC 4303 §2.7: a payload as any other
    let frames = sealed(Mode::Transport, Encap::None, false, 0, &[&other, &datagram([192, 0, 2], b"whole")]);
    let (tally, text) = told(&pcap(101, &frames), &keys_of_sealed("aes128gcm16"), false).unwrap();
    assert_eq!((tally.packets.opened, tally.packets.failed), (2, 0), "{text}");
    assert_eq!(text.matches("mode transport").count(), 2, "{text}");
}

#[test]
fn fragments_that_overlap_open_nothing_and_are_told() {
    let whole = &sealed(Mode::Tunnel, Encap::None, false, 0, &[&datagram([10, 0, 0], &[7; 40])])[0];
    let fragment = |from: usize, to: usize| {
        let more = if to < whole.len() { 0x20 } else { 0 };
        let mut header = whole[..20].to_vec();
        header[3] = u8::try_from(20 + to - from).unwrap();
        (header[6], header[7]) = (more, u8::try_from((from - 20) / 8).unwrap());
        [&header[..], &whole[from..to]].concat()
    };
    let (first, last) = (fragment(20, 20 + 48), fragment(20 + 48, whole.len()));
    let keys = keys_of_sealed("aes128gcm16");
    assert_eq!(opened(&pcap(101, &[last.clone(), first.clone()]), &keys), (0, 1));
    let (tally, text) =
        told(&pcap(101, &[first.clone(), fragment(20 + 40, whole.len()), last.clone()]), &keys, false).unwrap();
    assert_eq!((tally.packets, tally.broken), (Outcomes::default(), 2), "{text}");
    assert_eq!(text.matches("broken error a fragment overlaps another one").count(), 2, "{text}");
    // The others come a minute later.
    let mut late = pcap(101, &[first, last]);
    let at = 24 + 16 + 68;
    late[at..at + 4].copy_from_slice(&61_u32.to_be_bytes());
    let (tally, text) = told(&late, &keys, false).unwrap();
    assert_eq!((tally.packets, text.matches(" fragment id ").count()), (Outcomes::default(), 2), "{text}");
}

#[test]
fn what_the_capture_does_not_have_all_of_fails_as_that() {
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 64, 101] {
        file.extend(u32::to_be_bytes(number));
    }
    for packet in packets(GCM) {
        for number in [0, 0, 64, u32::try_from(packet.len()).unwrap()] {
            file.extend(number.to_be_bytes());
        }
        file.extend(&packet[..64]);
    }
    let (tally, text) = told(&file, &keys(GCM), false).unwrap();
    assert_eq!((tally.messages, tally.protected.failed, tally.packets.failed), (12, 10, 12), "{text}");
    assert_eq!(text.matches("why the capture does not have all of it").count(), 22);
    assert!(!text.contains("malformed"), "{text}");
}

#[test]
fn other_packets_are_counted_and_broken_ones_told() {
    let mut frames = vec![vec![0x45; 10], vec![]];
    let mut tcp = packets(GCM)[0].clone();
    tcp[9] = 6;
    frames.push(tcp);
    let (tally, text) = told(&pcap(101, &frames), &Keys::default(), false).unwrap();
    assert_eq!((tally.others, tally.broken, tally.trouble()), (2, 1, None), "{text}");
    assert!(text.starts_with("#1 0.000000 broken error a length or a field in the IP header is wrong\n"), "{text}");
    let (tally, text) = told(&pcap(147, &frames), &Keys::default(), false).unwrap();
    assert!(tally.broken == 3 && text.contains("link type 147"), "{text}");
}

/// Numbers that look like random ones, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }

    /// Fewer octets than that.
    fn octets(&mut self, below: usize) -> Vec<u8> {
        (0..self.next(below)).map(|_| u8::try_from(self.next(256)).unwrap()).collect()
    }

    /// Octets that begin as an IP packet for IPsec does, mostly.
    fn packet(&mut self) -> Vec<u8> {
        let mut packet = self.octets(90);
        let len = u8::try_from(packet.len()).unwrap();
        let v4 = [0x45, 0, 0, len, 0, 7, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x11, 0x94, 0x11, 0x94, 0];
        let v6 = [0x60, 0, 0, 0, 0, len.saturating_sub(40), 50];
        let begins: &[u8] = [&v4[..], &v6, &[]][self.next(3)];
        packet.iter_mut().zip(begins).for_each(|(to, from)| *to = *from);
        packet
    }
}

#[test]
fn damaged_captures_are_told_to_their_end_and_open_no_more_than_whole_ones() {
    let mut numbers = Numbers(0x5eed);
    for name in [GCM, "psk-cookie-invalidke", "rsa-aes128cbc-sha512-ecp384"] {
        let (keys, whole) = (keys(name), fs::read(file(name, "pcap")).unwrap());
        let best = told(&whole, &keys, false).unwrap().0;
        let mut noticed = 0;
        for round in 0..60 {
            let mut damaged = whole.clone();
            for _ in 0..=numbers.next(24) {
                let at = 24 + numbers.next(damaged.len() - 24);
                damaged[at] ^= 1 << numbers.next(8);
            }
            if round % 3 == 0 {
                damaged.truncate(24 + numbers.next(damaged.len() - 24));
            }
            let Ok((tally, text)) = told(&damaged, &keys, round % 2 == 0) else {
                panic!("{name}: the header is whole")
            };
            assert!(tally.protected.opened <= best.protected.opened && tally.packets.opened <= best.packets.opened);
            noticed += usize::from(tally != best);
            if round % 2 == 0 {
                assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
            } else {
                assert!(text.bytes().all(|octet| octet == b'\n' || !octet.is_ascii_control()), "{text}");
            }
        }
        assert!(noticed > 30, "{name}: {noticed}, as nothing guards addresses and times");
    }
}

#[test]
fn files_and_frames_of_any_octets_have_an_end() {
    let mut numbers = Numbers(0xf11e);
    for round in 0..300 {
        let frames: Vec<_> = (0..8).map(|_| numbers.packet()).collect();
        let link = [0, 1, 101, 113, 276][round % 5];
        let mut file = pcap(link, &frames);
        let (tally, text) = told(&file, &Keys::default(), false).unwrap();
        assert!(tally.others + tally.broken <= 8 && tally.trouble().is_none(), "{text}");
        file.splice(24.., numbers.octets(200));
        assert!(told(&file, &Keys::default(), true).is_ok());
        let section = [0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255];
        let mut file = [&section[..], &[255, 255, 255, 255, 0, 0, 0, 28]].concat();
        for kind in [1, 2, 3, 6] {
            let body = numbers.octets(60);
            let body = &body[..body.len() & !3];
            let len = u32::try_from(12 + body.len()).unwrap().to_be_bytes();
            file.extend([&u32::to_be_bytes(kind)[..], &len, body, &len].concat());
        }
        assert!(told(&file, &Keys::default(), true).is_ok());
    }
}

#[test]
fn payloads_of_any_octets_become_a_tree_that_no_terminal_obeys() {
    let mut numbers = Numbers(0x7ee);
    for round in 0..20_000 {
        let kind = PayloadType(u8::try_from(33 + round % 24).unwrap());
        let mut body = numbers.octets(64);
        let len = u16::try_from(4 + body.len()).unwrap().to_be_bytes();
        // Small numbers are what counts and lengths look like.
        for _ in 0..numbers.next(6) {
            let at = numbers.next(body.len().max(1));
            body.get_mut(at).into_iter().for_each(|octet| *octet = u8::try_from(numbers.next(9)).unwrap());
        }
        let chain = [&[0, 0, len[0], len[1]], &body[..]].concat();
        let nodes = payloads::payloads(kind, &chain);
        let [node] = nodes.as_slice() else { panic!("{kind} {nodes:?}") };
        let text = node.to_string();
        assert!(text.starts_with(&kind.to_string()) && text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert!(serde_json::to_string(node).unwrap().starts_with(r#"{"what":""#));
    }
}
