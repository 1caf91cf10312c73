//! The scripted peer: it derives its keys on its own, seals whatever it is told to, and says it at any time.

use std::time::Duration;

use ike_core::auth::ask::Signed;
use ike_core::auth::{SignedOctets, psk};
use ike_core::crypto::{Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use ike_core::endpoint::{ChildView, IkeView, SaState, Settings};
use ike_core::error::{Discard, NoRoom};
use ike_core::event::{ChildId, IkeId};
use ike_core::keys::prf_plus;
use ike_core::proposal::{EspProposal, IkeProposal, offer_esp, offer_ike};
use ike_core::registry::{AuthMethod, ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::notify::Notify;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::net::{Path, TrafficSelector};
use ipsec_core::time::Instant;

use crate::engine::Engine;
use crate::network::{Host, PEER, Seed, fqdn, pair, selectors};
use crate::signer::signature;

pub(crate) const NOW: Instant = Instant::from_millis(1_000_000);
pub(crate) const SUITE: &str = "aes256gcm16-prfsha384-x25519";
const PRF: PrfAlg = PrfAlg::HmacSha384;
const PRF_LEN: usize = 48;
const KEY_LEN: usize = 36;
pub(crate) const ESP_SPI: [u8; 4] = 0x0bad_cafe_u32.to_be_bytes();

/// Payloads as they stand in a message, and the type of the first.
#[derive(Clone)]
pub(crate) struct Payloads(pub(crate) u8, pub(crate) Vec<u8>);

/// What `write` puts into a message.
pub(crate) fn payloads(write: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>) -> Payloads {
    let mut buf = [0; 8192];
    let mut message = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_AUTH, 0)).unwrap();
    write(&mut message).unwrap();
    let len = message.finish().len;
    Payloads(buf[16], buf[Header::LEN..len].to_vec())
}

/// One payload with any body.
pub(crate) fn payload(kind: u8, flags: u8, body: &[u8], rest: &Payloads) -> Payloads {
    let [high, low] = u16::try_from(4 + body.len()).unwrap().to_be_bytes();
    Payloads(kind, [&[rest.0, flags, high, low], body, &rest.1].concat())
}

pub(crate) const NOTHING: Payloads = Payloads(0, Vec::new());

/// The same payloads without those of a type.
pub(crate) fn without(all: &Payloads, kind: PayloadType) -> Payloads {
    let kept: Vec<_> =
        Chain::new(PayloadType(all.0), &all.1).map(Result::unwrap).filter(|payload| payload.kind != kind).collect();
    kept.iter().rev().fold(NOTHING, |rest, kept| payload(kept.kind.0, 0, kept.body, &rest))
}

/// The same payloads with another body in those of a type.
pub(crate) fn with_body(all: &Payloads, kind: PayloadType, body: &[u8]) -> Payloads {
    let chain: Vec<_> = Chain::new(PayloadType(all.0), &all.1).map(Result::unwrap).collect();
    chain
        .iter()
        .rev()
        .fold(NOTHING, |rest, old| payload(old.kind.0, 0, if old.kind == kind { body } else { old.body }, &rest))
}

/// A message in clear.
pub(crate) fn in_clear(header: &Header, Payloads(first, body): &Payloads) -> Vec<u8> {
    let length = u32::try_from(Header::LEN + body.len()).unwrap();
    [&Header { next: PayloadType(*first), length, ..*header }.to_octets()[..], body].concat()
}

/// What a message in clear or a decrypted SK payload notifies of.
pub(crate) fn notifies(Payloads(first, body): &Payloads) -> Vec<NotifyKind> {
    let chain = Chain::new(PayloadType(*first), body).map(Result::unwrap);
    let notifies = chain.filter(|payload| payload.kind == PayloadType::NOTIFY);
    notifies.map(|payload| Notify::parse(payload.body).unwrap().kind).collect()
}

/// What stands in the first payload of this kind.
pub(crate) fn find(Payloads(first, body): &Payloads, kind: PayloadType) -> Option<&[u8]> {
    Chain::new(PayloadType(*first), body).flatten().find(|payload| payload.kind == kind).map(|payload| payload.body)
}

pub(crate) fn clear_payloads(message: &[u8]) -> Payloads {
    Payloads(Header::parse(message).unwrap().next.0, message[Header::LEN..].to_vec())
}

/// What must be as before when a message changed nothing; not when the peer was last heard.
pub(crate) fn snapshot(host: &Host) -> impl PartialEq + std::fmt::Debug + use<> {
    type Ike = (IkeId, SaState, [u64; 2], Path, Option<Instant>);
    let ike = |sa: IkeView| -> Ike { (sa.id, sa.state, [sa.spi_local, sa.spi_remote], sa.path, sa.since) };
    type Child = (ChildId, IkeId, [u32; 2], bool);
    let child = |child: ChildView<'_>| -> Child {
        (child.id, child.ike, [child.spi_in.get(), child.spi_out.get()], child.replaced)
    };
    let ikes: Vec<_> = host.endpoint.ike_sas().map(ike).collect();
    (ikes, host.endpoint.child_sas().map(child).collect::<Vec<_>>(), host.installed.len(), host.story.len())
}

/// Everything that the host wants to send.
pub(crate) fn transmits(host: &mut Host) -> Vec<Vec<u8>> {
    host.listen();
    let mut sent = Vec::new();
    while let Some(transmit) = host.endpoint.poll_transmit() {
        sent.push(transmit.datagram.to_vec());
    }
    host.listen();
    sent
}

/// Gives the host a message, and returns what it made of it and what it sends.
pub(crate) fn tell_at(
    host: &mut Host,
    now: Instant,
    path: Path,
    message: &[u8],
) -> (Result<(), Discard>, Vec<Vec<u8>>) {
    let handled = host.endpoint.handle_datagram(now, path, &mut message.to_vec());
    (handled, transmits(host))
}

/// A host that fits the scripted peer, which is the other end of `pair()`.
pub(crate) fn host(initiator: bool) -> Host {
    let [mut left, mut right] = pair();
    for end in [&mut left, &mut right] {
        end.ike = vec![IkeProposal::parse(SUITE).unwrap(), IkeProposal::parse("aes256gcm16-prfsha384-ecp256").unwrap()];
        end.dpd = Duration::ZERO;
    }
    Host::new(77, vec![if initiator { left } else { right }], Settings::default())
}

/// The path as the host sees it.
pub(crate) fn path_of(host_initiates: bool) -> Path {
    let [left, right] = pair();
    let end = if host_initiates { left } else { right };
    Path { local: end.local, remote: end.remote.unwrap() }
}

pub(crate) struct Scripted {
    pub(crate) engine: Engine,
    /// The peer is the original initiator.
    pub(crate) initiator: bool,
    /// Who it says to be.
    pub(crate) name: &'static str,
    pub(crate) spis: [u64; 2],
    pub(crate) nonces: [Vec<u8>; 2],
    /// IKE_SA_INIT, request and response.
    init: [Vec<u8>; 2],
    pub(crate) sk_d: Vec<u8>,
    sk_e: [Vec<u8>; 2],
    sk_p: [Vec<u8>; 2],
    pub(crate) path: Path,
    iv: u64,
    /// The IDs of the peer's next request, and of the host's.
    pub(crate) next: [u32; 2],
}

/// What an IKE_SA_INIT request of ours carries.
pub(crate) fn init_payloads(group: Group, public: &[u8]) -> Payloads {
    payloads(|message| {
        message.sa(ProtocolId::IKE, &[], offer_ike(&[IkeProposal::parse(SUITE).unwrap()]))?;
        message.ke(group.id(), public)?;
        message.nonce(&[0x4e; 32])
    })
}

/// An IKE_SA_INIT request of ours that a Vendor ID makes so many octets long at least.
pub(crate) fn init_request(spi_i: u64, public: &[u8], octets: usize) -> Vec<u8> {
    let all = init_payloads(Group::Curve25519, public);
    let bare = in_clear(&init_header(spi_i), &all);
    match octets.checked_sub(bare.len() + 4) {
        Some(more) => in_clear(&init_header(spi_i), &payload(PayloadType::VENDOR.0, 0, &vec![0; more], &all)),
        None => bare,
    }
}

/// What a rekey of the IKE SA carries.
pub(crate) fn rekey_payloads(number: u8, spi: u64, nonce: [u8; 32], public: &[u8]) -> Payloads {
    payloads(|message| {
        message.sa(ProtocolId::IKE, &spi.to_be_bytes(), [(number, IkeProposal::parse(SUITE).unwrap().transforms())])?;
        message.nonce(&nonce)?;
        message.ke(GroupId::CURVE25519, public)
    })
}

pub(crate) fn init_header(spi_i: u64) -> Header {
    Header { initiator: true, ..Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, 0) }
}

fn body_of(message: &[u8], kind: PayloadType) -> Vec<u8> {
    let header = Header::parse(message).unwrap();
    let mut chain = Chain::new(header.next, &message[Header::LEN..]).map(Result::unwrap);
    chain.find(|payload| payload.kind == kind).unwrap_or_else(|| panic!("no {kind:?}")).body.to_vec()
}

impl Scripted {
    fn new(initiator: bool, seed: u64) -> (Self, <Engine as IkeCrypto>::KeSecret, [u8; 32]) {
        let mut engine = Engine::new(Seed(seed), Packets);
        let mut public = [0; 32];
        let secret = engine.ke_offer(Group::Curve25519, &mut public).unwrap();
        let peer = Self {
            engine,
            initiator,
            name: if initiator { "left.example" } else { "right.example" },
            spis: [0; 2],
            nonces: [vec![], vec![]],
            init: [vec![], vec![]],
            sk_d: vec![],
            sk_e: [vec![], vec![]],
            sk_p: [vec![], vec![]],
            path: path_of(!initiator),
            iv: 0,
            next: [0; 2],
        };
        (peer, secret, public)
    }

    /// IKE_SA_INIT with a host that answers.
    pub(crate) fn initiate(host: &mut Host, seed: u64) -> Self {
        Self::initiate_with(host, seed, 0)
    }

    /// The same, with a first message that is so many octets long at least.
    pub(crate) fn initiate_with(host: &mut Host, seed: u64, octets: usize) -> Self {
        Self::initiate_at(host, NOW, seed, octets).expect("an answer")
    }

    /// The same at this moment; `None` where the host has no room for it.
    pub(crate) fn initiate_at(host: &mut Host, now: Instant, seed: u64, octets: usize) -> Option<Self> {
        let (mut peer, secret, public) = Self::new(true, seed);
        let request = init_request(0x1111_0000 + seed, &public, octets);
        let (handled, sent) = tell_at(host, now, peer.path, &request);
        if handled == Err(Discard::NoRoom) {
            return None;
        }
        assert_eq!((handled, sent.len()), (Ok(()), 1));
        // Not when it is to come again with a cookie.
        find(&clear_payloads(&sent[0]), PayloadType::KE).is_some().then(|| {
            peer.take_keys(secret, request, sent[0].clone());
            peer.next = [1, 0];
            peer
        })
    }

    /// IKE_SA_INIT with a host that asks; returns the IKE_AUTH request that follows.
    pub(crate) fn answer(host: &mut Host, seed: u64) -> (Self, Vec<u8>) {
        host.endpoint.initiate(NOW, PEER, None).unwrap();
        let request = transmits(host).remove(0);
        Self::answer_to(host, seed, &request)
    }

    /// IKE_SA_INIT with a host that asks; returns what it sends then.
    pub(crate) fn answer_asked(host: &mut Host, seed: u64) -> (Self, Vec<Vec<u8>>) {
        host.endpoint.initiate(NOW, PEER, None).unwrap();
        let request = transmits(host).remove(0);
        Self::answer_at(host, NOW, seed, &request).expect("room for it")
    }

    /// The same, to a request that was sent before.
    pub(crate) fn answer_to(host: &mut Host, seed: u64, request: &[u8]) -> (Self, Vec<u8>) {
        let (peer, sent) = Self::answer_at(host, NOW, seed, request).expect("room for it");
        assert_eq!(sent.len(), 1, "{:?}", host.story);
        (peer, sent[0].clone())
    }

    /// The same at this moment, and all that it sends then; `None` where the host has no room for it.
    pub(crate) fn answer_at(host: &mut Host, now: Instant, seed: u64, request: &[u8]) -> Option<(Self, Vec<Vec<u8>>)> {
        let (mut peer, secret, public) = Self::new(false, seed);
        let spi_i = Header::parse(request).unwrap().spi_i;
        let header = Header { response: true, ..Header::new(spi_i, 0x2222_0000 + seed, ExchangeType::IKE_SA_INIT, 0) };
        let response = in_clear(&header, &init_payloads(Group::Curve25519, &public));
        peer.take_keys(secret, request.to_vec(), response.clone());
        let (handled, sent) = tell_at(host, now, peer.path, &response);
        if handled == Err(Discard::NoRoom) {
            return None;
        }
        assert_eq!(handled, Ok(()), "{:?}", host.story);
        peer.next = [0, 2];
        Some((peer, sent))
    }

    /// Keys of RFC 7296 §2.14, from the two messages.
    fn take_keys(&mut self, secret: <Engine as IkeCrypto>::KeSecret, request: Vec<u8>, response: Vec<u8>) {
        let theirs = if self.initiator { &response } else { &request };
        let header = Header::parse(&response).unwrap();
        self.spis = [header.spi_i, header.spi_r];
        self.nonces = [&request, &response].map(|message| body_of(message, PayloadType::NONCE));
        let mut shared = SharedSecret::new();
        self.engine.ke_finish(&secret, &body_of(theirs, PayloadType::KE)[4..], &mut shared).unwrap();
        let mut skeyseed = Digest64::new();
        self.engine.prf(PRF, &self.nonces.concat(), &[shared.as_slice()], &mut skeyseed);
        self.expand(&skeyseed);
        self.init = [request, response];
    }

    fn expand(&mut self, skeyseed: &Digest64) {
        let spis = self.spis.map(u64::to_be_bytes).concat();
        let mut keymat = vec![0; 3 * PRF_LEN + 2 * KEY_LEN];
        let seed = [&self.nonces[0][..], &self.nonces[1], &spis];
        prf_plus(&mut self.engine, PRF, skeyseed.as_slice(), &seed, &mut keymat).unwrap();
        let mut parts = keymat.as_slice();
        let mut take = |len| {
            let (part, rest) = parts.split_at(len);
            parts = rest;
            part.to_vec()
        };
        self.sk_d = take(PRF_LEN);
        self.sk_e = [take(KEY_LEN), take(KEY_LEN)];
        self.sk_p = [take(PRF_LEN), take(PRF_LEN)];
    }

    /// The new IKE SA of a rekey (RFC 7296 §2.18): what the host says in it, our private value, our SPI and nonce, and
    /// whether we began.
    pub(crate) fn heir(
        &self,
        said: &Payloads,
        secret: &<Engine as IkeCrypto>::KeSecret,
        (spi, nonce): (u64, [u8; 32]),
        initiator: bool,
    ) -> Self {
        let body = |kind| {
            let mut chain = Chain::new(PayloadType(said.0), &said.1).map(Result::unwrap);
            chain.find(|payload| payload.kind == kind).unwrap_or_else(|| panic!("no {kind:?}")).body.to_vec()
        };
        let host_spi = u64::from_be_bytes(body(PayloadType::SA)[8..16].try_into().unwrap());
        let (mut spis, mut nonces) = ([spi, host_spi], [nonce.to_vec(), body(PayloadType::NONCE)]);
        if !initiator {
            spis.reverse();
            nonces.reverse();
        }
        let mut new = Self {
            engine: Engine::new(Seed(spi), Packets),
            initiator,
            name: self.name,
            spis,
            nonces,
            init: [vec![], vec![]],
            sk_d: vec![],
            sk_e: [vec![], vec![]],
            sk_p: [vec![], vec![]],
            path: self.path,
            iv: 0,
            next: [0; 2],
        };
        let mut shared = SharedSecret::new();
        new.engine.ke_finish(secret, &body(PayloadType::KE)[4..], &mut shared).unwrap();
        let mut skeyseed = Digest64::new();
        let parts = [shared.as_slice(), &new.nonces[0], &new.nonces[1]];
        new.engine.prf(PRF, &self.sk_d, &parts, &mut skeyseed);
        new.expand(&skeyseed);
        new
    }

    /// Rekeys the IKE SA.
    pub(crate) fn rekey(&mut self, host: &mut Host, spi: u64, nonce: [u8; 32]) -> Self {
        let mut public = [0; 32];
        let secret = self.engine.ke_offer(Group::Curve25519, &mut public).unwrap();
        let answer = self.ask(host, ExchangeType::CREATE_CHILD_SA, &rekey_payloads(1, spi, nonce, &public));
        self.heir(&answer, &secret, (spi, nonce), true)
    }

    /// Agrees to the host's rekey of the IKE SA, to the proposal of this number; returns what it sends then, too.
    pub(crate) fn agree(
        &mut self,
        host: &mut Host,
        request: &Payloads,
        number: u8,
        (spi, nonce): (u64, [u8; 32]),
    ) -> (Self, Vec<Vec<u8>>) {
        let mut public = [0; 32];
        let secret = self.engine.ke_offer(Group::Curve25519, &mut public).unwrap();
        let new = self.heir(request, &secret, (spi, nonce), false);
        let answer = rekey_payloads(number, spi, nonce, &public);
        let (handled, sent) = self.respond(host, ExchangeType::CREATE_CHILD_SA, &answer);
        assert_eq!(handled, Ok(()));
        (new, sent)
    }

    /// AUTH of this side.
    pub(crate) fn auth(&mut self) -> Vec<u8> {
        let side = usize::from(!self.initiator);
        let sk_p = Digest64::copy_from(&self.sk_p[side]).unwrap();
        let message = self.init[side].clone();
        let nonce = self.nonces[1 - side].clone();
        let signed = SignedOctets { message: &[&message], nonce: &nonce, id: fqdn(self.name), sk_p: &sk_p };
        let mut auth = Digest64::new();
        psk::auth_value(&mut self.engine, PRF, b"correct horse battery staple", &signed, &mut auth).unwrap();
        auth.as_slice().to_vec()
    }

    /// What AUTH of either side covers (RFC 7296 §2.15): its IKE_SA_INIT, the other one's nonce, and its identity under a MAC.
    pub(crate) fn signed_by(&mut self, initiator: bool) -> Covered {
        let side = usize::from(!initiator);
        let name = if initiator { "left.example" } else { "right.example" };
        let mut maced_id = Digest64::new();
        let id = [&[2, 0, 0, 0], name.as_bytes()].concat();
        self.engine.prf(PRF, &self.sk_p[side], &[&id], &mut maced_id);
        Covered { message: self.init[side].clone(), nonce: self.nonces[1 - side].clone(), maced_id }
    }

    /// AUTH as of whoever holds this key, by either side.
    pub(crate) fn keyed(&mut self, key: &[u8]) -> Vec<u8> {
        let Covered { message, nonce, maced_id } = self.signed_by(self.initiator);
        let (mut padded, mut auth) = (Digest64::new(), Digest64::new());
        self.engine.prf(PRF, key, &[b"Key Pad for IKEv2"], &mut padded);
        self.engine.prf(PRF, padded.as_slice(), &[&message, &nonce, maced_id.as_slice()], &mut auth);
        auth.as_slice().to_vec()
    }

    /// What IKE_AUTH of this side carries.
    pub(crate) fn auth_payloads(&mut self) -> Payloads {
        let auth = self.auth();
        let kind = if self.initiator { PayloadType::ID_I } else { PayloadType::ID_R };
        let is_called_left = !self.initiator && self.name == "left.example";
        let [ts_i, ts_r] = if is_called_left { [right_ts(), left_ts()] } else { [left_ts(), right_ts()] };
        payloads(|message| {
            message.id(kind, &fqdn(self.name))?;
            message.auth(AuthMethod::SHARED_KEY, &auth)?;
            message.sa(ProtocolId::ESP, &ESP_SPI, [(1, esp(false).transforms(false))])?;
            message.ts(PayloadType::TS_I, ts_i)?;
            message.ts(PayloadType::TS_R, ts_r)
        })
    }

    pub(crate) fn header(&self, exchange: ExchangeType, response: bool, id: u32) -> Header {
        let [spi_i, spi_r] = self.spis;
        Header { initiator: self.initiator, response, ..Header::new(spi_i, spi_r, exchange, id) }
    }

    /// Seals `text`, which ends with its own pad length.
    pub(crate) fn seal_text(&mut self, header: &Header, first: u8, text: &[u8]) -> Vec<u8> {
        let sk_len = 4 + 8 + text.len() + 16;
        let length = u32::try_from(Header::LEN + sk_len).unwrap();
        let header = Header { next: PayloadType::SK, length, ..*header }.to_octets();
        let [high, low] = u16::try_from(sk_len).unwrap().to_be_bytes();
        let aad = [&header[..], &[first, 0, high, low]].concat();
        let (key, salt) = self.sk_e[usize::from(!self.initiator)].split_at(KEY_LEN - 4);
        let key = self.engine.aead_key(AeadAlg::Aes256Gcm16, key).unwrap();
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(salt);
        nonce[4..].copy_from_slice(&self.iv.to_be_bytes());
        let mut text_and_tag = [text, &[0; 16]].concat();
        self.engine.seal(&key, &nonce, &aad, &mut text_and_tag);
        self.iv += 1;
        [&aad[..], &nonce[4..], &text_and_tag].concat()
    }

    pub(crate) fn seal(&mut self, header: &Header, Payloads(first, body): &Payloads) -> Vec<u8> {
        self.seal_text(header, *first, &[&body[..], &[0]].concat())
    }

    /// What a message of the host hides.
    pub(crate) fn open(&mut self, message: &[u8]) -> Payloads {
        let (key, salt) = self.sk_e[usize::from(self.initiator)].split_at(KEY_LEN - 4);
        let key = self.engine.aead_key(AeadAlg::Aes256Gcm16, key).unwrap();
        let nonce: Vec<u8> = [salt, &message[32..40]].concat();
        let mut text = message[40..].to_vec();
        self.engine.open(&key, &nonce.try_into().unwrap(), &message[..32], &mut text).expect("the right keys");
        text.truncate(text.len() - 16 - 1);
        Payloads(message[Header::LEN], text)
    }

    pub(crate) fn tell(&self, host: &mut Host, message: &[u8]) -> (Result<(), Discard>, Vec<Vec<u8>>) {
        tell_at(host, NOW, self.path, message)
    }

    /// A request with the expected ID, which the host answers; returns the answer's payloads.
    pub(crate) fn ask(&mut self, host: &mut Host, exchange: ExchangeType, request: &Payloads) -> Payloads {
        let header = self.header(exchange, false, self.next[0]);
        let message = self.seal(&header, request);
        let (handled, sent) = self.tell(host, &message);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{:?}", host.story);
        self.next[0] += 1;
        self.open(&sent[0])
    }

    /// Answers the host's outstanding request.
    pub(crate) fn respond(
        &mut self,
        host: &mut Host,
        exchange: ExchangeType,
        response: &Payloads,
    ) -> (Result<(), Discard>, Vec<Vec<u8>>) {
        let header = self.header(exchange, true, self.next[1]);
        let message = self.seal(&header, response);
        self.next[1] += 1;
        self.tell(host, &message)
    }

    /// Whether the SA works: a liveness check is answered.
    pub(crate) fn alive(&mut self, host: &mut Host) -> bool {
        let header = self.header(ExchangeType::INFORMATIONAL, false, self.next[0]);
        let message = self.seal(&header, &NOTHING);
        let (handled, sent) = self.tell(host, &message);
        let answered = handled.is_ok() && sent.len() == 1 && self.open(&sent[0]).1.is_empty();
        self.next[0] += u32::from(answered);
        answered
    }

    /// An established SA with a child, with a host that answered.
    pub(crate) fn established(seed: u64) -> (Host, Self) {
        let mut host = host(false);
        let mut peer = Self::initiate(&mut host, seed);
        let auth = peer.auth_payloads();
        let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth);
        assert!(notifies(&answer).is_empty() && host.installed.len() == 1, "{:?}", host.story);
        // The host takes its answer for received.
        assert!(peer.alive(&mut host));
        (host, peer)
    }

    /// An established SA with a child, with a host that asked.
    pub(crate) fn established_by_host(seed: u64) -> (Host, Self) {
        let mut host = host(true);
        let (mut peer, _) = Self::answer(&mut host, seed);
        peer.next[1] = 1;
        let auth = peer.auth_payloads();
        let (handled, sent) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth);
        assert_eq!((handled, sent.len(), host.installed.len()), (Ok(()), 0, 1), "{:?}", host.story);
        (host, peer)
    }
}

pub(crate) struct Covered {
    message: Vec<u8>,
    nonce: Vec<u8>,
    maced_id: Digest64,
}

impl Covered {
    pub(crate) fn signature(&self, name: &[u8]) -> Vec<u8> {
        let maced_id = Digest64::copy_from(self.maced_id.as_slice()).unwrap();
        signature(name, &Signed { message: &self.message, nonce: &self.nonce, maced_id })
    }
}

pub(crate) fn esp(with_ke: bool) -> EspProposal {
    EspProposal::parse(if with_ke { "aes256gcm16-x25519-esn" } else { "aes256gcm16-esn" }).unwrap()
}

pub(crate) fn left_ts() -> &'static [TrafficSelector] {
    selectors(&["10.1.0.0/16"])
}

pub(crate) fn right_ts() -> &'static [TrafficSelector] {
    selectors(&["10.2.0.0/16"])
}

/// A request for a Child SA as the initiator of the IKE SA would make it.
pub(crate) fn child_payloads(ke: Option<&[u8]>) -> Payloads {
    payloads(|message| {
        message.sa(ProtocolId::ESP, &0x0bad_cafd_u32.to_be_bytes(), offer_esp(&[esp(ke.is_some())], true))?;
        message.nonce(&[0x6e; 32])?;
        if let Some(public) = ke {
            message.ke(GroupId::CURVE25519, public)?;
        }
        message.ts(PayloadType::TS_I, left_ts())?;
        message.ts(PayloadType::TS_R, right_ts())
    })
}
