//! The modules know whom the picture in ARCHITECTURE.md lets them know: imports are read as text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The room each module stands in, counted from the left: the line `inside ike-core:` of the picture.
fn picture() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    let (_, rest) = text.split_once("inside ike-core:").expect("the picture");
    // It goes on in lines that are indented.
    let rest = rest.split("\n```").next().unwrap();
    let rooms = rest.split('>').enumerate().flat_map(|(place, names)| {
        let names = names.split(|c: char| !c.is_ascii_lowercase()).filter(|name| !name.is_empty());
        names.map(move |name| (name.to_owned(), place)).collect::<Vec<_>>()
    });
    rooms.collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => sources(&path, into),
            path => into.push(path),
        }
    }
}

/// Every source file as its module path (`state::deleting`), and what it says outside comments and tests.
fn modules() -> Vec<(Vec<String>, String)> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 40, "{}", files.len());
    let module = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("mod tests {").next().unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let path = file.strip_prefix(root().join("src")).unwrap().with_extension("");
        let path = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        (path, lines.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(module).collect()
}

/// The names that follow `prefix` in `text`, those in braces included.
fn named(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap(),
            None => rest,
        };
        let ends = |c: char| !(c.is_alphanumeric() || c == '_' || (c == ',' || c == ' ') && rest.starts_with('{'));
        let list = list.split(ends).next().unwrap();
        let modules = list.split(',').map(str::trim);
        names.extend(
            modules.filter(|name| name.chars().next().is_some_and(|c| c.is_ascii_lowercase())).map(str::to_owned),
        );
    }
    names
}

#[test]
fn a_module_uses_only_what_stands_to_its_right() {
    let picture = picture();
    let mut tops = BTreeSet::new();
    for (path, text) in modules() {
        let top = &path[0];
        if top == "lib" {
            continue;
        }
        tops.insert(top.clone());
        let place = picture.get(top).unwrap_or_else(|| panic!("{top} is not in the picture"));
        for used in named(&text, "crate::") {
            let there = picture.get(&used).unwrap_or_else(|| panic!("{used}, used by {path:?}, is not in the picture"));
            assert!(used == *top || there > place, "{path:?} uses {used}, which does not stand to its right");
        }
    }
    let drawn: BTreeSet<String> = picture.into_keys().collect();
    assert_eq!(drawn, tops, "the picture shows what is there");
}

#[test]
fn the_files_of_a_folder_do_not_call_each_other_in_a_circle() {
    let modules = modules();
    let mut uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (path, text) in &modules {
        let [folder, _] = &path[..] else { continue };
        let siblings = named(text, "super::").into_iter().chain(named(text, &format!("crate::{folder}::")));
        let siblings = siblings.map(|name| vec![folder.clone(), name]);
        let known = siblings.filter(|sibling| sibling != path && modules.iter().any(|(path, _)| path == sibling));
        uses.insert(path.clone(), known.collect());
    }
    assert!(uses.values().any(|uses| !uses.is_empty()));
    // What uses nobody that is left is taken away, until nothing is left or all use each other.
    while !uses.is_empty() {
        let left: BTreeSet<_> = uses.keys().cloned().collect();
        let free: Vec<_> =
            uses.iter().filter(|(_, uses)| uses.is_disjoint(&left)).map(|(path, _)| path.clone()).collect();
        assert!(!free.is_empty(), "in a circle: {:?}", uses.keys());
        free.iter().for_each(|path| drop(uses.remove(path)));
    }
}

#[test]
fn a_state_hears_of_nobody_above_it_and_only_begins_the_next_one() {
    let down = [
        ("established", "child_creating"),
        ("established", "deleting"),
        ("established", "rekeying"),
        ("init_sent", "auth_sent"),
    ];
    for (path, text) in modules().iter().filter(|(path, _)| path[0] == "state" && path.len() == 2) {
        for name in named(text, "super::") {
            assert!(down.contains(&(&path[1], &name)), "{path:?} calls {name}");
        }
        assert!(!text.contains("crate::state") && !text.contains("crate::endpoint"), "{path:?} calls back up");
    }
}
