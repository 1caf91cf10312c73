//! What SAs lie in.

use crate::crypto::PacketCrypto;
use crate::sa;
use crate::sad::Slot;
use crate::transform::Keys;

/// Storage for one outbound SA of a crypto engine `P`.
pub type OutboundSlot<P> = Slot<<P as PacketCrypto>::Place<sa::Outbound<Keys<P>>>>;

/// Storage for one inbound SA of a crypto engine `P`, without its window.
pub type InboundSlot<P> = Slot<<P as PacketCrypto>::Place<sa::Inbound<Keys<P>>>>;
