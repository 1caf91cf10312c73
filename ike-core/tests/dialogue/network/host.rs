//! One end: its endpoint, and what its caller knows by what it was told.

use std::collections::{BTreeMap, BTreeSet};

use ike_core::child::ChildSlot;
use ike_core::endpoint::{Endpoint, IkeSlot, IkeView, IndexBlock, Occupancy, SaState, Settings, Storage};
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::{Cpi, Encap, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;

use super::peers::{Connections, Peer};
use super::seed::Seed;
use crate::engine::Engine;
use crate::signer::Signer;

/// A Child SA as the data plane would hold it.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) config: ChildConfigId,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) key_in: Vec<u8>,
    pub(crate) key_out: Vec<u8>,
    pub(crate) suite: String,
    pub(crate) mode: Mode,
    pub(crate) local: Vec<TrafficSelector>,
    pub(crate) remote: Vec<TrafficSelector>,
    pub(crate) encap: Encap,
    pub(crate) replaces: Option<ChildId>,
    pub(crate) compression: Option<(Cpi, Cpi)>,
    pub(crate) takes_padding: bool,
}

pub(crate) struct Host {
    pub(crate) endpoint: Endpoint<'static, Engine, Connections>,
    pub(crate) installed: BTreeMap<ChildId, Installed>,
    /// What each child configuration sends through.
    pub(crate) sending: BTreeMap<ChildConfigId, ChildId>,
    pub(crate) story: Vec<String>,
    /// What was told of children that were up before, in this order.
    pub(crate) turns: Vec<(&'static str, ChildId)>,
    pub(crate) failures: Vec<Failure>,
    /// Whose IKE SAs ended: who proved to be there, and who was claimed.
    pub(crate) ended: Vec<[Option<PeerId>; 2]>,
    /// Who the other ends of those said to be.
    pub(crate) claims: Vec<Option<String>>,
    /// What was said in clear, unproven.
    pub(crate) noted: Vec<Failure>,
    /// The IKE SAs that are up as far as the caller was told.
    known: BTreeSet<IkeId>,
    /// The Child SAs that may be sent through.
    pub(crate) ready: BTreeSet<ChildId>,
    pub(crate) signer: Signer,
}

impl Host {
    pub(crate) fn new(seed: u64, peers: Vec<Peer>, settings: Settings) -> Self {
        Self::sized(seed, peers, settings, [12, 16, 1280])
    }

    /// With tables of other sizes: IKE SAs, Child SAs, octets of the longest message. What stays beside an SA is a short one:
    /// of some hosts those of a handshake and more, of others hardly any.
    pub(crate) fn sized(seed: u64, peers: Vec<Peer>, settings: Settings, [sas, children, message]: [usize; 3]) -> Self {
        let short = if seed.is_multiple_of(2) { 512 } else { 160 };
        Self::with_rooms(seed, peers, settings, [sas, children], [short.min(message), message, sas])
    }

    /// With so many octets for each short message and each long one, and so many blocks for pairs of long ones.
    pub(crate) fn with_rooms(
        seed: u64,
        peers: Vec<Peer>,
        settings: Settings,
        [sas, children]: [usize; 2],
        [short, long, blocks]: [usize; 3],
    ) -> Self {
        let storage = Storage {
            sas: (0..sas).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak(),
            children: (0..children).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>().leak(),
            index: (0..IndexBlock::needed(sas, children)).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak(),
            pairs: vec![0; sas * 2 * short].leak(),
            pool: vec![0; blocks * 2 * long].leak(),
            blocks,
        };
        let engine = Engine::new(Seed(seed), Packets);
        let endpoint = Endpoint::new(engine, Connections(peers), storage, settings).unwrap();
        Self {
            endpoint,
            installed: BTreeMap::new(),
            sending: BTreeMap::new(),
            story: Vec::new(),
            turns: Vec::new(),
            failures: Vec::new(),
            ended: Vec::new(),
            claims: Vec::new(),
            noted: Vec::new(),
            known: BTreeSet::new(),
            ready: BTreeSet::new(),
            signer: Signer::default(),
        }
    }

    /// Whatever the endpoint looks up, it finds where its content says.
    pub(crate) fn check(&self) {
        assert_eq!(self.endpoint.check(), Ok(()), "{:?}", self.story);
    }

    pub(crate) fn listen(&mut self) {
        self.check();
        let names: Vec<_> = self.endpoint.pad().0.iter().map(|peer| peer.local_id).collect();
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Asked { wait, peer, wall, question, .. } => {
                    self.signer.hear(names[peer.0 as usize], wait, wall, &question);
                }
                Event::LeaseOver { ike, lease } => {
                    assert!(!self.known.contains(&ike), "{:?}", self.story);
                    self.signer.take_back(lease);
                    self.story.push("lease over".into());
                }
                Event::Established { ike, .. } => {
                    assert!(self.known.insert(ike), "{:?}", self.story);
                    self.story.push("established".into());
                }
                Event::IkeRekeyed { old, new, .. } => {
                    assert!(self.known.remove(&old) && self.known.insert(new), "{:?}", self.story);
                    self.story.push("ike rekeyed".into());
                }
                Event::ChildUp(up) => {
                    assert!(self.known.contains(&up.ike), "{:?}", self.story);
                    self.story.push(format!("child {} up", up.config.0));
                    self.installed.insert(
                        up.child,
                        Installed {
                            config: up.config,
                            spi_in: up.spi_in.get(),
                            spi_out: up.spi_out.get(),
                            key_in: up.key_in.to_vec(),
                            key_out: up.key_out.to_vec(),
                            suite: up.suite.to_string(),
                            mode: up.mode,
                            local: up.local.to_vec(),
                            remote: up.remote.to_vec(),
                            encap: up.encap,
                            replaces: up.replaces,
                            compression: up.compression,
                            takes_padding: up.takes_padding,
                        },
                    );
                    if up.outbound_ready {
                        self.ready.insert(up.child);
                        self.sending.insert(up.config, up.child);
                    }
                }
                Event::ChildOutbound { child } => {
                    self.turns.push(("outbound", child));
                    self.ready.insert(child);
                    let config = self.installed[&child].config;
                    self.sending.insert(config, child);
                }
                Event::ChildDraining { child } => {
                    self.turns.push(("draining", child));
                    self.ready.remove(&child);
                    let config = self.installed[&child].config;
                    if self.sending.get(&config) == Some(&child) {
                        self.sending.remove(&config);
                    }
                }
                Event::ChildDown { child, config, cause, .. } => {
                    self.turns.push(("down", child));
                    self.ready.remove(&child);
                    self.story.push(format!("child {} down: {cause:?}", config.0));
                    self.installed.remove(&child).expect("a child that was up");
                    if self.sending.get(&config) == Some(&child) {
                        self.sending.remove(&config);
                    }
                }
                Event::ChildFailed { cause, ike, .. } => {
                    assert!(self.known.contains(&ike), "{cause:?} {:?}", self.story);
                    self.story.push(format!("child failed: {cause:?}"));
                    self.failures.push(cause);
                }
                Event::RekeyFailed { cause, ike, .. } => {
                    assert!(self.known.contains(&ike), "{cause:?} {:?}", self.story);
                    self.story.push(format!("rekey failed: {cause:?}"));
                    self.failures.push(cause);
                }
                Event::Unanswered { exchange, ike, .. } if self.known.contains(&ike) => {
                    self.story.push(format!("unanswered {exchange}"))
                }
                Event::Reauthenticate { ike, .. } if self.known.contains(&ike) => {
                    self.story.push("reauthenticate".into())
                }
                Event::Noted { cause, .. } => {
                    self.story.push(format!("noted: {cause:?}"));
                    self.noted.push(cause);
                }
                Event::PathChanged { path, ike } => {
                    assert!(self.known.contains(&ike), "moved to {}: {:?}", path.remote, self.story);
                    self.story.push(format!("moved to {}", path.remote));
                }
                Event::Closed { cause, peer, claimed, identity, ike, established, .. } => {
                    assert_eq!(self.known.remove(&ike), established, "{cause:?}: {:?}", self.story);
                    self.ended.push([peer, claimed]);
                    self.claims.push(identity.map(|id| id.to_string()));
                    self.story.push(format!("closed: {cause:?}"));
                    self.failures.push(cause);
                }
                Event::Refused { cause, .. } => {
                    self.story.push(format!("refused: {cause:?}"));
                    self.failures.push(cause);
                }
                _ => unreachable!("an event that the tests do not know"),
            }
            self.check();
        }
    }

    /// The IKE SA that is in use.
    pub(crate) fn ike(&self) -> Option<IkeView> {
        let mut up = self.endpoint.ike_sas().filter(|sa| sa.state == SaState::Established);
        let ike = up.next();
        assert!(up.next().is_none(), "two IKE SAs are in use");
        ike
    }

    pub(crate) fn ike_id(&self) -> IkeId {
        self.ike().expect("an IKE SA").id
    }
}

/// Every run ends here: the wire is cut, all is closed, and then every slot, key, timer and SPI must be back.
impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut now = Instant::ZERO;
        for round in 0.. {
            assert!(round < 10_000, "the host never comes to rest: {:?}", self.story);
            for ike in self.endpoint.ike_sas().map(|sa| sa.id).collect::<Vec<_>>() {
                let _ = self.endpoint.close(now, ike);
            }
            self.listen();
            while self.endpoint.poll_transmit().is_some() {
                self.check();
            }
            let Some(due) = self.endpoint.poll_timeout() else { break };
            now = now.max(due);
            self.endpoint.handle_timeout(now);
        }
        assert_eq!(self.endpoint.occupancy(), Occupancy::default(), "something was not given back: {:?}", self.story);
        assert!(self.installed.is_empty() && self.sending.is_empty(), "an end was not told: {:?}", self.story);
        assert!(self.signer.leased.is_empty(), "a lease was not given back: {:?}", self.story);
    }
}
