//! Wishes: what the caller asks the endpoint to do.

use ipsec_core::net::{Path, TrafficSelector};
use ipsec_core::time::Instant;

use super::host::Endpoint;
use crate::auth::ask::Answer;
use crate::child::{Child, Phase, Up};
use crate::clock::Now;
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::event::{ChildId, IkeId, WaitId};
use crate::failure::Failure;
use crate::pad::{ChildConfigId, Pad, PeerId};
use crate::sa::{IkeSlot, Sa, State};
use crate::state::{auth_sent, deleting, established, init_answered, init_sent};
use crate::table::Edit;
use crate::timers::When;

/// Why a wish cannot be met.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Denied {
    /// The caller's table is full, or no block for its messages is free.
    Full,
    /// There is no such connection.
    UnknownPeer,
    /// The connection has no such child, or none at all.
    UnknownChild,
    /// The connection has no address to reach the peer.
    NoAddress,
    /// There is no such SA, or it is not in a state for this.
    UnknownSa,
    /// The first message could not be made.
    Failed(Failure),
}

impl<'a, C: IkeCrypto, P: Pad> Endpoint<'a, C, P> {
    /// Connects to a peer, with `child` (or the first configured one) as the first child.
    ///
    /// # Errors
    /// [`Denied`]
    #[inline(never)]
    pub fn initiate(&mut self, now: Instant, peer: PeerId, child: Option<ChildConfigId>) -> Result<IkeId, Denied> {
        let slot = self.sas.vacant().filter(|_| self.rooms.has_spare()).ok_or(Denied::Full)?;
        let spi = self.spi(slot);
        let connection = self.pad.connection(peer).ok_or(Denied::UnknownPeer)?;
        let path = connection.path.ok_or(Denied::NoAddress)?;
        let pad: &dyn Pad = &self.pad;
        pad.child_or_best(peer, child).ok_or(Denied::UnknownChild)?;
        self.open(slot, Some(peer), (spi, 0), path).ok_or(Denied::Full)?;
        let begun = self.begin(now, slot, |sa, env| init_sent::begin(sa, env, child));
        begun.ok_or(Denied::Full)?.map_err(Denied::Failed)?;
        Ok(self.id(slot))
    }

    /// Answers what a handshake stands still for ([`Event::Asked`](crate::event::Event::Asked)).
    ///
    /// # Errors
    /// [`Denied::UnknownSa`] when it waits no more, or for an answer of another kind.
    #[doc(hidden)]
    pub fn answer(&mut self, now: impl Into<Now>, wait: WaitId, answer: &Answer<'_>) -> Result<(), Denied> {
        self.take_answer(now.into(), wait, answer)
    }

    fn take_answer(&mut self, now: Now, wait: WaitId, answer: &Answer<'_>) -> Result<(), Denied> {
        let WaitId { ike, number } = wait;
        let course = self.sa_mut(ike).and_then(|mut sa| {
            let course = sa.course_mut().filter(|course| course.waits == number)?;
            course.wait.take_if(|wait| wait.asked.takes(answer)).map(|wait| wait.asked)
        });
        let asked = course.ok_or(Denied::UnknownSa)?;
        let effects = self.work(now, ike.slot, |sa, env| match &sa.state {
            State::InitAnswered(_) => init_answered::on_answer(sa, env, asked, answer).unwrap_or_default(),
            _ => {
                auth_sent::on_answer(sa, env, asked, answer);
                Effects::Nothing
            }
        });
        self.follow_up(now.at, ike.slot, effects.unwrap_or_default());
        Ok(())
    }

    /// Asks the peer of an established IKE SA for a Child SA, as soon as it has no other request to answer. When one of
    /// this configuration is being negotiated, it is that one.
    ///
    /// # Errors
    /// [`Denied`]
    pub fn create_child(&mut self, now: Instant, ike: IkeId, config: ChildConfigId) -> Result<ChildId, Denied> {
        let sa = self.established(ike).ok_or(Denied::UnknownSa)?;
        let peer = sa.peer.ok_or(Denied::UnknownSa)?;
        let pad: &dyn Pad = &self.pad;
        pad.connection(peer).ok_or(Denied::UnknownPeer)?;
        pad.child_by_id(peer, config).ok_or(Denied::UnknownChild)?;
        if let Some(id) = self.children.begun(ike.slot, config)
            && let Some(mut child) = self.children.by_id_mut(id)
        {
            // For its own sake from now on, whatever becomes of the one that it was to replace.
            child.replaces = None;
            return Ok(id);
        }
        self.want(now, (ike, peer), config, None)
    }

    /// The same for the sake of one packet that no Child SA of this configuration carries, because the peer narrowed the
    /// selectors: those of the packet, which lie within the configured ones, are asked for first (RFC 7296 §2.9).
    ///
    /// # Errors
    /// [`Denied`]
    pub fn create_child_for(
        &mut self,
        now: Instant,
        ike: IkeId,
        config: ChildConfigId,
        packet: (TrafficSelector, TrafficSelector),
    ) -> Result<ChildId, Denied> {
        let peer = self.established(ike).and_then(|sa| sa.peer).ok_or(Denied::UnknownSa)?;
        let pad: &dyn Pad = &self.pad;
        pad.child_by_id(peer, config).ok_or(Denied::UnknownChild)?;
        self.want(now, (ike, peer), config, Some(packet))
    }

    #[inline(never)]
    fn want(
        &mut self,
        now: Instant,
        (ike, peer): (IkeId, PeerId),
        config: ChildConfigId,
        packet: Option<(TrafficSelector, TrafficSelector)>,
    ) -> Result<ChildId, Denied> {
        let (slot, spi) = self.children.reserve(&mut self.crypto).ok_or(Denied::Full)?;
        let mut child = Child::wanted(ike.slot, peer, config, spi, now);
        child.phase = Phase::WANTED_NOW;
        child.packet = packet;
        let id = self.children.put(slot, child).ok_or(Denied::Full)?;
        self.go_on(now, ike.slot);
        Ok(id)
    }

    /// Rekeys a Child SA.
    ///
    /// # Errors
    /// [`Denied::UnknownSa`] also when it is already replaced or being deleted.
    pub fn rekey_child(&mut self, now: Instant, child: ChildId) -> Result<(), Denied> {
        let mut child = self.children.by_id_mut(child).filter(|child| child.stays()).ok_or(Denied::UnknownSa)?;
        child.up_mut().into_iter().for_each(|up| up.rekey = When::Now);
        let ike = child.ike;
        drop(child);
        self.go_on(now, ike);
        Ok(())
    }

    /// Rekeys an IKE SA.
    ///
    /// # Errors
    /// [`Denied::UnknownSa`] also when it is already replaced.
    pub fn rekey_ike(&mut self, now: Instant, ike: IkeId) -> Result<(), Denied> {
        match self.sa_mut(ike).as_deref_mut().map(|sa| &mut sa.state) {
            Some(State::Established(established)) if !established.closing() => established.rekey = When::Now,
            _ => return Err(Denied::UnknownSa),
        }
        self.go_on(now, ike.slot);
        Ok(())
    }

    /// Asks the peer of an established IKE SA for a sign of life, as soon as it has no other request to answer.
    ///
    /// # Errors
    /// [`Denied::UnknownSa`]
    pub fn check_liveness(&mut self, now: Instant, ike: IkeId) -> Result<(), Denied> {
        match self.sa_mut(ike).as_deref_mut().map(|sa| &mut sa.state) {
            Some(State::Established(established)) if !established.closing() => {
                established.liveness.wanted = established.request.is_none();
            }
            _ => return Err(Denied::UnknownSa),
        }
        self.go_on(now, ike.slot);
        Ok(())
    }

    /// Asks the peer of an established IKE SA for a sign of life on another path than the SA's own, which stays as it is,
    /// also when the answer comes. Where none comes, the same request goes on the SA's path. The door for path probes (RFC 4555
    /// §3.10): what comes of them is not told yet.
    ///
    /// # Errors
    /// [`Denied::UnknownSa`] also while another request is not answered.
    #[doc(hidden)]
    pub fn probe(&mut self, now: Instant, ike: IkeId, path: Path) -> Result<(), Denied> {
        self.established(ike).filter(|sa| sa.window.request_id().is_some()).ok_or(Denied::UnknownSa)?;
        self.work(now, ike.slot, |sa, env| {
            deleting::send_liveness(sa, env);
            sa.window.send_on(path);
        });
        Ok(())
    }

    /// Deletes a Child SA, with the peer.
    ///
    /// # Errors
    /// [`Denied::UnknownSa`]
    pub fn close_child(&mut self, now: Instant, child: ChildId) -> Result<(), Denied> {
        let mut child = self.children.by_id_mut(child).ok_or(Denied::UnknownSa)?;
        match child.phase {
            Phase::Up(_) => child.leave(Failure::ClosedHere),
            Phase::Wanted(_) => child.end(Failure::ClosedHere),
            _ => return Err(Denied::UnknownSa),
        }
        let ike = child.ike;
        drop(child);
        self.go_on(now, ike);
        Ok(())
    }

    /// Deletes an IKE SA and its children, with the peer; an SA that is not established is just dropped. Of one that is over
    /// already nothing is left to be done, which is no error as long as it stays to repeat its last answer
    /// ([`Settings::linger`](crate::endpoint::Settings::linger)).
    ///
    /// # Errors
    /// [`Denied::UnknownSa`]
    pub fn close(&mut self, now: Instant, ike: IkeId) -> Result<(), Denied> {
        self.known(ike).ok_or(Denied::UnknownSa)?;
        self.work(now, ike.slot, |sa, env| match &mut sa.state {
            State::Established(established) => {
                established.leaving.get_or_insert(Failure::ClosedHere);
            }
            _ => sa.die(env, Failure::ClosedHere),
        });
        self.go_on(now, ike.slot);
        Ok(())
    }

    /// Drops an IKE SA and its children without a word to the peer; of one that is over already as [`close`](Self::close).
    ///
    /// # Errors
    /// [`Denied::UnknownSa`]
    pub fn abandon(&mut self, now: Instant, ike: IkeId, cause: Failure) -> Result<(), Denied> {
        self.known(ike).ok_or(Denied::UnknownSa)?;
        self.work(now, ike.slot, |sa, env| sa.die(env, cause));
        Ok(())
    }

    /// The data plane received authenticated packets of this IKE SA's children at `now`: a sign of life. The first ones
    /// on a new Child SA also show that the peer uses it.
    pub fn heard(&mut self, now: Instant, child: ChildId) {
        let Some(mut child) = self.children.by_id_mut(child) else { return };
        let ike = child.ike;
        let waited = child.up_mut().is_some_and(Up::settle);
        child.send_through();
        drop(child);
        if let Some(established) = self.sas.edit(ike).as_deref_mut().and_then(Sa::established_mut) {
            established.liveness.heard = established.liveness.heard.max(now);
            established.confirmed = true;
        }
        if waited {
            self.go_on(now, ike);
        }
    }

    /// The data plane received authenticated, encapsulated packets of this child from elsewhere: the mapping of the peer's
    /// NAT changed (RFC 7296 §2.23). Only authenticated and fresh packets count.
    pub fn moved(&mut self, child: ChildId, path: Path) {
        let Some(ike) = self.children.by_id(child).map(|child| child.ike) else { return };
        if let Some(mut sa) = self.sas.edit(ike) {
            sa.follow(path);
        }
    }

    pub(super) fn known(&self, ike: IkeId) -> Option<&Sa<C>> {
        self.sas.named((ike.slot, ike.generation))
    }

    fn sa_mut(&mut self, ike: IkeId) -> Option<Edit<'_, 'a, IkeSlot<C>>> {
        self.sas.edit_named((ike.slot, ike.generation))
    }

    fn established(&self, ike: IkeId) -> Option<&Sa<C>> {
        self.known(ike).filter(|sa| matches!(&sa.state, State::Established(established) if !established.closing()))
    }

    /// Something was wished for on this SA.
    fn go_on(&mut self, now: Instant, slot: u16) {
        self.work(now, slot, |sa, env| {
            sa.established_mut().into_iter().for_each(|established| established.work = true);
            established::pursue(sa, env);
        });
    }
}
