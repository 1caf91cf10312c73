//! Identification payloads (RFC 7296 §3.5).

use core::fmt;

use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{IdKind, PayloadType};

/// Who somebody says to be. Any octets of any length can stand here: printing and comparing are total.
///
/// ```
/// use ike_core::registry::IdKind;
/// use ike_core::wire::id::Id;
/// let id = Id::parse(b"\x02\0\0\0gate.example").unwrap();
/// assert!(id.matches(&Id { kind: IdKind::FQDN, data: b"Gate.Example" }));
/// assert_eq!(id.to_string(), "gate.example");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Id<'m> {
    /// How to read `data`.
    pub kind: IdKind,
    /// The identification data.
    pub data: &'m [u8],
}

impl<'m> Id<'m> {
    /// Reads the body of an IDi or IDr payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short. Data that does not fit its type is no error: it is nobody's identity.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let kind = IdKind(reader.u8()?);
        reader.array::<3>()?; // RESERVED
        Ok(Self { kind, data: reader.rest() })
    }

    /// Whether both name the same: names of hosts and mailboxes in whatever case (RFC 4343, RFC 4301 §4.4.3.1), all
    /// others octet for octet.
    pub fn matches(&self, other: &Id<'_>) -> bool {
        self.kind == other.kind
            && match self.kind {
                IdKind::FQDN | IdKind::RFC822_ADDR => self.data.eq_ignore_ascii_case(other.data),
                _ => self.data == other.data,
            }
    }
}

/// The longest identity that a [`ShortId`] keeps whole, octets.
const SHORT: usize = 128;

/// An identity that outlives its message, to be shown: its beginning, where it is longer than 128 octets.
///
/// ```
/// use ike_core::registry::IdKind;
/// use ike_core::wire::id::{Id, ShortId};
/// let long = ShortId::from(&Id { kind: IdKind::FQDN, data: &[b'a'; 200] });
/// assert!(!long.is_whole() && long.to_string().ends_with("a…"));
/// assert_eq!(long.id().data.len(), 128);
/// let left = ShortId::from(&Id { kind: IdKind::FQDN, data: b"left.example" });
/// assert_eq!(format!("{left:?}"), "ID_FQDN(left.example)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ShortId {
    kind: IdKind,
    data: [u8; SHORT],
    /// Of the whole.
    len: usize,
}

impl ShortId {
    /// What is kept of it.
    pub fn id(&self) -> Id<'_> {
        Id { kind: self.kind, data: self.data.get(..self.len).unwrap_or(&self.data) }
    }

    /// Whether it is the whole identity.
    pub fn is_whole(&self) -> bool {
        self.len <= SHORT
    }
}

impl From<&Id<'_>> for ShortId {
    fn from(id: &Id<'_>) -> Self {
        let mut data = [0; SHORT];
        data.iter_mut().zip(id.data).for_each(|(kept, octet)| *kept = *octet);
        Self { kind: id.kind, data, len: id.data.len() }
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

/// As [`Id`] does; `…` where the rest was.
impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)?;
        if self.is_whole() { Ok(()) } else { f.write_str("…") }
    }
}

/// Text as text, addresses as addresses, a key id as `@hex:…`; whatever is not printable ASCII is escaped.
impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.data) {
            (IdKind::IPV4_ADDR, [a, b, c, d]) => write!(f, "{a}.{b}.{c}.{d}"),
            (IdKind::IPV6_ADDR, data) if data.len() == 16 => print_ipv6(f, data),
            (IdKind::FQDN | IdKind::RFC822_ADDR, text) => text.escape_ascii().fmt(f),
            (kind, data) => {
                if kind == IdKind::KEY_ID {
                    f.write_str("@hex:")?;
                } else {
                    write!(f, "{kind}:")?;
                }
                data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

/// As RFC 5952 §4 wants it. `core` prints addresses too, but with a panic in its code, reachable or not.
fn print_ipv6(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    let groups = || octets.as_chunks().0.iter().map(|group| u16::from_be_bytes(*group));
    let zeros_from = |start| groups().skip(start).take_while(|group| *group == 0).count();
    // The first of the longest runs of zeros, if there is one of two or more.
    let (run, start) =
        (0..8).rev().map(|start| (zeros_from(start), start)).max_by_key(|(run, _)| *run).unwrap_or((0, 0));
    let skipped = if run >= 2 { start..start.saturating_add(run) } else { 8..8 };
    for (index, group) in groups().enumerate() {
        if index == skipped.start {
            f.write_str(if index == 0 { "::" } else { ":" })?;
        }
        if !skipped.contains(&index) {
            write!(f, "{group:x}{}", if index < 7 { ":" } else { "" })?;
        }
    }
    Ok(())
}

impl MessageWriter<'_> {
    /// Adds an Identification payload; `payload` is [`PayloadType::ID_I`] or [`PayloadType::ID_R`].
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn id(&mut self, payload: PayloadType, id: &Id<'_>) -> Result<(), NoRoom> {
        self.payload(payload, |out| {
            out.put(&[id.kind.0, 0, 0, 0])?;
            out.put(id.data)
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::string::ToString;

    use super::*;
    use crate::wire::tests::body;

    fn text(kind: IdKind, data: &[u8]) -> alloc::string::String {
        Id { kind, data }.to_string()
    }

    #[test]
    fn reads_and_writes() {
        let octets = [2, 0, 0, 0, b'a', b'.', b'b'];
        let id = Id::parse(&octets).unwrap();
        assert_eq!(id, Id { kind: IdKind::FQDN, data: b"a.b" });
        assert_eq!(body(|out| out.id(PayloadType::ID_I, &id)), octets);
        assert_eq!(Id::parse(&[2, 1, 2, 3, b'x']).unwrap().data, b"x"); // RESERVED is ignored
    }

    #[test]
    fn f_59_names_are_the_same_in_whatever_case_and_nothing_else_is() {
        let same = |kind, one: &[u8], other: &[u8]| Id { kind, data: one }.matches(&Id { kind, data: other });
        assert!(same(IdKind::FQDN, b"Left.Example", b"left.eXample"));
        assert!(same(IdKind::RFC822_ADDR, b"Me@Left.example", b"me@left.EXAMPLE"));
        assert!(!same(IdKind::KEY_ID, b"Left", b"left"));
        assert!(!same(IdKind::FQDN, b"left.example", b"left.example."));
        assert!(!Id { kind: IdKind::FQDN, data: b"a" }.matches(&Id { kind: IdKind::KEY_ID, data: b"a" }));
    }

    #[test]
    fn f_59_of_a_long_identity_the_beginning_is_shown() {
        for (len, whole) in [(0, true), (1, true), (128, true), (129, false), (60_000, false)] {
            let data = [b'x'].repeat(len);
            let short = ShortId::from(&Id { kind: IdKind::FQDN, data: &data });
            assert_eq!((short.is_whole(), short.id().data), (whole, &data[..len.min(128)]));
            assert_eq!(short.to_string(), "x".repeat(len.min(128)) + if whole { "" } else { "…" });
        }
    }

    #[test]
    fn atk_06_every_length_is_read_and_none_copied() {
        for len in 0..4 {
            assert_eq!(Id::parse(&[11, 0, 0, 0][..len]), Err(Malformed));
        }
        for len in [4, 5, 8, 520, 521, 65_531] {
            let octets = [11].repeat(len);
            assert_eq!(Id::parse(&octets).unwrap().data.len(), len - 4);
        }
        let mut buf = [0; 64];
        let header = crate::wire::header::Header::new(0, 0, crate::registry::ExchangeType::IKE_AUTH, 1);
        let mut out = MessageWriter::new(&mut buf, &header).unwrap();
        let long = Id { kind: IdKind::KEY_ID, data: &[1; 600] };
        assert_eq!(out.id(PayloadType::ID_I, &long), Err(NoRoom));
    }

    #[test]
    fn atk_22_every_kind_prints_with_every_length() {
        for kind in 0..=u8::MAX {
            for len in 0..40 {
                let id = Id { kind: IdKind(kind), data: &[0xff; 40][..len] };
                let printed = id.to_string();
                assert!(printed.is_ascii() && (len == 0 || !printed.is_empty()), "{kind} {len}");
                assert!(id == id && id != Id { kind: IdKind(kind ^ 1), ..id });
            }
        }
    }

    #[test]
    fn atk_23_nothing_that_a_terminal_or_a_log_would_obey_is_printed() {
        assert_eq!(text(IdKind::FQDN, b"a;reboot\x1b[2J\n\0\xc3"), r"a;reboot\x1b[2J\n\x00\xc3");
        assert_eq!(text(IdKind::RFC822_ADDR, b"me@b"), "me@b");
    }

    #[test]
    fn ipv6_addresses_print_as_the_standard_library_does() {
        // Every pattern of zero and non-zero groups.
        for pattern in 0..=u8::MAX {
            let groups: [u16; 8] = core::array::from_fn(|bit| if pattern & (1 << bit) == 0 { 0 } else { 0xa0 << bit });
            let addr = core::net::Ipv6Addr::from(groups);
            // `core` writes ::ffff:a.b.c.d for mapped addresses; an ID_IPV6_ADDR is printed as what it is.
            if addr.to_ipv4_mapped().is_none() {
                assert_eq!(text(IdKind::IPV6_ADDR, &addr.octets()), addr.to_string());
            }
        }
    }

    #[test]
    fn addresses_and_key_ids_have_their_own_form() {
        assert_eq!(text(IdKind::IPV4_ADDR, &[192, 0, 2, 1]), "192.0.2.1");
        assert_eq!(text(IdKind::IPV4_ADDR, &[192, 0, 2]), "ID_IPV4_ADDR:c00002");
        let mut v6 = [0; 16];
        v6[15] = 1;
        assert_eq!(text(IdKind::IPV6_ADDR, &v6), "::1");
        assert_eq!(text(IdKind::KEY_ID, &[1, 0xab]), "@hex:01ab");
        assert_eq!(text(IdKind(77), &[1]), "ID type 77:01");
    }
}
