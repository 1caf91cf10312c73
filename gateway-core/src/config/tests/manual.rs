//! `[[sa]]`: what is read, and what cannot be meant.

use zeroize::Zeroizing;

use super::*;

/// Two SAs that are right, to be spoilt.
const PAIR: &str = r#"[[sa]]
direction = "out"
spi       = 0x2001
mode      = "tunnel"
local     = "192.0.2.2"
remote    = "192.0.2.31"
suite     = "aes128gcm16"
key       = "0x000102030405060708090a0b0c0d0e0f10111213"
encap     = 4500
replay    = 64
sequence  = 7
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.31.0.0/16"]
[[sa]]
direction = "in"
spi       = 0x1001
local     = "192.0.2.2"
remote    = "192.0.2.31"
suite     = "aes128gcm16-esn"
key       = "0x202122232425262728292a2b2c2d2e2f30313233"
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.31.0.0/16"]
"#;

#[test]
fn a_pair_is_read_as_it_is_written() {
    let (config, warnings) = parse(PAIR);
    let pair = &config.manual[0];
    assert_eq!((pair.name().as_str(), config.manual.len(), config.traffic().count()), ("sa/0x00002001", 1, 1));
    let [out, into] = [&pair.outbound, &pair.inbound];
    assert_eq!((out.spi.get(), out.encap, out.replay, out.sequence, out.suite.esn), (0x2001, Some(4500), 64, 7, false));
    assert_eq!((into.spi.get(), into.encap, into.replay, into.sequence, into.suite.esn), (0x1001, None, 1024, 0, true));
    assert_eq!(out.keymat().unwrap()[..], (0..20).collect::<Vec<_>>());
    assert_eq!(pair.path(out).remote.to_string(), "192.0.2.31:4500");
    assert_eq!(pair.path(into).remote.to_string(), "192.0.2.31:0");
    let warned = [(1, "aes128gcm16-noesn", "set aside on disk"), (14, "aes128gcm16-esn", "The peer has to")];
    assert_eq!(warnings.len(), warned.len(), "of each that counts");
    for (Warning { at, message }, (line, suite, what)) in warnings.iter().zip(warned) {
        assert!(message.contains(&format!("the suite {suite} must not have manual keys")), "{message}");
        assert!(message.contains(what) && at.line == line, "{at:?}: {message}");
    }
    assert!(!format!("{config:?}").contains("10, 17"), "no key is printed");
}

/// Whether something says that one of two is missing.
fn direction_alone(told: &str) -> bool {
    told.contains("\" alone")
}

#[test]
fn each_mistake_of_a_pair_is_named_with_its_place_and_a_way_out() {
    // what is replaced, by what, line:column, words of the message
    let table: &[(&str, &str, &str, &str)] = &[
        ("direction = \"in\"", "direction = \"out\"", "14:1", "a second [[sa]] with direction = \"out\""),
        ("direction = \"in\"", "direction = \"inn\"", "15:14", "did you mean \"in\"?"),
        (
            "spi       = 0x1001",
            "spi = 255",
            "16:1",
            "found 255, expected an SPI from 0x100 on; smaller ones are reserved",
        ),
        ("spi       = 0x1001", "spi = 0", "16:1", "an SPI from 0x100 on"),
        (
            "suite     = \"aes128gcm16\"\n",
            "suite = \"aes128gcm16-aes256gcm16\"\n",
            "7:10",
            "write one algorithm of each kind",
        ),
        (
            "suite     = \"aes128gcm16\"\n",
            "suite = \"aes128gcm16-x25519\"\n",
            "7:10",
            "no key exchange where there is no IKE",
        ),
        ("suite     = \"aes128gcm16\"\n", "suite = \"aes128gcm61\"\n", "7:10", "unknown algorithm"),
        (
            "suite     = \"aes128gcm16\"\n",
            "suite = \"aes256gcm16\"\n",
            "8:14",
            "expected \"0x…\" with 36 octets in hexadecimal; there are 20",
        ),
        ("key       = \"0x0001", "key = \"0001", "8:8", "write 0x in front"),
        ("key       = \"0x0001", "key = \"0x00g1", "8:12", "not a hexadecimal digit"),
        ("key       = \"0x0001", "key-file = \"a\"\nkey = \"0x0001", "8:1", "found both \"key\" and \"key-file\""),
        (
            "key       = \"0x00010203",
            "integ-key = \"0x00\"\nkey = \"0x00010203",
            "8:1",
            "found \"integ-key\", expected no such key",
        ),
        (
            "key       = \"0x000102030405060708090a0b0c0d0e0f10111213\"\n",
            "",
            "1:1",
            "write key = \"0x…\" with 20 octets",
        ),
        ("encap     = 4500", "encap = 65536", "9:9", "a whole number 1 to 65535"),
        ("replay    = 64", "replay = 100", "10:1", "a power of two"),
        ("replay    = 64", "replay = 2048", "10:1", "raise \"replay-window\""),
        (
            "sequence  = 7",
            "sequence = 4294967295",
            "11:1",
            "found 4294967295, expected at most 4294967294; without \"-esn\"",
        ),
        ("sequence  = 7", "sequence = -1", "11:12", "a whole number 0 to"),
    ];
    for (old, new, place, words) in table {
        let spoilt = PAIR.replacen(old, new, 1);
        assert!(spoilt != PAIR, "{old} is not there");
        let told = told(&errors(&spoilt));
        let line = told.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{old}: {words}: {told}"));
        assert!(line.starts_with(&format!("{place}: ")), "{place}: {line}");
        assert!(direction_alone(&told) == new.contains("direction = \"out\""), "only what is wrong is told: {told}");
    }
}

#[test]
fn what_two_of_them_cannot_have_in_common_is_named() {
    let second = PAIR.split("[[sa]]").nth(2).map(|sa| format!("[[sa]]{sa}")).unwrap();
    let first = PAIR.strip_suffix(second.as_str()).unwrap();
    assert!(told(&errors(first)).contains("1:1: found a [[sa]] with direction = \"out\" alone"));
    assert!(told(&errors(&second)).contains("1:1: found a [[sa]] with direction = \"in\" alone"));
    let one_key =
        PAIR.replace("0x202122232425262728292a2b2c2d2e2f30313233", "0x000102030405060708090a0b0c0d0e0f10111213");
    assert!(told(&errors(&one_key)).contains("found a [[sa]] with a key of the one in line 1"));
    // So with each key that a suite has, whichever of the two it is.
    let octets = |octet: &str| format!("0x00{}", octet.repeat(31));
    let both = |[first, second]: [[&str; 2]; 2]| {
        let keyed = |text: &str, key: &str, [cipher, integ]: [&str; 2]| {
            let keys = format!("\"{}\"\ninteg-key = \"{}\"", octets(cipher), octets(integ));
            text.replace(&format!("\"{key}\""), &keys)
        };
        let text = PAIR.replace("aes128gcm16-esn", "aes256-sha256").replace("aes128gcm16", "aes256-sha256");
        let text = keyed(&text, "0x000102030405060708090a0b0c0d0e0f10111213", first);
        keyed(&text, "0x202122232425262728292a2b2c2d2e2f30313233", second)
    };
    assert_eq!(parse(&both([["a1", "b1"], ["a2", "b2"]])).0.manual.len(), 1);
    for (keys, words) in [
        ([["a1", "b1"], ["a2", "b1"]], "with a key of the one in line 1"),
        ([["a1", "b1"], ["a1", "b2"]], "with a key of the one in line 1"),
        ([["a1", "b1"], ["b1", "b2"]], "with a key of the one in line 1"),
        ([["a1", "a1"], ["a2", "b2"]], "one key for both the cipher and the integrity"),
    ] {
        assert!(told(&errors(&both(keys))).contains(words), "{keys:?}");
    }
    // Another pair beside it.
    let other = |net: &str, spi: &str| {
        let other = PAIR.replace("0x2001", spi).replace("0x1001", "0x1002").replace("10.31.", net);
        PAIR.to_string() + &other.replace("0x0001", "0xff01").replace("0x2021", "0xff21")
    };
    assert_eq!(parse(&other("10.32.", "0x2002")).0.manual.len(), 2);
    assert!(told(&errors(&other("10.32.", "0x2001"))).contains("25:1: found a second [[sa]] with the SPI 0x2001"));
    let at_another = other("10.31.", "0x2002").replacen("192.0.2.31", "192.0.2.32", 2);
    assert!(told(&errors(&at_another)).contains("found the selectors of the [[sa]] in line 1"));
    let child = GOOD.replace("10.1.0.0/16", "10.31.0.0/16");
    assert!(told(&errors(&(child + PAIR))).contains("found the selectors of \"cloud/net\""));
    let named = told(&errors(&GOOD.replace("\"cloud\"", "\"sa\"")));
    assert!(named.contains("found \"sa\", expected another name; status, the log and accounts call SAs"), "{named}");
    let families = PAIR.replace("192.0.2.31", "2001:db8::31");
    assert!(told(&errors(&families)).contains("6:1: found \"local\" and \"remote\" of two families"));
    for (remote, words) in [("192.0.2.2", "as both"), ("224.0.0.1", "a group"), ("0.0.0.0", "no address")] {
        assert!(told(&errors(&PAIR.replace("192.0.2.31", remote))).contains(words), "{remote}");
    }
    let mixed = PAIR.replace("10.31.0.0/16", "fd31::/64");
    assert!(told(&errors(&mixed)).contains("without any IPv4 network"), "selectors are those of a child");
}

#[test]
fn a_key_that_everybody_has_is_refused_wherever_it_stands() {
    let example = "3b5d1f0c8e92a6740bd10f6ea7c8239f5e64d20b";
    for (key, words) in [
        ("00".repeat(20), "one octet again and again"),
        ("a7".repeat(20), "one octet again and again"),
        (example.to_uppercase(), "the key of an example in the documentation"),
    ] {
        let text = PAIR.replace("000102030405060708090a0b0c0d0e0f10111213", &key);
        let refused = told(&errors(&text));
        assert!(
            refused.starts_with("8:14: found a key that cannot be read, expected fresh random octets"),
            "{refused}"
        );
        assert!(refused.contains(words) && !refused.contains(&key), "{refused}");
        let mut config = parse(&PAIR.replace("key       = \"0x0001", "key-file = \"out.key\"\n# 0x0001")).0;
        let refused = told(&config.load_secrets(|_| Ok(Zeroizing::new(format!("0x{key}\n").into()))).unwrap_err());
        assert!(refused.contains(words) && !refused.contains(&key), "{refused}");
        let psk = told(&errors(&GOOD.replace("a pre-shared key of some length", &format!("0x{key}"))));
        assert!(psk.contains(words) && !psk.contains(&key), "{psk}");
    }
    // One octet is short, and nothing else.
    assert_eq!(parse(&GOOD.replace("a pre-shared key of some length", "x")).1.len(), 1);
}

#[test]
fn a_key_in_a_file_is_held_to_the_suite_and_to_the_other_keys() {
    let text = PAIR.replace("key       = \"0x000102030405060708090a0b0c0d0e0f10111213\"", "key-file = \"out.key\"");
    let load = |octets: &'static str| {
        let mut config = parse(&text).0;
        config.load_secrets(|_| Ok(Zeroizing::new(octets.into()))).map(|_| config).map_err(|errors| told(&errors))
    };
    let config = load("0x000102030405060708090a0b0c0d0e0f10111213\n").unwrap();
    assert_eq!(config.manual[0].outbound.keymat().unwrap().len(), 20);
    let short = load("0x0001").unwrap_err();
    assert!(short.contains("the key in one line: \"0x…\" with 20 octets in hexadecimal; there are 2"), "{short}");
    let same = load("0x202122232425262728292a2b2c2d2e2f30313233").unwrap_err();
    assert!(same.contains("with a key of the one in line 1"), "{same}");
    let gone = parse(&text).0.load_secrets(|_| Err(NoKey::Absent("no such file".into()))).unwrap_err();
    assert!(told(&gone).contains("\"key-file\" is the name of a file"), "{}", told(&gone));
}

#[test]
fn a_manual_key_with_escapes_leaves_no_copy_in_the_document() {
    let text = PAIR.replace("0x0001", "0x00\\u00301");
    let mut document = DeTable::parse(&text).unwrap().into_inner();
    wipe(&mut document);
    let key = |index: usize| {
        let sa = document.get("sa").unwrap().get_ref().get(index).unwrap().get_ref();
        sa.get("key").unwrap().get_ref().as_str().map(str::len)
    };
    assert_eq!((key(0), key(1)), (Some(0), Some(42)), "what has no escapes is the caller's text itself");
}

#[test]
fn a_reload_tells_which_of_the_two_changed_and_refuses_a_counter_that_is_reset() {
    let diff = |new: &str| Config::diff(&parse(PAIR).0, &parse(new).0).manual;
    let named = |change| [("sa/0x00002001".to_string(), change)];
    assert_eq!(diff(PAIR), []);
    assert_eq!(diff("[gateway]\n"), named(ManualDiff::Removed));
    assert_eq!(diff(&PAIR.replace("0x0001", "0xff01")), named(ManualDiff::Changed { outbound: true, inbound: false }));
    assert_eq!(diff(&PAIR.replace("0x2021", "0xff21")), named(ManualDiff::Changed { outbound: false, inbound: true }));
    let df = |direction: &str| PAIR.replace(direction, &format!("{direction}\ndf = \"copy\""));
    assert_eq!(diff(&df("direction = \"out\"")), named(ManualDiff::Changed { outbound: true, inbound: false }));
    assert_eq!(diff(&df("direction = \"in\"")), [], "of use to the sender alone");
    assert_eq!(diff(&PAIR.replace("10.31.", "10.32.")), named(ManualDiff::Replaced), "another pair of that name");
    let renamed = diff(&PAIR.replace("10.31.", "10.32.").replace("0x2001", "0x2002"));
    let other = ("sa/0x00002002".to_string(), ManualDiff::Added);
    assert_eq!(renamed, [other, ("sa/0x00002001".to_string(), ManualDiff::Removed)]);
    let bared = Config::diff(&parse(PAIR).0, &parse(&PAIR.replace("10.31.", "10.32.")).0).bared;
    assert_eq!(bared, ["10.31.0.0/16"], "in clear from then on");

    let reset = |new: &str| {
        let old = parse(PAIR).0;
        told(&crate::config::manual::counters_reset(old.manual.iter(), &parse(new).0.manual))
    };
    assert_eq!(reset(PAIR), "");
    assert_eq!(reset(&PAIR.replace("sequence  = 7", "sequence = 8")), "");
    assert_eq!(reset(&PAIR.replace("sequence  = 7", "").replace("0x0001", "0xff01")), "", "a new key begins at 0");
    let told = reset(&PAIR.replace("sequence  = 7", "sequence = 6").replace("0x2001", "0x3001"));
    assert!(told.contains("found sequence = 6 with a key that had 7 before, expected at least 7, or no"), "{told}");
    let left_out = PAIR.replace("sequence  = 7", "");
    assert_eq!((reset(&left_out), diff(&left_out)), (String::new(), Vec::new()), "it goes on");
    assert_eq!(reset(&left_out.replace("0x2001", "0x3001")), "", "behind its numbers");
    assert_eq!(diff(&PAIR.replace("= 7", "= 8")), named(ManualDiff::Changed { outbound: true, inbound: false }));
    let keys: Vec<&str> = PAIR.lines().filter(|line| line.starts_with("key")).collect();
    let exchanged = PAIR.replace(keys[0], "key = there").replace(keys[1], keys[0]).replace("key = there", keys[1]);
    let told = reset(&exchanged);
    assert!(told.contains("found the key that the peer has sent with until now, expected a new key"), "{told}");
}

#[test]
fn modes_for_two_hosts_want_one_address_on_each_side() {
    for mode in ["transport", "beet"] {
        let text = PAIR.replace("mode      = \"tunnel\"", "").replace("spi ", &format!("mode = \"{mode}\"\nspi "));
        let told = errors(&text);
        assert_eq!(told.len(), 4, "each network of both: {told:?}");
        assert!(told.iter().all(|error| error.to_string().contains(&format!("in {mode} mode"))), "{told:?}");
        let hosts = text.replace("10.2.0.0/16", "192.0.2.2").replace("10.31.0.0/16", "192.0.2.31");
        assert_eq!(parse(&hosts).0.manual[0].mode.as_str(), mode);
        let inner = text.replace("10.2.0.0/16", "10.2.0.9").replace("10.31.0.0/16", "10.31.0.9");
        match mode {
            "beet" => assert_eq!(parse(&inner).0.manual[0].mode.as_str(), mode),
            _ => assert_eq!(errors(&inner).len(), 4, "in transport mode there are no other addresses"),
        }
    }
}
