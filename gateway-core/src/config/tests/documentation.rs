//! docs/configuration.md says what is built.

use schema::{FILE, HOMES, LINUX, RASPBERRY_PI};

use super::*;
use crate::config::secret::EXAMPLES;

/// The `toml` blocks of docs/configuration.md.
fn documented() -> Vec<&'static str> {
    let text = include_str!("../../../../docs/configuration.md");
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect()
}

#[test]
fn every_example_of_the_documentation_is_read() {
    let blocks = documented();
    assert!(blocks.len() >= 3);
    for block in blocks {
        // The keys in them are refused, as anybody has them.
        let keys = EXAMPLES.iter().filter(|key| block.contains(**key));
        let refused = errors(block);
        assert!(
            refused.iter().all(|error| error.hint.contains("of an example in the documentation")),
            "{}",
            told(&refused)
        );
        assert_eq!(refused.len(), keys.clone().count(), "{}", told(&refused));
        let fresh = keys.fold(block.to_string(), |text, key| text.replace(key, &format!("00{}", &key[2..])));
        let (config, warnings) = parse(&fresh);
        // Some show policies alone, which is warned of, and one manual keys, each of which is.
        let doubtful = if config.manual.is_empty() { usize::from(config.peers.is_empty()) } else { 2 };
        assert_eq!(warnings.len(), doubtful * config.manual.len().max(1), "{warnings:?}");
        assert!(!config.peers.is_empty() || !config.policies.is_empty() || !config.manual.is_empty());
    }
}

#[test]
fn every_key_is_documented() {
    let text = include_str!("../../../../docs/configuration.md");
    for key in LINUX.tables.iter().filter(|table| table.title != FILE).flat_map(|table| table.keys) {
        assert!(text.contains(&format!("`{key}`")) || *key == "child", "{key}");
    }
    assert!(text.contains(&ike_core::proposal::IkeProposal::default().to_string()));
    assert!(text.contains(&ike_core::proposal::EspProposal::default().to_string()));
    assert!(text.contains(&format!("| `mtu` | `{}` |", Settings::MTU)));
    assert!(text.contains(&format!("| `replay-window` | `{}` |", Settings::REPLAY_WINDOW)));
    assert!(text.contains(&format!("| `cookie-threshold` | `{}` |", Settings::COOKIE_THRESHOLD)));
    assert!(text.contains(&format!("| `dpd` | `\"{}s\"` |", Peer::DPD.as_secs())));
    assert!(text.contains(&format!("| `rekey` | `\"{}h\"` |", Peer::REKEY.as_secs() / 3600)));
    assert!(text.contains(&format!("| `priority` | `{}` |", Child::PRIORITY)));
}

#[test]
fn which_home_offers_what_is_documented() {
    let text = include_str!("../../../../docs/configuration.md");
    assert!(text.contains(&format!("\n| | {} | {} |\n", LINUX.name, RASPBERRY_PI.name)));
    let titles: std::collections::BTreeSet<_> =
        HOMES.iter().flat_map(|home| home.tables).map(|table| table.title).collect();
    for title in titles.into_iter().filter(|title| *title != FILE) {
        let row = text.lines().find_map(|line| line.strip_prefix(&format!("| `{title}` | ")));
        let cells: Vec<_> = row.unwrap_or_else(|| panic!("no row for {title}")).split(" | ").collect();
        for (home, cell) in HOMES.iter().zip(cells) {
            assert_eq!(home.keys(title).is_empty(), cell.starts_with("no"), "{title} of {}: {cell}", home.name);
        }
    }
    let refused = &errors("[[network]]\n")[0];
    assert!(text.contains(&format!("\nportcullis.toml:{}: {refused}\n", refused.at)), "{refused}");
}
