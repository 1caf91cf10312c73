//! The commands of docs/rpi.md, as they stand there.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::virt::status_over_loopback;
use super::{Setting, expect};
use crate::checkout::{root, succeed};
use crate::outcome::{Result, ensure};
use crate::rpi::image;
use crate::test::readme::shell_lines;

/// Runs each, but for what would install firmware or wants a serial cable. A command of a form not known here is an
/// error.
pub(super) fn commands(setting: &Setting) -> Result<String> {
    let lines = shell_lines(&fs::read_to_string(root().join("docs/rpi.md"))?);
    let (mut run, mut others) = (0, 0);
    for line in &lines {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["apt-get", ..] | ["stty", ..] => {
                others += 1;
                continue;
            }
            // Without the firmware, which is not here.
            ["cargo", "xtask", "image", ..] => drop(image::run(&image::Arguments::default())?),
            ["cargo", "xtask", "rpi", "boot"] => crate::rpi::boot()?,
            ["cargo", "xtask", ..] => {
                let mut help = Command::new("/proc/self/exe");
                succeed(help.args(line.split(' ').skip(2)).arg("--help").stdout(Stdio::null()))?;
            }
            ["xz", ..] => {
                let card = setting.folder.join("flashed");
                shell(&line.replace("/dev/sdX", &card.display().to_string()))?;
                let made = fs::read(root().join("target/rpi/portcullis-rpi.img"))?;
                ensure(fs::read(&card)? == made, || "the card differs from the image".to_owned())?;
            }
            ["qemu-system-aarch64", ..] => emulate(line)?,
            _ => return Err(format!("docs/rpi.md shows a command that this check does not know: {line}").into()),
        }
        run += 1;
    }
    ensure(run >= 4, || format!("only {run} of {lines:#?} were run"))?;
    Ok(format!("{run} commands run, {others} only read"))
}

fn shell(line: &str) -> Result {
    let output = Command::new("sh").args(["-euc", line]).current_dir(root()).output()?;
    ensure(output.status.success(), || format!("{line}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The status page must be where the line before says, on another port that is free.
fn emulate(line: &str) -> Result {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let line = line.replace(":8080-", &format!(":{port}-"));
    let mut command = Command::new("sh");
    // The shell becomes QEMU, so that ending it ends QEMU.
    command.args(["-euc", &format!("exec {line}")]).current_dir(root());
    let _guest = Ended(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    expect(&status_over_loopback(port)?, "/mode", &"normal".into())
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only when there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
