//! All that a gateway remembers between calls, in nouns: what is done with it is in [`crate::gateway`].

pub(crate) mod agenda;
pub(crate) mod calling;
pub(crate) mod child;
pub(crate) mod children;
pub(crate) mod contest;
pub(crate) mod discarded;
pub(crate) mod ikes;
pub(crate) mod installed;
pub(crate) mod manual;
pub(crate) mod merges;
pub(crate) mod names;
pub(crate) mod pause;
pub(crate) mod peer;
pub(crate) mod places;
pub(crate) mod renewal;
pub(crate) mod report;
pub(crate) mod sas;
pub(crate) mod setbacks;
pub(crate) mod silence;
pub(crate) mod tries;
pub(crate) mod unconfirmed;
pub(crate) mod uncovered;
pub(crate) mod uptime;
pub(crate) mod usage;

use core::fmt;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::ChildId;
use ike_core::pad::PeerId;
use ipsec_core::spd::Rule;
use ipsec_core::time::Instant;

use crate::config::{Policy, Settings};
use crate::peers::Peers;
use crate::plane::{DataPlane, Pair};
use agenda::Agenda;
use children::Children;
use discarded::Discarded;
use ikes::Ikes;
use manual::Manual;
use peer::PeerEntry;
use places::Locate;
use report::{Report, Strangers};
use sas::Sas;
use usage::{Accounts, Ended, Ending};

/// What a gateway works on, lent for a call.
pub struct Parts<'x, 'e, C: IkeCrypto> {
    /// Every IKE SA.
    pub endpoint: &'x mut Endpoint<'e, C, Peers>,
    /// What carries the packets.
    pub plane: &'x mut dyn DataPlane,
}

impl<C: IkeCrypto> fmt::Debug for Parts<'_, '_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Every connection of a gateway: what is wanted, what there is, what is to be done about the difference.
///
/// The [crate's documentation](crate) shows a whole one.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::gateway::{Discarded, Gateway};
/// let (config, _) = Config::parse("[gateway]\nmtu = 1280\n").unwrap();
/// let (mut gateway, _peers) = Gateway::new(config); // the peers are for its endpoint
/// assert_eq!(gateway.settings().mtu, 1280);
/// assert_eq!(gateway.discarded(), Discarded::default());
/// assert!(gateway.poll_report().is_none() && gateway.poll_locate().is_none());
/// ```
pub struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) policies: Vec<Policy>,
    pub(crate) rules: Vec<Rule>,
    /// Since when they stand.
    pub(crate) ruled: Instant,
    /// Numbers in the order of the file.
    pub(crate) order: Vec<PeerId>,
    /// In boxes: nodes of a map are half empty when numbers come in their order.
    pub(crate) peers: BTreeMap<PeerId, Box<PeerEntry>>,
    pub(crate) children: Children,
    pub(crate) ikes: Ikes,
    pub(crate) sas: Sas,
    /// The last one that was given out.
    pub(crate) last_pair: u64,
    pub(crate) agenda: Agenda,
    /// SAs that send and hear nothing.
    pub(crate) silent: Vec<(ChildId, Instant)>,
    /// When the counters of an SA are looked at.
    pub(crate) looks: BTreeSet<(Instant, ChildId)>,
    pub(crate) reports: VecDeque<Report>,
    /// Child SAs that are gone, as far as the data plane has told what went through them; and those of which it has not.
    pub(crate) ended: VecDeque<Ended>,
    pub(crate) ending: BTreeMap<Pair, Ending>,
    /// What went through SAs that are gone.
    pub(crate) accounts: Accounts,
    /// How many SAs there were at once.
    pub(crate) most_sas: usize,
    pub(crate) questions: VecDeque<Locate>,
    pub(crate) discarded: Discarded,
    /// How often a peer was found at another address or port.
    pub(crate) moves: u64,
    /// Size of anti-replay windows: the engines' storage was cut to it at the start.
    pub(crate) window: u16,
    pub(crate) strangers: Strangers,
    /// Nothing new begins any more.
    pub(crate) ends: bool,
    pub(crate) of_another_version: Strangers,
    /// Peers with names, those first that were asked for longest ago.
    pub(crate) by_question: BTreeSet<(Option<Instant>, PeerId)>,
    /// When a stranger last made us ask for names.
    pub(crate) knocked: Option<Instant>,
    /// SAs with manual keys.
    pub(crate) manual: Manual,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}
