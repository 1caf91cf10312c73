//! How the endpoint behaves.

use core::time::Duration;

use ipsec_core::net::{IKE_PORT, NATT_PORT};

use crate::window::Retransmission;

/// How the endpoint behaves; the defaults suit a gateway.
///
/// ```
/// use core::time::Duration;
/// use ike_core::endpoint::Settings;
/// use ike_core::window::Retransmission;
/// // A peer behind a slow link is given up later.
/// let retransmission = Retransmission { tries: 12, ..Retransmission::default() };
/// let settings = Settings { retransmission, keepalive: Duration::from_secs(15), ..Settings::default() };
/// assert_eq!((settings.ike_port, settings.natt_port), (500, 4500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Our port for IKE without NAT traversal.
    pub ike_port: u16,
    /// Our port for IKE and ESP with NAT traversal: messages carry the non-ESP marker there.
    pub natt_port: u16,
    /// Repetition of requests.
    pub retransmission: Retransmission,
    /// Pause between NAT keepalives (RFC 7296 §2.23).
    pub keepalive: Duration,
    /// Half-open SAs of strangers, and requests within a second of which none came, above which each new request has to
    /// return a cookie first (RFC 7296 §2.6). At most half of the half-open SAs that may be, so that it works in a small
    /// table, too.
    pub cookie_threshold: usize,
    /// Half-open SAs of strangers above which no further is made, cookie or not; within half of the table. One source (an
    /// IPv4 address, an IPv6 /64) holds a quarter of them at most, and no more than 64, and half of its share without a cookie.
    pub half_open_limit: usize,
    /// How long a stranger may take from IKE_SA_INIT to IKE_AUTH, and from one IKE_AUTH to the next where there are several;
    /// and how long whoever is asked for a proof or a verdict may.
    pub half_open_life: Duration,
    /// How long a dead SA stays to repeat its last response.
    pub linger: Duration,
    /// How long a replaced Child SA receives what is still on its way.
    pub drain: Duration,
    /// How long we wait for the peer to delete an SA that its rekey replaced, before we do; and for how long an answer that is
    /// too long for its pair can be repeated in any case. After that it can until blocks are wanted elsewhere, which is
    /// looked at each time that so long has passed.
    pub orphan: Duration,
    /// After what time we take for granted that the peer has our answer to its request for a Child SA, when nothing shows it;
    /// anew each time that it asks once more, up to six times as long.
    pub settle: Duration,
    /// How long to wait after the peer was busy (TEMPORARY_FAILURE) or a rekey failed; longer with each time.
    pub retry: Duration,
    /// How long the peer may be busy without a break before that is told as any other refusal. A try that it does not refuse,
    /// and a CREATE_CHILD_SA of its own, are a break.
    pub patience: Duration,
    /// How seldom what somebody claims in clear makes us ask the peer for a sign of life.
    pub doubt: Duration,
    /// Child SAs that one peer may ask us for; twice as many as it has configured are always granted, and never more than
    /// three quarters of the table beyond that. Identities that share a connection count each for itself.
    pub children_per_peer: usize,
    /// IKE SAs that one peer may hold with us, or twice as many as it has children configured, within three quarters of the
    /// table; for one more the oldest is closed.
    pub ike_sas_per_peer: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ike_port: IKE_PORT,
            natt_port: NATT_PORT,
            retransmission: Retransmission::default(),
            keepalive: Duration::from_secs(20),
            cookie_threshold: 16,
            half_open_limit: 256,
            half_open_life: Duration::from_secs(30),
            linger: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            orphan: Duration::from_secs(30),
            settle: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            patience: Duration::from_secs(20),
            doubt: Duration::from_secs(10),
            children_per_peer: 64,
            ike_sas_per_peer: 8,
        }
    }
}

impl Settings {
    /// How long an SA that the peer's rekey made waits for the end of ours, which crossed it, at least: as long as ours is
    /// repeated.
    pub(crate) fn undecided(&self) -> Duration {
        self.orphan.max(self.retransmission.span())
    }
}

/// The part of a table that one peer may have: three quarters.
pub(crate) fn share(slots: usize) -> usize {
    slots.saturating_sub(slots / 4)
}
