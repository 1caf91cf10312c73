//! Traffic selectors: what is read is written back, intersections are what both match, narrowing never widens.

use std::net::IpAddr;

use ike_core::child::{narrow, within};
use ike_core::registry::{ExchangeType, PayloadType};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::ts::Ts;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::net::{PortRange, TrafficSelector};

use crate::input::Input;

/// Two payload bodies: the length of the first in 16 bits, the first, the second.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let len = usize::from(input.u16());
    let (Some(offered), Some(allowed)) = (read(input.take(len)), read(input.rest())) else { return };
    for (a, b) in offered.iter().flat_map(|a| allowed.iter().map(move |b| (a, b))).take(64) {
        check_pair(a, b);
    }
    let common = narrow(offered.iter().copied(), &allowed);
    assert!(within(&common, &offered) && within(&common, &allowed), "narrowing widened");
    if common.len() < common.capacity() {
        let any = offered.iter().any(|a| allowed.iter().any(|b| a.intersect(b).is_some()));
        assert_eq!(!common.is_empty(), any, "narrowing lost everything, or made it up");
        for a in offered.iter().flat_map(corners) {
            let both = matched(&offered, a) && matched(&allowed, a);
            assert_eq!(matched(&common, a), both, "{a:?} in {offered:?}, {allowed:?}");
        }
    }
}

/// The known selectors of a body, after writing them and reading them again.
fn read(body: &[u8]) -> Option<Vec<TrafficSelector>> {
    let ts = Ts::parse(body).ok()?;
    let selectors: Vec<_> = ts.selectors().collect();
    assert_eq!((selectors.len(), selectors.is_empty()), (ts.len(), ts.is_empty()));
    assert_eq!(ts.len() + ts.unknown(), usize::from(body[0]));
    let mut buf = vec![0; 64 + 40 * selectors.len()];
    let mut message = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_AUTH, 1)).expect("room");
    message.ts(PayloadType::TS_I, &selectors).expect("room");
    let len = message.finish().len;
    let written =
        Chain::new(PayloadType::TS_I, &buf[Header::LEN..len]).next().expect("a payload").expect("well formed");
    if ts.unknown() == 0 && body[1..4] == [0; 3] {
        assert_eq!(written.body, body);
    }
    assert!(Ts::parse(written.body).expect("what we write").selectors().eq(selectors.iter().copied()));
    Some(selectors)
}

type Point = (IpAddr, u8, Option<u16>);

fn matched(selectors: &[TrafficSelector], (addr, protocol, port): Point) -> bool {
    selectors.iter().any(|selector| selector.matches(addr, protocol, port))
}

/// Packets at the edges of a selector.
fn corners(selector: &TrafficSelector) -> Vec<Point> {
    let PortRange { start, end } = selector.ports;
    let ports = [None, Some(start), Some(end), Some(start.wrapping_sub(1)), Some(end.wrapping_add(1))];
    let protocols = [selector.protocol.max(1), selector.protocol.wrapping_add(1).max(1)];
    let addrs = [selector.addrs.start(), selector.addrs.end()];
    let ends = move |port| addrs.into_iter().flat_map(move |addr| protocols.map(|protocol| (addr, protocol, port)));
    ports.into_iter().flat_map(ends).collect()
}

fn check_pair(a: &TrafficSelector, b: &TrafficSelector) {
    let both = a.intersect(b);
    assert_eq!(both, b.intersect(a), "{a:?} and {b:?} do not commute");
    assert_eq!(a.intersect(a), Some(*a));
    if let Some(both) = &both {
        assert_eq!((both.intersect(a), both.intersect(b)), (Some(*both), Some(*both)));
    }
    for (addr, protocol, port) in [a, b].into_iter().flat_map(corners) {
        let expected = a.matches(addr, protocol, port) && b.matches(addr, protocol, port);
        let found = both.is_some_and(|both| both.matches(addr, protocol, port));
        assert_eq!(found, expected, "{addr} {protocol} {port:?} in {a:?} and {b:?}");
    }
}
