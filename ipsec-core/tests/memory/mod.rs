//! A search through the memory of this process for secrets that were noted, masked: the search holds none as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

/// Not one of the constants of HMAC, which masks keys as well.
pub(crate) const MASK: u8 = 0xa7;
/// Octets by which a secret is known.
pub(crate) const BEGINNING: usize = 16;

/// What is looked for, by its masked beginning.
pub(crate) type Noted<K> = BTreeMap<[u8; BEGINNING], K>;

/// The masked beginning of a secret. A call of its own: what it leaves on the stack, the next call overwrites.
#[inline(never)]
pub(crate) fn masked<'o>(octets: impl IntoIterator<Item = &'o u8>) -> [u8; BEGINNING] {
    let mut masked = [0; BEGINNING];
    masked.iter_mut().zip(octets).for_each(|(to, from)| *to = from ^ MASK);
    masked
}

/// Where secrets stand in writable memory: which, at what address, and in which part of the memory.
pub(crate) fn places<K: Copy>(noted: &Noted<K>) -> Vec<(K, u64, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut search = Search::new(noted);
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if rights.starts_with("rw") {
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
            search.through(from..to, |kind, at| found.push((kind, at, line.to_owned())));
        }
    }
    found
}

/// A search through parts of the memory.
pub(crate) struct Search<'n, K> {
    noted: &'n Noted<K>,
    /// Whether a secret begins with these two octets.
    starts: Vec<bool>,
    memory: File,
    page: Vec<u8>,
}

impl<'n, K: Copy> Search<'n, K> {
    pub(crate) fn new(noted: &'n Noted<K>) -> Self {
        let mut starts = vec![false; 1 << 16];
        for masked in noted.keys() {
            starts[usize::from(masked[0] ^ MASK) << 8 | usize::from(masked[1] ^ MASK)] = true;
        }
        let memory = File::open("/proc/self/mem").unwrap();
        Self { noted, starts, memory, page: vec![0; 4096 + BEGINNING] }
    }

    pub(crate) fn through(&mut self, range: Range<u64>, mut found: impl FnMut(K, u64)) {
        for at in range.step_by(4096) {
            self.memory.seek(SeekFrom::Start(at)).unwrap();
            let read = self.memory.read(&mut self.page).unwrap_or(0);
            if self.page[..read].iter().all(|octet| *octet == 0) {
                continue;
            }
            for (offset, window) in self.page[..read].windows(BEGINNING).enumerate().take(4096) {
                if self.starts[usize::from(window[0]) << 8 | usize::from(window[1])] {
                    let kind = self.noted.get(&masked(window));
                    // Over what that left of a find: the stack of the search is searched, too.
                    std::hint::black_box(masked(std::hint::black_box(&[0; BEGINNING])));
                    kind.into_iter().for_each(|kind| found(*kind, at + offset as u64));
                }
            }
            self.page.fill(0); // what was read is no find of the next page
        }
    }
}
