//! The guard: an nftables table of our own that drops what crosses the boundary in clear, whatever routes there are.
//!
//! * Out (`postrouting`: forwarded and our own): what lies in a remote network, goes to another interface than our device
//!   and does not carry our mark. This is exactly what our routes capture, so a route, a rule or a device that somebody
//!   removes leaves a black hole and no leak.
//! * In (`input`, `forward`): what a rule of the inbound Security Policy Database protects or discards, and comes from
//!   another interface than our device.
//! * On (`forward`): what our device gives out for a network on our side, and leaves by an interface outside where that does
//!   not lie (see [`super::home`]).
//! * `[[policy]] action = "discard"` in both directions, whether or not a route leads to the device.
//!
//! While the daemon runs a second copy stands in a table with an owner: a process of nft that lives as long as we do. Nobody
//! else can change such a table, so that a `flush ruleset` opens nothing until the first one is put back. The kernel removes
//! it with its owner; the first one stays.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::counters::{self, Tally};
use super::nft::{self, Interactive};
use super::retry::Retry;
use super::ruleset::TABLE;
use super::table;

/// What the name of a copy begins with.
pub(crate) const COPY: &str = "portcullis_live_";

/// The guard in the kernel.
pub(super) struct Guard {
    /// What was loaded last, and how the kernel lists it since; `None`: nobody knows what stands there.
    loaded: Option<(Arc<str>, String)>,
    /// Whether the table is there, as the kernel said last.
    stands: bool,
    /// The copy that nobody else can change; perhaps with the rules before these.
    twin: Option<Live>,
    /// What a copy was made of last, or was to be; why it could not be, and when that is tried again.
    tried: Arc<str>,
    refused: Option<io::Error>,
    again: Retry,
    /// How many copies there were.
    started: u32,
    /// Whether nft can tell which socket will take a packet, and whether it is to be asked again: what failed may have been
    /// nft, and not the question.
    sockets: bool,
    ask: bool,
    tally: Arc<Tally>,
    /// Called when a copy has ended, by whomever.
    ended: Arc<dyn Fn() + Send + Sync>,
}

/// A table that belongs to a process of nft; both end with this value.
struct Live {
    table: String,
    script: Arc<str>,
    nft: Interactive,
}

impl Live {
    /// Sets up a copy of the table that `script` makes.
    fn start(script: &Arc<str>, number: u32, ended: Arc<dyn Fn() + Send + Sync>) -> io::Result<Self> {
        let until = nft::deadline(script);
        let table = format!("{COPY}{}_{number}", std::process::id());
        let head = format!("table inet {TABLE} {{\n");
        let body = script.split_once(head.as_str()).map(|(_, body)| body).unwrap_or_default();
        // An interactive nft takes one line at a time, and keeps its socket, which owns the table.
        let line = format!("table inet {table} {{; flags owner; {}\n", body.trim_end().replace('\n', "; "));
        let nft = Interactive::start(&line, until, move || ended())?;
        let mut live = Self { table, script: Arc::clone(script), nft };
        loop {
            let runs = live.nft.runs();
            // The table is one transaction.
            if counters::of(&live.table).is_some() {
                return Ok(live);
            }
            if let Some(refusal) = live.nft.refusal()? {
                return Err(refusal);
            }
            if !runs {
                return Err(io::Error::other("nft ended before it had set up what nobody else can change"));
            }
            if Instant::now() >= until {
                return Err(nft::too_long());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// After how long it must have been done, however nft behaves: the table is asked for, made and asked for again, each in a run
/// that may be slow, then there is the copy, and what is asked of sockets.
pub(super) fn patience(script: &str) -> Duration {
    4 * nft::deadline(script).saturating_duration_since(Instant::now()) + 2 * nft::PATIENCE
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
    pub(super) copied: io::Result<Applied>,
    /// Whether the table is there, perhaps with the rules before these: it is what is left when we end.
    pub(super) stands: bool,
    /// Whether it has these rules, unless somebody changed them since nobody looked.
    pub(super) latest: bool,
    /// Whether a copy that nobody else can change is there, perhaps one with the rules before these.
    pub(super) flush_proof: bool,
    /// Whether nft can tell which socket will take a packet.
    pub(super) sockets: bool,
}

impl Guard {
    /// Nothing is set. `sockets`: what [`tells_sockets`] said. `ended` is called when a copy has ended, by whomever.
    pub(super) fn new(tally: Arc<Tally>, sockets: bool, ended: impl Fn() + Send + Sync + 'static) -> Self {
        let ended = Arc::new(ended);
        let (tried, refused, again) = (Arc::default(), None, Retry::default());
        Self {
            loaded: None,
            stands: false,
            twin: None,
            tried,
            refused,
            again,
            started: 0,
            sockets,
            ask: !sockets,
            tally,
            ended,
        }
    }

    /// Makes the table, and the copy, what `script` says, each in one step. One that fails does not keep back the other. Of an
    /// empty script nothing is made: the copy goes, and the table is left to whoever has it now.
    pub(super) fn apply(&mut self, script: &Arc<str>) -> Report {
        if script.is_empty() {
            (self.twin, self.loaded) = (None, None);
            return Report {
                loaded: Ok(Applied::Unchanged),
                copied: Ok(Applied::Unchanged),
                stands: false,
                latest: false,
                flush_proof: false,
                sockets: self.sockets,
            };
        }
        // The copy first: while the kernel replaces the table that an earlier daemon left, a packet may pass it by. But
        // where there was none to be had it is not waited for again.
        let (loaded, copied) = if self.refused.is_some() {
            let loaded = self.load(script);
            (loaded, self.keep_alive(script))
        } else {
            let copied = self.keep_alive(script);
            (self.load(script), copied)
        };
        let flush_proof = self.twin.as_mut().is_some_and(|live| live.nft.runs());
        // Not nft, which may be what fails; a kernel that does not tell changes nothing.
        self.stands = table::stands(TABLE).unwrap_or(self.stands);
        let latest = self.stands && self.loaded.as_ref().is_some_and(|(loaded, _)| loaded == script);
        if !self.sockets && loaded.is_ok() && std::mem::take(&mut self.ask) {
            self.sockets = tells_sockets();
            if !self.sockets {
                warn!(
                    "nft cannot tell which socket takes a packet: answers about names do not come in for an address that a child protects"
                );
            }
        }
        self.ask |= loaded.is_err();
        Report { loaded, copied, stands: self.stands, latest, flush_proof, sockets: self.sockets }
    }

    /// Makes the copy say the same: the new one first, then the old one goes. What was refused is tried again at its turn, or
    /// when there is something new to say.
    fn keep_alive(&mut self, script: &Arc<str>) -> io::Result<Applied> {
        let mut applied = Applied::Loaded;
        if let Some(live) = &mut self.twin {
            match (live.script == *script, live.nft.runs()) {
                (true, true) => {
                    self.refused = None;
                    self.again.done();
                    return Ok(Applied::Unchanged);
                }
                (true, false) => applied = Applied::PutBack,
                (false, _) => {}
            }
        }
        if let Some(why) = self.refused.as_ref().filter(|_| self.tried == *script && !self.again.is_due(Instant::now()))
        {
            return Err(io::Error::new(why.kind(), why.to_string()));
        }
        self.tried = Arc::clone(script);
        self.started = self.started.wrapping_add(1);
        // An old one serves until it works.
        match Live::start(script, self.started, Arc::clone(&self.ended)) {
            Ok(new) => {
                self.tally.copied(new.table.clone());
                self.twin = Some(new);
                self.refused = None;
                self.again.done();
                Ok(applied)
            }
            Err(error) => {
                self.refused = Some(io::Error::new(error.kind(), error.to_string()));
                self.again.failed(Instant::now());
                Err(error)
            }
        }
    }

    fn load(&mut self, script: &Arc<str>) -> io::Result<Applied> {
        let held = list(nft::deadline(script))?;
        let same = self.loaded.as_ref().is_some_and(|(loaded, _)| loaded == script);
        if let (true, Some(held), Some((_, listed))) = (same, &held, &self.loaded)
            && held == listed
        {
            return Ok(Applied::Unchanged);
        }
        self.loaded = None; // whatever becomes of it
        let kept = self.tally.keep();
        nft::run(&["-f", "-"], script, nft::deadline(script))?;
        self.tally.replaced(kept);
        let listed =
            list(nft::deadline(script))?.ok_or_else(|| io::Error::other("the guard is gone as soon as it is set"))?;
        self.loaded = Some((Arc::clone(script), listed));
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
    /// There is one that cannot be run, and why.
    NotRun(io::ErrorKind),
    /// What nft says.
    Refused(String),
}

/// Asks the kernel whether the table is there, and nft whether it could be.
pub(super) fn state() -> State {
    if table::stands(TABLE).unwrap_or(false) {
        return State::Stands; // with and without nft
    }
    match nft::run(&["list", "tables", "inet"], "", nft::deadline("")) {
        Ok(_) => State::Absent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => State::NoNft,
        // What it says itself has no number.
        Err(error) if error.raw_os_error().is_some() => State::NotRun(error.kind()),
        Err(error) => State::Refused(error.to_string()),
    }
}

/// Whether the table drops what policies discard, as far as nft tells.
pub(super) fn discards() -> bool {
    let listed = list(Instant::now() + Duration::from_secs(10));
    listed.is_ok_and(|table| table.is_some_and(|table| table.contains("_discard\" drop\n")))
}

/// Whether nft, and the kernel, can tell which socket will take a packet.
pub(super) fn tells_sockets() -> bool {
    let script = "table inet portcullis_trial {\n chain trial {\n  socket mark 1 accept\n }\n}\n";
    nft::run(&["-c", "-f", "-"], script, nft::deadline(script)).is_ok()
}

/// Every table of everybody, as nft lists them.
pub(crate) fn tables_of_all() -> io::Result<String> {
    nft::run(&["list", "ruleset"], "", nft::deadline(""))
}

/// Whether a table of this name is the guard, or a copy of it.
pub(crate) fn is_table_of_ours(name: &str) -> bool {
    name == TABLE || name.starts_with(COPY)
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

/// Removes the table. `false`: there was none.
///
/// # Errors
/// When there is one and nft does not remove it.
pub(super) fn remove() -> io::Result<bool> {
    if table::stands(TABLE).is_ok_and(|stands| !stands) {
        return Ok(false);
    }
    let script = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    match nft::run(&["-f", "-"], &script, nft::deadline(&script)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("the table inet {TABLE} stands, and nft, which removes it, is not installed")))
        }
        removed => removed.map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::FakeNft;
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    #[test]
    fn f_01_the_kernel_says_whether_a_guard_stands_that_nft_does_not_list() {
        in_a_network_of_its_own(|| {
            let (nft, mut guard) = (FakeNft::new(), Guard::new(Arc::default(), true, || {}));
            let script = |device| -> Arc<str> {
                let text = super::super::ruleset::script(
                    Some(device),
                    true,
                    &[],
                    &super::super::ruleset::Space {
                        captured: &Default::default(),
                        throws: &Default::default(),
                        spared: &Default::default(),
                        outer: &Default::default(),
                        barred: &Default::default(),
                    },
                );
                text.into()
            };
            let (script, other) = (script("pcl0"), script("pcl1"));
            let standing = |guard: &mut Guard| {
                let Report { loaded, stands, flush_proof, .. } = guard.apply(&script);
                (loaded.is_ok(), stands, flush_proof)
            };
            // However slow it is for other reasons, it does what it is told.
            nft.is_slow(true);
            assert_eq!(standing(&mut guard), (true, true, true));
            nft.is_slow(false);
            nft.fails(true);
            assert_eq!(standing(&mut guard), (false, true, true), "nothing but nft");
            assert_eq!(state(), State::Stands, "doctor asks the kernel too");
            assert!(!guard.apply(&other).latest && guard.apply(&script).latest, "what stands is what stood");
            nft.fails(false);
            nft::run(&["delete", "table", "inet", TABLE], "", nft::deadline("")).unwrap();
            nft.fails(true);
            assert_eq!(standing(&mut guard), (false, false, true));
            assert!(!guard.apply(&script).latest);
            guard.twin = None;
            assert_eq!(standing(&mut guard), (false, false, false));
            nft.fails(false);
            assert!(standing(&mut guard).1);
            assert!(remove().unwrap() && !remove().unwrap());
        });
    }
}
