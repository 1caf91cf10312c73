//! Tells systemd how far we are (`sd_notify`): a datagram to the socket that `NOTIFY_SOCKET` names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends the assignments, such as `READY=1`. Without systemd, or when it does not listen, nothing happens: it is only
/// news.
pub(crate) fn notify(assignments: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes().split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(&name),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(assignments.as_bytes(), &address);
    }
}

/// The configuration is being read again; its end tells that this is over, whatever came of it.
pub(crate) struct Reloading(());

impl Reloading {
    /// Tells that it begins.
    pub(crate) fn begin() -> Self {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec().saturating_mul(1_000_000).saturating_add(now.tv_nsec() / 1000));
        notify(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
        Self(())
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        notify("READY=1");
    }
}
