//! The kinds of memory there are.

/// What an address range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Not mapped.
    None,
    /// RAM, cached, not executable.
    Normal,
    /// RAM, cached, read-only.
    ReadOnly,
    /// RAM, cached, read-only, executable.
    Code,
    /// RAM shared with devices.
    Uncached,
    /// Registers.
    Device,
}
