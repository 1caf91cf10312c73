//! Packets in: SA, replay window, AEAD, trailer, selectors.

use core::fmt;

use super::modes::disclose;
use super::policies::Policies;
use super::slots::InboundSlot;
use crate::buf::PacketBuf;
#[cfg(feature = "ipcomp")]
use crate::compression::Compression;
use crate::compression::Compressor;
use crate::crypto::{Forged, PacketCrypto, Purpose};
use crate::ecn::Ecn;
use crate::error::{Counters, Discard, Refused};
use crate::esp::open::{header, strip, strip_trailer};
use crate::flow::Flow;
use crate::icmp;
use crate::net::{Encap, Path, Spi, TrafficSelector};
use crate::sa::{self, Event, InboundParams, Mode, SaId, Status};
use crate::sad;
use crate::spd::{Action, Changes, Direction, Hits, Lent, Level, PolicyId, Remembered, Rule, RuleId, Rules, Undecided};
use crate::time::Instant;
use crate::transform::Keys;
use crate::wire::cursor::Malformed;
use crate::wire::esp::Header;
use crate::wire::front::payload_is_intact;
use crate::wire::ip::{Marks, PROTOCOL_NONE, Version, set_ecn};

/// What came out of an ESP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingress {
    /// The SA it came through.
    pub sa: SaId,
    /// The policy of that SA.
    pub policy: PolicyId,
    /// Version of the inner packet.
    pub version: Version,
    /// The inner packet as selectors see it.
    pub flow: Flow,
}

/// The receiving engine over the caller's memory and rules.
///
/// See the [crate] documentation for the loop.
///
/// Without an SA, a peer's packets are refused, and what a rule lets by comes in clear. Where SPIs are not chosen by `ike-core`,
/// which does that itself, one is reserved here before the peer is told of it:
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{Inbound, InboundSlot};
/// use ipsec_core::error::Discard;
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Direction, Hits, Index, Rule, RuleId, Selector, Slot};
/// use ipsec_core::time::Instant;
/// let (mut hits, mut slots, mut windows) = ([Hits::NONE], [Slot::EMPTY], [0; 4 * 16]);
/// let mut sas = [const { InboundSlot::<RustCrypto>::EMPTY }; 4];
/// let mut inbound = Inbound::new(RustCrypto, &mut hits, &mut sas, &mut windows); // windows of 1024 packets
///
/// let local = Selector::between(AddrRange::ANY_V4, AddrRange::single([10, 0, 0, 1].into()));
/// let rule = Rule { id: RuleId(1), priority: 1, selector: local, action: Action::Bypass };
/// inbound.set_rules(Index::build([rule], &mut slots[..], &mut [][..]).unwrap()).unwrap();
/// let mut udp = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
/// assert!(inbound.check_clear(Instant::ZERO, Direction::In, &udp).is_ok());
/// udp[15] = 7; // from 10.0.0.7
/// assert_eq!(inbound.check_clear(Instant::ZERO, Direction::In, &udp), Err(Discard::InNoPolicy));
///
/// let spi = inbound.reserve_spi(0x1234_5678).unwrap();
/// assert!(!inbound.has(spi)); // until its SA is installed
/// inbound.release_spi(spi);
/// ```
pub struct Inbound<'a, P: PacketCrypto, R: Rules = Lent<'a>> {
    pub(super) crypto: P,
    pub(super) policies: Policies<'a, R>,
    pub(super) sad: sad::Table<'a, P::Place<sa::Inbound<Keys<P>>>>,
    pub(super) windows: Windows<'a>,
    pub(super) compressor: Compressor<'a>,
    pub(super) counters: Counters,
}

impl<P: PacketCrypto, R: Rules> fmt::Debug for Inbound<'_, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Storage for replay windows, in equal shares, one for each slot.
pub(super) struct Windows<'a> {
    words: &'a mut [u64],
    /// Words of a share.
    share: usize,
}

impl<'a> Windows<'a> {
    fn new(words: &'a mut [u64], slots: usize) -> Self {
        let share = words.len().checked_div(slots).unwrap_or(0);
        Self { words, share }
    }

    #[inline]
    pub(super) fn share(&mut self, slot: usize) -> &mut [u64] {
        let start = slot.wrapping_mul(self.share);
        self.words.get_mut(start..start.wrapping_add(self.share)).unwrap_or_default()
    }
}

impl<'a, P: PacketCrypto, R: Rules> Inbound<'a, P, R> {
    /// Starts with no rules and the SAs in `sas`, usually none.
    ///
    /// `hits` is where packets in clear are counted that met a rule: there may be as many rules as that. With none, only those are
    /// counted that met a rule which came by a [change](Self::add_rule), and there may be any number. `windows` is the storage for replay windows: every slot of `sas`
    /// gets an equal share, of 64 packets a word. 16 words a slot are windows of up to 1024 packets.
    pub fn new(crypto: P, hits: &'a mut [Hits], sas: &'a mut [InboundSlot<P>], windows: &'a mut [u64]) -> Self {
        let windows = Windows::new(windows, sas.len());
        let (policies, sad) = (Policies::new(hits), sad::Table::new(sas));
        Self { crypto, policies, sad, windows, compressor: Compressor::default(), counters: Counters::default() }
    }

    /// Remembers in this memory what was decided about flows lately. Worth it from some ten rules on, where a rule
    /// discards or packets come in clear.
    #[must_use]
    pub fn remembering(mut self, flows: &'a mut [Remembered]) -> Self {
        self.policies.remember(flows);
        self
    }

    /// Has [changes](Self::add_rule) of the rules in this memory.
    #[must_use]
    pub fn changing(mut self, changes: &'a mut [Changes]) -> Self {
        self.policies.change(changes);
        self
    }

    /// Has what packets carry decompressed by this, for the SAs whose [parameters](crate::sa::Params::compression) say so.
    #[cfg(feature = "ipcomp")]
    #[must_use]
    pub fn compressing(self, with: &'a mut (dyn Compression + Send)) -> Self {
        Self { compressor: Compressor::new(with), ..self }
    }

    /// Opens an ESP packet, which starts with its SPI, in place: the packet is then the inner one, without trailer, ICV
    /// and traffic-flow padding.
    ///
    /// `from` is where it came from (ports 0 for protocol 50), `ecn` the ECN field of the outer header, which is carried
    /// over to the inner one (RFC 6040). In transport mode a packet that [`pop_outer`](crate::encap::pop_outer) gave keeps its outer
    /// header, with all options; one without it gets a new one, for which there must be room in front of the packet.
    ///
    /// # Errors
    /// [`Discard`], counted. The packet's content is unspecified then, but for [`Discard::InUnknownSpi`], which leaves it as
    /// it was. Nothing but an authentic packet changes the SA.
    #[inline]
    pub fn open(&mut self, now: Instant, from: Path, ecn: Ecn, packet: &mut PacketBuf<'_>) -> Result<Ingress, Discard> {
        let opened = self.unprotect(now, from, ecn, packet);
        opened.inspect_err(|discard| self.counters.count(*discard))
    }

    /// Opens packets in their order, each as [`open`](Self::open) does, and hands on what became of each: a packet that is
    /// discarded holds up no other one. With each comes where it came from, and the ECN field of its outer header.
    pub fn open_batch<'p, 'b: 'p>(
        &mut self,
        now: Instant,
        packets: impl IntoIterator<Item = (Path, Ecn, &'p mut PacketBuf<'b>)>,
        mut done: impl FnMut(&mut PacketBuf<'b>, Result<Ingress, Discard>),
    ) {
        for (from, ecn, packet) in packets {
            let opened = self.open(now, from, ecn, packet);
            done(packet, opened);
        }
    }

    #[inline]
    fn unprotect(
        &mut self,
        now: Instant,
        from: Path,
        ecn: Ecn,
        packet: &mut PacketBuf<'_>,
    ) -> Result<Ingress, Discard> {
        let header = header(packet.as_slice()).map_err(|Malformed| Discard::InHeader)?;
        let (crypto, windows, policies) = (&mut self.crypto, &mut self.windows, &mut self.policies);
        let compressor = &mut self.compressor;
        self.sad.edit_by_spi(header.spi, Discard::InUnknownSpi, |id, sa| {
            let share = windows.share(id.slot as usize);
            let sequence = examine(sa, share, &header, now, packet)?;
            let transform = &sa.common.transform;
            transform
                .open(crypto, &sa.common.number(sequence), packet.as_mut_slice())
                .map_err(|Forged| Discard::InForged)?;
            accept(id, sa, share, sequence, &Outside { from, ecn }, compressor, policies, now, packet)
        })
    }

    /// Decides about a packet that came in clear: only a BYPASS rule lets it pass (RFC 4301 §5.2), or one of
    /// [`Level::Use`]. `direction` is [`Direction::In`] for this host and [`Direction::Forward`] for others behind it.
    ///
    /// # Errors
    /// [`Discard::InHeader`], [`Discard::InNoPolicy`], [`Discard::InBlocked`], [`Discard::InClear`],
    /// [`Discard::InFragment`], counted.
    pub fn check_clear(&mut self, now: Instant, direction: Direction, packet: &[u8]) -> Result<Flow, Discard> {
        let checked = self.admit_clear(now, direction, packet);
        checked.inspect_err(|discard| self.counters.count(*discard))
    }

    fn admit_clear(&mut self, now: Instant, direction: Direction, packet: &[u8]) -> Result<Flow, Discard> {
        let flow = Flow::of(packet).map_err(|Malformed| Discard::InHeader)?;
        let met = self.policies.meet(direction, flow).map_err(|undecided| match undecided {
            Undecided::NoRule => Discard::InNoPolicy,
            Undecided::Fragment => Discard::InFragment,
        })?;
        self.policies.count(now, direction, met, flow.len);
        match met.action {
            Action::Bypass => Ok(flow),
            Action::Discard => Err(Discard::InBlocked),
            Action::Protect { level: Level::Use, .. } => {
                self.policies.count_clear(met);
                Ok(flow)
            }
            Action::Protect { level: Level::Require, .. } => Err(Discard::InClear),
        }
    }

    /// Gives out an SPI for an SA to be: its low bits are a free slot, which is kept for it, the rest is `random`.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn reserve_spi(&mut self, random: u32) -> Result<Spi, Refused> {
        self.sad.reserve(random)
    }

    /// Takes back an SPI from [`reserve_spi`](Self::reserve_spi) for which no SA was installed.
    pub fn release_spi(&mut self, spi: Spi) {
        self.sad.release(spi);
    }

    /// Installs an SA. SPIs from [`reserve_spi`](Self::reserve_spi) find their slot, and so do those of an `ike_core` whose table
    /// of children has the same size; others take any that is free, and are found with a few looks more.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed.
    #[inline(never)]
    pub fn install(&mut self, now: Instant, params: &InboundParams<'_>) -> Result<SaId, Refused> {
        if params.sa.compression.is_some() && !self.compressor.is_there() {
            return Err(Refused::Compression);
        }
        let place = self.sad.place_by_spi(params.sa.spi)?;
        let (window, crypto) = (self.windows.share(place), &mut self.crypto);
        let keys = |sa: &mut sa::Inbound<_>| sa.common.transform.set_keys(crypto, Purpose::Decrypt, params.sa.keymat);
        self.sad.put(place, params.sa.spi, || sa::Inbound::new(now, params, window), keys)
    }

    /// Removes an SA and wipes its key. `false`: it was gone already.
    pub fn remove(&mut self, id: SaId) -> bool {
        self.sad.remove(id)
    }

    /// The path that packets of this SA are expected on, and how; others raise [`Event::PathChanged`], and that one's path
    /// says [how](Path::encap) they came. `false`: there is no such SA.
    pub fn set_path(&mut self, id: SaId, path: Path, encap: Encap) -> bool {
        self.sad.change(id, |sa| sa.set_path(path, encap))
    }

    /// Puts these rules in the place of those there are, as a whole. SAs stay (RFC 4301 §4.4.1); what was counted of the
    /// old rules is forgotten. Returns those.
    ///
    /// # Errors
    /// [`Refused::Full`]: there are more of them than there is room to count them in; nothing changed.
    pub fn set_rules(&mut self, rules: R) -> Result<Option<R>, Refused> {
        self.policies.set(rules)
    }

    /// Adds a rule, behind those with its priority, in [memory](Changes) for changes. Takes no longer with many rules, and
    /// others who look into the same index do not see it. Whoever builds the rules anew begins with all of
    /// [them](Self::rules), and needs room to count one more.
    ///
    /// # Errors
    /// [`Refused::Duplicate`]: there is one with its id. [`Refused::Full`]: of that memory nothing is left, and it is time
    /// for a new index. Nothing changed.
    pub fn add_rule(&mut self, rule: Rule) -> Result<(), Refused> {
        self.policies.add(rule)
    }

    /// Puts a rule in the place of the one with its id, likewise: no packet meets none of them. With the same priority it
    /// stays where that one was, with another it comes behind those that have it. Its hits begin anew. `false`: there is no
    /// such rule.
    ///
    /// # Errors
    /// [`Refused::Full`]; nothing changed.
    pub fn replace_rule(&mut self, rule: Rule) -> Result<bool, Refused> {
        self.policies.replace(rule)
    }

    /// Takes a rule away, likewise. `false`: there is none with this id.
    ///
    /// # Errors
    /// [`Refused::Full`]; nothing changed.
    pub fn drop_rule(&mut self, id: RuleId) -> Result<bool, Refused> {
        self.policies.remove(id)
    }

    /// Takes the rules away. SAs stay; without rules every packet in clear is discarded.
    pub fn clear_rules(&mut self) -> Option<R> {
        self.policies.clear()
    }

    /// How many rules there may be.
    pub fn room_for_rules(&self) -> usize {
        self.policies.room()
    }

    /// The rules in order, with their hits by packets in clear.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, Hits)> {
        self.policies.iter(0)
    }

    /// The same from the rule on that stands behind so many: for who would not look at all of them at once.
    pub fn rules_from(&self, from: usize) -> impl Iterator<Item = (&Rule, Hits)> {
        self.policies.iter(from)
    }

    /// How many packets passed in clear so far under rules of [`Level::Use`]. Each rule's [`Hits`] say which.
    pub fn passed_clear(&self) -> u64 {
        self.policies.passed_clear()
    }

    /// The SAs, for display.
    pub fn sas(&self) -> impl Iterator<Item = Status> {
        self.sad.iter().map(|(id, sa)| sa.status(id))
    }

    /// Whether an SA has this SPI.
    pub fn has(&self, spi: Spi) -> bool {
        self.sad.has(spi)
    }

    /// One SA, for display.
    pub fn sa(&self, id: SaId) -> Option<Status> {
        self.sad.get(id).map(|sa| sa.status(id))
    }

    /// The selectors of one SA: of our side, and of the peer's.
    pub fn selectors(&self, id: SaId) -> Option<(&[TrafficSelector], &[TrafficSelector])> {
        self.sad.get(id).map(|sa| sa.common.selectors())
    }

    /// What was discarded, and why.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts a packet that the caller discarded before it came here.
    pub fn count(&mut self, discard: Discard) {
        self.counters.count(discard);
    }

    /// The next thing to tell the caller. To be called until `None` after [`open`](Self::open) or
    /// [`handle_timeout`](Self::handle_timeout); costs nothing when there is nothing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.sad.take_event()
    }

    /// Whether [`poll_event`](Self::poll_event) is worth a call, for whoever has another thread make it: what there is to
    /// tell stays with its SA until it is taken. Sometimes there is nothing left.
    pub fn has_events(&self) -> bool {
        self.sad.has_news()
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work: the earliest lifetime by age.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sad.next_tick()
    }

    /// Lets SAs without traffic age.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sad.tick(now);
    }
}

/// How a packet came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outside {
    pub(super) from: Path,
    pub(super) ecn: Ecn,
}

/// Looks whether a packet may be one of the SA, of which it changes nothing but that its time may be over. `share`: what the SA has of the windows. Returns the
/// whole sequence number.
///
/// # Errors
/// [`Discard`].
#[inline(always)]
pub(super) fn examine<K>(
    sa: &mut sa::Inbound<K>,
    share: &[u64],
    header: &Header,
    now: Instant,
    packet: &PacketBuf<'_>,
) -> Result<u64, Discard> {
    if packet.len() < sa.common.transform.layout().shortest() {
        return Err(Discard::InHeader);
    }
    let window = share.get(..sa.window_words).unwrap_or_default();
    let low = header.sequence;
    let sequence = match sa.common.esn {
        true => sa.window.extend(low, window).ok_or(Discard::InStale)?,
        false => u64::from(low),
    };
    sa.window.check(sequence, window)?;
    if sa.common.meter.admits(now, 0) { Ok(sequence) } else { Err(Discard::InExpired) }
}

/// Takes a packet that was decrypted where it lies, and is the peer's.
///
/// # Errors
/// [`Discard`].
#[expect(clippy::too_many_arguments, reason = "what a packet and its SA are, and what is done about them")]
#[inline(always)]
pub(super) fn accept<K, R: Rules>(
    id: SaId,
    sa: &mut sa::Inbound<K>,
    share: &mut [u64],
    sequence: u64,
    outside: &Outside,
    compressor: &mut Compressor<'_>,
    policies: &mut Policies<'_, R>,
    now: Instant,
    packet: &mut PacketBuf<'_>,
) -> Result<Ingress, Discard> {
    strip(sa.common.transform.layout(), packet).map_err(|Forged| Discard::InForged)?;
    let Outside { from, ecn } = *outside;
    let decrypted = packet.len();
    sa.window.commit(sequence, share.get_mut(..sa.window_words).unwrap_or_default());
    sa.received(from, sequence == sa.window.highest());
    let next_header = strip_trailer(packet);
    let admitted = next_header.and_then(|next_header| {
        if next_header == PROTOCOL_NONE {
            packet.truncate(0);
            return Err(Discard::InDummy);
        }
        let next_header = compressor.decompress(&sa.common, next_header, packet)?;
        disclose(&sa.common, next_header, from, ecn, packet)?;
        let ingress = admit(id, &sa.common, policies, ecn, packet)?;
        let damaged = sa.checks_checksums && !payload_is_intact(packet.as_slice());
        if damaged { Err(Discard::InChecksum) } else { Ok(ingress) }
    });
    // What was behind the inner packet is gone by now: it is nobody's traffic.
    sa.common.meter.record(now, packet.len(), decrypted);
    admitted
}

/// Decides about what came out of an SA.
#[inline(always)]
fn admit<K, R: Rules>(
    id: SaId,
    sa: &sa::Common<K>,
    policies: &mut Policies<'_, R>,
    ecn: Ecn,
    packet: &mut PacketBuf<'_>,
) -> Result<Ingress, Discard> {
    let marks = Marks::of(packet.as_slice()).map_err(|Malformed| Discard::InMode)?;
    let flow = Flow::of(packet.as_slice()).map_err(|Malformed| Discard::InMode)?;
    packet.truncate(flow.len);
    if !sa.admits_inbound(&flow) && !relays(sa, packet.as_slice()) {
        return Err(Discard::InSelectors);
    }
    let policy = sa.policy();
    // The policies are in order (RFC 4301 §4.4.1): what one before the SA's own discards was never meant for it.
    let direction = if sa.mode == Mode::Tunnel { Direction::Forward } else { Direction::In };
    if policies.blocks(direction, &flow) {
        return Err(Discard::InBlocked);
    }
    if sa.mode != Mode::Tunnel {
        // Its header is the outer one, marks and all.
        return Ok(Ingress { sa: id, policy, version: marks.version, flow });
    }
    let inner_ecn = Ecn::of(marks.traffic_class);
    let merged = inner_ecn.decapsulate(ecn).ok_or(Discard::InCongestion)?;
    if merged != inner_ecn {
        set_ecn(packet.as_mut_slice(), merged);
    }
    Ok(Ingress { sa: id, policy, version: marks.version, flow })
}

/// Whether a packet is an ICMP error about one that went to the peer through the SA of the other way (RFC 4301 §6.2).
#[cold]
fn relays<K>(sa: &sa::Common<K>, packet: &[u8]) -> bool {
    cfg!(feature = "icmp-relay")
        && sa.relays_errors
        && icmp::quoted(packet).is_some_and(|about| sa.admits_outbound(&about))
}
