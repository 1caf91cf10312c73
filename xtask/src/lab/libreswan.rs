//! Libreswan as one of the gateways: pluto in a guest, ESP by the guest's kernel.
//!
//! It has one "connection" for each child, called PEER-CHILD. Its status tells no IKE SPIs and counts octets, not packets.

use std::fmt::Write as _;

use super::gateway::{Child, ChildSa, Connection, IkeSa, Program, Start};
use super::in_guest::Dialect;
use crate::outcome::{Result, ensure};

/// The words of pluto and of `ipsec`.
pub(crate) struct Libreswan;

/// What the service of the package does before and at a start.
const START: &str = "\
mkdir -p /run/pluto /run/nss
test -e /run/nss/cert9.db || ipsec initnss --nssdir /run/nss >/dev/null
rm -f /run/pluto/pluto.*
ip xfrm state flush
ip xfrm policy flush
/usr/libexec/ipsec/pluto --config /run/ipsec.conf --secretsfile /run/ipsec.secrets --nssdir /run/nss \
  --rundir /run/pluto --logfile /mnt/log >>/mnt/out 2>&1 || exit 1
tries=0
until ipsec whack --listen >/dev/null 2>&1; do
  tries=$((tries + 1)); test $tries -lt 100 || exit 1
  sleep 0.1
done
";

impl Dialect for Libreswan {
    const PROGRAM: Program = Program::Libreswan;
    const PROCESS: &'static str = "pluto";
    const SHOW: &'static str = "ipsec whack --status";
    const STOP: &'static str = "ipsec whack --shutdown";

    fn files(connections: &[Connection], settings: &str, _: Option<&str>) -> Result<Vec<(&'static str, String)>> {
        let (mut text, mut secrets) = ("config setup\n".to_owned(), String::new());
        for connection in connections {
            for child in &connection.children {
                let [local, remote] = [&child.local_ts, &child.remote_ts];
                ensure(local.len() == 1 && remote.len() == 1, || {
                    format!("Libreswan's {} has one selector a side", child.name)
                })?;
                writeln!(text, "conn {}", name(&connection.name, &child.name))?;
                text += &conn(connection, child, &local[0], &remote[0])?;
                for line in settings.lines() {
                    writeln!(text, "  {line}")?;
                }
            }
            let quote = if connection.psk.starts_with("0x") { "" } else { "\"" };
            let Connection { local_id, remote_id, psk, .. } = connection;
            writeln!(secrets, "@{local_id} @{remote_id} : PSK {quote}{psk}{quote}")?;
        }
        Ok(vec![("ipsec.conf", text), ("ipsec.secrets", secrets)])
    }

    fn start(connections: &[Connection]) -> String {
        format!("{START}{}", Self::reload(connections))
    }

    fn reload(connections: &[Connection]) -> String {
        let mut script = "ipsec whack --rereadsecrets\n".to_owned();
        for connection in connections {
            for name in names(connection) {
                script += &format!("ipsec addconn --config /run/ipsec.conf {name} || exit 1\n");
                if connection.start == Start::Active {
                    script += &format!("ipsec whack --asynchronous --initiate --name {name} || exit 1\n");
                }
            }
        }
        script
    }

    fn up(connection: &str, child: &str) -> String {
        format!("timeout 25 ipsec whack --initiate --name {}", name(connection, child))
    }

    fn down(connection: &Connection) -> String {
        names(connection).map(|name| format!("ipsec whack --terminate --name {name}\n")).collect()
    }

    fn rekey_child(connection: &str, child: &str) -> Result<String> {
        Ok(format!("ipsec whack --asynchronous --rekey-ipsec --name {}", name(connection, child)))
    }

    fn rekey_ike(connection: &str, child: &str) -> Result<String> {
        Ok(format!("ipsec whack --asynchronous --rekey-ike --name {}", name(connection, child)))
    }

    fn sas(shown: &str, _: &[Connection]) -> Result<Vec<IkeSa>> {
        read_status(shown)
    }
}

/// Its name for a child.
fn name(connection: &str, child: &str) -> String {
    format!("{connection}-{child}")
}

fn names(connection: &Connection) -> impl Iterator<Item = String> + '_ {
    connection.children.iter().map(|child| name(&connection.name, &child.name))
}

fn conn(connection: &Connection, child: &Child, local_ts: &str, remote_ts: &str) -> Result<String> {
    let address = |address: Option<std::net::IpAddr>| address.map_or("%any".to_owned(), |a| a.to_string());
    let active = connection.start == Start::Active;
    let mut text = String::from("  ikev2=insist\n  authby=secret\n  auto=ignore\n  retransmit-timeout=10s\n");
    writeln!(text, "  left={}\n  leftid=@{}", address(connection.local), connection.local_id)?;
    writeln!(text, "  right={}\n  rightid=@{}", address(connection.remote), connection.remote_id)?;
    match child.transport {
        // The two ends go without saying.
        true => writeln!(text, "  type=transport")?,
        false => writeln!(text, "  leftsubnet={local_ts}\n  rightsubnet={remote_ts}")?,
    }
    writeln!(text, "  compress={}", if child.compress { "yes" } else { "no" })?;
    let (ike, _) = proposals(&connection.ike)?;
    let (esp, pfs) = proposals(&connection.esp)?;
    writeln!(text, "  ike={ike}\n  esp={esp}\n  pfs={}", if pfs { "yes" } else { "no" })?;
    writeln!(text, "  encapsulation={}", if connection.encap { "yes" } else { "auto" })?;
    let action = if active { "restart" } else { "clear" };
    writeln!(text, "  dpddelay={}\n  dpdaction={action}", connection.dpd.as_secs())?;
    writeln!(text, "  keyingtries={}", if active { 0 } else { 1 })?;
    Ok(text)
}

/// Proposals in strongSwan's words turned into Libreswan's, and whether they name a group.
fn proposals(list: &[String]) -> Result<(String, bool)> {
    let (mut words, mut any_group) = (Vec::new(), false);
    for proposal in list {
        let (mut ciphers, mut groups) = (Vec::new(), Vec::new());
        for token in proposal.split('-') {
            match token {
                "x25519" => groups.push("dh31"),
                "ecp256" => groups.push("dh19"),
                "prfsha256" => ciphers.push("sha2_256".to_owned()),
                "prfsha384" => ciphers.push("sha2_384".to_owned()),
                "prfsha512" => ciphers.push("sha2_512".to_owned()),
                _ => {
                    let unknown = || format!("no word of Libreswan known for {token}");
                    let word = match token.strip_prefix("aes") {
                        Some(bits @ ("128" | "192" | "256")) => format!("aes{bits}"),
                        Some(rest) => format!("aes_gcm{}", rest.strip_suffix("gcm16").ok_or_else(unknown)?),
                        None => match token {
                            "sha1" => "sha1".to_owned(),
                            "chacha20poly1305" => "chacha20_poly1305".to_owned(),
                            _ => format!("sha2_{}", token.strip_prefix("sha").ok_or_else(unknown)?),
                        },
                    };
                    ciphers.push(word);
                }
            }
        }
        any_group |= !groups.is_empty();
        let separator = if groups.is_empty() { "" } else { ";" };
        words.push(format!("{}{separator}{}", ciphers.join("-"), groups.join("+")));
    }
    Ok((words.join(","), any_group))
}

/// Reads `whack --status`: its lines on connections tell the suites, those on states the rest.
fn read_status(status: &str) -> Result<Vec<IkeSa>> {
    let suite = |name: &str, what: &str| {
        let line = status.lines().find(|line| line.contains(&format!("\"{name}\"")) && line.contains(what));
        line.and_then(|line| line.split(what).nth(1))
            .and_then(|rest| rest.split(';').next())
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    let (mut sas, mut children) = (Vec::new(), Vec::new());
    for line in status.lines() {
        let Some((serial, rest)) = line.strip_prefix("000 #").and_then(|rest| rest.split_once(": \"")) else {
            continue;
        };
        let (name, rest) = rest.split_once('"').ok_or("a state without a name")?;
        let serial: u64 = serial.parse()?;
        let (peer, child) = name.split_once('-').ok_or("a connection that is not ours")?;
        if rest.contains("STATE_V2_ESTABLISHED_IKE_SA") {
            sas.push((
                serial,
                IkeSa {
                    name: peer.to_owned(),
                    spis: (serial, serial),
                    established: true,
                    remote: String::new(),
                    suite: suite(name, "IKEv2 algorithm newest:"),
                    nat: rest.starts_with(":4500"),
                    children: Vec::new(),
                },
            ));
        } else if rest.contains("STATE_V2_ESTABLISHED_CHILD_SA") {
            let parent = rest.split("IKE SA #").nth(1).and_then(|rest| rest.split(';').next()).ok_or("no IKE SA")?;
            children.push((
                serial,
                parent.trim().parse::<u64>()?,
                ChildSa {
                    name: child.to_owned(),
                    spi_in: 0,
                    spi_out: 0,
                    suite: suite(name, "ESP algorithm newest:"),
                    local_ts: Vec::new(),
                    remote_ts: Vec::new(),
                    packets: (0, 0),
                },
            ));
        } else if rest.contains(" esp.") {
            // ` esp.OUT@PEER esp.IN@US tun.0@…`
            let spis: Vec<u32> = rest
                .split(" esp.")
                .skip(1)
                .filter_map(|spi| u32::from_str_radix(spi.split('@').next()?, 16).ok())
                .collect();
            let [spi_out, spi_in] = spis[..] else { return Err(format!("two SPIs expected in {line}").into()) };
            if let Some((_, _, child)) = children.iter_mut().find(|(number, ..)| *number == serial) {
                (child.spi_in, child.spi_out) = (spi_in, spi_out);
            }
        }
    }
    for (_, parent, child) in children {
        ensure(child.spi_in != 0, || format!("no SPIs of {child:?}"))?;
        // The parent may be one that is just going.
        if let Some((_, sa)) = sas.iter_mut().find(|(serial, _)| *serial == parent) {
            sa.children.push(child);
        }
    }
    // After an INITIAL_CONTACT it keeps the old IKE SA, whose children it deleted, until it finds it dead.
    let in_use: Vec<String> =
        sas.iter().filter(|(_, sa)| !sa.children.is_empty()).map(|(_, sa)| sa.name.clone()).collect();
    let sas = sas.into_iter().map(|(_, sa)| sa);
    Ok(sas.filter(|sa| !sa.children.is_empty() || !in_use.contains(&sa.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_and_spis_belong_to_their_child() {
        let status = "\
000 \"peer-net\":   IKEv2 algorithm newest: AES_GCM_16_256-HMAC_SHA2_384-DH31
000 \"peer-net\":   ESP algorithm newest: AES_GCM_16_256-NONE; pfsgroup=<N/A>
000 #2: \"peer-net\":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 9s; newest; IKE SA #3; idle;
000 #2: \"peer-net\" esp.f4ee4b5d@192.0.2.1 esp.26cd843b@192.0.2.2 tun.0@192.0.2.1 tun.0@192.0.2.2 Traffic: ESPin=168B
000 #3: \"peer-net\":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 27939s; newest; idle;
";
        let sas = read_status(status).unwrap();
        assert_eq!(sas.len(), 1);
        assert_eq!((sas[0].name.as_str(), sas[0].suite.as_str()), ("peer", "AES_GCM_16_256-HMAC_SHA2_384-DH31"));
        let child = &sas[0].children[0];
        assert_eq!((child.name.as_str(), child.spi_in, child.spi_out), ("net", 0x26cd_843b, 0xf4ee_4b5d));
        assert_eq!(child.suite, "AES_GCM_16_256-NONE");
        // A Child SA whose SPIs are not told is no Child SA to compare with.
        assert!(read_status(&status.replace(" esp.", " ")).is_err());
    }

    #[test]
    fn proposals_are_said_in_libreswans_words() {
        let said = |list: &[&str]| proposals(&list.iter().map(|&p| p.to_owned()).collect::<Vec<_>>());
        let (ike, _) = said(&["aes256gcm16-prfsha384-x25519-ecp256"]).unwrap();
        assert_eq!(ike, "aes_gcm256-sha2_384;dh31+dh19");
        assert_eq!(said(&["aes256gcm16", "aes128gcm16"]).unwrap(), ("aes_gcm256,aes_gcm128".to_owned(), false));
        assert!(said(&["serpent"]).is_err());
    }
}
