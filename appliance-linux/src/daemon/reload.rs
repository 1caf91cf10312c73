//! A new configuration for the running daemon.

use std::collections::BTreeMap;
use std::time::Instant;

use gateway_core::config::Diff;
use gateway_core::policy::manual_of;
use tracing::{error, info, warn};

use super::commands::{done, named_children};
use super::reloading::{READING, Reload};
use super::state::{Daemon, filter};
use crate::ask::{Needs, Question, Trouble};
use crate::capacity::Need;
use crate::configuration::Loaded;
use crate::control::protocol::{self, Answer};
use crate::control::server::Reply;
use crate::notify::Reloading;
use crate::plane::Hosts;
use crate::story;

/// What a reload comes to.
struct Story {
    /// What the file has that is probably not meant.
    warnings: Vec<String>,
    changes: Vec<String>,
    /// What passes in clear from then on.
    openings: Vec<String>,
}

impl Story {
    fn of(warnings: Vec<String>, diff: &Diff) -> Self {
        Self { warnings, changes: story::changes(diff), openings: story::openings(diff) }
    }

    /// All of it, as whoever asked reads it.
    fn lines(self) -> Vec<String> {
        [self.warnings, self.changes, self.openings].concat()
    }
}

impl Daemon {
    /// Reads the configuration again and tells what a reload would change.
    pub(super) fn compare(&mut self, answer: Reply) {
        self.begin(Some(answer), || None);
    }

    /// Reads the configuration again and applies what changed. Anything wrong leaves everything as it was. The boundary is
    /// told first; when it has followed, the rest does.
    pub(crate) fn reload(&mut self, answer: Option<Reply>) {
        self.begin(answer, || Some(Reloading::begin()));
    }

    fn begin(&mut self, answer: Option<Reply>, tell: impl FnOnce() -> Option<Reloading>) {
        match answer {
            answer if self.reloads.are_over() => {
                let number = self.reloads.begin(answer, tell());
                self.machine.ask(Question::Configuration(number));
            }
            Some(answer) => {
                let cause = refused("another reload is under way".to_owned(), "try again when it is over");
                let _ = answer.send(Answer::Failed { cause });
            }
            None => self.reloads.repeat(),
        }
    }

    /// The file has been read.
    pub(super) fn reload_read(&mut self, number: u64, read: Result<Box<Loaded>, Vec<String>>) {
        let Some(reload) = self.reloads.take_read(number) else { return };
        let read = read.and_then(|loaded| {
            let reset = self.gateway.counters_reset(&loaded.config);
            if reset.is_empty() {
                Ok(loaded)
            } else {
                Err(reset.iter().map(|error| format!("{}: {error}", error.at)).collect())
            }
        });
        let outcome = match read {
            Err(lines) => Err(wrong(&lines)),
            Ok(loaded) if reload.reloading.is_none() => Ok(self.compared(*loaded)),
            Ok(loaded) => match self.follow(loaded) {
                Ok(loaded) => return self.reloads.follow(reload, loaded),
                Err(cause) => Err(cause),
            },
        };
        self.end_reload(reload, outcome);
    }

    /// A file that cannot be read in time is given up.
    pub(super) fn expire_reload(&mut self) {
        if let Some(reload) = self.reloads.take_late(Instant::now()) {
            let text = format!("the configuration could not be read within {} s", READING.as_secs());
            self.end_reload(reload, Err(refused(text, "the disk, or what it is mounted from, does not answer")));
        }
    }

    fn end_reload(&mut self, reload: Reload, outcome: Result<Story, protocol::Cause>) {
        let Reload { answer, reloading, again, .. } = reload;
        let outcome = if reloading.is_some() { told(outcome) } else { tried(outcome) };
        if let Some(answer) = answer {
            answer.send(done(outcome));
        }
        drop(reloading);
        if again {
            self.reload(None);
        }
    }

    fn compared(&self, Loaded { config, warnings }: Loaded) -> Story {
        Story::of(warnings, self.gateway.compare(config, self.endpoint.pad()).diff())
    }

    /// Has the machine follow a configuration, which is asked before anything is changed. What fits is taken: see
    /// `Gateway::reload`.
    fn follow(&mut self, mut loaded: Box<Loaded>) -> Result<Box<Loaded>, protocol::Cause> {
        let config = &mut loaded.config;
        let room = Need::of(config).squeezes_into(&self.capacity);
        room.map_err(|text| refused(text, "a restart makes room"))?;
        // What takes a new start goes on as it was at the last one.
        let written = std::mem::replace(&mut config.gateway, self.machine.started().clone());
        let needs = Needs::of(config);
        config.gateway = written;
        self.machine.ask(Question::Follow(Box::new(needs)));
        Ok(loaded)
    }

    /// The boundary has followed the new configuration, or has not.
    pub(super) fn finish_reload(&mut self, followed: Result<(), Trouble>) {
        let Some(mut reload) = self.reloads.take() else { return };
        let outcome = match (followed, reload.following.take()) {
            (Ok(()), Some(loaded)) => self.apply_reload(*loaded),
            (Ok(()), None) => return, // it was given up
            (Err(trouble), _) => Err(refused(trouble.text, &trouble.hint)),
        };
        self.end_reload(reload, outcome);
    }

    /// The daemon ends before it is known what becomes of a new configuration. Whether the machine has yet to say so, which takes
    /// no longer than it is busy.
    pub(super) fn give_up_reload(&mut self) -> bool {
        let following = self.reloads.give_up();
        if following {
            // What is left then is what the running configuration asks for.
            self.machine.ask(Question::GiveUp);
        }
        following
    }

    /// Whoever waits for one that is not over hears that nothing comes of it.
    pub(super) fn drop_reload(&mut self) {
        if let Some(reload) = self.reloads.take() {
            self.end_reload(reload, Err(refused("the daemon ends".to_owned(), "")));
        }
    }

    fn apply_reload(&mut self, Loaded { config, warnings }: Loaded) -> Result<Story, protocol::Cause> {
        let level = config.gateway.log;
        let now = self.clock.now();
        let names = named_children(self.endpoint.pad());
        let hosts = Hosts::of(&config);
        let change = self.gateway.compare(config, self.endpoint.pad());
        let (gateway, mut parts) = self.lend();
        let (diff, placed) = gateway.take_up(now, change, &mut parts);
        self.served.expire();
        let numbers: BTreeMap<_, _> =
            named_children(self.endpoint.pad()).into_iter().map(|(number, name)| (name, number)).collect();
        self.plane.set_hosts(hosts);
        self.plane.renumber(|number| match manual_of(number) {
            Some(pair) => self.gateway.manual_pair(pair).map(|_| number),
            None => numbers.get(names.get(&number)?).copied(),
        });
        // Those who are gone are told while their sockets are open yet.
        self.transmit();
        self.machine.ask(Question::TakenUp);
        self.level.set(filter(level));
        placed.map_err(|cause| protocol::Cause::from(&cause))?;
        Ok(Story::of(warnings, &diff))
    }
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

/// Tells the log what became of a reload: who asked for it may have left, and nobody would know.
fn told(outcome: Result<Story, protocol::Cause>) -> Result<Vec<String>, protocol::Cause> {
    match &outcome {
        Ok(news) => {
            news.warnings.iter().for_each(|line| warn!("reload: {line}"));
            news.changes.iter().for_each(|line| info!("reload: {line}"));
            news.openings.iter().for_each(|line| warn!("reload: {line}"));
        }
        Err(cause) => cause.text.lines().for_each(|line| error!("reload: {line}")),
    }
    outcome.map(Story::lines)
}

/// What a dry run came to is for whoever asked: in the log it would read like something that happened.
fn tried(outcome: Result<Story, protocol::Cause>) -> Result<Vec<String>, protocol::Cause> {
    info!("reload: a dry run was asked for, everything is as it was");
    let mut lines = outcome?.lines();
    lines.push("a dry run: everything is as it was".to_owned());
    Ok(lines)
}
