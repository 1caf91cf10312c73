//! `portcullis decode` on recorded sessions: what opens, what is told of it, and the exit code.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ike_core::registry::NotifyKind;
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::encap::push_outer;
use ipsec_core::engine::{Outbound, OutboundSlot};
use ipsec_core::net::{AddrRange, Encap, Path as Way, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;
use serde_json::Value;

/// Sessions of the project's own, which lie with the crate that first had a use for them.
fn sessions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ike-core/tests/vectors")
}

fn session(name: &str, end: &str) -> PathBuf {
    sessions().join(format!("{name}.{end}"))
}

/// A file that goes with its value.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-decode-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn decode(capture: &Path, keys: Option<&Path>, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("decode").arg(capture).args(more);
    if let Some(keys) = keys {
        command.arg("--keys").arg(keys);
    }
    command.output().unwrap()
}

/// The exit code, an object for each packet, and what is said on standard error.
fn objects(capture: &Path, keys: Option<&Path>) -> (i32, Vec<Value>, String) {
    let output = decode(capture, keys, &["--json"]);
    let out = String::from_utf8(output.stdout).unwrap();
    let objects = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), objects, String::from_utf8(output.stderr).unwrap())
}

/// How many objects are of this kind and have this verdict.
fn count(objects: &[Value], what: &str, verdict: Option<&str>) -> usize {
    objects.iter().filter(|object| object["what"] == what && object["verdict"].as_str() == verdict).count()
}

/// Everything inside an object of this kind, at any depth.
fn inside<'o>(object: &'o Value, what: &str, found: &mut Vec<&'o Value>) {
    for node in object["inside"].as_array().into_iter().flatten() {
        if node["what"] == what {
            found.push(node);
        }
        inside(node, what, found);
    }
}

fn all<'o>(objects: &'o [Value], what: &str) -> Vec<&'o Value> {
    let mut found = Vec::new();
    objects.iter().for_each(|object| inside(object, what, &mut found));
    found
}

/// A whole session: of `packets` so many SK payloads open, and so many ESP packets.
fn opens(name: &str, packets: usize, protected: usize, esp: usize) -> Vec<Value> {
    let (code, objects, err) = objects(&session(name, "pcap"), Some(&session(name, "keys.json")));
    let clear = packets - protected - esp;
    assert_eq!(objects.len(), packets);
    assert_eq!(count(&objects, "IKE", None), clear, "{err}");
    assert_eq!(count(&objects, "IKE", Some("opened")), protected, "{err}");
    assert_eq!(count(&objects, "ESP", Some("opened")), esp, "{err}");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(all(&objects, "malformed").is_empty());
    // What both ends say they are, and what goes through: pings between two addresses.
    let ids = all(&objects, "IDi").into_iter().chain(all(&objects, "IDr")).map(|id| id["id"].as_str().unwrap());
    let ids: std::collections::BTreeSet<_> = ids.collect();
    assert!(ids.contains("a.test") && ids.contains("b.test"), "{ids:?}");
    let pings = all(&objects, "packet");
    assert_eq!(pings.len(), esp);
    for ping in pings {
        let ends = (ping["source"].as_str().unwrap(), ping["destination"].as_str().unwrap());
        assert!([("10.1.0.1", "10.2.0.1"), ("10.2.0.1", "10.1.0.1")].contains(&ends), "{ends:?}");
        assert_eq!(ping["protocol"], "icmp");
    }
    objects
}

#[test]
fn a_session_with_aes_gcm_and_a_pre_shared_key_opens() {
    let objects = opens("psk-aes256gcm16-p256", 24, 10, 12);
    // Two rekeys of a child's and one of the IKE SA's: SPIs of all are told.
    let transforms: Vec<_> = all(&objects, "transform").iter().map(|given| given["name"].as_str().unwrap()).collect();
    for name in ["ENCR_AES_GCM_16", "PRF_HMAC_SHA2_256", "ECP_256", "NO_ESN"] {
        assert!(transforms.contains(&name), "{name} in {transforms:?}");
    }
    let notifies: Vec<_> = all(&objects, "N").iter().map(|notify| notify["type"].as_str().unwrap()).collect();
    assert!(notifies.contains(&"REKEY_SA") && notifies.contains(&"NAT_DETECTION_SOURCE_IP"), "{notifies:?}");
    let selector = all(&objects, "selector")[0];
    assert_eq!((&selector["from"], &selector["to"]), (&"10.1.0.1".into(), &"10.1.0.1".into()));
}

#[test]
fn packets_of_a_session_are_told_in_their_order() {
    let objects = opens("psk-aes256gcm16-p256", 24, 10, 12);
    let esp: Vec<_> = objects.iter().filter(|object| object["what"] == "ESP").collect();
    let mut spis: Vec<_> = esp.iter().map(|packet| packet["spi"].as_str().unwrap()).collect();
    spis.sort_unstable();
    spis.dedup();
    assert_eq!(spis, ["2df80f39", "3a15b6de", "7b0cb57c", "ff7adf61"]);
    for spi in spis {
        let of: Vec<_> = esp.iter().filter(|packet| packet["spi"] == spi).collect();
        assert_eq!(of[0]["order"], "first");
        assert!(of[1..].iter().all(|packet| packet["order"] == "next"), "{of:?}");
        assert!(of.iter().zip(1..).all(|(packet, number)| packet["sequence"] == number));
    }
}

#[test]
fn a_session_with_certificates_opens() {
    let objects = opens("ecdsa256-aes128gcm16-x25519", 24, 10, 12);
    assert_eq!(all(&objects, "CERT").len(), 2);
    assert!(all(&objects, "AUTH").iter().all(|auth| auth["method"] == "DIGITAL_SIGNATURE"));
}

#[test]
fn a_session_with_a_cookie_and_another_key_exchange_opens() {
    let objects = opens("psk-cookie-invalidke", 26, 10, 12);
    let notifies = all(&objects, "N");
    let wants = notifies.iter().find(|notify| notify["type"] == "INVALID_KE_PAYLOAD").unwrap();
    assert_eq!(wants["inside"][0]["method"], "ECP_256");
}

#[test]
fn a_session_with_aes_cbc_and_sha2_opens() {
    opens("psk-aes256cbc-sha256-modp2048", 24, 10, 12);
}

#[test]
fn a_session_behind_a_nat_opens() {
    opens("psk-natt-encap", 24, 10, 12);
}

#[test]
fn a_session_with_aes_ctr_and_sha1_opens() {
    opens("psk-aes128ctr-sha1-modp3072", 24, 10, 12);
}

#[test]
fn a_session_whose_messages_come_in_fragments_opens_and_they_are_put_together() {
    let objects = opens("rsa-aes128cbc-sha512-ecp384", 25, 11, 12);
    let fragments = all(&objects, "SKF");
    assert_eq!(fragments.iter().map(|part| part["number"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(all(&objects, "message").len(), 1);
    assert_eq!(all(&objects, "CERT").len(), 2);
}

const GCM: &str = "psk-aes256gcm16-p256";

fn keys_of_gcm() -> Value {
    serde_json::from_slice(&fs::read(session(GCM, "keys.json")).unwrap()).unwrap()
}

fn with_keys(name: &str, keys: &Value) -> (i32, Vec<Value>, String) {
    objects(&session(GCM, "pcap"), Some(&File::new(name, keys.to_string()).0))
}

#[test]
fn without_keys_what_is_in_clear_is_told_and_nothing_failed() {
    let (code, objects, err) = objects(&session(GCM, "pcap"), None);
    assert_eq!((code, err.as_str(), objects.len()), (0, "", 24));
    assert_eq!(count(&objects, "IKE", None), 2);
    assert_eq!((count(&objects, "IKE", Some("no-key")), count(&objects, "ESP", Some("no-key"))), (10, 12));
    assert_eq!(all(&objects, "proposal").len(), 2);
    assert_eq!(all(&objects, "KE").len(), 2);
}

#[test]
fn a_wrong_key_is_told_and_exits_with_1() {
    let spoiled = |key: &mut Value| {
        let first = key.as_str().unwrap();
        *key = if first.starts_with('0') { first.replacen('0', "1", 1) } else { format!("0{}", &first[1..]) }.into();
    };
    let mut keys = keys_of_gcm();
    spoiled(&mut keys["ike_sas"][0]["Sk_er"]);
    let (code, objects, err) = with_keys("half-wrong", &keys);
    assert_eq!((code, count(&objects, "IKE", Some("opened")), count(&objects, "IKE", Some("failed"))), (1, 5, 5));
    spoiled(&mut keys["ike_sas"][0]["Sk_ei"]);
    let (code, objects, _) = with_keys("wrong-ike", &keys);
    assert_eq!((code, count(&objects, "IKE", Some("opened")), count(&objects, "IKE", Some("failed"))), (1, 0, 10));
    assert_eq!(count(&objects, "ESP", Some("opened")), 12);
    assert_eq!(err, "did not open, although the keys name their SA: 5\n");

    let mut keys = keys_of_gcm();
    spoiled(&mut keys["child_sas"][0]["encryption initiator key"]);
    let (code, objects, _) = with_keys("wrong-esp", &keys);
    assert_eq!((code, count(&objects, "ESP", Some("opened")), count(&objects, "ESP", Some("failed"))), (1, 8, 4));
    let failed = objects.iter().find(|object| object["verdict"] == "failed").unwrap();
    assert_eq!((&failed["icv"], &failed["why"]), (&"wrong".into(), &"the ICV is wrong".into()));
}

#[test]
fn a_missing_key_is_told_and_is_no_failure() {
    let mut keys = keys_of_gcm();
    keys["ike_sas"] = Value::Array(Vec::new());
    keys["child_sas"].as_array_mut().unwrap().remove(1);
    let (code, objects, err) = with_keys("missing", &keys);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!((count(&objects, "IKE", Some("opened")), count(&objects, "IKE", Some("no-key"))), (0, 10));
    assert_eq!((count(&objects, "ESP", Some("opened")), count(&objects, "ESP", Some("no-key"))), (8, 4));
}

#[test]
fn keys_are_found_in_any_order_and_by_their_spis() {
    let mut keys = keys_of_gcm();
    keys["ike_sas"].as_array_mut().unwrap().reverse();
    assert_eq!(with_keys("reversed", &keys).0, 0);
    // The SPIs of another SA: then they are not for this one.
    keys["ike_sas"].as_array_mut().unwrap().remove(0);
    keys["ike_sas"][0]["spi_i"] = "00000000000000aa".into();
    keys["ike_sas"][0]["spi_r"] = "00000000000000bb".into();
    let (code, objects, _) = with_keys("named", &keys);
    assert_eq!((code, count(&objects, "IKE", Some("no-key"))), (0, 10));
    // And its own, with keys that are another's.
    let mut keys = keys_of_gcm();
    keys["ike_sas"].as_array_mut().unwrap().remove(0);
    keys["ike_sas"][0]["spi_i"] = "0fbb2d2fd5c71dfb".into();
    keys["ike_sas"][0]["spi_r"] = "0x47af28d883cefba8".into();
    let (code, objects, _) = with_keys("own", &keys);
    assert_eq!((code, count(&objects, "IKE", Some("failed"))), (1, 10));
}

#[test]
fn a_keys_file_that_is_wrong_is_told_with_its_place_and_exits_with_2() {
    let text = fs::read_to_string(session(GCM, "keys.json")).unwrap();
    let file = File::new("bad", text.replacen("\"Sk_ei\": \"", "\"Sk_ei\": \"x", 1));
    let output = decode(&session(GCM, "pcap"), Some(&file.0), &[]);
    let err = String::from_utf8(output.stderr).unwrap();
    let place = format!("{}:", file.0.display());
    assert_eq!(output.status.code(), Some(2));
    assert!(err.starts_with(&place) && err.ends_with("expected a key: an even number of hex digits\n"), "{err}");
    assert!(output.stdout.is_empty());
    let output = decode(&session(GCM, "pcap"), Some(Path::new("absent.json")), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "absent.json: no such file or directory\n");
}

#[test]
fn a_capture_that_is_none_or_cut_off_is_told_and_exits_with_1() {
    for (name, content, told) in [
        ("none", &b"this is no capture, as anybody can see"[..], "expected a capture"),
        ("empty", b"", "expected a capture"),
    ] {
        let output = decode(&File::new(name, content).0, None, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(told));
    }
    let whole = fs::read(session(GCM, "pcap")).unwrap();
    let cut = File::new("cut", &whole[..whole.len() - 1]);
    let (code, objects, err) = objects(&cut.0, Some(&session(GCM, "keys.json")));
    assert_eq!((code, objects.len(), objects[23]["what"].as_str()), (1, 24, Some("broken")));
    assert_eq!(count(&objects, "IKE", Some("opened")), 9);
    assert!(err.starts_with("the capture does not end where it should"), "{err}");
}

/// What `decode` says of a capture that comes through a pipe.
fn piped(name: &str, content: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["decode", name, "--keys"]).arg(session(GCM, "keys.json"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_capture_may_come_through_a_pipe() {
    let whole = fs::read(session(GCM, "pcap")).unwrap();
    let expected = decode(&session(GCM, "pcap"), Some(&session(GCM, "keys.json")), &[]);
    assert!(!expected.stdout.is_empty());
    for name in ["-", "/dev/stdin"] {
        assert_eq!(piped(name, &whole), expected);
        let none = piped(name, b"");
        assert_eq!(none.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&none.stderr),
            format!("{name}: found less than four octets, expected a capture (pcap or pcapng)\n")
        );
    }
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
    let run = |out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("decode").arg(session(GCM, "pcap")).stdout(out).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(run(full.into()), (Some(1), "standard output: no space left on device\n".to_owned()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(writer.into()), (Some(0), String::new()));
}

#[test]
fn no_key_is_printed() {
    let text = String::from_utf8(decode(&session(GCM, "pcap"), Some(&session(GCM, "keys.json")), &[]).stdout).unwrap();
    let keys = keys_of_gcm();
    let mut secrets: Vec<&str> = Vec::new();
    for (list, name) in [("ike_sas", "Sk_"), ("child_sas", "encryption")] {
        for sa in keys[list].as_array().unwrap() {
            let named = sa.as_object().unwrap().iter().filter(|(key, _)| key.starts_with(name));
            secrets.extend(named.map(|(_, value)| value.as_str().unwrap()));
        }
    }
    assert_eq!(secrets.len(), 14);
    assert!(text.contains("opened") && secrets.iter().all(|secret| !text.contains(&secret[..16])));
}

#[test]
fn text_has_a_tree_for_each_packet_and_the_sums() {
    let output = decode(&session(GCM, "pcap"), Some(&session(GCM, "keys.json")), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let first =
        "#1 0.000000 10.66.0.1:500 > 10.66.0.2:500 IKE length 264 exchange IKE_SA_INIT direction request id 0 spi_i ";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains(
        "\n  SA\n    proposal number 1 protocol IKE\n      transform type ENCR name ENCR_AES_GCM_16 key_bits 256\n"
    ));
    assert!(text.contains("\n  SK length "), "{text}");
    assert!(text.contains("\n    AUTH method SHARED_KEY_MIC length 32 data "));
    assert!(text.ends_with(
        "IKE messages 12; protected: opened 10, no-key 0, failed 0\nESP packets: opened 12, no-key 0, failed 0\n\
         other packets 0, broken 0\n"
    ));
}

#[test]
fn help_teaches_with_an_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["decode", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("portcullis decode tunnel.pcap --keys tunnel.keys.json") && text.contains("Sk_ei"), "{text}");
}

fn no_tshark() -> bool {
    let missing = Command::new("tshark").arg("--version").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none(), "tshark is needed here: apt-get install tshark");
        println!("skipped: no tshark");
    }
    missing
}

/// Of each packet what tshark says without keys; fields that a packet has not are empty.
#[test]
#[ignore = "runs tshark"]
fn headers_are_told_as_tshark_tells_them() {
    if no_tshark() {
        return;
    }
    const FIELDS: [&str; 10] = [
        "frame.number",
        "ip.src",
        "isakmp.ispi",
        "isakmp.rspi",
        "isakmp.exchangetype",
        "isakmp.messageid",
        "isakmp.length",
        "esp.spi",
        "esp.sequence",
        "isakmp.notify.msgtype",
    ];
    let mut compared = 0;
    for entry in fs::read_dir(sessions()).unwrap() {
        let capture = entry.unwrap().path();
        if capture.extension().is_none_or(|end| end != "pcap") {
            continue;
        }
        let mut command = Command::new("tshark");
        command.args(["-n", "-T", "fields", "-r"]).arg(&capture);
        let output = command.args(FIELDS.iter().flat_map(|field| ["-e", field])).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let (_, objects, _) = objects(&capture, None);
        assert_eq!(lines.lines().count(), objects.len());
        for (line, object) in lines.lines().zip(&objects) {
            let fields: Vec<&str> = line.split('\t').collect();
            let number =
                |text: &str| text.strip_prefix("0x").map_or(text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap();
            assert_eq!(object["packet"], number(fields[0]));
            let source = object["source"].as_str().unwrap();
            assert_eq!(source.rsplit_once(':').map_or(source, |(addr, _)| addr), fields[1]);
            if object["what"] == "IKE" {
                // The length of an IKE message stands first, those of payloads behind commas.
                let first = |text: &str| number(text.split(',').next().unwrap());
                assert_eq!((object["spi_i"].as_str(), object["spi_r"].as_str()), (Some(fields[2]), Some(fields[3])));
                let exchange = match number(fields[4]) {
                    34 => "IKE_SA_INIT",
                    35 => "IKE_AUTH",
                    36 => "CREATE_CHILD_SA",
                    37 => "INFORMATIONAL",
                    other => panic!("{other}"),
                };
                assert_eq!(object["exchange"], exchange);
                let notifies =
                    all(std::slice::from_ref(object), "N").into_iter().map(|notify| notify["type"].as_str().unwrap());
                let kinds = fields[9].split(',').filter(|kind| !kind.is_empty());
                let kinds = kinds.map(|kind| NotifyKind(kind.parse().unwrap()).to_string());
                assert!(kinds.eq(notifies), "{line}");
                assert_eq!((&object["id"], &object["length"]), (&number(fields[5]).into(), &first(fields[6]).into()));
            } else {
                assert_eq!(object["spi"].as_str().unwrap(), format!("{:08x}", number(fields[7])));
                assert_eq!(object["sequence"], number(fields[8]));
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 171);
}

/// A capture of packets between two hosts, 192.0.2.1 and 192.0.2.2, in one SA.
fn between_hosts(mode: Mode, packets: &[Vec<u8>]) -> Vec<u8> {
    let host = |network: [u8; 3], last| AddrRange::single([network[0], network[1], network[2], last].into());
    let ts = |last| [TrafficSelector::addrs(host(if mode == Mode::Beet { [10, 0, 0] } else { [192, 0, 2] }, last))];
    let end = |last| std::net::SocketAddr::from(([192, 0, 2, last], 0));
    let (local_ts, remote_ts) = (ts(1), ts(2));
    let sa = Params {
        spi: Spi::new(0x1000).unwrap(),
        mode,
        protection: AeadAlg::Aes128Gcm16.into(),
        keymat: &[7; 20],
        esn: false,
        path: Way { local: end(1), remote: end(2) },
        encap: Encap::None,
        policy: PolicyId(1),
        local_ts: &local_ts,
        remote_ts: &remote_ts,
        lifetime: Lifetime::default(),
        compression: None,
    };
    let params = OutboundParams {
        sa,
        last_sent: 0,
        last_number: u64::MAX,
        copy_dscp: false,
        dont_fragment: DontFragment::Clear,
    };
    let mut slots = [const { OutboundSlot::<RustCrypto>::EMPTY }];
    let mut engine: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut slots);
    let id = engine.install(Instant::ZERO, &params).unwrap();
    let mut file: Vec<u8> =
        [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 101].iter().flat_map(|word| word.to_be_bytes()).collect();
    for inner in packets {
        let mut octets = [0; 300];
        let mut packet = PacketBuf::with_payload(&mut octets, inner).unwrap();
        let egress = engine.seal(Instant::ZERO, id, &mut packet).unwrap();
        push_outer(&egress, &mut packet).unwrap();
        let len = u32::try_from(packet.len()).unwrap();
        [0, 0, len, len].iter().for_each(|word| file.extend(word.to_be_bytes()));
        file.extend(packet.as_slice());
    }
    file
}

/// What opens in transport mode is what tshark opens with the same key.
#[test]
#[ignore = "runs tshark"]
fn packets_between_two_hosts_are_opened_as_tshark_opens_them() {
    if no_tshark() {
        return;
    }
    let keys = r#"{"esp_proposal": "aes128gcm16", "child_sas": [{"spi_of_initiator_traffic": "00001000",
        "spi_of_responder_traffic": "00002000", "encryption initiator key": "KEY", "encryption responder key": "KEY"}]}"#;
    let keys = File::new("hosts.json", keys.replace("KEY", &"07".repeat(20)));
    for (mode, network) in [(Mode::Transport, [192, 0, 2]), (Mode::Beet, [10, 0, 0])] {
        let [a, b, c] = network;
        let ip = |protocol, payload: &[u8]| {
            let len = u8::try_from(20 + payload.len()).unwrap();
            [&[0x45, 0, 0, len, 0, 0, 0, 0, 64, protocol, 0, 0, a, b, c, 1, a, b, c, 2], payload].concat()
        };
        let tcp = [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2][..], &[0; 6]].concat();
        let packets = [
            ip(17, &[0x13, 0x88, 0x13, 0x89, 0, 12, 0, 0, b'p', b'i', b'n', b'g']),
            ip(6, &tcp),
            ip(1, &[8, 0, 0, 0, 0, 1, 0, 2, 9, 9]),
        ];
        let capture = File::new(&format!("hosts-{a}.pcap"), between_hosts(mode, &packets));
        let (code, objects, err) = objects(&capture.0, Some(&keys.0));
        assert_eq!((code, objects.len(), err.as_str()), (0, 3, ""));
        let key = format!("0x{}", "07".repeat(20));
        let sa = format!(
            r#"uat:esp_sa:"IPv4","*","*","0x00001000","AES-GCM with 16 octet ICV [RFC4106]","{key}","NULL","","32-bit""#
        );
        let mut command = Command::new("tshark");
        command.args(["-n", "-o", "esp.enable_encryption_decode:TRUE", "-o", &sa, "-T", "fields", "-r"]);
        command.arg(&capture.0);
        let fields = ["udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport", "icmp.type"];
        let output = command.args(fields.iter().flat_map(|field| ["-e", field])).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let packets = all(&objects, "packet");
        assert_eq!(lines.lines().count(), packets.len());
        for (line, packet) in lines.lines().zip(packets) {
            let told = ["protocol", "source_port", "destination_port", "type"].map(|key| packet[key].to_string());
            let [protocol, from, to, kind] = told.each_ref().map(String::as_str);
            let expected = match protocol {
                r#""udp""# => format!("{from}\t{to}\t\t\t"),
                r#""tcp""# => format!("\t\t{from}\t{to}\t"),
                r#""icmp""# => format!("\t\t\t\t{kind}"),
                other => panic!("{other}"),
            };
            assert_eq!(line, expected);
            assert_eq!(packet["mode"], "transport");
        }
    }
}
