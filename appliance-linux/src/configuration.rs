//! The configuration file: read, checked, and its errors told by place.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gateway_core::config::{Config, ConfigError, NoKey, Position, Warning};
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use crate::capacity::Need;

/// Larger files are no keys.
const KEY_FILE: u64 = 4096;
/// Larger files are no configurations.
const CONFIG_FILE: u64 = 4 << 20;

/// A configuration, and what was noticed about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// One line each: `file:line:column: warning: …`.
    pub(crate) warnings: Vec<String>,
}

/// Reads and checks a configuration with the keys it names.
///
/// # Errors
/// One line for each thing that is wrong: `file:line:column: what was expected`.
pub(crate) fn load(path: &Path) -> Result<Loaded, Vec<String>> {
    let (mut config, mut warnings) = parse(path)?;
    Need::of(&config).capacity().map_err(|found| vec![format!("{}: found {found}", path.display())])?;
    let peers = config.peers.iter().filter(|peer| peer.secret.loaded().is_some()).map(|peer| peer.at);
    let sas = config.manual.iter().flat_map(|pair| [&pair.outbound, &pair.inbound]);
    let keys = sas.filter(|sa| [&sa.key, &sa.integ_key].into_iter().flatten().any(|key| key.loaded().is_some()));
    let inline = peers.chain(keys.map(|sa| sa.at)).min();
    warnings.extend(config.load_secrets(|key| read_key(path, key)).map_err(|errors| told(path, &errors))?);
    if let Some(at) = inline
        && let Ok(found) = fs::metadata(path)
        && let Some(advice) = exposed(path, &found)
    {
        warnings.push(Warning { at, message: format!("a key stands in this file, which {advice}") });
    }
    let warnings = warnings.iter().map(|warning| format!("{}: warning: {warning}", Place(path, warning.at))).collect();
    Ok(Loaded { config, warnings })
}

/// Reads what is to be protected, for `block`: what only the daemon needs keeps nothing open. No key is asked for, and none
/// has to be there.
///
/// # Errors
/// As for [`load`].
pub(crate) fn without_keys(path: &Path) -> Result<Config, Vec<String>> {
    parse(path).map(|(config, _)| config)
}

/// The file as it is written, without the keys that stand elsewhere.
fn parse(path: &Path) -> Result<(Config, Vec<Warning>), Vec<String>> {
    let text = read(path, CONFIG_FILE).map_err(|why| {
        let mut lines = vec![format!("{}: {why}", path.display())];
        if path.try_exists().is_ok_and(|exists| !exists) {
            let hint = "hint: write it there (`portcullis help` shows a small one), or name its place with --config";
            lines.push(hint.to_owned());
        }
        lines
    })?;
    let text = std::str::from_utf8(&text).map_err(|error| {
        let before = String::from_utf8_lossy(text.get(..error.valid_up_to()).unwrap_or_default());
        let (line, column) =
            (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or("").chars().count() + 1);
        let told = "found an octet that is no text, expected UTF-8; save the file as plain UTF-8";
        vec![format!("{}:{line}:{column}: {told}", path.display())]
    })?;
    if says_nothing(text) {
        let told = "found a file that says nothing, expected a [[peer]], or [gateway] alone for no tunnel; it may be about to be \
                    written, and taken as it is it would open all that was protected";
        return Err(vec![format!("{}:1:1: {told}", path.display())]);
    }
    Config::parse(text).map_err(|errors| told(path, &errors))
}

/// Whether there is no key and no table. Whoever writes a file in place has it empty first, or for good where the disk is full.
fn says_nothing(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_start);
    lines.all(|line| line.is_empty() || line.starts_with('#'))
}

fn told(path: &Path, errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(|error| format!("{}: {error}", Place(path, error.at))).collect()
}

/// `file:line:column`.
struct Place<'p>(&'p Path, Position);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0.display(), self.1)
    }
}

/// A key file; a relative name starts at the folder of the configuration. The name is told only when there is such a file:
/// else it may be a key.
fn read_key(config: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>, NoKey> {
    let path = match config.parent() {
        Some(folder) => folder.join(name),
        None => PathBuf::from(name),
    };
    let (file, found) = plain(&path).map_err(|unread| match unread {
        Unread::Refused(error) => NoKey::Absent(format!("no file that can be read ({})", reason(&error))),
        Unread::Is(kind) => NoKey::Unfit(format!("{kind} at {}", path.display())),
    })?;
    if let Some(advice) = exposed(&path, &found) {
        return Err(NoKey::Unfit(format!("a file that {advice}")));
    }
    contents(file, KEY_FILE).map_err(NoKey::Unfit)
}

/// Why there is nothing to read.
enum Unread {
    /// The system refuses it.
    Refused(std::io::Error),
    /// It is no plain file but this.
    Is(&'static str),
}

/// Opens a plain file. What it is is asked of the open file, so that nobody changes it in between, and opening waits for
/// nobody, whatever it is.
fn plain(path: &Path) -> Result<(File, fs::Metadata), Unread> {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = opened.map_err(Unread::Refused)?;
    let found = file.metadata().map_err(Unread::Refused)?;
    if found.is_file() { Ok((file, found)) } else { Err(Unread::Is(kind(found.file_type()))) }
}

/// What is no plain file.
fn kind(found: fs::FileType) -> &'static str {
    if found.is_dir() {
        "a directory"
    } else if found.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

/// What is wrong with the permissions of a file that holds a key, if anything, and how to mend it.
fn exposed(path: &Path, found: &fs::Metadata) -> Option<String> {
    let (mode, path) = (found.mode() & 0o777, path.display());
    if mode & 0o077 != 0 {
        return Some(format!("others can read (mode {mode:04o}; chmod 600 {path} mends it)"));
    }
    let owner = found.uid();
    (owner != 0 && owner != geteuid().as_raw())
        .then(|| format!("belongs to another user (uid {owner}; chown root {path} mends it)"))
}

/// A plain file of no more than `limit` octets; it may hold keys.
///
/// # Errors
/// What it is instead, or why the system refuses.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let (file, _) = plain(path).map_err(|unread| match unread {
        Unread::Refused(error) => reason(&error),
        Unread::Is(kind) => format!("a plain file was expected, found {kind}"),
    })?;
    contents(file, limit)
}

fn contents(file: File, limit: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    // Room for all of it at once: growing would leave copies of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(limit).unwrap_or(usize::MAX) + 1));
    file.take(limit + 1).read_to_end(&mut text).map_err(|error| reason(&error))?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= limit => Ok(text),
        _ => Err(format!("a file longer than {limit} octets")),
    }
}

/// Why the system refused, without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.find(" (os error") {
        text.truncate(end);
    }
    let mut lowered = String::new();
    let mut letters = text.chars();
    if let Some(first) = letters.next() {
        let _ = write!(lowered, "{}{}", first.to_lowercase(), letters.as_str());
    }
    lowered
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that goes with its value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(what: &str) -> Self {
            let path = std::env::temp_dir().join(format!("portcullis-{what}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn f_36_only_a_plain_file_is_a_key_and_nobody_waits_for_another() {
        let folder = Folder::new("keys");
        let config = folder.0.join("portcullis.toml");
        nix::unistd::mkfifo(&folder.0.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::create_dir(folder.0.join("folder")).unwrap();
        fs::write(folder.0.join("key"), "a key of more than twenty characters").unwrap();
        let refused = |name: &str| match read_key(&config, name).unwrap_err() {
            NoKey::Absent(why) | NoKey::Unfit(why) => why,
        };
        assert!(refused("pipe").starts_with("a pipe at "), "{}", refused("pipe"));
        assert!(refused("folder").starts_with("a directory at "), "{}", refused("folder"));
        assert!(refused("/dev/zero").starts_with("a device at "), "{}", refused("/dev/zero"));
        fs::set_permissions(folder.0.join("key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused("key").contains("a file that others can read (mode 0640; chmod 600 "), "{}", refused("key"));
        fs::set_permissions(folder.0.join("key"), fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read_key(&config, "key").unwrap().len(), 36);
        let told = refused("a key by mistake");
        assert_eq!(told, "no file that can be read (no such file or directory)", "F-35: no name of what is not there");
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let folder = Folder::new("text");
        let path = folder.0.join("latin.toml");
        fs::write(&path, b"# one\n# \xc3\xa9\xe9\n").unwrap();
        let told = load(&path).map(|_| ()).unwrap_err().join("\n");
        assert!(told.starts_with(&format!("{}:2:4: found an octet", path.display())), "{told}");
    }

    #[test]
    fn a_file_that_says_nothing_is_a_mistake_and_not_a_gateway_that_protects_nothing() {
        let folder = Folder::new("nothing");
        let path = folder.0.join("portcullis.toml");
        let outcome = |text: &str| {
            fs::write(&path, text).unwrap();
            assert_eq!(without_keys(&path).is_ok(), load(&path).is_ok());
            load(&path).map(|loaded| loaded.config.peers.len()).map_err(|lines| lines.join("\n"))
        };
        for text in ["", "\n \r\n", "\u{feff}# to be written\n  # soon"] {
            let told = outcome(text).unwrap_err();
            assert!(told.starts_with(&format!("{}:1:1: found a file that says nothing", path.display())), "{told}");
        }
        assert_eq!(outcome("# none yet\n[gateway]\n"), Ok(0));
    }

    #[test]
    fn f_36_a_configuration_that_is_a_pipe_is_refused_and_nobody_waits_for_its_writer() {
        let folder = Folder::new("configuration");
        let path = folder.0.join("pipe.toml");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let told = |path: &Path| load(path).map(|_| ()).unwrap_err().join("\n");
        assert_eq!(told(&path), format!("{}: a plain file was expected, found a pipe", path.display()));
        assert!(told(&folder.0).ends_with(": a plain file was expected, found a directory"), "{}", told(&folder.0));
        let none = told(&folder.0.join("none.toml"));
        assert!(none.contains("none.toml: no such file") && none.contains("\nhint: write it there"), "{none}");
    }
}
