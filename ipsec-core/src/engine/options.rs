//! What is decided about single SAs once they are installed.

use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::crypto::PacketCrypto;
use crate::mtu::Overhead;
use crate::sa::{Mode, SaId, TfcPadding};
use crate::spd::Rules;
use crate::wire::ip::Version;

impl<P: PacketCrypto, R: Rules> Outbound<'_, P, R> {
    /// Whether ICMP errors of routers on our side, which no selector has, go through this SA when it is the one for the traffic that
    /// they are about (RFC 4301 §6.2). They do until this says otherwise. `false`: there is no such SA.
    #[cfg(feature = "icmp-relay")]
    pub fn relay_icmp_errors(&mut self, id: SaId, relay: bool) -> bool {
        self.sad.change(id, |sa| sa.common.relays_errors = relay)
    }

    /// How long the packets of an SA in tunnel mode look from now on; in other modes none says how long it is, and they stay as they
    /// are. `false`: there is no such SA.
    pub fn set_padding(&mut self, id: SaId, padding: TfcPadding) -> bool {
        self.sad.change(id, |sa| sa.padding = padding)
    }

    /// What stands around the packets of an SA: by that, and the MTU of its path, is known how long they may be.
    pub fn overhead(&self, id: SaId) -> Option<Overhead> {
        let sa = &self.sad.get(id)?.common;
        let outer = Version::of(sa.path.remote.ip());
        let replaced = match sa.mode {
            Mode::Tunnel => None,
            Mode::Transport => Some(outer),
            Mode::Beet => sa.hosts().map(|(local, _)| Version::of(local)),
        };
        Some(Overhead { outer, replaced, encap: sa.encap, layout: *sa.transform.layout() })
    }
}

impl<P: PacketCrypto, R: Rules> Inbound<'_, P, R> {
    /// Whether TCP and UDP that come out of this SA with a wrong checksum are discarded ([`Discard::InChecksum`]). They are not until
    /// this says so. What was damaged in the memory of either side no ICV shows: worth a look where that is not to be trusted, or
    /// where whoever gets the packets does not look. In transport mode behind a NAT there is nothing to be seen: there the checksum
    /// is computed anew. `false`: there is no such SA.
    ///
    /// [`Discard::InChecksum`]: crate::error::Discard::InChecksum
    pub fn check_checksums(&mut self, id: SaId, check: bool) -> bool {
        self.sad.change(id, |sa| sa.checks_checksums = check)
    }

    /// Whether ICMP errors of routers on the peer's side, which no selector has, come in through this SA when they are about its
    /// traffic (RFC 4301 §6.2). They do until this says otherwise. `false`: there is no such SA.
    #[cfg(feature = "icmp-relay")]
    pub fn relay_icmp_errors(&mut self, id: SaId, relay: bool) -> bool {
        self.sad.change(id, |sa| sa.common.relays_errors = relay)
    }
}
