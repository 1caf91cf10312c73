//! What a cause lists to be compared: networks and proposals.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use ipsec_core::net::TrafficSelector;

use crate::config::selector::Selector;
use crate::config::{Child, Peer};

pub(super) fn nets(selectors: &[TrafficSelector]) -> String {
    let mut text = String::new();
    for selector in selectors {
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(&Selector(selector).to_string());
    }
    text
}

/// Our side's selectors, of every child.
pub(super) fn children(peer: Option<&Peer>) -> String {
    networks(peer.map(|peer| peer.children.as_slice()).unwrap_or_default())
}

/// Our side's selectors.
pub(super) fn networks(children: &[Child]) -> String {
    let mut text = String::new();
    for child in children {
        text.push_str(if text.is_empty() { " (" } else { "; " });
        text.push_str(&format!("{}: {} == {}", child.name, nets(&child.local_ts), nets(&child.remote_ts)));
    }
    text.push_str(if text.is_empty() { "" } else { ")" });
    text
}

/// Our side's ESP proposals, for causes where the peer does not tell its own.
pub(super) fn ciphers(peer: Option<&Peer>) -> String {
    let children = peer.map(|peer| peer.children.as_slice()).unwrap_or_default();
    children.iter().map(|child| listed(&format!("esp of {}", child.name), &child.esp)).collect()
}

/// Our side's list, for causes where the peer does not tell its own.
pub(super) fn listed<P: fmt::Display>(key: &str, proposals: &[P]) -> String {
    let mut text = format!(" ({key}:");
    for proposal in proposals {
        text.push_str(&format!(" {proposal}"));
    }
    text.push(')');
    text
}
