//! The endpoint: every IKE SA of a host, initiator and responder, behind `handle_*` and `poll_*`.
//!
//! A message goes from `handle_datagram` through `find` and `step` to the file of its SA's state, and what comes of it for
//! other SAs through `follow_up` (`effects.rs`); an IKE_SA_INIT request, which has no SA, through `init.rs`. The type itself, with
//! what all of these need, is in `host.rs`.

use core::net::SocketAddr;
use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::agenda;
use crate::clock::Now;
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::error::Discard;
use crate::pad::Pad;
use crate::registry::{ExchangeType, NotifyKind};
use crate::sa::{Sa, State};
use crate::state;
use crate::wire::header::Header;
use crate::wire::outline::Outline;

mod calls;
mod desk;
mod doubt;
mod effects;
#[cfg(test)]
mod explorer;
mod host;
mod init;
#[cfg(test)]
mod many;
mod poll;
mod reply;
mod storage;
mod view;

pub use crate::sa::IkeSlot;
pub use crate::settings::Settings;
pub use crate::table::{IndexBlock, Misfiled};
pub use calls::Denied;
pub use host::Endpoint;
pub use storage::{ROOM_PER_BLOCK, ROOM_PER_SA, Storage};
pub use view::{ChildView, IkeView, Occupancy, PadMut, SaState, SpiMeaning};

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
    /// An IKE message arrived, without non-ESP marker. It is decrypted in place.
    ///
    /// # Errors
    /// [`Discard`]: no SA was changed; count it. Another major version and an unknown critical payload of a stranger may
    /// still be answered, without state, and a claim in clear that the peer lost an SA may still have it asked for a sign of
    /// life.
    pub fn handle_datagram(&mut self, now: impl Into<Now>, path: Path, datagram: &mut [u8]) -> Result<(), Discard> {
        self.handle(now.into(), path, datagram)
    }

    fn handle(&mut self, clocks: Now, path: Path, datagram: &mut [u8]) -> Result<(), Discard> {
        let now = clocks.at;
        self.heard = None;
        let header = Header::parse(datagram)?;
        self.take_back_keys();
        if header.major != 2 {
            return self.refuse_version(now, path, &header);
        }
        if header.exchange == ExchangeType::IKE_SA_INIT {
            let payloads = datagram.get(Header::LEN..).unwrap_or_default();
            self.heard = Some(Outline::read(&header, header.next, payloads));
        }
        if header.exchange == ExchangeType::IKE_SA_INIT && !header.response {
            return self.handle_init(now, path, &header, datagram);
        }
        if doubt::is_claim(&header) {
            return Err(self.hear_claim(now, path, &header, datagram));
        }
        let slot = self.find(&header).ok_or(Discard::UnknownSa)?;
        let replaced = self.replaced(slot);
        let effects = self.step(clocks, slot, path, &header, datagram)?;
        if let Some((heir, before)) = replaced
            && self.sas.get(slot).is_some_and(|sa| sa.path.remote != before)
            && let Some(mut heir) = self.sas.edit(heir).filter(|heir| heir.path.remote == before)
        {
            // On that one nothing may come from there for long, and what we send would be lost until then. Where it has heard
            // of another place since, it knows better: this message may have been under way for long.
            heir.follow(path);
        }
        self.follow_up(now, slot, effects);
        Ok(())
    }

    /// Where the SA in a slot only waits for its Delete: the slot of the one that took over, and where the peer is for all that
    /// the replaced one knows.
    fn replaced(&self, slot: u16) -> Option<(u16, SocketAddr)> {
        let sa = self.sas.get(slot)?;
        let State::Established(established) = &sa.state else { return None };
        established.standing.is_over().then(|| (self.holder(slot), sa.path.remote))
    }

    /// What the SA in a slot makes of a message.
    #[inline(never)]
    fn step(
        &mut self,
        now: Now,
        slot: u16,
        path: Path,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<Effects, Discard> {
        // The peer says it again. What is established goes on with what room it has.
        if !self.rooms.has_spare() && self.sas.get(slot).is_some_and(|sa| sa.is_handshake() && sa.block.is_none()) {
            return Err(Discard::NoRoom);
        }
        let made = self.work(now, slot, |sa, env| {
            if sa.wait().is_some() {
                // The answer will come when whoever is asked has given its own; until then repetitions cost nothing.
                return Err(Discard::Unexpected);
            }
            sa.window.receive(datagram);
            match sa.state {
                State::InitSent(_) => state::init_sent::on_message(sa, env, path, header, datagram),
                State::InitAnswered(_) => state::init_answered::on_message(sa, env, path, header, datagram),
                State::AuthSent(_) => state::auth_sent::on_message(sa, env, path, header, datagram),
                State::Established(_) => {
                    let made = state::established::on_message(sa, env, path, header, datagram);
                    // What concerns nobody else goes on at once: so it is filed once.
                    if matches!(made, Ok(Effects::Nothing)) {
                        state::established::pursue(sa, env);
                    }
                    made
                }
                State::Dead(_) => state::deleting::on_message(sa, path, header),
            }
        });
        made.unwrap_or(Err(Discard::UnknownSa))
    }

    /// Time has passed: repeats, rekeys, deletes and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.take_back_keys();
        // Children first: what falls due on several of one IKE SA goes into one request. What does nothing when it is due would
        // be met again and again: nobody is looked at more often than there are slots.
        for _ in 0..self.children.table.len() {
            let Some(mut child) = self.children.table.ripe(now).and_then(|slot| self.children.get_mut(slot)) else {
                break;
            };
            let ike = child.ike;
            if child.on_time(now)
                && let Some(established) = self.sas.edit(ike).as_deref_mut().and_then(Sa::established_mut)
            {
                established.work = true;
            }
        }
        for _ in 0..self.sas.len() {
            let Some(slot) = self.sas.ripe(now) else { break };
            match self.sas.get(slot).map(|sa| (&sa.state, sa.has_ended())) {
                Some((State::Dead(_), false)) => self.sas.clear(slot),
                // It goes as soon as that was told.
                Some((State::Dead(_), true)) => self.sas.edit(slot).into_iter().for_each(|mut sa| sa.only_to_tell()),
                _ => {
                    let done = self.work(now, slot, |sa, env| {
                        let effects = agenda::on_time(sa, env);
                        if matches!(effects, Effects::Nothing) {
                            state::established::pursue(sa, env);
                        }
                        effects
                    });
                    if let Some(effects) = done {
                        self.apply(now, slot, effects);
                    }
                }
            }
        }
    }

    /// Another major version: say so once in a while and keep nothing (RFC 7296 §2.5, RFC 9395).
    fn refuse_version(&mut self, now: Instant, path: Path, header: &Header) -> Result<(), Discard> {
        // In IKEv1 the response bit is the commit bit, which a first message does not carry.
        if header.response || now < self.version_reply_at {
            return Err(Discard::Version);
        }
        self.version_reply_at = now + Duration::from_secs(1);
        self.answer_in_clear(path, header, NotifyKind::INVALID_MAJOR_VERSION, &[]);
        Err(Discard::Version)
    }
}
