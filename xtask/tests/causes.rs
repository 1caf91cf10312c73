//! docs/operations.md names every code that a failure can have, and no other. Read as text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where failures get their codes.
const SOURCES: [&str; 5] = [
    "gateway-core/src/cause",
    "gateway-core/src/gateway",
    "appliance-linux/src/control",
    "appliance-linux/src/daemon",
    "appliance-linux/src/sequence.rs",
];

/// What stands before a code where it is given.
const BEFORE: [&str; 5] = ["code:", "said(", "refusal(", "&'static str =", "&str ="];

/// What stands behind one that is given with its kind.
const KINDS: [&str; 3] = ["Refusal", "Absence", "Intent"];

/// The sources under `place`, without the tests beside them.
fn sources(place: PathBuf, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        return found.push(place);
    }
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        match (path.is_dir(), path.file_stem().unwrap().to_str()) {
            (_, Some("tests")) => {}
            (true, _) => sources(path, found),
            (false, _) => found.push(path),
        }
    }
}

/// The codes that a source gives.
fn codes(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap().replace("\\\"", "");
    let parts: Vec<&str> = code.split('"').collect();
    let given = parts.windows(3).step_by(2).filter(|around| {
        let (before, text) = (around[0].trim_end(), around[1]);
        let behind = around[2].trim_start_matches(',').trim_start();
        let with_kind = before.ends_with('(') && KINDS.iter().any(|kind| behind.starts_with(kind));
        let is_given = with_kind || BEFORE.iter().any(|what| before.ends_with(what));
        is_given && !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-')
    });
    given.map(|around| around[1].to_owned()).collect()
}

#[test]
fn the_manual_has_every_code_of_a_cause_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    SOURCES.iter().for_each(|place| sources(root.join(place), &mut found));
    let ours: BTreeSet<String> = found.iter().flat_map(|source| codes(&fs::read_to_string(source).unwrap())).collect();
    assert!(ours.contains("peer-silent") && ours.contains("name-not-resolved") && ours.contains("busy"), "{ours:?}");

    let manual = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let section = manual.split("\n## ").find_map(|section| section.strip_prefix("Causes\n")).unwrap();
    let told = section.lines().filter(|line| !line.is_empty()).flat_map(|line| {
        // In the table the first column has them; what is quoted in the second one may be anything.
        let line = line.strip_prefix('|').map_or(line, |row| row.split('|').next().unwrap());
        line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    });
    let words = ["status", "down"]; // commands
    let told: BTreeSet<String> = told.filter(|word| !words.contains(&word.as_str())).collect();
    assert_eq!(told, ours);
}
