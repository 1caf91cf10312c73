//! The Peer Authorization Database (RFC 4301 §4.4.3) out of a configuration.
//!
//! Peers and children keep their numbers across reloads as long as they are the same party; whatever became another
//! one gets a new number, so an SA never changes hands.

use core::fmt;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ipsec_core::net::Path;

use crate::config::{Child, ChildDiff, Diff, Encapsulation, Identity, Mode, Peer, PeerDiff, Remote};
use doors::{Doors, Sign};

mod doors;

/// Every configured peer.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::gateway::Gateway;
/// use ike_core::pad::{Initiator, Pad};
/// let text = r#"
/// [[peer]]
/// name = "cloud"
/// local = "192.0.2.2"
/// remote = "192.0.2.1"
/// psk = "a key of more than twenty characters"
/// [[peer.child]]
/// name = "net"
/// local-ts = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// "#;
/// let (_gateway, peers) = Gateway::new(Config::parse(text).unwrap().0);
/// let cloud = peers.named("cloud").unwrap();
/// // What IKE asks: who may call from there, and what is agreed on with whom.
/// let initiator = Initiator::new([192, 0, 2, 2].into(), [192, 0, 2, 1].into());
/// assert_eq!(peers.candidate(&initiator, None), Some(cloud));
/// assert_eq!(peers.child(cloud, 0).unwrap().local, peers.get(cloud).unwrap().children[0].local_ts);
/// ```
#[derive(Default)]
pub struct Peers {
    /// In the order of the file.
    entries: Vec<Entry>,
    /// Places in `entries` by number: IKE asks often.
    places: Vec<(PeerId, usize)>,
    /// Places in `entries` by name.
    names: BTreeMap<String, usize>,
    /// Places in `entries` by the addresses that are known.
    at: BTreeSet<(IpAddr, usize)>,
    /// Places in `entries` by what is known of whoever calls.
    doors: Doors,
    /// Whether some of them have names, which may lead anywhere.
    by_name: bool,
    /// Places in `entries`, and in the children there, by number.
    children: Vec<(ChildConfigId, (usize, usize))>,
    next_peer: u32,
    next_child: u32,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

/// One peer: its configuration, its numbers, and where it is found.
struct Entry {
    id: PeerId,
    config: Peer,
    /// The numbers of `config.children`, in the same order.
    children: Vec<ChildConfigId>,
    /// Addresses that the peer's DNS names had last, in the order in which they were first heard of.
    resolved: Vec<(String, Vec<IpAddr>)>,
    /// Where to call it; `None` while that is not known.
    path: Option<Path>,
    /// Who we say we are: `local-id`, or our address on `path`.
    local_id: Option<Identity>,
}

impl Entry {
    fn new(id: PeerId, config: Peer) -> Self {
        let local_id = config.local_id.clone().or_else(|| config.local.first().map(|addr| Identity::from(*addr)));
        Self { id, children: Vec::new(), resolved: Vec::new(), path: None, local_id, config }
    }

    /// The addresses it is known to be at, as far as that is known without asking: those written, and those resolved last.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let resolved = self.resolved.iter().flat_map(|(_, addresses)| addresses.iter().copied());
        self.config.remote.iter().filter_map(Remote::address).chain(resolved)
    }

    /// Those, and where it is called.
    fn seen_at(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().chain(self.path.map(|path| path.remote.ip()))
    }

    /// How it is found when it calls; not at all as long as nothing can be proved with it.
    fn sign(&self, place: usize) -> Option<Sign<'_>> {
        self.config.secret.loaded()?;
        let anywhere = self.config.remote.is_empty().then_some(None);
        Some(Sign {
            place,
            remote: self.seen_at().map(Some).chain(anywhere).collect(),
            local: &self.config.local,
            theirs: self.config.remote_id.as_ref(),
            ours: self.local_id.as_ref()?,
            // Lists with the same address are the same, and those of a configuration have one if they are.
            offer: Arc::as_ptr(&self.config.ike).addr(),
        })
    }

    fn child(&self, index: usize) -> Option<(ChildConfigId, &Child)> {
        Some((*self.children.get(index)?, self.config.children.get(index)?))
    }
}

/// Numbers that a reload took away or gave out.
///
/// ```
/// use gateway_core::config::{Config, Diff};
/// use gateway_core::peers::{Peers, Renumbered};
/// let mut peers = Peers::default();
/// let Renumbered { peers_new, peers_gone, .. } = peers.replace(Vec::new(), &Diff::default());
/// assert!(peers_new.is_empty() && peers_gone.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renumbered {
    /// Peers that are gone: close their SAs.
    pub peers_gone: Vec<PeerId>,
    /// Peers that are new.
    pub peers_new: Vec<PeerId>,
    /// Children of peers that stay, which are gone: delete their SAs.
    pub children_gone: Vec<ChildConfigId>,
    /// Children of peers that stay, which are new.
    pub children_new: Vec<(PeerId, ChildConfigId)>,
}

impl Peers {
    /// Takes over the peers of a new configuration, whose keys are loaded. `diff` is what leads to it from the one that
    /// is held.
    pub fn replace(&mut self, peers: Vec<Peer>, diff: &Diff) -> Renumbered {
        let mut changes = Renumbered::default();
        let old = core::mem::take(&mut self.entries).into_iter();
        let mut old: BTreeMap<String, Entry> = old.map(|entry| (entry.config.name.clone(), entry)).collect();
        let differences: BTreeMap<&str, &PeerDiff> =
            diff.peers.iter().map(|(name, change)| (name.as_str(), change)).collect();
        self.entries.reserve_exact(peers.len());
        for config in peers {
            let held = old.remove(&config.name);
            let change = differences.get(config.name.as_str()).copied();
            match (held, change) {
                (Some(entry), None | Some(PeerDiff::Changed { .. })) => {
                    let children = match change {
                        Some(PeerDiff::Changed { children }) => children.as_slice(),
                        _ => &[],
                    };
                    let entry = self.keep(entry, config, children, &mut changes);
                    self.entries.push(entry);
                }
                (held, _) => {
                    changes.peers_gone.extend(held.map(|entry| entry.id));
                    let id = PeerId(next(&mut self.next_peer));
                    let mut entry = Entry::new(id, config);
                    entry.children =
                        entry.config.children.iter().map(|_| ChildConfigId(next(&mut self.next_child))).collect();
                    changes.peers_new.push(id);
                    self.entries.push(entry);
                }
            }
        }
        changes.peers_gone.extend(old.values().map(|entry| entry.id));
        self.index();
        changes
    }

    fn index(&mut self) {
        let places = || self.entries.iter().enumerate();
        self.names = places().map(|(place, entry)| (entry.config.name.clone(), place)).collect();
        let children = places().flat_map(|(place, entry)| {
            entry.children.iter().enumerate().map(move |(index, child)| (*child, (place, index)))
        });
        self.children = children.collect();
        self.children.sort_unstable();
        self.places = places().map(|(place, entry)| (entry.id, place)).collect();
        self.places.sort_unstable();
        self.at = places().flat_map(|(place, entry)| entry.addresses().map(move |addr| (addr, place))).collect();
        let signs: Vec<_> = places().filter_map(|(place, entry)| entry.sign(place)).collect();
        self.doors = Doors::of(&signs);
        self.by_name = places().any(|(_, entry)| entry.config.remote.iter().any(|place| place.address().is_none()));
    }

    /// The same party with a new configuration.
    fn keep(
        &mut self,
        mut entry: Entry,
        config: Peer,
        diff: &[(String, ChildDiff)],
        changes: &mut Renumbered,
    ) -> Entry {
        let mut children = Vec::with_capacity(config.children.len());
        for child in &config.children {
            let held = entry.config.children.iter().position(|held| held.name == child.name);
            let held = held.and_then(|index| entry.children.get(index).copied());
            let replaced = diff.iter().any(|(name, change)| *name == child.name && *change == ChildDiff::Replaced);
            children.push(match held {
                Some(id) if !replaced => id,
                _ => {
                    let id = ChildConfigId(next(&mut self.next_child));
                    changes.children_new.push((entry.id, id));
                    id
                }
            });
        }
        changes.children_gone.extend(entry.children.iter().filter(|id| !children.contains(id)));
        entry.children = children;
        entry.config = config;
        entry
    }

    /// The peers, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.entries.iter().map(|entry| (entry.id, &entry.config))
    }

    /// The children of all peers, in the order of the file.
    pub fn children(&self) -> impl Iterator<Item = (ChildConfigId, &Child)> {
        self.entries.iter().flat_map(|entry| entry.children.iter().copied().zip(&entry.config.children))
    }

    /// The children of one peer, in the order of the file.
    pub fn children_of(&self, peer: PeerId) -> impl Iterator<Item = (ChildConfigId, &Child)> {
        let entry = self.entry(peer);
        entry.into_iter().flat_map(|entry| entry.children.iter().copied().zip(&entry.config.children))
    }

    /// One peer.
    pub fn get(&self, peer: PeerId) -> Option<&Peer> {
        self.entry(peer).map(|entry| &entry.config)
    }

    /// One child, with its peer.
    pub fn get_child(&self, child: ChildConfigId) -> Option<(PeerId, &Peer, &Child)> {
        let found = self.children.binary_search_by_key(&child, |(id, _)| *id).ok()?;
        let (_, (place, index)) = *self.children.get(found)?;
        let entry = self.entries.get(place)?;
        Some((entry.id, &entry.config, entry.config.children.get(index)?))
    }

    /// The peer with this name.
    pub fn named(&self, name: &str) -> Option<PeerId> {
        self.names.get(name).and_then(|place| self.entries.get(*place)).map(|entry| entry.id)
    }

    /// Where to call a peer; `None` while its name is not resolved or our address towards it is not known.
    pub fn path(&self, peer: PeerId) -> Option<Path> {
        self.entry(peer)?.path
    }

    /// What a DNS name of the peer stands for now: requests from these addresses are taken for the peer's. Addresses that
    /// were known before keep their order.
    pub fn set_resolved(&mut self, peer: PeerId, name: &str, addresses: &[IpAddr]) {
        self.change(peer, |entry| match entry.resolved.iter_mut().find(|(held, _)| held == name) {
            Some((_, held)) => {
                held.retain(|address| addresses.contains(address));
                let new: Vec<_> = addresses.iter().copied().filter(|address| !held.contains(address)).collect();
                held.extend(new);
            }
            None => entry.resolved.push((String::from(name), addresses.to_vec())),
        });
    }

    /// Calls the peer at `remote` from `local` from now on, from this port to the same one.
    pub fn set_path(&mut self, peer: PeerId, local: IpAddr, remote: IpAddr, port: u16) {
        self.change(peer, |entry| {
            let at = |address| SocketAddr::new(address, port);
            entry.path = Some(Path { local: at(local), remote: at(remote) });
            if entry.config.local_id.is_none() {
                entry.local_id = Some(local.into());
            }
        });
    }

    /// The peer's addresses as far as they are known without asking: those written, and those resolved last.
    pub fn addresses(&self, peer: PeerId) -> impl Iterator<Item = IpAddr> {
        self.entry(peer).into_iter().flat_map(Entry::addresses)
    }

    /// The peers that may be at an address, as far as that is known without asking.
    pub(crate) fn at(&self, remote: IpAddr) -> impl Iterator<Item = PeerId> {
        let there = self.at.range((remote, 0)..=(remote, usize::MAX));
        there.filter_map(|(_, place)| self.entries.get(*place)).map(|entry| entry.id)
    }

    /// The peer at an address, when there is only one it can be as far as that is known without asking.
    pub(crate) fn only_one_at(&self, remote: IpAddr) -> Option<PeerId> {
        let mut there = self.at(remote);
        there.next().filter(|_| there.next().is_none())
    }

    fn place(&self, peer: PeerId) -> Option<usize> {
        let found = self.places.binary_search_by_key(&peer, |(id, _)| *id).ok()?;
        self.places.get(found).map(|(_, place)| *place)
    }

    fn entry(&self, peer: PeerId) -> Option<&Entry> {
        self.entries.get(self.place(peer)?)
    }

    /// Changes what is known of a peer, and files it anew.
    fn change(&mut self, peer: PeerId, change: impl FnOnce(&mut Entry)) {
        let Some(place) = self.place(peer) else { return };
        let Some(entry) = self.entries.get_mut(place) else { return };
        for addr in entry.addresses() {
            self.at.remove(&(addr, place));
        }
        entry.sign(place).iter().for_each(|sign| self.doors.take(sign));
        change(entry);
        entry.sign(place).iter().for_each(|sign| self.doors.put(sign));
        self.at.extend(entry.addresses().map(|addr| (addr, place)));
    }
}

/// A child as IKE knows it.
fn configured((id, child): (ChildConfigId, &Child)) -> ChildConfig<'_> {
    ChildConfig {
        id,
        modes: match child.mode {
            Mode::Tunnel => Modes::Tunnel,
            Mode::Transport | Mode::Beet => Modes::Transport,
        },
        esp: &child.esp,
        local: &child.local_ts,
        remote: &child.remote_ts,
        rekey: child.rekey,
        lifetime: child.lifetime,
        compress: child.compress,
    }
}

/// A number that was not given out before.
fn next(counter: &mut u32) -> u32 {
    *counter = counter.wrapping_add(1);
    *counter
}

impl Pad for Peers {
    fn connection(&self, peer: PeerId) -> Option<Connection<'_>> {
        let entry = self.entry(peer)?;
        Some(Connection {
            path: entry.path,
            local_id: entry.local_id.as_ref()?.id(),
            remote_id: entry.config.remote_id.as_ref().map(Identity::id),
            auth: Authentication::Psk(entry.config.secret.loaded()?.expose()),
            ike: &entry.config.ike,
            force_encap: entry.config.encap == Encapsulation::Always,
            dpd: entry.config.dpd,
            rekey: entry.config.rekey,
        })
    }

    fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        self.entry(peer)?.child(index).map(configured)
    }

    fn child_by_id(&self, peer: PeerId, id: ChildConfigId) -> Option<ChildConfig<'_>> {
        let (holder, _, child) = self.get_child(id)?;
        (holder == peer).then_some(configured((id, child)))
    }

    /// A peer that moved may call before its name follows, and that is asked for when it does.
    fn may_follow(&self, initiator: &Initiator<'_>) -> bool {
        self.by_name && self.at(initiator.remote).next().is_none()
    }

    /// Peers that are known to be at `remote` come before those that may be anywhere; the order of the file decides among
    /// both.
    fn candidate(&self, initiator: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        let is_here = |entry: &Entry| entry.seen_at().any(|addr| addr == initiator.remote);
        let (mut here, mut from) = (true, 0_usize);
        if let Some(after) = after {
            let place = self.place(after)?;
            (here, from) = (is_here(self.entries.get(place)?), place.saturating_add(1));
        }
        if here {
            if let Some(place) = self.doors.next(initiator, Some(initiator.remote), from) {
                return self.entries.get(place).map(|entry| entry.id);
            }
            from = 0;
        }
        loop {
            let place = self.doors.next(initiator, None, from)?;
            let entry = self.entries.get(place)?;
            // Of one that is here it was the turn already.
            if !is_here(entry) {
                return Some(entry.id);
            }
            from = place.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
