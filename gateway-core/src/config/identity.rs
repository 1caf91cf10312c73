//! Identities of IKE_AUTH (RFC 7296 §3.5) as text.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ike_core::registry::IdKind;
use ike_core::wire::id::{Id, ShortId};

use super::grammar::{Bad, dns_name};
use super::secret::unhex;

/// An identity, owned. Prints as the configuration reads it.
///
/// ```
/// use gateway_core::config::Identity;
/// use ike_core::registry::IdKind;
/// use ike_core::wire::id::Id;
/// use std::net::IpAddr;
/// let from_a_peer = Id { kind: IdKind::FQDN, data: b"gate.example" };
/// assert_eq!(Identity::from(from_a_peer).to_string(), "gate.example");
/// let of_an_address = Identity::from(IpAddr::from([192, 0, 2, 1]));
/// assert_eq!(of_an_address.id().kind, IdKind::IPV4_ADDR);
/// ```
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

    /// The same for those that match each other ([`Id::matches`]), and different for all others.
    pub(crate) fn key(&self) -> (IdKind, Vec<u8>) {
        let data = match self.kind {
            IdKind::FQDN | IdKind::RFC822_ADDR => self.data.to_ascii_lowercase(),
            _ => self.data.clone(),
        };
        (self.kind, data)
    }

    /// What a peer sent, as a configuration would name it.
    pub fn printed(sent: &ShortId) -> String {
        if sent.is_whole() { Self::from(sent.id()).to_string() } else { sent.to_string() }
    }

    /// Whether a configuration can name it.
    pub(crate) fn is_writable(&self) -> bool {
        identity(&self.to_string()).is_ok_and(|read| read == *self)
    }

    fn new(kind: IdKind, data: &[u8]) -> Self {
        Self { kind, data: data.to_vec() }
    }
}

impl From<Id<'_>> for Identity {
    fn from(id: Id<'_>) -> Self {
        Self::new(id.kind, id.data)
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
        let bare = self.id().to_string();
        let prefix = match self.kind {
            _ if bare != "any" && identity(&bare).is_ok_and(|read| read == *self) => "",
            IdKind::FQDN => "fqdn:",
            IdKind::RFC822_ADDR => "email:",
            _ => "",
        };
        write!(f, "{prefix}{bare}")
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
            Ok(octets) if !octets.is_empty() => Ok(Identity { kind: IdKind::KEY_ID, data: octets.to_vec() }),
            Ok(_) => Err(whole("after \"@hex:\" stand the octets in hexadecimal")),
            Err(at) => {
                Err(Bad::part(at.saturating_add(5), digits.get(at..).unwrap_or(""), "pairs of hexadecimal digits"))
            }
        };
    }
    match word.split_once(':') {
        Some(("keyid", "")) => return Err(whole("after \"keyid:\" stands the text of the KEY_ID")),
        Some(("keyid", text)) => return Ok(Identity::new(IdKind::KEY_ID, text.as_bytes())),
        Some(("fqdn", name)) => return named(name).map_err(|bad| bad.after(5)),
        Some(("email", text)) => return email(text).map_err(|bad| bad.after(6)),
        _ => {}
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(address.into());
    }
    match word.find('@') {
        Some(0) => Err(whole("write the name without \"@\", or \"@hex:…\" for a KEY_ID")),
        Some(_) => email(word),
        None if word.contains('=') => Err(whole("distinguished names cannot be written: let the peer send a name")),
        None => fqdn(word).map_err(|_| whole("for other text write \"keyid:…\"")),
    }
}

/// What stands behind `fqdn:`: whatever a peer may send as one, if it can be printed.
fn named(name: &str) -> Result<Identity, Bad> {
    if !name.is_empty() && name.chars().all(|letter| letter.is_ascii_graphic()) {
        return Ok(Identity::new(IdKind::FQDN, name.as_bytes()));
    }
    Err(Bad::whole(name, "printable text without spaces"))
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
