//! One daemon for each network namespace.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// The name whose holder owns our routing tables, rules and guard. Abstract names belong to the network namespace, as
/// those do, and vanish with the process that holds them, however it ends.
const NAME: &str = "portcullis/4500";

/// The right to change what the kernel is told of the boundary; its end gives the right back.
pub(crate) struct Owner {
    _held: UnixListener,
}

impl Owner {
    /// Takes the right.
    ///
    /// # Errors
    /// `AddrInUse`: another process has it.
    pub(crate) fn claim() -> io::Result<Self> {
        let name = SocketAddr::from_abstract_name(NAME)?;
        UnixListener::bind_addr(&name).map(|held| Self { _held: held })
    }
}

/// What is said to a second daemon.
pub(crate) const TAKEN: &str = "another portcullis runs in this network namespace";
pub(crate) const TAKEN_HINT: &str = "one daemon serves any number of peers: give it all of them, or stop it first; another network namespace may have its own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_06_the_boundary_has_one_owner_and_its_end_gives_it_back() {
        let Ok(first) = Owner::claim() else {
            return assert_eq!(Owner::claim().map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        };
        assert_eq!(Owner::claim().map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(Owner::claim().is_ok());
    }
}
