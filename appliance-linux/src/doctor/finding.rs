//! What is said of each thing that was looked at: how bad it is, and how to mend it.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grade {
    /// As it should be.
    #[serde(rename = "ok")]
    Fine,
    /// Nothing is wrong here, but something has to be done elsewhere.
    Note,
    /// Works, but probably not as meant.
    #[serde(rename = "warn")]
    Warning,
    /// Does not work.
    #[serde(rename = "fail")]
    Failure,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    /// What was looked at.
    pub(crate) about: &'static str,
    pub(crate) text: String,
    /// What to do; may be empty.
    pub(crate) fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Fine => "ok  ",
            Grade::Note => "note",
            Grade::Warning => "warn",
            Grade::Failure => "FAIL",
        };
        write!(f, "{grade}  {}: {}", self.about, self.text)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "\n      fix: {}", self.fix) }
    }
}

pub(super) fn finding(grade: Grade, about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade, about, text: text.into(), fix: fix.into() }
}

pub(super) fn fine(about: &'static str, text: impl Into<String>) -> Finding {
    finding(Grade::Fine, about, text, "")
}

/// Names or networks in words: each once, and no more than a reader takes in.
pub(super) fn a_few(mut all: Vec<String>) -> String {
    const FEW: usize = 4;
    all.sort_unstable();
    all.dedup();
    let more = all.len().saturating_sub(FEW);
    all.truncate(FEW);
    let named = all.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_33_a_finding_reads_the_same_for_programs() {
        let grades = [Grade::Fine, Grade::Note, Grade::Warning, Grade::Failure];
        let lines = grades.map(|grade| serde_json::to_string(&finding(grade, "tun", "pcl0", "a")).unwrap());
        for (grade, line) in ["ok", "note", "warn", "fail"].iter().zip(lines) {
            assert_eq!(line, format!(r#"{{"grade":"{grade}","about":"tun","text":"pcl0","fix":"a"}}"#));
        }
    }
}
