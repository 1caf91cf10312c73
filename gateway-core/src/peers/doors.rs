//! Who may be at the other end, by what is known of it when it calls.
//!
//! Peers stand here by their places in the order of the file. That is kept: of what a caller may use, the first that fits is
//! the one that it gets.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use ike_core::pad::Initiator;
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;

use crate::config::Identity;

/// One way of calling. Whoever calls comes to a few, and finds behind each all peers that it may be by that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Door {
    /// Where the peer is known to be; `None`: it may be anywhere.
    remote: Option<IpAddr>,
    /// The address of ours that it calls; `None`: any.
    local: Option<IpAddr>,
    theirs: Theirs,
    /// Who we are to be; `None`: whoever we are.
    ours: Option<u32>,
}

/// Who the peer is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Theirs {
    /// It has not said so yet.
    Unsaid,
    /// Whoever can prove it.
    Anybody,
    Named(u32),
}

/// How a peer is found.
pub(super) struct Sign<'p> {
    /// Where it is in the file.
    pub(super) place: usize,
    /// Where it may be: an address each, `None` is anywhere.
    pub(super) remote: Vec<Option<IpAddr>>,
    /// The addresses of ours that it may call; none are any.
    pub(super) local: &'p [IpAddr],
    /// Who it is; `None` is whoever can prove it.
    pub(super) theirs: Option<&'p Identity>,
    /// Who we are to it.
    pub(super) ours: &'p Identity,
    /// The same for the same proposals.
    pub(super) offer: usize,
}

#[derive(Default)]
pub(super) struct Doors {
    /// Identities by number. Those that match each other are one.
    numbers: BTreeMap<(IdKind, Vec<u8>), u32>,
    /// Who stands behind which door, those with the same proposals together.
    all: BTreeSet<(Door, usize, usize)>,
    /// The first of those with the same proposals: whom it does not suit, the others do not either.
    firsts: BTreeSet<(Door, usize)>,
}

impl Doors {
    /// Files all at once, which takes less room than one by one.
    pub(super) fn of(signs: &[Sign<'_>]) -> Self {
        let names = signs.iter().flat_map(|sign| sign.theirs.into_iter().chain([sign.ours]));
        let names: BTreeSet<_> = names.map(Identity::key).collect();
        let mut doors = Self { numbers: names.into_iter().zip(0..).collect(), ..Self::default() };
        let mut all = Vec::new();
        for sign in signs {
            all.extend(doors.leading_to(sign).into_iter().map(|door| (door, sign.offer, sign.place)));
        }
        doors.all = all.into_iter().collect();
        let mut last = None;
        let first = |(door, offer, place): &(Door, usize, usize)| {
            let new = last.replace((*door, *offer)) != Some((*door, *offer));
            new.then_some((*door, *place))
        };
        doors.firsts = doors.all.iter().filter_map(first).collect();
        doors
    }

    /// Files a peer that is not.
    pub(super) fn put(&mut self, sign: &Sign<'_>) {
        let Sign { place, offer, .. } = *sign;
        for door in self.leading_to(sign) {
            let first = self.first(door, offer);
            self.all.insert((door, offer, place));
            if first.is_none_or(|first| place < first) {
                first.map(|first| self.firsts.remove(&(door, first)));
                self.firsts.insert((door, place));
            }
        }
    }

    /// Takes out a peer that was filed like this.
    pub(super) fn take(&mut self, sign: &Sign<'_>) {
        let Sign { place, offer, .. } = *sign;
        for door in self.leading_to(sign) {
            self.all.remove(&(door, offer, place));
            if self.firsts.remove(&(door, place)) {
                self.firsts.extend(self.first(door, offer).map(|first| (door, first)));
            }
        }
    }

    fn first(&self, door: Door, offer: usize) -> Option<usize> {
        self.all.range((door, offer, 0)..=(door, offer, usize::MAX)).next().map(|(_, _, place)| *place)
    }

    fn leading_to(&mut self, sign: &Sign<'_>) -> Vec<Door> {
        let theirs = sign.theirs.map_or(Theirs::Anybody, |id| Theirs::Named(self.file(id)));
        let ours = self.file(sign.ours);
        let any = sign.local.is_empty().then_some(None);
        let mut doors = Vec::new();
        for remote in sign.remote.iter().copied() {
            for local in any.into_iter().chain(sign.local.iter().copied().map(Some)) {
                let said = [(Theirs::Unsaid, None), (theirs, None), (theirs, Some(ours))];
                doors.extend(said.map(|(theirs, ours)| Door { remote, local, theirs, ours }));
            }
        }
        doors
    }

    /// The number of an identity, which it is given here if it has none.
    fn file(&mut self, id: &Identity) -> u32 {
        let new = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(id.key()).or_insert(new)
    }

    fn number(&self, id: Id<'_>) -> Option<u32> {
        self.numbers.get(&Identity::from(id).key()).copied()
    }

    /// The first one from a place on that may call from `remote`; `None` is anywhere.
    pub(super) fn next(&self, initiator: &Initiator<'_>, remote: Option<IpAddr>, from: usize) -> Option<usize> {
        let (theirs, ours) = match initiator.id_i {
            None => ([Some(Theirs::Unsaid), None], None),
            Some(id) => {
                let ours = match initiator.id_r {
                    Some(id) => Some(self.number(id)?),
                    None => None,
                };
                ([Some(Theirs::Anybody), self.number(id).map(Theirs::Named)], ours)
            }
        };
        let theirs = theirs.into_iter().flatten();
        let doors =
            theirs.flat_map(|theirs| [None, Some(initiator.local)].map(|local| Door { remote, local, theirs, ours }));
        doors
            .filter_map(|door| self.firsts.range((door, from)..=(door, usize::MAX)).next())
            .map(|(_, place)| *place)
            .min()
    }
}
