//! What the daemon does for the command line.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gateway_core::gateway::Unknown;
use gateway_core::peers::Peers;
use gateway_core::policy::policy_of;
use ipsec_core::spd::PolicyId;

use super::state::Daemon;
use crate::control::protocol::{self, Answer, PeerState, Request};
use crate::control::server::Call;
use crate::control::waiting::{Goal, Wait};

impl Daemon {
    /// Does what the command line asks for.
    pub(crate) fn answer(&mut self, Call { request, answer }: Call) {
        if !matches!(request, Request::Status | Request::Show | Request::Events) {
            self.served.expire();
        }
        let now = self.clock.now();
        let waits = match request {
            Request::Status => {
                // Who asked puts it into words, and holds nobody up.
                let snapshot = self.snapshot();
                let _ = answer.send_later(move || Answer::Status { status: snapshot.told() }); // the client may have left
                return;
            }
            Request::Show => {
                let _ = answer.send(Answer::Show { show: self.show() });
                return;
            }
            Request::Events => return, // the server's own business
            Request::Reload { dry_run } => {
                return if dry_run { self.compare(answer) } else { self.reload(Some(answer)) };
            }
            Request::Up { name, timeout_ms, .. } => {
                let (gateway, mut parts) = self.lend();
                gateway.up(now, &name, &mut parts).map(|()| Ok((name, Goal::Up, timeout_ms)))
            }
            Request::Down { name, timeout_ms } => {
                let (gateway, mut parts) = self.lend();
                let known = gateway.down(now, &name, &mut parts);
                known.inspect(|()| self.forget_waiting(&name)).map(|()| Ok((name, Goal::Down, timeout_ms)))
            }
            Request::Rekey { name, ike, timeout_ms } => {
                let goal = self.rekey_goal(&name, ike);
                let (gateway, mut parts) = self.lend();
                gateway.rekey(now, &name, ike, &mut parts).map(|begun| begun.map(|()| (name, goal, timeout_ms)))
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
                return self.served.waiting.push(Wait { goal, peer, child, since, deadline, answer });
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
}

/// The children by number, each with the names of its peer and its own: who has the same names goes on counting.
pub(super) fn named_children(peers: &Peers) -> BTreeMap<PolicyId, (String, String)> {
    let named = peers.children().filter_map(|(id, child)| {
        let (_, peer, _) = peers.get_child(id)?;
        Some((policy_of(id), (peer.name.clone(), child.name.clone())))
    });
    named.collect()
}

pub(super) fn done(outcome: Result<Vec<String>, protocol::Cause>) -> Answer {
    match outcome {
        Ok(lines) => Answer::Done { lines },
        Err(cause) => Answer::Failed { cause },
    }
}
