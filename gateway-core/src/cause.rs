//! Why something did not come about, in words: a stable code for scripts, a sentence, and what to do about it.

mod child;
mod evidence;
mod failure;
mod identity;
mod waiting;
mod words;

pub use waiting::{Unreachable, Unsent};
pub use words::{Cause, Kind};
