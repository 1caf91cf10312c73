//! What a reader of the configuration tells its operator: where, what was found, what was expected, how to mend it.

use alloc::string::String;
use core::fmt;

/// A place in the text: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a configuration is refused. Prints as one line without the position: `file:line:column: ` goes before it.
///
/// No secret ever stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub at: Position,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// How to mend it; empty when `expected` says it all.
    pub hint: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, expected {}", self.found, self.expected)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// Something that works and is probably not meant.
///
/// ```
/// use gateway_core::config::{Config, Position, Warning};
/// let (_, warnings) = Config::parse("").unwrap();
/// let Warning { at, message } = &warnings[0];
/// assert_eq!(*at, Position { line: 1, column: 1 });
/// assert_eq!(message, "there is no [[peer]]: nothing goes into a tunnel");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub at: Position,
    /// What, and what to do about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
