//! What the control thread asks the machine, and what the machine tells: plain data both ways, without handles, so whoever
//! answers may be a thread of this process or another process.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;

use gateway_core::cause::{Cause, Unsent};
use gateway_core::config::Config;
use gateway_core::gateway::{Account, Accounts, Locate, Located, Ticket, Totals};
use ike_core::event::IkeId;
use ipsec_core::net::Path;

use crate::boundary::{Intent, View};
use crate::configuration::Loaded;
use crate::listen;
use crate::sequence::{Order, Outcome};
use crate::socket::Listen;

/// An address of ours and one of a peer.
pub(crate) type Ends = (IpAddr, IpAddr);

/// What is asked. Nobody waits: each variant names its [`Answer`].
#[derive(Debug)]
pub(crate) enum Question {
    /// Where a peer is, and how it is reached: [`Answer::Located`].
    Locate(Locate),
    /// Which of these ways still are: [`Answer::Ways`], once the addresses of the machine can be read. Listens to what
    /// there is by then.
    Ways(BTreeSet<Ends>),
    /// Whether what was sent for this IKE SA is led back to us: [`Answer::Sent`].
    Sent { ike: IkeId, path: Path },
    /// The configuration, read from its file: [`Answer::Read`], with this number. A file may take so long that it is asked for
    /// again meanwhile, and may be another one by then.
    Configuration(u64),
    /// What a new configuration needs, beside what the running one has: [`Answer::Followed`].
    Follow(Box<Needs>),
    /// That configuration is taken up: what the one before needed goes. Not answered.
    TakenUp,
    /// That configuration is not taken up, if nobody knows yet whether it could be: [`Answer::Followed`] then.
    GiveUp,
    /// The daemon runs: from now on the boundary stays closed, however it ends. Not answered.
    Keep,
    /// Has accounts written: [`Answer::Kept`].
    Accounts(Accounts),
    /// Has sequence numbers set aside for a key: [`Answer::SetAside`].
    SetAside(Order),
}

/// What is told: answers, and what happened by itself.
#[derive(Debug)]
pub(crate) enum Answer {
    Located {
        question: Locate,
        located: Result<Located, Cause>,
    },
    /// Of the ways asked for: those from addresses that we no longer have, and those that lead elsewhere.
    Ways {
        gone: BTreeSet<Ends>,
        astray: BTreeSet<Ends>,
    },
    /// Why the message for this IKE SA arrives nowhere, if anybody knows.
    Sent {
        ike: IkeId,
        path: Path,
        astray: Option<Unsent>,
    },
    /// A configuration, or one line for each thing that is wrong with it.
    Read {
        number: u64,
        read: Result<Box<Loaded>, Vec<String>>,
    },
    /// Whether a new configuration has what it needs. If not, everything is as it was.
    Followed(Result<(), Trouble>),
    /// What an earlier run kept; none: there is no place to keep anything. Once, before anything is kept.
    BroughtForward(Option<Vec<(Account, Totals)>>),
    /// The accounts are written, or could not be; the log says which.
    Kept,
    /// Sequence numbers are set aside, or why there are none.
    SetAside {
        ticket: Ticket,
        outcome: Outcome,
    },
    /// Addresses or ways may have changed: it is time to ask for [`Question::Ways`].
    Moved,
    /// How things stand has changed.
    Stands(Stands),
    /// The machine can never again do what it is for.
    Failed(String),
}

/// What a configuration needs of the machine; no key is in it.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Of the boundary.
    pub(crate) intent: Intent,
    /// Of sockets.
    pub(crate) wanted: BTreeSet<Listen>,
}

impl Needs {
    pub(crate) fn of(config: &Config) -> Self {
        Self { intent: Intent::of(config), wanted: listen::wanted(config, &config.gateway.outside) }
    }
}

/// How things stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stands {
    pub(crate) boundary: View,
    /// The interfaces under `outside` on which nothing can be heard.
    pub(crate) missing: BTreeSet<String>,
}

/// Something the machine does not grant.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) text: String,
    pub(crate) hint: String,
}

impl Trouble {
    /// Nobody knows what to do about it.
    pub(crate) fn without_hint(text: String) -> Self {
        Self { text, hint: String::new() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// What the kernel refused, in words.
pub(crate) fn trouble(what: impl fmt::Display, error: &io::Error) -> Trouble {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "root is needed, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrInUse => "another IKE daemon runs: `ss -ulpn` names it; stop it",
        _ => "`portcullis doctor` looks for the cause",
    };
    Trouble { text: format!("{what}: {error}"), hint: hint.to_owned() }
}
