//! Child SAs in the data plane, and rules: what carries on what, and what is to go.

use alloc::format;
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::ChildId;
use ipsec_core::spd::Rule;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::peers::Peers;
use crate::plane::{DataPlane, Incomplete, Pair};
use crate::state::Gateway;
use crate::state::installed::Installed;

impl Gateway {
    /// A number for a pair of SAs.
    pub(super) fn next_pair(&mut self) -> Pair {
        self.last_pair = self.last_pair.saturating_add(1);
        Pair(self.last_pair)
    }

    /// When that was last used what a new SA carries on from another connection with the same party.
    pub(super) fn used_before(&self, new: &Installed, plane: &dyn DataPlane) -> Option<Instant> {
        self.elsewhere(new).map(|other| other.last_used(plane)).max()
    }

    /// Whether a newer SA over another connection with the same party carries on what this one does.
    pub(super) fn is_carried_on(&self, sa: &Installed) -> bool {
        self.elsewhere(sa).any(|other| other.came > sa.came)
    }

    /// The SAs over other connections with the same party that carry what this one does.
    fn elsewhere(&self, sa: &Installed) -> impl Iterator<Item = &Installed> {
        let others = self.children.get(&sa.config).into_iter().flat_map(|child| self.sas_with(child, sa.party));
        others.filter(move |other| other.ike != sa.ike && other.meets(sa))
    }

    /// Has IKE delete a Child SA that is in the data plane, and says why when it is gone.
    pub(super) fn close_for<C: IkeCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        cause: Cause,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        drop(endpoint.close_child(now, child)); // denied: it is being deleted
        if let Some(sa) = self.sas.get_mut(child) {
            sa.ended = Some(cause);
        }
    }

    /// Replaces the rules. What stands afterwards is what is remembered, so that another try does not take for done what did
    /// not fit.
    pub(super) fn place_rules(
        &mut self,
        now: Instant,
        mut new: Vec<Rule>,
        plane: &mut dyn DataPlane,
    ) -> Result<(), Cause> {
        if self.rules == new {
            return Ok(());
        }
        let wanted = new.len();
        let outcome = plane.set_rules(&new);
        new.truncate(outcome.as_ref().err().map_or(wanted, |incomplete| incomplete.placed));
        (self.rules, self.ruled) = (new, now);
        outcome.map_err(|Incomplete { placed, why }| {
            Cause::not_installed(&format!("{placed} of {wanted} rules are in place: {why}"))
        })
    }
}
