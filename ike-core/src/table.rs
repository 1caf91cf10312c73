//! The caller's tables: whatever is asked of them costs the same however much stands in them.
//!
//! Beside the slots with the contents lies an index of them: in which lists and chains each place stands, and a heap of what
//! falls due ([`index`], [`heap`]). It is the caller's memory, too. A content can only be changed through an [`Edit`], which
//! files the place anew when it ends: under the keys, the moment and the wishes that the content says then. Nobody else has
//! to remember that.

use core::ops::{Deref, DerefMut};

use ipsec_core::time::Instant;

mod check;
mod due;
mod filed;
mod filing;
mod hash;
mod heap;
mod index;

pub use check::Misfiled;
pub(crate) use filed::{Filed, KINDS, Key, RANKS, Slot};
pub(crate) use hash::HashSecret;
pub use index::IndexBlock;
#[cfg(test)]
pub(crate) use index::looks;
use index::{Head, Index, List, NONE};

/// The key of the contents in a slot.
type KeyOf<S> = <<S as Slot>::Item as Filed>::Key;

pub(crate) struct Table<'a, S: Slot> {
    slots: &'a mut [S],
    index: Index<'a>,
}

impl<'a, S: Slot> Table<'a, S> {
    /// All of these slots, empty; at most 65,535, with [so many](IndexBlock::count) blocks.
    pub(crate) fn new(slots: &'a mut [S], blocks: &'a mut [IndexBlock], secret: HashSecret) -> Self {
        let index = Index::new(blocks, secret, slots.len());
        let mut table = Self { slots, index };
        table.slots.iter_mut().for_each(|slot| *slot.place_mut() = None);
        // The list of those that are free begins with the one that came last.
        for slot in (0..NONE).take(table.slots.len()).rev() {
            table.refile(slot);
        }
        table
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many have a content.
    pub(crate) fn used(&self) -> usize {
        usize::from(self.index.used)
    }

    /// How many are kept for one.
    pub(crate) fn kept(&self) -> usize {
        usize::from(self.index.kept)
    }

    /// How many contents are of those that are counted.
    pub(crate) fn counted(&self) -> usize {
        usize::from(self.index.counted)
    }

    pub(crate) fn get(&self, slot: u16) -> Option<&S::Item> {
        self.slots.get(usize::from(slot))?.item()
    }

    /// What stands in a slot, if it is the one with this number.
    pub(crate) fn named(&self, (slot, generation): (u16, u32)) -> Option<&S::Item> {
        self.get(slot).filter(|_| self.generation(slot) == generation)
    }

    /// How many contents a slot had: tells one from the one before.
    pub(crate) fn generation(&self, slot: u16) -> u32 {
        self.index.links(slot).map_or(0, |links| links.generation)
    }

    /// Each content with its slot. Looks at every slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &S::Item)> + Clone {
        (0..NONE).zip(self.slots.iter()).filter_map(|(slot, place)| Some((slot, place.item()?)))
    }

    /// Those whose keys lie where this one does: all that have it, and hardly ever another.
    pub(crate) fn near(&self, key: KeyOf<S>) -> impl Iterator<Item = (u16, &S::Item)> + Clone {
        self.index.near(self.index.chain(&key)).filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// How many those near a key of the [counted](filed::COUNTED) kind are.
    pub(crate) fn count_near(&self, key: KeyOf<S>) -> usize {
        self.index.company(self.index.chain(&key))
    }

    /// Changes those near `key` that `which` says. What is changed may leave the others' company.
    pub(crate) fn each_near(
        &mut self,
        key: KeyOf<S>,
        which: impl Fn(&S::Item) -> bool,
        mut change: impl FnMut(&mut S::Item),
    ) {
        let chain = self.index.chain(&key);
        let mut next = self.index.next_near(chain, None);
        while let Some(slot) = next {
            next = self.index.next_near(chain, Some(slot));
            if self.get(slot).is_some_and(&which)
                && let Some(mut item) = self.edit(slot)
            {
                change(&mut item);
            }
        }
    }

    /// The next one near `key` behind this slot, or the first.
    pub(crate) fn next_near(&self, key: KeyOf<S>, slot: Option<u16>) -> Option<u16> {
        self.index.next_near(self.index.chain(&key), slot)
    }

    /// A slot that may be taken: better one that is empty.
    pub(crate) fn vacant(&self) -> Option<u16> {
        vacant(&self.index)
    }

    /// An empty slot.
    pub(crate) fn free(&self) -> Option<u16> {
        self.index.first(Head::List(List::Free))
    }

    /// Which has something to send, for the longest time.
    pub(crate) fn sending(&self) -> Option<u16> {
        self.index.first(Head::List(List::Send))
    }

    /// Which has something of this rank to tell, for the longest time.
    pub(crate) fn telling(&self, rank: u8) -> Option<u16> {
        self.index.first(Head::List(List::tell(rank)))
    }

    /// When something falls due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.index.first_due().map(|(due, _)| due)
    }

    /// Which falls due first, if that is by now.
    pub(crate) fn ripe(&self, now: Instant) -> Option<u16> {
        self.index.first_due().filter(|(due, _)| *due <= now).map(|(_, slot)| slot)
    }

    /// The content of a slot, to be changed.
    pub(crate) fn edit(&mut self, slot: u16) -> Option<Edit<'_, 'a, S>> {
        let (before, rest) = self.slots.split_at_mut_checked(usize::from(slot))?;
        let (this, after) = rest.split_first_mut()?;
        let item = this.place_mut().as_deref_mut()?;
        Some(Edit { item, rest: Rest { before, after, slot }, index: &mut self.index, taken: NONE })
    }

    /// The same, if it is the one with this number.
    pub(crate) fn edit_named(&mut self, (slot, generation): (u16, u32)) -> Option<Edit<'_, 'a, S>> {
        (self.generation(slot) == generation).then(|| self.edit(slot)).flatten()
    }

    /// Puts a content into a slot that may be taken, and gives it a number.
    pub(crate) fn put(&mut self, slot: u16, item: S::Item) -> Option<u32> {
        *self.slots.get_mut(usize::from(slot))?.place_mut() = Some(item.into());
        let generation = number(&mut self.index, slot)?;
        self.refile(slot);
        Some(generation)
    }

    /// Empties a slot.
    pub(crate) fn clear(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            *slot.place_mut() = None;
        }
        self.refile(slot);
    }

    fn refile(&mut self, slot: u16) {
        let filing = self.index.filing(self.get(slot));
        self.index.file(slot, filing);
    }

    /// Whether each place is filed as its content says. Looks at everything, more than once.
    ///
    /// # Errors
    /// The first that is not.
    pub(crate) fn check(&self) -> Result<(), Misfiled> {
        check::check(&self.index, self.slots)
    }
}

fn vacant(index: &Index<'_>) -> Option<u16> {
    index.first(Head::List(List::Free)).or_else(|| index.first(Head::List(List::Over)))
}

/// Numbers the content that comes to a place.
fn number(index: &mut Index<'_>, place: u16) -> Option<u32> {
    let links = index.links_mut(place)?;
    links.generation = links.generation.wrapping_add(1);
    Some(links.generation)
}

/// All slots but one.
struct Rest<'x, S> {
    before: &'x mut [S],
    after: &'x mut [S],
    /// The number of the one.
    slot: u16,
}

impl<'x, S: Slot> Rest<'x, S> {
    /// How many slots there are, the one included.
    fn len(&self) -> usize {
        self.before.len().saturating_add(self.after.len()).saturating_add(1)
    }

    fn get(&self, slot: u16) -> Option<&S::Item> {
        let slot = match slot.checked_sub(self.slot) {
            None => self.before.get(usize::from(slot)),
            Some(behind) => self.after.get(usize::from(behind.checked_sub(1)?)),
        };
        slot?.item()
    }

    fn into_place(self, slot: u16) -> Option<&'x mut Option<S::Place>> {
        let slot = match slot.checked_sub(self.slot) {
            None => self.before.get_mut(usize::from(slot)),
            Some(behind) => self.after.get_mut(usize::from(behind.checked_sub(1)?)),
        };
        Some(slot?.place_mut())
    }
}

/// A content that is being changed. Its end files the place anew.
pub(crate) struct Edit<'x, 'a, S: Slot> {
    item: &'x mut S::Item,
    rest: Rest<'x, S>,
    index: &'x mut Index<'a>,
    /// The slot that was taken besides.
    taken: u16,
}

impl<'a, S: Slot> Edit<'_, 'a, S> {
    /// The content, and a look at the others beside it.
    pub(crate) fn parts(&mut self) -> (&mut S::Item, Others<'_, 'a, S>) {
        let Rest { before, after, slot } = &mut self.rest;
        let rest = Rest { before, after, slot: *slot };
        (&mut *self.item, Others { rest, index: self.index, taken: &mut self.taken })
    }
}

impl<S: Slot> Deref for Edit<'_, '_, S> {
    type Target = S::Item;

    fn deref(&self) -> &S::Item {
        self.item
    }
}

impl<S: Slot> DerefMut for Edit<'_, '_, S> {
    fn deref_mut(&mut self) -> &mut S::Item {
        self.item
    }
}

impl<S: Slot> Drop for Edit<'_, '_, S> {
    fn drop(&mut self) {
        let filing = self.index.filing(Some(&*self.item));
        self.index.file(self.rest.slot, filing);
        if self.taken != NONE {
            let filing = self.index.filing(self.rest.get(self.taken));
            self.index.file(self.taken, filing);
        }
    }
}

/// The other contents while one is being changed.
pub(crate) struct Others<'x, 'a, S> {
    rest: Rest<'x, S>,
    index: &'x mut Index<'a>,
    taken: &'x mut u16,
}

impl<'x, S: Slot> Others<'x, '_, S> {
    /// How many slots there are, this one included.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The others whose keys lie where this one does: all that have it, and hardly ever another.
    pub(crate) fn near(&self, key: KeyOf<S>) -> impl Iterator<Item = (u16, &S::Item)> {
        self.index.near(self.index.chain(&key)).filter_map(|slot| Some((slot, self.rest.get(slot)?)))
    }

    /// A slot that may be taken: better one that is empty.
    pub(crate) fn vacant(&self) -> Option<u16> {
        vacant(self.index)
    }

    /// The slot that this one kept when it was last filed.
    pub(crate) fn kept(&self) -> Option<u16> {
        self.index.links(self.rest.slot).map(|links| links.keeps).filter(|slot| *slot != NONE)
    }

    /// Another slot, emptied, to put something there. What comes there gets a number of its own.
    pub(crate) fn take(self, slot: u16) -> Option<&'x mut Option<S::Place>> {
        let place = self.rest.into_place(slot)?;
        number(self.index, slot)?;
        *self.taken = slot;
        *place = None;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::filed::COUNTED;
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// What is filed as it says itself.
    #[derive(Clone, Default)]
    struct Note {
        keys: [Option<u16>; KINDS],
        due: Option<u64>,
        tells: Option<u8>,
        sends: bool,
        over: bool,
        counts: bool,
        keeps: Option<u16>,
    }

    struct By(usize, u16);

    impl Key for By {
        fn kind(&self) -> usize {
            self.0
        }

        fn hash(&self, secret: &HashSecret) -> u64 {
            secret.hash(&[u64::from(self.1)])
        }
    }

    impl Filed for Note {
        type Key = By;

        fn keys(&self) -> [Option<By>; KINDS] {
            [0, 1, 2].map(|kind| self.keys[kind].map(|key| By(kind, key)))
        }

        fn due(&self) -> Option<Instant> {
            self.due.map(Instant::from_millis)
        }

        fn tells(&self) -> Option<u8> {
            self.tells
        }

        fn sends(&self) -> bool {
            self.sends
        }

        fn is_over(&self) -> bool {
            self.over
        }

        fn counts(&self) -> bool {
            self.counts
        }

        fn keeps(&self) -> Option<u16> {
            self.keeps
        }
    }

    struct Paper(Option<Box<Note>>);

    impl Slot for Paper {
        type Item = Note;
        type Place = Box<Note>;

        fn place(&self) -> &Option<Box<Note>> {
            &self.0
        }

        fn place_mut(&mut self) -> &mut Option<Box<Note>> {
            &mut self.0
        }
    }

    fn table(len: usize) -> Table<'static, Paper> {
        let slots: Vec<_> = (0..len).map(|_| Paper(None)).collect();
        let blocks: Vec<_> = (0..IndexBlock::count(len)).map(|_| IndexBlock::EMPTY).collect();
        Table::new(Box::leak(slots.into_boxed_slice()), Box::leak(blocks.into_boxed_slice()), HashSecret([1, 2]))
    }

    /// The next of a row of numbers that looks like chance (SplitMix64).
    fn below(state: &mut u64, limit: u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn any(state: &mut u64) -> Note {
        let mut maybe = |limit| Some(below(state, limit)).filter(|number| *number > 0);
        let keys = [4, 9, 30].map(|limit| maybe(limit).map(|key| key as u16));
        let (due, tells) = (maybe(20), maybe(4).map(|rank| rank as u8 - 1));
        let over = tells.is_none() && maybe(4).is_none();
        let mut coin = || maybe(2).is_some();
        Note { keys, due, tells, over, sends: coin(), counts: coin(), keeps: None }
    }

    #[test]
    fn whatever_is_done_each_place_is_filed_as_its_content_says() {
        for seed in 1..60u64 {
            let (mut state, len) = (seed, 1 + (seed as usize * 7) % 40);
            let mut table = table(len);
            for _ in 0..300 {
                let slot = below(&mut state, len as u64) as u16;
                match below(&mut state, 5) {
                    0 => table.clear(slot),
                    1 => {
                        if let Some(slot) = table.vacant() {
                            let before = table.generation(slot);
                            assert_eq!(table.put(slot, any(&mut state)), Some(before + 1));
                        }
                    }
                    // One that keeps another for itself, and then fills it.
                    2 => {
                        let Some(mut item) = table.edit(slot) else { continue };
                        let (item, others) = item.parts();
                        match item.keeps.take() {
                            Some(kept) => *others.take(kept).unwrap() = Some(any(&mut state).into()),
                            None => item.keeps = others.vacant().filter(|other| *other != slot),
                        }
                    }
                    _ => {
                        let note = any(&mut state);
                        if let Some(mut item) = table.edit(slot) {
                            let keeps = item.keeps;
                            *item = Note { keeps, ..note };
                        }
                    }
                }
                assert_eq!(table.check(), Ok(()), "{seed}");
                let due = table.iter().filter_map(|(slot, note)| Some((note.due()?, slot))).min();
                assert_eq!(table.due(), due.map(|(due, _)| due));
                assert_eq!(table.ripe(Instant::FAR_FUTURE), due.map(|(_, slot)| slot), "the lowest of several");
                assert_eq!(table.used(), table.iter().count());
                assert_eq!(table.counted(), table.iter().filter(|(_, note)| note.counts).count());
                for (kind, key) in [(0, 1), (1, 2), (2, 3)] {
                    let is = |(_, note): &(u16, &Note)| note.keys[kind] == Some(key);
                    let mut found: Vec<_> = table.near(By(kind, key)).filter(is).map(|(slot, _)| slot).collect();
                    found.sort_unstable();
                    let all: Vec<_> = table.iter().filter(is).map(|(slot, _)| slot).collect();
                    assert_eq!(found, all);
                    if kind == COUNTED {
                        assert_eq!(table.count_near(By(kind, key)), table.near(By(kind, key)).count(), "{seed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_place_that_is_filed_otherwise_than_its_content_says_is_noticed() {
        let changes: [fn(&mut Note); 7] = [
            |note| note.keys[1] = Some(77),
            |note| note.due = Some(3),
            |note| note.tells = Some(2),
            |note| note.sends = true,
            |note| note.over = true,
            |note| note.counts = true,
            |note| note.keeps = Some(3),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut table = table(5);
            table.put(0, Note::default());
            table.put(1, Note::default());
            let tried = |item: Option<&mut Note>| change(item.unwrap());
            tried(table.edit(1).as_deref_mut());
            assert_eq!(table.check(), Ok(()), "{number}");
            // Past the guard.
            tried(table.slots[0].0.as_deref_mut());
            assert_eq!(table.check(), Err(Misfiled { what: "filed", place: 0 }), "{number}");
        }
    }

    #[test]
    fn lists_go_by_who_was_first_and_empty_slots_by_who_was_last() {
        let mut table = table(4);
        for slot in [2, 0, 3] {
            table.put(slot, Note { sends: true, tells: Some(1), ..Note::default() });
        }
        assert_eq!(
            (table.vacant(), table.sending(), table.telling(1), table.telling(0)),
            (Some(1), Some(2), Some(2), None)
        );
        table.edit(2).unwrap().sends = false;
        table.edit(2).unwrap().tells = Some(0);
        assert_eq!((table.sending(), table.telling(1), table.telling(0)), (Some(0), Some(0), Some(2)));
        table.edit(2).unwrap().sends = true;
        table.edit(0).unwrap().sends = false;
        assert_eq!(table.sending(), Some(3));
        table.clear(0);
        table.clear(3);
        assert_eq!((table.vacant(), table.free()), (Some(3), Some(3)));
        let dead = |table: &mut Table<Paper>, slot| _ = table.put(slot, Note { over: true, ..Note::default() });
        [3, 0, 1].into_iter().for_each(|slot| dead(&mut table, slot));
        assert_eq!((table.vacant(), table.free()), (Some(3), None), "the one that is over for the longest time");
    }
}
