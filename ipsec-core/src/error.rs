//! Why packets are discarded, counted once, and what a caller can do wrong.

use core::fmt;

/// What is said of each case of an error, to whoever shows it: nobody else links the texts.
macro_rules! texts {
    ($name:ty: $($case:pat => $text:literal,)+) => {
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self {
                    $($case => $text,)+
                })
            }
        }

        impl core::error::Error for $name {}
    };
}

pub(crate) use texts;

/// The caller's buffer has no room for what must be added, or less in it than must be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoRoom;

/// Why an SA or a rule was not installed. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refused {
    /// The caller's table has no free slot.
    Full,
    /// An SA with this SPI, or a rule with this id, is there already.
    Duplicate,
    /// The crypto engine does not offer the algorithm, or has no slot left.
    Algorithm,
    /// The crypto engine has no generator for the random IVs that this algorithm takes to send with.
    NoIv,
    /// The keying material has the wrong length for the algorithm.
    KeyLength,
    /// The replay window is no power of two, below 64, or larger than the storage handed in.
    Window,
    /// No selector on one side, or more than an SA can hold.
    Selectors,
    /// The selectors are not one address on each side, as BEET mode wants it.
    Hosts,
    /// The sequence number to start from is beyond what the SA may use.
    Sequence,
    /// The two addresses of the path are of different families.
    Path,
    /// The build has no such mode: other than tunnel mode comes with the feature `transport`.
    Mode,
    /// The engine has nothing to compress with.
    Compression,
}

texts! {
    NoRoom: Self => "the buffer has no room",
}

texts! {
    Refused:
    Self::Full => "the table is full",
    Self::Duplicate => "it is there already",
    Self::Algorithm => "the crypto engine does not offer the algorithm, or has no room left",
    Self::NoIv => "the crypto engine has no random IVs to send with",
    Self::KeyLength => "the keying material has the wrong length",
    Self::Window => "the replay window has no size that can be kept",
    Self::Selectors => "it has no traffic selector on one side, or too many",
    Self::Hosts => "in this mode its traffic selectors have to be one address on each side",
    Self::Sequence => "no sequence number is left to send with",
    Self::Path => "the two addresses are of different families",
    Self::Mode => "the build has no such mode",
    Self::Compression => "the engine has nothing to compress with",
}

macro_rules! discards {
    ($($(#[doc = $doc:literal])+ $name:ident => $xfrm:expr,)+) => {
        /// Why a packet was discarded: the sender's fault, or the operator's will. Silent on the wire, counted in
        /// [`Counters`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum Discard {
            $($(#[doc = $doc])+ $name,)+
        }

        /// By its name, under which it is counted.
        impl fmt::Display for Discard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => stringify!($name),)+
                })
            }
        }

        impl core::error::Error for Discard {}

        impl Discard {
            /// Every reason, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The counter of Linux' `/proc/net/xfrm_stat` that this reason belongs to; `None` for what Linux does not
            /// count.
            pub const fn xfrm_name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => $xfrm,)+
                }
            }
        }
    };
}

discards! {
    /// Inbound: shorter than ESP with its IV and ICV, a reserved SPI (0–255), or an outer header that does not parse.
    InHeader => Some("XfrmInHdrError"),
    /// Inbound: no SA has this SPI.
    InUnknownSpi => Some("XfrmInNoStates"),
    /// Inbound: the ICV is wrong.
    InForged => Some("XfrmInStateProtoError"),
    /// Inbound: the crypto engine has no place for a packet just now; it may be tried again.
    InEngine => Some("XfrmInError"),
    /// Inbound: pad length beyond the payload or pad octets other than 1, 2, 3, … (RFC 4303 §2.4).
    InPadding => Some("XfrmInStateProtoError"),
    /// Inbound: a compressed payload that is none, is compressed twice or with another index than was agreed on, or takes more room
    /// than there is (RFC 3173).
    InCompression => Some("XfrmInStateProtoError"),
    /// Inbound: the next header or the inner packet does not fit the SA's mode (in BEET mode options are not read), or there is no
    /// room for its header.
    InMode => Some("XfrmInStateModeError"),
    /// Inbound: this sequence number was received before.
    InReplayed => Some("XfrmInStateSeqError"),
    /// Inbound: left of the replay window, or a sequence number that cannot be (0, or beyond the counter).
    InStale => Some("XfrmInStateSeqError"),
    /// Inbound: the SA is past a hard lifetime.
    InExpired => Some("XfrmInStateExpired"),
    /// Inbound: the inner packet is outside the selectors of the SA it came through (RFC 4301 §5.2 step 4).
    InSelectors => Some("XfrmInStateMismatch"),
    /// Inbound: a CE mark on the outer header of a packet that is not ECN-capable (RFC 6040 §4.2).
    InCongestion => Some("XfrmInError"),
    /// Inbound: TCP or UDP came out of ESP with a wrong checksum, where [that is looked at](crate::engine::Inbound::check_checksums):
    /// it was damaged before it was protected, or after it was decrypted.
    InChecksum => Some("XfrmInError"),
    /// Inbound: a dummy packet (next header 59, RFC 4303 §2.6). Sent to be dropped.
    InDummy => None,
    /// Inbound: came in clear although a rule says PROTECT.
    InClear => Some("XfrmInTmplMismatch"),
    /// Inbound, in clear: no rule matches.
    InNoPolicy => Some("XfrmInNoPols"),
    /// Inbound, in clear: a DISCARD rule matches.
    InBlocked => Some("XfrmInPolBlock"),
    /// Inbound, in clear: a fragment that a BYPASS rule matches, but that may belong to a flow which a rule before it
    /// protects or discards (RFC 4301 §7).
    InFragment => Some("XfrmInTmplMismatch"),
    /// Outbound: not an IP packet, or its length is wrong.
    OutHeader => Some("XfrmOutError"),
    /// Outbound: the SA's mode does not carry this packet: outside of tunnel mode a fragment, or one between others than its hosts; in
    /// BEET mode one with options, or of protocol 94, which would be read as some.
    OutMode => Some("XfrmOutStateModeError"),
    /// Outbound: the buffer lacks head- or tailroom, or the packet would exceed 65,535 octets.
    OutNoRoom => Some("XfrmOutError"),
    /// Outbound: the crypto engine has no random IV.
    OutNoIv => Some("XfrmOutStateProtoError"),
    /// Outbound: the crypto engine has no place for a packet just now, and it may be tried again; or it failed at it.
    OutEngine => Some("XfrmOutError"),
    /// Outbound: no rule matches.
    OutNoPolicy => Some("XfrmOutPolBlock"),
    /// Outbound: a DISCARD rule matches.
    OutBlocked => Some("XfrmOutPolBlock"),
    /// Outbound: a fragment that a BYPASS rule matches, but that may belong to a flow which a rule before it protects or
    /// discards (RFC 4301 §7).
    OutFragment => Some("XfrmOutPolBlock"),
    /// Outbound: there is no such SA (any more), or the caller gave up waiting for one; or there is none for an ICMP error about a
    /// packet that came protected, which may not leave in clear.
    OutNoSa => Some("XfrmOutNoStates"),
    /// Outbound: the SA is past a hard lifetime.
    OutExpired => Some("XfrmOutStateExpired"),
    /// Outbound: the sequence number would wrap.
    OutExhausted => Some("XfrmOutStateSeqError"),
}

/// The 32 names of `/proc/net/xfrm_stat` of Linux 6.18, in file order.
pub const XFRM_NAMES: [&str; 32] = [
    "XfrmInError",
    "XfrmInBufferError",
    "XfrmInHdrError",
    "XfrmInNoStates",
    "XfrmInStateProtoError",
    "XfrmInStateModeError",
    "XfrmInStateSeqError",
    "XfrmInStateExpired",
    "XfrmInStateMismatch",
    "XfrmInStateInvalid",
    "XfrmInTmplMismatch",
    "XfrmInNoPols",
    "XfrmInPolBlock",
    "XfrmInPolError",
    "XfrmOutError",
    "XfrmOutBundleGenError",
    "XfrmOutBundleCheckError",
    "XfrmOutNoStates",
    "XfrmOutStateProtoError",
    "XfrmOutStateModeError",
    "XfrmOutStateSeqError",
    "XfrmOutStateExpired",
    "XfrmOutPolBlock",
    "XfrmOutPolDead",
    "XfrmOutPolError",
    "XfrmFwdHdrError",
    "XfrmOutStateInvalid",
    "XfrmAcquireError",
    "XfrmOutStateDirError",
    "XfrmInStateDirError",
    "XfrmInIptfsError",
    "XfrmOutNoQueueSpace",
];

/// Discarded packets by reason.
///
/// ```
/// use ipsec_core::error::{Counters, Discard};
/// let mut counters = Counters::default();
/// counters.count(Discard::InForged);
/// counters.count(Discard::InPadding);
/// assert_eq!(counters.get(Discard::InForged), 1);
/// assert!(counters.xfrm().any(|line| line == ("XfrmInStateProtoError", 2)));
/// assert_eq!(format!("{counters:?}"), "{InForged: 1, InPadding: 1}");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counters([u64; Discard::ALL.len()]);

/// Those that are not zero.
impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

impl Counters {
    /// Counts one discarded packet. The engines do so themselves for every `Discard` they return; a caller does it for
    /// packets it gives up on its own.
    pub fn count(&mut self, discard: Discard) {
        if let Some(counter) = self.0.get_mut(discard as usize) {
            *counter = counter.saturating_add(1);
        }
    }

    /// Counts packets that something else discarded, such as a packet filter of the system.
    pub fn count_many(&mut self, discard: Discard, packets: u64) {
        if let Some(counter) = self.0.get_mut(discard as usize) {
            *counter = counter.saturating_add(packets);
        }
    }

    /// Packets discarded for this reason.
    pub fn get(&self, discard: Discard) -> u64 {
        self.0.get(discard as usize).copied().unwrap_or(0)
    }

    /// Every reason and its count.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().copied().zip(self.0.iter().copied())
    }

    /// Adds the counters of another engine.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }

    /// The lines of `/proc/net/xfrm_stat`, in its order; names that cannot happen here stand at 0.
    pub fn xfrm(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        XFRM_NAMES.iter().map(|name| {
            let of_this_name = self.iter().filter(|(discard, _)| discard.xfrm_name() == Some(name));
            (*name, of_this_name.fold(0u64, |sum, (_, count)| sum.saturating_add(count)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_xfrm_name_is_one_of_the_thirty_two() {
        for discard in Discard::ALL {
            assert!(discard.xfrm_name().is_none_or(|name| XFRM_NAMES.contains(&name)), "{discard:?}");
        }
    }

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        for discard in Discard::ALL {
            let mut counters = Counters::default();
            counters.count(*discard);
            assert!(counters.iter().all(|(other, count)| count == u64::from(other == *discard)));
            let mut sum = counters.clone();
            sum.add(&counters);
            assert_eq!(sum.get(*discard), 2);
            let lines: u64 = sum.xfrm().map(|(_, count)| count).sum();
            assert_eq!(lines, if discard.xfrm_name().is_some() { 2 } else { 0 });
        }
    }
}
