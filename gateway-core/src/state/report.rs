//! What a gateway tells its operator: one negotiation reads as one story.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use ike_core::endpoint::IkeView;
use ike_core::proposal::EspSuite;
use ipsec_core::net::{Encap, Spi, TrafficSelector};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;

use crate::cause::{Cause, Kind};

/// One line of the story.
///
/// ```
/// use gateway_core::cause::Cause;
/// use gateway_core::gateway::{Level, Report, What};
/// let remote = "192.0.2.1:500".parse().unwrap();
/// let report = Report { peer: Some("cloud".into()), child: None, what: What::Connecting { remote }, cause: None };
/// assert_eq!(report.to_string(), "cloud: connecting to 192.0.2.1:500");
/// assert_eq!(report.level(), Level::Info);
/// let report = Report { what: What::Failed { remote: None }, cause: Some(Cause::unroutable("no route")), ..report };
/// assert_eq!(report.level(), Level::Warn);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// About whom; `None`: a stranger.
    pub peer: Option<String>,
    /// About which child of the peer.
    pub child: Option<String>,
    /// What happened.
    pub what: What,
    /// Why, where there is a why.
    pub cause: Option<Cause>,
}

/// What happened.
///
/// ```
/// use gateway_core::gateway::What;
/// assert_eq!(What::Rekeyed.as_str(), "rekeyed"); // for machines; a `Report` prints it for people
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// We call the peer.
    Connecting {
        /// At this address.
        remote: SocketAddr,
    },
    /// The peer is authenticated.
    Connected {
        /// The IKE SA that came up, which need not be the one that the peer is shown with; `None` when it is gone already.
        ike: Option<Box<IkeView>>,
        /// How long that took, where we called.
        took: Option<Duration>,
    },
    /// The IKE SA was rekeyed.
    Rekeyed,
    /// The IKE SA, or a child that is up, did not get another SA: it was to be rekeyed, or to be carried over to another
    /// connection. It goes on as it was.
    RekeyFailed,
    /// A handshake failed, or could not begin.
    Failed {
        /// With this address, where one was reached for.
        remote: Option<SocketAddr>,
    },
    /// Somebody says in clear why nothing will come of it; the attempt goes on.
    Doubtful {
        /// Where the peer is called.
        remote: SocketAddr,
        /// It came from there, as far as one can tell; else somebody speaks of it.
        answers: bool,
    },
    /// An IKE SA is gone.
    Closed,
    /// An IKE SA is gone, and another one with the same peer goes on.
    Merged,
    /// A handshake request was refused.
    Refused {
        /// From this address.
        remote: SocketAddr,
    },
    /// The peer is reached at another address or port now.
    Moved {
        /// This one.
        remote: SocketAddr,
    },
    /// A Child SA is up: packets of this policy can go.
    ChildUp {
        /// The policy.
        policy: PolicyId,
        /// The negotiated algorithms.
        suite: EspSuite,
        /// SPI of packets we receive.
        spi_in: Spi,
        /// SPI of packets we send.
        spi_out: Spi,
        /// Protocol 50 or UDP.
        encap: Encap,
        /// What it carries: on our side,
        local: Box<[TrafficSelector]>,
        /// and on the peer's.
        remote: Box<[TrafficSelector]>,
        /// What it carries may be compressed.
        compressed: bool,
        /// What we send looks longer than it is.
        padded: bool,
        /// It replaces another one.
        rekeyed: bool,
    },
    /// Something takes long or goes one way only; the cause says what.
    Waiting,
    /// The connection is made anew beside the one that stands, because it cannot go on for long.
    Renewing,
    /// The peer took less than a child is configured for, or gives no SA for the rest.
    Narrowed,
    /// A Child SA is gone.
    ChildDown,
    /// A Child SA did not come about.
    ChildFailed,
}

impl What {
    /// A word in kebab-case that never changes its meaning.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "connecting",
            Self::Connected { .. } => "connected",
            Self::Rekeyed => "rekeyed",
            Self::RekeyFailed => "rekey-failed",
            Self::Failed { .. } => "failed",
            Self::Closed => "closed",
            Self::Merged => "merged",
            Self::Refused { .. } => "refused",
            Self::Moved { .. } => "moved",
            Self::ChildUp { rekeyed: false, .. } => "child-up",
            Self::ChildUp { rekeyed: true, .. } => "child-rekeyed",
            Self::ChildDown => "child-down",
            Self::ChildFailed => "child-failed",
            Self::Doubtful { .. } => "doubtful",
            Self::Waiting => "waiting",
            Self::Renewing => "renewing",
            Self::Narrowed => "narrowed",
        }
    }
}

/// How much a report matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Part of the normal course.
    Info,
    /// Somebody should look.
    Warn,
}

impl Report {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match &self.cause {
            // One connection goes on: nobody has to look.
            _ if self.what == What::Merged => Level::Info,
            Some(cause) if cause.kind != Kind::Intent => Level::Warn,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.peer, &self.child) {
            (Some(peer), Some(child)) => write!(f, "{peer}/{child}: ")?,
            (Some(peer), None) => write!(f, "{peer}: ")?,
            (None, _) => {}
        }
        match &self.what {
            What::Connecting { remote } => write!(f, "connecting to {remote}"),
            What::Connected { .. } => f.write_str("connected, the peer is authenticated"),
            What::Rekeyed => f.write_str("IKE SA rekeyed"),
            What::RekeyFailed if self.child.is_some() => f.write_str("not rekeyed"),
            What::RekeyFailed => f.write_str("IKE SA not rekeyed"),
            What::Failed { remote: Some(remote) } => write!(f, "not connected to {remote}"),
            What::Failed { remote: None } => f.write_str("not connected"),
            What::Doubtful { remote, answers: true } => write!(f, "{remote} answers, unproven"),
            What::Doubtful { remote, answers: false } => write!(f, "nothing heard from {remote}"),
            What::Closed => f.write_str("disconnected"),
            What::Merged => f.write_str("one of two connections ended, the other goes on"),
            What::Refused { remote } => write!(f, "request from {remote} refused"),
            What::Moved { remote } => write!(f, "the peer is at {remote} now"),
            What::ChildUp { suite, spi_in, spi_out, encap, compressed, padded, rekeyed, .. } => {
                let verb = if *rekeyed { "rekeyed" } else { "up" };
                let carrier = match encap {
                    Encap::None => "ESP",
                    Encap::Udp => "ESP in UDP",
                };
                let compressed = if *compressed { ", compressed" } else { "" };
                let padded = if *padded { ", padded" } else { "" };
                write!(
                    f,
                    "{verb}, {carrier} {suite}{compressed}{padded}, SPI in {:#010x} out {:#010x}",
                    spi_in.get(),
                    spi_out.get()
                )
            }
            What::Waiting => f.write_str("not well"),
            What::Renewing => f.write_str("connecting anew beside the connection that stands"),
            What::Narrowed => f.write_str("up for less than configured"),
            What::ChildDown => f.write_str("down"),
            What::ChildFailed => f.write_str("not up"),
        }?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

/// Strangers must not be able to fill a log: of what they cause, a few lines are told, the rest is counted.
pub(crate) struct Strangers {
    /// So many lines in this time.
    most: u32,
    period: Duration,
    since: Option<Instant>,
    told: u32,
    pub(crate) untold: u64,
}

impl Strangers {
    /// For what comes to nothing in IKEv2.
    pub(crate) fn in_general() -> Self {
        Self { most: 20, period: Duration::from_secs(10), since: None, told: 0, untold: 0 }
    }

    /// For those who speak another version of IKE, as who looks for any gateway at all does.
    pub(crate) fn of_another_version() -> Self {
        Self { most: 3, period: Duration::from_secs(60), ..Self::in_general() }
    }

    /// Whether one more is told.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= self.period) {
            self.since = Some(now);
            self.told = 0;
        }
        let admitted = self.told < self.most;
        match admitted {
            true => self.told = self.told.saturating_add(1),
            false => self.untold = self.untold.saturating_add(1),
        }
        admitted
    }
}
