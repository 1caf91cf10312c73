//! What went on each account, over restarts: a file with a JSON object a line, in the directory that systemd or the command
//! line gives us for what is to last. No key stands in it; an address does where somebody is known by it.
//!
//! A thread of its own reads and writes it, as a disk may take long: all of it beside the old one, which it then takes the
//! place of.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};

use gateway_core::gateway::{Account, Accounts, Totals};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::disk::{self, Plain};
use crate::kept::{self, Lines, Read};

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
    let file = file(&folder);
    let opened = kept::own(&folder, |folder| File::open(folder)).and_then(|lock| Ok((lock, load(&file)?)));
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
            let written = file.write(accounts.iter().map(|(account, totals)| Entry::of(account, totals)));
            match (&written, failed) {
                (Err(error), false) => {
                    warn!("what went through cannot be kept: {}: {error}; this is tried again", file.path().display());
                }
                (Ok(()), true) => info!("what went through is kept again"),
                _ => {}
            }
            failed = written.is_err();
            kept = written.is_ok().then_some(accounts);
        }
        listener.hear(Said::Kept);
    }
}

fn file(folder: &Path) -> Lines {
    Lines::new(folder, "accounts.jsonl", "accounts")
}

/// What the file says, as far as it can be read; where it cannot, it is set aside.
fn load(file: &Lines) -> io::Result<Vec<(Account, Totals)>> {
    let Some(Read { lines, fault }) = file.read::<Entry>()? else { return Ok(Vec::new()) };
    if let Some(fault) = fault {
        let aside = file.set_aside()?;
        let (path, aside, read) = (file.path(), aside.display(), lines.len());
        let path = path.display();
        warn!("{path} is damaged ({fault}): accounts go on with the {read} in it that can be read; it is now {aside}");
    }
    Ok(lines.into_iter().map(Entry::into_parts).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const FILE: &str = "accounts.jsonl";
    const NEW: &str = "accounts.new";
    const ASIDE: &str = "accounts.unreadable";

    /// What a text says, and what is wrong with it.
    fn read(text: &str) -> (Vec<(Account, Totals)>, Option<String>) {
        let Read { lines, fault } = file(Path::new("")).parse::<Entry>(text);
        (lines.into_iter().map(Entry::into_parts).collect(), fault)
    }

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
