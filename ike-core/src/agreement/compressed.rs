//! Whether what a Child SA carries may be compressed: IPComp (RFC 7296 §2.22).

use ipsec_core::net::{Cpi, Spi};

use crate::error::NoRoom;
use crate::registry::NotifyKind;
use crate::rules::Payloads;
use crate::wire::writer::MessageWriter;

/// The transform of RFC 2394; of the others nobody has had any for long.
const DEFLATE: u8 = 2;

/// Asks for packets that are compressed with DEFLATE through the SA with this SPI of ours, or agrees to them.
pub(crate) fn write(message: &mut MessageWriter<'_>, spi_in: Spi) -> Result<(), NoRoom> {
    let Cpi(index) = Cpi::of(spi_in);
    message.notify_parts(NotifyKind::IPCOMP_SUPPORTED, &[&index.to_be_bytes(), &[DEFLATE]])
}

/// The index that the peer wants on them; who asks may name several transforms.
pub(crate) fn read(payloads: &Payloads<'_>) -> Option<Cpi> {
    let offers = payloads.notifies().filter(|notify| notify.kind == NotifyKind::IPCOMP_SUPPORTED);
    offers.into_iter().find_map(|notify| match notify.data {
        [c0, c1, DEFLATE, ..] => Some(Cpi(u16::from_be_bytes([*c0, *c1]))),
        _ => None,
    })
}
