//! A guest under QEMU: started, listened to, ended.

use super::Result;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-aarch64";

/// A running guest; it is ended when this is dropped.
pub(crate) struct Guest {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Guest {
    /// Starts a guest with `kernel` and the serial port on a pipe.
    pub(crate) fn start(kernel: &Path, arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(QEMU)
            .args(arguments)
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel"])
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
        Ok(Self { process, lines, seen: Vec::new() })
    }

    /// Waits for a line that contains `text`.
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
                    return Err(format!(
                        "the guest did not print {text:?} {why}; it printed:\n{}",
                        self.seen.join("\n")
                    )
                    .into());
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
