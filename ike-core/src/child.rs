//! Child SAs: their life, and the narrowing of traffic selectors (RFC 7296 §2.9).

mod children;
mod keys;
mod one;
mod selectors;
mod turn;

pub use children::ChildSlot;
pub(crate) use children::{Children, index_mask};
pub(crate) use keys::{ChildKeys, Untold};
pub(crate) use one::{Child, Phase, Report, Standing, Up};
pub(crate) use selectors::first_of;
pub use selectors::{MAX_SELECTORS, Selectors, narrow, within};
pub(crate) use turn::Turn;
