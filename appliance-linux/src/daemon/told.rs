//! What the machine tells.

use tracing::error;

use super::state::{Daemon, Ended};
use crate::ask::Answer;

impl Daemon {
    /// Takes what the machine tells; `Some` when it ends the daemon.
    pub(super) fn told(&mut self, answer: Answer) -> Option<Ended> {
        if !matches!(answer, Answer::Kept | Answer::Sent { astray: None, .. }) {
            self.served.expire();
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
            Answer::SetAside { ticket, outcome } => {
                let now = self.clock.now();
                let (gateway, mut parts) = self.lend();
                gateway.reserved(now, ticket, outcome, &mut parts);
            }
            Answer::Stands(stands) => self.machine.stands(stands),
            Answer::Failed(why) => {
                error!("{why}");
                return Some(Ended::Failed);
            }
        }
        None
    }
}
