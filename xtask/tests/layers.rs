//! Who may know whom inside a crate: the picture in ARCHITECTURE.md, held against what the sources name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sources::{product, sources};

mod sources;

/// A crate as it is drawn: its layers, top first, and the modules that are drawn with `/*`, whose files know each other
/// without circles, too.
#[derive(Default)]
struct Picture {
    layers: Vec<BTreeSet<String>>,
    folders: BTreeSet<String>,
}

/// The crates that a text draws: `inside CRATE:  a > {b/*, c} > d`, over any number of lines that begin with a space.
fn pictures(text: &str) -> BTreeMap<String, Picture> {
    let mut drawn: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if let Some((name, layers)) = line.strip_prefix("inside ").and_then(|rest| rest.split_once(':')) {
            drawn.push((name.to_owned(), layers.to_owned()));
            open = true;
        } else if open && line.starts_with(' ') {
            drawn.last_mut().expect("one is open").1.push_str(line);
        } else {
            open = false;
        }
    }
    let picture = |text: &str| {
        let mut picture = Picture::default();
        for layer in text.split('>') {
            let names = layer.split(',').map(|name| name.trim_matches([' ', '{', '}'])).filter(|name| !name.is_empty());
            picture.folders.extend(names.clone().filter_map(|name| name.strip_suffix("/*")).map(str::to_owned));
            picture.layers.push(names.map(|name| name.trim_end_matches("/*").to_owned()).collect());
        }
        picture
    };
    drawn.into_iter().map(|(name, layers)| (name, picture(&layers))).collect()
}

/// What a source says outside comments and tests.
fn code(source: &str) -> String {
    product(source).lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first words behind each `prefix`, those of lists in braces included.
fn named(code: &str, prefix: &str) -> BTreeSet<String> {
    let word =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for rest in code.split(prefix).skip(1) {
        match rest.strip_prefix('{').and_then(|list| list.split_once("};")) {
            // The outermost names of a list in braces.
            Some((list, _)) => {
                let mut depth = 0;
                let outermost = list.split_inclusive(['{', '}', ',']).filter(|part| {
                    let outer = depth == 0;
                    depth += part.matches('{').count();
                    depth -= part.matches('}').count();
                    outer
                });
                names.extend(outermost.map(word));
            }
            None => _ = names.insert(word(rest)),
        }
    }
    names.remove("");
    names
}

/// The place of a source in the tree of modules.
fn place(path: &str) -> Vec<String> {
    path.trim_end_matches(".rs").split('/').map(str::to_owned).collect()
}

/// What in the sources of a crate goes against its picture.
fn offences(picture: &Picture, sources: &[(String, String)]) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|(path, text)| (place(path), code(text))).collect();
    let depth = |module: &str| picture.layers.iter().position(|layer| layer.contains(module));
    let mut offences = BTreeSet::new();
    let is_root = |module: &str| module == "lib" || module == "main";
    // A module that only tests have is no part of the crate.
    let root =
        sources.iter().filter(|(place, _)| is_root(&place[0])).map(|(_, code)| code.as_str()).collect::<String>();
    let tested = |module: &str| root.contains(&format!("#[cfg(test)]\nmod {module};"));
    let sources: Vec<_> = sources.iter().filter(|(place, _)| !tested(&place[0])).cloned().collect();
    let modules: BTreeSet<&str> = sources.iter().map(|(place, _)| place[0].as_str()).collect();
    for (place, code) in sources.iter().filter(|(place, _)| !is_root(&place[0])) {
        let module = &place[0];
        let Some(own) = depth(module) else {
            offences.insert(format!("{module} is not drawn"));
            continue;
        };
        for other in named(code, "crate::").iter().filter(|other| *other != module) {
            // What is no module is a macro or a type of the crate's root.
            if modules.contains(other.as_str()) && depth(other).is_none_or(|other| other <= own) {
                offences.insert(format!("{module} names {other}"));
            }
        }
    }
    let drawn = picture.layers.iter().flatten().filter(|drawn| !modules.contains(drawn.as_str()));
    offences.extend(drawn.map(|drawn| format!("{drawn} is drawn and not there")));
    for folder in &picture.folders {
        let circle = circle(folder, &sources);
        if !circle.is_empty() {
            offences.insert(format!("in a circle inside {folder}: {}", circle.join(", ")));
        }
    }
    offences.into_iter().collect()
}

/// The files of a folder that know each other in a circle, and who knows those.
fn circle(folder: &str, sources: &[(Vec<String>, String)]) -> Vec<String> {
    let files = sources.iter().filter(|(place, _)| place.len() == 2 && place[0] == folder);
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (place, code) in files {
        let mut others = named(code, "super::");
        others.extend(named(code, &format!("crate::{folder}::")));
        others.remove(&place[1]);
        known.insert(place[1].clone(), others);
    }
    // What knows nobody that is left is taken away, until nothing is left or all know each other.
    loop {
        let left: BTreeSet<_> = known.keys().cloned().collect();
        let before = known.len();
        known.retain(|_, others| !others.is_disjoint(&left));
        if known.len() == before {
            return left.into_iter().collect();
        }
    }
}

fn found(picture: &str, sources: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    offences(&pictures(picture)["house"], &sources)
}

#[test]
fn every_crate_is_as_it_is_drawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let pictures = pictures(&fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
    for name in ["ipsec-core", "ike-core", "gateway-core", "traffic-core", "appliance-linux"] {
        let offences = offences(&pictures[name], &sources(&root.join(name).join("src")));
        assert!(offences.is_empty(), "{name} goes against ARCHITECTURE.md: {}", offences.join("; "));
    }
}

#[test]
fn who_names_what_stands_above_beside_or_nowhere_is_found() {
    const HOUSE: &str = "inside house:  roof > {wall, door}\n               > floor\nelsewhere\n";
    let (door, floor) = (("door", ""), ("floor", ""));
    let roof = |text| ("roof", text);
    let wall = |text| ("wall", text);
    let fine = [roof("use crate::{door, wall::{A, B}};"), wall("use crate::floor::X;"), door, floor];
    assert!(found(HOUSE, &fine).is_empty(), "{:?}", found(HOUSE, &fine));
    let up = [roof(""), wall("use crate::{floor, roof::Y};"), door, floor];
    assert_eq!(found(HOUSE, &up), ["wall names roof"]);
    let beside = [roof(""), wall("fn f() { crate::door::open() }"), door, floor];
    assert_eq!(found(HOUSE, &beside), ["wall names door"]);
    assert_eq!(found(HOUSE, &[roof(""), wall(""), door, floor, ("cellar", "")]), ["cellar is not drawn"]);
    assert_eq!(found(HOUSE, &[roof(""), wall(""), door]), ["floor is drawn and not there"]);
    let tests = [roof(""), wall("#[cfg(test)]\nmod tests { use crate::roof; }"), door, floor];
    assert!(found(HOUSE, &tests).is_empty());
    let tools = [("lib", "#[cfg(test)]\nmod tools;"), ("tools", "use crate::roof;"), roof(""), wall(""), door, floor];
    assert!(found(HOUSE, &tools).is_empty());
}

#[test]
fn files_of_a_folder_that_know_each_other_in_a_circle_are_found() {
    let inside = |a: &'static str, b: &'static str| {
        found("inside house:  roof/*", &[("roof", ""), ("roof/a", a), ("roof/b", b), ("roof/c", "use super::a;")])
    };
    assert!(inside("use super::b::{self, B};", "").is_empty());
    assert_eq!(inside("use super::b;", "use crate::roof::{Shingle, a::A};"), ["in a circle inside roof: a, b, c"]);
    // Without the star nobody looks.
    let (a, b) = (("roof/a", "use super::b;"), ("roof/b", "use super::a;"));
    assert!(found("inside house:  roof", &[("roof", ""), a, b]).is_empty());
}
