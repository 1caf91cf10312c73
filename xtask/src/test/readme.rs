//! Row A25: every command that README.md and docs/operations.md show works.
//!
//! Fenced blocks of the language `sh` are commands, one a line; `\` continues one. They run in the order of the file, in
//! a copy of the places they name: /etc/portcullis and /usr/local/bin are folders below the target directory, and the
//! release build is that of the tests. What would start this pipeline again, or wait for ever, is asked for its help.
//! Blocks of the language `toml` are configurations; the daemon's own check has to accept them. A command of a form not
//! known here is an error, and so is a README without commands. That the configurations of README.md really meet a
//! strongSwan is a scenario of `cargo xtask interop`; blocks of the language `rust` are doc tests of `ike-core`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::report::Report;
use crate::checkout::{build_portcullis, cargo, root, target};
use crate::outcome::{Result, ensure};

/// Where commands are shown; those of docs/rpi.md are a scenario of `cargo xtask rpi test`.
const PAGES: [&str; 2] = ["README.md", "docs/operations.md"];

/// Checks every command of the pages.
pub(super) fn commands(report: &mut Report) {
    let place = match Place::new() {
        Ok(place) => place,
        Err(error) => return report.check("a place for the commands", Err(error)),
    };
    let mut seen = Vec::new();
    for page in PAGES {
        let text = match fs::read_to_string(root().join(page)) {
            Ok(text) => text,
            Err(error) => return report.check(page, Err(error.into())),
        };
        for (number, toml) in blocks(&text, "toml").enumerate() {
            report.check(&format!("{page}: configuration {} is accepted", number + 1), place.accepts(&toml));
        }
        let found = shell_lines(&text);
        report.check(&format!("{page} shows commands"), ensure(!found.is_empty(), || "no ```sh block".to_owned()));
        for line in found.into_iter().filter(|line| !seen.contains(line)).collect::<Vec<_>>() {
            report.check(&format!("`{line}`"), place.check(&line));
            seen.push(line);
        }
    }
}

/// The commands in `sh` blocks, in order, each once.
pub(crate) fn shell_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for block in blocks(text, "sh") {
        for line in block.replace("\\\n", " ").lines() {
            let command = line.split(" #").next().unwrap_or_default();
            let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
            if !command.is_empty() && !command.starts_with('#') && !lines.contains(&command) {
                lines.push(command);
            }
        }
    }
    lines
}

/// The fenced blocks of a language.
pub(crate) fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = String> + 'a {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        lines.by_ref().find(|line| line.trim().strip_prefix("```") == Some(language))?;
        Some(
            lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .fold(String::new(), |block, line| block + line + "\n"),
        )
    })
}

/// Where the commands run.
struct Place {
    folder: std::path::PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        build_portcullis()?;
        let folder = target()?.join("readme");
        let _ = fs::remove_dir_all(&folder);
        for part in ["etc", "bin", "systemd"] {
            fs::create_dir_all(folder.join(part))?;
        }
        Ok(Self { folder })
    }

    /// Runs a command, or the harmless part of it that shows that it exists.
    fn check(&self, line: &str) -> Result {
        let words: Vec<&str> = line.split_whitespace().skip_while(|word| *word == "sudo").collect();
        match words.as_slice() {
            // The pipeline itself, or what has a stage of its own or takes long.
            ["cargo", "xtask", command, ..] => quiet(cargo(&["xtask", command, "--help"])),
            ["cargo", "build" | "doc", ..] => {
                let words = line.split_whitespace().skip(1).filter(|word| *word != "--release");
                quiet(cargo(&words.collect::<Vec<_>>()))
            }
            ["portcullis", "check"] => self.shell(&format!("{line} --config /etc/portcullis/portcullis.toml")),
            ["portcullis", "check", ..] => self.shell(line),
            // They wait for ever, judge this machine, or want a daemon.
            ["portcullis", command, ..] => self.shell(&format!("portcullis {command} --help")),
            ["install" | "openssl" | "cat", ..] => self.shell(line),
            // What the pages have installed, and nothing else.
            ["rm", "-f" | "-rf", files @ ..] if !files.is_empty() && files.iter().all(|file| is_installed(file)) => {
                self.shell(line)
            }
            ["systemctl", "daemon-reload"] => Ok(()),
            // No service manager runs here: what it would start is there, and installed by the line before.
            ["systemctl", ..] => {
                ensure(self.folder.join("systemd/portcullis.service").is_file(), || "no unit".to_owned())
            }
            ["sysctl", "-w", setting] => {
                let key = setting.split('=').next().unwrap_or_default().replace('.', "/");
                ensure(Path::new("/proc/sys").join(&key).exists(), || format!("there is no {key}"))
            }
            _ => Err("a command that this check does not know".into()),
        }
    }

    /// Runs a line with its places moved below the target directory.
    fn shell(&self, line: &str) -> Result {
        let folder = self.folder.display().to_string();
        let line = line
            .replace("my-portcullis.toml", &format!("{folder}/my-portcullis.toml"))
            .replace("/etc/portcullis", &format!("{folder}/etc"))
            .replace("/var/lib/portcullis", &format!("{folder}/state"))
            .replace("/etc/systemd/system", &format!("{folder}/systemd"))
            .replace("/usr/local/bin", &format!("{folder}/bin"))
            .replace("target/release", &target()?.join("lab").display().to_string());
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-euc", &line]).current_dir(root());
        quiet(command.env("PATH", format!("{folder}/bin:{}:{path}", target()?.join("lab").display())))
    }

    /// `portcullis check` on a configuration of the README, beside the PSK files it names.
    fn accepts(&self, toml: &str) -> Result {
        let folder = self.folder.join("etc");
        for file in toml.lines().filter_map(|line| line.trim().strip_prefix("psk-file")) {
            let path = folder.join(file.split('"').nth(1).ok_or("psk-file without a name")?);
            fs::write(&path, "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        for place in [folder.join("portcullis.toml"), self.folder.join("my-portcullis.toml")] {
            fs::write(place, toml)?;
        }
        self.shell("portcullis check --config /etc/portcullis/portcullis.toml")
    }
}

/// Whether the pages, or the unit that they installed, made a file or folder of this name, which has a place below the target
/// directory here.
fn is_installed(file: &str) -> bool {
    let units = ["portcullis.service", "portcullis-block.service"].map(|unit| format!("/etc/systemd/system/{unit}"));
    ["/etc/portcullis", "/var/lib/portcullis", "/usr/local/bin/portcullis"].contains(&file)
        || units.iter().any(|unit| unit == file)
}

/// Runs a command; its output only when it fails.
fn quiet(mut command: impl std::borrow::BorrowMut<Command>) -> Result {
    let output = command.borrow_mut().output()?;
    ensure(output.status.success(), || {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_blocks_are_found_and_others_left_alone() {
        let text = "```sh\ncargo xtask \\\n  demo  # see it\n\n# words\n```\n```toml\na = 1\n```\n```\nno\n```\n";
        assert_eq!(shell_lines(text), ["cargo xtask demo"]);
        assert_eq!(blocks(text, "toml").collect::<Vec<_>>(), ["a = 1\n"]);
    }

    #[test]
    fn an_unknown_command_is_an_error() {
        let place = Place { folder: "/nonexistent".into() };
        for line in ["rm -rf something", "rm -rf /etc/portcullis /etc", "rm -rf", "rm /etc/portcullis/../passwd"] {
            assert!(place.check(line).is_err(), "{line}");
        }
        assert!(place.check("sysctl -w net.no_such_key=1").is_err());
    }
}
