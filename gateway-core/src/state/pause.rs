//! The pauses between attempts.

use core::time::Duration;

/// The pause before the next attempt after `failures` of them, between one second and a minute. `salt` spreads those
/// who failed together.
pub(crate) fn pause(failures: u32, salt: u32) -> Duration {
    let base = 1000_u64.checked_shl(failures.saturating_sub(1).min(6)).unwrap_or(u64::MAX).min(60_000);
    let spread = u64::from(salt.wrapping_mul(2_654_435_761) >> 24); // 0 to 255
    Duration::from_millis(base.saturating_add(base.saturating_mul(spread) >> 11)) // up to an eighth more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_53_between_two_attempts_there_is_always_a_pause_of_a_second_to_a_minute() {
        for failures in (0..200).chain([u32::MAX]) {
            for salt in [0, 1, u32::MAX] {
                let pause = pause(failures, salt);
                assert!((Duration::from_secs(1)..Duration::from_secs(68)).contains(&pause), "{failures}: {pause:?}");
            }
        }
    }
}
