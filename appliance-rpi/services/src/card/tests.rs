//! Against cards written by another FAT implementation, whole and broken.

extern crate std;

use super::*;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::vec;

const START: usize = 2048;
const SIZE: usize = 66_000;
const TEXT: &[u8] = b"[management]\nhttp-port = 8080\n";

struct Image(Vec<u8>);

impl BlockSource for Image {
    fn read_block(&mut self, index: u32, block: &mut [u8; 512]) -> Result<(), String> {
        let at = index as usize * 512;
        let from = self.0.get(at..at + 512).ok_or("past the end")?;
        block.copy_from_slice(from);
        Ok(())
    }
}

/// A partition of the card as a file of its own.
struct Partition<'a>(Cursor<&'a mut [u8]>);

impl Read for Partition<'_> {
    fn read(&mut self, octets: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(octets)
    }
}
impl Write for Partition<'_> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.write(octets)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
impl Seek for Partition<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

fn card(files: &[(&str, &[u8])]) -> Image {
    let mut octets = vec![0; (START + SIZE) * 512];
    let entry = &mut octets[446..462];
    entry[4] = 0x0c;
    entry[8..12].copy_from_slice(&(START as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&(SIZE as u32).to_le_bytes());
    octets[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut partition = Partition(Cursor::new(&mut octets[START * 512..]));
    let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
    fatfs::format_volume(&mut partition, options).expect("formatted");
    let volume = fatfs::FileSystem::new(partition, fatfs::FsOptions::new()).expect("mounted");
    for (name, text) in files {
        volume.root_dir().create_file(name).expect("created").write_all(text).expect("written");
    }
    volume.unmount().expect("unmounted");
    Image(octets)
}

fn read(image: &mut Image) -> Result<Vec<u8>, String> {
    read_file(image, "portcullis.toml", 64 * 1024)
}

#[test]
fn a_file_with_a_long_name_is_read_whole() {
    let long: Vec<u8> = (0..40_000u32).map(|at| (at / 512) as u8).collect();
    for text in [TEXT, &[], &long] {
        let mut image = card(&[("config.txt", b"arm_64bit=1"), ("portcullis.toml", text), ("kernel8.img", &long)]);
        assert_eq!(read(&mut image).as_deref(), Ok(text));
    }
}

#[test]
fn a_card_with_a_count_of_free_clusters_is_read_and_not_written() {
    let mut image = card(&[("portcullis.toml", TEXT)]);
    let free_count = (START + 1) * 512 + 488;
    image.0[free_count..free_count + 4].copy_from_slice(&1_000_u32.to_le_bytes());
    assert_eq!(read(&mut image).as_deref(), Ok(TEXT));
}

#[test]
fn what_is_not_there_is_told() {
    assert_eq!(read(&mut card(&[("other.toml", TEXT)])), Err("not on the card".to_string()));
    let blank = read(&mut Image(vec![0; 1 << 20])).expect_err("blank");
    assert!(blank.starts_with("the card has no FAT partition"), "{blank}");
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let mut image = card(&[("portcullis.toml", &[b'#'; 70_000])]);
    assert_eq!(read(&mut image), Err("70000 octets long, 65536 are the limit".to_string()));
}

#[test]
fn a_card_that_cannot_be_read_is_told_from_a_missing_file() {
    let mut image = card(&[("portcullis.toml", TEXT)]);
    image.0.truncate((START + 100) * 512);
    assert_eq!(read(&mut image), Err("past the end".to_string()));
}

/// Found by fuzzing: the file system's crate divides by the clusters' size, whatever it is.
#[test]
fn a_boot_sector_that_contradicts_itself_is_refused() {
    let boot_sector = START * 512;
    // Blocks a cluster, octets a block, reserved blocks, FATs, blocks in all.
    for (at, value) in
        [(13, vec![0]), (13, vec![3]), (11, vec![0, 4]), (14, vec![0, 0]), (16, vec![0]), (32, vec![9, 0, 0, 0])]
    {
        let mut image = card(&[("portcullis.toml", TEXT)]);
        image.0[boot_sector + at..][..value.len()].copy_from_slice(&value);
        assert_eq!(read(&mut image), Err("the card's first partition has no sound FAT boot sector".to_string()));
    }
}

#[test]
fn broken_file_systems_end_in_words() {
    let good = card(&[("portcullis.toml", &[b'#'; 3_000]), ("config.txt", TEXT)]);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    // Boot sector, file information, both FATs' first blocks, root directory: found by what is not zero.
    let used: Vec<usize> =
        (0..good.0.len() / 512).filter(|at| good.0[at * 512..(at + 1) * 512].iter().any(|octet| *octet != 0)).collect();
    let (mut read_well, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut image = Image(good.0[..(START + 2_000) * 512].to_vec());
        for _ in 0..1 + next() % 4 {
            let block = used[next() % used.len()];
            if let Some(octet) = image.0.get_mut(block * 512 + next() % 512) {
                *octet = next() as u8;
            }
        }
        match read(&mut image) {
            Ok(octets) => {
                assert!(octets.len() <= 64 * 1024);
                read_well += 1;
            }
            Err(why) => {
                assert!(!why.is_empty());
                refused += 1;
            }
        }
    }
    assert!(read_well > 100 && refused > 100, "{read_well} read, {refused} refused");
}
