//! Identities of IKE_AUTH (RFC 7296 §3.5) as text.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ike_core::registry::IdKind;
use ike_core::wire::id::Id;

use super::grammar::{Bad, dns_name};
use super::secret::unhex;

/// An identity, owned. Prints as the configuration reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    kind: IdKind,
    data: Vec<u8>,
}

impl Identity {
    /// The same, borrowed, as IKE sends it.
    pub fn id(&self) -> Id<'_> {
        Id { kind: self.kind, data: &self.data }
    }

    fn new(kind: IdKind, data: &[u8]) -> Self {
        Self { kind, data: data.to_vec() }
    }
}

impl From<IpAddr> for Identity {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::new(IdKind::IPV4_ADDR, &address.octets()),
            IpAddr::V6(address) => Self::new(IdKind::IPV6_ADDR, &address.octets()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

/// Longest identity, octets.
const ID_MAX: usize = 128;

/// Reads an identity; its kind follows from its shape unless a prefix (`fqdn:`, `email:`, `keyid:`) says it.
pub(super) fn identity(word: &str) -> Result<Identity, Bad> {
    const EXPECTED: &str = "a host name, an address, an e-mail address, or \"@hex:…\" for a KEY_ID";
    let whole = |hint: &'static str| Bad::whole(word, EXPECTED).hint(hint);
    if word.is_empty() || word.len() > ID_MAX {
        return Err(whole("an identity has 1 to 128 octets"));
    }
    if let Some(digits) = word.strip_prefix("@hex:") {
        return match unhex(digits) {
            Ok(octets) if !octets.is_empty() => Ok(Identity { kind: IdKind::KEY_ID, data: octets }),
            Ok(_) => Err(whole("after \"@hex:\" stand the octets in hexadecimal")),
            Err(at) => {
                Err(Bad::part(at.saturating_add(5), digits.get(at..).unwrap_or(""), "pairs of hexadecimal digits"))
            }
        };
    }
    match word.split_once(':') {
        Some(("keyid", "")) => return Err(whole("after \"keyid:\" stands the text of the KEY_ID")),
        Some(("keyid", text)) => return Ok(Identity::new(IdKind::KEY_ID, text.as_bytes())),
        Some(("fqdn", name)) => return fqdn(name).map_err(|bad| bad.after(5)),
        Some(("email", text)) => return email(text).map_err(|bad| bad.after(6)),
        _ => {}
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(address.into());
    }
    match word.find('@') {
        Some(0) => Err(whole("write the name without \"@\", or \"@hex:…\" for a KEY_ID")),
        Some(_) => email(word),
        None => fqdn(word).map_err(|_| whole("for other text write \"keyid:…\"")),
    }
}

fn fqdn(name: &str) -> Result<Identity, Bad> {
    dns_name(name).map(|name| Identity::new(IdKind::FQDN, name.as_bytes()))
}

fn email(text: &str) -> Result<Identity, Bad> {
    match text.split_once('@') {
        Some((user, domain))
            if !user.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && text.chars().all(|letter| letter.is_ascii_graphic()) =>
        {
            Ok(Identity::new(IdKind::RFC822_ADDR, text.as_bytes()))
        }
        _ => Err(Bad::whole(text, "an e-mail address such as \"user@example.org\"")),
    }
}
