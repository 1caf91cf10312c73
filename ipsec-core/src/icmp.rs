//! ICMP errors around a tunnel (RFC 4301 §6 and §8.2): those from outside about packets of an SA, those from inside about what
//! an SA carries, and the one that tells a sender how much fits.
//!
//! From outside nobody knows who wrote them: a [`Report`] is a hint, and what is made of it is the caller's decision. From inside
//! they come through an SA or want to go through one, and are routers' between both sites, whose addresses no selector has:
//! [`quoted`] says which packet they are about, and the engines let them by where that one belongs to the SA.

mod error;
mod quoted;
mod report;
mod too_big;

pub use error::{Error, Why};
pub use quoted::quoted;
pub use report::Report;
pub use too_big::{Untold, too_big};
