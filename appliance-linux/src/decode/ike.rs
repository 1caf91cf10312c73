//! IKE messages: which keys are whose, what an SK payload hides, and the fragments of a message put together.

use std::collections::{BTreeMap, HashMap, HashSet};

use ike_core::error::{Discard, NoKey};
use ike_core::registry::PayloadType;
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::sk::{Fragment, SkReceiver};

use super::keys::{IkeKeys, Keys, Pair};
use super::payloads::payloads;
use super::suite::Suite;
use super::tree::Node;
use super::verdict::{Failed, Verdict};
use crate::provider;

/// SPIs of initiator and responder.
type Spis = (u64, u64);

/// The IKE SAs of a capture. All messages are [met](Self::meet) first, then it is [settled](Self::settle) whose the keys are, then
/// messages are read.
pub(super) struct Messages {
    crypto: provider::Ike,
    sas: Vec<Sa>,
    /// Which of those has these SPIs.
    known: HashMap<Spis, usize>,
    /// SAs whose keys are not known, in the order of their first protected message.
    strangers: Vec<Spis>,
    seen: HashSet<Spis>,
    fragments: HashMap<Key, BTreeMap<u16, Part>>,
}

/// The keys of one SA.
struct Sa {
    /// Ready for each suite that they may be for.
    openers: Vec<Opener>,
    /// Why there is none.
    unfit: Failed,
    taken: bool,
}

struct Opener {
    suite: Suite,
    /// What opens the initiator's messages, and the responder's.
    receivers: [SkReceiver<provider::Ike>; 2],
}

/// Which message a fragment is of: its SA, whether the initiator sent it, whether it is a response, its ID, in how many parts.
type Key = (Spis, bool, bool, u32, u16);

/// The type of the first payload, which only the first fragment says, and the text.
type Part = (PayloadType, Vec<u8>);

/// What a protected payload hides.
enum Hidden {
    Payloads(PayloadType, Vec<u8>),
    Part { number: u16, total: u16, part: Part },
}

impl Messages {
    pub(super) fn new(keys: &Keys) -> Self {
        let mut crypto = provider::ike();
        let mut known = HashMap::new();
        let sas = keys.ike.iter().enumerate().map(|(index, ike)| {
            if let Some(spis) = ike.spis {
                known.insert(spis, index);
            }
            Sa::new(&mut crypto, ike, &keys.ike_suites)
        });
        let sas = sas.collect();
        Self { crypto, sas, known, strangers: Vec::new(), seen: HashSet::new(), fragments: HashMap::new() }
    }

    /// Looks whose keys open a message, if it is the first of its SA that some do: keys files say no SPIs of IKE mostly.
    pub(super) fn meet(&mut self, message: &[u8]) {
        let Some((header, _)) = protected(message) else { return };
        let spis = (header.spi_i, header.spi_r);
        if self.known.contains_key(&spis) {
            return;
        }
        let Self { crypto, sas, .. } = self;
        let opens = |sa: &mut Sa| !sa.taken && sa.open(crypto, &header, message).is_ok();
        match sas.iter_mut().position(opens) {
            Some(index) => {
                if let Some(sa) = sas.get_mut(index) {
                    sa.taken = true;
                }
                self.known.insert(spis, index);
            }
            None if self.seen.insert(spis) => self.strangers.push(spis),
            None => {}
        }
    }

    /// Keys that opened nothing belong to the SAs that nothing opened, in their order: so a wrong key is told from none.
    pub(super) fn settle(&mut self) {
        let strangers = self.strangers.iter().filter(|spis| !self.known.contains_key(spis));
        let left = self.sas.iter().enumerate().filter(|(_, sa)| !sa.taken).map(|(index, _)| index);
        let pairs: Vec<_> = strangers.copied().zip(left).collect();
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

impl Sa {
    fn new(crypto: &mut provider::Ike, keys: &IkeKeys, suites: &[Suite]) -> Self {
        let mut sa = Self { openers: Vec::new(), unfit: Failed::KeyLength, taken: keys.spis.is_some() };
        for suite in suites {
            let Some(protection) = suite.protection() else {
                sa.unfit = Failed::NotBuilt(*suite);
                continue;
            };
            let lengths = (protection.encr_key_len(), protection.integ_key_len());
            let fits = |pair: &Pair| (pair.encr.as_slice().len(), pair.integ.as_slice().len()) == lengths;
            if !keys.pairs.iter().all(fits) {
                continue;
            }
            let [initiator, responder] = &keys.pairs;
            let mut receiver =
                |pair: &Pair| SkReceiver::new(crypto, protection, pair.encr.as_slice(), pair.integ.as_slice());
            match (receiver(initiator), receiver(responder)) {
                (Ok(initiator), Ok(responder)) => {
                    sa.openers.push(Opener { suite: *suite, receivers: [initiator, responder] });
                }
                (Err(NoKey), _) | (_, Err(NoKey)) => sa.unfit = Failed::NotBuilt(*suite),
            }
        }
        sa
    }

    /// Opens a message with whatever of the suites does, which from then on is the only one.
    fn open(&mut self, crypto: &mut provider::Ike, header: &Header, message: &[u8]) -> Result<(Suite, Hidden), Failed> {
        let mut failed = self.unfit;
        for (index, opener) in self.openers.iter().enumerate() {
            match opener.open(crypto, header, message) {
                Ok(hidden) => {
                    let suite = opener.suite;
                    self.openers = self.openers.drain(index..=index).collect();
                    return Ok((suite, hidden));
                }
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }
}

impl Opener {
    fn open(&self, crypto: &mut provider::Ike, header: &Header, message: &[u8]) -> Result<Hidden, Failed> {
        let [initiator, responder] = &self.receivers;
        let receiver = if header.initiator { initiator } else { responder };
        let mut message = message.to_vec();
        let hidden = match protected(&message) {
            Some((_, PayloadType::SKF)) => receiver.open_fragment(crypto, &mut message).map(|fragment| {
                let Fragment { number, total, first, text } = fragment;
                Hidden::Part { number, total, part: (first, text.to_vec()) }
            }),
            _ => receiver.open(crypto, &mut message).map(|(first, text)| Hidden::Payloads(first, text.to_vec())),
        };
        hidden.map_err(|discard| match discard {
            Discard::BadIcv => Failed::Icv,
            Discard::BadPadding => Failed::Padding,
            Discard::NoRoom => Failed::NotBuilt(self.suite),
            _ => Failed::Length,
        })
    }
}

/// The header of a message that ends with an encrypted payload, and whether that is SK or SKF.
fn protected(message: &[u8]) -> Option<(Header, PayloadType)> {
    let header = Header::parse(message).ok().filter(|header| header.major == 2)?;
    let last = Chain::new(header.next, message.get(Header::LEN..)?).last()?.ok()?;
    matches!(last.kind, PayloadType::SK | PayloadType::SKF).then_some((header, last.kind))
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
