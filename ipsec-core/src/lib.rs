//! IPsec packet processing without an operating system: ESP in tunnel, transport and BEET mode (RFC 4303) with every suite,
//! Security Associations, anti-replay windows and the policy database (RFC 4301), over storage that the caller hands in.
//! No heap, no clock, no sockets, no unsafe code.
//!
//! # The two ways of a packet
//!
//! [`engine::Outbound`] and [`engine::Inbound`] share nothing: give each a thread, a core or a task of its own, and
//! where one core is not enough [several](engine#several-cores) of them (RFC 9611). Keys come from IKE or from a configuration; nothing
//! here negotiates.
//!
//! 1. Inner packet → [`classify`](engine::Outbound::classify): leave in clear, protect with an SA, or ask for one.
//! 2. [`seal`](engine::Outbound::seal): the packet is now ESP. Send it on the path it names, or let
//!    [`encap::push_outer`] build the IP and UDP headers.
//! 3. Datagram from UDP port 4500 → [`wire::natt::classify`], whole packet → [`encap::pop_outer`]: ESP or IKE?
//! 4. ESP → [`open`](engine::Inbound::open): the packet is now the inner one, and within what the SA may carry.
//! 5. Packet in clear → [`check_clear`](engine::Inbound::check_clear).
//! 6. `poll_event`, `poll_timeout`, `handle_timeout` on both: lifetimes, first packets, peers that moved.
//!
//! What happens to packets beside that, where no system does it: [`reassembly`] in front of steps 1 and 3, [`fragment::cut`] and
//! [`icmp::too_big`] for what is longer than the path of an SA lets through ([`Outbound::overhead`](engine::Outbound::overhead)),
//! [`mss::clamp`] so that TCP need not be told, [`icmp::Report`] for what routers outside say of our packets.
//!
//! # Memory
//!
//! All of it is the caller's, and nothing grows:
//!
//! * for each SA an [`engine::OutboundSlot`] or [`engine::InboundSlot`], for an inbound one also a word for 64 packets of its
//!   replay window. A rekey has two SAs in the place of one for a while;
//! * for each rule an [`spd::Slot`], a [`spd::Hits`] in each engine that counts, and for more than eight of them
//!   [`spd::Index::nodes`] nodes. One index may serve several engines; for eight changes between two of them an
//!   [`spd::Changes`];
//! * for fragments, where they are put together, a [`reassembly::Slot`] and [`reassembly::Reassembly::share`] octets for each
//!   packet that waits;
//! * a buffer for each packet on its way, with [`buf::HEADROOM`] octets in front of it and [`buf::TAILROOM`] behind: it is
//!   encrypted where it lies.
//!
//! # A complete program
//!
//! ```
//! use ipsec_core::buf::PacketBuf;
//! use ipsec_core::crypto::{AeadAlg, rustcrypto::RustCrypto};
//! use ipsec_core::ecn::Ecn;
//! use ipsec_core::engine::{Inbound, InboundSlot, Ingress, Outbound, OutboundSlot, Verdict};
//! use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
//! use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
//! use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
//! use ipsec_core::time::Instant;
//!
//! let (site_a, site_b) = ("10.1.0.0".parse().unwrap(), "10.2.0.0".parse().unwrap());
//! let (site_a, site_b) = (AddrRange::prefix(site_a, 16).unwrap(), AddrRange::prefix(site_b, 16).unwrap());
//! let now = Instant::ZERO;
//! let params = |path, local, remote| Params {
//!     spi: Spi::new(0x2bad_cafe).unwrap(),
//!     mode: Mode::Tunnel,
//!     protection: AeadAlg::Aes256Gcm16.into(),
//!     keymat: &[0x42; 36], // from IKE's KEYMAT: key, then salt
//!     esn: true,
//!     path,
//!     encap: Encap::Udp,
//!     policy: PolicyId(1),
//!     local_ts: local,
//!     remote_ts: remote,
//!     lifetime: Lifetime::default(),
//!     compression: None,
//! };
//! let (a, b) = ("192.0.2.1:4500".parse().unwrap(), "192.0.2.2:4500".parse().unwrap());
//! let (ts_a, ts_b) = ([TrafficSelector::addrs(site_a)], [TrafficSelector::addrs(site_b)]);
//!
//! // Site A: whatever goes to site B is protected.
//! let (mut hits, mut rules, mut nodes) = ([Hits::NONE; 4], [Slot::EMPTY; 4], []);
//! let mut sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 2];
//! let mut outbound = Outbound::new(RustCrypto, &mut hits, &mut sas);
//! let selector = Selector::between(site_a, site_b);
//! let rule = Rule { id: RuleId(1), priority: 100, selector, action: Action::protect(PolicyId(1)) };
//! outbound.set_rules(Index::build([rule], &mut rules[..], &mut nodes[..]).unwrap()).unwrap();
//!
//! // No SA yet: the packet waits, and IKE is asked for one.
//! let inner = [
//!     0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4
//!     0x13, 0x88, 0, 53, 0, 12, 0, 0, b'p', b'i', b'n', b'g', // UDP
//! ];
//! assert_eq!(outbound.classify(now, &inner), Ok(Verdict::Acquire(PolicyId(1))));
//! let sa = params(Path { local: a, remote: b }, &ts_a, &ts_b);
//! let sa = OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
//! let id = outbound.install(now, &sa).unwrap();
//! assert_eq!(outbound.classify(now, &inner), Ok(Verdict::Protect(id)));
//!
//! // Packet out.
//! let mut bytes = [0; 256];
//! let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
//! let egress = outbound.seal(now, id, &mut packet).unwrap();
//! assert_eq!(egress.path.remote, b);
//! assert_eq!(packet.as_slice()[..4], [0x2b, 0xad, 0xca, 0xfe]);
//!
//! // Packet in, at site B: the same SA from the other end.
//! let mut windows = [0; 2 * 16];
//! let mut sas = [const { InboundSlot::<RustCrypto>::EMPTY }; 2];
//! let mut inbound: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut sas, &mut windows);
//! let path = Path { local: b, remote: a };
//! let sa = InboundParams { sa: params(path, &ts_b, &ts_a), window: 1024, highest_seen: 0 };
//! inbound.install(now, &sa).unwrap();
//! let Ingress { policy, flow, .. } = inbound.open(now, path, Ecn::NotEct, &mut packet).unwrap();
//! assert_eq!((policy, flow.len), (PolicyId(1), inner.len()));
//! assert_eq!(packet.as_slice(), inner);
//! ```
//!
//! `ike-core`'s documentation begins with one that negotiates its keys.
//!
//! # Crypto engines that finish later
//!
//! A crypto engine is a [`crypto::PacketCrypto`], whose calls wait. A peripheral that works beside the processor is
//! [`crypto::deferred::Deferred`] besides: [`begin_seal`](engine::Outbound::begin_seal) hands a packet to it, and
//! [`finish_seal`](engine::Outbound::finish_seal) takes it back, likewise for opening; in between other packets are begun. What is
//! under way holds its packet ([`engine::Sealing`], [`engine::Opening`]): nobody sends it unencrypted, or reads it unchecked. It may be
//! dropped: then a sequence number stays unused, a packet that came is forgotten, and the buffer is empty. Packets are numbered as they are begun, and go
//! through the window as they are finished. The example `peripheral` is such an engine, with slots for keys and packets and an
//! interrupt; [`crypto::conformance`] says whether it is right.
//!
//! # What it guarantees
//!
//! * No allocator, no unsafe code, no clock, no sockets; it builds for targets without an operating system.
//! * No panic: a link test shows that no panic path is left in its machine code, with any crypto provider. What that leaves
//!   open in the crates behind the default provider is listed in `PANIC-WAIVERS.md`.
//! * A key is wiped when its SA is removed, and the stack that it was made on at once; nothing prints one. The keying material
//!   that [`sa::Params`] lends is the caller's to wipe.
//! * A sequence number is used once: an SA can be neither copied nor read, and ends before its numbers repeat.
//! * Nothing but an authentic packet changes an inbound SA. Whatever is discarded is counted under a reason of its own
//!   ([`error::Discard`]).
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `rustcrypto` (default) | [`crypto::rustcrypto`], AES-GCM and GMAC in portable Rust; else bring a [`crypto::PacketCrypto`] of your own |
//! | `ccm`, `chacha20poly1305`, `cipher-mac` | more of it: AES-CCM, ChaCha20-Poly1305, AES-CBC, AES-CTR and NULL with HMAC, XCBC and CMAC |
//! | `suites` | all three |
//! | `legacy` | Triple DES and HMAC-MD5, which RFC 8221 says not to use |
//! | `transport` (default) | SAs in transport and BEET mode; without, there is tunnel mode alone, and less code |
//! | `icmp-relay` (default) | ICMP errors go with the traffic that they are about (RFC 4301 §6.2) |
//! | `smoltcp` | the module `phy`: a `smoltcp` device that speaks IPsec, of the version that is `phy::smoltcp` |
//! | `defmt` | `defmt::Format` for errors, discards and identifiers |
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

pub mod buf;
#[cfg(feature = "ipcomp")]
pub mod compression;
#[cfg(not(feature = "ipcomp"))]
#[path = "uncompressed.rs"]
mod compression;
pub mod crypto;
pub mod ecn;
pub mod encap;
pub mod engine;
pub mod error;
mod esp;
pub mod flow;
pub mod fragment;
mod hash;
pub mod icmp;
pub mod mss;
pub mod mtu;
pub mod net;
#[cfg(feature = "smoltcp")]
pub mod phy;
pub mod reassembly;
pub mod replay;
pub mod sa;
pub mod sad;
pub mod spd;
pub mod time;
pub mod transform;
pub mod wipe;
pub mod wire;
