//! Pre-shared keys: from the file itself, or from a file of their own that the caller reads.

use core::fmt;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::diagnostic::Position;
use super::grammar::Bad;

/// Longest pre-shared key, octets.
pub const PSK_MAX: usize = 256;
/// Below this many characters of text a pre-shared key gets a warning; hexadecimal ones below this many digits.
pub const PSK_SHORT: usize = 20;

/// A pre-shared key. Wiped on drop, never printed, never cloned, compared in constant time.
///
/// ```
/// use gateway_core::config::Config;
/// let text = r#"
/// [[peer]]
/// name = "cloud"
/// local = "192.0.2.2"
/// remote = "192.0.2.1"
/// psk = "0x000102030405060708090a0b0c0d0e0f"
/// [[peer.child]]
/// name = "net"
/// local-ts = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// "#;
/// let (config, _) = Config::parse(text).unwrap();
/// let secret = config.peers[0].secret.loaded().unwrap();
/// assert_eq!(secret.expose().len(), 16);
/// assert_eq!(format!("{secret:?}"), "Secret { .. }");
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// The octets.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A key as it is written, in the configuration or in a file of its own: text, or `0x…` (some write `0X…`) for octets in hexadecimal; and
    /// what is probably not meant about it.
    pub(super) fn parse(written: &str) -> Result<(Self, Vec<Doubt>), Bad> {
        const EXPECTED: &str = "1 to 256 octets, as text or as \"0x…\" with an even number of hexadecimal digits";
        let refused = |at: usize, hint: &'static str| Bad::secret(at, EXPECTED).hint(hint);
        if let Some((at, letter)) =
            written.char_indices().find(|(_, letter)| letter.is_control() || *letter == '\u{feff}')
        {
            return Err(refused(at, unwritable(letter)));
        }
        if written.starts_with("0s") {
            return Err(refused(
                0,
                "\"0s…\" is base64 elsewhere and not read here: write 0x and the octets in hexadecimal",
            ));
        }
        if !written.is_empty() && written.trim().is_empty() {
            return Err(refused(0, "there is nothing but spaces"));
        }
        let (octets, length) = match written.strip_prefix("0x").or_else(|| written.strip_prefix("0X")) {
            Some(digits) => {
                let octets = unhex(digits).map_err(|at| {
                    let hint = "a character is not a hexadecimal digit, or the last octet has only one digit";
                    refused(at.saturating_add(2), hint)
                })?;
                (octets, digits.len())
            }
            None => (Zeroizing::new(written.as_bytes().to_vec()), written.chars().count()),
        };
        if octets.is_empty() || octets.len() > PSK_MAX {
            return Err(Bad::secret(0, EXPECTED));
        }
        if let Some(why) = known(&octets) {
            return Err(Bad::secret(0, RANDOM).hint(why));
        }
        Ok((Self(octets), doubts(written, length)))
    }

    /// A key of an algorithm as it is written: `0x…` and so many octets in hexadecimal.
    pub(super) fn octets(written: &str, length: usize) -> Result<Self, Bad> {
        let expected = || format!("\"0x…\" with {length} octets in hexadecimal");
        let Some(digits) = written.strip_prefix("0x").or_else(|| written.strip_prefix("0X")) else {
            return Err(Bad::secret(0, expected()).hint("write 0x in front of the hexadecimal digits"));
        };
        let octets = unhex(digits).map_err(|at| {
            let hint = "a character is not a hexadecimal digit, or the last octet has only one digit";
            Bad::secret(at.saturating_add(2), expected()).hint(hint)
        })?;
        match octets.len() {
            found if found == length => match known(&octets) {
                Some(why) => Err(Bad::secret(0, RANDOM).hint(why)),
                None => Ok(Self(octets)),
            },
            found => Err(Bad::secret(0, expected()).hint(format!("there are {found}"))),
        }
    }
}

const RANDOM: &str =
    "fresh random octets, for instance \"0x\" and the output of `openssl rand -hex 32`, or as many as it has";

/// The keys in docs/configuration.md.
pub(super) const EXAMPLES: [&str; 3] = [
    "7c1f0c8de2b6a3954bd10f6ea7c8239f5e64d20b91c83a7f",
    "3b5d1f0c8e92a6740bd10f6ea7c8239f5e64d20b",
    "91c83a7f7c1f0c8de2b6a3954bd10f6ea7c8239f",
];

/// Why a key is none: everybody has it.
fn known(octets: &[u8]) -> Option<&'static str> {
    let (first, rest) = octets.split_first()?;
    if !rest.is_empty() && rest.iter().fold(0, |differs, octet| differs | (octet ^ first)) == 0 {
        return Some("it is one octet again and again, which anybody tries first");
    }
    let example = EXAMPLES.iter().filter_map(|digits| unhex(digits).ok()).any(|example| example.ct_eq(octets).into());
    example.then_some("it is the key of an example in the documentation, which everybody has")
}

/// What is probably not meant about a key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It can be guessed (requirement A7).
    Short,
    /// It stands in quotes of its own.
    Quoted,
    /// It is text of hexadecimal digits only.
    Digits,
    /// It begins or ends with a space.
    Spaced,
}

fn doubts(written: &str, length: usize) -> Vec<Doubt> {
    let inside = |quote: char| written.len() > 1 && written.starts_with(quote) && written.ends_with(quote);
    let digits =
        length >= PSK_SHORT && length.is_multiple_of(2) && written.chars().all(|letter| letter.is_ascii_hexdigit());
    [
        (length < PSK_SHORT, Doubt::Short),
        (inside('"') || inside('\''), Doubt::Quoted),
        (digits, Doubt::Digits),
        (written.trim() != written, Doubt::Spaced),
    ]
    .into_iter()
    .filter_map(|(holds, doubt)| holds.then_some(doubt))
    .collect()
}

fn unwritable(letter: char) -> &'static str {
    match letter {
        '\n' | '\r' => "there are several lines",
        '\0' => "there is a zero octet: write octets that are no text as \"0x…\"",
        '\u{feff}' => "there is a byte order mark: save the file as plain UTF-8",
        _ => "there is a control character: write octets that are no text as \"0x…\"",
    }
}

impl Doubt {
    /// What is said about the key of this peer.
    pub(super) fn told(self, peer: &str) -> String {
        match self {
            Self::Short => format!(
                "the pre-shared key of \"{peer}\" is shorter than {PSK_SHORT} characters: whoever records a handshake \
                 while posing as the peer can guess it offline; take 32 random octets, for instance \"0x\" and the \
                 output of `openssl rand -hex 32`"
            ),
            Self::Quoted => format!(
                "the quotes around the pre-shared key of \"{peer}\" are taken as part of it; remove them if the peer's \
                 key has none"
            ),
            Self::Digits => format!(
                "the pre-shared key of \"{peer}\" is taken as text although it looks like hexadecimal; if the peer takes \
                 it as octets, write 0x in front"
            ),
            Self::Spaced => {
                format!("the pre-shared key of \"{peer}\" begins or ends with a space, which is taken as part of it")
            }
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// What there is in the place of a file with a pre-shared key, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoKey {
    /// No file that can be read: its name may be a key by mistake.
    Absent(String),
    /// Something that is not taken for one: a file that others can read, say.
    Unfit(String),
}

/// Where a pre-shared key comes from.
///
/// A key that stands in a file of its own is read by whoever has a file system:
///
/// ```
/// use gateway_core::config::{Config, NoKey, Secret, SecretSource};
/// let text = r#"
/// [[peer]]
/// name = "cloud"
/// local = "192.0.2.2"
/// remote = "192.0.2.1"
/// psk-file = "cloud.psk"
/// [[peer.child]]
/// name = "net"
/// local-ts = "10.2.0.0/16"
/// remote-ts = "10.1.0.0/16"
/// "#;
/// let (mut config, _) = Config::parse(text).unwrap();
/// assert!(matches!(&config.peers[0].secret, SecretSource::File { path, .. } if path == "cloud.psk"));
/// let missing = config.load_secrets(|_| Err(NoKey::Absent("no such file".into()))).unwrap_err();
/// assert_eq!(missing[0].found, "no such file");
///
/// config.load_secrets(|_path| Ok(b"0x000102030405060708090a0b0c0d0e0f\n".to_vec().into())).unwrap();
/// let key: &Secret = config.peers[0].secret.loaded().unwrap();
/// assert_eq!(key.expose()[..3], [0, 1, 2]);
/// assert_eq!(format!("{key:?}"), "Secret { .. }"); // never printed
/// ```
pub enum SecretSource {
    /// It is here.
    Loaded(Secret),
    /// It stands in a file that the caller has yet to read: see [`Config::load_secrets`](super::Config::load_secrets).
    File {
        /// The file, as written; relative to the configuration's own folder.
        path: String,
        /// Where the configuration names it.
        at: Position,
    },
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource").finish_non_exhaustive()
    }
}

impl SecretSource {
    /// The key; `None` while it has not been read.
    pub fn loaded(&self) -> Option<&Secret> {
        match self {
            Self::Loaded(secret) => Some(secret),
            Self::File { .. } => None,
        }
    }
}

/// Octets of hexadecimal digits, or the index of the character that does not fit.
pub(super) fn unhex(digits: &str) -> Result<Zeroizing<Vec<u8>>, usize> {
    let mut octets = Zeroizing::new(Vec::with_capacity(digits.len().div_ceil(2)));
    let mut high = None;
    for (index, letter) in digits.char_indices() {
        let digit = letter.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(index)?;
        high = match high {
            None => Some(digit),
            Some(high) => {
                octets.push(high << 4 | digit);
                None
            }
        };
    }
    if high.is_some() { Err(digits.len()) } else { Ok(octets) }
}
