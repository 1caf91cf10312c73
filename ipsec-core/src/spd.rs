//! The Security Policy Database (RFC 4301 §4.4.1): ordered rules, first match wins, no match means discard.
//!
//! Rules are data. An [`Index`] of them is built beside the one in use and put in its place as a whole, so no packet meets
//! half a set of rules. It never changes afterwards: any number of engines may look into the same one. A few rules can be
//! changed in one engine without it, in [memory](Changes) of that engine; [`diff`] says what tells two indexes apart.

mod cache;
mod changes;
mod current;
mod cuts;
mod diff;
mod grow;
mod index;
mod order;
mod query;
mod rule;
mod tree;

pub use crate::sa::PolicyId;
pub(crate) use cache::Cache;
pub use cache::Remembered;
pub(crate) use changes::Changed;
pub use changes::Changes;
pub(crate) use current::Current;
pub use diff::{Difference, diff};
pub(crate) use index::Met;
pub use index::{Decision, Index, Lent, Rules, Undecided, View};
pub use rule::{Action, Direction, Entry, Hits, Level, Rule, RuleId, Selector};
pub use tree::{Node, Slot};
