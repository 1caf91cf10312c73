//! The packet path: one engine for each way, with nothing shared, so that each can have a thread, core or task of its
//! own (RFC 4301 §5).

mod inbound;
mod outbound;
mod policies;

pub use crate::encap::Egress;
pub use inbound::{Inbound, Ingress};
pub use outbound::{Outbound, Verdict};

use crate::crypto::PacketCrypto;
use crate::sa;
use crate::sad::Slot;

/// Storage for one outbound SA of a crypto engine `P`.
pub type OutboundSlot<P> = Slot<<P as PacketCrypto>::Place<sa::Outbound<<P as PacketCrypto>::AeadKey>>>;

/// Storage for one inbound SA of a crypto engine `P`, without its window.
pub type InboundSlot<P> = Slot<<P as PacketCrypto>::Place<sa::Inbound<<P as PacketCrypto>::AeadKey>>>;
