//! What `status` tells, and whether that is as it should be.
//!
//! `status --json` prints the `status` object of the answer as it is: keys are added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cause::Cause;

/// Everything about the gateway that changes by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) uptime_s: u64,
    pub(crate) peers: Vec<PeerStatus>,
    /// SAs with manual keys.
    #[serde(default)]
    pub(crate) manual: Vec<ManualStatus>,
    /// What keeps packets from crossing in clear.
    #[serde(default)]
    pub(crate) boundary: BoundaryStatus,
    /// Discarded packets and the like, by the names of /proc/net/xfrm_stat where they have one.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// Routes, rules and guard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BoundaryStatus {
    /// "closed": all stands as it should; "weak": no guard, or none for some children; "trouble": the kernel refused something.
    pub(crate) state: String,
    /// "nftables"; "nftables, not flush-proof": without the copy that nobody else can change; or "none".
    pub(crate) guard: String,
    /// Why it is not closed.
    pub(crate) why: Option<String>,
    /// How many routes, rules and guards others removed and we put back.
    pub(crate) put_back: u64,
    /// Seconds since 1970.
    pub(crate) last_put_back: Option<u64>,
    /// Attached networks that are reached in clear although a remote network covers them.
    pub(crate) reached_in_clear: Vec<String>,
    /// Children that connect everything with everything: what no route of the operator leads to the device is in clear.
    #[serde(default)]
    pub(crate) left_to_routes: Vec<String>,
    /// Children whose packets pass in clear while there is no SA for them.
    #[serde(default)]
    pub(crate) clear_meanwhile: Vec<String>,
    /// Networks on our side, or "the rest of" one, that are led outside where nothing says that they lie: what peers
    /// send there is dropped, where there is a guard.
    #[serde(default)]
    pub(crate) led_outside: Vec<String>,
}

impl Status {
    /// Leaves one peer, or one child of one ("cloud/net"); `false` when there is no such.
    pub(crate) fn narrow(&mut self, name: &str) -> bool {
        let (peer, child) = name.split_once('/').map_or((name, None), |(peer, child)| (peer, Some(child)));
        self.peers.retain(|status| status.name == peer);
        for status in &mut self.peers {
            status.children.retain(|status| child.is_none_or(|child| child == status.name));
        }
        self.manual
            .retain(|status| status.name == name || status.name.split_once('/').is_some_and(|(all, _)| all == name));
        if !self.manual.is_empty() {
            return true;
        }
        self.peers.iter().any(|status| child.is_none() || !status.children.is_empty())
    }

    /// Whether all is as it should be; with `name`, to which it is narrowed, only of that.
    pub(crate) fn is_fine(&self, name: Option<&str>) -> bool {
        let manual = self.manual.iter().all(|pair| pair.cause.is_none() && (pair.state == "up" || name.is_none()));
        manual && self.peers.iter().all(|peer| peer.is_fine(name)) && (name.is_some() || self.boundary.is_fine())
    }
}

impl BoundaryStatus {
    /// Whether all stands that can. What the operator's own routes decide about is weak, and no failure.
    fn is_fine(&self) -> bool {
        self.state != "trouble" && self.guard != "none"
    }
}

/// A configured peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    pub(crate) name: String,
    pub(crate) state: PeerState,
    /// Why it is not connected, or was not the last time.
    pub(crate) cause: Option<Cause>,
    pub(crate) ike: Option<IkeStatus>,
    pub(crate) children: Vec<ChildStatus>,
    /// active, passive or on-demand.
    pub(crate) start: String,
    /// The operator took it down; it stays down until `up`.
    #[serde(default)]
    pub(crate) held: bool,
    /// Milliseconds until it is tried again.
    pub(crate) retry_ms: Option<u64>,
}

/// Where a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerState {
    /// Nothing has been tried yet, or a handshake is under way.
    Pending,
    /// The peer is authenticated.
    Connected,
    /// It was connected, or silent; it is tried again.
    Disconnected,
    /// One side refuses the other: somebody has to change a configuration.
    Error,
}

/// An IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IkeStatus {
    /// Whether we began it; of one that a rekey made, whether we rekeyed.
    pub(crate) initiator: bool,
    /// Whether we called the peer, whoever rekeyed since.
    #[serde(default)]
    pub(crate) called: bool,
    /// Sixteen hexadecimal digits.
    pub(crate) spi_local: String,
    pub(crate) spi_remote: String,
    /// In strongSwan's words.
    pub(crate) suite: String,
    /// Address and port.
    pub(crate) local: String,
    pub(crate) remote: String,
    /// Whether a NAT stands in between, and on whose side.
    pub(crate) nat: bool,
    #[serde(default)]
    pub(crate) nat_local: bool,
    #[serde(default)]
    pub(crate) nat_remote: bool,
    pub(crate) age_s: u64,
    /// Seconds since the last authenticated message of the peer.
    pub(crate) heard_s: Option<u64>,
    /// Seconds until it is rekeyed.
    pub(crate) rekey_s: Option<u64>,
    pub(crate) remote_id: String,
    /// Who we say we are.
    pub(crate) local_id: String,
}

/// A configured child and its SA pair, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildStatus {
    pub(crate) name: String,
    /// "up" or "down".
    pub(crate) state: String,
    pub(crate) mode: String,
    pub(crate) suite: Option<String>,
    /// "0x" and eight hexadecimal digits.
    pub(crate) spi_in: Option<String>,
    pub(crate) spi_out: Option<String>,
    /// As negotiated; as configured while the child is down.
    pub(crate) local_ts: Vec<String>,
    pub(crate) remote_ts: Vec<String>,
    /// Inner octets and packets over all rekeys, reloads, and restarts since there is a directory to keep that in.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) rekeys: u64,
    /// "esp" or "esp-in-udp".
    pub(crate) encap: Option<String>,
    /// What it carries may be compressed: both sides want it.
    #[serde(default)]
    pub(crate) compressed: bool,
    /// What we send looks longer than it is.
    #[serde(default)]
    pub(crate) padded: bool,
    pub(crate) age_s: Option<u64>,
    /// The operator took it down; it stays down until `up`.
    #[serde(default)]
    pub(crate) held: bool,
    /// Seconds since a packet last went through, each way.
    pub(crate) last_in_s: Option<u64>,
    pub(crate) last_out_s: Option<u64>,
    /// Seconds until it is rekeyed, and until it is deleted when that does not succeed.
    pub(crate) rekey_s: Option<u64>,
    pub(crate) expires_s: Option<u64>,
    /// Why it is not up, or what is wrong with it.
    #[serde(default)]
    pub(crate) cause: Option<Cause>,
    /// Milliseconds until a connected peer is asked for it again.
    #[serde(default)]
    pub(crate) retry_ms: Option<u64>,
}

/// Two SAs with manual keys, one for each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManualStatus {
    /// "sa/" and the SPI that we send with.
    pub(crate) name: String,
    /// "up": both are there; "down".
    pub(crate) state: String,
    pub(crate) mode: String,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) suite_in: String,
    pub(crate) suite_out: String,
    pub(crate) spi_in: String,
    pub(crate) spi_out: String,
    /// "esp" or "esp-in-udp", of what we send.
    pub(crate) encap: String,
    pub(crate) local_ts: Vec<String>,
    pub(crate) remote_ts: Vec<String>,
    /// Inner octets and packets, as a child's.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    /// The operator took it down; it stays down until `up`.
    #[serde(default)]
    pub(crate) held: bool,
    /// Seconds since a packet last went through, each way.
    pub(crate) last_in_s: Option<u64>,
    pub(crate) last_out_s: Option<u64>,
    /// Why one of them is not there, or will not be for long, or why the last packet was not sent.
    pub(crate) cause: Option<Cause>,
}

impl PeerStatus {
    /// Whether it should be up by itself: it begins by itself and nobody took it down.
    pub(crate) fn is_wanted(&self) -> bool {
        self.start == "active" && !self.held
    }

    /// Whether `status` has nothing to say against it, or by `name` against this peer or this child of it, which has to be up
    /// then. Of a peer that is meant as a whole a child that somebody took down may be missing.
    fn is_fine(&self, name: Option<&str>) -> bool {
        let by_itself = name.is_some_and(|name| name.contains('/'));
        let down = |child: &ChildStatus| child.spi_in.is_none() && (by_itself || !child.held);
        let up = self.state == PeerState::Connected && !self.children.iter().any(down);
        up || name.is_none() && !self.is_wanted()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each with all that it may have, and nothing null.
    const STATUS: &str = r#"{"version":"1","uptime_s":1,"counters":{},
        "boundary":{"state":"closed","guard":"nftables","why":"","put_back":0,"last_put_back":1,"reached_in_clear":[""],
            "left_to_routes":[""],"clear_meanwhile":[""],"led_outside":[""]},
        "peers":[{"name":"cloud","state":"connected","cause":{"code":"","text":""},"start":"active","retry_ms":1,
            "ike":{"initiator":false,"spi_local":"1","spi_remote":"2","suite":"","local":"","remote":"","nat":true,"age_s":1,
                   "heard_s":1,"rekey_s":1,"remote_id":"left.lab","local_id":"right.lab"},
            "children":[{"name":"net","state":"up","mode":"tunnel","suite":"","spi_in":"","spi_out":"","local_ts":[""],
                   "remote_ts":[""],"bytes_in":1,"bytes_out":1,"packets_in":1,"packets_out":1,"rekeys":0,"encap":"",
                   "age_s":1,"last_in_s":1,"last_out_s":1,"rekey_s":1,"expires_s":1,"cause":{"code":"","text":""},
                   "retry_ms":1}]}],
        "manual":[{"name":"sa/1","state":"up","mode":"tunnel","local":"","remote":"","suite_in":"","suite_out":"","spi_in":"",
            "spi_out":"","encap":"","local_ts":[""],"remote_ts":[""],"bytes_in":1,"bytes_out":1,"packets_in":1,"packets_out":1,
            "last_in_s":1,"last_out_s":1,"cause":{"code":"","text":""}}]}"#;

    /// What the manual names of their values.
    const WORDS: [&str; 15] = [
        "closed",
        "connected",
        "down",
        "esp",
        "esp-in-udp",
        "nftables",
        "nftables, not flush-proof",
        "none",
        "not-sent",
        "sa/",
        "the rest of",
        "trouble",
        "up",
        "waiting-for-answer",
        "weak",
    ];

    /// The keys of an object, those of what is in it too: `peers[].ike.nat`.
    fn keys(value: &serde_json::Value, place: &str, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(object) => object.iter().for_each(|(key, value)| {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                keys(value, &place, found);
                found.insert(place);
            }),
            serde_json::Value::Array(list) => {
                assert!(!list.is_empty(), "{place} may hold more");
                list.iter().for_each(|value| keys(value, &format!("{place}[]"), found));
            }
            serde_json::Value::Null => panic!("{place} may hold more"),
            _ => {}
        }
    }

    #[test]
    fn f_79_the_manual_has_every_key_of_status_and_no_other() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let mut ours = BTreeSet::new();
        keys(&serde_json::to_value(&status).unwrap(), "", &mut ours);

        let manual = include_str!("../../../../docs/operations.md");
        let table = manual.split("| key | meaning |").nth(1).unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let mut told = BTreeSet::new();
        for row in rows {
            let [_, places, meaning, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
            for place in quoted(places) {
                // Of what has keys itself the meaning names them, and words that stand under them.
                let has_keys = ours.iter().any(|key| key.starts_with(&format!("{place}.")));
                let is_key = |word: &String| !WORDS.contains(&word.as_str()) && !ours.contains(word);
                let words = quoted(meaning).into_iter().filter(is_key);
                told.extend(words.filter(|_| has_keys).map(|word| format!("{place}.{word}")));
                told.insert(place.trim_end_matches("[]").to_owned());
            }
        }
        // What holds others.
        told.insert("peers".to_owned());
        assert_eq!(told, ours);
    }
}
