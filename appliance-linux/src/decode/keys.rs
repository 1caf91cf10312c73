//! The keys of a capture: a JSON file.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use ipsec_core::net::Spi;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::Zeroizing;

use super::suite::{Suite, for_messages, for_packets};
use crate::configuration;

/// Larger files are no keys.
const KEYS_FILE: u64 = 8 << 20;

/// What a keys file says.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) ike: Vec<IkeKeys>,
    /// What IKE messages may be protected with.
    pub(super) ike_suites: Vec<Suite>,
    /// By SPI: several where a number was used again, or it is not known which direction a key is for.
    pub(super) esp: HashMap<Spi, Vec<Pair>>,
    /// What packets may be protected with.
    pub(super) esp_suites: Vec<Suite>,
}

/// The keys of an IKE SA.
#[derive(Debug)]
pub(super) struct IkeKeys {
    /// SPIs of initiator and responder, where the file says them.
    pub(super) spis: Option<(u64, u64)>,
    /// Of what the initiator sends, and the responder.
    pub(super) pairs: [Pair; 2],
}

/// The keys of one direction: that of the cipher, with its salt, and that of the integrity algorithm, empty for an AEAD.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) encr: Secret,
    pub(super) integ: Secret,
}

impl Pair {
    fn new(encr: Secret, integ: Option<Secret>) -> Self {
        Self { encr, integ: integ.unwrap_or_default() }
    }
}

/// Secret octets, wiped on drop.
#[derive(Clone, Default)]
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads a keys file.
    ///
    /// # Errors
    /// A line: `file:line:column: what was expected`. Nothing of what stands there is repeated: it may be a key.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let text = configuration::read(path, KEYS_FILE).map_err(|why| format!("{}: {why}", path.display()))?;
        Self::parse(&text).map_err(|wrong| format!("{}:{wrong}", path.display()))
    }

    /// # Errors
    /// `line:column: what was expected`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| told(&error))?;
        let File { ike_proposal, esp_proposal, ike_sas, child_sas } = file;
        if ike_sas.is_empty() && child_sas.is_empty() {
            return Err("1:1: names no keys, expected ike_sas or child_sas".to_owned());
        }
        for (name, proposal, keyed) in [
            ("ike_proposal", &ike_proposal.0, !ike_sas.is_empty()),
            ("esp_proposal", &esp_proposal.0, !child_sas.is_empty()),
        ] {
            if keyed && proposal.is_empty() {
                return Err(format!("1:1: has keys and does not say for what, expected {name} as well"));
            }
        }
        let mut esp: HashMap<Spi, Vec<Pair>> = HashMap::new();
        for (number, child) in child_sas.into_iter().enumerate() {
            let keyed = child.keyed();
            if keyed.is_empty() {
                return Err(format!(
                    "1:1: child_sas[{number}] has keys and no SPI, expected spi_of_initiator_traffic and \
                     spi_of_responder_traffic, or spi_in_a and spi_out_a"
                ));
            }
            for (spi, pair) in keyed {
                esp.entry(spi).or_default().push(pair);
            }
        }
        let ike = ike_sas.into_iter().map(IkeKeys::from).collect();
        Ok(Self { ike, ike_suites: ike_proposal.0, esp, esp_suites: esp_proposal.0 })
    }
}

/// What is wrong, with its place in front. What serde says of a value that is none is left out.
fn told(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let text = match ["invalid type", "invalid value"].iter().any(|about| text.starts_with(about)) {
        true => text.find("expected ").and_then(|at| text.get(at..)).unwrap_or("expected something else"),
        false => text,
    };
    format!("{line}:{column}: {text}")
}

#[derive(serde::Deserialize)]
#[serde(expecting = "an object with ike_proposal, ike_sas, esp_proposal and child_sas")]
struct File {
    #[serde(default)]
    ike_proposal: OfMessages,
    #[serde(default)]
    esp_proposal: OfPackets,
    #[serde(default)]
    ike_sas: Vec<IkeSa>,
    #[serde(default)]
    child_sas: Vec<ChildSa>,
}

#[derive(Default)]
struct OfMessages(Vec<Suite>);
#[derive(Default)]
struct OfPackets(Vec<Suite>);

#[derive(serde::Deserialize)]
#[serde(expecting = "an object with Sk_ei, Sk_er and, beside a cipher without integrity of its own, Sk_ai and Sk_ar")]
struct IkeSa {
    spi_i: Option<IkeSpi>,
    spi_r: Option<IkeSpi>,
    #[serde(rename = "Sk_ei")]
    ei: Secret,
    #[serde(rename = "Sk_er")]
    er: Secret,
    #[serde(rename = "Sk_ai")]
    ai: Option<Secret>,
    #[serde(rename = "Sk_ar")]
    ar: Option<Secret>,
}

impl From<IkeSa> for IkeKeys {
    fn from(sa: IkeSa) -> Self {
        let IkeSa { spi_i, spi_r, ei, er, ai, ar } = sa;
        let spis = spi_i.zip(spi_r).map(|(IkeSpi(initiator), IkeSpi(responder))| (initiator, responder));
        Self { spis, pairs: [Pair::new(ei, ai), Pair::new(er, ar)] }
    }
}

#[derive(serde::Deserialize)]
#[serde(expecting = "an object with SPIs and keys")]
struct ChildSa {
    /// As one end has them.
    spi_in_a: Option<EspSpi>,
    spi_out_a: Option<EspSpi>,
    /// By who asked for the SA, as the keys are.
    spi_of_initiator_traffic: Option<EspSpi>,
    spi_of_responder_traffic: Option<EspSpi>,
    #[serde(rename = "encryption initiator key")]
    ei: Secret,
    #[serde(rename = "encryption responder key")]
    er: Secret,
    #[serde(rename = "integrity initiator key")]
    ai: Option<Secret>,
    #[serde(rename = "integrity responder key")]
    ar: Option<Secret>,
}

impl ChildSa {
    /// Each SPI with the keys that its packets may have.
    fn keyed(self) -> Vec<(Spi, Pair)> {
        let (of_initiator, of_responder) = (Pair::new(self.ei, self.ai), Pair::new(self.er, self.ar));
        let [initiator, responder] =
            [self.spi_of_initiator_traffic, self.spi_of_responder_traffic].map(|spi| spi.map(|EspSpi(spi)| spi));
        if let (Some(initiator), Some(responder)) = (initiator, responder) {
            return vec![(initiator, of_initiator), (responder, of_responder)];
        }
        // Either may be that of either direction.
        let ends = [self.spi_in_a, self.spi_out_a].into_iter().flatten().map(|EspSpi(spi)| spi);
        let spis = ends.chain(initiator).chain(responder);
        spis.flat_map(|spi| [(spi, of_initiator.clone()), (spi, of_responder.clone())]).collect()
    }
}

struct IkeSpi(u64);
struct EspSpi(Spi);

/// What is made of a string.
struct Text<T>(&'static str, fn(&str) -> Option<T>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let Self(expected, make) = self;
        make(text).ok_or_else(|| E::custom(format_args!("expected {expected}")))
    }
}

macro_rules! texts {
    ($($name:ty: $expected:literal, $make:expr;)+) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text($expected, $make))
            }
        })+
    };
}

texts! {
    Secret: "a key: an even number of hex digits", secret;
    IkeSpi: "an SPI of IKE: 16 hex digits", |text| digits(text, 16..=16).and_then(|text| u64::from_str_radix(text, 16).ok()).map(Self);
    EspSpi: "an SPI of ESP: up to 8 hex digits, more than ff", |text| {
        digits(text, 1..=8).and_then(|text| u32::from_str_radix(text, 16).ok()).and_then(Spi::new).map(Self)
    };
    OfMessages: "a proposal of what is built, such as aes256gcm16-prfsha384-x25519 or aes256-sha256-ecp256", |text| {
        Some(for_messages(text)).filter(|suites| !suites.is_empty()).map(Self)
    };
    OfPackets: "a proposal of what is built, such as aes256gcm16 or aes256-sha256-noesn", |text| {
        Some(for_packets(text)).filter(|suites| !suites.is_empty()).map(Self)
    };
}

/// So many hex digits, with or without 0x.
fn digits(text: &str, count: RangeInclusive<usize>) -> Option<&str> {
    let text = bare(text);
    Some(text).filter(|text| count.contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn bare(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

fn secret(text: &str) -> Option<Secret> {
    // Room for all of it at once: growing would leave copies behind.
    let text = bare(text);
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    for pair in pairs {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()));
        octets.push(high? << 4 | low?);
    }
    Some(Secret(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
 "ike_proposal": "aes256-sha256-modp2048",
 "esp_proposal": "aes128gcm16",
 "ike_sas": [{"SKEYSEED": "00", "Sk_ei": "0102", "Sk_er": "03", "Sk_ai": "04", "Sk_ar": "05"}],
 "child_sas": [
  {"spi_in_a": "00000a01", "spi_out_a": "00000a02", "spi_of_initiator_traffic": "00000a02", "spi_of_responder_traffic": "00000a01",
   "encryption initiator key": "aa", "encryption responder key": "bb"}
 ]
}"#;

    fn parse(text: &str) -> Result<Keys, String> {
        Keys::parse(text.as_bytes())
    }

    fn wrong(text: &str) -> String {
        parse(text).expect_err(text)
    }

    fn keys_of(keys: &Keys, spi: u32) -> Vec<&[u8]> {
        keys.esp[&Spi::new(spi).unwrap()].iter().map(|pair| pair.encr.as_slice()).collect()
    }

    #[test]
    fn keys_go_to_their_directions() {
        let keys = parse(FILE).unwrap();
        assert_eq!((keys.ike.len(), keys.esp.len(), keys.ike_suites.len(), keys.esp_suites.len()), (1, 2, 1, 2));
        let [initiator, responder] = &keys.ike[0].pairs;
        let octets = [&initiator.encr, &responder.encr, &initiator.integ, &responder.integ].map(Secret::as_slice);
        assert_eq!(octets, [&[1, 2][..], &[3], &[4], &[5]]);
        assert_eq!((keys_of(&keys, 0xa01), keys_of(&keys, 0xa02)), (vec![&[0xbb][..]], vec![&[0xaa][..]]));
    }

    #[test]
    fn integrity_keys_may_be_none_or_left_out() {
        let none = FILE.replace("\"04\"", "null").replace(", \"Sk_ar\": \"05\"", "");
        let keys = parse(&none).unwrap();
        assert!(keys.ike[0].pairs.iter().all(|pair| pair.integ.as_slice().is_empty()));
    }

    #[test]
    fn where_only_the_ends_are_known_both_keys_may_be_meant() {
        let keys = parse(&FILE.replace("spi_of_", "was_of_")).unwrap();
        assert_eq!(keys_of(&keys, 0xa01), [&[0xaa], &[0xbb]]);
        assert_eq!(keys_of(&keys, 0xa02), [&[0xaa], &[0xbb]]);
    }

    #[test]
    fn spis_of_ike_may_be_named() {
        let named =
            FILE.replace("\"SKEYSEED\": \"00\"", r#""spi_i": "00000000000000aa", "spi_r": "0x00000000000000bb""#);
        assert_eq!(parse(&named).unwrap().ike[0].spis, Some((0xaa, 0xbb)));
        assert_eq!(parse(FILE).unwrap().ike[0].spis, None);
    }

    #[test]
    fn numbers_may_be_written_as_in_a_configuration() {
        let other = FILE.replace("\"00000a0", "\"0xa0").replace("\"aa\"", "\"0xaa\"");
        let (keys, same) = (parse(&other).unwrap(), parse(FILE).unwrap());
        for spi in [0xa01, 0xa02] {
            assert_eq!(keys_of(&keys, spi), keys_of(&same, spi));
        }
    }

    #[test]
    fn the_manual_has_the_keys_of_the_sas_in_the_manual() {
        let manual = include_str!("../../../docs/decode.md");
        let (_, behind) = manual.split_once("```json\n").unwrap();
        let (example, _) = behind.split_once("```").unwrap();
        let keys = parse(example).unwrap();
        let sas = include_str!("../../../docs/configuration.md");
        for spi in [0x2001, 0x1001] {
            let (_, sa) = sas.split_once(&format!("spi       = {spi:#x}\n")).unwrap();
            let (_, key) = sa.split_once("key       = \"").unwrap();
            let key = secret(key.split_once('"').unwrap().0).unwrap();
            assert_eq!(keys_of(&keys, spi), [key.as_slice()]);
        }
        assert_eq!(keys.esp_suites.len(), 1, "with ESN alone");
    }

    #[test]
    fn keys_without_an_spi_are_no_silence() {
        let misspelt = FILE.replace("spi_", "spi-");
        assert!(wrong(&misspelt).starts_with("1:1: child_sas[0] has keys and no SPI, expected spi_of_"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (from, to, told) in [
            ("\"0102\"", "\"010\"", "4:46: expected a key: an even number of hex digits"),
            ("\"0102\"", "\"01xy\"", "4:47: expected a key: an even number of hex digits"),
            ("\"0102\"", "0102", "4:43: invalid number"),
            (
                "00000a01\", \"spi_out",
                "000000ff\", \"spi_out",
                "6:25: expected an SPI of ESP: up to 8 hex digits, more than ff",
            ),
            (
                "aes128gcm16",
                "x25519",
                "3:25: expected a proposal of what is built, such as aes256gcm16 or aes256-sha256-noesn",
            ),
            ("\"Sk_er\": \"03\", ", "", "4:78: missing field `Sk_er`"),
        ] {
            assert_eq!(wrong(&FILE.replacen(from, to, 1)), told);
        }
        assert!(wrong("{}").starts_with("1:1: names no keys"));
        assert!(wrong(&FILE.replace("esp_proposal", "proposal")).ends_with("expected esp_proposal as well"));
        assert!(wrong(&FILE[..40]).starts_with("2:"), "cut off");
    }

    #[test]
    fn nothing_that_may_be_a_key_is_repeated() {
        for bad in
            [r#"{"ike_sas": "5ec2e7"}"#, r#""5ec2e7""#, r#"{"ike_sas": [{"Sk_ei": "5ec2e7g"}]}"#, r#"["5ec2e7"]"#]
        {
            let told = wrong(bad);
            assert!(told.contains("expected") && !told.contains("5ec2e7"), "{told}");
        }
        let keys = format!("{:?}", parse(FILE).unwrap());
        assert!(keys.contains("Secret { .. }") && !keys.contains("[1, 2]"), "{keys}");
    }
}
