//! The payloads of an IKE message, as trees.

use std::net::{Ipv4Addr, Ipv6Addr};

use ike_core::error::Malformed;
use ike_core::registry::{CertEncoding, CpAttributeKind, GroupId, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::auth::Auth;
use ike_core::wire::cert::{Cert, CertReq};
use ike_core::wire::chain::{Chain, Payload};
use ike_core::wire::cp::{Cp, CpAttribute};
use ike_core::wire::delete::Delete;
use ike_core::wire::eap::Eap;
use ike_core::wire::id::Id;
use ike_core::wire::ke::Ke;
use ike_core::wire::nonce::Nonce;
use ike_core::wire::notify::Notify;
use ike_core::wire::sa::{KeyLength, Proposal, Sa, Transform, TransformSpec};
use ike_core::wire::sk::Skf;
use ike_core::wire::ts::Ts;
use ipsec_core::net::{PortRange, TrafficSelector};

use super::tree::{Node, hex};

/// Octets of a hash of a trust anchor's key (RFC 7296 §3.7).
const AUTHORITY_LEN: usize = 20;

/// A node for each payload; `first` is the type of the first one in `body`. What comes behind something that is no payload is
/// not looked for.
pub(super) fn payloads(first: PayloadType, body: &[u8]) -> Vec<Node> {
    Chain::new(first, body).map(|payload| payload.map_or_else(|Malformed| broken(), |payload| node(&payload))).collect()
}

/// Where the chain of payloads breaks off.
fn broken() -> Node {
    Node::new("malformed").with("error", "a payload reaches out of what holds it, or is missing")
}

fn node(payload: &Payload<'_>) -> Node {
    let (kind, body) = (payload.kind, payload.body);
    let node = Node::new(kind);
    let node = if payload.critical { node.with("critical", true) } else { node };
    content(node, kind, body).unwrap_or_else(|Malformed| Node::malformed(kind, body))
}

fn content(node: Node, kind: PayloadType, body: &[u8]) -> Result<Node, Malformed> {
    Ok(match kind {
        PayloadType::SA => node.holding(Sa::parse(body)?.proposals().map(|given| proposal(&given))),
        PayloadType::KE => {
            let Ke { group, public } = Ke::parse(body)?;
            node.word("method", group).with("length", public.len()).octets("public", public)
        }
        PayloadType::ID_I | PayloadType::ID_R => {
            let id = Id::parse(body)?;
            node.word("type", id.kind).word("id", id)
        }
        PayloadType::CERT => {
            let Cert { encoding, data } = Cert::parse(body)?;
            node.word("encoding", encoding).with("length", data.len()).octets("data", data)
        }
        PayloadType::CERTREQ => {
            let CertReq { encoding, authorities } = CertReq::parse(body)?;
            let node = node.word("encoding", encoding);
            if encoding == CertEncoding::X509_SIGNATURE && authorities.len().is_multiple_of(AUTHORITY_LEN) {
                let each = authorities.chunks(AUTHORITY_LEN);
                node.holding(each.map(|authority| Node::new("authority").octets("hash", authority)))
            } else {
                node.octets("data", authorities)
            }
        }
        PayloadType::AUTH => {
            let Auth { method, data } = Auth::parse(body)?;
            node.word("method", method).with("length", data.len()).octets("data", data)
        }
        PayloadType::NONCE => node.with("length", body.len()).octets("data", Nonce::parse(body)?.as_slice()),
        PayloadType::NOTIFY => notify(node, &Notify::parse(body)?),
        PayloadType::DELETE => {
            let delete = Delete::parse(body)?;
            let node = node.word("protocol", delete.protocol);
            node.holding(delete.spis().map(|spi| Node::new("SPI").octets("spi", spi)))
        }
        PayloadType::VENDOR => {
            let text = Some(body).filter(|body| body.iter().all(|octet| matches!(octet, b' '..=b'~')));
            let node = node.octets("data", body);
            match text.and_then(|text| str::from_utf8(text).ok()).filter(|text| !text.is_empty()) {
                Some(text) => node.with("text", text),
                None => node,
            }
        }
        PayloadType::TS_I | PayloadType::TS_R => {
            let ts = Ts::parse(body)?;
            let node = if ts.unknown() > 0 { node.with("unknown", ts.unknown()) } else { node };
            node.holding(ts.selectors().map(|ts| selector(&ts)))
        }
        PayloadType::SK => node.with("length", body.len()),
        PayloadType::SKF => {
            let Skf { number, total, body } = Skf::parse(body)?;
            node.with("number", number).with("total", total).with("length", body.len())
        }
        PayloadType::CP => {
            let cp = Cp::parse(body)?;
            node.word("type", cp.kind).holding(cp.attributes().map(|given| attribute(&given)))
        }
        PayloadType::EAP => {
            let Eap { code, identifier, data } = Eap::parse(body)?;
            node.with("code", code).with("identifier", identifier).octets("data", data)
        }
        _ => node.octets("data", body),
    })
}

fn proposal(proposal: &Proposal<'_>) -> Node {
    let node = Node::new("proposal").with("number", proposal.number).word("protocol", proposal.protocol);
    node.octets("spi", proposal.spi).holding(proposal.transforms().map(|given| transform(&given)))
}

fn transform(transform: &Transform<'_>) -> Node {
    let name = TransformSpec { key_bits: None, ..TransformSpec::from(transform) };
    let node = Node::new("transform").word("type", transform.kind).word("name", name);
    match transform.key_length() {
        KeyLength::Absent => node,
        KeyLength::Bits(bits) => node.with("key_bits", bits),
        KeyLength::Unacceptable => node.with("attributes", "unacceptable"),
    }
}

fn notify(node: Node, notify: &Notify<'_>) -> Node {
    let node = node.word("type", notify.kind);
    let node = if notify.protocol == ProtocolId::NONE { node } else { node.word("protocol", notify.protocol) };
    let node = node.octets("spi", notify.spi).octets("data", notify.data);
    let numbers = || notify.data.as_chunks().0.iter().map(|number| u16::from_be_bytes(*number));
    match notify.kind {
        NotifyKind::INVALID_KE_PAYLOAD => {
            node.holding(numbers().map(|group| Node::new("wants").word("method", GroupId(group))))
        }
        NotifyKind::SIGNATURE_HASH_ALGORITHMS => {
            node.holding(numbers().map(|hash| Node::new("hash").word("name", hash_name(hash))))
        }
        _ => node,
    }
}

/// Hash algorithms of signatures (RFC 7427 §7, RFC 8420 §3).
fn hash_name(number: u16) -> String {
    match number {
        1 => "SHA1".to_owned(),
        2 => "SHA2-256".to_owned(),
        3 => "SHA2-384".to_owned(),
        4 => "SHA2-512".to_owned(),
        5 => "Identity".to_owned(),
        number => format!("hash {number}"),
    }
}

fn selector(TrafficSelector { addrs, protocol, ports }: &TrafficSelector) -> Node {
    let node = Node::new("selector").word("from", addrs.start()).word("to", addrs.end());
    let node = if *protocol == 0 { node.with("protocol", "any") } else { node.with("protocol", *protocol) };
    match *ports {
        PortRange::ANY => node.with("ports", "any"),
        PortRange::OPAQUE => node.with("ports", "opaque"),
        PortRange { start, end } => node.word("ports", format_args!("{start}-{end}")),
    }
}

/// An address where there is one, with what its length stands behind; all else is octets.
fn attribute(CpAttribute { kind, value }: &CpAttribute<'_>) -> Node {
    let node = Node::new("attribute").word("type", kind);
    let text = match (*kind, *value) {
        (
            CpAttributeKind::INTERNAL_IP4_ADDRESS
            | CpAttributeKind::INTERNAL_IP4_NETMASK
            | CpAttributeKind::INTERNAL_IP4_DNS
            | CpAttributeKind::INTERNAL_IP4_NBNS
            | CpAttributeKind::INTERNAL_IP4_DHCP,
            [a, b, c, d],
        ) => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
        (CpAttributeKind::INTERNAL_IP6_ADDRESS | CpAttributeKind::INTERNAL_IP6_SUBNET, value) => value
            .split_first_chunk::<16>()
            .and_then(|(address, prefix)| Some((Ipv6Addr::from_octets(*address), prefix.first_chunk::<1>()?)))
            .map(|(address, [prefix])| format!("{address}/{prefix}")),
        (CpAttributeKind::INTERNAL_IP6_DNS | CpAttributeKind::INTERNAL_IP6_DHCP, value) => {
            value.first_chunk::<16>().map(|address| Ipv6Addr::from_octets(*address).to_string())
        }
        (CpAttributeKind::INTERNAL_IP4_SUBNET, [a, b, c, d, mask @ ..]) => {
            let mask =
                mask.first_chunk::<4>().map_or_else(|| hex(mask), |mask| Ipv4Addr::from_octets(*mask).to_string());
            Some(format!("{}/{mask}", Ipv4Addr::new(*a, *b, *c, *d)))
        }
        _ => None,
    };
    match text {
        Some(text) => node.with("value", text),
        None => node.octets("value", value),
    }
}
