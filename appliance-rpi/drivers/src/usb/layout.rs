//! Layout of the DMA region: control, status, one part for each network device.

use super::control;

/// Where the status endpoints' messages land.
pub(super) const STATUS_DMA_BASE: usize = 640;
/// Where the part of the first network device begins.
pub(super) const NIC_DMA_BASE: usize = 1024;

const _: () = assert!(control::DMA_BYTES <= STATUS_DMA_BASE);
