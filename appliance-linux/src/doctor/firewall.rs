//! What other tables of nftables (Docker's, ufw's, firewalld's, or the operator's) do with what our device sends and takes.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use gateway_core::config::{Config, Remote};
use ipsec_core::net::AddrRange;

use super::finding::{Finding, Grade, a_few, finding};
use super::host;
use crate::boundary;

/// A chain as nft lists it.
#[derive(Debug, Default)]
struct Chain<'t> {
    name: &'t str,
    /// `type filter hook forward priority filter; policy drop;`; none of a chain that others jump to.
    base: Option<&'t str>,
    rules: Vec<&'t str>,
}

/// A table as nft lists it.
#[derive(Debug)]
struct Table<'t> {
    family: &'t str,
    name: &'t str,
    chains: Vec<Chain<'t>>,
}

/// Where distributions have the rules that nftables.service loads.
const SAVED: [&str; 4] =
    ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf", "/etc/nftables.nft", "/var/lib/nftables/rules-save"];

/// Whether rules were saved with ours among them: nobody else can change the copy of the guard, so that loading them fails as a
/// whole while the daemon runs.
pub(super) fn saved() -> Vec<Finding> {
    saved_in(&SAVED)
}

fn saved_in(files: &[impl AsRef<Path>]) -> Vec<Finding> {
    let files = files.iter().map(AsRef::as_ref);
    let ours = files.filter(|file| fs::read_to_string(file).is_ok_and(|rules| rules.contains(boundary::COPY)));
    ours.map(|file| {
        let file = file.display();
        finding(
            Grade::Warning,
            "saved rules",
            format!("{file} has tables of ours: loading it fails as a whole while the daemon runs"),
            format!("leave the tables whose names begin with portcullis out of {file}"),
        )
    })
    .collect()
}

/// What of the other tables is in the way. Who may not list them sees nothing here: that is told of the guard.
pub(super) fn firewall(config: &Config) -> Vec<Finding> {
    boundary::tables_of_all().map(|text| in_the_way(&text, config)).unwrap_or_default()
}

fn in_the_way(text: &str, config: &Config) -> Vec<Finding> {
    let device = config.gateway.tun.as_str();
    let mut findings = Vec::new();
    for table in tables(text).iter().filter(|table| concerns(table, config) && !table.names(device)) {
        for chain in &table.chains {
            findings.extend(drops(table, chain, device));
        }
        findings.extend(reverse_path(table, config));
        let nat = |chain: &&Chain<'_>| chain.base.is_some_and(|base| base.contains("type nat hook postrouting"));
        if table.chains.iter().any(|chain| nat(&chain)) {
            let rules = table.chains.iter().flat_map(|chain| &chain.rules);
            let rewrites: Vec<String> =
                rules.filter(|rule| rewrites(rule, config)).map(|rule| format!("`{rule}`")).collect();
            if !rewrites.is_empty() {
                let text = format!(
                    "the table {} {} may rewrite the source of what goes to {device}, which then fits no policy: {}",
                    table.family,
                    table.name,
                    a_few(rewrites)
                );
                findings.push(finding(
                    Grade::Note,
                    "nat",
                    text,
                    format!("have such a rule say: oifname != \"{device}\""),
                ));
            }
        }
    }
    findings
}

/// Every table but ours.
fn tables(text: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    // Between its braces; what else stands in a table (a set, a map, a counter) has no rules.
    let mut chain: Option<Chain<'_>> = None;
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &mut chain) {
            (["table", family, name, "{"], _) => tables.push(Table { family, name, chains: Vec::new() }),
            (["chain", name, "{"], _) => chain = Some(Chain { name, ..Chain::default() }),
            (["}"], Some(_)) => {
                if let (Some(table), Some(chain)) = (tables.last_mut(), chain.take()) {
                    table.chains.push(chain);
                }
            }
            (["type", _, "hook", ..], Some(chain)) => chain.base = Some(line),
            ([_, ..], Some(chain)) => chain.rules.push(line),
            _ => {}
        }
    }
    tables.retain(|table| !boundary::is_table_of_ours(table.name));
    tables
}

impl Table<'_> {
    /// Whether somebody thought of our device here.
    fn names(&self, device: &str) -> bool {
        let name = format!("\"{device}\"");
        self.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.contains(&name))
    }
}

/// Whether a table is of a family that is used here.
fn concerns(table: &Table<'_>, config: &Config) -> bool {
    let used = |v4: bool| {
        let inside = config.traffic().flat_map(|traffic| traffic.remote).any(|remote| remote.addrs.is_ipv4() == v4);
        let peers = config.peers.iter().flat_map(|peer| &peer.remote).filter_map(Remote::address);
        let mut remotes = peers.chain(config.manual.iter().map(|pair| pair.remote));
        inside || remotes.any(|addr| addr.is_ipv4() == v4)
    };
    match table.family {
        "ip" => used(true),
        "ip6" => used(false),
        family => family == "inet",
    }
}

/// What a rule does with every packet, without the counter in front of it.
fn verdict_of_all(rule: &str) -> &str {
    match rule.strip_prefix("counter packets ") {
        // The counts, with a word in between.
        Some(rest) => rest.splitn(4, ' ').nth(3).unwrap_or_default(),
        None => rule,
    }
}

/// A chain that drops what nobody let pass, and what is to be let pass there.
fn drops(table: &Table<'_>, chain: &Chain<'_>, device: &str) -> Option<Finding> {
    let base = chain.base.filter(|base| base.starts_with("type filter hook"))?;
    let verdicts = || chain.rules.iter().map(|rule| verdict_of_all(rule));
    let last = verdicts().next_back().unwrap_or_default();
    let drops =
        base.contains("policy drop") || ["drop", "reject"].contains(&last.split(' ').next().unwrap_or_default());
    if !drops || verdicts().any(|verdict| verdict == "accept") {
        return None;
    }
    let (what, allow) = match base.split_whitespace().nth(3)? {
        "forward" => {
            ("what is forwarded from and to", format!("iifname \"{device}\" accept and oifname \"{device}\" accept"))
        }
        "input" => (
            "IKE and ESP that come in, and what comes for this machine by",
            format!("udp dport {{ 500, 4500 }} accept, meta l4proto esp accept and iifname \"{device}\" accept"),
        ),
        "output" => (
            "our IKE and ESP, and what this machine sends to",
            format!("udp sport {{ 500, 4500 }} accept, meta l4proto esp accept and oifname \"{device}\" accept"),
        ),
        _ => return None,
    };
    let Table { family, name, .. } = table;
    let text = format!(
        "the chain {} of the table {family} {name} drops {what} {device}, unless a rule lets it pass",
        chain.name
    );
    Some(finding(Grade::Note, "firewall", text, format!("where none does, let pass there: {allow}")))
}

/// Rules that drop what comes in by another interface than that of the route back (firewalld's for IPv6): from a peer inside its
/// own remote network that is IKE and ESP, as the route to it leads to our device. The kernel's rp_filter is not among these.
fn reverse_path(table: &Table<'_>, config: &Config) -> Option<Finding> {
    let rule = table.chains.iter().flat_map(|chain| &chain.rules).find(|rule| is_reverse_path(rule))?;
    let both = table.family == "inet";
    let v4 = (both || table.family == "ip") && !rule.contains("nfproto ipv6");
    let v6 = (both || table.family == "ip6") && !rule.contains("nfproto ipv4");
    let mut families = [true, false].into_iter().filter(|of_v4| if *of_v4 { v4 } else { v6 });
    let fix = "have that rule look at the source alone, by whichever interface (firewalld: IPv6_rpfilter=loose), or not at what \
               comes from there";
    let what = format!("the table {} {} has a filter of reverse paths (`{rule}`)", table.family, table.name);
    if let Some(peer) = families.clone().find_map(|v4| host::inside_its_own(config, v4)) {
        let text = format!(
            "{what}, and an address of \"{}\" lies inside its own remote-ts: what it sends is dropped",
            peer.name
        );
        return Some(finding(Grade::Failure, "rp_filter", text, fix));
    }
    families.any(|v4| host::bypasses(config, v4)).then(|| {
        let text =
            format!("{what}: what a bypass policy lets in clear may be dropped when it comes from a remote network");
        finding(Grade::Warning, "rp_filter", text, fix)
    })
}

/// Whether a rule drops by the interface of the route back, as nft lists it: its own, or a match of iptables.
fn is_reverse_path(rule: &str) -> bool {
    // What it says in the log may name what it is not.
    let bare: String = rule.split('"').step_by(2).collect();
    let rule = bare.as_str();
    let own = rule.split_once("fib saddr ").and_then(|(_, rest)| rest.split_once(" missing"));
    let strict = own.is_some_and(|(asked, _)| asked.split(' ').any(|word| word == "iif"));
    let drops = rule.split(' ').any(|word| ["drop", "DROP", "reject"].contains(&word));
    drops && (strict || rule.contains("rpfilter") && !rule.contains("--loose"))
}

/// Whether a rule rewrites the source of packets of ours that go to our device, as far as it tells.
fn rewrites(rule: &str, config: &Config) -> bool {
    let rewrites = ["masquerade", "MASQUERADE", "snat "].iter().any(|word| rule.contains(word));
    // Another interface is named.
    let elsewhere =
        ["oifname ", "oif "].iter().any(|word| rule.contains(word) && !rule.contains(&format!("{word}!= ")));
    let source = rule.split_once(" saddr ").map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
    let locals = || config.traffic().flat_map(|traffic| traffic.local);
    let from_ours =
        source.and_then(network).is_none_or(|net| locals().any(|local| local.addrs.intersect(&net).is_some()));
    rewrites && !elsewhere && from_ours
}

/// A network, or one address, as nft writes it; `None`: a set, or what else there may be.
fn network(word: &str) -> Option<AddrRange> {
    match word.split_once('/') {
        Some((addr, prefix)) => AddrRange::prefix(addr.parse().ok()?, prefix.parse().ok()?),
        None => word.parse::<IpAddr>().ok().map(AddrRange::single),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn config() -> Config {
        let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                    local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n";
        Config::parse(text).unwrap().0
    }

    /// Puts these rules in the place of all.
    fn load(rules: &str) {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let nft = |arguments: &[&str], input: &str| {
            let mut nft = Command::new("nft").args(arguments).env("PATH", &path).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success(), "{input}");
        };
        nft(&["flush", "ruleset"], "");
        nft(&["-f", "-"], rules);
    }

    /// What is said where this is loaded.
    fn told(rules: &str) -> Vec<String> {
        load(rules);
        firewall(&config()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_filter_of_reverse_paths_drops_is_told_of_a_peer_inside_its_own_network_and_of_bypasses() {
        in_a_network_of_its_own(|| {
            let config = |remote: &str, policy: &str| {
                let text = format!(
                    "[[peer]]\nname = \"a\"\nlocal = \"2001:db8:a::2\"\nremote = \"2001:db8:b::1\"\n\
                     psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                     local-ts = \"fd02::/64\"\nremote-ts = \"{remote}\"\n{policy}"
                );
                Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
            };
            let (inside, beside) = (config("2001:db8:b::/64", ""), config("fd01::/64", ""));
            let bypass = config("fd01::/64", "[[policy]]\naction = \"bypass\"\nremote = \"fd01::9\"\n");
            let of_v4 = config("fd01::/64", "[[policy]]\naction = \"bypass\"\nremote = \"10.1.0.9\"\n");
            let loaded = |rule: &str| {
                let table = format!(
                    "table inet firewalld {{\n chain pre {{\n  type filter hook prerouting priority -140\n  {rule}\n }}\n}}\n"
                );
                load(&table);
                boundary::tables_of_all().unwrap()
            };
            let graded = |text: &str, config: &Config| {
                let found = in_the_way(text, config).into_iter().filter(|found| found.about == "rp_filter");
                found.map(|found| found.grade).collect::<Vec<_>>()
            };
            for strict in [
                "meta nfproto ipv6 fib saddr . iif oif missing drop",
                "meta nfproto ipv6 fib saddr . mark . iif oif missing log prefix \"rpfilter_DROP: \" drop",
            ] {
                let text = loaded(strict);
                assert_eq!(graded(&text, &inside), [Grade::Failure], "{text}");
                assert_eq!(graded(&text, &bypass), [Grade::Warning], "{text}");
                assert_eq!(graded(&text, &of_v4), [], "{text}");
                assert_eq!(graded(&text, &beside), [], "{text}");
            }
            for harmless in [
                "meta nfproto ipv6 fib saddr . mark oif missing drop",
                "meta nfproto ipv4 fib saddr . iif oif missing drop",
                "meta nfproto ipv6 fib saddr . iif oif missing counter",
                "meta nfproto ipv6 fib saddr . mark oif missing log prefix \"rpfilter_DROP: \" drop",
            ] {
                assert_eq!(graded(&loaded(harmless), &inside), [], "{harmless}");
            }
            // As newer versions of nft list the first of them.
            let newer =
                loaded("meta nfproto ipv6 fib saddr . iif oif missing drop").replace("oif missing", "check missing");
            assert_eq!(graded(&newer, &inside), [Grade::Failure]);
        });
    }

    #[test]
    fn a_saved_ruleset_with_our_tables_is_told() {
        let folder = std::env::temp_dir().join(format!("portcullis-saved-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, rules: &str| {
            fs::write(folder.join(name), rules).unwrap();
            folder.join(name)
        };
        let ours = write("ours.conf", "flush ruleset\ntable inet portcullis_live_7 {\n}\n");
        let others = write("others.conf", "table inet filter {\n}\n");
        let told = saved_in(&[ours.clone(), others, folder.join("none.conf")]);
        let _ = fs::remove_dir_all(&folder);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].text.starts_with(&format!("{} has tables of ours", ours.display())), "{told:?}");
    }

    const DOCKER: &str = "table ip filter {\n chain DOCKER-USER {\n }\n chain FORWARD {\n  type filter hook forward priority \
                          filter; policy drop;\n  counter jump DOCKER-USER\n  oifname \"docker0\" counter accept\n }\n}\n";
    const FIREWALLD: &str = "table inet firewalld {\n chain filter_INPUT {\n  type filter hook input priority filter + 10; \
                             policy accept;\n  ct state established,related accept\n  iifname \"lo\" accept\n  reject with \
                             icmpx admin-prohibited\n }\n}\n";

    #[test]
    fn f_83_doctor_names_the_chains_of_others_that_drop_what_nobody_lets_pass() {
        in_a_network_of_its_own(|| {
            let lines = told(DOCKER);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with(
                "note  firewall: the chain FORWARD of the table ip filter drops what is forwarded from and to pcl0"
            ));
            assert!(
                lines[0].ends_with("let pass there: iifname \"pcl0\" accept and oifname \"pcl0\" accept"),
                "{lines:?}"
            );
            let lines = told(FIREWALLD);
            assert!(
                lines.len() == 1 && lines[0].contains("the chain filter_INPUT of the table inet firewalld"),
                "{lines:?}"
            );
            assert!(lines[0].contains("udp dport { 500, 4500 } accept, meta l4proto esp accept"), "{lines:?}");
            let output = "table inet own {\n chain out {\n  type filter hook output priority 0; policy drop;\n }\n}\n";
            assert!(told(output)[0].contains("udp sport { 500, 4500 }"), "{:?}", told(output));
            for fine in [
                DOCKER.replace("chain DOCKER-USER {", "chain DOCKER-USER {\n  iifname \"pcl0\" counter accept"),
                DOCKER.replace("policy drop", "policy accept"),
                DOCKER.replace("oifname \"docker0\" counter accept", "counter accept"),
                DOCKER.replace("table ip ", "table ip6 "),
                FIREWALLD.replace("firewalld", "portcullis"),
                String::new(),
            ] {
                assert_eq!(told(&fine), [""; 0], "{fine}");
            }
        });
    }

    #[test]
    fn f_83_doctor_names_the_rules_that_rewrite_what_goes_to_our_device() {
        in_a_network_of_its_own(|| {
            let nat = |rule: &str| {
                told(&format!(
                    "table ip nat {{\n chain out {{\n  type nat hook postrouting priority srcnat;\n  {rule}\n }}\n}}\n"
                ))
            };
            for rule in
                ["masquerade", "oifname != \"docker0\" counter masquerade", "ip saddr 10.2.3.0/24 snat to 192.0.2.2"]
            {
                let lines = nat(rule);
                assert!(
                    lines.len() == 1 && lines[0].starts_with("note  nat: the table ip nat may rewrite"),
                    "{lines:?}"
                );
                assert!(lines[0].ends_with("say: oifname != \"pcl0\""), "{lines:?}");
            }
            for rule in [
                "oifname \"wan0\" masquerade",
                "oifname != \"pcl0\" masquerade",
                "ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade",
                "counter",
            ] {
                assert_eq!(nat(rule), [""; 0], "{rule}");
            }
        });
    }
}
