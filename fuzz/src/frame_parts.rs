//! Frames from anywhere: what is read of one lies in it, and written again it is what it was.

use ipsec_core::flow::Flow;
use ipsec_core::wire::cursor::Writer;
use traffic_core::frame::{Content, Frame};
use traffic_core::wire::ethernet::{self, EtherType};
use traffic_core::wire::pppoe::{self, Protocol};

/// Takes the octets for a frame.
pub fn run(data: &[u8]) {
    let Ok(frame) = Frame::of(data) else { return };
    let (kind, session, content) = parts(&frame, data);
    // The headers, written anew.
    let tags: Vec<_> = [frame.tags.outer(), frame.tags.inner()].into_iter().flatten().collect();
    let kinds: Vec<_> = tags.iter().map(|tag| tag.kind).chain([kind]).collect();
    let mut octets = vec![0; ethernet::HEADER_LEN + 4 * tags.len() + if session.is_some() { 8 } else { 0 }];
    let mut writer = Writer::new(&mut octets);
    let Frame { destination, source, .. } = frame;
    ethernet::Header { destination, source, ether_type: kinds[0] }.write(&mut writer).expect("room");
    for (tag, tagged) in tags.iter().zip(&kinds[1..]) {
        tag.write(*tagged, &mut writer).expect("room");
    }
    if let Some(header) = session {
        header.write(&mut writer).expect("room");
    }
    octets.extend(content);
    assert!(data.starts_with(&octets), "it was {data:02x?} and is {octets:02x?}");
}

/// Its last EtherType, its session's header, and what they announce.
fn parts<'f>(frame: &Frame<'f>, data: &[u8]) -> (EtherType, Option<pppoe::Header>, &'f [u8]) {
    let (kind, protocol, content) = match frame.content {
        Content::Ip { flow, packet } => {
            assert_eq!(Flow::of(packet), Ok(flow));
            assert_eq!(packet.len(), flow.len, "what fills the frame up is no part of the packet");
            match flow.source.is_ipv4() {
                true => (EtherType::IPV4, Protocol::IPV4, packet),
                false => (EtherType::IPV6, Protocol::IPV6, packet),
            }
        }
        Content::BrokenIp(payload) => {
            // Which it was to be stands in the frame alone.
            let before = data.len() - rest(data, payload);
            let announced = u16::from_be_bytes([data[before - 2], data[before - 1]]);
            (EtherType(announced), Protocol(announced), payload)
        }
        Content::Ppp { protocol, payload } => (EtherType::PPPOE_SESSION, protocol, payload),
        Content::Llc(payload) => (EtherType(payload.len() as u16), Protocol(0), payload),
        Content::Other { ether_type, payload } => (ether_type, Protocol(0), payload),
    };
    match frame.session {
        None => (kind, None, content),
        Some(session) => {
            let before = data.len() - rest(data, content);
            let length = u16::from_be_bytes([data[before - 4], data[before - 3]]);
            let header = pppoe::Header { session, payload_len: length - 2, protocol };
            (EtherType::PPPOE_SESSION, Some(header), content)
        }
    }
}

/// Octets of `data` from the first one of `part` on, which lies in it.
fn rest(data: &[u8], part: &[u8]) -> usize {
    let (whole, part) = (data.as_ptr_range(), part.as_ptr_range());
    assert!(whole.start <= part.start && part.end <= whole.end, "outside the frame");
    whole.end as usize - part.start as usize
}
