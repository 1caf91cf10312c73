//! How the places of a table hang together: lists, chains and a heap, of numbers that lie in the places themselves.

use ipsec_core::time::Instant;

use super::hash::HashSecret;
use super::{Filed, Key, Slot};

/// No place: a table has at most 65,535.
pub(super) const NONE: u16 = u16::MAX;
/// How many kinds of keys a place may be looked up by.
pub(crate) const KINDS: usize = 3;
/// How many ranks there are of what is to be told.
pub(crate) const RANKS: u8 = 3;

/// The lists that a table has, each of which its core knows the first of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// In none: in use, with nothing to tell; or kept.
    Nowhere,
    /// Empty, the one that was emptied last first.
    Free,
    /// What is in it is over, for the longest time first.
    Over,
    /// Something is to be told, of this rank.
    Tell(u8),
    /// Something is to be sent. A place may be in this list besides another one.
    Send,
}

impl List {
    pub(super) const ALL: [Self; 6] = [Self::Free, Self::Over, Self::Tell(0), Self::Tell(1), Self::Tell(2), Self::Send];

    fn number(self) -> Option<usize> {
        match self {
            Self::Nowhere => None,
            Self::Free => Some(0),
            Self::Over => Some(1),
            Self::Tell(rank) => usize::from(rank).checked_add(2),
            Self::Send => usize::from(RANKS).checked_add(2),
        }
    }
}

/// Where the first of a ring stands. The last one is the one before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    List(List),
    /// All of a kind whose keys fall into a bucket.
    Bucket(usize, u16),
}

impl Head {
    /// Which of the pairs of a place the ring uses.
    fn pair(self) -> usize {
        match self {
            Self::List(List::Send) => 1,
            Self::List(_) => 0,
            Self::Bucket(kind, _) => kind.saturating_add(2),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    next: u16,
    before: u16,
}

/// What a place is filed under, as its content says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filing {
    due: Option<Instant>,
    /// Where it wants to be; a kept one is in no list of those that may be taken.
    list: List,
    sends: bool,
    used: bool,
    counts: bool,
    keeps: u16,
    buckets: [u16; KINDS],
}

impl Filing {
    pub(super) fn of<T: Filed>(item: Option<&T>, core: &Core) -> Self {
        let mut filing = Self {
            due: None,
            list: List::Free,
            sends: false,
            used: false,
            counts: false,
            keeps: NONE,
            buckets: [NONE; KINDS],
        };
        let Some(item) = item else { return filing };
        filing.due = item.due();
        filing.list = match item.tells() {
            _ if item.is_over() => List::Over,
            Some(rank) => List::Tell(rank),
            None => List::Nowhere,
        };
        filing.sends = item.sends();
        filing.used = true;
        filing.counts = item.counts();
        filing.keeps = item.keeps().unwrap_or(NONE);
        for key in item.keys().into_iter().flatten() {
            if let Some(bucket) = filing.buckets.get_mut(key.kind()) {
                *bucket = core.bucket(&key);
            }
        }
        filing
    }
}

/// The part of a place that the others need.
#[derive(Debug)]
pub(super) struct Links {
    due: Instant,
    pub(super) generation: u32,
    pairs: [Pair; 2 + KINDS],
    /// The firsts of the chains whose number is this place's.
    heads: [u16; KINDS],
    /// In which chains this place is.
    buckets: [u16; KINDS],
    /// The place that stands in the heap where this one's number is.
    heap: u16,
    /// Where this place stands in the heap.
    at: u16,
    /// The place that this one keeps, and the one that keeps it.
    keeps: u16,
    keeper: u16,
    wants: List,
    list: List,
    sends: bool,
    used: bool,
    counts: bool,
}

impl Links {
    pub(super) const NEW: Self = Self {
        due: Instant::ZERO,
        generation: 0,
        pairs: [Pair { next: NONE, before: NONE }; 2 + KINDS],
        heads: [NONE; KINDS],
        buckets: [NONE; KINDS],
        heap: NONE,
        at: NONE,
        keeps: NONE,
        keeper: NONE,
        wants: List::Nowhere,
        list: List::Nowhere,
        sends: false,
        used: false,
        counts: false,
    };

    fn next(&self, head: Head) -> u16 {
        self.pairs.get(head.pair()).map_or(NONE, |pair| pair.next)
    }
}

/// What a table knows besides its places.
pub(super) struct Core {
    secret: HashSecret,
    len: u16,
    heads: [u16; List::ALL.len()],
    /// Places in the heap.
    due: u16,
    pub(super) used: u16,
    pub(super) kept: u16,
    pub(super) counted: u16,
}

impl Core {
    pub(super) fn new(secret: HashSecret, len: usize) -> Self {
        let len = u16::try_from(len).unwrap_or(NONE);
        Self { secret, len, heads: [NONE; List::ALL.len()], due: 0, used: 0, kept: 0, counted: 0 }
    }

    fn bucket(&self, key: &impl Key) -> u16 {
        // The upper half of the hash, as a part of the whole.
        let bucket = (key.hash(&self.secret) >> 32).wrapping_mul(u64::from(self.len)) >> 32;
        u16::try_from(bucket).unwrap_or(NONE)
    }
}

/// Whoever sees how all places of a table hang together.
pub(super) trait Linked {
    fn links(&self, place: u16) -> Option<&Links>;
    fn core(&self) -> &Core;

    fn first(&self, head: Head) -> Option<u16> {
        let first = match head {
            Head::List(list) => list.number().and_then(|number| self.core().heads.get(number)),
            Head::Bucket(kind, bucket) => self.links(bucket).and_then(|links| links.heads.get(kind)),
        };
        first.copied().filter(|first| *first != NONE)
    }

    fn next(&self, head: Head, place: u16) -> Option<u16> {
        self.links(place).map(|links| links.next(head)).filter(|next| *next != NONE)
    }

    /// All places in a ring.
    fn ring(&self, head: Head) -> impl Iterator<Item = u16> + Clone
    where
        Self: Sized,
    {
        core::iter::successors(self.first(head), move |place| self.next(head, *place))
    }

    /// The chain of all whose key falls where this one does, and some others.
    fn chain(&self, key: &impl Key) -> Head {
        Head::Bucket(key.kind(), self.core().bucket(key))
    }

    /// What falls due first, and when.
    fn first_due(&self) -> Option<(Instant, u16)> {
        let first = self.in_heap(0)?;
        Some((self.links(first)?.due, first))
    }

    fn in_heap(&self, position: u16) -> Option<u16> {
        (position < self.core().due).then_some(())?;
        self.links(position).map(|links| links.heap)
    }

    /// Whether one place comes before another in the heap.
    fn is_earlier(&self, one: u16, other: u16) -> bool {
        let key = |place| self.links(place).map(|links| (links.due, place));
        key(one) < key(other)
    }
}

/// Whoever may change how they hang together.
pub(super) trait Link: Linked {
    fn links_mut(&mut self, place: u16) -> Option<&mut Links>;
    fn core_mut(&mut self) -> &mut Core;

    /// Files a place as its content says.
    fn file(&mut self, place: u16, new: Filing) {
        let Some(links) = self.links_mut(place) else { return };
        let kept = core::mem::replace(&mut links.keeps, new.keeps);
        let used = core::mem::replace(&mut links.used, new.used);
        let counted = core::mem::replace(&mut links.counts, new.counts);
        let sent = core::mem::replace(&mut links.sends, new.sends);
        let buckets = core::mem::replace(&mut links.buckets, new.buckets);
        links.wants = new.list;
        let core = self.core_mut();
        recount(&mut core.used, used, new.used);
        recount(&mut core.counted, counted, new.counts);
        if kept != new.keeps {
            self.release(kept, place);
            self.keep(new.keeps, place);
        }
        self.enlist(place);
        if sent != new.sends {
            let list = Head::List(List::Send);
            if new.sends { self.attach(list, place, false) } else { self.detach(list, place) }
        }
        for (kind, (old, new)) in buckets.into_iter().zip(new.buckets).enumerate() {
            if old != new {
                self.detach(Head::Bucket(kind, old), place);
                self.attach(Head::Bucket(kind, new), place, false);
            }
        }
        self.schedule(place, new.due);
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
        recount(&mut self.core_mut().kept, before != NONE, true);
        self.enlist(place);
    }

    fn release(&mut self, place: u16, keeper: u16) {
        let Some(links) = self.links_mut(place).filter(|links| links.keeper == keeper) else { return };
        links.keeper = NONE;
        recount(&mut self.core_mut().kept, true, false);
        self.enlist(place);
    }

    fn set_first(&mut self, head: Head, place: u16) {
        let first = match head {
            Head::List(list) => list.number().and_then(|number| self.core_mut().heads.get_mut(number)),
            Head::Bucket(kind, bucket) => self.links_mut(bucket).and_then(|links| links.heads.get_mut(kind)),
        };
        if let Some(first) = first {
            *first = place;
        }
    }

    fn pair(&mut self, head: Head, place: u16) -> Option<&mut Pair> {
        self.links_mut(place)?.pairs.get_mut(head.pair())
    }

    fn attach(&mut self, head: Head, place: u16, in_front: bool) {
        if matches!(head, Head::List(List::Nowhere) | Head::Bucket(_, NONE)) {
            return;
        }
        let Some(first) = self.first(head) else {
            self.set_first(head, place);
            if let Some(pair) = self.pair(head, place) {
                *pair = Pair { next: NONE, before: place };
            }
            return;
        };
        let last = self.pair(head, first).map_or(NONE, |pair| core::mem::replace(&mut pair.before, place));
        if in_front {
            self.set_first(head, place);
            if let Some(pair) = self.pair(head, place) {
                *pair = Pair { next: first, before: last };
            }
        } else {
            if let Some(pair) = self.pair(head, last) {
                pair.next = place;
            }
            if let Some(pair) = self.pair(head, place) {
                *pair = Pair { next: NONE, before: last };
            }
        }
    }

    fn detach(&mut self, head: Head, place: u16) {
        let Some(first) = self.first(head) else { return };
        let none = Pair { next: NONE, before: NONE };
        let Some(Pair { next, before }) = self.pair(head, place).map(|pair| core::mem::replace(pair, none)) else {
            return;
        };
        if first == place {
            self.set_first(head, next);
        } else if let Some(pair) = self.pair(head, before) {
            pair.next = next;
        }
        // The one behind it, or the first, which knows the last.
        let behind = if next == NONE && first != place { first } else { next };
        if let Some(pair) = self.pair(head, behind) {
            pair.before = before;
        }
    }

    /// Moves a place in the heap to where its moment belongs.
    fn schedule(&mut self, place: u16, due: Option<Instant>) {
        let len = self.core().due;
        let Some(links) = self.links_mut(place) else { return };
        match due {
            Some(due) => {
                if links.at != NONE && links.due == due {
                    return;
                }
                links.due = due;
                if links.at == NONE {
                    self.core_mut().due = len.saturating_add(1);
                    self.set_in_heap(len, place);
                }
                self.rise(place);
                self.sink(place);
            }
            None => {
                let at = core::mem::replace(&mut links.at, NONE);
                if at == NONE {
                    return;
                }
                let last = self.in_heap(len.saturating_sub(1));
                self.core_mut().due = len.saturating_sub(1);
                if let Some(last) = last.filter(|last| *last != place) {
                    self.set_in_heap(at, last);
                    self.rise(last);
                    self.sink(last);
                }
            }
        }
    }

    fn set_in_heap(&mut self, position: u16, place: u16) {
        if let Some(links) = self.links_mut(position) {
            links.heap = place;
        }
        if let Some(links) = self.links_mut(place) {
            links.at = position;
        }
    }

    fn rise(&mut self, place: u16) {
        while let Some(at) = self.links(place).map(|links| links.at).filter(|at| *at > 0) {
            let above = at.saturating_sub(1) / 2;
            let Some(other) = self.in_heap(above).filter(|other| self.is_earlier(place, *other)) else { return };
            self.set_in_heap(at, other);
            self.set_in_heap(above, place);
        }
    }

    fn sink(&mut self, place: u16) {
        while let Some(at) = self.links(place).map(|links| links.at) {
            // Twice a position may be more than there are: then nothing stands there.
            let [left, right] = [1, 2].map(|side| at.saturating_mul(2).saturating_add(side));
            let (mut below, Some(mut other)) = (left, self.in_heap(left)) else { return };
            if let Some(right_one) = self.in_heap(right).filter(|one| self.is_earlier(*one, other)) {
                (below, other) = (right, right_one);
            }
            if self.is_earlier(place, other) {
                return;
            }
            self.set_in_heap(at, other);
            self.set_in_heap(below, place);
        }
    }
}

fn recount(count: &mut u16, before: bool, now: bool) {
    *count = count.saturating_sub(u16::from(before)).saturating_add(u16::from(now));
}

/// Compares how the places of a table hang together with what is in them. Looks at everything.
///
/// # Errors
/// What is not as it should be, and where.
pub(super) fn check<S: Slot, L: Linked>(table: &L, slots: &[S]) -> Result<(), Misfiled> {
    let core = table.core();
    let counted = |which: fn(&Links) -> bool| slots.iter().filter(|slot| which(&slot.place().links)).count();
    let holds = |what, holds: bool, place| if holds { Ok(()) } else { Err(Misfiled { what, place }) };
    // How many of each kind the chains still have to show.
    let mut chained =
        [0, 1, 2].map(|kind| slots.iter().filter(|slot| slot.place().links.buckets.get(kind) != Some(&NONE)).count());
    for (number, slot) in (0..=NONE).zip(slots) {
        let (links, due) = (&slot.place().links, Filing::of(slot.place().item.as_ref(), core));
        let filed = Filing {
            due: (links.at != NONE).then_some(links.due),
            list: links.wants,
            sends: links.sends,
            used: links.used,
            counts: links.counts,
            keeps: links.keeps,
            buckets: links.buckets,
        };
        holds("filed", filed == due, number)?;
        let kept = links.keeper != NONE;
        let takeable = matches!(links.wants, List::Free | List::Over);
        holds("list", links.list == if kept && takeable { List::Nowhere } else { links.wants }, number)?;
        let keeper = table.links(links.keeper);
        holds("keeper", !kept || keeper.is_some_and(|keeper| keeper.keeps == number), number)?;
        let keeps = table.links(links.keeps);
        holds("keeps", links.keeps == NONE || keeps.is_some_and(|kept| kept.keeper == number), number)?;
        holds("heap", links.at == NONE || table.in_heap(links.at) == Some(number), number)?;
        let above = table.in_heap(links.at.saturating_sub(1) / 2).unwrap_or(number);
        holds("order", links.at == NONE || !table.is_earlier(number, above), number)?;
        for (kind, left) in chained.iter_mut().enumerate() {
            let inside = |links: &Links| links.buckets.get(kind) == Some(&number);
            let found = ring(table, Head::Bucket(kind, number), *left, inside);
            let found = found.map_err(|place| Misfiled { what: "chain", place })?;
            *left = left.saturating_sub(found);
        }
    }
    holds("unchained", chained == [0; KINDS], NONE)?;
    for list in List::ALL {
        let inside = |links: &Links| if list == List::Send { links.sends } else { links.list == list };
        let all = slots.iter().filter(|slot| inside(&slot.place().links)).count();
        let found = ring(table, Head::List(list), all, inside).map_err(|place| Misfiled { what: "ring", place })?;
        holds("unlisted", found == all, NONE)?;
    }
    holds("due", counted(|links| links.at != NONE) == usize::from(core.due), NONE)?;
    holds("used", counted(|links| links.used) == usize::from(core.used), NONE)?;
    holds("kept", counted(|links| links.keeper != NONE) == usize::from(core.kept), NONE)?;
    holds("counted", counted(|links| links.counts) == usize::from(core.counted), NONE)
}

/// How many a ring holds, if they are no more than there may be, each is one that belongs there, and it goes back the way it
/// goes on; else where not.
fn ring<L: Linked>(table: &L, head: Head, most: usize, inside: impl Fn(&Links) -> bool) -> Result<usize, u16> {
    let (mut before, mut found) = (None, 0usize);
    for place in table.ring(head).take(most.saturating_add(1)) {
        let links = table.links(place).filter(|links| inside(links)).ok_or(place)?;
        let pair = links.pairs.get(head.pair()).ok_or(place)?;
        if found >= most || before.is_some_and(|before| pair.before != before) {
            return Err(place);
        }
        before = Some(place);
        found = found.saturating_add(1);
    }
    let first = table.first(head).and_then(|first| table.links(first));
    let last = first.and_then(|first| first.pairs.get(head.pair())).map(|pair| pair.before);
    if last == before { Ok(found) } else { Err(NONE) }
}

/// A place that is not where its content says. For tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfiled {
    /// What is not as it should be.
    pub what: &'static str,
    /// The number of the place.
    pub place: u16,
}
