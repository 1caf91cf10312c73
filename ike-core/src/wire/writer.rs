//! Building a message in the caller's buffer. The payload methods stand with their payloads.

use core::fmt;

use super::chain::{GENERIC_LEN, Payload};
use super::header::Header;
use super::outline::Outline;
use super::sk::{Layout, SkSender};
use crate::crypto::IkeCrypto;
use crate::error::NoRoom;
use crate::registry::PayloadType;

/// A message that stands in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its octets.
    pub len: usize,
    /// What it carries.
    pub outline: Outline,
}

/// Writes one message from front to back. A payload that does not fit leaves the message as it was before.
///
/// ```
/// use ike_core::error::NoRoom;
/// use ike_core::registry::{ExchangeType, NotifyKind, ProtocolId};
/// use ike_core::wire::{header::Header, writer::MessageWriter};
/// let header = Header { response: true, ..Header::new(1, 2, ExchangeType::IKE_SA_INIT, 0) };
/// let mut octets = [0; 40];
/// let mut message = MessageWriter::new(&mut octets, &header).unwrap();
/// assert_eq!(message.nonce(&[7; 32]), Err(NoRoom)); // it is as it was before
/// message.notify(ProtocolId::NONE, &[], NotifyKind::NO_PROPOSAL_CHOSEN, &[]).unwrap();
/// let written = message.finish();
/// assert_eq!((written.len, octets[27]), (36, 36));
/// assert_eq!(written.outline.to_string(), "IKE_SA_INIT response 0 [ N(NO_PROPOSAL_CHOSEN) ]");
/// ```
pub struct MessageWriter<'b> {
    buf: &'b mut [u8],
    header: Header,
    /// Octets written.
    len: usize,
    /// How far payloads may reach.
    limit: usize,
    /// Where the type of the next payload belongs.
    next_at: usize,
    /// The layout of the SK payload that the payloads are in, not encrypted yet.
    unsealed: Option<Layout>,
}

impl fmt::Debug for MessageWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").field("header", &self.header).field("len", &self.len).finish_non_exhaustive()
    }
}

impl<'b> MessageWriter<'b> {
    /// Offset of the next-payload field in the IKE header.
    const HEADER_NEXT: usize = 16;
    /// Offset of the length field in the IKE header.
    const HEADER_LENGTH: usize = 24;
    /// Offset of the IV in a message whose only payload is SK.
    const IV_AT: usize = Header::LEN + GENERIC_LEN;

    /// Starts a message in clear.
    ///
    /// # Errors
    /// [`NoRoom`] when `buf` cannot hold the header.
    pub fn new(buf: &'b mut [u8], header: &Header) -> Result<Self, NoRoom> {
        let limit = buf.len();
        let mut writer = Self { buf, header: *header, len: 0, limit, next_at: Self::HEADER_NEXT, unsealed: None };
        writer.put(&Header { next: PayloadType::NONE, ..*header }.to_octets())?;
        Ok(writer)
    }

    /// Starts a message whose payloads all go into an SK payload, laid out as its [sender](SkSender::layout) does it.
    ///
    /// # Errors
    /// [`NoRoom`] when `buf` cannot hold an empty SK payload.
    pub fn protected(buf: &'b mut [u8], header: &Header, layout: Layout) -> Result<Self, NoRoom> {
        // The length field of the SK payload has 16 bits.
        let end = buf.len().min(Header::LEN + 0xffff).checked_sub(layout.icv_len).ok_or(NoRoom)?;
        let start = Self::IV_AT.saturating_add(layout.iv_len);
        // Whole blocks, whose last octet is the pad length.
        let room = end.checked_sub(start).ok_or(NoRoom)?;
        let rest = room.checked_rem(layout.block_len).ok_or(NoRoom)?;
        let text = room.saturating_sub(rest).checked_sub(1).ok_or(NoRoom)?;
        let mut writer = Self::new(buf, &Header { next: PayloadType::NONE, ..*header })?;
        writer.limit = start.saturating_add(text);
        writer.unsealed = Some(layout);
        writer.patch(Self::HEADER_NEXT, &[PayloadType::SK.0]);
        writer.next_at = writer.len;
        writer.put(&[0; GENERIC_LEN])?;
        writer.room(layout.iv_len)?;
        Ok(writer)
    }

    /// Ends a message in clear. One that was to be sealed has no octets, so that it cannot leave in clear.
    pub fn finish(mut self) -> Written {
        self.patch_length();
        let outline = self.outline(Self::HEADER_NEXT, Header::LEN);
        Written { len: if self.unsealed.is_some() { 0 } else { self.len }, outline }
    }

    /// Ends a protected message: fills in IV and padding, encrypts, authenticates from the IKE header on (RFC 7296 §3.14,
    /// RFC 5282 §5.1).
    ///
    /// # Errors
    /// [`NoRoom`] when the message was not started with [`MessageWriter::protected`] and the layout of this key, or the key
    /// has no IV left.
    pub fn seal<C: IkeCrypto>(mut self, crypto: &mut C, key: &mut SkSender<C>) -> Result<Written, NoRoom> {
        let layout = self.unsealed.filter(|layout| *layout == key.layout()).ok_or(NoRoom)?;
        let start = Self::IV_AT.saturating_add(layout.iv_len);
        let outline = self.outline(Header::LEN, start);
        self.limit = self.buf.len();
        let text = self.len.saturating_sub(start);
        let padded = text.saturating_add(1).checked_next_multiple_of(layout.block_len).ok_or(NoRoom)?;
        let pad_len = padded.saturating_sub(text).saturating_sub(1);
        self.room(pad_len)?.fill(0);
        self.put(&[u8::try_from(pad_len).map_err(|_| NoRoom)?])?;
        self.room(layout.icv_len)?.fill(0);
        let sk_len = self.len.saturating_sub(Header::LEN);
        self.patch(Header::LEN + 2, &u16::try_from(sk_len).map_err(|_| NoRoom)?.to_be_bytes());
        self.patch_length();
        let message = self.buf.get_mut(..self.len).ok_or(NoRoom)?;
        let (aad, payload) = message.split_at_mut_checked(Self::IV_AT).ok_or(NoRoom)?;
        key.seal(crypto, aad, payload)?;
        Ok(Written { len: self.len, outline })
    }

    /// The payloads from `start` on; the type of the first stands at `next_at`.
    fn outline(&self, next_at: usize, start: usize) -> Outline {
        let first = self.buf.get(next_at).map_or(PayloadType::NONE, |first| PayloadType(*first));
        let payloads = self.buf.get(start..self.len).unwrap_or_default();
        Outline::read(&self.header, first, payloads)
    }

    /// Writes a payload of type `kind` whose body is what `body` puts.
    pub(super) fn payload<E: From<NoRoom>>(
        &mut self,
        kind: PayloadType,
        body: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.len;
        let put = self.put(&[0; GENERIC_LEN]).map_err(E::from);
        let written = put.and_then(|()| body(self)).and_then(|()| self.close(start).map_err(E::from));
        if written.is_ok() {
            self.patch(self.next_at, &[kind.0]);
            self.next_at = start;
        } else {
            self.len = start;
        }
        written
    }

    /// Adds a payload as it stands in another message.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn copy(&mut self, payload: &Payload<'_>) -> Result<(), NoRoom> {
        self.payload(payload.kind, |out| out.put(payload.body))
    }

    /// Where the next octet goes.
    pub(super) const fn position(&self) -> usize {
        self.len
    }

    /// Fills in the length of what began at `start`: 16 bits at offset 2, as in payloads, proposals, transforms, selectors.
    pub(super) fn close(&mut self, start: usize) -> Result<(), NoRoom> {
        let length = u16::try_from(self.len.saturating_sub(start)).map_err(|_| NoRoom)?;
        self.patch(start.saturating_add(2), &length.to_be_bytes());
        Ok(())
    }

    pub(super) fn put(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        let end = self.len.checked_add(octets.len()).filter(|end| *end <= self.limit).ok_or(NoRoom)?;
        self.buf.get_mut(self.len..end).ok_or(NoRoom)?.copy_from_slice(octets);
        self.len = end;
        Ok(())
    }

    /// Room for `len` octets, to be filled in.
    pub(super) fn room(&mut self, len: usize) -> Result<&mut [u8], NoRoom> {
        let end = self.len.checked_add(len).filter(|end| *end <= self.limit).ok_or(NoRoom)?;
        let room = self.buf.get_mut(self.len..end).ok_or(NoRoom)?;
        self.len = end;
        Ok(room)
    }

    /// Overwrites octets that `put` wrote.
    pub(super) fn patch(&mut self, at: usize, octets: &[u8]) {
        let written = self.buf.get_mut(at..).unwrap_or_default();
        for (to, from) in written.iter_mut().zip(octets) {
            *to = *from;
        }
    }

    fn patch_length(&mut self) {
        // A buffer above 4 GiB is not a message: saturating keeps the function total.
        let length = u32::try_from(self.len).unwrap_or(u32::MAX);
        self.patch(Self::HEADER_LENGTH, &length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{ExchangeType, NotifyKind};
    use crate::wire::chain::Chain;

    const AEAD: Layout = Layout { iv_len: 8, icv_len: 16, block_len: 1 };
    const HEADER: Header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 3);

    #[test]
    fn next_payload_fields_and_length_are_filled_in() {
        let mut buf = [0xaa; 64];
        let mut out = MessageWriter::new(&mut buf, &HEADER).unwrap();
        out.vendor(b"abc").unwrap();
        out.delete_ike().unwrap();
        let len = out.finish().len;
        assert_eq!(buf[28..len], [42, 0, 0, 7, b'a', b'b', b'c', 0, 0, 0, 8, 1, 0, 0, 0]);
        let header = Header::parse(&buf[..len]).unwrap();
        assert_eq!((header.next, header.length), (PayloadType::VENDOR, 43));
    }

    #[test]
    fn a_message_without_payloads_says_so() {
        let mut buf = [0xaa; 28];
        let len = MessageWriter::new(&mut buf, &Header { next: PayloadType::SA, ..HEADER }).unwrap().finish().len;
        assert_eq!(Header::parse(&buf[..len]).unwrap().next, PayloadType::NONE);
    }

    #[test]
    fn a_payload_that_does_not_fit_leaves_the_message_as_it_was() {
        for room in 0..80 {
            let mut buf = [0xaa; 80];
            let Ok(mut out) = MessageWriter::new(&mut buf[..room], &HEADER) else {
                assert!(room < Header::LEN);
                continue;
            };
            let first = out.vendor(b"abc");
            assert_eq!(first.is_ok(), room >= 28 + 7);
            let second = out.notify_parts(NotifyKind::COOKIE, &[&[1; 8], &[2; 8]]);
            assert_eq!(second.is_ok(), room >= 28 + 24 + if first.is_ok() { 7 } else { 0 });
            let len = out.finish().len;
            let header = Header::parse(&buf[..len]).unwrap();
            let payloads = Chain::new(header.next, &buf[28..len]).inspect(|payload| assert!(payload.is_ok())).count();
            assert_eq!(payloads, usize::from(first.is_ok()) + usize::from(second.is_ok()));
        }
    }

    #[test]
    fn a_payload_longer_than_its_length_field_is_refused() {
        let mut buf = [0; 28 + 4 + 70_000];
        let mut out = MessageWriter::new(&mut buf, &HEADER).unwrap();
        assert_eq!(out.vendor(&[0; 65_532]), Err(NoRoom));
        assert_eq!(out.vendor(&[0; 65_531]), Ok(()));
    }

    #[test]
    fn an_sk_payload_keeps_room_for_its_end() {
        for room in 0..28 + 4 + 8 + 17 {
            let mut buf = [0; 64];
            assert!(MessageWriter::protected(&mut buf[..room], &HEADER, AEAD).is_err(), "{room}");
        }
        let mut buf = [0; 64];
        assert_eq!(MessageWriter::protected(&mut buf, &HEADER, AEAD).unwrap().finish().len, 0);
        let mut buf = [0; 28 + 4 + 8 + 17];
        let mut out = MessageWriter::protected(&mut buf, &HEADER, AEAD).unwrap();
        assert_eq!(out.delete_ike(), Err(NoRoom));
        let mut buf = [0; 28 + 4 + 8 + 8 + 17];
        let mut out = MessageWriter::protected(&mut buf, &HEADER, AEAD).unwrap();
        assert_eq!(out.delete_ike(), Ok(()));
        assert_eq!(out.delete_ike(), Err(NoRoom));
    }

    #[test]
    fn an_sk_payload_ends_with_a_whole_block() {
        let layout = Layout { iv_len: 16, icv_len: 16, block_len: 16 };
        let fixed = 28 + 4 + 16 + 16;
        for text in 1..=48 {
            // What fits into whole blocks less the pad length octet fits, and nothing more.
            for payload in 4..64 {
                let mut buf = [0; 200];
                let Ok(mut out) = MessageWriter::protected(&mut buf[..fixed + text], &HEADER, layout) else {
                    assert!(text < 16);
                    continue;
                };
                let fits = payload < text - text % 16;
                assert_eq!(out.vendor(&[0; 64][..payload - 4]).is_ok(), fits, "{payload} in {text}");
            }
        }
    }
}
