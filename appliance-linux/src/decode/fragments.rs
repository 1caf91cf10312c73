//! Fragments of IP packets, put together again (RFC 791 §3.2, RFC 8200 §4.5).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use super::ip::{Packet, Part};

/// Packets that are kept while parts of them are missing; the oldest one goes.
const OPEN: usize = 256;
/// The longest payload.
const LONGEST: usize = 65_535;

/// Whose parts belong together.
type Key = (IpAddr, IpAddr, u8, u32);

/// What is there of packets so far.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: HashMap<Key, Parts>,
    order: VecDeque<Key>,
}

#[derive(Debug, Default)]
struct Parts {
    at: BTreeMap<usize, Vec<u8>>,
    /// Octets of the whole, when the last part is there.
    len: Option<usize>,
}

impl Fragments {
    /// Takes a part, and gives the payload when it was the last one that was missing. Parts that lie over each other make
    /// nothing (RFC 5722 §4).
    pub(super) fn add(&mut self, packet: &Packet<'_>, part: Part) -> Option<Vec<u8>> {
        let key = (packet.source, packet.destination, packet.protocol, part.id);
        let end = part.offset + packet.payload.len();
        if end > LONGEST {
            return None;
        }
        if !self.open.contains_key(&key) {
            self.order.push_back(key);
            if self.order.len() > OPEN {
                let oldest = self.order.pop_front()?;
                self.open.remove(&oldest);
            }
        }
        let parts = self.open.entry(key).or_default();
        parts.at.insert(part.offset, packet.payload.to_vec());
        if !part.more {
            parts.len = Some(end);
        }
        let whole = parts.whole()?;
        self.open.remove(&key);
        self.order.retain(|other| *other != key);
        Some(whole)
    }
}

impl Parts {
    fn whole(&self) -> Option<Vec<u8>> {
        let len = self.len?;
        let mut whole = Vec::with_capacity(len);
        for (offset, part) in &self.at {
            if *offset != whole.len() {
                return None;
            }
            whole.extend(part);
        }
        (whole.len() == len).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: u32, offset: usize, more: bool) -> Part {
        Part { id, offset, more }
    }

    fn packet(payload: &[u8]) -> Packet<'_> {
        let (source, destination) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        Packet { source, destination, protocol: 17, part: None, payload }
    }

    #[test]
    fn parts_in_any_order_make_the_whole_once() {
        let parts = [(part(7, 0, true), &[1; 8][..]), (part(7, 8, true), &[2; 16]), (part(7, 24, false), &[3; 3])];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut fragments = Fragments::default();
            let made = order.map(|index: usize| fragments.add(&packet(parts[index].1), parts[index].0));
            let [None, None, Some(whole)] = made else { panic!("{order:?}") };
            assert_eq!(whole, [&[1; 8][..], &[2; 16], &[3; 3]].concat());
            assert!(fragments.open.is_empty() && fragments.order.is_empty());
        }
    }

    #[test]
    fn parts_of_others_and_parts_over_parts_make_nothing() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.add(&packet(&[1; 8]), part(7, 0, true)), None);
        assert_eq!(fragments.add(&packet(&[2; 8]), part(8, 8, false)), None);
        assert_eq!(fragments.add(&packet(&[2; 16]), part(7, 8, true)), None);
        assert_eq!(fragments.add(&packet(&[3; 8]), part(7, 16, false)), None, "it lies over the one before");
        assert_eq!(fragments.add(&packet(&[3; 8]), part(9, LONGEST, false)), None);
    }

    #[test]
    fn what_is_never_whole_has_an_end() {
        let mut fragments = Fragments::default();
        for id in 0..1000 {
            assert_eq!(fragments.add(&packet(&[1; 8]), part(id, 0, true)), None);
        }
        assert_eq!((fragments.open.len(), fragments.order.len()), (OPEN, OPEN));
        assert_eq!(fragments.add(&packet(&[]), part(0, 8, false)), None, "the oldest went");
        assert!(fragments.add(&packet(&[]), part(999, 8, false)).is_some());
    }
}
