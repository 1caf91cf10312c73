use std::vec::Vec;

use ipsec_core::flow::Ports;

use super::*;

const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const UDP4: [u8; 32] = [
    0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4
    0x13, 0x88, 0, 53, 0, 12, 0, 0, b'p', b'i', b'n', b'g', // UDP
];

/// A frame: addresses, the rest of the headers, what they carry.
fn frame(headers: &[u8], content: &[u8]) -> Vec<u8> {
    [&TO[..], &FROM, headers, content].concat()
}

fn flow(content: Content<'_>) -> Option<Flow> {
    match content {
        Content::Ip { flow, packet } => {
            assert_eq!((packet.len(), Flow::of(packet)), (flow.len, Ok(flow)));
            Some(flow)
        }
        _ => None,
    }
}

#[test]
fn what_fills_a_frame_up_is_no_part_of_the_packet() {
    let octets = frame(&[8, 0], &[&UDP4[..], &[0; 14]].concat());
    let frame = Frame::of(&octets).unwrap();
    assert_eq!((frame.destination, frame.source), (Address(TO), Address(FROM)));
    assert_eq!((frame.tags, frame.session), (Tags::default(), None));
    let Content::Ip { flow, packet } = frame.content else { panic!("{frame:?}") };
    assert_eq!(packet, UDP4);
    assert_eq!(flow.ports, Ports::Pair { source: 5000, destination: 53 });
}

#[test]
fn tags_and_sessions_stand_in_each_other() {
    let session = [0x88, 0x64, 0x11, 0, 0, 9, 0, 34, 0, 0x21];
    let two = [0x88, 0xa8, 0x20, 0x64, 0x81, 0, 0, 7];
    let octets = frame(&[&two[..], &session].concat(), &UDP4);
    let whole = Frame::of(&octets).unwrap();
    let tag = |kind, priority, vlan| Some(Tag { kind, priority, drop_eligible: false, vlan });
    assert_eq!(whole.tags.outer(), tag(EtherType::PROVIDER_VLAN, 1, 100));
    assert_eq!(whole.tags.inner(), tag(EtherType::VLAN, 0, 7));
    assert_eq!(whole.session, Some(9));
    assert!(flow(whole.content).is_some());

    let octets = frame(&[0x81, 0, 0, 7, 0x81, 0, 0, 8, 0x81, 0, 0, 9, 8, 0], &UDP4);
    let three = Frame::of(&octets).unwrap();
    assert!(matches!(three.content, Content::Other { ether_type: EtherType::VLAN, payload: [0, 9, 8, 0, ..] }));
}

#[test]
fn what_is_no_ip_is_told_as_what_it_is() {
    let content = |headers: &[u8], content: &[u8]| match Frame::of(&frame(headers, content)).unwrap().content {
        Content::Ip { .. } => "ip",
        Content::BrokenIp(_) => "broken",
        Content::Ppp { .. } => "ppp",
        Content::Llc(_) => "llc",
        Content::Other { .. } => "other",
    };
    assert_eq!(content(&[8, 0], &UDP4), "ip");
    assert_eq!(content(&[0x86, 0xdd], &UDP4), "broken", "the other version");
    assert_eq!(content(&[8, 0], &UDP4[..31]), "broken", "cut off");
    assert_eq!(content(&[8, 0], &[]), "broken");
    assert_eq!(content(&[8, 6], &[0; 28]), "other");
    assert_eq!(content(&[0x88, 0x63], &[0x11, 9, 0, 0, 0, 0]), "other", "discovery");
    assert_eq!(content(&[0x88, 0x64, 0x11, 0, 0, 9, 0, 6, 0xc0, 0x21], &[9, 0, 0, 4]), "ppp");
    assert_eq!(content(&[0, 3], &[0x42, 0x42, 3, 0, 0]), "llc");
    assert_eq!(Frame::of(&frame(&[0, 6], &[0x42, 0x42, 3])), Err(Malformed), "longer than the frame");
}

#[test]
fn every_truncation_is_malformed_or_broken_and_never_an_other_packet() {
    let headers = [0x88, 0xa8, 0x20, 0x64, 0x81, 0, 0, 7, 0x88, 0x64, 0x11, 0, 0, 9, 0, 34, 0, 0x21];
    for headers in [&headers[..], &headers[8..], &[0x81, 0, 0, 7, 8, 0], &[8, 0]] {
        let octets = frame(headers, &UDP4);
        for len in 0..octets.len() {
            match Frame::of(&octets[..len]) {
                Ok(Frame { content: Content::BrokenIp(payload), .. }) => {
                    assert_eq!(payload, &UDP4[..payload.len()], "{len} octets");
                }
                Ok(other) => panic!("{len} octets: {other:?}"),
                Err(Malformed) => {}
            }
        }
        assert!(flow(Frame::of(&octets).unwrap().content).is_some());
    }
}
