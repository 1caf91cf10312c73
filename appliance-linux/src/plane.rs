//! The data plane: two threads, one for each way of a packet, which share sockets, TUN device and counters, and no engine; a
//! third one hears what ICMP says.
//!
//! What they cannot decide (a packet without an SA, an IKE message, a lifetime) goes to whoever listens, and they go on:
//! what has no room there is lost and counted; what an SA has to tell, and the first packet that wants one, stays until it is
//! asked for.

mod clamp;
mod discarded;
mod head;
mod hosts;
mod icmp;
mod inbound;
mod locked;
mod meanwhile;
mod narrow;
mod news;
mod outbound;
mod path_mtu;
mod shared;
mod sockets;
mod stray;
mod tally;
mod unsent;
mod wait;
mod wanted;
mod whole;

use std::io;
use std::sync::Arc;
use std::thread;

pub(crate) use hosts::Hosts;
pub(crate) use locked::Engines;
pub(crate) use news::{Listener, News};
pub(crate) use shared::Plane;
pub(crate) use sockets::Sockets;
pub(crate) use unsent::{Lost, unsent};

/// Starts the two threads, and one that hears what ICMP says.
pub(crate) fn start(plane: &Arc<Plane>, listener: &impl Listener) -> io::Result<()> {
    let (shared, told) = (Arc::clone(plane), listener.clone());
    thread::Builder::new().name("outbound".into()).spawn(move || outbound::run(&shared, &told))?;
    let (shared, told) = (Arc::clone(plane), listener.clone());
    thread::Builder::new().name("inbound".into()).spawn(move || inbound::run(&shared, &told))?;
    let (errors, shared, told) = (icmp::Errors::open(), Arc::clone(plane), listener.clone());
    let outlet = move |local| shared.sockets().outlet(local);
    thread::Builder::new().name("icmp".into()).spawn(move || errors.run(outlet, &told))?;
    Ok(())
}
