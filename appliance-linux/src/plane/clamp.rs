//! The maximum segment size that TCP names through tunnels: lowered, so that its segments fit also where nobody hears ICMP.

use gateway_core::config::Settings;
use ipsec_core::mss::clamp;

/// How long packets may be that segments are to fit, of IPv4 and of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Clamp(Option<(u16, u16)>);

impl Clamp {
    pub(super) fn of(settings: &Settings) -> Self {
        let [v4, v6] = [true, false].map(|v4| settings.mss.mtu(settings.mtu, v4));
        Self(v4.zip(v6))
    }

    /// Lowers what a packet names that goes into a tunnel, or comes out of one.
    pub(super) fn lower(self, packet: &mut [u8]) {
        let (Some((v4, v6)), Some(first)) = (self.0, packet.first()) else { return };
        let mtu = if first >> 4 == 4 { v4 } else { v6 };
        clamp(packet, usize::from(mtu));
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::config::Config;

    use super::*;

    #[test]
    fn a_syn_names_what_fits_the_tunnel_or_what_is_written() {
        // MSS 1460, of either family.
        let mut v4 = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9];
        let mut v6 = vec![0x60, 0, 0, 0, 0, 24, 6, 64];
        v6.extend([0; 32]);
        for packet in [&mut v4, &mut v6] {
            packet.extend([0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
        }
        for (settings, named) in [
            ("", [1360, 1340]),
            ("mss = \"1200\"", [1200; 2]),
            ("mss = \"off\"", [1460; 2]),
            ("mtu = 1300", [1260, 1240]),
        ] {
            let config = Config::parse(&format!("[gateway]\n{settings}\n")).unwrap().0;
            let lowered = [&v4, &v6].map(|packet| {
                let mut packet = packet.clone();
                Clamp::of(&config.gateway).lower(&mut packet);
                u16::from_be_bytes(*packet.last_chunk().unwrap())
            });
            assert_eq!(lowered, named, "{settings}");
        }
        Clamp::default().lower(&mut []);
    }
}
