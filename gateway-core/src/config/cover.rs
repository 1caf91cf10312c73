//! Which of many pairs of networks others have together, without holding each against each.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// An address, behind the number of its family.
pub(super) type Place = (u8, u128);

/// From where to where: the first and the last address of a network.
pub(super) type Span = (Place, Place);

/// A network of ours and one of a peer: a rectangle, as it were. Both of one family, as those of a child are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Networks {
    pub(super) local: Span,
    pub(super) remote: Span,
}

/// The place behind another one. Behind the last of all there are no addresses.
fn behind((family, address): Place) -> Place {
    address.checked_add(1).map_or((family.saturating_add(1), 0), |next| (family, next))
}

/// What comes up at a place on the remote side, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// All of this one that is asked for lies behind the line.
    Answer(usize),
    /// This one of those that are there ends, or begins.
    Lay { index: usize, on: bool },
    /// This one that is asked for begins.
    Begin(usize),
}

/// Of each that is asked for, whether those that are there have every address of it, from ours to the peer's.
///
/// A line is moved over the remote addresses. What is there under it lies on a tree of local addresses, which remembers how
/// far the line was when an address last was bare. The time it takes grows about as the pairs do.
pub(super) fn covered(there: &[Networks], asked: &[Networks]) -> Vec<bool> {
    let both = there.iter().chain(asked).map(|pair| pair.local);
    let mut edges: Vec<_> = both.flat_map(|(first, last)| [first, behind(last)]).collect();
    edges.sort_unstable();
    edges.dedup();
    let cells = |(first, last): Span| {
        edges.partition_point(|edge| *edge < first)..edges.partition_point(|edge| *edge < behind(last))
    };
    let mut steps = Vec::new();
    for (index, pair) in there.iter().enumerate() {
        let (first, last) = pair.remote;
        steps.extend([(first, Step::Lay { index, on: true }), (behind(last), Step::Lay { index, on: false })]);
    }
    for (index, pair) in asked.iter().enumerate() {
        let (first, last) = pair.remote;
        steps.extend([(first, Step::Begin(index)), (behind(last), Step::Answer(index))]);
    }
    steps.sort_unstable();
    let mut tree = Node::over(0..edges.len().saturating_sub(1));
    let mut begun = vec![0; asked.len()];
    let mut answers = vec![false; asked.len()];
    // How many places the line has come to.
    for (line, here) in (1..).zip(steps.chunk_by(|(one, _), (other, _)| one == other)) {
        for (_, step) in here {
            match *step {
                Step::Answer(index) => {
                    let since = begun.get(index).copied().unwrap_or_default();
                    if let Some((pair, answer)) = asked.get(index).zip(answers.get_mut(index)) {
                        *answer = tree.last_bare(&cells(pair.local)) < since;
                    }
                }
                Step::Lay { index, on } => {
                    if let Some(pair) = there.get(index) {
                        tree.lay(&cells(pair.local), on);
                    }
                }
                Step::Begin(index) => {
                    if let Some(begun) = begun.get_mut(index) {
                        *begun = line;
                    }
                }
            }
        }
        tree.mark(line);
    }
    answers
}

/// Some of the cells that the edges of all local networks make, and what lies on them.
struct Node {
    cells: Range<usize>,
    /// So many lie on all of these cells, those on the nodes above left out.
    whole: u32,
    /// So many lie on the cell with the fewest, likewise.
    fewest: u32,
    /// The line when one of these cells was bare last.
    bare: u32,
    /// The line when the cells with the fewest were bare last, and the halves do not know.
    untold: u32,
    halves: Option<Box<[Node; 2]>>,
}

impl Node {
    fn over(cells: Range<usize>) -> Self {
        let middle = cells.start.midpoint(cells.end);
        let halves =
            (middle > cells.start).then(|| Box::new([Self::over(cells.start..middle), Self::over(middle..cells.end)]));
        Self { cells, whole: 0, fewest: 0, bare: 0, untold: 0, halves }
    }

    /// Whether all its cells are in there; `None`: not one.
    fn lies_in(&self, cells: &Range<usize>) -> Option<bool> {
        let meets = self.cells.start < cells.end && cells.start < self.cells.end;
        meets.then_some(cells.start <= self.cells.start && self.cells.end <= cells.end)
    }

    /// The line goes on from here: what has nothing on it now is bare.
    fn mark(&mut self, line: u32) {
        if self.fewest == 0 {
            self.strip(line);
        }
    }

    /// The cells with the fewest were bare then.
    fn strip(&mut self, line: u32) {
        self.bare = self.bare.max(line);
        self.untold = self.untold.max(line);
    }

    /// Tells the halves what they do not know, before one of them changes or is asked.
    fn halves(&mut self) -> Option<&mut [Self; 2]> {
        let untold = core::mem::take(&mut self.untold);
        let halves = self.halves.as_deref_mut()?;
        let fewest = halves.iter().map(|half| half.fewest).min();
        halves.iter_mut().filter(|half| Some(half.fewest) == fewest).for_each(|half| half.strip(untold));
        Some(halves)
    }

    /// Something begins to lie on these cells, or ends.
    fn lay(&mut self, cells: &Range<usize>, on: bool) {
        let change = |count: u32| if on { count.saturating_add(1) } else { count.saturating_sub(1) };
        match self.lies_in(cells) {
            None => {}
            Some(true) => (self.whole, self.fewest) = (change(self.whole), change(self.fewest)),
            Some(false) => {
                let whole = self.whole;
                if let Some(halves) = self.halves() {
                    halves.iter_mut().for_each(|half| half.lay(cells, on));
                    let fewest = halves.iter().map(|half| half.fewest).min().unwrap_or_default();
                    self.fewest = whole.saturating_add(fewest);
                }
            }
        }
    }

    /// The line when one of these cells was bare last; 0: never.
    fn last_bare(&mut self, cells: &Range<usize>) -> u32 {
        match self.lies_in(cells) {
            None => 0,
            Some(true) => self.bare,
            Some(false) => {
                let halves = self.halves().into_iter().flatten();
                halves.map(|half| half.last_bare(cells)).max().unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_32_pairs_are_covered_where_every_address_of_them_is() {
        let mut seed = 7_u64;
        let mut random = move |below: u128| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u128::from(seed >> 33) % below
        };
        // A small plane, at the end of the second family or at the end of the first one and the beginning of the second.
        let place = |at: u128, far: bool| match (far, at.checked_sub(4)) {
            (true, _) => (1, u128::MAX - 11 + at),
            (false, Some(v6)) => (1, v6),
            (false, None) => (0, u128::from(u32::MAX) - 3 + at),
        };
        let mut seen = [0; 2];
        for far in [true, false].into_iter().cycle().take(600) {
            let mut span = || {
                let mut ends = [random(12), random(12)];
                ends.sort_unstable();
                (place(ends[0], far), place(ends[1], far))
            };
            let of_one = |pair: &Networks| {
                [pair.local.0, pair.local.1, pair.remote.0, pair.remote.1].iter().all(|at| at.0 == pair.local.0.0)
            };
            let mut pairs = |count: usize| -> Vec<Networks> {
                (0..count).map(|_| Networks { local: span(), remote: span() }).filter(of_one).collect()
            };
            let (there, asked) = (pairs(12), pairs(12));
            let has = |(first, last): Span, at: Place| (first..=last).contains(&at);
            let plane = || (0..12).flat_map(|x| (0..12).map(move |y| (place(x, far), place(y, far))));
            let within = |pair: &Networks, (x, y): (Place, Place)| has(pair.local, x) && has(pair.remote, y);
            let slow = |pair: &Networks| {
                plane().filter(|at| within(pair, *at)).all(|at| there.iter().any(|other| within(other, at)))
            };
            let expected: Vec<_> = asked.iter().map(slow).collect();
            assert_eq!(covered(&there, &asked), expected, "{there:?} {asked:?}");
            expected.iter().for_each(|whole| seen[usize::from(*whole)] += 1);
        }
        assert!(seen[1] > 200 && seen[0] > 200, "{seen:?}");
    }
}
