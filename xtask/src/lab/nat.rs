//! A router in front of a gateway that translates its address.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::link;
use super::namespace::Namespace;
use crate::outcome::{Result, ensure};

/// How addresses are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Translation {
    /// One public address for the gateway alone, all ports both ways: a cloud's elastic IP.
    OneToOne,
    /// A public address shared by many, ports chosen at random, nothing comes in unasked: a home's router.
    Masquerade,
}

/// The router.
pub(crate) struct Nat {
    /// `inside` faces the gateway, `outside` the wire.
    pub(crate) router: Namespace,
    translation: Translation,
    private: Ipv4Addr,
    public: Ipv4Addr,
}

impl Nat {
    /// Sets the translation up in a namespace that has interfaces `inside` and `outside`.
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub(crate) fn new(
        router: Namespace,
        translation: Translation,
        private: Ipv4Addr,
        public: Ipv4Addr,
    ) -> Result<Self> {
        router.forward()?;
        let nat = Self { router, translation, private, public };
        nat.load((20_000, 29_999))?;
        Ok(nat)
    }

    fn load(&self, ports: (u16, u16)) -> Result {
        let Self { private, public, .. } = self;
        let rules = match self.translation {
            Translation::OneToOne => format!(
                "chain in {{ type nat hook prerouting priority -100; ip daddr {public} dnat to {private}; }}
                 chain out {{ type nat hook postrouting priority 100; ip saddr {private} snat to {public}; }}
"
            ),
            Translation::Masquerade => format!(
                "chain out {{ type nat hook postrouting priority 100;
                   oifname outside ip saddr {private} meta l4proto udp masquerade to :{}-{} random; }}
                 chain forward {{ type filter hook forward priority 0;
                   iifname outside ct state new drop; }}
",
                ports.0, ports.1
            ),
        };
        nft(&self.router, &format!("table ip lab\ndelete table ip lab\ntable ip lab {{ {rules} }}\n")).map(drop)
    }

    /// As after a restart of the router: every mapping is forgotten, new ones come from other ports.
    ///
    /// # Errors
    /// When nft or the kernel refuses.
    pub(crate) fn forget_mappings(&self) -> Result {
        self.load((40_000, 49_999))?;
        self.router.within(link::flush_conntrack)
    }

    /// UDP mappings vanish after so many seconds of silence.
    ///
    /// # Errors
    /// When the kernel has no connection tracking.
    pub(crate) fn udp_timeout(&self, seconds: u32) -> Result {
        self.router.sysctl("netfilter.nf_conntrack_udp_timeout", &seconds.to_string())?;
        self.router.sysctl("netfilter.nf_conntrack_udp_timeout_stream", &seconds.to_string())
    }
}

/// Gives `rules` to nft in `namespace`; its output.
///
/// # Errors
/// nft's words.
pub(crate) fn nft(namespace: &Namespace, rules: &str) -> Result<String> {
    let mut child = namespace.spawn(
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()),
    )?;
    child.stdin.take().ok_or("nft has no input")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure(output.status.success(), || format!("nft: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
