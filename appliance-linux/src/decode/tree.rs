//! What is told of a packet: a tree that prints as indented lines and as JSON.

use std::fmt::{self, Display, Formatter, Write as _};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Octets that a line shows of a longer field; JSON has all of them.
const SHOWN: usize = 64;

/// A thing, what is known of it, and what is inside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    what: String,
    facts: Vec<(&'static str, Fact)>,
    inside: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Fact {
    Plain(Value),
    Octets(Vec<u8>),
}

impl Node {
    /// A thing that nothing is known of yet. Texts of a peer have to be escaped before they come here.
    pub(super) fn new(what: impl Display) -> Self {
        Self { what: what.to_string(), facts: Vec::new(), inside: Vec::new() }
    }

    /// What stands in place of something that cannot be read.
    pub(super) fn malformed(what: impl Display, octets: &[u8]) -> Self {
        Self::new(what).with("error", "malformed").octets("data", octets)
    }

    /// Adds a text, a number, or something that holds.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((name, Fact::Plain(value.into())));
        self
    }

    /// Adds a text.
    pub(super) fn word(self, name: &'static str, value: impl Display) -> Self {
        self.with(name, value.to_string())
    }

    /// Adds octets in hex, if there are any.
    pub(super) fn octets(mut self, name: &'static str, octets: &[u8]) -> Self {
        if !octets.is_empty() {
            self.facts.push((name, Fact::Octets(octets.to_vec())));
        }
        self
    }

    /// Puts others inside.
    pub(super) fn holding(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        self.inside.extend(others);
        self
    }

    fn lines(&self, f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:1$}{2}", "", 2 * depth, self.what)?;
        for (name, fact) in &self.facts {
            match fact {
                Fact::Plain(Value::Bool(holds)) => write!(f, "{}{name}", if *holds { " " } else { " not " })?,
                Fact::Plain(Value::String(text)) => write!(f, " {name} {text}")?,
                Fact::Plain(value) => write!(f, " {name} {value}")?,
                Fact::Octets(octets) => {
                    let shown = octets.get(..SHOWN).unwrap_or(octets);
                    let more = if shown.len() < octets.len() { "…" } else { "" };
                    write!(f, " {name} {}{more}", hex(shown))?;
                }
            }
        }
        f.write_char('\n')?;
        self.inside.iter().try_for_each(|node| node.lines(f, depth + 1))
    }
}

/// A line for each node, those inside another one indented.
impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.lines(f, 0)
    }
}

/// An object: `what`, the facts by their names, and `inside`, which is a list.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("what", &self.what)?;
        for (name, fact) in &self.facts {
            match fact {
                Fact::Plain(value) => map.serialize_entry(name, value)?,
                Fact::Octets(octets) => map.serialize_entry(name, &hex(octets))?,
            }
        }
        if !self.inside.is_empty() {
            map.serialize_entry("inside", &self.inside)?;
        }
        map.end()
    }
}

/// Octets in hex.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Node {
        let inner = Node::new("proposal").with("number", 1).octets("spi", &[0xab, 1]).octets("data", &[]);
        Node::new("SA").with("critical", true).with("known", false).word("by", "name").holding([inner])
    }

    #[test]
    fn a_tree_prints_as_indented_lines() {
        assert_eq!(tree().to_string(), "SA critical not known by name\n  proposal number 1 spi ab01\n");
    }

    #[test]
    fn a_tree_is_an_object_for_programs() {
        let json = r#"{"what":"SA","critical":true,"known":false,"by":"name","inside":[{"what":"proposal","number":1,"spi":"ab01"}]}"#;
        assert_eq!(serde_json::to_string(&tree()).unwrap(), json);
    }

    #[test]
    fn of_a_long_field_a_line_shows_the_beginning_and_json_all() {
        for (len, cut) in [(64, false), (65, true)] {
            let node = Node::new("V").octets("data", &vec![0xaa; len]);
            assert_eq!(node.to_string().ends_with("aa…\n"), cut, "{len}");
            assert!(serde_json::to_string(&node).unwrap().contains(&"aa".repeat(len)));
        }
    }
}
