//! Whether our answers arrive at one that called.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use ike_core::event::IkeId;
use ipsec_core::time::Instant;

use super::calling::LONG;

/// IKE SAs with whom our answers may not arrive, and when to look.
pub(crate) struct Unconfirmed {
    pub(crate) ikes: BTreeSet<IkeId>,
    pub(crate) look_at: Instant,
}

impl Unconfirmed {
    /// One came about. However many more come until then, there is one look.
    pub(crate) fn enter(this: &mut Option<Box<Self>>, now: Instant, ike: IkeId) {
        let first = || Box::new(Self { ikes: BTreeSet::new(), look_at: now + LONG });
        this.get_or_insert_with(first).ikes.insert(ike);
    }
}
