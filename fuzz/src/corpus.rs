//! Replays the corpora on the stable compiler.

use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files.into_iter().flat_map(|path| if path.is_dir() { self::files(&path) } else { vec![path] }).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Replays a target's committed corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let files = files(&root().join("corpus").join(target));
    assert!(!files.is_empty(), "the corpus of {target} is gone");
    for file in files {
        run(&fs::read(&file).expect("a readable file"));
    }
}

macro_rules! replays {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target), crate::$target::run);
        })*
    };
}

replays!(
    card_reading,
    cdc_notification,
    config_text,
    esp_open,
    esp_suites,
    frame_parts,
    http_request,
    icmp_errors,
    ike_decrypted,
    ike_message,
    ip_classify,
    reassembly,
    smsc95xx_burst,
    traffic_selectors,
    usb_descriptors
);

#[test]
fn every_suite_opens_what_it_sealed_in_every_mode_and_nothing_else() {
    // Three packets; of them wrong octets, beginnings, more than there is, and another order; noise; and the packets, one twice.
    let seal = [[0, 0, 0, 40], [0, 0, 0, 7], [0, 0, 5, 0]].concat();
    let wrong: Vec<u8> =
        (0..25).flat_map(|at| [[2, at % 3, 0, 3 * at, 0x80], [0x42, 1, 0, 5 * at, 0]].concat()).collect();
    let longer = [0x82, 0, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0xc2, 0, 0, 9, 0];
    let noise = [&[7, 0, 0, 99][..], &[0; 99]].concat();
    let right = [1, 1, 1, 0, 1, 2, 1, 1];
    let steps = [&seal[..], &wrong, &longer, &noise, &right].concat();
    for suite in 0..crate::esp_suites::suites().len() {
        for choices in [0, 0x40, 0x80, 0xc0].into_iter().flat_map(|more| [0, 1, 2].map(|mode| more + mode)) {
            let input = [&[suite as u8, choices, 0xff, 0, 0, 0][..], &steps].concat();
            assert_eq!(crate::esp_suites::opened(&input), 3, "suite {suite}, choices {choices:#x}");
        }
    }
}

#[test]
fn foreign_packets_and_corpora() {
    let vectors = root().join("../../shared/vectors");
    if !vectors.is_dir() {
        println!("skipped: no ../shared/vectors beside the repository");
        return;
    }
    let found: Vec<_> = ["packets", "fuzz-corpus"].iter().flat_map(|folder| files(&vectors.join(folder))).collect();
    assert!(found.len() > 20, "the folder holds {} files", found.len());
    for file in found {
        let octets = fs::read(&file).expect("a readable file");
        crate::ike_message::run(&octets);
        // Some are payloads without a header.
        for first in [33, 34, 36, 37, 39, 41, 42, 43, 44, 47, 48] {
            crate::ike_message::run(&in_clear(first, &octets));
        }
    }
}

/// An IKE_SA_INIT request around these payloads.
fn in_clear(first: u8, payloads: &[u8]) -> Vec<u8> {
    use ike_core::registry::{ExchangeType, PayloadType};
    use ike_core::wire::header::Header;
    let header = Header {
        initiator: true,
        next: PayloadType(first),
        length: (Header::LEN + payloads.len()) as u32,
        ..Header::new(1, 0, ExchangeType::IKE_SA_INIT, 0)
    };
    [&header.to_octets()[..], payloads].concat()
}
