//! IKEv2 (RFC 7296) without an operating system: initiator and responder, sans-IO, no allocator, no panic.
//!
//! The caller owns the sockets, the clock, the random generator and all memory. An [`endpoint::Endpoint`] holds every IKE
//! SA of a host; it is fed with datagrams and time, and asked what to send, what happened, and when to come back:
//!
//! 1. Receive a datagram, or wait until the moment that `poll_timeout` gave.
//! 2. Give it to `handle_datagram` (without the non-ESP marker of port 4500), or call `handle_timeout`.
//! 3. Send everything that `poll_transmit` gives, until it gives `None`.
//! 4. Act on everything that `poll_event` gives, until it gives `None`: install and remove SAs, tell the operator.
//! 5. Ask `poll_timeout` anew.
//! 6. Make wishes at any time (`initiate`, `rekey_child`, `close`, …) and go on with 3.
//!
//! Every call does a bounded amount of work, and whatever a stranger sends changes no established SA.
//!
//! ```text
//! initiator                                       responder
//! IKE_SA_INIT   SA, KE, Ni, NAT detection    -->
//!                                            <--  [COOKIE | INVALID_KE_PAYLOAD | …] or SA, KE, Nr, NAT detection
//! IKE_AUTH      SK { IDi, [IDr], AUTH, SA, TSi, TSr }  -->
//!                                            <--  SK { IDr, AUTH, SA, TSi, TSr }
//!               Established, ChildUp                Established, ChildUp
//! CREATE_CHILD_SA, INFORMATIONAL             <->  CREATE_CHILD_SA, INFORMATIONAL
//! ```
//!
//! Two endpoints, talking to each other until they hold the same keys:
//!
//! ```
//! use core::net::{IpAddr, SocketAddr};
//! use core::time::Duration;
//! use ike_core::child::ChildSlot;
//! use ike_core::crypto::rustcrypto::RustCrypto;
//! use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
//! use ike_core::event::Event;
//! use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Pad, PeerId};
//! use ike_core::proposal::{EspProposal, IkeProposal};
//! use ike_core::registry::IdKind;
//! use ike_core::wire::id::Id;
//! use ipsec_core::net::{AddrRange, Path, TrafficSelector};
//! use ipsec_core::time::Instant;
//! use rand_core::{TryCryptoRng, TryRng};
//!
//! /// Where nonces and private values come from: anything that implements `TryRng` and `TryCryptoRng` of the crate
//! /// `rand_core` 0.10 without errors, such as the operating system's or a board's generator. This one is for the example
//! /// only: whoever guesses its seed has every key.
//! struct Rng(u64);
//!
//! impl TryRng for Rng {
//!     type Error = core::convert::Infallible;
//!
//!     fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
//!         self.try_next_u64().map(|number| (number >> 32) as u32)
//!     }
//!     fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
//!         self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
//!         Ok(self.0 ^ (self.0 >> 29))
//!     }
//!     fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
//!         for octet in out {
//!             *octet = (self.try_next_u64()? >> 24) as u8;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! impl TryCryptoRng for Rng {}
//!
//! /// A host with a single connection. A gateway looks into its configuration instead.
//! struct Single<'p>(Connection<'p>, ChildConfig<'p>);
//!
//! impl Pad for Single<'_> {
//!     fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
//!         Some(self.0)
//!     }
//!     fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
//!         (index == 0).then_some(self.1)
//!     }
//!     fn candidate(&self, _: IpAddr, _: IpAddr, after: Option<PeerId>) -> Option<PeerId> {
//!         after.is_none().then_some(PeerId(0))
//!     }
//! }
//!
//! let (left, right): (SocketAddr, SocketAddr) = ("192.0.2.1:500".parse().unwrap(), "192.0.2.2:500".parse().unwrap());
//! let net = |text: &str| [TrafficSelector::addrs(AddrRange::prefix(text.parse().unwrap(), 16).unwrap())];
//! let (left_net, right_net) = (net("10.1.0.0"), net("10.2.0.0"));
//! let (ike, esp) = ([IkeProposal::default()], [EspProposal::default()]);
//! let id = |name: &'static str| Id { kind: IdKind::FQDN, data: name.as_bytes() };
//! let child = |local, remote| ChildConfig {
//!     id: ChildConfigId(0), esp: &esp, local, remote,
//!     rekey: Duration::from_secs(3600), lifetime: Duration::from_secs(4000),
//! };
//! let (left_child, right_child) = (child(&left_net, &right_net), child(&right_net, &left_net));
//! let connection = |local, remote, local_id, remote_id, child| Single(Connection {
//!     path: Some(Path { local, remote }), local_id: id(local_id), remote_id: Some(id(remote_id)),
//!     auth: Authentication::Psk(b"correct horse battery staple"), ike: &ike,
//!     force_encap: false, dpd: Duration::from_secs(20), rekey: Duration::from_secs(14_400),
//! }, child);
//!
//! // The memory: room for 4 IKE SAs and 4 Child SAs on each side, 2 of them with long messages.
//! let mut slots: [[IkeSlot<_>; 4]; 2] = Default::default();
//! let mut children: [[ChildSlot; 4]; 2] = Default::default();
//! let mut index = [const { [const { IndexBlock::EMPTY }; IndexBlock::needed(4, 4)] }; 2];
//! let (mut pairs, mut pools) = ([[0; 4 * 2 * 512]; 2], [[0; 2 * 2 * 1280]; 2]);
//! let [slots_a, slots_b] = &mut slots;
//! let [children_a, children_b] = &mut children;
//! let [index_a, index_b] = &mut index;
//! let [pairs_a, pairs_b] = &mut pairs;
//! let [pool_a, pool_b] = &mut pools;
//! let mut a = Endpoint::new(
//!     RustCrypto::new(Rng(1), ipsec_core::crypto::rustcrypto::RustCrypto),
//!     connection(left, right, "left.example", "right.example", left_child),
//!     Storage { sas: slots_a, children: children_a, index: index_a, pairs: pairs_a, pool: pool_a, blocks: 2 },
//!     Settings::default(),
//! ).unwrap();
//! let mut b = Endpoint::new(
//!     RustCrypto::new(Rng(2), ipsec_core::crypto::rustcrypto::RustCrypto),
//!     connection(right, left, "right.example", "left.example", right_child),
//!     Storage { sas: slots_b, children: children_b, index: index_b, pairs: pairs_b, pool: pool_b, blocks: 2 },
//!     Settings::default(),
//! ).unwrap();
//!
//! let now = Instant::from_millis(1);
//! a.initiate(now, PeerId(0), None).unwrap();
//! let mut keys = Vec::new();
//! for _ in 0..4 {
//!     // The network: what one sends, the other receives.
//!     while let Some(transmit) = a.poll_transmit() {
//!         let path = Path { local: transmit.path.remote, remote: transmit.path.local };
//!         b.handle_datagram(now, path, &mut transmit.datagram.to_vec()).unwrap();
//!     }
//!     while let Some(transmit) = b.poll_transmit() {
//!         let path = Path { local: transmit.path.remote, remote: transmit.path.local };
//!         a.handle_datagram(now, path, &mut transmit.datagram.to_vec()).unwrap();
//!     }
//!     // The data plane: what one sends with, the other receives with.
//!     while let Some(event) = a.poll_event() {
//!         if let Event::ChildUp(up) = event {
//!             keys.push((up.spi_out, up.key_out.to_vec()));
//!         }
//!     }
//!     while let Some(event) = b.poll_event() {
//!         if let Event::ChildUp(up) = event {
//!             keys.push((up.spi_in, up.key_in.to_vec()));
//!         }
//!     }
//! }
//! let [ours, theirs] = &keys[..] else { panic!("no Child SA") };
//! assert_eq!(ours, theirs);
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

#[cfg(test)]
extern crate std;

mod agenda;
mod agreement;
pub mod auth;
pub mod child;
mod cookie;
pub mod crypto;
mod effects;
pub mod endpoint;
mod env;
pub mod error;
pub mod event;
mod exchange;
pub mod failure;
pub mod keys;
mod life;
pub mod natd;
pub mod pad;
pub mod proposal;
pub mod registry;
mod room;
pub mod rules;
mod sa;
mod settings;
mod state;
mod succession;
mod table;
mod timers;
pub mod window;
pub mod wire;
