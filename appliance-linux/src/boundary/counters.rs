//! What the guard counted, asked of the kernel itself: whoever looks at the status waits for no program.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::attributes::{SUBSYSTEM, ask, attribute, messages};
use super::ruleset::{DROPS, NAMES, TABLE};

/// Packets the guard dropped, or let in in clear, in the order of [`NAMES`].
pub(crate) type Dropped = [u64; NAMES.len()];

// linux/netfilter/nf_tables.h.
const NEW_OBJECT: u16 = 18;
const GET_OBJECT: u16 = 19;
const DUMP: u16 = 0x300; // NLM_F_DUMP
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;

/// What tables of ours dropped since the daemon began, for whoever looks while they are replaced.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Tallied>);

#[derive(Default)]
struct Tallied {
    /// By all of them, as far as anybody has looked.
    sum: Dropped,
    /// What the table had counted when it was looked at last.
    table: Dropped,
    /// The table of the copy, and the same of it.
    live: Option<(String, Dropped)>,
}

impl Tallied {
    fn look(&mut self) {
        let live = self.live.iter_mut().map(|(table, last)| (table.as_str(), last, DROPS));
        for (table, last, counts) in live.chain([(TABLE, &mut self.table, NAMES.len())]) {
            // What does not answer may be there the next time.
            let Some(now) = of(table) else { continue };
            for ((sum, last), now) in self.sum.iter_mut().zip(last).zip(now).take(counts) {
                // Less than last time: it is another table, which somebody removed and we put back.
                *sum = sum.saturating_add(now.checked_sub(*last).unwrap_or(now));
                *last = now;
            }
        }
    }
}

impl Tally {
    /// From now on: what an earlier daemon's table has counted is not ours.
    pub(super) fn begin() -> Self {
        Self(Mutex::new(Tallied { table: of(TABLE).unwrap_or_default(), ..Tallied::default() }))
    }

    /// Before a table is replaced: what it has counted is kept, and returned for [`Tally::replaced`].
    pub(super) fn keep(&self) -> Dropped {
        let mut tallied = self.lock();
        tallied.look();
        tallied.table
    }

    /// The table counts from zero. `kept`: what the one before it had counted, unless somebody has looked since.
    pub(super) fn replaced(&self, kept: Dropped) {
        let mut tallied = self.lock();
        if tallied.table == kept {
            tallied.table = Dropped::default();
        }
    }

    /// The copy is this table from now on, which counts from zero.
    pub(super) fn copied(&self, live: String) {
        let mut tallied = self.lock();
        tallied.look();
        tallied.live = Some((live, Dropped::default()));
    }

    /// By all of them, in the order of [`NAMES`].
    pub(crate) fn dropped(&self) -> Dropped {
        let mut tallied = self.lock();
        tallied.look();
        tallied.sum
    }

    /// Nothing panics under it, so a poisoned lock still guards sound data.
    fn lock(&self) -> std::sync::MutexGuard<'_, Tallied> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of a table; `None`: there is no such table, or it has not all of them.
pub(super) fn of(table: &str) -> Option<Dropped> {
    let objects = dump().ok()?;
    let mut found = NAMES.map(|_| None);
    for object in &objects {
        if attribute(object, OBJECT_TABLE).map(text) != Some(table) {
            continue;
        }
        let name = attribute(object, OBJECT_NAME).map(text);
        let packets = attribute(object, OBJECT_DATA)
            .and_then(|data| attribute(data, COUNTER_PACKETS))
            .and_then(|octets| octets.first_chunk().map(|octets| u64::from_be_bytes(*octets)));
        NAMES.iter().zip(&mut found).filter(|(known, _)| name == Some(**known)).for_each(|(_, held)| *held = packets);
    }
    let mut counters = Dropped::default();
    for (counter, found) in counters.iter_mut().zip(found) {
        *counter = found?;
    }
    Some(counters)
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets.strip_suffix(&[0]).unwrap_or(octets)).unwrap_or_default()
}

/// The attributes of every object of the family `inet`.
fn dump() -> io::Result<Vec<Vec<u8>>> {
    let socket = ask(GET_OBJECT, DUMP, None)?;
    let (mut objects, mut ended) = (Vec::new(), false);
    while !ended {
        let (datagram, _) = socket.recv_from_full()?;
        let mut any = false;
        messages(&datagram, |kind, body| {
            any = true;
            match i32::from(kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => ended = true,
                _ if kind == SUBSYSTEM << 8 | NEW_OBJECT => objects.push(body.get(4..).unwrap_or_default().to_vec()),
                _ => {}
            }
        });
        ended |= !any;
    }
    Ok(objects)
}
