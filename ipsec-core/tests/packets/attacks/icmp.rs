//! What anybody on the way can say of packets.

use crate::ends::{Sa, a_to_b, seal, tunnel};
use ipsec_core::icmp::Report;
use ipsec_core::mtu::LEAST_V4;
use ipsec_core::wire::ip::Version;

#[test]
fn atk_67_what_is_about_nobodys_spi_is_known_for_that_and_no_mtu_is_below_the_floor() {
    let (mut out, _) = tunnel(&Sa::default());
    let esp = seal(&mut out, &a_to_b(600)).unwrap();
    let report = |mtu: [u8; 2], spi: u32, sent: u16| {
        let [l0, l1] = sent.to_be_bytes();
        let ip = [0x45, 0, l0, l1, 0, 0, 0x40, 0, 9, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        let message = [&[3, 4, 0, 0, 0, 0, mtu[0], mtu[1]][..], &ip, &spi.to_be_bytes(), &esp[4..8]].concat();
        Report::of_message(Version::V4, &message).unwrap()
    };
    let ours = out.sas().next().unwrap();
    for mtu in [0_u16, 68, 575] {
        let forged = report(mtu.to_be_bytes(), ours.spi.get(), 1500);
        assert_eq!(forged.spi, Some(ours.spi), "only for this one anything is to be done");
        assert!(forged.mtu.is_some_and(|mtu| usize::from(mtu) >= LEAST_V4), "{mtu}: {forged:?}");
        assert_eq!(report(mtu.to_be_bytes(), ours.spi.get(), LEAST_V4 as u16).mtu, None, "{mtu}");
        for spi in [0, 1, 255, 256, !ours.spi.get(), ours.spi.get() + 1] {
            let forged = report(mtu.to_be_bytes(), spi, 1500);
            assert!(out.sas().all(|sa| Some(sa.spi) != forged.spi), "{spi:#x}");
            assert_eq!(forged.spi.is_none(), spi < 256);
        }
    }
    // To read one changes nothing, whatever it says.
    assert_eq!(out.sas().next(), Some(ours));
}
