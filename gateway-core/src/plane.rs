//! What carries the packets, as a gateway sees it: it is asked for SAs and rules, and tells what became of them.
//!
//! [`Engines`] is the data plane of this project. Another one is the kernel's, which may answer later.

mod engines;
mod seam;

pub use engines::{Engines, Hold};
pub use seam::{DataPlane, Half, Incomplete, Pair, PlaneEvent, Progress, Refused, Usage};
