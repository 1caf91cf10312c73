//! Our own gateway, as its users run it: a TOML file, a daemon, a control socket.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use super::daemon::Daemon;
use super::gateway::{ChildSa, Connection, Gateway, IkeSa, Program, Start};
use super::namespace::Namespace;
use super::sandbox::WORK;
use crate::outcome::{Result, ensure};

/// One `portcullis` gateway.
pub(crate) struct Portcullis {
    namespace: Arc<Namespace>,
    folder: PathBuf,
    daemon: Daemon,
    /// Lines for `[gateway]`.
    settings: String,
    /// Where it looks for programs first.
    programs: Option<PathBuf>,
}

impl Portcullis {
    /// Not started yet. `settings` are further lines of `[gateway]`, such as `cookie-threshold = 2`.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn new(namespace: &Arc<Namespace>, settings: &str) -> Result<Self> {
        let folder = PathBuf::from(WORK).join(namespace.name());
        fs::create_dir_all(&folder)?;
        let daemon = Daemon::new(folder.join("log"));
        Ok(Self { namespace: Arc::clone(namespace), folder, daemon, settings: settings.to_owned(), programs: None })
    }

    fn program() -> Result<Command> {
        Ok(Command::new(crate::checkout::portcullis()?))
    }

    fn write_psk(&self, name: &str, psk: &str) -> Result {
        let file = self.folder.join(format!("{name}.psk"));
        fs::write(&file, psk)?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?)
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// Runs a command of the program against the daemon; its output.
    fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = Self::program()?.arg("--control").arg(self.control()).args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // 4: something is down, which is for the scenario to judge.
        if output.status.success() || output.status.code() == Some(4) {
            return Ok(text);
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("portcullis {}: {text}{errors}", arguments.join(" ")).into())
    }

    /// Whether the daemon runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.daemon.runs()
    }

    /// From its next start on it looks for programs in `folder` first.
    pub(crate) fn look_first_in(&mut self, folder: &Path) {
        self.programs = Some(folder.to_owned());
    }

    /// The processes that the daemon has started.
    pub(crate) fn children(&self) -> Result<Vec<Pid>> {
        let mut children = Vec::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.daemon.process()?))? {
            let list = fs::read_to_string(thread?.path().join("children"))?;
            children.extend(list.split_whitespace().filter_map(|id| id.parse().ok()).map(Pid::from_raw));
        }
        Ok(children)
    }

    /// Sends a signal to the daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn signal(&self, signal: Signal) -> Result {
        self.daemon.signal(signal)
    }

    /// `doctor`, which is run where the daemon is: whether all is well, and its words.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(crate) fn doctor(&self) -> Result<(bool, String)> {
        let mut command = Self::program()?;
        command.arg("--control").arg(self.control()).arg("doctor").arg("--config");
        command.arg(self.folder.join("portcullis.toml")).stdin(Stdio::null()).stdout(Stdio::piped());
        let output = self.namespace.spawn(command.stderr(Stdio::piped()))?.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Changes the text of its configuration.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) -> Result {
        let file = self.folder.join("portcullis.toml");
        Ok(fs::write(&file, change(fs::read_to_string(&file)?))?)
    }

    /// `block`: as before the first start.
    ///
    /// # Errors
    /// Its words.
    pub(crate) fn block(&self) -> Result {
        let config = self.folder.join("portcullis.toml");
        on(&self.namespace, Self::program()?.arg("block").arg("--config").arg(config))
    }

    /// `status --json`.
    ///
    /// # Errors
    /// When the daemon does not answer or the answer is no JSON.
    pub(crate) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.command(&["status", "--json", "--all"])?)?)
    }
}

/// `portcullis release` on the machine of an ended gateway.
///
/// # Errors
/// Its words.
pub(crate) fn release(machine: &Namespace) -> Result {
    on(machine, Portcullis::program()?.arg("release"))
}

/// Runs a command of the program that wants no daemon.
fn on(machine: &Namespace, command: &mut Command) -> Result {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = machine.spawn(command)?.wait_with_output()?;
    ensure(output.status.success(), || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Gateway for Portcullis {
    fn program(&self) -> Program {
        Program::Portcullis
    }

    fn configure(&self, connections: &[Connection]) -> Result {
        for connection in connections {
            self.write_psk(&connection.name, &connection.psk)?;
        }
        Ok(fs::write(self.folder.join("portcullis.toml"), toml(&self.control(), &self.settings, connections)?)?)
    }

    fn configure_as_written(&self, text: &str, psk: &str) -> Result {
        for file in text.lines().filter_map(|line| line.trim().strip_prefix("psk-file")) {
            let name = file.split('"').nth(1).and_then(|name| name.strip_suffix(".psk"));
            self.write_psk(name.ok_or("a psk-file that is not called NAME.psk")?, psk)?;
        }
        // The socket alone is ours, so that several gateways can run on one machine.
        let text = format!("[gateway]\ncontrol = \"{}\"\n{text}", self.control().display());
        Ok(fs::write(self.folder.join("portcullis.toml"), text)?)
    }

    fn reload(&self) -> Result {
        self.command(&["reload"]).map(|_| ())
    }

    fn start(&mut self) -> Result {
        let config = self.folder.join("portcullis.toml");
        let mut command = Self::program()?;
        if let Some(first) = &self.programs {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", first.display()));
        }
        self.daemon.start(&self.namespace, command.arg("run").arg("--config").arg(config))?;
        let control = self.control();
        self.daemon.wait_for_socket(&control)
    }

    fn up(&self, connection: &str, child: &str) -> Result {
        self.command(&["up", &format!("{connection}/{child}")]).map(|_| ())
    }

    fn down(&self, connection: &str) -> Result {
        self.command(&["down", connection]).map(|_| ())
    }

    fn rekey_child(&self, connection: &str, child: &str) -> Result {
        self.command(&["rekey", &format!("{connection}/{child}")]).map(|_| ())
    }

    fn rekey_ike(&self, connection: &str) -> Result {
        self.command(&["rekey", connection, "--ike"]).map(|_| ())
    }

    fn sas(&self) -> Result<Vec<IkeSa>> {
        let status = self.status()?;
        let peers = status["peers"].as_array().ok_or("status --json has no peers")?;
        Ok(peers.iter().filter(|peer| peer["ike"].is_object()).map(ike_sa).collect())
    }

    fn shown(&self) -> Result<String> {
        self.command(&["status"])
    }

    fn cause(&self, connection: &str) -> Result<String> {
        let status = self.status()?;
        let peer = status["peers"].as_array().into_iter().flatten().find(|peer| peer["name"] == connection);
        Ok(peer.map(|peer| text(&peer["cause"]["code"])).unwrap_or_default())
    }

    fn stop(&mut self) -> Result {
        self.daemon.stop()
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }

    fn log(&self) -> String {
        self.daemon.output()
    }
}

fn ike_sa(peer: &Value) -> IkeSa {
    let ike = &peer["ike"];
    let spi = |key: &str| hex(&ike[key]);
    let (local, remote) = (spi("spi_local"), spi("spi_remote"));
    IkeSa {
        name: text(&peer["name"]),
        spis: if ike["initiator"].as_bool() == Some(true) { (local, remote) } else { (remote, local) },
        established: peer["state"] == "connected",
        remote: text(&ike["remote"]),
        suite: text(&ike["suite"]),
        nat: ike["nat"].as_bool().unwrap_or(!ike["nat"].is_null() && ike["nat"] != "none"),
        children: peer["children"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|child| !child["spi_in"].is_null())
            .map(child_sa)
            .collect(),
    }
}

fn child_sa(child: &Value) -> ChildSa {
    let list = |key: &str| child[key].as_array().into_iter().flatten().map(text).collect();
    let number = |key: &str| child[key].as_u64().unwrap_or(0);
    ChildSa {
        name: text(&child["name"]),
        spi_in: u32::try_from(hex(&child["spi_in"])).unwrap_or(0),
        spi_out: u32::try_from(hex(&child["spi_out"])).unwrap_or(0),
        suite: text(&child["suite"]),
        local_ts: list("local_ts"),
        remote_ts: list("remote_ts"),
        packets: (number("packets_in"), number("packets_out")),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An SPI: hex, with or without `0x`.
fn hex(value: &Value) -> u64 {
    let digits = value.as_str().unwrap_or_default();
    u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).unwrap_or(0)
}

fn toml(control: &Path, settings: &str, connections: &[Connection]) -> Result<String> {
    let mut file = String::new();
    writeln!(file, "[gateway]\ncontrol = \"{}\"\ntun = \"pcl0\"\nlog = \"debug\"\n{settings}", control.display())?;
    for connection in connections {
        let Connection { name, local_id, remote_id, .. } = connection;
        let address = |address: Option<std::net::IpAddr>| address.map_or("any".to_owned(), |a| a.to_string());
        writeln!(file, "\n[[peer]]\nname = \"{name}\"")?;
        writeln!(file, "local = \"{}\"\nremote = \"{}\"", address(connection.local), address(connection.remote))?;
        writeln!(file, "local-id = \"{local_id}\"\nremote-id = \"{remote_id}\"\npsk-file = \"{name}.psk\"")?;
        let start = match connection.start {
            Start::Active => "active",
            Start::Passive => "passive",
            Start::OnDemand => "on-demand",
        };
        writeln!(file, "start = \"{start}\"\nencap = \"{}\"", if connection.encap { "always" } else { "auto" })?;
        writeln!(file, "ike = {:?}\ndpd = \"{}s\"", connection.ike, connection.dpd.as_secs())?;
        for child in &connection.children {
            writeln!(file, "\n[[peer.child]]\nname = \"{}\"\nmode = \"tunnel\"", child.name)?;
            writeln!(file, "local-ts = {:?}\nremote-ts = {:?}", child.local_ts, child.remote_ts)?;
            writeln!(file, "esp = {:?}\nrekey = \"1h\"", connection.esp)?;
        }
    }
    Ok(file)
}
