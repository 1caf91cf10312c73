//! How far we are with calling a peer, and what is known of the handshake that we began.

use alloc::boxed::Box;
use core::time::Duration;

use ike_core::endpoint::IkeView;
use ike_core::event::IkeId;
use ipsec_core::time::Instant;

use super::agenda::Soonest;
use crate::cause::Cause;

/// An exchange that takes longer than this is worth a word.
pub(crate) const LONG: Duration = Duration::from_secs(4);

/// A peer is called once at a time.
#[derive(Default)]
pub(crate) enum Calling {
    #[default]
    Idle,
    /// The appliance was asked where it is.
    Locating,
    /// A handshake that we began is under way.
    Underway(Box<Call>),
}

/// A handshake that we began. What is known of it ends with it.
pub(crate) struct Call {
    pub(crate) ike: IkeId,
    pub(crate) since: Instant,
    /// It is made where the connection that stands is, and not at a place whose turn it is.
    pub(crate) at_its_place: bool,
    /// When to look whether it is answered.
    look_at: Option<Instant>,
    /// That a message of it could not even be sent, or somebody says that it does not arrive.
    pub(crate) unsent: Option<Box<Cause>>,
    /// What somebody says in clear of why nothing will come of it.
    pub(crate) doubt: Option<Box<Cause>>,
}

impl Calling {
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    pub(crate) fn is_locating(&self) -> bool {
        matches!(self, Self::Locating)
    }

    /// The handshake that is under way.
    pub(crate) fn call(&self) -> Option<&Call> {
        match self {
            Self::Underway(call) => Some(call),
            Self::Idle | Self::Locating => None,
        }
    }

    pub(crate) fn call_mut(&mut self) -> Option<&mut Call> {
        match self {
            Self::Underway(call) => Some(call),
            Self::Idle | Self::Locating => None,
        }
    }

    /// The IKE SA to be of the handshake that is under way.
    pub(crate) fn ike(&self) -> Option<IkeId> {
        self.call().map(|call| call.ike)
    }

    /// The handshake that makes this IKE SA.
    pub(crate) fn of(&mut self, ike: IkeId) -> Option<&mut Call> {
        self.call_mut().filter(|call| call.ike == ike)
    }

    /// A handshake begins.
    pub(crate) fn begin(&mut self, now: Instant, ike: IkeId, at_its_place: bool) {
        let look_at = Some(now + LONG);
        *self = Self::Underway(Box::new(Call { ike, since: now, at_its_place, look_at, unsent: None, doubt: None }));
    }

    /// The handshake that makes this IKE SA is over.
    pub(crate) fn end(&mut self, ike: IkeId) -> Option<Call> {
        self.of(ike)?;
        match core::mem::take(self) {
            Self::Underway(call) => Some(*call),
            Self::Idle | Self::Locating => None,
        }
    }

    /// The appliance answered, or need not any more.
    pub(crate) fn end_locating(&mut self) {
        if self.is_locating() {
            *self = Self::Idle;
        }
    }
}

impl Call {
    /// Whether to look now whether it is answered: once, and not where somebody said why it may not be.
    pub(crate) fn is_due(&mut self, soonest: &mut Soonest) -> bool {
        self.look_at.take_if(|at| soonest.reached(*at)).is_some() && self.doubt.is_none()
    }

    /// What it waits for.
    pub(crate) fn unanswered(&self, view: &IkeView) -> Option<Cause> {
        let (exchange, repeated) = view.waiting?;
        let unsent = self.unsent.as_deref().cloned();
        Some(unsent.unwrap_or_else(|| Cause::unanswered(exchange, view.path.remote, repeated)))
    }
}
