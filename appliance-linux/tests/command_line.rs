//! The command line as its users meet it: exit codes, and what is said about mistakes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GOOD: &str = r#"
[[peer]]
name      = "cloud"
local     = "192.0.2.2"
remote    = "192.0.2.1"
local-id  = "right.lab"
remote-id = "left.lab"
psk-file  = "cloud.psk"

[[peer.child]]
name      = "net"
local-ts  = ["10.2.0.0/16"]
remote-ts = ["10.1.0.0/16"]
"#;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).output().unwrap()
}

fn check(config: &Path) -> (i32, String, String) {
    let output = portcullis(&["check", "--config", config.to_str().unwrap()]);
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_good_configuration_is_fine() {
    let folder = Folder::new("good");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let (code, out, err) = check(&folder.write("p.toml", GOOD));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("p.toml: fine: peers 1, children 1, policies 0\n"), "{out}");
}

#[test]
fn f_33_doctor_gives_programs_an_object_a_line() {
    let folder = Folder::new("doctor");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let config = folder.write("p.toml", GOOD);
    let output = portcullis(&["doctor", "--json", config.to_str().unwrap()]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.starts_with(r#"{"grade":""#), "{out}");
    assert!(out.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{out}");
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_was_expected_and_exits_with_2() {
    let folder = Folder::new("bad");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let config = folder.write("p.toml", &GOOD.replace("10.2.0.0/16", "10.2.0.0/33"));
    let (code, _, err) = check(&config);
    assert_eq!(code, 2);
    let line = err.strip_prefix(&format!("{}:12:", config.display())).unwrap_or_else(|| panic!("{err}"));
    assert!(line.contains("expected"), "{err}");
    let (code, _, err) = check(&folder.0.join("absent.toml"));
    assert_eq!(code, 2);
    assert!(err.contains("absent.toml: no such file or directory"), "{err}");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let folder = Folder::new("exposed");
    let key = folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let config = folder.write("p.toml", GOOD);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let (code, _, err) = check(&config);
        assert_eq!(code, 2);
        assert!(err.contains(&format!("chmod 600 {}", key.display())), "{err}");
        assert!(err.contains("p.toml:8:"), "{err}");
    }
}

#[test]
fn a_short_key_is_warned_about_and_never_shown() {
    let folder = Folder::new("short");
    folder.write("cloud.psk", "1BigSecret\n");
    let (code, out, err) = check(&folder.write("p.toml", GOOD));
    assert_eq!(code, 0);
    assert!(err.contains("warning: ") && err.contains("20 characters"), "{err}");
    assert!(!out.contains("BigSecret") && !err.contains("BigSecret"));
}

#[test]
fn a_key_inside_a_file_that_others_can_read_is_warned_about() {
    let folder = Folder::new("inline");
    let text = GOOD.replace("psk-file  = \"cloud.psk\"", "psk = \"a key of more than twenty characters\"");
    let config = folder.write("p.toml", &text);
    assert_eq!(check(&config).2, "");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = check(&config);
    assert_eq!(code, 0);
    assert!(err.contains("chmod 600"), "{err}");
}

#[test]
fn without_a_daemon_its_commands_exit_with_3_and_say_so() {
    let folder = Folder::new("nobody");
    let socket = folder.0.join("control.sock");
    for command in [
        &["status"][..],
        &["up", "cloud"],
        &["down", "cloud"],
        &["rekey", "cloud/net"],
        &["reload"],
        &["show"],
        &["events"],
    ] {
        let arguments: Vec<&str> = ["--control", socket.to_str().unwrap()].iter().chain(command).copied().collect();
        let output = portcullis(&arguments);
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("no portcullis answers at"));
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [&["dance"][..], &["check", "file"], &["up"], &[]] {
        assert_eq!(portcullis(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn help_teaches_with_examples_and_exit_codes() {
    let output = portcullis(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["Examples:", "portcullis up cloud", "Exit codes:", "[[peer.child]]", "--control"] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn the_configuration_in_the_help_is_a_good_one() {
    let text = String::from_utf8(portcullis(&["--help"]).stdout).unwrap();
    let (_, rest) = text.split_once("The smallest configuration:\n").unwrap();
    let (config, _) = rest.split_once("\n\n").unwrap();
    let folder = Folder::new("help");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let (code, _, err) = check(&folder.write("p.toml", config));
    assert_eq!((code, err.as_str()), (0, ""));
}

/// The commands for a key that a text shows, each once.
fn key_commands(text: &str) -> Vec<&str> {
    let from = |line: &'_ str| line.find("openssl rand");
    let lines = text.lines().filter_map(|line| line.get(from(line)?..));
    lines.map(|line| line.split('`').next().unwrap_or_default().trim()).collect()
}

#[test]
fn f_76_a_key_is_made_in_one_way_everywhere_and_it_is_a_good_one() {
    let help = String::from_utf8(portcullis(&["--help"]).stdout).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let pages = [help, page("README.md"), page("docs/operations.md"), page("docs/configuration.md")];
    let commands: Vec<&str> = pages.iter().flat_map(|page| key_commands(page)).collect();
    assert_eq!(commands.len(), pages.len());
    assert!(commands.iter().all(|command| *command == commands[0]), "{commands:?}");

    let folder = Folder::new("key");
    let command = commands[0].replace("/etc/portcullis", folder.0.to_str().unwrap());
    assert!(Command::new("sh").args(["-euc", &command]).status().unwrap().success());
    let key = fs::read_to_string(folder.0.join("cloud.psk")).unwrap();
    assert!(key.starts_with("0x") && key.trim_end().len() == 66, "a key of {} characters", key.len());
    assert_eq!(check(&folder.write("p.toml", GOOD)).2, "", "no warning");
}

#[test]
fn f_75_the_daemon_listens_where_the_command_line_says() {
    let folder = Folder::new("control");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let text = format!("[gateway]\ncontrol = \"{}/wrong.sock\"\n{GOOD}", folder.0.display());
    let config = folder.write("p.toml", &text);
    let file = folder.write("right.sock", "no socket");
    // A file in its place ends the daemon at once, and it says which place it meant. Nothing is touched before.
    let run = || portcullis(&["run", "--config", config.to_str().unwrap(), "--control", file.to_str().unwrap()]);
    // Others that run here for a moment (the tests beside this one) come first.
    let taken = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("another portcullis runs");
    let mut output = run();
    for _ in 0..100 {
        if !taken(&output) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        output = run();
    }
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("right.sock") && !told.contains("wrong.sock"), "{told}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn f_78_the_log_has_the_time_of_day_and_leaves_it_to_the_journal() {
    let folder = Folder::new("clock");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let config = folder.write("p.toml", GOOD);
    let file = folder.write("file", "no socket");
    let log = |json: bool, journal: bool| {
        use std::os::unix::fs::MetadataExt;
        let path = folder.write("log", "");
        let found = fs::metadata(&path).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        run.args(["run", "--config", config.to_str().unwrap(), "--control", file.to_str().unwrap()]);
        run.args(json.then_some("--log-json")).env_remove("JOURNAL_STREAM");
        if journal {
            run.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()));
        }
        run.stderr(fs::File::create(&path).unwrap()).status().unwrap();
        fs::read_to_string(path).unwrap()
    };
    let day = |text: &str| text.len() > 20 && text.starts_with("20") && text.get(10..11) == Some("T");
    let text = log(false, false);
    let (stamp, _) = text.trim_start().split_once(' ').unwrap();
    assert!(day(stamp) && stamp.ends_with('Z'), "{text}");
    let line = log(true, true);
    let object: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert!(day(object["timestamp"].as_str().unwrap()), "{line}");
    let text = log(false, true);
    assert!(!text.trim_start().starts_with("20") && text.contains("ERROR"), "{text}");
}

#[test]
fn f_77_a_configuration_that_is_not_named_is_looked_for_in_its_place() {
    let help = String::from_utf8(portcullis(&["check", "--help"]).stdout).unwrap();
    assert!(help.contains("[default: /etc/portcullis/portcullis.toml]"), "{help}");
}

/// A daemon of a few lines: answers each request with what it is given, and ends with it.
fn answering(path: &Path, answer: String) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = BufReader::new(&client).read_line(&mut String::new());
            let _ = writeln!(client, "{answer}");
        }
    });
}

#[test]
fn f_79_a_script_can_tell_from_the_exit_code_of_status_whether_all_is_up() {
    let folder = Folder::new("exit");
    let child = |spi: &str, held: bool| {
        format!(
            r#"{{"name":"net","state":"up","mode":"tunnel","suite":null,"spi_in":{spi},"spi_out":null,"local_ts":[],
               "remote_ts":[],"bytes_in":0,"bytes_out":0,"packets_in":0,"packets_out":0,"rekeys":0,"encap":null,
               "age_s":null,"held":{held}}}"#
        )
    };
    let peer = |name: &str, state: &str, start: &str, held: bool, child: String| {
        format!(
            r#"{{"name":"{name}","state":"{state}","cause":null,"ike":null,"children":[{child}],"start":"{start}",
               "retry_ms":null,"held":{held}}}"#
        )
    };
    let up = || child("\"0x1\"", false);
    let down = || child("null", false);
    let cases = [
        ("all up", peer("a", "connected", "active", false, up()), 0, 0),
        ("a child down", peer("a", "connected", "active", false, down()), 4, 4),
        ("a held child", peer("a", "connected", "active", false, child("null", true)), 0, 0),
        ("pending", peer("a", "pending", "active", false, down()), 4, 4),
        ("error", peer("a", "error", "active", false, down()), 4, 4),
        ("held", peer("a", "disconnected", "active", true, down()), 0, 4),
        ("on demand", peer("a", "pending", "on-demand", false, down()), 0, 4),
        ("passive", peer("a", "pending", "passive", false, down()), 0, 4),
    ];
    for (index, (about, peer, all, named)) in cases.into_iter().enumerate() {
        let socket = folder.0.join(format!("{index}.sock"));
        let boundary = r#"{"state":"closed","guard":"nftables","why":null,"put_back":0,"last_put_back":null,
                           "reached_in_clear":[]}"#;
        let status = format!(
            r#"{{"version":"1","uptime_s":1,"peers":[{peer}],"boundary":{boundary},"counters":{{"A":0,"B":1}}}}"#
        );
        answering(&socket, format!(r#"{{"answer":"status","status":{status}}}"#).replace('\n', " "));
        let run =
            |arguments: &[&str]| portcullis(&[&["--control", socket.to_str().unwrap(), "status"], arguments].concat());
        assert_eq!(run(&[]).status.code(), Some(all), "{about}");
        assert_eq!(run(&["a"]).status.code(), Some(named), "{about}, by its name");
        let child_alone = if about == "a held child" { 4 } else { named };
        assert_eq!(run(&["a/net", "--json"]).status.code(), Some(child_alone), "{about}, by its name");
        assert_eq!(run(&["b"]).status.code(), Some(1), "no such peer");
        assert_eq!(run(&["a/other"]).status.code(), Some(1), "no such child");
        let json = |arguments: &[&str]| serde_json::from_slice::<serde_json::Value>(&run(arguments).stdout).unwrap();
        assert_eq!(json(&["--json"])["counters"], serde_json::json!({"B": 1}), "F-83: zeros on demand only");
        assert_eq!(json(&["--json", "--all"])["counters"], serde_json::json!({"A": 0, "B": 1}));
    }
}

#[test]
fn f_51_no_command_that_has_read_keys_leaves_a_core() {
    let folder = Folder::new("core");
    folder.write("cloud.psk", "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let config = folder.write("p.toml", GOOD);
    let socket = folder.0.join("control.sock");
    // It takes the question, and does not answer.
    let daemon = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut doctor = Command::new("sh");
    doctor.args([
        "-c",
        "ulimit -c unlimited; exec \"$0\" --control \"$1\" doctor \"$2\"",
        env!("CARGO_BIN_EXE_portcullis"),
    ]);
    doctor.args([&socket, &config]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut doctor = doctor.spawn().unwrap();
    let asked = daemon.accept().unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", doctor.id())).unwrap();
    doctor.kill().unwrap();
    doctor.wait().unwrap();
    drop(asked);
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
fn f_81_a_socket_that_is_closed_to_us_says_so() {
    let folder = Folder::new("denied");
    let socket = folder.0.join("control.sock");
    let output = portcullis(&["--control", socket.to_str().unwrap(), "status"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("systemctl start portcullis"));
    // Root may do everything: what others are told is tried as nobody, where that is possible.
    answering(&socket, String::new());
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    use std::os::unix::{fs::MetadataExt, process::CommandExt};
    let program = folder.0.join("portcullis");
    fs::copy(env!("CARGO_BIN_EXE_portcullis"), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--control", socket.to_str().unwrap(), "status"]);
    if fs::metadata(&socket).unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    } else {
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o0)).unwrap();
    }
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("permission denied") && told.contains("sudo"), "{told}");
    assert_eq!(output.status.code(), Some(3));
}
