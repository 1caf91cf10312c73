//! Two configured gateways, and what every scenario asks of them.

use std::fs;
use std::path::Path;
use std::slice::from_ref;
use std::time::Duration;

use super::{Ends, First};
use crate::lab::frame::Kind;
use crate::lab::gateway::{ChildSa, Connection, Gateway, Program};
use crate::lab::nat::Translation;
use crate::lab::pair::{Outer, Pair, Side};
use crate::lab::ping::{Pinger, Tally, ping};
use crate::lab::sandbox::WORK;
use crate::lab::wait_for;
use crate::lab::wire::Way;
use crate::outcome::{Result, ensure};

/// Name of the connection on both ends.
pub(crate) const PEER: &str = "peer";
/// Name of its first child.
pub(crate) const NET: &str = "net";

/// Until what was begun stands, and what it took the place of is gone.
const SOON: Duration = Duration::from_secs(15);

/// What will be started; a scenario changes what it is about.
pub(crate) struct Plan {
    ends: Ends,
    /// Sites and wire.
    pub(crate) pair: Pair,
    /// How the west sees it.
    pub(crate) us: Connection,
    /// How the east sees it.
    pub(crate) peer: Connection,
    /// Further settings of the west, in its program's own language.
    pub(crate) us_settings: String,
    /// Further settings of the east.
    pub(crate) peer_settings: String,
}

impl Plan {
    /// A plain tunnel over IPv4.
    pub(crate) fn new(ends: Ends) -> Result<Self> {
        Self::of(ends, Pair::new(1)?, Outer::V4)
    }

    /// A plain tunnel over IPv6.
    pub(crate) fn over_v6(ends: Ends) -> Result<Self> {
        Self::of(ends, Pair::new(1)?, Outer::V6)
    }

    /// A plain tunnel over IPv4 with a NAT in front of either end or both.
    pub(crate) fn behind_nat(ends: Ends, us: Option<Translation>, peer: Option<Translation>) -> Result<Self> {
        Self::of(ends, Pair::with_nat(1, us, peer)?, Outer::V4)
    }

    /// As one of the above, with other programs on our gateway's machine.
    pub(crate) fn in_the_wild(mut self) -> Result<Self> {
        self.pair = self.pair.in_the_wild()?;
        Ok(self)
    }

    fn of(ends: Ends, pair: Pair, outer: Outer) -> Result<Self> {
        let (mut us, mut peer) = (pair.connection(Side::West, outer), pair.connection(Side::East, outer));
        // strongSwan's ESP in user space knows no protocol 50.
        us.encap = ends.us == Program::StrongSwan && ends.peer.in_a_guest();
        peer.encap = us.encap;
        Ok(Self { ends, pair, us, peer, us_settings: String::new(), peer_settings: String::new() })
    }

    /// Sets the IKE proposals of both.
    pub(crate) fn ike(&mut self, proposals: &[&str]) {
        self.us.ike = proposals.iter().map(|&proposal| proposal.to_owned()).collect();
        self.peer.ike.clone_from(&self.us.ike);
    }

    /// Sets the ESP proposals of both.
    pub(crate) fn esp(&mut self, proposals: &[&str]) {
        self.us.esp = proposals.iter().map(|&proposal| proposal.to_owned()).collect();
        self.peer.esp.clone_from(&self.us.esp);
    }

    /// Starts both gateways; nobody initiates unless the plan says `Active`.
    pub(crate) fn start(self) -> Result<Tunnel> {
        let mut us = self.pair.gateway(Side::West, self.ends.us, &self.us_settings)?;
        let mut peer = self.pair.gateway(Side::East, self.ends.peer, &self.peer_settings)?;
        us.configure(from_ref(&self.us))?;
        peer.configure(from_ref(&self.peer))?;
        // The passive end first, so that an active one finds it.
        peer.start()?;
        us.start()?;
        Ok(Tunnel { us, peer, us_config: self.us, peer_config: self.peer, pair: self.pair })
    }

    /// Starts both gateways and establishes.
    pub(crate) fn establish(self, first: First) -> Result<Tunnel> {
        let tunnel = self.start()?;
        tunnel.establish(first)?;
        Ok(tunnel)
    }
}

/// Two running gateways.
pub(crate) struct Tunnel {
    /// The west.
    pub(crate) us: Box<dyn Gateway>,
    /// The east.
    pub(crate) peer: Box<dyn Gateway>,
    /// How the west is configured.
    pub(crate) us_config: Connection,
    /// How the east is configured.
    pub(crate) peer_config: Connection,
    /// Sites and wire.
    pub(crate) pair: Pair,
}

impl Tunnel {
    /// The end that initiates, then the other.
    pub(crate) fn ends(&self, first: First) -> (&dyn Gateway, &dyn Gateway) {
        match first {
            First::We => (&*self.us, &*self.peer),
            First::They => (&*self.peer, &*self.us),
        }
    }

    /// One end initiates; every child has to be up on both. From here on the wire counts anew.
    pub(crate) fn establish(&self, first: First) -> Result {
        let (initiator, _) = self.ends(first);
        self.pair.wire.forget();
        for child in &self.us_config.children {
            initiator.up(PEER, &child.name)?;
        }
        self.wait_up()
    }

    /// Waits until every child is up on both ends and both mean the same SAs.
    pub(crate) fn wait_up(&self) -> Result {
        self.wait_up_within(SOON)
    }

    /// As [`Tunnel::wait_up`] with a limit of one's own. Where both ends called, that has room for what one of them gave up.
    pub(crate) fn wait_up_within(&self, limit: Duration) -> Result {
        for child in &self.us_config.children {
            self.us.wait_up(PEER, &child.name, limit)?;
            self.peer.wait_up(PEER, &child.name, limit)?;
        }
        self.agree_within(limit)
    }

    /// Both ends have exactly one IKE SA and one pair of SAs per child, and they are the same ones.
    pub(crate) fn agree(&self) -> Result {
        self.agree_within(SOON)
    }

    fn agree_within(&self, limit: Duration) -> Result {
        wait_for("both ends to agree", limit, || {
            let (us, peer) = (self.us.ike_sa(PEER)?, self.peer.ike_sa(PEER)?);
            let told = self.peer.program().tells_ike_spis();
            ensure(!told || us.spis == peer.spis, || format!("IKE SPIs differ: {:x?} and {:x?}", us.spis, peer.spis))?;
            for child in &self.us_config.children {
                let us = self.us.child_sa(PEER, &child.name)?;
                let peer = self.peer.child_sa(PEER, &child.name)?;
                let same = us.spi_in == peer.spi_out && us.spi_out == peer.spi_in && us.spi_in != 0;
                ensure(same, || format!("ESP SPIs differ: {us:x?} and {peer:x?}"))?;
            }
            Ok(Some(()))
        })
    }

    /// The first child as we see it.
    pub(crate) fn child(&self) -> Result<ChildSa> {
        self.us.child_sa(PEER, NET)
    }

    /// What the first child took and sent, however many SAs it has.
    fn packets(&self) -> Result<(u64, u64)> {
        let children = self.us.sas()?.into_iter().flat_map(|ike| ike.children);
        let packets = children.into_iter().find(|child| child.name == NET).map(|child| child.packets);
        Ok(packets.ok_or("no Child SA of ours")?)
    }

    /// Pings cross both ways, small and of 1400 octets, and the wire sees none of them in clear.
    pub(crate) fn carries(&self) -> Result {
        let (west, east) = (&self.pair.west, &self.pair.east);
        self.warm_up()?;
        ping(&west.host, east.host_v4(0), 10, 56)?.all_answered()?;
        ping(&east.host, west.host_v4(0), 10, 56)?.all_answered()?;
        self.answered(1400)?;
        ping(&west.host, east.host_v4(0), 3, 1400)?.all_answered()?;
        self.is_protected()
    }

    /// Waits for the first answered ping: the peer installs its routes a moment after it says "established".
    pub(crate) fn warm_up(&self) -> Result {
        self.answered(56)
    }

    /// Waits for an answered ping of a size: the first large one may only teach the host the path's MTU.
    fn answered(&self, size: usize) -> Result {
        let (host, to) = (&self.pair.west.host, self.pair.east.host_v4(0));
        wait_for(&format!("the first ping of {size} octets"), Duration::from_secs(5), || {
            Ok(ping(host, to, 1, size)?.lost.is_empty().then_some(()))
        })
    }

    /// The wire saw ESP and nothing in clear.
    pub(crate) fn is_protected(&self) -> Result {
        let wire = &self.pair.wire;
        let clear = wire.clear_packets();
        ensure(clear.is_empty(), || format!("seen in clear on the wire: {clear:?}"))?;
        ensure(wire.count(Kind::EspInUdp) + wire.count(Kind::Esp) > 0, || format!("no ESP: {}", wire.summary()))
    }

    /// Does something while both hosts ping each other every 10 ms, and for half a second before and after.
    pub(crate) fn under_pings(&self, action: impl FnOnce() -> Result) -> Result<Tally> {
        const INTERVAL: Duration = Duration::from_millis(10);
        const AROUND: Duration = Duration::from_millis(500);
        /// More than that is no moment between two SAs.
        const BEYOND: usize = 3;
        self.warm_up()?;
        let owed = self.owed()?;
        let (taken, sent) = self.packets()?;
        let (west, east) = (&self.pair.west, &self.pair.east);
        let there = Pinger::start(&west.host, east.host_v4(0), 56, INTERVAL)?;
        let back = Pinger::start(&east.host, west.host_v4(0), 56, INTERVAL)?;
        std::thread::sleep(AROUND);
        let outcome = action();
        std::thread::sleep(AROUND);
        let (there, back) = (there.stop()?, back.stop()?);
        outcome?;
        let lost_there = there.lost.len();
        let mut tally = Tally {
            sent: there.sent + back.sent,
            lost: [there.lost, back.lost].concat(),
            lost_beyond: 0,
            doubled: there.doubled + back.doubled,
            longest_gap: there.longest_gap.max(back.longest_gap),
        };
        // A kernel that is told of one SA after the other may lose a packet in between. Ours is not in a guest. What we took
        // from the wire is what was answered and what the other host asked, and that again we sent, with our own requests.
        let now = self.packets()?;
        let unanswered = (i128::from(now.1) - i128::from(sent)) - (i128::from(now.0) - i128::from(taken));
        let ours_went = unanswered == i128::try_from(lost_there)?;
        if self.peer.program().in_a_guest()
            && (1..=BEYOND).contains(&tally.lost.len())
            && self.owed()? == owed
            && ours_went
        {
            tally.lost_beyond = std::mem::take(&mut tally.lost).len();
        }
        Ok(tally)
    }

    /// ESP packets on the wire less those that we took, and those that we sent less those on the wire: they stay the same
    /// while we lose none.
    fn owed(&self) -> Result<(i64, i64)> {
        let (taken, sent) = self.packets()?;
        let seen = |way| i64::try_from(self.pair.wire.esp(way));
        Ok((seen(Way::West)? - i64::try_from(taken)?, i64::try_from(sent)? - seen(Way::East)?))
    }

    /// Stops the west for good and starts it anew, as a service manager would after a crash.
    pub(crate) fn restart_us(&mut self) -> Result {
        self.us.kill();
        self.us.start()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // Whoever looks into a failure wants to see the exchanges beside the two logs.
        let story = format!("{}\n{}", self.pair.wire.summary(), self.pair.wire.story());
        let _ = fs::write(Path::new(WORK).join("wire.txt"), story);
    }
}
