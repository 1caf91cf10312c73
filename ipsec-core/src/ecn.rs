//! Explicit Congestion Notification across a tunnel (RFC 6040).

/// The ECN field of an IP header.
///
/// ```
/// use ipsec_core::ecn::Ecn;
/// let (inner, outer) = (Ecn::of(0b1011_1010), Ecn::Ce);
/// assert_eq!(inner, Ecn::Ect0);
/// assert_eq!(inner.decapsulate(outer), Some(Ecn::Ce)); // congestion on the way is told to the receiver
/// assert_eq!(Ecn::NotEct.decapsulate(outer), None); // who cannot be told loses the packet
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not understand ECN.
    NotEct = 0,
    /// ECN-capable transport, codepoint 1.
    Ect1 = 1,
    /// ECN-capable transport, codepoint 0.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// The lower two bits of a traffic class or TOS octet.
    #[inline]
    pub const fn of(traffic_class: u8) -> Self {
        match traffic_class & 0x03 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The inner field after a tunnel whose outer header arrived with `outer` (RFC 6040 §4.2, figure 4). `None`: the
    /// packet must be dropped, for congestion was signalled to a transport that cannot learn of it.
    #[inline]
    pub const fn decapsulate(self, outer: Self) -> Option<Self> {
        match (self, outer) {
            (Self::NotEct, Self::Ce) => None,
            (Self::NotEct, _) => Some(Self::NotEct),
            (Self::Ce, _) | (_, Self::Ce) => Some(Self::Ce),
            (Self::Ect0, Self::Ect1) => Some(Self::Ect1),
            (inner, _) => Some(inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atk_66_every_pair_of_inner_and_outer_ecn_is_as_in_rfc_6040_figure_4() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        let outers = [NotEct, Ect0, Ect1, Ce];
        let figure_4 = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, row) in figure_4 {
            for (outer, expected) in outers.into_iter().zip(row) {
                assert_eq!(inner.decapsulate(outer), expected, "{inner:?} under {outer:?}");
            }
        }
    }

    #[test]
    fn the_field_is_the_lower_two_bits() {
        for octet in 0..=255 {
            assert_eq!(Ecn::of(octet) as u8, octet & 3);
        }
    }
}
