//! Addresses that a NAT changes on the way, in selectors (RFC 7296 §2.23.1).

use core::net::IpAddr;

use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::sa::Mode;

use crate::child::Selectors;
use crate::crypto::IkeCrypto;
use crate::sa::Sa;
use crate::wire::ts::Ts;

/// Our address and the peer's as we know them, each only where a NAT changes it on the way.
#[derive(Clone, Copy)]
pub(crate) struct Translated {
    pub(super) local: Option<IpAddr>,
    pub(super) remote: Option<IpAddr>,
}

impl Translated {
    pub(crate) fn of<C: IkeCrypto>(sa: &Sa<C>) -> Self {
        Self { local: sa.nat.local.then_some(sa.path.local.ip()), remote: sa.nat.remote.then_some(sa.path.remote.ip()) }
    }

    /// Those that selectors are about: in transport mode alone these are the addresses of the two ends.
    pub(super) fn in_mode(self, mode: Mode) -> Self {
        if mode == Mode::Transport { self } else { Self { local: None, remote: None } }
    }
}

/// An address that a NAT changes on the way: as the peer knows it, and as we do.
#[derive(Clone, Copy)]
pub(super) struct Renamed {
    theirs: IpAddr,
    ours: IpAddr,
}

impl Renamed {
    /// In transport mode selectors name the addresses of the two ends. Where a NAT changes one, those that the peer asks for are
    /// about the one that we know (RFC 7296 §2.23.1).
    pub(super) fn of(ts: &Ts<'_>, ours: Option<IpAddr>) -> Option<Self> {
        let (first, ours) = (ts.selectors().next()?.addrs, ours?);
        let theirs = first.start();
        let one = first == AddrRange::single(theirs) && ts.selectors().all(|selector| selector.addrs == first);
        (one && theirs != ours && theirs.is_ipv4() == ours.is_ipv4()).then_some(Self { theirs, ours })
    }

    pub(super) fn to_ours(renamed: Option<Self>, selector: TrafficSelector) -> TrafficSelector {
        renamed.map_or(selector, |Self { ours, .. }| TrafficSelector { addrs: AddrRange::single(ours), ..selector })
    }

    pub(super) fn to_theirs(renamed: Option<Self>, selectors: &Selectors) -> Selectors {
        let mut named = selectors.clone();
        if let Some(Self { theirs, .. }) = renamed {
            named.iter_mut().for_each(|selector| selector.addrs = AddrRange::single(theirs));
        }
        named
    }
}
