//! The streams of numbered packets. Even ones are IPv4, odd ones IPv6.

/// From our host to the peer's.
pub(super) const FROM_LAN: [u8; 2] = [0, 1];
/// From the peer's host to ours.
pub(super) const TO_LAN: [u8; 2] = [2, 3];
/// From the gateway itself to the peer's host, its source left to the kernel.
pub(super) const FROM_GATEWAY: [u8; 2] = [4, 5];
/// Forged outside, for our host.
pub(super) const FORGED_TO_LAN: [u8; 2] = [6, 7];
/// Forged outside, for the gateway's address inside.
pub(super) const FORGED_TO_GATEWAY: [u8; 2] = [8, 9];
/// From our host to a network that a policy lets by.
pub(super) const BYPASSED_FROM_LAN: [u8; 2] = [10, 11];
/// From the gateway itself to there.
pub(super) const BYPASSED_FROM_GATEWAY: [u8; 2] = [12, 13];
/// From there to our host, in clear.
pub(super) const BYPASSED_TO_LAN: [u8; 2] = [14, 15];
/// From our host to a network that a policy discards.
pub(super) const DISCARDED_FROM_LAN: [u8; 2] = [16, 17];
/// From the gateway itself to there.
pub(super) const DISCARDED_FROM_GATEWAY: [u8; 2] = [18, 19];
/// From there to our host, in clear.
pub(super) const DISCARDED_TO_LAN: [u8; 2] = [20, 21];
/// From the gateway's address inside to the peer's host.
pub(super) const FROM_INSIDE: [u8; 2] = [22, 23];
/// From a network that a policy discards to our host, sent by the peer's into its tunnel.
pub(super) const DISCARDED_IN_TUNNEL: [u8; 2] = [24, 25];
/// How many there are.
pub(super) const FLOWS: usize = 26;

/// Words for a flow.
pub(super) fn name(flow: u8) -> String {
    let (words, _) = [
        ("LAN to peer", FROM_LAN),
        ("peer to LAN", TO_LAN),
        ("gateway to peer", FROM_GATEWAY),
        ("forged to LAN", FORGED_TO_LAN),
        ("forged to gateway", FORGED_TO_GATEWAY),
        ("LAN to bypassed", BYPASSED_FROM_LAN),
        ("gateway to bypassed", BYPASSED_FROM_GATEWAY),
        ("bypassed to LAN", BYPASSED_TO_LAN),
        ("LAN to discarded", DISCARDED_FROM_LAN),
        ("gateway to discarded", DISCARDED_FROM_GATEWAY),
        ("discarded to LAN", DISCARDED_TO_LAN),
        ("gateway's inside to peer", FROM_INSIDE),
        ("discarded to LAN by the tunnel", DISCARDED_IN_TUNNEL),
    ]
    .into_iter()
    .find(|(_, flows)| flows.contains(&flow))
    .unwrap_or(("no flow of ours", [0, 0]));
    format!("{words}, IPv{}", if flow.is_multiple_of(2) { 4 } else { 6 })
}
