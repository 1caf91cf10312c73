//! What outlasts a restart: files with a JSON object a line, in a directory of the daemon's own. The first line says how many
//! follow, and each file is replaced as a whole or not at all: whatever is missing of it is noticed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

const VERSION: u64 = 1;

/// Makes the folder if need be, and locks what `held` opens there. Whoever has the value has it for himself: two daemons in
/// different networks would overwrite what the other wrote.
///
/// # Errors
/// `AddrInUse`: somebody has it already.
pub(crate) fn own(folder: &Path, held: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let held = held(folder)?;
    held.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(io::ErrorKind::AddrInUse, "another portcullis keeps it there"),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(held)
}

/// How a file of ours is written, and read by nobody else.
pub(crate) fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

/// One such file.
pub(crate) struct Lines {
    folder: PathBuf,
    name: &'static str,
    /// What there is one of in each line.
    of: &'static str,
}

/// What could be read of a file, and the first thing that is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read<T> {
    pub(crate) lines: Vec<T>,
    pub(crate) fault: Option<String>,
}

impl Lines {
    pub(crate) fn new(folder: &Path, name: &'static str, of: &'static str) -> Self {
        Self { folder: folder.to_owned(), name, of }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// What the file says; none: it is not there.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> io::Result<Option<Read<T>>> {
        match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(|octets| Some(self.parse(&String::from_utf8_lossy(&octets)))),
        }
    }

    /// The lines of a text.
    pub(crate) fn parse<T: DeserializeOwned>(&self, text: &str) -> Read<T> {
        let (mut read, mut fault, mut lines) = (Vec::new(), None, text.lines());
        let head = lines.next().map(serde_json::from_str::<Map<String, Value>>);
        for (number, line) in (2..).zip(lines) {
            match serde_json::from_str(line) {
                Ok(line) => read.push(line),
                Err(error) => _ = fault.get_or_insert_with(|| format!("line {number}: {error}")),
            }
        }
        let stated = |head: &Map<String, Value>, what: &str| head.get(what).and_then(Value::as_u64).unwrap_or_default();
        let of_the_whole = match head {
            None => Some("it is empty".to_owned()),
            Some(Err(error)) => Some(format!("line 1: {error}")),
            Some(Ok(head)) if stated(&head, "version") != VERSION => {
                Some(format!("it is of version {}", stated(&head, "version")))
            }
            Some(Ok(head)) => {
                let (found, of, there) = (read.len(), self.of, stated(&head, self.of));
                (found as u64 != there).then(|| format!("it has {found} {of} of {there}"))
            }
        };
        Read { lines: read, fault: fault.or(of_the_whole) }
    }

    /// Has a file that is damaged out of the way; returns where it is then.
    pub(crate) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path().with_extension("unreadable");
        fs::rename(self.path(), &aside)?;
        Ok(aside)
    }

    /// Replaces the file. When this returns, it outlasts a power failure.
    pub(crate) fn write<T: Serialize>(&self, lines: impl ExactSizeIterator<Item = T>) -> io::Result<()> {
        let new = self.path().with_extension("new");
        let written = self.write_to(&new, lines).and_then(|()| fs::rename(&new, self.path()));
        if written.is_err() {
            let _ = fs::remove_file(&new); // a full disk is not to be kept full
        }
        written.and_then(|()| File::open(&self.folder)?.sync_all())
    }

    fn write_to<T: Serialize>(&self, path: &Path, lines: impl ExactSizeIterator<Item = T>) -> io::Result<()> {
        let mut file = BufWriter::new(private().truncate(true).open(path)?);
        write!(file, "{{\"version\":{VERSION},\"{}\":{}}}", self.of, lines.len())?;
        for line in lines {
            file.write_all(b"\n")?;
            serde_json::to_writer(&mut file, &line)?;
        }
        file.write_all(b"\n")?;
        file.into_inner()?.sync_all()
    }
}
