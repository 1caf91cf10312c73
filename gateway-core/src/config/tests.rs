use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use ipsec_core::sa::MAX_SELECTORS;
use zeroize::Zeroizing;

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

/// Replaces a line of [`GOOD`] and expects one error at a place of the new line, with these words in its message.
#[test]
fn each_mistake_is_named_with_its_place_and_a_way_out() {
    let table: &[(&str, &str, &str, &str)] = &[
        // line to replace, new line, line:column, words of the message
        (
            "tun     = ",
            "tunn = \"x\"",
            "3:1",
            r#"found the unknown key "tunn" in [gateway], expected one of control, tun, log"#,
        ),
        ("tun     = ", "tunn = \"x\"", "3:1", r#"did you mean "tun"?"#),
        ("remote-id = ", "remot-id = \"left.lab\"", "11:1", r#"did you mean "remote-id"?"#),
        (
            "log     = ",
            "log = \"inof\"",
            "4:8",
            r#"found "inof", expected "error" or "warn" or "info" or "debug" or "trace"; did you mean "info"?"#,
        ),
        ("log     = ", "log = 3", "4:7", r#"found a number without quotes, expected "error""#),
        (
            "log     = ",
            "mtu = \"1400\"",
            "4:7",
            "found a string, expected a whole number 576 to 9000; write the number without quotes",
        ),
        ("log     = ", "mtu = 1", "4:7", "found 1, expected a whole number 576 to 9000"),
        ("log     = ", "mtu = 99999999999999999999", "4:7", "expected a whole number 576 to 9000"),
        ("log     = ", "replay-window = 100", "4:1", "a power of two"),
        ("tun     = ", "tun = \"far-too-long-for-linux\"", "3:8", "an interface name of 1 to 15 characters"),
        ("name      = \"cloud", "name = \"clo ud\"", "7:12", "found \" \", expected a name of 1 to 32 letters"),
        ("name      = \"cloud", "name = \"\"", "7:9", "found \"\", expected a name"),
        ("name      = \"cloud", "", "6:1", "found [[peer]] without \"name\""),
        ("local     = ", "local = \"192.0.2.256\"", "8:10", r#"found "192.0.2.256", expected an IPv4 or IPv6 address"#),
        ("local     = ", "local = [\"192.0.2.2\", \"any\"]", "8:23", "found \"any\" beside other places"),
        ("local     = ", "local = \"2001:db8::1\"", "8:1", "of two families"),
        (
            "remote    = ",
            "remote = \"192.0.2.300\"",
            "9:11",
            "expected an IPv4 or IPv6 address, a DNS name, or \"any\"",
        ),
        ("remote    = ", "remote = \"192.0.2.2\"", "9:1", "192.0.2.2 as both \"local\" and \"remote\""),
        ("remote    = ", "remote = [\"192.0.2.1\", \"192.0.2.1\"]", "9:24", "a second time"),
        ("remote    = ", "remote = []", "9:10", "found an empty list"),
        (
            "remote    = ",
            "remote = \"any\"",
            "13:1",
            "found a peer to be called at remote = \"any\", expected start = \"passive\"",
        ),
        ("local-id  = ", "local-id = \"@hex:12z4\"", "10:20", "found \"z4\", expected pairs of hexadecimal digits"),
        ("local-id  = ", "local-id = \"@right.lab\"", "10:13", "write the name without \"@\""),
        ("local-id  = ", "local-id = \"a@b@c\"", "10:13", "an e-mail address such as"),
        ("local-id  = ", "local-id = \"not a name\"", "10:13", "for other text write \"keyid:…\""),
        ("psk       = ", "", "6:1", "found [[peer]] without \"psk-file\""),
        ("psk       = ", "psk = \"0x123\"", "12:13", "found a key that cannot be read, expected 1 to 256 octets"),
        ("psk       = ", "psk = 12345678", "12:7", "found a number without quotes"),
        ("psk       = ", "psk = \"\"", "12:8", "expected 1 to 256 octets"),
        (
            "psk       = ",
            "psk = \"some long secret text\"\npsk-file = \"x\"",
            "13:1",
            "found both \"psk\" and \"psk-file\"",
        ),
        (
            "start     = ",
            "start = \"always\"",
            "13:10",
            r#"found "always", expected "active" or "passive" or "on-demand""#,
        ),
        ("encap     = ", "encap = \"allways\"", "14:10", r#"did you mean "always"?"#),
        (
            "ike       = ",
            "ike = [\"aes256gcm16-prfsha384-x25519\", \"aes256gcm16-prfsha348-x25519\"]",
            "15:53",
            r#"found "prfsha348""#,
        ),
        ("ike       = ", "ike = \"aes256gcm16-x25519\"", "15:8", "prf"),
        ("dpd       = ", "dpd = 20", "16:7", "found a number without quotes, expected a time in quotes"),
        ("dpd       = ", "dpd = \"20\"", "16:8", r#"write the unit, for instance "20s""#),
        ("dpd       = ", "dpd = \"20x\"", "16:10", r#"found "x", expected a time such as "500ms", "20s""#),
        ("dpd       = ", "dpd = \"10ms\"", "16:8", r#"expected at least "1s""#),
        ("dpd       = ", "dpd = \"99999999999999999999d\"", "16:8", "ten years are the limit"),
        (
            "mode      = ",
            "mode = \"transport\"",
            "20:9",
            r#"found "transport", expected "tunnel"; transport mode is not built in this version"#,
        ),
        (
            "local-ts  = ",
            "local-ts = [\"10.2.0.0/16\", \"10.3.0.0/33\"]",
            "21:38",
            r#"found "33", expected a prefix length 0 to 32"#,
        ),
        ("local-ts  = ", "local-ts = [\"10.2.0.9-10.2.0.1\"]", "21:14", "the smaller address stands first"),
        ("local-ts  = ", "local-ts = [\"10.2.0.0/16[tpc/80]\"]", "21:26", r#"found "tpc", expected a protocol number"#),
        ("local-ts  = ", "local-ts = [\"10.2.0.0/16[tcp/70000]\"]", "21:30", r#"found "70000", expected a port"#),
        ("local-ts  = ", "local-ts = [\"2001:db8::/32\"]", "21:13", "2001:db8::/32 without any IPv6 network under"),
        ("remote-ts = ", "", "18:1", "found [[peer.child]] without \"remote-ts\""),
        ("esp       = ", "esp = \"aes256gmc16\"", "23:8", r#"found "aes256gmc16""#),
        ("rekey     = ", "rekey = \"1h\"\nlifetime = \"30m\"", "25:1", "a \"lifetime\" not longer than \"rekey\""),
        ("rekey     = ", "rekey-bytes = \"64\"", "24:18", "an amount such as"),
        ("action      = ", "action = \"protect\"", "27:11", r#"expected "bypass" or "discard""#),
        ("action      = ", "", "26:1", "found [[policy]] without \"action\""),
        (
            "protocol    = ",
            "protocol = \"tcpp\"",
            "28:13",
            r#"found "tcpp", expected a protocol number 0 to 255 or a name"#,
        ),
        ("protocol    = ", "", "29:16", "no port without a protocol that has ports"),
        ("remote-port = ", "remote-port = 22", "29:15", "found a number without quotes, expected a port in quotes"),
        ("remote-port = ", "remote-port = \"90-80\"", "29:16", r#"the smaller port stands first: "80-90""#),
        ("remote-port = ", "icmp-type = \"8\"", "29:14", "add protocol = \"icmp\""),
        ("remote-port = ", "local = \"10.0.0.0/8\"\nremote = \"::/0\"", "30:1", "of two families"),
        ("priority    = ", "priority = -1", "30:12", "a whole number 0 to 1000000"),
    ];
    let mut missed = String::new();
    for (old, new, place, words) in table {
        let line = GOOD.lines().find(|line| line.starts_with(old)).unwrap_or_else(|| panic!("no line {old}"));
        let text = GOOD.replacen(line, new, 1);
        let errors = errors(&text);
        let found = errors.iter().any(|error| error.at.to_string() == *place && error.to_string().contains(words));
        if !found {
            missed += &format!("{new}\nexpected {place}: {words}\ngot:\n{}\n", told(&errors));
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[test]
fn toml_that_is_none_is_told_without_repeating_the_line() {
    for (text, place, words) in [
        ("[gateway]\nlog = info\n", "2:7", "every text value stands in quotes"),
        ("[[peer]]\npsk = secret-word\n", "2:7", "not TOML"),
        ("[gateway]\nlog = \"info\"\nlog = \"warn\"\n", "3:1", "\"log\" stands here a second time"),
        ("[gateway\n", "1:9", "not TOML"),
        ("\u{feff}[gateway]\nlög = 1\n", "2:2", "not TOML"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text}");
        assert_eq!(errors[0].at.to_string(), place, "{}", told(&errors));
        assert!(errors[0].to_string().contains(words), "{}", told(&errors));
        assert!(!errors[0].to_string().contains("secret-word"));
    }
}

#[test]
fn columns_count_characters_and_escapes_point_at_the_string() {
    assert_eq!(errors("[gateway]\nlog = \"ü\" # ö\ntun = \"é/\"\n")[1].at.to_string(), "3:8");
    let escaped = GOOD.replace("dpd       = \"20s\"", "dpd = \"\\u0032\\u0030x\"");
    assert_eq!(errors(&escaped)[0].at.to_string(), "16:7");
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file_and_their_number_is_bounded() {
    let text = GOOD.replace("\"info\"", "\"x\"").replace("\"20s\"", "\"y\"").replace("[\"10.1.0.0/16\"]", "\"z\"");
    let places: Vec<_> = errors(&text).iter().map(|error| error.at.line).collect();
    assert_eq!(places, [4, 16, 22]);
    let many: String = (0..1000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(errors(&many).len(), 50);
}

#[test]
fn no_message_holds_a_secret() {
    for bad in
        ["psk = \"0xsecretsecret\"", "psk = [\"secret\"]", "psk = 5555555555", "psk-fil = \"x\"\npsk = { secret = 1 }"]
    {
        let text = GOOD.replacen("psk       = \"a pre-shared key of some length\"", bad, 1);
        let told = told(&errors(&text));
        assert!(!told.is_empty() && !told.contains("secret\"") && !told.contains("5555"), "{told}");
    }
}

#[test]
fn a_key_with_escapes_leaves_no_copy_in_the_document() {
    let text = GOOD.replace("a pre-shared key of some length", "a pre-shared key\\u0020of some length");
    let mut document = DeTable::parse(&text).unwrap().into_inner();
    wipe(&mut document);
    let peer = document.get("peer").unwrap().get_ref().get(0).unwrap().get_ref();
    assert_eq!(peer.get("psk").unwrap().get_ref().as_str(), Some(""));
    assert_eq!(parse(&text).0.peers[0].secret.loaded().unwrap().expose(), b"a pre-shared key of some length");
}

fn second_peer(name: &str, rest: &str) -> String {
    format!(
        "{GOOD}\n[[peer]]\nname = \"{name}\"\nlocal = \"192.0.2.2\"\npsk = \"another key of sufficient length\"\n{rest}"
    )
}

#[test]
fn contradictions_between_tables_are_named() {
    let child = "[[peer.child]]\nname = \"net\"\n";
    let elsewhere = "remote = \"192.0.2.9\"\n";
    let same_ts = "local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n";
    let other_ts = "local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.9.0.0/16\"\n";
    for (text, words) in [
        (second_peer("cloud", &format!("{elsewhere}{child}{other_ts}")), "found a second peer \"cloud\""),
        (
            second_peer("b", &format!("{elsewhere}{child}{same_ts}")),
            "found a child \"net\" with the same selectors as \"cloud/net\" (line 18)",
        ),
        (
            second_peer(
                "b",
                &format!(
                    "remote = \"192.0.2.1\"\nlocal-id = \"right.lab\"\nremote-id = \"left.lab\"\n{child}{other_ts}"
                ),
            ),
            "found \"b\" with the addresses and identities of \"cloud\" (line 6), expected peers that can be told apart",
        ),
        (second_peer("b", elsewhere), "found [[peer]] without \"child\""),
        (
            second_peer("b", &format!("{elsewhere}{child}{other_ts}{child}{}", other_ts.replace("10.9", "10.8"))),
            "found a second child \"net\" of \"b\"",
        ),
        (second_peer("b", &format!("remote = \"any\"\n{child}{other_ts}")), "found [[peer]] without \"remote-id\""),
        (GOOD.replace("[[peer]]", "[peer]"), "double brackets"),
    ] {
        let told = told(&errors(&text));
        assert!(told.contains(words), "expected {words}\ngot {told}");
    }
}

#[test]
fn more_selectors_than_an_sa_holds_are_refused() {
    let list = |n: usize| (0..n).map(|i| format!("\"10.{}.0.0/16\",", i + 20)).collect::<String>();
    let text = |n| GOOD.replace("[\"10.1.0.0/16\"]", &format!("[{}]", list(n)));
    assert!(errors(&text(MAX_SELECTORS)).is_empty());
    let told = told(&errors(&text(MAX_SELECTORS + 1)));
    assert!(told.starts_with("22:1: found 9 selectors, expected at most 8"), "{told}");
}

#[test]
fn what_is_probably_not_meant_gets_a_warning() {
    let short = GOOD.replace("a pre-shared key of some length", "1BigSecret");
    let warnings = parse(&short).1;
    assert_eq!(warnings[0].at.to_string(), "12:13");
    assert!(warnings[0].message.contains("shorter than 20 characters") && !warnings[0].message.contains("1BigSecret"));
    let host = parse(&GOOD.replace("10.1.0.0/16", "10.1.2.3/16")).1;
    assert_eq!(host[0].message, "host bits are ignored: the network is 10.1.0.0/16");
    let wide = parse(&GOOD.replace("protocol    = \"tcp\"\nremote-port = \"22\"\n", "")).1;
    assert!(wide[0].message.contains("lets every packet through in clear"));
    let overlap = second_peer(
        "b",
        "remote = \"192.0.2.9\"\n[[peer.child]]\nname = \"n\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.128.0/17\"\n",
    );
    let apart = overlap.replace(
        "local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.128",
        "local-ts = \"10.4.0.0/16\"\nremote-ts = \"10.1.128",
    );
    assert_ne!(apart, overlap);
    assert_eq!(parse(&apart).1, []);
    let overlap = parse(&overlap).1;
    assert!(
        overlap[0].message.starts_with("10.1.128.0/17 overlaps 10.1.0.0/16 of \"cloud/net\" (line 18)"),
        "{overlap:?}"
    );
}

#[test]
fn f_81_one_network_on_both_sides_is_refused_and_hubs_and_branches_are_not() {
    let with = |local: &str, remote: &str| {
        GOOD.replace("[\"10.2.0.0/16\"]", &format!("\"{local}\""))
            .replace("[\"10.1.0.0/16\"]", &format!("\"{remote}\""))
    };
    let same = told(&errors(&with("10.2.0.0/16", "10.2.0.0/16")));
    assert!(same.contains("found 10.2.0.0/16 under both \"local-ts\" and \"remote-ts\""), "{same}");
    for (local, remote) in [("10.2.0.0/16", "10.0.0.0/8"), ("10.0.0.0/8", "10.2.0.0/16"), ("0.0.0.0/0", "0.0.0.0/0")] {
        assert!(errors(&with(local, remote)).is_empty(), "{local} {remote}");
        assert_eq!(parse(&with(local, remote)).1, [], "{local} {remote}");
    }
    let partly = parse(&with("10.2.0.0-10.2.0.9", "10.2.0.5-10.2.0.20")).1;
    assert_eq!(partly[0].message, "10.2.0.5-10.2.0.20 overlaps our own 10.2.0.0-10.2.0.9");
}

#[test]
fn keys_are_text_or_hexadecimal_or_in_a_file() {
    let hex = GOOD.replace("a pre-shared key of some length", "0x000102030405060708090a0B0c0d0e0f");
    let hex = parse(&hex).0;
    assert_eq!(hex.peers[0].secret.loaded().unwrap().expose(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    let file = GOOD.replace("psk       = \"a pre-shared key of some length\"", "psk-file = \"cloud.psk\"");
    let mut config = parse(&file).0;
    assert!(config.peers[0].secret.loaded().is_none());
    let refused = config.load_secrets(|_| Err("a file that others can read (mode 0644)".into())).unwrap_err();
    assert_eq!(
        told(&refused),
        "12:12: found a file that others can read (mode 0644), expected a file with the pre-shared key; \"psk-file\" is \
         the name of a file; the key itself is written as \"psk\"\n"
    );
    let warned = config.load_secrets(|_| Ok(Zeroizing::new(b"0x0011\r\n".to_vec()))).unwrap();
    assert_eq!((warned.len(), warned[0].at.to_string()), (1, "12:12".into()));
    assert_eq!(config.peers[0].secret.loaded().unwrap().expose(), [0, 0x11]);
    let mut config = parse(&file).0;
    assert!(config.load_secrets(|_| Ok(Zeroizing::new(b"\xff\xfe".to_vec()))).is_err());
    assert!(config.load_secrets(|path| Ok(Zeroizing::new(format!("key in {path} of good length\n").into()))).is_ok());
    assert_eq!(config.peers[0].secret.loaded().unwrap().expose(), b"key in cloud.psk of good length");
}

#[test]
fn f_35_a_key_in_the_place_of_its_file_is_never_told() {
    for key in ["a key by mistake", "nul\\u0000 in a key by mistake", ""] {
        let text = GOOD.replace("psk       = \"a pre-shared key of some length\"", &format!("psk-file = \"{key}\""));
        let refused = match Config::parse(&text) {
            Ok((mut config, _)) => config.load_secrets(|_| Err("no such file or directory".into())).unwrap_err(),
            Err(refused) => refused,
        };
        let told = told(&refused);
        assert!(told.contains("12:1") && !told.contains("by mistake"), "{told}");
    }
}

#[test]
fn f_36_what_is_no_line_of_text_is_no_key() {
    let file = GOOD.replace("psk       = \"a pre-shared key of some length\"", "psk-file = \"cloud.psk\"");
    let loaded = |octets: &[u8]| {
        let mut config = parse(&file).0;
        config.load_secrets(|_| Ok(Zeroizing::new(octets.to_vec()))).map(|warnings| {
            let key = config.peers[0].secret.loaded().unwrap().expose().to_vec();
            (key, warnings.into_iter().map(|warning| warning.message).collect::<Vec<_>>())
        })
    };
    for (octets, why) in [
        (&b"\xef\xbb\xbfa key behind a byte order mark"[..], "byte order mark"),
        (b"first line of two\nsecond line of two\n", "several lines"),
        (b"first line of two\rsecond line of two", "several lines"),
        (b"a key with a zero \0 octet in it", "zero octet"),
        (b"a key with a tab\tin it, or so", "control character"),
        (b"0sQSBrZXkgaW4gYmFzZTY0IGFzIGVsc2V3aGVyZQ==", "base64"),
        (b"   \n", "nothing but spaces"),
        (b"\n", "1 to 256 octets"),
        (&[b'k'; 257], "1 to 256 octets"),
        (b"\xff\xfe in the middle", "no text in UTF-8"),
    ] {
        let told = told(&loaded(octets).unwrap_err());
        assert!(told.contains(why), "{told}");
        assert!(!told.contains("line of two") && !told.contains("QSBr"), "{told}");
    }
    assert_eq!(loaded(&[b'k'; 256]).map(|(key, _)| key.len()).ok(), Some(256), "the longest one");
    for (octets, doubt) in [
        (&b"\"a key in quotes, as strongSwan has it\"\n"[..], "quotes"),
        (b"00112233445566778899aabbccddeeff", "write 0x in front"),
        (b" a key behind a space, of good length", "a space"),
    ] {
        let (key, warnings) = loaded(octets).unwrap();
        assert_eq!(key, octets.strip_suffix(b"\n").unwrap_or(octets), "one rule: the line is the key");
        assert!(warnings.len() == 1 && warnings[0].contains(doubt), "{warnings:?}");
    }
    assert_eq!(loaded(b"a key of more than twenty characters\r\n").unwrap().1, [""; 0]);
}

#[test]
fn f_30_an_mtu_that_carries_no_ipv6_is_refused_with_an_ipv6_network() {
    let small = format!("[gateway]\nmtu = 1279\n{}", GOOD.replace("[gateway]\n", ""));
    parse(&small);
    let six = |text: &str| text.replace("10.2.0.0/16", "2001:db8:2::/48").replace("10.1.0.0/16", "2001:db8:1::/48");
    let told = told(&errors(&six(&small)));
    assert!(told.contains("2001:db8:2::/48 with mtu = 1279") && told.contains("at least 1280"), "{told}");
    parse(&six(&small.replace("1279", "1280")));
}

#[test]
fn identities_of_every_kind_print_as_they_are_written() {
    for text in ["right.lab", "192.0.2.2", "2001:db8::1", "user@example.org", "@hex:00ff10"] {
        let config = parse(&GOOD.replace("\"right.lab\"", &format!("\"{text}\""))).0;
        assert_eq!(config.peers[0].local_id.as_ref().unwrap().to_string(), text);
    }
    let spelt = parse(&GOOD.replace("\"right.lab\"", "\"keyid:branch\"")).0;
    assert_eq!(spelt.peers[0].local_id.as_ref().unwrap().id().data, b"branch");
    assert_ne!(
        parse(&GOOD.replace("\"right.lab\"", "\"fqdn:a.b\"")).0.peers[0].local_id,
        parse(&GOOD.replace("\"right.lab\"", "\"keyid:a.b\"")).0.peers[0].local_id
    );
}

#[test]
fn f_59_a_name_that_looks_like_something_else_is_written_with_its_kind_and_printed_so() {
    use ike_core::registry::IdKind;
    let names = ["192.0.2.1", "me@right.lab", "2001:db8::1", "any", "keyid:x", "fqdn:x", "a..b", "1.2.3"];
    let names = names.map(|name| (IdKind::FQDN, "fqdn:", name));
    let mails = ["keyid:a@b", "fqdn:a@b"].map(|name| (IdKind::RFC822_ADDR, "email:", name));
    for (kind, prefix, name) in names.into_iter().chain(mails) {
        let text = format!("{prefix}{name}");
        let config = parse(&GOOD.replace("\"right.lab\"", &format!("\"{text}\""))).0;
        let id = config.peers[0].local_id.as_ref().unwrap();
        assert_eq!((id.id().kind, id.id().data), (kind, name.as_bytes()));
        assert_eq!((id.to_string(), id.is_writable()), (text, true));
    }
    for bad in ["fqdn:", "fqdn:a b", "fqdn:ä"] {
        assert_eq!(errors(&GOOD.replace("\"right.lab\"", &format!("\"{bad}\""))).len(), 1, "{bad}");
    }
}

#[test]
fn selectors_of_every_kind_print_as_they_are_written() {
    for text in [
        "10.1.0.0/16",
        "10.0.0.1-10.0.0.9",
        "10.1.2.3/32",
        "10.1.0.0/16[tcp]",
        "10.1.0.0/16[tcp/443]",
        "10.1.0.0/16[udp/1000-2000]",
        "10.1.0.0/16[icmp/8]",
        "10.1.0.0/16[icmp/3/4]",
        "10.1.0.0/16[89]",
        "0.0.0.0/0",
    ] {
        let config = parse(&GOOD.replace("10.1.0.0/16", text)).0;
        assert_eq!(selector::Selector(&config.peers[0].children[0].remote_ts[0]).to_string(), text);
    }
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

#[test]
fn atk_34_no_text_makes_the_reader_panic() {
    // Every cut and every single-octet change of a good file, and a few that toml parsers stumble over.
    let octets = GOOD.as_bytes();
    for end in 0..octets.len() {
        if let Ok(text) = core::str::from_utf8(&octets[..end]) {
            let _ = Config::parse(text);
        }
    }
    let mut seed = 1_u32;
    for index in 0..octets.len() {
        for _ in 0..4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut changed = octets.to_vec();
            changed[index] = (seed >> 24) as u8;
            if let Ok(text) = core::str::from_utf8(&changed) {
                let _ = Config::parse(text);
            }
        }
    }
    let nested = format!("x = {}1{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(Config::parse(&nested).is_err());
}

/// The `toml` blocks of docs/configuration.md.
fn documented() -> Vec<&'static str> {
    let text = include_str!("../../../docs/configuration.md");
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect()
}

#[test]
fn every_example_of_the_documentation_is_read() {
    let blocks = documented();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let (config, warnings) = parse(block);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(!config.peers.is_empty() || !config.policies.is_empty());
    }
}

#[test]
fn every_key_is_documented() {
    let text = include_str!("../../../docs/configuration.md");
    for key in settings::KEYS.iter().chain(peer::KEYS).chain(peer::CHILD_KEYS).chain(policy::KEYS) {
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
