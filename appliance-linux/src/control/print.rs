//! Answers of the daemon as text for people.

use std::fmt::{self, Display, Formatter};

use super::protocol::{
    Cause, ChildStatus, Discarded, Flow, IkeStatus, ManualStatus, PeerState, PeerStatus, Sa, Show, ShownIke, Status,
};
use crate::cli::What;
use crate::ledger::Entry;

/// `status` as a table.
pub(crate) struct Table<'s>(pub(crate) &'s Status);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        writeln!(f, "portcullis {}, up {}", status.version, Age(status.uptime_s))?;
        if status.peers.len() > 1 {
            self.sums(f)?;
        }
        let names = status.peers.iter().flat_map(|peer| {
            std::iter::once(peer.name.len()).chain(peer.children.iter().map(|child| child.name.len() + 2))
        });
        let width = names.max().unwrap_or(4).max(4);
        for peer in &status.peers {
            writeln!(f)?;
            self.peer(f, peer, width)?;
            for child in &peer.children {
                self.child(f, child, width)?;
            }
        }
        for pair in &status.manual {
            writeln!(f)?;
            manual(f, pair)?;
        }
        let boundary = &status.boundary;
        if let Some(why) = &boundary.why {
            writeln!(f, "\nboundary: {}: {why}", boundary.state)?;
        }
        if boundary.put_back > 0 {
            writeln!(f, "\nboundary: {} removed by others and put back", Many(boundary.put_back, "thing"))?;
        }
        if !boundary.reached_in_clear.is_empty() {
            writeln!(f, "\nreached in clear: {}", boundary.reached_in_clear.join(", "))?;
        }
        if !boundary.led_outside.is_empty() {
            writeln!(
                f,
                "\non our side, and led outside where nothing says that they lie: {}",
                boundary.led_outside.join(", ")
            )?;
        }
        if !status.counters.is_empty() {
            writeln!(f, "\ncounters")?;
            for (name, count) in &status.counters {
                let words = meaning(name).filter(|_| *count > 0).map(|words| format!("  {words}")).unwrap_or_default();
                writeln!(f, "  {name:30} {count:>12}{words}")?;
            }
        }
        Ok(())
    }
}

/// What an operator asks about a counter that is not zero, where its name does not say it.
fn meaning(counter: &str) -> Option<&'static str> {
    Some(match counter {
        "InClear" => "came in clear and are to be protected: from the peer past its tunnel, or in its name",
        "ClearIn" => "came in in clear under level \"use\"",
        "ClearOut" => "left in clear under level \"use\": there was no SA for them",
        "GuardOut" => "would have left in clear, past the tunnel's device: `portcullis doctor` may say why",
        "OutNoPolicy" => "fit no child and no policy, or were stopped by the guard",
        "OutNoSa" => "waited in vain for an SA",
        "InBlocked" | "OutBlocked" => "are what a policy discards",
        "InForged" => {
            "fail the integrity check: damaged or forged, or (manual keys) key, integ-key or -esn differ at the two ends"
        }
        "InUnknownSpi" => "for an SA that is not here (any more), as after a restart, or (manual keys) of another spi",
        "InSelectors" => "came out of a tunnel whose networks do not allow them",
        "SendErrors" => "were not taken by the kernel",
        _ => return None,
    })
}

impl Table<'_> {
    /// How many peers and children there are in each state.
    fn sums(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let peers = &self.0.peers;
        let states = [PeerState::Connected, PeerState::Pending, PeerState::Disconnected, PeerState::Error]
            .map(|state| (word(state), peers.iter().filter(|peer| peer.state == state).count()));
        let children = || peers.iter().flat_map(|peer| &peer.children);
        let up = children().filter(|child| child.state == "up").count();
        let down = children().count() - up;
        let sum = |counts: &[(&str, usize)]| {
            let there = counts.iter().filter(|(_, count)| *count > 0);
            there.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
        };
        let of_children = sum(&[("up", up), ("down", down)]);
        writeln!(f, "peers {}: {}; children {}: {of_children}", peers.len(), sum(&states), up + down)
    }

    fn peer(&self, f: &mut Formatter<'_>, peer: &PeerStatus, width: usize) -> fmt::Result {
        write!(f, "{:width$}  {:12}", peer.name, word(peer.state))?;
        match &peer.ike {
            Some(ike) => {
                let called = if ike.called { "called by us" } else { "called by the peer" };
                let nat = nat(ike);
                writeln!(f, "  {} ({}){nat}, {}, {called}", ike.remote, ike.remote_id, ike.suite)?;
                let age = Some(format!("IKE SA {} old", Age(ike.age_s)));
                let heard = ike.heard_s.map(|at| format!("last heard {} ago", Age(at)));
                let rekey = ike.rekey_s.map(|at| format!("next rekey in {}", Age(at)));
                details(f, width, [heard, age, rekey])?;
                if peer.held {
                    writeln!(f, "{:width$}  held down by you, and connected by the peer", "")?;
                } else if peer.state != PeerState::Connected {
                    let next = peer.retry_ms.map(|at| format!(", next try in {}", Age(at.div_ceil(1000))));
                    writeln!(f, "{:width$}  who is called is not there{}", "", next.unwrap_or_default())?;
                }
            }
            None if peer.held => {
                let packet = if peer.start == "on-demand" { ", or a packet for it," } else { "" };
                writeln!(f, "  held down by you: `portcullis up {}`{packet} ends that", peer.name)?;
            }
            None => match peer.retry_ms {
                Some(retry) => writeln!(f, "  {}, next try in {}", peer.start, Age(retry.div_ceil(1000)))?,
                None => writeln!(f, "  {}", peer.start)?,
            },
        }
        // What is wrong with a child stands there.
        let of_a_child = |cause: &&Cause| peer.children.iter().any(|child| child.cause.as_ref() == Some(*cause));
        why(f, width + 2, peer.cause.as_ref().filter(|cause| !of_a_child(cause)))
    }

    fn child(&self, f: &mut Formatter<'_>, child: &ChildStatus, width: usize) -> fmt::Result {
        let name = format!("  {}", child.name);
        let networks = format!("{} == {}", child.local_ts.join(" "), child.remote_ts.join(" "));
        write!(f, "{name:width$}  {:12}  {networks}", child.state)?;
        if let (Some(suite), Some(encap)) = (&child.suite, &child.encap) {
            write!(f, ", {suite}, {encap}")?;
        }
        if child.compressed {
            f.write_str(", compressed")?;
        }
        if child.padded {
            f.write_str(", padded")?;
        }
        if child.held {
            write!(f, ", held down by you")?;
        }
        if let Some(retry) = child.retry_ms {
            write!(f, ", next try in {}", Age(retry.div_ceil(1000)))?;
        }
        writeln!(f)?;
        let rekey = child.rekey_s.map(|at| format!("next rekey in {}", Age(at)));
        let expires = child.expires_s.map(|at| format!("ends in {} if that fails", Age(at)));
        details(f, width, [rekey, expires])?;
        why(f, width + 16, child.cause.as_ref())?;
        if child.packets_in + child.packets_out > 0 || child.rekeys > 0 {
            writeln!(
                f,
                "{:width$}                in {}, {}{}; out {}, {}{}; {}",
                "",
                Many(child.packets_in, "packet"),
                Octets(child.bytes_in),
                Last(child.last_in_s),
                Many(child.packets_out, "packet"),
                Octets(child.bytes_out),
                Last(child.last_out_s),
                Many(child.rekeys, "rekey")
            )?;
        }
        Ok(())
    }
}

/// Two SAs with manual keys.
fn manual(f: &mut Formatter<'_>, pair: &ManualStatus) -> fmt::Result {
    let networks = format!("{} == {}", pair.local_ts.join(" "), pair.remote_ts.join(" "));
    let held = if pair.held { ", held down by you" } else { "" };
    writeln!(f, "{}  {}  {}, {networks}{held}", pair.name, pair.state, pair.remote)?;
    writeln!(f, "  in {} {}, out {} {}, {}", pair.spi_in, pair.suite_in, pair.spi_out, pair.suite_out, pair.encap)?;
    why(f, 2, pair.cause.as_ref())?;
    if pair.packets_in + pair.packets_out == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "  in {}, {}{}; out {}, {}{}",
        Many(pair.packets_in, "packet"),
        Octets(pair.bytes_in),
        Last(pair.last_in_s),
        Many(pair.packets_out, "packet"),
        Octets(pair.bytes_out),
        Last(pair.last_out_s)
    )
}

/// So many of something.
struct Many(u64, &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
    }
}

/// A cause, where there is one, and its hint on the next line.
fn why(f: &mut Formatter<'_>, indent: usize, cause: Option<&Cause>) -> fmt::Result {
    let Some(cause) = cause else { return Ok(()) };
    writeln!(f, "{:indent$}{}: {}", "", cause.code, cause.text)?;
    if cause.hint.is_empty() { Ok(()) } else { writeln!(f, "{:indent$}hint: {}", "", cause.hint) }
}

/// A line of its own for what is known of these.
fn details<const N: usize>(f: &mut Formatter<'_>, width: usize, known: [Option<String>; N]) -> fmt::Result {
    let known: Vec<String> = known.into_iter().flatten().collect();
    if known.is_empty() { Ok(()) } else { writeln!(f, "{:width$}                {}", "", known.join(", ")) }
}

/// On whose side a NAT stands.
fn nat(ike: &IkeStatus) -> &'static str {
    match (ike.nat_local, ike.nat_remote) {
        (true, true) => ", NAT on both sides",
        (true, false) => ", NAT on our side",
        (false, true) => ", NAT on the peer's side",
        (false, false) => "",
    }
}

/// How long ago the last packet was.
struct Last(Option<u64>);

impl Display for Last {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => write!(f, ", last {} ago", Age(seconds)),
            None => Ok(()),
        }
    }
}

fn word(state: PeerState) -> &'static str {
    match state {
        PeerState::Pending => "pending",
        PeerState::Connected => "connected",
        PeerState::Disconnected => "disconnected",
        PeerState::Error => "error",
    }
}

/// A cause with its hint on the next line.
pub(crate) struct Because<'c>(pub(crate) &'c Cause);

impl Display for Because<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.0.code, self.0.text)?;
        if self.0.hint.is_empty() { Ok(()) } else { writeln!(f, "hint: {}", self.0.hint) }
    }
}

/// `show`, or a part of it, in the style of `ipsecctl -s all`.
pub(crate) struct Databases<'s>(pub(crate) &'s Show, pub(crate) Option<What>);

impl Display for Databases<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(show, what) = self;
        let wanted = |part| what.is_none_or(|what| what == part);
        if wanted(What::Ike) {
            section(f, what.is_none(), "IKE", &show.ike, ike)?;
        }
        if wanted(What::Spd) {
            section(f, what.is_none(), "FLOWS", &show.spd, flow)?;
            if !show.discards.is_empty() {
                section(f, what.is_none(), "DISCARDED", &show.discards, dropped)?;
            }
        }
        if wanted(What::Sa) {
            section(f, what.is_none(), "SAD", &show.sad, sa)?;
        }
        if what.is_some_and(|what| what == What::Accounts) || what.is_none() && !show.accounts.is_empty() {
            section(f, what.is_none(), "ACCOUNTS", &show.accounts, account)?;
        }
        Ok(())
    }
}

fn section<T>(
    f: &mut Formatter<'_>,
    titled: bool,
    title: &str,
    lines: &[T],
    line: fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if titled {
        writeln!(f, "{title}:")?;
    }
    if lines.is_empty() {
        writeln!(f, "No {}", if title == "FLOWS" { "flows" } else { "entries" })?;
    }
    for entry in lines {
        line(f, entry)?;
    }
    if titled { writeln!(f) } else { Ok(()) }
}

fn flow(f: &mut Formatter<'_>, flow: &Flow) -> fmt::Result {
    write!(f, "flow esp {} from {} to {}", flow.direction, flow.from, flow.to)?;
    if let Some(peer) = &flow.peer {
        write!(f, " peer {peer}")?;
    }
    if let Some(id) = &flow.local_id {
        write!(f, " srcid {id}")?;
    }
    if let Some(id) = &flow.remote_id {
        write!(f, " dstid {id}")?;
    }
    let kind = match (flow.action.as_str(), flow.level.as_deref()) {
        ("protect", level) => level.unwrap_or("require"),
        ("discard", _) => "deny",
        (other, _) => other,
    };
    write!(f, " type {kind}")?;
    match &flow.child {
        Some(child) => write!(f, " child {child}")?,
        None => write!(f, " priority {}", flow.priority)?,
    }
    if flow.narrowed {
        write!(f, " narrowed")?;
    }
    if let Some(hits) = flow.hits {
        write!(f, " packets {hits}")?;
    }
    if let Some(clear) = flow.clear {
        write!(f, " clear {clear}")?;
    }
    match flow.last_s {
        Some(last) => writeln!(f, " last {} ago", Age(last)),
        None => writeln!(f),
    }
}

fn dropped(f: &mut Formatter<'_>, Discarded { direction, reason, packets }: &Discarded) -> fmt::Result {
    writeln!(f, "drop {direction} {reason} packets {packets}")
}

fn sa(f: &mut Formatter<'_>, sa: &Sa) -> fmt::Result {
    let udp = if sa.encap == "esp" { "" } else { " udpencap" };
    let replaced = if sa.replaced { " replaced" } else { "" };
    let (local, remote) = (sa.local_ts.join(" "), sa.remote_ts.join(" "));
    write!(f, "esp {} from {} to {} spi {} enc {}{udp} child {}", sa.mode, sa.from, sa.to, sa.spi, sa.suite, sa.child)?;
    writeln!(f, " for {local} == {remote}{replaced} packets {} bytes {}", sa.packets, sa.bytes)
}

fn account(f: &mut Formatter<'_>, entry: &Entry) -> fmt::Result {
    let Entry { peer, child, party, packets_in, bytes_in, packets_out, bytes_out } = entry;
    let party = if party.is_empty() { "-" } else { party };
    write!(f, "account {peer}/{child} party {party} in packets {packets_in} bytes {bytes_in} ")?;
    writeln!(f, "out packets {packets_out} bytes {bytes_out}")
}

fn ike(f: &mut Formatter<'_>, ShownIke { peer, state, ike, .. }: &ShownIke) -> fmt::Result {
    let (role, nat) = (if ike.initiator { "initiator" } else { "responder" }, if ike.nat { " nat" } else { "" });
    // What is not known yet has its place all the same.
    let known = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    writeln!(
        f,
        "ike {} {role} {} from {} to {} srcid {} dstid {} spi {} {} age {}{nat}{}",
        known(peer.as_deref().unwrap_or_default()),
        known(&ike.suite),
        ike.local,
        ike.remote,
        known(&ike.local_id),
        ike.remote_id,
        ike.spi_local,
        ike.spi_remote,
        Age(ike.age_s),
        if state == "established" { String::new() } else { format!(" {state}") }
    )
}

/// Seconds, readable.
struct Age(u64);

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes, seconds) = (self.0 / 86_400, self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, _) => write!(f, "{minutes}m{seconds:02}s"),
            (0, _, _) => write!(f, "{hours}h{minutes:02}m"),
            _ => write!(f, "{days}d{hours:02}h"),
        }
    }
}

/// Octets, readable.
struct Octets(u64);

impl Display for Octets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1000.0;
        let mut units = UNITS.iter();
        let mut unit = units.next();
        while value >= 999.95 {
            let Some(larger) = units.next() else { break };
            value /= 1000.0;
            unit = Some(larger);
        }
        write!(f, "{value:.1} {}", unit.unwrap_or(&"PB"))
    }
}

#[cfg(test)]
mod tests;
