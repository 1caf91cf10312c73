//! Packets out: policy, SA, ESP.

use core::fmt;

use super::modes::{Enclosed, enclose};
use super::policies::Policies;
use super::slots::OutboundSlot;
use crate::buf::PacketBuf;
#[cfg(feature = "ipcomp")]
use crate::compression::Compression;
use crate::compression::Compressor;
use crate::crypto::{PacketCrypto, Purpose};
use crate::encap::Egress;
use crate::error::{Counters, Discard, NoRoom, Refused};
use crate::esp::seal::{Unsealed, seal};
use crate::flow::Flow;
use crate::icmp;
use crate::net::{Encap, Path, TrafficSelector};
use crate::sa::{self, DontFragment, Event, Mode, OutboundParams, SaId, Status};
use crate::sad;
use crate::spd::{Action, Changes, Direction, Hits, Lent, Level, PolicyId, Remembered, Rule, RuleId, Rules, Undecided};
use crate::time::Instant;
use crate::transform::{Keys, Number, TRAILER_LEN, Transform};
use crate::wire::cursor::Malformed;
use crate::wire::ip::{HOPS, Marks, PROTOCOL_IPCOMP, Version};
use crate::wire::ipv4;

/// What must fit a 16-bit total length beside ESP: the packet, UDP and IPv4.
const MAX_LEN: usize = 65_535 - 8 - 20;

/// What policy says about an outbound packet.
///
/// ```
/// use ipsec_core::engine::Verdict;
/// use ipsec_core::error::Discard;
/// use ipsec_core::spd::PolicyId;
/// fn what_next(verdict: Result<Verdict, Discard>) -> &'static str {
///     match verdict {
///         Ok(Verdict::Clear) => "send it as it is",
///         Ok(Verdict::ClearMeanwhile(_policy)) => "send it as it is, and have IKE make an SA",
///         Ok(Verdict::Protect(_sa)) => "seal it, then send it",
///         Ok(Verdict::Acquire(_policy)) => "keep it, and have IKE make an SA",
///         Err(_counted) => "drop it",
///     }
/// }
/// assert_eq!(what_next(Ok(Verdict::Acquire(PolicyId(1)))), "keep it, and have IKE make an SA");
/// assert_eq!(Verdict::Clear.sa(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// May leave in clear.
    Clear,
    /// May leave in clear, as there is no SA for it and the rule is of [`Level::Use`]: send it, and ask IKE for one.
    ClearMeanwhile(PolicyId),
    /// To be sealed with this SA.
    Protect(SaId),
    /// Must be protected and there is no SA for it: ask IKE for one, keep the packet or drop it, never send it.
    Acquire(PolicyId),
}

/// The sending engine over the caller's memory and rules.
///
/// See the [crate] documentation for the loop.
///
/// What a rule protects waits until there is an SA, and what no rule is about is discarded:
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{Outbound, OutboundSlot, Verdict};
/// use ipsec_core::error::Discard;
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
/// use ipsec_core::time::Instant;
/// let (mut hits, mut slots) = ([Hits::NONE], [Slot::EMPTY]);
/// let mut sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 4];
/// let mut outbound = Outbound::new(RustCrypto, &mut hits, &mut sas);
///
/// let branch = Selector::between(AddrRange::ANY_V4, AddrRange::prefix([10, 2, 0, 0].into(), 16).unwrap());
/// let rule = Rule { id: RuleId(1), priority: 1, selector: branch, action: Action::protect(PolicyId(7)) };
/// outbound.set_rules(Index::build([rule], &mut slots[..], &mut [][..]).unwrap()).unwrap();
/// let mut udp = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
/// assert_eq!(outbound.classify(Instant::ZERO, &udp), Ok(Verdict::Acquire(PolicyId(7))));
/// udp[17] = 3; // to 10.3.0.2
/// assert_eq!(outbound.classify(Instant::ZERO, &udp), Err(Discard::OutNoPolicy));
/// assert_eq!(outbound.counters().get(Discard::OutNoPolicy), 1);
/// ```
pub struct Outbound<'a, P: PacketCrypto, R: Rules = Lent<'a>> {
    pub(super) crypto: P,
    policies: Policies<'a, R>,
    pub(super) sad: sad::Table<'a, P::Place<sa::Outbound<Keys<P>>>>,
    pub(super) compressor: Compressor<'a>,
    pub(super) counters: Counters,
}

impl<P: PacketCrypto, R: Rules> fmt::Debug for Outbound<'_, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl<'a, P: PacketCrypto, R: Rules> Outbound<'a, P, R> {
    /// Starts with no rules and the SAs in `sas`, usually none. Without rules every packet is discarded.
    ///
    /// `hits` is where packets are counted that met a rule: there may be as many rules as that. With none, only those are counted
    /// that met a rule which came by a [change](Self::add_rule), and there may be any number.
    pub fn new(crypto: P, hits: &'a mut [Hits], sas: &'a mut [OutboundSlot<P>]) -> Self {
        let (policies, sad) = (Policies::new(hits), sad::Table::new(sas));
        Self { crypto, policies, sad, compressor: Compressor::default(), counters: Counters::default() }
    }

    /// Remembers in this memory what was decided about flows lately. Worth it from some ten rules on.
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

    /// Has what packets carry compressed by this, for the SAs whose [parameters](crate::sa::Params::compression) say so.
    #[cfg(feature = "ipcomp")]
    #[must_use]
    pub fn compressing(self, with: &'a mut (dyn Compression + Send)) -> Self {
        Self { compressor: Compressor::new(with), ..self }
    }

    /// Decides what happens to an inner packet, and counts it. Once per packet, flow or super-packet: the answer holds
    /// until the rules or an SA change.
    ///
    /// # Errors
    /// [`Discard::OutHeader`], [`Discard::OutNoPolicy`], [`Discard::OutBlocked`], [`Discard::OutFragment`], and [`Discard::OutNoSa`]
    /// for an ICMP error that would take a protected packet along in clear; counted.
    #[inline]
    pub fn classify(&mut self, now: Instant, packet: &[u8]) -> Result<Verdict, Discard> {
        let verdict = self.decide(now, packet).or_else(|discard| self.relayed(Err(discard), packet));
        verdict.inspect_err(|discard| self.counters.count(*discard))
    }

    /// The same for a packet that waited since it was classified. It met its rule then: [`Hits`] stay as they are. If it
    /// may leave in clear by now, it meets another one, and is to be [classified](Self::classify).
    ///
    /// # Errors
    /// As for [`Outbound::classify`].
    pub fn classify_again(&mut self, packet: &[u8]) -> Result<Verdict, Discard> {
        let verdict = self.judge(packet);
        verdict.inspect_err(|discard| self.counters.count(*discard))
    }

    /// What [`classify`](Self::classify) says, without anything being counted or remembered.
    ///
    /// # Errors
    /// As for [`Outbound::classify`].
    pub fn judge(&self, packet: &[u8]) -> Result<Verdict, Discard> {
        let flow = Flow::of(packet).map_err(|Malformed| Discard::OutHeader)?;
        let action = self.policies.judge(Direction::Out, &flow).map_err(why_undecided);
        self.relayed(action.and_then(|action| self.carry_out(action, &flow)), packet)
    }

    /// What becomes of a packet for which there is no SA: an ICMP error goes with the traffic that it is about, when that comes in
    /// through an SA (RFC 4301 §6.2). No SA is asked for on its behalf.
    #[inline]
    fn relayed(&self, verdict: Result<Verdict, Discard>, packet: &[u8]) -> Result<Verdict, Discard> {
        match verdict {
            Err(Discard::OutNoPolicy) | Ok(Verdict::Acquire(_) | Verdict::Clear | Verdict::ClearMeanwhile(_))
                if cfg!(feature = "icmp-relay") =>
            {
                match (self.back_from(packet), verdict) {
                    (Some((_, Some(sa))), _) => Ok(Verdict::Protect(sa)),
                    // What it quotes came protected, and nobody is to read it outside.
                    (Some((Level::Require, None)), Ok(Verdict::Clear | Verdict::ClearMeanwhile(_))) => {
                        Err(Discard::OutNoSa)
                    }
                    _ => verdict,
                }
            }
            _ => verdict,
        }
    }

    /// How the packet that an ICMP error is about is protected, if it is, and the SA for answers to it.
    #[cold]
    fn back_from(&self, packet: &[u8]) -> Option<(Level, Option<SaId>)> {
        let about = icmp::quoted(packet)?;
        let Ok(Action::Protect { policy, level }) = self.policies.judge(Direction::Forward, &about) else {
            return None;
        };
        let newest = self.sad.newest(policy, about.source, |sa| {
            sa.common.relays_errors
                && sa.common.policy() == policy
                && !sa.common.meter.is_dead()
                && sa.common.admits_inbound(&about)
        });
        Some((level, newest))
    }

    #[inline]
    fn decide(&mut self, now: Instant, packet: &[u8]) -> Result<Verdict, Discard> {
        let flow = Flow::of(packet).map_err(|Malformed| Discard::OutHeader)?;
        let (met, remembered) =
            self.policies.decide(Direction::Out, &flow, self.sad.linked()).map_err(why_undecided)?;
        self.policies.count(now, Direction::Out, met, flow.len);
        if let Some(id) = remembered.filter(|id| self.sad.get(*id).is_some_and(|sa| !sa.common.meter.is_dead())) {
            return Ok(Verdict::Protect(id));
        }
        let verdict = self.carry_out(met.action, &flow)?;
        if let Verdict::Protect(id) = verdict {
            self.policies.note(Direction::Out, &flow, id);
            return Ok(verdict);
        }
        // What an error goes with is not remembered: the next one may be about something else.
        let verdict = self.relayed(Ok(verdict), packet)?;
        if let Verdict::ClearMeanwhile(_) = verdict {
            self.policies.count_clear(met);
        }
        Ok(verdict)
    }

    /// What the action of a rule means while the SAs are as they are: of those of a policy, the newest that fits is used.
    #[inline(always)]
    fn carry_out(&self, action: Action, flow: &Flow) -> Result<Verdict, Discard> {
        match action {
            Action::Bypass => Ok(Verdict::Clear),
            Action::Discard => Err(Discard::OutBlocked),
            Action::Protect { policy, level } => {
                let newest = self.sad.newest(policy, flow.destination, |sa| {
                    sa.common.policy() == policy && !sa.common.meter.is_dead() && sa.common.admits_outbound(flow)
                });
                let wanted = match level {
                    Level::Use => Verdict::ClearMeanwhile(policy),
                    Level::Require => Verdict::Acquire(policy),
                };
                Ok(newest.map_or(wanted, Verdict::Protect))
            }
        }
    }

    /// Encrypts an inner packet in place and puts ESP around it. The packet then starts with the SPI and goes where
    /// [`Egress`] says: as a UDP datagram, as protocol 50, or through [`encap::push_outer`](crate::encap::push_outer).
    ///
    /// Needs the room that the SA's [`Layout`](crate::transform::Layout) names, and more for outer headers: [`HEADROOM`](crate::buf::HEADROOM) and
    /// [`TAILROOM`](crate::buf::TAILROOM) are enough for all. What lies behind the end of the inner packet, as behind a short one in
    /// an Ethernet frame, is no part of it and cut off first.
    ///
    /// # Errors
    /// [`Discard::OutNoSa`], [`Discard::OutExpired`], [`Discard::OutExhausted`], [`Discard::OutHeader`],
    /// [`Discard::OutNoRoom`], [`Discard::OutNoIv`], [`Discard::OutMode`], counted; the packet is as it was and must not be sent.
    #[inline]
    pub fn seal(&mut self, now: Instant, sa: SaId, packet: &mut PacketBuf<'_>) -> Result<Egress, Discard> {
        let sealed = self.protect(now, sa, packet);
        sealed.inspect_err(|discard| self.counters.count(*discard))
    }

    /// Seals packets for one SA in their order, each as [`seal`](Self::seal) does, and hands on what became of each: a
    /// packet that is discarded holds up no other one.
    pub fn seal_batch<'p, 'b: 'p>(
        &mut self,
        now: Instant,
        sa: SaId,
        packets: impl IntoIterator<Item = &'p mut PacketBuf<'b>>,
        mut done: impl FnMut(&mut PacketBuf<'b>, Result<Egress, Discard>),
    ) {
        for packet in packets {
            let sealed = self.seal(now, sa, packet);
            done(packet, sealed);
        }
    }

    /// Seals a dummy packet for an SA (RFC 4303 §2.6), which the peer drops. What is in `packet` goes with it; nothing may be. It takes
    /// a sequence number and counts as a packet of the SA without octets, at both ends; the limits of its lifetime count all of it.
    ///
    /// In ESP whoever looks on cannot tell it from others. Its outer header is a new one with DSCP 0, which does not fragment unless
    /// the SA says so: in tunnel mode such as that of a packet without marks, in other modes another one than the packets have that
    /// a system sends.
    ///
    /// # Errors
    /// As for [`Outbound::seal`].
    pub fn seal_dummy(&mut self, now: Instant, sa: SaId, packet: &mut PacketBuf<'_>) -> Result<Egress, Discard> {
        let crypto = &mut self.crypto;
        let marks = Marks { version: Version::V6, len: 0, traffic_class: 0, dont_fragment: true, ident: 0, hops: HOPS };
        packet.forget_aside();
        let sealed =
            self.sad.edit(sa, Discard::OutNoSa, |sa| wrap(crypto, now, sa, Enclosed::DUMMY, marks, 0, packet, at_once));
        let sealed = sealed.map(|(egress, ())| egress);
        sealed.inspect_err(|discard| self.counters.count(*discard))
    }

    #[inline]
    fn protect(&mut self, now: Instant, id: SaId, packet: &mut PacketBuf<'_>) -> Result<Egress, Discard> {
        let (crypto, compressor) = (&mut self.crypto, &mut self.compressor);
        let carried = self.sad.edit(id, Discard::OutNoSa, |sa| carry(crypto, compressor, now, sa, packet, at_once));
        carried.map(|(egress, ())| egress)
    }

    /// Installs an SA; it is used from the next [`classify`](Self::classify) on, before older ones of its policy.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed.
    #[inline(never)]
    pub fn install(&mut self, now: Instant, params: &OutboundParams<'_>) -> Result<SaId, Refused> {
        if params.sa.compression.is_some() && !self.compressor.is_there() {
            return Err(Refused::Compression);
        }
        let place = self.sad.place()?;
        let crypto = &mut self.crypto;
        let keys = |sa: &mut sa::Outbound<_>| sa.common.transform.set_keys(crypto, Purpose::Encrypt, params.sa.keymat);
        self.sad.put(place, params.sa.spi, || sa::Outbound::new(now, params), keys)
    }

    /// Removes an SA and wipes its key. `false`: it was gone already.
    pub fn remove(&mut self, id: SaId) -> bool {
        self.sad.remove(id)
    }

    /// Sends an SA's packets along another path from now on: after MOBIKE, or a NAT's new mapping that was verified.
    /// `false`: there is no such SA.
    pub fn set_path(&mut self, id: SaId, path: Path, encap: Encap) -> bool {
        self.sad.change(id, |sa| sa.common.set_path(path, encap))
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

    /// Takes the rules away. SAs stay; without rules every packet is discarded.
    pub fn clear_rules(&mut self) -> Option<R> {
        self.policies.clear()
    }

    /// How many rules there may be.
    pub fn room_for_rules(&self) -> usize {
        self.policies.room()
    }

    /// The rules in order, with their hits.
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

    /// Counts a packet that the caller gave up on: one that waited too long for an SA.
    pub fn count(&mut self, discard: Discard) {
        self.counters.count(discard);
    }

    /// The next thing to tell the caller. To be called until `None` after [`seal`](Self::seal) or
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

/// Encrypts a packet, and has nothing left to do.
#[inline(always)]
fn at_once<P: PacketCrypto>(
    crypto: &mut P,
    transform: &Transform<Keys<P>>,
    number: &Number,
    packet: &mut [u8],
) -> Result<(), Unsealed> {
    Ok(transform.seal(crypto, number, packet)?)
}

/// Puts a packet through an SA. What is left to do `protect` says.
#[inline(always)]
pub(super) fn carry<P: PacketCrypto, T>(
    crypto: &mut P,
    compressor: &mut Compressor<'_>,
    now: Instant,
    sa: &mut sa::Outbound<Keys<P>>,
    packet: &mut PacketBuf<'_>,
    protect: impl FnOnce(&mut P, &Transform<Keys<P>>, &Number, &mut [u8]) -> Result<T, Unsealed>,
) -> Result<(Egress, T), Discard> {
    let marks = Marks::of(packet.as_slice()).map_err(|Malformed| Discard::OutHeader)?;
    if !(ipv4::HEADER_LEN..=packet.len()).contains(&marks.len) {
        return Err(Discard::OutHeader);
    }
    packet.truncate(marks.len);
    let inner_len = packet.len();
    let Enclosed { next_header: plain, hops } = enclose(&sa.common, &marks, packet)?;
    let next_header = compressor.compress(&sa.common, plain, packet);
    wrap(crypto, now, sa, Enclosed { next_header, hops }, marks, inner_len, packet, protect).inspect_err(|_| {
        if next_header != plain {
            let _ = compressor.decompress(&sa.common, next_header, packet);
        }
        let _ = packet.bring_back();
    })
}

/// Pads and seals what an SA carries, of which `counted` octets are somebody's.
#[expect(clippy::too_many_arguments, reason = "what a packet and its SA are, and what is done about them")]
#[inline(always)]
fn wrap<P: PacketCrypto, T>(
    crypto: &mut P,
    now: Instant,
    sa: &mut sa::Outbound<Keys<P>>,
    enclosed: Enclosed,
    marks: Marks,
    counted: usize,
    packet: &mut PacketBuf<'_>,
    protect: impl FnOnce(&mut P, &Transform<Keys<P>>, &Number, &mut [u8]) -> Result<T, Unsealed>,
) -> Result<(Egress, T), Discard> {
    let Enclosed { next_header, hops } = enclosed;
    let (len, layout) = (packet.len(), sa.common.transform.layout());
    // What is behind a packet is told by its own length: in other modes it has none.
    let tells_its_length = sa.common.mode == Mode::Tunnel && next_header != PROTOCOL_IPCOMP;
    let padded = if tells_its_length { sa.padding.padded(len) } else { len };
    if padded.saturating_add(layout.headroom()).saturating_add(layout.tailroom()) > MAX_LEN {
        return Err(Discard::OutNoRoom);
    }
    let encrypted = padded.saturating_add(layout.pad_len(padded)).saturating_add(TRAILER_LEN);
    if !sa.common.meter.admits(now, encrypted) {
        return Err(sa.common.meter.why_dead());
    }
    let sequence = match sa.last_sent.checked_add(1) {
        Some(sequence) if sequence <= sa.last_number => sequence,
        _ => {
            sa.common.meter.sequence_hard();
            return Err(Discard::OutExhausted);
        }
    };
    if padded > len {
        packet.push_back(padded.saturating_sub(len)).map_err(|NoRoom| Discard::OutNoRoom)?.fill(0);
    }
    let sealed = seal(crypto, &sa.common.transform, &sa.common.number(sequence), next_header, packet, protect);
    let left = sealed.map_err(|unsealed| {
        packet.truncate(len);
        match unsealed {
            Unsealed::NoRoom => Discard::OutNoRoom,
            Unsealed::NoIv => Discard::OutNoIv,
            Unsealed::Busy => Discard::OutEngine,
        }
    })?;
    if sa.common.mode == Mode::Beet {
        // It never travels.
        packet.forget_aside();
    }
    sa.last_sent = sequence;
    sa.common.meter.record(now, counted, encrypted);
    if sequence >= sa.soft_number {
        sa.common.meter.sequence_soft();
    }
    let dscp = if sa.copy_dscp { !0 } else { 0x03 };
    let egress = Egress {
        path: sa.common.path,
        encap: sa.common.encap,
        traffic_class: marks.traffic_class & dscp,
        dont_fragment: match sa.dont_fragment {
            DontFragment::Copy => marks.dont_fragment,
            DontFragment::Set => true,
            DontFragment::Clear => false,
        },
        ident: sequence as u16,
        hops,
    };
    Ok((egress, left))
}

fn why_undecided(undecided: Undecided) -> Discard {
    match undecided {
        Undecided::NoRule => Discard::OutNoPolicy,
        Undecided::Fragment => Discard::OutFragment,
    }
}

impl Verdict {
    /// The SA to seal with, if there is one.
    pub const fn sa(self) -> Option<SaId> {
        match self {
            Self::Protect(sa) => Some(sa),
            Self::Clear | Self::ClearMeanwhile(_) | Self::Acquire(_) => None,
        }
    }
}
