//! Netlink messages of nftables, as far as they are read here.

/// Splits a datagram into netlink messages: length (4), type (2), flags, sequence, port, then the body.
pub(super) fn messages(mut rest: &[u8], mut each: impl FnMut(u16, &[u8])) {
    while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(16..length) else { return };
        each(kind, body);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The value of an attribute: length (2), type (2), value, up to a multiple of four octets.
pub(super) fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)? & 0x3fff);
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn half(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_ne_bytes(*octets))
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_never_beyond_the_end() {
        let mut octets = Vec::new();
        for (kind, value) in [(1_u16, b"abc\0x".as_slice()), (0x8004, b"nest")] {
            octets.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            octets.extend(kind.to_ne_bytes());
            octets.extend(value);
            octets.resize(octets.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&octets, 1), Some(b"abc\0x".as_slice()));
        assert_eq!(attribute(&octets, 4), Some(b"nest".as_slice()));
        assert_eq!(attribute(&octets, 2), None);
        assert_eq!(attribute(&octets[..15], 4), None);
        assert_eq!(attribute(&[0; 8], 7), None, "a length of nothing");
    }
}
