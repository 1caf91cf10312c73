//! What changed between two configurations, so that a reload touches nothing else (requirement B2).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use ipsec_core::net::AddrRange;

use super::reach::{self, Exposed};
use super::{Child, Config, ManualPair, Peer, Policy, SecretSource, Settings};

/// What a reload has to do.
///
/// ```
/// use gateway_core::config::{ChildDiff, Config, PeerDiff};
/// let file = |rekey: &str| format!(r#"
/// [[peer]]
/// name = "cloud"
/// local = "192.0.2.2"
/// remote = "192.0.2.1"
/// psk = "a key of more than twenty characters"
/// [[peer.child]]
/// name = "net"
/// local-ts = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// rekey = "{rekey}"
/// "#);
/// let [old, new] = ["1h", "2h"].map(|rekey| Config::parse(&file(rekey)).unwrap().0);
/// let diff = Config::diff(&old, &new);
/// let children = vec![("net".into(), ChildDiff::Changed)]; // its SAs go on
/// assert_eq!(diff.peers, [("cloud".into(), PeerDiff::Changed { children })]);
/// assert!(Config::diff(&new, &new).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// Keys of `[gateway]` that changed.
    pub settings: Vec<&'static str>,
    /// Peers that changed, by name.
    pub peers: Vec<(String, PeerDiff)>,
    /// Whether the `[[policy]]` rules changed.
    pub policies: bool,
    /// Pairs of SAs with manual keys that changed, by name.
    pub manual: Vec<(String, ManualDiff)>,
    /// Remote networks that a child sent into its tunnel and none does any more: from here on packets from there and to there
    /// are in clear, unless a policy discards them. What is left to routes ([`Child::is_left_to_routes`]) nobody sends there.
    pub bared: Vec<String>,
    /// Networks on our side that a child had with a remote one and of which none has all with all of that any more, as they
    /// are written: from here on packets from there to the rest are let in in clear, unless a policy discards them. To there
    /// none leaves so.
    pub opened: Vec<(String, String)>,
}

/// What happened to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerDiff {
    /// It is new.
    Added,
    /// It is gone: close its IKE SAs.
    Removed,
    /// It is another one under the same name (addresses, identities, key or IKE proposals): close and begin anew.
    Replaced,
    /// Its IKE SA goes on. `children` are those that changed; without any, only timers or `start` did, which the next
    /// exchange takes up.
    Changed {
        /// Children that changed, by name.
        children: Vec<(String, ChildDiff)>,
    },
}

/// What happened to a child of a peer that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildDiff {
    /// It is new.
    Added,
    /// It is gone: delete its SAs.
    Removed,
    /// Its selectors, mode, proposals or compression changed: delete its SAs and negotiate anew.
    Replaced,
    /// Only its timers, its priority, its level or what its SAs send changed: its SAs go on.
    Changed,
}

/// What happened to a pair of SAs with manual keys.
///
/// ```
/// use gateway_core::config::ManualDiff;
/// /// Whether the peer has to be told of another SA to receive with.
/// fn concerns_the_peer(change: ManualDiff) -> bool {
///     !matches!(change, ManualDiff::Changed { outbound: false, .. })
/// }
/// assert!(!concerns_the_peer(ManualDiff::Changed { outbound: false, inbound: true }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManualDiff {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is between other ends or for other traffic: taken out, and put in anew.
    Replaced,
    /// One of the two or both are others now, between the same ends for the same traffic; what did not change goes on.
    Changed {
        /// What we send with.
        outbound: bool,
        /// What the peer sends with.
        inbound: bool,
    },
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// What leads from `old` to `new`. Pre-shared keys are compared when both are loaded.
    pub fn diff(old: &Self, new: &Self) -> Diff {
        let peers: Vec<&Peer> = old.peers.iter().collect();
        let manual: Vec<&ManualPair> = old.manual.iter().collect();
        Self::diff_from(&old.gateway, &peers, &old.policies, &manual, new)
    }

    /// What no child keeps from passing in clear any more, where not an old configuration tells that but what there is of it,
    /// as after a restart: `kept`, each network with those inside it that were left out. As [`Diff::bared`].
    pub fn bared(&self, kept: impl Iterator<Item = (AddrRange, Vec<AddrRange>)>) -> Vec<String> {
        reach::bared(kept, self.traffic())
    }

    /// What [`Config::diff`] tells, where the parts of the old configuration live in different places.
    pub(crate) fn diff_from(
        gateway: &Settings,
        old: &[&Peer],
        old_policies: &[Policy],
        old_manual: &[&ManualPair],
        new: &Self,
    ) -> Diff {
        let names: BTreeSet<&str> = new.peers.iter().map(|peer| peer.name.as_str()).collect();
        let before: BTreeMap<&str, &Peer> = old.iter().map(|peer| (peer.name.as_str(), *peer)).collect();
        let removed = old.iter().filter(|peer| !names.contains(peer.name.as_str()));
        let mut peers: Vec<_> = removed.map(|peer| (peer.name.clone(), PeerDiff::Removed)).collect();
        for peer in &new.peers {
            let change = match before.get(peer.name.as_str()) {
                None => Some(PeerDiff::Added),
                Some(before) => peer_diff(before, peer),
            };
            peers.extend(change.map(|change| (peer.name.clone(), change)));
        }
        let policies = placeless(old_policies) != placeless(&new.policies);
        let changed = peers.iter().filter_map(|(name, _)| before.get(name.as_str())).flat_map(|peer| &peer.children);
        let before = changed.map(Child::traffic).chain(old_manual.iter().map(|pair| pair.traffic()));
        let Exposed { bared, opened } = Exposed::between(before, new.traffic());
        let manual = manual_diff(old_manual, &new.manual);
        Diff { settings: settings(gateway, &new.gateway), peers, policies, manual, bared, opened }
    }
}

fn settings(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let keys = [
        ("control", old.control != new.control),
        ("tun", old.tun != new.tun),
        ("log", old.log != new.log),
        ("outside", old.outside != new.outside),
        ("mtu", old.mtu != new.mtu),
        ("mss", old.mss != new.mss),
        ("relay-icmp", old.relay_icmp != new.relay_icmp),
        ("check-checksums", old.check_checksums != new.check_checksums),
        ("replay-window", old.replay_window != new.replay_window),
        ("cookie-threshold", old.cookie_threshold != new.cookie_threshold),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

/// Whether two peers have one pre-shared key, as far as that is known.
pub(super) fn same_key(one: &Peer, other: &Peer) -> bool {
    match (&one.secret, &other.secret) {
        (SecretSource::Loaded(one), SecretSource::Loaded(other)) => one == other,
        (SecretSource::File { path: one, .. }, SecretSource::File { path: other, .. }) => one == other,
        _ => false,
    }
}

fn peer_diff<'p>(old: &'p Peer, new: &'p Peer) -> Option<PeerDiff> {
    let same_key = same_key(old, new);
    let same_party = old.local == new.local
        && old.remote == new.remote
        && old.local_id == new.local_id
        && old.remote_id == new.remote_id
        && old.encap == new.encap
        && old.ike == new.ike;
    if !same_key || !same_party {
        return Some(PeerDiff::Replaced);
    }
    let by_name = |peer: &'p Peer| -> BTreeMap<&str, &Child> {
        peer.children.iter().map(|child| (child.name.as_str(), child)).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let removed = old.children.iter().filter(|child| !after.contains_key(child.name.as_str()));
    let mut children: Vec<_> = removed.map(|child| (child.name.clone(), ChildDiff::Removed)).collect();
    for child in &new.children {
        let change = match before.get(child.name.as_str()) {
            None => Some(ChildDiff::Added),
            Some(before) => child_diff(before, child),
        };
        children.extend(change.map(|change| (child.name.clone(), change)));
    }
    let same_timers = old.dpd == new.dpd && old.rekey == new.rekey && old.start == new.start;
    (!same_timers || !children.is_empty()).then_some(PeerDiff::Changed { children })
}

fn child_diff(old: &Child, new: &Child) -> Option<ChildDiff> {
    let same_traffic = old.mode == new.mode
        && old.local_ts == new.local_ts
        && old.remote_ts == new.remote_ts
        && old.esp == new.esp
        && old.compress == new.compress;
    let same_rest = old.rekey == new.rekey
        && old.lifetime == new.lifetime
        && old.rekey_bytes == new.rekey_bytes
        && old.rekey_packets == new.rekey_packets
        && old.dont_fragment == new.dont_fragment
        && old.tfc_padding == new.tfc_padding
        && old.priority == new.priority
        && old.level == new.level;
    match (same_traffic, same_rest) {
        (true, true) => None,
        (true, false) => Some(ChildDiff::Changed),
        (false, _) => Some(ChildDiff::Replaced),
    }
}

/// Those of both lists that are between the same ends for the same traffic are one pair.
fn manual_diff(old: &[&ManualPair], new: &[ManualPair]) -> Vec<(String, ManualDiff)> {
    let mut before: BTreeMap<_, &ManualPair> = old.iter().map(|pair| (pair.ends(), *pair)).collect();
    let mut changes = Vec::new();
    for new in new {
        let change = match before.remove(&new.ends()) {
            None => Some(ManualDiff::Added),
            Some(old) => {
                let outbound = !new.outbound.sends_as(&old.outbound);
                let inbound = !new.inbound.receives_as(&old.inbound);
                (outbound || inbound).then_some(ManualDiff::Changed { outbound, inbound })
            }
        };
        changes.extend(change.map(|change| (new.name(), change)));
    }
    for gone in before.into_values().map(ManualPair::name) {
        match changes.iter_mut().find(|(name, change)| *name == gone && *change == ManualDiff::Added) {
            Some((_, change)) => *change = ManualDiff::Replaced,
            None => changes.push((gone, ManualDiff::Removed)),
        }
    }
    changes
}

/// The policies without their places in the file.
fn placeless(policies: &[Policy]) -> Vec<Policy> {
    let place = super::Position { line: 0, column: 0 };
    policies.iter().map(|policy| Policy { at: place, ..policy.clone() }).collect()
}
