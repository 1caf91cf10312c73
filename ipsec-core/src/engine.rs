//! The packet path: one engine for each way, with nothing shared, so that each can have a thread, core or task of its
//! own (RFC 4301 §5).
//!
//! # Several cores
//!
//! One SA has one sequence number and one window, for which cores would have to wait for each other. So each core has an engine for
//! each way and SAs of its own, several of one policy between the same two ends (RFC 9611): which SA a packet takes is decided by which
//! core has it. Only rules are shared, which nobody changes.
//!
//! * Outbound, whoever deals packets to cores deals by flow, as network cards do: packets of one SA stay in their order. A core
//!   without an SA of a policy says [`Verdict::Acquire`], and IKE is asked for one for it.
//! * Inbound, a packet has to come to the core that has its SA. The upper bits of an SPI are the caller's
//!   ([`Inbound::reserve_spi`]): with the core's number in them, the SPI tells, to a network card's filter too.
//! * For the peer these are Child SAs of the same selectors. RFC 9611 has a notification for that (SA_RESOURCE_INFO), which `ike-core`
//!   does not send: a peer that deletes what looks like a duplicate leaves one SA, and that to one core.
//!
//! ```
//! use ipsec_core::buf::PacketBuf;
//! use ipsec_core::crypto::{AeadAlg, rustcrypto::RustCrypto};
//! use ipsec_core::ecn::Ecn;
//! use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
//! use ipsec_core::net::{AddrRange, Encap, Path, TrafficSelector};
//! use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
//! use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
//! use ipsec_core::time::Instant;
//! use ipsec_core::wire::{cursor::Reader, esp::Header};
//! use std::{sync::mpsc, thread};
//! const CORES: usize = 4;
//! let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
//! let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
//! let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(PolicyId(1)) };
//! let (mut rules, mut nodes) = ([Slot::EMPTY], []);
//! let index = Index::build([rule], &mut rules[..], &mut nodes[..]).unwrap(); // all that cores share
//! let path = Path { local: "192.0.2.1:0".parse().unwrap(), remote: "192.0.2.2:0".parse().unwrap() };
//! let sa = |spi, path| Params {
//!     spi,
//!     mode: Mode::Tunnel,
//!     protection: AeadAlg::Aes128Gcm16.into(),
//!     keymat: &[7; 20], // each SA has keys of its own, from IKE
//!     esn: true,
//!     path,
//!     encap: Encap::None,
//!     policy: PolicyId(1),
//!     local_ts: &all,
//!     remote_ts: &all,
//!     lifetime: Lifetime::default(), compression: None,
//! };
//! /// What a filter does that deals out what comes in.
//! fn core_of(esp: &[u8]) -> usize {
//!     (Header::read(&mut Reader::new(esp)).unwrap().spi.get() >> 30) as usize
//! }
//!
//! let (queues, cores): (Vec<_>, Vec<_>) = (0..CORES).map(|_| mpsc::channel::<Vec<u8>>()).unzip();
//! thread::scope(|scope| {
//!     for (core, queue) in cores.into_iter().enumerate() {
//!         let (index, sa, queues) = (&index, &sa, queues.clone());
//!         scope.spawn(move || {
//!             let (mut hits, mut sending) = ([Hits::NONE], [const { OutboundSlot::<RustCrypto>::EMPTY }]);
//!             let (mut receiving, mut windows) = ([const { InboundSlot::<RustCrypto>::EMPTY }], [0; 1]);
//!             let mut outbound = Outbound::new(RustCrypto, &mut hits, &mut sending);
//!             let mut inbound: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut receiving, &mut windows);
//!             outbound.set_rules(index).unwrap();
//!
//!             // This core's pair of SAs; here the peer has the same one.
//!             let random = 0x1234_5678; // in truth random
//!             let spi = inbound.reserve_spi((core as u32) << 30 | random).unwrap();
//!             let back = Path { local: path.remote, remote: path.local };
//!             inbound.install(Instant::ZERO, &InboundParams { sa: sa(spi, back), window: 64, highest_seen: 0 }).unwrap();
//!             let sa = OutboundParams { sa: sa(spi, path), last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
//!             let id = outbound.install(Instant::ZERO, &sa).unwrap();
//!
//!             let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 10, 1, 0, 5, 10, 2, 0, core as u8];
//!             for _ in 0..100 {
//!                 assert_eq!(outbound.classify(Instant::ZERO, &inner), Ok(Verdict::Protect(id)));
//!                 let mut bytes = [0; 200];
//!                 let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
//!                 outbound.seal(Instant::ZERO, id, &mut packet).unwrap();
//!                 queues[core_of(packet.as_slice())].send(packet.as_slice().to_vec()).unwrap();
//!             }
//!             drop(queues);
//!             for mut esp in queue.iter().take(100) {
//!                 let len = esp.len();
//!                 let mut packet = PacketBuf::new(&mut esp, 0, len).unwrap();
//!                 inbound.open(Instant::ZERO, back, Ecn::NotEct, &mut packet).unwrap();
//!                 assert_eq!(packet.as_slice(), inner); // its own ones, and in no window but its own
//!             }
//!             assert_eq!(outbound.sa(id).unwrap().sequence, 100); // nobody else takes a number
//!         });
//!     }
//! });
//! ```

mod deferred;
mod inbound;
mod modes;
mod options;
mod outbound;
mod policies;
mod slots;
#[cfg(test)]
mod tests;

pub use crate::encap::Egress;
pub use deferred::{Opening, Sealing};
pub use inbound::{Inbound, Ingress};
pub use outbound::{Outbound, Verdict};
pub use slots::{InboundSlot, OutboundSlot};
