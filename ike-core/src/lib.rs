//! IKEv2 (RFC 7296) without an operating system: initiator and responder, sans-IO, no allocator, no panic.
//!
//! The caller owns the sockets, the clock, the random generator and all memory. An [`endpoint::Endpoint`] holds every IKE
//! SA of a host; it is fed with datagrams and time, and asked what to send, what happened, and when to come back:
//!
//! 1. Receive a datagram, or wait until the moment that `poll_timeout` gave.
//! 2. Give it to `handle_datagram`, or call `handle_timeout`. What comes to port 4500 loses the four octets of the non-ESP
//!    marker before that, and may be ESP: [`ipsec_core::wire::natt::classify`] tells.
//! 3. Act on everything that `poll_event` gives, until it gives `None`: install, move and remove SAs, tell the operator. That
//!    comes before sending, so that an SA is there before the message leaves that has the peer use it.
//! 4. Send everything that `poll_transmit` gives, until it gives `None`, and before the next datagram is handled: of the
//!    answers to strangers (cookies, refusals) only the last one is kept. It is sent as it is: the marker is in front of it
//!    where port 4500 wants one.
//! 5. Ask `poll_timeout` anew.
//! 6. Make wishes at any time (`initiate`, `create_child`, `rekey_child`, `close`, …) and go on with 3.
//! 7. Tell what happens to packets, and go on with 3: `heard` when authentic ones came in on a Child SA, `moved` when
//!    encapsulated ones come from elsewhere, `rekey_child` or `close_child` when an SA is worn out. The engines of `ipsec-core`
//!    have a `poll_event` of their own for that, to be asked after packets and after their `handle_timeout`, and a
//!    `poll_timeout` that says when.
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
//! A node with a pre-shared key: a packet for the other site has IKE call it, or ask for a child that is gone; the Child SA
//! that comes of it goes into the engines of `ipsec-core`, and packets go both ways. Two of them share a process here, so that
//! it can be seen to work; the wire between them is a list. Beside the two crates it takes `rand_core` 0.10, and `getrandom` 0.4
//! with the feature `sys_rng`.
//!
//! ```
//! use core::net::SocketAddr;
//! use core::time::Duration;
//! use getrandom::SysRng;
//! use ike_core::child::ChildSlot;
//! use ike_core::crypto::{Secret, rustcrypto::RustCrypto};
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
//! use ipsec_core::net::{AddrRange, Encap, Path, TrafficSelector};
//! use ipsec_core::sa::{DontFragment, Event as Told, InboundParams, Lifetime, OutboundParams, Params, SaId};
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
//!     /// What the engines have: as many places as IKE has.
//!     installed: [Option<Installed>; 4],
//! }
//!
//! /// A Child SA in the engines.
//! struct Installed {
//!     child: ChildId,
//!     encap: Encap,
//!     into: SaId,
//!     /// `None`: nothing is sent through it, not yet or not any more.
//!     out: Option<SaId>,
//!     /// The key to send with, until then.
//!     key_out: Secret<36>,
//! }
//!
//! impl Node<'_> {
//!     /// A datagram came, or (`None`) time has passed, or packets went. Returns when to call again at the latest.
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
//!         self.outbound.handle_timeout(now);
//!         self.inbound.handle_timeout(now);
//!         while let Some(told) = self.outbound.poll_event() {
//!             self.hear(now, told, |sa| sa.out);
//!         }
//!         while let Some(told) = self.inbound.poll_event() {
//!             self.hear(now, told, |sa| Some(sa.into));
//!         }
//!         while let Some(event) = self.ike.poll_event() {
//!             match event {
//!                 Event::ChildUp(up) => {
//!                     let (child, ready) = (up.child, up.outbound_ready);
//!                     let received = receive(now, &up, &mut self.inbound, &mut self.installed);
//!                     // An engine may refuse it, as for an algorithm that it lacks.
//!                     if received.and_then(|()| if ready { self.send(now, child) } else { Some(()) }).is_none() {
//!                         _ = self.ike.close_child(now, child);
//!                     }
//!                 }
//!                 // What was sent through it before, the peer could perhaps not open.
//!                 Event::ChildOutbound { child } => {
//!                     if self.send(now, child).is_none() {
//!                         _ = self.ike.close_child(now, child);
//!                     }
//!                 }
//!                 Event::ChildDraining { child } => {
//!                     let sa = self.installed.iter_mut().flatten().find(|sa| sa.child == child);
//!                     if let Some(out) = sa.and_then(|sa| sa.out.take()) {
//!                         self.outbound.remove(out);
//!                     }
//!                 }
//!                 Event::ChildDown { child, .. } => {
//!                     for place in &mut self.installed {
//!                         let sa = place.as_ref().filter(|sa| sa.child == child);
//!                         let Some(Installed { into, out, .. }) = sa else { continue };
//!                         self.inbound.remove(*into);
//!                         if let Some(out) = out {
//!                             self.outbound.remove(*out);
//!                         }
//!                         *place = None;
//!                     }
//!                 }
//!                 // A NAT gave the peer another port: ESP goes there, too.
//!                 Event::PathChanged { ike, path } => {
//!                     for Installed { child, encap, into, out, .. } in self.installed.iter().flatten() {
//!                         if self.ike.child_sa(*child).is_some_and(|child| child.ike == ike) {
//!                             self.inbound.set_path(*into, path, *encap);
//!                             if let Some(out) = out {
//!                                 self.outbound.set_path(*out, path, *encap);
//!                             }
//!                         }
//!                     }
//!                 }
//!                 Event::Closed { cause, .. } => println!("the connection ended: {cause:?}"),
//!                 _ => {} // a gateway tells its operator, and makes another IKE SA where one is asked for
//!             }
//!         }
//!         while let Some(Transmit { path, datagram, .. }) = self.ike.poll_transmit() {
//!             send(path, datagram);
//!         }
//!         [self.ike.poll_timeout(), self.outbound.poll_timeout(), self.inbound.poll_timeout()].into_iter().flatten().min()
//!     }
//!
//!     /// Protects a packet of this site in place, and says where it goes. `None`: it must not leave, or not yet. It is for
//!     /// `turn` to send what IKE says of that.
//!     fn seal(&mut self, now: Instant, packet: &mut PacketBuf<'_>) -> Option<Path> {
//!         match self.outbound.classify(now, packet.as_slice()).ok()? {
//!             Verdict::Clear | Verdict::ClearMeanwhile(_) => None, // no rule here says that
//!             Verdict::Protect(sa) => Some(self.outbound.seal(now, sa, packet).ok()?.path),
//!             Verdict::Acquire(policy) => {
//!                 self.ask(now, ChildConfigId(policy.0));
//!                 None
//!             }
//!         }
//!     }
//!
//!     /// Opens an ESP packet in place: what was in it is for this site. `turn` has to follow.
//!     fn open(&mut self, now: Instant, came: Path, ecn: Ecn, packet: &mut PacketBuf<'_>) -> Option<()> {
//!         let opened = self.inbound.open(now, came, ecn, packet).ok()?;
//!         let sa = self.installed.iter().flatten().find(|sa| sa.into == opened.sa)?;
//!         self.ike.heard(now, sa.child);
//!         Some(())
//!     }
//!
//!     /// A packet wants a child that is not there. Whatever is denied, the next packet asks again.
//!     fn ask(&mut self, now: Instant, config: ChildConfigId) {
//!         let ike = self.ike.ike_sas().find(|sa| sa.peer.is_some() && sa.state != SaState::Closing);
//!         // One that is up will send soon, or does not carry this packet: the peer may have narrowed it.
//!         let up = self.ike.child_sas().any(|child| child.config == config && !child.replaced);
//!         match ike {
//!             None => _ = self.ike.initiate(now, PeerId(0), Some(config)),
//!             Some(IkeView { id, state: SaState::Established, .. }) if !up => _ = self.ike.create_child(now, id, config),
//!             Some(_) => {}
//!         }
//!     }
//!
//!     /// Tells IKE what an engine has to say of the SA that is this `half`.
//!     fn hear(&mut self, now: Instant, told: Told, half: fn(&Installed) -> Option<SaId>) {
//!         let (Told::SoftLifetime { sa, .. } | Told::HardLifetime { sa, .. }
//!             | Told::FirstPacket { sa, .. } | Told::PathChanged { sa, .. }) = told;
//!         let Some(sa) = self.installed.iter().flatten().find(|place| half(place) == Some(sa)) else { return };
//!         match told {
//!             Told::SoftLifetime { .. } => _ = self.ike.rekey_child(now, sa.child),
//!             Told::HardLifetime { .. } => _ = self.ike.close_child(now, sa.child),
//!             Told::FirstPacket { .. } => self.ike.heard(now, sa.child),
//!             // Protocol 50 has no port that a NAT could change.
//!             Told::PathChanged { path, .. } if [sa.encap, path.encap()] == [Encap::Udp; 2] => self.ike.moved(sa.child, path),
//!             Told::PathChanged { .. } => {}
//!         }
//!     }
//!
//!     /// Has packets leave through a Child SA from now on; its key waits in its place.
//!     fn send(&mut self, now: Instant, child: ChildId) -> Option<()> {
//!         let place = self.installed.iter_mut().flatten().find(|place| place.child == child)?;
//!         if place.out.is_some() {
//!             return Some(()); // it goes on, as what was to replace it came to nothing
//!         }
//!         let up = self.ike.child_sa(child)?;
//!         let sa = Params {
//!             spi: up.spi_out, mode: up.mode, protection: up.suite.protection, keymat: place.key_out.as_slice(),
//!             esn: up.suite.esn, path: self.ike.ike_sa(up.ike)?.path, encap: place.encap, policy: PolicyId(up.config.0),
//!             local_ts: up.local, remote_ts: up.remote, lifetime: Lifetime::default(), compression: None,
//!         };
//!         let sa = OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
//!         place.out = Some(self.outbound.install(now, &sa).ok()?);
//!         place.key_out.resize(0); // wipes it
//!         Some(())
//!     }
//! }
//!
//! /// Has packets come in through a Child SA, and keeps the key to send with.
//! fn receive(
//!     now: Instant,
//!     up: &ChildUp<'_>,
//!     inbound: &mut Inbound<'_, Packets>,
//!     installed: &mut [Option<Installed>],
//! ) -> Option<()> {
//!     let place = installed.iter_mut().find(|place| place.is_none())?;
//!     let sa = Params {
//!         spi: up.spi_in, mode: up.mode, protection: up.suite.protection, keymat: up.key_in, esn: up.suite.esn, path: up.path,
//!         encap: up.encap, policy: PolicyId(up.config.0), local_ts: up.local, remote_ts: up.remote,
//!         lifetime: Lifetime::default(), // IKE rekeys by age
//!         compression: None,
//!     };
//!     let into = inbound.install(now, &InboundParams { sa, window: 128, highest_seen: 0 }).ok()?;
//!     let (child, encap) = (up.child, up.encap);
//!     place.insert(Installed { child, encap, into, out: None, key_out: Secret::new() }).key_out.set(up.key_out)
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
//!             sas: [const { IkeSlot::EMPTY }; 2],
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
//!         let protect = Action::protect(PolicyId(config.1.id.0));
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
//!         Node { ike, outbound, inbound, installed: Default::default() }
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
//!     rekey: Duration::from_secs(3600), lifetime: Duration::from_secs(4000), compress: false,
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
//! let talk = |now: Instant, [a, b]: [&mut Node<'_>; 2]| {
//!     let mut wire: Vec<(Path, Vec<u8>)> = Vec::new();
//!     a.turn(now, None, |path, datagram| wire.push((path, datagram.to_vec())));
//!     b.turn(now, None, |path, datagram| wire.push((path, datagram.to_vec())));
//!     while !wire.is_empty() {
//!         let (sent, mut datagram) = wire.remove(0);
//!         let came = Path { local: sent.remote, remote: sent.local };
//!         let receiver = if came.local.ip() == right.ip() { &mut *b } else { &mut *a };
//! #       if came.local.port() == 4500 && datagram != [0xff] { datagram.drain(..4); } // the marker
//!         receiver.turn(now, Some((came, &mut datagram)), |path, datagram| wire.push((path, datagram.to_vec())));
//!     }
//! };
//! talk(now, [&mut a, &mut b]);
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
//!     to.open(now, came, Ecn::NotEct, &mut packet).expect("what the other side sealed");
//!     assert_eq!(packet.as_slice(), inner);
//!     inner[12..20].rotate_left(4); // source and destination
//!     core::mem::swap(&mut from, &mut to);
//! }
//! #
//! # // Whether a packet of one arrives at the other, and where from it comes there.
//! # let carries = |now: Instant, from: &mut Node<'_>, to: &mut Node<'_>, text: &[u8], port: Option<u16>| {
//! #     let mut octets = [0; 256];
//! #     let mut packet = PacketBuf::with_payload(&mut octets, text).unwrap();
//! #     let path = from.seal(now, &mut packet)?;
//! #     let mut came = Path { local: path.remote, remote: path.local };
//! #     port.map(|port| came.remote.set_port(port));
//! #     to.open(now, came, Ecn::NotEct, &mut packet).map(|()| path)
//! # };
//! # // Whoever closes the child, the next packet asks for another one on the IKE SA that stands.
//! # let ike = a.ike.ike_sas().next().unwrap().id;
//! # let child = b.ike.child_sas().next().unwrap().id;
//! # b.ike.close_child(now, child).unwrap();
//! # talk(now, [&mut a, &mut b]);
//! # assert!([&a, &b].iter().all(|node| node.installed.iter().all(Option::is_none) && node.inbound.sas().count() == 0));
//! # assert_eq!(carries(now, &mut a, &mut b, &ping, None), None);
//! # talk(now, [&mut a, &mut b]);
//! # assert!(carries(now, &mut a, &mut b, &ping, None).is_some());
//! # assert_eq!(a.ike.ike_sas().map(|sa| sa.id).collect::<Vec<_>>(), [ike]);
//! #
//! # // A rekey by the other side, to which our answer is lost at first: nothing goes through the new SA before the peer has it.
//! # let (first, later, end) = (Instant::from_millis(15_000), Instant::from_millis(19_000), Instant::from_millis(40_000));
//! # let (old, child) = (a.ike.child_sas().next().unwrap().spi_out, b.ike.child_sas().next().unwrap().id);
//! # b.ike.rekey_child(first, child).unwrap();
//! # let mut asked = Vec::new();
//! # b.turn(first, None, |_, datagram| asked.push(datagram.to_vec()));
//! # a.turn(first, Some((Path { local: left, remote: right }, &mut asked[0])), |_, _| {});
//! # assert!(a.inbound.sas().count() == 2 && a.outbound.sas().count() == 1);
//! # assert!(carries(first, &mut a, &mut b, &ping, None).is_some());
//! # talk(later, [&mut a, &mut b]);
//! # assert!(a.outbound.sas().count() == 1 && a.outbound.sas().all(|sa| sa.spi != old));
//! # assert_eq!(b.outbound.sas().count(), 1);
//! # assert!(carries(later, &mut a, &mut b, &ping, None).is_some());
//! # assert!([&a, &b].iter().all(|node| node.installed.iter().flatten().all(|sa| sa.key_out.as_slice().is_empty())));
//! # talk(end, [&mut a, &mut b]);
//! # assert!([&a, &b].iter().all(|node| node.inbound.sas().count() == 1));
//! #
//! # // A NAT gives the caller another port: ESP follows.
//! # let (mut memory_a, mut memory_b) = (Memory::new(), Memory::new());
//! # let mut config = connection(left, right, "left.example", "right.example", left_child);
//! # config.0.force_encap = true;
//! # let mut a = memory_a.node(config);
//! # let mut b = memory_b.node(connection(right, left, "right.example", "left.example", right_child));
//! # assert_eq!(carries(now, &mut a, &mut b, &ping, None), None);
//! # talk(now, [&mut a, &mut b]);
//! # assert!(carries(now, &mut a, &mut b, &ping, Some(5000)).is_some());
//! # talk(now, [&mut a, &mut b]);
//! # let mut pong = ping;
//! # pong[12..20].rotate_left(4);
//! # assert_eq!(carries(now, &mut b, &mut a, &pong, None).unwrap().remote.port(), 5000);
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
