//! Keys: what is one, where it stands, and that no message tells it.

use zeroize::Zeroizing;

use super::*;

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

#[test]
fn keys_are_text_or_hexadecimal_or_in_a_file() {
    let capital = parse(&GOOD.replace("a pre-shared key of some length", "0X000102030405060708090a0B0c0d0e0f")).0;
    assert_eq!(capital.peers[0].secret.loaded().unwrap().expose(), (0..16).collect::<Vec<_>>());
    let hex = GOOD.replace("a pre-shared key of some length", "0x000102030405060708090a0B0c0d0e0f");
    let hex = parse(&hex).0;
    assert_eq!(hex.peers[0].secret.loaded().unwrap().expose(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    let file = GOOD.replace("psk       = \"a pre-shared key of some length\"", "psk-file = \"cloud.psk\"");
    let mut config = parse(&file).0;
    assert!(config.peers[0].secret.loaded().is_none());
    let mut refused = |why: NoKey| told(&config.load_secrets(|_| Err(why.clone())).unwrap_err());
    assert_eq!(
        refused(NoKey::Absent("no file that can be read".into())),
        "12:12: found no file that can be read, expected a file with the pre-shared key; \"psk-file\" is the name of a \
         file, seen from the folder of this one; the key itself is written as \"psk\"\n"
    );
    assert_eq!(
        refused(NoKey::Unfit("a file that others can read (mode 0644)".into())),
        "12:12: found a file that others can read (mode 0644), expected a file with the pre-shared key\n"
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
            Ok((mut config, _)) => config.load_secrets(|_| Err(NoKey::Absent("no such file".into()))).unwrap_err(),
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
        (b"", "found nothing in \"cloud.psk\", expected the pre-shared key in one line"),
        (&[b'k'; 257], "1 to 256 octets"),
        (b"\xff\xfe in the middle", "no text in UTF-8"),
    ] {
        let told = told(&loaded(octets).unwrap_err());
        assert!(told.contains(why), "{told}");
        assert!(!told.contains("line of two") && !told.contains("QSBr"), "{told}");
    }
    assert_eq!(loaded("kl".repeat(128).as_bytes()).map(|(key, _)| key.len()).ok(), Some(256), "the longest one");
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
