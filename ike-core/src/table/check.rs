//! Whether everything is filed as it says.

use super::due::Due;
use super::filed::{COUNTED, KINDS, Slot};
use super::filing::Filing;
use super::hash::Spot;
use super::index::{Chain, Head, Index, Links, List, NONE};

/// A place that is not where its content says. For tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfiled {
    /// What is not as it should be.
    pub what: &'static str,
    /// The number of the place.
    pub place: u16,
}

/// Compares how the places of a table hang together with what is in them. Looks at everything, more than once.
///
/// # Errors
/// What is not as it should be, and where.
pub(super) fn check<S: Slot>(index: &Index<'_>, slots: &[S]) -> Result<(), Misfiled> {
    let all = || (0..NONE).take(slots.len()).filter_map(|place| index.links(place));
    let counted = |which: fn(&Links) -> bool| all().filter(|links| which(links)).count();
    let holds = |what, holds: bool, place| if holds { Ok(()) } else { Err(Misfiled { what, place }) };
    // How many of each kind the chains still have to show.
    let mut chained = [0, 1, 2].map(|kind| all().filter(|links| links.spots.get(kind) != Some(&Spot::NOWHERE)).count());
    for (number, (slot, links)) in (0..NONE).zip(slots.iter().zip(all())) {
        let filed = Filing {
            due: index.due(number),
            list: links.wants,
            sends: links.sends,
            used: links.used,
            counts: links.counts,
            keeps: links.keeps,
            spots: links.spots,
        };
        holds("filed", filed == index.filing(slot.item()), number)?;
        let kept = links.keeper != NONE;
        let takeable = matches!(links.wants, List::Free | List::Over);
        holds("list", links.list == if kept && takeable { List::Nowhere } else { links.wants }, number)?;
        let keeper = index.links(links.keeper);
        holds("keeper", !kept || keeper.is_some_and(|keeper| keeper.keeps == number), number)?;
        let keeps = index.links(links.keeps);
        holds("keeps", links.keeps == NONE || keeps.is_some_and(|kept| kept.keeper == number), number)?;
        let at = usize::from(links.at);
        let here = index.in_heap(at);
        holds("heap", links.at == NONE || here.map(Due::place) == Some(number), number)?;
        let above = Index::above(at).and_then(|above| index.in_heap(above));
        holds("order", links.at == NONE || above.is_none_or(|above| Some(above) < here), number)?;
        let chain = links.spots.get(COUNTED).map(|spot| Chain { kind: COUNTED, spot: *spot });
        let first = chain.filter(|chain| index.next_near(*chain, None) == Some(number));
        let company = first.map_or(0, |chain| index.near(chain).count());
        holds("company", usize::from(links.company) == company, number)?;
        for (kind, left) in chained.iter_mut().enumerate() {
            let inside = |links: &Links| links.spots.get(kind).is_some_and(|spot| spot.bucket == number);
            let found = ring(index, Head::Bucket(kind, number), *left, inside);
            let found = found.map_err(|place| Misfiled { what: "chain", place })?;
            *left = left.saturating_sub(found);
        }
    }
    holds("unchained", chained == [0; KINDS], NONE)?;
    for list in List::ALL {
        let inside = |links: &Links| if list == List::Send { links.sends } else { links.list == list };
        let all = all().filter(|links| inside(links)).count();
        let found = ring(index, Head::List(list), all, inside).map_err(|place| Misfiled { what: "ring", place })?;
        holds("unlisted", found == all, NONE)?;
    }
    holds("due", counted(|links| links.at != NONE) == usize::from(index.due), NONE)?;
    holds("used", counted(|links| links.used) == usize::from(index.used), NONE)?;
    holds("kept", counted(|links| links.keeper != NONE) == usize::from(index.kept), NONE)?;
    holds("counted", counted(|links| links.counts) == usize::from(index.counted), NONE)
}

/// How many a ring holds, if they are no more than there may be, each is one that belongs there, and it goes back the way it
/// goes on; else where not.
fn ring(index: &Index<'_>, head: Head, most: usize, inside: impl Fn(&Links) -> bool) -> Result<usize, u16> {
    let (mut before, mut found) = (None, 0usize);
    for place in index.ring(head).take(most.saturating_add(1)) {
        let links = index.links(place).filter(|links| inside(links)).ok_or(place)?;
        let pair = links.pairs.get(head.pair()).ok_or(place)?;
        if found >= most || before.is_some_and(|before| pair.before != before) {
            return Err(place);
        }
        before = Some(place);
        found = found.saturating_add(1);
    }
    let first = index.first(head).and_then(|first| index.links(first));
    let last = first.and_then(|first| first.pairs.get(head.pair())).map(|pair| pair.before);
    if last == before { Ok(found) } else { Err(NONE) }
}
