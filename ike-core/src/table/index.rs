//! How the places of a table hang together: lists and chains of their numbers.
//!
//! All of that lies apart from the contents. Whoever is filed anew moves past others, and of a large table their contents are
//! in no cache; this here is small, and what is asked together stands together.

use super::due::{Due, FAMILY};
use super::filed::{COUNTED, KINDS, Key};
use super::hash::{HashSecret, Spot};

/// No place: a table has at most 65,535.
pub(super) const NONE: u16 = u16::MAX;

/// What a table knows of eight of its slots besides what is in them.
///
/// ```
/// use ike_core::endpoint::IndexBlock;
/// const IKE_SAS: usize = 4;
/// const CHILD_SAS: usize = 8;
/// let index = [const { IndexBlock::EMPTY }; IndexBlock::needed(IKE_SAS, CHILD_SAS)];
/// assert_eq!(index.len(), 2); // eight slots each
/// assert_eq!(IndexBlock::OCTETS_PER_SLOT, 64);
/// ```
#[derive(Debug)]
#[repr(align(64))]
pub struct IndexBlock {
    /// A part of the heap, not that of these slots: those that stand below the same one, in one line of a cache.
    pub(super) family: [Due; FAMILY],
    links: [Links; FAMILY],
}

impl IndexBlock {
    /// Nothing is known yet.
    pub const EMPTY: Self = Self { family: [Due::NEVER; FAMILY], links: [const { Links::NEW }; FAMILY] };

    /// Octets that they take for each slot.
    pub const OCTETS_PER_SLOT: usize = size_of::<Self>() / FAMILY;

    /// How many it takes for tables of so many IKE SAs and Child SAs.
    pub const fn needed(sas: usize, children: usize) -> usize {
        Self::count(sas).saturating_add(Self::count(children))
    }

    /// How many it takes for one table of so many slots.
    pub(crate) const fn count(slots: usize) -> usize {
        slots.div_ceil(FAMILY)
    }
}

impl Default for IndexBlock {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The lists that a table has, each of which its core knows the first of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// Empty, the one that was emptied last first.
    Free,
    /// What is in it is over, for the longest time first.
    Over,
    /// Something is to be told, of one of the [`RANKS`](super::filed::RANKS).
    TellFirst,
    TellNext,
    TellLast,
    /// Something is to be sent. A place may be in this list besides another one.
    Send,
    /// In none: in use, with nothing to tell; or kept.
    Nowhere,
}

impl List {
    pub(super) const ALL: [Self; 6] =
        [Self::Free, Self::Over, Self::TellFirst, Self::TellNext, Self::TellLast, Self::Send];

    pub(super) fn tell(rank: u8) -> Self {
        match rank {
            0 => Self::TellFirst,
            1 => Self::TellNext,
            _ => Self::TellLast,
        }
    }

    fn number(self) -> Option<usize> {
        Self::ALL.iter().position(|list| *list == self)
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
    pub(super) fn pair(self) -> usize {
        match self {
            Self::List(List::Send) => 1,
            Self::List(_) => 0,
            Self::Bucket(kind, _) => kind.saturating_add(2),
        }
    }
}

/// Those whose keys of a kind lie in one spot.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    pub(super) kind: usize,
    pub(super) spot: Spot,
}

impl Chain {
    fn head(self) -> Head {
        Head::Bucket(self.kind, self.spot.bucket)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    next: u16,
    pub(super) before: u16,
}

/// The part of a place that the others need.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) generation: u32,
    pub(super) pairs: [Pair; 2 + KINDS],
    /// The firsts of the chains whose number is this place's.
    heads: [u16; KINDS],
    /// Where this place's keys lie, and so in which chains it is.
    pub(super) spots: [Spot; KINDS],
    /// Where this place stands in the heap.
    pub(super) at: u16,
    /// The place that this one keeps, and the one that keeps it.
    pub(super) keeps: u16,
    pub(super) keeper: u16,
    /// Of those whose key of the [counted](COUNTED) kind lies in one spot, the first knows how many they are.
    pub(super) company: u16,
    pub(super) wants: List,
    pub(super) list: List,
    pub(super) sends: bool,
    pub(super) used: bool,
    pub(super) counts: bool,
}

impl Links {
    const NEW: Self = Self {
        generation: 0,
        pairs: [Pair { next: NONE, before: NONE }; 2 + KINDS],
        heads: [NONE; KINDS],
        spots: [Spot::NOWHERE; KINDS],
        at: NONE,
        keeps: NONE,
        keeper: NONE,
        company: 0,
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

/// How all places of a table hang together.
pub(super) struct Index<'a> {
    pub(super) blocks: &'a mut [IndexBlock],
    secret: HashSecret,
    len: u16,
    heads: [u16; List::ALL.len()],
    /// Places in the heap.
    pub(super) due: u16,
    pub(super) used: u16,
    pub(super) kept: u16,
    pub(super) counted: u16,
}

impl<'a> Index<'a> {
    /// Of `len` places; there are blocks for so many.
    pub(super) fn new(blocks: &'a mut [IndexBlock], secret: HashSecret, len: usize) -> Self {
        blocks.iter_mut().for_each(|block| *block = IndexBlock::EMPTY);
        let len = u16::try_from(len).unwrap_or(NONE);
        Self { blocks, secret, len, heads: [NONE; List::ALL.len()], due: 0, used: 0, kept: 0, counted: 0 }
    }

    pub(super) fn links(&self, place: u16) -> Option<&Links> {
        #[cfg(test)]
        looks::count();
        let place = usize::from(place);
        self.blocks.get(place / FAMILY)?.links.get(place % FAMILY)
    }

    pub(super) fn links_mut(&mut self, place: u16) -> Option<&mut Links> {
        let place = usize::from(place);
        self.blocks.get_mut(place / FAMILY)?.links.get_mut(place % FAMILY)
    }

    pub(super) fn first(&self, head: Head) -> Option<u16> {
        let first = match head {
            Head::List(list) => list.number().and_then(|number| self.heads.get(number)),
            Head::Bucket(kind, bucket) => self.links(bucket).and_then(|links| links.heads.get(kind)),
        };
        first.copied().filter(|first| *first != NONE)
    }

    pub(super) fn next(&self, head: Head, place: u16) -> Option<u16> {
        self.links(place).map(|links| links.next(head)).filter(|next| *next != NONE)
    }

    /// All places in a ring.
    pub(super) fn ring(&self, head: Head) -> impl Iterator<Item = u16> + Clone {
        core::iter::successors(self.first(head), move |place| self.next(head, *place))
    }

    /// All whose keys lie in one spot: those that have the same, and hardly ever another.
    pub(super) fn near(&self, chain: Chain) -> impl Iterator<Item = u16> + Clone {
        self.ring(chain.head()).filter(move |place| self.lies(*place, chain))
    }

    /// The next of those behind this one, or the first.
    pub(super) fn next_near(&self, chain: Chain, place: Option<u16>) -> Option<u16> {
        let head = chain.head();
        let first = place.map_or_else(|| self.first(head), |place| self.next(head, place));
        core::iter::successors(first, |place| self.next(head, *place)).find(|place| self.lies(*place, chain))
    }

    /// How many there are near a key of the [counted](COUNTED) kind.
    pub(super) fn company(&self, chain: Chain) -> usize {
        let first = self.next_near(chain, None).filter(|_| chain.kind == COUNTED);
        first.and_then(|first| self.links(first)).map_or(0, |links| usize::from(links.company))
    }

    fn lies(&self, place: u16, Chain { kind, spot }: Chain) -> bool {
        self.links(place).is_some_and(|links| links.spots.get(kind) == Some(&spot))
    }

    /// Where a key lies, and so whatever has the same.
    pub(super) fn chain(&self, key: &impl Key) -> Chain {
        Chain { kind: key.kind(), spot: Spot::of(key.hash(&self.secret), self.len) }
    }

    fn set_first(&mut self, head: Head, place: u16) {
        let first = match head {
            Head::List(list) => list.number().and_then(|number| self.heads.get_mut(number)),
            Head::Bucket(kind, bucket) => self.links_mut(bucket).and_then(|links| links.heads.get_mut(kind)),
        };
        if let Some(first) = first {
            *first = place;
        }
    }

    fn pair(&mut self, head: Head, place: u16) -> Option<&mut Pair> {
        self.links_mut(place)?.pairs.get_mut(head.pair())
    }

    pub(super) fn attach(&mut self, head: Head, place: u16, in_front: bool) {
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

    pub(super) fn detach(&mut self, head: Head, place: u16) {
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
}

/// How often the tables of this thread looked at one of their places: what a walk costs, which is not to be seen otherwise.
#[cfg(test)]
pub(crate) mod looks {
    use core::cell::Cell;

    std::thread_local!(static LOOKS: Cell<usize> = const { Cell::new(0) });

    pub(super) fn count() {
        LOOKS.set(LOOKS.get() + 1);
    }

    /// How often that was for this.
    pub(crate) fn of(act: impl FnOnce()) -> usize {
        let before = LOOKS.get();
        act();
        LOOKS.get() - before
    }
}
