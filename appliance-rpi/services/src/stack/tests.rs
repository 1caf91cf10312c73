//! A stack behind a device of paper.

extern crate std;

use super::*;
use rpi_drivers::{Counters, Link, SendError};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet,
};
use std::collections::VecDeque;

const MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 1]);
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 2];
const FALLBACK: Ipv4Net = Ipv4Net { address: Ipv4Addr::new(192, 168, 77, 1), prefix: 24 };

struct Paper {
    link: bool,
    mac: MacAddress,
    to_stack: VecDeque<Vec<u8>>,
    from_stack: Vec<Vec<u8>>,
}

impl Paper {
    fn new() -> Self {
        Self { link: true, mac: MAC, to_stack: VecDeque::new(), from_stack: Vec::new() }
    }
}

impl Nic for Paper {
    fn mac(&self) -> MacAddress {
        self.mac
    }
    fn poll(&mut self, _now_us: u64) {}
    fn link(&self) -> Link {
        if self.link { Link::Up { mbit: 100, full_duplex: true } } else { Link::Down }
    }
    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        let next = self.to_stack.pop_front()?;
        frame[..next.len()].copy_from_slice(&next);
        Some(next.len())
    }
    fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        self.from_stack.push(frame.to_vec());
        Ok(())
    }
    fn can_send(&self) -> bool {
        true
    }
    fn set_promiscuous(&mut self, _on: bool) {}
    fn set_receive_only(&mut self, _on: bool) {}
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

struct NoPages;
impl Pages for NoPages {
    fn answer(&mut self, _request: Request) -> Result<Response, Refusal> {
        Err(Refusal::NotFound)
    }
}

fn poll(stack: &mut Stack, nic: &mut Paper, millis: u64) -> Progress {
    stack.poll(nic, millis * 1000, 42, &mut NoPages)
}

fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(OTHER),
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(OTHER),
        source_protocol_addr: Ipv4Addr::new(192, 168, 77, 9),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut frame = vec![0; 14 + arp.buffer_len()];
    let mut ethernet_frame = EthernetFrame::new_unchecked(&mut frame);
    ethernet.emit(&mut ethernet_frame);
    arp.emit(&mut ArpPacket::new_unchecked(ethernet_frame.payload_mut()));
    frame
}

#[test]
fn without_a_server_the_fallback_address_is_used_while_asking_goes_on() {
    let mut stack = Stack::new(Addressing::Dhcp { fallback: FALLBACK }, 80);
    let mut nic = Paper::new();
    poll(&mut stack, &mut nic, 0);
    assert!(
        nic.from_stack.iter().any(|frame| {
            let packet = Ipv4Packet::new_checked(&frame[14..]).ok();
            packet.is_some_and(|packet| packet.next_header() == IpProtocol::Udp && packet.dst_addr().is_broadcast())
        }),
        "DHCP was asked"
    );
    assert!(!poll(&mut stack, &mut nic, 3_900).readdressed);
    assert_eq!(stack.origin(), "none");
    assert!(poll(&mut stack, &mut nic, 4_000).readdressed);
    assert_eq!((stack.origin(), stack.is_up()), ("fallback", true));
    assert!(stack.addresses().contains(&"192.168.77.1/24".to_string()));
    let asked = nic.from_stack.len();
    for second in 5..60 {
        poll(&mut stack, &mut nic, second * 1000);
    }
    assert!(nic.from_stack.len() > asked, "DHCP is still asked");
}

#[test]
fn a_static_address_answers_arp_at_once() {
    let mut stack = Stack::new(Addressing::Static { address: FALLBACK, router: None }, 80);
    let mut nic = Paper::new();
    assert!(poll(&mut stack, &mut nic, 0).readdressed);
    nic.from_stack.clear();
    nic.to_stack.push_back(arp_request(FALLBACK.address));
    assert!(poll(&mut stack, &mut nic, 1).busy);
    let reply = nic.from_stack.first().expect("a reply");
    assert_eq!(reply[..6], OTHER);
    let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, .. } =
        ArpRepr::parse(&ArpPacket::new_checked(&reply[14..]).expect("ARP")).expect("ARP")
    else {
        panic!("another kind of ARP");
    };
    assert_eq!(operation, ArpOperation::Reply);
    assert_eq!(source_hardware_addr.0, MAC.0);
}

#[test]
fn the_link_local_address_is_made_of_the_mac_address() {
    let mut stack = Stack::new(Addressing::Static { address: FALLBACK, router: None }, 80);
    poll(&mut stack, &mut Paper::new(), 0);
    assert!(stack.addresses().contains(&"fe80::ff:fe00:1/64".to_string()));
}

#[test]
fn a_lost_link_starts_dhcp_over() {
    let mut stack = Stack::new(Addressing::Dhcp { fallback: FALLBACK }, 80);
    let mut nic = Paper::new();
    poll(&mut stack, &mut nic, 0);
    poll(&mut stack, &mut nic, 4_000);
    assert!(stack.is_up());
    nic.link = false;
    poll(&mut stack, &mut nic, 5_000);
    assert!(!stack.is_up());
    nic.link = true;
    nic.from_stack.clear();
    poll(&mut stack, &mut nic, 6_000);
    assert_eq!(stack.origin(), "none", "the old address is not kept on what may be another network");
    assert!(!nic.from_stack.is_empty(), "DHCP is asked again");
}

#[test]
fn a_device_with_a_group_address_is_not_used() {
    let mut stack = Stack::new(Addressing::Static { address: FALLBACK, router: None }, 80);
    let mut nic = Paper { mac: MacAddress([1, 0, 0, 0, 0, 1]), ..Paper::new() };
    poll(&mut stack, &mut nic, 0);
    assert!(stack.addresses().is_empty());
    assert!(nic.from_stack.is_empty());
}

#[test]
fn one_poll_takes_a_bounded_part_of_a_flood() {
    let mut stack = Stack::new(Addressing::Static { address: FALLBACK, router: None }, 80);
    let mut nic = Paper::new();
    nic.to_stack.extend((0..1000u32).map(|n| (0..64).map(|i| (n * 31 + i) as u8).collect::<Vec<u8>>()));
    poll(&mut stack, &mut nic, 0);
    assert_eq!(nic.to_stack.len(), 1000 - BURST);
}
