//! How IKE_AUTH goes on where one request and one answer at once are not enough: what it waits for, and what is kept
//! meanwhile.
//!
//! Two buffers serve a handshake, one for what the peer says and one for what we say. In the first one stand its
//! IKE_SA_INIT, the payloads of its first IKE_AUTH, and the EAP message that is to be answered, one behind the other; in the
//! second one our message that may have to be repeated, and, at the end, our IKE_SA_INIT as long as a proof has to cover it.

use super::ask::Answer;
use super::proof::Authenticated;
use crate::clock::UnixTime;
use crate::crypto::Secret;
use crate::error::NoRoom;
use crate::registry::PayloadType;

/// EAP messages of the peer in one handshake; methods of the field need a dozen.
const MAX_ROUNDS: u8 = 64;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Proof,
    Verdict,
    Lease,
    Eap,
}

impl Asked {
    /// Whether this can be an answer to it.
    pub(crate) fn takes(self, answer: &Answer<'_>) -> bool {
        match answer {
            Answer::Proof(_) => self == Self::Proof,
            Answer::Verdict(_) => self == Self::Verdict,
            Answer::Lease(_) => self == Self::Lease,
            Answer::Eap(_) | Answer::EapDone { .. } => self == Self::Eap,
            Answer::Refused => true,
        }
    }
}

/// Whoever is asked has not answered yet.
pub(crate) struct Wait {
    pub(crate) asked: Asked,
    /// What the clock on the wall said when it began.
    pub(crate) wall: Option<UnixTime>,
    /// The caller does not know yet.
    pub(crate) untold: bool,
}

/// How far it is.
#[derive(Default)]
pub(crate) struct Course {
    pub(crate) wait: Option<Wait>,
    /// How often it waited: an answer that comes late is none to the next question.
    pub(crate) waits: u8,
    rounds: u8,
    /// The payloads of the peer's first IKE_AUTH: the type of the first one, and their octets.
    kept: Option<(PayloadType, usize)>,
    /// Octets of the EAP message behind them.
    message: usize,
    /// Octets of our IKE_SA_INIT.
    own: usize,
    /// Where it stands, at the end of its buffer, once something else is written at the beginning.
    aside: Option<usize>,
    /// The peer, as long as something else is asked.
    pub(crate) peer: Option<Authenticated>,
    /// What came of EAP.
    pub(crate) key: Option<Secret<64>>,
}

impl Course {
    /// `own`: octets of our IKE_SA_INIT, which stands at the beginning of its buffer.
    pub(crate) fn new(own: usize) -> Self {
        Self { own, ..Self::default() }
    }

    /// Stands still from here on.
    pub(crate) fn ask(&mut self, asked: Asked, wall: Option<UnixTime>) {
        self.waits = self.waits.wrapping_add(1);
        self.wait = Some(Wait { asked, wall, untold: true });
    }

    /// Whether the peer's first IKE_AUTH is there.
    pub(crate) fn has_begun(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps the payloads of the peer's first IKE_AUTH behind its IKE_SA_INIT of `theirs` octets.
    pub(crate) fn keep(
        &mut self,
        received: &mut [u8],
        theirs: usize,
        (first, payloads): (PayloadType, &[u8]),
    ) -> Result<(), NoRoom> {
        let room = received.get_mut(theirs..).and_then(|rest| rest.get_mut(..payloads.len())).ok_or(NoRoom)?;
        room.copy_from_slice(payloads);
        self.kept = Some((first, payloads.len()));
        Ok(())
    }

    /// Those.
    pub(crate) fn kept<'r>(&self, received: &'r [u8], theirs: usize) -> Option<(PayloadType, &'r [u8])> {
        let (first, len) = self.kept?;
        Some((first, received.get(theirs..)?.get(..len)?))
    }

    /// Keeps the EAP message that is to be answered, or said, next. One too many is one that has no room.
    pub(crate) fn keep_message(&mut self, received: &mut [u8], theirs: usize, message: &[u8]) -> Result<(), NoRoom> {
        self.rounds = self.rounds.checked_add(1).filter(|rounds| *rounds <= MAX_ROUNDS).ok_or(NoRoom)?;
        let (_, kept) = self.kept.ok_or(NoRoom)?;
        let room = received.get_mut(theirs.saturating_add(kept)..).and_then(|rest| rest.get_mut(..message.len()));
        room.ok_or(NoRoom)?.copy_from_slice(message);
        self.message = message.len();
        Ok(())
    }

    /// That; `None`: there is none.
    pub(crate) fn message<'r>(&self, received: &'r [u8], theirs: usize) -> Option<&'r [u8]> {
        let (_, kept) = self.kept?;
        received.get(theirs.saturating_add(kept)..)?.get(..self.message).filter(|message| !message.is_empty())
    }

    /// From here on something else is written where our IKE_SA_INIT stands, and a proof has to cover it later.
    pub(crate) fn set_aside(&mut self, sent: &mut [u8]) -> Result<(), NoRoom> {
        if self.aside.is_none() {
            let at = sent.len().checked_sub(self.own).ok_or(NoRoom)?;
            // From the last octet on, as the two places may overlap.
            for from in (0..self.own).rev() {
                let octet = sent.get(from).copied().ok_or(NoRoom)?;
                *sent.get_mut(at.saturating_add(from)).ok_or(NoRoom)? = octet;
            }
            self.aside = Some(at);
        }
        Ok(())
    }

    /// Whether it goes on for more than one request and its answer.
    pub(crate) fn has_rounds(&self) -> bool {
        self.aside.is_some()
    }

    /// Our IKE_SA_INIT.
    pub(crate) fn own<'s>(&self, sent: &'s [u8]) -> &'s [u8] {
        sent.get(self.aside.unwrap_or(0)..).and_then(|rest| rest.get(..self.own)).unwrap_or_default()
    }

    /// Where we may write.
    pub(crate) fn room<'s>(&self, sent: &'s mut [u8]) -> &'s mut [u8] {
        let len = self.aside.unwrap_or(sent.len());
        sent.get_mut(..len).unwrap_or_default()
    }

    /// Octets of the first buffer, from its beginning, that are kept.
    pub(crate) fn received_len(&self, theirs: usize) -> usize {
        theirs.saturating_add(self.kept.map_or(0, |(_, len)| len)).saturating_add(self.message)
    }

    /// The same of the second one, where our message has `written` octets.
    pub(crate) fn sent_len(&self, written: usize) -> usize {
        self.aside.map_or(written, |at| at.saturating_add(self.own))
    }

    /// Octets of our IKE_SA_INIT.
    pub(crate) fn own_len(&self) -> usize {
        self.own
    }
}
