//! Reads one file from the FAT partition of a card.
//!
//! The card comes from anywhere: whatever lies on it ends in a file or in words, after a bounded number of reads.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use embedded_sdmmc::{
    Block, BlockCount, BlockDevice, BlockIdx, Error, Mode, TimeSource, Timestamp, VolumeIdx, VolumeManager,
};

/// Blocks read before a file system is taken for one that leads in circles: 16 MiB.
const READS_MAX: u32 = 32 * 1024;

/// Something that has blocks of 512 octets.
pub trait BlockSource {
    /// Reads block `index`.
    ///
    /// # Errors
    /// In words.
    fn read_block(&mut self, index: u32, block: &mut [u8; 512]) -> Result<(), String>;
}

/// The file `name` in the root directory of the first partition, if it has at most `limit` octets.
///
/// # Errors
/// In words.
pub fn read_file(source: &mut dyn BlockSource, name: &str, limit: usize) -> Result<Vec<u8>, String> {
    check_boot_sector(source)?;
    let failure = Cell::new(None);
    let card = Card { source: RefCell::new(source), reads: Cell::new(0), failure: &failure };
    let octets = read(card, name, limit);
    // The file system hides why it found nothing.
    match failure.take() {
        Some(why) => Err(why),
        None => octets,
    }
}

/// Refuses a FAT boot sector whose numbers contradict each other: the file system's crate divides by them unseen.
fn check_boot_sector(source: &mut dyn BlockSource) -> Result<(), String> {
    const PARTITION_KIND: usize = 446 + 4;
    const PARTITION_START: usize = 446 + 8;
    let mut block = [0; 512];
    source.read_block(0, &mut block)?;
    // FAT16 and FAT32, by cylinders and by blocks. With anything else the crate says that there is none.
    if !matches!(number(&block, PARTITION_KIND, 1), 0x04 | 0x06 | 0x0b | 0x0c | 0x0e) {
        return Ok(());
    }
    let start = number(&block, PARTITION_START, 4);
    source.read_block(start, &mut block)?;
    // Microsoft FAT specification, "BIOS parameter block": the short forms count where they are not zero.
    let either = |short, long| match number(&block, short, 2) {
        0 => number(&block, long, 4),
        short => short,
    };
    let (octets, blocks_per_cluster) = (number(&block, 11, 2), number(&block, 13, 1));
    let (reserved, fats, root_entries) = (number(&block, 14, 2), number(&block, 16, 1), number(&block, 17, 2));
    let (blocks, fat_blocks) = (either(19, 32), either(22, 36));
    let before_data =
        u64::from(reserved) + u64::from(fats) * u64::from(fat_blocks) + u64::from(root_entries * 32).div_ceil(512);
    let sound = octets == 512
        && blocks_per_cluster.is_power_of_two()
        && reserved > 0
        && fats > 0
        && before_data < u64::from(blocks)
        && start.checked_add(blocks).is_some();
    if sound { Ok(()) } else { Err("the card's first partition has no sound FAT boot sector".to_string()) }
}

/// A little-endian number of some octets.
fn number(block: &[u8; 512], at: usize, octets: usize) -> u32 {
    block.iter().skip(at).take(octets).rev().fold(0, |number, octet| number << 8 | u32::from(*octet))
}

fn read(card: Card<'_>, name: &str, limit: usize) -> Result<Vec<u8>, String> {
    let volumes: VolumeManager<_, _, 1, 1, 1> = VolumeManager::new_with_limits(card, NoClock, 0);
    let volume = volumes.open_volume(VolumeIdx(0)).map_err(|error| told(&error, "the card has no FAT partition"))?;
    let root = volume.open_root_dir().map_err(|error| told(&error, "the card has no root directory"))?;
    let file =
        root.open_long_name_file_in_dir(name, Mode::ReadOnly).map_err(|error| told(&error, "not on the card"))?;
    let len = file.length() as usize;
    if len > limit {
        return Err(format!("{len} octets long, {limit} are the limit"));
    }
    let mut octets = alloc::vec![0; len];
    let mut done = 0;
    while let Some(rest) = octets.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => return Err("shorter than its directory entry says".to_string()),
            Ok(read) => done += read,
            Err(error) => return Err(told(&error, "cannot be read")),
        }
    }
    Ok(octets)
}

fn told(error: &Error<Failed>, what: &str) -> String {
    match error {
        Error::NotFound => what.to_string(),
        other => format!("{what} ({other:?})"),
    }
}

/// A source as the file system wants it.
struct Card<'a> {
    source: RefCell<&'a mut dyn BlockSource>,
    reads: Cell<u32>,
    failure: &'a Cell<Option<String>>,
}

/// The source failed; [`Card::failure`] says how.
#[derive(Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the card cannot be read")
    }
}

impl core::error::Error for Failed {}

impl BlockDevice for Card<'_> {
    type Error = Failed;

    fn read(&self, blocks: &mut [Block], start: BlockIdx) -> Result<(), Failed> {
        for (block, index) in blocks.iter_mut().zip(start.0..) {
            self.reads.set(self.reads.get() + 1);
            let outcome = if self.reads.get() > READS_MAX {
                Err("the file system leads in circles".to_string())
            } else {
                self.source.borrow_mut().read_block(index, &mut block.contents)
            };
            if let Err(why) = outcome {
                self.failure.set(Some(why));
                return Err(Failed);
            }
        }
        Ok(())
    }

    /// The file system brings its count of free clusters up to date when it is closed. The card is left as it is.
    fn write(&self, _blocks: &[Block], _start: BlockIdx) -> Result<(), Failed> {
        Ok(())
    }

    fn num_blocks(&self) -> Result<BlockCount, Failed> {
        Ok(BlockCount(u32::MAX))
    }
}

/// Nothing is written, so no time is told.
struct NoClock;

impl TimeSource for NoClock {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp { year_since_1970: 0, zero_indexed_month: 0, zero_indexed_day: 0, hours: 0, minutes: 0, seconds: 0 }
    }
}

#[cfg(test)]
mod tests;
