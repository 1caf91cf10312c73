//! Where peers are: the appliance is asked, and answers.

use alloc::vec::Vec;
use core::net::IpAddr;

use ike_core::pad::PeerId;

use crate::cause::Cause;
use crate::config::Remote;

/// A question to the appliance: where is this peer, and which address of ours leads there?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locate {
    /// Whose.
    pub peer: PeerId,
    /// What is to be resolved, or only to be routed to.
    pub remote: Remote,
    /// Our addresses to choose from; empty: any.
    pub local: Vec<IpAddr>,
}

/// The answer to [`Locate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Every address that the name stands for; requests from these are taken for the peer's.
    pub resolved: Vec<IpAddr>,
    /// Those that there is a way to, each with the address of ours that leads there.
    pub ways: Vec<Way>,
    /// Why there is no way, when there is none.
    pub hindrance: Option<Cause>,
}

/// A pair of addresses to meet at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
}
