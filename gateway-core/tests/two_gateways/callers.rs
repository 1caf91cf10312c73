//! What somebody who calls has a gateway look at: no more with many peers than with a few.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::IpAddr;

use gateway_core::gateway::Gateway;
use gateway_core::peers::Peers;
use ike_core::child::ChildSlot;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ike_core::pad::{ChildConfig, Connection, Initiator, Pad, PeerId};
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::overheard::{Ike, overheard};
use crate::world::{config, leak};

/// Peers, and how often they were looked at.
struct Watched {
    peers: Peers,
    looks: Cell<usize>,
}

impl Watched {
    fn look(&self) {
        self.looks.set(self.looks.get() + 1);
    }
}

impl Pad for Watched {
    fn connection(&self, peer: PeerId) -> Option<Connection<'_>> {
        self.look();
        self.peers.connection(peer)
    }

    fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        self.peers.child(peer, index)
    }

    fn candidate(&self, initiator: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        self.look();
        self.peers.candidate(initiator, after)
    }
}

type Host = Endpoint<'static, Ike, Watched>;

fn host(text: &str) -> Host {
    const SAS: usize = 4;
    let storage = Storage {
        sas: leak(SAS, IkeSlot::default),
        children: leak(SAS, ChildSlot::default),
        index: leak(IndexBlock::needed(SAS, SAS), IndexBlock::default),
        pairs: leak(SAS * 2 * 512, || 0),
        pool: leak(SAS * 2 * 2048, || 0),
        blocks: SAS,
    };
    let pad = Watched { peers: Gateway::new(config(text)).1, looks: Cell::new(0) };
    Endpoint::new(overheard(31), pad, storage, Settings::default()).unwrap_or_else(|_| panic!())
}

/// A peer at `ends`, ours first, under names in the same order; `number` tells its network from those of others.
fn peer(number: usize, ends: [&str; 2], names: [&str; 2], more: &str) -> String {
    format!(
        "[[peer]]\nname = \"p{number}\"\nlocal = \"{}\"\nremote = \"{}\"\nlocal-id = \"{}\"\nremote-id = \"{}\"\n\
         start = \"passive\"\npsk = \"a key of more than twenty characters\"\n{more}[[peer.child]]\nname = \"n\"\n\
         local-ts = \"10.0.0.0/16\"\nremote-ts = \"11.{}.{}.0/24\"\n",
        ends[0],
        ends[1],
        names[0],
        names[1],
        number / 250,
        number % 250
    )
}

const HUB: &str = "192.0.2.1";
const CALLER: &str = "198.51.100.7";

/// Who calls the hub as `name` and asks for `asked`: what that has the hub look at in the first message and in both, and whether
/// it is let in.
fn called(hub: &str, name: &str, asked: &str, more: &str) -> ([usize; 2], bool) {
    let mut hub = host(hub);
    let mut caller = host(&peer(0, [CALLER, HUB], [name, asked], more));
    let id = caller.pad().peers.named("p0").unwrap();
    let now = Instant::from_millis(1);
    let [there, here] = [CALLER, HUB].map(|addr| addr.parse::<IpAddr>().unwrap());
    caller.pad_mut().peers.set_path(id, there, here, 500);
    caller.initiate(now, id, None).unwrap();
    let looks = [(); 2].map(|()| {
        let Some(sent) = caller.poll_transmit() else { return hub.pad().looks.get() };
        let (path, mut datagram) = (sent.path, sent.datagram.to_vec());
        let back = Path { local: path.remote, remote: path.local };
        hub.handle_datagram(now, back, &mut datagram).unwrap();
        let looks = hub.pad().looks.get();
        let mut datagram = hub.poll_transmit().unwrap().datagram.to_vec();
        caller.handle_datagram(now, path, &mut datagram).unwrap();
        looks
    });
    let admitted = hub.ike_sas().any(|ike| ike.peer.is_some());
    (looks, admitted)
}

/// The same with 10 and with 500 peers that `peer` makes; "LAST" is the number of the last one.
fn whatever_the_number(
    what: &str,
    admitted: bool,
    (name, asked, more): (&str, &str, &str),
    peer: impl Fn(usize) -> String,
) {
    let [few, many] = [10, 500].map(|peers| {
        let hub = (0..peers).fold(String::new(), |mut text, number| {
            write!(text, "{}", peer(number)).unwrap();
            text
        });
        let last = |name: &str| name.replace("LAST", &(peers - 1).to_string());
        called(&hub, &last(name), &last(asked), more)
    });
    assert_eq!(few.1, admitted, "{what}");
    assert_eq!(many, few, "{what}");
    assert!(few.0[0] <= 6 && few.0[1] <= 24, "{what}: {few:?}");
}

#[test]
fn who_calls_has_no_more_looked_at_where_peers_are_many() {
    let [one, other, strange] =
        ["aes256gcm16-prfsha384-x25519", "aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha512-x25519"]
            .map(|words| format!("ike = \"{words}\"\n"));
    let in_turn = |number: usize| if number.is_multiple_of(2) { &other } else { &one };
    for at in ["any", CALLER] {
        let by_name = |number: usize| peer(number, [HUB, at], ["hub.lab", &format!("p{number}.lab")], "");
        whatever_the_number("the last one", true, ("pLAST.LAB", "hub.lab", ""), by_name);
        whatever_the_number("nobody", false, ("nobody.lab", "hub.lab", ""), by_name);
        // It is for the caller to say whether it wants to talk to us.
        whatever_the_number("the last one, who asks for another", true, ("pLAST.lab", "other.lab", ""), by_name);
        let mixed = |number: usize| peer(number, [HUB, at], ["hub.lab", &format!("p{number}.lab")], in_turn(number));
        whatever_the_number("one with the same proposals", true, ("pLAST.lab", "hub.lab", &one), mixed);
        whatever_the_number("one with other proposals", false, ("pLAST.lab", "hub.lab", &other), mixed);
        whatever_the_number("nothing in common", false, ("pLAST.lab", "hub.lab", &strange), mixed);
        // Whoever can prove it; by which name of ours it calls decides.
        let by_ours = |number: usize| peer(number, [HUB, at], [&format!("hub{number}.lab"), "any"], in_turn(number));
        whatever_the_number("anybody, for the last of ours", true, ("who.lab", "hubLAST.lab", &one), by_ours);
        whatever_the_number("anybody, for none of ours", true, ("who.lab", "hub.lab", &one), by_ours);
    }
}
