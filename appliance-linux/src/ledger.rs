//! What went on each account, over restarts: a file with a JSON object a line, in the directory that systemd or the command
//! line gives us for what is to last. No key stands in it; an address does where somebody is known by it.
//!
//! A thread of its own writes it, as a disk may take long: all of it beside the old one, which it then takes the place of.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use gateway_core::gateway::{Account, Accounts, Totals};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// How often it is written what changed: who kills the daemon loses so much.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the end waits for the disk.
const LAST: Duration = Duration::from_secs(5);

const FILE: &str = "accounts.jsonl";
/// What is being written, and what could not be read.
const NEW: &str = "accounts.new";
const ASIDE: &str = "accounts.unreadable";
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    /// How many lines follow.
    accounts: usize,
}

/// An account, and what went on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) peer: String,
    pub(crate) child: String,
    pub(crate) party: String,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
}

impl Entry {
    pub(crate) fn of(account: &Account, totals: &Totals) -> Self {
        let Account { peer, child, party } = account.clone();
        let Totals { bytes_in, bytes_out, packets_in, packets_out } = *totals;
        Self { peer, child, party, bytes_in, bytes_out, packets_in, packets_out }
    }

    fn into_parts(self) -> (Account, Totals) {
        let Self { peer, child, party, bytes_in, bytes_out, packets_in, packets_out } = self;
        (Account { peer, child, party }, Totals { bytes_in, bytes_out, packets_in, packets_out })
    }
}

/// Keeps the file, if there is a place for it.
pub(crate) struct Ledger(Option<Keeper>);

struct Keeper {
    orders: Sender<Accounts>,
    /// An answer for each order.
    done: Receiver<()>,
    ordered: usize,
    due: Instant,
}

impl Ledger {
    /// Takes up what the file in this folder says. Whatever is wrong with it is told, and ends nothing.
    pub(crate) fn open(folder: Option<&Path>) -> (Self, Vec<(Account, Totals)>) {
        let Some(folder) = folder else {
            info!("what goes through is not kept over restarts: nobody named a directory for that (run --state)");
            return (Self(None), Vec::new());
        };
        let opened = own(folder).and_then(|lock| {
            let accounts = load(folder)?;
            Ok((Keeper::start(folder.to_owned(), lock)?, accounts))
        });
        match opened {
            Ok((keeper, accounts)) => (Self(Some(keeper)), accounts),
            Err(error) => {
                warn!("what goes through is not kept over restarts: {}: {error}", folder.display());
                (Self(None), Vec::new())
            }
        }
    }

    /// When the accounts are to be kept next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.as_ref().map(|keeper| keeper.due)
    }

    /// Has the accounts written if they changed. Where the disk is still busy with the last ones, the next time will do.
    pub(crate) fn keep(&mut self, now: Instant, accounts: Accounts) {
        let Some(keeper) = &mut self.0 else { return };
        keeper.due = now + PERIOD;
        keeper.ordered -= keeper.done.try_iter().count().min(keeper.ordered);
        if keeper.ordered == 0 {
            keeper.order(accounts);
        }
    }

    /// The same for the last time, and waits until it is done, or for as long as one waits for a disk.
    pub(crate) fn close(self, accounts: Accounts) {
        let Some(mut keeper) = self.0 else { return };
        keeper.order(accounts);
        let Keeper { orders, done, .. } = keeper;
        drop(orders);
        let until = Instant::now() + LAST;
        loop {
            match done.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return, // and nobody holds the folder
                Err(RecvTimeoutError::Timeout) => {
                    return warn!("the disk takes too long: what went through since it was kept last is lost");
                }
            }
        }
    }
}

impl Keeper {
    fn start(folder: PathBuf, lock: File) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel::<Accounts>();
        let (tell, done) = mpsc::channel();
        thread::Builder::new().name("ledger".into()).spawn(move || {
            let _lock = lock;
            let (mut kept, mut failed) = (None, false);
            for accounts in ordered {
                if kept.as_ref() != Some(&accounts) {
                    let written = write(&folder, &accounts);
                    match (&written, failed) {
                        (Err(error), false) => warn!(
                            "what went through cannot be kept: {}: {error}; this is tried again",
                            folder.join(FILE).display()
                        ),
                        (Ok(()), true) => info!("what went through is kept again"),
                        _ => {}
                    }
                    failed = written.is_err();
                    kept = written.is_ok().then_some(accounts);
                }
                let _ = tell.send(()); // nobody waits at the end
            }
        })?;
        Ok(Self { orders, done, ordered: 0, due: Instant::now() })
    }

    fn order(&mut self, accounts: Accounts) {
        self.ordered += usize::from(self.orders.send(accounts).is_ok());
    }
}

/// Makes the folder if need be. Whoever has the value has it for himself: two daemons in different networks would overwrite
/// what the other wrote.
fn own(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let held = File::open(folder)?;
    held.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(io::ErrorKind::AddrInUse, "another portcullis keeps it there"),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(held)
}

/// What the file says, as far as it can be read; where it cannot, it is set aside.
fn load(folder: &Path) -> io::Result<Vec<(Account, Totals)>> {
    let path = folder.join(FILE);
    let octets = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let (accounts, fault) = read(&String::from_utf8_lossy(&octets));
    if let Some(fault) = fault {
        let aside = folder.join(ASIDE);
        fs::rename(&path, &aside)?;
        let (path, aside, read) = (path.display(), aside.display(), accounts.len());
        warn!("{path} is damaged ({fault}): accounts go on with the {read} in it that can be read; it is now {aside}");
    }
    Ok(accounts)
}

/// The accounts in a text, and the first thing that is wrong with it.
fn read(text: &str) -> (Vec<(Account, Totals)>, Option<String>) {
    let (mut accounts, mut fault) = (Vec::new(), None);
    let mut lines = text.lines();
    let head = lines.next().map(serde_json::from_str::<Head>);
    for (number, line) in (2..).zip(lines) {
        match serde_json::from_str::<Entry>(line) {
            Ok(entry) => accounts.push(entry.into_parts()),
            Err(error) => _ = fault.get_or_insert_with(|| format!("line {number}: {error}")),
        }
    }
    let of_the_whole = match head {
        None => Some("it is empty".to_owned()),
        Some(Err(error)) => Some(format!("line 1: {error}")),
        Some(Ok(head)) if head.version != VERSION => Some(format!("it is of version {}", head.version)),
        Some(Ok(head)) => {
            let found = accounts.len();
            (found != head.accounts).then(|| format!("it has {found} accounts of {}", head.accounts))
        }
    };
    (accounts, fault.or(of_the_whole))
}

/// Replaces the file, as a whole or not at all.
fn write(folder: &Path, accounts: &Accounts) -> io::Result<()> {
    let new = folder.join(NEW);
    let written = write_to(&new, accounts).and_then(|()| fs::rename(&new, folder.join(FILE)));
    if written.is_err() {
        let _ = fs::remove_file(&new); // a full disk is not to be kept full
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

fn write_to(path: &Path, accounts: &Accounts) -> io::Result<()> {
    let mut new = File::options();
    new.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = BufWriter::new(new.open(path)?);
    serde_json::to_writer(&mut file, &Head { version: VERSION, accounts: accounts.len() })?;
    for (account, totals) in accounts {
        file.write_all(b"\n")?;
        serde_json::to_writer(&mut file, &Entry::of(account, totals))?;
    }
    file.write_all(b"\n")?;
    file.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;

    /// A folder that goes with its value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(what: &str) -> Self {
            let path = std::env::temp_dir().join(format!("portcullis-ledger-{what}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn accounts(list: &[(&str, u64)]) -> Accounts {
        let account = |peer: &str| Account { peer: peer.into(), child: "net".into(), party: "a \"b\"\n.lab".into() };
        let totals = |octets| Totals { bytes_in: octets, bytes_out: u64::MAX, packets_in: 1, packets_out: 0 };
        list.iter().map(|(peer, octets)| (Arc::new(account(peer)), totals(*octets))).collect()
    }

    fn as_kept(list: &[(&str, u64)]) -> Vec<(Account, Totals)> {
        accounts(list).into_iter().map(|(account, totals)| ((*account).clone(), totals)).collect()
    }

    #[test]
    fn what_was_kept_last_is_there_at_the_next_start_and_only_root_reads_it() {
        let folder = Folder::new("kept");
        let (mut ledger, before) = Ledger::open(Some(&folder.0));
        assert!(before.is_empty() && ledger.due().is_some_and(|due| due <= Instant::now()));
        ledger.keep(Instant::now(), accounts(&[("a", 1)]));
        assert!(ledger.due().is_some_and(|due| due > Instant::now()));
        ledger.close(accounts(&[("a", 2), ("b", 3)]));
        let (_ledger, after) = Ledger::open(Some(&folder.0));
        assert_eq!(after, as_kept(&[("a", 2), ("b", 3)]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&folder.0.join(FILE))), (0o700, 0o600));
        assert!(!folder.0.join(NEW).exists());
    }

    #[test]
    fn what_is_left_half_written_by_an_end_in_between_takes_nothing_away() {
        let folder = Folder::new("half");
        Ledger::open(Some(&folder.0)).0.close(accounts(&[("a", 2)]));
        fs::write(folder.0.join(NEW), "{\"version\":1,\"acc").unwrap();
        let (ledger, before) = Ledger::open(Some(&folder.0));
        assert_eq!(before, as_kept(&[("a", 2)]));
        ledger.close(accounts(&[("a", 3)]));
        assert_eq!(read(&folder.text(FILE)), (as_kept(&[("a", 3)]), None));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_what_can_be_read_of_it_goes_on() {
        let whole = |folder: &Folder| {
            Ledger::open(Some(&folder.0)).0.close(accounts(&[("a", 1), ("b", 2), ("c", 3)]));
            folder.text(FILE)
        };
        /// What it is called, what it does to a text, and which accounts can be read then.
        type Damage = (&'static str, fn(&str) -> Vec<u8>, &'static [(&'static str, u64)]);
        let damages: [Damage; 6] = [
            ("octets", |text| text.replacen("\"b\"", "\u{0}\u{1}", 1).into_bytes(), &[("a", 1), ("c", 3)]),
            ("no-text", |text| [&b"\xff\xfe"[..], text.as_bytes()].concat(), &[("a", 1), ("b", 2), ("c", 3)]),
            ("short", |text| text.as_bytes()[..text.len() - 9].to_vec(), &[("a", 1), ("b", 2)]),
            ("fewer", |text| text.rsplitn(3, '\n').nth(2).unwrap().as_bytes().to_vec(), &[("a", 1), ("b", 2)]),
            ("later", |text| text.replacen('1', "2", 1).into_bytes(), &[("a", 1), ("b", 2), ("c", 3)]),
            ("empty", |_| Vec::new(), &[]),
        ];
        for (what, damage, left) in damages {
            let folder = Folder::new(what);
            let damaged = damage(&whole(&folder));
            fs::write(folder.0.join(FILE), &damaged).unwrap();
            let (ledger, before) = Ledger::open(Some(&folder.0));
            assert_eq!(before, as_kept(left), "{what}");
            assert_eq!(fs::read(folder.0.join(ASIDE)).unwrap(), damaged, "{what}");
            ledger.close(accounts(left));
            assert_eq!(read(&folder.text(FILE)), (as_kept(left), None), "{what}");
        }
    }

    #[test]
    fn where_it_cannot_be_written_the_old_one_stays_and_it_goes_on_once_it_can() {
        let folder = Folder::new("full");
        let (mut ledger, _) = Ledger::open(Some(&folder.0));
        ledger.keep(Instant::now(), accounts(&[("a", 1)]));
        let done = |ledger: &mut Ledger| {
            let keeper = ledger.0.as_mut().unwrap();
            keeper.done.recv().unwrap();
            keeper.ordered -= 1;
        };
        done(&mut ledger);
        // Nothing can be written there.
        fs::create_dir(folder.0.join(NEW)).unwrap();
        ledger.keep(Instant::now(), accounts(&[("a", 2)]));
        done(&mut ledger);
        assert_eq!(read(&folder.text(FILE)), (as_kept(&[("a", 1)]), None));
        fs::remove_dir(folder.0.join(NEW)).unwrap();
        ledger.close(accounts(&[("a", 2)]));
        assert_eq!(read(&folder.text(FILE)), (as_kept(&[("a", 2)]), None));
    }

    #[test]
    fn two_daemons_do_not_keep_theirs_in_one_place_and_who_has_none_goes_on() {
        let folder = Folder::new("two");
        let (first, _) = Ledger::open(Some(&folder.0));
        let (mut second, before) = Ledger::open(Some(&folder.0));
        assert!(first.due().is_some() && second.due().is_none() && before.is_empty());
        second.keep(Instant::now(), accounts(&[("a", 1)]));
        second.close(accounts(&[("a", 1)]));
        assert_eq!(folder.text(FILE), "");
        first.close(accounts(&[("b", 1)]));
        assert_eq!(read(&folder.text(FILE)).0, as_kept(&[("b", 1)]));
        fs::write(folder.0.join("file"), "").unwrap();
        assert_eq!(Ledger::open(Some(&folder.0.join("file/below"))).0.due(), None);
    }
}
