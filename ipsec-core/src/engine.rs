//! The packet path: one engine for each way, with nothing shared, so that each can have a thread, core or task of its
//! own (RFC 4301 §5).

mod inbound;
mod modes;
mod options;
mod outbound;
mod policies;
mod slots;
#[cfg(test)]
mod tests;

pub use crate::encap::Egress;
pub use inbound::{Inbound, Ingress};
pub use outbound::{Outbound, Verdict};
pub use slots::{InboundSlot, OutboundSlot};
