//! What the guard counted, asked of the kernel itself: whoever looks at the status waits for no program.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::attributes::{SUBSYSTEM, ask, attribute, messages};
use super::ruleset::{NAMES, TABLE};

/// Packets the guard dropped, in the order of [`NAMES`].
pub(super) type Dropped = [u64; 4];

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
pub(super) struct Tally(Mutex<Tallied>);

#[derive(Default)]
struct Tallied {
    /// By tables that are gone.
    before: Dropped,
    /// The table of the copy.
    live: Option<String>,
    /// What was shown last: a table that is gone may not be in `before` yet, and no count ever goes back.
    shown: Dropped,
}

impl Tally {
    /// Keeps what a table counted that is gone.
    pub(super) fn keep(&self, counted: Dropped) {
        add(&mut self.lock().before, counted);
    }

    /// The copy is this table from now on; what the one before it counted is kept.
    pub(super) fn replace(&self, live: String, counted: Dropped) {
        let mut tallied = self.lock();
        tallied.live = Some(live);
        add(&mut tallied.before, counted);
    }

    pub(super) fn dropped(&self) -> Dropped {
        let mut tallied = self.lock();
        let mut sum = tallied.before;
        for table in tallied.live.as_deref().into_iter().chain([TABLE]) {
            add(&mut sum, of(table).unwrap_or_default());
        }
        tallied.shown.iter_mut().zip(sum).for_each(|(shown, sum)| *shown = sum.max(*shown));
        tallied.shown
    }

    /// Nothing panics under it, so a poisoned lock still guards sound data.
    fn lock(&self) -> std::sync::MutexGuard<'_, Tallied> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(sum: &mut Dropped, counted: Dropped) {
    sum.iter_mut().zip(counted).for_each(|(sum, count)| *sum = sum.saturating_add(count));
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
    let [Some(in_clear), Some(in_discard), Some(out_clear), Some(out_discard)] = found else { return None };
    Some([in_clear, in_discard, out_clear, out_discard])
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
