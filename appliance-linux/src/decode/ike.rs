//! IKE messages: which keys are whose, what a message says, and its fragments put together.

use std::collections::{BTreeMap, HashMap, HashSet};

use ike_core::registry::{PayloadType, ProtocolId};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::sa::Sa;

use super::keys::Keys;
use super::payloads::payloads;
use super::sk::{self, Hidden, Part, protected};
use super::tree::Node;
use super::verdict::{Failed, Verdict};
use crate::provider;

/// SPIs of initiator and responder.
type Spis = (u64, u64);

/// The IKE SAs of a capture. All messages are [met](Self::meet) first, then it is [settled](Self::settle) whose the keys are, then
/// messages are read.
pub(super) struct Messages {
    crypto: provider::Ike,
    sas: Vec<sk::Sa>,
    /// Which of those has these SPIs.
    known: HashMap<Spis, usize>,
    /// SAs whose keys are not known, in the order of their first protected message.
    strangers: Vec<Spis>,
    /// SAs of protected messages.
    heard: HashSet<Spis>,
    /// The initiator's SPI of an SA to be, by the request for it: of which SA, by whose initiator, under which ID.
    asked: HashMap<(Spis, bool, u32), u64>,
    /// SAs that rekeys made.
    rekeyed: HashSet<Spis>,
    fragments: HashMap<Key, BTreeMap<u16, Part>>,
}

/// Which message a fragment is of: its SA, whether the initiator sent it, whether it is a response, its ID, in how many parts.
type Key = (Spis, bool, bool, u32, u16);

impl Messages {
    pub(super) fn new(keys: &Keys) -> Self {
        let mut crypto = provider::ike();
        let mut known = HashMap::new();
        let sas = keys.ike.iter().enumerate().map(|(index, ike)| {
            if let Some(spis) = ike.spis {
                known.insert(spis, index);
            }
            sk::Sa::new(&mut crypto, ike, &keys.ike_suites)
        });
        let sas = sas.collect();
        let (heard, asked, rekeyed) = (HashSet::new(), HashMap::new(), HashSet::new());
        Self { crypto, sas, known, strangers: Vec::new(), heard, asked, rekeyed, fragments: HashMap::new() }
    }

    /// Looks whose keys open a message: keys files say no SPIs of IKE mostly.
    pub(super) fn meet(&mut self, message: &[u8]) {
        let Some((header, _)) = protected(message) else { return };
        let spis = (header.spi_i, header.spi_r);
        let first = self.heard.insert(spis);
        let Self { crypto, sas, known, .. } = self;
        let own = known.get(&spis).copied();
        let may_be = sas.iter_mut().enumerate().filter(|(index, sa)| own.map_or(!sa.taken, |own| own == *index));
        let mut open = may_be.filter_map(|(index, sa)| {
            let (_, hidden) = sa.open(crypto, &header, message).ok()?;
            sa.taken = true;
            Some((index, hidden))
        });
        match open.next() {
            Some((index, hidden)) => {
                known.insert(spis, index);
                self.note_rekey(&header, &hidden);
            }
            None if first && own.is_none() => self.strangers.push(spis),
            None => {}
        }
    }

    /// Takes note of the SPIs of an IKE SA that is to take over (RFC 7296 §1.3.2).
    fn note_rekey(&mut self, header: &Header, hidden: &Hidden) {
        let Hidden::Payloads(first, text) = hidden else { return };
        let sas = Chain::new(*first, text).flatten().filter(|payload| payload.kind == PayloadType::SA);
        let proposals = sas.filter_map(|payload| Sa::parse(payload.body).ok()).flat_map(|sa| sa.proposals());
        let mut spis = proposals.filter(|proposal| proposal.protocol == ProtocolId::IKE).map(|proposal| proposal.spi);
        let Some(spi) = spis.next().and_then(|spi| spi.try_into().ok()).map(u64::from_be_bytes) else { return };
        // Who asked is its initiator.
        let request = ((header.spi_i, header.spi_r), header.initiator != header.response, header.message_id);
        if !header.response {
            self.asked.insert(request, spi);
        } else if let Some(asked) = self.asked.get(&request) {
            self.rekeyed.insert((*asked, spi));
        }
    }

    /// Keys that opened nothing belong to the SAs that nothing opened, in their order: so a wrong key is told from none. Those of
    /// SAs that rekeys made and that said nothing are none of these; which they are does not matter.
    pub(super) fn settle(&mut self) {
        let silent = self.rekeyed.difference(&self.heard).count();
        let strangers = self.strangers.iter().filter(|spis| !self.known.contains_key(spis));
        let left = self.sas.iter().enumerate().filter(|(_, sa)| !sa.taken).map(|(index, _)| index);
        let pairs: Vec<_> = strangers.copied().zip(left.skip(silent)).collect();
        self.known.extend(pairs);
    }

    /// What a message says, and whether it opened, if it is protected; `whole`: the capture has all of it.
    pub(super) fn read(&mut self, message: &[u8], whole: bool) -> (Node, Option<Verdict>) {
        let node = Node::new("IKE").with("length", message.len());
        let Ok(header) = Header::parse(message) else {
            return (node.with("error", "its header is cut off or says another length").octets("data", message), None);
        };
        let node = head(node, &header);
        if header.major != 2 {
            return (node.with("error", "another version than IKEv2, not looked into"), None);
        }
        let body = message.get(Header::LEN..).filter(|_| whole);
        let mut nodes = body.map(|body| payloads(header.next, body)).unwrap_or_default();
        let Some((header, _)) = protected(message) else { return (node.holding(nodes), None) };
        let spis = (header.spi_i, header.spi_r);
        let opened = match self.known.get(&spis).and_then(|index| self.sas.get_mut(*index)) {
            Some(sa) if whole => sa.open(&mut self.crypto, &header, message),
            Some(_) => Err(Failed::CutOff),
            None => return (Verdict::NoKey.of(node).holding(nodes), Some(Verdict::NoKey)),
        };
        let verdict = match opened {
            Ok((suite, hidden)) => {
                let inside = self.inside(spis, &header, hidden);
                let last = nodes.pop().map(|last| last.holding(inside));
                nodes.extend(last);
                Verdict::Opened(suite)
            }
            Err(failed) => Verdict::Failed(failed),
        };
        (verdict.of(node).holding(nodes), Some(verdict))
    }

    fn inside(&mut self, spis: Spis, header: &Header, hidden: Hidden) -> Vec<Node> {
        let (number, total, part) = match hidden {
            Hidden::Payloads(first, text) => return payloads(first, &text),
            Hidden::Part { number, total, part } => (number, total, part),
        };
        let key = (spis, header.initiator, header.response, header.message_id, total);
        let parts = self.fragments.entry(key).or_default();
        parts.insert(number, part);
        if parts.len() < usize::from(total) {
            return Vec::new();
        }
        let parts = self.fragments.remove(&key).unwrap_or_default();
        let first = parts.get(&1).map_or(PayloadType::NONE, |(first, _)| *first);
        let text: Vec<u8> = parts.into_values().flat_map(|(_, text)| text).collect();
        vec![Node::new("message").with("fragments", total).holding(payloads(first, &text))]
    }
}

fn head(node: Node, header: &Header) -> Node {
    let node = node
        .word("exchange", header.exchange)
        .with("direction", if header.response { "response" } else { "request" })
        .with("id", header.message_id)
        .word("spi_i", format_args!("{:016x}", header.spi_i))
        .word("spi_r", format_args!("{:016x}", header.spi_r))
        .with("from", if header.initiator { "initiator" } else { "responder" });
    let node = if header.version { node.with("higher_version", true) } else { node };
    match (header.major, header.minor) {
        (2, 0) => node,
        (major, minor) => node.word("version", format_args!("{major}.{minor}")),
    }
}
