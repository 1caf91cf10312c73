//! One Child SA, and its life.

use ipsec_core::net::{Cpi, Spi, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;

use super::keys::Untold;
use super::selectors::Selectors;
use crate::crypto::EspSuite;
use crate::event::ChildId;
use crate::failure::Failure;
use crate::pad::{ChildConfigId, PeerId};
use crate::timers::{Patience, When};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// To be asked for as soon as the window is free and this moment has come.
    Wanted(Instant),
    /// Our request is on its way.
    Creating,
    Up(Up),
    /// Our Delete is on its way; why.
    Deleting(Failure),
    /// Replaced and deleted; receives what is still on its way until this moment.
    Draining(Instant),
    /// Gone; stays until the caller was told.
    Ended(Failure),
}

impl Phase {
    /// To be asked for as soon as the window is free.
    pub(crate) const WANTED_NOW: Self = Self::Wanted(Instant::ZERO);
}

/// What a Child SA that is up waits for. No other one is rekeyed or deleted, so nothing else has to be called off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Up {
    /// Why it is to be deleted, as soon as the window is free.
    pub(crate) leaving: Option<Failure>,
    pub(crate) rekey: When,
    pub(crate) expires_at: Option<Instant>,
    /// The peer asked for it, and may not have our answer yet: until then it would not know what a rekey or a Delete of
    /// ours speaks of.
    pub(crate) settles_at: Option<Instant>,
    /// The peer answered with it, or showed since that it has our answer.
    pub(crate) confirmed: bool,
}

impl Up {
    /// The peer has it. Returns whether that was waited for.
    pub(crate) fn settle(&mut self) -> bool {
        self.confirmed = true;
        self.settles_at.take().is_some()
    }

    /// To be deleted; a reason given earlier stays, unless it only made room for another one, which may end.
    fn leave(&mut self, why: Failure) {
        if self.leaving.as_ref().is_none_or(|held| *held == Failure::Replaced) {
            self.leaving = Some(why);
        }
    }
}

/// Where a Child SA stands among those that rekeys made of it (RFC 7296 §2.8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No other one is there for its packets.
    #[default]
    Stands,
    /// The peer made another one, and is to delete this one; we do, should it not until then.
    GaveWay { to: ChildId, until: Instant },
    /// Another one took over. It is ours to delete this one.
    Replaced { by: ChildId },
}

impl Standing {
    pub(crate) fn heir(self) -> Option<ChildId> {
        match self {
            Self::Stands => None,
            Self::GaveWay { to: heir, .. } | Self::Replaced { by: heir } => Some(heir),
        }
    }
}

/// What the caller knows of a Child SA, and has to be told beside its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Report {
    /// It does not know of it.
    #[default]
    Unknown,
    /// `ChildUp` is due.
    Up,
    /// `ChildUp` is due, and then `ChildDraining`.
    UpThenDraining,
    /// `ChildUp` was told.
    Known,
    /// `ChildUp` was told, `ChildOutbound` is due.
    Outbound,
    /// `ChildUp` was told, `ChildDraining` is due.
    Draining,
}

impl Report {
    pub(crate) fn is_known(self) -> bool {
        matches!(self, Self::Known | Self::Outbound | Self::Draining)
    }

    /// It is sent through from now on; what was not announced yet is announced as it is.
    pub(crate) fn outbound(&mut self) {
        if *self == Self::Known {
            *self = Self::Outbound;
        }
    }

    fn draining(&mut self) {
        *self = match self {
            Self::Unknown => Self::Unknown,
            Self::Up | Self::UpThenDraining => Self::UpThenDraining,
            Self::Known | Self::Outbound | Self::Draining => Self::Draining,
        };
    }

    /// Nothing but the end is worth telling.
    fn end(&mut self) {
        *self = if self.is_known() { Self::Known } else { Self::Unknown };
    }

    fn is_due(self) -> bool {
        !matches!(self, Self::Unknown | Self::Known)
    }

    /// What is told first has the lowest: what comes, then what made room for it, then what ends. So nobody takes for lost
    /// what another one carries on.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Up | Self::UpThenDraining | Self::Outbound => 0,
            Self::Draining => 1,
            Self::Unknown | Self::Known => 2,
        }
    }
}

pub(crate) struct Child {
    /// Slot of the IKE SA.
    pub(crate) ike: u16,
    pub(crate) peer: PeerId,
    pub(crate) config: ChildConfigId,
    pub(crate) phase: Phase,
    /// When it came up, or was first wanted.
    pub(crate) since: Instant,
    pub(crate) spi_in: Spi,
    /// 0 until negotiated.
    pub(crate) spi_out: u32,
    pub(crate) suite: Option<EspSuite>,
    pub(crate) mode: Mode,
    /// What the peer wants on packets that are compressed, where both sides want some to be.
    pub(crate) cpi_out: Option<Cpi>,
    /// The peer takes packets that look longer than they are.
    pub(crate) takes_padding: bool,
    pub(crate) local: Selectors,
    pub(crate) remote: Selectors,
    /// The packet that it was asked for: it stands before the configured selectors (RFC 7296 §2.9).
    pub(crate) packet: Option<(TrafficSelector, TrafficSelector)>,
    pub(crate) untold: Untold,
    /// The Child SA this one was negotiated to replace; `None` while it is asked for and somebody waits for it for its own
    /// sake, too.
    pub(crate) replaces: Option<ChildId>,
    /// The other one that took the place of that, because the rekeys crossed, where this one is the one that stays.
    pub(crate) beside: Option<ChildId>,
    /// We asked for it, not the peer.
    pub(crate) ours: bool,
    /// Our side sends through it; false while a rekey by the peer waits for its Delete, and while nothing shows that the
    /// peer has the IKE SA that it began beside another.
    pub(crate) outbound_ready: bool,
    pub(crate) standing: Standing,
    /// How often in a row a rekey was refused.
    pub(crate) refused: Patience,
    /// The request that is being handled deletes it.
    pub(crate) named: bool,
    pub(crate) report: Report,
}

impl Child {
    pub(crate) fn wanted(ike: u16, peer: PeerId, config: ChildConfigId, spi_in: Spi, at: Instant) -> Self {
        Self {
            ike,
            peer,
            config,
            phase: Phase::Wanted(at),
            since: at,
            spi_in,
            spi_out: 0,
            suite: None,
            mode: Mode::Tunnel,
            cpi_out: None,
            takes_padding: true,
            local: Selectors::new(),
            remote: Selectors::new(),
            packet: None,
            untold: Untold::Nothing,
            replaces: None,
            beside: None,
            ours: false,
            outbound_ready: true,
            standing: Standing::Stands,
            refused: Patience::default(),
            named: false,
            report: Report::default(),
        }
    }

    /// Ends the SA; a reason given earlier stays.
    pub(crate) fn end(&mut self, cause: Failure) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(cause);
            self.untold.wipe_keys();
            self.report.end();
        }
    }

    /// The peer set it up and we do not want it: it is deleted, and never comes up here.
    pub(crate) fn refuse(&mut self, cause: Failure) {
        self.phase = Phase::Up(Up { leaving: Some(cause), ..Up::default() });
    }

    pub(crate) fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.phase {
            Phase::Up(up) => Some(up),
            _ => None,
        }
    }

    /// Whether the caller has to be told something.
    pub(crate) fn to_tell(&self) -> bool {
        self.report.is_due() || self.untold.has_failed() || matches!(self.phase, Phase::Ended(_))
    }

    /// The next moment at which [`Child::on_time`] has something to do.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match &self.phase {
            // What waits for the window waits for a message, not for a moment.
            &Phase::WANTED_NOW => None,
            Phase::Wanted(at) | Phase::Draining(at) => Some(*at),
            Phase::Up(up) => {
                [up.rekey.at(), up.expires_at, self.orphan_at(up), up.settles_at].into_iter().flatten().min()
            }
            Phase::Creating | Phase::Deleting(_) | Phase::Ended(_) => None,
        }
    }

    /// When to delete it ourselves, because the peer that should have did not; `None` once it is to be deleted.
    fn orphan_at(&self, up: &Up) -> Option<Instant> {
        match self.standing {
            Standing::GaveWay { until, .. } if up.leaving.is_none() => Some(until),
            _ => None,
        }
    }

    /// Deleted by either side: a replaced SA receives on for a while, any other is gone.
    pub(crate) fn deleted(&mut self, cause: Failure, drain_until: Instant) {
        if self.standing == Standing::Stands {
            self.end(cause);
        } else if !matches!(self.phase, Phase::Ended(_) | Phase::Draining(_)) {
            self.phase = Phase::Draining(drain_until);
            self.report.draining();
        }
    }

    /// Does what is due. `true`: something waits for the window of the IKE SA.
    pub(crate) fn on_time(&mut self, now: Instant) -> bool {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let orphan = matches!(&self.phase, Phase::Up(up) if is_due(self.orphan_at(up)));
        match &mut self.phase {
            Phase::Wanted(at) if *at <= now && *at != Instant::ZERO => {
                self.phase = Phase::WANTED_NOW;
                true
            }
            Phase::Draining(until) if *until <= now => {
                self.end(Failure::Replaced);
                false
            }
            Phase::Up(up) => {
                if up.expires_at.take_if(|at| is_due(Some(*at))).is_some() {
                    up.leave(Failure::Expired);
                }
                if orphan {
                    up.leave(Failure::Replaced);
                }
                up.settles_at.take_if(|at| is_due(Some(*at)));
                up.rekey.ripen(now);
                up.leaving.is_some() || up.rekey == When::Now
            }
            _ => false,
        }
    }

    /// The peer has this SA, or is done with the one that it replaces.
    pub(crate) fn send_through(&mut self) {
        // Whoever was replaced in the meantime stays behind.
        if self.live() && !self.outbound_ready && self.standing == Standing::Stands {
            self.outbound_ready = true;
            self.report.outbound();
        }
    }

    /// To be deleted, with the peer, if it is up.
    pub(crate) fn leave(&mut self, why: Failure) {
        if let Some(up) = self.up_mut() {
            up.leave(why);
        }
    }

    /// The peer made another one in its place, and is to delete this one.
    pub(crate) fn give_way(&mut self, to: ChildId, until: Instant) {
        self.standing = Standing::GaveWay { to, until };
        if let Some(up) = self.up_mut() {
            up.rekey = When::Never;
        }
    }

    /// Another one takes over. This one is ours to delete.
    pub(crate) fn make_room(&mut self, by: ChildId) {
        self.standing = Standing::Replaced { by };
        if let Some(up) = self.up_mut() {
            up.rekey = When::Never;
            up.leave(Failure::Replaced);
        }
    }

    /// The one that it gave way to, or made room for, is gone for this reason: it goes too because we are deleting it, or
    /// goes on instead, and is sent through.
    pub(crate) fn go_on_instead(&mut self, cause: Failure, rekey_at: Instant) {
        self.standing = Standing::Stands;
        match &mut self.phase {
            Phase::Deleting(why) if *why == Failure::Replaced => *why = cause,
            Phase::Up(up) => {
                up.leaving.take_if(|why| *why == Failure::Replaced);
                if up.leaving.is_none() {
                    up.rekey = When::At(rekey_at);
                    self.outbound_ready = true;
                    self.report.outbound();
                }
            }
            _ => {}
        }
    }

    /// A rekey came to nothing, which is to be told.
    pub(crate) fn rekey_failed(&mut self, cause: Failure) {
        if self.untold.keys().is_none() {
            self.untold = Untold::RekeyFailed(cause);
        }
    }

    /// When to rekey it next, after a try that came to nothing.
    pub(crate) fn rekey_later(&mut self, at: Instant) {
        if let Some(up) = self.up_mut() {
            up.rekey = When::At(at);
        }
    }

    /// Whether it is up and goes on: what was replaced or is to be deleted is neither rekeyed nor put off nor asked for anew.
    pub(crate) fn stays(&self) -> bool {
        matches!(&self.phase, Phase::Up(up) if up.leaving.is_none()) && self.standing == Standing::Stands
    }

    /// Whether the peer receives through it, with this SPI.
    pub(crate) fn sends_with(&self, spi: u32) -> bool {
        self.spi_out == spi && self.live()
    }

    /// Whether the peer knows this SA and either side may still name it in a Delete or a rekey.
    pub(crate) fn live(&self) -> bool {
        matches!(self.phase, Phase::Up(_) | Phase::Deleting(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_41_whoever_closes_what_only_made_room_closes_it_whatever_becomes_of_the_other_one() {
        let mut up = Up::default();
        for (why, then) in [
            (Failure::Replaced, Failure::Replaced),
            (Failure::Expired, Failure::Expired),
            (Failure::ClosedHere, Failure::Expired),
            (Failure::Replaced, Failure::Expired),
        ] {
            up.leave(why);
            assert_eq!(up.leaving, Some(then));
        }
    }
}
