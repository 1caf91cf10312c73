//! A peer that holds its key and asks, answers and repeats whatever comes to its mind, a caller that wishes and configures at
//! random, and little room for messages. Each event is of something that the caller knows and each step leaves everything filed
//! (`Host::listen`); when both have come to reason, what is left is in use, and a handshake finds room.

use std::time::Duration;

use ike_core::crypto::{Group, IkeCrypto};
use ike_core::endpoint::{ChildView, Denied, SaState, Settings};
use ike_core::failure::Failure;
use ike_core::proposal::IkeProposal;
use ike_core::registry::{ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::header::Header;
use ipsec_core::net::{Spi, TrafficSelector};
use ipsec_core::time::Instant;

use super::peer::*;
use crate::network::{CHILD, Host, PEER, Peer, Seed, esp as proposals, pair};

/// Runs; others and more with the variables SEED and SEEDS.
const SEEDS: u64 = 50;
const STEPS: usize = 250;

const CREATE: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

/// What the peer answers instead of what is asked for. After the last one the SA is over.
const REFUSALS: [NotifyKind; 8] = [
    NotifyKind::TEMPORARY_FAILURE,
    NotifyKind::NO_ADDITIONAL_SAS,
    NotifyKind::NO_PROPOSAL_CHOSEN,
    NotifyKind::CHILD_SA_NOT_FOUND,
    NotifyKind::INVALID_KE_PAYLOAD,
    NotifyKind::TS_UNACCEPTABLE,
    NotifyKind::INVALID_SPI,
    NotifyKind::INVALID_SYNTAX,
];

type Selectors = &'static [TrafficSelector];

/// A request of the host that was not answered yet, on the IKE SA with this number.
struct Asked {
    on: usize,
    exchange: ExchangeType,
    id: u32,
    payloads: Payloads,
}

struct World {
    host: Host,
    sas: usize,
    configured: Peer,
    now: Instant,
    draw: Seed,
    /// The peer's end of each IKE SA that there ever was.
    ends: Vec<Scripted>,
    /// What the peer received with at some time.
    spis: Vec<u32>,
    asked: Vec<Asked>,
    /// All that the peer said.
    said: Vec<(usize, Vec<u8>)>,
}

/// The group of its KE payload.
fn group_in(message: &Payloads) -> Option<GroupId> {
    find(message, PayloadType::KE).map(|ke| GroupId(u16::from_be_bytes([ke[0], ke[1]])))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draw = Seed(seed);
        let [_, mut right] = pair();
        right.ike = [SUITE, "aes256gcm16-prfsha384-ecp256"].map(|words| IkeProposal::parse(words).unwrap()).to_vec();
        right.dpd = Duration::from_secs(draw.of([0, 20]));
        right.rekey = Duration::from_secs(draw.of([0, 0, 90]));
        right.children[0].esp = proposals("aes256gcm16-x25519-modpnone");
        right.children[0].rekey = Duration::from_secs(draw.of([0, 0, 60]));
        right.children[0].lifetime = Duration::from_secs(draw.of([0, 0, 120]));
        let usual = Settings::default();
        let slow = Settings { orphan: Duration::from_secs(5), settle: Duration::from_secs(40), ..usual };
        let few = Settings { children_per_peer: 3, ike_sas_per_peer: 2, ..usual };
        let hasty = Settings { linger: Duration::from_millis(1), drain: Duration::from_millis(1), ..few };
        let settings = draw.of([usual, slow, few, hasty]);
        let [sas, children] = draw.of([[12, 16], [3, 5], [6, 40]]);
        let rooms = [draw.of([160, 200, 512]), 1280, draw.of([1, 2, 3, sas])];
        let host = Host::with_rooms(seed, vec![right.clone()], settings, [sas, children], rooms);
        let (now, spis) = (NOW, vec![u32::from_be_bytes(ESP_SPI)]);
        Self { host, sas, configured: right, now, draw, ends: vec![], spis, asked: vec![], said: vec![] }
    }

    /// Gives the host a message of the peer; what it answers on the same SA under the same number.
    fn give(&mut self, on: usize, message: &[u8]) -> Option<Payloads> {
        let header = Header::parse(message).unwrap();
        let (handled, sent) = tell_at(&mut self.host, self.now, self.ends[on].path, message);
        let what = if header.response { "answers" } else { "asks" };
        self.host.story.push(format!("{on} {what} {:?} {}: {handled:?}", header.exchange, header.message_id));
        let answers = self.sort(sent).into_iter().filter(|_| !header.response);
        answers.filter(|(from, id, _)| (*from, *id) == (on, header.message_id)).map(|(_, _, answer)| answer).next()
    }

    /// Says something and remembers it.
    fn say(&mut self, on: usize, exchange: ExchangeType, response: Option<u32>, what: &Payloads) -> Option<Payloads> {
        let end = &mut self.ends[on];
        let header = end.header(exchange, response.is_some(), response.unwrap_or(end.next[0]));
        let message = end.seal(&header, what);
        self.said.push((on, message.clone()));
        self.give(on, &message)
    }

    /// Notes what the host asks, and returns what it answers.
    fn sort(&mut self, sent: Vec<Vec<u8>>) -> Vec<(usize, u32, Payloads)> {
        let mut answers = vec![];
        for message in sent {
            let Ok(header) = Header::parse(&message) else { continue };
            let on = self.ends.iter().position(|end| end.spis == [header.spi_i, header.spi_r]);
            let Some(on) = on.filter(|_| header.next == PayloadType::SK) else { continue };
            let (exchange, id, payloads) = (header.exchange, header.message_id, self.ends[on].open(&message));
            self.host.story.push(format!("{on} hears {exchange:?} {id} {:?}", notifies(&payloads)));
            if header.response {
                answers.push((on, id, payloads));
            } else if !self.asked.iter().any(|asked| (asked.on, asked.id) == (on, id)) {
                self.asked.push(Asked { on, exchange, id, payloads });
            }
        }
        answers
    }

    fn drain(&mut self) {
        let sent = transmits(&mut self.host);
        self.sort(sent);
    }

    /// Another IKE SA, which either side begins, where there is room for it.
    fn connect(&mut self) {
        self.drain();
        let number = self.draw.below(1 << 40);
        let end = if self.draw.percent(50) { self.call(number) } else { self.be_called(number) };
        if let Some((end, message)) = end {
            self.ends.push(end);
            self.give(self.ends.len() - 1, &message);
        }
    }

    fn call(&mut self, number: u64) -> Option<(Scripted, Vec<u8>)> {
        let mut end = Scripted::initiate_at(&mut self.host, self.now, number, 0)?;
        end.next = [2, 0];
        let auth = end.auth_payloads();
        let contact = payload(41, 0, &[0, 0, 0x40, 0], &auth);
        let header = end.header(ExchangeType::IKE_AUTH, false, 1);
        let message = end.seal(&header, if self.draw.percent(50) { &contact } else { &auth });
        Some((end, message))
    }

    fn be_called(&mut self, number: u64) -> Option<(Scripted, Vec<u8>)> {
        self.host.endpoint.initiate(self.now, PEER, None).ok()?;
        let request = transmits(&mut self.host).pop()?;
        if group_in(&clear_payloads(&request)) != Some(Group::Curve25519.id()) {
            return None; // it was configured so, and this peer has no other
        }
        let (mut end, sent) = Scripted::answer_at(&mut self.host, self.now, number, &request)?;
        if sent.is_empty() {
            return None; // what it was to be for is not configured any more
        }
        (end.name, end.path) = ("left.example", path_of(false));
        let auth = end.auth_payloads();
        let header = end.header(ExchangeType::IKE_AUTH, true, 1);
        let message = end.seal(&header, &auth);
        Some((end, message))
    }

    /// An SPI that the peer gave to something.
    fn spi(&mut self) -> u32 {
        self.draw.any(&mut self.spis.clone()).expect("the first one")
    }

    /// A Child SA of the peer's, asked for or agreed to; `old`: in place of that one.
    fn child(&mut self, old: Option<u32>, group: Option<Group>, [ts_i, ts_r]: [Selectors; 2]) -> Payloads {
        let new = if self.draw.percent(3) { self.spi() } else { 0x0200_0000 + self.spis.len() as u32 };
        self.spis.push(new);
        let nonce = [self.draw.below(256) as u8; 32];
        payloads(|message| {
            if let Some(old) = old {
                message.notify(ProtocolId::ESP, &old.to_be_bytes(), NotifyKind::REKEY_SA, &[])?;
            }
            let with_ke = group.is_some();
            message.sa(ProtocolId::ESP, &new.to_be_bytes(), [(1, esp(with_ke).transforms(with_ke))])?;
            message.nonce(&nonce)?;
            if let Some(group) = group {
                message.ke(group.id(), &[9; 32])?;
            }
            message.ts(PayloadType::TS_I, ts_i)?;
            message.ts(PayloadType::TS_R, ts_r)
        })
    }

    /// Asks under the next number, which is used up by an answer.
    fn ask(&mut self, on: usize, exchange: ExchangeType, what: &Payloads) -> Option<Payloads> {
        let answer = self.say(on, exchange, None, what)?;
        self.ends[on].next[0] += 1;
        Some(answer)
    }

    /// Begins the rekey of an IKE SA, or agrees to the host's.
    fn rekey(&mut self, on: usize, asked: Option<&Asked>) {
        let (spi, nonce, mut public) = (self.draw.next() | 1, [self.draw.below(256) as u8; 32], [0; 32]);
        let secret = self.ends[on].engine.ke_offer(Group::Curve25519, &mut public).unwrap();
        let said = rekey_payloads(1, spi, nonce, &public);
        if let Some(asked) = asked {
            let new = self.ends[on].heir(&asked.payloads, &secret, (spi, nonce), false);
            self.ends.push(new);
            self.say(on, CREATE, Some(asked.id), &said);
        } else if let Some(answer) = self.ask(on, CREATE, &said).filter(|answer| group_in(answer).is_some()) {
            let new = self.ends[on].heir(&answer, &secret, (spi, nonce), true);
            self.ends.push(new);
            self.drain();
        }
    }

    /// Answers one of the host's requests, in earnest or not; `false`: there is none.
    fn answer(&mut self, in_earnest: bool) -> bool {
        let Some(asked) = self.draw.any(&mut self.asked) else { return false };
        let group = group_in(&asked.payloads);
        let other = group.is_some_and(|group| group != Group::Curve25519.id());
        let refusal = if !in_earnest && self.draw.percent(35) {
            let all = if self.draw.percent(10) { REFUSALS.len() } else { REFUSALS.len() - 1 };
            Some((REFUSALS[self.draw.below(all as u64) as usize], self.draw.of([19, 31, 14])))
        } else {
            (asked.exchange == CREATE && other).then_some((NotifyKind::INVALID_KE_PAYLOAD, 31))
        };
        let ts_i = find(&asked.payloads, PayloadType::TS_I);
        let said = match (refusal, ts_i) {
            (Some((kind, group)), _) => {
                let data: &[u8] = if kind == NotifyKind::INVALID_KE_PAYLOAD { &[0, group] } else { &[] };
                payloads(|message| message.notify_parts(kind, &[data]))
            }
            // A Child SA for what the host has there, or we.
            (None, Some(ts_i)) => {
                let both = if ts_i[12..14] == [10, 2] { [right_ts(), left_ts()] } else { [left_ts(), right_ts()] };
                self.child(None, group.map(|_| Group::Curve25519), both)
            }
            (None, None) if asked.exchange == CREATE => {
                self.rekey(asked.on, Some(&asked));
                return true;
            }
            (None, None) => NOTHING,
        };
        self.say(asked.on, asked.exchange, Some(asked.id), &said);
        true
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for round in 0.. {
            let Some(due) = self.host.endpoint.poll_timeout().filter(|due| *due <= end) else { break };
            assert!(round < 10_000, "it never comes to rest");
            self.now = self.now.max(due);
            self.host.endpoint.handle_timeout(self.now);
            let next = self.host.endpoint.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "what is due was not done");
            self.drain();
        }
        self.now = end;
    }

    fn pass_some(&mut self, most: Duration) {
        let time = self.draw.below(most.as_millis() as u64);
        self.pass(Duration::from_millis(time));
    }

    /// What the caller wishes.
    fn wish(&mut self) {
        let mut ikes: Vec<_> = self.host.endpoint.ike_sas().map(|sa| sa.id).collect();
        let mut children: Vec<_> = self.host.installed.keys().copied().collect();
        let (ike, child) = (self.draw.any(&mut ikes), self.draw.any(&mut children));
        let (what, now, endpoint) = (self.draw.below(40), self.now, &mut self.host.endpoint);
        match (what, child, ike) {
            (0..10, Some(child), _) => drop(endpoint.rekey_child(now, child)),
            (10..12, Some(child), _) => drop(endpoint.close_child(now, child)),
            (12..18, Some(child), _) => endpoint.heard(now, child),
            (18..20, Some(child), _) => endpoint.moved(child, path_of(false)),
            (20..28, _, Some(ike)) => drop(endpoint.rekey_ike(now, ike)),
            (28..33, _, Some(ike)) => drop(endpoint.create_child(now, ike, CHILD)),
            (33..38, _, Some(ike)) => drop(endpoint.check_liveness(now, ike)),
            (38, _, Some(ike)) => drop(endpoint.close(now, ike)),
            (39, _, Some(ike)) => drop(endpoint.abandon(now, ike, Failure::ClosedHere)),
            _ => {}
        }
        self.host.story.push(format!("wish {what}"));
        self.drain();
    }

    /// What the operator changes.
    fn configure(&mut self) {
        let (what, configured) = (self.draw.below(6), self.configured.clone());
        let mut pad = self.host.endpoint.pad_mut();
        match (what, pad.0.first_mut()) {
            (0, _) => pad.0.clear(),
            (1, Some(peer)) => peer.children.clear(),
            (2, Some(peer)) => peer.ike.truncate(1),
            (3, Some(peer)) => peer.ike.reverse(),
            (4, Some(peer)) => peer.dpd = Duration::from_secs(3),
            _ => pad.0 = vec![configured],
        }
        drop(pad);
        self.host.story.push(format!("configured {what}"));
    }

    fn step(&mut self) {
        let lives = |end: &Scripted| self.host.endpoint.ike_sas().any(|sa| end.spis.contains(&sa.spi_local));
        let alive: Vec<_> = (0..self.ends.len()).filter(|on| lives(&self.ends[*on])).collect();
        if alive.is_empty() {
            self.connect();
        }
        // Sometimes on one that is long gone.
        let mut all = if self.draw.percent(3) { (0..self.ends.len()).collect() } else { alive };
        let Some(on) = self.draw.any(&mut all) else { return self.pass(Duration::from_secs(1)) };
        match self.draw.below(200) {
            what @ 0..48 => {
                let old = Some(self.spi()).filter(|_| what > 16);
                let request = self.child(old, None, [left_ts(), right_ts()]);
                self.ask(on, CREATE, &request);
            }
            48..68 => {
                let spis: Vec<_> = (0..=self.draw.below(3)).map(|_| Spi::new(self.spi()).unwrap()).collect();
                self.ask(on, INFO, &payloads(|message| message.delete_esp(&spis)));
            }
            68..74 => drop(self.ask(on, INFO, &payloads(|message| message.delete_ike()))),
            74..90 => self.rekey(on, None),
            90..124 => drop(self.answer(false)),
            124..132 => {
                let kinds = [NotifyKind::INVALID_SPI, NotifyKind::AUTH_LIFETIME, NotifyKind::INITIAL_CONTACT];
                let (kind, data) = (self.draw.of(kinds), self.spi().to_be_bytes());
                self.ask(on, INFO, &payloads(|message| message.notify_parts(kind, &[&data])));
            }
            132..138 => self.connect(),
            138..144 if !self.said.is_empty() => {
                let (on, message) = self.said[self.draw.below(self.said.len() as u64) as usize].clone();
                self.give(on, &message);
            }
            144..180 => self.wish(),
            180..184 => self.ends[on].path.remote.set_port(1000 + self.draw.below(50_000) as u16),
            184 => self.configure(),
            185..187 => self.pass_some(Duration::from_secs(40)),
            _ => self.pass_some(Duration::from_secs(4)),
        }
        self.host.check();
    }

    /// Both come to reason: nothing new begins, and what is asked is answered in earnest.
    fn calm(&mut self) {
        self.configured.rekey = Duration::ZERO;
        (self.configured.children[0].rekey, self.configured.children[0].lifetime) = (Duration::ZERO, Duration::ZERO);
        self.host.endpoint.pad_mut().0 = vec![self.configured.clone()];
        for _ in 0..400 {
            while self.answer(true) {}
            self.pass(Duration::from_millis(500));
        }
        while self.answer(true) {}
    }

    fn judge(&mut self) {
        let endpoint = &self.host.endpoint;
        assert!(endpoint.ike_sas().all(|sa| sa.state == SaState::Established), "one goes on for ever");
        let goes = |child: &ChildView| !child.replaced && self.host.ready.contains(&child.id);
        let (in_use, occupancy) = (endpoint.child_sas().filter(goes).count(), endpoint.occupancy());
        assert_eq!((occupancy.child_sas, occupancy.reserved), (in_use, 0));
        if occupancy.ike_sas < self.sas {
            assert_ne!(self.host.endpoint.initiate(self.now, PEER, None), Err(Denied::Full));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.host.story.len().saturating_sub(60);
            eprintln!("{}", self.host.story[from..].join("\n"));
        }
    }
}

#[test]
fn whatever_a_peer_and_the_caller_do_all_comes_to_rest_and_nothing_is_left_behind() {
    let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let (from, seeds) = (number("SEED", 0), number("SEEDS", SEEDS));
    let mut came_up = ["established", "child 0 up", "ike rekeyed"].map(|what| (what, 0));
    for seed in from..from + seeds {
        let mut world = World::new(seed);
        world.host.story.push(format!("seed {seed}"));
        (0..STEPS).for_each(|_| world.step());
        world.host.story.push(format!("seed {seed} comes to rest"));
        world.calm();
        world.judge();
        for (what, times) in &mut came_up {
            *times += world.host.story.iter().filter(|line| line == what).count() as u64;
        }
    }
    assert!(came_up.iter().all(|(_, times)| *times > 5 * seeds), "nothing much comes up: {came_up:?}");
}
