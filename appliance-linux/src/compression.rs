//! DEFLATE for packets (RFC 2394), by `miniz_oxide`: raw, each packet by itself.

use miniz_oxide::MZFlush;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use ipsec_core::compression::Compression;

/// The longest packet.
const LONGEST: usize = u16::MAX as usize;
/// Fast: a packet is too short for more to be found in it.
const LEVEL: i32 = 1;
/// 32 KiB, without a header.
const WINDOW_BITS: i32 = -15;

/// Takes some 400 KiB, from the first packet on.
#[derive(Default)]
pub(crate) struct Deflate {
    compressor: Option<Box<CompressorOxide>>,
    decompressor: Option<Box<DecompressorOxide>>,
    made: Vec<u8>,
}

impl Compression for Deflate {
    fn compress(&mut self, data: &[u8]) -> Option<&[u8]> {
        let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, 0);
        let compressor = self.compressor.get_or_insert_with(|| Box::new(CompressorOxide::new(flags)));
        compressor.reset();
        // What would not get shorter does not fit.
        self.made.resize(data.len(), 0);
        let (status, _, len) = compress(compressor, data, &mut self.made, TDEFLFlush::from(MZFlush::Finish));
        if status == TDEFLStatus::Done { self.made.get(..len) } else { None }
    }

    fn decompress(&mut self, data: &[u8], at_most: usize) -> Option<&[u8]> {
        let decompressor = self.decompressor.get_or_insert_default();
        decompressor.init();
        self.made.resize(at_most.min(LONGEST), 0);
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, _, len) = decompress(decompressor, data, &mut self.made, 0, flags);
        if status == TINFLStatus::Done { self.made.get(..len) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_stand_for_themselves_and_are_bounded() {
        let mut deflate = Deflate::default();
        let text: Vec<u8> = b"the same again, ".iter().copied().cycle().take(1400).collect();
        let first = deflate.compress(&text).unwrap().to_vec();
        assert!(first.len() < 100, "{}", first.len());
        assert_eq!(deflate.compress(&text).unwrap(), first, "nothing is kept of the one before");
        assert_eq!(deflate.decompress(&first, 1400), Some(&text[..]));
        assert_eq!(deflate.decompress(&first, 1399), None);
        assert_eq!(deflate.decompress(&first[..first.len() - 1], 1400), None);
        assert_eq!(deflate.decompress(&first, 70_000), Some(&text[..]));
        let longest = vec![0; LONGEST];
        let bomb = deflate.compress(&longest).unwrap().to_vec();
        assert_eq!(deflate.decompress(&bomb, 1500), None);
        assert_eq!(deflate.decompress(&bomb, LONGEST).map(<[u8]>::len), Some(LONGEST));
        // What has no pattern gets no shorter: what is compressed already.
        assert!(deflate.compress(&first).is_none_or(|made| made.len() >= first.len()));
    }

    #[test]
    fn what_zlib_made_is_understood() {
        // Of "portcullis portcullis portcullis", by zlib's raw deflate.
        let made = [0x2b, 0xc8, 0x2f, 0x2a, 0x49, 0x2e, 0xcd, 0xc9, 0xc9, 0x2c, 0x56, 0x28, 0xc0, 0xc6, 0x04, 0x00];
        let expected = b"portcullis portcullis portcullis";
        assert_eq!(Deflate::default().decompress(&made, 100), Some(&expected[..]));
    }
}
