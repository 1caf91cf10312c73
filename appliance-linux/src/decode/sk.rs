//! The keys of an IKE SA, and what a protected payload hides.

use ike_core::error::{Discard, NoKey};
use ike_core::registry::PayloadType;
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::sk::{Fragment, SkReceiver};

use super::keys::{IkeKeys, Pair};
use super::suite::Suite;
use super::verdict::Failed;
use crate::provider;

/// The keys of one SA.
pub(super) struct Sa {
    /// Ready for each suite that they may be for.
    openers: Vec<Opener>,
    /// Which of them opened a message.
    chosen: Option<usize>,
    /// Why there is none.
    unfit: Failed,
    /// Whether it is known whose they are.
    pub(super) taken: bool,
}

struct Opener {
    suite: Suite,
    /// What opens the initiator's messages, and the responder's.
    receivers: [SkReceiver<provider::Ike>; 2],
}

/// What a protected payload hides.
pub(super) enum Hidden {
    Payloads(PayloadType, Vec<u8>),
    Part { number: u16, total: u16, part: Part },
}

/// The type of the first payload, which only the first fragment says, and the text.
pub(super) type Part = (PayloadType, Vec<u8>);

impl Sa {
    pub(super) fn new(crypto: &mut provider::Ike, keys: &IkeKeys, suites: &[Suite]) -> Self {
        let mut sa = Self { openers: Vec::new(), chosen: None, unfit: Failed::KeyLength, taken: keys.spis.is_some() };
        for suite in suites {
            let protection = suite.protection;
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
    pub(super) fn open(
        &mut self,
        crypto: &mut provider::Ike,
        header: &Header,
        message: &[u8],
    ) -> Result<(Suite, Hidden), Failed> {
        let mut failed = self.unfit;
        for (index, opener) in
            self.openers.iter().enumerate().filter(|(index, _)| self.chosen.is_none_or(|it| it == *index))
        {
            match opener.open(crypto, header, message) {
                Ok(hidden) => {
                    self.chosen = Some(index);
                    return Ok((opener.suite, hidden));
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
pub(super) fn protected(message: &[u8]) -> Option<(Header, PayloadType)> {
    let header = Header::parse(message).ok().filter(|header| header.major == 2)?;
    let last = Chain::new(header.next, message.get(Header::LEN..)?).last()?.ok()?;
    matches!(last.kind, PayloadType::SK | PayloadType::SKF).then_some((header, last.kind))
}
