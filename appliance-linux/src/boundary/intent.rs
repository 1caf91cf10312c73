//! What the configuration asks of the boundary; no key is in it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use gateway_core::config::{Config, ManualId, ManualPair, Traffic};
use gateway_core::policy;
use ike_core::pad::ChildConfigId;
use ipsec_core::net::AddrRange;
use ipsec_core::spd::Rule;

use super::net::{Net, prefixes};

/// What one Child SA's configuration asks of the routing table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Networks on our side.
    pub(super) local: Vec<AddrRange>,
    /// Networks behind the peer, but for those that the operator's own routes through the TUN device decide about.
    pub(super) remote: Vec<AddrRange>,
}

/// What the configuration asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(super) tun: String,
    pub(super) mtu: u32,
    pub(super) reaches: Vec<Reach>,
    /// The ranges on our side, by child, each set of them once; and the networks that they all come to.
    sites: HashSet<Vec<AddrRange>>,
    pub(super) locals: BTreeSet<Net>,
    /// The Security Policy Database, in order.
    pub(super) rules: Vec<Rule>,
    /// The children of which the operator's routes decide what goes to the peer.
    pub(super) left_to_routes: Vec<String>,
    /// The children whose packets pass in clear while there is no SA for them.
    pub(super) clear_meanwhile: Vec<String>,
    /// Addresses of ours that peers are told to meet us at.
    pub(super) outer: BTreeSet<IpAddr>,
    /// Interfaces that face the peers, where they are named.
    pub(super) outside: Vec<String>,
    /// Where the peers are.
    pub(super) remotes: Vec<IpAddr>,
}

impl Intent {
    pub(crate) fn of(config: &Config) -> Self {
        let children = config.peers.iter().flat_map(|peer| &peer.children);
        let reach = |traffic: Traffic<'_>| Reach {
            local: traffic.local.iter().map(|local| local.addrs).collect(),
            remote: traffic.remote.iter().map(|to| to.addrs).filter(|to| !traffic.is_left_to_routes(to)).collect(),
        };
        let reaches: Vec<Reach> = config.traffic().map(reach).collect();
        let sites: HashSet<Vec<AddrRange>> = reaches.iter().map(|reach| reach.local.clone()).collect();
        let numbered = (0..).map(ChildConfigId).zip(children);
        let manual = (0..).map(ManualId).zip(config.manual.iter().map(ManualPair::traffic));
        let locals = config.peers.iter().flat_map(|peer| peer.local.iter().copied());
        let remotes = config.peers.iter().flat_map(|peer| peer.remote.iter().filter_map(|at| at.address()));
        Self {
            tun: config.gateway.tun.clone(),
            mtu: u32::from(config.gateway.mtu),
            locals: sites.iter().flatten().flat_map(prefixes).collect(),
            sites,
            reaches,
            rules: policy::ordered(&config.policies, numbered, manual),
            left_to_routes: config.left_to_routes(),
            clear_meanwhile: config.clear_meanwhile(),
            outer: locals.chain(config.manual.iter().map(|pair| pair.local)).collect(),
            outside: config.gateway.outside.clone(),
            remotes: remotes.chain(config.manual.iter().map(|pair| pair.remote)).collect(),
        }
    }

    /// The ranges on our side, by child, each set of them once.
    pub(super) fn sites(&self) -> impl Iterator<Item = &[AddrRange]> {
        self.sites.iter().map(Vec::as_slice)
    }
}
