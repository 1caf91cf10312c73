//! Our units under a systemd of their own: process 1 of namespaces with the units of this scenario and no others, and with
//! an /etc, a /usr/local and temporary folders that go with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Ends, Scenario};
use crate::checkout::{portcullis, root};
use crate::lab::daemon::Daemon;
use crate::lab::pair::Pair;
use crate::lab::sandbox::WORK;
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    // Not everybody who may make networks may be a systemd's host.
    vec![Scenario::new("the-units-under-systemd", units).ours().thorough()]
}

const SYSTEMD: &str = "/lib/systemd/systemd";

const CONFIGURATION: &str = "\
[[peer]]
name = \"cloud\"
local = \"192.0.2.1\"
remote = \"192.0.2.77\"
psk = \"0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"
start = \"active\"

[[peer.child]]
name = \"net\"
local-ts = [\"10.1.0.0/16\"]
remote-ts = [\"10.77.0.0/16\"]
";

/// The units that ours name, without a word of their own.
const TARGETS: [&str; 7] = ["sysinit", "basic", "local-fs", "network-pre", "network-online", "multi-user", "shutdown"];

/// Makes a place for a systemd and becomes it. It gets a control group of its own, which nobody else's tools are in.
const BOOT: &str = r#"
here=/run/service
mkdir -p $here/groups
mount -t cgroup2 cgroup2 $here/groups
group=$(mktemp -d $here/groups/portcullis-XXXXXX)
echo $$ > $group/cgroup.procs
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh -euc '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
for folder in /etc /usr/local; do
    mkdir -p $0/upper$folder $0/work$folder
    mount -t overlay -o lowerdir=$folder,upperdir=$0/upper$folder,workdir=$0/work$folder overlay $folder
done
install -d -m 700 /etc/portcullis
install -m 600 $0/portcullis.toml /etc/portcullis/
install -m 755 $0/portcullis /usr/local/bin/
exec env -i container=lab PATH="$PATH" SYSTEMD_UNIT_PATH=$0/units SYSTEMD_GENERATOR_PATH=$0/none \
    "$1" --system --log-target=console --show-status=no' $here "$1"
"#;

/// What an operator does and what becomes of it. The first line that fails ends it.
const CHECK: &str = r#"
cd /run/service
trap 'echo $? > verdict' EXIT
state() { systemctl show --property "$1" --value portcullis; }
soon() { for _ in $(seq 150); do if eval "$1"; then return 0; fi; sleep 0.1; done; echo "in vain: $1"; return 1; }
closed() { nft list table inet portcullis | grep -q 10.77.0.0/16 && ip route show table 4500 | grep -q unreachable; }

: "the boundary was closed before the daemon began"
soon '[ "$(state ActiveState)" = active ]'
[ "$(systemctl show --property Result --value portcullis-block)" = success ]
[ "$(systemctl show --property ExecMainExitTimestampMonotonic --value portcullis-block)" -lt \
    "$(state ExecMainStartTimestampMonotonic)" ]
closed
portcullis status | grep -q '^cloud'

: "killed, it comes again, and in between nothing is open"
printf '[Service]\nRestartSec=5s\n' > units/portcullis.service.d/slow.conf
systemctl daemon-reload
systemctl kill --signal KILL portcullis
soon '[ "$(state SubState)" = auto-restart ]'
[ ! -e /sys/class/net/pcl0 ]
closed
[ "$(state SubState)" = auto-restart ]
rm units/portcullis.service.d/slow.conf
systemctl daemon-reload
soon '[ "$(state NRestarts)" = 1 ] && [ "$(state ActiveState)" = active ]'

: "it reloads, restarts and stops, and what it leaves is closed"
systemctl reload portcullis
cp /etc/portcullis/portcullis.toml right
echo 'x =' >> /etc/portcullis/portcullis.toml
if systemctl reload portcullis; then exit 1; fi
grep -q 'portcullis.toml:[0-9]*:[0-9]*: ' portcullis.log
[ "$(state ActiveState)" = active ]
cat right > /etc/portcullis/portcullis.toml
systemctl reload portcullis
systemctl restart portcullis
portcullis status | grep -q '^cloud'
systemctl stop portcullis
[ "$(state Result)" = success ]
closed

: "what somebody removes while none runs the other unit sets again"
nft delete table inet portcullis
ip route flush table 4500
if closed; then exit 1; fi
systemctl restart portcullis-block
closed

: "a wrong configuration stays wrong: nobody tries again"
echo 'x =' >> /etc/portcullis/portcullis.toml
if systemctl start portcullis; then exit 1; fi
sleep 3
[ "$(state ActiveState)" = failed ]
[ "$(state ExecMainStatus)" = 2 ]
[ "$(state NRestarts)" = 0 ]
cat right > /etc/portcullis/portcullis.toml

: "what may pass is tried again until it has passed"
ip tuntap add dev pcl0 mode tun
systemctl start --no-block portcullis
soon '[ "$(state NRestarts)" -ge 6 ]'
ip link delete pcl0
soon '[ "$(state ActiveState)" = active ]'
closed
"#;

/// Its control groups, which nobody removes for it; who was in them may still be on the way out.
const TIDY: &str = r#"
cd /run/service
for _ in $(seq 50); do
    find groups/portcullis-?????? -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
done
umount groups
"#;

/// The units as they are installed, from the start of the machine on.
fn units(_ends: Ends) -> Result<String> {
    ensure(Path::new(SYSTEMD).is_file(), || format!("there is no {SYSTEMD}; on Debian install systemd"))?;
    let pair = Pair::new(1)?;
    let folder = PathBuf::from(WORK).join("service");
    let units = folder.join("units");
    fs::create_dir_all(&units)?;
    for name in TARGETS {
        fs::write(units.join(format!("{name}.target")), "[Unit]\nDefaultDependencies=no\n")?;
    }
    fs::write(
        units.join("default.target"),
        "[Unit]\nWants=portcullis-block.service portcullis.service check.service\n",
    )?;
    let said =
        |name: &str| format!("[Service]\nStandardOutput=append:/run/service/{name}.log\nStandardError=inherit\n");
    for name in ["portcullis", "portcullis-block"] {
        let unit = root().join(format!("appliance-linux/{name}.service"));
        fs::copy(unit, units.join(format!("{name}.service")))?;
        // There is no journal.
        fs::create_dir_all(units.join(format!("{name}.service.d")))?;
        fs::write(units.join(format!("{name}.service.d/output.conf")), said(name))?;
    }
    let check = said("check") + "Type=exec\nExecStart=/bin/sh -eux /run/service/check.sh\n";
    fs::write(units.join("check.service"), check)?;
    fs::write(folder.join("check.sh"), CHECK)?;
    fs::write(folder.join("boot.sh"), BOOT)?;
    fs::write(folder.join("portcullis.toml"), CONFIGURATION)?;
    fs::set_permissions(folder.join("portcullis.toml"), fs::Permissions::from_mode(0o600))?;
    fs::copy(portcullis()?, folder.join("portcullis"))?;

    let mut systemd = Daemon::new(PathBuf::from(WORK).join("systemd.log"));
    systemd.start(&pair.west.gateway, Command::new("sh").args(["-eu", "/run/service/boot.sh", SYSTEMD]))?;
    let verdict =
        wait_for("the verdict", Duration::from_secs(60), || Ok(fs::read_to_string(folder.join("verdict")).ok()));
    systemd.kill();
    let _ = Command::new("sh").args(["-c", TIDY]).status();
    let log = fs::read_to_string(folder.join("check.log")).unwrap_or_else(|_| systemd.output());
    let end = || log.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    let verdict = verdict.map_err(|error| format!("{error}: {}", end()))?;
    ensure(verdict.trim() == "0", || format!("the last steps were:\n{}", end()))?;
    Ok(format!("{} steps", log.lines().filter(|line| line.starts_with("+ : ")).count()))
}
