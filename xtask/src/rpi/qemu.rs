//! A guest under QEMU: started, listened to, ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::emulator::Emulator;
use crate::outcome::{Result, ensure};

/// Arguments of a virt machine with one adapter for each netdev.
pub(crate) fn virt_arguments(machine: &str, config: Option<&Path>, netdevs: &[String]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-M", machine, "-cpu", "cortex-a53", "-global", "virtio-mmio.force-legacy=false"].map(str::to_owned).into();
    for (number, netdev) in netdevs.iter().enumerate() {
        let device = format!("virtio-net-device,netdev=n{number},mac=52:54:00:00:00:{:02x}", number + 1);
        arguments.extend(["-netdev".to_owned(), netdev.clone(), "-device".to_owned(), device]);
    }
    match config {
        Some(path) => {
            arguments.extend(["-fw_cfg".to_owned(), format!("name=opt/portcullis.toml,file={}", path.display())]);
        }
        None if netdevs.is_empty() => arguments.extend(["-nic".to_owned(), "none".to_owned()]),
        None => {}
    }
    arguments
}

/// A running guest; it is ended when this is dropped.
pub(crate) struct Guest {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    console: Arc<Mutex<Vec<u8>>>,
    control: PathBuf,
}

impl Guest {
    /// Starts a guest with `kernel` and the serial port on a pipe.
    ///
    /// # Errors
    /// When QEMU is missing.
    pub(crate) fn start(emulator: &Emulator, kernel: &Path, arguments: &[&str]) -> Result<Self> {
        let name =
            format!("portcullis-{}-{}.qmp", std::process::id(), kernel.file_stem().unwrap_or_default().display());
        let control = std::env::temp_dir().join(name);
        let mut command = emulator.command();
        command
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", control.display()))
            .args(arguments)
            .arg("-kernel")
            .arg(kernel)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| {
            format!("{} (Debian package qemu-system-arm): {error}", Path::new(command.get_program()).display())
        })?;
        let output = process.stdout.take().ok_or("QEMU has no output pipe")?;
        let (sender, lines) = channel();
        let console = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&console);
        thread::spawn(move || {
            let mut output = BufReader::new(Tee(output, copy));
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, lines, seen: Vec::new(), console, control })
    }

    /// Starts a guest as [`start`](Self::start), with registers or memory as somebody before it left them: physical
    /// addresses and words.
    ///
    /// # Errors
    /// When QEMU is missing or does not take a word.
    pub(crate) fn start_after(
        emulator: &Emulator,
        kernel: &Path,
        arguments: &[&str],
        left: &[(u32, u32)],
    ) -> Result<Self> {
        let place = std::env::temp_dir().join(format!("portcullis-{}.gdb", std::process::id()));
        let gdb = format!("unix:{},server=on,wait=off", place.display());
        let guest = Self::start(emulator, kernel, &[arguments, &["-S", "-gdb", &gdb]].concat())?;
        let debugger = Debugger::connect(&place);
        // Both ends have it open, or nobody ever will.
        let _ = std::fs::remove_file(&place);
        let mut debugger = debugger?;
        debugger.ask("Qqemu.PhyMemMode:1")?;
        for (address, word) in left {
            debugger.ask(&format!("M{address:x},4:{:08x}", word.swap_bytes()))?;
        }
        debugger.ask("D")?;
        Ok(guest)
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

    /// All octets the guest has sent to its serial port.
    pub(crate) fn console(&self) -> Vec<u8> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// Keeps a copy of what is read.
struct Tee<R>(R, Arc<Mutex<Vec<u8>>>);

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(octets)?;
        self.1.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&octets[..len]);
        Ok(len)
    }
}

/// GDB's remote protocol, as far as it is needed: packets that are answered with OK.
struct Debugger(UnixStream);

impl Debugger {
    fn connect(place: &Path) -> Result<Self> {
        let until = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(place) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(stream))
    }

    fn ask(&mut self, packet: &str) -> Result {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}")?;
        let mut answer = [0; 7];
        self.0.read_exact(&mut answer)?;
        ensure(&answer == b"+$OK#9a", || {
            format!("QEMU, asked for {packet:?}: {:?}", String::from_utf8_lossy(&answer))
        })?;
        Ok(write!(self.0, "+")?)
    }
}
