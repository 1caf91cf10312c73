//! No key outlives its SA anywhere in the memory of a process: tables, heap, and the stacks' dead frames (Linux only).
//!
//! One test, alone in its process: whatever ran beside it would move and copy memory while it is searched.
#![cfg(all(feature = "rustcrypto", target_os = "linux"))]

mod memory;

use std::fs::File;
use std::hint::black_box;
use std::io::Read;

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::{AeadAlg, rustcrypto::RustCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{Hits, PolicyId};
use ipsec_core::time::Instant;
use zeroize::Zeroize;

use memory::{MASK, Noted};

struct Gateway {
    outbound: Outbound<'static, RustCrypto>,
    inbound: Inbound<'static, RustCrypto>,
}

impl Gateway {
    fn new() -> Self {
        let hits = || vec![Hits::NONE; 4].leak();
        let outbound = (0..4).map(|_| OutboundSlot::<RustCrypto>::EMPTY).collect::<Vec<_>>().leak();
        let inbound = (0..4).map(|_| InboundSlot::<RustCrypto>::EMPTY).collect::<Vec<_>>().leak();
        Self {
            outbound: Outbound::new(RustCrypto, hits(), outbound),
            inbound: Inbound::new(RustCrypto, hits(), inbound, vec![0; 64].leak()),
        }
    }

    /// Both halves; the one that is made last leaves its stack to be searched. The test never holds the key as it is but
    /// while it is handed over.
    fn install(&mut self, masked: &[u8; 36], outbound_last: bool) -> (SaId, SaId) {
        let mut keymat = [0; 36];
        keymat.iter_mut().zip(masked).for_each(|(plain, masked)| *plain = masked ^ MASK);
        let any = [TrafficSelector::addrs(AddrRange::ANY_V4)];
        let path = Path { local: "192.0.2.1:4500".parse().unwrap(), remote: "192.0.2.2:4500".parse().unwrap() };
        let params = |keymat| Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
            protection: AeadAlg::Aes256Gcm16.into(),
            keymat,
            esn: true,
            path,
            encap: Encap::Udp,
            policy: PolicyId(1),
            local_ts: &any,
            remote_ts: &any,
            lifetime: Lifetime::default(),
        };
        let outbound = OutboundParams {
            sa: params(&keymat),
            last_sent: 0,
            last_number: u64::MAX,
            copy_dscp: true,
            dont_fragment: DontFragment::Copy,
        };
        let inbound = InboundParams { sa: params(&keymat), window: 64, highest_seen: 0 };
        let mut receiving = None;
        if outbound_last {
            receiving = Some(self.inbound.install(Instant::ZERO, &inbound).unwrap());
        }
        let sending = self.outbound.install(Instant::ZERO, &outbound).unwrap();
        let receiving = receiving.unwrap_or_else(|| self.inbound.install(Instant::ZERO, &inbound).unwrap());
        keymat.zeroize();
        (sending, receiving)
    }

    /// A packet through both engines.
    fn pass(&mut self, sa: SaId) {
        let inner = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2][..], &[0; 8]].concat();
        let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        let egress = self.outbound.seal(Instant::ZERO, sa, &mut packet).unwrap();
        let path = Path { local: egress.path.remote, remote: egress.path.local };
        self.inbound.open(Instant::ZERO, path, Ecn::NotEct, &mut packet).unwrap();
    }
}

/// Where the key begins in writable memory.
fn places(masked: &[u8; 36]) -> Vec<String> {
    let noted = Noted::from([(*masked.first_chunk().unwrap(), ())]);
    memory::places(&noted).into_iter().map(|(_, at, line)| format!("{at:#x} in {line}")).collect()
}

#[test]
fn f_51_a_key_is_where_its_sa_is_and_nowhere_after_it() {
    let mut masked = [0; 36];
    File::open("/dev/urandom").unwrap().read_exact(&mut masked).unwrap();
    let mut gateway = Gateway::new();
    assert_eq!(places(&masked), [""; 0], "before it was there");
    let mut planted: Vec<u8> = masked.iter().map(|octet| octet ^ MASK).collect();
    // The search reads behind the compiler's back: what nothing else reads might not be written at all.
    black_box(&mut planted);
    assert_eq!(places(&masked).len(), 1, "the search finds what is there");
    planted.zeroize();
    for round in 0..4 {
        let (outbound, inbound) = gateway.install(&masked, round % 2 == 0);
        // Engines that work with the key as it is hold it once for each SA; others have made something else of it.
        let held = places(&masked);
        assert!(held.len() <= 2, "{held:#?}");
        gateway.pass(outbound);
        assert_eq!(places(&masked), held, "after a packet");
        assert!(gateway.outbound.remove(outbound) && gateway.inbound.remove(inbound));
        assert_eq!(places(&masked), [""; 0], "after the SA");
    }
}
