//! ICMP errors: what is read of any octets, and that what we write is read as it is meant.

use std::net::IpAddr;

use ipsec_core::flow::Flow;
use ipsec_core::icmp::{Report, Untold, Why, quoted, too_big};
use ipsec_core::mtu::{LEAST_V4, LEAST_V6};
use ipsec_core::wire::ip::Version;

use crate::input::Input;

/// An MTU, and a packet or a message.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mtu = usize::from(input.u16());
    let packet = input.rest();
    let in_packet = Report::of(packet);
    let messages = [Version::V4, Version::V6].map(|version| Report::of_message(version, packet));
    for report in [in_packet].into_iter().chain(messages).flatten() {
        hint(&report);
    }
    if let Some(about) = quoted(packet) {
        assert_eq!(about.source, Flow::of(packet).expect("it was read").destination);
    }
    tell(packet, mtu);
}

/// Nobody is led below what passes everywhere, and only of what was too large.
fn hint(report: &Report) {
    let least = if report.path.local.is_ipv4() { LEAST_V4 } else { LEAST_V6 };
    assert_eq!(report.path.local.is_ipv4(), report.path.remote.is_ipv4());
    assert!(report.mtu.is_none_or(|mtu| usize::from(mtu) >= least && matches!(report.why, Why::TooBig(_))));
}

fn tell(packet: &[u8], mtu: usize) {
    let Ok(flow) = Flow::of(packet) else {
        return assert_eq!(too_big(packet, mtu, [10, 0, 0, 1].into(), &mut []), Err(Untold::Malformed));
    };
    let v4 = flow.source.is_ipv4();
    let from = if v4 { IpAddr::from([10, 0, 0, 1]) } else { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]) };
    let mut room = [0; LEAST_V6];
    let Ok(message) = too_big(packet, mtu, from, &mut room) else { return };
    assert!(flow.len > mtu && message.len() <= if v4 { LEAST_V4 } else { LEAST_V6 });
    let answer = Flow::of(message).expect("a packet");
    assert_eq!((answer.len, answer.source, answer.destination), (message.len(), from, flow.source));
    // Long chains of extension headers may go beyond what is quoted.
    assert!(quoted(message).is_none_or(|about| about == flow || about.len == flow.len));
    let again = too_big(message, 0, from, &mut [0; LEAST_V6]).map(drop);
    assert!(matches!(again, Err(Untold::NotDue | Untold::Forbidden)), "an error about an error");
}
