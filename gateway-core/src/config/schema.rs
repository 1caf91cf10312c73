//! The one schema of the file: its tables, their keys, and which appliance offers them. docs/configuration.md and
//! docs/rpi.md describe every key.

/// An appliance that reads the file, and what it offers there. A [`Reader`](super::reader::Reader) is given one; what
/// only another one offers is refused by name.
///
/// ```
/// use gateway_core::config::schema::{LINUX, RASPBERRY_PI};
/// assert!(LINUX.keys("the file").contains(&"peer"));
/// assert_eq!(RASPBERRY_PI.keys("[gateway]"), ["log"]);
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Home {
    /// As its operator knows it.
    pub name: &'static str,
    /// What it offers, the whole file first.
    pub tables: &'static [Table],
}

/// A table of the file.
///
/// ```
/// use gateway_core::config::schema::{FILE, LINUX, Table};
/// let Table { title, keys } = &LINUX.tables[0];
/// assert_eq!((*title, *keys), (FILE, &["gateway", "peer", "policy", "sa"][..]));
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// As it is written, `[[peer.child]]`; of the whole file [`FILE`].
    pub title: &'static str,
    /// Its keys and the tables in it.
    pub keys: &'static [&'static str],
}

/// What stands for the title of the whole file.
pub const FILE: &str = "the file";

/// The daemon.
pub static LINUX: Home = Home {
    name: "portcullis for Linux",
    tables: &[
        Table { title: FILE, keys: &["gateway", "peer", "policy", "sa"] },
        Table {
            title: "[gateway]",
            keys: &[
                "control",
                "tun",
                "log",
                "outside",
                "mtu",
                "mss",
                "relay-icmp",
                "check-checksums",
                "replay-window",
                "cookie-threshold",
            ],
        },
        Table {
            title: "[[peer]]",
            keys: &[
                "name",
                "local",
                "remote",
                "local-id",
                "remote-id",
                "psk",
                "psk-file",
                "start",
                "encap",
                "ike",
                "dpd",
                "rekey",
                "child",
            ],
        },
        Table {
            title: "[[peer.child]]",
            keys: &[
                "name",
                "mode",
                "df",
                "local-ts",
                "remote-ts",
                "esp",
                "rekey",
                "lifetime",
                "rekey-bytes",
                "rekey-packets",
                "priority",
                "level",
                "compress",
                "tfc-padding",
            ],
        },
        Table {
            title: "[[policy]]",
            keys: &["action", "protocol", "local", "remote", "local-port", "remote-port", "icmp-type", "priority"],
        },
        Table {
            title: "[[sa]]",
            keys: &[
                "direction",
                "spi",
                "mode",
                "local",
                "remote",
                "suite",
                "key",
                "key-file",
                "integ-key",
                "integ-key-file",
                "encap",
                "df",
                "replay",
                "sequence",
                "local-ts",
                "remote-ts",
            ],
        },
    ],
};

/// The image without an operating system. It has no tunnels yet.
pub static RASPBERRY_PI: Home = Home {
    name: "the Raspberry Pi image",
    tables: &[
        Table { title: FILE, keys: &["gateway", "network", "management"] },
        Table { title: "[gateway]", keys: &["log"] },
        Table { title: "[[network]]", keys: &["port", "address", "router", "fallback"] },
        Table { title: "[management]", keys: &["http-port", "allow-panic"] },
    ],
};

/// All there are.
pub static HOMES: [&Home; 2] = [&LINUX, &RASPBERRY_PI];

impl Home {
    /// What may stand in the table with this title; nothing where it is not offered.
    pub fn keys(&self, title: &str) -> &'static [&'static str] {
        self.tables.iter().find(|table| table.title == title).map_or(&[], |table| table.keys)
    }

    /// The title of the table that `key` is in the table `title`; `None` where it is a plain key.
    fn below(&self, title: &str, key: &str) -> Option<&'static str> {
        let bare = |title: &'static str| title.trim_matches(['[', ']']);
        self.tables.iter().map(|table| table.title).find(|inner| match bare(inner).rsplit_once('.') {
            Some((outer, last)) => last == key && title.trim_matches(['[', ']']) == outer,
            None => title == FILE && bare(inner) == key,
        })
    }
}

/// Another appliance than `home` that offers `key` in the table `title`; with the key's title when it is a table.
pub(super) fn elsewhere(home: &Home, title: &str, key: &str) -> Option<(&'static Home, Option<&'static str>)> {
    let other = HOMES.into_iter().find(|other| *other != home && other.keys(title).contains(&key))?;
    Some((other, other.below(title, key)))
}

#[cfg(test)]
mod tests {
    use std::{assert, assert_eq};

    use super::*;

    #[test]
    fn every_table_but_the_file_is_a_key_of_the_one_around_it() {
        for home in HOMES {
            assert_eq!(home.tables[0].title, FILE);
            let mut reached = 1;
            for table in home.tables {
                for key in table.keys {
                    if let Some(title) = home.below(table.title, key) {
                        assert!(!home.keys(title).is_empty(), "{title}");
                        reached += 1;
                    }
                }
            }
            assert_eq!(reached, home.tables.len(), "{}", home.name);
        }
    }

    #[test]
    fn only_what_another_home_alone_offers_is_found_elsewhere() {
        assert_eq!(elsewhere(&LINUX, FILE, "network"), Some((&RASPBERRY_PI, Some("[[network]]"))));
        assert_eq!(elsewhere(&RASPBERRY_PI, FILE, "peer"), Some((&LINUX, Some("[[peer]]"))));
        assert_eq!(elsewhere(&RASPBERRY_PI, "[gateway]", "tun"), Some((&LINUX, None)));
        assert_eq!(elsewhere(&LINUX, FILE, "child"), None, "it stands in [[peer]]");
        assert_eq!(elsewhere(&LINUX, FILE, "nothing"), None);
    }
}
