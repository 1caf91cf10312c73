//! A machine with a kernel of its own, for peers that leave ESP to the kernel: user-mode Linux on the interfaces of a
//! gateway's namespace.
//!
//! The kernel, the two IKE daemons and what they need are Debian packages, unpacked once below the target directory. The kernel
//! is of a later release: older ones do not run where the processor has more registers than they know of (AMX).
//! The guest sees that folder read-only as its root and the gateway's folder as /mnt. Commands go through a TCP door.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::daemon::Daemon;
use super::link;
use super::namespace::Namespace;
use super::wait_for;
use crate::checkout::{installed, succeed, target};
use crate::outcome::{Result, ensure};
use crate::test::packages::unpack;

/// Debian's release the packages are taken from: Libreswan 4.10, OpenIKED 7.2.
const RELEASE: &str = "bookworm";
/// And the kernel, Linux 7.2, with the library that it runs with.
const KERNEL_RELEASE: &str = "forky";
const KERNEL: [&str; 2] = ["user-mode-linux", "libc6"];
const PACKAGES: &str = "libreswan,openiked,iproute2,iputils-ping,kmod,socat,procps";

/// Process 1 of a guest.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for folder in /run /tmp; do mount -t tmpfs tmp $folder; done
for word in $(cat /proc/cmdline); do
    case $word in work=*) mount -t hostfs work /mnt -o ${word#work=} ;; esac
done
modprobe -a af_key xfrm_user esp4 esp6 gcm ctr jitterentropy_rng drbg seqiv echainiv cbc authenc authencesn sha512 hmac ecb ccm chacha chacha20poly1305 crypto_null cmac xcbc ipcomp ipcomp6 deflate xfrm4_tunnel xfrm6_tunnel 2>/mnt/modprobe
# Probing for every algorithm there is would start a process for each that is not there.
echo >/proc/sys/kernel/modprobe
ip link set lo up
ip link set vec0 name wan
ip link set vec1 name lan
ip link set vec2 name door
ip address add 198.18.0.2/30 dev door
ip link set door up
exec socat -t 600 TCP-LISTEN:7000,reuseaddr,fork,bind=198.18.0.2 EXEC:/lab-door
"#;

/// Runs what it reads and says how that ended. What stays in the background must not hold the door's own sockets open.
const DOOR: &str =
    "#!/bin/sh\nexec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-\nscript=$(cat)\nsh -c \"$script\" 2>&1\necho \"ended $?\"\n";

const DOOR_HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const DOOR_THERE: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 2), 7000);

/// A guest that has no time for its door may be starved by others on this machine.
const DOOR_OPENS: Duration = Duration::from_secs(20);

/// Where the guests' root lies.
fn root() -> Result<PathBuf> {
    Ok(target()?.join("lab-guest").join(RELEASE))
}

/// Makes the guests' root where there is none: needs root, mmdebstrap and Debian's archive.
///
/// # Errors
/// What is missing.
pub(crate) fn prepare() -> Result {
    let root = root()?;
    if !root.join("lab-kernel").exists() {
        ensure(nix::unistd::geteuid().is_root(), || "a guest's root can only be made by root".to_owned())?;
        if !installed("mmdebstrap") {
            ensure(installed("apt-get"), || "missing mmdebstrap".to_owned())?;
            crate::test::packages::install(&["mmdebstrap"])?;
        }
        let new = root.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::create_dir_all(&new)?;
        println!("unpacking Libreswan, OpenIKED and user-mode Linux into {}", root.display());
        let include = format!("--include={PACKAGES}");
        succeed(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", &include, RELEASE]).arg(&new))?;
        let kernel = new.join("lab-kernel");
        fs::rename(unpack(KERNEL_RELEASE, &KERNEL, &kernel)?, &kernel)?;
        symlink("../../lab-kernel/usr/lib/uml/modules", new.join("usr/lib/modules"))?;
        fs::write(new.join("lab-init"), INIT)?;
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::rename(&new, &root)?;
    }
    for (name, script) in [("lab-init", INIT), ("lab-door", DOOR)] {
        let (file, new) = (root.join(name), root.join(format!("{name}.new")));
        fs::write(&new, script)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(new, file)?;
    }
    Ok(())
}

/// A running guest in the place of a gateway.
pub(crate) struct Guest {
    namespace: Arc<Namespace>,
    /// The kernel. It ends with this value, and the guest with it.
    _kernel: Daemon,
}

impl Guest {
    /// Boots a guest that has the interfaces, addresses and routes of `namespace`, which loses them. `folder` becomes
    /// its /mnt.
    ///
    /// # Errors
    /// When it does not boot within a minute.
    pub(crate) fn boot(namespace: &Arc<Namespace>, folder: &Path) -> Result<Self> {
        let moved = namespace.within(|| Ok((link::take_addresses("wan")?, link::take_addresses("lan")?)))?;
        let gateways = [Ipv4Addr::new(192, 0, 2, 1).into(), "2001:db8:1::1".parse::<IpAddr>()?];
        namespace.sysctl("ipv4.ip_forward", "0")?;
        namespace.sysctl("ipv6.conf.all.forwarding", "0")?;
        namespace.sysctl("ipv6.conf.all.disable_ipv6", "1")?;
        link::veth((namespace, "door"), (namespace, "guest"))?;
        namespace.address("door", DOOR_HERE.into(), 30)?;
        let mut kernel = Daemon::new(folder.join("console"));
        let root = root()?;
        let program = root.join("lab-kernel");
        let mut command = Command::new(program.join("usr/bin/linux.uml"));
        command.args([
            "root=/dev/root",
            "rootfstype=hostfs",
            "ro",
            "quiet",
            "loglevel=3",
            "mem=256M",
            "init=/lab-init",
        ]);
        command.args(["con=null", "con0=null,fd:1", "umid=guest"]);
        command.arg(format!("rootflags={}", root.display())).arg(format!("work={}", folder.display()));
        command.arg(format!("uml_dir={}/", folder.display()));
        for (number, interface) in ["wan", "lan", "guest"].into_iter().enumerate() {
            command.arg(format!("vec{number}:transport=raw,ifname={interface}"));
        }
        command.env("HOME", folder).env("TMPDIR", folder);
        std::thread::scope(|scope| {
            let start = scope.spawn(|| {
                with_libraries_of(&program)?;
                kernel.start(namespace, &mut command)
            });
            start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let guest = Self { namespace: Arc::clone(namespace), _kernel: kernel };
        wait_for("a guest's door", Duration::from_secs(60), || guest.run("true").map(Some))?;
        let mut script = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n".to_owned();
        for (interface, addresses) in [("wan", moved.0), ("lan", moved.1)] {
            script += &format!("ip link set {interface} up\n");
            for (address, prefix) in addresses {
                let nodad = if address.is_ipv6() { "nodad" } else { "" };
                script += &format!("ip address add {address}/{prefix} dev {interface} {nodad}\n");
            }
        }
        for gateway in gateways {
            script += &format!("ip route add default via {gateway}\n");
        }
        guest.run(&script)?;
        Ok(guest)
    }

    /// Runs a shell script in the guest; its output.
    ///
    /// # Errors
    /// Its output, when the last command fails; or when the guest does not answer within a minute.
    pub(crate) fn run(&self, script: &str) -> Result<String> {
        let answer = self.namespace.within(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from(DOOR_THERE), DOOR_OPENS)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(script.as_bytes())?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })?;
        let (output, code) = answer.trim_end().rsplit_once("ended ").ok_or("the guest's door closed early")?;
        ensure(code == "0", || format!("in the guest: {output}"))?;
        Ok(output.to_owned())
    }
}

/// What this thread starts from here on runs with the C library in `folder`: the kernel starts itself anew, and so has to find
/// it where such libraries are.
fn with_libraries_of(folder: &Path) -> Result {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    for file in ["lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"] {
        let (own, there) =
            (fs::canonicalize(folder.join("usr").join(file))?, fs::canonicalize(Path::new("/").join(file))?);
        mount(Some(&own), &there, nothing, MsFlags::MS_BIND, nothing)?;
    }
    Ok(())
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What the guest has written reaches the folder now, not some seconds later.
        let _ = self.run("sync");
    }
}
