//! ESP packets: opened with the keys of their SPI, and what is in them.

use std::collections::HashMap;
use std::net::SocketAddr;

use ipsec_core::buf::{HEADROOM, PacketBuf};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::net::{AddrRange, Path, Spi, TrafficSelector};
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
    /// A packet, and the mode that it came in: whole in tunnel mode; in transport mode what the two ends say to each other. BEET
    /// mode looks like that, and is between others, who are not named.
    Packet(Mode, Flow),
    /// Sent to be dropped (RFC 4303 §2.6).
    Dummy,
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

    /// What a packet is, what is in it, and whether it opened. `ends`: where it came from and went to; `whole`: the capture has all
    /// of it.
    pub(super) fn read(
        &mut self,
        packet: &[u8],
        ends: Option<(SocketAddr, SocketAddr)>,
        whole: bool,
    ) -> (Node, Option<Verdict>) {
        let node = Node::new("ESP").with("length", packet.len());
        let Ok(header) = Header::read(&mut Reader::new(packet)) else {
            return (node.with("error", "it is too short, or its SPI is reserved").octets("data", packet), None);
        };
        let node = node.word("spi", format_args!("{:08x}", header.spi.get())).with("sequence", header.sequence);
        let Some(sa) = self.sas.get_mut(&header.spi) else {
            return (Verdict::NoKey.of(node), Some(Verdict::NoKey));
        };
        let nowhere = SocketAddr::from(([0; 4], 0));
        let (remote, local) = ends.unwrap_or((nowhere, nowhere));
        let opened = if whole { sa.open(header, Path { local, remote }, packet) } else { Err(Failed::CutOff) };
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
    fn open(&mut self, header: Header, path: Path, packet: &[u8]) -> Result<(Suite, u64, Inner), Failed> {
        let mut failed = Failed::KeyLength;
        for (index, (suite, pair)) in self.candidates.iter().enumerate() {
            let low = header.sequence;
            let sequence = match suite.esn {
                // Of an SA that nothing was received on, the capture is taken to have the beginning.
                true if self.window.highest() > 0 => self.window.extend(low, &self.bits).ok_or(Failed::Sequence)?,
                true => low.into(),
                false => low.into(),
            };
            match open(*suite, pair, header.spi, sequence, path, packet) {
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

/// Opens a packet in whatever mode it is: that is not said in front of it.
fn open(suite: Suite, pair: &Pair, spi: Spi, sequence: u64, path: Path, packet: &[u8]) -> Result<Inner, Failed> {
    let protection = suite.protection().ok_or(Failed::NotBuilt(suite))?;
    let keymat = Zeroizing::new([pair.encr.as_slice(), pair.integ.as_slice()].concat());
    let any = [AddrRange::ANY_V4, AddrRange::ANY_V6].map(TrafficSelector::addrs);
    let sa = |mode| Params {
        spi,
        mode,
        protection,
        keymat: &keymat,
        esn: suite.esn,
        path,
        encap: path.encap(),
        policy: PolicyId(0),
        local_ts: &any,
        remote_ts: &any,
        lifetime: Lifetime::default(),
        compression: None,
    };
    let open_as = |mode| {
        open_with(sa(mode), sequence, packet).map_err(|refused| match refused {
            Refused::KeyLength => Failed::KeyLength,
            _ => Failed::NotBuilt(suite),
        })
    };
    let (mode, opened) = match open_as(Mode::Tunnel)? {
        Err(Discard::InMode) => (Mode::Transport, open_as(Mode::Transport)?),
        opened => (Mode::Tunnel, opened),
    };
    opened.map(|flow| Inner::Packet(mode, flow)).or_else(|discard| match discard {
        Discard::InDummy => Ok(Inner::Dummy),
        Discard::InMode => Err(Failed::Content),
        Discard::InPadding => Err(Failed::Padding),
        Discard::InStale => Err(Failed::Sequence),
        Discard::InHeader => Err(Failed::Length),
        _ => Err(Failed::Icv),
    })
}

/// Opens a packet as an engine does that has only this SA, and has it from the packet before on.
fn open_with(sa: Params<'_>, sequence: u64, packet: &[u8]) -> Result<Result<Flow, Discard>, Refused> {
    let path = sa.path;
    let (mut slots, mut window) = ([const { InboundSlot::<RustCrypto>::EMPTY }], [0]);
    let mut engine: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut slots, &mut window);
    let params = InboundParams { sa, window: 64, highest_seen: sequence.saturating_sub(1) };
    engine.install(Instant::ZERO, &params)?;
    // In front of the payload there is to be room for a header of its own.
    let mut octets = [&[0; HEADROOM], packet].concat();
    let Ok(mut packet) = PacketBuf::new(&mut octets, HEADROOM, packet.len()) else { return Ok(Err(Discard::InHeader)) };
    Ok(engine.open(Instant::ZERO, path, Ecn::NotEct, &mut packet).map(|ingress| ingress.flow))
}

fn shown(inner: &Inner) -> Node {
    let (mode, flow) = match inner {
        Inner::Packet(Mode::Tunnel, flow) => ("tunnel", flow),
        Inner::Packet(_, flow) => ("transport", flow),
        Inner::Dummy => return Node::new("dummy"),
    };
    let node = Node::new("packet").with("mode", mode).word("source", flow.source).word("destination", flow.destination);
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
