//! Row B13: one injected fault raises one counter, and with it one line of xfrm_stat.

#[cfg(feature = "cipher-mac")]
use crate::drained::Drained;
use crate::ends::{
    In, NOW, Out, Ruled, Sa, a_to_b, inbound, ip, later_fragment, open, open_marked, outbound, path, ports, reversed,
    seal, tunnel,
};
use ipsec_core::buf::PacketBuf;
#[cfg(feature = "ipcomp")]
use ipsec_core::compression::Compression;
use ipsec_core::crypto::deferred::Deferred;
use ipsec_core::crypto::rustcrypto::{AeadKey, RustCrypto};
use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, InPlace, IntegAlg, PacketCrypto, Protection};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::{Counters, Discard};
#[cfg(feature = "ipcomp")]
use ipsec_core::net::Cpi;
use ipsec_core::net::{AddrRange, PortRange};
use ipsec_core::sa::{Lifetime, Limit, Mode};
use ipsec_core::spd::{Action, Direction, Rule, RuleId, Selector};

fn with_trailer(inner: &[u8], next_header: u8) -> Vec<u8> {
    [inner, &[0, next_header]].concat()
}

fn spent() -> Lifetime {
    Lifetime { hard: Limit { packets: Some(0), ..Limit::default() }, ..Lifetime::default() }
}

const ANY: Selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);

fn ruled(rules: &[(Selector, Action)]) -> (Out, In) {
    let (mut out, mut inn) = (outbound(1), inbound(1));
    for (number, (selector, action)) in (1..).zip(rules) {
        let rule = Rule { id: RuleId(number), priority: number, selector: *selector, action: *action };
        out.insert_rule(rule).unwrap();
        inn.insert_rule(rule).unwrap();
    }
    (out, inn)
}

/// One port is blocked, the rest passes.
fn ruled_by_port() -> (Out, In) {
    let port = ANY.protocol(17).remote_ports(PortRange::single(9));
    ruled(&[(port, Action::Discard), (ANY, Action::Bypass)])
}

fn seal_into(out: &mut Out, bytes: &mut [u8], offset: usize) {
    let inner = a_to_b(8);
    bytes[offset..offset + inner.len()].copy_from_slice(&inner);
    let id = out.sas().next().unwrap().id;
    let mut packet = PacketBuf::new(bytes, offset, inner.len()).unwrap();
    out.seal(NOW, id, &mut packet).unwrap_err();
}

/// An engine beside the processor, without a place for any packet.
struct Full;

impl PacketCrypto for Full {
    type AeadKey = AeadKey;
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
        RustCrypto.aead_key(alg, key)
    }

    fn seal(&mut self, _: &AeadKey, _: &[u8; 12], _: &[u8], _: &mut [u8]) {
        unreachable!("it is only asked to begin")
    }

    fn open(&mut self, _: &AeadKey, _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        unreachable!("it is only asked to begin")
    }
}

impl Deferred for Full {
    type Job = ();

    fn begin_seal(&mut self, _: &AeadKey, _: &[u8; 12], _: &[u8], _: &[u8]) -> Option<()> {
        None
    }

    fn begin_open(&mut self, _: &AeadKey, _: &[u8; 12], _: &[u8], _: &[u8]) -> Option<()> {
        None
    }

    fn is_done(&mut self, (): &()) -> bool {
        true
    }

    fn finish(&mut self, (): (), _: &mut [u8]) -> Result<(), Forged> {
        Err(Forged)
    }
}

/// Injects the fault behind one reason. Returns the counters of both engines together.
fn inject(fault: Discard) -> Counters {
    let sa = Sa::default();
    let (mut out, mut inn) = tunnel(&sa);
    let good = seal(&mut out, &a_to_b(30)).unwrap();
    let inner = a_to_b(30);
    match fault {
        Discard::InHeader => _ = open(&mut inn, &good[..20]),
        Discard::InUnknownSpi => _ = open(&mut inn, &Sa { spi: 0x4321, ..sa }.esp(1, &with_trailer(&inner, 4))),
        Discard::InForged => _ = open(&mut inn, &[&good[..good.len() - 1], &[!good[good.len() - 1]]].concat()),
        Discard::InPadding => _ = open(&mut inn, &sa.esp(1, &[&inner[..], &[9, 1, 4]].concat())),
        Discard::InMode => _ = open(&mut inn, &sa.esp(1, &with_trailer(&inner, 6))),
        Discard::InReplayed => {
            open(&mut inn, &good).unwrap();
            _ = open(&mut inn, &good);
        }
        Discard::InStale => {
            open(&mut inn, &sa.esp(100, &with_trailer(&inner, 4))).unwrap();
            _ = open(&mut inn, &good);
        }
        Discard::InExpired => {
            (_, inn) = tunnel(&Sa { lifetime: spent(), ..sa });
            _ = open(&mut inn, &good);
        }
        Discard::InSelectors => {
            let outside = ip("10.9.0.1", "10.2.0.9", 17, &ports(1, 2, 0));
            _ = open(&mut inn, &sa.esp(1, &with_trailer(&outside, 4)));
        }
        Discard::InCongestion => _ = open_marked(&mut inn, Ecn::Ce, &good),
        Discard::InChecksum => {
            let id = inn.sas().next().unwrap().id;
            assert!(inn.check_checksums(id, true));
            // Nothing that a sum of zeros would be.
            let tcp = ip("10.1.0.5", "10.2.0.9", 6, &[0; 20]);
            _ = open(&mut inn, &sa.esp(1, &with_trailer(&tcp, 4)));
        }
        Discard::InDummy => _ = open(&mut inn, &sa.esp(1, &with_trailer(&inner, 59))),
        Discard::InClear => _ = inn.check_clear(NOW, Direction::In, &ip("10.1.0.5", "10.2.0.9", 17, &ports(1, 2, 0))),
        Discard::InNoPolicy => {
            _ = inn.check_clear(NOW, Direction::In, &ip("10.9.0.1", "10.9.0.2", 17, &ports(1, 2, 0)))
        }
        Discard::InBlocked => {
            (_, inn) = ruled(&[(ANY, Action::Discard)]);
            _ = inn.check_clear(NOW, Direction::In, &inner);
        }
        Discard::InFragment => {
            (_, inn) = ruled_by_port();
            _ = inn.check_clear(NOW, Direction::In, &later_fragment(&ip("10.2.0.9", "10.1.0.5", 17, &ports(2, 1, 8))));
        }
        Discard::OutFragment => {
            (out, _) = ruled_by_port();
            _ = out.classify(NOW, &later_fragment(&inner));
        }
        Discard::OutHeader => _ = out.classify(NOW, &inner[..19]),
        Discard::OutNoRoom => seal_into(&mut out, &mut [0; 60], 0),
        Discard::OutMode => {
            (out, _) = tunnel(&Sa { mode: Mode::Transport, ..sa });
            seal_into(&mut out, &mut [0; 200], 80);
        }
        #[cfg(not(feature = "cipher-mac"))]
        Discard::OutNoIv => {}
        #[cfg(feature = "cipher-mac")]
        Discard::OutNoIv => {
            // Its one IV is drawn when the SA is installed.
            let sa = Sa {
                protection: Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha256),
                keymat: vec![7; 48],
                ..sa
            };
            let mut slots = [OutboundSlot::<Drained>::EMPTY];
            let mut out: Outbound<'_, _> = Outbound::new(Drained(1), &mut [], &mut slots);
            let id = out.install(NOW, &sa.outbound()).unwrap();
            let mut bytes = [0; 200];
            let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
            out.seal(NOW, id, &mut packet).unwrap_err();
            return out.counters().clone();
        }
        Discard::OutNoPolicy => _ = out.classify(NOW, &ip("10.9.0.1", "10.9.0.2", 17, &ports(1, 2, 0))),
        Discard::OutBlocked => {
            (out, _) = ruled(&[(ANY, Action::Discard)]);
            _ = out.classify(NOW, &inner);
        }
        Discard::OutNoSa => {
            let id = out.sas().next().unwrap().id;
            out.remove(id);
            let mut bytes = [0; 200];
            let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
            out.seal(NOW, id, &mut packet).unwrap_err();
        }
        Discard::OutExpired => {
            (out, _) = tunnel(&Sa { lifetime: spent(), ..sa });
            seal_into(&mut out, &mut [0; 200], 64);
        }
        Discard::OutExhausted => {
            (out, _) = tunnel(&Sa { sequence: u64::from(u32::MAX), ..sa });
            seal_into(&mut out, &mut [0; 200], 64);
        }
        Discard::InEngine => {
            let (mut slots, mut windows) = ([InboundSlot::<Full>::EMPTY], [0; 16]);
            let mut inn: Inbound<'_, _> = Inbound::new(Full, &mut [], &mut slots, &mut windows);
            inn.install(NOW, &sa.inbound()).unwrap();
            let (mut bytes, len) = (good.clone(), good.len());
            let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
            inn.begin_open(NOW, reversed(path()), Ecn::NotEct, &mut packet).unwrap_err();
            return inn.counters().clone();
        }
        Discard::OutEngine => {
            let mut slots = [OutboundSlot::<Full>::EMPTY];
            let mut out: Outbound<'_, _> = Outbound::new(Full, &mut [], &mut slots);
            let id = out.install(NOW, &sa.outbound()).unwrap();
            let mut bytes = [0; 200];
            let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
            out.begin_seal(NOW, id, &mut packet).unwrap_err();
            return out.counters().clone();
        }
        #[cfg(feature = "ipcomp")]
        Discard::InCompression => {
            let sa = Sa { compression: Some(Cpi(300)), ..sa };
            let mut inn = inbound(1).compressing(Box::leak(Box::new(Never)));
            inn.install(NOW, &sa.inbound()).unwrap();
            open(&mut inn, &sa.esp(1, &[4, 0, 1, 44, 1, 2, 2, 108])).unwrap_err();
            return inn.counters().clone();
        }
        other => panic!("no fault for {other:?}"),
    }
    let mut sum = out.counters().clone();
    sum.add(inn.counters());
    sum
}

/// Understands nothing.
#[cfg(feature = "ipcomp")]
struct Never;

#[cfg(feature = "ipcomp")]
impl Compression for Never {
    fn compress(&mut self, _: &[u8]) -> Option<&[u8]> {
        None
    }

    fn decompress(&mut self, _: &[u8], _: usize) -> Option<&[u8]> {
        None
    }
}

#[test]
fn b13_each_reason_is_raised_by_one_fault_and_shows_as_one_line() {
    // Only ciphers need a random IV.
    let there = |fault: &&Discard| match **fault {
        Discard::OutNoIv => cfg!(feature = "cipher-mac"),
        Discard::InCompression => cfg!(feature = "ipcomp"),
        _ => true,
    };
    for fault in Discard::ALL.iter().filter(there) {
        let counters = inject(*fault);
        for (reason, count) in counters.iter() {
            assert_eq!(count, u64::from(reason == *fault), "{reason:?} after {fault:?}");
        }
        for (name, count) in counters.xfrm() {
            assert_eq!(count, u64::from(fault.xfrm_name() == Some(name)), "{name} after {fault:?}");
        }
    }
}

#[test]
fn b13_the_lines_stand_in_the_order_of_the_kernel() {
    let lines: Vec<_> = Counters::default().xfrm().map(|(name, _)| name).collect();
    assert_eq!(lines.len(), 32);
    assert_eq!(lines[..3], ["XfrmInError", "XfrmInBufferError", "XfrmInHdrError"]);
    assert_eq!(lines[31], "XfrmOutNoQueueSpace");
}
