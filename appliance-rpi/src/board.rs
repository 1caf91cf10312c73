//! The machine underneath: two files with the same face, one for Raspberry Pi, one for QEMU virt.

mod face;
#[cfg(not(feature = "virt"))]
mod raspi;
#[cfg(feature = "virt")]
mod virt;

#[cfg(not(feature = "virt"))]
use raspi as machine;
#[cfg(feature = "virt")]
use virt as machine;

pub(crate) use face::{Identity, PORTS};
#[cfg(feature = "virt")]
pub(crate) use machine::bench;
pub(crate) use machine::{Board, reset};
