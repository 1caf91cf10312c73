//! What every command returns.

use std::error::Error;

/// The error type of every command: words for the person at the terminal.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// `Ok` when `condition` holds, else an error with the words of `message`.
///
/// # Errors
/// The words of `message`.
pub(crate) fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result {
    if condition { Ok(()) } else { Err(message().into()) }
}
