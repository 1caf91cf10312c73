//! OpenIKED as one of the gateways: iked in a guest, ESP by the guest's kernel.

use std::fmt::Write as _;

use super::gateway::{ChildSa, Connection, IkeSa, Program, Start};
use super::in_guest::Dialect;
use crate::outcome::{Result, ensure};

/// The words of iked.conf and `ikectl`. There is no command to establish or to rekey: who begins, and when, stands in the
/// configuration.
pub(crate) struct OpenIked;

const RELOAD: &str = "timeout 5 ikectl reload\n";

impl Dialect for OpenIked {
    const PROGRAM: Program = Program::OpenIked;
    const PROCESS: &'static str = "iked";
    const SHOW: &'static str = "timeout 5 ikectl show sa";
    const STOP: &'static str = "kill $(pgrep -o -x iked)";

    fn files(connections: &[Connection], settings: &str, begins: Option<&str>) -> Result<Vec<(&'static str, String)>> {
        let mut text = format!("{settings}\n");
        for connection in connections {
            let active = connection.start == Start::Active || begins == Some(&connection.name);
            text += &policies(connection, active)?;
        }
        Ok(vec![("iked.conf", text)])
    }

    fn start(_: &[Connection]) -> String {
        "rm -f /run/iked.sock
setsid iked -dvv -f /run/iked.conf >>/mnt/log 2>&1 </dev/null &
for n in $(seq 200); do timeout 2 ikectl show sa >/dev/null 2>&1 && exit 0; sleep 0.1; done
exit 1"
            .to_owned()
    }

    fn reload(_: &[Connection]) -> String {
        RELOAD.to_owned()
    }

    fn up(_: &str, _: &str) -> String {
        RELOAD.to_owned()
    }

    fn down(_: &Connection) -> String {
        format!("{RELOAD}timeout 5 ikectl reset sa")
    }

    fn rekey_child(_: &str, _: &str) -> Result<String> {
        Err("OpenIKED rekeys when its lifetimes say so, not when asked".into())
    }

    fn rekey_ike(connection: &str, child: &str) -> Result<String> {
        Self::rekey_child(connection, child)
    }

    fn sas(shown: &str, connections: &[Connection]) -> Result<Vec<IkeSa>> {
        let [connection] = connections else { return Err("one connection for OpenIKED".into()) };
        read_sas(shown, &connection.name, connection.children.first().map_or("", |child| &child.name))
    }
}

fn policies(connection: &Connection, active: bool) -> Result<String> {
    let address = |address: Option<std::net::IpAddr>| address.map_or("any".to_owned(), |a| a.to_string());
    let mut text = format!("set dpd_check_interval {}\n", connection.dpd.as_secs());
    let mode = if connection.children.iter().all(|child| child.transport) { " transport" } else { "" };
    write!(text, "ikev2 \"{}\" {}{mode} esp", connection.name, if active { "active" } else { "passive" })?;
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
