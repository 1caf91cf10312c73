//! Whoever holds the keys of a host, and takes its time: signatures that are hashes, and an EAP method of any length.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use ike_core::auth::ask::{Answer, Lease, Question, Signed};
use ike_core::clock::UnixTime;
use ike_core::event::WaitId;
use ike_core::registry::AuthMethod;
use ike_core::wire::auth::Auth;
use ipsec_core::time::Instant;

/// The key that EAP comes to.
pub(crate) const MSK: [u8; 64] = [0x77; 64];

/// The signature that whoever has this name makes.
pub(crate) fn signature(name: &[u8], signed: &Signed<'_>) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    (name, signed.message, signed.nonce, signed.maced_id.as_slice()).hash(&mut hasher);
    hasher.finish().to_be_bytes().to_vec()
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Proof(Vec<u8>),
    Verdict(bool),
    /// `None`: no address is free.
    Lease(Option<Lease>),
    Eap(Vec<u8>),
    Done(Vec<u8>, Vec<u8>),
}

impl Said {
    pub(crate) fn answer(&self) -> Answer<'_> {
        match self {
            Self::Proof(data) => Answer::Proof(Auth { method: AuthMethod::SIGNATURE, data }),
            Self::Verdict(verdict) => Answer::Verdict(*verdict),
            Self::Lease(lease) => lease.map_or(Answer::Refused, Answer::Lease),
            Self::Eap(message) => Answer::Eap(message),
            Self::Done(last, key) => Answer::EapDone { last, key },
        }
    }
}

/// One question, with its answer that is not given yet.
pub(crate) struct Pending {
    pub(crate) wait: WaitId,
    pub(crate) wall: Option<UnixTime>,
    pub(crate) said: Said,
    /// When it is to be given.
    at: Option<Instant>,
}

pub(crate) struct Signer {
    /// How long it takes; `None`: nobody is there.
    pub(crate) delay: Option<Duration>,
    /// EAP requests of the responder.
    pub(crate) rounds: u8,
    pub(crate) msk: [u8; 64],
    /// What it signs with instead of its own name.
    pub(crate) instead: Option<&'static str>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) asked: usize,
    /// The addresses 10.1.0.1 and up that may be leased, the next one last, and those that are.
    pub(crate) free: Vec<u8>,
    pub(crate) leased: BTreeSet<Lease>,
}

/// What is leased with this number.
pub(crate) fn lease(number: u8) -> Lease {
    Lease { v4: Some([10, 1, 0, number].into()), v6: None }
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            delay: Some(Duration::ZERO),
            rounds: 3,
            msk: MSK,
            instead: None,
            pending: vec![],
            asked: 0,
            free: (1..=50).rev().collect(),
            leased: BTreeSet::new(),
        }
    }
}

impl Signer {
    pub(crate) fn hear(&mut self, name: &str, wait: WaitId, wall: Option<UnixTime>, question: &Question<'_>) {
        let name = self.instead.unwrap_or(name).as_bytes();
        let said = match question {
            Question::Proof(signed) => Said::Proof(signature(name, signed)),
            Question::Verdict(claim) => {
                assert_eq!(claim.certs().count(), 0);
                Said::Verdict(claim.auth.data == signature(claim.id.data, &claim.signed))
            }
            Question::Lease { id } => {
                assert!(!id.data.is_empty());
                Said::Lease(self.free.pop().map(lease))
            }
            Question::Eap { received: None } => Said::Eap(vec![1, 1, 0, 5, 1]),
            // As the client.
            Question::Eap { received: Some([1, number, ..]) } => Said::Eap(vec![2, *number, 0, 6, 4, *number]),
            Question::Eap { received: Some([3, ..]) } => Said::Done(vec![], self.msk.to_vec()),
            // As the server.
            Question::Eap { received: Some([2, number, ..]) } if *number < self.rounds => {
                Said::Eap(vec![1, number + 1, 0, 6, 4, 0])
            }
            Question::Eap { received: Some([2, number, ..]) } => Said::Done(vec![3, *number, 0, 4], self.msk.to_vec()),
            other => panic!("{other:?}"),
        };
        self.asked += 1;
        self.pending.push(Pending { wait, wall, said, at: None });
    }

    /// Says when what was asked just now will be answered.
    pub(crate) fn schedule(&mut self, now: Instant) {
        for pending in &mut self.pending {
            pending.at = pending.at.or(self.delay.map(|delay| now + delay));
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.pending.iter().filter_map(|pending| pending.at).min()
    }

    /// The endpoint took this answer, or not.
    pub(crate) fn answered(&mut self, said: &Said, taken: bool) {
        if let Said::Lease(Some(lease)) = said {
            match taken {
                true => assert!(self.leased.insert(*lease)),
                false => self.free.extend(lease.v4.map(|address| address.octets()[3])),
            }
        }
    }

    /// The endpoint gives this back.
    pub(crate) fn take_back(&mut self, lease: Lease) {
        assert!(self.leased.remove(&lease), "{lease:?} was not leased");
        self.free.extend(lease.v4.map(|address| address.octets()[3]));
    }

    /// What is to be answered by now.
    pub(crate) fn ripe(&mut self, now: Instant) -> Option<Pending> {
        let index = self.pending.iter().position(|pending| pending.at.is_some_and(|at| at <= now))?;
        Some(self.pending.remove(index))
    }
}
