//! The sources of a crate, as tests read them.

use std::fs;
use std::path::Path;

/// A source without its tests.
pub(crate) fn product(source: &str) -> &str {
    source.split("\nmod tests ").next().unwrap_or_default()
}

/// The sources below a folder by their places in it (`esp/seal.rs`), without their tests.
pub(crate) fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| !path.ends_with("tests")));
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let place = path.strip_prefix(folder).expect("a path inside").to_string_lossy().into_owned();
                found.push((place, product(&fs::read_to_string(&path).expect("a source")).to_owned()));
            }
        }
    }
    found.sort();
    found
}
