//! IVs that nobody may foresee.
#![cfg(feature = "cipher-mac")]

use std::collections::HashSet;

use crate::ends::{NOW, Sa};
use getrandom::SysRng;
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::ivs::WithIvs;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{CipherAlg, IntegAlg, Protection};
use ipsec_core::engine::{Outbound, OutboundSlot};
use rand_core::UnwrapErr;

type Engine = WithIvs<RustCrypto, UnwrapErr<SysRng>>;

const PACKETS: u64 = 1_000_000;

/// How often each octet was seen.
struct Seen(Box<[[u32; 256]; 16]>);

impl Seen {
    fn note(&mut self, block: u128) {
        for (place, octet) in self.0.iter_mut().zip(block.to_be_bytes()) {
            place[usize::from(octet)] += 1;
        }
    }

    /// Chi-square with 255 degrees of freedom at each place: 255 ± 23 of what is even. Outside these bounds it comes to lie once
    /// in a thousand million times.
    fn assert_even(&self, what: &str) {
        let expected = PACKETS as f64 / 256.0;
        for (place, seen) in self.0.iter().enumerate() {
            let chi: f64 = seen.iter().map(|seen| (f64::from(*seen) - expected).powi(2) / expected).sum();
            assert!((140.0..420.0).contains(&chi), "{what}, octet {place}: {chi}");
        }
    }
}

#[test]
fn atk_62_ivs_of_a_million_packets_in_cbc_mode_are_even_and_none_comes_twice() {
    let sa = Sa::default().under(Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::AesXcbc));
    let mut slots = [OutboundSlot::<Engine>::EMPTY];
    let engine = WithIvs::new(RustCrypto, UnwrapErr(SysRng));
    let mut out: Outbound<'_, Engine> = Outbound::new(engine, &mut [], &mut slots);
    let id = out.install(NOW, &sa.outbound()).unwrap();
    let inner = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1];
    let seen = || Seen(Box::new([[0; 256]; 16]));
    let (mut ivs, mut steps, mut taken) = (seen(), seen(), HashSet::new());
    let (mut last, mut last_block, mut bytes) = (0_u128, 0_u128, [0; 200]);
    for number in 0..PACKETS {
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        out.seal(NOW, id, &mut packet).unwrap();
        let esp = packet.as_slice();
        let iv = u128::from_be_bytes(esp[8..24].try_into().unwrap());
        assert!(taken.insert(iv), "packet {number}");
        assert_ne!(iv, last_block, "the last block of the packet before is no IV (packet {number})");
        ivs.note(iv);
        // What one could compute of the one before.
        steps.note(iv.wrapping_sub(last));
        (last, last_block) = (iv, u128::from_be_bytes(esp[esp.len() - 28..esp.len() - 12].try_into().unwrap()));
    }
    ivs.assert_even("IVs");
    steps.assert_even("differences");
}
