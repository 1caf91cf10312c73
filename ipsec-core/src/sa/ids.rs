//! What SAs are known by, and how much one holds.

/// Traffic selectors an SA holds for each side.
pub const MAX_SELECTORS: usize = 8;

/// The caller's number for what protects: a Child SA configuration. SAs are attached to it, PROTECT rules name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PolicyId(pub u32);

/// An SA in a table, for as long as it is there. Ids of removed SAs are never valid again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SaId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}
