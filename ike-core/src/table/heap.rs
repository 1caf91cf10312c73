//! What falls due first: a heap in which each stands above a family of others, which lie together.

use ipsec_core::time::Instant;

use super::due::{Due, FAMILY};
use super::index::{Index, NONE};

/// The heap. Position `p` is in block `p / FAMILY`; below it stands the family in block `p + 1`, and above those in the first
/// block is nobody.
impl Index<'_> {
    /// What falls due first, and when.
    pub(super) fn first_due(&self) -> Option<(Instant, u16)> {
        let first = self.blocks.first()?.family.iter().min().copied()?;
        (first != Due::NEVER).then(|| (first.moment(), first.place()))
    }

    pub(super) fn in_heap(&self, position: usize) -> Option<Due> {
        self.blocks.get(position / FAMILY)?.family.get(position % FAMILY).copied().filter(|due| *due != Due::NEVER)
    }

    /// When a place is due.
    pub(super) fn due(&self, place: u16) -> Option<Instant> {
        let at = self.links(place)?.at;
        self.in_heap(usize::from(at)).filter(|due| due.place() == place).map(Due::moment)
    }

    /// The position of the one above.
    pub(super) fn above(position: usize) -> Option<usize> {
        (position / FAMILY).checked_sub(1)
    }

    /// Moves a place to where its moment belongs.
    pub(super) fn schedule(&mut self, place: u16, moment: Option<Instant>) {
        let Some(at) = self.links(place).map(|links| links.at) else { return };
        match (moment.map(|moment| Due::of(moment, place)), at) {
            (None, NONE) => {}
            (None, at) => self.unschedule(place, usize::from(at)),
            (Some(due), NONE) => {
                let last = usize::from(self.due);
                self.due = self.due.saturating_add(1);
                self.rise(last, due);
            }
            (Some(due), at) => self.move_to(usize::from(at), due),
        }
    }

    fn unschedule(&mut self, place: u16, at: usize) {
        self.due = self.due.saturating_sub(1);
        let end = usize::from(self.due);
        let last = self.in_heap(end);
        self.set_in_heap(end, Due::NEVER);
        if let Some(links) = self.links_mut(place) {
            links.at = NONE;
        }
        if let Some(last) = last.filter(|last| last.place() != place) {
            self.move_to(at, last);
        }
    }

    /// Puts another one where one stood.
    fn move_to(&mut self, at: usize, due: Due) {
        match self.in_heap(at) {
            Some(before) if before == due => {}
            Some(before) if before < due => self.sink(at, due),
            _ => self.rise(at, due),
        }
    }

    fn set_in_heap(&mut self, position: usize, due: Due) {
        let block = self.blocks.get_mut(position / FAMILY);
        if let Some(lane) = block.and_then(|block| block.family.get_mut(position % FAMILY)) {
            *lane = due;
        }
        if due != Due::NEVER
            && let Some(links) = self.links_mut(due.place())
        {
            links.at = u16::try_from(position).unwrap_or(NONE);
        }
    }

    fn rise(&mut self, mut position: usize, due: Due) {
        while let Some(above) = Self::above(position)
            && let Some(other) = self.in_heap(above).filter(|other| due < *other)
        {
            self.set_in_heap(position, other);
            position = above;
        }
        self.set_in_heap(position, due);
    }

    fn sink(&mut self, mut position: usize, due: Due) {
        while let below = position.saturating_add(1)
            && let Some(first) =
                self.blocks.get(below).and_then(|block| (0..FAMILY).zip(block.family).min_by_key(|(_, due)| *due))
            && first.1 < due
        {
            self.set_in_heap(position, first.1);
            position = below.saturating_mul(FAMILY).saturating_add(first.0);
        }
        self.set_in_heap(position, due);
    }
}
