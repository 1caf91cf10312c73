//! `[[peer]]` and `[[peer.child]]`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::sa::{DontFragment, MAX_SELECTORS};
use ipsec_core::spd::Level;

use super::check::{ChildPlaces, PeerPlaces};
use super::grammar::{Bad, address, dns_name, duration, name, octets, secret_file};
use super::identity::{Identity, identity};
use super::proposal::{self, Lists};
use super::reader::{Placed, Reader, Section, Word};
use super::secret::{Secret, SecretSource};
use super::selector::{Addresses, selectors};
use super::{Child, Encapsulation, MANUAL, Mode, Peer, Remote, Start};

/// Who writes `level = "use"` is told each time.
const CLEAR_MEANWHILE: &str = "NOT PROTECTED while there is no SA: with level = \"use\" what this child carries goes in clear then, and is \
     taken in clear at any time; whoever keeps an SA from coming up can read and change all of it. For the days of moving \
     over: write \"require\" once ClearOut and ClearIn of `status --all` stand still";

/// More addresses of one side than anybody has.
const ADDRESSES_MAX: usize = 16;

/// Reads one peer; `None` when something it cannot do without is missing or wrong.
pub(super) fn read<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    lists: &mut Lists,
) -> Option<(Peer, PeerPlaces)> {
    reader.known(section);
    for (key, hint) in [
        ("name", "write name = \"…\""),
        ("local", "write our address, or local = \"any\""),
        ("remote", "write the peer's address or DNS name, or remote = \"any\""),
        ("child", "each tunnel is a [[peer.child]] below its [[peer]]"),
    ] {
        if !section.has(key) {
            reader.missing(section, key, hint);
        }
    }
    let peer_name = reader.read(section, "name", "a name in quotes", name).map(|word| word.value);
    if peer_name.as_deref() == Some(MANUAL) {
        let hint = "status, the log and accounts call SAs with manual keys so";
        reader.error(section.place("name"), format!("\"{MANUAL}\""), "another name", hint);
    }
    let local = ends(reader, section, "local", "one of our addresses or \"any\"", address);
    let remote = ends(reader, section, "remote", "an address, a DNS name, or \"any\"", |word| match word.parse() {
        Ok(address) => Ok(Remote::Address(address)),
        Err(_) => dns_name(word)
            .map(Remote::Name)
            .map_err(|bad| Bad { expected: "an IPv4 or IPv6 address, a DNS name, or \"any\"".into(), ..bad }),
    });
    let local_id = reader.read(section, "local-id", "an identity in quotes", identity).map(|word| word.value);
    let remote_id = reader.read(section, "remote-id", "an identity in quotes, or \"any\"", |word| match word {
        "any" => Ok(None),
        _ => identity(word).map(Some),
    });
    let any_remote = remote.as_ref().is_some_and(Vec::is_empty);
    if any_remote && !section.has("remote-id") {
        let hint = "with remote = \"any\" write who the peer must prove to be, or remote-id = \"any\"";
        reader.missing(section, "remote-id", hint);
    }
    if local.as_ref().is_some_and(Vec::is_empty) && !section.has("local-id") {
        reader.missing(section, "local-id", "with local = \"any\" write who we are");
    }
    let secret = secret(reader, section, peer_name.as_deref().unwrap_or("?"));
    let start = start(reader, section, any_remote);
    let encap = reader.choice(section, "encap", &[("auto", Encapsulation::Auto), ("always", Encapsulation::Always)]);
    let dpd = time(reader, section, "dpd", Peer::DPD);
    let rekey = time(reader, section, "rekey", Peer::REKEY);
    let ike = proposal::read(reader, section, &mut lists.ike);
    let children: Vec<_> = reader
        .tables(section, "child", "[[peer.child]]")
        .into_iter()
        .filter_map(|child| read_child(reader, child, lists))
        .collect();
    let (mut children, child_places): (Vec<_>, _) = children.into_iter().unzip();
    children.shrink_to_fit(); // for one of them there is room for four
    let peer = Peer {
        name: peer_name?,
        at: reader.position(section.at),
        local: local?,
        remote: remote?,
        local_id,
        remote_id: remote_id.and_then(|word: Placed<Option<Identity>>| word.value),
        secret: secret?,
        start,
        encap: encap.unwrap_or(Encapsulation::Auto),
        ike: ike?,
        dpd,
        rekey,
        children,
    };
    let places = PeerPlaces {
        section: section.at,
        name: section.place("name"),
        local: section.place("local"),
        remote: section.place("remote"),
        remote_id: section.place("remote-id"),
        children: child_places,
    };
    Some((peer, places))
}

fn read_child<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    lists: &mut Lists,
) -> Option<(Child, ChildPlaces)> {
    reader.known(section);
    for (key, hint) in [
        ("name", "write name = \"…\""),
        ("local-ts", "write the networks behind this gateway, for instance local-ts = [\"10.2.0.0/16\"]"),
        ("remote-ts", "write the networks behind the peer, for instance remote-ts = [\"10.1.0.0/16\"]"),
    ] {
        if !section.has(key) {
            reader.missing(section, key, hint);
        }
    }
    let child_name = reader.read(section, "name", "a name in quotes", name);
    let mode = mode(reader, section, &[("tunnel", Mode::Tunnel), ("transport", Mode::Transport)]);
    let dont_fragment = mode.map(|mode| dont_fragment(reader, section, mode));
    let local = traffic(reader, section, "local-ts");
    let remote = traffic(reader, section, "remote-ts");
    let esp = proposal::read(reader, section, &mut lists.esp);
    let rekey = time(reader, section, "rekey", Child::REKEY);
    let lifetime = time(reader, section, "lifetime", Child::default_lifetime(rekey));
    if !lifetime.is_zero() && lifetime <= rekey {
        let at = section.place("lifetime");
        reader.error(
            at,
            "a \"lifetime\" not longer than \"rekey\"",
            "a longer \"lifetime\"",
            "the SA would end before it is rekeyed",
        );
    }
    let rekey_bytes = reader.read(section, "rekey-bytes", "an amount in quotes, such as \"64GiB\"", |word| {
        octets(word).and_then(|amount| match amount {
            0..1_000_000 => Err(Bad::whole(word, "at least \"1MB\"").hint("less would rekey all the time")),
            _ => Ok(amount),
        })
    });
    let rekey_packets = reader.number(section, "rekey-packets", 1000..=i64::MAX);
    let priority = reader.number(section, "priority", 0..=1_000_000_u32).unwrap_or(Child::PRIORITY);
    let level = reader.choice(section, "level", &[("use", Level::Use), ("require", Level::Require)]);
    if level == Some(Level::Use) {
        reader.warn(section.place("level"), CLEAR_MEANWHILE);
    }
    let compress = reader.choice(section, "compress", &[("yes", true), ("no", false)]).unwrap_or(false);
    let tfc_padding = mode.zip(dont_fragment).and_then(|kind| tfc_padding(reader, section, kind, compress));
    let (local, remote) = (local?, remote?);
    let hosts = mode.is_none_or(|mode| between_hosts(reader, mode, [&local, &remote]));
    let values = |list: &[Placed<TrafficSelector>]| list.iter().map(|placed| placed.value).collect();
    let places = |list: &[Placed<TrafficSelector>]| list.iter().map(|placed| placed.at).collect();
    let child = Child {
        name: child_name?.value,
        at: reader.position(section.at),
        mode: mode.filter(|_| hosts)?,
        dont_fragment: dont_fragment?,
        local_ts: values(&local),
        remote_ts: values(&remote),
        esp: esp?,
        rekey,
        lifetime,
        rekey_bytes: rekey_bytes.map(|word| word.value),
        rekey_packets: rekey_packets.and_then(|number| u64::try_from(number).ok()),
        priority,
        level: level.unwrap_or(Level::Require),
        compress,
        tfc_padding,
    };
    let places = ChildPlaces {
        tfc_padding: section.place("tfc-padding"),
        section: section.at,
        name: section.place("name"),
        local_ts: places(&local),
        remote_ts: places(&remote),
    };
    Some((child, places))
}

/// Where one side is reached: `any`, one place, or several. Empty means any.
fn ends<'t, T: PartialEq>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    key: &str,
    expected: &str,
    grammar: impl Fn(&str) -> Result<T, Bad>,
) -> Option<Vec<T>> {
    let words = reader.words(section, key, expected)?;
    if let [Word { text: "any", .. }] = words.as_slice() {
        return Some(Vec::new());
    }
    if words.len() > ADDRESSES_MAX {
        reader.error(section.place(key), format!("{} places", words.len()), format!("at most {ADDRESSES_MAX}"), "");
        return None;
    }
    let mut found = Vec::with_capacity(words.len());
    for word in words {
        match grammar(word.text) {
            Ok(place) if found.contains(&place) => {
                reader.error(word.at, format!("\"{}\" a second time", word.text), "each place once", "");
            }
            Ok(place) => found.push(place),
            Err(bad) if word.text == "any" => {
                reader.error(word.at, "\"any\" beside other places", bad.expected, "write \"any\" alone");
            }
            Err(bad) => reader.bad(word, bad),
        }
    }
    (!found.is_empty()).then_some(found)
}

fn secret<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, peer: &str) -> Option<SecretSource> {
    match (section.has("psk"), section.has("psk-file")) {
        (false, false) => {
            reader.missing(section, "psk-file", "write psk-file = \"…\" (a file only root can read) or psk = \"…\"");
            None
        }
        (true, true) => {
            reader.error(section.place("psk-file"), "both \"psk\" and \"psk-file\"", "one of them", "remove one");
            None
        }
        (true, false) => {
            let word = reader.word(section, "psk", "a key in quotes, as text or as \"0x…\"")?;
            match Secret::parse(word.text) {
                Ok((secret, doubts)) => {
                    for doubt in doubts {
                        reader.warn(word.at, doubt.told(peer));
                    }
                    Some(SecretSource::Loaded(secret))
                }
                Err(bad) => {
                    reader.bad(word, bad);
                    None
                }
            }
        }
        (false, true) => {
            let path = reader.read(section, "psk-file", "the path of a file in quotes", secret_file)?;
            Some(SecretSource::File { path: path.value, at: reader.position(path.at) })
        }
    }
}

fn start<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, any_remote: bool) -> Start {
    let choices = &[("active", Start::Active), ("passive", Start::Passive), ("on-demand", Start::OnDemand)];
    let default = if any_remote { Start::Passive } else { Start::Active };
    let start = reader.choice(section, "start", choices).unwrap_or(default);
    if any_remote && start != Start::Passive {
        reader.error(
            section.place("start"),
            "a peer to be called at remote = \"any\"",
            "start = \"passive\"",
            "or write the peer's address or DNS name under \"remote\"",
        );
    }
    start
}

pub(super) fn mode<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    choices: &[(&'static str, Mode)],
) -> Option<Mode> {
    if section.has("mode") { reader.choice(section, "mode", choices) } else { Some(Mode::Tunnel) }
}

/// The DF bit of outer headers. Between two hosts there is but one header, with the sender's bit in it, which the kernel makes anew.
pub(super) fn dont_fragment<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, mode: Mode) -> DontFragment {
    let choices = &[("clear", DontFragment::Clear), ("copy", DontFragment::Copy), ("set", DontFragment::Set)];
    let chosen = reader.choice(section, "df", choices).unwrap_or(DontFragment::Clear);
    if mode != Mode::Tunnel && chosen != DontFragment::Clear {
        let found = format!("\"df\" in {} mode", mode.as_str());
        let hint = "only a tunnel has an outer header beside the inner one (RFC 4301 §8.1)";
        reader.error(section.place("df"), found, "mode = \"tunnel\", or no \"df\"", hint);
    }
    chosen
}

/// How long packets look. Where there is no inner header, and in what was compressed, nothing says where the packet ends.
fn tfc_padding<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    (mode, dont_fragment): (Mode, DontFragment),
    compress: bool,
) -> Option<u16> {
    let len = reader.number(section, "tfc-padding", 64..=9000)?;
    if dont_fragment != DontFragment::Clear {
        let hint = "on a way that is too narrow for so long ones no packet at all would arrive, however short it is";
        reader.error(section.place("tfc-padding"), "\"tfc-padding\" with \"df\"", "one of them alone", hint);
        return None;
    }
    let (found, expected) = match (mode, compress) {
        (Mode::Tunnel, false) => return Some(len),
        (Mode::Tunnel, true) => ("\"tfc-padding\" of what is compressed".into(), "one of them alone"),
        (mode, _) => (format!("\"tfc-padding\" in {} mode", mode.as_str()), "mode = \"tunnel\", or no \"tfc-padding\""),
    };
    let hint = "only a whole packet inside ESP tells how long it is (RFC 4303 §2.7)";
    reader.error(section.place("tfc-padding"), found, expected, hint);
    None
}

/// Tells of selectors that are no single address where the mode is for two hosts; whether there was none.
pub(super) fn between_hosts(reader: &mut Reader<'_>, mode: Mode, sides: [&[Placed<TrafficSelector>]; 2]) -> bool {
    let is_wide = |side: &&Placed<TrafficSelector>| side.value.addrs.start() != side.value.addrs.end();
    let mut wide = sides.into_iter().flatten().filter(|side| mode != Mode::Tunnel && is_wide(side)).peekable();
    let none = wide.peek().is_none();
    for wide in wide {
        reader.error(
            wide.at,
            format!("{} in {} mode", Addresses(&wide.value.addrs), mode.as_str()),
            "a single address",
            "it is for what two hosts say to each other; networks behind them want mode = \"tunnel\"",
        );
    }
    none
}

/// A time of at least a second, or zero for never.
fn time<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, key: &str, default: Duration) -> Duration {
    let time = reader.read(section, key, "a time in quotes, such as \"20s\" or \"1h\"", |word| {
        duration(word).and_then(|time| match time.as_millis() {
            1..1000 => Err(Bad::whole(word, "at least \"1s\"").hint("\"0s\" means never")),
            _ => Ok(time),
        })
    });
    time.map_or(default, |word| word.value)
}

pub(super) fn traffic<'t>(
    reader: &mut Reader<'t>,
    section: Section<'_, 't>,
    key: &str,
) -> Option<Vec<Placed<TrafficSelector>>> {
    let expected = "a network such as \"10.1.0.0/16\", or a list of them";
    let mut found: Vec<Placed<TrafficSelector>> = Vec::new();
    for Placed { at, value: (list, host_bits) } in reader.read_all(section, key, expected, selectors)? {
        for selector in list {
            if host_bits {
                reader.warn(at, host_bits_warning(&selector.addrs));
            }
            if found.iter().any(|earlier| earlier.value == selector) {
                reader.error(at, "a selector that stands in the list already", "each selector once", "");
            }
            found.push(Placed { at, value: selector });
        }
    }
    if found.len() > MAX_SELECTORS {
        let hint = "put the others in a [[peer.child]] of their own, or write larger networks";
        reader.error(
            section.place(key),
            format!("{} selectors", found.len()),
            format!("at most {MAX_SELECTORS}"),
            hint,
        );
        return None;
    }
    (!found.is_empty()).then_some(found)
}

/// What is said when a network is written with host bits.
pub(super) fn host_bits_warning(range: &AddrRange) -> String {
    format!("host bits are ignored: the network is {}", Addresses(range))
}

impl Remote {
    /// The address, when it is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name(_) => None,
        }
    }
}
