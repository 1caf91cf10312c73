//! Security Associations of ESP (RFC 4301 §4.4.2): what the caller hands over, what is kept, and when
//! it ends.

use core::fmt;
use core::net::IpAddr;

mod event;
mod ids;
mod lifetime;
mod meter;
mod news;
mod params;

use crate::crypto::Protection;
use crate::error::Refused;
use crate::flow::Flow;
#[cfg(feature = "ipcomp")]
use crate::net::Cpi;
use crate::net::{Encap, Path, Spi, TrafficSelector};
use crate::replay::Window;
use crate::time::Instant;
use crate::transform::{Number, Transform};
pub use event::Event;
pub use ids::{MAX_SELECTORS, PolicyId, SaId};
pub use lifetime::{Lifetime, Limit, Reached};
use meter::Meter;
use news::{Marked, Once};
pub use params::{DontFragment, InboundParams, Mode, OutboundParams, Params, TfcPadding};

/// An SA as the operator sees it. No key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Id in its table.
    pub id: SaId,
    /// Security Parameters Index.
    pub spi: Spi,
    /// What it carries.
    pub mode: Mode,
    /// Algorithms.
    pub protection: Protection,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Outer addresses.
    pub path: Path,
    /// Protocol 50 or UDP.
    pub encap: Encap,
    /// The policy it belongs to.
    pub policy: PolicyId,
    /// Packets sealed or opened, dummy packets included.
    pub packets: u64,
    /// Octets of their inner packets.
    pub bytes: u64,
    /// The last sequence number sent, or the highest received.
    pub sequence: u64,
    /// When it was installed.
    pub since: Instant,
    /// When a packet last went through, if one did.
    pub last_used: Option<Instant>,
    /// Whether a hard limit was reached.
    pub dead: bool,
}

/// What both directions keep.
pub(crate) struct Common<K> {
    pub(crate) transform: Transform<K>,
    pub(crate) esn: bool,
    pub(crate) mode: Mode,
    pub(crate) encap: Encap,
    /// Whether ICMP errors about its traffic pass from whomever they are. By default: the peer is who it is to be, could as well
    /// write them in the name of its hosts, and reaches nobody else with them; and without them there is neither traceroute nor
    /// path MTU discovery beyond the tunnel.
    pub(crate) relays_errors: bool,
    /// With what index its packets may be compressed.
    #[cfg(feature = "ipcomp")]
    pub(crate) compression: Option<Cpi>,
    pub(crate) spi: Spi,
    pub(crate) path: Path,
    policy: PolicyId,
    pub(crate) meter: Meter,
    local_ts: Selectors,
    remote_ts: Selectors,
}

type Selectors = heapless::Vec<TrafficSelector, MAX_SELECTORS>;

impl<K> Common<K> {
    fn new(now: Instant, params: &Params<'_>) -> Result<Self, Refused> {
        let selectors = |ts: &[TrafficSelector]| {
            Selectors::from_slice(ts).ok().filter(|ts| !ts.is_empty()).ok_or(Refused::Selectors)
        };
        let (local_ts, remote_ts) = (selectors(params.local_ts)?, selectors(params.remote_ts)?);
        if params.path.local.is_ipv4() != params.path.remote.is_ipv4() {
            return Err(Refused::Path);
        }
        if matches!(params.protection, Protection::ImplicitIv(alg) if !alg.has_implicit_iv()) {
            return Err(Refused::Algorithm);
        }
        if !params.mode.is_built() {
            return Err(Refused::Mode);
        }
        if params.mode == Mode::Beet && !(is_host(&local_ts) && is_host(&remote_ts)) {
            return Err(Refused::Hosts);
        }
        Ok(Self {
            transform: Transform::new(params.protection),
            esn: params.esn,
            mode: params.mode,
            encap: params.encap,
            relays_errors: true,
            #[cfg(feature = "ipcomp")]
            compression: params.compression,
            spi: params.spi,
            path: params.path.carried(params.encap),
            policy: params.policy,
            meter: Meter::new(now, &params.lifetime),
            local_ts,
            remote_ts,
        })
    }

    /// Whether a packet from our side to the peer's fits the selectors (RFC 7296 §2.9: any pair of one from each side).
    #[inline]
    pub(crate) fn admits_outbound(&self, flow: &Flow) -> bool {
        self.local_ts.iter().any(|ts| flow.fits_source(ts)) && self.remote_ts.iter().any(|ts| flow.fits_destination(ts))
    }

    /// Whether a packet from the peer's side to ours fits the selectors.
    #[inline]
    pub(crate) fn admits_inbound(&self, flow: &Flow) -> bool {
        self.remote_ts.iter().any(|ts| flow.fits_source(ts)) && self.local_ts.iter().any(|ts| flow.fits_destination(ts))
    }

    /// Leads it along another path, or the same path in another way.
    pub(crate) fn set_path(&mut self, path: Path, encap: Encap) {
        (self.path, self.encap) = (path.carried(encap), encap);
    }

    /// What it belongs to, for good: it is found by that.
    #[inline]
    pub(crate) const fn policy(&self) -> PolicyId {
        self.policy
    }

    /// The packet with this sequence number.
    #[inline]
    pub(crate) const fn number(&self, sequence: u64) -> Number {
        Number { spi: self.spi, sequence, esn: self.esn }
    }

    /// The highest sequence number that may be used.
    #[inline]
    pub(crate) const fn last_sequence(&self) -> u64 {
        if self.esn { u64::MAX } else { u32::MAX as u64 }
    }

    /// The one address of our side and of the peer's, in BEET mode.
    pub(crate) fn hosts(&self) -> Option<(IpAddr, IpAddr)> {
        Some((self.local_ts.first()?.addrs.start(), self.remote_ts.first()?.addrs.start()))
    }

    /// The selectors of our side and of the peer's.
    pub(crate) fn selectors(&self) -> (&[TrafficSelector], &[TrafficSelector]) {
        (&self.local_ts, &self.remote_ts)
    }

    fn status(&self, id: SaId, sequence: u64) -> Status {
        Status {
            id,
            spi: self.spi,
            mode: self.mode,
            protection: self.transform.protection(),
            esn: self.esn,
            path: self.path,
            encap: self.encap,
            policy: self.policy,
            packets: self.meter.packets,
            bytes: self.meter.bytes,
            sequence,
            since: self.meter.since,
            last_used: (self.meter.packets > 0).then_some(self.meter.last_used),
            dead: self.meter.is_dead(),
        }
    }
}

/// Whether selectors are about one address.
fn is_host(selectors: &[TrafficSelector]) -> bool {
    matches!(selectors, [only] if only.addrs.start() == only.addrs.end())
}

/// An SA to send with. Neither `Clone` nor readable: a second copy would repeat nonces (ATK-63). This does not compile:
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<ipsec_core::sa::Outbound<()>>();
/// ```
pub struct Outbound<K> {
    pub(crate) common: Common<K>,
    pub(crate) last_sent: u64,
    pub(crate) last_number: u64,
    /// From here on it is to be replaced.
    pub(crate) soft_number: u64,
    pub(crate) copy_dscp: bool,
    pub(crate) dont_fragment: DontFragment,
    pub(crate) padding: TfcPadding,
}

impl<K> fmt::Debug for Outbound<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("last_sent", &self.last_sent).finish_non_exhaustive()
    }
}

impl<K> Outbound<K> {
    /// Without its keys.
    pub(crate) fn new(now: Instant, params: &OutboundParams<'_>) -> Result<Self, Refused> {
        let common = Common::new(now, &params.sa)?;
        let (last_sent, last_number) = (params.last_sent, params.last_number.min(common.last_sequence()));
        let left = last_number.checked_sub(last_sent).ok_or(Refused::Sequence)?;
        Ok(Self {
            common,
            last_sent,
            last_number,
            soft_number: last_number.saturating_sub(left >> 2),
            copy_dscp: params.copy_dscp,
            dont_fragment: params.dont_fragment,
            padding: TfcPadding::None,
        })
    }

    pub(crate) fn status(&self, id: SaId) -> Status {
        self.common.status(id, self.last_sent)
    }
}

/// An SA to receive with.
pub struct Inbound<K> {
    pub(crate) common: Common<K>,
    pub(crate) window: Window,
    /// Words of the slot's share of the window storage in use.
    pub(crate) window_words: usize,
    /// Whether TCP and UDP with a wrong checksum are discarded.
    pub(crate) checks_checksums: bool,
    heard: Marked<Heard>,
}

/// What packets tell of their sender, and the SA is filed by.
struct Heard {
    first_packet: Once<()>,
    /// Another path than the SA's, on which the newest packet came.
    moved_to: Once<Path>,
}

impl<K> fmt::Debug for Inbound<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

impl<K> Inbound<K> {
    /// Without its keys. `share` is what the table can lend for the window.
    pub(crate) fn new(now: Instant, params: &InboundParams<'_>, share: &mut [u64]) -> Result<Self, Refused> {
        let words = params.window / 64;
        if !params.window.is_power_of_two() || words == 0 {
            return Err(Refused::Window);
        }
        let bits = share.get_mut(..words).ok_or(Refused::Window)?;
        let common = Common::new(now, &params.sa)?;
        if params.highest_seen > common.last_sequence() {
            return Err(Refused::Sequence);
        }
        Ok(Self {
            common,
            window: Window::new(params.highest_seen, bits),
            window_words: words,
            checks_checksums: false,
            heard: Marked::new(Heard { first_packet: Once::No, moved_to: Once::No }),
        })
    }

    /// Takes note of an authentic packet.
    #[inline]
    pub(crate) fn received(&mut self, from: Path, is_newest: bool) {
        if !self.heard.first_packet.happened() {
            self.heard.first_packet = Once::Due(());
        }
        let expected = from == self.common.path;
        if is_newest && (!expected || self.heard.moved_to.happened()) {
            self.moved(from, expected);
        }
    }

    #[cold]
    fn moved(&mut self, from: Path, expected: bool) {
        if expected {
            self.heard.moved_to = Once::No;
        } else if self.heard.moved_to.what() != Some(from) {
            self.heard.moved_to = Once::Due(from);
        }
    }

    /// From now on packets are expected on `path`.
    pub(crate) fn set_path(&mut self, path: Path, encap: Encap) {
        self.common.set_path(path, encap);
        self.heard.moved_to = Once::No;
    }

    /// Whether there is something to report.
    pub(crate) fn tells(&self) -> bool {
        self.heard.first_packet.is_due() || self.heard.moved_to.is_due() || self.common.meter.tells()
    }

    /// Whether what it is filed by may be another than when it was last [`settled`](Self::settled).
    #[inline]
    pub(crate) fn is_touched(&self) -> bool {
        self.heard.is_touched() | self.common.meter.is_touched()
    }

    /// It is filed as it says.
    pub(crate) fn settled(&mut self) {
        self.heard.settled();
        self.common.meter.settled();
    }

    /// The next thing to report.
    pub(crate) fn take_event(&mut self, sa: SaId) -> Option<Event> {
        let spi = self.common.spi;
        if self.heard.first_packet.take().is_some() {
            return Some(Event::FirstPacket { sa, spi });
        }
        if let Some(path) = self.heard.moved_to.take() {
            return Some(Event::PathChanged { sa, spi, path });
        }
        self.common.meter.take_event(sa, spi)
    }

    pub(crate) fn status(&self, id: SaId) -> Status {
        self.common.status(id, self.window.highest())
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::crypto::AeadAlg;
    use crate::net::AddrRange;

    /// So many milliseconds after the installation.
    fn at(millis: u64) -> Instant {
        Instant::ZERO.after(Duration::from_millis(millis))
    }

    fn tunnel<'p>(all: &'p [TrafficSelector], path: Path, lifetime: Lifetime) -> Params<'p> {
        Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: &[7; 20],
            esn: false,
            path,
            encap: Encap::None,
            policy: PolicyId(1),
            local_ts: all,
            remote_ts: all,
            lifetime,
            compression: None,
        }
    }

    #[test]
    fn a_mode_that_is_not_built_is_refused() {
        let host = core::net::SocketAddr::from(([192, 0, 2, 1], 0));
        let all = [TrafficSelector::addrs(AddrRange::single(host.ip()))];
        for mode in [Mode::Tunnel, Mode::Transport, Mode::Beet] {
            let params = Params { mode, ..tunnel(&all, Path { local: host, remote: host }, Lifetime::default()) };
            let refused = Common::<()>::new(Instant::ZERO, &params).err();
            let built = mode == Mode::Tunnel || cfg!(feature = "transport");
            assert_eq!(refused, (!built).then_some(Refused::Mode), "{mode:?}");
        }
    }

    #[test]
    fn packets_touch_what_an_sa_is_filed_by_when_something_happens_and_only_then() {
        let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
        let host = |last| core::net::SocketAddr::from(([192, 0, 2, last], 0));
        let path = |last| Path { local: host(1), remote: host(last) };
        let (age, packets) = (Some(Duration::from_secs(9)), Some(20));
        let lifetime =
            Lifetime { soft: Limit { packets, ..Limit::default() }, hard: Limit { age, ..Limit::default() } };
        let params = InboundParams { sa: tunnel(&all, path(2), lifetime), window: 64, highest_seen: 0 };
        let mut sa = Inbound::<()>::new(Instant::ZERO, &params, &mut [0]).unwrap();
        let mut touched = [0_u64; 40].map(|_| false);
        for (number, touched) in (0..).zip(&mut touched) {
            // The peer moves with the tenth packet, and comes back with the thirtieth; the last ones are too late.
            let from = path(if (10..30).contains(&number) { 3 } else { 2 });
            if sa.common.meter.admits(at(number * 250), 0) {
                sa.received(from, true);
                if number == 25 {
                    sa.common.meter.sequence_soft();
                }
                sa.common.meter.record(at(number * 250), 100, 100);
            }
            *touched = sa.is_touched();
            sa.settled();
        }
        let touched: std::vec::Vec<_> = (0..40).filter(|number| touched[*number]).collect();
        assert_eq!(touched, [0, 10, 19, 30, 36], "the first, moved, the soft limit, back again, the hard limit");
    }
}
