//! What the machine tells.

use std::time::{Duration, Instant};

use tracing::error;

use super::{Daemon, Ended};
use crate::ask::Answer;
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

    /// Takes what the machine tells; `Some` when it ends the daemon.
    pub(super) fn told(&mut self, answer: Answer) -> Option<Ended> {
        if !matches!(answer, Answer::Kept | Answer::Sent { astray: None, .. }) {
            self.published.expire();
        }
        match answer {
            Answer::Located { question, located } => {
                let now = self.clock.now();
                let (gateway, mut parts) = self.lend();
                gateway.located(now, &question, located, &mut parts);
            }
            Answer::Moved => self.readdress(),
            Answer::Ways { gone, astray } => self.readdressed(&gone, &astray),
            Answer::Sent { ike, path, astray } => self.sent(ike, path, astray.map_or(Ok(()), Err)),
            Answer::Read { number, read } => self.reload_read(number, read),
            Answer::Followed(followed) => self.finish_reload(followed),
            Answer::BroughtForward(before) => self.bring_forward(before),
            Answer::Kept => self.books.kept(),
            Answer::Stands(stands) => self.machine.stands(stands),
            Answer::Failed(why) => {
                error!("{why}");
                return Some(Ended::Failed);
            }
        }
        None
    }
}
