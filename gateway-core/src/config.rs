//! The configuration of a gateway: one TOML file, in one [`schema`] of which each appliance offers its part.
//! docs/configuration.md describes every key.
//!
//! [`Config::parse`] reads text and answers with everything that is wrong with it, each with its place and a way to
//! mend it. [`Config::diff`] says what a reload has to touch. What an appliance has of its own it reads with a
//! [`reader`].

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use ike_core::proposal::{EspProposal, IkeProposal};
use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::sa::DontFragment;
use ipsec_core::spd::Level;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::{Zeroize, Zeroizing};

mod areas;
mod check;
mod cover;
mod diagnostic;
mod diff;
mod grammar;
mod identity;
pub(crate) mod manual;
mod peer;
mod policy;
mod proposal;
mod reach;
pub mod reader;
pub mod schema;
mod secret;
pub mod selector;
mod settings;
#[cfg(test)]
mod tests;

pub use check::nobodys;
pub use diagnostic::{ConfigError, Position, Warning};
pub use diff::{ChildDiff, Diff, ManualDiff, PeerDiff};
pub use grammar::{Bad, protocol_name};
pub use identity::Identity;
pub use manual::{MANUAL, ManualId, ManualPair, ManualSa};
pub use secret::{NoKey, PSK_MAX, PSK_SHORT, Secret, SecretSource};

use proposal::Lists;
use reader::{Document, Reader};

/// A time as the configuration writes it: `500ms`, `20s`, `30m`, `8h`, `1d`.
///
/// ```
/// use core::time::Duration;
/// use gateway_core::config::time;
/// assert_eq!(time("8h"), Some(Duration::from_secs(8 * 3600)));
/// assert_eq!(time("8"), None); // of what?
/// ```
pub fn time(word: &str) -> Option<core::time::Duration> {
    grammar::duration(word).ok()
}

/// A configuration without contradictions.
#[derive(Debug)]
pub struct Config {
    /// `[gateway]`.
    pub gateway: Settings,
    /// `[[peer]]`, in the order of the file.
    pub peers: Vec<Peer>,
    /// `[[policy]]`, in the order in which they are tried.
    pub policies: Vec<Policy>,
    /// `[[sa]]`, the two of each pair together, in the order of the file.
    pub manual: Vec<ManualPair>,
}

/// What is protected between two sides: by a child, or by SAs with manual keys.
///
/// ```
/// use gateway_core::config::{Config, Traffic};
/// /// Whether something on our side is protected towards an address.
/// fn is_protected(config: &Config, to: std::net::IpAddr) -> bool {
///     config.traffic().any(|Traffic { remote, .. }| remote.iter().any(|selector| selector.addrs.contains(to)))
/// }
/// let (config, _) = Config::parse("").unwrap();
/// assert!(!is_protected(&config, [10, 1, 0, 1].into()));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Traffic<'c> {
    /// Our side.
    pub local: &'c [TrafficSelector],
    /// The peer's side.
    pub remote: &'c [TrafficSelector],
}

/// `[gateway]`.
///
/// ```
/// use gateway_core::config::{Config, LogLevel, Settings};
/// let (config, _) = Config::parse("[gateway]\nlog = \"debug\"\n").unwrap();
/// let Settings { log, tun, mtu, .. } = config.gateway;
/// assert_eq!((log, mtu), (LogLevel::Debug, Settings::MTU));
/// assert_eq!(tun, "pcl0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The socket of the command line; default [`Settings::CONTROL`].
    pub control: String,
    /// The name of the TUN device; default [`Settings::TUN`].
    pub tun: String,
    /// How much is logged; default [`LogLevel::Info`].
    pub log: LogLevel,
    /// The interfaces on which IKE and ESP are answered; empty: all.
    pub outside: Vec<String>,
    /// The MTU inside the tunnels, octets; default [`Settings::MTU`].
    pub mtu: u16,
    /// What TCP through tunnels is told of the size of its segments.
    pub mss: Mss,
    /// Whether ICMP errors of routers go through the tunnels of the traffic that they are about (RFC 4301 §6.2); default true.
    pub relay_icmp: bool,
    /// Whether TCP and UDP that come out of ESP with a wrong checksum are discarded; default false.
    pub check_checksums: bool,
    /// Packets that an anti-replay window remembers (RFC 4303 §3.4.3); default [`Settings::REPLAY_WINDOW`].
    pub replay_window: u16,
    /// Half-open IKE SAs above which new initiators have to return a cookie (RFC 7296 §2.6); default
    /// [`Settings::COOKIE_THRESHOLD`].
    pub cookie_threshold: u16,
}

/// How much is logged.
///
/// ```
/// use gateway_core::config::LogLevel;
/// assert!(LogLevel::Trace > LogLevel::Info); // tells more
/// assert_eq!(LogLevel::Info.as_str(), "info");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what keeps the gateway from its work.
    Error,
    /// Also what is probably not meant.
    Warn,
    /// Also each negotiation as a story.
    Info,
    /// Also each message.
    Debug,
    /// Also each packet that is discarded.
    Trace,
}

/// `[[peer]]`.
///
/// ```
/// use gateway_core::config::{Action, Config, Encapsulation, Mode, Remote, Start};
/// let text = r#"
/// [[peer]]
/// name = "cloud"
/// local = "192.0.2.2"
/// remote = ["gate.example", "192.0.2.1"]
/// psk = "a key of more than twenty characters"
/// start = "on-demand"
/// [[peer.child]]
/// name = "net"
/// local-ts = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// [[policy]]
/// action = "bypass"
/// protocol = "ospf"
/// "#;
/// let (config, warnings) = Config::parse(text).unwrap();
/// assert!(warnings.is_empty());
/// let cloud = config.peer("cloud").unwrap();
/// assert_eq!(cloud.remote[0], Remote::Name("gate.example".into()));
/// assert_eq!((cloud.start, cloud.encap), (Start::OnDemand, Encapsulation::Auto));
/// assert_eq!(cloud.child("net").unwrap().mode, Mode::Tunnel);
/// assert_eq!(config.policies[0].action, Action::Bypass);
/// ```
#[derive(Debug)]
pub struct Peer {
    /// Unique.
    pub name: String,
    /// Where it stands in the file.
    pub at: Position,
    /// Our addresses; empty: any.
    pub local: Vec<IpAddr>,
    /// The peer's addresses, in the order in which they are tried; empty: any.
    pub remote: Vec<Remote>,
    /// Who we say we are; `None`: our address, which is then listed.
    pub local_id: Option<Identity>,
    /// Who the peer must prove to be; `None`: whoever knows the pre-shared key and has one of its addresses.
    pub remote_id: Option<Identity>,
    /// The pre-shared key.
    pub secret: SecretSource,
    /// Who begins, and when.
    pub start: Start,
    /// Whether ESP always goes in UDP.
    pub encap: Encapsulation,
    /// IKE proposals, best first; default [`IkeProposal::default`]. Peers with the same ones share them.
    pub ike: Arc<[IkeProposal]>,
    /// Silence after which a sign of life is asked for; zero: never.
    pub dpd: Duration,
    /// Age at which the IKE SA is rekeyed; zero: never.
    pub rekey: Duration,
    /// `[[peer.child]]`, in the order of the file.
    pub children: Vec<Child>,
}

/// What becomes of the maximum segment size that TCP names in a SYN through a tunnel (RFC 9293 §3.7.1). It is never raised.
///
/// ```
/// use gateway_core::config::Mss;
/// // What fits packets of 1400 octets, of IPv4 and of IPv6: each has its own header in front of TCP's.
/// assert_eq!(Mss::Auto.mtu(1400, true), Some(1400));
/// assert_eq!([true, false].map(|v4| Mss::At(1200).mtu(1400, v4)), [Some(1240), Some(1260)]);
/// assert_eq!(Mss::Off.mtu(1400, true), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mss {
    /// Lowered to what fits [`Settings::mtu`].
    Auto,
    /// Lowered to this.
    At(u16),
    /// It stays.
    Off,
}

impl Mss {
    /// The length of packets of IPv4, or of IPv6, that segments are to fit in tunnels with this MTU; `None`: of any.
    pub const fn mtu(self, mtu: u16, v4: bool) -> Option<u16> {
        match self {
            Self::Auto => Some(mtu),
            // Headers of IP and TCP without options (RFC 6691 §2).
            Self::At(mss) => Some(mss.saturating_add(if v4 { 40 } else { 60 })),
            Self::Off => None,
        }
    }
}

/// A place where a peer can be reached.
///
/// ```
/// use gateway_core::config::Remote;
/// let known = Remote::Address([192, 0, 2, 1].into());
/// assert_eq!(known.address(), Some([192, 0, 2, 1].into()));
/// assert_eq!(Remote::Name("gate.example".into()).address(), None); // to be resolved
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// An address.
    Address(IpAddr),
    /// A DNS name, which the appliance resolves.
    Name(String),
}

/// Who begins a connection, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// We, at once, and again whenever it is lost.
    Active,
    /// The peer.
    Passive,
    /// We, when a packet wants through.
    OnDemand,
}

/// Whether ESP always goes in UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulation {
    /// When a NAT is found (RFC 7296 §2.23).
    Auto,
    /// Always: for networks that drop protocol 50.
    Always,
}

/// How packets are put into ESP.
///
/// ```
/// use gateway_core::config::Mode;
/// assert_eq!(Mode::Tunnel.as_str(), "tunnel");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The whole packet (RFC 4303 §3.1.2).
    Tunnel,
    /// What two hosts say to each other, behind their own header.
    Transport,
    /// What two hosts say to each other, whose addresses go without saying: of `[[sa]]` alone, as nobody negotiates it.
    Beet,
}

impl Mode {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Transport => "transport",
            Self::Beet => "beet",
        }
    }
}

/// `[[peer.child]]`.
///
/// ```
/// use core::time::Duration;
/// use gateway_core::config::Child;
/// // A tenth later than it is rekeyed, and two minutes at least.
/// assert_eq!(Child::default_lifetime(Child::REKEY), Duration::from_secs(3960));
/// assert_eq!(Child::default_lifetime(Duration::from_secs(60)), Duration::from_secs(180));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Unique in its peer.
    pub name: String,
    /// Where it stands in the file.
    pub at: Position,
    /// How packets are put into ESP.
    pub mode: Mode,
    /// The DF bit of what is sent over IPv4; default [`DontFragment::Clear`].
    pub dont_fragment: DontFragment,
    /// Traffic of our side.
    pub local_ts: Vec<TrafficSelector>,
    /// Traffic of the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    /// ESP proposals, best first; default [`EspProposal::default`], and AES-CBC with HMAC-SHA2 for peers without AEADs.
    pub esp: Arc<[EspProposal]>,
    /// Age at which it is rekeyed; zero: never.
    pub rekey: Duration,
    /// Age at which it is deleted when rekeying did not succeed; zero: never.
    pub lifetime: Duration,
    /// Octets through one SA and direction after which it is rekeyed.
    pub rekey_bytes: Option<u64>,
    /// Packets through one SA and direction after which it is rekeyed.
    pub rekey_packets: Option<u64>,
    /// Its place among the policies: smaller is tried earlier; default [`Child::PRIORITY`].
    pub priority: u32,
    /// What becomes of its packets while there is no SA for them; default [`Level::Require`].
    pub level: Level,
    /// Whether what it carries is compressed where the peer wants that, too (IPComp); default: no.
    pub compress: bool,
    /// Octets that shorter packets in tunnel mode look long, where the peer takes that (RFC 4303 §2.7); default: as they are.
    pub tfc_padding: Option<u16>,
}

/// `[[policy]]`: what bypasses protection or is discarded, beside what the children protect.
///
/// ```
/// use gateway_core::config::{Config, Policy};
/// use ipsec_core::net::PortRange;
/// let text = "[[policy]]\naction = \"discard\"\nprotocol = \"tcp\"\nremote-port = \"25\"\n";
/// let (config, _) = Config::parse(text).unwrap();
/// let Policy { protocol, remote_ports, remote, .. } = config.policies[0];
/// assert_eq!((protocol, remote_ports, remote), (6, PortRange::single(25), None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where it stands in the file.
    pub at: Position,
    /// What happens.
    pub action: Action,
    /// Our side; `None`: any address of either family.
    pub local: Option<AddrRange>,
    /// The other side; `None`: any address of either family.
    pub remote: Option<AddrRange>,
    /// IP protocol; 0: any.
    pub protocol: u8,
    /// Ports of our side; of ICMP its types.
    pub local_ports: PortRange,
    /// Ports of the other side; of ICMP its types.
    pub remote_ports: PortRange,
    /// Smaller is tried earlier; default [`Policy::PRIORITY`].
    pub priority: u32,
}

/// What a [`Policy`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Let through in clear (RFC 4301 §4.4.1: BYPASS).
    Bypass,
    /// Drop.
    Discard,
}

impl Settings {
    /// Default of `control`.
    pub const CONTROL: &'static str = "/run/portcullis/control.sock";
    /// Default of `tun`.
    pub const TUN: &'static str = "pcl0";
    /// Default of `mtu`: fits ESP in UDP over IPv6 on Ethernet.
    pub const MTU: u16 = 1400;
    /// Default of `replay-window`.
    pub const REPLAY_WINDOW: u16 = 1024;
    /// Default of `cookie-threshold`.
    pub const COOKIE_THRESHOLD: u16 = 16;
}

impl Peer {
    /// Default of `dpd`.
    pub const DPD: Duration = Duration::from_secs(30);
    /// Default of `rekey`.
    pub const REKEY: Duration = Duration::from_secs(4 * 3600);

    /// The child with this name.
    pub fn child(&self, name: &str) -> Option<&Child> {
        self.children.iter().find(|child| child.name == name)
    }
}

impl Child {
    /// Default of `rekey`.
    pub const REKEY: Duration = Duration::from_secs(3600);
    /// Default of `priority`.
    pub const PRIORITY: u32 = 1000;

    /// Default of `lifetime`: a tenth above `rekey`, and at least two minutes.
    pub fn default_lifetime(rekey: Duration) -> Duration {
        if rekey.is_zero() {
            return Duration::ZERO;
        }
        rekey.saturating_add(Duration::from_secs(rekey.as_secs().div_ceil(10).max(120)))
    }

    /// What it carries.
    pub fn traffic(&self) -> Traffic<'_> {
        Traffic { local: &self.local_ts, remote: &self.remote_ts }
    }

    /// As [`Traffic::is_left_to_routes`].
    pub fn is_left_to_routes(&self, remote: &AddrRange) -> bool {
        self.traffic().is_left_to_routes(remote)
    }
}

impl Traffic<'_> {
    /// Whether a network of the peer's side stands for everything, and everything of our side may go there: such a child (a
    /// route-based VPN) does not say what goes to the peer, the routes of the operator do.
    pub fn is_left_to_routes(&self, remote: &AddrRange) -> bool {
        let whole = AddrRange::prefix(remote.start(), 0);
        whole == Some(*remote) && self.local.iter().any(|local| local.addrs == *remote)
    }
}

impl Policy {
    /// Default of `priority`.
    pub const PRIORITY: u32 = 100;
}

impl Config {
    /// The children of which the routes of the operator decide what goes to the peer: `cloud/net`.
    pub fn left_to_routes(&self) -> Vec<String> {
        let children = self.peers.iter().flat_map(|peer| peer.children.iter().map(move |child| (peer, child)));
        let children = children.map(|(peer, child)| (format!("{}/{}", peer.name, child.name), child.traffic()));
        let all = children.chain(self.manual.iter().map(|pair| (pair.name(), pair.traffic())));
        let left = all.filter(|(_, traffic)| traffic.remote.iter().any(|to| traffic.is_left_to_routes(&to.addrs)));
        left.map(|(name, _)| name).collect()
    }

    /// The children whose packets pass in clear while there is no SA for them: `cloud/net`.
    pub fn clear_meanwhile(&self) -> Vec<String> {
        let children = self.peers.iter().flat_map(|peer| peer.children.iter().map(move |child| (peer, child)));
        let lax = children.filter(|(_, child)| child.level == Level::Use);
        lax.map(|(peer, child)| format!("{}/{}", peer.name, child.name)).collect()
    }

    /// All that is protected: by children, then by SAs with manual keys, in the order of the file.
    pub fn traffic(&self) -> impl Iterator<Item = Traffic<'_>> {
        let children = self.peers.iter().flat_map(|peer| &peer.children).map(Child::traffic);
        children.chain(self.manual.iter().map(ManualPair::traffic))
    }

    /// Reads the configuration of [`schema::LINUX`], the one home that has peers so far.
    ///
    /// Keys that stand in files of their own (`psk-file`) are read by [`Config::load_secrets`] afterwards. Keys in `text`
    /// itself are the caller's to wipe.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    ///
    /// ```
    /// use gateway_core::config::Config;
    /// let Err(errors) = Config::parse("[gateway]\nmtus = 1400\n") else { panic!() };
    /// assert_eq!(errors[0].at.to_string(), "2:1");
    /// assert!(errors[0].to_string().ends_with("did you mean \"mtu\"?"));
    /// ```
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), Vec<ConfigError>> {
        let mut document = Document::parse(text).map_err(|error| alloc::vec![error])?;
        let mut reader = Reader::new(text, &schema::LINUX);
        let root = document.root();
        reader.known(root);
        let settings = reader.table(root, "gateway", "[gateway]");
        let gateway = settings::read(&mut reader, settings);
        let mut lists = Lists::new();
        let peers: Vec<_> = reader
            .tables(root, "peer", "[[peer]]")
            .into_iter()
            .filter_map(|section| peer::read(&mut reader, section, &mut lists))
            .collect();
        let mut policies: Vec<_> = reader
            .tables(root, "policy", "[[policy]]")
            .into_iter()
            .filter_map(|section| policy::read(&mut reader, section))
            .collect();
        policies.sort_by_key(|policy| policy.priority); // stable: equal ones keep the order of the file
        check::contradictions(&mut reader, &gateway, &peers);
        if !root.has("peer") && !root.has("sa") {
            reader.warn(0, "there is no [[peer]]: nothing goes into a tunnel".to_string());
        }
        let peers: Vec<_> = peers.into_iter().map(|(peer, _)| peer).collect();
        let sections = reader.tables(root, "sa", "[[sa]]");
        let entries = sections.iter().filter_map(|section| manual::read(&mut reader, *section, &gateway));
        let entries: Vec<_> = entries.collect();
        let whole = entries.len() == sections.len();
        let manual = manual::pairs(&mut reader, &gateway, (entries, whole), &peers);
        wipe(document.table_mut());
        Ok((Self { gateway, peers, policies, manual }, reader.finish()?))
    }

    /// Reads the keys that stand in files of their own (`psk-file`, `key-file`, `integ-key-file`). `read` gets the path as written and answers with the file's
    /// octets or with what was found instead; it must not repeat the path of what is not there, as a key written in its place
    /// would be told. Line ends at the end are cut off.
    ///
    /// # Errors
    /// One for each file that cannot be used.
    pub fn load_secrets(
        &mut self,
        mut read: impl FnMut(&str) -> Result<Zeroizing<Vec<u8>>, NoKey>,
    ) -> Result<Vec<Warning>, Vec<ConfigError>> {
        let (mut warnings, mut errors) = (Vec::new(), Vec::new());
        for Peer { name, secret, .. } in &mut self.peers {
            let kind = KeyFile { key: "psk", what: "the pre-shared key" };
            let loaded = kind.load(secret, &mut read, Secret::parse, &mut errors);
            let told = |(at, doubts): (Position, Vec<_>)| {
                doubts.into_iter().map(move |doubt: secret::Doubt| (at, doubt)).collect::<Vec<_>>()
            };
            let doubts = loaded.map(told).unwrap_or_default();
            warnings.extend(doubts.into_iter().map(|(at, doubt)| Warning { at, message: doubt.told(name) }));
        }
        for sa in self.manual.iter_mut().flat_map(|pair| [&mut pair.outbound, &mut pair.inbound]) {
            let protection = sa.suite.protection;
            let keys = [
                (&mut sa.key, KeyFile { key: "key", what: "the key" }, protection.encr_key_len()),
                (&mut sa.integ_key, KeyFile { key: "integ-key", what: "the key" }, protection.integ_key_len()),
            ];
            for (key, kind, length) in keys {
                let octets = |text: &str| Secret::octets(text, length).map(|secret| (secret, ()));
                key.as_mut().and_then(|key| kind.load(key, &mut read, octets, &mut errors));
            }
        }
        errors.extend(manual::keys_twice(&self.manual));
        if errors.is_empty() { Ok(warnings) } else { Err(errors) }
    }

    /// The peer with this name.
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == name)
    }
}

/// A key that may stand in a file of its own.
struct KeyFile {
    /// As it is written in the configuration itself.
    key: &'static str,
    what: &'static str,
}

impl KeyFile {
    /// Reads it, if it does. Returns where it is named, and what else `parse` says of it.
    fn load<D>(
        &self,
        source: &mut SecretSource,
        read: &mut impl FnMut(&str) -> Result<Zeroizing<Vec<u8>>, NoKey>,
        parse: impl FnOnce(&str) -> Result<(Secret, D), Bad>,
        errors: &mut Vec<ConfigError>,
    ) -> Option<(Position, D)> {
        let SecretSource::File { path, at } = source else { return None };
        let (at, Self { key, what }) = (*at, self);
        let mut refuse = |found: String, expected: String, hint: String| {
            errors.push(ConfigError { at, found, expected, hint });
            None
        };
        let file = format!("a file with {what}");
        let octets = match read(path) {
            Ok(octets) => octets,
            Err(NoKey::Absent(why)) => {
                // What is written may be a key by mistake: only its place is told.
                let hint = format!(
                    "\"{key}-file\" is the name of a file, seen from the folder of this one; the key itself is written as \"{key}\""
                );
                return refuse(why, file, hint);
            }
            Err(NoKey::Unfit(what)) => return refuse(what, file, String::new()),
        };
        let Some(text) = core::str::from_utf8(&octets).ok().map(|text| text.trim_end_matches(['\r', '\n'])) else {
            let hint = "it is no text in UTF-8: write octets that are no text as \"0x…\"";
            return refuse(format!("something else in \"{path}\""), file, hint.to_string());
        };
        match parse(text) {
            Ok((secret, told)) => {
                *source = SecretSource::Loaded(secret);
                Some((at, told))
            }
            Err(bad) => {
                let found = if text.is_empty() { "nothing" } else { "something else" };
                let expected = format!("{what} in one line: {}", bad.expected);
                refuse(format!("{found} in \"{path}\""), expected, bad.hint.into_owned())
            }
        }
    }
}

/// Wipes the keys that the document holds copies of: those written with escapes.
fn wipe(document: &mut DeTable<'_>) {
    for (table, keys) in [("peer", &["psk"][..]), ("sa", &["key", "integ-key"])] {
        let Some(DeValue::Array(items)) = document.get_mut(table).map(Spanned::get_mut) else { continue };
        for item in items.iter_mut() {
            let DeValue::Table(item) = item.get_mut() else { continue };
            for key in keys {
                if let Some(DeValue::String(Cow::Owned(key))) = item.get_mut(*key).map(Spanned::get_mut) {
                    key.zeroize();
                }
            }
        }
    }
}
