//! The words for what the kernel is told: routes, and the rules that lead to them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::net::Net;
use super::numbers::{AROUND, TABLE};

/// What a route in our tables does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// To the TUN device.
    Tun,
    /// Nowhere: the sender is told.
    Unreachable,
    /// On to the next routing rule.
    Throw,
}

/// Which route: table, network, what it does.
pub(super) type Route = (u32, Net, Target);

/// The routes of our tables, with the address of ours that a packet of our own is best sent from.
pub(super) type Table = BTreeMap<Route, Option<IpAddr>>;

/// A routing rule of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lead {
    pub(super) v4: bool,
    pub(super) priority: u32,
    /// For packets from this network only.
    pub(super) from: Option<Net>,
    /// For packets to this network only.
    pub(super) to: Option<Net>,
    /// For packets of this protocol only; 0: any.
    pub(super) protocol: u8,
    /// For packets with these ports only.
    pub(super) source_ports: Option<(u16, u16)>,
    pub(super) destination_ports: Option<(u16, u16)>,
    /// Only for what this machine sends itself.
    pub(super) own: bool,
    /// Only for what does not carry our mark.
    pub(super) unmarked: bool,
    pub(super) then: Then,
}

/// What a routing rule does with a packet that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Then {
    /// Looks into this table.
    Table(u32),
    /// Goes on with the rules from this priority on.
    Goto(u32),
    /// Goes on: a place to go to.
    Nothing,
}

impl Lead {
    /// A rule for every packet of a family.
    pub(super) fn new(v4: bool, priority: u32, then: Then) -> Self {
        Self {
            v4,
            priority,
            from: None,
            to: None,
            protocol: 0,
            source_ports: None,
            destination_ports: None,
            own: false,
            unmarked: false,
            then,
        }
    }

    /// Whether it leads what a bypass lets through around our device, or keeps from that.
    pub(super) fn is_around(&self) -> bool {
        (AROUND..TABLE).contains(&self.priority)
    }
}
