//! Getters: what stands in the tables, for status displays.

use core::fmt;
use core::ops::{Deref, DerefMut};

use ipsec_core::net::{Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;

use super::host::Endpoint;
use crate::child::{Child, Phase, Standing, index_mask};
use crate::crypto::{EspSuite, IkeCrypto, IkeSuite};
use crate::event::{ChildId, IkeId, Party};
use crate::natd::Nat;
use crate::pad::{ChildConfigId, Pad, PeerId};
use crate::registry::ExchangeType;
use crate::sa::{By, Sa, State};
use crate::table::Misfiled;
use crate::timers::When;
use crate::wire::id::ShortId;
use crate::wire::outline::Outline;

/// Where an IKE SA stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SaState {
    /// The handshake is not finished.
    Connecting,
    /// Both sides are authenticated.
    Established,
    /// A rekey replaced it, or it is being deleted.
    Closing,
}

/// An IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkeView {
    /// Its name.
    pub id: IkeId,
    /// With whom; `None` before the peer is authenticated.
    pub peer: Option<PeerId>,
    /// Who the peer says to be; it has proven it when the SA is established.
    pub identity: Option<ShortId>,
    /// With which of the parties that share the connection.
    pub party: Party,
    /// Where it stands.
    pub state: SaState,
    /// We are its original initiator; of one that a rekey made, we rekeyed.
    pub initiator: bool,
    /// We began with IKE_SA_INIT, whoever rekeyed since.
    pub called: bool,
    /// Our SPI.
    pub spi_local: u64,
    /// The peer's SPI; 0 when not known yet.
    pub spi_remote: u64,
    /// The negotiated algorithms.
    pub suite: Option<IkeSuite>,
    /// Addresses and ports.
    pub path: Path,
    /// What NAT detection found.
    pub nat: Nat,
    /// How ESP of the children travels.
    pub encap: Encap,
    /// When it was established.
    pub since: Option<Instant>,
    /// The last authenticated sign of life.
    pub heard: Option<Instant>,
    /// It is known that the peer has it, too: not, as the one that answered, before something was heard on it.
    pub confirmed: bool,
    /// Our rekey of it is under way; until then that keeps a slot of the table.
    pub rekeying: bool,
    /// Our request that waits for an answer, and how often it was repeated.
    pub waiting: Option<(ExchangeType, u32)>,
    /// How often the peer repeated its last request although it was answered: our answers do not arrive there.
    pub unheard: u8,
    /// Since when the peer refuses whatever we ask for with TEMPORARY_FAILURE. After several minutes its state is another than
    /// ours: make another IKE SA, and close this one (RFC 7296 §2.25).
    pub busy: Option<Instant>,
    /// When it is to be rekeyed.
    pub rekey_at: Option<Instant>,
    /// When to authenticate anew, because the peer limits for how long it takes us for authenticated (RFC 4478).
    pub reauthenticate_at: Option<Instant>,
}

/// What stands in the caller's tables. All zero: everything was given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Occupancy {
    /// Slots with an IKE SA, handshakes and those included that are over and stay to repeat their last answer.
    pub ike_sas: usize,
    /// Slots that an outstanding rekey of an IKE SA keeps.
    pub reserved: usize,
    /// Slots with a Child SA, from the wish for it until its end was told.
    pub child_sas: usize,
}

/// A Child SA that is up.
#[derive(Debug, Clone, Copy)]
pub struct ChildView<'e> {
    /// Its name.
    pub id: ChildId,
    /// The IKE SA that carries it.
    pub ike: IkeId,
    /// With whom.
    pub peer: PeerId,
    /// Its configuration.
    pub config: ChildConfigId,
    /// The negotiated mode.
    pub mode: Mode,
    /// The negotiated algorithms.
    pub suite: EspSuite,
    /// SPI of packets we receive.
    pub spi_in: Spi,
    /// SPI of packets we send.
    pub spi_out: Spi,
    /// Negotiated selectors of our side.
    pub local: &'e [TrafficSelector],
    /// Negotiated selectors of the peer's side.
    pub remote: &'e [TrafficSelector],
    /// When it came up.
    pub since: Instant,
    /// The peer answered with it, or showed since that it has our answer: with a later request, or with packets. Of one that is
    /// being deleted, or drains, that is not known any more.
    pub confirmed: bool,
    /// A rekey replaced it.
    pub replaced: bool,
    /// When it is to be rekeyed.
    pub rekey_at: Option<Instant>,
    /// It is to be rekeyed as soon as no other request is outstanding.
    pub rekey_due: bool,
    /// When it ends if it is not.
    pub expires_at: Option<Instant>,
}

/// What an SPI is to the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SpiMeaning {
    /// No Child SA has it.
    None,
    /// A request of ours that is not answered yet offers it. A responder may send as soon as it has the keys, and what it
    /// sends can be here before its answer (RFC 7296 §2.8): such a packet is worth keeping until the answer is.
    Offered,
    /// A Child SA receives through it.
    Negotiated,
}

impl<'a, C: IkeCrypto, P: Pad> Endpoint<'a, C, P> {
    /// The caller's connections.
    pub fn pad(&self) -> &P {
        &self.pad
    }

    /// The caller's connections, to be changed. SAs of a connection that is gone stay until they are closed. When the change
    /// is done, every SA is looked at for what it means for it.
    pub fn pad_mut(&mut self) -> PadMut<'_, 'a, C, P> {
        PadMut { endpoint: self, only: None }
    }

    /// The caller's connections, to change nothing but the one with this peer: only SAs with it are looked at.
    pub fn pad_mut_of(&mut self, peer: PeerId) -> PadMut<'_, 'a, C, P> {
        PadMut { endpoint: self, only: Some(peer) }
    }

    /// The connections may have changed.
    fn reconfigured(&mut self, slot: u16) {
        let connection = |sa: &Sa<C>| self.pad.connection(sa.peer?);
        let Some(dpd) = self.sas.get(slot).map(|sa| connection(sa).map(|connection| connection.dpd)) else { return };
        let dpd = dpd.unwrap_or_default();
        if let Some(State::Established(established)) = self.sas.get(slot).map(|sa| &sa.state)
            && established.liveness.dpd != dpd
            && let Some(established) = self.sas.edit(slot).as_deref_mut().and_then(Sa::established_mut)
        {
            established.liveness.dpd = dpd;
        }
    }

    /// Whether whatever is looked up without a search is found where it stands, each block is free or somebody's, and each
    /// request that is out is the one that its SA says. Looks at everything, for tests.
    ///
    /// # Errors
    /// What is not.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), Misfiled> {
        self.sas.check()?;
        self.children.table.check()?;
        let wrong = |what, place| Err(Misfiled { what, place });
        if let Some((slot, _)) = self.sas.iter().find(|(_, sa)| !sa.is_of_one_mind()) {
            return wrong("request", slot);
        }
        let mut held = 0usize;
        for (slot, sa) in self.sas.iter().filter(|(_, sa)| sa.block.is_some()) {
            if matches!(sa.state, State::Dead(_)) {
                return wrong("block of the dead", slot);
            }
            held = held.saturating_add(1);
        }
        if held.saturating_add(self.rooms.count_free()) != self.rooms.blocks() {
            return wrong("blocks", u16::MAX);
        }
        Ok(())
    }

    /// What the datagram carried that was handled last, for a log; `None` when it could not be read, or was not worth it
    /// (a request that was answered before).
    pub fn last_message(&self) -> Option<Outline> {
        self.heard
    }

    /// Every IKE SA that is not over.
    pub fn ike_sas(&self) -> impl Iterator<Item = IkeView> + '_ {
        self.sas.iter().filter_map(|(slot, sa)| self.ike_view(slot, sa))
    }

    /// An IKE SA that is not over.
    pub fn ike_sa(&self, id: IkeId) -> Option<IkeView> {
        self.ike_view(id.slot, self.known(id)?)
    }

    fn ike_view(&self, slot: u16, sa: &Sa<C>) -> Option<IkeView> {
        let (spi_local, spi_remote) = if sa.initiator { (sa.spi_i, sa.spi_r) } else { (sa.spi_r, sa.spi_i) };
        let (state, times) = match &sa.state {
            State::Dead(_) => return None,
            State::InitSent(_) | State::InitAnswered(_) | State::AuthSent(_) => (SaState::Connecting, None),
            State::Established(established) => {
                let state = if established.closing() { SaState::Closing } else { SaState::Established };
                (state, Some((established.since, established.liveness.heard)))
            }
        };
        let (since, heard) = times.unzip();
        let confirmed = matches!(&sa.state, State::Established(established) if established.confirmed);
        let (busy, rekey_at, reauthenticate_at) = match &sa.state {
            State::Established(established) => {
                (established.busy.since(), established.rekey.at(), established.reauthenticate_at)
            }
            _ => (None, None, None),
        };
        let rekeying = matches!(&sa.state, State::Established(established) if established.keeps().is_some());
        Some(IkeView {
            id: self.id(slot),
            peer: sa.peer,
            identity: sa.named,
            party: sa.party,
            state,
            initiator: sa.initiator,
            called: sa.called,
            spi_local,
            spi_remote,
            suite: sa.keys.as_ref().map(|keys| keys.suite),
            path: sa.path,
            nat: sa.nat,
            encap: sa.encap,
            since,
            heard,
            confirmed,
            rekeying,
            waiting: sa.window.outstanding().map(|request| (request.exchange, request.repetitions)),
            unheard: sa.window.repeated,
            busy,
            rekey_at,
            reauthenticate_at,
        })
    }

    /// How full the tables are.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy { ike_sas: self.sas.used(), reserved: self.sas.kept(), child_sas: self.children.table.used() }
    }

    /// What an SPI that came in an ESP packet means here. Costs the same however many Child SAs there are.
    pub fn meaning_of(&self, spi_in: u32) -> SpiMeaning {
        let slot = u16::try_from(spi_in & index_mask(self.children.table.len())).ok();
        let child = slot.and_then(|slot| self.children.get(slot)).filter(|child| child.spi_in.get() == spi_in);
        match child.map(|child| &child.phase) {
            Some(Phase::Creating) => SpiMeaning::Offered,
            Some(Phase::Up(_) | Phase::Deleting(_) | Phase::Draining(_)) => SpiMeaning::Negotiated,
            Some(Phase::Wanted(_) | Phase::Ended(_)) | None => SpiMeaning::None,
        }
    }

    /// Whether some Child SA waits for the peer's answer to our offer: only then does [`Self::meaning_of`] ever say
    /// [`SpiMeaning::Offered`].
    pub fn offers(&self) -> bool {
        self.children.table.counted() > 0
    }

    /// Every Child SA that is up.
    pub fn child_sas(&self) -> impl Iterator<Item = ChildView<'_>> + '_ {
        self.children.table.iter().filter_map(|(slot, child)| self.child_view(slot, child))
    }

    /// A Child SA that is up.
    pub fn child_sa(&self, id: ChildId) -> Option<ChildView<'_>> {
        self.child_view(id.slot, self.children.by_id(id)?)
    }

    fn child_view<'e>(&self, slot: u16, child: &'e Child) -> Option<ChildView<'e>> {
        let (rekey, expires_at) = match &child.phase {
            Phase::Up(up) => (up.rekey, up.expires_at),
            Phase::Deleting(_) | Phase::Draining(_) => (When::Never, None),
            Phase::Wanted(_) | Phase::Creating | Phase::Ended(_) => return None,
        };
        Some(ChildView {
            id: self.children.id(slot)?,
            ike: self.id(child.ike),
            peer: child.peer,
            config: child.config,
            mode: child.mode,
            suite: child.suite?,
            spi_in: child.spi_in,
            spi_out: Spi::new(child.spi_out)?,
            local: &child.local,
            remote: &child.remote,
            since: child.since,
            confirmed: matches!(&child.phase, Phase::Up(up) if up.confirmed),
            replaced: child.standing != Standing::Stands,
            rekey_at: rekey.at(),
            rekey_due: rekey == When::Now,
            expires_at,
        })
    }
}

/// The caller's connections while they are changed.
pub struct PadMut<'e, 'a, C: IkeCrypto, P: Pad> {
    endpoint: &'e mut Endpoint<'a, C, P>,
    only: Option<PeerId>,
}

impl<C: IkeCrypto, P: Pad> fmt::Debug for PadMut<'_, '_, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PadMut").field("only", &self.only).finish_non_exhaustive()
    }
}

impl<C: IkeCrypto, P: Pad> Deref for PadMut<'_, '_, C, P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.endpoint.pad
    }
}

impl<C: IkeCrypto, P: Pad> DerefMut for PadMut<'_, '_, C, P> {
    fn deref_mut(&mut self) -> &mut P {
        &mut self.endpoint.pad
    }
}

impl<C: IkeCrypto, P: Pad> Drop for PadMut<'_, '_, C, P> {
    fn drop(&mut self) {
        let Some(peer) = self.only else {
            (0..u16::MAX).take(self.endpoint.sas.len()).for_each(|slot| self.endpoint.reconfigured(slot));
            return;
        };
        // Looking anew leaves the company as it is.
        let mut next = self.endpoint.sas.next_near(By::Peer(peer), None);
        while let Some(slot) = next {
            self.endpoint.reconfigured(slot);
            next = self.endpoint.sas.next_near(By::Peer(peer), Some(slot));
        }
    }
}
