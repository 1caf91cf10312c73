//! A cause as the operator reads it, and what it says about trying again.

use alloc::string::String;
use core::fmt;

/// A cause as the operator reads it.
///
/// ```
/// use gateway_core::cause::{Cause, Kind};
/// let cause = Cause::unresolved("gate.example", "no answer");
/// assert_eq!((cause.code, cause.kind), ("name-not-resolved", Kind::Absence));
/// assert_eq!(
///     cause.to_string(),
///     "the peer's name gate.example does not resolve: no answer [name-not-resolved]; \
///      check the name under \"remote\" and this machine's resolver"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// A word in kebab-case that never changes its meaning.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// What it says about trying again.
    pub kind: Kind,
}

/// What a cause says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One side refuses the other: it stays so until somebody changes a configuration.
    Refusal,
    /// The peer or the way to it is not there at the moment.
    Absence,
    /// Somebody wanted it so.
    Intent,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.code)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}
