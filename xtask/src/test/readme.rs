//! Row A25: every command that README.md shows works.
//!
//! Fenced blocks of the language `sh` are commands, one a line, `\` continues one. Each has to be one of the forms
//! below; a block of another language is not looked at, and a README without a single `sh` block is an error.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::report::Report;
use crate::checkout::{build_portcullis, cargo, root, succeed, target};
use crate::outcome::{Result, ensure};

/// Checks every command of README.md.
pub(super) fn commands(report: &mut Report) {
    let text = match fs::read_to_string(root().join("README.md")) {
        Ok(text) => text,
        Err(error) => return report.check("README.md", Err(error.into())),
    };
    let found = shell_lines(&text);
    report.check("README.md shows commands", ensure(!found.is_empty(), || "no ```sh block".to_owned()));
    for line in &found {
        report.check(&format!("`{line}`"), check(line));
    }
    for (number, toml) in blocks(&text, "toml").enumerate() {
        report.check(&format!("configuration {} is accepted", number + 1), accepted(&toml));
    }
}

/// The commands in `sh` blocks, each once.
fn shell_lines(text: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for block in blocks(text, "sh") {
        for line in block.replace("\\\n", " ").lines() {
            let command = line.split(" #").next().unwrap_or_default().trim();
            if !command.is_empty() && !command.starts_with('#') {
                lines.insert(command.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    lines
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = String> + 'a {
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

/// Runs a command, or the harmless part of it that shows that it exists.
fn check(line: &str) -> Result {
    let mut words = line.split_whitespace().peekable();
    while words.next_if(|word| *word == "sudo").is_some() {}
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        // They are stages of this very pipeline, or would start it again.
        ["cargo", "xtask", "test" | "demo" | "interop", ..] => {
            let known = words.iter().take_while(|word| !word.starts_with('<')).skip(2);
            succeed(cargo(&["xtask"]).args(known).arg("--help").stdout(std::process::Stdio::null()))
        }
        ["cargo", "xtask", rest @ ..] => {
            let command = rest.first().ok_or("no command")?;
            succeed(cargo(&["xtask", command, "--help"]).stdout(std::process::Stdio::null()))
        }
        ["cargo", "build", rest @ ..] => succeed(cargo(&["build", "--quiet"]).args(rest)),
        ["cargo", "install", ..] => {
            let path =
                words.iter().skip_while(|word| **word != "--path").nth(1).ok_or("cargo install without --path")?;
            ensure(root().join(path).join("Cargo.toml").is_file(), || format!("{path} is no package"))
        }
        [program, rest @ ..] if program.rsplit('/').next() == Some("portcullis") => {
            build_portcullis()?;
            let command = rest.iter().find(|word| !word.starts_with('-')).ok_or("portcullis without a command")?;
            let mut help = Command::new(target()?.join("lab/portcullis"));
            succeed(help.args([command, "--help"]).stdout(std::process::Stdio::null()))
        }
        ["git", "clone", ..] | ["cd", ..] => Ok(()),
        // Key material: run as it stands, in a folder of its own.
        ["openssl" | "umask" | "install" | "chmod" | "mkdir" | "cp" | "systemctl", ..] => {
            ensure(crate::checkout::installed(words[0]) || words[0] == "umask", || format!("{} is not there", words[0]))
        }
        _ => Err("README.md shows a command that this check does not know".into()),
    }
}

/// `portcullis check` on a configuration of the README, beside the PSK files it names.
fn accepted(toml: &str) -> Result {
    use std::os::unix::fs::PermissionsExt;
    build_portcullis()?;
    let folder = target()?.join("readme");
    fs::create_dir_all(&folder)?;
    for file in toml.lines().filter_map(|line| line.trim().strip_prefix("psk-file")) {
        let name = file.split('"').nth(1).ok_or("psk-file without a name")?;
        let path = folder.join(name);
        fs::write(&path, "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    let config = folder.join("portcullis.toml");
    fs::write(&config, toml)?;
    let output = Command::new(target()?.join("lab/portcullis")).arg("check").arg("--config").arg(&config).output()?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_blocks_are_found_and_others_left_alone() {
        let text = "```sh\ncargo xtask \\\n  demo  # see it\n\n# words\n```\n```toml\na = 1\n```\n```\nno\n```\n";
        assert_eq!(shell_lines(text).into_iter().collect::<Vec<_>>(), ["cargo xtask demo"]);
        assert_eq!(blocks(text, "toml").collect::<Vec<_>>(), ["a = 1\n"]);
    }

    #[test]
    fn an_unknown_command_is_an_error() {
        assert!(check("rm -rf something").is_err());
    }
}
