//! `[[policy]]`.

use ipsec_core::net::PortRange;

use super::grammar::{Bad, icmp, ports, protocol};
use super::reader::{Placed, Reader, Section};
use super::selector::{addresses, has_ports};
use super::{Action, Policy};

const PORT: &str = "a port in quotes, such as \"22\" or \"1000-2000\"";

/// Reads one policy.
pub(super) fn read<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>) -> Option<Policy> {
    reader.known(section);
    let action = reader.choice(section, "action", &[("bypass", Action::Bypass), ("discard", Action::Discard)]);
    if !section.has("action") {
        reader.missing(section, "action", "write action = \"bypass\" or action = \"discard\"");
    }
    let number = reader.read(section, "protocol", "a protocol in quotes, such as \"tcp\" or \"6\"", protocol);
    let number = number.map_or(0, |word| word.value);
    let local = range(reader, section, "local");
    let remote = range(reader, section, "remote");
    if let (Some(local), Some(remote)) = (&local, &remote)
        && local.is_ipv4() != remote.is_ipv4()
    {
        let at = section.place("remote");
        reader.error(at, "\"local\" and \"remote\" of two families", "both IPv4 or both IPv6", "");
    }
    let (local_ports, remote_ports) = if section.has("icmp-type") {
        // A selector holds type and code of ICMP in its ports, on both sides alike (RFC 7296 §3.13.1).
        let types = icmp_types(reader, section, number);
        (types, types)
    } else {
        (port_range(reader, section, "local-port", number), port_range(reader, section, "remote-port", number))
    };
    let priority = reader.number(section, "priority", 0..=1_000_000_u32).unwrap_or(Policy::PRIORITY);
    let policy = Policy {
        at: reader.position(section.at),
        action: action?,
        local,
        remote,
        protocol: number,
        local_ports,
        remote_ports,
        priority,
    };
    if policy.action == Action::Bypass && !section.has_beside(&["action", "priority"]) {
        reader.warn(section.at, "this policy lets every packet through in clear; say protocol, address or port");
    }
    Some(policy)
}

fn range<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, key: &str) -> Option<ipsec_core::net::AddrRange> {
    let expected = "a network, a range of addresses, an address, or \"any\"";
    let word: Placed<Option<_>> = reader.read(section, key, expected, |word| match word {
        "any" => Ok(None),
        _ => addresses(word).map(Some),
    })?;
    let (range, host_bits) = word.value?;
    if host_bits {
        reader.warn(word.at, super::peer::host_bits_warning(&range));
    }
    Some(range)
}

fn port_range<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, key: &str, number: u8) -> PortRange {
    let range = reader.read(section, key, PORT, |word| match ports(word) {
        Ok(range) if range != PortRange::ANY && !has_ports(number) => {
            Err(Bad::whole(word, "no port without a protocol that has ports").hint("add protocol = \"tcp\" or \"udp\""))
        }
        other => other,
    });
    range.map_or(PortRange::ANY, |word| word.value)
}

fn icmp_types<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, number: u8) -> PortRange {
    let range =
        reader.read(section, "icmp-type", "an ICMP type in quotes, such as \"8\" or \"3/4\"", |word| match number {
            1 | 58 => icmp(word, number == 58),
            _ => Err(Bad::whole(word, "no ICMP type without ICMP").hint("add protocol = \"icmp\" or \"icmpv6\"")),
        });
    for key in ["local-port", "remote-port"] {
        if section.has(key) {
            reader.error(section.place(key), "a port beside \"icmp-type\"", "one of them", "ICMP has no ports");
        }
    }
    range.map_or(PortRange::ANY, |word| word.value)
}
