//! The TUN device: where the kernel hands over what must be protected, and takes back what was.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Where the kernel offers TUN devices.
pub(crate) const CLONE_DEVICE: &str = "/dev/net/tun";

nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);

/// A TUN device without packet information header: one read is one IP packet, one write likewise. It disappears, and
/// its routes with it, when the last handle is closed.
pub(crate) struct Tun {
    file: File,
    name: String,
}

impl Tun {
    /// Creates the device `name`.
    ///
    /// # Errors
    /// `InvalidInput` for a name the kernel would not take; `ResourceBusy` when another program holds it; what opening
    /// and the ioctl report otherwise (no permission, no module).
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        interface_request(name)?; // a bad name is told before the device is opened
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(CLONE_DEVICE)?;
        let tun = Self { file, name: name.to_owned() };
        tun.attach()?;
        Ok(tun)
    }

    /// Makes the device again after somebody removed it. The handle stays the same, so whoever waits for packets on it
    /// goes on.
    ///
    /// # Errors
    /// As for [`Tun::create`]; `AlreadyExists` (of the handle) when the device is still there.
    pub(crate) fn renew(&self) -> io::Result<()> {
        self.attach()
    }

    fn attach(&self) -> io::Result<()> {
        let request = interface_request(&self.name)?;
        // SAFETY: `file` is open for as long as the call lasts, and TUNSETIFF reads (and writes back the name into) an
        // ifreq, which `request` is: a whole, initialised value that outlives the call.
        unsafe { tun_set_iff(self.file.as_raw_fd(), &raw const request) }?;
        Ok(())
    }

    /// Reads one packet; `WouldBlock` when there is none.
    pub(crate) fn recv(&self, packet: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut &self.file, packet)
    }

    /// Writes one packet.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        io::Write::write(&mut &self.file, packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The ifreq that asks for a TUN device of this name, of this name alone (`IFF_TUN_EXCL`).
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    let fits = !name.is_empty() && name.len() < ifr_name.len() && name != "." && name != "..";
    if !fits || name.bytes().any(|byte| byte == b'/' || byte == b'%' || byte == 0 || byte.is_ascii_whitespace()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name for an interface (1 to 15 letters)"));
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short };
    Ok(libc::ifreq { ifr_name, ifr_ifru })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_change_or_refuse_are_refused() {
        for bad in ["", "a-name-of-16-chrs", "a/b", "pcl%d", ".", "..", "a b", "a\0b"] {
            assert_eq!(interface_request(bad).map(drop).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        assert!(interface_request("fifteen-letters").is_ok());
    }

    #[test]
    fn the_request_is_laid_out_as_the_kernel_reads_it() {
        let request = interface_request("pcl0").unwrap();
        assert_eq!(size_of::<libc::ifreq>(), 40, "struct ifreq on 64-bit Linux");
        assert_eq!(std::mem::offset_of!(libc::ifreq, ifr_ifru), 16);
        assert_eq!(request.ifr_name.map(|c| c.cast_unsigned()).as_slice(), b"pcl0\0\0\0\0\0\0\0\0\0\0\0\0");
        // SAFETY: every bit pattern is a valid c_short, and the union was written as one.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        assert_eq!(flags.cast_unsigned(), 0x0001 | 0x1000 | 0x8000, "TUN, no packet information, exclusive");
    }
}
