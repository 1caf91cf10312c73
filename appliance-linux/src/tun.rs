//! The TUN device: where the kernel hands over what must be protected, and takes back what was.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Where the kernel offers TUN devices.
pub(crate) const CLONE_DEVICE: &str = "/dev/net/tun";

/// The kernel puts the lowest number there that makes it a name nobody has.
const ANY: &str = "pcl%d";

/// The network namespace of a device, as a new descriptor (Linux 5.2, linux/if_tun.h): `_IO('T', 227)`.
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;

nix::ioctl_read_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_read_bad!(tun_get_iff, libc::TUNGETIFF, libc::ifreq);
nix::ioctl_none_bad!(tun_get_namespace, TUNGETDEVNETNS);

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(CLONE_DEVICE)
}

/// A TUN device without packet information header: one read is one IP packet, one write likewise. It disappears, and
/// its routes with it, when the last handle is closed.
pub(crate) struct Tun {
    file: File,
    name: String,
}

/// Where a device is now. Its name may be another device's; this is asked of the device itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here, under this name.
    Here(String),
    /// In another network namespace.
    Elsewhere,
    /// It was removed.
    Gone,
}

impl Tun {
    /// Creates the device `name`.
    ///
    /// # Errors
    /// `InvalidInput` for a name the kernel would not take; `ResourceBusy` when another program holds it; what opening
    /// and the ioctl report otherwise (no permission, no module).
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let request = interface_request(name)?; // a bad name is told before the device is opened
        let tun = Self { file: open()?, name: name.to_owned() };
        tun.attach(&request)?;
        Ok(tun)
    }

    /// Creates a device under a name that nobody has.
    ///
    /// # Errors
    /// What opening and the ioctl report.
    pub(crate) fn create_anywhere() -> io::Result<Self> {
        let tun = Self { file: open()?, name: String::new() };
        tun.attach(&request(ANY)?)?;
        Ok(tun)
    }

    /// Makes the device again after somebody removed it, under another name where its own is another interface's by now. The
    /// handle stays the same, so whoever waits for packets on it goes on.
    ///
    /// # Errors
    /// As for [`Tun::create`]; `AlreadyExists` (of the handle) when the device is still there.
    pub(crate) fn renew(&self) -> io::Result<()> {
        match self.attach(&interface_request(&self.name)?) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => self.attach(&request(ANY)?),
            done => done,
        }
    }

    /// No device: what is written is gone.
    #[cfg(test)]
    pub(crate) fn nowhere() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        Ok(Self { file, name: String::new() })
    }

    /// Another handle of the same device.
    pub(crate) fn handle(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, name: self.name.clone() })
    }

    /// Where the device is, and what it is called there.
    pub(crate) fn place(&self) -> io::Result<Place> {
        let mut request = request("")?;
        // SAFETY: `file` is open for as long as the call lasts, and TUNGETIFF writes an ifreq, which `request` is: a whole
        // value that outlives the call.
        match unsafe { tun_get_iff(self.file.as_raw_fd(), &raw mut request) } {
            Err(nix::errno::Errno::EBADFD) => return Ok(Place::Gone),
            done => done?,
        };
        if self.namespace().is_some_and(|of_device| current_namespace().is_some_and(|ours| ours != of_device)) {
            return Ok(Place::Elsewhere);
        }
        let octets: Vec<u8> =
            request.ifr_name.iter().map(|octet| octet.cast_unsigned()).take_while(|octet| *octet != 0).collect();
        String::from_utf8(octets).map(Place::Here).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// The namespace of the device; `None`: this kernel does not tell.
    fn namespace(&self) -> Option<(u64, u64)> {
        // SAFETY: `file` is open for as long as the call lasts; the call takes no argument.
        let opened = unsafe { tun_get_namespace(self.file.as_raw_fd()) }.ok()?;
        // SAFETY: the call above opened this descriptor for us, and nobody else has it.
        let namespace = File::from(unsafe { OwnedFd::from_raw_fd(opened) });
        namespace.metadata().ok().as_ref().map(identity)
    }

    fn attach(&self, request: &libc::ifreq) -> io::Result<()> {
        let mut request = *request;
        // SAFETY: `file` is open for as long as the call lasts, and TUNSETIFF reads (and writes back the name into) an
        // ifreq, which `request` is: a whole, initialised value that outlives the call.
        unsafe { tun_set_iff(self.file.as_raw_fd(), &raw mut request) }?;
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

fn current_namespace() -> Option<(u64, u64)> {
    std::fs::metadata("/proc/thread-self/ns/net").ok().as_ref().map(identity)
}

fn identity(file: &std::fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The ifreq that asks for a TUN device of this name, of this name alone (`IFF_TUN_EXCL`).
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    let fits = !name.is_empty() && name != "." && name != "..";
    if !fits || name.bytes().any(|byte| byte == b'/' || byte == b'%' || byte == 0 || byte.is_ascii_whitespace()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_NAME));
    }
    request(name)
}

const NO_NAME: &str = "not a name for an interface (1 to 15 letters)";

/// A request with a name or a pattern for one.
fn request(name: &str) -> io::Result<libc::ifreq> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.len() >= ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_NAME));
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
    use crate::namespace::in_a_network_of_its_own;

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

    #[test]
    fn f_02_a_device_is_made_again_also_where_its_name_is_taken() {
        in_a_network_of_its_own(|| {
            let mut netlink = crate::netlink::Netlink::open().unwrap();
            let first = Tun::create("pcl0").unwrap();
            netlink.remove_link(nix::net::if_::if_nametoindex("pcl0").unwrap()).unwrap();
            assert_eq!(first.place().unwrap(), Place::Gone);
            let taken = Tun::create("pcl0").unwrap();
            first.renew().unwrap();
            assert_eq!(first.place().unwrap(), Place::Here("pcl1".to_owned()));
            assert_eq!(taken.place().unwrap(), Place::Here("pcl0".to_owned()));
            assert_eq!(Tun::create_anywhere().unwrap().place().unwrap(), Place::Here("pcl2".to_owned()));
        });
    }
}
