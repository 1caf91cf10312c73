mod documentation;
mod manual;
mod mistakes;
mod printed;
mod secrets;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

/// A configuration that is right, to be spoilt or extended.
const GOOD: &str = r#"[gateway]
control = "/run/portcullis/control.sock"
tun     = "pcl0"
log     = "info"

[[peer]]
name      = "cloud"
local     = "192.0.2.2"
remote    = "192.0.2.1"
local-id  = "right.lab"
remote-id = "left.lab"
psk       = "a pre-shared key of some length"
start     = "active"
encap     = "auto"
ike       = ["aes256gcm16-prfsha384-x25519", "aes128gcm16-prfsha256-ecp256"]
dpd       = "20s"

[[peer.child]]
name      = "net"
mode      = "tunnel"
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.1.0.0/16"]
esp       = ["aes256gcm16", "aes128gcm16"]
rekey     = "1h"

[[policy]]
action      = "bypass"
protocol    = "tcp"
remote-port = "22"
priority    = 100
"#;

fn parse(text: &str) -> (Config, Vec<Warning>) {
    Config::parse(text).unwrap_or_else(|errors| panic!("{}", told(&errors)))
}

fn told(errors: &[ConfigError]) -> String {
    errors.iter().map(|error| format!("{}: {error}\n", error.at)).collect()
}

fn errors(text: &str) -> Vec<ConfigError> {
    Config::parse(text).err().unwrap_or_default()
}

#[test]
fn the_contract_of_the_readme_is_read() {
    let (config, warnings) = parse(GOOD);
    assert_eq!(warnings, []);
    assert_eq!(config.gateway.tun, "pcl0");
    let peer = &config.peers[0];
    assert_eq!(peer.remote, [Remote::Address("192.0.2.1".parse().unwrap())]);
    assert_eq!(peer.local_id.as_ref().unwrap().to_string(), "right.lab");
    assert_eq!((peer.start, peer.encap, peer.ike.len()), (Start::Active, Encapsulation::Auto, 2));
    assert_eq!(peer.dpd, Duration::from_secs(20));
    assert_eq!(peer.secret.loaded().unwrap().expose(), b"a pre-shared key of some length");
    let child = &peer.children[0];
    assert_eq!(selector::Selector(&child.local_ts[0]).to_string(), "10.2.0.0/16");
    assert_eq!((child.rekey.as_secs(), child.lifetime.as_secs()), (3600, 3960));
    let policy = &config.policies[0];
    assert_eq!((policy.action, policy.protocol), (Action::Bypass, 6));
    assert_eq!(policy.remote_ports, PortRange::single(22));
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = "[[peer]]\nname='a'\nlocal='any'\nlocal-id='a.example.org'\nremote='gw.example.org'\npsk-file='a.psk'\n\
                [[peer.child]]\nname='n'\nlocal-ts='10.0.0.0/8'\nremote-ts='any'\n";
    let text = text.replace("'10.0.0.0/8'", "['10.0.0.0/8', '2001:db8::/32']");
    let (config, warnings) = parse(&text);
    assert_eq!(warnings, []);
    assert_eq!(config.gateway.control, Settings::CONTROL);
    assert_eq!((config.gateway.mtu, config.gateway.replay_window, config.gateway.cookie_threshold), (1400, 1024, 16));
    let peer = &config.peers[0];
    assert_eq!((peer.dpd, peer.rekey), (Peer::DPD, Peer::REKEY));
    assert_eq!(peer.remote, [Remote::Name("gw.example.org".into())]);
    assert_eq!(peer.start, Start::Active);
    assert_eq!(peer.children[0].remote_ts.len(), 2);
    assert_eq!(peer.children[0].priority, Child::PRIORITY);
    let passive = parse(&text.replace("'gw.example.org'", "'any'\nremote-id='any'")).0;
    assert_eq!(passive.peers[0].start, Start::Passive);
    assert!(passive.peers[0].remote.is_empty() && passive.peers[0].remote_id.is_none());
}

#[test]
fn suites_that_anybody_can_read_or_that_are_on_their_way_out_are_taken_with_a_word_about_it() {
    let told = |esp: &str| {
        let text =
            GOOD.lines().map(|line| if line.starts_with("esp ") { esp } else { line }).collect::<Vec<_>>().join("\n");
        let (config, warnings) = parse(&text);
        assert_eq!(config.peers[0].children[0].esp.len(), 1);
        warnings.into_iter().map(|warning| warning.message).collect::<Vec<_>>()
    };
    for readable in ["null-sha256", "aes256gmac", "aes256gcm16-aes128gmac"] {
        assert!(told(&format!("esp = \"{readable}\""))[0].contains("read by anybody"), "{readable}");
    }
    assert!(told("esp = \"aes256-sha1\"")[0].contains("MUST-"));
    assert!(told("esp = \"aes256-sha256\"").is_empty());
    let (config, _) = parse(&GOOD.lines().filter(|line| !line.starts_with("esp ")).collect::<Vec<_>>().join("\n"));
    let defaults: Vec<_> = config.peers[0].children[0].esp.iter().map(ToString::to_string).collect();
    assert_eq!(defaults[1], "aes256-aes128-sha256-sha384-sha512-x25519-ecp256-modpnone", "for peers without AEADs");
}

#[test]
fn a6_nothing_is_compressed_unless_a_child_says_so_and_another_wish_is_another_child() {
    let with = |compress: &str| GOOD.replace("rekey     = \"1h\"\n", &format!("compress = \"{compress}\"\n"));
    let compresses = |text: &str| parse(text).0.peers[0].children[0].compress;
    assert_eq!([GOOD, &with("no"), &with("yes")].map(compresses), [false, false, true]);
    let refused = format!("{:?}", Config::parse(&with("deflate")).unwrap_err());
    assert!(refused.contains("yes") && refused.contains("no"), "{refused}");
    let [plain, compressed] = [with("no"), with("yes")].map(|text| parse(&text).0);
    let changed = PeerDiff::Changed { children: Vec::from([("net".into(), ChildDiff::Replaced)]) };
    assert_eq!(Config::diff(&plain, &compressed).peers, [(plain.peers[0].name.clone(), changed)]);
    assert!(Config::diff(&plain, &parse(&with("no")).0).is_empty());
}

#[test]
fn the_df_bit_of_a_tunnel_is_clear_unless_it_is_copied_or_set() {
    let with = |lines: &str| GOOD.replace("rekey     = \"1h\"\n", lines);
    let read = |lines: &str| parse(&with(lines)).0;
    let bits = [
        ("", DontFragment::Clear),
        ("clear", DontFragment::Clear),
        ("copy", DontFragment::Copy),
        ("set", DontFragment::Set),
    ];
    for (word, bit) in bits {
        let lines = if word.is_empty() { String::new() } else { format!("df = \"{word}\"\n") };
        assert_eq!(read(&lines).peers[0].children[0].dont_fragment, bit, "{word}");
    }
    let refused = told(&errors(&with("df = \"copied\"\n")));
    assert!(refused.contains("expected \"clear\" or \"copy\" or \"set\""), "{refused}");
    let children = Vec::from([("net".into(), ChildDiff::Changed)]);
    let diff = Config::diff(&read(""), &read("df = \"set\"\n")).peers;
    assert_eq!(diff, [("cloud".into(), PeerDiff::Changed { children })], "its SAs go on");
    // Between two hosts there is no other header.
    let hosts = |df: &str| {
        let hosts = GOOD.replace("10.2.0.0/16", "192.0.2.2").replace("10.1.0.0/16", "192.0.2.1");
        hosts.replace("mode      = \"tunnel\"", &format!("mode = \"transport\"\ndf = \"{df}\""))
    };
    assert_eq!(parse(&hosts("clear")).0.peers[0].children[0].mode, Mode::Transport);
    let refused = told(&errors(&hosts("copy")));
    assert!(refused.starts_with("21:1: found \"df\" in transport mode, expected mode = \"tunnel\""), "{refused}");
}

#[test]
fn packets_look_as_long_as_they_are_unless_a_child_in_tunnel_mode_pads_them_within_the_mtu() {
    let with = |lines: &str| GOOD.replace("rekey     = \"1h\"\n", lines);
    let read = |lines: &str| parse(&with(lines)).0;
    for (lines, len) in [("", None), ("tfc-padding = 64\n", Some(64)), ("tfc-padding = 1400\n", Some(1400))] {
        assert_eq!(read(lines).peers[0].children[0].tfc_padding, len);
    }
    let children = Vec::from([("net".into(), ChildDiff::Changed)]);
    let diff = Config::diff(&read(""), &read("tfc-padding = 1000\n")).peers;
    assert_eq!(diff, [("cloud".into(), PeerDiff::Changed { children })], "its SAs go on");
    let hosts = GOOD.replace("10.2.0.0/16", "192.0.2.2").replace("10.1.0.0/16", "192.0.2.1");
    for (text, says) in [
        (with("tfc-padding = 63\n"), "expected"),
        (with("tfc-padding = 1401\n"), "found 1401 with mtu = 1400 under [gateway], expected no more than the mtu"),
        (with("tfc-padding = 1000\ndf = \"copy\"\n"), "found \"tfc-padding\" with \"df\", expected one of them alone"),
        (with("tfc-padding = 1000\ncompress = \"yes\"\n"), "found \"tfc-padding\" of what is compressed"),
        (
            hosts.replace("mode      = \"tunnel\"", "mode = \"transport\"\ntfc-padding = 1000"),
            "found \"tfc-padding\" in transport mode, expected mode = \"tunnel\", or no \"tfc-padding\"",
        ),
    ] {
        let refused = told(&errors(&text));
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn icmp_errors_are_relayed_and_checksums_left_alone_unless_it_says_so() {
    let read = |lines: &str| parse(&GOOD.replacen("[gateway]\n", &format!("[gateway]\n{lines}"), 1)).0;
    let found = |lines: &str| (read(lines).gateway.relay_icmp, read(lines).gateway.check_checksums);
    assert_eq!(found(""), (true, false));
    let other = "relay-icmp = \"no\"\ncheck-checksums = \"yes\"\n";
    assert_eq!(found(other), (false, true));
    assert_eq!(Config::diff(&read(""), &read(other)).settings, ["relay-icmp", "check-checksums"]);
}

#[test]
fn what_two_hosts_say_to_each_other_has_the_addresses_by_which_they_are_reached() {
    let child = |local: &str, remote: &str| {
        let hosts = GOOD.replace("mode      = \"tunnel\"", "mode = \"transport\"");
        hosts.replace("[\"10.2.0.0/16\"]", local).replace("[\"10.1.0.0/16\"]", remote)
    };
    let both = child("\"192.0.2.2[tcp]\"", "\"192.0.2.1\"");
    assert_eq!(parse(&both).1, []);
    let refused = told(&errors(&child("\"192.0.2.9\"", "\"192.0.2.1\"")));
    assert!(refused.starts_with("21:13: found 192.0.2.9 in transport mode, expected 192.0.2.2; "), "{refused}");
    let several = both.replace("\"192.0.2.1\"\nlocal-id", "[\"192.0.2.7\", \"192.0.2.8\"]\nlocal-id");
    let refused = told(&errors(&several));
    assert!(refused.contains("22:13: found 192.0.2.1 in transport mode, expected 192.0.2.7 or 192.0.2.8"), "{refused}");
    // What is not written is not known.
    for (side, open) in [
        ("local     = \"192.0.2.2\"", "local = \"any\""),
        ("remote    = \"192.0.2.1\"", "remote = [\"192.0.2.7\", \"gate.example\"]"),
    ] {
        assert_eq!(parse(&both.replace(side, open)).0.peers[0].children.len(), 1, "{open}");
    }
}

#[test]
fn e1_a_child_that_is_not_protected_while_there_is_no_sa_is_warned_of_and_named() {
    let with = |level: &str| GOOD.replace("rekey     = \"1h\"\n", &format!("level = \"{level}\"\n"));
    let (lax, warnings) = parse(&with("use"));
    assert_eq!((lax.peers[0].children[0].level, lax.clear_meanwhile()), (Level::Use, Vec::from(["cloud/net".into()])));
    assert!(warnings.len() == 1 && warnings[0].message.starts_with("NOT PROTECTED"), "{warnings:?}");
    let (strict, warnings) = parse(&with("require"));
    assert_eq!((strict.peers[0].children[0].level, warnings.len()), (Level::Require, 0));
    assert_eq!(parse(GOOD).0.peers[0].children[0].level, Level::Require, "who says nothing is protected");
    assert!(strict.clear_meanwhile().is_empty());
    let refused = errors(&with("used"));
    assert!(refused[0].to_string().contains("expected \"use\" or \"require\""), "{refused:?}");
    // From one to the other SAs go on.
    for (old, new) in [(&lax, &strict), (&strict, &lax)] {
        let children = Vec::from([("net".into(), ChildDiff::Changed)]);
        assert_eq!(Config::diff(old, new).peers, [("cloud".into(), PeerDiff::Changed { children })]);
    }
}

#[test]
fn the_mss_is_lowered_to_the_mtu_or_to_what_is_written_or_not_at_all() {
    let with = |mss: &str| GOOD.replace("[gateway]\n", &std::format!("[gateway]\nmss = {mss}\n"));
    assert_eq!(parse(GOOD).0.gateway.mss, Mss::Auto);
    for (word, mss) in [("auto", Mss::Auto), ("off", Mss::Off), ("1360", Mss::At(1360))] {
        let (config, warnings) = parse(&with(&std::format!("\"{word}\"")));
        assert_eq!((config.gateway.mss, warnings.len()), (mss, 0), "{word}");
    }
    for bad in ["\"on\"", "\"499\"", "\"8901\"", "\"\"", "true"] {
        assert_eq!(errors(&with(bad)).len(), 1, "{bad}");
    }
    assert_eq!(Config::diff(&parse(GOOD).0, &parse(&with("\"off\"")).0).settings, ["mss"]);
}

#[test]
fn policies_are_tried_by_priority_then_in_the_order_of_the_file() {
    let text = format!(
        "{GOOD}[[policy]]\naction=\"discard\"\nprotocol=\"icmp\"\nicmp-type=\"redirect\"\npriority=5\n\
         [[policy]]\naction=\"discard\"\nprotocol=\"17\"\nlocal-port=\"53\"\n"
    )
    .replace("\"redirect\"", "\"5\"");
    let order: Vec<_> = parse(&text).0.policies.iter().map(|policy| (policy.priority, policy.protocol)).collect();
    assert_eq!(order, [(5, 1), (100, 6), (100, 17)]);
}

#[test]
fn f_83_a_diff_names_what_is_protected_no_longer() {
    let net = "local-ts  = [\"10.2.0.0/16\"]\nremote-ts = [\"10.1.0.0/16\"]";
    let exposed = |before: &str, after: &str| {
        let with = |children: &str| {
            let children = children.split(';').map(|child| {
                let (local, remote) = child.split_once(" == ").unwrap();
                let list = |nets: &str| nets.split(' ').map(|net| format!("\"{net}\"")).collect::<Vec<_>>().join(", ");
                format!("local-ts = [{}]\nremote-ts = [{}]", list(local), list(remote))
            });
            let children = children.enumerate().map(|(n, child)| match n {
                0 => child,
                n => format!("[[peer.child]]\nname = \"n{n}\"\n{child}"),
            });
            // What belongs to the first child stands behind it.
            let (start, rest) = GOOD.split_once(net).unwrap();
            let (first, policy) = rest.split_once("[[policy]]").unwrap();
            let mut children = children.collect::<Vec<_>>();
            children[0] += first;
            parse(&format!("{start}{}\n[[policy]]{policy}", children.join("\n"))).0
        };
        let diff = Config::diff(&with(before), &with(after));
        let opened = diff.opened.iter().map(|(local, remote)| format!("{local} == {remote}"));
        diff.bared.into_iter().chain(opened).collect::<Vec<_>>()
    };
    let was = "10.2.0.0/16 == 10.1.0.0/16";
    for (before, after, gone) in [
        (was, "10.2.0.0/16 == 10.9.0.0/16", "10.1.0.0/16"),
        (was, "10.2.0.0/16 == 10.1.0.0/17 10.1.129.0/24", "10.1.128.0/24 10.1.130.0-10.1.255.255"),
        // Neither routed nor guarded: that is left to the operator.
        (was, "0.0.0.0/0 == 0.0.0.0/0", "10.1.0.0/16"),
        ("10.2.0.0/16 == 10.1.0.0/16;0.0.0.0/0 == 0.0.0.0/0", "0.0.0.0/0 == 0.0.0.0/0", "10.1.0.0/16"),
        // Ours now, and reached as without us.
        (was, "10.1.0.0/16 == 10.0.0.0/8", "10.1.0.0/16"),
        (was, "10.1.4.0/24 10.2.0.0/16 == 10.0.0.0/8", "10.1.4.0/24"),
        ("10.2.0.0/16 == 0.0.0.0/0", "10.2.0.0/15 == 0.0.0.0/0", "10.3.0.0/16"),
        ("2001:db8::/32 == ::/0", "2001:db8::/32 == ::/1", "8000::/1"),
        ("10.2.0.0/16 == 0.0.0.0/0", "10.2.0.0/16 == 10.1.0.0/16", "0.0.0.0-10.0.255.255 10.3.0.0-255.255.255.255"),
        // Nothing leaves in clear, and may come in.
        (was, "10.2.0.0/17 == 10.1.0.0/16", "10.2.0.0/16 == 10.1.0.0/16"),
        (was, "10.3.0.0/16 == 10.1.0.0/16", "10.2.0.0/16 == 10.1.0.0/16"),
        (was, "10.2.0.0/17 == 10.1.0.0/16;10.2.128.0/17 == 10.1.0.0/17", "10.2.0.0/16 == 10.1.0.0/16"),
    ] {
        assert_eq!(exposed(before, after).join(" "), gone, "{before} {after}");
    }
    for (before, after) in [
        (was, "10.2.0.0/16 == 10.0.0.0/8"),
        (was, "10.0.0.0/8 == 10.1.0.0/16"),
        (was, "10.2.0.0/16 == 10.1.128.0/17 10.0.0.0/16 10.1.0.0/17 10.1.3.0/24"),
        (was, "10.2.0.0/17 == 10.1.0.0/16;10.2.128.0/17 == 10.1.128.0/17;10.2.0.0/16 == 10.1.0.0/17"),
        (was, "10.1.4.0/24 == 0.0.0.0/0;10.2.0.0/16 == 10.1.0.0/16"),
        ("10.2.0.0/16 == 0.0.0.0/0", "10.2.0.0/16 == 0.0.0.0/0 10.77.0.0/16"),
        ("0.0.0.0/0 == 0.0.0.0/0", was),
        // All of it is ours: none of it was ever sent into the tunnel.
        ("10.1.0.0/17 10.1.128.0/17 == 10.1.0.0/16", "10.1.0.0/17 10.1.128.0/17 == 10.1.0.0/16 10.9.0.0/16"),
        ("10.1.0.0/16 == 10.0.0.0/8;10.3.0.0/16 == 10.0.0.0/8", "10.3.0.0/16 == 10.0.0.0/8;10.1.0.0/16 == 10.0.0.0/8"),
    ] {
        assert_eq!(exposed(before, after), [""; 0], "{before} {after}");
    }
    for (from, to) in [("\"cloud\"", "\"sky\""), ("\"net\"", "\"lan\""), ("key of some", "key of any")] {
        assert!(GOOD.contains(from));
        let diff = Config::diff(&parse(GOOD).0, &parse(&GOOD.replace(from, to)).0);
        assert_eq!((diff.bared, diff.opened), (Vec::new(), Vec::new()), "{from} {to}");
    }
    let none = Config::diff(&parse(GOOD).0, &Config { peers: Vec::new(), ..parse(GOOD).0 });
    assert_eq!(none.bared, ["10.1.0.0/16"]);
    let all = GOOD.replace("10.1.0.0/16", "0.0.0.0/0");
    let left = parse(&all.replace("10.2.0.0/16", "0.0.0.0/0")).0;
    assert_eq!(left.left_to_routes(), ["cloud/net"]);
    assert_eq!(Config::diff(&parse(&all).0, &left).bared, ["0.0.0.0/0"], "nobody guards it");
    assert_eq!(Config::diff(&left, &parse(GOOD).0).bared, [""; 0], "nobody did");
}

#[test]
fn a_diff_names_what_changed_and_nothing_else() {
    let old = parse(GOOD).0;
    assert!(Config::diff(&old, &parse(&format!("# moved\n{GOOD}")).0).is_empty());
    let changed = |from: &str, to: &str| {
        assert!(GOOD.contains(from));
        Config::diff(&old, &parse(&GOOD.replace(from, to)).0)
    };
    let peers = |diff: Diff| {
        assert!(diff.settings.is_empty() && !diff.policies);
        diff.peers
    };
    let cloud = |diff| std::vec![(String::from("cloud"), diff)];
    let net = |diff| cloud(PeerDiff::Changed { children: std::vec![("net".into(), diff)] });
    assert_eq!(changed("\"info\"", "\"debug\"").settings, ["log"]);
    assert!(changed("\"22\"", "\"23\"").policies);
    assert_eq!(peers(changed("\"20s\"", "\"30s\"")), cloud(PeerDiff::Changed { children: Vec::new() }));
    assert_eq!(peers(changed("key of some", "key of any")), cloud(PeerDiff::Replaced));
    assert_eq!(peers(changed("192.0.2.1", "192.0.2.3")), cloud(PeerDiff::Replaced));
    assert_eq!(peers(changed("left.lab", "other.lab")), cloud(PeerDiff::Replaced));
    assert_eq!(peers(changed("\"1h\"", "\"2h\"")), net(ChildDiff::Changed));
    assert_eq!(peers(changed("10.1.0.0/16", "10.3.0.0/16")), net(ChildDiff::Replaced));
    assert_eq!(peers(changed("[\"aes256gcm16\", ", "[")), net(ChildDiff::Replaced));
    assert_eq!(
        peers(changed("\"net\"", "\"lan\"")),
        cloud(PeerDiff::Changed {
            children: std::vec![("net".into(), ChildDiff::Removed), ("lan".into(), ChildDiff::Added)]
        })
    );
    assert_eq!(
        peers(changed("\"cloud\"", "\"sky\"")),
        [("cloud".into(), PeerDiff::Removed), ("sky".into(), PeerDiff::Added)]
    );
}
