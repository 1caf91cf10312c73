//! A network namespace without a name: it lives as long as this value, or a process in it, does.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::link;
use crate::outcome::Result;

/// One machine of the lab.
pub(crate) struct Namespace {
    name: String,
    net: File,
}

impl Namespace {
    /// A new namespace with its loopback up. `name` is for messages only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let net = thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<File> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                Ok(File::open("/proc/thread-self/ns/net")?)
            });
            inside.join().expect("a thread without a panic")
        })?;
        let namespace = Self { name: name.to_owned(), net };
        // Addresses are usable at once: nobody else could have them.
        namespace.sysctl("ipv6.conf.default.accept_dad", "0")?;
        namespace.within(|| link::up("lo"))?;
        Ok(namespace)
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The namespace itself, as netlink wants it.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }

    /// Runs `work` in a thread that has moved into the namespace. Sockets and processes made there stay there.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a process in the namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.within(|| command.spawn().map_err(|error| format!("{program}: {error}").into()))
    }

    /// Sets `net.<key>` of the namespace, as in `ipv4.ip_forward`.
    ///
    /// # Errors
    /// When there is no such key.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result {
        let path = format!("/proc/sys/net/{}", key.replace('.', "/"));
        self.within(|| fs::write(&path, value).map_err(|error| format!("{path}: {error}").into()))
    }

    /// Makes a router of it: forwarding on, reverse path filters off.
    ///
    /// # Errors
    /// When /proc/sys cannot be written.
    pub(crate) fn forward(&self) -> Result {
        self.sysctl("ipv4.ip_forward", "1")?;
        self.sysctl("ipv6.conf.all.forwarding", "1")?;
        self.sysctl("ipv4.conf.all.rp_filter", "0")?;
        self.sysctl("ipv4.conf.default.rp_filter", "0")
    }

    /// Gives `interface` an address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result {
        self.within(|| link::address(interface, address, prefix))
    }

    /// Routes `destination`/`prefix` through `gateway`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn route(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result {
        self.within(|| link::route(destination, prefix, gateway))
    }

    /// Routes everything of `gateway`'s family through it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn default_route(&self, gateway: IpAddr) -> Result {
        self.route(link::unspecified(gateway), 0, gateway)
    }
}
