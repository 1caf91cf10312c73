//! A new configuration for the running daemon.

use std::collections::{BTreeMap, BTreeSet};

use gateway_core::config::Config;
use tracing::{error, info};

use super::commands::{done, named_children};
use super::{Daemon, filter};
use crate::capacity::Need;
use crate::configuration::{self, Loaded};
use crate::control::protocol::{self, Answer};
use crate::control::server::Reply;
use crate::machine::Trouble;
use crate::notify::Reloading;
use crate::socket::Listen;
use crate::story;

impl Daemon {
    /// Reads the configuration again and tells what a reload would change.
    pub(super) fn compare(&mut self) -> Result<Vec<String>, protocol::Cause> {
        let Loaded { config, warnings } = configuration::load(&self.path).map_err(|lines| wrong(&lines))?;
        let change = self.gateway.compare(config, self.endpoint.pad());
        let mut lines = warnings;
        lines.extend(story::changes(change.diff()));
        lines.push("a dry run: everything is as it was".to_owned());
        Ok(lines)
    }

    /// Reads the configuration again and applies what changed. Anything wrong leaves everything as it was. The boundary is
    /// told first; when it has followed, the rest does.
    pub(crate) fn reload(&mut self, answer: Option<Reply>) {
        if let Some(reload) = &mut self.reload {
            match answer {
                Some(answer) => {
                    let cause = refused("another reload is under way".to_owned(), "try again when it is over");
                    let _ = answer.send(Answer::Failed { cause });
                }
                // The file may have changed since it was read.
                None => reload.again = true,
            }
            return;
        }
        let reloading = Reloading::begin();
        match self.prepare_reload() {
            Ok((config, warnings, wanted)) => {
                self.reload = Some(Reload { config, warnings, wanted, answer, again: false, reloading });
            }
            Err(cause) => tell(answer, Err(cause)),
        }
    }

    fn prepare_reload(&mut self) -> Result<(Config, Vec<String>, BTreeSet<Listen>), protocol::Cause> {
        let loaded = configuration::load(&self.path);
        let Loaded { mut config, warnings } = loaded.map_err(|lines| wrong(&lines))?;
        // Asked before anything is changed. What fits is taken: see `Gateway::reload`.
        let room = Need::of(&config).squeezes_into(&self.capacity);
        room.map_err(|text| refused(text, "a restart makes room"))?;
        // What takes a new start goes on as it was at the last one.
        let written = std::mem::replace(&mut config.gateway, self.machine.started().clone());
        let wanted = self.machine.prepare(&config).inspect(|_| self.machine.route(&config));
        config.gateway = written;
        let wanted = wanted.map_err(|trouble| refused(trouble.text, &trouble.hint))?;
        Ok((config, warnings, wanted))
    }

    /// The boundary has followed the new configuration, or has not.
    pub(super) fn finish_reload(&mut self, followed: Result<(), Trouble>) {
        let Some(reload) = self.reload.take() else { return };
        let Reload { config, warnings, wanted, answer, again, reloading } = reload;
        let done = match followed {
            Ok(()) => self.apply_reload(config, warnings, wanted),
            Err(trouble) => Err(refused(trouble.text, &trouble.hint)),
        };
        tell(answer, done);
        drop(reloading);
        if again {
            self.reload(None);
        }
    }

    /// The daemon ends before it is known what becomes of a new configuration.
    pub(super) fn give_up_reload(&mut self) {
        if let Some(outcome) = self.machine.routed() {
            self.finish_reload(outcome);
        }
        if let Some(reload) = self.reload.take() {
            // What is left is what the running configuration asks for.
            self.machine.give_up_route();
            tell(reload.answer, Err(refused("the daemon ends".to_owned(), "")));
        }
    }

    fn apply_reload(
        &mut self,
        config: Config,
        warnings: Vec<String>,
        wanted: BTreeSet<Listen>,
    ) -> Result<Vec<String>, protocol::Cause> {
        let level = config.gateway.log;
        let now = self.clock.now();
        let names = named_children(self.endpoint.pad());
        let change = self.gateway.compare(config, self.endpoint.pad());
        let (gateway, mut parts) = self.lend();
        let (diff, placed) = gateway.take_up(now, change, &mut parts);
        self.published.is_old();
        let numbers: BTreeMap<_, _> =
            named_children(self.endpoint.pad()).into_iter().map(|(number, name)| (name, number)).collect();
        self.plane.renumber(|number| numbers.get(names.get(&number)?).copied());
        // Those who are gone are told through the sockets that they know, and those who are new are called through theirs.
        self.machine.listen_also(&wanted);
        self.transmit();
        self.machine.listen_only(wanted);
        self.readdress();
        self.level.set(filter(level));
        placed.map_err(|cause| protocol::Cause::from(&cause))?;
        let mut lines = warnings;
        lines.extend(story::changes(&diff));
        Ok(lines)
    }
}

/// A new configuration, ready but for the boundary.
pub(super) struct Reload {
    config: Config,
    warnings: Vec<String>,
    /// What to listen to then.
    wanted: BTreeSet<Listen>,
    /// Who asked for it; none: a signal.
    answer: Option<Reply>,
    /// A signal came meanwhile.
    again: bool,
    reloading: Reloading,
}

/// The file is no configuration.
fn wrong(lines: &[String]) -> protocol::Cause {
    protocol::Cause { code: protocol::Cause::CONFIGURATION.to_owned(), ..refused(lines.join("\n"), "") }
}

fn refused(text: String, hint: &str) -> protocol::Cause {
    protocol::Cause {
        code: "not-reloaded".to_owned(),
        text: format!("{text}\nthe running configuration is unchanged"),
        hint: hint.to_owned(),
    }
}

/// Tells the log, and whoever asked for a reload, what became of it. Who asked may have left, and nobody would know.
fn tell(answer: Option<Reply>, outcome: Result<Vec<String>, protocol::Cause>) {
    match &outcome {
        Ok(lines) => lines.iter().for_each(|line| info!("reload: {line}")),
        Err(cause) => error!("reload: {}", cause.text),
    }
    if let Some(answer) = answer {
        answer.send(done(outcome));
    }
}
