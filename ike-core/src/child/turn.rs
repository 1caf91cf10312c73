//! What a Child SA stands in line for on its IKE SA.

use super::one::{Child, Phase};
use crate::timers::When;

/// What a Child SA stands in line for on its IKE SA: who is next is known without a look at the others. One that waits for
/// several things waits for the first of these first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The request that is being handled deletes it, and another one took its place: that one goes later, if at all.
    Succeeded,
    /// The request that is being handled deletes it.
    Named,
    /// To be settled, by a message of the peer or by time.
    Settling,
    /// To be deleted, as soon as the window is free.
    Leaving,
    /// To be rekeyed, likewise.
    Rekey,
    /// To be asked for, likewise.
    Wanted,
    /// For the answer to our Delete.
    Deleting,
    /// For nothing but a sign that the peer has it.
    Unconfirmed,
}

impl Turn {
    pub(super) fn of(child: &Child) -> Option<Self> {
        match &child.phase {
            _ if child.named && child.standing.heir().is_some() => Some(Self::Succeeded),
            _ if child.named => Some(Self::Named),
            Phase::Up(up) if up.settles_at.is_some() => Some(Self::Settling),
            Phase::Up(up) if up.leaving.is_some() => Some(Self::Leaving),
            Phase::Up(up) if up.rekey == When::Now => Some(Self::Rekey),
            Phase::Up(up) if !up.confirmed => Some(Self::Unconfirmed),
            // What is wanted later is in nobody's way until then.
            &Phase::WANTED_NOW => Some(Self::Wanted),
            Phase::Deleting(_) => Some(Self::Deleting),
            Phase::Up(_) | Phase::Wanted(_) | Phase::Creating | Phase::Draining(_) | Phase::Ended(_) => None,
        }
    }
}
