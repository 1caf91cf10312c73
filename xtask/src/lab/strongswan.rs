//! strongSwan 5.9.8 or later as one of the gateways: charon-systemd with the user-space ESP of kernel-libipsec.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::daemon::Daemon;
use super::gateway::{ChildSa, Connection, Gateway, IkeSa, Program, Start};
use super::namespace::Namespace;
use super::sandbox::WORK;
use crate::outcome::Result;

mod raw;

/// kernel-libipsec stands before kernel-netlink, which then does routes and addresses only.
const PLUGINS: &str = "random nonce aes sha1 sha2 md5 hmac kdf openssl curve25519 chapoly gcm ccm ctr cmac xcbc gmp \
                       pem pkcs1 pkcs8 x509 pubkey revocation constraints drbg kernel-libipsec kernel-netlink \
                       socket-default vici updown counters";

/// One strongSwan gateway.
pub(crate) struct StrongSwan {
    namespace: Arc<Namespace>,
    folder: PathBuf,
    daemon: Daemon,
    /// Lines for the daemon's section of strongswan.conf.
    settings: String,
}

impl StrongSwan {
    /// Not started yet. `settings` are further lines of strongswan.conf, such as `cookie_threshold = 1`.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn new(namespace: &Arc<Namespace>, settings: &str) -> Result<Self> {
        let folder = PathBuf::from(WORK).join(namespace.name());
        for part in
            ["swanctl/x509", "swanctl/x509ca", "swanctl/private", "swanctl/ecdsa", "swanctl/rsa", "swanctl/pkcs8"]
        {
            fs::create_dir_all(folder.join(part))?;
        }
        let daemon = Daemon::new(folder.join("out"));
        Ok(Self { namespace: Arc::clone(namespace), folder, daemon, settings: settings.to_owned() })
    }

    fn daemon_conf(&self) -> String {
        let folder = self.folder.display();
        let settings = &self.settings;
        // A dead peer is noticed after about 13 s: 1 + 1.5 + 2.3 + 3.4 + 5.1.
        format!(
            "charon-systemd {{
  load = {PLUGINS}
  retransmit_timeout = 1.0
  retransmit_base = 1.5
  retransmit_tries = 4
  {settings}
  plugins {{
    vici {{ socket = unix://{folder}/vici }}
    kernel-libipsec {{ allow_peer_ts = yes }}
  }}
  filelog {{ f {{
    path = {folder}/log
    default = 1
    cfg = 2
    flush_line = yes
    time_format = %H:%M:%S
  }} }}
}}
"
        )
    }

    /// Runs swanctl; its output.
    fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let uri = format!("unix://{}/vici", self.folder.display());
        let output = Command::new("swanctl")
            .args(arguments)
            .args(["--uri", &uri])
            .env("SWANCTL_DIR", self.folder.join("swanctl"))
            .env("STRONGSWAN_CONF", self.folder.join("strongswan.conf"))
            .output()
            .map_err(|error| format!("swanctl: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("swanctl {}: {}{}", arguments.join(" "), text, errors).into())
    }

    fn vici(&self) -> PathBuf {
        self.folder.join("vici")
    }
}

impl Gateway for StrongSwan {
    fn program(&self) -> Program {
        Program::StrongSwan
    }

    fn configure(&self, connections: &[Connection]) -> Result {
        Ok(fs::write(self.folder.join("swanctl/swanctl.conf"), swanctl_conf(connections)?)?)
    }

    fn configure_as_written(&self, text: &str, _: &str) -> Result {
        Ok(fs::write(self.folder.join("swanctl/swanctl.conf"), text)?)
    }

    fn reload(&self) -> Result {
        self.swanctl(&["--load-all", "--clear"]).map(|_| ())
    }

    fn start(&mut self) -> Result {
        let conf = self.folder.join("strongswan.conf");
        fs::write(&conf, self.daemon_conf())?;
        self.daemon.start(&self.namespace, Command::new("charon-systemd").env("STRONGSWAN_CONF", &conf))?;
        let vici = self.vici();
        self.daemon.wait_for_socket(&vici)?;
        self.swanctl(&["--load-all"]).map(|_| ())
    }

    fn up(&self, connection: &str, child: &str) -> Result {
        self.swanctl(&["--initiate", "--ike", connection, "--child", child, "--timeout", "20"]).map(|_| ())
    }

    fn down(&self, connection: &str) -> Result {
        self.swanctl(&["--terminate", "--ike", connection, "--timeout", "10"]).map(|_| ())
    }

    fn rekey_child(&self, connection: &str, child: &str) -> Result {
        self.swanctl(&["--rekey", "--ike", connection, "--child", child]).map(|_| ())
    }

    fn rekey_ike(&self, connection: &str) -> Result {
        self.swanctl(&["--rekey", "--ike", connection]).map(|_| ())
    }

    fn sas(&self) -> Result<Vec<IkeSa>> {
        let text = self.swanctl(&["--list-sas", "--raw"])?;
        let mut sas = Vec::new();
        for event in raw::parse(&text)? {
            for (name, sa) in event.sections() {
                sas.push(ike_sa(name, sa));
            }
        }
        Ok(sas)
    }

    fn shown(&self) -> Result<String> {
        self.swanctl(&["--list-sas"])
    }

    fn cause(&self, _: &str) -> Result<String> {
        // strongSwan keeps no cause; its log names the last error notify.
        let log = self.log();
        let named = log.lines().rev().find_map(|line| {
            ["AUTHENTICATION_FAILED", "NO_PROPOSAL_CHOSEN", "TS_UNACCEPTABLE"].into_iter().find(|word| {
                let (sent, notify) = (format!("N({})", short(word)), format!("{word} notify"));
                line.contains(&sent) || line.contains(&notify)
            })
        });
        Ok(named.unwrap_or_default().to_owned())
    }

    fn stop(&mut self) -> Result {
        self.daemon.stop()
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default() + &self.daemon.output()
    }
}

/// strongSwan's abbreviation of a notify in its lines `generating IKE_AUTH response 1 [ N(AUTH_FAILED) ]`.
fn short(notify: &str) -> &str {
    match notify {
        "AUTHENTICATION_FAILED" => "AUTH_FAILED",
        "NO_PROPOSAL_CHOSEN" => "NO_PROP",
        "TS_UNACCEPTABLE" => "TS_UNACCEPT",
        other => other,
    }
}

fn ike_sa(name: &str, sa: &raw::Section) -> IkeSa {
    let hex = |key| u64::from_str_radix(sa.value(key), 16).unwrap_or(0);
    let suite = ["encr-alg", "encr-keysize", "prf-alg", "dh-group"].map(|key| sa.value(key)).join(" ");
    let mut children = Vec::new();
    for (_, child) in sa.section("child-sas").into_iter().flat_map(raw::Section::sections) {
        if child.value("state") == "INSTALLED" {
            children.push(child_sa(child));
        }
    }
    IkeSa {
        name: name.to_owned(),
        spis: (hex("initiator-spi"), hex("responder-spi")),
        established: sa.value("state") == "ESTABLISHED",
        remote: format!("{}[{}]", sa.value("remote-host"), sa.value("remote-port")),
        suite,
        nat: !sa.value("nat-local").is_empty() || !sa.value("nat-remote").is_empty(),
        children,
    }
}

fn child_sa(child: &raw::Section) -> ChildSa {
    let spi = |key| u32::from_str_radix(child.value(key), 16).unwrap_or(0);
    let number = |key| child.value(key).parse().unwrap_or(0);
    ChildSa {
        name: child.value("name").to_owned(),
        spi_in: spi("spi-in"),
        spi_out: spi("spi-out"),
        suite: ["encr-alg", "encr-keysize", "dh-group"].map(|key| child.value(key)).join(" "),
        local_ts: child.list("local-ts").to_vec(),
        remote_ts: child.list("remote-ts").to_vec(),
        packets: (number("packets-in"), number("packets-out")),
    }
}

fn swanctl_conf(connections: &[Connection]) -> Result<String> {
    let mut text = String::from("connections {\n");
    let mut secrets = String::from("secrets {\n");
    for (number, connection) in connections.iter().enumerate() {
        let Connection { name, local_id, remote_id, .. } = connection;
        let address = |address: Option<std::net::IpAddr>| address.map_or("%any".to_owned(), |a| a.to_string());
        let active = connection.start == Start::Active;
        writeln!(text, "  {name} {{\n    version = 2")?;
        writeln!(text, "    local_addrs = {}", address(connection.local))?;
        writeln!(text, "    remote_addrs = {}", address(connection.remote))?;
        writeln!(text, "    proposals = {}", connection.ike.join(", "))?;
        writeln!(text, "    dpd_delay = {}s", connection.dpd.as_secs())?;
        writeln!(text, "    encap = {}", if connection.encap { "yes" } else { "no" })?;
        writeln!(text, "    keyingtries = 0\n    mobike = no")?;
        writeln!(text, "    local {{\n      auth = psk\n      id = {local_id}\n    }}")?;
        writeln!(text, "    remote {{\n      auth = psk\n      id = {remote_id}\n    }}\n    children {{")?;
        for child in &connection.children {
            writeln!(text, "      {} {{", child.name)?;
            writeln!(text, "        local_ts = {}", child.local_ts.join(", "))?;
            writeln!(text, "        remote_ts = {}", child.remote_ts.join(", "))?;
            writeln!(text, "        esp_proposals = {}", connection.esp.join(", "))?;
            writeln!(text, "        start_action = {}", if active { "start" } else { "none" })?;
            writeln!(text, "        dpd_action = {}", if active { "restart" } else { "clear" })?;
            writeln!(text, "      }}")?;
        }
        writeln!(text, "    }}\n  }}")?;
        writeln!(secrets, "  ike-{number} {{\n    id-1 = {local_id}\n    id-2 = {remote_id}")?;
        let quote = if connection.psk.starts_with("0x") { "" } else { "\"" };
        writeln!(secrets, "    secret = {quote}{}{quote}\n  }}", connection.psk)?;
    }
    Ok(text + "}\n" + &secrets + "}\n")
}
