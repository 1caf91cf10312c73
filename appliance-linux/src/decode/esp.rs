//! ESP packets: opened with the keys of their SPI, and what is in them.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::replay::Window;
use ipsec_core::sa::{InboundParams, Lifetime, Mode, Params};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;
use ipsec_core::wire::cursor::Reader;
use ipsec_core::wire::esp::Header;
use zeroize::Zeroizing;

use super::keys::{Keys, Pair};
use super::suite::Suite;
use super::tree::Node;
use super::verdict::{Failed, Verdict};

/// Words of a replay window: so many times 64 packets may be late.
const WINDOW: usize = 16;

/// The ESP SAs of a capture, as their receiver has them.
pub(super) struct Packets {
    sas: HashMap<Spi, Sa>,
}

struct Sa {
    /// The suites and keys that may be its own; when one opened a packet, that one alone.
    candidates: Vec<(Suite, Pair)>,
    window: Window,
    bits: [u64; WINDOW],
}

/// What is in an authentic packet.
enum Inner {
    Packet(Flow),
    /// Sent to be dropped (RFC 4303 §2.6).
    Dummy,
    /// No whole IP packet, as in transport mode.
    NoPacket,
}

impl Packets {
    pub(super) fn new(keys: &Keys) -> Self {
        let sa = |pairs: &Vec<Pair>| {
            let suites = || keys.esp_suites.iter().copied();
            let candidates = pairs.iter().flat_map(|pair| suites().map(|suite| (suite, pair.clone()))).collect();
            let mut bits = [0; WINDOW];
            Sa { candidates, window: Window::new(0, &mut bits), bits }
        };
        Self { sas: keys.esp.iter().map(|(spi, pairs)| (*spi, sa(pairs))).collect() }
    }

    /// What a packet is, what is in it, and whether it opened; `whole`: the capture has all of it.
    pub(super) fn read(&mut self, packet: &[u8], whole: bool) -> (Node, Option<Verdict>) {
        let node = Node::new("ESP").with("length", packet.len());
        let Ok(header) = Header::read(&mut Reader::new(packet)) else {
            return (node.with("error", "it is too short, or its SPI is reserved").octets("data", packet), None);
        };
        let node = node.word("spi", format_args!("{:08x}", header.spi.get())).with("sequence", header.sequence);
        let Some(sa) = self.sas.get_mut(&header.spi) else {
            return (Verdict::NoKey.of(node), Some(Verdict::NoKey));
        };
        let opened = if whole { sa.open(header, packet) } else { Err(Failed::CutOff) };
        match opened {
            Ok((suite, sequence, inner)) => {
                let verdict = Verdict::Opened(suite);
                let node = verdict.of(node).with("icv", "right");
                let node = if suite.esn { node.with("extended_sequence", sequence) } else { node };
                let node = node.with("order", sa.receive(sequence));
                (node.holding([shown(&inner)]), Some(verdict))
            }
            Err(failed) => {
                let verdict = Verdict::Failed(failed);
                let node = verdict.of(node);
                (if failed == Failed::Icv { node.with("icv", "wrong") } else { node }, Some(verdict))
            }
        }
    }
}

impl Sa {
    /// Opens a packet with whatever of the candidates does. It may come again and late: that is for [`receive`](Self::receive) to
    /// say.
    fn open(&mut self, header: Header, packet: &[u8]) -> Result<(Suite, u64, Inner), Failed> {
        let mut failed = Failed::KeyLength;
        for (index, (suite, pair)) in self.candidates.iter().enumerate() {
            let low = header.sequence;
            let sequence = match suite.esn {
                // Of an SA that nothing was received on, the capture is taken to have the beginning.
                true if self.window.highest() > 0 => self.window.extend(low, &self.bits).ok_or(Failed::Sequence)?,
                true => low.into(),
                false => low.into(),
            };
            match open(*suite, pair, header.spi, sequence, packet) {
                Ok(inner) => {
                    let suite = *suite;
                    self.candidates = self.candidates.drain(index..=index).collect();
                    return Ok((suite, sequence, inner));
                }
                // What says more of why than the length of a key that is for something else.
                Err(Failed::KeyLength) => {}
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Where an authentic packet stands among those before, as the receiver sees it (RFC 4303 §3.4.3).
    fn receive(&mut self, sequence: u64) -> &'static str {
        let before = self.window.highest();
        let order = match self.window.check(sequence, &self.bits) {
            Err(Discard::InReplayed) => return "replayed",
            Err(_) => return "stale",
            Ok(()) if before == 0 => "first",
            Ok(()) if sequence < before => "late",
            Ok(()) if sequence - before == 1 => "next",
            Ok(()) => "ahead",
        };
        self.window.commit(sequence, &mut self.bits);
        order
    }
}

/// Opens a packet as an engine does that has only this SA, and has it from the packet before on.
fn open(suite: Suite, pair: &Pair, spi: Spi, sequence: u64, packet: &[u8]) -> Result<Inner, Failed> {
    let protection = suite.protection().ok_or(Failed::NotBuilt(suite))?;
    let keymat = Zeroizing::new([pair.encr.as_slice(), pair.integ.as_slice()].concat());
    let any = [AddrRange::ANY_V4, AddrRange::ANY_V6].map(TrafficSelector::addrs);
    let nowhere = SocketAddr::from(([0; 4], 0));
    let path = Path { local: nowhere, remote: nowhere };
    let sa = Params {
        spi,
        mode: Mode::Tunnel,
        protection,
        keymat: &keymat,
        esn: suite.esn,
        path,
        encap: Encap::None,
        policy: PolicyId(0),
        local_ts: &any,
        remote_ts: &any,
        lifetime: Lifetime::default(),
    };
    let (mut slots, mut window) = ([const { InboundSlot::<RustCrypto>::EMPTY }], [0]);
    let mut engine: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut slots, &mut window);
    let params = InboundParams { sa, window: 64, highest_seen: sequence.saturating_sub(1) };
    engine.install(Instant::ZERO, &params).map_err(|refused| match refused {
        Refused::KeyLength => Failed::KeyLength,
        _ => Failed::NotBuilt(suite),
    })?;
    let mut octets = packet.to_vec();
    let mut packet = PacketBuf::new(&mut octets, 0, packet.len()).map_err(|_| Failed::Length)?;
    match engine.open(Instant::ZERO, path, Ecn::NotEct, &mut packet) {
        Ok(ingress) => Ok(Inner::Packet(ingress.flow)),
        Err(Discard::InDummy) => Ok(Inner::Dummy),
        Err(Discard::InMode) => Ok(Inner::NoPacket),
        Err(Discard::InPadding) => Err(Failed::Padding),
        Err(Discard::InStale) => Err(Failed::Sequence),
        Err(Discard::InHeader) => Err(Failed::Length),
        Err(_) => Err(Failed::Icv),
    }
}

fn shown(inner: &Inner) -> Node {
    let flow = match inner {
        Inner::Packet(flow) => flow,
        Inner::Dummy => return Node::new("dummy"),
        Inner::NoPacket => return Node::new("content").with("error", "no whole IP packet, as in tunnel mode"),
    };
    let node = Node::new("packet").word("source", flow.source).word("destination", flow.destination);
    let node = match flow.protocol {
        1 => node.with("protocol", "icmp"),
        6 => node.with("protocol", "tcp"),
        17 => node.with("protocol", "udp"),
        58 => node.with("protocol", "icmpv6"),
        132 => node.with("protocol", "sctp"),
        other => node.word("protocol", other),
    };
    let node = match flow.ports {
        Ports::Pair { source, destination } => node.with("source_port", source).with("destination_port", destination),
        Ports::Message(message) => node.with("type", message >> 8).with("code", message & 0xff),
        Ports::Opaque | Ports::Hidden => node,
    };
    node.with("length", flow.len)
}
