//! Engines that work while the processor does something else.

use super::{Forged, PacketCrypto};

/// An engine that is given a packet now and is asked for it later: a peripheral with slots and an interrupt, or another core.
///
/// Engines of packets over it have two halves of each call:
/// [`begin_seal`](crate::engine::Outbound::begin_seal) and [`finish_seal`](crate::engine::Outbound::finish_seal),
/// [`begin_open`](crate::engine::Inbound::begin_open) and [`finish_open`](crate::engine::Inbound::finish_open). What is under way
/// holds its packet, so that nobody sends or reads it meanwhile. AEADs alone are deferred; a cipher with a MAC beside it is done at
/// once, by the calls of [`PacketCrypto`]. Those an implementer has in any case: begin, wait, finish.
///
/// The example `peripheral` is an engine with slots in full. This is the shape of it:
///
/// ```
/// use ipsec_core::aead_only;
/// use ipsec_core::crypto::rustcrypto::{AeadKey, RustCrypto};
/// use ipsec_core::crypto::deferred::Deferred;
/// use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
/// /// Takes a packet of up to 64 octets, and works on it when it is asked for it.
/// struct Later;
/// struct Job { text: [u8; 64], len: usize, right: bool }
///
/// impl Job {
///     fn new(text_and_tag: &[u8]) -> Option<Self> {
///         let mut text = [0; 64];
///         text.get_mut(..text_and_tag.len())?.copy_from_slice(text_and_tag);
///         Some(Self { text, len: text_and_tag.len(), right: true })
///     }
/// }
///
/// impl Deferred for Later {
///     type Job = Job;
///     fn begin_seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<Job> {
///         let mut job = Job::new(text_and_tag)?;
///         RustCrypto.seal(key, nonce, aad, &mut job.text[..job.len]);
///         Some(job)
///     }
///     fn begin_open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<Job> {
///         let mut job = Job::new(text_and_tag)?;
///         job.right = RustCrypto.open(key, nonce, aad, &mut job.text[..job.len]).is_ok();
///         Some(job)
///     }
///     fn is_done(&mut self, _: &Job) -> bool {
///         true // of a chip: its interrupt was here
///     }
///     fn finish(&mut self, job: Job, text_and_tag: &mut [u8]) -> Result<(), Forged> {
///         text_and_tag.copy_from_slice(&job.text[..job.len]);
///         if job.right { Ok(()) } else { Err(Forged) }
///     }
/// }
///
/// impl PacketCrypto for Later {
///     type AeadKey = AeadKey;
///     type Place<T> = InPlace<T>;
///     aead_only!();
///     fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
///         RustCrypto.aead_key(alg, key)
///     }
///     fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
///         let job = self.begin_seal(key, nonce, aad, text_and_tag).expect("a slot");
///         self.finish(job, text_and_tag).expect("it works");
///     }
///     fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
///         let job = self.begin_open(key, nonce, aad, text_and_tag).ok_or(Forged)?;
///         self.finish(job, text_and_tag)
///     }
/// }
///
/// let key = Later.aead_key(AeadAlg::Aes128Gcm16, &[7; 16]).unwrap();
/// let mut text_and_tag = *b"a text..................";
/// Later.seal(&key, &[0; 12], b"header", &mut text_and_tag);
/// assert!(Later.open(&key, &[0; 12], b"header", &mut text_and_tag).is_ok());
/// ```
pub trait Deferred: PacketCrypto {
    /// What is under way. Whoever drops one wants no result, and its place is free again when the work on it is over. A key may be
    /// dropped meanwhile: its slot is to be kept until then.
    type Job;

    /// Begins what [`seal`](PacketCrypto::seal) does. What is lent is copied, or handed to the peripheral, before this returns.
    /// `None`: there is no place for it now, or it is too long.
    fn begin_seal(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &[u8],
    ) -> Option<Self::Job>;

    /// Begins what [`open`](PacketCrypto::open) does, likewise.
    fn begin_open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &[u8],
    ) -> Option<Self::Job>;

    /// Whether [`finish`](Self::finish) would not have to wait.
    fn is_done(&mut self, job: &Self::Job) -> bool;

    /// Waits if it has to, and writes what came of it where the text was that it was given.
    ///
    /// # Errors
    /// [`Forged`]: when opening as ever; when sealing, that the peripheral failed. What was written must not be used.
    fn finish(&mut self, job: Self::Job, text_and_tag: &mut [u8]) -> Result<(), Forged>;
}

impl<P: Deferred> Deferred for &mut P {
    type Job = P::Job;

    fn begin_seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<P::Job> {
        P::begin_seal(self, key, nonce, aad, text_and_tag)
    }

    fn begin_open(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &[u8]) -> Option<P::Job> {
        P::begin_open(self, key, nonce, aad, text_and_tag)
    }

    fn is_done(&mut self, job: &P::Job) -> bool {
        P::is_done(self, job)
    }

    fn finish(&mut self, job: P::Job, text_and_tag: &mut [u8]) -> Result<(), Forged> {
        P::finish(self, job, text_and_tag)
    }
}
