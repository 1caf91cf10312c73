//! A program that runs in a namespace of the lab and is ended by its process id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace::Namespace;
use super::wait_for;
use crate::outcome::Result;

/// The process, when there is one, and where its output goes.
pub(crate) struct Daemon {
    output: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Not started yet. Output of all its starts is appended to `output`.
    pub(crate) fn new(output: PathBuf) -> Self {
        Self { output, child: None }
    }

    /// Starts `command` in `namespace`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&mut self, namespace: &Namespace, command: &mut Command) -> Result {
        let output = File::options().create(true).append(true).open(&self.output)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.child = Some(namespace.spawn(command)?);
        Ok(())
    }

    /// Waits until `socket` is there.
    ///
    /// # Errors
    /// With the last lines of output, when the program ended or took more than 10 s.
    pub(crate) fn wait_for_socket(&mut self, socket: &Path) -> Result {
        let what = format!("{}", socket.display());
        let mut ended = None;
        let outcome = wait_for(&what, Duration::from_secs(10), || {
            ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            // Connecting, not looking: an old socket may lie there.
            Ok((ended.is_some() || std::os::unix::net::UnixStream::connect(socket).is_ok()).then_some(()))
        });
        match ended {
            Some(status) => Err(format!("ended with {status}: {}", tail(&self.output())).into()),
            None => outcome.map_err(|error| format!("{error}: {}", tail(&self.output())).into()),
        }
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn signal(&self, signal: Signal) -> Result {
        Ok(kill(self.process()?, signal)?)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it was never started.
    pub(crate) fn process(&self) -> Result<Pid> {
        let child = self.child.as_ref().ok_or("not started")?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When that takes more than 10 s.
    pub(crate) fn stop(&mut self) -> Result {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        wait_for("the end after SIGTERM", Duration::from_secs(10), || Ok((!self.runs()).then_some(())))?;
        self.child = None;
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it printed.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.output).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a text, on one line.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
