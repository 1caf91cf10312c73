//! `[gateway]`.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::grammar::{Bad, device, interface, socket};
use super::reader::{Reader, Section};
use super::{LogLevel, Mss, Settings};

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl LogLevel {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("info", |(word, _)| word)
    }

    /// Reads `log` of `[gateway]`; default [`LogLevel::Info`].
    pub fn read<'t>(reader: &mut Reader<'t>, gateway: Section<'_, 't>) -> Self {
        reader.choice(gateway, "log", LEVELS).unwrap_or(Self::Info)
    }
}

/// Reads `[gateway]`; everything in it has a default.
pub(super) fn read<'t>(reader: &mut Reader<'t>, section: Option<Section<'_, 't>>) -> Settings {
    let defaults = Settings {
        control: Settings::CONTROL.to_string(),
        tun: Settings::TUN.to_string(),
        log: LogLevel::Info,
        outside: Vec::new(),
        mtu: Settings::MTU,
        mss: Mss::Auto,
        relay_icmp: true,
        check_checksums: false,
        replay_window: Settings::REPLAY_WINDOW,
        cookie_threshold: Settings::COOKIE_THRESHOLD,
    };
    let Some(section) = section else { return defaults };
    reader.known(section);
    let outside = reader.read_all(section, "outside", "the name of an interface, or a list of them", interface);
    Settings {
        control: reader
            .read(section, "control", "the path of a socket", socket)
            .map_or(defaults.control, |word| word.value),
        tun: reader.read(section, "tun", "the name of an interface", device).map_or(defaults.tun, |word| word.value),
        log: LogLevel::read(reader, section),
        outside: outside.unwrap_or_default().into_iter().map(|word| word.value).collect(),
        mtu: reader.number(section, "mtu", 576..=9000).unwrap_or(defaults.mtu),
        mss: reader.read(section, "mss", MSS_EXPECTED, mss).map_or(defaults.mss, |word| word.value),
        relay_icmp: reader.choice(section, "relay-icmp", YES_OR_NO).unwrap_or(defaults.relay_icmp),
        check_checksums: reader.choice(section, "check-checksums", YES_OR_NO).unwrap_or(defaults.check_checksums),
        replay_window: window(reader, section, "replay-window").unwrap_or(defaults.replay_window),
        cookie_threshold: reader.number(section, "cookie-threshold", 0..=4096).unwrap_or(defaults.cookie_threshold),
    }
}

const YES_OR_NO: &[(&str, bool)] = &[("yes", true), ("no", false)];

const MSS_EXPECTED: &str = "\"auto\", \"off\", or a size from \"500\" to \"8900\"";

fn mss(word: &str) -> Result<Mss, Bad> {
    match word {
        "auto" => Ok(Mss::Auto),
        "off" => Ok(Mss::Off),
        _ => match word.parse() {
            Ok(mss @ 500..=8900) => Ok(Mss::At(mss)),
            _ => Err(Bad::whole(word, MSS_EXPECTED)),
        },
    }
}

/// The size of an anti-replay window. Windows are kept in rings of a power of two.
pub(super) fn window<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>, key: &str) -> Option<u16> {
    let window = reader.number(section, key, 64..=4096_u16)?;
    if !window.is_power_of_two() {
        reader.error(section.place(key), format!("{window}"), "a power of two", "");
    }
    Some(window)
}
