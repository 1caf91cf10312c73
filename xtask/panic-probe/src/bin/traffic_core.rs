//! Every entry of traffic-core, with any input.
#![no_std]
#![no_main]

use ipsec_core::wire::cursor::{Reader, Writer};
use panic_probe::{any, keep, octets};
use traffic_core::frame::{Content, Frame};
use traffic_core::wire::ethernet::{self, EtherType};
use traffic_core::wire::pppoe;
use traffic_core::wire::vlan::Tag;

panic_probe::program!(run());

fn run() {
    if let Ok(frame) = Frame::of(octets()) {
        keep(u64::from(frame.destination.is_group()) + u64::from(frame.tags.outer().is_some()));
        keep(u64::from(frame.tags.inner().map_or(0, |tag| tag.vlan)) + u64::from(frame.session.unwrap_or(0)));
        keep(match frame.content {
            Content::Ip { flow, packet } => packet.len() as u64 + u64::from(flow.protocol),
            Content::BrokenIp(payload) | Content::Llc(payload) => payload.len() as u64,
            Content::Ppp { payload, protocol } => payload.len() as u64 + u64::from(protocol.0),
            Content::Other { ether_type, payload } => payload.len() as u64 + u64::from(ether_type.0),
        });
    }
    let mut reader = Reader::new(octets());
    let mut writer = Writer::new(octets());
    match any() {
        0 => keep(u64::from(ethernet::Header::read(&mut reader).is_ok_and(|header| header.write(&mut writer).is_ok()))),
        1 => keep(u64::from(pppoe::Header::read(&mut reader).is_ok_and(|header| header.write(&mut writer).is_ok()))),
        kind => {
            let tag = Tag::read(EtherType(kind as u16), &mut reader);
            keep(u64::from(tag.is_ok_and(|(tag, tagged)| tag.write(tagged, &mut writer).is_ok())));
        }
    }
}
