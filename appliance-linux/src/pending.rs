//! Packets that wait for their SA, so that the first packet of a connection is not lost (row E13 of the requirements).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ipsec_core::spd::PolicyId;

/// Packets kept for one policy; what comes beyond pushes out the oldest.
const PACKETS: usize = 32;
/// Packets older than this are of no use to anybody any more.
const AGE: Duration = Duration::from_secs(10);

/// Every waiting packet.
#[derive(Default)]
pub(crate) struct Pending {
    queues: BTreeMap<PolicyId, VecDeque<Waiting>>,
    /// Before that, none has waited too long.
    due: Option<Instant>,
}

struct Waiting {
    since: Instant,
    packet: Vec<u8>,
}

impl Pending {
    /// Keeps a packet that waits since this moment. Returns how many others it pushed out.
    pub(crate) fn push(&mut self, since: Instant, policy: PolicyId, packet: Vec<u8>) -> usize {
        let queue = self.queues.entry(policy).or_default();
        queue.push_back(Waiting { since, packet });
        self.due = self.due.into_iter().chain([since + AGE]).min();
        let surplus = queue.len().saturating_sub(PACKETS);
        queue.drain(..surplus).count()
    }

    /// Takes the packets of a policy that has another SA now, oldest first, with the moment since when each waits.
    pub(crate) fn take(&mut self, policy: PolicyId) -> impl Iterator<Item = (Instant, Vec<u8>)> + use<> {
        self.queues.remove(&policy).unwrap_or_default().into_iter().map(|waiting| (waiting.since, waiting.packet))
    }

    /// When to look for packets that waited too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Forgets packets that waited too long. Returns how many. Looks through them only when it is time to.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        if self.due.is_none_or(|due| now < due) {
            return 0;
        }
        let mut expired = 0;
        self.queues.retain(|_, queue| {
            let old = queue.iter().take_while(|waiting| now.saturating_duration_since(waiting.since) >= AGE).count();
            expired += queue.drain(..old).count();
            !queue.is_empty()
        });
        self.due = self.queues.values().filter_map(|queue| Some(queue.front()?.since + AGE)).min();
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_13_packets_wait_in_order_for_their_own_policy_and_not_for_ever() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for octet in 0..40 {
            assert_eq!(pending.push(start, PolicyId(1), vec![octet]), usize::from(octet >= 32));
        }
        pending.push(start, PolicyId(2), vec![99]);
        assert!(pending.take(PolicyId(1)).eq((8..40).map(|octet| (start, vec![octet]))));
        assert_eq!(pending.take(PolicyId(1)).count(), 0);
        assert_eq!(pending.expire(start + Duration::from_secs(9)), 0);
        assert_eq!(pending.expire(start + Duration::from_secs(10)), 1);
        assert_eq!(pending.take(PolicyId(2)).count(), 0);
    }

    #[test]
    fn f_34_waiting_packets_are_looked_through_when_the_oldest_has_waited_long_enough() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pending = Pending::default();
        assert_eq!(pending.deadline(), None);
        for second in 0..3 {
            pending.push(after(second), PolicyId(u32::try_from(second).unwrap()), vec![1]);
        }
        assert_eq!(pending.deadline(), Some(after(10)));
        assert_eq!(pending.expire(after(10)), 1);
        assert_eq!(pending.deadline(), Some(after(11)));
        assert_eq!(pending.take(PolicyId(1)).count(), 1);
        assert_eq!(pending.expire(after(11)), 0);
        assert_eq!(pending.deadline(), Some(after(12)), "taken ones are not waited for");
        assert_eq!(pending.expire(after(13)), 1);
        assert_eq!(pending.deadline(), None);
    }
}
