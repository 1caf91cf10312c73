//! Where peers are, and whether the ways to them still lead there.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use gateway_core::cause::Cause;
use gateway_core::config::{Remote, nobodys};
use gateway_core::gateway::{Locate, Located, Way};
use ike_core::pad::PeerId;
use ipsec_core::net;
use tracing::info;

use super::Daemon;

impl Daemon {
    /// Finds a peer: an address at once, a name when the resolver has answered.
    pub(super) fn locate(&mut self, question: Locate) {
        match question.remote.clone() {
            Remote::Address(address) => self.found(&question, Ok(vec![address])),
            Remote::Name(name) => {
                if let Err(question) = self.resolver.ask(name, question) {
                    self.found(&question, Err("too many names are being asked for".to_owned()));
                }
            }
        }
    }

    /// Tells the gateway what there is to know about where a peer is.
    pub(super) fn found(&mut self, question: &Locate, result: Result<Vec<IpAddr>, String>) {
        let now = self.clock.now();
        let answer = match (result, &question.remote) {
            (Ok(resolved), _) => Ok(self.ways(question, resolved)),
            (Err(why), Remote::Name(name)) => Err(Cause::unresolved(name, &why)),
            (Err(why), Remote::Address(_)) => Err(Cause::unroutable(&why)),
        };
        let (gateway, mut parts) = self.lend();
        gateway.located(now, question, answer, &mut parts);
    }

    /// Addresses or routes of this machine changed: connections whose way is gone do not wait for their end.
    pub(crate) fn readdress(&mut self) {
        let Ok(ours) = self.machine.readdress() else { return };
        let now = self.clock.now();
        let open: BTreeSet<_> =
            self.endpoint.ike_sas().map(|ike| (ike.path.local.ip(), ike.path.remote.ip())).collect();
        // An address that new connections would not take any more serves those that have it (RFC 4862 §5.5.4), as long as
        // the way leads through its interface.
        let astray: BTreeSet<_> = open
            .into_iter()
            .filter(|(local, remote)| {
                let owners = ours.get(local);
                owners.is_some_and(|owners| self.machine.leads_elsewhere(*local, owners, *remote))
            })
            .collect();
        let peers = self.endpoint.pad();
        let anywhere: BTreeSet<PeerId> =
            peers.iter().filter(|(_, peer)| peer.local.is_empty()).map(|(id, _)| id).collect();
        let stands = |peer: PeerId, path: net::Path| {
            let ends = (path.local.ip(), path.remote.ip());
            ours.contains_key(&ends.0) && !(anywhere.contains(&peer) && astray.contains(&ends))
        };
        let (gateway, mut parts) = self.lend();
        gateway.readdress(now, stands, &mut parts);
    }

    /// Which of a peer's addresses we can reach, and from where.
    pub(super) fn ways(&mut self, question: &Locate, resolved: Vec<IpAddr>) -> Located {
        let (mut ways, mut hindrance) = (Vec::new(), None);
        for remote in resolved.iter().copied() {
            // Names stand for such where DNS blocks them, or is another one inside a network.
            if let Some(what) =
                nobodys(remote, &question.local).or_else(|| self.machine.has(remote).then_some("which is this machine"))
            {
                info!("one place to call is passed over: {remote}, {what}");
                hindrance = Some(Cause::nobodys(remote, what));
                continue;
            }
            let mut own = question.local.iter().copied().filter(|local| local.is_ipv4() == remote.is_ipv4()).peekable();
            if own.peek().is_some() {
                ways.extend(own.map(|local| Way { local, remote }));
            } else if !question.local.is_empty() {
                hindrance = Some(Cause::unroutable(&format!("{remote}: no address under \"local\" is of its family")));
            } else {
                let hop = self.machine.next_hop(remote);
                match hop.and_then(|hop| hop.source.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())) {
                    Ok(local) => ways.push(Way { local, remote }),
                    Err(error) => hindrance = Some(Cause::unroutable(&format!("{remote}: {error}"))),
                }
            }
        }
        Located { resolved, ways, hindrance }
    }
}
