//! Packets that wait for their SA, so that the first packet of a connection is not lost (row E13 of the requirements).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// The first packet of each queue, in the order in which they have waited too long.
    firsts: BTreeSet<(Instant, PolicyId)>,
}

struct Waiting {
    since: Instant,
    packet: Vec<u8>,
}

impl Pending {
    /// Keeps a packet that waits since this moment. Returns how many others it pushed out.
    pub(crate) fn push(&mut self, since: Instant, policy: PolicyId, packet: Vec<u8>) -> usize {
        self.change(policy, |queue| {
            queue.push_back(Waiting { since, packet });
            let surplus = queue.len().saturating_sub(PACKETS);
            queue.drain(..surplus).count()
        })
    }

    /// Takes the packets of a policy that has another SA now, oldest first, with the moment since when each waits.
    pub(crate) fn take(&mut self, policy: PolicyId) -> impl Iterator<Item = (Instant, Vec<u8>)> + use<> {
        let taken = self.change(policy, std::mem::take);
        taken.into_iter().map(|waiting| (waiting.since, waiting.packet))
    }

    /// When to look for packets that waited too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.firsts.first().map(|(since, _)| *since + AGE)
    }

    /// Forgets packets that waited too long. Returns how many.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while let Some((_, policy)) = self.firsts.first().copied().filter(|(since, _)| *since + AGE <= now) {
            expired += self.change(policy, |queue| {
                let old = queue.iter().take_while(|waiting| waiting.since + AGE <= now).count();
                queue.drain(..old).count()
            });
        }
        expired
    }

    /// Changes the queue of a policy, and files it anew.
    fn change<R>(&mut self, policy: PolicyId, change: impl FnOnce(&mut VecDeque<Waiting>) -> R) -> R {
        let mut queue = self.queues.remove(&policy).unwrap_or_default();
        queue.front().map(|first| self.firsts.remove(&(first.since, policy)));
        let outcome = change(&mut queue);
        if let Some(first) = queue.front() {
            self.firsts.insert((first.since, policy));
            self.queues.insert(policy, queue);
        }
        outcome
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
