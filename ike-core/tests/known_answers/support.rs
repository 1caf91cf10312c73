//! What the vector tests share: finding files, reading captures, an engine.

use std::path::{Path, PathBuf};

use ike_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use serde_json::Value;

/// An engine whose generator gives these octets, again and again.
pub(crate) type Engine = RustCrypto<Octets>;

pub(crate) fn engine(random: &[u8]) -> Engine {
    RustCrypto::new(Octets { octets: random.to_vec(), at: 0 }, Packets)
}

#[derive(Default)]
pub(crate) struct Octets {
    octets: Vec<u8>,
    at: usize,
}

impl rand_core::TryRng for Octets {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut octets = [0; 4];
        self.try_fill_bytes(&mut octets)?;
        Ok(u32::from_be_bytes(octets))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut octets = [0; 8];
        self.try_fill_bytes(&mut octets)?;
        Ok(u64::from_be_bytes(octets))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for octet in out {
            *octet = self.octets[self.at % self.octets.len()];
            self.at += 1;
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Octets {}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of hex digits: {text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The octets of a member that is written in hex.
pub(crate) fn octets(value: &Value, name: &str) -> Vec<u8> {
    hex(value[name].as_str().unwrap_or_else(|| panic!("no member {name}")))
}

/// A file made for this project, which is part of it.
pub(crate) fn own(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn own_json(name: &str) -> Value {
    serde_json::from_slice(&own(name)).unwrap()
}

/// A file or folder of other projects, beside this one. Tests that need one are ignored where nobody says that it is
/// there: `cargo xtask test` does.
pub(crate) fn shared(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(name);
    assert!(path.exists(), "{} is not there", path.display());
    path
}

/// The IKE messages of a capture, pcap or pcapng, in order, without non-ESP marker.
pub(crate) fn ike_messages(capture: &[u8]) -> Vec<Vec<u8>> {
    frames(capture).iter().filter_map(|(link, frame)| ike_of_frame(*link, frame)).collect()
}

fn frames(capture: &[u8]) -> Vec<(u32, Vec<u8>)> {
    use pcap_file::pcap::PcapReader;
    use pcap_file::pcapng::{Block, PcapNgReader};
    let mut frames = Vec::new();
    if capture.starts_with(&0x0a0d_0d0a_u32.to_be_bytes()) {
        let mut reader = PcapNgReader::new(capture).unwrap();
        let mut links = Vec::new();
        while let Some(Ok(block)) = reader.next_block() {
            match block {
                Block::InterfaceDescription(interface) => links.push(u32::from(interface.linktype)),
                Block::EnhancedPacket(packet) => {
                    frames.push((links[packet.interface_id as usize], packet.data.into_owned()));
                }
                _ => {}
            }
        }
    } else {
        let mut reader = PcapReader::new(capture).unwrap();
        let link = u32::from(reader.header().datalink);
        while let Some(Ok(packet)) = reader.next_packet() {
            frames.push((link, packet.data.into_owned()));
        }
    }
    frames
}

fn ike_of_frame(link: u32, frame: &[u8]) -> Option<Vec<u8>> {
    let packet = match link {
        0 => frame.get(4..)?,
        1 => match u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?) {
            0x8100 => frame.get(18..)?,
            _ => frame.get(14..)?,
        },
        101 | 12 | 14 => frame,
        113 => frame.get(16..)?,
        276 => frame.get(20..)?,
        _ => panic!("link type {link}"),
    };
    let (protocol, rest) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, packet.get(usize::from(packet[0] & 15) * 4..)?),
        6 => (*packet.get(6)?, packet.get(40..)?),
        _ => return None,
    };
    if protocol != 17 {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let (from, to) = (port(0)?, port(2)?);
    let length = usize::from(port(4)?).min(rest.len());
    let data = rest.get(8..length)?;
    if from == 4500 || to == 4500 {
        data.strip_prefix(&[0; 4]).map(<[u8]>::to_vec)
    } else if from == 500 || to == 500 {
        Some(data.to_vec())
    } else {
        None
    }
}
