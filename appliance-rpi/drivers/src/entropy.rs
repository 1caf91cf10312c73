//! Hardware random numbers with the health tests of NIST SP 800-90B §4.4.
//!
//! No numbers without health: a source that fails a test, at start or later, gives nothing any more until the next
//! boot, and says why.

use crate::{Clock, Mmio, TimedOut, wait_until};

/// A device that fills a FIFO with random words.
pub trait RandomDevice {
    /// Switches the device on.
    ///
    /// # Errors
    /// [`TimedOut`] when it does not come out of reset.
    fn start(&mut self, clock: &mut impl Clock) -> Result<(), TimedOut>;

    /// Takes the next word, waiting within bounds.
    ///
    /// # Errors
    /// [`EntropyError::Silent`] or [`EntropyError::DeviceFault`].
    fn next(&mut self, clock: &mut impl Clock) -> Result<u32, EntropyError>;
}

/// Why there are no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntropyError {
    /// The machine has no random number generator.
    Absent,
    /// The device delivers nothing.
    Silent,
    /// The device reports a failure of its own tests.
    DeviceFault,
    /// Repetition count test: one value came too often in a row.
    Repetition,
    /// Adaptive proportion test: one value came too often in a window.
    Proportion,
}

impl EntropyError {
    /// The cause in a few words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Absent => "no random number generator",
            Self::Silent => "the random number generator delivers nothing",
            Self::DeviceFault => "the random number generator reports a fault",
            Self::Repetition => "repetition count test failed",
            Self::Proportion => "adaptive proportion test failed",
        }
    }
}

/// Longest wait for one word: the slower of the two devices makes one in well under a millisecond.
const WORD_LIMIT_US: u64 = 100_000;

// Health tests over octets, at 1 bit of claimed min-entropy an octet and a false alarm rate of 2^-40:
// SP 800-90B §4.4.1, C = 1 + 40 / H; §4.4.2, W = 512, C = 1 + the critical value of the binomial (512, 1/2) at 2^-40.
const REPETITION_CUTOFF: u32 = 41;
const PROPORTION_WINDOW: u32 = 512;
const PROPORTION_CUTOFF: u32 = 336;
/// Octets tested before the first is given out.
const START_UP_OCTETS: u32 = 1024;

/// The two continuous tests over a stream of octets.
#[derive(Debug, Default)]
struct HealthTests {
    last: Option<u8>,
    run: u32,
    sample: u8,
    hits: u32,
    position: u32,
}

impl HealthTests {
    fn admit(&mut self, octet: u8) -> Result<(), EntropyError> {
        if self.last == Some(octet) {
            self.run += 1;
        } else {
            self.last = Some(octet);
            self.run = 1;
        }
        if self.run >= REPETITION_CUTOFF {
            return Err(EntropyError::Repetition);
        }
        if self.position == 0 {
            self.sample = octet;
            self.hits = 0;
        }
        if octet == self.sample {
            self.hits += 1;
        }
        self.position = (self.position + 1) % PROPORTION_WINDOW;
        if self.hits >= PROPORTION_CUTOFF { Err(EntropyError::Proportion) } else { Ok(()) }
    }
}

/// A random device behind its health tests.
#[derive(Debug)]
pub struct Entropy<R> {
    device: R,
    tests: HealthTests,
    failed: Option<EntropyError>,
}

impl<R: RandomDevice> Entropy<R> {
    /// Starts the device and runs the start-up tests.
    ///
    /// # Errors
    /// The first test that failed.
    pub fn start(mut device: R, clock: &mut impl Clock) -> Result<Self, EntropyError> {
        device.start(clock).map_err(|_| EntropyError::Silent)?;
        let mut entropy = Self { device, tests: HealthTests::default(), failed: None };
        let mut discarded = [0; 4];
        for _ in 0..START_UP_OCTETS / 4 {
            entropy.fill(clock, &mut discarded)?;
        }
        Ok(entropy)
    }

    /// Fills `octets`, testing every one.
    ///
    /// # Errors
    /// The test that failed now or earlier; `octets` is zeroed then.
    pub fn fill(&mut self, clock: &mut impl Clock, octets: &mut [u8]) -> Result<(), EntropyError> {
        let outcome = self.try_fill(clock, octets);
        if let Err(error) = outcome {
            octets.fill(0);
            self.failed = Some(error);
        }
        outcome
    }

    fn try_fill(&mut self, clock: &mut impl Clock, octets: &mut [u8]) -> Result<(), EntropyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        for chunk in octets.chunks_mut(4) {
            let word = self.device.next(clock)?.to_le_bytes();
            for octet in word {
                self.tests.admit(octet)?;
            }
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
        Ok(())
    }
}

/// The generator of the BCM2835 family up to Pi 3 (peripherals + 0x104000).
///
/// Offsets and bits agree in Circle (lib/bcmrandom.cpp) and QEMU (hw/misc/bcm2835_rng.c).
#[derive(Debug)]
pub struct Bcm2835Rng<M>(pub M);

const BCM2835_CTRL: usize = 0x0;
const BCM2835_STATUS: usize = 0x4;
const BCM2835_DATA: usize = 0x8;
const BCM2835_ENABLE: u32 = 1;
/// Words the device throws away after being switched on.
const BCM2835_WARM_UP: u32 = 0x4_0000;

impl<M: Mmio> RandomDevice for Bcm2835Rng<M> {
    fn start(&mut self, _clock: &mut impl Clock) -> Result<(), TimedOut> {
        self.0.write32(BCM2835_STATUS, BCM2835_WARM_UP);
        self.0.modify32(BCM2835_CTRL, BCM2835_ENABLE, BCM2835_ENABLE);
        Ok(())
    }

    fn next(&mut self, clock: &mut impl Clock) -> Result<u32, EntropyError> {
        let registers = &mut self.0;
        wait_until(clock, WORD_LIMIT_US * 10, || registers.read32(BCM2835_STATUS) >> 24 != 0)
            .map_err(|_| EntropyError::Silent)?;
        Ok(registers.read32(BCM2835_DATA))
    }
}

/// The generator of the Pi 4 (iproc-rng200, peripherals + 0x104000).
///
/// Offsets and bits agree in Zephyr (drivers/entropy/entropy_iproc_rng200.c) and TamaGo (soc/bcm2712/rng.go).
#[derive(Debug)]
pub struct Rng200<M>(pub M);

const RNG200_CTRL: usize = 0x00;
const RNG200_RNG_RESET: usize = 0x04;
const RNG200_RBG_RESET: usize = 0x08;
/// The firmware may have told it to discard 262,144 bits after a reset, a quarter of a second at its rate (Circle
/// bcmrandom200.cpp, Linux for the BCM2711 bcm2835-rng.c).
const RNG200_WARM_UP_LIMIT_US: u64 = 2_000_000;
const RNG200_INT_STATUS: usize = 0x18;
const RNG200_FIFO_DATA: usize = 0x20;
const RNG200_FIFO_COUNT: usize = 0x24;
const RNG200_ENABLE_MASK: u32 = 0x1fff;
const RNG200_FIFO_COUNT_MASK: u32 = 0xff;
/// NIST_FAIL and MASTER_FAIL_LOCKOUT.
const RNG200_FAULTS: u32 = 1 << 5 | 1 << 31;

impl<M: Mmio> RandomDevice for Rng200<M> {
    fn start(&mut self, clock: &mut impl Clock) -> Result<(), TimedOut> {
        let registers = &mut self.0;
        registers.modify32(RNG200_CTRL, RNG200_ENABLE_MASK, 0);
        registers.write32(RNG200_INT_STATUS, u32::MAX);
        for reset in [RNG200_RBG_RESET, RNG200_RNG_RESET] {
            registers.write32(reset, 1);
        }
        for reset in [RNG200_RNG_RESET, RNG200_RBG_RESET] {
            registers.write32(reset, 0);
        }
        registers.modify32(RNG200_CTRL, RNG200_ENABLE_MASK, 1);
        wait_until(clock, RNG200_WARM_UP_LIMIT_US, || registers.read32(RNG200_FIFO_COUNT) & RNG200_FIFO_COUNT_MASK != 0)
    }

    fn next(&mut self, clock: &mut impl Clock) -> Result<u32, EntropyError> {
        let registers = &mut self.0;
        if registers.read32(RNG200_INT_STATUS) & RNG200_FAULTS != 0 {
            return Err(EntropyError::DeviceFault);
        }
        wait_until(clock, WORD_LIMIT_US, || registers.read32(RNG200_FIFO_COUNT) & RNG200_FIFO_COUNT_MASK != 0)
            .map_err(|_| EntropyError::Silent)?;
        Ok(registers.read32(RNG200_FIFO_DATA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ticking;

    /// Both devices at once: the register files do not overlap where it matters.
    struct Model {
        state: u32,
        words: u32,
        stuck_after: u32,
        silent_after: u32,
        fault_after: u32,
        enabled: bool,
        /// Looks at the FIFO before something is in it.
        warm_up: u32,
    }

    impl Model {
        fn healthy() -> Self {
            Self {
                state: 0x1234_5678,
                words: 0,
                stuck_after: u32::MAX,
                silent_after: u32::MAX,
                fault_after: u32::MAX,
                enabled: false,
                warm_up: 0,
            }
        }
        fn word(&mut self) -> u32 {
            assert!(self.enabled, "read while switched off");
            self.words += 1;
            if self.words <= self.stuck_after {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 17;
                self.state ^= self.state << 5;
                self.state
            } else {
                0x5555_5555
            }
        }
    }

    impl Mmio for Model {
        fn read32(&mut self, offset: usize) -> u32 {
            match offset {
                BCM2835_STATUS if self.words >= self.silent_after => 0,
                BCM2835_STATUS => 1 << 24,
                RNG200_FIFO_COUNT if self.warm_up > 0 => {
                    self.warm_up -= 1;
                    0
                }
                RNG200_FIFO_COUNT => u32::from(self.words < self.silent_after),
                BCM2835_DATA | RNG200_FIFO_DATA => self.word(),
                RNG200_INT_STATUS if self.words >= self.fault_after => 1 << 5,
                _ => 0,
            }
        }
        fn write32(&mut self, offset: usize, value: u32) {
            if offset == RNG200_CTRL {
                self.enabled = value & 1 == 1;
            }
        }
        fn barrier(&mut self) {}
    }

    fn outcome(device: impl RandomDevice) -> Result<(), EntropyError> {
        let mut clock = Ticking::default();
        let mut entropy = Entropy::start(device, &mut clock)?;
        for _ in 0..100 {
            let mut key = [0; 32];
            entropy.fill(&mut clock, &mut key)?;
            assert_ne!(key, [0; 32]);
        }
        Ok(())
    }

    #[test]
    fn healthy_sources_pass() {
        assert_eq!(outcome(Bcm2835Rng(Model::healthy())), Ok(()));
        assert_eq!(outcome(Rng200(Model::healthy())), Ok(()));
    }

    #[test]
    fn a_generator_that_has_to_warm_up_is_waited_for() {
        // Some half a second: each look takes two of the clock's microseconds.
        assert_eq!(outcome(Rng200(Model { warm_up: 260_000, ..Model::healthy() })), Ok(()));
    }

    #[test]
    fn a_source_stuck_from_the_start_never_starts() {
        let model = Model { stuck_after: 0, ..Model::healthy() };
        assert_eq!(outcome(Bcm2835Rng(model)), Err(EntropyError::Repetition));
    }

    #[test]
    fn a_source_that_gets_stuck_later_is_caught_and_stays_out() {
        let model = Model { stuck_after: 300, ..Model::healthy() };
        let mut clock = Ticking::default();
        let mut entropy = Entropy::start(Rng200(model), &mut clock).expect("healthy at start");
        let mut octets = [0xff; 1024];
        assert_eq!(entropy.fill(&mut clock, &mut octets), Err(EntropyError::Repetition));
        assert_eq!(octets, [0; 1024], "nothing of a failed read is left to be used");
        assert_eq!(entropy.fill(&mut clock, &mut octets[..4]), Err(EntropyError::Repetition));
    }

    #[test]
    fn a_biased_source_is_caught() {
        let mut tests = HealthTests::default();
        let outcome = (0..10_000u32).try_for_each(|n| tests.admit(if n % 4 == 3 { n.to_le_bytes()[0] } else { 7 }));
        assert_eq!(outcome, Err(EntropyError::Proportion));
    }

    #[test]
    fn a_silent_source_is_given_up() {
        for after in [0, 300] {
            let model = || Model { silent_after: after, ..Model::healthy() };
            assert_eq!(outcome(Bcm2835Rng(model())), Err(EntropyError::Silent));
            assert_eq!(outcome(Rng200(model())), Err(EntropyError::Silent));
        }
    }

    #[test]
    fn a_fault_the_device_reports_counts() {
        let model = Model { fault_after: 300, ..Model::healthy() };
        assert_eq!(outcome(Rng200(model)), Err(EntropyError::DeviceFault));
    }
}
