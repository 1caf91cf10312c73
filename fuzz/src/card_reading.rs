//! A card from anywhere: MBR, FAT, directory and configuration are read without a panic and within bounds.

use rpi_services::card::{BlockSource, read_file};
use rpi_services::configuration::BoardConfig;

const LIMIT: usize = 64 * 1024;

struct Card<'a>(&'a [u8]);

impl BlockSource for Card<'_> {
    fn read_block(&mut self, index: u32, block: &mut [u8; 512]) -> Result<(), String> {
        let from = self.0.chunks_exact(512).nth(index as usize).ok_or("past the end")?;
        block.copy_from_slice(from);
        Ok(())
    }
}

/// Takes the octets for a card.
pub fn run(data: &[u8]) {
    match read_file(&mut Card(data), "portcullis.toml", LIMIT) {
        Ok(file) => {
            assert!(file.len() <= LIMIT);
            board_config(&file);
        }
        Err(why) => assert!(!why.is_empty(), "refused without a reason"),
    }
    // The fuzzer need not find a file system first to reach the text.
    board_config(data);
}

fn board_config(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    match BoardConfig::parse(text) {
        Ok((config, _)) => {
            let mut ports: Vec<u8> = config.networks.iter().map(|network| network.port).collect();
            ports.sort_unstable();
            ports.dedup();
            assert_eq!(ports.len(), config.networks.len(), "one port twice");
            assert_ne!(config.management.http_port, 0);
        }
        Err(errors) => {
            let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX);
            assert!(!errors.is_empty() && errors.iter().all(|error| (1..=lines).contains(&error.at.line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_a_card_with_a_configuration() {
        let card = include_bytes!("../corpus/card_reading/fat16");
        let file = read_file(&mut Card(card), "portcullis.toml", LIMIT).expect("a file");
        assert_eq!(file, include_bytes!("../corpus/card_reading/configuration"));
    }
}
