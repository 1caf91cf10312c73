//! Cuts messages into datagrams as RFC 7383 does, but for its cryptography, and puts them together again: for tests, as long as
//! nobody else does. Each has the header of its message, its number and how many there are.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::{Datagrams, MARKER_LEN};
use crate::registry::{ExchangeType, PayloadType};
use crate::wire::header::Header;

/// Octets before the part of the message.
const BEFORE: usize = Header::LEN + 2;
/// Where the type of the first payload stands.
const NEXT: usize = 16;
const FRAGMENT: PayloadType = PayloadType(53);

std::thread_local! {
    static EACH: Cell<usize> = const { Cell::new(0) };
}

/// From now on, in this test, no protected message leaves in one datagram that is longer than this.
pub(crate) fn cut_at(each: usize) {
    EACH.set(each);
}

/// Cuts the message that stands in `room`, unless it is short, or its datagrams have no room.
pub(crate) fn cut(room: &mut [u8], datagrams: &mut Datagrams) {
    let (each, len) = (EACH.get(), datagrams.len());
    let header = room.first_chunk::<{ Header::LEN }>().copied().unwrap_or_default();
    let in_clear = Header::parse(&room[..len]).is_ok_and(|header| header.exchange == ExchangeType::IKE_SA_INIT);
    if each == 0 || len <= each || in_clear {
        return;
    }
    let body = room[Header::LEN..len].to_vec();
    let parts: Vec<&[u8]> = body.chunks(each - BEFORE).collect();
    let whole = body.len() + parts.len() * (BEFORE + MARKER_LEN) - MARKER_LEN;
    if whole > room.len() {
        return;
    }
    for (number, part) in parts.iter().enumerate() {
        let place = &mut room[number * (each + MARKER_LEN)..][..BEFORE + part.len()];
        place[..Header::LEN].copy_from_slice(&header);
        place[NEXT] = FRAGMENT.0;
        place[Header::LEN..BEFORE].copy_from_slice(&[number as u8, parts.len() as u8]);
        place[BEFORE..].copy_from_slice(part);
    }
    *datagrams = Datagrams::cut(whole, each);
}

/// What has arrived of messages that are not whole yet, by what their headers say.
#[derive(Default)]
pub(crate) struct Arrived(BTreeMap<Vec<u8>, BTreeMap<u8, Vec<u8>>>);

impl Arrived {
    /// The message that is whole with this datagram.
    pub(crate) fn take(&mut self, datagram: Vec<u8>) -> Option<Vec<u8>> {
        if datagram[NEXT] != FRAGMENT.0 {
            return Some(datagram);
        }
        let (header, rest) = datagram.split_at(Header::LEN);
        let parts = self.0.entry(header.to_vec()).or_default();
        parts.insert(rest[0], rest[2..].to_vec());
        if parts.len() < usize::from(rest[1]) {
            return None;
        }
        let mut whole = header.to_vec();
        whole[NEXT] = PayloadType::SK.0;
        self.0.remove(header)?.into_values().for_each(|part| whole.extend(part));
        Some(whole)
    }
}
