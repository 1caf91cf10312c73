//! How the boundary stands, and what is said of it.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::guard::{Applied, Report};
use super::kernel::Refusal;
use crate::logging::Throttle;

pub(super) const NO_NFT: &str = "nft is not installed";

/// How it stands, and what of it an operator may not expect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) health: Health,
    /// Attached networks that stay reachable in clear although a remote network covers them.
    pub(crate) spared: Vec<String>,
    /// Networks on our side, or the rest of some, that are led outside where nothing says that they lie.
    pub(crate) astray: Vec<String>,
    /// The children of which the operator's routes decide what goes to the peer: `cloud/net`.
    pub(crate) left_to_routes: Vec<String>,
    /// The children whose packets pass in clear while there is no SA for them, likewise.
    pub(crate) clear_meanwhile: Vec<String>,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// What is not as it should be; none when all is.
    pub(crate) trouble: Option<String>,
    /// Things that others removed or changed and that were put back.
    pub(crate) put_back: u64,
    /// When that was last.
    pub(crate) last_put_back: Option<SystemTime>,
    /// Why there is no guard of nftables, if there is none.
    pub(crate) unguarded: Option<String>,
    /// Whether the guard has a copy that nobody else can change.
    pub(crate) flush_proof: bool,
}

/// What one look at the boundary brought.
#[derive(Default)]
pub(super) struct Round {
    /// What others had removed or changed.
    pub(super) put_back: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

impl Round {
    pub(super) fn fails(&mut self, serious: bool, text: String) {
        self.problems.push(Problem { text, serious });
    }

    pub(super) fn is_serious(&self) -> bool {
        self.problems.iter().any(|problem| problem.serious)
    }
}

/// What could not be done.
pub(super) struct Problem {
    pub(super) text: String,
    /// Whether a configuration that meets it is refused.
    pub(super) serious: bool,
}

impl Problem {
    /// What the kernel refused, with our `device`. IPv6 that is switched off must not keep IPv4 from working.
    pub(super) fn of(refusal: Refusal, device: &str) -> Self {
        // This is how the kernel refuses a route through a device on which IPv6 is switched off.
        let off = !refusal.v4 && refusal.error.raw_os_error() == Some(libc::EACCES);
        let hint = match off {
            true => format!(
                " (IPv6 is switched off at our device {device}: `sysctl -w net.ipv6.conf.{}.disable_ipv6=0`)",
                // As sysctl takes a name with a dot.
                device.replace('.', "/")
            ),
            false => String::new(),
        };
        Self { text: format!("{}: {}{hint}", refusal.what, refusal.error), serious: refusal.v4 }
    }
}

/// How the guard stands, as it reported last.
#[derive(Default)]
pub(super) struct Standing {
    /// Whether there was one ever: from then on it is trouble when it cannot be had.
    once: bool,
    /// Whether the table is there, and the copy.
    table: bool,
    copy: bool,
    /// Whether the table has the rules that the report was about.
    latest: bool,
    /// What nft said, unless all is well.
    why: Option<String>,
}

impl Standing {
    /// Takes a report; what a configuration may be refused for, and what was put back, is for `round`.
    pub(super) fn reported(&mut self, report: Report, round: &mut Round) {
        let Report { loaded, copied, stands, latest, flush_proof, .. } = report;
        let is_back = |done: &io::Result<Applied>| matches!(done, Ok(Applied::PutBack));
        round.put_back.extend(is_back(&loaded).then(|| "the guard".to_owned()));
        let copy = || "the copy of the guard that nobody else can change".to_owned();
        round.put_back.extend(is_back(&copied).then(copy));
        // A copy with the rules before these blocks what these let through; none at all is only less than there could be.
        let stale = copied.is_err() && flush_proof;
        let failed = loaded.err().or(copied.err().filter(|_| stale));
        self.why = failed.map(|error| match error.kind() {
            io::ErrorKind::NotFound => NO_NFT.to_owned(),
            // What the kernel says does not name what it refuses.
            _ if error.raw_os_error().is_some() => {
                let text = error.to_string();
                format!("nft cannot be run: {}", text.split(" (os error").next().unwrap_or_default())
            }
            _ => error.to_string(),
        });
        let stood = self.once;
        (self.table, self.copy, self.latest) = (stands, flush_proof, latest);
        self.once |= self.stands();
        if let Some(text) = self.trouble().filter(|_| stood || stale) {
            round.fails(true, text);
        }
    }

    /// Whether packets meet it, as table or as copy.
    pub(super) fn stands(&self) -> bool {
        self.table || self.copy
    }

    /// Whether it stood and no longer does.
    pub(super) fn is_gone(&self) -> bool {
        self.once && !self.stands()
    }

    pub(super) fn has_table(&self) -> bool {
        self.table
    }

    pub(super) fn has_copy(&self) -> bool {
        self.copy
    }

    pub(super) fn is_latest(&self) -> bool {
        self.latest
    }

    /// Why it is not as it should be.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The same, where there was one.
    pub(super) fn trouble(&self) -> Option<String> {
        let why = self.why.as_ref().filter(|_| self.once)?;
        Some(if self.stands() { why.clone() } else { format!("the guard does not stand: {why}") })
    }

    /// The same, where there is none.
    pub(super) fn unguarded(&self) -> Option<String> {
        self.why.clone().filter(|_| !self.stands())
    }
}

/// What the log was told.
pub(super) struct Told {
    /// The trouble it knows of.
    trouble: Option<String>,
    /// Others decide how often something is put back: that must not keep back what is wrong.
    of_trouble: Throttle,
    of_put_back: Throttle,
}

impl Told {
    pub(super) fn new(now: Instant) -> Self {
        let throttle = || Throttle::new(20, Duration::from_secs(60), now);
        Self { trouble: None, of_trouble: throttle(), of_put_back: throttle() }
    }

    /// Says what is not as it should be, when that is another thing than it said last. `false`: not now, and so later.
    pub(super) fn trouble(&mut self, trouble: Option<&str>, now: Instant) -> bool {
        if trouble == self.trouble.as_deref() {
            return true;
        }
        if self.of_trouble.admit(now).is_none() {
            return false;
        }
        match trouble {
            Some(trouble) => error!("the boundary is not as it should be: {trouble}; this is tried again"),
            None => info!("the boundary is as it should be again"),
        }
        self.trouble = trouble.map(ToOwned::to_owned);
        true
    }

    pub(super) fn put_back(&mut self, put_back: &[String], now: Instant) {
        if let Some(others) = self.of_put_back.admit(now) {
            warn!(
                others,
                "somebody removed what keeps packets from leaving in clear; put back: {}",
                shown(put_back.iter(), 5)
            );
        }
    }
}

/// The first of a list, and how many more there are.
pub(super) fn shown<T: std::fmt::Display>(list: impl ExactSizeIterator<Item = T>, most: usize) -> String {
    let more = list.len().saturating_sub(most);
    let mut text = list.take(most).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_01_trouble_is_told_however_much_is_put_back_and_what_was_not_told_is_told_later() {
        let start = Instant::now();
        let mut told = Told::new(start);
        (0..100).for_each(|_| told.put_back(&["foo".to_owned()], start));
        assert!(told.trouble(Some("one"), start), "others have used up what there was to say");
        for _ in 0..100 {
            told.trouble(Some("two"), start);
            told.trouble(Some("one"), start);
        }
        assert!(!told.trouble(None, start) && !told.trouble(None, start), "too much");
        assert_ne!(told.trouble, None);
        assert!(told.trouble(None, start + Duration::from_secs(60)));
        assert_eq!(told.trouble, None);
    }

    #[test]
    fn f_01_a_guard_that_is_gone_is_no_guard_and_still_what_a_configuration_is_refused_for() {
        let report = |stands, flush_proof, loaded: Result<Applied, io::ErrorKind>| Report {
            loaded: loaded.map_err(Into::into),
            copied: Ok(Applied::Unchanged),
            stands,
            latest: stands,
            flush_proof,
            sockets: true,
        };
        let (mut standing, timed_out) = (Standing::default(), Err(io::ErrorKind::TimedOut));
        let mut serious = |report| {
            let mut round = Round::default();
            standing.reported(report, &mut round);
            (round.is_serious(), standing.stands(), standing.is_gone(), standing.unguarded().is_some())
        };
        assert_eq!(serious(report(false, false, timed_out)), (false, false, false, true), "there never was one");
        assert_eq!(serious(report(true, true, Ok(Applied::Loaded))), (false, true, false, false));
        for (table, copy) in [(true, false), (false, true)] {
            assert_eq!(serious(report(table, copy, timed_out)), (true, true, false, false), "one of them is enough");
        }
        assert_eq!(serious(report(false, false, timed_out)), (true, false, true, true));
        assert!(standing.trouble().unwrap().contains("does not stand"));
    }

    #[test]
    fn f_01_what_the_kernel_refuses_of_nft_is_told_with_its_name() {
        let why = |error: io::Error| {
            let mut standing = Standing::default();
            let copied = Ok(Applied::Unchanged);
            let report =
                Report { loaded: Err(error), copied, stands: false, latest: false, flush_proof: false, sockets: true };
            standing.reported(report, &mut Round::default());
            standing.unguarded().unwrap()
        };
        assert_eq!(why(io::Error::from_raw_os_error(libc::EACCES)), "nft cannot be run: Permission denied");
        assert_eq!(why(io::Error::from_raw_os_error(libc::EMFILE)), "nft cannot be run: Too many open files");
        assert_eq!(why(io::Error::from_raw_os_error(libc::ENOENT)), NO_NFT);
        assert_eq!(why(io::Error::other("nft: no")), "nft: no");
    }
}
