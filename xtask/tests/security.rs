//! SECURITY.md answers every known bug class, and the tests that it names exist.

use std::fs;
use std::path::Path;

/// The last bug class that has a number.
const LAST: usize = 75;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

/// Every Rust source of the project, in one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, text);
        } else if name.ends_with(".rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Whether there is a test of this name, or a scenario of the lab: those have hyphens.
fn is_there(name: &str, sources: &str) -> bool {
    if name.contains('-') {
        return sources.contains(&format!("(\"{name}\", "));
    }
    let named = format!("fn {name}()");
    let attributes = |at: usize| {
        let lines = sources.get(..at).unwrap_or_default().lines().rev().map(str::trim);
        lines.take_while(|line| line.is_empty() || line.starts_with("#["))
    };
    sources.match_indices(&named).any(|(at, _)| attributes(at).any(|line| line == "#[test]"))
}

#[test]
fn every_claim_names_the_tests_that_show_it() {
    let manual = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let mut text = String::new();
    sources(root(), &mut text);
    let (_, claims) = manual.split_once("## What is defended against whom").expect("the claims");
    let (claims, _) = claims.split_once("\n## ").expect("the end of the claims");
    // What is said before them is about this test.
    let (_, claims) = claims.split_once("\n\n* ").expect("the first claim");
    let claims = claims.replace("\n* ", "\n\n");
    let claims: Vec<_> = claims.split("\n\n").filter(|claim| !claim.starts_with("Not defended")).collect();
    assert!(claims.len() >= 7, "{} claims", claims.len());
    for claim in claims {
        let about = claim.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
        let (_, shown) = claim.split_once("Shown by").unwrap_or_else(|| panic!("\"{about}\" names no test"));
        let tests: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "\"{about}\" names no test");
        for test in tests {
            assert!(is_there(test, &text), "\"{about}\": there is no test {test}");
        }
    }
}

#[test]
fn every_bug_class_is_answered_by_a_test_or_a_reason() {
    let manual = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let mut text = String::new();
    sources(root(), &mut text);
    for id in 1..=LAST {
        let rows: Vec<_> = manual.lines().filter(|line| line.starts_with(&format!("| ATK-{id:02} |"))).collect();
        let [row] = rows[..] else { panic!("ATK-{id:02} has {} rows", rows.len()) };
        let answer = row.split('|').nth(3).expect("an answer").trim();
        let tests: Vec<_> =
            answer.split('`').filter(|word| ["atk_", "f_"].iter().any(|kind| word.starts_with(kind))).collect();
        for test in &tests {
            assert!(is_there(test, &text), "ATK-{id:02}: there is no test {test}");
        }
        let number = format!("{id:02}");
        // The test of a fault shows what it is about in its name; an attack has its number there.
        let own = tests.iter().any(|test| test.starts_with("f_") || test.split('_').any(|word| word == number));
        let reason = ["no: ", "open: ", "documentation test of "].iter().any(|start| answer.starts_with(start));
        assert!(own || reason, "ATK-{id:02} has neither a test of its own nor a reason");
    }
}
