//! One daemon for each network namespace.

use std::io;

use crate::tun::{Place, Tun};

/// The interface whose holder owns our routing tables, rules and guard. Names of interfaces belong to the network
/// namespace, as those do; only who may change those can make one; and this one vanishes with the process that holds it,
/// however it ends. It is never switched on and carries nothing.
const NAME: &str = "portcullis-own";

/// The right to change what the kernel is told of the boundary; its end gives the right back.
pub(crate) struct Owner {
    held: Tun,
}

impl Owner {
    /// Takes the right.
    ///
    /// # Errors
    /// `AddrInUse`: another process has it. `PermissionDenied`: this one may not have it. What [`Tun::create`] reports
    /// otherwise.
    pub(crate) fn claim() -> io::Result<Self> {
        match Tun::create(NAME) {
            Ok(held) => Ok(Self { held }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => Err(error),
        }
    }

    /// Takes the right again if somebody removed, renamed or moved the interface. `true`: somebody had.
    ///
    /// # Errors
    /// As for [`Owner::claim`].
    pub(super) fn hold(&mut self) -> io::Result<bool> {
        if matches!(self.held.place(), Ok(Place::Here(name)) if name == NAME) {
            return Ok(false);
        }
        *self = Self::claim()?;
        Ok(true)
    }
}

/// Whether somebody has the right, for those who may not take it.
pub(crate) fn is_claimed() -> bool {
    index().is_some()
}

/// The index of the interface, if somebody has the right.
pub(super) fn index() -> Option<u32> {
    nix::net::if_::if_nametoindex(NAME).ok()
}

/// What is said to a second daemon.
pub(crate) const TAKEN: &str = "another portcullis runs in this network namespace";
pub(crate) const TAKEN_HINT: &str = "one daemon serves any number of peers: give it all of them, or stop it first (`ip -d link show portcullis-own` shows what it holds); another network namespace may have its own";

/// What the first one says when somebody took the interface away and another daemon has it since.
pub(super) const LOST: &str = "another portcullis has taken the boundary of this network namespace: somebody removed portcullis-own, which kept it out; stop one of them";
/// What was put back.
pub(super) const MARK_OF_OURS: &str = "portcullis-own, which keeps other daemons out";

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use super::*;
    use crate::namespace::in_a_network_of_its_own;
    use crate::netlink::Netlink;

    #[test]
    fn f_06_the_boundary_has_one_owner_and_its_end_gives_it_back() {
        in_a_network_of_its_own(|| {
            let first = Owner::claim().unwrap();
            assert_eq!(Owner::claim().map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            std::thread::spawn(|| {
                // SAFETY: it takes no pointer, and changes nothing but the network namespace of this thread, which ends.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
                assert!(Owner::claim().is_ok(), "another namespace has its own");
            })
            .join()
            .unwrap();
            drop(first);
            assert!(Owner::claim().is_ok());
        });
    }

    #[test]
    fn f_06_who_removes_the_mark_of_the_owner_does_not_make_it_somebody_elses() {
        in_a_network_of_its_own(|| {
            let mut netlink = Netlink::open().unwrap();
            let index = || nix::net::if_::if_nametoindex(NAME).unwrap();
            let mut first = Owner::claim().unwrap();
            assert!(!first.hold().unwrap());
            netlink.remove_link(index()).unwrap();
            assert!(first.hold().unwrap(), "removed");
            assert_eq!(Owner::claim().map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            netlink.rename(index(), "foo").unwrap();
            assert!(first.hold().unwrap(), "renamed");
            assert!(!first.hold().unwrap());
            assert_eq!(Owner::claim().map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            netlink.remove_link(index()).unwrap();
            let second = Owner::claim().unwrap();
            assert_eq!(first.hold().unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(second);
            assert!(first.hold().unwrap());
        });
    }

    /// Names of sockets are anybody's, as ports are.
    #[test]
    fn f_06_who_may_not_change_the_boundary_keeps_nobody_from_it() {
        in_a_network_of_its_own(|| {
            let name = SocketAddr::from_abstract_name("portcullis/4500").unwrap();
            let _anybody = UnixListener::bind_addr(&name).unwrap();
            assert!(Owner::claim().is_ok());
        });
    }
}
