//! How far manual keys may have been used, over restarts: a file with a JSON object a line, beside the accounts. Numbers are set
//! aside there before they are used, so that a kill at any moment, or a power failure, has none used twice. No key stands in it,
//! but what only who has the key can compute of it.
//!
//! A second file lists the keys that were ever used. Where the first one is gone or damaged, it says whose numbers are lost: such
//! a key is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use gateway_core::cause::{Cause, Kind};
use gateway_core::gateway::{Numbers, Ticket};
use ike_core::crypto::{Digest64, IkeCrypto as _, PrfAlg};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::disk::{self, Plain};
use crate::provider;

const FILE: &str = "sequence.jsonl";
/// What is being written, and what could not be read.
const NEW: &str = "sequence.new";
const ASIDE: &str = "sequence.unreadable";
/// The keys that were ever used, one a line.
const USED: &str = "sequence.keys";
/// Whoever has it locked is the only one who sets numbers aside here.
const LOCK: &str = "sequence.lock";
const VERSION: u32 = 1;

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
    pub(crate) after: u64,
    /// Whether the operator wrote that number.
    pub(crate) stated: bool,
    /// The last number there is.
    pub(crate) last: u64,
}

/// What came of an order.
pub(crate) type Outcome = Result<Numbers, Cause>;

/// Whom the thread tells.
pub(crate) trait Listener: Plain {
    fn set_aside(&self, ticket: Ticket, outcome: Outcome);
}

impl Plain for Order {}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    /// How many lines follow.
    keys: usize,
}

/// A key, and the last number that may have been used with it.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    until: u64,
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
    // Nothing is touched where there are no manual keys.
    let Ok(first) = ordered.recv() else { return };
    let opened = folder
        .ok_or_else(|| not_kept("nobody named a directory for that"))
        .and_then(|folder| Kept::open(&folder).map_err(|error| not_kept(&format!("{}: {error}", folder.display()))));
    let mut kept = match opened {
        Ok(kept) => kept,
        Err(cause) => {
            let all = std::iter::once(first).chain(ordered);
            return all.for_each(|order| listener.set_aside(order.ticket, Err(cause.clone())));
        }
    };
    let mut next = Some(first);
    while let Some(first) = next {
        let orders: Vec<_> = std::iter::once(first).chain(ordered.try_iter()).collect();
        let mut failed = false;
        // Nobody is told before it is on the disk: until then nothing is sent.
        let outcomes = loop {
            match kept.set_aside(&orders) {
                Ok(outcomes) => break outcomes,
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!(
                            "sequence numbers of manual keys cannot be set aside: {}: {error}; this is tried again, and \
                             nothing is sent with keys whose numbers are used up",
                            kept.folder.join(FILE).display()
                        );
                    }
                    std::thread::sleep(AGAIN);
                }
            }
        };
        if failed {
            info!("sequence numbers of manual keys are set aside again");
        }
        for (order, outcome) in orders.iter().zip(outcomes) {
            listener.set_aside(order.ticket, outcome);
        }
        next = ordered.recv().ok();
    }
}

/// What the files say, and the lock on them.
struct Kept {
    folder: PathBuf,
    _lock: File,
    /// The last number that may have been used with each key.
    numbers: BTreeMap<Mark, u64>,
    /// The keys that were ever used.
    used: BTreeSet<Mark>,
    /// Which those are cannot be read.
    unknown: bool,
}

impl Kept {
    fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = private().write(true).create(true).truncate(false).open(folder.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::AddrInUse, "another portcullis keeps it there")
            }
            fs::TryLockError::Error(error) => error,
        })?;
        let (used, unknown) = match text(&folder.join(USED))? {
            None => (BTreeSet::new(), false),
            Some(text) => {
                let marks: Vec<_> = text.lines().map(Mark::read).collect();
                let whole = marks.iter().all(Option::is_some) && (text.is_empty() || text.ends_with('\n'));
                (marks.into_iter().flatten().collect(), !whole)
            }
        };
        let numbers = numbers(folder)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock, numbers, used, unknown })
    }

    /// Sets aside what is ordered, all in one step.
    ///
    /// # Errors
    /// What the disk says. Then nothing of it may be used.
    fn set_aside(&mut self, orders: &[Order]) -> io::Result<Vec<Outcome>> {
        let mut numbers = self.numbers.clone();
        let outcomes: Vec<_> = orders.iter().map(|order| self.next(order, &mut numbers)).collect();
        if numbers != self.numbers {
            write(&self.folder, &numbers)?;
            self.numbers = numbers;
        }
        let new: Vec<_> = self.numbers.keys().filter(|mark| !self.used.contains(mark)).copied().collect();
        if !new.is_empty() {
            let mut file = private().append(true).create(true).open(self.folder.join(USED))?;
            let lines: String = new.iter().map(|mark| mark.printed() + "\n").collect();
            file.write_all(lines.as_bytes())?;
            file.sync_all()?;
            File::open(&self.folder)?.sync_all()?;
            self.used.extend(new);
        }
        Ok(outcomes)
    }

    /// The numbers for one order, taken off those that there are.
    fn next(&self, order: &Order, numbers: &mut BTreeMap<Mark, u64>) -> Outcome {
        let known = numbers.get(&order.mark).copied();
        if known.is_none() && !order.stated && (self.unknown || self.used.contains(&order.mark)) {
            return Err(lost(&self.folder));
        }
        let after = known.unwrap_or(0).max(order.after);
        let until = after.saturating_add(STEP).min(order.last);
        if until > after {
            numbers.insert(order.mark, until);
        }
        Ok(Numbers { after, until: until.max(after) }) // none, where they are used up
    }
}

/// What the file says. One that cannot be read as a whole may say too little: it is set aside, and nothing of it holds.
fn numbers(folder: &Path) -> io::Result<BTreeMap<Mark, u64>> {
    let path = folder.join(FILE);
    let Some(text) = text(&path)? else { return Ok(BTreeMap::new()) };
    read(&text).or_else(|fault| {
        let aside = folder.join(ASIDE);
        fs::rename(&path, &aside)?;
        let (path, aside) = (path.display(), aside.display());
        warn!("{path} is damaged ({fault}): no manual key that was used before is used again; it is now {aside}");
        Ok(BTreeMap::new())
    })
}

/// The numbers in a text, or what is wrong with it.
fn read(text: &str) -> Result<BTreeMap<Mark, u64>, String> {
    let mut lines = text.lines();
    let head: Head =
        serde_json::from_str(lines.next().unwrap_or_default()).map_err(|error| format!("line 1: {error}"))?;
    if head.version != VERSION {
        return Err(format!("it is of version {}", head.version));
    }
    let mut numbers = BTreeMap::new();
    for (number, line) in (2..).zip(lines) {
        let Line { key, until } = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        let mark = Mark::read(&key).ok_or_else(|| format!("line {number}: no key"))?;
        numbers.insert(mark, until);
    }
    match numbers.len() {
        found if found == head.keys => Ok(numbers),
        found => Err(format!("it has {found} keys of {}", head.keys)),
    }
}

/// A file as text; none: it is not there.
fn text(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(|octets| Some(String::from_utf8_lossy(&octets).into_owned())),
    }
}

/// Replaces the file, as a whole or not at all.
fn write(folder: &Path, numbers: &BTreeMap<Mark, u64>) -> io::Result<()> {
    let new = folder.join(NEW);
    let written = write_to(&new, numbers).and_then(|()| fs::rename(&new, folder.join(FILE)));
    if written.is_err() {
        let _ = fs::remove_file(&new); // a full disk is not to be kept full
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

fn write_to(path: &Path, numbers: &BTreeMap<Mark, u64>) -> io::Result<()> {
    let mut file = BufWriter::new(private().write(true).create(true).truncate(true).open(path)?);
    serde_json::to_writer(&mut file, &Head { version: VERSION, keys: numbers.len() })?;
    for (mark, until) in numbers {
        file.write_all(b"\n")?;
        serde_json::to_writer(&mut file, &Line { key: mark.printed(), until: *until })?;
    }
    file.write_all(b"\n")?;
    file.into_inner()?.sync_all()
}

/// How a file of ours is opened.
fn private() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

/// Nothing can be set aside.
fn not_kept(why: &str) -> Cause {
    Cause {
        code: "sequence-not-kept",
        text: format!("sequence numbers cannot be kept from being used twice: {why}"),
        hint: "name a directory that outlasts a restart, and is this daemon's alone: run --state DIRECTORY".to_owned(),
        kind: Kind::Refusal,
    }
}

/// Nobody knows which numbers were used.
fn lost(folder: &Path) -> Cause {
    Cause {
        code: "sequence-lost",
        text: format!("this key was used before, and {} does not say how far any more", folder.join(FILE).display()),
        hint: "write a new key, there and at the peer, or sequence = … above all numbers that this key was used with"
            .to_owned(),
        kind: Kind::Refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that goes with its value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(what: &str) -> Self {
            let path = std::env::temp_dir().join(format!("portcullis-sequence-{what}-{}", std::process::id()));
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

    fn order(key: u8, after: u64) -> Order {
        Order { ticket: Ticket(0), mark: Mark([key; 32]), after, stated: after > 0, last: u64::MAX }
    }

    /// What one order comes to: the numbers, or the code of what refuses it.
    fn ask(kept: &mut Kept, order: Order) -> Result<(u64, u64), &'static str> {
        let outcome = kept.set_aside(&[order]).unwrap().remove(0);
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
        let both = kept.set_aside(&[order(1, 0), order(1, 0)]).unwrap();
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
        }
    }

    #[test]
    fn where_nobody_knows_which_keys_were_used_each_is_refused() {
        let folder = Folder::new("keys");
        ask(&mut folder.open(), order(1, 0)).unwrap();
        let text = fs::read_to_string(folder.0.join(USED)).unwrap();
        fs::write(folder.0.join(USED), &text[..30]).unwrap();
        fs::remove_file(folder.0.join(FILE)).unwrap();
        let mut kept = folder.open();
        assert_eq!(ask(&mut kept, order(2, 0)), Err("sequence-lost"));
        assert_eq!(ask(&mut kept, order(2, 1)), Ok((1, 1 + STEP)));
    }

    #[test]
    fn what_cannot_be_written_is_not_given_out() {
        let folder = Folder::new("full");
        let mut kept = folder.open();
        ask(&mut kept, order(1, 0)).unwrap();
        fs::create_dir(folder.0.join(NEW)).unwrap(); // nothing can be written there
        assert!(kept.set_aside(&[order(1, 0)]).is_err());
        fs::remove_dir(folder.0.join(NEW)).unwrap();
        assert_eq!(ask(&mut kept, order(1, 0)), Ok((STEP, 2 * STEP)));
    }

    #[test]
    fn two_daemons_do_not_share_a_folder() {
        let folder = Folder::new("two");
        let _first = folder.open();
        assert_eq!(Kept::open(&folder.0).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }
}
