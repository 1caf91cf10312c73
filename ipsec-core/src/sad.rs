//! The Security Association Database (RFC 4301 §4.4.2): slots of the caller, one table for each direction.
//!
//! Each slot knows, beside its SA, where it stands in the queues, the chains and the heap of the table. So all of them are
//! the caller's memory, too, and nothing but a look at all SAs walks over the slots.

mod filed;
mod heap;
mod links;
mod policies;
mod queue;
mod slot;
mod table;

pub use slot::Slot;
pub(crate) use table::Table;
