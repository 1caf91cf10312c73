//! What became of what is protected.

use std::fmt;

use super::suite::Suite;
use super::tree::Node;

/// Whether a message or packet opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With this.
    Opened(Suite),
    /// The keys name no SA that it may be of.
    NoKey,
    /// The keys name its SA, and it should have opened.
    Failed(Failed),
}

/// Why something does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The ICV is wrong: another key, or changed on the way.
    Icv,
    /// The ICV is right, the padding is not.
    Padding,
    /// The ICV is right, and what is in it is none of what a mode carries.
    Content,
    /// It is too short for its ICV, or no whole number of blocks.
    Length,
    /// No packet has this sequence number (RFC 4303 §3.3.3).
    Sequence,
    /// The capture does not have all of it.
    CutOff,
    /// The keys fit none of the algorithms that the keys file names.
    KeyLength,
    /// This build does not have the algorithm.
    NotBuilt(Suite),
}

impl Failed {
    /// Of two tries the later one, unless it says only that a key is for something else.
    pub(super) fn or(self, later: Self) -> Self {
        if later == Self::KeyLength { self } else { later }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icv => f.write_str("the ICV is wrong"),
            Self::Padding => f.write_str("the ICV is right, the padding is wrong"),
            Self::Content => f.write_str("the ICV is right, what is in it is no packet of any mode"),
            Self::Length => f.write_str("its length is none that it can have"),
            Self::Sequence => f.write_str("no packet has this sequence number"),
            Self::CutOff => f.write_str("the capture does not have all of it"),
            Self::KeyLength => f.write_str("its keys have lengths of none of the proposed algorithms"),
            Self::NotBuilt(suite) => write!(f, "{suite} is not built into this version"),
        }
    }
}

impl Verdict {
    /// Tells it of a node.
    pub(super) fn of(self, node: Node) -> Node {
        match self {
            Self::Opened(suite) => node.with("verdict", "opened").word("suite", suite),
            Self::NoKey => node.with("verdict", "no-key"),
            Self::Failed(why) => node.with("verdict", "failed").word("why", why),
        }
    }
}
