//! The guard: an nftables table of our own that drops what crosses the boundary in clear, whatever routes there are.
//!
//! * Out (`postrouting`: forwarded and our own): what lies in a remote network, goes to another interface than our device
//!   and does not carry our mark. This is exactly what our routes capture, so a route, a rule or a device that somebody
//!   removes leaves a black hole and no leak.
//! * In (`input`, `forward`): what a rule of the inbound Security Policy Database protects or discards, and comes from
//!   another interface than our device.
//! * `[[policy]] action = "discard"` in both directions, whether or not a route leads to the device.
//!
//! While the daemon runs a second copy stands in a table with an owner: a process of nft that lives as long as we do. Nobody
//! else can change such a table, so that a `flush ruleset` opens nothing until the first one is put back. The kernel removes
//! it with its owner; the first one stays.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::counters::{self, Dropped, Tally};
use super::nft::{self, Nft};
use super::ruleset::TABLE;

/// The guard in the kernel.
pub(super) struct Guard {
    /// What was loaded last, and how the kernel lists it since; `None`: nobody knows what stands there.
    loaded: Option<(String, String)>,
    /// Whether a table of ours was ever set.
    stands: bool,
    twin: Twin,
    /// How many copies there were.
    started: u32,
    tally: Arc<Tally>,
}

/// The copy that nobody else can change.
enum Twin {
    /// None yet, or it could not be made.
    Missing,
    /// It stands; perhaps with the rules before these.
    Kept(Live),
    /// This kernel or this nft has none such.
    Unsupported,
}

/// A table that belongs to a process of nft; both end with this value.
struct Live {
    table: String,
    script: String,
    nft: Nft,
}

impl Live {
    /// Sets up a copy of the table that `script` makes.
    fn start(script: &str, number: u32, until: Instant) -> io::Result<Self> {
        let table = format!("{TABLE}_live_{}_{number}", std::process::id());
        let head = format!("table inet {TABLE} {{\n");
        let body = script.split_once(head.as_str()).map(|(_, body)| body).unwrap_or_default();
        // An interactive nft takes one line at a time, and keeps its socket, which owns the table.
        let line = format!("table inet {table} {{; flags owner; {}\n", body.trim_end().replace('\n', "; "));
        let mut live = Self { table, script: script.to_owned(), nft: Nft::interactive(&line, until)? };
        while live.nft.runs() && Instant::now() < until {
            // The table is one transaction.
            if counters::of(&live.table).is_some() {
                return Ok(live);
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Err(io::Error::other("the copy that nobody else can change was not made"))
    }

    fn is(&mut self, script: &str) -> bool {
        self.script == script && self.nft.runs()
    }
}

/// Whether kernel and nft take tables, but none with an owner. Tables are only checked here, not made.
fn owners_are_unknown() -> bool {
    let fails =
        |flags| nft::run(&["-c", "-f", "-"], &format!("table inet probe {{ {flags} }}\n"), nft::deadline("")).err();
    fails("flags owner;").is_some_and(|error| error.kind() != io::ErrorKind::TimedOut) && fails("").is_none()
}

/// Until when it must have been done, however nft behaves: both tables, and the questions about what it can.
pub(super) fn patience(script: &str) -> Instant {
    nft::deadline(script) + 3 * nft::PATIENCE
}

/// What applying did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It stood as it should.
    Unchanged,
    /// It is new, or says something new.
    Loaded,
    /// Somebody had changed or removed it.
    PutBack,
}

/// How it went, and how it stands since.
pub(super) struct Report {
    /// The table. `NotFound`: there is no nft here; what nft says otherwise.
    pub(super) loaded: io::Result<Applied>,
    /// The copy.
    pub(super) copied: io::Result<()>,
    /// Whether a table was ever set; from then on it is there, or put back.
    pub(super) stands: bool,
    /// Whether the copy that nobody else can change is there.
    pub(super) flush_proof: bool,
}

impl Guard {
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        Self { loaded: None, stands: false, twin: Twin::Missing, started: 0, tally }
    }

    fn is_flush_proof(&self) -> bool {
        matches!(self.twin, Twin::Kept(_))
    }

    /// Makes the table, and the copy, what `script` says, each in one step. One that fails does not keep back the other.
    pub(super) fn apply(&mut self, script: &str) -> Report {
        let until = nft::deadline(script);
        // The copy first: while the kernel replaces the table that an earlier daemon left, a packet may pass it by.
        let copied = self.keep_alive(script, until);
        // What hangs for the one hangs for the other.
        let hung = copied.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        let loaded = if hung { Err(io::ErrorKind::TimedOut.into()) } else { self.load(script, until) };
        Report { loaded, copied, stands: self.stands, flush_proof: self.is_flush_proof() }
    }

    /// Makes the copy say the same: the new one first, then the old one goes.
    fn keep_alive(&mut self, script: &str, until: Instant) -> io::Result<()> {
        let before = match &mut self.twin {
            Twin::Unsupported => return Ok(()),
            Twin::Kept(live) => {
                if live.is(script) {
                    return Ok(());
                }
                counters::of(&live.table).unwrap_or_default()
            }
            Twin::Missing => Dropped::default(),
        };
        self.started = self.started.wrapping_add(1);
        match Live::start(script, self.started, until) {
            Ok(new) => {
                self.tally.replace(new.table.clone(), before);
                self.twin = Twin::Kept(new);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) if !self.is_flush_proof() && owners_are_unknown() => {
                self.twin = Twin::Unsupported;
                Ok(())
            }
            // An old one serves until the next attempt.
            Err(error) => Err(error),
        }
    }

    fn load(&mut self, script: &str, until: Instant) -> io::Result<Applied> {
        let held = list(until)?;
        let same = self.loaded.as_ref().is_some_and(|(loaded, _)| loaded == script);
        if let (true, Some(held), Some((_, listed))) = (same, &held, &self.loaded)
            && held == listed
        {
            return Ok(Applied::Unchanged);
        }
        let counted = if self.stands { counters::of(TABLE).unwrap_or_default() } else { Dropped::default() };
        self.loaded = None; // whatever becomes of it
        nft::run(&["-f", "-"], script, until)?;
        self.tally.keep(counted);
        self.stands = true;
        let listed = list(until)?.ok_or_else(|| io::Error::other("the guard is gone as soon as it is set"))?;
        self.loaded = Some((script.to_owned(), listed));
        Ok(if same { Applied::PutBack } else { Applied::Loaded })
    }
}

/// How it stands with the guard, for those who only look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// The table is there.
    Stands,
    /// nft answers, and there is no table.
    Absent,
    /// There is no nft.
    NoNft,
    /// What nft says.
    Refused(String),
}

/// Asks the kernel whether the table is there.
pub(super) fn state() -> State {
    match nft::run(&["list", "tables", "inet"], "", nft::deadline("")) {
        Ok(text) if text.lines().any(|line| line.trim() == format!("table inet {TABLE}")) => State::Stands,
        Ok(_) => State::Absent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => State::NoNft,
        Err(error) => State::Refused(error.to_string()),
    }
}

/// The table as the kernel lists it, without counts; `None`: there is none.
fn list(until: Instant) -> io::Result<Option<String>> {
    match nft::run(&["-s", "list", "table", "inet", TABLE], "", until) {
        Ok(text) => Ok(Some(text)),
        // What nft says when there is no such table.
        Err(error) if error.to_string().contains("No such file or directory") && error.raw_os_error().is_none() => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Removes the table; none is fine.
pub(super) fn remove() -> io::Result<()> {
    let script = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    nft::run(&["-f", "-"], &script, nft::deadline(&script)).map(drop)
}
