//! The SD card: an MBR with one FAT32 partition, the same octets for the same files.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use crate::outcome::{Result, ensure};

const BLOCK: usize = 512;
/// First block of the partition: 1 MiB, as every partitioning tool aligns it.
const START: u32 = 2048;
/// Blocks of the card: 64 MiB.
const BLOCKS: u32 = 131_072;
/// FAT32 with LBA addresses.
const KIND: u8 = 0x0c;
/// Signature of the disk and number of the volume: "PCLS".
const VOLUME: u32 = 0x5043_4c53;

/// A file of the card: path with slashes, content.
pub(crate) type File = (String, Vec<u8>);

/// Makes a card with these files.
///
/// # Errors
/// When they do not fit.
pub(crate) fn make(files: &[File]) -> Result<Vec<u8>> {
    let mut card = vec![0; BLOCKS as usize * BLOCK];
    card[440..444].copy_from_slice(&VOLUME.to_le_bytes());
    let entry = &mut card[446..462];
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]); // no cylinders and heads: the LBA numbers count
    entry[4] = KIND;
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&START.to_le_bytes());
    entry[12..16].copy_from_slice(&(BLOCKS - START).to_le_bytes());
    card[510..512].copy_from_slice(&[0x55, 0xaa]);

    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat32)
        .bytes_per_cluster(BLOCK as u32)
        .drive_num(0x80)
        .volume_id(VOLUME)
        .volume_label(*b"PORTCULLIS ");
    fatfs::format_volume(partition(&mut card), options)?;
    // Hidden sectors: some firmware wants to know where the partition starts.
    let boot_sector = START as usize * BLOCK;
    for copy in [boot_sector, boot_sector + 6 * BLOCK] {
        card[copy + 28..copy + 32].copy_from_slice(&START.to_le_bytes());
    }
    write(&mut card, files)?;
    Ok(card)
}

/// Writes files onto a card that was made, over those of the same name.
///
/// # Errors
/// When they do not fit.
pub(crate) fn write(card: &mut [u8], files: &[File]) -> Result {
    let volume = mount(card)?;
    for (path, content) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            volume.root_dir().create_dir(folder)?;
        }
        let mut file = volume.root_dir().create_file(path)?;
        file.truncate()?;
        file.write_all(content).map_err(|error| format!("{path}: {error}"))?;
        file.flush()?;
    }
    // Counts the free clusters, which the volume then has written down.
    volume.stats()?;
    volume.unmount()?;
    Ok(())
}

/// Removes a file from a card.
///
/// # Errors
/// When it is not there.
pub(crate) fn remove(card: &mut [u8], path: &str) -> Result {
    let volume = mount(card)?;
    volume.root_dir().remove(path)?;
    volume.unmount()?;
    Ok(())
}

/// Reads a file of a card back.
///
/// # Errors
/// When it is not there.
pub(crate) fn read(card: &mut [u8], path: &str) -> Result<Vec<u8>> {
    let volume = mount(card)?;
    let mut content = Vec::new();
    volume.root_dir().open_file(path)?.read_to_end(&mut content)?;
    ensure(!content.is_empty(), || format!("{path} is empty"))?;
    Ok(content)
}

type Volume<'a> = fatfs::FileSystem<Partition<'a>>;

fn mount(card: &mut [u8]) -> Result<Volume<'_>> {
    Ok(fatfs::FileSystem::new(partition(card), fatfs::FsOptions::new().time_provider(&OneTime))?)
}

/// Gives every file the first time there is, so that the same files make the same card.
#[derive(Debug)]
struct OneTime;

impl fatfs::TimeProvider for OneTime {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date { year: 1980, month: 1, day: 1 }
    }
    fn get_current_date_time(&self) -> fatfs::DateTime {
        fatfs::DateTime { date: self.get_current_date(), time: fatfs::Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

fn partition(card: &mut [u8]) -> Partition<'_> {
    let (_, partition) = card.split_at_mut(START as usize * BLOCK);
    Partition(Cursor::new(partition))
}

/// The partition as a file; it cannot grow.
struct Partition<'a>(Cursor<&'a mut [u8]>);

impl Read for Partition<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        self.0.read(octets)
    }
}

impl Write for Partition<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Partition<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_card_and_read_back() {
        let files = [("config.txt".to_owned(), b"a=1\n".to_vec()), ("kernel8.img".to_owned(), vec![7; 100_000])];
        let mut card = make(&files).expect("made");
        assert_eq!(card, make(&files).expect("made"));
        for (path, content) in &files {
            assert_eq!(&read(&mut card, path).expect("there"), content);
        }
    }

    #[test]
    fn a_file_is_replaced_not_mixed() {
        let mut card = make(&[("portcullis.toml".to_owned(), vec![b'#'; 5_000])]).expect("made");
        write(&mut card, &[("portcullis.toml".to_owned(), b"new\n".to_vec())]).expect("written");
        assert_eq!(read(&mut card, "portcullis.toml").expect("there"), b"new\n");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(make(&[("big".to_owned(), vec![0; 70 << 20])]).is_err());
    }
}
