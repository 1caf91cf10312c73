//! A machine as the world has it: other daemons' rules and routes, a second uplink, strict filters, a firewall.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::frame::{Kind, Packet, classify};
use super::iproute::{batch, ip};
use super::link;
use super::namespace::Namespace;
use super::nat::nft;
use super::watch::{Crossing, Watch};
use crate::outcome::{Result, ensure};

/// Rules and routes that other programs have put there: one rule that is asked before ours, one with the number of ours,
/// one behind ours, and routes of another daemon. What somebody puts into our own table is not protected.
const FOREIGN: [(&str, &str); 2] = [
    (
        "-4",
        "rule add from 10.99.0.0/16 lookup 99 pref 100
rule add to 203.0.113.128/25 lookup 100 pref 4500
rule add fwmark 0x77 lookup 101 pref 20000
route add 203.0.113.128/25 via 198.51.100.1 dev wan2 table 100 proto 186
route add default via 198.51.100.1 dev wan2 table 99 proto 186
route add 10.200.0.0/16 via 198.51.100.1 dev wan2 proto 186
",
    ),
    (
        "-6",
        "rule add from fd99::/64 lookup 99 pref 100
rule add to 2001:db8:fe::/48 lookup 100 pref 4500
rule add fwmark 0x77 lookup 101 pref 20000
route add 2001:db8:fe::/48 via 2001:db8:ff::1 dev wan2 table 100 proto 186
route add default via 2001:db8:ff::1 dev wan2 table 99 proto 186
",
    ),
];

/// A firewall that lets through what a gateway needs, and translates what leaves for the Internet.
const FIREWALL: &str = "
table inet somebody {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname { lo, lan, pcl0 } accept
    udp dport { 500, 4500 } accept
    meta l4proto { esp, icmp, ipv6-icmp } accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname lan oifname { pcl0, wan, wan2 } accept
    iifname pcl0 oifname lan accept
    ct state established,related accept
  }
}
table ip somebody {
  chain out { type nat hook postrouting priority 100; oifname { wan, wan2 } masquerade; }
}
";

/// What others have on the gateway's machine: a second uplink `wan2` (198.51.100.0/24, 2001:db8:ff::/64) that has the
/// default route, a firewall, rules and routes.
pub(crate) struct Wild {
    _watch: Watch,
    clear: Arc<Mutex<BTreeSet<String>>>,
    foreign: BTreeSet<String>,
    /// The second provider; it also answers at 203.0.113.53.
    pub(crate) provider: Namespace,
}

impl Wild {
    /// Makes a machine with interfaces `lan` and `wan` wild. `peer` is how the other site is reached when the default
    /// route is gone: words of an `ip route add`.
    ///
    /// # Errors
    /// When the kernel or a tool refuses.
    pub(crate) fn new(gateway: &Namespace, peer: Option<&str>) -> Result<Self> {
        let provider = Namespace::new("provider")?;
        link::veth((gateway, "wan2"), (&provider, "eth"))?;
        ip(gateway, "addr add 198.51.100.2/24 dev wan2")?;
        ip(gateway, "addr add 2001:db8:ff::2/64 dev wan2 nodad")?;
        ip(&provider, "addr add 198.51.100.1/24 dev eth")?;
        ip(&provider, "addr add 2001:db8:ff::1/64 dev eth")?;
        ip(&provider, "addr add 203.0.113.53/32 dev lo")?;
        for (family, lines) in FOREIGN {
            batch(gateway, family, lines)?;
        }
        if let Some(peer) = peer {
            ip(gateway, &format!("route add {peer}"))?;
        }
        ip(gateway, "route replace default via 198.51.100.1 dev wan2")?;
        ip(gateway, "-6 route replace default via 2001:db8:ff::1 dev wan2")?;
        gateway.sysctl("ipv4.conf.all.rp_filter", "1")?;
        nft(gateway, FIREWALL)?;
        // Duplicate address detection: what comes now is tentative for a second.
        gateway.sysctl("ipv6.conf.lan.accept_dad", "1")?;
        for words in ["-6 addr flush dev lan scope global", "addr add fd01::1/64 dev lan"] {
            ip(gateway, words)?;
        }
        let clear = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&clear);
        let watch = Watch::start(gateway, "wan2", move |crossing, frame| {
            if crossing == Crossing::Out
                && classify(frame) == Kind::Clear
                && let Some(packet) = Packet::in_frame(frame)
                && !packet.to.is_multicast()
            {
                let words = format!("{} > {} protocol {}", packet.from, packet.to, packet.protocol);
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(words);
            }
        })?;
        Ok(Self { _watch: watch, clear, foreign: foreign(gateway)?, provider })
    }

    /// What left through the second uplink and is no IPsec, as `10.1.0.10 > 10.2.0.10 protocol 1`.
    pub(crate) fn clear_packets(&self) -> BTreeSet<String> {
        self.clear.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that what others have put there is as they left it.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn is_untouched(&self, gateway: &Namespace) -> Result {
        let now = foreign(gateway)?;
        let missing: Vec<&String> = self.foreign.difference(&now).collect();
        ensure(missing.is_empty(), || format!("gone from the machine: {missing:?}"))
    }
}

/// The rules and routes of the machine that are not ours, a line each.
fn foreign(gateway: &Namespace) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for words in ["-4 rule show", "-6 rule show", "-4 route show table all", "-6 route show table all"] {
        let text = ip(gateway, words)?;
        let own = |line: &&str| !line.contains("pcl0") && !line.contains("fe80") && !line.contains("multicast");
        lines.extend(text.lines().filter(own).map(|line| format!("{words}: {}", line.trim())));
    }
    Ok(lines)
}
