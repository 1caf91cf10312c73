//! VLAN tags (IEEE 802.1Q §9.6), one for each of the tag's own EtherTypes.

use ipsec_core::wire::cursor::{Malformed, Reader, Writer};

use super::ethernet::EtherType;

/// Octets that a tag puts between the addresses and the EtherType of what is tagged.
pub const TAG_LEN: usize = 4;

/// A VLAN tag.
///
/// ```
/// use ipsec_core::wire::cursor::{Reader, Writer};
/// use traffic_core::wire::ethernet::EtherType;
/// use traffic_core::wire::vlan::{TAG_LEN, Tag};
/// let tag = Tag { kind: EtherType::VLAN, priority: 3, drop_eligible: false, vlan: 7 };
/// let mut octets = [0; TAG_LEN];
/// tag.write(EtherType::IPV4, &mut Writer::new(&mut octets)).unwrap();
/// assert_eq!(octets, [0x60, 0x07, 0x08, 0x00]);
/// assert_eq!(Tag::read(EtherType::VLAN, &mut Reader::new(&octets)), Ok((tag, EtherType::IPV4)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The EtherType that announced it: whose VLAN it is.
    pub kind: EtherType,
    /// Priority (PCP), 0 to 7.
    pub priority: u8,
    /// May be dropped first (DEI).
    pub drop_eligible: bool,
    /// Number of the VLAN, 0 to 4095; 0 is none: the tag says the priority only.
    pub vlan: u16,
}

impl Tag {
    /// Reads what stands behind the EtherType `kind`, and the EtherType of what is tagged.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut off.
    #[inline]
    pub fn read(kind: EtherType, reader: &mut Reader<'_>) -> Result<(Self, EtherType), Malformed> {
        let control = reader.u16()?;
        let tag = Self {
            kind,
            priority: control.to_be_bytes()[0] >> 5,
            drop_eligible: control & 0x1000 != 0,
            vlan: control & 0x0fff,
        };
        Ok((tag, EtherType(reader.u16()?)))
    }

    /// Writes what stands behind its own EtherType, and `tagged`, the one of what is tagged: [`TAG_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, tagged: EtherType, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let drop_eligible = if self.drop_eligible { 0x1000 } else { 0 };
        let control = u16::from(self.priority & 7) << 13 | drop_eligible | self.vlan & 0x0fff;
        writer.put(&control.to_be_bytes())?;
        writer.put(&tagged.0.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (priority, drop_eligible, vlan) in [(0, false, 0), (7, true, 4095), (5, false, 7), (2, true, 0x800)] {
            let tag = Tag { kind: EtherType::VLAN, priority, drop_eligible, vlan };
            let mut octets = [7; TAG_LEN];
            tag.write(EtherType::ARP, &mut Writer::new(&mut octets)).unwrap();
            assert_eq!(Tag::read(EtherType::VLAN, &mut Reader::new(&octets)), Ok((tag, EtherType::ARP)));
            for len in 0..TAG_LEN {
                assert_eq!(Tag::read(EtherType::VLAN, &mut Reader::new(&octets[..len])), Err(Malformed));
            }
        }
        let mut octets = [0; TAG_LEN];
        let tag = Tag { kind: EtherType::PROVIDER_VLAN, priority: 3, drop_eligible: true, vlan: 0x123 };
        tag.write(EtherType::IPV4, &mut Writer::new(&mut octets)).unwrap();
        assert_eq!(octets, [0x71, 0x23, 0x08, 0x00]);
    }
}
