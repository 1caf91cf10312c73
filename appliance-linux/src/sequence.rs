//! How far manual keys may have been used, over restarts: a file with a JSON object a line, beside the accounts. Numbers are set
//! aside there before they are used, so that a kill at any moment, or a power failure, has none used twice. No key stands in it,
//! but what only who has the key can compute of it.
//!
//! A second file lists the keys that were ever used, and how far each was when a start last took it up. Where the first one is gone
//! or damaged, it says whose numbers are lost: such a key is refused until the operator writes a `sequence` above that, as one
//! that stood there before says nothing of what was used since. Where the second one is damaged, that cannot be told of any
//! key that the first one does not have.
//!
//! Both keep a line for each key for good: who has it once more must not begin anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use gateway_core::cause::{Cause, Kind};
use gateway_core::gateway::{Numbers, Ticket};
use ike_core::crypto::{Digest64, IkeCrypto as _, PrfAlg};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::disk::{self, Plain};
use crate::kept::{self, Lines, Read};
use crate::provider;

const FILE: &str = "sequence.jsonl";
/// The keys that were ever used.
const USED: &str = "sequence.keys";
/// Whoever has it locked is the only one who sets numbers aside here.
const LOCK: &str = "sequence.lock";

/// So many numbers are set aside at once: a second of a fast line, and what a restart costs.
pub(crate) const STEP: u64 = 1 << 20;

/// How long a disk that refuses something is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// A key, as the file knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark([u8; 32]);

impl Mark {
    /// Nobody computes the key of it; what it was made with makes it another one than any that an IKE SA has.
    pub(crate) fn of(key: &[u8]) -> Self {
        let mut digest = Digest64::new();
        provider::ike().prf(PrfAlg::HmacSha256, b"portcullis: numbers of a manual key", &[key], &mut digest);
        let mut mark = [0; 32];
        mark.iter_mut().zip(digest.as_slice()).for_each(|(octet, of_key)| *octet = *of_key);
        Self(mark)
    }

    fn printed(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, octet| {
            let _ = write!(text, "{octet:02x}"); // writing into a string does not fail
            text
        })
    }

    fn read(text: &str) -> Option<Self> {
        let mut mark = [0; 32];
        if text.len() != 2 * mark.len() {
            return None;
        }
        for (index, octet) in mark.iter_mut().enumerate() {
            *octet = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(mark))
    }
}

/// What is asked for: numbers behind `after` for a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) ticket: Ticket,
    pub(crate) mark: Mark,
    /// Of the key that the peer counts with.
    pub(crate) theirs: Mark,
    pub(crate) after: u64,
    /// The `sequence` that the operator wrote, or 0.
    pub(crate) stated: u64,
    /// The last number there is.
    pub(crate) last: u64,
}

/// What came of an order.
pub(crate) type Outcome = Result<Numbers, Cause>;

/// Whom the thread tells: once what is set aside, and before that why that takes so long.
pub(crate) trait Listener: Plain {
    fn set_aside(&self, ticket: Ticket, outcome: Outcome);
}

impl Plain for Order {}

/// A key, and the last number that may have been used with it.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    until: u64,
}

/// A key that was used, and the last number that it may have been used with when a start last took it up.
#[derive(Serialize, Deserialize)]
struct Used {
    key: String,
    past: u64,
}

/// The thread that keeps the files; it ends with this, when the disk lets it.
pub(crate) struct Sequence(Sender<Order>);

impl Sequence {
    /// Sets aside what is ordered, in this folder.
    ///
    /// # Errors
    /// When the kernel grants no thread.
    pub(crate) fn start(folder: Option<&Path>, listener: impl Listener) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        disk::thread("sequence", (folder.map(Path::to_owned), ordered, listener), run)?;
        Ok(Self(orders))
    }

    /// Asks for numbers.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.0.send(order); // the thread is there as long as this is
    }
}

fn run<L: Listener>((folder, ordered, listener): (Option<PathBuf>, Receiver<Order>, L)) {
    let Some(folder) = folder else {
        let refused = || Err(not_kept("nobody named a directory for that"));
        return ordered.iter().for_each(|order| listener.set_aside(order.ticket, refused()));
    };
    // Nothing is touched where there are no manual keys.
    let Ok(first) = ordered.recv() else { return };
    let mut orders = vec![first];
    let mut trouble = Trouble { listener: &listener, told: String::new(), heard: 0 };
    let mut kept = loop {
        orders.extend(ordered.try_iter());
        match Kept::open(&folder) {
            Ok(kept) => break kept,
            Err(error) => trouble.wait(&orders, &folder, &error),
        }
    };
    info!("sequence numbers of manual keys are set aside in {}", folder.display());
    loop {
        let mut trouble = Trouble { listener: &listener, told: String::new(), heard: 0 };
        // Nobody is told before it is on the disk: until then nothing is sent.
        let outcomes = kept.set_aside(&orders, |path, error| trouble.wait(&orders, path, error));
        if !trouble.told.is_empty() {
            info!("sequence numbers of manual keys are set aside again");
        }
        for (order, outcome) in orders.iter().zip(outcomes) {
            listener.set_aside(order.ticket, outcome);
        }
        let Ok(next) = ordered.recv() else { return };
        orders = std::iter::once(next).chain(ordered.try_iter()).collect();
    }
}

/// A disk that refuses something. It is tried again for as long as that takes, and whoever waits for it knows why.
struct Trouble<'l, L> {
    listener: &'l L,
    told: String,
    /// So many orders have heard it.
    heard: usize,
}

impl<L: Listener> Trouble<'_, L> {
    fn wait(&mut self, orders: &[Order], path: &Path, error: &io::Error) {
        let why = format!("{}: {error}", path.display());
        if self.told != why {
            warn!("sequence numbers of manual keys cannot be set aside: {why}; this is tried again");
            (self.told, self.heard) = (why, 0);
        }
        for order in orders.iter().skip(self.heard) {
            self.listener.set_aside(order.ticket, Err(not_kept(&self.told)));
        }
        self.heard = orders.len();
        std::thread::sleep(AGAIN);
    }
}

/// What the files say, and the lock on them.
struct Kept {
    file: Lines,
    used_file: Lines,
    _lock: File,
    /// The last number that may have been used with each key.
    numbers: BTreeMap<Mark, u64>,
    unwritten: bool,
    /// The keys that were ever used, and how far at least.
    used: BTreeMap<Mark, u64>,
    unlisted: bool,
    /// Which those are cannot be read.
    unknown: bool,
}

impl Kept {
    fn open(folder: &Path) -> io::Result<Self> {
        let lock = kept::own(folder, |folder| {
            lasts(&File::open(folder)?)?;
            kept::private().truncate(false).open(folder.join(LOCK))
        })?;
        let (file, used_file) = (Lines::new(folder, FILE, "keys"), Lines::new(folder, USED, "keys"));
        let (used, unknown) = used(&used_file)?;
        let numbers = numbers(&file)?;
        Ok(Self { file, used_file, _lock: lock, numbers, unwritten: false, used, unlisted: false, unknown })
    }

    /// Sets aside what is ordered, all in one step. What the disk refuses is tried again when `wait` returns: what was worked
    /// out stays, so that a disk that is full for long costs no numbers.
    fn set_aside(&mut self, orders: &[Order], mut wait: impl FnMut(&Path, &io::Error)) -> Vec<Outcome> {
        let outcomes = orders.iter().map(|order| self.next(order)).collect();
        let numbers = || self.numbers.iter().map(|(mark, until)| Line { key: mark.printed(), until: *until });
        while self.unwritten
            && let Err(error) = self.file.write(numbers())
        {
            wait(&self.file.path(), &error);
        }
        // Behind the numbers: a key that is listed and has none is one whose numbers are lost.
        let used = || self.used.iter().map(|(mark, past)| Used { key: mark.printed(), past: *past });
        while self.unlisted
            && let Err(error) = self.used_file.write(used())
        {
            wait(&self.used_file.path(), &error);
        }
        (self.unwritten, self.unlisted) = (false, false);
        outcomes
    }

    /// The numbers for one order, taken off those that there are.
    fn next(&mut self, order: &Order) -> Outcome {
        let (known, listed) = (self.numbers.get(&order.mark).copied(), self.used.get(&order.mark).copied());
        match (known, listed) {
            (None, _) if self.unknown => return Err(unknown(&self.used_file.path())),
            // So many were set aside when it was last taken up, at least.
            (None, Some(past)) if order.stated < past.saturating_add(STEP) => {
                return Err(lost(&self.file.path(), past.saturating_add(STEP)));
            }
            _ => {}
        }
        let after = known.unwrap_or(0).max(order.after);
        let until = after.saturating_add(STEP).min(order.last).max(after); // none, where they are used up
        if known != Some(until) {
            self.numbers.insert(order.mark, until);
            self.unwritten = true;
        }
        // Whoever goes on behind his last numbers is listed with those that he had at the start.
        let past = known.filter(|known| *known > order.after).unwrap_or(0).max(order.stated);
        if !self.unknown && listed.is_none_or(|listed| past > listed) {
            self.used.insert(order.mark, past);
            self.unlisted = true;
        }
        if !self.unknown && !self.numbers.contains_key(&order.theirs) && !self.used.contains_key(&order.theirs) {
            self.used.insert(order.theirs, 0);
            self.unlisted = true;
        }
        Ok(Numbers { after, until })
    }
}

/// Whether what stands in a folder is there after a restart of the machine.
fn lasts(folder: &File) -> io::Result<()> {
    /// Of `linux/magic.h`.
    const RAMFS_MAGIC: u32 = 0x8584_58f6;
    let kind = fstatfs(folder)?.filesystem_type();
    if kind == TMPFS_MAGIC || kind.0 as u32 == RAMFS_MAGIC {
        return Err(io::Error::other("it is in memory, and gone when the machine starts anew"));
    }
    Ok(())
}

/// The keys that were ever used, and whether there may have been others.
fn used(file: &Lines) -> io::Result<(BTreeMap<Mark, u64>, bool)> {
    let Some(Read { lines, fault }) = file.read::<Used>()? else { return Ok((BTreeMap::new(), false)) };
    let used: Option<_> = lines.iter().map(|Used { key, past }| Some((Mark::read(key)?, *past))).collect();
    let fault = fault.or_else(|| used.is_none().then(|| NO_KEY.to_owned()));
    if let Some(fault) = &fault {
        let (path, other) = (file.path(), FILE);
        warn!("{} is damaged ({fault}): no manual key is used but those in {other}", path.display());
    }
    Ok((used.filter(|_| fault.is_none()).unwrap_or_default(), fault.is_some()))
}

/// What the file says. One that cannot be read as a whole may say too little: it is set aside, and nothing of it holds.
fn numbers(file: &Lines) -> io::Result<BTreeMap<Mark, u64>> {
    let Some(Read { lines, fault }) = file.read::<Line>()? else { return Ok(BTreeMap::new()) };
    let numbers: Option<_> = lines.iter().map(|Line { key, until }| Some((Mark::read(key)?, *until))).collect();
    match (numbers, fault) {
        (Some(numbers), None) => Ok(numbers),
        (_, fault) => {
            let (path, fault, aside) = (file.path(), fault.unwrap_or_else(|| NO_KEY.to_owned()), file.set_aside()?);
            let (path, aside) = (path.display(), aside.display());
            warn!("{path} is damaged ({fault}): no manual key that was used before is used again; it is now {aside}");
            Ok(BTreeMap::new())
        }
    }
}

const NO_KEY: &str = "a line has no key";

/// Nothing can be set aside.
fn not_kept(why: &str) -> Cause {
    Cause {
        code: "sequence-not-kept",
        text: format!("sequence numbers cannot be kept from being used twice: {why}"),
        hint: "name a directory that outlasts a restart of the machine and is this daemon's alone, run --state DIRECTORY: the one \
               that it had before, or another one together with new keys, as numbers begin anew there"
            .to_owned(),
        kind: Kind::Refusal,
    }
}

/// Nobody knows which numbers were used, but that it may be all up to this one.
fn lost(file: &Path, past: u64) -> Cause {
    Cause {
        code: "sequence-lost",
        text: format!("this key was used before, and {} does not say how far any more", file.display()),
        hint: format!(
            "write a new key, there and at the peer. Only if you know that it sent fewer packets than that since it was last \
             started: sequence = {past}; if it sent more, as many more"
        ),
        kind: Kind::Refusal,
    }
}

/// Nobody knows whether any numbers were used.
fn unknown(file: &Path) -> Cause {
    Cause {
        code: "sequence-lost",
        text: format!("{} is damaged, and nobody can say whether this key was used before", file.display()),
        hint: "write new keys for all [[sa]] that are refused so, there and at the peer; then remove that file and start anew"
            .to_owned(),
        kind: Kind::Refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NEW: &str = "sequence.new";

    /// A folder that goes with its value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(what: &str) -> Self {
            // What is under /tmp may be in memory.
            let path = PathBuf::from(format!("/var/tmp/portcullis-sequence-{what}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn open(&self) -> Kept {
            Kept::open(&self.0).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// With what the operator wrote.
    fn order(key: u8, stated: u64) -> Order {
        Order {
            ticket: Ticket(0),
            mark: Mark([key; 32]),
            theirs: Mark([0xff; 32]),
            after: stated,
            stated,
            last: u64::MAX,
        }
    }

    /// What one order comes to: the numbers, or the code of what refuses it.
    fn ask(kept: &mut Kept, order: Order) -> Result<(u64, u64), &'static str> {
        let outcome = kept.set_aside(&[order], |path, error| panic!("{}: {error}", path.display())).remove(0);
        outcome.map(|numbers| (numbers.after, numbers.until)).map_err(|cause| cause.code)
    }

    #[test]
    fn each_start_and_each_order_begins_behind_all_that_was_set_aside_before() {
        let folder = Folder::new("behind");
        let mut kept = folder.open();
        assert_eq!(ask(&mut kept, order(1, 0)), Ok((0, STEP)));
        assert_eq!(ask(&mut kept, order(2, 7)), Ok((7, 7 + STEP)), "another key");
        assert_eq!(ask(&mut kept, order(1, STEP)), Ok((STEP, 2 * STEP)));
        drop(kept);
        let mut kept = folder.open();
        assert_eq!(ask(&mut kept, order(1, 0)), Ok((2 * STEP, 3 * STEP)));
        assert_eq!(ask(&mut kept, order(1, 9 * STEP)), Ok((9 * STEP, 10 * STEP)), "the operator may skip some");
        let both = kept.set_aside(&[order(1, 0), order(1, 0)], |_, error| panic!("{error}"));
        let numbers = |step: u64| Numbers { after: step * STEP, until: (step + 1) * STEP };
        assert_eq!(both, [Ok(numbers(10)), Ok(numbers(11))], "two orders in one step");
        let modes =
            [FILE, USED, LOCK].map(|name| fs::metadata(folder.0.join(name)).unwrap().permissions().mode() & 0o777);
        assert_eq!(modes, [0o600; 3]);
    }

    #[test]
    fn the_last_numbers_are_given_out_once() {
        let folder = Folder::new("last");
        let mut kept = folder.open();
        let near = Order { last: u64::from(u32::MAX), ..order(1, u64::from(u32::MAX) - 3) };
        assert_eq!(ask(&mut kept, near), Ok((near.after, near.last)));
        assert_eq!(ask(&mut kept, near), Ok((near.last, near.last)), "none is left");
        drop(kept);
        assert_eq!(ask(&mut folder.open(), near), Ok((near.last, near.last)));
    }

    #[test]
    fn a_key_whose_numbers_are_gone_is_refused_unless_the_operator_says_from_where_on() {
        type Loss = fn(&Path);
        let losses: [(&str, Loss); 4] = [
            ("gone", |folder| fs::remove_file(folder.join(FILE)).unwrap()),
            ("short", |folder| {
                let text = fs::read_to_string(folder.join(FILE)).unwrap();
                fs::write(folder.join(FILE), &text[..text.len() - 2]).unwrap();
            }),
            ("fewer", |folder| {
                let text = fs::read_to_string(folder.join(FILE)).unwrap();
                fs::write(folder.join(FILE), text.lines().next().unwrap()).unwrap();
            }),
            ("empty", |folder| fs::write(folder.join(FILE), "").unwrap()),
        ];
        for (what, loss) in losses {
            let folder = Folder::new(what);
            ask(&mut folder.open(), order(1, 0)).unwrap();
            loss(&folder.0);
            let mut kept = folder.open();
            assert_eq!(ask(&mut kept, order(1, 0)), Err("sequence-lost"), "{what}");
            assert_eq!(ask(&mut kept, order(2, 0)), Ok((0, STEP)), "{what}: a new key");
            assert_eq!(ask(&mut kept, order(1, 5 * STEP)), Ok((5 * STEP, 6 * STEP)), "{what}");
            drop(kept);
            assert_eq!(ask(&mut folder.open(), order(1, 5 * STEP)), Ok((6 * STEP, 7 * STEP)), "{what}: from then on");
            // What the operator wrote then stands there still, and numbers behind it are used.
            loss(&folder.0);
            let mut kept = folder.open();
            assert_eq!(ask(&mut kept, order(1, 5 * STEP)), Err("sequence-lost"), "{what}: once more");
            assert_eq!(ask(&mut kept, order(1, 6 * STEP)), Err("sequence-lost"), "{what}: that far it was at a start");
            assert_eq!(ask(&mut kept, order(1, 7 * STEP)), Ok((7 * STEP, 8 * STEP)), "{what}");
        }
    }

    #[test]
    fn a_key_that_the_peer_counted_with_is_no_new_one_after_a_restart_either() {
        let folder = Folder::new("theirs");
        let (ours, theirs) = (Mark([1; 32]), Mark([2; 32]));
        assert!(ask(&mut folder.open(), Order { mark: ours, theirs, ..order(1, 0) }).is_ok());
        let mut kept = folder.open();
        let exchanged = Order { mark: theirs, theirs: ours, ..order(2, 0) };
        assert_eq!(ask(&mut kept, exchanged), Err("sequence-lost"));
        // What the operator says of it holds, as of any key; and our own goes on as before.
        assert_eq!(ask(&mut kept, Order { after: 70, stated: 70, ..exchanged }), Err("sequence-lost"));
        assert_eq!(ask(&mut kept, Order { after: STEP, stated: STEP, ..exchanged }), Ok((STEP, 2 * STEP)));
        assert_eq!(ask(&mut kept, Order { mark: ours, theirs, ..order(1, 0) }), Ok((STEP, 2 * STEP)));
    }

    #[test]
    fn a_sequence_that_stood_there_from_the_beginning_says_nothing_of_a_key_whose_numbers_are_gone() {
        let folder = Folder::new("stood");
        ask(&mut folder.open(), order(1, 1000)).unwrap();
        fs::remove_file(folder.0.join(FILE)).unwrap();
        let mut kept = folder.open();
        let short = [0, 1, 1000, 1001, 999 + STEP];
        assert_eq!(short.map(|stated| ask(&mut kept, order(1, stated))), [Err("sequence-lost"); 5]);
        assert_eq!(ask(&mut kept, order(1, 2 * STEP)), Ok((2 * STEP, 3 * STEP)));
        // One that is no more beside it does not undo that.
        assert_eq!(ask(&mut kept, order(1, 0)), Ok((3 * STEP, 4 * STEP)));
        drop(kept);
        fs::remove_file(folder.0.join(FILE)).unwrap();
        assert_eq!(ask(&mut folder.open(), order(1, 2 * STEP)), Err("sequence-lost"));
    }

    #[test]
    fn where_nobody_knows_which_keys_were_used_only_those_with_numbers_are() {
        let cuts: [fn(&str) -> &str; 3] =
            [|text| &text[..text.len() - 9], |text| text.rsplit_once("\n{").unwrap().0, |_| ""];
        for cut in cuts {
            let folder = Folder::new("keys");
            ask(&mut folder.open(), order(1, 0)).unwrap();
            ask(&mut folder.open(), order(2, 0)).unwrap();
            let text = fs::read_to_string(folder.0.join(USED)).unwrap();
            fs::write(folder.0.join(USED), cut(&text)).unwrap();
            let mut kept = folder.open();
            assert_eq!(ask(&mut kept, order(1, 0)), Ok((STEP, 2 * STEP)));
            assert_eq!([0, 1].map(|stated| ask(&mut kept, order(3, stated))), [Err("sequence-lost"); 2]);
            drop(kept);
            fs::remove_file(folder.0.join(FILE)).unwrap();
            assert_eq!([0, 1].map(|stated| ask(&mut folder.open(), order(1, stated))), [Err("sequence-lost"); 2]);
            // What a cause says: with new keys it may go.
            fs::remove_file(folder.0.join(USED)).unwrap();
            assert_eq!(ask(&mut folder.open(), order(3, 0)), Ok((0, STEP)));
        }
    }

    #[test]
    fn a_disk_that_refuses_something_for_long_is_named_and_costs_no_numbers() {
        for (name, refused) in [(NEW, FILE), (USED, USED)] {
            let folder = Folder::new("full");
            let mut kept = folder.open();
            fs::create_dir(folder.0.join(name)).unwrap(); // nothing can be written there
            let mut refusals = 0;
            let outcomes = kept.set_aside(&[order(1, 0)], |path, _| {
                assert_eq!(path, folder.0.join(refused));
                refusals += 1;
                if refusals == 5 {
                    fs::remove_dir(folder.0.join(name)).unwrap();
                }
            });
            assert_eq!((outcomes, refusals), (vec![Ok(Numbers { after: 0, until: STEP })], 5));
            drop(kept);
            assert_eq!(ask(&mut folder.open(), order(1, 0)), Ok((STEP, 2 * STEP)));
        }
    }

    #[test]
    fn what_was_written_before_a_kill_in_between_is_used_by_nobody_and_the_key_goes_on() {
        let folder = Folder::new("between");
        let mut kept = folder.open();
        kept.next(&order(1, 0)).unwrap();
        kept.file.write([Line { key: Mark([1; 32]).printed(), until: STEP }].iter()).unwrap();
        drop(kept);
        assert_eq!(ask(&mut folder.open(), order(1, 0)), Ok((STEP, 2 * STEP)));
    }

    #[test]
    fn memory_is_no_place_for_what_is_to_last() {
        let folder = PathBuf::from(format!("/dev/shm/portcullis-sequence-{}", std::process::id()));
        let error = Kept::open(&folder).err().unwrap();
        fs::remove_dir(&folder).unwrap();
        assert!(error.to_string().contains("in memory"), "{error}");
    }

    /// Whom a thread tells.
    impl Listener for Sender<(Ticket, Outcome)> {
        fn set_aside(&self, ticket: Ticket, outcome: Outcome) {
            drop(self.send((ticket, outcome)));
        }
    }

    impl Plain for Sender<(Ticket, Outcome)> {}

    #[test]
    fn a_folder_that_cannot_be_opened_is_tried_until_it_can_and_all_who_wait_know_why() {
        let folder = Folder::new("later");
        let first = folder.open();
        let (tell, told) = mpsc::channel();
        let sequence = Sequence::start(Some(&folder.0), tell).unwrap();
        let hear = || told.recv_timeout(Duration::from_secs(20)).unwrap();
        for ticket in [7, 8] {
            sequence.order(Order { ticket: Ticket(ticket), ..order(ticket as u8, 0) });
            let (about, outcome) = hear();
            assert_eq!((about, outcome.unwrap_err().code), (Ticket(ticket), "sequence-not-kept"));
        }
        drop(first);
        assert_eq!([hear(), hear()], [7, 8].map(|it| (Ticket(it), Ok(Numbers { after: 0, until: STEP }))));
    }

    #[test]
    fn two_daemons_do_not_share_a_folder() {
        let folder = Folder::new("two");
        let _first = folder.open();
        assert_eq!(Kept::open(&folder.0).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }
}
