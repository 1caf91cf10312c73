//! A frame taken apart, down to the fields of the IP packet in it.

use ipsec_core::flow::Flow;
use ipsec_core::wire::cursor::{Malformed, Reader};

use crate::wire::ethernet::{self, Address, EtherType};
use crate::wire::pppoe;
use crate::wire::vlan::Tag;

/// An Ethernet frame, without its check sequence.
///
/// ```
/// use traffic_core::frame::{Content, Frame};
/// use traffic_core::wire::ethernet::{Address, EtherType};
/// let mut octets = [0xff; 60]; // to everybody
/// octets[12..14].copy_from_slice(&[0x08, 0x06]);
/// let frame = Frame::of(&octets).unwrap();
/// assert_eq!(frame.destination, Address::BROADCAST);
/// assert!(matches!(frame.content, Content::Other { ether_type: EtherType::ARP, payload: [_, ..] }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'f> {
    /// To whom.
    pub destination: Address,
    /// From whom.
    pub source: Address,
    /// Its VLAN tags.
    pub tags: Tags,
    /// Its PPPoE session (RFC 2516).
    pub session: Option<u16>,
    /// What it carries.
    pub content: Content<'f>,
}

/// The VLAN tags of a frame, at most two: a provider's and a customer's.
///
/// ```
/// use traffic_core::frame::Frame;
/// let mut octets = [0; 60];
/// octets[12..20].copy_from_slice(&[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7]); // a provider's tag, and a customer's
/// let tags = Frame::of(&octets).unwrap().tags;
/// assert_eq!(tags.outer().map(|tag| tag.vlan), Some(100));
/// assert_eq!(tags.inner().map(|tag| tag.vlan), Some(7));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Tags {
    outer: Option<Tag>,
    inner: Option<Tag>,
}

impl Tags {
    /// The one that stands first.
    pub const fn outer(&self) -> Option<Tag> {
        self.outer
    }

    /// The one behind another.
    pub const fn inner(&self) -> Option<Tag> {
        self.inner
    }

    /// Appends a tag; `false` when there are two.
    fn push(&mut self, tag: Tag) -> bool {
        let free = if self.outer.is_none() { &mut self.outer } else { &mut self.inner };
        free.is_none() && free.replace(tag).is_none()
    }

    /// Whether another one is taken.
    const fn has_room(&self) -> bool {
        self.inner.is_none()
    }
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'f> {
    /// An IP packet.
    Ip {
        /// As selectors see it.
        flow: Flow,
        /// The packet by its own length, without what fills the frame up.
        packet: &'f [u8],
    },
    /// What is announced as IP and is none: it is cut off, its lengths are wrong, or its version is another one.
    BrokenIp(&'f [u8]),
    /// Another protocol in a PPPoE session.
    Ppp {
        /// Which.
        protocol: pppoe::Protocol,
        /// Its octets.
        payload: &'f [u8],
    },
    /// An LLC frame (IEEE 802.2), such as spanning tree's.
    Llc(&'f [u8]),
    /// Anything else: ARP, PPPoE's discovery, a third tag.
    Other {
        /// What it is.
        ether_type: EtherType,
        /// What follows, with what fills the frame up.
        payload: &'f [u8],
    },
}

impl<'f> Frame<'f> {
    /// Takes a frame apart.
    ///
    /// # Errors
    /// [`Malformed`]: a header below IP is cut off or is none.
    #[inline]
    pub fn of(octets: &'f [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        let ethernet::Header { destination, source, mut ether_type } = ethernet::Header::read(&mut reader)?;
        let mut tags = Tags::default();
        while ether_type.is_tag() && tags.has_room() {
            let (tag, tagged) = Tag::read(ether_type, &mut reader)?;
            tags.push(tag);
            ether_type = tagged;
        }
        let mut session = None;
        let content = match ether_type {
            EtherType::IPV4 => ip(4, reader.rest()),
            EtherType::IPV6 => ip(6, reader.rest()),
            EtherType::PPPOE_SESSION => {
                let header = pppoe::Header::read(&mut reader)?;
                session = Some(header.session);
                let payload = reader.take(header.payload_len.into())?;
                match header.protocol {
                    pppoe::Protocol::IPV4 => ip(4, payload),
                    pppoe::Protocol::IPV6 => ip(6, payload),
                    protocol => Content::Ppp { protocol, payload },
                }
            }
            EtherType(len) if ether_type.is_length() => Content::Llc(reader.take(len.into())?),
            _ => Content::Other { ether_type, payload: reader.rest() },
        };
        Ok(Self { destination, source, tags, session, content })
    }
}

/// What is announced as IP of this version.
#[inline]
fn ip(version: u8, payload: &[u8]) -> Content<'_> {
    let announced = payload.first().is_some_and(|first| first >> 4 == version);
    match Flow::of(payload).ok().filter(|_| announced).and_then(|flow| Some((flow, payload.get(..flow.len)?))) {
        Some((flow, packet)) => Content::Ip { flow, packet },
        None => Content::BrokenIp(payload),
    }
}

#[cfg(test)]
mod tests;
