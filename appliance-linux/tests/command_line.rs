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
    for command in
        [&["status"][..], &["up", "cloud"], &["down", "cloud"], &["rekey", "cloud/net"], &["reload"], &["show"]]
    {
        let arguments: Vec<&str> = ["--control", socket.to_str().unwrap()].iter().chain(command).copied().collect();
        let output = portcullis(&arguments);
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("no portcullis answers at"));
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [&["dance"][..], &["check"], &["up"], &[]] {
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
