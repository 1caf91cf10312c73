//! `ip` of iproute2: what an administrator or another daemon does to a machine behind our back.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::namespace::Namespace;
use crate::outcome::{Result, ensure};

/// Runs `ip` with these words in `namespace`; its output.
///
/// # Errors
/// ip's words.
pub(crate) fn ip(namespace: &Namespace, words: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(words.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = namespace.spawn(&mut command)?.wait_with_output()?;
    ensure(output.status.success(), || format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Gives many commands to one `ip`, one a line, for one family (`-4` or `-6`): in a batch no line can say it.
///
/// # Errors
/// The first command that failed, in ip's words; those behind it are not carried out.
pub(crate) fn batch(namespace: &Namespace, family: &str, lines: &str) -> Result {
    let mut command = Command::new("ip");
    command.args([family, "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = namespace.spawn(&mut command)?;
    // After an error ip reads no further.
    let written = child.stdin.take().ok_or("ip has no input")?.write_all(lines.as_bytes());
    let output = child.wait_with_output()?;
    ensure(output.status.success(), || format!("ip -batch: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(written?)
}

/// The Ethernet address of an interface.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn mac(namespace: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let links: Value = serde_json::from_str(&ip(namespace, &format!("-j link show dev {interface}"))?)?;
    let text = links[0]["address"].as_str().ok_or("a link without address")?;
    let octets =
        text.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<std::result::Result<Vec<_>, _>>()?;
    octets.try_into().map_err(|_| format!("{text} is no Ethernet address").into())
}

/// The preferences of all rules that are not the kernel's own, of one family (`-4` or `-6`), each as often as it stands.
///
/// # Errors
/// ip's words.
pub(crate) fn foreign_rules(namespace: &Namespace, family: &str) -> Result<Vec<u64>> {
    let rules: Value = serde_json::from_str(&ip(namespace, &format!("{family} -j rule show"))?)?;
    let preferences = rules.as_array().into_iter().flatten().filter_map(|rule| rule["priority"].as_u64());
    Ok(preferences.filter(|preference| !matches!(preference, 0 | 32_766 | 32_767)).collect())
}

/// The tables that hold routes and are not the kernel's own, of one family.
///
/// # Errors
/// ip's words.
pub(crate) fn foreign_tables(namespace: &Namespace, family: &str) -> Result<Vec<String>> {
    let routes: Value = serde_json::from_str(&ip(namespace, &format!("{family} -j route show table all"))?)?;
    let tables = routes.as_array().into_iter().flatten().filter_map(|route| {
        let table = &route["table"];
        table.as_str().map(str::to_owned).or_else(|| table.as_u64().map(|number| number.to_string()))
    });
    let mut tables: Vec<String> =
        tables.filter(|table| !matches!(table.as_str(), "main" | "local" | "default")).collect();
    tables.sort();
    tables.dedup();
    Ok(tables)
}
