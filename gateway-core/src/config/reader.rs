//! Walks the tables of the file and turns every surprise into an error with its place. An appliance reads its own
//! sections with it.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display};
use core::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{ConfigError, Position, Warning};
use super::grammar::Bad;
use super::schema::{self, Home};

/// More errors than this are not told: the first ones explain the rest.
const ERRORS_MAX: usize = 50;

/// The text as TOML has it.
///
/// ```
/// use gateway_core::config::reader::Document;
/// let document = Document::parse("[management]\nhttp-port = 8080\n").unwrap();
/// assert!(document.root().has("management"));
/// let error = Document::parse("[management\n").unwrap_err();
/// assert_eq!(error.at.line, 1);
/// ```
pub struct Document<'t>(Spanned<DeTable<'t>>);

/// The text being read, for whom, and what was noticed so far.
///
/// ```
/// use gateway_core::config::{reader::{Document, Reader}, schema::RASPBERRY_PI};
/// let text = "[management]\nhttp-port = 0\n";
/// let document = Document::parse(text).unwrap();
/// let mut reader = Reader::new(text, &RASPBERRY_PI);
/// let management = reader.table(document.root(), "management", "[management]").unwrap();
/// assert_eq!(reader.number(management, "http-port", 1..=u16::MAX), None);
/// let errors = reader.finish().unwrap_err();
/// assert_eq!(errors[0].to_string(), "found 0, expected a whole number 1 to 65535");
/// ```
pub struct Reader<'t> {
    text: &'t str,
    home: &'static Home,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

/// A table, and how to call it in messages.
///
/// ```
/// use gateway_core::config::reader::{Document, Placed, Reader, Section, Word};
/// use gateway_core::config::schema::RASPBERRY_PI;
/// let text = "[[network]]\nport = \"usb\"\naddress = \"dhcp\"\n";
/// let document = Document::parse(text).unwrap();
/// let mut reader = Reader::new(text, &RASPBERRY_PI);
/// let network: Section<'_, '_> = reader.tables(document.root(), "network", "[[network]]")[0];
/// let port: Word<'_> = reader.word(network, "port", "a name in quotes").unwrap();
/// assert_eq!((port.text, port.at), ("usb", 19));
/// let address: Placed<usize> = reader.read(network, "address", "a word", |word| Ok(word.len())).unwrap();
/// assert_eq!((address.value, reader.position(address.at).to_string()), (4, "3:11".to_owned()));
/// assert!(network.has_beside(&["port"]));
/// ```
#[derive(Clone, Copy)]
pub struct Section<'v, 't> {
    /// As the schema has it.
    pub title: &'static str,
    /// Offset of its header.
    pub at: usize,
    table: &'v DeTable<'t>,
}

/// A string value and where it stands.
#[derive(Clone, Copy)]
pub struct Word<'v> {
    /// The value.
    pub text: &'v str,
    /// Offset of its opening quote.
    pub at: usize,
    /// Whether the characters in the file are those of the value, so that places inside can be told.
    plain: bool,
}

impl Word<'_> {
    fn offset(&self, inside: usize) -> usize {
        if self.plain { self.at.saturating_add(1).saturating_add(inside) } else { self.at }
    }
}

/// A value and the offset where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Placed<T> {
    /// Offset in the text.
    pub at: usize,
    /// The value.
    pub value: T,
}

impl<'t> Document<'t> {
    /// Reads text as TOML.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &'t str) -> Result<Self, ConfigError> {
        DeTable::parse(text).map(Self).map_err(|error| syntax(text, &error))
    }

    /// The whole file.
    pub fn root(&self) -> Section<'_, 't> {
        Section::new(schema::FILE, 0, self.0.get_ref())
    }

    /// What holds copies of the text.
    pub(super) fn table_mut(&mut self) -> &mut DeTable<'t> {
        self.0.get_mut()
    }
}

impl<'v, 't> Section<'v, 't> {
    fn new(title: &'static str, at: usize, table: &'v DeTable<'t>) -> Self {
        Self { title, at, table }
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether there is any key but these.
    pub fn has_beside(&self, keys: &[&str]) -> bool {
        self.table.keys().any(|key| !keys.contains(&key.get_ref().as_ref()))
    }

    /// Offset of a key, or of the section when it has none.
    pub fn place(&self, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.at, |(key, _)| key.span().start)
    }
}

impl<'t> Reader<'t> {
    /// Nothing is noticed yet.
    pub fn new(text: &'t str, home: &'static Home) -> Self {
        Self { text, home, lines: lines(text), errors: Vec::new(), warnings: Vec::new() }
    }

    /// What was noticed, in the order of the file.
    ///
    /// # Errors
    /// Everything that is wrong, when something is.
    pub fn finish(mut self) -> Result<Vec<Warning>, Vec<ConfigError>> {
        self.errors.sort_by_key(|error| error.at);
        self.warnings.sort_by_key(|warning| warning.at);
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }

    /// Line and column of an offset.
    pub fn position(&self, at: usize) -> Position {
        position(self.text, &self.lines, at)
    }

    /// Whether more warnings are told.
    pub(super) fn has_room(&self) -> bool {
        self.warnings.len() < ERRORS_MAX
    }

    /// Notices something wrong at an offset.
    pub fn error(&mut self, at: usize, found: impl Into<String>, expected: impl Into<String>, hint: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            let at = self.position(at);
            self.errors.push(ConfigError { at, found: found.into(), expected: expected.into(), hint: hint.into() });
        }
    }

    /// Notices something wrong that has its place already.
    pub(super) fn refuse(&mut self, error: ConfigError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }

    /// Notices something that works and is probably not meant.
    pub fn warn(&mut self, at: usize, message: impl Into<String>) {
        if self.has_room() {
            let at = self.position(at);
            self.warnings.push(Warning { at, message: message.into() });
        }
    }

    /// Notices a word that does not fit.
    pub fn bad(&mut self, word: Word<'_>, bad: Bad) {
        let found = match bad.found {
            Some(found) => format!("\"{found}\""),
            None => "a key that cannot be read".to_string(),
        };
        self.error(word.offset(bad.at), found, bad.expected, bad.hint);
    }

    /// Complains about keys that the home does not offer there.
    pub fn known(&mut self, section: Section<'_, '_>) {
        let known = self.home.keys(section.title);
        for key in section.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let (found, hint) = match schema::elsewhere(self.home, section.title, name) {
                Some((other, title)) => {
                    let what = title.map_or_else(|| format!("\"{name}\" in {}", section.title), ToString::to_string);
                    (format!("{what}, which is of {}", other.name), format!("this is {}", self.home.name))
                }
                None => {
                    let near = nearest(name, known).map(|near| format!("did you mean \"{near}\"?"));
                    (format!("the unknown key \"{name}\" in {}", section.title), near.unwrap_or_default())
                }
            };
            self.error(key.span().start, found, format!("one of {}", known.join(", ")), hint);
        }
    }

    /// Complains that a key is missing.
    pub fn missing(&mut self, section: Section<'_, '_>, key: &str, hint: impl Into<String>) {
        self.error(section.at, format!("{} without \"{key}\"", section.title), format!("the key \"{key}\""), hint);
    }

    /// The table under `key`.
    pub fn table<'v>(&mut self, section: Section<'v, 't>, key: &str, title: &'static str) -> Option<Section<'v, 't>> {
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
    pub fn tables<'v>(&mut self, section: Section<'v, 't>, key: &str, title: &'static str) -> Vec<Section<'v, 't>> {
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
    pub fn word<'v>(&mut self, section: Section<'v, 't>, key: &str, expected: &str) -> Option<Word<'v>> {
        let value = section.table.get(key)?;
        self.word_of(value, expected)
    }

    /// The strings under `key`: one string, or a list of them that is not empty.
    pub fn words<'v>(&mut self, section: Section<'v, 't>, key: &str, expected: &str) -> Option<Vec<Word<'v>>> {
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
    pub fn read<T>(
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
    pub fn read_all<T>(
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
    pub fn choice<T: Copy>(&mut self, section: Section<'_, 't>, key: &str, choices: &[(&str, T)]) -> Option<T> {
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
    pub fn number<T>(&mut self, section: Section<'_, 't>, key: &str, range: RangeInclusive<T>) -> Option<T>
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

// There may be keys in the text: only names are shown.

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document")
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.home.name)
    }
}

impl fmt::Debug for Section<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({})", self.title)
    }
}

impl fmt::Debug for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({})", self.at)
    }
}

/// Offsets at which lines begin.
fn lines(text: &str) -> Vec<usize> {
    let behind = |(at, _): (usize, &str)| at.saturating_add(1);
    core::iter::once(0).chain(text.match_indices('\n').map(behind)).collect()
}

fn position(text: &str, lines: &[usize], at: usize) -> Position {
    let line = lines.partition_point(|start| *start <= at);
    let start = line.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or(0);
    let column = text.get(start..at).map_or(0, |before| before.chars().count());
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Position { line: number(line), column: number(column.saturating_add(1)) }
}

/// An error of the TOML itself. Its line is not repeated: it may hold a key.
fn syntax(text: &str, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    let hint = match text.get(span.clone()) {
        Some(key) if message.starts_with("duplicate key") => format!(
            "\"{key}\" stands here a second time; several peers, children or policies take double brackets, and each \
             [[peer.child]] stands below its [[peer]]"
        ),
        _ => "every text value stands in quotes".to_string(),
    };
    ConfigError {
        at: position(text, &lines(text), span.start),
        found: format!("text that is not TOML ({message})"),
        expected: "key = \"value\", [table] or [[table]]".to_string(),
        hint,
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
