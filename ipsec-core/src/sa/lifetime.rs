//! The lifetime of an SA (RFC 4301 §4.4.2.1): limits, and which one was reached.

use core::time::Duration;

/// When something happens to an SA; `None` means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Since the installation.
    pub age: Option<Duration>,
    /// Octets that its key encrypts or decrypts: what packets carry with all padding, dummy packets included (RFC 4301 §4.4.2.1).
    pub bytes: Option<u64>,
    /// Packets, dummy packets included.
    pub packets: Option<u64>,
}

/// The lifetime of an SA (RFC 4301 §4.4.2.1). Never negotiated: a local matter.
///
/// ```
/// use core::time::Duration;
/// use ipsec_core::sa::{Lifetime, Limit};
/// let an_hour = Limit { age: Some(Duration::from_secs(3600)), ..Limit::default() };
/// let a_gigabyte = Limit { bytes: Some(1 << 30), ..Limit::default() };
/// let lifetime = Lifetime { soft: a_gigabyte, hard: an_hour };
/// assert_eq!(lifetime.hard.packets, None); // any number
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// Raises [`Event::SoftLifetime`](super::Event::SoftLifetime) once: time to rekey.
    pub soft: Limit,
    /// Raises [`Event::HardLifetime`](super::Event::HardLifetime) once: from here on every packet is discarded.
    pub hard: Limit,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reached {
    /// [`Limit::age`].
    Age,
    /// [`Limit::bytes`].
    Bytes,
    /// [`Limit::packets`].
    Packets,
    /// Three quarters of the sequence numbers that it may use (soft), or the last one (hard).
    Sequence,
}
