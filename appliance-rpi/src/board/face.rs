//! The nouns of the face that both machines have.

use alloc::string::{String, ToString};

/// Network ports that are used; more are left alone.
pub(crate) const PORTS: usize = rpi_services::configuration::PORTS_MAX as usize;

/// Octets of a configuration file that are read.
pub(crate) const CONFIGURATION_MAX: usize = 64 * 1024;

/// What the board says of itself; unknown things are absent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    /// Model in words.
    pub(crate) model: &'static str,
    /// Revision code.
    pub(crate) revision: u32,
    /// Serial number.
    pub(crate) serial: u64,
    /// Octets of memory the ARM may use below the firmware's share.
    pub(crate) memory: u32,
}

/// Why there is no file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Unreadable {
    fn from(why: &str) -> Self {
        Self(why.to_string())
    }
}
