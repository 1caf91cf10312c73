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
    /// Its directory for what is to last.
    state: Option<State>,
}

/// A directory on a disk, unlike all else of the lab: what is to last is not kept in memory. It goes with this value.
struct State(PathBuf);

impl State {
    fn new() -> Result<Self> {
        let all = crate::checkout::target()?.join("lab-state");
        fs::create_dir_all(&all)?;
        // Each scenario is process 1 to itself: its number tells it from no other one.
        Ok(Self(nix::unistd::mkdtemp(&all.join("XXXXXX"))?))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
        Ok(Self {
            namespace: Arc::clone(namespace),
            folder,
            daemon,
            settings: settings.to_owned(),
            programs: None,
            state: None,
        })
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

    /// From its next start on it has a directory for what is to last.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn keep_state(&mut self) -> Result {
        self.state = Some(State::new()?);
        Ok(())
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

    /// Octets of the daemon that are in memory.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn resident(&self) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.process()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse::<usize>()? * 1024)
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
        self.json(&["status", "--json", "--all"])
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.command(arguments)?)?)
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
        command.arg("run").arg("--config").arg(config);
        if let Some(State(state)) = &self.state {
            command.arg("--state").arg(state);
        }
        self.daemon.start(&self.namespace, &mut command)?;
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
        ike_sas(&self.json(&["show", "--json"])?, &self.status()?)
    }

    fn shown(&self) -> Result<String> {
        self.command(&["status"])
    }

    fn cause(&self, connection: &str) -> Result<String> {
        let status = self.status()?;
        Ok(text(&named(&status["peers"], connection)["cause"]["code"]))
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

/// Those of `show --json`: `status` shows one of each peer and would hide another.
fn ike_sas(shown: &Value, status: &Value) -> Result<Vec<IkeSa>> {
    let ike = shown["ike"].as_array().ok_or("show --json has no IKE SAs")?;
    Ok(ike.iter().map(|ike| ike_sa(ike, shown, status)).collect())
}

fn ike_sa(ike: &Value, shown: &Value, status: &Value) -> IkeSa {
    let (local, remote) = (hex(&ike["spi_local"]), hex(&ike["spi_remote"]));
    let name = text(&ike["peer"]);
    let own = |sa: &&Value| sa["ike"] == ike["spi_local"] && sa["direction"] == "in" && sa["replaced"] == false;
    let children = shown["sad"].as_array().into_iter().flatten().filter(own);
    IkeSa {
        spis: if ike["initiator"] == true { (local, remote) } else { (remote, local) },
        established: ike["state"] == "established",
        remote: text(&ike["remote"]),
        suite: text(&ike["suite"]),
        nat: ike["nat"] == true,
        children: children.map(|sa| child_sa(sa, named(&status["peers"], &name))).collect(),
        name,
    }
}

/// A Child SA by its receiving half, and what went through its child, whose counts go on over rekeys.
fn child_sa(sa: &Value, peer: &Value) -> ChildSa {
    let name = text(&sa["child"]).split_once('/').map(|(_, child)| child.to_owned()).unwrap_or_default();
    let child = named(&peer["children"], &name);
    let list = |key: &str| sa[key].as_array().into_iter().flatten().map(text).collect();
    let spi = |key: &str| u32::try_from(hex(&sa[key])).unwrap_or(0);
    let packets = |key: &str| child[key].as_u64().unwrap_or(0);
    ChildSa {
        spi_in: spi("spi_in"),
        spi_out: spi("spi_out"),
        suite: text(&sa["suite"]),
        local_ts: list("local_ts"),
        remote_ts: list("remote_ts"),
        packets: (packets("packets_in"), packets("packets_out")),
        name,
    }
}

/// The one of a list that has this name.
fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().into_iter().flatten().find(|one| one["name"] == name).unwrap_or(&Value::Null)
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
        writeln!(file, "dpd = \"{}s\"", connection.dpd.as_secs())?;
        file += &proposals("ike", &connection.ike);
        for child in &connection.children {
            let mode = if child.transport { "transport" } else { "tunnel" };
            writeln!(file, "\n[[peer.child]]\nname = \"{}\"\nmode = \"{mode}\"", child.name)?;
            writeln!(file, "local-ts = {:?}\nremote-ts = {:?}", child.local_ts, child.remote_ts)?;
            writeln!(file, "rekey = \"1h\"")?;
            if child.compress {
                writeln!(file, "compress = \"yes\"")?;
            }
            if let Some(octets) = child.tfc_padding {
                writeln!(file, "tfc-padding = {octets}")?;
            }
            file += &proposals("esp", &connection.esp);
        }
    }
    Ok(file)
}

/// Without any it is the program's own choice.
fn proposals(key: &str, list: &[String]) -> String {
    if list.is_empty() { String::new() } else { format!("{key} = {list:?}\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn f_60_a_second_ike_sa_and_a_second_child_sa_on_our_side_are_seen() {
        let ike = |local: &str, state: &str| {
            json!({"peer": "peer", "state": state, "initiator": true, "spi_local": local, "spi_remote": "0b",
                   "suite": "", "remote": "192.0.2.2:500", "nat": false})
        };
        let half = |spi: &str, direction: &str, replaced: bool| {
            json!({"child": "peer/net", "ike": "0a", "direction": direction, "replaced": replaced, "spi_in": spi,
                   "spi_out": "0x00000009", "suite": "", "local_ts": ["10.1.0.0/16"], "remote_ts": ["10.2.0.0/16"]})
        };
        let received = [half("0x1", "in", true), half("0x2", "in", false), half("0x3", "in", false)];
        let sad = [&received[..], &[half("0x2", "out", false)]].concat();
        let ikes = [ike("0a", "established"), ike("0c", "established"), ike("0d", "closing")];
        let shown = json!({"ike": ikes, "sad": sad});
        let child = json!({"name": "net", "packets_in": 5, "packets_out": 7});
        let sas = ike_sas(&shown, &json!({"peers": [{"name": "peer", "children": [child]}]})).unwrap();
        let seen: Vec<_> = sas.iter().map(|sa| (sa.spis, sa.established, sa.children.len())).collect();
        assert_eq!(seen, [((0xa, 0xb), true, 2), ((0xc, 0xb), true, 0), ((0xd, 0xb), false, 0)]);
        let children: Vec<_> = sas[0].children.iter().map(|sa| (sa.name.as_str(), sa.spi_in, sa.packets)).collect();
        assert_eq!(children, [("net", 2, (5, 7)), ("net", 3, (5, 7))]);
    }
}
