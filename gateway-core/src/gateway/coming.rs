//! A Child SA comes up: into the data plane while IKE lends its keys, when somebody here wants it.

use alloc::boxed::Box;
use alloc::string::ToString;

use ike_core::event::ChildUp;
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::plane::DataPlane;
use crate::policy::policy_of;
use crate::state::Gateway;
use crate::state::installed::{Installed, Terms, install};
use crate::state::report::{Report, What};

/// What became of a Child SA that came up.
pub(super) enum Came {
    /// It is in the data plane, or will be.
    Installed(Box<Installed>),
    /// Nobody here wants it any more.
    Unwanted,
    /// It was asked for with selectors of its own and does not carry them.
    Beside,
    Refused(Cause),
}

impl Gateway {
    /// What is told of a Child SA once it is up.
    pub(super) fn report_of(&self, up: &ChildUp<'_>) -> Report {
        let what = What::ChildUp {
            policy: policy_of(up.config),
            suite: up.suite,
            spi_in: up.spi_in,
            spi_out: up.spi_out,
            encap: up.encap,
            local: up.local.into(),
            remote: up.remote.into(),
            compressed: up.compression.is_some(),
            padded: self
                .children
                .get(&up.config)
                .is_some_and(|entry| entry.looks.with_peer(up.takes_padding).is_padded()),
            rekeyed: up.replaces.is_some(),
        };
        Report { peer: self.peer_name(up.peer), child: self.child_name(up.config), what, cause: None }
    }

    /// A Child SA came up: it is installed when somebody here wants it.
    pub(super) fn came(&mut self, now: Instant, up: &ChildUp<'_>, plane: &mut dyn DataPlane) -> Came {
        let leaving = !self.ikes.has(up.peer, up.ike);
        let entry = self.children.get(&up.config).filter(|entry| !leaving && entry.wants(up));
        let Some(entry) = entry else { return Came::Unwanted };
        if !entry.covers(up) {
            return Came::Beside;
        }
        let (lifetime, looks) = (entry.lifetime, entry.looks.with_peer(up.takes_padding));
        // What is meant for one party must not go to another one that says the same address: of those who may call from anywhere,
        // or whose own address it is.
        let anywhere = self.peers.get(&up.peer).is_some_and(|entry| entry.anywhere);
        let alone = anywhere || up.mode == Mode::Transport;
        if let Some(other) = self.sas.held_by_another(up.config, up.party, up.remote).filter(|_| alone) {
            return Came::Refused(Cause::held_by_another(other.selectors().1));
        }
        let terms = Terms { pair: self.next_pair(), lifetime, window: self.window, looks, alone };
        let mut installed = match install(now, up, &terms, plane) {
            Ok(installed) => installed,
            Err(refused) => return Came::Refused(Cause::not_installed(&refused.to_string())),
        };
        if let Some(old) = up.replaces.and_then(|old| self.sas.get(old)) {
            installed.ours = old.ours;
            installed.since = old.last_used(plane);
            installed.silence = old.silence_handed_on(plane);
        } else if let Some(used) = self.used_before(&installed, plane) {
            installed.since = used;
        }
        Came::Installed(Box::new(installed))
    }
}
