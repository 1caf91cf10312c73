//! Order in place, without a panic: the library's sorts may.

use core::mem::swap;

/// Brings together what has the same number, which is less than `N`: the least first. Returns where those with each number
/// end.
pub(super) fn deal<T, const N: usize>(items: &mut [T], number: impl Fn(&T) -> usize) -> [usize; N] {
    let mut ends = [0_usize; N];
    for item in items.iter() {
        if let Some(count) = ends.get_mut(number(item)) {
            *count = count.saturating_add(1);
        }
    }
    let (mut next, mut before) = ([0; N], 0_usize);
    for (next, end) in next.iter_mut().zip(&mut ends) {
        *next = before;
        before = before.saturating_add(*end);
        *end = before;
    }
    for (here, end) in ends.iter().enumerate() {
        while let Some(at) = next.get(here).copied().filter(|at| at < end)
            && let Some(to) = items.get(at).and_then(|item| next.get_mut(number(item)))
        {
            exchange(items, at, *to);
            *to = to.saturating_add(1);
        }
    }
    ends
}

/// A heap sort.
pub(super) fn sort<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    if items.is_sorted_by_key(&key) {
        return;
    }
    let len = items.len();
    for at in (0..len / 2).rev() {
        sink(items, at, &key);
    }
    for end in (1..len).rev() {
        exchange(items, 0, end);
        sink(items.get_mut(..end).unwrap_or_default(), 0, &key);
    }
}

/// Lets what stands at a place of a heap sink to where it belongs.
fn sink<T, K: Ord>(items: &mut [T], mut at: usize, key: &impl Fn(&T) -> K) {
    loop {
        let left = at.saturating_mul(2).saturating_add(1);
        let children = (left..items.len()).take(2);
        let largest = children.filter_map(|child| Some((key(items.get(child)?), child))).max();
        match (largest, items.get(at)) {
            (Some((largest, child)), Some(item)) if largest > key(item) => {
                exchange(items, at, child);
                at = child;
            }
            _ => return,
        }
    }
}

/// One and the same changes nothing.
fn exchange<T>(items: &mut [T], one: usize, other: usize) {
    if let Ok([one, other]) = items.get_disjoint_mut([one, other]) {
        swap(one, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_has_one_number_comes_together_and_nothing_is_lost() {
        for len in 0..200_u32 {
            let mut items: Vec<u32> = (0..len).map(|item| item.wrapping_mul(0x9e37_79b1)).collect();
            let ends: [usize; 5] = deal(&mut items, |item| (item % 5) as usize);
            let mut begin = 0;
            for (number, end) in (0..).zip(ends) {
                assert!(items[begin..end].iter().all(|item| item % 5 == number), "{len}: {number}");
                begin = end;
            }
            assert_eq!(begin, items.len());
            sort(&mut items, |item| *item);
            let mut expected: Vec<u32> = (0..len).map(|item| item.wrapping_mul(0x9e37_79b1)).collect();
            expected.sort_unstable();
            assert_eq!(items, expected);
        }
    }
}
