//! What the control thread has, and how it is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::config::{Config, LogLevel};
use gateway_core::gateway::{Gateway, Parts};
use gateway_core::peers::Peers;
use ike_core::child::ChildSlot;
use ike_core::endpoint::{self, Endpoint, IkeSlot, IndexBlock, ROOM_PER_BLOCK, ROOM_PER_SA, Storage};
use tracing::level_filters::LevelFilter;

use super::books::Books;
use super::lines::Lines;
use super::reloading::Reloads;
use super::served::Served;
use super::vigil::Vigil;
use crate::ask::Trouble;
use crate::capacity::Capacity;
use crate::clock::Clock;
use crate::early::Early;
use crate::logging::{self, Throttle};
use crate::machine::Machine;
use crate::pending::Pending;
use crate::plane::{Engines, Plane};
use crate::provider;
use crate::signals::Stops;

/// IKE, as this appliance runs it.
pub(super) type IkeEndpoint = Endpoint<'static, provider::Ike, Peers>;

/// Why the daemon ended.
pub(crate) enum Ended {
    /// Somebody asked for it.
    Asked,
    /// The configuration is wrong: told already.
    Configuration,
    /// The machine does not grant what is needed, or no longer does: told already.
    Failed,
}

/// Lines about packets that leave in clear: whoever writes level "use" knows, and is to remember.
const CLEAR_LINES: u32 = 3;
const CLEAR_EVERY: Duration = Duration::from_secs(60);

/// The control thread's state.
pub(crate) struct Daemon {
    pub(super) level: logging::Level,
    pub(super) clock: Clock,
    /// Asks for the end.
    pub(super) stops: Stops,
    pub(super) machine: Machine,
    pub(super) capacity: Capacity,
    pub(super) plane: Arc<Plane>,
    /// What this thread has put into the engines, and the engines, locked for single steps.
    pub(super) engines: Engines,
    pub(super) endpoint: IkeEndpoint,
    pub(super) gateway: Gateway,
    pub(super) pending: Pending,
    pub(super) early: Early,
    pub(super) lines: Lines,
    /// Whoever came to the control socket, and what they are shown.
    pub(super) served: Served,
    /// A configuration that is being read, or that the boundary is being told of.
    pub(super) reloads: Reloads,
    /// What went through, over restarts.
    pub(super) books: Books,
    /// What was told of packets that were kept from passing in clear.
    pub(super) vigil: Vigil,
    /// What was told of packets that left in clear, as level "use" lets them.
    pub(super) told_of_clear: Throttle,
    /// Nothing new begins any more.
    pub(super) ends: bool,
}

impl Daemon {
    /// A daemon for whom nothing has begun.
    pub(super) fn new(
        config: Config,
        capacity: Capacity,
        clock: Clock,
        level: logging::Level,
        stops: Stops,
        (machine, plane): (Machine, Arc<Plane>),
    ) -> Result<Self, Trouble> {
        let settings = endpoint::Settings {
            cookie_threshold: usize::from(config.gateway.cookie_threshold),
            half_open_limit: capacity.half_open(),
            ..endpoint::Settings::default()
        };
        let engines = plane.engines().with(&config.gateway);
        let (gateway, peers) = Gateway::new(config);
        let endpoint = endpoint_for(&capacity, peers, settings)?;
        Ok(Self {
            level,
            clock,
            stops,
            machine,
            capacity,
            engines,
            endpoint,
            gateway,
            pending: Pending::default(),
            early: Early::new(plane.early()),
            plane,
            lines: Lines::new(Instant::now()),
            served: Served::default(),
            reloads: Reloads::default(),
            books: Books::default(),
            vigil: Vigil::new(Instant::now()),
            told_of_clear: Throttle::new(CLEAR_LINES, CLEAR_EVERY, Instant::now()),
            ends: false,
        })
    }

    /// The gateway, and what it works on.
    pub(super) fn lend(&mut self) -> (&mut Gateway, Parts<'_, 'static, provider::Ike>) {
        (&mut self.gateway, Parts { endpoint: &mut self.endpoint, plane: &mut self.engines })
    }
}

pub(crate) fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// The endpoint borrows its tables; ours live as long as the process does.
pub(super) fn endpoint_for(
    capacity: &Capacity,
    peers: Peers,
    settings: endpoint::Settings,
) -> Result<IkeEndpoint, Trouble> {
    let sas = (0..capacity.ike_sas).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak();
    let children = (0..capacity.child_sas).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>().leak();
    let blocks = IndexBlock::needed(capacity.ike_sas, capacity.child_sas);
    let index = (0..blocks).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak();
    let pairs = vec![0; capacity.ike_sas * ROOM_PER_SA].leak();
    let pool = vec![0; capacity.blocks * ROOM_PER_BLOCK].leak();
    let storage = Storage { sas, children, index, pairs, pool, blocks: capacity.blocks };
    Endpoint::new(provider::ike(), peers, storage, settings).map_err(|_| Trouble {
        text: "too many peers or children for one gateway".to_owned(),
        hint: "at most 65,535 SAs of each kind fit".to_owned(),
    })
}
