//! IKEv2 (RFC 7296) without an operating system: initiator and responder, sans-IO, no allocator, no panic.
//!
//! The caller owns the sockets, the clock, the random generator and all memory. An [`endpoint::Endpoint`] holds every IKE
//! SA of a host; it is fed with datagrams and time, and asked what to send, what happened, and when to come back:
//!
//! 1. Receive a datagram, or wait until the moment that `poll_timeout` gave.
//! 2. Give it to `handle_datagram`, or call `handle_timeout`. What comes to port 4500 loses the four octets of the non-ESP
//!    marker before that, and may be ESP: [`ipsec_core::wire::natt::classify`] tells.
//! 3. Send everything that `poll_transmit` gives, until it gives `None`, and before the next datagram is handled: of the
//!    answers to strangers (cookies, refusals) only the last one is kept. It is sent as it is: the marker is in front of it
//!    where port 4500 wants one.
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
//! # Memory
//!
//! All of it is the caller's, handed in once as [`endpoint::Storage`]; nothing grows. For each peer it takes a slot for the
//! IKE SA and one more for as long as that is rekeyed, for each child two slots, and some more of the first for handshakes of
//! strangers. `docs/sizes.md` of the repository says what that comes to on a Cortex-M4.
//!
//! # A complete program
//!
//! A node with a pre-shared key: the first packet for the other site calls it, the Child SA that comes of it goes into the
//! engines of `ipsec-core`, and packets go both ways. Two of them share a process here, so that it can be seen to work; the
//! wire between them is a list. Beside the two crates it takes `rand_core` 0.10, `getrandom` 0.4 with the feature `sys_rng`, and
//! `heapless` 0.9 for its own list.
//!
//! ```
//! use core::net::SocketAddr;
//! use core::time::Duration;
//! use getrandom::SysRng;
//! use ike_core::child::ChildSlot;
//! use ike_core::crypto::rustcrypto::RustCrypto;
//! use ike_core::endpoint::{ChildView, Endpoint, IkeSlot, IkeView, IndexBlock, SaState, Settings, Storage};
//! use ike_core::event::{ChildId, ChildUp, Event, Transmit};
//! use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
//! use ike_core::proposal::{EspProposal, IkeProposal};
//! use ike_core::registry::IdKind;
//! use ike_core::wire::id::Id;
//! use ipsec_core::buf::PacketBuf;
//! use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
//! use ipsec_core::ecn::Ecn;
//! use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
//! use ipsec_core::net::{AddrRange, Path, TrafficSelector};
//! use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
//! use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
//! use ipsec_core::time::Instant;
//! use rand_core::UnwrapErr;
//!
//! /// What encrypts packets, and what IKE needs besides: random numbers, here the system's. A board has a generator of its
//! /// own, which implements `TryRng` and `TryCryptoRng` of the crate `rand_core` 0.10 without errors.
//! type Crypto = RustCrypto<UnwrapErr<SysRng>, Packets>;
//!
//! /// Who may connect: a single peer with a single child. A gateway looks into its configuration instead.
//! struct Single<'p>(Connection<'p>, ChildConfig<'p>);
//!
//! impl Pad for Single<'_> {
//!     fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
//!         Some(self.0)
//!     }
//!     fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
//!         (index == 0).then_some(self.1)
//!     }
//!     fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
//!         after.is_none().then_some(PeerId(0))
//!     }
//! }
//!
//! struct Node<'m> {
//!     ike: Endpoint<'m, Crypto, Single<'m>>,
//!     outbound: Outbound<'m, Packets>,
//!     inbound: Inbound<'m, Packets>,
//!     /// Which SAs of the engines belong to which Child SA.
//!     installed: heapless::Vec<(ChildId, SaId, SaId), 4>,
//! }
//!
//! impl Node<'_> {
//!     /// A datagram came, or (`None`) time has passed. Returns when to call again at the latest.
//!     fn turn(
//!         &mut self,
//!         now: Instant,
//!         came: Option<(Path, &mut [u8])>,
//!         mut send: impl FnMut(Path, &[u8]),
//!     ) -> Option<Instant> {
//!         match came {
//!             // What is dropped is the sender's affair; a gateway counts it.
//!             Some((path, datagram)) => _ = self.ike.handle_datagram(now, path, datagram),
//!             None => self.ike.handle_timeout(now),
//!         }
//!         while let Some(Transmit { path, datagram, .. }) = self.ike.poll_transmit() {
//!             send(path, datagram);
//!         }
//!         while let Some(event) = self.ike.poll_event() {
//!             match event {
//!                 Event::ChildUp(up) => {
//!                     let sas = install(now, &up, &mut self.outbound, &mut self.inbound).expect("room in the engines");
//!                     self.installed.push(sas).expect("as many places as IKE has");
//!                 }
//!                 Event::ChildDown { child, .. } => {
//!                     if let Some(place) = self.installed.iter().position(|(id, ..)| *id == child) {
//!                         let (_, out, into) = self.installed.swap_remove(place);
//!                         self.outbound.remove(out);
//!                         self.inbound.remove(into);
//!                     }
//!                 }
//!                 Event::Closed { cause, .. } => println!("the connection ended: {cause:?}"),
//!                 _ => {}
//!             }
//!         }
//!         self.ike.poll_timeout()
//!     }
//!
//!     /// Protects a packet of this site in place, and says where it goes. `None`: it must not leave, or not yet.
//!     fn seal(&mut self, now: Instant, packet: &mut PacketBuf<'_>) -> Option<Path> {
//!         match self.outbound.classify(now, packet.as_slice()).ok()? {
//!             Verdict::Clear => None, // no rule here says that
//!             Verdict::Protect(sa) => Some(self.outbound.seal(now, sa, packet).ok()?.path),
//!             Verdict::Acquire(_) => {
//!                 if self.ike.ike_sas().next().is_none() {
//!                     self.ike.initiate(now, PeerId(0), None).expect("room for an IKE SA");
//!                 }
//!                 None
//!             }
//!         }
//!     }
//! }
//!
//! /// Hands a Child SA with its keys to the engines.
//! fn install(
//!     now: Instant,
//!     up: &ChildUp<'_>,
//!     outbound: &mut Outbound<'_, Packets>,
//!     inbound: &mut Inbound<'_, Packets>,
//! ) -> Option<(ChildId, SaId, SaId)> {
//!     let params = |spi, keymat| Params {
//!         spi, mode: Mode::Tunnel, alg: up.aead().expect("only AEADs are offered"), keymat, esn: up.suite.esn,
//!         path: up.path, encap: up.encap, policy: PolicyId(up.config.0), local_ts: up.local, remote_ts: up.remote,
//!         lifetime: Lifetime::default(), // IKE rekeys by age
//!     };
//!     let sa = InboundParams { sa: params(up.spi_in, up.key_in), window: 128, highest_seen: 0 };
//!     let into = inbound.install(now, &sa).ok()?;
//!     // With `outbound_ready` false a gateway keeps the key, and installs this half when `Event::ChildOutbound` comes:
//!     // what is sent before then the peer may not be able to open yet.
//!     let (copy_dscp, dont_fragment) = (true, DontFragment::Copy);
//!     let sa = OutboundParams { sa: params(up.spi_out, up.key_out), last_sent: 0, copy_dscp, dont_fragment };
//!     Some((up.child, outbound.install(now, &sa).ok()?, into))
//! }
//!
//! /// All memory of a node: room for two IKE SAs and four Child SAs, so that each can be rekeyed.
//! struct Memory {
//!     sas: [IkeSlot<Crypto>; 2],
//!     children: [ChildSlot; 4],
//!     index: [IndexBlock; IndexBlock::needed(2, 4)],
//!     pairs: [u8; 2 * 2 * 512],
//!     pool: [u8; 2 * 1280],
//!     hits: [Hits; 1],
//!     rules: [Slot; 1],
//!     outbound: [OutboundSlot<Packets>; 4],
//!     inbound: [InboundSlot<Packets>; 4],
//!     windows: [u64; 4 * 2], // 128 packets each
//! }
//!
//! impl Memory {
//!     fn new() -> Self {
//!         Self {
//!             sas: Default::default(),
//!             children: [const { ChildSlot::EMPTY }; 4],
//!             index: [const { IndexBlock::EMPTY }; IndexBlock::needed(2, 4)],
//!             pairs: [0; 2 * 2 * 512],
//!             pool: [0; 2 * 1280],
//!             hits: [Hits::NONE],
//!             rules: [Slot::EMPTY],
//!             outbound: [const { OutboundSlot::<Packets>::EMPTY }; 4],
//!             inbound: [const { InboundSlot::<Packets>::EMPTY }; 4],
//!             windows: [0; 4 * 2],
//!         }
//!     }
//!
//!     fn node<'m>(&'m mut self, config: Single<'m>) -> Node<'m> {
//!         let protect = Action::Protect(PolicyId(config.1.id.0));
//!         let selector = Selector { local: config.1.local[0], remote: config.1.remote[0] };
//!         let rule = Rule { id: RuleId(0), priority: 100, selector, action: protect };
//!         let mut outbound = Outbound::new(Packets, &mut self.hits, &mut self.outbound);
//!         outbound.set_rules(Index::build([rule], &mut self.rules[..], &mut [][..]).unwrap()).unwrap();
//!         // Without rules nothing is let in in clear.
//!         let inbound = Inbound::new(Packets, &mut [], &mut self.inbound, &mut self.windows);
//!         let storage = Storage {
//!             sas: &mut self.sas,
//!             children: &mut self.children,
//!             index: &mut self.index,
//!             pairs: &mut self.pairs,
//!             pool: &mut self.pool,
//!             blocks: 1, // of the pool, for messages that are long
//!         };
//!         let crypto = RustCrypto::new(UnwrapErr(SysRng), Packets);
//!         let ike = Endpoint::new(crypto, config, storage, Settings::default()).expect("as much of each as it takes");
//!         Node { ike, outbound, inbound, installed: heapless::Vec::new() }
//!     }
//! }
//!
//! let (left, right): (SocketAddr, SocketAddr) = ("192.0.2.1:500".parse().unwrap(), "192.0.2.2:500".parse().unwrap());
//! let net = |text: &str| [TrafficSelector::addrs(AddrRange::prefix(text.parse().unwrap(), 16).unwrap())];
//! let (left_net, right_net) = (net("10.1.0.0"), net("10.2.0.0"));
//! let (ike, esp) = ([IkeProposal::default()], [EspProposal::default()]);
//! let id = |name: &'static str| Id { kind: IdKind::FQDN, data: name.as_bytes() };
//! let child = |local, remote| ChildConfig {
//!     id: ChildConfigId(0), modes: Modes::Tunnel, esp: &esp, local, remote,
//!     rekey: Duration::from_secs(3600), lifetime: Duration::from_secs(4000),
//! };
//! let (left_child, right_child) = (child(&left_net, &right_net), child(&right_net, &left_net));
//! let connection = |local, remote, local_id, remote_id, child| Single(Connection {
//!     path: Some(Path { local, remote }), local_id: id(local_id), remote_id: Some(id(remote_id)),
//!     auth: Authentication::Psk(b"correct horse battery staple"), ike: &ike,
//!     force_encap: false, dpd: Duration::from_secs(20), rekey: Duration::from_secs(14_400),
//! }, child);
//! let (mut memory_a, mut memory_b) = (Memory::new(), Memory::new());
//! let mut a = memory_a.node(connection(left, right, "left.example", "right.example", left_child));
//! let mut b = memory_b.node(connection(right, left, "right.example", "left.example", right_child));
//!
//! // The first packet finds no SA, and calls the other side.
//! let now = Instant::from_millis(1);
//! let ping = [
//!     0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4
//!     0x13, 0x88, 0, 7, 0, 12, 0, 0, b'p', b'i', b'n', b'g', // UDP
//! ];
//! let mut octets = [0; 256];
//! assert_eq!(a.seal(now, &mut PacketBuf::with_payload(&mut octets, &ping).unwrap()), None);
//!
//! // The network: what one sends, the other receives.
//! let mut wire: Vec<(Path, Vec<u8>)> = Vec::new();
//! a.turn(now, None, |path, datagram| wire.push((path, datagram.to_vec())));
//! while !wire.is_empty() {
//!     let (sent, mut datagram) = wire.remove(0);
//!     let came = Path { local: sent.remote, remote: sent.local };
//!     let receiver = if came.local == right { &mut b } else { &mut a };
//!     receiver.turn(now, Some((came, &mut datagram)), |path, datagram| wire.push((path, datagram.to_vec())));
//! }
//! let IkeView { state, .. } = a.ike.ike_sas().next().unwrap();
//! assert_eq!(state, SaState::Established);
//! let ChildView { spi_out, .. } = a.ike.child_sas().next().unwrap();
//! assert!(b.inbound.has(spi_out));
//!
//! // A packet from left to right, and one back. Each comes out as it went in.
//! let (mut inner, mut from, mut to) = (ping, &mut a, &mut b);
//! for _ in 0..2 {
//!     let mut packet = PacketBuf::with_payload(&mut octets, &inner).unwrap();
//!     let path = from.seal(now, &mut packet).expect("an SA");
//!     assert!(!packet.as_slice().ends_with(b"ping"));
//!     let came = Path { local: path.remote, remote: path.local };
//!     to.inbound.open(now, came, Ecn::NotEct, &mut packet).expect("what the other side sealed");
//!     assert_eq!(packet.as_slice(), inner);
//!     inner[12..20].rotate_left(4); // source and destination
//!     core::mem::swap(&mut from, &mut to);
//! }
//! ```
//!
//! # What it guarantees
//!
//! * No allocator, no unsafe code, no clock, no sockets; it builds for targets without an operating system.
//! * No panic: a link test shows that no panic path is left in its machine code, with any crypto provider. What that leaves
//!   open in the crates behind the default provider is listed in `PANIC-WAIVERS.md`.
//! * Keys are made where they stay, and wiped there when they are given up, with the stack that made them; nothing prints
//!   one. What the caller copies out of [`event::ChildUp`] is the caller's to wipe.
//! * Every call does a bounded amount of work, and its time does not grow with the number of SAs, except where it looks at
//!   all of them by its nature ([`endpoint::Endpoint::new`], the iterators, [`endpoint::Endpoint::pad_mut`]).
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `rustcrypto` (default) | [`crypto::rustcrypto`] in portable Rust; else bring an [`crypto::IkeCrypto`] of your own |
//! | `defmt` | `defmt::Format` for errors, algorithms and identifiers |
//!
//! It takes Rust 1.91.
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

/// What the README shows to embedders compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod agenda;
mod agreement;
pub mod auth;
pub mod child;
pub mod clock;
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
