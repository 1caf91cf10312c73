//! The Security Association payload (RFC 7296 §3.3): proposals, in them transforms, in them attributes, each strictly
//! inside what holds it.

use core::fmt;

use ipsec_core::wire::cursor::Reader;

use super::enclosed;
use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{EncrId, EsnId, GroupId, IntegId, PayloadType, PrfId, ProtocolId, TransformType};

/// Attribute type 14 in its short form.
const KEY_LENGTH: u16 = 0x8000 | 14;

/// Proposals, in the sender's order of preference. There may be none.
///
/// ```
/// use ike_core::registry::{ProtocolId, TransformType};
/// use ike_core::wire::sa::{KeyLength, Sa};
/// let body = [
///     0, 0, 0, 24, 1, 3, 4, 1, 0, 0, 0x10, 0, // the last proposal, number 1 for ESP, SPI, one transform
///     0, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 1, 0, // the last transform, ENCR_AES_GCM_16, 256 bits
/// ];
/// let proposal = Sa::parse(&body).unwrap().proposals().next().unwrap();
/// assert_eq!((proposal.number, proposal.protocol, proposal.spi), (1, ProtocolId::ESP, &[0, 0, 0x10, 0][..]));
/// let transform = proposal.transforms().next().unwrap();
/// assert_eq!((transform.kind, transform.key_length()), (TransformType::ENCR, KeyLength::Bits(256)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sa<'m>(&'m [u8]);

/// One proposal.
///
/// ```
/// use ike_core::wire::sa::{Proposal, Sa};
/// let body = [0, 0, 0, 8, 1, 1, 0, 0]; // one for IKE, without SPI and without transforms
/// let proposal: Proposal<'_> = Sa::parse(&body).unwrap().proposals().next().unwrap();
/// assert_eq!((proposal.number, proposal.transforms().count()), (1, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal<'m> {
    /// Its number, from 1.
    pub number: u8,
    /// The protocol it is for.
    pub protocol: ProtocolId,
    /// The sender's SPI; empty for an initial IKE SA.
    pub spi: &'m [u8],
    transforms: &'m [u8],
}

/// One transform of a received proposal.
///
/// ```
/// use ike_core::wire::sa::{KeyLength, Sa, Transform, TransformSpec};
/// let body = [0, 0, 0, 16, 1, 1, 0, 1, 0, 0, 0, 8, 4, 0, 0, 31]; // one key exchange
/// let proposal = Sa::parse(&body).unwrap().proposals().next().unwrap();
/// let transform: Transform<'_> = proposal.transforms().next().unwrap();
/// assert_eq!(transform.key_length(), KeyLength::Absent);
/// assert_eq!(TransformSpec::from(&transform).id, 31);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform<'m> {
    /// What it is for.
    pub kind: TransformType,
    /// The algorithm, a number of the registry that `kind` names.
    pub id: u16,
    attributes: &'m [u8],
}

/// What the attributes of a transform say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KeyLength {
    /// There are no attributes.
    Absent,
    /// One Key Length attribute, in bits.
    Bits(u16),
    /// Anything else: the transform must not be chosen, the others of the proposal may (RFC 7296 §3.3.6).
    Unacceptable,
}

/// A transform to be written.
///
/// ```
/// use ike_core::registry::{EncrId, TransformType};
/// use ike_core::wire::sa::TransformSpec;
/// let aes = TransformSpec { kind: TransformType::ENCR, id: EncrId::AES_GCM_16.0, key_bits: Some(256) };
/// assert_eq!(aes.to_string(), "ENCR_AES_GCM_16/256");
/// assert_eq!(TransformSpec::none(TransformType::KE).id, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TransformSpec {
    /// What it is for.
    pub kind: TransformType,
    /// The algorithm.
    pub id: u16,
    /// Key Length attribute, in bits.
    pub key_bits: Option<u16>,
}

impl<'m> Sa<'m> {
    /// Reads the body of an SA payload, down to the lengths of the transforms.
    ///
    /// # Errors
    /// [`Malformed`] when a proposal or transform reaches out of what holds it, a count is wrong, or the mark of the last
    /// one stands at another one.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        while !reader.rest().is_empty() {
            proposal(&mut reader)?;
        }
        Ok(Self(body))
    }

    /// The proposals.
    pub fn proposals(&self) -> impl Iterator<Item = Proposal<'m>> + Clone + use<'m> {
        let mut reader = Reader::new(self.0);
        core::iter::from_fn(move || proposal(&mut reader).ok())
    }
}

impl<'m> Proposal<'m> {
    /// The transforms.
    pub fn transforms(&self) -> impl Iterator<Item = Transform<'m>> + Clone + use<'m> {
        let mut reader = Reader::new(self.transforms);
        core::iter::from_fn(move || transform(&mut reader).ok())
    }
}

impl Transform<'_> {
    /// The Key Length attribute.
    pub fn key_length(&self) -> KeyLength {
        let mut reader = Reader::new(self.attributes);
        match (reader.u16(), reader.u16(), reader.rest().is_empty()) {
            (Err(Malformed), _, _) if self.attributes.is_empty() => KeyLength::Absent,
            (Ok(KEY_LENGTH), Ok(bits), true) => KeyLength::Bits(bits),
            _ => KeyLength::Unacceptable,
        }
    }
}

/// The first octet of a proposal or transform: `more` when another one follows, 0 on the last. The lengths say the same; a
/// message whose two statements differ could be read in two ways.
fn check_last(mark: u8, more: u8, reader: &Reader<'_>) -> Result<(), Malformed> {
    let expected = if reader.rest().is_empty() { 0 } else { more };
    if mark == expected { Ok(()) } else { Err(Malformed) }
}

fn proposal<'m>(reader: &mut Reader<'m>) -> Result<Proposal<'m>, Malformed> {
    let [mark, _] = reader.array()?;
    let length = reader.u16()?;
    let mut body = Reader::new(enclosed(reader, length, 4)?);
    check_last(mark, 2, reader)?;
    let [number, protocol, spi_len, count] = body.array()?;
    let spi = body.take(usize::from(spi_len))?;
    let transforms = body.rest();
    for _ in 0..count {
        transform(&mut body)?;
    }
    if !body.rest().is_empty() {
        return Err(Malformed);
    }
    Ok(Proposal { number, protocol: ProtocolId(protocol), spi, transforms })
}

fn transform<'m>(reader: &mut Reader<'m>) -> Result<Transform<'m>, Malformed> {
    let [mark, _] = reader.array()?;
    let length = reader.u16()?;
    let mut body = Reader::new(enclosed(reader, length, 4)?);
    check_last(mark, 3, reader)?;
    let [kind, _] = body.array()?;
    let id = body.u16()?;
    Ok(Transform { kind: TransformType(kind), id, attributes: body.rest() })
}

impl MessageWriter<'_> {
    /// Adds an SA payload: numbered proposals for `protocol`, each with the same `spi` (empty, 4 or 8 octets).
    ///
    /// # Errors
    /// [`NoRoom`], also when there are more transforms than a proposal can count.
    pub fn sa<P, T>(&mut self, protocol: ProtocolId, spi: &[u8], proposals: P) -> Result<(), NoRoom>
    where
        P: IntoIterator<Item = (u8, T)>,
        T: IntoIterator<Item = TransformSpec>,
    {
        let spi_len = u8::try_from(spi.len()).map_err(|_| NoRoom)?;
        self.payload(PayloadType::SA, |out| {
            let mut proposals = proposals.into_iter().peekable();
            while let Some((number, transforms)) = proposals.next() {
                let start = out.position();
                let mark = if proposals.peek().is_some() { 2 } else { 0 };
                out.put(&[mark, 0, 0, 0, number, protocol.0, spi_len, 0])?;
                out.put(spi)?;
                let mut count = 0u8;
                let mut transforms = transforms.into_iter().peekable();
                while let Some(transform) = transforms.next() {
                    let mark = if transforms.peek().is_some() { 3 } else { 0 };
                    out.transform(mark, &transform)?;
                    count = count.checked_add(1).ok_or(NoRoom)?;
                }
                out.patch(start.saturating_add(7), &[count]);
                out.close(start)?;
            }
            Ok(())
        })
    }

    fn transform(&mut self, mark: u8, transform: &TransformSpec) -> Result<(), NoRoom> {
        let start = self.position();
        self.put(&[mark, 0, 0, 0, transform.kind.0, 0])?;
        self.put(&transform.id.to_be_bytes())?;
        if let Some(bits) = transform.key_bits {
            self.put(&KEY_LENGTH.to_be_bytes())?;
            self.put(&bits.to_be_bytes())?;
        }
        self.close(start)
    }
}

impl TransformSpec {
    /// "No algorithm of this type", which is also what the absence of the type says (RFC 7296 §3.3.3).
    pub const fn none(kind: TransformType) -> Self {
        Self { kind, id: 0, key_bits: None }
    }
}

impl From<&Transform<'_>> for TransformSpec {
    fn from(transform: &Transform<'_>) -> Self {
        let key_bits = match transform.key_length() {
            KeyLength::Bits(bits) => Some(bits),
            KeyLength::Absent | KeyLength::Unacceptable => None,
        };
        Self { kind: transform.kind, id: transform.id, key_bits }
    }
}

/// The registry's word, with the key length where there is one: `ENCR_AES_GCM_16/256`.
impl fmt::Display for TransformSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TransformType::ENCR => EncrId(self.id).fmt(f)?,
            TransformType::PRF => PrfId(self.id).fmt(f)?,
            TransformType::INTEG => IntegId(self.id).fmt(f)?,
            TransformType::ESN => EsnId(self.id).fmt(f)?,
            TransformType(4 | 6..=12) => GroupId(self.id).fmt(f)?,
            kind => write!(f, "{kind} {}", self.id)?,
        }
        match self.key_bits {
            Some(bits) => write!(f, "/{bits}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::wire::tests::body;

    /// Two ESP proposals: AES-GCM-16 with 256 and 128 bits; AES-CBC with a TLV attribute nobody knows.
    const BODY: [u8; 75] = [
        2, 0, 0, 36, 1, 3, 4, 2, 0xc0, 0, 0, 1, //
        3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 1, 0, //
        0, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 0, 128, //
        0, 0, 0, 39, 2, 3, 4, 2, 0xc0, 0, 0, 1, //
        3, 0, 0, 19, 1, 0, 0, 12, 0x80, 14, 0, 128, 0, 99, 0, 3, 1, 2, 3, //
        0, 0, 0, 8, 5, 0, 0, 0,
    ];

    const GCM: [TransformSpec; 2] = [
        TransformSpec { kind: TransformType::ENCR, id: 20, key_bits: Some(256) },
        TransformSpec { kind: TransformType::ENCR, id: 20, key_bits: Some(128) },
    ];

    #[test]
    fn reads_proposals_and_transforms_in_order() {
        let proposals: Vec<_> = Sa::parse(&BODY).unwrap().proposals().collect();
        let [first, second] = proposals.as_slice() else { panic!("{proposals:?}") };
        assert_eq!((first.number, first.protocol, first.spi), (1, ProtocolId::ESP, &[0xc0, 0, 0, 1][..]));
        assert!(first.transforms().map(|transform| TransformSpec::from(&transform)).eq(GCM));
        let lengths: Vec<_> = second.transforms().map(|transform| transform.key_length()).collect();
        assert_eq!(lengths, [KeyLength::Unacceptable, KeyLength::Absent]);
    }

    #[test]
    fn writes_what_it_reads() {
        let written = body(|out| out.sa(ProtocolId::ESP, &[0xc0, 0, 0, 1], [(1, GCM)]));
        let mut only = BODY[..36].to_vec();
        only[0] = 0;
        assert_eq!(written, only);
        let none: [(u8, [TransformSpec; 0]); 0] = [];
        assert_eq!(body(|out| out.sa(ProtocolId::IKE, &[], none)), []);
    }

    #[test]
    fn atk_13_no_proposal_and_no_transform_are_read_as_none() {
        assert_eq!(Sa::parse(&[]).unwrap().proposals().count(), 0);
        let sa = Sa::parse(&[0, 0, 0, 8, 1, 3, 0, 0]).unwrap();
        assert_eq!(sa.proposals().next().unwrap().transforms().count(), 0);
    }

    #[test]
    fn cut_anywhere_it_is_malformed() {
        for len in 1..BODY.len() {
            assert_eq!(Sa::parse(&BODY[..len]), Err(Malformed), "{len}");
        }
    }

    #[test]
    fn atk_08_lengths_stay_strictly_inside_each_other() {
        // Every length and count field, with every value but the right one.
        for at in [3, 6, 7, 15, 27, 39, 42, 43, 51, 70] {
            for value in (0..=u8::MAX).filter(|value| *value != BODY[at]) {
                let mut octets = BODY;
                octets[at] = value;
                assert_eq!(Sa::parse(&octets), Err(Malformed), "{at} {value}");
            }
        }
        assert_eq!(Sa::parse(&[0, 0, 0, 8, 1, 1, 10, 0]), Err(Malformed));
    }

    #[test]
    fn the_mark_of_the_last_one_stands_on_the_last_one() {
        for at in [0, 12, 24, 36, 48, 67] {
            for value in (0..=u8::MAX).filter(|value| *value != BODY[at]) {
                let mut octets = BODY;
                octets[at] = value;
                assert_eq!(Sa::parse(&octets), Err(Malformed), "{at} {value}");
            }
        }
    }

    #[test]
    fn atk_14_an_attribute_that_reaches_out_spoils_its_transform_only() {
        let key_length = |attributes: &[u8]| {
            let transform = Transform { kind: TransformType::ENCR, id: 20, attributes };
            transform.key_length()
        };
        assert_eq!(key_length(&[]), KeyLength::Absent);
        assert_eq!(key_length(&[0x80, 14, 1, 0]), KeyLength::Bits(256));
        for attributes in [
            &[0x80][..],
            &[0x80, 14],
            &[0x80, 14, 1],
            &[0, 14, 0xff, 0xff],
            &[0, 14, 0, 2, 1, 0],
            &[0, 14, 0, 0],
            &[0x80, 15, 1, 0],
            &[0x80, 14, 1, 0, 0x80, 14, 1, 0],
            &[0x80, 14, 1, 0, 0],
        ] {
            assert_eq!(key_length(attributes), KeyLength::Unacceptable, "{attributes:?}");
        }
    }

    #[test]
    fn atk_04_more_transforms_than_anybody_sends_are_read() {
        for count in [0u8, 1, 40, 41, 255] {
            let specs = (0..count).map(|id| TransformSpec { kind: TransformType::KE, id: id.into(), key_bits: None });
            let mut buf = [0; 20_000];
            let header = crate::wire::header::Header::new(1, 2, crate::registry::ExchangeType::IKE_SA_INIT, 0);
            let mut out = MessageWriter::new(&mut buf, &header).unwrap();
            out.sa(ProtocolId::IKE, &[], (1..=9).map(|number| (number, specs.clone()))).unwrap();
            let len = out.finish().len;
            let sa = Sa::parse(&buf[32..len]).unwrap();
            assert_eq!(
                sa.proposals().map(|proposal| proposal.transforms().count()).sum::<usize>(),
                9 * usize::from(count)
            );
        }
        let mut buf = [0; 4096];
        let header = crate::wire::header::Header::new(1, 2, crate::registry::ExchangeType::IKE_SA_INIT, 0);
        let mut out = MessageWriter::new(&mut buf, &header).unwrap();
        assert_eq!(out.sa(ProtocolId::IKE, &[], [(1, [GCM[0]; 256])]), Err(NoRoom));
    }

    #[test]
    fn prints_the_words_of_the_registry() {
        assert_eq!(GCM[0].to_string(), "ENCR_AES_GCM_16/256");
        assert_eq!(TransformSpec::none(TransformType::ESN).to_string(), "NO_ESN");
        assert_eq!(TransformSpec { kind: TransformType::ADDKE1, id: 36, key_bits: None }.to_string(), "ML_KEM_768");
        assert_eq!(TransformSpec { kind: TransformType(99), id: 7, key_bits: None }.to_string(), "transform type 99 7");
        assert_eq!(TransformSpec { kind: TransformType::ENCR, id: 999, key_bits: None }.to_string(), "ENCR 999");
    }
}
