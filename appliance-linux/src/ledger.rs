//! What went on each account, over restarts: a file with a JSON object a line, in the directory that systemd or the command
//! line gives us for what is to last. No key stands in it; an address does where somebody is known by it.
//!
//! A thread of its own reads and writes it, as a disk may take long: all of it beside the old one, which it then takes the
//! place of.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};

use gateway_core::gateway::{Account, Accounts, Totals};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::disk::{self, Plain};

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

/// What the thread says.
#[derive(Debug)]
pub(crate) enum Said {
    /// What an earlier run kept; none: there is no place to keep anything. First of all, once.
    Before(Option<Vec<(Account, Totals)>>),
    /// An order is done, or could not be; the log says which.
    Kept,
}

/// Whom the thread tells.
pub(crate) trait Listener: Plain {
    fn hear(&self, said: Said);
}

impl Plain for Accounts {}

/// The thread that keeps the file; it ends with this, when the disk lets it.
pub(crate) struct Ledger(Sender<Accounts>);

impl Ledger {
    /// Takes up what the file in this folder says, which is told, and answers from then on. Whatever is wrong with it is
    /// logged, and ends nothing.
    ///
    /// # Errors
    /// When the kernel grants no thread.
    pub(crate) fn start(folder: Option<&Path>, listener: impl Listener) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let folder = folder.map(Path::to_owned);
        disk::thread("ledger", (folder, ordered, listener), run)?;
        Ok(Self(orders))
    }

    /// Has the accounts written if they changed.
    pub(crate) fn keep(&self, accounts: Accounts) {
        let _ = self.0.send(accounts); // where nothing is kept nobody takes it
    }
}

fn run<L: Listener>((folder, ordered, listener): (Option<PathBuf>, Receiver<Accounts>, L)) {
    let Some(folder) = folder else {
        info!("what goes through is not kept over restarts: nobody named a directory for that (run --state)");
        return listener.hear(Said::Before(None));
    };
    let opened = own(&folder).and_then(|lock| Ok((lock, load(&folder)?)));
    let _lock = match opened {
        Ok((lock, before)) => {
            listener.hear(Said::Before(Some(before)));
            lock
        }
        Err(error) => {
            warn!("what goes through is not kept over restarts: {}: {error}", folder.display());
            return listener.hear(Said::Before(None));
        }
    };
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
        listener.hear(Said::Kept);
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
    use std::time::Duration;

    use super::*;

    /// Long enough for whatever must happen.
    const SOON: Duration = Duration::from_secs(10);

    /// A ledger, and what it tells.
    struct Kept {
        ledger: Ledger,
        told: Receiver<Said>,
    }

    impl Plain for Said {}

    impl Listener for Sender<Said> {
        fn hear(&self, said: Said) {
            drop(self.send(said));
        }
    }

    impl Kept {
        /// And what an earlier one kept.
        fn open(folder: &Path) -> (Self, Option<Vec<(Account, Totals)>>) {
            let (tell, told) = mpsc::channel();
            let ledger = Ledger::start(Some(folder), tell).unwrap();
            let before = match told.recv_timeout(SOON) {
                Ok(Said::Before(before)) => before,
                other => panic!("{other:?}"),
            };
            (Self { ledger, told }, before)
        }

        fn keep(&self, accounts: Accounts) {
            self.ledger.keep(accounts);
            assert!(matches!(self.told.recv_timeout(SOON), Ok(Said::Kept)));
        }

        /// Returns when nobody holds the folder any more.
        fn close(self, accounts: Accounts) {
            self.keep(accounts);
            drop(self.ledger);
            assert!(self.told.recv_timeout(SOON).is_err());
        }
    }

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
        let (ledger, before) = Kept::open(&folder.0);
        assert_eq!(before, Some(Vec::new()));
        ledger.keep(accounts(&[("a", 1)]));
        ledger.close(accounts(&[("a", 2), ("b", 3)]));
        let (_ledger, after) = Kept::open(&folder.0);
        assert_eq!(after, Some(as_kept(&[("a", 2), ("b", 3)])));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&folder.0.join(FILE))), (0o700, 0o600));
        assert!(!folder.0.join(NEW).exists());
    }

    #[test]
    fn what_is_left_half_written_by_an_end_in_between_takes_nothing_away() {
        let folder = Folder::new("half");
        Kept::open(&folder.0).0.close(accounts(&[("a", 2)]));
        fs::write(folder.0.join(NEW), "{\"version\":1,\"acc").unwrap();
        let (ledger, before) = Kept::open(&folder.0);
        assert_eq!(before, Some(as_kept(&[("a", 2)])));
        ledger.close(accounts(&[("a", 3)]));
        assert_eq!(read(&folder.text(FILE)), (as_kept(&[("a", 3)]), None));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_what_can_be_read_of_it_goes_on() {
        let whole = |folder: &Folder| {
            Kept::open(&folder.0).0.close(accounts(&[("a", 1), ("b", 2), ("c", 3)]));
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
            let (ledger, before) = Kept::open(&folder.0);
            assert_eq!(before, Some(as_kept(left)), "{what}");
            assert_eq!(fs::read(folder.0.join(ASIDE)).unwrap(), damaged, "{what}");
            ledger.close(accounts(left));
            assert_eq!(read(&folder.text(FILE)), (as_kept(left), None), "{what}");
        }
    }

    #[test]
    fn where_it_cannot_be_written_the_old_one_stays_and_it_goes_on_once_it_can() {
        let folder = Folder::new("full");
        let (ledger, _) = Kept::open(&folder.0);
        ledger.keep(accounts(&[("a", 1)]));
        // Nothing can be written there.
        fs::create_dir(folder.0.join(NEW)).unwrap();
        ledger.keep(accounts(&[("a", 2)]));
        assert_eq!(read(&folder.text(FILE)), (as_kept(&[("a", 1)]), None));
        fs::remove_dir(folder.0.join(NEW)).unwrap();
        ledger.close(accounts(&[("a", 2)]));
        assert_eq!(read(&folder.text(FILE)), (as_kept(&[("a", 2)]), None));
    }

    #[test]
    fn two_daemons_do_not_keep_theirs_in_one_place_and_who_has_none_goes_on() {
        let folder = Folder::new("two");
        let (first, _) = Kept::open(&folder.0);
        let (second, before) = Kept::open(&folder.0);
        assert_eq!(before, None);
        second.ledger.keep(accounts(&[("a", 1)])); // nobody writes it
        assert!(second.told.recv_timeout(SOON).is_err(), "it has ended");
        assert_eq!(folder.text(FILE), "");
        first.close(accounts(&[("b", 1)]));
        assert_eq!(read(&folder.text(FILE)).0, as_kept(&[("b", 1)]));
        fs::write(folder.0.join("file"), "").unwrap();
        assert_eq!(Kept::open(&folder.0.join("file/below")).1, None);
    }
}
