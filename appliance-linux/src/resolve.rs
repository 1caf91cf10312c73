//! DNS names of peers, asked for anew at each attempt to connect, in a thread of its own: the resolver may take its time.

use std::net::{IpAddr, ToSocketAddrs};
use std::thread;

/// Asks the system's resolver; `tell` gets the addresses in the resolver's order, or why there are none.
///
/// # Errors
/// When there is no thread to be had; `tell` is then not called.
pub(crate) fn start(
    name: String,
    tell: impl FnOnce(Result<Vec<IpAddr>, String>) + Send + 'static,
) -> std::io::Result<()> {
    thread::Builder::new().name("resolver".into()).spawn(move || tell(resolve(&name))).map(drop)
}

fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 500).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut addresses = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_resolved_once_each_and_an_unknown_one_is_an_error() {
        assert!(resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(resolve("192.0.2.7"), Ok(vec!["192.0.2.7".parse().unwrap()]));
        assert!(resolve("no-such-host.invalid").is_err());
    }
}
