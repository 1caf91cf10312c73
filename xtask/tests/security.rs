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

#[test]
fn every_claim_names_the_tests_that_show_it() {
    let manual = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let mut text = String::new();
    sources(root(), &mut text);
    let (_, claims) = manual.split_once("## What is defended against whom").expect("the claims");
    let (claims, _) = claims.split_once("\n## ").expect("the end of the claims");
    let bullets: Vec<_> = claims.split("\n* ").skip(1).filter(|claim| !claim.starts_with("Not defended")).collect();
    assert!(bullets.len() >= 4, "{} claims", bullets.len());
    for claim in bullets {
        let about = claim.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
        let (_, shown) = claim.split_once("Shown by").unwrap_or_else(|| panic!("\"{about}\" names no test"));
        let (shown, _) = shown.split_once("\n\n").unwrap_or((shown, ""));
        let tests: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "\"{about}\" names no test");
        for test in tests {
            assert!(text.contains(&format!("fn {test}()")), "\"{about}\": there is no test {test}");
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
            assert!(text.contains(&format!("fn {test}()")), "ATK-{id:02}: there is no test {test}");
        }
        let number = format!("{id:02}");
        // The test of a fault shows what it is about in its name; an attack has its number there.
        let own = tests.iter().any(|test| test.starts_with("f_") || test.split('_').any(|word| word == number));
        let reason = ["no: ", "open: ", "documentation test of "].iter().any(|start| answer.starts_with(start));
        assert!(own || reason, "ATK-{id:02} has neither a test of its own nor a reason");
    }
}
