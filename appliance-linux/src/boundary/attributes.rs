//! Netlink messages of nftables, as far as they are asked for and read here.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use crate::netlink::half;
pub(super) use crate::netlink::{attribute, word};

/// NFNL_SUBSYS_NFTABLES, the upper octet of what a message is.
pub(super) const SUBSYSTEM: u16 = 10;
const INET: u8 = 1; // NFPROTO_INET
const REQUEST: u16 = 1; // NLM_F_REQUEST
const NAME: u16 = 1; // NFTA_TABLE_NAME

/// Asks the kernel for what it has of the family `inet`; it answers at this socket. `kind` is one of
/// linux/netfilter/nf_tables.h, `name` that of a table.
pub(super) fn ask(kind: u16, flags: u16, name: Option<&str>) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut rest = (SUBSYSTEM << 8 | kind).to_ne_bytes().to_vec();
    rest.extend((REQUEST | flags).to_ne_bytes());
    rest.extend([0; 8]); // sequence, port
    rest.extend([INET, 0, 0, 0]); // nfgenmsg
    if let Some(name) = name {
        let length = u16::try_from(4 + name.len() + 1).unwrap_or(u16::MAX);
        rest.extend(length.to_ne_bytes());
        rest.extend(NAME.to_ne_bytes());
        rest.extend(name.as_bytes());
        rest.push(0);
        rest.resize(rest.len().next_multiple_of(4), 0);
    }
    let mut request = u32::try_from(4 + rest.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    request.extend(rest);
    socket.send(&request, 0)?;
    Ok(socket)
}

/// Splits a datagram into netlink messages: length (4), type (2), flags, sequence, port, then the body.
pub(super) fn messages(mut rest: &[u8], mut each: impl FnMut(u16, &[u8])) {
    while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(16..length) else { return };
        each(kind, body);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
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
