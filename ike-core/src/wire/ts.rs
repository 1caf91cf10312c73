//! Traffic Selector payloads (RFC 7296 §3.13).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::wire::cursor::Reader;

use super::enclosed;
use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::PayloadType;

const IPV4_RANGE: u8 = 7;
const IPV6_RANGE: u8 = 8;

/// The selectors of one end. There can be none of a type we know, or none at all: both are for the reader to refuse.
///
/// ```
/// use ike_core::wire::ts::Ts;
/// use ipsec_core::net::{AddrRange, TrafficSelector};
/// let body = [
///     1, 0, 0, 0, // one selector
///     7, 0, 0, 16, 0, 0, 0xff, 0xff, 10, 2, 0, 0, 10, 2, 0xff, 0xff, // IPv4, any protocol, any port, from, to
/// ];
/// let ts = Ts::parse(&body).unwrap();
/// let site = AddrRange::prefix([10, 2, 0, 0].into(), 16).unwrap();
/// assert!(ts.selectors().eq([TrafficSelector::addrs(site)]));
/// assert_eq!((ts.len(), ts.unknown()), (1, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ts<'m> {
    selectors: &'m [u8],
    known: u8,
    unknown: u8,
}

impl<'m> Ts<'m> {
    /// Reads the body of a TSi or TSr payload.
    ///
    /// # Errors
    /// [`Malformed`] when the selectors do not fill the payload exactly, their number is wrong, or a range runs backwards.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let [count, _, _, _] = reader.array()?;
        let selectors = reader.rest();
        let (mut known, mut unknown) = (0, 0);
        for _ in 0..count {
            let tally: &mut u8 = if selector(&mut reader)?.is_some() { &mut known } else { &mut unknown };
            *tally = tally.saturating_add(1);
        }
        if !reader.rest().is_empty() {
            return Err(Malformed);
        }
        Ok(Self { selectors, known, unknown })
    }

    /// The selectors of the types we know.
    pub fn selectors(&self) -> impl Iterator<Item = TrafficSelector> + use<'m> {
        let mut reader = Reader::new(self.selectors);
        core::iter::from_fn(move || (!reader.rest().is_empty()).then(|| selector(&mut reader).ok().flatten()))
            .fuse()
            .flatten()
    }

    /// How many selectors [`Ts::selectors`] gives.
    pub const fn len(&self) -> usize {
        self.known as usize
    }

    /// Whether [`Ts::selectors`] gives none.
    pub const fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// How many selectors were left out because their type is unknown.
    pub const fn unknown(&self) -> usize {
        self.unknown as usize
    }
}

/// Reads one selector; `None` when its type is unknown.
fn selector(reader: &mut Reader<'_>) -> Result<Option<TrafficSelector>, Malformed> {
    let [kind, protocol] = reader.array()?;
    let length = reader.u16()?;
    let mut body = Reader::new(enclosed(reader, length, 4)?);
    if kind != IPV4_RANGE && kind != IPV6_RANGE {
        return Ok(None);
    }
    let ports = PortRange { start: body.u16()?, end: body.u16()? };
    let (start, end): (IpAddr, IpAddr) = if kind == IPV4_RANGE {
        (Ipv4Addr::from_octets(body.array()?).into(), Ipv4Addr::from_octets(body.array()?).into())
    } else {
        (Ipv6Addr::from_octets(body.array()?).into(), Ipv6Addr::from_octets(body.array()?).into())
    };
    let ports_fit = ports.start <= ports.end || ports == PortRange::OPAQUE;
    let addrs = AddrRange::new(start, end).filter(|_| ports_fit && body.rest().is_empty()).ok_or(Malformed)?;
    Ok(Some(TrafficSelector { addrs, protocol, ports }))
}

impl MessageWriter<'_> {
    /// Adds a Traffic Selector payload; `payload` is [`PayloadType::TS_I`] or [`PayloadType::TS_R`].
    ///
    /// # Errors
    /// [`NoRoom`], also for more than 255 selectors.
    pub fn ts(&mut self, payload: PayloadType, selectors: &[TrafficSelector]) -> Result<(), NoRoom> {
        let count = u8::try_from(selectors.len()).map_err(|_| NoRoom)?;
        self.payload(payload, |out| {
            out.put(&[count, 0, 0, 0])?;
            selectors.iter().try_for_each(|selector| {
                let start = out.position();
                let kind = if selector.addrs.is_ipv4() { IPV4_RANGE } else { IPV6_RANGE };
                out.put(&[kind, selector.protocol, 0, 0])?;
                out.put(&selector.ports.start.to_be_bytes())?;
                out.put(&selector.ports.end.to_be_bytes())?;
                for addr in [selector.addrs.start(), selector.addrs.end()] {
                    match addr {
                        IpAddr::V4(addr) => out.put(&addr.octets())?,
                        IpAddr::V6(addr) => out.put(&addr.octets())?,
                    }
                }
                out.close(start)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    /// One selector of each known type: 10.1.0.0/16 UDP port 53, and ::1 with OPAQUE ports.
    const BODY: [u8; 60] = [
        2, 0, 0, 0, //
        7, 17, 0, 16, 0, 53, 0, 53, 10, 1, 0, 0, 10, 1, 255, 255, //
        8, 0, 0, 40, 255, 255, 0, 0, //
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];

    fn selectors() -> [TrafficSelector; 2] {
        let net = AddrRange::prefix("10.1.0.0".parse().unwrap(), 16).unwrap();
        let one = AddrRange::single("::1".parse().unwrap());
        [
            TrafficSelector { addrs: net, protocol: 17, ports: PortRange::single(53) },
            TrafficSelector { addrs: one, protocol: 0, ports: PortRange::OPAQUE },
        ]
    }

    #[test]
    fn reads_and_writes() {
        let ts = Ts::parse(&BODY).unwrap();
        assert!(ts.selectors().eq(selectors()));
        assert_eq!((ts.len(), ts.unknown()), (2, 0));
        assert_eq!(body(|out| out.ts(PayloadType::TS_I, &selectors())), BODY);
    }

    #[test]
    fn atk_18_no_selector_at_all_is_seen_as_such() {
        let ts = Ts::parse(&[0, 0, 0, 0]).unwrap();
        assert!(ts.is_empty() && ts.selectors().count() == 0 && ts.unknown() == 0);
        assert_eq!(body(|out| out.ts(PayloadType::TS_R, &[])), [0; 4]);
    }

    #[test]
    fn unknown_types_are_skipped_and_counted() {
        let mut octets = [0; 4 + 24 + 16 + 4];
        octets[..8].copy_from_slice(&[3, 0, 0, 0, 9, 0, 0, 24]);
        octets[28..44].copy_from_slice(&BODY[4..20]);
        octets[44..].copy_from_slice(&[200, 0, 0, 4]);
        let ts = Ts::parse(&octets).unwrap();
        assert!(ts.selectors().eq([selectors()[0]]));
        assert_eq!((ts.len(), ts.unknown()), (1, 2));
    }

    #[test]
    fn atk_18_lengths_counts_and_ranges_are_checked() {
        for len in 0..BODY.len() {
            assert_eq!(Ts::parse(&BODY[..len]), Err(Malformed), "{len}");
        }
        for count in (0..=u8::MAX).filter(|count| *count != 2) {
            let mut octets = BODY;
            octets[0] = count;
            assert_eq!(Ts::parse(&octets), Err(Malformed));
        }
        for (at, right) in [(7, 16), (23, 40)] {
            for length in (0..=u8::MAX).filter(|length| *length != right) {
                let mut octets = BODY;
                octets[at] = length;
                assert_eq!(Ts::parse(&octets), Err(Malformed), "{at} {length}");
            }
        }
        let mut backwards = BODY;
        backwards[16] = 9; // 10.1.0.0 to 9.1.255.255
        assert_eq!(Ts::parse(&backwards), Err(Malformed));
        let mut backwards = BODY;
        backwards[9] = 54; // ports 54 to 53
        assert_eq!(Ts::parse(&backwards), Err(Malformed));
    }

    #[test]
    fn more_selectors_than_can_be_counted_are_not_written() {
        let mut buf = [0; 8192];
        let header = crate::wire::header::Header::new(0, 0, crate::registry::ExchangeType::IKE_AUTH, 1);
        let mut out = MessageWriter::new(&mut buf, &header).unwrap();
        assert_eq!(out.ts(PayloadType::TS_I, &[selectors()[0]; 256]), Err(NoRoom));
        assert_eq!(out.ts(PayloadType::TS_I, &[selectors()[0]; 255]), Ok(()));
    }
}
