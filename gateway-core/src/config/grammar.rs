//! The small languages inside strings: times, names, addresses, ports, protocols.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use core::net::IpAddr;
use core::time::Duration;

use ipsec_core::net::PortRange;

/// A word that does not fit, and what would.
///
/// ```
/// use gateway_core::config::reader::{Document, Reader};
/// use gateway_core::config::{Bad, schema::RASPBERRY_PI};
/// let even = |word: &str| match word.parse::<u32>() {
///     Ok(number) if number % 2 == 0 => Ok(number),
///     _ => Err(Bad::whole(word, "an even number")),
/// };
/// let text = "port = \"3\"\n";
/// let document = Document::parse(text).unwrap();
/// let mut reader = Reader::new(text, &RASPBERRY_PI);
/// assert!(reader.read(document.root(), "port", "a number in quotes", even).is_none());
/// assert_eq!(reader.finish().unwrap_err()[0].to_string(), "found \"3\", expected an even number");
/// ```
#[derive(Debug)]
pub struct Bad {
    /// Octets of the string before the part that does not fit.
    pub(super) at: usize,
    /// The part; `None` when it must not be repeated.
    pub(super) found: Option<String>,
    pub(super) expected: Cow<'static, str>,
    pub(super) hint: Cow<'static, str>,
}

impl Bad {
    /// The whole word does not fit.
    pub fn whole(word: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self::part(0, word, expected)
    }

    /// The part `found`, `at` octets into the word, does not fit.
    pub fn part(at: usize, found: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { at, found: Some(found.to_string()), expected: expected.into(), hint: Cow::Borrowed("") }
    }

    /// Something that must not be printed does not fit.
    pub(super) fn secret(at: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { at, found: None, expected: expected.into(), hint: Cow::Borrowed("") }
    }

    /// How to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same inside a longer string, `before` octets further on.
    pub(super) fn after(mut self, before: usize) -> Self {
        self.at = self.at.saturating_add(before);
        self
    }
}

/// A time: a number and a unit, `500ms`, `20s`, `30m`, `8h`, `1d`.
pub(super) fn duration(word: &str) -> Result<Duration, Bad> {
    const EXPECTED: &str = "a time such as \"500ms\", \"20s\", \"30m\", \"8h\" or \"1d\"";
    let digits = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at_checked(digits).unwrap_or((word, ""));
    let unit_millis = match unit {
        "ms" => 1_u64,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(Bad::whole(word, EXPECTED).hint(format!("write the unit, for instance \"{number}s\""))),
        _ => return Err(Bad::part(digits, unit, EXPECTED).hint("the units are ms, s, m, h and d")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_millis))
        .filter(|millis| *millis <= 10 * 366 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| Bad::whole(word, EXPECTED).hint("a number stands before the unit; ten years are the limit"))
}

/// An amount of data: a number and a unit, `100MiB`, `64GiB`, `500MB`.
pub(super) fn octets(word: &str) -> Result<u64, Bad> {
    const EXPECTED: &str = "an amount such as \"500MB\" or \"64GiB\"";
    let digits = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at_checked(digits).unwrap_or((word, ""));
    let factor = match unit {
        "B" => 1_u64,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => {
            return Err(
                Bad::part(digits, unit, EXPECTED).hint("the units are B, KB, MB, GB, TB and KiB, MiB, GiB, TiB")
            );
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| Bad::whole(word, EXPECTED).hint("a number stands before the unit"))
}

/// The name of a peer or child: it is typed on command lines and stands in logs.
pub(super) fn name(word: &str) -> Result<String, Bad> {
    const EXPECTED: &str = "a name of 1 to 32 letters, digits, '-', '_' and '.'";
    match word.char_indices().find(|(_, letter)| !(letter.is_ascii_alphanumeric() || "-_.".contains(*letter))) {
        Some((at, letter)) => Err(Bad::part(at, letter.encode_utf8(&mut [0; 4]), EXPECTED)),
        None if word.is_empty() || word.len() > 32 => Err(Bad::whole(word, EXPECTED)),
        None => Ok(word.to_string()),
    }
}

/// The name of a network interface (Linux: at most 15 octets, no '/' and no white space).
pub(super) fn interface(word: &str) -> Result<String, Bad> {
    let fits = !word.is_empty()
        && word.len() <= 15
        && word != "."
        && word != ".."
        && word.chars().all(|letter| letter.is_ascii_graphic() && letter != '/' && letter != ':');
    if fits { Ok(word.to_string()) } else { Err(Bad::whole(word, "an interface name of 1 to 15 characters")) }
}

/// The name of our own interface. It stands in the rules of the guard: nothing there may read more than a name in it, `*`
/// as any end of a name for instance. Nor may the kernel, which puts a number for `%d`.
pub(super) fn device(word: &str) -> Result<String, Bad> {
    let plain = word.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-@".contains(&octet));
    interface(word)
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| Bad::whole(word, "an interface name of 1 to 15 letters, digits, '.', '_', '-' and '@'"))
}

/// The path of a file with a key. It is not repeated: it may be a key by mistake.
pub(super) fn secret_file(word: &str) -> Result<String, Bad> {
    file(word).map_err(|_| Bad::secret(0, "the path of a file with the pre-shared key"))
}

/// The path of a file or socket.
fn file(word: &str) -> Result<String, Bad> {
    if word.is_empty() || word.contains('\0') {
        return Err(Bad::whole(word, "the path of a file"));
    }
    Ok(word.to_string())
}

/// The path of a Unix socket: what fits into `sun_path` with its closing zero.
pub(super) fn socket(word: &str) -> Result<String, Bad> {
    if word.len() > 107 {
        return Err(Bad::whole(word, "a path of at most 107 octets").hint("sockets need short paths: use /run"));
    }
    file(word)
}

/// One IPv4 or IPv6 address.
pub(super) fn address(word: &str) -> Result<IpAddr, Bad> {
    word.parse().map_err(|_| Bad::whole(word, "an IPv4 or IPv6 address"))
}

/// A DNS name: labels of letters, digits and '-' (RFC 1123 §2.1), and '_' because it is met.
pub(super) fn dns_name(word: &str) -> Result<String, Bad> {
    const EXPECTED: &str = "a DNS name";
    let all_numeric = word.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    let labels_fit = word.strip_suffix('.').unwrap_or(word).split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    if word.len() > 253 || all_numeric || !labels_fit {
        return Err(Bad::whole(word, EXPECTED));
    }
    Ok(word.to_string())
}

/// An IP protocol: its name or its number; `any` is 0.
pub(super) fn protocol(word: &str) -> Result<u8, Bad> {
    let number = match word.to_ascii_lowercase().as_str() {
        "any" => 0,
        "icmp" => 1,
        "igmp" => 2,
        "ipip" | "ipencap" => 4,
        "tcp" => 6,
        "udp" => 17,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "ospf" => 89,
        "vrrp" => 112,
        "l2tp" => 115,
        "sctp" => 132,
        "udplite" => 136,
        other => other.parse().map_err(|_| {
            Bad::whole(word, "a protocol number 0 to 255 or a name")
                .hint("known names: any, icmp, icmpv6, tcp, udp, sctp, udplite, gre, esp, ah, igmp, ipip, ipv6, ospf, vrrp, l2tp")
        })?,
    };
    Ok(number)
}

/// How protocols are written back.
///
/// ```
/// use gateway_core::config::protocol_name;
/// assert_eq!((protocol_name(6), protocol_name(89)), (Some("tcp"), None));
/// ```
pub fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        58 => "icmpv6",
        132 => "sctp",
        _ => return None,
    })
}

/// `22`, `1000-2000`, or `any`.
pub(super) fn ports(word: &str) -> Result<PortRange, Bad> {
    const EXPECTED: &str = "a port 0 to 65535 or a range such as \"1000-2000\"";
    if word == "any" {
        return Ok(PortRange::ANY);
    }
    let port = |at: usize, text: &str| text.parse::<u16>().map_err(|_| Bad::part(at, text, EXPECTED));
    let Some((first, last)) = word.split_once('-') else {
        return port(0, word).map(PortRange::single);
    };
    let range = PortRange { start: port(0, first)?, end: port(first.len().saturating_add(1), last)? };
    if range.start > range.end {
        return Err(Bad::whole(word, EXPECTED).hint(format!("the smaller port stands first: \"{last}-{first}\"")));
    }
    Ok(range)
}

/// An ICMP or ICMPv6 type, `8`, `echo-request`, or with its code `3/4`; as type × 256 + code (RFC 7296 §3.13.1).
pub(super) fn icmp(word: &str, v6: bool) -> Result<PortRange, Bad> {
    const EXPECTED: &str = "an ICMP type 0 to 255, \"type/code\", or a name such as \"echo-request\"";
    let (kind, code) = match word.split_once('/') {
        Some((kind, code)) => (kind, Some((kind.len().saturating_add(1), code))),
        None => (word, None),
    };
    let kind = match (kind, v6) {
        ("echo-request", false) => 8_u8,
        ("echo-reply", false) => 0,
        ("destination-unreachable", false) => 3,
        ("time-exceeded", false) => 11,
        ("destination-unreachable", true) => 1,
        ("packet-too-big", true) => 2,
        ("time-exceeded", true) => 3,
        ("echo-request", true) => 128,
        ("echo-reply", true) => 129,
        ("router-solicitation", true) => 133,
        ("router-advertisement", true) => 134,
        ("neighbour-solicitation" | "neighbor-solicitation", true) => 135,
        ("neighbour-advertisement" | "neighbor-advertisement", true) => 136,
        _ => kind.parse().map_err(|_| Bad::part(0, kind, EXPECTED))?,
    };
    Ok(match code {
        Some((at, code)) => {
            PortRange::single(u16::from_be_bytes([kind, code.parse().map_err(|_| Bad::part(at, code, EXPECTED))?]))
        }
        None => PortRange { start: u16::from_be_bytes([kind, 0]), end: u16::from_be_bytes([kind, u8::MAX]) },
    })
}
