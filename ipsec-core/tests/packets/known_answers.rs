//! What others published about the algorithms: Wycheproof, NIST and the RFCs.

use crate::vectors::{hex, number, raw, shared, text};
use ipsec_core::crypto::conformance::{Aead, Cipher, Integ, check, check_cipher, check_integ};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, AeadMode, CipherAlg, IntegAlg, PacketCrypto, Purpose};

fn aead(mode: AeadMode, key_len: usize, tag_len: usize) -> Option<AeadAlg> {
    let fits = |alg: &AeadAlg| (alg.mode(), alg.key_len(), alg.tag_len()) == (mode, key_len, tag_len);
    AeadAlg::ALL.iter().copied().find(fits)
}

/// Cases of an AEAD with nonces of so many bits: how many are valid, and how many are not.
fn wycheproof(file: &str, mode: AeadMode, nonce_bits: u64) -> (usize, usize) {
    let (mut valid, mut invalid) = (0, 0);
    for group in shared(file)["testGroups"].as_array().unwrap() {
        let lengths = (number(group, "keySize") as usize / 8, number(group, "tagSize") as usize / 8);
        let Some(alg) = aead(mode, lengths.0, lengths.1).filter(|_| number(group, "ivSize") == nonce_bits) else {
            continue;
        };
        for case in group["tests"].as_array().unwrap() {
            let (key, iv) = (hex(text(case, "key")), hex(text(case, "iv")));
            let mut nonce = [0; 12];
            nonce[12 - iv.len()..].copy_from_slice(&iv);
            let sealed = [hex(text(case, "ct")), hex(text(case, "tag"))].concat();
            let known = Aead {
                alg,
                key: &key,
                nonce,
                aad: &hex(text(case, "aad")),
                text: &hex(text(case, "msg")),
                sealed: &sealed,
                valid: text(case, "result") == "valid",
            };
            *(if known.valid { &mut valid } else { &mut invalid }) += 1;
            assert_eq!(check(&mut RustCrypto, &known, &mut vec![0; sealed.len()]), Ok(()), "{case}");
        }
    }
    (valid, invalid)
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn aes_gcm_answers_as_wycheproof_says() {
    let (valid, invalid) = wycheproof("crypto/wycheproof/aes_gcm_test.json", AeadMode::Gcm, 96);
    assert!(valid >= 100 && invalid >= 50, "{valid} valid, {invalid} invalid");
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn aes_ccm_answers_as_wycheproof_says() {
    // Of all lengths of a nonce, ESP has 11 octets.
    assert_eq!(wycheproof("crypto/wycheproof/aes_ccm_test.json", AeadMode::Ccm, 88), (18, 0));
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn aes_cbc_answers_as_wycheproof_and_nist_say() {
    let alg = |key: &[u8]| match key.len() {
        16 => CipherAlg::Aes128Cbc,
        24 => CipherAlg::Aes192Cbc,
        _ => CipherAlg::Aes256Cbc,
    };
    let mut checked = 0;
    let mut cipher = |key: &[u8], iv: &[u8], text: &[u8], sealed: &[u8]| {
        let known = Cipher { alg: alg(key), key, iv: iv.try_into().unwrap(), text, sealed };
        assert_eq!(check_cipher(&mut RustCrypto, &known, &mut vec![0; text.len()]), Ok(()));
        checked += 1;
    };
    for group in shared("crypto/wycheproof/aes_cbc_pkcs5_test.json")["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap().iter().filter(|case| text(case, "result") == "valid") {
            // Their padding: so many octets, each of them how many.
            let mut padded = hex(text(case, "msg"));
            let pad = 16 - padded.len() % 16;
            padded.extend(vec![pad as u8; pad]);
            cipher(&hex(text(case, "key")), &hex(text(case, "iv")), &padded, &hex(text(case, "ct")));
        }
    }
    for file in ["CBCMMT128.rsp", "CBCMMT256.rsp"] {
        for [key, iv, plain, sealed] in records(file, ["KEY", "IV", "PLAINTEXT", "CIPHERTEXT"]) {
            cipher(&key, &iv, &plain, &sealed);
        }
    }
    assert_eq!(checked, 72 + 40);
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn aes_ctr_answers_as_rfc_3686_says() {
    let mut checked = 0;
    for (file, alg) in [("ctr-aes-128-ctr.txt", CipherAlg::Aes128Ctr), ("ctr-aes-256-ctr.txt", CipherAlg::Aes256Ctr)] {
        for [key, iv, plain, sealed] in records(file, ["KEY", "IV", "PLAINTEXT", "CIPHERTEXT"]) {
            let known = Cipher { alg, key: &key, iv: iv.try_into().unwrap(), text: &plain, sealed: &sealed };
            assert_eq!(check_cipher(&mut RustCrypto, &known, &mut vec![0; plain.len()]), Ok(()));
            checked += 1;
        }
    }
    for case in shared("esp/linux-testmgr-aes_ctr_rfc3686.json").as_array().unwrap() {
        let keymat = hex(text(case, "key"));
        let (key, nonce) = keymat.split_at(keymat.len() - 4);
        let alg = match key.len() {
            16 => CipherAlg::Aes128Ctr,
            24 => CipherAlg::Aes192Ctr,
            _ => CipherAlg::Aes256Ctr,
        };
        let iv = [nonce, &hex(text(case, "iv")), &[0, 0, 0, 1]].concat().try_into().unwrap();
        let (plain, sealed) = (hex(text(case, "ptext")), hex(text(case, "ctext")));
        let known = Cipher { alg, key, iv, text: &plain, sealed: &sealed };
        assert_eq!(check_cipher(&mut RustCrypto, &known, &mut vec![0; plain.len()]), Ok(()), "{case}");
        checked += 1;
    }
    assert!(checked >= 6 + 7, "{checked}");
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn integrity_algorithms_answer_as_wycheproof_says() {
    for (file, alg) in [
        ("hmac_sha1_test.json", IntegAlg::HmacSha1),
        ("hmac_sha256_test.json", IntegAlg::HmacSha256),
        ("hmac_sha384_test.json", IntegAlg::HmacSha384),
        ("aes_cmac_test.json", IntegAlg::AesCmac),
    ] {
        let (mut valid, mut invalid) = (0, 0);
        for group in shared(&format!("crypto/wycheproof/{file}"))["testGroups"].as_array().unwrap() {
            if number(group, "keySize") as usize / 8 != alg.key_len() {
                continue;
            }
            for case in group["tests"].as_array().unwrap() {
                // A tag of ours is the beginning of one of theirs, and none where that is shorter.
                let (key, tag) = (hex(text(case, "key")), hex(text(case, "tag")));
                let right = text(case, "result") == "valid";
                let icv = if right { &tag[..alg.icv_len().min(tag.len())] } else { &tag };
                let known = Integ { alg, key: &key, text: &hex(text(case, "msg")), icv, valid: right };
                if (right && tag.len() < alg.icv_len()) || tag.len() > 32 && !right {
                    continue;
                }
                *(if right { &mut valid } else { &mut invalid }) += 1;
                assert!(check_integ(&mut RustCrypto, &known) == Ok(()), "{alg:?} {case}");
            }
        }
        assert!(valid >= 20 && invalid >= 30, "{alg:?}: {valid} valid, {invalid} invalid");
    }
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn integrity_algorithms_answer_as_the_rfcs_say() {
    let mut checked = 0;
    let mut integ = |alg: IntegAlg, key: &[u8], text: &[u8], digest: &[u8]| {
        if key.len() == alg.key_len() {
            let known = Integ { alg, key, text, icv: &digest[..alg.icv_len()], valid: true };
            assert_eq!(check_integ(&mut RustCrypto, &known), Ok(()), "{alg:?}");
            checked += 1;
        }
    };
    for [key, message, output] in records("nist-800-38b-aes128.txt", ["KEY", "MESSAGE", "OUTPUT"]) {
        integ(IntegAlg::AesCmac, &key, &message, &output);
    }
    for [key, message, output] in records("rfc-2202-sha1.txt", ["Key", "Msg", "MD"]) {
        integ(IntegAlg::HmacSha1, &key, &message, &output);
    }
    for case in shared("esp/linux-testmgr-aes_xcbc128.json").as_array().unwrap() {
        let (key, message, digest) = (hex(text(case, "key")), hex(text(case, "plaintext")), hex(text(case, "digest")));
        integ(IntegAlg::AesXcbc, &key, &message, &digest);
    }
    // RFC 4868 §2.7.2.1, AUTH256-1, AUTH384-1 and AUTH512-1.
    for (alg, icv) in [
        (IntegAlg::HmacSha256, "198a607eb44bfbc69903a0f1cf2bbdc5"),
        (IntegAlg::HmacSha384, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
        (IntegAlg::HmacSha512, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"),
    ] {
        integ(alg, &vec![0x0b; alg.key_len()], b"Hi There", &hex(icv));
    }
    assert!(checked >= 4 + 3 + 5 + 3, "{checked}");
}

#[test]
fn chacha20_poly1305_answers_as_rfc_7634_says() {
    // Appendix A: the packet of the ICMP echo, with SPI and sequence number in the associated data.
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce = [0xa0, 0xa1, 0xa2, 0xa3, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
    let engine = &mut RustCrypto;
    let opener = engine.aead_key(AeadAlg::ChaCha20Poly1305, &key).unwrap();
    let mut sealed = hex(concat!(
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9be",
        "fe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
    ));
    let text_len = sealed.len() - 16;
    engine.open(&opener, &nonce, &[1, 2, 3, 4, 0, 0, 0, 5], &mut sealed).unwrap();
    assert_eq!(sealed[..12], [0x45, 0, 0, 0x54, 0xa6, 0xf2, 0, 0, 0x40, 1, 0xe7, 0x78]);
    assert_eq!(sealed[text_len - 4..text_len], [1, 2, 2, 4]);
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn what_linux_encrypted_without_integrity_decrypts_but_no_sa_takes_it() {
    // RFC 8221 §4: encryption without integrity is not to be had here, so this is about the ciphers alone.
    let mut decrypted = 0;
    for case in shared("esp/linux-xfrm-reference-packets.json").as_array().unwrap() {
        let sa = text(case, "sa");
        let (alg, iv_len) = match sa {
            sa if sa.contains("'AES-CBC'") => (CipherAlg::Aes128Cbc, 16),
            sa if sa.contains("'AES-CTR'") => (CipherAlg::Aes128Ctr, 8),
            #[cfg(feature = "legacy")]
            sa if sa.contains("'3DES'") => (CipherAlg::TripleDesCbc, 8),
            _ => continue,
        };
        let keymat = sa.split("crypt_key=b'").nth(1).unwrap().split('\'').next().unwrap().as_bytes();
        let (key, nonce) = keymat.split_at(alg.key_len());
        let payload = hex(text(case, "esp_payload_after_spi_seq_hex"));
        let (iv, sealed) = payload.split_at(iv_len);
        let first = match alg {
            CipherAlg::Aes128Ctr => [nonce, iv, &[0, 0, 0, 1]].concat(),
            _ => [iv, &[0; 16][iv_len..]].concat(),
        };
        let engine = &mut RustCrypto;
        let key = engine.cipher_key(alg, Purpose::Decrypt, key).unwrap();
        let mut inner = sealed.to_vec();
        engine.decrypt(&key, &first.try_into().unwrap(), &mut inner);
        assert_eq!((inner[0], inner[9]), (0x45, 1), "an IPv4 packet with ICMP");
        decrypted += 1;
    }
    assert_eq!(decrypted, if cfg!(feature = "legacy") { 3 } else { 2 });
}

/// Records of `NAME = hexadecimal` lines, each complete when all of its names came, in any order.
fn records<const N: usize>(file: &str, names: [&str; N]) -> Vec<[Vec<u8>; N]> {
    let content = raw(&format!("crypto/nist-rfc/{file}"));
    let (mut records, mut fields) = (Vec::new(), [const { None }; N]);
    for (name, value) in content.lines().filter_map(|line| line.split_once('=')) {
        let Some(place) = names.iter().position(|known| *known == name.trim()) else { continue };
        fields[place] = Some(hex(value.trim()));
        if fields.iter().all(Option::is_some) {
            records.push(core::mem::replace(&mut fields, [const { None }; N]).map(Option::unwrap));
        }
    }
    assert!(!records.is_empty(), "{file}");
    records
}
