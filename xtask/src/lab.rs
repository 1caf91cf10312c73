//! A network in a box: sites, gateways and a watched wire in namespaces that vanish with the process.
//!
//! [`sandbox::run`] moves the command into namespaces of its own (network, mounts, processes). Everything else is made
//! inside them, so that nothing the lab does can touch the machine, and the kernel removes all of it when the command
//! ends, however it ends.

pub(crate) mod daemon;
pub(crate) mod flood;
pub(crate) mod frame;
pub(crate) mod gateway;
pub(crate) mod guest;
pub(crate) mod ike;
pub(crate) mod iked;
pub(crate) mod in_guest;
pub(crate) mod iproute;
pub(crate) mod libreswan;
pub(crate) mod link;
pub(crate) mod marks;
pub(crate) mod namespace;
pub(crate) mod nat;
pub(crate) mod pair;
pub(crate) mod ping;
pub(crate) mod portcullis;
pub(crate) mod requests;
pub(crate) mod resolver;
pub(crate) mod sandbox;
pub(crate) mod strongswan;
pub(crate) mod tcp;
pub(crate) mod terrain;
pub(crate) mod trace;
pub(crate) mod watch;
pub(crate) mod wire;

use std::time::{Duration, Instant};

use crate::outcome::Result;

/// Asks `probe` every 20 ms until it gives a value.
///
/// # Errors
/// After `limit`: the name of what was waited for, and the last error of `probe`, if any.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::new(),
            Err(error) => format!(" ({error})"),
        };
        if start.elapsed() > limit {
            return Err(format!("waited {:.1} s in vain for {what}{last}", limit.as_secs_f32()).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
