//! Recorded frames, and the same with tags and sessions put around them: what is read of them is what tshark reads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use ipsec_core::flow::Ports;
use ipsec_core::wire::cursor::Writer;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use traffic_core::frame::{Content, Frame};
use traffic_core::wire::ethernet::{self, EtherType};
use traffic_core::wire::pppoe::{self, Protocol};
use traffic_core::wire::vlan::{self, Tag};

/// What is asked of tshark.
const FIELDS: [&str; 17] = [
    "eth.dst",
    "eth.src",
    "ieee8021ad.id",
    "ieee8021ad.priority",
    "vlan.id",
    "vlan.priority",
    "pppoe.session_id",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.len",
    "ipv6.src",
    "ipv6.dst",
    "udp.srcport",
    "udp.dstport",
    "tcp.srcport",
    "tcp.dstport",
];

/// The captures beside the repository that hold Ethernet frames.
fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/pcap");
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "pcap")).collect();
    files.sort();
    files
}

/// The frames of a capture, and what to call each.
fn named(file: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(mut reader) = PcapReader::new(File::open(file).unwrap()) else { return Vec::new() };
    let mut frames = Vec::new();
    if reader.header().datalink == DataLink::ETHERNET {
        while let Some(Ok(packet)) = reader.next_packet() {
            frames.push((format!("{} frame {}", file.display(), frames.len() + 1), packet.data.to_vec()));
        }
    }
    frames
}

/// Puts VLANs and, where it carries IP, a session around a frame.
fn wrapped(frame: &[u8], tags: &[Tag], session: Option<u16>) -> Vec<u8> {
    let plain = ethernet::Header::read(&mut ipsec_core::wire::cursor::Reader::new(frame)).unwrap();
    let payload = &frame[ethernet::HEADER_LEN..];
    let protocol = match plain.ether_type {
        EtherType::IPV4 => Some(Protocol::IPV4),
        EtherType::IPV6 => Some(Protocol::IPV6),
        _ => None,
    };
    let session = session.zip(protocol);
    let last = if session.is_some() { EtherType::PPPOE_SESSION } else { plain.ether_type };
    let kinds: Vec<_> = tags.iter().map(|tag| tag.kind).chain([last]).collect();
    let mut octets = vec![0; ethernet::HEADER_LEN + tags.len() * vlan::TAG_LEN];
    let mut writer = Writer::new(&mut octets);
    ethernet::Header { ether_type: kinds[0], ..plain }.write(&mut writer).unwrap();
    for (tag, tagged) in tags.iter().zip(&kinds[1..]) {
        tag.write(*tagged, &mut writer).unwrap();
    }
    if let Some((session, protocol)) = session {
        let mut header = [0; pppoe::HEADER_LEN];
        let payload_len = payload.len().try_into().unwrap();
        pppoe::Header { session, payload_len, protocol }.write(&mut Writer::new(&mut header)).unwrap();
        octets.extend(header);
    }
    octets.extend(payload);
    octets
}

/// The fields of each frame as tshark reads them, in the order of [`FIELDS`].
fn dissected(frames: &[Vec<u8>]) -> Vec<Vec<String>> {
    let file = std::env::temp_dir().join(format!("portcullis-frames-{}.pcap", std::process::id()));
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(File::create(&file).unwrap(), header).unwrap();
    for frame in frames {
        let length = frame.len().try_into().unwrap();
        writer.write_packet(&PcapPacket::new(std::time::Duration::ZERO, length, frame)).unwrap();
    }
    drop(writer);
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-r"]).arg(&file);
    let output = command.args(FIELDS.iter().flat_map(|field| ["-e", field])).output().unwrap();
    let _ = fs::remove_file(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn compare(octets: &[u8], fields: &[String], known: &str) -> &'static str {
    let field = |name: &str| fields[FIELDS.iter().position(|field| *field == name).unwrap()].as_str();
    // Packets inside others, such as in errors of ICMP, are told behind a comma.
    let first = |name: &str| field(name).split(',').next().unwrap_or_default();
    let number = |name: &str| u32::from_str_radix(first(name).trim_start_matches("0x"), 16).ok();
    let frame = Frame::of(octets).unwrap_or_else(|_| panic!("{known}: malformed"));
    assert_eq!(
        (frame.destination.to_string(), frame.source.to_string()),
        (field("eth.dst").into(), field("eth.src").into())
    );
    let tags: Vec<_> = [frame.tags.outer(), frame.tags.inner()].into_iter().flatten().collect();
    for (kind, name) in [(EtherType::PROVIDER_VLAN, "ieee8021ad"), (EtherType::VLAN, "vlan")] {
        let list = |value: fn(&Tag) -> u16| {
            let values = tags.iter().filter(|tag| tag.kind == kind).map(|tag| value(tag).to_string());
            values.collect::<Vec<_>>().join(",")
        };
        assert_eq!(list(|tag| tag.vlan), field(&format!("{name}.id")), "{known}");
        assert_eq!(list(|tag| tag.priority.into()), field(&format!("{name}.priority")), "{known}");
    }
    assert_eq!(frame.session.map(u32::from), number("pppoe.session_id"), "{known}");
    match frame.content {
        Content::Ip { flow, packet } => {
            let version = if flow.source.is_ipv4() { "ip" } else { "ipv6" };
            assert_eq!(flow.source.to_string(), first(&format!("{version}.src")), "{known}");
            assert_eq!(flow.destination.to_string(), first(&format!("{version}.dst")), "{known}");
            if version == "ip" {
                assert_eq!(flow.protocol.to_string(), first("ip.proto"), "{known}");
                assert_eq!(packet.len().to_string(), first("ip.len"), "{known}");
            }
            if let (6 | 17, Ports::Pair { source, destination }) = (flow.protocol, flow.ports) {
                let upper = if flow.protocol == 6 { "tcp" } else { "udp" };
                assert_eq!(source.to_string(), first(&format!("{upper}.srcport")), "{known}");
                assert_eq!(destination.to_string(), first(&format!("{upper}.dstport")), "{known}");
            }
            "ip"
        }
        Content::BrokenIp(payload) => {
            let len: usize = first("ip.len").parse().unwrap();
            assert!(len > payload.len(), "{known}: tshark sees a whole packet of {len} octets");
            "broken"
        }
        _ => {
            assert_eq!((field("ip.src"), field("ipv6.src")), ("", ""), "{known}");
            "other"
        }
    }
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project, and runs tshark"]
fn frames_are_read_as_tshark_reads_them() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("skipped: no tshark");
        return;
    }
    let tag = |kind, priority, vlan| Tag { kind, priority, drop_eligible: false, vlan };
    let (outer, inner) = (tag(EtherType::PROVIDER_VLAN, 5, 100), tag(EtherType::VLAN, 1, 7));
    let plain: Vec<(String, Vec<u8>)> = captures().iter().flat_map(|file| named(file)).collect();
    let mut counts = std::collections::BTreeMap::new();
    for (tags, session) in [(&[][..], None), (&[inner], None), (&[], Some(42)), (&[outer, inner], Some(0xfffe))] {
        let frames: Vec<_> = plain.iter().map(|(_, frame)| wrapped(frame, tags, session)).collect();
        if tags.is_empty() && session.is_none() {
            assert!(plain.iter().map(|(_, frame)| frame).eq(&frames));
        }
        let fields = dissected(&frames);
        assert_eq!(fields.len(), frames.len());
        for ((octets, fields), (name, _)) in frames.iter().zip(fields).zip(&plain) {
            let known = format!("{name} with {} tags, session {session:?}", tags.len());
            *counts.entry(compare(octets, &fields, &known)).or_insert(0) += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts["ip"] > 900, "{counts:?}");
}
