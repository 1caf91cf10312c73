//! Configuration text: either a configuration, or errors that say where and what.

use gateway_core::config::Config;

/// Reads the text twice.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (once, again) = (Config::parse(text), Config::parse(text));
    let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX);
    match (once, again) {
        (Ok((once, warnings)), Ok((again, _))) => {
            assert!(Config::diff(&once, &again).is_empty(), "the same text gives two configurations");
            assert!(warnings.iter().all(|warning| !warning.to_string().is_empty() && warning.at.line <= lines));
            let names = |config: &Config| config.peers.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>();
            let mut unique = names(&once);
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), names(&once).len(), "two peers of one name");
        }
        (Err(once), Err(again)) => {
            assert_eq!(once, again);
            assert!(!once.is_empty(), "refused without a reason");
            assert!(once.iter().all(|error| (1..=lines).contains(&error.at.line) && error.at.column >= 1));
            assert!(once.iter().all(|error| error.to_string().len() > "found , expected ".len()));
        }
        _ => panic!("the same text is once right and once wrong"),
    }
}
