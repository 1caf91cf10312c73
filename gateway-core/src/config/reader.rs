//! Walks the tables of the file and turns every surprise into an error with its place.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{ConfigError, Position, Warning};
use super::grammar::Bad;

/// More errors than this are not told: the first ones explain the rest.
const ERRORS_MAX: usize = 50;

/// The text being read and what was noticed so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

/// A table, and how to call it in messages.
#[derive(Clone, Copy)]
pub(super) struct Section<'v, 't> {
    pub(super) title: &'static str,
    /// Offset of its header.
    pub(super) at: usize,
    table: &'v DeTable<'t>,
}

/// A string value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Word<'v> {
    pub(super) text: &'v str,
    /// Offset of its opening quote.
    pub(super) at: usize,
    /// Whether the characters in the file are those of the value, so that places inside can be told.
    plain: bool,
}

impl Word<'_> {
    fn offset(&self, inside: usize) -> usize {
        if self.plain { self.at.saturating_add(1).saturating_add(inside) } else { self.at }
    }
}

/// A value and the offset where it stands.
#[derive(Clone, Copy)]
pub(super) struct Placed<T> {
    pub(super) at: usize,
    pub(super) value: T,
}

impl<'v, 't> Section<'v, 't> {
    pub(super) fn new(title: &'static str, at: usize, table: &'v DeTable<'t>) -> Self {
        Self { title, at, table }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Offset of a key, or of the section when it has none.
    pub(super) fn place(&self, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.at, |(key, _)| key.span().start)
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let behind = |(at, _): (usize, &str)| at.saturating_add(1);
        let lines = core::iter::once(0).chain(text.match_indices('\n').map(behind)).collect();
        Self { text, lines, errors: Vec::new(), warnings: Vec::new() }
    }

    /// What was noticed, in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Warning>, Vec<ConfigError>> {
        self.errors.sort_by_key(|error| error.at);
        self.warnings.sort_by_key(|warning| warning.at);
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }

    pub(super) fn position(&self, at: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position { line: number(line), column: number(column.saturating_add(1)) }
    }

    /// Whether more warnings are told.
    pub(super) fn has_room(&self) -> bool {
        self.warnings.len() < ERRORS_MAX
    }

    pub(super) fn error(
        &mut self,
        at: usize,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.errors.len() < ERRORS_MAX {
            let at = self.position(at);
            self.errors.push(ConfigError { at, found: found.into(), expected: expected.into(), hint: hint.into() });
        }
    }

    pub(super) fn warn(&mut self, at: usize, message: impl Into<String>) {
        if self.has_room() {
            let at = self.position(at);
            self.warnings.push(Warning { at, message: message.into() });
        }
    }

    pub(super) fn bad(&mut self, word: Word<'_>, bad: Bad) {
        let found = match bad.found {
            Some(found) => format!("\"{found}\""),
            None => "a key that cannot be read".to_string(),
        };
        self.error(word.offset(bad.at), found, bad.expected, bad.hint);
    }

    /// Complains about keys that are not in `known`.
    pub(super) fn known(&mut self, section: Section<'_, '_>, known: &[&str]) {
        for key in section.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = nearest(name, known).map_or(String::new(), |near| format!("did you mean \"{near}\"?"));
            let expected = format!("one of {}", known.join(", "));
            self.error(key.span().start, format!("the unknown key \"{name}\" in {}", section.title), expected, hint);
        }
    }

    /// Complains that a key is missing.
    pub(super) fn missing(&mut self, section: Section<'_, '_>, key: &str, hint: impl Into<String>) {
        self.error(section.at, format!("{} without \"{key}\"", section.title), format!("the key \"{key}\""), hint);
    }

    /// The table under `key`.
    pub(super) fn table<'v>(
        &mut self,
        section: Section<'v, 't>,
        key: &str,
        title: &'static str,
    ) -> Option<Section<'v, 't>> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(title, value.span().start, table)),
            other => {
                let hint = if other.is_array() { format!("write {title} with single brackets") } else { String::new() };
                self.error(section.place(key), described(other), format!("the table {title}"), hint);
                None
            }
        }
    }

    /// The tables under `key`, in the order of the file.
    pub(super) fn tables<'v>(
        &mut self,
        section: Section<'v, 't>,
        key: &str,
        title: &'static str,
    ) -> Vec<Section<'v, 't>> {
        let Some(value) = section.table.get(key) else { return Vec::new() };
        let hint = format!("write {title} with double brackets, once for each");
        let DeValue::Array(items) = value.get_ref() else {
            self.error(section.place(key), described(value.get_ref()), format!("the table {title}"), hint);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(title, item.span().start, table)),
                other => self.error(item.span().start, described(other), format!("the table {title}"), hint.clone()),
            }
        }
        sections
    }

    /// The string under `key`.
    pub(super) fn word<'v>(&mut self, section: Section<'v, 't>, key: &str, expected: &str) -> Option<Word<'v>> {
        let value = section.table.get(key)?;
        self.word_of(value, expected)
    }

    /// The strings under `key`: one string, or a list of them that is not empty.
    pub(super) fn words<'v>(&mut self, section: Section<'v, 't>, key: &str, expected: &str) -> Option<Vec<Word<'v>>> {
        let value = section.table.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.word_of(value, expected).map(|word| alloc::vec![word]);
        };
        if items.is_empty() {
            self.error(value.span().start, "an empty list", expected, "leave the key out for its default");
            return None;
        }
        items.iter().map(|item| self.word_of(item, expected)).collect()
    }

    fn word_of<'v>(&mut self, value: &'v Spanned<DeValue<'t>>, expected: &str) -> Option<Word<'v>> {
        let span = value.span();
        let DeValue::String(text) = value.get_ref() else {
            let hint = if value.get_ref().is_array() || value.get_ref().is_table() { "" } else { "write it in quotes" };
            self.error(span.start, described(value.get_ref()), expected, hint);
            return None;
        };
        let inside = span.start.saturating_add(1)..span.end.saturating_sub(1);
        let plain = self.text.get(inside) == Some(text.as_ref());
        Some(Word { text, at: span.start, plain })
    }

    /// The string under `key`, read by `grammar`.
    pub(super) fn read<T>(
        &mut self,
        section: Section<'_, 't>,
        key: &str,
        expected: &str,
        grammar: impl FnOnce(&str) -> Result<T, Bad>,
    ) -> Option<Placed<T>> {
        let word = self.word(section, key, expected)?;
        grammar(word.text).map(|value| Placed { at: word.at, value }).map_err(|bad| self.bad(word, bad)).ok()
    }

    /// The string or strings under `key`, each read by `grammar`.
    pub(super) fn read_all<T>(
        &mut self,
        section: Section<'_, 't>,
        key: &str,
        expected: &str,
        grammar: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Vec<Placed<T>>> {
        let words = self.words(section, key, expected)?;
        let mut values = Vec::with_capacity(words.len());
        for word in words {
            match grammar(word.text) {
                Ok(value) => values.push(Placed { at: word.at, value }),
                Err(bad) => self.bad(word, bad),
            }
        }
        Some(values)
    }

    /// The string under `key`, one of `choices`.
    pub(super) fn choice<T: Copy>(&mut self, section: Section<'_, 't>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let mut expected = String::new();
        for (word, _) in choices {
            if !expected.is_empty() {
                expected.push_str(" or ");
            }
            expected.push_str(&format!("\"{word}\""));
        }
        let word = self.word(section, key, &expected)?;
        let found = choices.iter().find(|(name, _)| *name == word.text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let hint = nearest(word.text, &names).map_or(String::new(), |near| format!("did you mean \"{near}\"?"));
            self.bad(word, Bad::whole(word.text, expected).hint(hint));
        }
        found
    }

    /// The integer under `key`, inside `range`.
    pub(super) fn number<T>(&mut self, section: Section<'_, 't>, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = section.table.get(key)?;
        let expected = format!("a whole number {} to {}", range.start(), range.end());
        let DeValue::Integer(written) = value.get_ref() else {
            self.error(value.span().start, described(value.get_ref()), expected, "write the number without quotes");
            return None;
        };
        let digits: String = written.as_str().chars().filter(|letter| *letter != '_').collect();
        let number = i64::from_str_radix(&digits, written.radix()).ok().and_then(|number| T::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.error(value.span().start, written.as_str(), expected, "");
        }
        number
    }
}

/// A value as a message names it: its kind only, for it may be a secret in the wrong place.
fn described(value: &DeValue<'_>) -> Cow<'static, str> {
    Cow::Borrowed(match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number without quotes",
        DeValue::Float(_) => "a decimal number without quotes",
        DeValue::Boolean(_) => "true or false without quotes",
        DeValue::Datetime(_) => "a date or time without quotes",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    })
}

/// The word of `known` that a typing error may have turned into `word`.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = if word.len() < 4 { 1 } else { (word.len() / 3).clamp(2, 3) };
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    (near.0 <= allowed).then_some(near.1)
}

/// How many characters are to be put in, taken out or changed to make `left` of `right` (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    if left.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (done, from) in left.chars().enumerate() {
        let mut corner = done;
        let mut before = done.saturating_add(1);
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = before;
        }
        for (cell, to) in cells.zip(right.chars()) {
            let changed = corner.saturating_add(usize::from(from != to));
            corner = *cell;
            *cell = changed.min(before.saturating_add(1)).min(corner.saturating_add(1));
            before = *cell;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
