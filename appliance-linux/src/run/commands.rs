//! What the daemon does for the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gateway_core::config::Config;
use gateway_core::gateway::{Parts, Unknown};
use gateway_core::peers::Peers;
use gateway_core::policy::policy_of;
use ipsec_core::spd::PolicyId;
use tracing::{error, info};

use super::{Daemon, filter, with_gateway};
use crate::capacity::Need;
use crate::configuration::{self, Loaded};
use crate::control::protocol::{self, Answer, PeerState, Request};
use crate::control::server::{Call, Reply};
use crate::control::waiting::{Goal, Wait};
use crate::machine::Trouble;
use crate::notify::Reloading;
use crate::socket::Listen;
use crate::story;

impl Daemon {
    /// Does what the command line asks for.
    pub(crate) fn answer(&mut self, Call { request, answer }: Call) {
        let now = self.clock.now();
        let waits = match request {
            Request::Status => {
                let _ = answer.send(Answer::Status { status: self.status() }); // the client may have left
                return;
            }
            Request::Show => {
                let _ = answer.send(Answer::Show { show: self.show() });
                return;
            }
            Request::Events => return, // the server's own business
            Request::Reload { dry_run } => {
                if dry_run {
                    let _ = answer.send(done(self.compare()));
                    return;
                }
                return self.reload(Some(answer));
            }
            Request::Up { name, timeout_ms, .. } => {
                let known = with_gateway!(self, |gateway, parts| gateway.up(now, &name, &mut parts));
                known.map(|()| Ok((name, Goal::Up, timeout_ms)))
            }
            Request::Down { name, timeout_ms } => {
                let known = with_gateway!(self, |gateway, parts| gateway.down(now, &name, &mut parts));
                known.inspect(|()| self.forget_waiting(&name)).map(|()| Ok((name, Goal::Down, timeout_ms)))
            }
            Request::Rekey { name, ike, timeout_ms } => {
                let goal = self.rekey_goal(&name, ike);
                let begun = with_gateway!(self, |gateway, parts| gateway.rekey(now, &name, ike, &mut parts));
                begun.map(|begun| begun.map(|()| (name, goal, timeout_ms)))
            }
        };
        let cause = match waits {
            Ok(Ok((name, goal, timeout_ms))) => {
                let (peer, child) = match name.split_once('/') {
                    Some((peer, child)) => (peer.to_owned(), Some(child.to_owned())),
                    None => (name, None),
                };
                let since = Instant::now();
                let deadline = since + Duration::from_millis(timeout_ms.min(86_400_000));
                // What is known of a handshake that is under way already is not told again.
                let known = self.peer_named(&peer).filter(|known| goal == Goal::Up && known.state == PeerState::Error);
                if let Some(cause) = known.and_then(|known| known.cause) {
                    answer.send(Answer::Progress { cause });
                }
                return self.waiting.push(Wait { goal, peer, child, since, deadline, answer });
            }
            Ok(Err(cause)) => (&cause).into(),
            Err(Unknown) => protocol::Cause {
                code: "unknown-name".to_owned(),
                text: "no peer or child has this name".to_owned(),
                hint: "`portcullis status` lists them; a child is peer/child".to_owned(),
            },
        };
        let _ = answer.send(Answer::Failed { cause });
    }

    /// Packets that waited for what is taken down would want it back with the next SA that does not carry them.
    fn forget_waiting(&mut self, name: &str) {
        let (peer, child) = name.split_once('/').map_or((name, None), |(peer, child)| (peer, Some(child)));
        let named = named_children(self.endpoint.pad()).into_iter();
        let meant = named.filter(|(_, of)| of.0 == peer && child.is_none_or(|child| child == of.1));
        let lost = meant.map(|(policy, _)| self.pending.take(policy).count()).sum();
        self.lose(lost);
    }

    /// What there is before a rekey, to see when it is done.
    fn rekey_goal(&mut self, name: &str, ike: bool) -> Goal {
        let (peer, child) = name.split_once('/').map_or((name, None), |(peer, child)| (peer, Some(child)));
        let status = self.peer_named(peer);
        if ike {
            let spi = status.and_then(|status| status.ike).map(|ike| ike.spi_local);
            return Goal::IkeRekeyed(spi.unwrap_or_default());
        }
        let children = status.map(|status| status.children).unwrap_or_default();
        let meant = children.into_iter().filter(|status| child.is_none_or(|child| child == status.name));
        Goal::Rekeyed(meant.filter_map(|status| Some((status.name, status.spi_in?))).collect())
    }

    /// Reads the configuration again and tells what a reload would change.
    fn compare(&mut self) -> Result<Vec<String>, protocol::Cause> {
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
        // Packets go on meanwhile.
        let names = named_children(self.endpoint.pad());
        let change = self.gateway.compare(config, self.endpoint.pad());
        let (diff, placed) = with_gateway!(self, |gateway, parts| gateway.take_up(now, change, &mut parts));
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

/// The children by number, each with the names of its peer and its own: who has the same names goes on counting.
fn named_children(peers: &Peers) -> BTreeMap<PolicyId, (String, String)> {
    let named = peers.children().filter_map(|(id, child)| {
        let (_, peer, _) = peers.get_child(id)?;
        Some((policy_of(id), (peer.name.clone(), child.name.clone())))
    });
    named.collect()
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

fn done(outcome: Result<Vec<String>, protocol::Cause>) -> Answer {
    match outcome {
        Ok(lines) => Answer::Done { lines },
        Err(cause) => Answer::Failed { cause },
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
