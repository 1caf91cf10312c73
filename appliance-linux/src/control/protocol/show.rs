//! What `show` tells.

use serde::{Deserialize, Serialize};

use super::status::IkeStatus;
use crate::ledger::Entry;

/// The databases of RFC 4301 §4.4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Show {
    pub(crate) spd: Vec<Flow>,
    /// What no policy let pass, or an SA did not take.
    pub(crate) discards: Vec<Discarded>,
    pub(crate) sad: Vec<Sa>,
    pub(crate) ike: Vec<ShownIke>,
    /// What went through, those SAs that stand included.
    #[serde(default)]
    pub(crate) accounts: Vec<Entry>,
}

/// A policy, in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// "out", "in" or "fwd".
    pub(crate) direction: String,
    /// "protect", "bypass" or "discard".
    pub(crate) action: String,
    /// "use" or "require", of a protecting policy.
    #[serde(default)]
    pub(crate) level: Option<String>,
    pub(crate) priority: u32,
    /// Its number, and how many seconds ago it came.
    #[serde(default)]
    pub(crate) rule: u32,
    #[serde(default)]
    pub(crate) age_s: u64,
    /// "tunnel" or "transport", of a protecting policy, and "beet" of one with manual keys.
    #[serde(default)]
    pub(crate) mode: Option<String>,
    /// Our end of its tunnel, or "any".
    #[serde(default)]
    pub(crate) local: Option<String>,
    /// Packets that met it since the daemon started or the rule came; of outbound ones.
    pub(crate) hits: Option<u64>,
    /// How many of them left in clear under level "use"; none where the level is another.
    #[serde(default)]
    pub(crate) clear: Option<u64>,
    /// Seconds since the last of them.
    pub(crate) last_s: Option<u64>,
    /// A selector as the configuration writes it.
    pub(crate) from: String,
    pub(crate) to: String,
    /// peer/child, of a protecting policy.
    pub(crate) child: Option<String>,
    /// The child has SAs, and none of them carries all of this: the peer agreed to less.
    #[serde(default)]
    pub(crate) narrowed: bool,
    /// The peer's address, or "any".
    pub(crate) peer: Option<String>,
    pub(crate) local_id: Option<String>,
    pub(crate) remote_id: Option<String>,
}

/// Packets that were discarded for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Discarded {
    /// "out" or "in".
    pub(crate) direction: String,
    /// As among the counters of `status --all`.
    pub(crate) reason: String,
    pub(crate) packets: u64,
}

/// An ESP SA, one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sa {
    /// peer/child.
    pub(crate) child: String,
    pub(crate) direction: String,
    pub(crate) mode: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) spi: String,
    /// This one's and that of the other direction.
    #[serde(default)]
    pub(crate) spi_in: String,
    #[serde(default)]
    pub(crate) spi_out: String,
    /// `spi_local` of the IKE SA that carries it.
    #[serde(default)]
    pub(crate) ike: String,
    /// As negotiated.
    #[serde(default)]
    pub(crate) local_ts: Vec<String>,
    #[serde(default)]
    pub(crate) remote_ts: Vec<String>,
    /// Another one took its place; it receives what is on its way.
    #[serde(default)]
    pub(crate) replaced: bool,
    pub(crate) suite: String,
    pub(crate) esn: bool,
    /// "esp" or "esp-in-udp".
    pub(crate) encap: String,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    /// Seconds since it was installed, and since a packet last went through.
    #[serde(default)]
    pub(crate) age_s: u64,
    #[serde(default)]
    pub(crate) last_s: Option<u64>,
    /// The last sequence number sent, or the highest received.
    #[serde(default)]
    pub(crate) sequence: u64,
}

/// An IKE SA with its peer's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShownIke {
    /// None: it is not known yet who calls, or a reload took the peer away.
    pub(crate) peer: Option<String>,
    /// "connecting", "established", or "closing": replaced, or being deleted.
    #[serde(default)]
    pub(crate) state: String,
    /// Its Child SAs, those included that a rekey replaced.
    #[serde(default)]
    pub(crate) children: usize,
    #[serde(flatten)]
    pub(crate) ike: IkeStatus,
}
