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
    /// Who receives chooses a number, so ends may have chosen the same one (RFC 4301 §4.1): keys then tell whose a packet is.
    sas: HashMap<Spi, Vec<Sa>>,
}

struct Sa {
    keys: Pair,
    /// Those that it may have; when one opened a packet, that one alone.
    suites: Vec<Suite>,
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
        let sa = |keys: &Pair, suites: &[Suite]| {
            let mut bits = [0; WINDOW];
            Sa { keys: keys.clone(), suites: suites.to_vec(), window: Window::new(0, &mut bits), bits }
        };
        let sas = |pairs: &Vec<Pair>| pairs.iter().map(|pair| sa(pair, &keys.esp_suites)).collect();
        Self { sas: keys.esp.iter().map(|(spi, pairs)| (*spi, sas(pairs))).collect() }
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
        let Some(sas) = self.sas.get_mut(&header.spi) else {
            return (Verdict::NoKey.of(node), Some(Verdict::NoKey));
        };
        let nowhere = SocketAddr::from(([0; 4], 0));
        let (remote, local) = ends.unwrap_or((nowhere, nowhere));
        let opened = if whole { open_any(sas, header, Path { local, remote }, packet) } else { Err(Failed::CutOff) };
        match opened {
            Ok((suite, sequence, inner, order)) => {
                let verdict = Verdict::Opened(suite);
                let node = verdict.of(node).with("icv", "right");
                let node = if suite.esn { node.with("extended_sequence", sequence) } else { node };
                let node = node.with("order", order);
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

/// Opens a packet with the keys of whichever SA it is of, and says where it stands among those before.
fn open_any(
    sas: &mut [Sa],
    header: Header,
    path: Path,
    packet: &[u8],
) -> Result<(Suite, u64, Inner, &'static str), Failed> {
    let mut failed = Failed::KeyLength;
    for sa in sas {
        match sa.open(header, path, packet) {
            Ok((suite, sequence, inner)) => return Ok((suite, sequence, inner, sa.receive(sequence))),
            Err(why) => failed = failed.or(why),
        }
    }
    Err(failed)
}

impl Sa {
    /// Opens a packet with whatever of the suites does. It may come again and late: that is for [`receive`](Self::receive) to say.
    fn open(&mut self, header: Header, path: Path, packet: &[u8]) -> Result<(Suite, u64, Inner), Failed> {
        let mut failed = Failed::KeyLength;
        for suite in self.suites.iter().copied() {
            let low = header.sequence;
            let sequence = match suite.esn {
                // Of an SA that nothing was received on, the capture is taken to have the beginning.
                true if self.window.highest() > 0 => self.window.extend(low, &self.bits),
                _ => Some(low.into()),
            };
            let opened = sequence.ok_or(Failed::Sequence).and_then(|sequence| {
                open(suite, &self.keys, header.spi, sequence, path, packet).map(|inner| (suite, sequence, inner))
            });
            match opened {
                Ok(opened) => {
                    self.suites = vec![suite];
                    return Ok(opened);
                }
                Err(why) => failed = failed.or(why),
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
    let keymat = Zeroizing::new([pair.encr.as_slice(), pair.integ.as_slice()].concat());
    let any = [AddrRange::ANY_V4, AddrRange::ANY_V6].map(TrafficSelector::addrs);
    let sa = |mode| Params {
        spi,
        mode,
        protection: suite.protection,
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
