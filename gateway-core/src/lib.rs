//! What makes a gateway of `ipsec-core` and `ike-core`, and the configuration files of the Portcullis appliances. `no_std`
//! with an allocator, no unsafe code, no panic.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the configuration file: read, checked, compared |
//! | [`gateway`] | every connection: what is wanted, what there is, and what is done about the difference |
//! | [`peers`] | the Peer Authorization Database that IKE asks, out of a configuration |
//! | [`policy`] | the rules out of a configuration, and engines that share them |
//! | [`plane`] | what carries the packets, as a gateway sees it; the two engines of `ipsec-core` are one |
//! | [`cause`] | why something did not come about, in words with a stable code |
//! | [`crypto`] | SAs on the heap, for tables that are empty mostly |
//!
//! Nothing here opens a socket, reads a file or looks at a clock. An appliance lends a [`gateway::Gateway`] its endpoint and
//! its data plane, tells it what came, and does what it asks for:
//!
//! ```
//! use gateway_core::config::{Config, Remote};
//! use gateway_core::gateway::{Gateway, Locate, Located, Parts, PeerState, Way};
//! use gateway_core::plane::Engines;
//! use gateway_core::policy::{self, Inbound, Outbound};
//! use getrandom::SysRng;
//! use ike_core::child::ChildSlot;
//! use ike_core::crypto::rustcrypto::RustCrypto as Ike;
//! use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, ROOM_PER_BLOCK, ROOM_PER_SA, Settings, Storage};
//! use ipsec_core::crypto::rustcrypto::RustCrypto;
//! use ipsec_core::engine::{InboundSlot, OutboundSlot};
//! use ipsec_core::spd::Hits;
//! use ipsec_core::time::Instant;
//! use rand_core::UnwrapErr;
//! let text = r#"
//! [[peer]]
//! name = "cloud"
//! local = "any"
//! local-id = "site.example"
//! remote = "gate.example"
//! psk = "a key of more than twenty characters"
//! start = "active"
//! [[peer.child]]
//! name = "net"
//! local-ts = "10.2.0.0/16"
//! remote-ts = "10.1.0.0/16"
//! "#;
//! let (config, warnings) = Config::parse(text).expect("a configuration without mistakes");
//! assert!(warnings.is_empty());
//! let rules = policy::count(&config);
//! let (mut gateway, peers) = Gateway::new(config);
//!
//! // Memory: two IKE SAs for each peer and room for strangers, four Child SAs for each child, and four
//! // handshakes at once; made once.
//! let (ikes, children) = (8, 16);
//! let mut sas: Vec<IkeSlot<_>> = (0..ikes).map(|_| IkeSlot::default()).collect();
//! let mut child_sas: Vec<ChildSlot> = (0..children).map(|_| ChildSlot::default()).collect();
//! let mut index: Vec<_> = (0..IndexBlock::needed(ikes, children)).map(|_| IndexBlock::EMPTY).collect();
//! let (blocks, mut pairs) = (4, vec![0; ikes * ROOM_PER_SA]);
//! let mut pool = vec![0; blocks * ROOM_PER_BLOCK];
//! let storage = Storage {
//!     sas: &mut sas, children: &mut child_sas, index: &mut index, pairs: &mut pairs, pool: &mut pool, blocks,
//! };
//! let mut endpoint = Endpoint::new(Ike::new(UnwrapErr(SysRng), RustCrypto), peers, storage, Settings::default()).unwrap();
//!
//! let (mut out_hits, mut in_hits) = (vec![Hits::NONE; rules], vec![Hits::NONE; rules]);
//! let mut out_sas: Vec<_> = (0..children).map(|_| OutboundSlot::<RustCrypto>::EMPTY).collect();
//! let mut in_sas: Vec<_> = (0..children).map(|_| InboundSlot::<RustCrypto>::EMPTY).collect();
//! let mut windows = vec![0; children * usize::from(gateway.settings().replay_window) / 64];
//! let mut plane = Engines::new(
//!     Outbound::new(RustCrypto, &mut out_hits, &mut out_sas),
//!     Inbound::new(RustCrypto, &mut in_hits, &mut in_sas, &mut windows),
//! );
//!
//! let now = Instant::from_millis(1);
//! let mut parts = Parts { endpoint: &mut endpoint, plane: &mut plane };
//! gateway.start(now, &mut parts).expect("room for every rule");
//!
//! // It asks where the peer is. The resolver and the routes of the machine know.
//! while let Some(question) = gateway.poll_locate() {
//!     assert!(matches!(&question, Locate { remote: Remote::Name(name), .. } if name == "gate.example"));
//!     let (ours, theirs) = ([192, 0, 2, 2].into(), [192, 0, 2, 1].into());
//!     let answer = Located { resolved: vec![theirs], ways: vec![Way { local: ours, remote: theirs }], hindrance: None };
//!     gateway.located(now, &question, Ok(answer), &mut parts);
//! }
//! // It sends.
//! let mut sent = Vec::new();
//! while let Some(transmit) = parts.endpoint.poll_transmit() {
//!     sent.push((transmit.path.remote.to_string(), transmit.datagram.len()));
//! }
//! assert!(matches!(&sent[..], [(remote, 200..)] if remote == "192.0.2.1:500"));
//! // It tells.
//! let told: Vec<String> = std::iter::from_fn(|| gateway.poll_report()).map(|report| report.to_string()).collect();
//! assert_eq!(told, ["cloud: connecting to 192.0.2.1:500"]);
//! // It wants to be called again when the answer does not come.
//! let due = gateway.poll_timeout(&parts).unwrap();
//! assert!(now < due);
//!
//! let snapshot = gateway.snapshot(now, &parts);
//! assert_eq!((snapshot.peers[0].state, snapshot.peers[0].children[0].sa), (PeerState::Pending, None));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cause;
pub mod config;
pub mod crypto;
pub mod gateway;
pub mod peers;
pub mod plane;
pub mod policy;
mod state;
