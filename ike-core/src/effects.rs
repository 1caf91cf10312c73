//! What the work on one SA means for other slots: the endpoint does it. A state may ask how many others there are, and
//! makes the SA that a rekey asks for in its place; it changes none.

use ipsec_core::time::Instant;

use crate::event::ChildId;
use crate::failure::Failure;
use crate::sa::Heir;

/// What the work on one SA comes to.
#[derive(Default)]
pub(crate) enum Effects {
    /// It concerns nobody else.
    #[default]
    Nothing,
    /// The peer's rekey made an SA in this slot, and ours is not answered yet: who takes over is decided later.
    Made(u16),
    /// Who takes over the children, and whom the crossing rekeys made in vain.
    TakesOver { heir: Heir, loser: Option<Heir> },
    /// The peer connected.
    Connected {
        /// With this child.
        child: Option<ChildId>,
        /// Other SAs with this peer under this identity are history (INITIAL_CONTACT), but for those that came up after this
        /// moment: the peer did not know of them when it began.
        alone_since: Option<Instant>,
    },
    /// The SA itself ends, after its children found their heir.
    Over { cause: Failure, heir: Option<Heir> },
}
