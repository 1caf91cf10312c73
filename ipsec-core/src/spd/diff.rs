//! What tells two indexes apart.

use core::cmp::Ordering;

use super::index::View;
use super::rule::Rule;

/// How a rule of one index is found in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference<'v> {
    /// Only the new one has it.
    Added(&'v Rule),
    /// Only the old one has it.
    Removed(&'v Rule),
    /// Both have a rule with its id, which says something else.
    Changed {
        /// What the old one says.
        old: &'v Rule,
        /// What the new one says.
        new: &'v Rule,
    },
}

/// What is to be done to the rules of one index to make those of another one of them, by id, from the least on. The order among
/// rules of one priority is no difference. Takes a step for each rule and no memory.
///
/// ```
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Difference, Index, Rule, RuleId, Rules, Selector, Slot, diff};
/// let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let [one, two, three] =
///     [1, 2, 3].map(|id| Rule { id: RuleId(id), priority: 100, selector, action: Action::Discard });
/// let other = Rule { action: Action::Bypass, ..two };
/// let old = Index::build([one, two], [Slot::EMPTY; 2], []).unwrap();
/// let new = Index::build([three, other], [Slot::EMPTY; 2], []).unwrap();
/// let found: Vec<_> = diff(old.view(), new.view()).collect();
/// assert_eq!(
///     found,
///     [Difference::Removed(&one), Difference::Changed { old: &two, new: &other }, Difference::Added(&three)]
/// );
/// ```
pub fn diff<'v>(old: View<'v>, new: View<'v>) -> impl Iterator<Item = Difference<'v>> {
    let (mut old, mut new) = (old.by_id().peekable(), new.by_id().peekable());
    core::iter::from_fn(move || {
        loop {
            let first = match (old.peek(), new.peek()) {
                (Some(old), Some(new)) => old.id.cmp(&new.id),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match first {
                Ordering::Less => return old.next().map(Difference::Removed),
                Ordering::Greater => return new.next().map(Difference::Added),
                Ordering::Equal => {
                    let (old, new) = (old.next()?, new.next()?);
                    if old != new {
                        return Some(Difference::Changed { old, new });
                    }
                }
            }
        }
    })
}
