//! What an IKE SA holds while it comes up.

use heapless::Vec;
use ipsec_core::time::Instant;

use crate::auth::course::Course;
use crate::crypto::Group;
use crate::failure::Failure;
use crate::pad::ChildConfigId;

/// Octets of our nonces: at least half the key size of every PRF (RFC 7296 §2.10).
pub(crate) const NONCE_LEN: usize = 32;

/// How many reasons why nothing will come of an attempt are told: anybody can make them up.
const NOTED: usize = 4;

/// We asked for an IKE SA and wait for the responder's IKE_SA_INIT.
pub(crate) struct InitSent {
    pub(crate) group: Group,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) cookie: Vec<u8, 64>,
    pub(crate) restarts: u8,
    /// Copies of earlier versions of our request that may still be answered.
    pub(crate) late: u8,
    /// What somebody gave as the reason why nothing will come of it: each is told once, and no more of them.
    pub(crate) noted: Vec<Failure, NOTED>,
    pub(crate) child: Option<ChildConfigId>,
}

/// We answered IKE_SA_INIT and wait for IKE_AUTH. The request stands in the request buffer, our answer in the other.
pub(crate) struct InitAnswered {
    pub(crate) since: Instant,
    /// Until when the initiator has to show who it is.
    pub(crate) until: Instant,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) request_len: usize,
    pub(crate) course: Course,
}

/// We sent IKE_AUTH, or wait for our proof that goes into it. The responder's IKE_SA_INIT stands in the response buffer.
pub(crate) struct AuthSent {
    /// Until when whoever is asked has to answer.
    pub(crate) until: Instant,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) answer_len: usize,
    pub(crate) child: First,
    pub(crate) course: Course,
}

/// The child that travels with IKE_AUTH.
#[derive(Clone, Copy)]
pub(crate) enum First {
    /// To be asked for: this one, or the first one configured.
    Wanted(Option<ChildConfigId>),
    /// Its slot.
    Asked(u16),
}
