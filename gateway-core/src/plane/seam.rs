//! What a gateway asks of a data plane, and what that tells.

use alloc::string::{String, ToString};
use core::fmt;

use ipsec_core::error;
use ipsec_core::net::{Encap, Path};
use ipsec_core::sa::{InboundParams, OutboundParams, TfcPadding};
use ipsec_core::spd::Rule;
use ipsec_core::time::Instant;

/// A Child SA in a data plane: a pair of one-way SAs (RFC 4301 §4.1). A gateway gives no number out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair(pub u64);

/// One of the two SAs of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    /// Packets of the peer's.
    Inbound,
    /// Packets to the peer.
    Outbound,
}

/// What went through one SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Packets sealed or opened.
    pub packets: u64,
    /// Octets of what was in them.
    pub bytes: u64,
    /// The last sequence number sent, or the highest received.
    pub sequence: u64,
    /// When the last one went through.
    pub last_used: Option<Instant>,
}

/// How far an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The SA carries packets.
    Done,
    /// [`PlaneEvent::Installed`] or [`PlaneEvent::Refused`] will say.
    Underway,
}

/// A data plane did not take an SA; why, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<error::Refused> for Refused {
    fn from(refused: error::Refused) -> Self {
        Self(refused.to_string())
    }
}

/// Not every rule is in place: so many are, from the first one on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// How many.
    pub placed: usize,
    /// Why not the next one.
    pub why: Refused,
}

/// What carries the packets of a gateway. What it is asked for is done in the order in which it is asked.
///
/// No call waits. Who cannot answer at once says so, and whoever runs the gateway hands it the answer with
/// [`Gateway::handle_plane`](crate::gateway::Gateway::handle_plane); what an event says of an SA that was removed meanwhile
/// is passed over there.
///
/// One that carries nothing and takes everything; a real one hands the keys to what encrypts:
///
/// ```
/// use std::collections::BTreeMap;
/// use gateway_core::plane::{DataPlane, Half, Incomplete, Pair, PlaneEvent, Progress, Refused, Usage};
/// use ipsec_core::net::{Encap, Path};
/// use ipsec_core::sa::{InboundParams, OutboundParams, TfcPadding};
/// use ipsec_core::spd::Rule;
/// use ipsec_core::time::Instant;
///
/// #[derive(Default)]
/// struct Nothing(BTreeMap<(Pair, Half), Usage>);
///
/// impl DataPlane for Nothing {
///     fn set_rules(&mut self, _: &[Rule]) -> Result<(), Incomplete> {
///         Ok(())
///     }
///     fn install_inbound(&mut self, _: Instant, pair: Pair, _: &InboundParams<'_>) -> Result<Progress, Refused> {
///         self.0.insert((pair, Half::Inbound), Usage::default());
///         Ok(Progress::Done)
///     }
///     fn install_outbound(
///         &mut self,
///         _: Instant,
///         pair: Pair,
///         _: &OutboundParams<'_>,
///         _: TfcPadding,
///     ) -> Result<Progress, Refused> {
///         self.0.insert((pair, Half::Outbound), Usage::default());
///         Ok(Progress::Done)
///     }
///     fn remove(&mut self, pair: Pair, half: Half) -> Option<Usage> {
///         self.0.remove(&(pair, half)) // none: `PlaneEvent::Removed` would have to say it later
///     }
///     fn move_path(&mut self, _: Pair, _: Half, _: Path, _: Encap) {}
///     fn usage(&self, pair: Pair, half: Half) -> Option<Usage> {
///         self.0.get(&(pair, half)).copied()
///     }
///     fn poll_timeout(&self) -> Option<Instant> {
///         None
///     }
///     fn handle_timeout(&mut self, _: Instant) {}
/// }
///
/// let mut plane = Nothing::default();
/// let lent: &mut dyn DataPlane = &mut plane; // as `Parts` has it
/// assert_eq!(lent.set_rules(&[]), Ok(()));
/// ```
pub trait DataPlane {
    /// Puts these rules, in the order in which they are tried, in the place of those there are. No packet meets a mixture.
    ///
    /// # Errors
    /// There is no room for all of them.
    fn set_rules(&mut self, rules: &[Rule]) -> Result<(), Incomplete>;

    /// Takes packets of the peer's with this SA from now on. The keys are lent.
    ///
    /// # Errors
    /// It never will.
    fn install_inbound(&mut self, now: Instant, pair: Pair, params: &InboundParams<'_>) -> Result<Progress, Refused>;

    /// Sends with this SA from now on, rather than with older ones of its policy. Its packets look as long as `padding` has it, in
    /// tunnel mode. The keys are lent.
    ///
    /// # Errors
    /// It never will.
    fn install_outbound(
        &mut self,
        now: Instant,
        pair: Pair,
        params: &OutboundParams<'_>,
        padding: TfcPadding,
    ) -> Result<Progress, Refused>;

    /// Ends an SA and forgets its keys. Returns what went through it; none: [`PlaneEvent::Removed`] will say, or
    /// [`PlaneEvent::Refused`] where it never was there.
    fn remove(&mut self, pair: Pair, half: Half) -> Option<Usage>;

    /// The peer of an SA is reached on this path from now on.
    fn move_path(&mut self, pair: Pair, half: Half, path: Path, encap: Encap);

    /// What went through an SA so far, as far as that is known at this moment; `None`: there is no such SA, or nothing is known
    /// of it yet. Who has to ask for it says [`PlaneEvent::Used`] when there is news.
    fn usage(&self, pair: Pair, half: Half) -> Option<Usage>;

    /// When to call [`DataPlane::handle_timeout`]; `None`: not for the sake of time.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);
}

/// What a data plane tells.
///
/// ```
/// use gateway_core::plane::{Half, Pair, PlaneEvent, Usage};
/// let sa = (Pair(1), Half::Outbound);
/// // A plane that answers later says with it what `remove` could not.
/// let event = PlaneEvent::Removed { pair: sa.0, half: sa.1, usage: Usage { packets: 7, ..Usage::default() } };
/// assert!(matches!(event, PlaneEvent::Removed { usage: Usage { packets: 7, last_used: None, .. }, .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaneEvent {
    /// An SA that was [`Progress::Underway`] carries packets.
    Installed {
        /// Of this pair.
        pair: Pair,
        /// This one.
        half: Half,
    },
    /// An SA that was [`Progress::Underway`] is not there and will not be.
    Refused {
        /// Of this pair.
        pair: Pair,
        /// This one.
        half: Half,
        /// Why.
        why: Refused,
    },
    /// An SA that was asked to go is gone.
    Removed {
        /// Of this pair.
        pair: Pair,
        /// This one.
        half: Half,
        /// What went through it until the end.
        usage: Usage,
    },
    /// There is news of what goes through a pair.
    Used {
        /// This one.
        pair: Pair,
    },
    /// A soft limit was reached: the pair is to be rekeyed (RFC 4301 §4.4.2.1).
    SoftLifetime {
        /// Of this pair.
        pair: Pair,
        /// This one.
        half: Half,
    },
    /// A hard limit was reached: no packet goes through any more.
    HardLifetime {
        /// Of this pair.
        pair: Pair,
        /// This one.
        half: Half,
    },
    /// The first authenticated packet came in: the peer has installed its side.
    FirstPacket {
        /// Through this pair.
        pair: Pair,
    },
    /// The newest authenticated packet came on another path than that of the SA. Nothing is sent there yet.
    PathChanged {
        /// Through this pair.
        pair: Pair,
        /// Where it came from.
        path: Path,
    },
}

impl PlaneEvent {
    /// The pair that it is about.
    pub const fn pair(&self) -> Pair {
        match *self {
            Self::Installed { pair, .. }
            | Self::Refused { pair, .. }
            | Self::Removed { pair, .. }
            | Self::Used { pair }
            | Self::SoftLifetime { pair, .. }
            | Self::HardLifetime { pair, .. }
            | Self::FirstPacket { pair }
            | Self::PathChanged { pair, .. } => pair,
        }
    }
}
