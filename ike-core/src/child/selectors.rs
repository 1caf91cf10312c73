//! Traffic selectors of a Child SA, and how they are narrowed (RFC 7296 §2.9).

use heapless::Vec;
use ipsec_core::net::TrafficSelector;

/// What an SA of the data plane holds is what may be negotiated.
pub use ipsec_core::sa::MAX_SELECTORS;

/// Traffic selectors of one side.
pub type Selectors = Vec<TrafficSelector, MAX_SELECTORS>;

/// What `offered` and `allowed` have in common, in the order offered. What does not fit [`MAX_SELECTORS`] is left out,
/// which is narrowing too.
///
/// ```
/// use ike_core::child::narrow;
/// use ipsec_core::net::{AddrRange, TrafficSelector};
/// let everything = TrafficSelector::addrs(AddrRange::ANY_V4);
/// let site = TrafficSelector::addrs(AddrRange::prefix([10, 2, 0, 0].into(), 16).unwrap());
/// assert_eq!(narrow([everything].into_iter(), &[site]).as_slice(), [site]);
/// ```
pub fn narrow(offered: impl Iterator<Item = TrafficSelector>, allowed: &[TrafficSelector]) -> Selectors {
    let mut common = Selectors::new();
    for selector in offered.flat_map(|offered| allowed.iter().filter_map(move |allowed| offered.intersect(allowed))) {
        if !common.iter().any(|have| have.intersect(&selector) == Some(selector)) && common.push(selector).is_err() {
            break;
        }
    }
    common
}

/// `all`, behind `first`; what does not fit [`MAX_SELECTORS`] is left out.
pub(crate) fn first_of(first: Option<TrafficSelector>, all: &[TrafficSelector]) -> Selectors {
    first.into_iter().chain(all.iter().copied()).take(MAX_SELECTORS).collect()
}

/// Whether each of `answered` lies inside one of `proposed`: a responder may narrow, never widen.
///
/// ```
/// use ike_core::child::within;
/// use ipsec_core::net::{AddrRange, TrafficSelector};
/// let everything = TrafficSelector::addrs(AddrRange::ANY_V4);
/// let site = TrafficSelector::addrs(AddrRange::prefix([10, 2, 0, 0].into(), 16).unwrap());
/// assert!(within(&[site], &[everything]));
/// assert!(!within(&[everything], &[site])); // the peer must not widen what was asked for
/// ```
pub fn within(answered: &[TrafficSelector], proposed: &[TrafficSelector]) -> bool {
    answered.iter().all(|selector| proposed.iter().any(|outer| outer.intersect(selector) == Some(*selector)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use ipsec_core::net::{AddrRange, PortRange};

    fn net(text: &str) -> TrafficSelector {
        let (addr, prefix) = text.split_once('/').unwrap();
        TrafficSelector::addrs(AddrRange::prefix(addr.parse::<IpAddr>().unwrap(), prefix.parse().unwrap()).unwrap())
    }

    #[test]
    fn narrowing_keeps_only_what_both_sides_want() {
        let allowed = [net("10.2.0.0/16"), net("fd00::/64")];
        assert_eq!(narrow([net("10.0.0.0/8")].into_iter(), &allowed), [net("10.2.0.0/16")]);
        assert_eq!(narrow([net("10.2.3.0/24"), net("10.2.0.0/16")].into_iter(), &allowed).len(), 2);
        assert!(narrow([net("192.168.0.0/16")].into_iter(), &allowed).is_empty());
        assert!(narrow(core::iter::empty(), &allowed).is_empty());
        let web = TrafficSelector { protocol: 6, ports: PortRange::single(80), ..net("0.0.0.0/0") };
        assert_eq!(
            narrow([web].into_iter(), &allowed),
            [TrafficSelector { protocol: 6, ports: PortRange::single(80), ..net("10.2.0.0/16") }]
        );
    }

    #[test]
    fn an_answer_may_narrow_but_not_widen() {
        let proposed = [net("10.2.0.0/16")];
        assert!(within(&[net("10.2.1.0/24")], &proposed));
        assert!(!within(&[net("10.0.0.0/8")], &proposed));
        assert!(!within(&[net("10.2.1.0/24"), net("10.3.0.0/16")], &proposed));
    }

    #[test]
    fn narrowing_is_bounded() {
        let many = (0..40u8).map(|third| net(&std::format!("10.2.{third}.0/24")));
        assert_eq!(narrow(many, &[net("10.2.0.0/16")]).len(), MAX_SELECTORS);
    }
}
