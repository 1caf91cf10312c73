//! A [`smoltcp::phy::Device`] that speaks IPsec: it wraps any device of whole IP packets, so that a smoltcp interface on
//! top sees the inner packets only. The one file that knows smoltcp.

use core::fmt;

use crate::buf::{HEADROOM, PacketBuf, TAILROOM};
use crate::crypto::{AeadAlg, PacketCrypto, Protection};
use crate::encap::{Arrival, pop_outer, push_outer};
use crate::engine::{Inbound, Outbound, Verdict};
use crate::error::{Discard, NoRoom};
use crate::mtu::Overhead;
use crate::net::Encap;
use crate::spd::{Direction, PolicyId};
use crate::time::Instant;
use crate::transform::Layout;
use crate::wire::ip::Version;
/// The version whose devices these are: what an application names has to be the same.
///
/// ```
/// use ipsec_core::phy::smoltcp::phy::Medium;
/// assert_eq!(Medium::Ip, smoltcp::phy::Medium::Ip);
/// ```
pub use smoltcp;
use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium, RxToken as _};

/// Of the suites that have one of 16 octets for an ICV and count their IVs.
const AEAD: Layout = Layout::of(Protection::Aead(AeadAlg::Aes256Gcm16));

/// Octets left free in front of a packet that comes: in BEET mode its IPv6 header (40) may take the place of IPv4 (20) and ESP (8).
const ROOM: usize = 40 - 20 - 8;

/// Packets looked at in one call before the caller gets the processor back.
const TRIES: usize = 8;

/// IPsec over a device of whole IP packets.
///
/// What policy discards never reaches either side; the reasons are counted in the engines. Packets that want an SA
/// leave their policy in [`take_acquire`](Self::take_acquire), and are dropped where they need one. IKE on ports 500 and 4500 is
/// an ordinary socket of the interface and needs BYPASS rules. Fragments of outer packets are not reassembled: the inner MTU
/// leaves room for the headers, and so there are none to be made.
///
/// ```
/// use ipsec_core::buf::{HEADROOM, TAILROOM};
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{Inbound, Outbound};
/// use ipsec_core::phy::{Device, RxToken, TxToken};
/// use smoltcp::phy::{Device as _, DeviceCapabilities, Medium};
/// use smoltcp::time::Instant;
/// # struct Wire; // on which nothing comes
/// # enum Never {}
/// # impl smoltcp::phy::RxToken for Never {
/// #     fn consume<R, F: FnOnce(&[u8]) -> R>(self, _: F) -> R { match self {} }
/// # }
/// # impl smoltcp::phy::TxToken for Never {
/// #     fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, _: usize, _: F) -> R { match self {} }
/// # }
/// # impl smoltcp::phy::Device for Wire {
/// #     type RxToken<'t> = Never;
/// #     type TxToken<'t> = Never;
/// #     fn receive(&mut self, _: Instant) -> Option<(Never, Never)> { None }
/// #     fn transmit(&mut self, _: Instant) -> Option<Never> { None }
/// #     fn capabilities(&self) -> DeviceCapabilities {
/// #         let mut capabilities = DeviceCapabilities::default();
/// #         (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, 1500);
/// #         capabilities
/// #     }
/// # }
/// let outbound = Outbound::new(RustCrypto, &mut [], &mut []); // rules and SAs: as for engines alone
/// let inbound = Inbound::new(RustCrypto, &mut [], &mut [], &mut []);
/// let (mut rx, mut tx) = ([0; 1500], [0; HEADROOM + 1500 + TAILROOM]);
/// let mut device = Device::new(Wire, outbound, inbound, &mut rx, &mut tx).expect("a device of whole IP packets");
/// assert_eq!(device.capabilities().max_transmission_unit, 1418); // what ESP in UDP over IPv6 leaves
///
/// // An interface polls it, as any other device:
/// let came: Option<(RxToken<'_>, TxToken<'_, '_, _, _>)> = device.receive(Instant::ZERO);
/// assert!(came.is_none());
/// ```
pub struct Device<'a, D, P: PacketCrypto> {
    device: D,
    /// Sends; open to the caller for rules, SAs and events.
    pub outbound: Outbound<'a, P>,
    /// Receives; open to the caller for rules, SAs and events.
    pub inbound: Inbound<'a, P>,
    rx: &'a mut [u8],
    tx: &'a mut [u8],
    acquire: Option<PolicyId>,
    layout: Layout,
}

impl<D, P: PacketCrypto> fmt::Debug for Device<'_, D, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

impl<'a, D: phy::Device, P: PacketCrypto> Device<'a, D, P> {
    /// Wraps `device`. `rx` holds one outer packet, `tx` one with [`HEADROOM`] and [`TAILROOM`]. `None`: the device does
    /// not carry IP packets as they are ([`Medium::Ip`]).
    ///
    /// Where hosts with IPv6 addresses talk in BEET mode over IPv4, packets may become longer as they come in: they are received
    /// whole as long as the outer ones are 12 octets shorter than `rx`, which those are that are made for the MTU of this device.
    pub fn new(
        device: D,
        outbound: Outbound<'a, P>,
        inbound: Inbound<'a, P>,
        rx: &'a mut [u8],
        tx: &'a mut [u8],
    ) -> Option<Self> {
        let is_ip = device.capabilities().medium == Medium::Ip;
        is_ip.then_some(Self { device, outbound, inbound, rx, tx, acquire: None, layout: AEAD })
    }

    /// The MTU that the interface is told leaves room for packets of this layout, instead of for those of AES-GCM: the largest
    /// of the suites that there will be SAs of.
    #[must_use]
    pub fn with_layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// The device below, to reach what is not IPsec's business.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The newest policy that a packet wanted an SA of.
    pub fn take_acquire(&mut self) -> Option<PolicyId> {
        self.acquire.take()
    }

    /// Receives outer packets until one yields something for the interface. `None`: none did, or none is there.
    fn next_packet(&mut self, timestamp: smoltcp::time::Instant) -> Option<(usize, usize)> {
        for _ in 0..TRIES {
            let (token, _) = self.device.receive(timestamp)?;
            let rx = &mut *self.rx;
            let place = token.consume(|packet| {
                let room = rx.len().checked_sub(packet.len())?.min(ROOM);
                rx.get_mut(room..)?.get_mut(..packet.len())?.copy_from_slice(packet);
                Some((room, packet.len()))
            });
            let admitted = place.ok_or(Discard::InHeader).inspect_err(|discard| self.inbound.count(*discard));
            if let Ok(window) = admitted.and_then(|(room, len)| self.admit(instant(timestamp), room, len)) {
                return Some(window);
            }
        }
        None
    }

    /// Decides about the `len` octets behind `room` ones in `rx`. Returns where the packet for the interface lies, and its length.
    fn admit(&mut self, now: Instant, room: usize, len: usize) -> Result<(usize, usize), Discard> {
        let rx = &mut *self.rx;
        let mut packet = PacketBuf::new(rx, room, len).map_err(|NoRoom| Discard::InHeader)?;
        match pop_outer(&mut packet).inspect_err(|discard| self.inbound.count(*discard))? {
            Arrival::Esp { path, ecn } => {
                self.inbound.open(now, path, ecn, &mut packet)?;
                Ok((packet.headroom(), packet.len()))
            }
            // To this layer IKE is an application, and a keepalive a datagram: they keep their headers.
            Arrival::Ike { .. } | Arrival::Keepalive | Arrival::Clear => {
                let whole = self.rx.get(room..).and_then(|rest| rest.get(..len)).unwrap_or_default();
                let flow = self.inbound.check_clear(now, Direction::In, whole)?;
                Ok((room, flow.len))
            }
        }
    }
}

fn instant(timestamp: smoltcp::time::Instant) -> Instant {
    Instant::from_millis(u64::try_from(timestamp.total_millis()).unwrap_or(0))
}

impl<'a, D: phy::Device, P: PacketCrypto> phy::Device for Device<'a, D, P> {
    type RxToken<'t>
        = RxToken<'t>
    where
        Self: 't;
    type TxToken<'t>
        = TxToken<'t, 'a, D, P>
    where
        Self: 't;

    fn receive(&mut self, timestamp: smoltcp::time::Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let (offset, len) = self.next_packet(timestamp)?;
        let packet = self.rx.get(offset..)?.get(..len)?;
        let Self { device, outbound, tx, acquire, .. } = self;
        Some((RxToken(packet), TxToken { device, outbound, tx, acquire, timestamp }))
    }

    fn transmit(&mut self, timestamp: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        // The device's own token is taken when there is something to send; here it only has to be there.
        self.device.transmit(timestamp)?;
        let Self { device, outbound, tx, acquire, .. } = self;
        Some(TxToken { device, outbound, tx, acquire, timestamp })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.device.capabilities();
        let room = self.tx.len().saturating_sub(HEADROOM).saturating_sub(TAILROOM);
        // Which SA a packet will have is not known here: the longest headers are taken from all of them.
        let overhead = Overhead { outer: Version::V6, replaced: None, encap: Encap::Udp, layout: self.layout };
        let outer = capabilities.max_transmission_unit.min(self.rx.len());
        capabilities.max_transmission_unit = overhead.max_inner_len(outer).min(room);
        // Nobody below can compute a checksum inside an encrypted packet.
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// A packet for the interface.
pub struct RxToken<'t>(&'t [u8]);

impl fmt::Debug for RxToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxToken").finish_non_exhaustive()
    }
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a packet from the interface.
pub struct TxToken<'t, 'a, D, P: PacketCrypto> {
    device: &'t mut D,
    outbound: &'t mut Outbound<'a, P>,
    tx: &'t mut [u8],
    acquire: &'t mut Option<PolicyId>,
    timestamp: smoltcp::time::Instant,
}

impl<D, P: PacketCrypto> fmt::Debug for TxToken<'_, '_, D, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxToken").finish_non_exhaustive()
    }
}

impl<D: phy::Device, P: PacketCrypto> phy::TxToken for TxToken<'_, '_, D, P> {
    /// `len` is at most the MTU in the capabilities.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Ok(mut packet) = PacketBuf::new(self.tx, HEADROOM, len) else {
            self.outbound.count(Discard::OutNoRoom);
            return f(&mut []);
        };
        let result = f(packet.as_mut_slice());
        if let Ok(true) = protect(self.outbound, self.acquire, instant(self.timestamp), &mut packet)
            && let Some(token) = self.device.transmit(self.timestamp)
        {
            token.consume(packet.len(), |bytes| {
                bytes.iter_mut().zip(packet.as_slice()).for_each(|(to, from)| *to = *from);
            });
        }
        result
    }
}

/// Makes an outer packet. Returns whether it may be sent.
fn protect<P: PacketCrypto>(
    outbound: &mut Outbound<'_, P>,
    acquire: &mut Option<PolicyId>,
    now: Instant,
    packet: &mut PacketBuf<'_>,
) -> Result<bool, Discard> {
    match outbound.classify(now, packet.as_slice())? {
        Verdict::Clear => Ok(true),
        Verdict::ClearMeanwhile(policy) => {
            *acquire = Some(policy);
            Ok(true)
        }
        Verdict::Protect(sa) => {
            let egress = outbound.seal(now, sa, packet)?;
            let pushed = push_outer(&egress, packet).map_err(|NoRoom| Discard::OutNoRoom);
            pushed.inspect_err(|discard| outbound.count(*discard))?;
            Ok(true)
        }
        Verdict::Acquire(policy) => {
            *acquire = Some(policy);
            outbound.count(Discard::OutNoSa);
            Ok(false)
        }
    }
}
