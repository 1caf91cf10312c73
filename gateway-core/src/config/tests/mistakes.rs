//! What is wrong is told with its place and a way out; what is doubtful is warned of.

use ipsec_core::sa::MAX_SELECTORS;

use super::*;

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
        (
            "remote-port = ",
            "[[network]]\naddress = \"dhcp\"",
            "29:3",
            "found [[network]], which is of the Raspberry Pi image, expected one of gateway, peer, policy, sa; \
             this is portcullis for Linux",
        ),
        ("remote-port = ", "[management]", "29:2", "found [management], which is of the Raspberry Pi image"),
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
        ("tun     = ", "tun = \"far-too-long-for-linux\"", "3:8", "an interface name of 1 to 15 letters"),
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
        (
            "remote    = ",
            "remote = \"0.0.0.0\"",
            "9:1",
            "found 0.0.0.0, which is no address, expected the peer's address",
        ),
        ("remote    = ", "remote = [\"192.0.2.1\", \"127.0.0.1\"]", "9:1", "found 127.0.0.1, which is this machine"),
        ("remote    = ", "remote = \"224.0.0.5\"", "9:1", "which is a group"),
        ("remote    = ", "remote = \"255.255.255.255\"", "9:1", "which is everybody on the link"),
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
        ("local-id  = ", "local-id = \"C=DE, CN=gw\"", "10:13", "distinguished names cannot be written"),
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
            "21:14",
            r#"found 10.2.0.0/16 in transport mode, expected a single address; it is for what two hosts say to each other"#,
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
        ("[[peer.child]]\nname = \"net\"\n[[peer]]\n", "3:3", "each [[peer.child]] stands below its [[peer]]"),
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
    assert_eq!(parse("[gateway]\nlog = \"info\"\n").1[0].message, "there is no [[peer]]: nothing goes into a tunnel");
    let host = parse(&GOOD.replace("10.1.0.0/16", "10.1.2.3/16")).1;
    assert_eq!(host[0].message, "host bits are ignored: the network is 10.1.0.0/16");
    let copied = parse(&GOOD.replace("\"left.lab\"", "\"RIGHT.lab\"")).1;
    assert_eq!(copied.len(), 1, "{copied:?}");
    assert!(copied[0].message.contains("is both \"local-id\" and \"remote-id\" of \"cloud\""), "{copied:?}");
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
fn f_13_that_nothing_guards_everything_to_everything_is_said_once_for_each_child() {
    let with = |local: &str, remote: &str| {
        let text = GOOD
            .replace("[\"10.2.0.0/16\"]", &format!("\"{local}\""))
            .replace("[\"10.1.0.0/16\"]", &format!("\"{remote}\""));
        let (config, warnings) = parse(&text);
        (config.left_to_routes(), warnings.into_iter().map(|warning| warning.message).collect::<Vec<_>>())
    };
    for all in ["0.0.0.0/0", "any"] {
        let (left, told) = with(all, all);
        assert_eq!(left, ["cloud/net"]);
        assert!(
            told.len() == 1 && told[0].contains("what your own routes do not lead to pcl0 leaves in clear"),
            "{told:?}"
        );
    }
    for (local, remote) in [("10.2.0.0/16", "0.0.0.0/0"), ("0.0.0.0/0", "10.1.0.0/16")] {
        assert_eq!(with(local, remote).0, Vec::<String>::new());
    }
}

#[test]
fn selectors_of_two_protocols_are_refused_and_those_with_something_in_common_are_not() {
    let with = |local: &str, remote: &str| {
        GOOD.replace("[\"10.2.0.0/16\"]", &format!("[{local}]")).replace("[\"10.1.0.0/16\"]", &format!("[{remote}]"))
    };
    // As in a setkey file, where a number is a port.
    let refused = errors(&with("\"10.2.0.0/16[tcp]\"", "\"10.1.0.0/16[80]\""));
    assert_eq!(refused.len(), 2, "each side");
    assert!(told(&refused).contains("10.1.0.0/16[80] without any network of that protocol under \"local-ts\""));
    assert!(told(&refused).contains("[tcp/80]"), "how it is mended");
    assert_eq!(errors(&with("\"10.2.0.0/16[tcp]\"", "\"10.1.0.0/16[udp/80]\", \"10.1.0.0/16[tcp]\"")).len(), 1);
    for remote in ["\"10.1.0.0/16[tcp/80]\"", "\"10.1.0.0/16\"", "\"10.1.0.0/16[udp]\", \"10.7.0.0/16\""] {
        let refused = errors(&with("\"10.2.0.0/16[tcp]\"", remote));
        assert_eq!(refused.len(), usize::from(remote.contains("udp")), "{remote}: {}", told(&refused));
    }
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
        let everything = local == remote;
        assert_eq!(parse(&with(local, remote)).1.len(), usize::from(everything), "{local} {remote}");
    }
    let partly = parse(&with("10.2.0.0-10.2.0.9", "10.2.0.5-10.2.0.20")).1;
    assert_eq!(partly[0].message, "10.2.0.5-10.2.0.20 overlaps our own 10.2.0.0-10.2.0.9");
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
fn f_01_our_own_interface_has_a_name_that_the_guard_reads_as_nothing_but_a_name() {
    let named = |name: &str| errors(&format!("[gateway]\ntun = '{name}'\n"));
    for bad in
        ["p*", "*", "pcl\"0", "pcl%d", "pcl$x", "a,b", "a}b", "\\", "#", "a b", "ä", "", ".", "..", "0123456789abcdef"]
    {
        let told = told(&named(bad));
        assert!(told.contains("expected an interface name of 1 to 15 letters, digits"), "{bad}: {told}");
    }
    for good in ["pcl0", "eth0.10", "br-lan_1", "veth@2", "0123456789abcde"] {
        assert!(named(good).is_empty(), "{good}");
    }
    // What only the kernel is told of may have any name that it takes.
    assert!(errors("[gateway]\noutside = 'wan+*'\n").is_empty());
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

#[test]
fn f_81_two_peers_that_are_one_at_two_addresses_are_shown_how_to_be_written_as_one() {
    let same = "remote = \"192.0.2.9\"\n[[peer.child]]\nname = \"net\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n";
    let ids = "local-id = \"right.lab\"\nremote-id = \"left.lab\"\n";
    let key = |text: String| text.replace("another key of sufficient length", "a pre-shared key of some length");
    let hint = "write one [[peer]] with remote = [\"192.0.2.1\", \"192.0.2.9\"]";
    let told_of = |text: String| told(&errors(&text));
    let one = told_of(key(second_peer("b", &format!("{ids}{same}"))));
    assert!(one.contains("with the same selectors") && one.contains(hint), "{one}");
    let twice = told_of(key(second_peer("b", &format!("{ids}{same}").replace("192.0.2.9", "192.0.2.1"))));
    assert!(twice.contains("where both are one peer, remove one of them") && !twice.contains("write one"), "{twice}");
    for other in [second_peer("b", &format!("{ids}{same}")), key(second_peer("b", same))] {
        let two = told_of(other);
        assert!(two.contains("with the same selectors") && !two.contains("write one"), "{two}");
        assert!(two.contains("two tunnels to one network") && two.contains("no \"remote-id\""), "{two}");
    }
}
