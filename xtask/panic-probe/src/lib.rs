//! What the probes share: a panic handler that cannot be linked, and values the optimiser knows nothing about.
//!
//! The handler calls a symbol that nobody defines. Each program calls a core with arbitrary input; if one panic path
//! survives optimisation, the handler is needed and the link fails.
#![no_std]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ptr;
use core::time::Duration;

use ipsec_core::crypto::deferred::Deferred;
use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, InPlace, IntegAlg, NoIv, PacketCrypto, Protection, Purpose};
use ipsec_core::net::{AddrRange, Path, PortRange, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;

unsafe extern "C" {
    fn __panic_must_not_link() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never runs: a program that needs this symbol does not link.
    unsafe { __panic_must_not_link() }
}

/// Makes `$work` the whole program.
#[macro_export]
macro_rules! program {
    ($work:expr) => {
        /// Where the program begins; nothing ever runs it.
        #[unsafe(no_mangle)]
        pub extern "C" fn _start() -> ! {
            loop {
                $work;
            }
        }
    };
}

static mut SOURCE: u64 = 0;
static mut SINK: u64 = 0;
static mut ARENA: [u8; 1 << 16] = [0; 1 << 16];

/// Any number.
pub fn any() -> u64 {
    // SAFETY: the programs have one thread, and the static lives as long as they do.
    unsafe { ptr::read_volatile(&raw const SOURCE) }
}

/// Any number below `limit`, which is not 0.
pub fn below(limit: usize) -> usize {
    let any = any() as usize;
    if any < limit { any } else { 0 }
}

/// Keeps `value` and what it was made of from being optimised away.
pub fn keep(value: u64) {
    // SAFETY: as in `any`.
    unsafe { ptr::write_volatile(&raw mut SINK, value) }
}

/// Any octets, up to 64 KiB.
pub fn octets() -> &'static mut [u8] {
    let arena = &raw mut ARENA;
    // SAFETY: as in `any`. That two such slices overlap does no harm, because nothing ever runs.
    let arena: &'static mut [u8] = unsafe { &mut *arena };
    let length = below(1 << 16);
    let slice = arena.get_mut(..length).unwrap_or_default();
    core::hint::black_box(slice)
}

/// Any address.
pub fn address() -> IpAddr {
    if any() == 0 {
        Ipv4Addr::from_bits(any() as u32).into()
    } else {
        Ipv6Addr::from_bits(u128::from(any()) << 64 | u128::from(any())).into()
    }
}

/// Any path.
pub fn path() -> Path {
    let socket = || SocketAddr::new(address(), any() as u16);
    Path { local: socket(), remote: socket() }
}

/// Any instant.
pub fn instant() -> Instant {
    Instant::from_millis(any())
}

/// Any duration.
pub fn duration() -> Duration {
    Duration::from_millis(any())
}

/// Any traffic selector.
pub fn selector() -> TrafficSelector {
    let addrs = AddrRange::new(address(), address()).unwrap_or(AddrRange::ANY_V4);
    TrafficSelector { addrs, protocol: any() as u8, ports: PortRange { start: any() as u16, end: any() as u16 } }
}

/// Any algorithm.
pub fn aead() -> AeadAlg {
    match any() {
        0 => AeadAlg::Aes128Gcm16,
        1 => AeadAlg::Aes192Gcm16,
        _ => AeadAlg::Aes256Gcm16,
    }
}

/// Any mode.
pub fn mode() -> Mode {
    match any() {
        0 => Mode::Tunnel,
        1 => Mode::Transport,
        _ => Mode::Beet,
    }
}

/// Any algorithms of ESP.
pub fn protection() -> Protection {
    let cipher = match any() {
        0 => CipherAlg::Aes128Cbc,
        1 => CipherAlg::Aes192Cbc,
        2 => CipherAlg::Aes192Ctr,
        _ => CipherAlg::Null,
    };
    let integ = match any() {
        0 => IntegAlg::HmacSha512,
        1 => IntegAlg::AesXcbc,
        _ => IntegAlg::HmacSha256,
    };
    match any() {
        0 => aead().into(),
        1 => Protection::ImplicitIv(aead()),
        2 => AeadAlg::Aes128Ccm8.into(),
        3 => AeadAlg::Aes256Gmac.into(),
        _ => Protection::CipherMac(cipher, integ),
    }
}

/// A crypto engine that does anything to its buffers: the cores have to hold whatever an engine answers.
pub struct Engine;

/// Its key.
pub struct Key(
    /// Anything.
    pub u64,
);

impl PacketCrypto for Engine {
    type AeadKey = Key;
    type CipherKey = Key;
    type IntegKey = Key;
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, _: AeadAlg, key: &[u8]) -> Option<Key> {
        core::hint::black_box(key);
        (any() == 0).then(|| Key(any()))
    }

    fn cipher_key(&mut self, _: CipherAlg, _: Purpose, key: &[u8]) -> Option<Key> {
        core::hint::black_box(key);
        (any() == 0).then(|| Key(any()))
    }

    fn encrypt(&mut self, key: &Key, iv: &[u8; 16], text: &mut [u8]) {
        keep(key.0);
        core::hint::black_box((iv, text));
    }

    fn decrypt(&mut self, key: &Key, iv: &[u8; 16], text: &mut [u8]) {
        keep(key.0);
        core::hint::black_box((iv, text));
    }

    fn integ_key(&mut self, _: IntegAlg, key: &[u8]) -> Option<Key> {
        core::hint::black_box(key);
        (any() == 0).then(|| Key(any()))
    }

    fn icv(&mut self, key: &Key, parts: &[&[u8]], icv: &mut [u8]) {
        keep(key.0);
        core::hint::black_box((parts, icv));
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        core::hint::black_box(iv);
        if any() == 0 { Ok(()) } else { Err(NoIv) }
    }

    fn seal(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        keep(key.0);
        core::hint::black_box((nonce, aad, text_and_tag));
    }

    fn open(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        keep(key.0);
        core::hint::black_box((nonce, aad, text_and_tag));
        if any() == 0 { Ok(()) } else { Err(Forged) }
    }
}

impl Deferred for Engine {
    type Job = Key;

    fn begin_seal(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<Key> {
        core::hint::black_box((nonce, aad, text_and_tag));
        (any() == 0).then_some(Key(key.0))
    }

    fn begin_open(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<Key> {
        core::hint::black_box((nonce, aad, text_and_tag));
        (any() == 0).then_some(Key(key.0))
    }

    fn is_done(&mut self, job: &Key) -> bool {
        job.0 == any()
    }

    fn finish(&mut self, job: Key, text_and_tag: &mut [u8]) -> Result<(), Forged> {
        core::hint::black_box(text_and_tag);
        if job.0 == any() { Ok(()) } else { Err(Forged) }
    }
}

#[cfg(feature = "rustcrypto")]
mod random {
    use core::convert::Infallible;

    use rand_core::{TryCryptoRng, TryRng};

    /// A generator that gives anything.
    pub struct AnyRandom;

    impl TryRng for AnyRandom {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(super::any() as u32)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(super::any())
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            core::hint::black_box(out);
            Ok(())
        }
    }

    impl TryCryptoRng for AnyRandom {}
}

/// The default provider, with a generator that gives anything.
#[cfg(feature = "rustcrypto")]
pub fn provider() -> ike_core::crypto::rustcrypto::RustCrypto<random::AnyRandom> {
    ike_core::crypto::rustcrypto::RustCrypto::new(random::AnyRandom, ipsec_core::crypto::rustcrypto::RustCrypto)
}
