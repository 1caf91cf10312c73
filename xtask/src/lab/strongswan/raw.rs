//! What `swanctl --raw` prints: `list-sa event {net {version=2 local-ts=[10.1.0.0/16] child-sas {…}}}`.

use std::collections::BTreeMap;

use crate::outcome::Result;

/// One pair of braces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    values: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
    sections: Vec<(String, Section)>,
}

impl Section {
    /// A value; empty when it is not there.
    pub(crate) fn value(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// A list; empty when it is not there.
    pub(crate) fn list(&self, key: &str) -> &[String] {
        self.lists.get(key).map_or(&[], Vec::as_slice)
    }

    /// The sections inside, in order, with their names.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.sections.iter().map(|(name, section)| (name.as_str(), section))
    }

    /// A section by name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections().find(|(own, _)| *own == name).map(|(_, section)| section)
    }
}

/// The `list-sa event` sections of the text; replies are passed over.
///
/// # Errors
/// When braces or brackets do not match.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>> {
    let mut events = Vec::new();
    for line in text.lines() {
        if let Some(body) = line.strip_prefix("list-sa event {") {
            let (section, rest) = section(body)?;
            if !rest.trim().is_empty() {
                return Err(format!("swanctl --raw: {rest:?} after the end").into());
            }
            events.push(section);
        }
    }
    Ok(events)
}

/// The section whose opening brace stands before `text`, and what follows its closing brace.
fn section(mut text: &str) -> Result<(Section, &str)> {
    let mut found = Section::default();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((found, rest));
        }
        let end = text.find(['=', '{', '}']).ok_or("swanctl --raw: a section without an end")?;
        let (name, rest) = text.split_at(end);
        let name = name.trim().to_owned();
        if let Some(rest) = rest.strip_prefix('{') {
            let (inner, rest) = section(rest)?;
            found.sections.push((name, inner));
            text = rest;
        } else if let Some(rest) = rest.strip_prefix("=[") {
            let (list, rest) = rest.split_once(']').ok_or("swanctl --raw: a list without an end")?;
            found.lists.insert(name, list.split_whitespace().map(str::to_owned).collect());
            text = rest;
        } else if let Some(rest) = rest.strip_prefix('=') {
            let end = rest.find([' ', '}']).unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            found.values.insert(name, value.to_owned());
            text = rest;
        } else {
            return Err(format!("swanctl --raw: {name:?} has no value").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_sections_lists_and_values_are_read() {
        let text = "list-sa event {net {version=2 state=ESTABLISHED child-sas {net-1 {name=net spi-in=c0ffee01 \
                    local-ts=[10.1.0.0/16 10.9.0.0/16] remote-ts=[]} net-2 {}}}}\nlist-sas reply {}\n";
        let events = parse(text).unwrap();
        let net = events[0].section("net").unwrap();
        assert_eq!(net.value("state"), "ESTABLISHED");
        let child = net.section("child-sas").unwrap().section("net-1").unwrap();
        assert_eq!(child.list("local-ts"), ["10.1.0.0/16", "10.9.0.0/16"]);
        assert_eq!((child.value("spi-in"), child.value("absent")), ("c0ffee01", ""));
        assert_eq!(net.section("child-sas").unwrap().sections().count(), 2);
    }

    #[test]
    fn a_foundwithout_an_end_is_an_error() {
        assert!(parse("list-sa event {net {version=2").is_err());
    }
}
