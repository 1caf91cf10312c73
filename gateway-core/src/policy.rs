//! The Security Policy Database (RFC 4301 §4.4.1) out of a configuration: what the children protect, and `[[policy]]`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use ike_core::pad::ChildConfigId;
use ipsec_core::engine;
use ipsec_core::error::Refused;
use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::spd::{self, Index, Node, PolicyId, Rule, RuleId, Selector, Slot};

use crate::config::{Action, Child, Config, ManualId, Policy, Traffic};
use crate::peers::Peers;

/// Rules for any number of engines: they look into the same index, and the last one to leave it takes it down.
pub type Shared = Arc<Index<Box<[Slot]>, Box<[Node]>>>;

/// A sending engine that shares its rules.
pub type Outbound<'a, P> = engine::Outbound<'a, P, Shared>;

/// A receiving engine that shares its rules.
pub type Inbound<'a, P> = engine::Inbound<'a, P, Shared>;

/// An index of rules in memory of its own.
///
/// ```
/// use gateway_core::policy::index;
/// use ipsec_core::error::Refused;
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Rule, RuleId, Rules, Selector};
/// let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::Discard };
/// assert_eq!(index(&[rule]).unwrap().view().len(), 1);
/// assert_eq!(index(&[rule, rule]).err(), Some(Refused::Duplicate));
/// ```
///
/// # Errors
/// [`Refused::Duplicate`]: two rules have one id.
pub fn index(rules: &[Rule]) -> Result<Shared, Refused> {
    let slots = vec![Slot::EMPTY; rules.len()].into_boxed_slice();
    let nodes = vec![Node::EMPTY; Index::nodes(rules.len())].into_boxed_slice();
    Index::build(rules.iter().copied(), slots, nodes).map(Arc::new)
}

/// The policy that a child's SAs belong to. Children have numbers that are unique in a gateway, so the two map onto each
/// other.
///
/// ```
/// use gateway_core::policy::{child_of, policy_of};
/// use ike_core::pad::ChildConfigId;
/// assert_eq!(child_of(policy_of(ChildConfigId(7))), ChildConfigId(7));
/// ```
pub const fn policy_of(child: ChildConfigId) -> PolicyId {
    PolicyId(child.0)
}

/// The child whose SAs belong to a policy.
///
/// ```
/// use gateway_core::policy::child_of;
/// use ike_core::pad::ChildConfigId;
/// use ipsec_core::spd::PolicyId;
/// // A packet wants this policy: `Verdict::Acquire` says so.
/// assert_eq!(child_of(PolicyId(7)), ChildConfigId(7));
/// ```
pub const fn child_of(policy: PolicyId) -> ChildConfigId {
    ChildConfigId(policy.0)
}

/// Numbers of pairs of SAs with manual keys: those of children do not get so far.
const MANUAL: u32 = 1 << 31;

/// The policy that a pair of SAs with manual keys belongs to.
///
/// ```
/// use gateway_core::config::ManualId;
/// use gateway_core::policy::{child_of, manual_of, policy_of, policy_of_manual};
/// use ike_core::pad::ChildConfigId;
/// assert_eq!(manual_of(policy_of_manual(ManualId(7))), Some(ManualId(7)));
/// assert_eq!(manual_of(policy_of(ChildConfigId(7))), None);
/// ```
pub const fn policy_of_manual(pair: ManualId) -> PolicyId {
    PolicyId(MANUAL | pair.0)
}

/// The pair whose SAs belong to a policy; `None`: a child's do.
///
/// ```
/// use gateway_core::policy::manual_of;
/// use ipsec_core::spd::PolicyId;
/// assert_eq!(manual_of(PolicyId(7)), None);
/// ```
pub const fn manual_of(policy: PolicyId) -> Option<ManualId> {
    if policy.0 & MANUAL == 0 { None } else { Some(ManualId(policy.0 & !MANUAL)) }
}

/// The rules, in the order in which they are tried: by priority, policies before children and these before SAs with manual keys, then
/// the order of the file. Rules are numbered in that order. A child with several selectors makes a rule for each pair of one family.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::peers::Peers;
/// use gateway_core::policy::{count, rules};
/// use ipsec_core::spd::Action;
/// let (config, _) = Config::parse("[[policy]]\naction = \"bypass\"\nprotocol = \"ospf\"\n").unwrap();
/// let rules = rules(&config.policies, &Peers::default(), std::iter::empty());
/// assert_eq!(rules.len(), count(&config)); // one for each family
/// assert!(rules.iter().all(|rule| rule.action == Action::Bypass && rule.selector.local.protocol == 89));
/// ```
pub fn rules<'c>(
    policies: &[Policy],
    peers: &'c Peers,
    manual: impl Iterator<Item = (ManualId, Traffic<'c>)>,
) -> Vec<Rule> {
    ordered(policies, peers.children(), manual)
}

/// As [`rules`], for children that no [`Peers`] holds yet.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::policy::ordered;
/// use ike_core::pad::ChildConfigId;
/// use ipsec_core::spd::{Action, PolicyId};
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
/// let (config, _) = Config::parse(text).unwrap();
/// let children = [(ChildConfigId(1), &config.peers[0].children[0])].into_iter();
/// let rules = ordered(&config.policies, children, std::iter::empty());
/// assert_eq!(rules[0].action, Action::protect(PolicyId(1)));
/// ```
pub fn ordered<'c>(
    policies: &[Policy],
    children: impl Iterator<Item = (ChildConfigId, &'c Child)>,
    manual: impl Iterator<Item = (ManualId, Traffic<'c>)>,
) -> Vec<Rule> {
    let mut list: Vec<(u32, Selector, spd::Action)> = Vec::new();
    for policy in policies {
        let action = match policy.action {
            Action::Bypass => spd::Action::Bypass,
            Action::Discard => spd::Action::Discard,
        };
        list.extend(policy_selectors(policy).map(|selector| (policy.priority, selector, action)));
    }
    for (id, child) in children {
        let action = spd::Action::Protect { policy: policy_of(id), level: child.level };
        list.extend(pairs(child.traffic()).map(|selector| (child.priority, selector, action)));
    }
    for (id, traffic) in manual {
        let action = spd::Action::protect(policy_of_manual(id));
        list.extend(pairs(traffic).map(|selector| (Child::PRIORITY, selector, action)));
    }
    list.sort_by_key(|(priority, ..)| *priority); // stable
    (0..)
        .zip(list)
        .map(|(number, (priority, selector, action))| Rule { id: RuleId(number), priority, selector, action })
        .collect()
}

/// How many rules a configuration makes.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::policy::count;
/// let (config, _) = Config::parse("[[policy]]\naction = \"discard\"\nremote = \"10.0.0.0/8\"\n").unwrap();
/// assert_eq!(count(&config), 1);
/// ```
pub fn count(config: &Config) -> usize {
    let protect = config.traffic().map(|traffic| pairs(traffic).count());
    let policies = config.policies.iter().map(|policy| policy_selectors(policy).count());
    protect.chain(policies).fold(0, usize::saturating_add)
}

/// The selectors of a `[[policy]]`: without addresses, one for each family.
fn policy_selectors(policy: &Policy) -> impl Iterator<Item = Selector> {
    let side = |addrs: Option<AddrRange>, any: AddrRange, ports: PortRange| TrafficSelector {
        addrs: addrs.unwrap_or(any),
        protocol: policy.protocol,
        ports,
    };
    let families = [AddrRange::ANY_V4, AddrRange::ANY_V6].into_iter().filter(|any| {
        let fits = |side: &Option<AddrRange>| side.is_none_or(|range| range.is_ipv4() == any.is_ipv4());
        fits(&policy.local) && fits(&policy.remote)
    });
    families.map(move |any| Selector {
        local: side(policy.local, any, policy.local_ports),
        remote: side(policy.remote, any, policy.remote_ports),
    })
}

/// Each selector of our side with each of the peer's side that a packet could fit as well.
fn pairs(Traffic { local, remote }: Traffic<'_>) -> impl Iterator<Item = Selector> {
    let meet = |local: &TrafficSelector, remote: &TrafficSelector| {
        local.addrs.is_ipv4() == remote.addrs.is_ipv4()
            && (local.protocol == 0 || remote.protocol == 0 || local.protocol == remote.protocol)
    };
    local.iter().flat_map(move |local| {
        remote
            .iter()
            .filter(move |remote| meet(local, remote))
            .map(|remote| Selector { local: *local, remote: *remote })
    })
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{assert_eq, format};

    use ipsec_core::spd::Direction;

    use super::*;
    use crate::config::selector::Selector as Shown;
    use crate::config::{Config, Diff};

    fn shown(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let counted = count(&config);
        let mut peers = Peers::default();
        peers.replace(config.peers, &Diff::default());
        let show = |rule: &Rule| {
            let (local, remote) = (Shown(&rule.selector.local).to_string(), Shown(&rule.selector.remote).to_string());
            let action = match rule.action {
                spd::Action::Protect { policy, .. } => {
                    let (_, peer, child) = peers.get_child(child_of(policy)).unwrap();
                    format!("{}/{}", peer.name, child.name)
                }
                other => format!("{other:?}").to_lowercase(),
            };
            format!("{} {local} {remote} {action}", rule.priority)
        };
        let manual = (0..).map(ManualId).zip(config.manual.iter().map(crate::config::ManualPair::traffic));
        let rules = rules(&config.policies, &peers, manual);
        assert_eq!(rules.len(), counted, "what is counted ahead is what is made");
        rules.iter().map(show).collect()
    }

    const PEER: &str = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                        psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n";

    #[test]
    fn policies_and_children_stand_in_one_list_by_priority() {
        let text = format!(
            "{PEER}local-ts = \"10.2.0.0/16\"\nremote-ts = [\"10.1.0.0/16\", \"10.3.0.0/16[tcp]\"]\n\
             [[policy]]\naction = \"bypass\"\npriority = 2000\nlocal = \"10.2.0.0/16\"\n\
             [[policy]]\naction = \"bypass\"\nprotocol = \"tcp\"\nremote-port = \"22\"\nremote = \"10.1.0.0/16\"\n\
             [[policy]]\naction = \"discard\"\npriority = 1000\nprotocol = \"udp\"\nlocal = \"10.2.0.1\"\n"
        );
        assert_eq!(
            shown(&text),
            [
                "100 0.0.0.0/0[tcp] 10.1.0.0/16[tcp/22] bypass",
                "1000 10.2.0.1/32[udp] 0.0.0.0/0[udp] discard",
                "1000 10.2.0.0/16 10.1.0.0/16 a/n",
                "1000 10.2.0.0/16 10.3.0.0/16[tcp] a/n",
                "2000 10.2.0.0/16 0.0.0.0/0 bypass",
            ]
        );
    }

    #[test]
    fn both_families_are_meant_where_none_is_said_and_never_mixed() {
        let text = format!(
            "{PEER}local-ts = [\"10.2.0.0/16\", \"2001:db8:2::/48\"]\nremote-ts = [\"10.1.0.0/16\", \"2001:db8:1::/48\"]\n\
             [[policy]]\naction = \"discard\"\nprotocol = \"89\"\n"
        );
        assert_eq!(
            shown(&text),
            [
                "100 0.0.0.0/0[89] 0.0.0.0/0[89] discard",
                "100 ::/0[89] ::/0[89] discard",
                "1000 10.2.0.0/16 10.1.0.0/16 a/n",
                "1000 2001:db8:2::/48 2001:db8:1::/48 a/n",
            ]
        );
    }

    #[test]
    fn e5_one_policy_is_three_one_way_entries() {
        let config = "[[policy]]\naction = \"bypass\"\nlocal = \"10.2.0.0/16\"\nremote = \"10.1.0.0/16\"\n\
                      protocol = \"tcp\"\nremote-port = \"22\"\n";
        let config = Config::parse(config).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let rules = rules(&config.policies, &Peers::default(), core::iter::empty());
        assert_eq!(rules.len(), 1);
        let entries = rules[0]
            .entries()
            .map(|entry| (entry.direction, Shown(&entry.source).to_string(), Shown(&entry.destination).to_string()));
        let (ours, theirs) = (String::from("10.2.0.0/16[tcp]"), String::from("10.1.0.0/16[tcp/22]"));
        assert_eq!(
            entries,
            [
                (Direction::Out, ours.clone(), theirs.clone()),
                (Direction::In, theirs.clone(), ours.clone()),
                (Direction::Forward, theirs, ours),
            ]
        );
    }
}
