//! A connected peer is asked for a child, and why when IKE cannot begin with that.

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Denied, Endpoint};
use ike_core::event::IkeId;
use ike_core::pad::ChildConfigId;
use ipsec_core::net::TrafficSelector;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::config::Peer;
use crate::peers::Peers;
use crate::state::Gateway;
use crate::state::child::Asked;

impl Gateway {
    /// Asks a connected peer for a child, or for an SA of it of its own: one for these selectors.
    pub(super) fn ask<C: IkeCrypto>(
        &mut self,
        now: Instant,
        ike: IkeId,
        config: ChildConfigId,
        only: Option<(TrafficSelector, TrafficSelector)>,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let asked = match only {
            None => endpoint.create_child(now, ike, config),
            Some(only) => endpoint.create_child_for(now, ike, config, only),
        };
        let Some(child) = self.children.get_mut(&config) else { return };
        child.asked = asked.as_ref().ok().map(|asked| Asked { child: *asked, ike, only });
        match asked {
            Ok(_) => child.setbacks.ask(),
            Err(denied) => child.put_off(now, explained(&denied, endpoint.pad().get(child.peer))),
        }
    }
}

/// Why IKE does not begin with it.
pub(super) fn explained(denied: &Denied, peer: Option<&Peer>) -> Cause {
    match denied {
        Denied::Failed(failure) => Cause::of(failure, peer),
        Denied::Full => Cause::full(),
        Denied::NoAddress => Cause::unroutable("no address is known"),
        Denied::UnknownPeer | Denied::UnknownChild | Denied::UnknownSa => Cause::gone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ike_does_not_begin_with_is_no_refusal_of_the_data_plane() {
        let told = |denied: Denied| explained(&denied, None);
        assert_eq!(told(Denied::Full), Cause::full());
        assert_eq!(told(Denied::Full).code, "no-room");
        for denied in [Denied::UnknownPeer, Denied::UnknownChild, Denied::UnknownSa] {
            let cause = told(denied);
            assert_eq!(cause.code, "gone");
            assert!(!cause.text.contains("data plane") && !cause.hint.contains("restart"), "{cause}");
        }
    }
}
