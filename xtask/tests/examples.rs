//! Each public noun and free function of the crates that others link has an example that runs as a test.
//!
//! Read as text. What is public begins a line with `pub`: the lint `unreachable_pub` sees to it that nobody writes that of what
//! cannot be reached. What macros make stands further in and is left out: numbers of registries, and reasons to discard.

use std::collections::BTreeSet;
use std::path::Path;

use sources::sources;

mod sources;

/// The crates that others link.
const LINKED: [&str; 4] = ["ipsec-core", "ike-core", "gateway-core", "traffic-core"];

/// Why something has no example of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excuse {
    /// Hidden from the documentation, itself or its module: it promises nothing yet.
    Hidden,
    /// Another name: the example stands with what it names.
    Alias,
    /// An error that is only handed out: it is matched on, and its variants say why.
    Error,
    /// Nothing can be called on it: it is seen where it is made or given, in the example of another one.
    Plain,
    /// A free function that the example of its module calls, beside those that belong together with it.
    Called,
}

/// Something public.
struct Noun {
    kind: String,
    name: String,
    /// It has an example, or a function of it has.
    shown: bool,
    /// `doc(hidden)` stands above it.
    hidden: bool,
}

const KINDS: [&str; 6] = ["struct", "enum", "union", "trait", "fn", "type"];

const HIDDEN: &str = "#[doc(hidden)]";

/// What a line that begins with `pub` declares: its kind and its name.
fn declared(line: &str) -> Option<(&str, &str)> {
    let mut words = line.strip_prefix("pub ")?.split(|c: char| !c.is_alphanumeric() && c != '_');
    let kind = words.find(|word| !["const", "unsafe", "async"].contains(word))?;
    KINDS.contains(&kind).then_some(())?;
    Some((kind, words.next()?))
}

/// The text of a comment for readers of the documentation, and whether it is about what it stands in.
fn documentation(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start();
    let inner = line.starts_with("//!");
    let text = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"))?;
    Some((text.strip_prefix(' ').unwrap_or(text), inner))
}

/// Whether some of these lines are an example that is compiled.
fn compiles<'s>(lines: impl IntoIterator<Item = &'s str>) -> bool {
    let mut inside = false;
    lines.into_iter().filter_map(documentation).any(|(text, _)| {
        let fence = text.trim_start().strip_prefix("```");
        inside ^= fence.is_some();
        inside && fence.is_some_and(is_code)
    })
}

/// Whether what stands behind a fence says that code follows which is compiled.
fn is_code(info: &str) -> bool {
    info.is_empty() || info.starts_with("compile_fail")
}

/// What readers see of the examples of a source: of all, or of those of modules.
fn examples(source: &str, of_modules: bool) -> String {
    let (mut seen, mut inside, mut runs) = (String::new(), false, false);
    for line in source.lines() {
        let Some((text, inner)) = documentation(line) else {
            inside = false;
            continue;
        };
        if let Some(info) = text.trim_start().strip_prefix("```") {
            inside = !inside;
            runs = inside && is_code(info) && (inner || !of_modules);
        } else if inside && runs && text != "#" && !text.starts_with("# ") {
            seen.push_str(text);
            seen.push('\n');
        }
    }
    seen
}

/// Whether a line begins the functions of a noun.
fn belongs(line: &str, name: &str) -> bool {
    let Some(rest) = line.strip_prefix("impl") else {
        return line.starts_with("pub trait ") && declared(line).is_some_and(|(_, declared)| declared == name);
    };
    // Behind the generic parameters stands whose they are.
    let mut depth = 0;
    let whose = rest.find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0 && c == ' '
    });
    let whose = whose.and_then(|at| rest.get(at..)).unwrap_or_default().trim_start();
    whose.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The lines between the braces of what belongs to a noun.
fn bodies<'s>(source: &'s str, name: &str) -> Vec<&'s str> {
    let mut inside = false;
    let kept = source.lines().filter(|line| {
        inside = (inside || belongs(line, name)) && !line.starts_with('}');
        inside
    });
    kept.collect()
}

/// The public nouns and free functions of a source.
fn nouns(source: &str) -> Vec<Noun> {
    let lines: Vec<&str> = source.lines().collect();
    let found = lines.iter().enumerate().filter_map(|(at, line)| {
        let (kind, name) = declared(line)?;
        let ends = |line: &str| line.is_empty() || line.starts_with('}') || declared(line).is_some();
        let above = lines[..at].iter().rposition(|line| ends(line)).map_or(0, |end| end + 1);
        let own = compiles(lines[above..at].iter().copied());
        let of_functions = compiles(bodies(source, name));
        let (kind, name, shown) = (kind.to_owned(), name.to_owned(), own || (kind != "fn" && of_functions));
        Some(Noun { kind, name, shown, hidden: lines[above..at].contains(&HIDDEN) })
    });
    found.collect()
}

/// The types that stand as the error of a `Result`.
fn errors(sources: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for rest in sources.split("Result<").skip(1) {
        let (mut depth, mut comma) = (1, None);
        for (at, c) in rest.char_indices() {
            depth += i32::from("<([".contains(c)) - i32::from(">)]".contains(c));
            match c {
                ',' if depth == 1 => comma = Some(at + 1),
                _ if depth == 0 => {
                    let error = comma.and_then(|from| rest.get(from..at)).unwrap_or_default();
                    let error = error.split('<').next().unwrap_or_default().trim();
                    names.insert(error.rsplit("::").next().unwrap_or_default());
                    break;
                }
                _ => {}
            }
        }
    }
    names
}

/// Whether a source belongs to a module that another one hides.
fn is_hidden(place: &str, sources: &[(String, String)]) -> bool {
    sources.iter().any(|(above, source)| {
        let folder = above.trim_end_matches("lib.rs").replace(".rs", "/");
        let module = place.strip_prefix(&folder).and_then(|rest| rest.split(['/', '.']).next());
        module.is_some_and(|module| source.contains(&format!("{HIDDEN}\npub mod {module};")))
    })
}

/// Why a noun needs no example of its own; `None`: it needs one.
fn excuse(noun: &Noun, place: &str, sources: &[(String, String)]) -> Option<Excuse> {
    let all = |of_modules| sources.iter().map(|(_, source)| examples(source, of_modules)).collect::<String>();
    let names = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == noun.name);
    // Functions may stand in other files of the same part of the crate.
    let part = |place: &str| place.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    let beside = sources.iter().filter(|(other, _)| part(other) == part(place));
    let functions: Vec<&str> = beside.flat_map(|(_, source)| bodies(source, &noun.name)).collect();
    let functions: Vec<&str> = functions
        .into_iter()
        .map(str::trim)
        .filter(|line| declared(line).is_some_and(|(kind, _)| kind == "fn"))
        .collect();
    let code: String = sources.iter().map(|(_, source)| source.as_str()).collect();
    if noun.hidden || is_hidden(place, sources) {
        return Some(Excuse::Hidden);
    }
    match noun.kind.as_str() {
        "type" => Some(Excuse::Alias),
        "fn" => names(&all(true)).then_some(Excuse::Called),
        "struct" | "enum" | "union" => {
            let made = functions.iter().any(|line| line.contains("-> Self"));
            let handed_out = !made && errors(&code).contains(noun.name.as_str());
            let plain = functions.is_empty() && names(&all(false));
            handed_out.then_some(Excuse::Error).or(plain.then_some(Excuse::Plain))
        }
        _ => None,
    }
}

/// What has no example and no excuse, and how many nouns were looked at.
fn missing(sources: &[(String, String)]) -> (Vec<String>, usize) {
    let (mut missing, mut count) = (Vec::new(), 0);
    for (place, source) in sources {
        for noun in nouns(source) {
            count += 1;
            if !noun.shown && excuse(&noun, place, sources).is_none() {
                missing.push(format!("{} {} in {place}", noun.kind, noun.name));
            }
        }
    }
    (missing, count)
}

#[test]
fn every_public_noun_has_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    for name in LINKED {
        let (missing, count) = missing(&sources(&root.join(name).join("src")));
        assert!(count > 0, "{name} has nothing public");
        assert!(missing.is_empty(), "of {name} have no example: {}", missing.join("; "));
    }
}

/// What is found missing in one source.
fn found(source: &str) -> Vec<String> {
    missing(&[("house.rs".to_owned(), source.to_owned())]).0
}

#[test]
fn what_has_no_example_is_found() {
    const SHOWN: &str = "/// A door.\n///\n/// ```\n/// open(Door);\n/// ```\n#[derive(Debug)]\npub struct Door;\n";
    assert!(found(SHOWN).is_empty());
    assert_eq!(found("/// A wall.\npub struct Wall;\n"), ["struct Wall in house.rs"]);
    assert_eq!(found("/// ```text\n/// Wall\n/// ```\npub struct Wall;\n"), ["struct Wall in house.rs"]);
    assert_eq!(found("/// Builds.\npub const fn build() {}\n"), ["fn build in house.rs"]);
    assert_eq!(found("/// Holds.\npub trait Hold {\n}\n"), ["trait Hold in house.rs"]);
    // An example of one noun is none of the next.
    assert_eq!(found(&format!("{SHOWN}\n/// A wall.\npub enum Wall {{}}\n")), ["enum Wall in house.rs"]);
    assert!(found("struct Inside;\npub(crate) fn build() {}\n").is_empty());
}

#[test]
fn what_needs_no_example_of_its_own_is_one_of_five_kinds() {
    assert!(found("#[doc(hidden)]\npub struct Wall;\n").is_empty());
    let house =
        |text: &str| [("lib.rs", text), ("roof/gable.rs", "pub struct Gable;\n")].map(|(a, b)| (a.into(), b.into()));
    assert_eq!(missing(&house("pub mod roof;\n")).0, ["struct Gable in roof/gable.rs"]);
    assert!(missing(&house("#[doc(hidden)]\npub mod roof;\n")).0.is_empty());
    assert!(found("pub type Door = Wall;\n").is_empty());
    let error = "pub struct Locked;\nfn open() -> Result<(u8, u8), error::Locked> {}\n";
    assert!(found(error).is_empty());
    // Whoever makes an error wants to see how.
    let made = format!("{error}impl Locked {{\n    pub fn by(whom: u8) -> Self {{}}\n}}\n");
    assert_eq!(found(&made), ["struct Locked in house.rs"]);
    let plain = "/// ```\n/// Door { key: Key };\n/// ```\npub struct Door;\npub struct Key;\n";
    assert!(found(plain).is_empty());
    assert_eq!(found(&plain.replace("/// Door", "/// # Door")), ["struct Key in house.rs"]);
    let called = format!("{plain}impl<'k, K: Into<u8>> Key {{\n    pub fn turn(&self) {{}}\n}}\n");
    assert_eq!(found(&called), ["struct Key in house.rs"]);
    assert!(found(&called.replace("    pub fn", "    /// ```\n    /// ```\n    pub fn")).is_empty());
    let together = "//! ```\n//! lock(); open();\n//! ```\npub fn lock() {}\npub fn open() {}\n";
    assert!(found(together).is_empty());
    assert_eq!(found(&together.replace("open();", "")), ["fn open in house.rs"]);
}
