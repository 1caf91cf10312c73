//! The configuration file: read, checked, and its errors told by place.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gateway_core::config::{Config, ConfigError, Position, Warning};
use nix::unistd::geteuid;
use zeroize::Zeroizing;

/// Larger files are no keys.
const KEY_FILE: u64 = 4096;
/// Larger files are no configurations.
const CONFIG_FILE: u64 = 4 << 20;

/// A configuration, and what was noticed about it.
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
    let text = read(path, CONFIG_FILE).map_err(|why| vec![format!("{}: {why}", path.display())])?;
    let text = std::str::from_utf8(&text).map_err(|error| {
        let line = text.get(..error.valid_up_to()).unwrap_or_default().iter().filter(|octet| **octet == b'\n').count();
        vec![format!("{}:{}:1: text in UTF-8 was expected", path.display(), line + 1)]
    })?;
    let told = |errors: Vec<ConfigError>| -> Vec<String> {
        errors.iter().map(|error| format!("{}: {error}", Place(path, error.at))).collect()
    };
    let (mut config, mut warnings) = Config::parse(text).map_err(told)?;
    let inline = config.peers.iter().find(|peer| peer.secret.loaded().is_some()).map(|peer| peer.at);
    warnings.extend(config.load_secrets(|key| read_key(path, key)).map_err(told)?);
    if let Some(at) = inline
        && let Ok(found) = fs::metadata(path)
        && let Some(advice) = exposed(path, &found)
    {
        warnings.push(Warning { at, message: format!("a pre-shared key stands in this file, which {advice}") });
    }
    let warnings = warnings.iter().map(|warning| format!("{}: warning: {warning}", Place(path, warning.at))).collect();
    Ok(Loaded { config, warnings })
}

/// `file:line:column`.
struct Place<'p>(&'p Path, Position);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0.display(), self.1)
    }
}

/// A key file; a relative name starts at the folder of the configuration.
fn read_key(config: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = match config.parent() {
        Some(folder) => folder.join(name),
        None => PathBuf::from(name),
    };
    if let Some(advice) = fs::metadata(&path).ok().and_then(|found| exposed(&path, &found)) {
        return Err(format!("a file that {advice}"));
    }
    read(&path, KEY_FILE)
}

/// What is wrong with the permissions of a file that holds a key, if anything, and how to mend it.
fn exposed(path: &Path, found: &fs::Metadata) -> Option<String> {
    let (mode, path) = (found.mode() & 0o777, path.display());
    if mode & 0o077 != 0 {
        return Some(format!("others can read (mode {mode:04o}); run: chmod 600 {path}"));
    }
    let owner = found.uid();
    (owner != 0 && owner != geteuid().as_raw())
        .then(|| format!("belongs to another user (uid {owner}); run: chown root {path}"))
}

fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = File::open(path).map_err(|error| reason(&error))?;
    // Room for all of it at once: growing would leave copies of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(limit).unwrap_or(usize::MAX) + 1));
    file.take(limit + 1).read_to_end(&mut text).map_err(|error| reason(&error))?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= limit => Ok(text),
        _ => Err(format!("longer than {limit} octets")),
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
