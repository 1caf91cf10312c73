//! What is said while nothing has failed: what is waited for, and what is in the way.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use ike_core::registry::ExchangeType;
use ipsec_core::net::Path;

use super::words::{Cause, Kind};

/// Why this machine did not send something.
///
/// ```
/// use gateway_core::cause::{Cause, Unsent};
/// let unsent = Unsent { why: "Operation not permitted".into(), filtered: true };
/// let cause = Cause::unsent("IKE_SA_INIT", "192.0.2.1:500", &unsent);
/// assert!(cause.hint.starts_with("a firewall of this machine drops it"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// What it says.
    pub why: String,
    /// Its packet filter does not let it out.
    pub filtered: bool,
}

/// Why a message of ours does not arrive, as ICMP has it.
///
/// ```
/// use gateway_core::cause::{Cause, Unreachable};
/// use ipsec_core::net::Path;
/// let path = Path { local: "192.0.2.2:500".parse().unwrap(), remote: "192.0.2.1:500".parse().unwrap() };
/// let cause = Cause::unreachable(path.remote.ip(), path, Unreachable::Port);
/// assert_eq!(cause.text, "192.0.2.1 says that nothing listens at 192.0.2.1:500 (ICMP, unproven)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing listens at that port.
    Port,
    /// There is no such host.
    Host,
    /// Nothing leads there.
    Network,
    /// A firewall does not let it pass.
    Forbidden,
}

impl Cause {
    /// The code of [`Cause::unresolved`].
    pub const UNRESOLVED: &'static str = "name-not-resolved";

    /// A DNS name of the peer has no address.
    pub fn unresolved(name: &str, why: &str) -> Self {
        Self {
            code: Self::UNRESOLVED,
            text: format!("the peer's name {name} does not resolve: {why}"),
            hint: "check the name under \"remote\" and this machine's resolver".to_string(),
            kind: Kind::Absence,
        }
    }

    /// The code of [`Cause::unroutable`].
    pub const UNROUTABLE: &'static str = "no-route";

    /// This machine does not know how to reach the peer.
    pub fn unroutable(why: &str) -> Self {
        Self {
            code: Self::UNROUTABLE,
            text: format!("there is no way to the peer's address: {why}"),
            hint: "check this machine's routes and the address under \"local\"".to_string(),
            kind: Kind::Absence,
        }
    }

    /// Our end of a connection is no way to the peer any more.
    pub fn readdressed(local: IpAddr) -> Self {
        Self {
            code: "address-changed",
            text: format!("our address {local} is not here, or the way to the peer leads from another one now"),
            hint: "it is called anew, as soon as there is a way to it from an address under \"local\"".to_string(),
            kind: Kind::Absence,
        }
    }

    /// What stands for the peer is an address that it cannot have.
    pub fn nobodys(address: IpAddr, what: &str) -> Self {
        Self {
            code: "not-a-peer",
            text: format!("the peer's name stands for {address}, {what}"),
            hint: "correct what DNS, or /etc/hosts, says of it, or write the peer's address under \"remote\""
                .to_string(),
            kind: Kind::Absence,
        }
    }

    /// Only the peer can begin.
    pub fn waiting() -> Self {
        Self {
            code: "address-unknown",
            text: "with remote = \"any\" there is no address to call".to_string(),
            hint: "the peer has to begin, or write its address under \"remote\"".to_string(),
            kind: Kind::Absence,
        }
    }

    /// The peer is to begin. `callable`: it has an address, so that we could.
    pub fn for_the_peer(callable: bool) -> Self {
        Self {
            code: "waiting-for-peer",
            text: "the peer has not called, and start = \"passive\" leaves it to the peer".to_string(),
            hint: match callable {
                true => "start it on the other side, or here with `portcullis up`",
                false => "start it on the other side",
            }
            .to_string(),
            kind: Kind::Intent,
        }
    }

    /// A packet is to begin.
    pub fn for_a_packet() -> Self {
        Self {
            code: "waiting-for-packet",
            text: "no packet for it has come, and start = \"on-demand\" waits for one".to_string(),
            hint: String::new(),
            kind: Kind::Intent,
        }
    }

    /// The peer limits for how long it takes us for authenticated.
    pub fn for_the_lifetime() -> Self {
        Self {
            code: "authentication-lifetime",
            text: "the peer wants to be shown anew who we are (AUTH_LIFETIME, RFC 4478)".to_string(),
            hint: String::new(),
            kind: Kind::Intent,
        }
    }

    /// Where the peer is is being found out.
    pub fn for_an_address() -> Self {
        Self {
            code: "waiting-for-address",
            text: "the peer's address is being looked up".to_string(),
            hint: String::new(),
            kind: Kind::Absence,
        }
    }

    /// A message of ours, or ESP, could not be sent: nothing can answer it.
    pub fn unsent(what: impl fmt::Display, remote: impl fmt::Display, unsent: &Unsent) -> Self {
        let hint = match unsent.filtered {
            true => {
                "a firewall of this machine drops it (`nft list ruleset` and `iptables-save` show the rules), or its table of \
                 connections is full: let UDP 500, UDP 4500 and IP protocol 50 out"
            }
            false => {
                "`portcullis doctor` says whether \"local\" is an address of this machine, and whether a route leads there"
            }
        };
        Self {
            code: "not-sent",
            text: format!("{what} to {remote} could not be sent: {}", unsent.why),
            hint: hint.to_string(),
            kind: Kind::Absence,
        }
    }

    /// Somebody on the way, the peer's machine, or our own kernel says that no message of ours arrives.
    pub fn unreachable(from: IpAddr, path: Path, why: Unreachable) -> Self {
        let remote = path.remote.ip();
        let said = match (from == path.local.ip(), why) {
            (true, Unreachable::Host) => format!("this machine found no host with the address {remote}"),
            (true, Unreachable::Network) => format!("this machine knows no way to {remote}"),
            (false, Unreachable::Host) => format!("{from} says that it found no host with the address {remote}"),
            (false, Unreachable::Network) => format!("{from} says that it knows no way to {remote}"),
            (_, Unreachable::Port) => format!("{from} says that nothing listens at {}", path.remote),
            (_, Unreachable::Forbidden) => format!("{from} says that a firewall lets nothing pass to {}", path.remote),
        };
        Self {
            code: "unreachable",
            text: format!("{said} (ICMP, unproven)"),
            hint: "check the address under \"remote\", that IKE runs there, and that UDP 500 and 4500 pass on the way"
                .to_string(),
            kind: Kind::Absence,
        }
    }

    /// A message of ours waits for its answer.
    pub fn unanswered(exchange: ExchangeType, remote: SocketAddr, repeated: u32) -> Self {
        let again = match repeated {
            0 => String::new(),
            1 => ", repeated once".to_string(),
            times => format!(", repeated {times} times"),
        };
        Self {
            code: "waiting-for-answer",
            text: format!("no answer to {exchange} from {remote} yet{again}"),
            hint: match (repeated, exchange) {
                (0 | 1, _) => String::new(),
                (_, ExchangeType::IKE_AUTH) => {
                    "check that UDP 4500 passes both ways, also fragmented packets".to_string()
                }
                (_, ExchangeType::CREATE_CHILD_SA) => {
                    "see what the peer's log says of this request; where it did not arrive, check that UDP 500 and 4500 pass"
                        .to_string()
                }
                _ => "check the address, that the peer runs, and that UDP 500 and 4500 pass on the way".to_string(),
            },
            kind: Kind::Absence,
        }
    }

    /// The peer repeats a request that we answered.
    pub fn unheard(remote: SocketAddr, repeated: u8) -> Self {
        Self {
            code: "answers-do-not-arrive",
            text: format!(
                "the peer at {remote} sent its last request {} times: our answers do not arrive there",
                repeated.saturating_add(1)
            ),
            hint: "check that UDP 4500 passes both ways between the two, also fragmented packets".to_string(),
            kind: Kind::Absence,
        }
    }

    /// Callers from two places take the connection of one peer from each other.
    pub fn two_places(one: SocketAddr, other: SocketAddr) -> Self {
        Self {
            code: "two-places",
            text: format!("the peer calls from two places in turn, {one} and {other}: each call ends the connection before it"),
            hint: "where two machines have this identity and key, as a cloned one has, give each its own, and a [[peer]] of its \
                   own here; else the peer's address changes all the time"
                .to_string(),
            kind: Kind::Refusal,
        }
    }

    /// Packets go out and none comes in.
    pub fn one_way() -> Self {
        Self {
            code: "one-way",
            text: "packets go out and none comes back, though some did before: new keys are negotiated".to_string(),
            hint: "the peer may have lost its SAs; if that goes on, look at the way of ESP between the two".to_string(),
            kind: Kind::Absence,
        }
    }

    /// The same, and new keys have not ended it.
    pub fn one_way_still() -> Self {
        Self {
            text: "packets go out and none comes back, though some did before, and new keys did not end that".to_string(),
            hint: "look at the way of ESP between the two, at firewalls above all (`portcullis doctor`, and the peer's); where \
                   nothing is to come back, all is well"
                .to_string(),
            ..Self::one_way()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_73_what_icmp_says_is_called_unproven_once_and_our_own_kernel_is_this_machine() {
        let (local, remote) = ("192.0.2.2:500".parse().unwrap(), "192.0.2.1:500".parse().unwrap());
        let told = |from: &str, why| Cause::unreachable(from.parse().unwrap(), Path { local, remote }, why).text;
        let ours = told("192.0.2.2", Unreachable::Host);
        assert_eq!(ours, "this machine found no host with the address 192.0.2.1 (ICMP, unproven)");
        assert!(told("192.0.2.2", Unreachable::Network).starts_with("this machine knows no way to 192.0.2.1 "));
        assert!(told("198.51.100.1", Unreachable::Host).starts_with("198.51.100.1 says that it found no host"));
        let port = told("192.0.2.1", Unreachable::Port);
        assert_eq!(port, "192.0.2.1 says that nothing listens at 192.0.2.1:500 (ICMP, unproven)");
        assert!(told("192.0.2.1", Unreachable::Forbidden).matches("unproven").count() == 1);
    }
}
