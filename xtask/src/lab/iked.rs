//! OpenIKED as one of the gateways: iked in a guest, ESP by the guest's kernel.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::gateway::{ChildSa, Connection, Gateway, IkeSa, Program, Start};
use super::guest::Guest;
use super::namespace::Namespace;
use super::sandbox::WORK;
use super::wait_for;
use crate::outcome::{Result, ensure};

/// One OpenIKED gateway. It has no command to establish or to rekey: who begins stands in its configuration.
pub(crate) struct OpenIked {
    namespace: Arc<Namespace>,
    folder: PathBuf,
    guest: Option<Guest>,
    /// Further lines before the policies.
    settings: String,
    connections: Mutex<Vec<Connection>>,
}

impl OpenIked {
    /// Not started yet. `settings` are further lines of iked.conf.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn new(namespace: &Arc<Namespace>, settings: &str) -> Result<Self> {
        let folder = PathBuf::from(WORK).join(namespace.name());
        fs::create_dir_all(&folder)?;
        let (namespace, settings) = (Arc::clone(namespace), settings.to_owned());
        Ok(Self { namespace, folder, guest: None, settings, connections: Mutex::default() })
    }

    fn run(&self, script: &str) -> Result<String> {
        self.guest.as_ref().ok_or("the guest does not run")?.run(script)
    }

    /// Puts the configuration where the daemon reads it; `active` is the connection that shall begin now.
    fn write(&self, active: Option<&str>) -> Result {
        let mut text = format!("{}\n", self.settings);
        for connection in &*self.connections.lock().unwrap_or_else(PoisonError::into_inner) {
            let begins = connection.start == Start::Active || active == Some(&connection.name);
            text += &policies(connection, begins)?;
        }
        self.run(&format!("umask 077; cat >/run/iked.conf <<'END'\n{text}END\n")).map(|_| ())
    }
}

impl Gateway for OpenIked {
    fn program(&self) -> Program {
        Program::OpenIked
    }

    fn configure(&self, connections: &[Connection]) -> Result {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) = connections.to_vec();
        if self.guest.is_some() { self.write(None) } else { Ok(()) }
    }

    fn configure_as_written(&self, _: &str, _: &str) -> Result {
        Err("no page shows a configuration of OpenIKED".into())
    }

    fn reload(&self) -> Result {
        self.run("timeout 5 ikectl reload").map(|_| ())
    }

    fn start(&mut self) -> Result {
        if self.guest.is_none() {
            self.guest = Some(Guest::boot(&self.namespace, &self.folder)?);
        }
        self.write(None)?;
        self.run("rm -f /run/iked.sock; setsid iked -dvv -f /run/iked.conf >>/mnt/log 2>&1 </dev/null &")?;
        wait_for("iked", Duration::from_secs(20), || self.run("timeout 2 ikectl show sa").map(Some)).map(|_| ())
    }

    fn up(&self, connection: &str, child: &str) -> Result {
        self.write(Some(connection))?;
        self.run("timeout 5 ikectl reload")?;
        (self as &dyn Gateway).wait_up(connection, child, Duration::from_secs(20)).map(|_| ())
    }

    fn down(&self, _: &str) -> Result {
        self.write(None)?;
        self.run("timeout 5 ikectl reload && timeout 5 ikectl reset sa").map(|_| ())
    }

    fn rekey_child(&self, _: &str, _: &str) -> Result {
        Err("OpenIKED rekeys when its lifetimes say so, not when asked".into())
    }

    fn rekey_ike(&self, _: &str) -> Result {
        Err("OpenIKED rekeys when its lifetimes say so, not when asked".into())
    }

    fn sas(&self) -> Result<Vec<IkeSa>> {
        let names: Vec<(String, String)> = {
            let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections
                .iter()
                .map(|c| (c.name.clone(), c.children.first().map_or("", |c| &c.name).to_owned()))
                .collect()
        };
        let [(name, child)] = &names[..] else { return Err("one connection for OpenIKED".into()) };
        read_sas(&self.run("timeout 5 ikectl show sa")?, name, child)
    }

    fn shown(&self) -> Result<String> {
        self.run("timeout 5 ikectl show sa")
    }

    fn cause(&self, _: &str) -> Result<String> {
        let log = self.log();
        let named = log.lines().rev().find_map(|line| {
            ["AUTHENTICATION_FAILED", "NO_PROPOSAL_CHOSEN", "TS_UNACCEPTABLE"].into_iter().find(|w| line.contains(w))
        });
        Ok(named.unwrap_or_default().to_owned())
    }

    fn lose_sas(&self) -> Result {
        self.run("ip xfrm state flush").map(|_| ())
    }

    fn stop(&mut self) -> Result {
        if self.guest.is_none() {
            return Ok(());
        }
        self.run(
            "kill $(pgrep -o iked); for n in $(seq 100); do pgrep iked >/dev/null || exit 0; sleep 0.1; done; exit 1",
        )
        .map(|_| ())
    }

    fn kill(&mut self) {
        let _ = self.run("kill -9 $(pgrep iked)");
    }

    fn log(&self) -> String {
        // The guest's view: what it has written may not have reached the folder yet.
        self.run("cat /mnt/log").unwrap_or_default()
    }
}

fn policies(connection: &Connection, active: bool) -> Result<String> {
    let address = |address: Option<std::net::IpAddr>| address.map_or("any".to_owned(), |a| a.to_string());
    let mut text = format!("set dpd_check_interval {}\n", connection.dpd.as_secs());
    write!(text, "ikev2 \"{}\" {} esp", connection.name, if active { "active" } else { "passive" })?;
    for child in &connection.children {
        let [local, remote] = [&child.local_ts, &child.remote_ts];
        for local in local {
            for remote in remote {
                write!(text, " from {local} to {remote}")?;
            }
        }
    }
    write!(text, " local {} peer {}", address(connection.local), address(connection.remote))?;
    for proposal in &connection.ike {
        write!(text, " ikesa{}", transforms(proposal)?)?;
    }
    for proposal in &connection.esp {
        write!(text, " childsa{}", transforms(proposal)?)?;
    }
    let psk = &connection.psk;
    let quote = if psk.starts_with("0x") { "" } else { "\"" };
    writeln!(text, " srcid {} dstid {} psk {quote}{psk}{quote}", connection.local_id, connection.remote_id)?;
    Ok(text)
}

/// A proposal in strongSwan's words turned into OpenIKED's.
fn transforms(proposal: &str) -> Result<String> {
    let mut words = String::new();
    for token in proposal.split('-') {
        match token {
            "x25519" => words += " group curve25519",
            "ecp256" => words += " group ecp256",
            "prfsha256" => words += " prf hmac-sha2-256",
            "prfsha384" => words += " prf hmac-sha2-384",
            "prfsha512" => words += " prf hmac-sha2-512",
            _ => {
                let bits = token.strip_prefix("aes").and_then(|rest| rest.strip_suffix("gcm16"));
                let bits = bits.ok_or_else(|| format!("no word of OpenIKED known for {token}"))?;
                write!(words, " enc aes-{bits}-gcm")?;
            }
        }
    }
    Ok(words)
}

/// Reads `ikectl show sa`. Child SAs stand there one for each direction.
fn read_sas(text: &str, name: &str, child: &str) -> Result<Vec<IkeSa>> {
    let mut sas: Vec<IkeSa> = Vec::new();
    let mut spis: Vec<(bool, u32)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|&w| w == word).and_then(|at| words.get(at + 1)).copied();
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
        if line.starts_with("iked_sas:") {
            let [initiator, responder] = ["ispi", "rspi"].map(after);
            let spis = (hex(initiator.ok_or("no ispi")?)?, hex(responder.ok_or("no rspi")?)?);
            sas.push(IkeSa {
                name: name.to_owned(),
                spis,
                established: words.contains(&"ESTABLISHED"),
                remote: words.iter().find_map(|w| w.split_once("->")).map_or("", |(_, r)| r).to_owned(),
                suite: String::new(),
                nat: words.contains(&"natt"),
                children: Vec::new(),
            });
        } else if line.starts_with("sa_childsas:") {
            let spi = u32::try_from(hex(after("ESP").ok_or("no SPI")?)?)?;
            spis.push((words.contains(&"in"), spi));
        }
    }
    ensure(spis.len().is_multiple_of(2), || format!("half a Child SA in {text}"))?;
    let [incoming, outgoing] =
        [true, false].map(|inward| spis.iter().filter(move |(way, _)| *way == inward).map(|(_, spi)| *spi));
    if let Some(sa) = sas.iter_mut().find(|sa| sa.established) {
        sa.children = incoming
            .zip(outgoing)
            .map(|(spi_in, spi_out)| ChildSa {
                name: child.to_owned(),
                spi_in,
                spi_out,
                suite: String::new(),
                local_ts: Vec::new(),
                remote_ts: Vec::new(),
                packets: (0, 0),
            })
            .collect();
    }
    Ok(sas)
}
