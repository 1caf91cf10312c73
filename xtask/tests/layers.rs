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

/// What a path may begin with, besides the modules below the one that names it.
const BEGINNINGS: [&str; 3] = ["crate", "super", "self"];

/// Where a word ends.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// Adds the paths that `text` begins with, those of lists in braces included, each behind `stem`; returns the rest.
fn paths<'a>(text: &'a str, stem: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let (name, rest) = word(text);
    let path: Vec<&str> = stem.iter().copied().chain(Some(name).filter(|name| !name.is_empty())).collect();
    let Some(rest) = rest.strip_prefix("::") else {
        found.push(path);
        return rest;
    };
    let Some(mut list) = rest.strip_prefix('{') else { return paths(rest, &path, found) };
    loop {
        list = list.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if list.is_empty() || list.starts_with('}') {
            return list.get(1..).unwrap_or_default();
        }
        // What is behind a name is an asterisk or another name for it.
        let behind = paths(list, &path, found);
        list = behind.find([',', '}']).map_or("", |end| &behind[end..]);
    }
}

/// The place of a source in the tree of modules; that of the crate's root is empty.
fn place(path: &str) -> Vec<String> {
    let place: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if place == ["lib"] || place == ["main"] { Vec::new() } else { place }
}

/// The modules that a source names.
fn named(at: &[String], code: &str, modules: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let below = modules.iter().filter(|module| module.len() == at.len() + 1 && module.starts_with(at));
    let beginnings: BTreeSet<&str> =
        BEGINNINGS.into_iter().chain(below.map(|module| module[at.len()].as_str())).collect();
    let mut found = Vec::new();
    let mut text = code;
    while let Some(start) = text.find(|c: char| c.is_alphanumeric() || c == '_') {
        let from = &text[start..];
        let (name, rest) = word(from);
        let before = &code[..code.len() - from.len()];
        // `pub(in PATH)` says for whom something is, and names nothing.
        let inside = before.ends_with("::") || before.ends_with("(in ");
        let opens = rest.starts_with("::") || before.ends_with("use ") && rest.starts_with(" as ");
        text = if !inside && opens && beginnings.contains(name) { paths(from, &[], &mut found) } else { rest };
    }
    let module = |path: Vec<&str>| {
        let mut place = at.to_vec();
        for name in path {
            match name {
                "crate" => place.clear(),
                "super" => _ = place.pop(),
                "self" => {}
                name => place.push(name.to_owned()),
            }
        }
        // What is no module is something in one.
        while !place.is_empty() && !modules.contains(&place) {
            place.pop();
        }
        place
    };
    found.into_iter().map(module).filter(|module| module != at).collect()
}

/// What in the sources of a crate goes against its picture.
fn offences(picture: &Picture, sources: &[(String, String)]) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|(path, text)| (place(path), code(text))).collect();
    let depth = |module: &str| picture.layers.iter().position(|layer| layer.contains(module));
    let mut offences = BTreeSet::new();
    // A module that only tests have is no part of the crate.
    let tests: Vec<Vec<String>> = sources
        .iter()
        .flat_map(|(place, code)| {
            let names = code.split("#[cfg(test)]\nmod ").skip(1).map(|rest| word(rest).0);
            names.map(|name| [&place[..], &[name.to_owned()]].concat())
        })
        .collect();
    let part = |place: &Vec<String>| !place.is_empty() && !tests.iter().any(|test| place.starts_with(test));
    let sources: Vec<_> = sources.iter().filter(|(place, _)| part(place)).collect();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|(place, _)| place.clone()).collect();
    let knows: Vec<_> = sources.iter().map(|(place, code)| (place, named(place, code, &modules))).collect();
    for (place, others) in &knows {
        let module = &place[0];
        let Some(own) = depth(module) else {
            offences.insert(format!("{module} is not drawn"));
            continue;
        };
        for other in others.iter().filter_map(|other| other.first()).filter(|other| *other != module) {
            if depth(other).is_none_or(|other| other <= own) {
                offences.insert(format!("{module} names {other}"));
            }
        }
    }
    let drawn = picture.layers.iter().flatten().filter(|drawn| !modules.iter().any(|module| module[0] == **drawn));
    offences.extend(drawn.map(|drawn| format!("{drawn} is drawn and not there")));
    for folder in modules.iter().filter(|module| picture.folders.contains(&module[0])) {
        let found = circle(folder, &knows);
        if !found.is_empty() {
            offences.insert(format!("in a circle inside {}: {}", folder.join("/"), found.join(", ")));
        }
    }
    offences.into_iter().collect()
}

/// The files of a folder that know each other in a circle, the one above them among them.
fn circle(folder: &[String], knows: &[(&Vec<String>, BTreeSet<Vec<String>>)]) -> Vec<String> {
    let file = |place: &[String]| {
        let inside = place.strip_prefix(folder)?;
        Some(inside.first().cloned().unwrap_or_else(|| "the file above".to_owned()))
    };
    let mut reaches: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (place, others) in knows {
        let Some(from) = file(place) else { continue };
        let others: Vec<_> = others.iter().filter_map(|other| file(other)).filter(|other| *other != from).collect();
        reaches.entry(from).or_default().extend(others);
    }
    // Whoever reaches somebody reaches whom that one reaches, until nobody is new.
    let reached = |reaches: &BTreeMap<String, BTreeSet<String>>| reaches.values().map(BTreeSet::len).sum::<usize>();
    loop {
        let before = reached(&reaches);
        for from in reaches.keys().cloned().collect::<Vec<_>>() {
            let mut further: BTreeSet<_> =
                reaches[&from].iter().filter_map(|over| reaches.get(over)).flatten().cloned().collect();
            reaches.entry(from).or_default().append(&mut further);
        }
        if reached(&reaches) == before {
            break;
        }
    }
    reaches.into_iter().filter(|(from, others)| others.contains(from)).map(|(from, _)| from).collect()
}

fn found(picture: &str, sources: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    offences(&pictures(picture)["house"], &sources)
}

/// Each crate that is drawn, and where it lies.
const CRATES: [(&str, &str); 8] = [
    ("ipsec-core", "ipsec-core"),
    ("ike-core", "ike-core"),
    ("gateway-core", "gateway-core"),
    ("traffic-core", "traffic-core"),
    ("appliance-linux", "appliance-linux"),
    ("appliance-rpi", "appliance-rpi"),
    ("rpi-services", "appliance-rpi/services"),
    ("rpi-drivers", "appliance-rpi/drivers"),
];

#[test]
fn every_crate_is_as_it_is_drawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let pictures = pictures(&fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md"));
    for (name, folder) in CRATES {
        let offences = offences(&pictures[name], &sources(&root.join(folder).join("src")));
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
    assert_eq!(inside("use super::b;", "use crate::roof::{Shingle, a::A};"), ["in a circle inside roof: a, b"]);
    // Without the star nobody looks.
    let (a, b) = (("roof/a", "use super::b;"), ("roof/b", "use super::a;"));
    assert!(found("inside house:  roof", &[("roof", ""), a, b]).is_empty());
    // A file of a folder inside speaks for that folder, and there is no circle inside that one either.
    let (a, b) = (("roof/a", "use super::b;"), ("roof/b", ""));
    let below =
        |text| found("inside house:  roof/*", &[("roof", ""), a, b, ("roof/b/c", text), ("roof/b/d", "super::c()")]);
    assert_eq!(below("use super::super::a::A;"), ["in a circle inside roof: a, b"]);
    assert_eq!(below("use super::d::*;"), ["in a circle inside roof/b: c, d"]);
}

#[test]
fn a_file_that_knows_the_one_above_it_and_is_known_to_it_is_found() {
    let inside = |roof: &'static str, a: &'static str| {
        found("inside house:  roof/*", &[("roof", roof), ("roof/a", a), ("roof/b", "pub(in crate::roof) fn b() {}")])
    };
    const CIRCLE: [&str; 1] = ["in a circle inside roof: a, the file above"];
    assert!(inside("mod a;\nmod b;\npub use a::A;", "use super::b;").is_empty());
    assert!(inside("mod a;\nmod b;", "use super::Shingle;").is_empty());
    assert_eq!(inside("mod a;\nuse a::{A, B};", "use super::{Shingle, b};"), CIRCLE);
    assert_eq!(inside("use self::a::A;", "use super::*;"), CIRCLE);
    assert_eq!(inside("use a as covering;", "impl crate::roof::Shingle {}"), CIRCLE);
    assert_eq!(inside("fn f() { a::g::<u8>() }", "fn g() { super::f() }"), CIRCLE);
}
