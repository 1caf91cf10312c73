//! Two machines with one identity: each that calls takes the connection of the other, and neither knows.

use alloc::boxed::Box;
use core::net::SocketAddr;
use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::pad::PeerId;
use ipsec_core::time::Instant;

use super::Gateway;
use super::agenda::Soonest;
use super::report::What;
use crate::cause::Cause;
use crate::peers::Peers;

/// A machine that was made anew, or moved, takes its own connection over: once or twice in so much time, not more.
const PERIOD: Duration = Duration::from_secs(300);
const OFTEN: u32 = 3;

/// How often callers from elsewhere took a peer's connection over.
#[derive(Default)]
pub(super) struct Contest {
    /// Until when that is counted.
    until: Option<Instant>,
    times: u32,
    /// Why that is told, while it goes on.
    pub(super) cause: Option<Box<Cause>>,
}

impl Gateway {
    /// The peer's connection with `before` ended because a newer one took over.
    pub(super) fn replaced<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        before: SocketAddr,
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let Some(after) = self.connection(id, endpoint).map(|ike| ike.path.remote).filter(|after| *after != before)
        else {
            return;
        };
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let contest = &mut entry.contest;
        contest.until.get_or_insert(now + PERIOD);
        contest.times = contest.times.saturating_add(1);
        let told = contest.cause.is_some();
        if contest.times >= OFTEN {
            let cause = Cause::two_places(before, after);
            contest.cause = Some(Box::new(cause.clone()));
            if !told {
                self.tell(Some(id), None, What::Waiting, Some(cause));
            }
        }
        self.agenda.touch(id);
    }

    /// Forgets a contest that is over.
    pub(super) fn calm_down(&mut self, id: PeerId, soonest: &mut Soonest) {
        let Some(contest) = self.peers.get_mut(&id).map(|entry| &mut entry.contest) else { return };
        let Some(until) = contest.until.filter(|until| soonest.reached(*until)) else { return };
        *contest = match contest.times >= OFTEN {
            true => Contest { until: Some(until + PERIOD), times: 0, cause: contest.cause.take() },
            false => Contest::default(),
        };
        contest.until.map(|until| soonest.reached(until));
    }
}
