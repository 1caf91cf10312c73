//! What the fuzz targets do. Each module is one target: its `run` takes the fuzzer's octets, drives the code, and panics
//! when something that must always hold does not.
//!
//! Without `cfg(fuzzing)` a target's binary replays the files that it is given, so that a crash is looked at with any
//! compiler and debugger, and `cargo test` replays the corpora.
#![forbid(unsafe_code)]

pub mod card_reading;
pub mod cdc_notification;
pub mod config_text;
pub mod crypto;
pub mod esp_open;
pub mod esp_suites;
pub mod frame_parts;
pub mod http_request;
pub mod icmp_errors;
pub mod ike_decrypted;
pub mod ike_message;
pub mod input;
pub mod ip_classify;
pub mod reassembly;
pub mod sites;
pub mod smsc95xx_burst;
pub mod traffic_selectors;
pub mod usb_descriptors;

#[cfg(test)]
mod corpus;

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// The body of a target's file.
#[macro_export]
macro_rules! target {
    ($target:ident) => {
        #[cfg(fuzzing)]
        use portcullis_fuzz::libfuzzer_sys;

        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::$target::run(data));

        #[cfg(not(fuzzing))]
        fn main() {
            portcullis_fuzz::replay(portcullis_fuzz::$target::run);
        }
    };
}

/// Runs a target on each file named on the command line.
pub fn replay(run: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        println!("{}", path.display());
        run(&std::fs::read(&path).expect("a readable file"));
    }
}
