//! `[[sa]]`: SAs whose keys stand in the file, without IKE (RFC 4301 §4.5.1).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ike_core::crypto::{EspSuite, Protection};
use ike_core::proposal::EspProposal;
use ipsec_core::net::{Encap, NATT_PORT, Path, Spi, TrafficSelector};
use ipsec_core::sa::DontFragment;
use zeroize::Zeroizing;

use super::check::{self, Sides};
use super::diagnostic::{ConfigError, Position};
use super::grammar::{Bad, address, secret_file};
use super::peer::{between_hosts, dont_fragment, mode, traffic};
use super::proposal::{Kind, explained};
use super::reader::{Placed, Reader, Section};
use super::secret::{Secret, SecretSource};
use super::settings::window;
use super::{Mode, Peer, Settings, Traffic};

/// Which pair of SAs with manual keys. A gateway gives no number out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManualId(pub u32);

/// What `status`, the log and accounts call all pairs together: as if they were of one peer. No peer has this name.
pub const MANUAL: &str = "sa";

/// Two `[[sa]]`s: one to send with, and one for what the peer sends.
///
/// ```
/// use gateway_core::config::{Config, ManualSa};
/// let text = r#"
/// [[sa]]
/// direction = "out"
/// spi       = 0x2001
/// local     = "192.0.2.2"
/// remote    = "192.0.2.1"
/// suite     = "aes128gcm16-esn"
/// key       = "0x000102030405060708090a0b0c0d0e0f10111213"
/// local-ts  = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// [[sa]]
/// direction = "in"
/// spi       = 0x1001
/// local     = "192.0.2.2"
/// remote    = "192.0.2.1"
/// suite     = "aes128gcm16-esn"
/// key       = "0x202122232425262728292a2b2c2d2e2f30313233"
/// local-ts  = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// "#;
/// let (config, warnings) = Config::parse(text).unwrap();
/// let pair = &config.manual[0];
/// assert_eq!((pair.name().as_str(), pair.outbound.spi.get(), pair.inbound.spi.get()), ("sa/0x00002001", 0x2001, 0x1001));
/// let ManualSa { suite, sequence, encap, .. } = &pair.outbound;
/// assert_eq!((suite.to_string().as_str(), *sequence, *encap), ("aes128gcm16-esn", 0, None)); // as protocol 50
/// assert!(warnings[0].message.contains("RFC 8221")); // no key of AES-GCM should be used so
/// ```
#[derive(Debug)]
pub struct ManualPair {
    /// How packets are put into ESP.
    pub mode: Mode,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// Traffic of our side.
    pub local_ts: Vec<TrafficSelector>,
    /// Traffic of the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    /// What we send with.
    pub outbound: ManualSa,
    /// What the peer sends with.
    pub inbound: ManualSa,
}

/// What a `[[sa]]` has by itself.
#[derive(Debug)]
pub struct ManualSa {
    /// Where it stands in the file.
    pub at: Position,
    /// Security Parameters Index.
    pub spi: Spi,
    /// Algorithms.
    pub suite: EspSuite,
    /// The cipher's key, with its salt; `None`: the cipher has none.
    pub key: Option<SecretSource>,
    /// The integrity algorithm's key; `None`: an AEAD has none.
    pub integ_key: Option<SecretSource>,
    /// The peer's UDP port, where ESP goes in UDP. Ours is 4500.
    pub encap: Option<u16>,
    /// The DF bit of what is sent over IPv4; of use to the sender.
    pub dont_fragment: DontFragment,
    /// Packets that the anti-replay window remembers; of use to the receiver.
    pub replay: u16,
    /// Numbers up to this one are taken for used.
    pub sequence: u64,
}

impl ManualPair {
    /// What `status`, the log and accounts call it: `sa/` and the SPI that we send with.
    pub fn name(&self) -> String {
        format!("{MANUAL}/{}", self.name_in_all())
    }

    /// The same without what all of them have in common.
    pub(crate) fn name_in_all(&self) -> String {
        format!("{:#010x}", self.outbound.spi.get())
    }

    /// What it carries.
    pub fn traffic(&self) -> Traffic<'_> {
        Traffic { local: &self.local_ts, remote: &self.remote_ts }
    }

    /// The way of one of its SAs.
    pub(crate) fn path(&self, sa: &ManualSa) -> Path {
        let at = |address, port| SocketAddr::new(address, port);
        let path = Path { local: at(self.local, NATT_PORT), remote: at(self.remote, sa.encap.unwrap_or(NATT_PORT)) };
        path.carried(sa.travels())
    }

    /// Between whom it is, and for which traffic: another pair with the same ends takes its place.
    pub(crate) fn ends(&self) -> Ends {
        Ends::of(self.mode, [self.local, self.remote], [&self.local_ts, &self.remote_ts])
    }
}

/// What the two of a pair have in common; selectors regardless of their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ends {
    mode: &'static str,
    addresses: [IpAddr; 2],
    selectors: [check::Set; 2],
}

impl Ends {
    fn of(mode: Mode, addresses: [IpAddr; 2], selectors: [&[TrafficSelector]; 2]) -> Self {
        Self { mode: mode.as_str(), addresses, selectors: selectors.map(check::set) }
    }
}

impl ManualSa {
    /// Protocol 50 or UDP.
    pub(crate) fn travels(&self) -> Encap {
        if self.encap.is_some() { Encap::Udp } else { Encap::None }
    }

    /// The highest sequence number that it may use.
    pub(crate) fn last_number(&self) -> u64 {
        if self.suite.esn { u64::MAX } else { u64::from(u32::MAX) }
    }

    /// The keys, in the order of KEYMAT (RFC 7296 §2.17); `None` while they have not been read.
    pub(crate) fn keymat(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut keymat = Zeroizing::new(Vec::with_capacity(KEYMAT));
        for key in [&self.key, &self.integ_key].into_iter().flatten() {
            keymat.extend_from_slice(key.loaded()?.expose());
        }
        Some(keymat)
    }

    /// What no number may be used twice with: the key of the cipher, whatever algorithms, addresses and SPI stand beside it.
    pub(crate) fn counted_key(&self) -> Option<&Secret> {
        self.key.as_ref().or(self.integ_key.as_ref())?.loaded()
    }

    /// Whether it is the very same SA to send with: it goes on behind the number that it began with, which need not stand there
    /// any more.
    pub(crate) fn sends_as(&self, before: &Self) -> bool {
        (self.encap, self.dont_fragment) == (before.encap, before.dont_fragment)
            && self.sequence <= before.sequence
            && self.has_keys_of(before)
    }

    /// Whether it is the very same SA to receive with: what comes in is taken either way, in UDP or not.
    pub(crate) fn receives_as(&self, before: &Self) -> bool {
        self.replay == before.replay && self.sequence <= before.sequence && self.has_keys_of(before)
    }

    fn has_keys_of(&self, other: &Self) -> bool {
        (self.spi, self.suite) == (other.spi, other.suite)
            && same(&self.key, &other.key)
            && same(&self.integ_key, &other.integ_key)
    }

    /// Whether it takes packets that were made for the other one: those of its SPI, by the key that proves them.
    pub(crate) fn takes_what_is_for(&self, other: &Self) -> bool {
        self.spi == other.spi && self.proving_key().zip(other.proving_key()).is_some_and(|(one, other)| one == other)
    }

    fn proving_key(&self) -> Option<&Secret> {
        self.integ_key.as_ref().or(self.key.as_ref())?.loaded()
    }
}

/// Room for the longest keying material: a cipher's key with its salt and an integrity key.
const KEYMAT: usize = 36 + 64;

/// Whether two keys are one, as far as they are known.
fn same(one: &Option<SecretSource>, other: &Option<SecretSource>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.loaded().zip(other.loaded()).is_some_and(|(one, other)| one == other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Which way packets go through an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Out,
    In,
}

/// A `[[sa]]` as it stands in the file.
pub(super) struct Entry {
    section: usize,
    spi_at: usize,
    remote_at: usize,
    direction: Direction,
    mode: Mode,
    local: IpAddr,
    remote: IpAddr,
    local_ts: Vec<Placed<TrafficSelector>>,
    remote_ts: Vec<Placed<TrafficSelector>>,
    sa: ManualSa,
}

/// Reads one `[[sa]]`; `None` when something it cannot do without is missing or wrong.
pub(super) fn read<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, gateway: &Settings) -> Option<Entry> {
    reader.known(section);
    for (key, hint) in [
        ("direction", "write direction = \"out\" for what we send, or direction = \"in\" for what the peer sends"),
        ("spi", "write the SPI, for instance spi = 0x2001"),
        ("local", "write our address"),
        ("remote", "write the peer's address"),
        ("suite", "write the algorithms, for instance suite = \"aes256gcm16-esn\""),
        ("local-ts", "write the networks behind this gateway, for instance local-ts = [\"10.2.0.0/16\"]"),
        ("remote-ts", "write the networks behind the peer, for instance remote-ts = [\"10.1.0.0/16\"]"),
    ] {
        if !section.has(key) {
            reader.missing(section, key, hint);
        }
    }
    let direction = reader.choice(section, "direction", &[("out", Direction::Out), ("in", Direction::In)]);
    let spi = spi(reader, section);
    let modes = &[("tunnel", Mode::Tunnel), ("transport", Mode::Transport), ("beet", Mode::Beet)];
    let mode = mode(reader, section, modes);
    let local = reader.read(section, "local", "our address in quotes", address);
    let remote = reader.read(section, "remote", "the peer's address in quotes", address);
    let suite = reader.read(section, "suite", "one suite in quotes, such as \"aes256gcm16-esn\"", suite);
    let suite = suite.map(|word| word.value);
    let protection = suite.map(|suite| suite.protection);
    let key = key(reader, section, ["key", "key-file"], protection.map(Protection::encr_key_len));
    let integ_key = key_of_integ(reader, section, protection);
    let encap = reader.number(section, "encap", 1..=u16::MAX);
    let dont_fragment = mode.map(|mode| dont_fragment(reader, section, mode));
    let replay = window(reader, section, "replay").unwrap_or(gateway.replay_window);
    if replay > gateway.replay_window {
        let found = format!("{replay}, which is more than \"replay-window\" under [gateway]");
        let hint = format!("memory is made for windows of {}: raise \"replay-window\"", gateway.replay_window);
        reader.error(section.place("replay"), found, format!("at most {}", gateway.replay_window), hint);
    }
    let sequence = reader.number(section, "sequence", 0..=i64::MAX).unwrap_or(0);
    let local_ts = traffic(reader, section, "local-ts");
    let remote_ts = traffic(reader, section, "remote-ts");
    if let (Some(mode), Some(local_ts), Some(remote_ts)) = (mode, &local_ts, &remote_ts) {
        if !between_hosts(reader, mode, [local_ts, remote_ts]) {
            return None;
        }
        if mode == Mode::Beet && local_ts.len().max(remote_ts.len()) > 1 {
            let hint = "their addresses go without saying in BEET mode, so there is one on each side";
            reader.error(section.place("local-ts"), "several selectors", "one", hint);
        }
        for (host, selectors) in [(&local, local_ts), (&remote, remote_ts)] {
            if let Some(Placed { value: host, .. }) = host
                && mode == Mode::Transport
            {
                check::reached_at(reader, &[*host], selectors.iter().map(|placed| (&placed.value, &placed.at)));
            }
        }
    }
    let sa = ManualSa {
        at: reader.position(section.at),
        spi: spi?,
        suite: suite?,
        key: key?,
        integ_key: integ_key?,
        encap,
        dont_fragment: dont_fragment?,
        replay,
        sequence: u64::try_from(sequence).unwrap_or(0),
    };
    if sa.sequence >= sa.last_number() {
        let hint = "without \"-esn\" there are 4294967295 numbers: take a new key, or ESN at both ends";
        reader.error(section.place("sequence"), format!("{sequence}"), "at most 4294967294", hint);
    }
    Some(Entry {
        section: section.at,
        spi_at: section.place("spi"),
        remote_at: section.place("remote"),
        direction: direction?,
        mode: mode?,
        local: local?.value,
        remote: remote?.value,
        local_ts: local_ts?,
        remote_ts: remote_ts?,
        sa,
    })
}

fn spi<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>) -> Option<Spi> {
    let number = reader.number(section, "spi", 0..=u32::MAX)?;
    let spi = Spi::new(number);
    if spi.is_none() {
        let hint = "smaller ones are reserved (RFC 4303 §2.1)";
        reader.error(section.place("spi"), format!("{number}"), "an SPI from 0x100 on", hint);
    }
    spi
}

/// One suite exactly: nothing is negotiated. ESN has to be written, as both ends have to say the same.
fn suite(word: &str) -> Result<EspSuite, Bad> {
    let stated = word.split('-').any(|part| ["esn", "noesn"].iter().any(|esn| part.eq_ignore_ascii_case(esn)));
    let words = if stated { word.to_string() } else { format!("{word}-noesn") };
    let proposal = EspProposal::parse(&words).map_err(|error| explained(word, error, Kind::ESP.words))?;
    let whole = |hint: &'static str| Bad::whole(word, "one suite, such as \"aes256gcm16-esn\"").hint(hint);
    if proposal.groups().next().is_some() {
        return Err(whole("there is no key exchange where there is no IKE"));
    }
    proposal.suite().ok_or_else(|| whole("nothing is negotiated: write one algorithm of each kind"))
}

/// The key under one of two names. `length`: of the suite, when that is known.
fn key<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    [name, file]: [&'static str; 2],
    length: Option<usize>,
) -> Option<Option<SecretSource>> {
    let there = [name, file].map(|name| section.has(name));
    match (there, length?) {
        ([true, true], _) => {
            let found = format!("both \"{name}\" and \"{file}\"");
            reader.error(section.place(file), found, "one of them", "remove one");
            None
        }
        ([false, false], 0) => Some(None),
        ([false, false], length) => {
            reader.missing(section, name, format!("write {name} = \"0x…\" with {length} octets, or {file} = \"…\""));
            None
        }
        ([inline, _], 0) => {
            let there = if inline { name } else { file };
            reader.error(section.place(there), format!("\"{there}\""), "no such key", "the suite has none");
            None
        }
        ([true, false], length) => {
            let word = reader.word(section, name, "a key in quotes, as \"0x…\"")?;
            Secret::octets(word.text, length)
                .map(|secret| Some(SecretSource::Loaded(secret)))
                .map_err(|bad| reader.bad(word, bad))
                .ok()
        }
        ([false, true], _) => {
            let path = reader.read(section, file, "the path of a file in quotes", secret_file)?;
            Some(Some(SecretSource::File { path: path.value, at: reader.position(path.at) }))
        }
    }
}

fn key_of_integ<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    protection: Option<Protection>,
) -> Option<Option<SecretSource>> {
    key(reader, section, ["integ-key", "integ-key-file"], protection.map(Protection::integ_key_len))
}

/// Finds the two of each pair, and tells what cannot be meant. `whole`: no other `[[sa]]` was wrong, which may be the second one.
pub(super) fn pairs(
    reader: &mut Reader<'_>,
    gateway: &Settings,
    (entries, whole): (Vec<Entry>, bool),
    peers: &[Peer],
) -> Vec<ManualPair> {
    spis(reader, &entries);
    let mut ends: BTreeMap<_, [Vec<Entry>; 2]> = BTreeMap::new();
    let mut order = Vec::new();
    for entry in entries {
        let selectors = [values(&entry.local_ts), values(&entry.remote_ts)];
        let selectors = selectors.each_ref().map(Vec::as_slice);
        let between = Ends::of(entry.mode, [entry.local, entry.remote], selectors);
        if !ends.contains_key(&between) {
            order.push(between.clone());
        }
        let [outbound, inbound] = ends.entry(between).or_default();
        if entry.direction == Direction::Out { outbound.push(entry) } else { inbound.push(entry) }
    }
    let mut pairs = Vec::new();
    let mut carried: BTreeMap<_, String> = BTreeMap::new();
    for (peer, child) in peers.iter().flat_map(|peer| peer.children.iter().map(move |child| (peer, child))) {
        let selectors = [check::set(&child.local_ts), check::set(&child.remote_ts)];
        carried.insert(selectors, format!("\"{}/{}\" (line {})", peer.name, child.name, child.at.line));
    }
    for between in order {
        let Some([outbound, inbound]) = ends.remove(&between) else { continue };
        let Some((outbound, inbound)) = two(reader, whole, outbound, inbound) else { continue };
        let line = outbound.sa.at.line;
        if let Some(other) = carried.insert(between.selectors, format!("the [[sa]] in line {line}")) {
            let why = "only one of the two could ever carry a packet";
            reader.error(outbound.section, format!("the selectors of {other}"), "different selectors", why);
        }
        check_one(reader, gateway, &outbound);
        [&outbound, &inbound].into_iter().for_each(|entry| warn_of_counting(reader, entry));
        pairs.push(paired(outbound, inbound));
    }
    for error in keys_twice(&pairs) {
        reader.refuse(error);
    }
    pairs
}

/// One of each, or what is wrong about that.
fn two(reader: &mut Reader<'_>, whole: bool, outbound: Vec<Entry>, inbound: Vec<Entry>) -> Option<(Entry, Entry)> {
    for (all, direction) in [(&outbound, "out"), (&inbound, "in")] {
        for entry in all.iter().skip(1) {
            let found = format!("a second [[sa]] with direction = \"{direction}\" between these ends for this traffic");
            reader.error(
                entry.section,
                found,
                "one for each direction",
                "remove the older one when its key is replaced",
            );
        }
    }
    for (there, missing, there_is, not_there, why) in [
        (&outbound, &inbound, "out", "in", "what the peer sends would be discarded"),
        (&inbound, &outbound, "in", "out", "what goes to the peer would be discarded"),
    ] {
        if let (true, Some(entry), []) = (whole, there.first(), missing.as_slice()) {
            let found = format!("a [[sa]] with direction = \"{there_is}\" alone");
            let expected = format!("another one with direction = \"{not_there}\"");
            let hint = format!("{why}; both have the same mode, local, remote, local-ts and remote-ts");
            reader.error(entry.section, found, expected, hint);
        }
    }
    outbound.into_iter().next().zip(inbound.into_iter().next())
}

/// Tells what is wrong with what both of a pair say.
fn check_one(reader: &mut Reader<'_>, gateway: &Settings, entry: &Entry) {
    let Entry { local, remote, remote_at, .. } = *entry;
    if local == remote {
        reader.error(remote_at, format!("{remote} as both \"local\" and \"remote\""), "the peer's address", "");
    } else if let Some(what) = check::nobodys(remote, &[local]) {
        reader.error(remote_at, format!("{remote}, {what}"), "the peer's address", "");
    }
    if local.is_ipv4() != remote.is_ipv4() {
        reader.error(remote_at, "\"local\" and \"remote\" of two families", "addresses of one family", "");
    }
    let places = |list: &[Placed<TrafficSelector>]| list.iter().map(|placed| placed.at).collect::<Vec<_>>();
    let (local_ts, remote_ts) = (values(&entry.local_ts), values(&entry.remote_ts));
    let (local_at, remote_at) = (places(&entry.local_ts), places(&entry.remote_ts));
    let traffic = Traffic { local: &local_ts, remote: &remote_ts };
    check::carried(reader, gateway, &Sides { traffic, local_at: &local_at, remote_at: &remote_at });
}

/// RFC 8221 §3.
fn warn_of_counting(reader: &mut Reader<'_>, entry: &Entry) {
    if entry.sa.suite.protection.counts() {
        let message = format!(
            "the suite {} must not have manual keys (RFC 8221 §3): a sequence number that is used twice gives the texts away, \
             and with most such suites what forges packets. {}",
            entry.sa.suite,
            match entry.direction {
                Direction::Out => {
                    "Each number is set aside on disk before it is used; never give this key to anything else, nor to this \
                     gateway without its state directory"
                }
                Direction::In => "The peer has to use none twice, over its restarts too",
            }
        );
        reader.warn(entry.section, message);
    }
}

fn paired(outbound: Entry, inbound: Entry) -> ManualPair {
    ManualPair {
        mode: outbound.mode,
        local: outbound.local,
        remote: outbound.remote,
        local_ts: values(&outbound.local_ts),
        remote_ts: values(&outbound.remote_ts),
        outbound: outbound.sa,
        inbound: inbound.sa,
    }
}

fn values(list: &[Placed<TrafficSelector>]) -> Vec<TrafficSelector> {
    list.iter().map(|placed| placed.value).collect()
}

/// An SA that receives is found by its SPI alone, one that sends by its SPI at the peer.
fn spis(reader: &mut Reader<'_>, entries: &[Entry]) {
    let mut first = BTreeMap::new();
    for entry in entries {
        let whose = (entry.direction == Direction::Out).then_some(entry.remote);
        let key = (entry.direction, whose, entry.sa.spi.get());
        if let Some(line) = first.insert(key, entry.sa.at.line) {
            let found = format!("a second [[sa]] with the SPI {:#x}", entry.sa.spi.get());
            let hint = format!("the first one begins in line {line}");
            reader.error(entry.spi_at, found, "an SPI of its own for each", hint);
        }
    }
}

/// Each key that stands elsewhere already: both would use the same numbers with it, or take each other's packets.
pub(super) fn keys_twice(pairs: &[ManualPair]) -> Vec<ConfigError> {
    let all = pairs.iter().flat_map(|pair| [&pair.outbound, &pair.inbound]);
    // Whoever could learn something from how long this takes has the file.
    let mut first: BTreeMap<&[u8], &ManualSa> = BTreeMap::new();
    let mut errors = Vec::new();
    let keys = all.flat_map(|sa| [(sa, &sa.key), (sa, &sa.integ_key)]);
    for (sa, key) in keys.filter_map(|(sa, key)| Some((sa, key.as_ref()?.loaded()?.expose()))) {
        if let Some(before) = first.insert(key, sa) {
            let found = match core::ptr::eq(before, sa) {
                true => "one key for both the cipher and the integrity".to_string(),
                false => format!("a [[sa]] with a key of the one in line {}", before.at.line),
            };
            errors.push(ConfigError {
                at: sa.at,
                found,
                expected: "a key of its own for each".to_string(),
                hint: "with one key each sequence number is used twice, and packets pass for those of another SA; take fresh \
                       random octets"
                    .to_string(),
            });
        }
    }
    errors
}

/// What would be wrong with `new` in the place of `old`: a key that stays, with a smaller `sequence` than it had, which would not
/// be kept to, or one that the peer sent with.
pub(crate) fn counters_reset<'p>(
    old: impl Iterator<Item = &'p ManualPair> + Clone,
    new: &[ManualPair],
) -> Vec<ConfigError> {
    let theirs: BTreeSet<&[u8]> = old.clone().filter_map(|pair| Some(pair.inbound.counted_key()?.expose())).collect();
    let old: BTreeMap<&[u8], u64> =
        old.filter_map(|pair| Some((pair.outbound.counted_key()?.expose(), pair.outbound.sequence))).collect();
    let outbound = new.iter().map(|pair| &pair.outbound);
    let back = outbound.filter_map(|sa| {
        let key = sa.counted_key()?.expose();
        if theirs.contains(key) {
            return Some(ConfigError {
                at: sa.at,
                found: "the key that the peer has sent with until now".to_string(),
                expected: "a new key".to_string(),
                hint: "its numbers were used there, and would be used again here".to_string(),
            });
        }
        let before = old.get(key)?;
        (0 < sa.sequence && sa.sequence < *before).then(|| ConfigError {
            at: sa.at,
            found: format!("sequence = {} with a key that had {before} before", sa.sequence),
            expected: format!("at least {before}, or no \"sequence\""),
            hint: "a key goes on behind its numbers; take a new one to begin anew".to_string(),
        })
    });
    back.collect()
}
