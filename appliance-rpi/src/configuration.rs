//! Reads the configuration, or says why there is none.

use crate::board::Board;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt::Write;
use rpi_services::configuration::BoardConfig;
use rpi_services::status::Mode;
use sha2::{Digest, Sha256};

/// Name of the file, as messages show it.
const NAME: &str = "portcullis.toml";

/// What the image runs with.
pub(crate) struct Configuration {
    pub(crate) mode: Mode,
    pub(crate) config: BoardConfig,
    /// First half of the SHA-256 of the file, in hexadecimal.
    pub(crate) hash: Option<String>,
    /// Why it is not used, or what is odd about it.
    pub(crate) problems: Vec<String>,
}

impl Configuration {
    fn safe(hash: Option<String>, problems: Vec<String>) -> Self {
        Self { mode: Mode::Safe, config: BoardConfig::safe(), hash, problems }
    }
}

/// Reads the file from where the board keeps it.
pub(crate) fn load(board: &mut Board) -> Configuration {
    let octets = match board.read_configuration() {
        Ok(octets) => octets,
        Err(error) => return Configuration::safe(None, vec![format!("{NAME}: {error}")]),
    };
    let mut hash = String::new();
    for octet in Sha256::digest(&octets).iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{octet:02x}");
    }
    let hash = Some(hash);
    let Ok(text) = str::from_utf8(&octets) else {
        return Configuration::safe(hash, vec![format!("{NAME}: not UTF-8 text")]);
    };
    match BoardConfig::parse(text) {
        Ok((config, warnings)) => {
            let problems = warnings.iter().map(|warning| format!("{NAME}:{}: {warning}", warning.at)).collect();
            Configuration { mode: Mode::Normal, config, hash, problems }
        }
        Err(errors) => {
            let problems = errors.iter().map(|error| format!("{NAME}:{}: {error}", error.at)).collect();
            Configuration::safe(hash, problems)
        }
    }
}
