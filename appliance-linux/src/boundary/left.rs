//! What is left where no daemon runs: how it comes to that, and how it ends.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;

use tracing::error;

use super::guard::{self, State as GuardState};
use super::guarding::Guarding;
use super::health::{NO_NFT, shown};
use super::net::Net;
use super::owner::Owner;
use super::{kernel, ruleset, table};
use crate::netlink::Netlink;

/// Takes everything away that a start has set, if there was nothing before, and until somebody relies on it.
#[derive(Default)]
pub(super) struct Undo {
    armed: bool,
}

impl Undo {
    /// There is something to be undone if there is nothing now: no routes, no rules and no guard. A guard alone may be all
    /// that others have left of what somebody blocked.
    pub(super) fn arm(&mut self, netlink: &mut Netlink) -> io::Result<()> {
        self.armed = kernel::is_bare(netlink)? && table::stands(ruleset::TABLE).is_ok_and(|stands| !stands);
        Ok(())
    }

    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = Netlink::open().and_then(|mut netlink| remove(&mut netlink))
        {
            error!("what was set cannot be taken away again: {error}; `portcullis release` tries once more");
        }
    }
}

/// What stays when the daemon ends, as the kernel has it.
pub(super) struct Left {
    /// What routes keep in.
    pub(super) nets: BTreeSet<Net>,
    /// Whether policies discard anything.
    pub(super) discards: bool,
    /// Whether the guard is there.
    pub(super) guard: bool,
    /// Whether it may be one with the rules before the last ones.
    pub(super) old: bool,
    /// Why it is not there, or is an old one.
    pub(super) why: Option<String>,
}

impl Left {
    /// What stays when a boundary ends now whose guard is this one, and whose remote networks these are.
    pub(super) fn of(netlink: &mut Netlink, guarding: &Guarding, captured: &BTreeSet<Net>) -> Self {
        let nets = match kernel::blocked(netlink) {
            Ok(nets) => nets.into_iter().collect(),
            Err(_) => captured.clone(),
        };
        let standing = guarding.standing();
        let guard = table::stands(ruleset::TABLE).unwrap_or(standing.has_table());
        let slow = guarding.is_busy().then_some("nft takes too long");
        // What stood then and does not now was removed by somebody since, whatever nft said of the copy.
        let why = slow.or_else(|| standing.why().filter(|_| guard || !standing.has_table()));
        Self {
            nets,
            discards: ruleset::discards(guarding.says()),
            guard,
            old: !guarding.is_latest(),
            why: why.map(ToOwned::to_owned),
        }
    }

    /// What there is to be kept from crossing in clear, with so many networks at most; `None`: nothing.
    pub(super) fn kept(&self, most: usize) -> Option<String> {
        let nets = (!self.nets.is_empty()).then(|| shown(self.nets.iter(), most));
        let discards = self.discards.then(|| "what policies discard".to_owned());
        nets.into_iter().chain(discards).reduce(|nets, discards| format!("{nets} and {discards}"))
    }

    /// What routes do where no guard stands, or an old one.
    fn by_routes(&self, most: usize) -> String {
        let nets = shown(self.nets.iter(), most);
        let alone = if self.guard { "" } else { " alone" };
        let but = match (self.discards, self.guard) {
            (false, _) => "",
            (true, false) => ", and what policies discard is let through",
            (true, true) => ", and what policies discard is dropped as far as that guard does it",
        };
        format!("routes{alone} keep in what goes to {nets}{but}")
    }

    /// The last words of a daemon, and whether that is how it should be.
    pub(super) fn last_words(&self) -> Option<Result<String, String>> {
        let kept = self.kept(5)?;
        if self.guard {
            let why = self.why.as_deref().filter(|_| self.old);
            let old = why.map_or(String::new(), |why| format!(" by the rules before the last ones ({why})"));
            let (stay, them) =
                if self.nets.len() + usize::from(self.discards) == 1 { ("stays", "it") } else { ("stay", "them") };
            return Some(Ok(format!(
                "{kept} {stay} blocked{old} until the next start, so that nothing leaves in clear; `portcullis release` opens {them}"
            )));
        }
        let why = self.why.as_deref().unwrap_or("somebody removed it");
        Some(Err(if self.nets.is_empty() {
            format!("no guard stands ({why}): until the next start {kept} is let through")
        } else {
            let routes = self.by_routes(5);
            format!("no guard stands ({why}): until the next start {routes}; `portcullis release` opens that")
        }))
    }

    /// What `portcullis block` says.
    pub(super) fn blocked(&self) -> io::Result<String> {
        let Some(kept) = self.kept(20) else { return Ok("there is nothing to block".to_owned()) };
        if self.guard && !self.old {
            return Ok(format!("blocked until the daemon runs: {kept}"));
        }
        let why = self.why.as_deref().unwrap_or("somebody removed it");
        if why == NO_NFT && !self.nets.is_empty() {
            let how = if self.guard { "with the guard that stood, perhaps an old one" } else { "without a guard" };
            return Ok(format!("blocked until the daemon runs, {how} ({why}): {}", self.by_routes(20)));
        }
        // Nobody tries again.
        let (lacks, rest) = match self.guard {
            true => ("renewed", "what policies discard is dropped as far as the one that stands does it".to_owned()),
            false => ("set", format!("{kept} is let through")),
        };
        let rest = if self.nets.is_empty() { rest } else { self.by_routes(20) };
        Err(io::Error::other(format!("the guard cannot be {lacks} ({why}); {rest}")))
    }
}

/// What is said of a network that was protected until now.
pub(crate) fn bared(network: impl Display) -> String {
    format!("{network}: no child has it any more, it is in clear from now on unless a policy discards it")
}

/// Takes everything away: rules, routes, then the guard. What was blocked, and whether there was a guard.
pub(super) fn remove(netlink: &mut Netlink) -> io::Result<(Vec<Net>, bool)> {
    let nets = kernel::remove_all(netlink)?;
    Ok((nets, guard::remove()?))
}

/// `portcullis release`: opens what a daemon that ended left blocked. Returns what that was.
///
/// # Errors
/// `AddrInUse`: a daemon runs. What the kernel says otherwise.
pub(crate) fn release() -> io::Result<String> {
    let _owner = Owner::claim()?;
    let discards = guard::discards();
    let (nets, guard) = remove(&mut Netlink::open()?)?;
    let nets: BTreeSet<_> = nets.into_iter().collect();
    Ok(match (nets.is_empty(), guard) {
        (false, true) if discards => {
            format!("no longer blocked: {}, and what policies discard", shown(nets.iter(), 20))
        }
        (false, _) => format!("no longer blocked: {}", shown(nets.iter(), 20)),
        (true, true) if discards => "no longer blocked: what policies discard".to_owned(),
        (true, true) => "no longer blocked: what the guard dropped; there were no routes beside it".to_owned(),
        (true, false) => "nothing was blocked".to_owned(),
    })
}

/// What a daemon that ended left blocked, for `doctor`; it changes nothing.
pub(crate) fn blocked() -> io::Result<Option<String>> {
    let nets: BTreeSet<_> = kernel::blocked(&mut Netlink::open()?)?.into_iter().collect();
    Ok((!nets.is_empty()).then(|| shown(nets.iter(), 5)))
}

/// The priorities of routing rules of others that come before one of ours, or beside it, for `doctor`.
pub(crate) fn foreign_rules(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    kernel::foreign_before(netlink)
}

/// The link that our routes lead to, for `doctor`; `None`: there are none, or they cannot be read.
pub(crate) fn device(netlink: &mut Netlink) -> Option<u32> {
    kernel::device(netlink).ok().flatten()
}

/// How it stands with the guard, for `doctor`; it changes nothing.
pub(crate) fn guard_state() -> GuardState {
    guard::state()
}

#[cfg(test)]
mod tests;
