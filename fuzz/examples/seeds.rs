//! Writes the seeds of every corpus: `cargo run --example seeds`. What fuzzing found beside them stays.

use std::fs;
use std::path::Path;

use ike_core::error::NoRoom;
use ike_core::proposal::{EspProposal, IkeProposal, offer_esp, offer_ike};
use ike_core::registry::{AuthMethod, ExchangeType, IdKind, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::id::Id;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::net::{AddrRange, PortRange, Spi, TrafficSelector};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn put(target: &str, name: &str, octets: &[u8]) {
    let folder = root().join("corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder to write to");
    fs::write(folder.join(name), octets).expect("a file to write");
}

fn main() {
    card_reading();
    http_request();
    config_text();
    traffic_selectors();
    ip_classify();
    frame_parts();
    icmp_errors();
    reassembly();
    esp_open();
    esp_suites();
    ike_message();
    ike_decrypted();
    usb();
}

/// The smallest FAT16 card that holds the commented configuration, cut after the file, and the configuration itself.
fn card_reading() {
    use std::io::Write;
    const BLOCK: usize = 512;
    const BLOCKS: u32 = 4_400;
    let config = fs::read(root().join("../appliance-rpi/portcullis.toml")).expect("the configuration");
    let mut volume = std::io::Cursor::new(vec![0; BLOCKS as usize * BLOCK]);
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat16)
        .bytes_per_cluster(BLOCK as u32)
        .fats(1)
        .max_root_dir_entries(32);
    fatfs::format_volume(&mut volume, options).expect("a volume");
    let files = fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).expect("a volume");
    files.root_dir().create_file("portcullis.toml").and_then(|mut file| file.write_all(&config)).expect("a file");
    files.unmount().expect("a volume");
    let mut card = vec![0; BLOCK];
    card[450] = 0x06;
    card[454..458].copy_from_slice(&1_u32.to_le_bytes());
    card[458..462].copy_from_slice(&BLOCKS.to_le_bytes());
    card[510..512].copy_from_slice(&[0x55, 0xaa]);
    card.extend(volume.into_inner());
    let used = card.chunks(BLOCK).rposition(|block| block.iter().any(|octet| *octet != 0)).map_or(0, |last| last + 1);
    put("card_reading", "fat16", &card[..used * BLOCK]);
    put("card_reading", "configuration", &config);
}

fn http_request() {
    for (name, head) in [
        ("page", "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nAccept: text/html\r\n\r\n"),
        ("json", "GET /status.json?now HTTP/1.0\r\n\r\n"),
        ("panic", "POST /panic HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        ("tls", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}"),
    ] {
        put("http_request", name, head.as_bytes());
    }
}

/// The examples of the manual.
fn config_text() {
    let manual = fs::read_to_string(root().join("../docs/configuration.md")).expect("the manual");
    let blocks = manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    for (number, block) in blocks.enumerate() {
        put("config_text", &format!("manual-{number}"), block.as_bytes());
    }
}

fn selectors() -> [TrafficSelector; 4] {
    let net = |addr: &str, len| {
        TrafficSelector::addrs(AddrRange::prefix(addr.parse().expect("an address"), len).expect("a prefix length"))
    };
    [
        net("10.1.0.0", 16),
        TrafficSelector { protocol: 17, ports: PortRange::single(53), ..net("10.1.2.0", 24) },
        TrafficSelector { protocol: 58, ports: PortRange::OPAQUE, ..net("fd01::", 64) },
        net("fd00::", 8),
    ]
}

/// The first payload type and the payloads that `write` puts into a message.
fn payloads(write: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>) -> (u8, Vec<u8>) {
    let mut buf = [0; 2048];
    let mut message = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_AUTH, 1)).expect("room");
    write(&mut message).expect("room");
    let len = message.finish().len;
    (buf[16], buf[Header::LEN..len].to_vec())
}

fn traffic_selectors() {
    let body = |selectors: &[TrafficSelector]| {
        let (first, octets) = payloads(|message| message.ts(PayloadType::TS_I, selectors));
        let payload = Chain::new(PayloadType(first), &octets).next().expect("a payload").expect("well formed");
        payload.body.to_vec()
    };
    let all = selectors();
    for (name, a, b) in [("all", &all[..], &all[1..]), ("none", &all[..1], &[]), ("apart", &all[..1], &all[3..])] {
        let (a, b) = (body(a), body(b));
        put("traffic_selectors", name, &[&(a.len() as u16).to_be_bytes(), &a[..], &b].concat());
    }
    let unknown = [2, 0, 0, 0, 9, 0, 0, 8, 1, 2, 3, 4, 7, 0, 0, 16, 0, 0, 255, 255, 10, 0, 0, 0, 10, 255, 255, 255];
    put("traffic_selectors", "unknown", &[&[0, 28], &unknown[..], &unknown].concat());
}

fn ip_classify() {
    // Bypass for DNS, PROTECT between the sites of both families, DISCARD for the rest; two SAs.
    let rules = [&[4][..], &[0, 0, 0x98, 0], &[1, 2, 1, 1, 2], &[1, 2, 2, 5, 6], &[3, 1, 0, 0], &[2, 1, 1, 2, 2, 5, 6]];
    let v4 = |protocol: u8, fragment: [u8; 2], payload: &[u8]| {
        let header = [0x45, 0, 0, 20 + payload.len() as u8, 0, 1, fragment[0], fragment[1], 64, protocol, 0, 0];
        [&header[..], &[10, 1, 3, 4], &[10, 2, 9, 8], payload].concat()
    };
    let v6 = |next: u8, payload: &[u8]| {
        let end = |site: u8| [0xfd, site, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        [&[0x60, 0, 0, 0, 0, payload.len() as u8, next, 64][..], &end(1), &end(2), payload].concat()
    };
    let udp = [0x13, 0x88, 0, 53, 0, 8, 0, 0];
    for (name, packet) in [
        ("udp", v4(17, [0, 0], &udp)),
        ("icmp", v4(1, [0, 0], &[8, 0, 0, 0, 0, 1, 0, 1])),
        // Of a hop behind us, about what came from the other site.
        ("time-exceeded", {
            let about = [&[0x45, 0, 0, 99, 0, 1, 0, 0, 1, 17, 0, 0, 10, 2, 9, 8, 10, 1, 3, 4][..], &udp].concat();
            let mut packet = v4(1, [0, 0], &[&[11, 0, 0, 0, 0, 0, 0, 0], &about[..]].concat());
            packet[12..16].copy_from_slice(&[192, 0, 2, 99]);
            packet
        }),
        ("fragment", v4(17, [0x20, 9], &udp)),
        ("options", [&[0x46, 0, 0, 24][..], &v4(6, [0, 0], &udp)[4..20], &[1; 4]].concat()),
        ("tcp6", v6(6, &[0; 20])),
        ("extensions6", v6(0, &[&[60, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &udp].concat())),
        ("fragment6", v6(44, &[&[17, 0, 0, 9, 0, 0, 0, 1][..], &udp].concat())),
        ("routing6", v6(43, &[&[58, 0, 0, 0, 0, 0, 0, 0][..], &[128, 0, 0, 0]].concat())),
    ] {
        put("ip_classify", name, &[&rules.concat()[..], &[0], &packet].concat());
        // The bypass goes, and the last one lets pass what there is no SA for, before all others.
        let changes = [&[2, 1][..], &[6, 0, 2, 1, 0, 0]].concat();
        put("ip_classify", &format!("{name}-changed"), &[&rules.concat()[..], &changes, &packet].concat());
    }
}

fn frame_parts() {
    let (ends, udp) = ([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], [0x13, 0x88, 0, 53, 0, 8, 0, 0]);
    let v4 = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9][..], &udp].concat();
    let end = |last: u8| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let v6 = [&[0x60, 0, 0, 0, 0, 8, 17, 64][..], &end(1), &end(2), &udp].concat();
    for (name, headers, content) in [
        ("ipv4", &[8, 0][..], &[&v4[..], &[0; 18]].concat()[..]),
        ("ipv6", &[0x86, 0xdd], &v6),
        ("vlan", &[0x81, 0, 0x60, 7, 8, 0], &v4),
        ("qinq", &[0x88, 0xa8, 0, 100, 0x81, 0, 0x10, 7, 0x86, 0xdd], &v6),
        ("pppoe", &[0x88, 0x64, 0x11, 0, 0, 9, 0, 30, 0, 0x21], &v4),
        ("pppoe6", &[0x81, 0, 0, 7, 0x88, 0x64, 0x11, 0, 0, 9, 0, 50, 0, 0x57], &v6),
        ("lcp", &[0x88, 0x64, 0x11, 0, 0, 9, 0, 6, 0xc0, 0x21], &[9, 0, 0, 4]),
        ("llc", &[0, 3], &[0x42, 0x42, 3]),
        ("arp", &[8, 6], &[0, 1, 8, 0, 6, 4, 0, 1]),
        ("broken", &[8, 0], &v4[..27]),
    ] {
        put("frame_parts", name, &[&ends[..], headers, content].concat());
    }
}

/// Errors about packets of ours and of others, and packets that are too large.
fn icmp_errors() {
    let esp =
        [&[0x45, 0, 5, 220, 0, 1, 0x40, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2][..], &[0, 0, 16, 0, 0, 0, 0, 1]]
            .concat();
    let udp = [
        &[0x45, 0, 0, 99, 0, 1, 0, 0, 1, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9][..],
        &[0x11, 0x94, 0x11, 0x94, 0, 79, 0, 0],
    ]
    .concat();
    let end = |site: u8| [0xfd, site, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let v6 = |next: u8, len: [u8; 2], payload: &[u8]| {
        [&[0x60, 0, 0, 0, len[0], len[1], next, 64][..], &end(1), &end(2), payload].concat()
    };
    let from_router = |message: &[u8]| {
        let header = [0x45, 0, 0, 20 + message.len() as u8, 0, 1, 0, 0, 64, 1, 0, 0, 198, 51, 100, 1, 10, 1, 0, 5];
        [&header[..], message].concat()
    };
    for (name, packet) in [
        ("too-big", [&[3, 4, 0, 0, 0, 0, 5, 20][..], &esp].concat()),
        ("port", [&[3, 3, 0, 0, 0, 0, 0, 0][..], &udp].concat()),
        ("time-exceeded", from_router(&[&[11, 0, 0, 0, 0, 0, 0, 0][..], &udp].concat())),
        ("too-big6", [&[2, 0, 0, 0, 0, 0, 5, 20][..], &v6(50, [5, 180], &[0, 0, 16, 0, 0, 0, 0, 1])].concat()),
        ("long", [&[0x45, 0, 0, 200, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9][..], &[0; 180]].concat()),
        ("long6", v6(17, [5, 40], &[0; 1320])),
    ] {
        put("icmp_errors", name, &[&[0, 100][..], &packet].concat());
    }
}

/// Packets to be cut, and fragments that overlap, are too long, or come from two places.
fn reassembly() {
    let v4 =
        [&[0x46, 0, 1, 24, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, 7, 3, 4, 1][..], &[7; 256]].concat();
    let mut v6 = vec![0x60, 0, 0, 0, 1, 8, 0, 64];
    v6.extend([&[0; 32][..], &[17, 0, 1, 4, 0, 0, 0, 0], &[7; 256]].concat());
    for (name, packet) in [("options", &v4), ("hop-by-hop6", &v6)] {
        put("reassembly", name, &[&[0, 100][..], &[2, 1, 1, 0, 9, 9, 9, 9].repeat(4), packet].concat());
    }
    let part = |time: u8, scope: u8, id: u8, place: [u8; 2], len: u8| {
        let header = [0x45, 0, 0, 20 + len, 0, id, place[0], place[1], 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9];
        [&[time, scope, 5 + len.div_ceil(4)][..], &header, &vec![id; usize::from(len).next_multiple_of(4)]].concat()
    };
    let (first, last, over) = ([0x20, 0], [0, 2], [0x20, 1]);
    let whole = [part(0, 0, 1, last, 9), part(9, 0, 1, first, 16)].concat();
    let overlap = [part(0, 0, 1, first, 16), part(9, 0, 1, over, 16), part(9, 0, 1, last, 9)].concat();
    let apart = [part(0, 0, 1, first, 16), part(0, 1, 1, last, 9), part(255, 1, 1, first, 16)].concat();
    for (name, parts) in [("whole", whole), ("overlap", overlap), ("apart", apart)] {
        put("reassembly", name, &[&[1][..], &parts].concat());
    }
}

fn esp_open() {
    let inner = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, 0, 53, 0, 53, 0, 8, 0, 0];
    let packet =
        |sequence: u32, text: &[u8]| [&sequence.to_be_bytes()[..], &(text.len() as u16).to_be_bytes(), text].concat();
    let right = [&inner[..], &[1, 2, 2, 4]].concat();
    let texts: [&[u8]; 6] = [&right, &[1, 2, 2, 59], &[&inner[..], &[1, 3, 2, 4]].concat(), &[255, 4], &[0, 41], &[]];
    for (mode, highest) in [(0, 0u32), (1, 0), (2, 7), (3, 0x00ff_ffff), (1, 0x0100_0000), (0, u32::MAX - 1)] {
        let packets = (0..).zip(texts).map(|(index, text)| packet(highest.wrapping_add(1 + index), text));
        let seed = [vec![mode], highest.to_be_bytes().to_vec(), packets.collect::<Vec<_>>().concat()].concat();
        put("esp_open", &format!("mode-{mode}-from-{highest:x}"), &seed);
    }
}

/// Two packets, one changed on its way, cut and noise; of each kind of suite one, in turn in each mode.
fn esp_suites() {
    let steps =
        [&[0, 0, 0, 40][..], &[0, 0, 0, 9], &[2, 0, 0, 30, 8], &[0x42, 1, 0, 20, 0], &[3, 0, 0, 30, 7], &[1, 1, 1, 0]];
    for (name, suite, choices) in [
        ("gcm", 0, 0),
        ("ccm", 9, 0x41),
        ("chacha20poly1305", 18, 0x82),
        ("gmac", 19, 0xc0),
        ("implicit", 22, 0x41),
        ("null", 29, 2),
        ("cbc", 43, 0x41),
        ("ctr", 64, 0xc2),
    ] {
        let last = if choices & 0x40 == 0 { 7_u32 } else { (1 << 24) - 1 }.to_be_bytes();
        put("esp_suites", name, &[&[suite, choices][..], &last, &steps.concat()].concat());
    }
}

/// What our captures hold of IKE_SA_INIT.
fn ike_message() {
    let vectors = root().join("../ike-core/tests/vectors");
    for entry in fs::read_dir(vectors).expect("the vectors of ike-core") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut reader = pcap_file::pcap::PcapReader::new(fs::File::open(&path).expect("the capture")).expect("a pcap");
        let mut number = 0;
        while let Some(packet) = reader.next_packet() {
            let packet = packet.expect("a packet").data;
            // Ethernet, IPv4 without options, UDP; the length in the IKE header ends the search.
            let Some(message) = packet.get(42..) else { continue };
            let clear = Header::parse(message).is_ok_and(|header| header.exchange == ExchangeType::IKE_SA_INIT);
            if clear && number < 4 {
                put("ike_message", &format!("{name}-{number}"), message);
                number += 1;
            }
        }
        assert!(number > 0, "{name} holds no IKE_SA_INIT");
    }
}

/// A step of the dialogue that puts a message on the wire to side `to`, and delivers it.
fn inject(to: u8, exchange: u8, flags: u8, id: u8, (first, inner): (u8, Vec<u8>)) -> Vec<u8> {
    let len = (inner.len() as u16).to_be_bytes();
    [&[to << 7 | 9, 0, exchange, flags, id, first][..], &len, &inner, &[0; 4]].concat()
}

fn ike_decrypted() {
    let wish = |side: u8, what: u8, nth: u8| vec![side << 7 | 12, what, nth];
    let deliver = |count: usize| vec![0; count];
    let pass = |half_seconds: u8| vec![11, half_seconds];
    put("ike_decrypted", "handshake", &[vec![1], deliver(8)].concat());
    put("ike_decrypted", "handshake-lossy", &[vec![1, 0, 4], pass(2), deliver(2), vec![5], deliver(8)].concat());
    for (name, what) in
        [("child-rekey", 1), ("ike-rekey", 2), ("child-close", 3), ("close", 4), ("create-child", 5), ("moved", 8)]
    {
        for side in 0..2 {
            put("ike_decrypted", &format!("{name}-{side}"), &[vec![0], wish(side, what, 1), deliver(8)].concat());
        }
        let crossing = [vec![0], wish(0, what, 0), wish(1, what, 0), deliver(16), pass(100), deliver(8)];
        put("ike_decrypted", &format!("{name}-crossing"), &crossing.concat());
    }

    let ike = [IkeProposal::default()];
    let esp = [EspProposal::default()];
    let spi = 0x0bad_cafe_u32.to_be_bytes();
    let [v4, .., v6] = selectors();
    let right = TrafficSelector::addrs(AddrRange::prefix([10, 2, 0, 0].into(), 16).expect("a prefix length"));
    let ts = |message: &mut MessageWriter<'_>| {
        message.ts(PayloadType::TS_I, &[v4, v6])?;
        message.ts(PayloadType::TS_R, &[right, v6])
    };
    let child = |with_ke| {
        payloads(|message| {
            message.sa(ProtocolId::ESP, &spi, offer_esp(&esp, with_ke))?;
            message.nonce(&[9; 32])?;
            if with_ke {
                message.ke(ike_core::registry::GroupId::CURVE25519, &[0x4b; 32])?;
            }
            ts(message)
        })
    };
    let ike_rekey = payloads(|message| {
        message.sa(ProtocolId::IKE, &[8; 8], offer_ike(&ike))?;
        message.nonce(&[9; 32])?;
        message.ke(ike_core::registry::GroupId::CURVE25519, &[0x4b; 32])
    });
    let auth = payloads(|message| {
        message.id(PayloadType::ID_I, &Id { kind: IdKind::FQDN, data: b"left.example" })?;
        message.auth(AuthMethod::SHARED_KEY, &[0x5f; 48])?;
        message.sa(ProtocolId::ESP, &spi, offer_esp(&esp, false))?;
        ts(message)
    });
    let notify = |kind, data: &[u8]| payloads(|message| message.notify_parts(kind, &[data]));
    let esp_delete = payloads(|message| message.delete_esp(&[Spi::new(0x0bad_cafe).expect("not reserved")]));
    // 34 + 0 … 3: IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL. Left is the initiator: its requests begin with 2.
    let messages = [
        ("new-child", 2, 0, 2, child(false)),
        ("new-child-pfs", 2, 0, 2, child(true)),
        ("new-ike", 2, 0, 2, ike_rekey.clone()),
        ("delete-ike", 3, 0, 2, payloads(|message| message.delete_ike())),
        ("delete-child", 3, 0, 2, esp_delete),
        ("liveness", 3, 0, 2, (0, Vec::new())),
        ("auth-again", 1, 0, 2, auth),
        ("rejected", 3, 0, 2, notify(NotifyKind::AUTHENTICATION_FAILED, &[])),
        ("syntax", 3, 0, 2, notify(NotifyKind::INVALID_SYNTAX, &[])),
        ("answer-child", 2, 1, 2, child(true)),
        ("answer-ike", 2, 1, 2, ike_rekey),
        ("answer-busy", 2, 1, 2, notify(NotifyKind::TEMPORARY_FAILURE, &[])),
        ("answer-group", 2, 1, 2, notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19])),
        ("answer-clear", 3, 5, 2, notify(NotifyKind::INVALID_SYNTAX, &[])),
    ];
    for (name, exchange, flags, id, message) in messages {
        for to in 0..2 {
            let before = if flags & 1 == 1 { wish(to, if exchange == 2 { 1 } else { 4 }, 0) } else { Vec::new() };
            // Right has sent nothing yet: its requests begin with 0.
            let id = if to == 0 && flags & 1 == 0 || to == 1 && flags & 1 == 1 { 0 } else { id };
            let seed =
                [vec![0], before, inject(to, exchange, flags, id, message.clone()), pass(60), deliver(4)].concat();
            put("ike_decrypted", &format!("{name}-to-{to}"), &seed);
        }
    }
    // The first answer of the handshake behind the tag, replaced from octet 0 on.
    let (first, inner) = child(false);
    let replace = [&[8, first, 0][..], &(inner.len() as u16).to_be_bytes(), &inner].concat();
    put("ike_decrypted", "replace-auth", &[vec![1], deliver(2), replace, deliver(8)].concat());
}

/// What a hub, a CDC Ethernet adapter and the chip of a Raspberry Pi 3 say.
fn usb() {
    let device = |class: u8, vendor: u16, product: u16| {
        let ([v0, v1], [p0, p1]) = (vendor.to_le_bytes(), product.to_le_bytes());
        [18, 1, 0, 2, class, 0, 0, 64, v0, v1, p0, p1, 0, 0, 1, 2, 3, 1]
    };
    let configuration = |parts: &[&[u8]]| {
        let mut all = vec![9, 2, 0, 0, 1, 1, 0, 0x80, 50];
        all.extend(parts.concat());
        all[2] = all.len() as u8;
        all
    };
    let hub = configuration(&[&[9, 4, 0, 0, 1, 9, 0, 0, 0], &[7, 5, 0x81, 3, 2, 0, 12]]);
    let ecm = configuration(&[
        &[9, 4, 0, 0, 1, 2, 6, 0, 4],
        &[5, 0x24, 0, 0x10, 1],
        &[5, 0x24, 6, 0, 1],
        &[13, 0x24, 15, 3, 0, 0, 0, 0, 0xEA, 5, 0, 0, 0],
        &[7, 5, 0x81, 3, 16, 0, 32],
        &[9, 4, 1, 0, 0, 10, 0, 0, 0],
        &[9, 4, 1, 1, 2, 10, 0, 0, 0],
        &[7, 5, 0x82, 2, 0, 2, 0],
        &[7, 5, 0x02, 2, 0, 2, 0],
    ]);
    let smsc = configuration(&[
        &[9, 4, 0, 0, 3, 0xFF, 0, 0xFF, 0],
        &[7, 5, 0x81, 2, 0, 2, 0],
        &[7, 5, 0x02, 2, 0, 2, 0],
        &[7, 5, 0x83, 3, 16, 0, 4],
    ]);
    let hub_descriptor = [9, 0x29, 8, 9, 0, 50, 0, 0, 0xFF];
    let mut station = vec![26, 3];
    station.extend("0200ABcdEF91".bytes().flat_map(|digit| [digit, 0]));
    for (name, device, rest) in [
        ("hub", device(9, 0x0409, 0x55AA), &hub[..]),
        ("hub-ports", device(9, 0x0409, 0x55AA), &hub_descriptor),
        ("cdc-ethernet", device(2, 0x0525, 0xA4A2), &ecm),
        ("station", device(2, 0x0525, 0xA4A2), &station),
        ("smsc95xx", device(0xFF, 0x0424, 0xEC00), &smsc),
    ] {
        put("usb_descriptors", name, &[&device, rest].concat());
    }
    let (down, up) = ([8, 0xA1, 0, 0, 0, 0, 0, 0, 0], [8, 0xA1, 0, 1, 0, 0, 0, 0, 0]);
    let speed = [16, 0xA1, 0x2A, 0, 0, 0, 0, 8, 0, 0, 0xE1, 0xF5, 5, 0, 0xE1, 0xF5, 5];
    put("cdc_notification", "flap", &[&speed[..], &down, &speed, &up, &speed].concat());
    let frame = |status: u32, len: usize| {
        let header = (status | (len as u32 + 4) << 16).to_le_bytes();
        [&header[..], &vec![0xAA; (len + 4).next_multiple_of(4)]].concat()
    };
    put("smsc95xx_burst", "frames", &[frame(0, 60), frame(1 << 15, 61), frame(0, 1518), frame(0, 14)].concat());
    put("smsc95xx_burst", "too-long", &[frame(0, 60), frame(1 << 28, 60)].concat());
}
