//! Capture files, pcap and pcapng, a frame at a time.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

use crate::configuration::reason;

/// How a pcapng file begins.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// As much as is kept of what is no file.
const PIPED: u64 = 1 << 30;
/// The blocks of pcapng that carry frames.
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// A frame as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Since 1970.
    pub(super) time: Duration,
    pub(super) link: DataLink,
    pub(super) octets: Vec<u8>,
    /// Octets that it had on the wire.
    pub(super) length: usize,
}

/// Why there is no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Damage {
    /// It is no capture.
    NoCapture(&'static str),
    /// The file ends within a frame.
    CutOff,
    /// A length in it is wrong: where the next frame begins is not known.
    Lost(String),
    /// This frame cannot be read; others may.
    Broken(String),
    /// The system refuses to read on.
    Unreadable(String),
}

impl Damage {
    /// Whether nothing comes behind it.
    pub(super) fn is_end(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCapture(found) => write!(f, "found {found}, expected a capture (pcap or pcapng)"),
            Self::CutOff => f.write_str("the capture is cut off here"),
            Self::Lost(why) => write!(f, "the capture is broken from here on: {why}"),
            Self::Broken(why) => write!(f, "broken in the capture: {why}"),
            Self::Unreadable(why) => write!(f, "the capture cannot be read on: {why}"),
        }
    }
}

impl From<PcapError> for Damage {
    fn from(error: PcapError) -> Self {
        match error {
            PcapError::IncompleteBuffer => Self::CutOff,
            PcapError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::CutOff,
            PcapError::IoError(error) => Self::Unreadable(reason(&error)),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Where the octets of a capture are, for as often as they are read.
pub(super) enum Source {
    /// A plain file.
    File(File),
    /// All that came through something else, such as a pipe.
    Octets(Vec<u8>),
}

impl Source {
    /// Opens a file, or standard input where it is `-`. Of what is no plain file everything is read, to its end.
    ///
    /// # Errors
    /// What the system says, or that it is more than can be kept.
    pub(super) fn open(path: &Path) -> Result<Self, Damage> {
        Self::read(path).map_err(|error| Damage::Unreadable(reason(&error)))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut file = match path.as_os_str() == "-" {
            true => io::stdin().as_fd().try_clone_to_owned()?.into(),
            false => File::open(path)?,
        };
        if file.metadata()?.is_file() {
            return Ok(Self::File(file));
        }
        let mut octets = Vec::new();
        file.by_ref().take(PIPED).read_to_end(&mut octets)?;
        match file.read(&mut [0])? {
            0 => Ok(Self::Octets(octets)),
            _ => Err(io::Error::other("it has more than 1 GiB, for which a plain file is needed")),
        }
    }
}

/// An open capture; it ends after the first [`Damage`] that is an end.
pub(super) struct Capture<R: Read> {
    reader: Option<Reader<R>>,
}

enum Reader<R: Read> {
    Pcap(PcapReader<R>),
    PcapNg(PcapNgReader<R>),
}

impl<R: Read + Seek> Capture<R> {
    /// Begins to read, from the first octet on.
    ///
    /// # Errors
    /// What the system says, or [`Damage::NoCapture`] and [`Damage::CutOff`] for what begins as no capture does.
    pub(super) fn new(mut from: R) -> Result<Self, Damage> {
        let mut first = [0; 4];
        let begun = from.rewind().and_then(|()| from.read_exact(&mut first)).and_then(|()| from.rewind());
        let reader = match begun.map_err(PcapError::IoError).map_err(Damage::from) {
            Err(Damage::CutOff) => return Err(Damage::NoCapture("less than four octets")),
            Err(damage) => return Err(damage),
            Ok(()) if first == PCAPNG => PcapNgReader::new(from).map(Reader::PcapNg),
            Ok(()) if first.starts_with(&GZIP) => return Err(Damage::NoCapture("a file packed by gzip")),
            Ok(()) => PcapReader::new(from).map(Reader::Pcap),
        };
        match reader {
            Ok(reader) => Ok(Self { reader: Some(reader) }),
            Err(PcapError::InvalidField(_)) => Err(Damage::NoCapture("another file")),
            Err(error) => Err(error.into()),
        }
    }
}

impl<R: Read> Iterator for Capture<R> {
    type Item = Result<Frame, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = match self.reader.as_mut()? {
            Reader::Pcap(reader) => pcap(reader),
            Reader::PcapNg(reader) => pcapng(reader),
        };
        if frame.as_ref().is_none_or(|frame| frame.as_ref().is_err_and(Damage::is_end)) {
            self.reader = None;
        }
        frame
    }
}

/// Raw, as frames are that are longer than what the header says of the longest: those are what is to be looked into.
fn pcap<R: Read>(reader: &mut PcapReader<R>) -> Option<Result<Frame, Damage>> {
    let header = reader.header();
    let unit = if header.ts_resolution == TsResolution::MicroSecond { 1000 } else { 1 };
    let packet = reader.next_raw_packet()?;
    Some(packet.map_err(Damage::from).map(|packet| {
        Frame {
            time: Duration::from_secs(packet.ts_sec.into())
                .saturating_add(Duration::from_nanos(u64::from(packet.ts_frac).saturating_mul(unit))),
            link: header.datalink,
            length: length(packet.orig_len, packet.data.len()),
            octets: packet.data.into_owned(),
        }
    }))
}

/// Blocks that carry no frame are not looked into: what is wrong with one of them is no reason to end.
fn pcapng<R: Read>(reader: &mut PcapNgReader<R>) -> Option<Result<Frame, Damage>> {
    loop {
        let (kind, body) = match reader.next_raw_block()? {
            Ok(block) => (block.type_, block.body.into_owned()),
            Err(error) => return Some(Err(error.into())),
        };
        if let Some(carried) = Carried::read(kind, &body, reader.section().endianness) {
            return Some(carried.and_then(|carried| carried.frame(reader.interfaces())).map_err(Damage::Broken));
        }
    }
}

/// What a block of pcapng says of the frame in it.
struct Carried<'b> {
    interface: usize,
    /// In units of the interface.
    time: u64,
    original: u32,
    octets: &'b [u8],
}

impl<'b> Carried<'b> {
    /// `None`: the block carries no frame.
    fn read(kind: u32, body: &'b [u8], endianness: Endianness) -> Option<Result<Self, String>> {
        let read = match kind {
            ENHANCED_PACKET | OBSOLETE_PACKET => numbers(body, endianness).and_then(|(numbers, rest)| {
                let [interface, high, low, captured, original] = numbers;
                let interface = match (kind, endianness) {
                    (ENHANCED_PACKET, _) => interface,
                    // The half that comes first; the other one counts drops.
                    (_, Endianness::Big) => interface >> 16,
                    (_, Endianness::Little) => interface & 0xffff,
                };
                let time = u64::from(high) << 32 | u64::from(low);
                let octets = rest.get(..usize::try_from(captured).ok()?)?;
                Some(Self { interface: usize::try_from(interface).ok()?, time, original, octets })
            }),
            SIMPLE_PACKET => numbers(body, endianness).and_then(|([original], rest)| {
                // What fills the block up is no part of it.
                let octets = rest.get(..rest.len().min(usize::try_from(original).ok()?))?;
                Some(Self { interface: 0, time: 0, original, octets })
            }),
            _ => return None,
        };
        Some(read.ok_or_else(|| "its block is shorter than it says".to_owned()))
    }

    fn frame(&self, interfaces: &[InterfaceDescriptionBlock<'_>]) -> Result<Frame, String> {
        let known = interfaces.get(self.interface);
        let known = known.ok_or_else(|| format!("its interface {} is not described", self.interface))?;
        Ok(Frame {
            time: scaled(self.time, known),
            link: known.linktype,
            octets: self.octets.to_vec(),
            length: length(self.original, self.octets.len()),
        })
    }
}

/// The numbers that a block begins with, and what follows.
fn numbers<const N: usize>(body: &[u8], endianness: Endianness) -> Option<([u32; N], &[u8])> {
    let mut rest = body;
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (octets, behind) = rest.split_first_chunk()?;
        *number = match endianness {
            Endianness::Big => u32::from_be_bytes(*octets),
            Endianness::Little => u32::from_le_bytes(*octets),
        };
        rest = behind;
    }
    Some((numbers, rest))
}

/// A time in the units of its interface, microseconds where it says nothing.
fn scaled(units: u64, interface: &InterfaceDescriptionBlock<'_>) -> Duration {
    let resolution = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    let exponent = |resolution: u8| u32::from(resolution & 0x7f);
    let per_second = match resolution.unwrap_or(6) {
        binary if binary & 0x80 != 0 => 1u128.checked_shl(exponent(binary)),
        decimal => 10u128.checked_pow(exponent(decimal)),
    };
    let nanos = u128::from(units).saturating_mul(1_000_000_000).checked_div(per_second.unwrap_or(u128::MAX));
    Duration::from_nanos(nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default())
}

/// A frame was at least as long as what is there of it.
fn length(original: u32, captured: usize) -> usize {
    usize::try_from(original).unwrap_or(usize::MAX).max(captured)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn frames(file: &[u8]) -> Result<Vec<Result<Frame, Damage>>, Damage> {
        Capture::new(Cursor::new(file)).map(Iterator::collect)
    }

    fn times(file: &[u8]) -> Vec<Duration> {
        frames(file).unwrap().into_iter().map(|frame| frame.unwrap().time).collect()
    }

    /// Two frames, `ab` and `cde`, of which the second was longer on the wire.
    fn pcap(magic: u32, big: bool) -> Vec<u8> {
        let number = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let versions = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        let numbers = |values: &[u32]| values.iter().flat_map(|value| number(*value)).collect::<Vec<_>>();
        let mut file = [&number(magic)[..], &versions, &numbers(&[0, 0, 4, 1])].concat();
        file.extend([&numbers(&[7, 500, 2, 2])[..], b"ab", &numbers(&[8, 0, 3, 9]), b"cde"].concat());
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let len = u32::try_from(12 + padded).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &vec![0; padded - body.len()], &len].concat()
    }

    fn numbers(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// A section with one Ethernet interface, whose times are in the units of `resolution`, and these blocks.
    fn pcapng(resolution: Option<u8>, blocks: &[Vec<u8>]) -> Vec<u8> {
        let section = block(0x0a0d_0d0a, &numbers(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
        let option = resolution.map_or_else(Vec::new, |units| vec![9, 0, 1, 0, units, 0, 0, 0, 0, 0, 0, 0]);
        let interface = block(1, &[&[1, 0, 0, 0, 0, 0, 0, 0][..], &option].concat());
        [vec![section, interface], blocks.to_vec()].concat().concat()
    }

    fn enhanced(interface: u32, time: u32, captured: u32, original: u32, octets: &[u8]) -> Vec<u8> {
        block(6, &[&numbers(&[interface, 0, time, captured, original])[..], octets].concat())
    }

    #[test]
    fn pcap_of_either_order_and_resolution_is_read_whatever_its_header_says_of_lengths() {
        for (magic, big, nanos) in [
            (0xa1b2_c3d4, true, 500_000),
            (0xa1b2_c3d4, false, 500_000),
            (0xa1b2_3c4d, true, 500),
            (0xa1b2_3c4d, false, 500),
        ] {
            let frames = frames(&pcap(magic, big)).unwrap();
            let [Ok(one), Ok(other)] = frames.as_slice() else { panic!("{frames:?}") };
            assert_eq!((one.time, &one.octets[..], one.length), (Duration::new(7, nanos), &b"ab"[..], 2));
            assert_eq!((&other.octets[..], other.length, u32::from(other.link)), (&b"cde"[..], 9, 1));
        }
    }

    #[test]
    fn a_file_that_is_cut_off_gives_what_is_whole_and_says_so() {
        let file = pcap(0xa1b2_c3d4, false);
        for len in 0..file.len() {
            match frames(&file[..len]) {
                Err(damage) => assert!(len < 24 && matches!(damage, Damage::NoCapture(_) | Damage::CutOff), "{len}"),
                Ok(frames) => {
                    let whole = if len < 24 + 18 { 0 } else { 1 };
                    let cut = ![24, 24 + 18].contains(&len);
                    assert_eq!(frames.len(), whole + usize::from(cut), "{len}");
                    assert_eq!(frames.last() == Some(&Err(Damage::CutOff)), cut, "{len}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_told() {
        for (file, found) in [
            (&b""[..], "less than"),
            (b"{\"ike_sas\": [], \"child_sas\": []}", "another file"),
            (&[0x1f, 0x8b, 8, 0], "gzip"),
        ] {
            let Err(damage) = frames(file) else { panic!("{file:?}") };
            assert!(damage.to_string().contains(found), "{damage}");
        }
    }

    #[test]
    fn pcapng_is_read_with_all_three_blocks_and_the_units_of_its_interfaces() {
        let simple = block(3, &[&numbers(&[2])[..], b"xy"].concat());
        let obsolete = block(2, &[&numbers(&[0xffff_0000, 0, 7, 2, 2])[..], b"ab"].concat());
        let unknown = block(0xbad, b"whatever");
        let file = pcapng(None, &[enhanced(0, 1_500_000, 2, 9, b"ab"), unknown, simple, obsolete]);
        let frames: Vec<_> = frames(&file).unwrap().into_iter().map(Result::unwrap).collect();
        let octets: Vec<_> = frames.iter().map(|frame| (&frame.octets[..], frame.length)).collect();
        assert_eq!(octets, [(&b"ab"[..], 9), (b"xy", 2), (b"ab", 2)]);
        assert_eq!(times(&pcapng(None, &[enhanced(0, 1_500_000, 0, 0, b"")])), [Duration::from_millis(1500)]);
        assert_eq!(times(&pcapng(Some(9), &[enhanced(0, 1_500_000, 0, 0, b"")])), [Duration::from_micros(1500)]);
        assert_eq!(times(&pcapng(Some(0x81), &[enhanced(0, 3, 0, 0, b"")])), [Duration::from_millis(1500)]);
        assert_eq!(times(&pcapng(Some(0xff), &[enhanced(0, 3, 0, 0, b"")])), [Duration::ZERO]);
    }

    #[test]
    fn a_block_that_is_wrong_is_told_and_others_follow() {
        let file =
            pcapng(None, &[enhanced(7, 0, 2, 2, b"ab"), enhanced(0, 0, 99, 99, b"ab"), enhanced(0, 0, 2, 2, b"ab")]);
        let frames = frames(&file).unwrap();
        let [Err(Damage::Broken(one)), Err(Damage::Broken(other)), Ok(_)] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        assert!(one.contains("interface 7") && other.contains("shorter"), "{one} {other}");
    }

    #[test]
    fn what_is_wrong_in_a_block_without_a_frame_is_nobodys_concern() {
        let names = block(4, &[9, 0, 200, 0]);
        assert_eq!(frames(&pcapng(None, &[names, enhanced(0, 0, 2, 2, b"ab")])).unwrap().len(), 1);
    }
}
