//! Pre-shared keys: from the file itself, or from a file of their own that the caller reads.

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
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The octets.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A key as it is written: text, or `0x…` for octets in hexadecimal. The boolean tells that it is short.
    pub(super) fn parse(written: &str) -> Result<(Self, bool), Bad> {
        const EXPECTED: &str = "1 to 256 octets, as text or as \"0x…\" with an even number of hexadecimal digits";
        let octets = match written.strip_prefix("0x") {
            Some(digits) => {
                let octets = Zeroizing::new(unhex(digits).map_err(|at| {
                    Bad::secret(at.saturating_add(2), EXPECTED)
                        .hint("a character is not a hexadecimal digit, or the last octet has only one digit")
                })?);
                (octets, digits.len() < PSK_SHORT)
            }
            None => (Zeroizing::new(written.as_bytes().to_vec()), written.chars().count() < PSK_SHORT),
        };
        if octets.0.is_empty() || octets.0.len() > PSK_MAX {
            return Err(Bad::secret(0, EXPECTED));
        }
        Ok((Self(octets.0), octets.1))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Where a pre-shared key comes from.
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
pub(super) fn unhex(digits: &str) -> Result<Vec<u8>, usize> {
    let mut octets = Vec::with_capacity(digits.len().div_ceil(2));
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

/// What is said about a short key (requirement A7).
pub(super) fn short_warning(peer: &str) -> String {
    alloc::format!(
        "the pre-shared key of \"{peer}\" is shorter than {PSK_SHORT} characters: whoever records a handshake while \
         posing as the peer can guess it offline; take 32 random octets, for instance \"0x\" and the output of \
         `openssl rand -hex 32`"
    )
}
