//! What the control thread cannot go on without: waited for while all else is taken.

use std::time::{Duration, Instant};

use super::{Daemon, Ended};
use crate::inbox::Inputs;

impl Daemon {
    /// Takes inputs, as ever, until this holds; `false`: it does not by then.
    pub(super) fn wait_for(
        &mut self,
        inputs: &Inputs,
        patience: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<bool, Ended> {
        let until = Instant::now() + patience;
        while !holds(self) {
            let left = until.saturating_duration_since(Instant::now());
            // What is there already is given without waiting, and there may be more of it than ever ends.
            if left.is_zero() {
                return Ok(false);
            }
            match inputs.recv_timeout(left) {
                Ok(input) => self.take(input).map_or(Ok(()), Err)?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}
