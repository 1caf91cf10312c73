//! A guest under QEMU: started, listened to, ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::outcome::{Result, ensure};

const QEMU: &str = "qemu-system-aarch64";

/// A running guest; it is ended when this is dropped.
pub(crate) struct Guest {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    control: PathBuf,
}

impl Guest {
    /// Starts a guest with `kernel` and the serial port on a pipe.
    ///
    /// # Errors
    /// When QEMU is missing.
    pub(crate) fn start(kernel: &Path, arguments: &[&str]) -> Result<Self> {
        let name =
            format!("portcullis-{}-{}.qmp", std::process::id(), kernel.file_stem().unwrap_or_default().display());
        let control = std::env::temp_dir().join(name);
        let mut process = Command::new(QEMU)
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", control.display()))
            .args(arguments)
            .arg("-kernel")
            .arg(kernel)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{QEMU} (Debian package qemu-system-arm): {error}"))?;
        let output = process.stdout.take().ok_or("QEMU has no output pipe")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, lines, seen: Vec::new(), control })
    }

    /// Waits for a line that contains `text`.
    ///
    /// # Errors
    /// With all that was printed instead.
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => "in time",
                        RecvTimeoutError::Disconnected => "before QEMU ended",
                    };
                    let seen = self.seen.join("\n");
                    return Err(format!("the guest did not print {text:?} {why}; it printed:\n{seen}").into());
                }
            }
        }
    }

    /// Gives QEMU a command of its monitor protocol.
    ///
    /// # Errors
    /// What QEMU says against it.
    pub(crate) fn command(&self, name: &str, arguments: &serde_json::Value) -> Result {
        let mut stream = UnixStream::connect(&self.control)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        answers.next().ok_or("no greeting")??;
        for command in [
            serde_json::json!({ "execute": "qmp_capabilities" }),
            serde_json::json!({ "execute": name, "arguments": arguments }),
        ] {
            writeln!(stream, "{command}")?;
            loop {
                let answer: serde_json::Value = serde_json::from_str(&answers.next().ok_or("no answer")??)?;
                if answer.get("return").is_some() {
                    break;
                }
                // Events come in between.
                ensure(answer.get("error").is_none(), || format!("QEMU, asked for {name}: {answer}"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // All three fail only when there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.control);
    }
}
