//! Packets that wait for their SA, so that the first packet of a connection is not lost (row E13 of the requirements).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipsec_core::spd::PolicyId;

/// Packets kept for one policy; what comes beyond pushes out the oldest.
const PACKETS: usize = 32;
/// Packets older than this are of no use to anybody any more.
const AGE: Duration = Duration::from_secs(10);

/// Every waiting packet.
#[derive(Default)]
pub(crate) struct Pending(Vec<(PolicyId, VecDeque<Waiting>)>);

struct Waiting {
    since: Instant,
    packet: Vec<u8>,
}

impl Pending {
    /// Keeps a packet. Returns how many others it pushed out.
    pub(crate) fn push(&mut self, now: Instant, policy: PolicyId, packet: Vec<u8>) -> usize {
        let place = self.0.iter().position(|(of, _)| *of == policy).unwrap_or_else(|| {
            self.0.push((policy, VecDeque::new()));
            self.0.len() - 1
        });
        let Some((_, queue)) = self.0.get_mut(place) else { return 0 };
        queue.push_back(Waiting { since: now, packet });
        let surplus = queue.len().saturating_sub(PACKETS);
        queue.drain(..surplus).count()
    }

    /// Takes the packets of a policy that now has an SA, oldest first.
    pub(crate) fn take(&mut self, policy: PolicyId) -> impl Iterator<Item = Vec<u8>> + use<> {
        let place = self.0.iter().position(|(of, _)| *of == policy);
        let queue = place.map(|place| self.0.swap_remove(place).1).unwrap_or_default();
        queue.into_iter().map(|waiting| waiting.packet)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets packets that waited too long. Returns how many.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        self.0.retain_mut(|(_, queue)| {
            let old = queue.iter().take_while(|waiting| now.saturating_duration_since(waiting.since) >= AGE).count();
            expired += queue.drain(..old).count();
            !queue.is_empty()
        });
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
        assert!(pending.take(PolicyId(1)).eq((8..40).map(|octet| vec![octet])));
        assert_eq!(pending.take(PolicyId(1)).count(), 0);
        assert_eq!(pending.expire(start + Duration::from_secs(9)), 0);
        assert_eq!(pending.expire(start + Duration::from_secs(10)), 1);
        assert_eq!(pending.take(PolicyId(2)).count(), 0);
    }
}
