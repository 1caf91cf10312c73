//! Files a place as its content says.

use ipsec_core::time::Instant;

use super::filed::{COUNTED, Filed, KINDS};
use super::hash::Spot;
use super::index::{Chain, Head, Index, List, NONE};

/// What a place is filed under, as its content says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filing {
    pub(super) due: Option<Instant>,
    /// Where it wants to be; a kept one is in no list of those that may be taken.
    pub(super) list: List,
    pub(super) sends: bool,
    pub(super) used: bool,
    pub(super) counts: bool,
    pub(super) keeps: u16,
    pub(super) spots: [Spot; KINDS],
}

impl Index<'_> {
    /// What a place with this content is to be filed under.
    pub(super) fn filing<T: Filed>(&self, item: Option<&T>) -> Filing {
        let mut filing = Filing {
            due: None,
            list: List::Free,
            sends: false,
            used: false,
            counts: false,
            keeps: NONE,
            spots: [Spot::NOWHERE; KINDS],
        };
        let Some(item) = item else { return filing };
        filing.due = item.due();
        filing.list = match item.tells() {
            _ if item.is_over() => List::Over,
            Some(rank) => List::tell(rank),
            None => List::Nowhere,
        };
        filing.sends = item.sends();
        filing.used = true;
        filing.counts = item.counts();
        filing.keeps = item.keeps().unwrap_or(NONE);
        for key in item.keys().into_iter().flatten() {
            let Chain { kind, spot, .. } = self.chain(&key);
            if let Some(place) = filing.spots.get_mut(kind) {
                *place = spot;
            }
        }
        filing
    }

    /// Files a place as its content says.
    pub(super) fn file(&mut self, place: u16, new: Filing) {
        let Some(links) = self.links_mut(place) else { return };
        let kept = core::mem::replace(&mut links.keeps, new.keeps);
        let used = core::mem::replace(&mut links.used, new.used);
        let counted = core::mem::replace(&mut links.counts, new.counts);
        let sent = core::mem::replace(&mut links.sends, new.sends);
        let spots = core::mem::replace(&mut links.spots, new.spots);
        links.wants = new.list;
        recount(&mut self.used, used, new.used);
        recount(&mut self.counted, counted, new.counts);
        if kept != new.keeps {
            self.release(kept, place);
            self.keep(new.keeps, place);
        }
        self.enlist(place);
        if sent != new.sends {
            let list = Head::List(List::Send);
            if new.sends { self.attach(list, place, false) } else { self.detach(list, place) }
        }
        for (kind, (old, new)) in spots.into_iter().zip(new.spots).enumerate() {
            if old != new {
                self.detach(Head::Bucket(kind, old.bucket), place);
                self.attach(Head::Bucket(kind, new.bucket), place, false);
                if kind == COUNTED {
                    self.part(place, old);
                    self.join(new);
                }
            }
        }
        self.schedule(place, new.due);
    }

    /// Those in this spot are fewer by this place, which left their ring.
    fn part(&mut self, place: u16, spot: Spot) {
        let counted = self.links_mut(place).map_or(0, |links| core::mem::take(&mut links.company));
        let first = self.next_near(Chain { kind: COUNTED, spot }, None);
        if let Some(links) = first.and_then(|first| self.links_mut(first)) {
            // Whoever stood first knew the number.
            links.company = links.company.max(counted).saturating_sub(1);
        }
    }

    /// Those in this spot are more by one, which stands last in their ring.
    fn join(&mut self, spot: Spot) {
        let first = self.next_near(Chain { kind: COUNTED, spot }, None);
        if let Some(links) = first.and_then(|first| self.links_mut(first)) {
            links.company = links.company.saturating_add(1);
        }
    }

    /// Puts a place into the list where it belongs.
    fn enlist(&mut self, place: u16) {
        let Some(links) = self.links_mut(place) else { return };
        let list = match links.wants {
            List::Free | List::Over if links.keeper != NONE => List::Nowhere,
            list => list,
        };
        let before = core::mem::replace(&mut links.list, list);
        if before != list {
            self.detach(Head::List(before), place);
            self.attach(Head::List(list), place, list == List::Free);
        }
    }

    fn keep(&mut self, place: u16, keeper: u16) {
        let Some(links) = self.links_mut(place) else { return };
        let before = core::mem::replace(&mut links.keeper, keeper);
        recount(&mut self.kept, before != NONE, true);
        self.enlist(place);
    }

    fn release(&mut self, place: u16, keeper: u16) {
        let Some(links) = self.links_mut(place).filter(|links| links.keeper == keeper) else { return };
        links.keeper = NONE;
        recount(&mut self.kept, true, false);
        self.enlist(place);
    }
}

fn recount(count: &mut u16, before: bool, now: bool) {
    *count = count.saturating_sub(u16::from(before)).saturating_add(u16::from(now));
}
