//! Who calls whom inside a folder, where nobody has to name anybody: the `impl` of one type may be spread over many files, and
//! each of them may call all methods of it. Such files do not call each other in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sources::sources;

mod sources;

/// The word that a text begins with.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// What a source says outside comments.
fn code(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The methods that a source defines.
fn defined(code: &str) -> BTreeSet<&str> {
    let heads = code.split("fn ").skip(1).filter_map(|rest| rest.split(['{', ';']).next());
    heads.filter(|head| head.contains("self,") || head.contains("self)")).map(word).collect()
}

/// The methods that a source calls on `self`. Those of other values are not seen: their names are those of the library, too.
fn called(code: &str) -> BTreeSet<&str> {
    let behind = code.split("self").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('.'));
    behind
        .map(|rest| (word(rest), rest))
        .filter(|(word, rest)| rest[word.len()..].starts_with(['(', ':']))
        .map(|call| call.0)
        .collect()
}

/// The files of a folder that call each other in a circle, the one above them among them, and who calls those. A folder in it
/// speaks with its files for the file above them.
fn circle(folder: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for (path, code) in sources {
        match path.strip_prefix(folder) {
            Some(".rs") => files.entry("the file above").or_default().push_str(code),
            Some(inside) => {
                if let Some(inside) = inside.strip_prefix('/') {
                    files.entry(word(inside)).or_default().push_str(code);
                }
            }
            None => {}
        }
    }
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, code) in &files {
        for method in defined(code) {
            places.entry(method).or_default().push(file);
        }
    }
    // What several define says nothing of where it leads.
    let place =
        |method: &str| places.get(method).filter(|files| files.len() == 1).and_then(|files| files.first().copied());
    let calls = |file, code| called(code).into_iter().filter_map(place).filter(|other| *other != file).collect();
    let mut known: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|(file, code)| (*file, calls(*file, code))).collect();
    // What calls nobody that is left is taken away, until nothing is left or all call each other.
    loop {
        let left: BTreeSet<&str> = known.keys().copied().collect();
        known.retain(|_, others| !others.is_disjoint(&left));
        if known.len() == left.len() {
            return left.into_iter().map(str::to_owned).collect();
        }
    }
}

/// The circles in all folders of a crate.
fn circles(sources: &[(String, String)]) -> Vec<String> {
    let sources: BTreeMap<_, _> = sources.iter().map(|(path, text)| (path.clone(), code(text))).collect();
    let folders: BTreeSet<&str> = sources.keys().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
    let found = folders.into_iter().map(|folder| (folder, circle(folder, &sources)));
    found
        .filter(|(_, files)| !files.is_empty())
        .map(|(folder, files)| format!("{folder}: {}", files.join(", ")))
        .collect()
}

const CRATES: [&str; 8] = [
    "ipsec-core",
    "ike-core",
    "gateway-core",
    "traffic-core",
    "appliance-linux",
    "appliance-rpi",
    "appliance-rpi/services",
    "appliance-rpi/drivers",
];

#[test]
fn no_files_that_share_a_type_call_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    for name in CRATES {
        let circles = circles(&sources(&root.join(name).join("src")));
        assert!(circles.is_empty(), "{name} has files that call each other in a circle: {}", circles.join("; "));
    }
}

#[test]
fn files_that_call_each_other_in_a_circle_are_found() {
    let found = |files: &[(&str, &str)]| {
        circles(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
    };
    let tile = "impl Roof { pub(super) fn tile<T>(&self, t: T) { self\n.drip(t) } }";
    let under = |roof, drip| found(&[("roof.rs", roof), ("roof/a.rs", tile), ("roof/b.rs", drip)]);
    let inside = |drip| under("", drip);
    assert_eq!(inside("impl Roof { fn drip(&mut self) { self.tile(1) } }"), ["roof: a, b"]);
    assert_eq!(inside("impl Roof { fn drip(&mut self) { self.tile::<u8>(1) } }"), ["roof: a, b"]);
    assert!(inside("impl Roof { fn drip(&mut self) { self.tile } }").is_empty(), "a field is no call");
    assert!(inside("impl Roof { fn drip(&mut self) {\n// self.tile(1)\n} }").is_empty(), "nor is a comment");
    const ABOVE: &str = "impl Roof { pub fn lay(&self) { self.tile(1) } }";
    assert!(under(ABOVE, "impl Roof { fn drip(&mut self) {} }").is_empty());
    let back = under(ABOVE, "impl Roof { fn drip(&mut self) { self.lay() } }");
    assert_eq!(back, ["roof: a, b, the file above"]);
    let another = "impl Roof { fn drip(&mut self) { self.tile(1) } } impl Gutter { fn tile(&self) {} }";
    assert!(inside(another).is_empty(), "nobody knows which of two is called");
    let drip = ("roof/b/c.rs", "impl Roof { fn drip(self) { self.tile(1) } }");
    assert_eq!(found(&[("roof/a.rs", tile), ("roof/b.rs", ""), drip]), ["roof: a, b"], "a folder speaks for its file");
}
