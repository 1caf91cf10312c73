//! Wycheproof against the default provider: X25519, P-256 and HMAC.

use crate::support::{self, engine, octets};
use ike_core::crypto::{Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use serde_json::Value;

fn tests(name: &str) -> Vec<(Value, Value)> {
    let json: Value =
        serde_json::from_slice(&std::fs::read(support::shared(&format!("crypto/wycheproof/{name}"))).unwrap()).unwrap();
    let of_group = |group: &Value| {
        let tests = group["tests"].as_array().unwrap();
        tests.iter().map(|test| (group.clone(), test.clone())).collect::<Vec<_>>()
    };
    json["testGroups"].as_array().unwrap().iter().flat_map(of_group).collect()
}

/// The agreement of a given private value with a public one; `None` when the public value is refused.
fn agree(group: Group, private: &[u8], public: &[u8]) -> Option<Vec<u8>> {
    let mut crypto = engine(private);
    let secret = crypto.ke_offer(group, &mut vec![0; group.offer_len()]).unwrap();
    let mut shared = SharedSecret::new();
    crypto.ke_finish(&secret, public, &mut shared).ok()?;
    Some(shared.as_slice().to_vec())
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn x25519() {
    let tests = tests("x25519_test.json");
    let (mut agreed, mut refused) = (0, 0);
    for (_, test) in tests {
        let (private, shared) = (octets(&test, "private"), octets(&test, "shared"));
        let zero = test["flags"].as_array().unwrap().iter().any(|flag| flag == "ZeroSharedSecret");
        let expected = (!zero).then_some(shared);
        assert_eq!(agree(Group::Curve25519, &private, &octets(&test, "public")), expected, "{test}");
        if zero { refused += 1 } else { agreed += 1 }
    }
    assert!(agreed >= 487 && refused >= 31, "{agreed} {refused}");
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn p256() {
    let tests = tests("ecdh_secp256r1_ecpoint_test.json");
    let (mut agreed, mut refused) = (0, 0);
    for (_, test) in tests {
        let private = octets(&test, "private");
        let digits = private.iter().position(|octet| *octet != 0).map_or(&[][..], |at| &private[at..]);
        let mut scalar = vec![0; 32 - digits.len()];
        scalar.extend(digits);
        let public = octets(&test, "public");
        // RFC 5903 §7: both coordinates and nothing before them; a compressed point cannot be said.
        let coordinates = public.strip_prefix(&[4]).unwrap_or(&public);
        let valid = test["result"] == "valid";
        let expected = valid.then(|| octets(&test, "shared"));
        assert_eq!(agree(Group::Ecp256, &scalar, coordinates), expected, "{test}");
        if valid { agreed += 1 } else { refused += 1 }
    }
    assert!(agreed >= 330 && refused >= 16, "{agreed} {refused}");
}

#[test]
fn p256_point_at_infinity_and_wrong_lengths_are_refused() {
    let private = [1; 32];
    for len in [0, 1, 32, 63, 64, 65, 66, 128] {
        assert_eq!(agree(Group::Ecp256, &private, &vec![0; len]), None);
    }
    for len in [0, 1, 31, 33, 64] {
        assert_eq!(agree(Group::Curve25519, &private, &vec![9; len]), None);
    }
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn hmac() {
    for (name, prf) in [("hmac_sha256_test.json", PrfAlg::HmacSha256), ("hmac_sha384_test.json", PrfAlg::HmacSha384)] {
        let tests = tests(name);
        let mut valid = 0;
        for (group, test) in tests {
            let (key, message, tag) = (octets(&test, "key"), octets(&test, "msg"), octets(&test, "tag"));
            let mut mac = Digest64::new();
            let (front, back) = message.split_at(message.len() / 2);
            engine(&[0]).prf(prf, &key, &[front, back], &mut mac);
            assert_eq!(mac.as_slice().len(), prf.output_len());
            let tag_len = group["tagSize"].as_u64().unwrap() as usize / 8;
            assert_eq!(mac.as_slice()[..tag_len] == tag, test["result"] == "valid", "{test}");
            valid += usize::from(test["result"] == "valid");
        }
        assert!(valid >= 66);
    }
}

/// RFC 4231 §4.2 and §4.7: HMAC-SHA-512, for which Wycheproof's file is not among the vectors.
#[test]
fn hmac_sha512() {
    let mut mac = Digest64::new();
    engine(&[0]).prf(PrfAlg::HmacSha512, &[0x0b; 20], &[b"Hi ", b"There"], &mut mac);
    let expected = "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
                    daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854";
    assert_eq!(mac.as_slice(), support::hex(expected));
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    engine(&[0]).prf(PrfAlg::HmacSha512, &[0xaa; 131], &[text], &mut mac);
    let expected = "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
                    6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598";
    assert_eq!(mac.as_slice(), support::hex(expected));
}
