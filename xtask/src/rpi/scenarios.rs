//! `cargo xtask rpi test`: what the image does, seen from outside.

mod docs;
mod image;
mod raspi;
mod virt;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::build::{Built, Machine, build};
use super::emulator::Emulator;
use super::peer::Peer;
use crate::checkout::root;
use crate::outcome::{Result, ensure};

/// Patience with a guest on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const GUEST_MAC: &str = "52:54:00:00:00:01";

const CONFIG: &str = "\
[[network]]
address = \"192.0.2.1/24\"
[[network]]
port = 1
address = \"198.51.100.1/24\"
[management]
allow-panic = \"yes\"
";

/// The image and the place for what a scenario leaves behind.
struct Setting {
    raspi: Built,
    folder: PathBuf,
}

/// What guests are started on.
struct Board {
    emulator: Emulator,
    /// The name QEMU has for it.
    machine: &'static str,
}

impl Board {
    fn find(machine: &'static str) -> Result<Self> {
        Ok(Self { emulator: Emulator::with_machine(machine)?, machine })
    }
}

/// What a scenario shows, and how; it ends with a figure worth reading, or nothing.
struct Scenario {
    name: &'static str,
    run: Run,
}

/// With the machine it needs.
enum Run {
    /// No guest is started.
    Host(fn(&Setting) -> Result<String>),
    /// A machine of QEMU.
    Guest(&'static str, fn(&Setting, &Board) -> Result<String>),
    /// A machine that QEMU has only since version 9: where there is none the scenario says so, and is not counted.
    GuestIfAny(&'static str, fn(&Setting, &Board) -> Result<String>),
}

const fn on_host(name: &'static str, run: fn(&Setting) -> Result<String>) -> Scenario {
    Scenario { name, run: Run::Host(run) }
}

const fn on_pi_3(name: &'static str, run: fn(&Setting, &Board) -> Result<String>) -> Scenario {
    Scenario { name, run: Run::Guest("raspi3b", run) }
}

const fn on_pi_4(name: &'static str, run: fn(&Setting, &Board) -> Result<String>) -> Scenario {
    Scenario { name, run: Run::GuestIfAny("raspi4b", run) }
}

const fn on_virt(name: &'static str, run: fn(&Setting, &Board) -> Result<String>) -> Scenario {
    Scenario { name, run: Run::Guest("virt", run) }
}

const SCENARIOS: [Scenario; 17] = [
    on_host("no instruction that a Pi 3 or 4 lacks", image::instructions),
    on_host("two builds make the same image, octet for octet", image::reproducible),
    on_host("fsck.fat and mtools agree with the card", image::fsck),
    on_host("firmware goes onto the card with its licence, or not at all", image::firmware),
    on_host("the commands of docs/rpi.md work", docs::commands),
    on_pi_3("raspi3b: card read, USB adapter up, 1,000 pings, page and JSON", raspi::whole),
    on_pi_3("raspi3b: card behind the other controller; changed, and read anew", raspi::other_controller),
    on_pi_3("raspi3b: three USB adapters, two of them behind a second hub", raspi::several),
    on_pi_3("raspi3b: USB adapter unplugged and plugged in again", raspi::replug),
    on_pi_3("raspi3b: panic, reset, report at the next boot", raspi::panic),
    on_pi_3("raspi3b: bad configuration, missing file, no card: safe mode", raspi::safe_mode),
    on_pi_3("raspi3b: the log decodes", raspi::log),
    on_pi_4("raspi4b: card read, USB adapter up, 1,000 pings, page and JSON", raspi::whole),
    on_pi_4("raspi4b: panic, reset, report at the next boot", raspi::panic),
    on_virt("virt: two adapters, 1,000 pings each, flood survived", virt::whole),
    on_virt("virt: entered at EL1, EL2 and EL3, DHCP, up within a second", virt::entry_levels),
    on_virt("virt: slow and broken clients, panic only when allowed", virt::clients),
];

/// Runs all scenarios whose name contains `filter`; the last line counts.
///
/// # Errors
/// When one fails.
pub(crate) fn run(filter: &str) -> Result {
    let folder = root().join("target/rpi/test");
    fs::create_dir_all(&folder)?;
    let setting = Setting { raspi: build(Machine::Raspi)?, folder };
    let (mut passed, mut failed) = (0, 0);
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(filter)) {
        let start = Instant::now();
        let outcome = match scenario.run {
            Run::Host(run) => run(&setting),
            Run::Guest(machine, run) => Board::find(machine).and_then(|board| run(&setting, &board)),
            Run::GuestIfAny(machine, run) => match Board::find(machine) {
                Ok(board) => run(&setting, &board),
                Err(why) => {
                    println!("--    {}: not run: {why}", scenario.name);
                    continue;
                }
            },
        };
        match outcome {
            Ok(figure) => {
                passed += 1;
                println!("ok    {} ({:.1} s) {figure}", scenario.name, start.elapsed().as_secs_f32());
            }
            Err(error) => {
                failed += 1;
                println!("FAIL  {}: {error}", scenario.name);
            }
        }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    ensure(failed == 0 && passed > 0, || "not every scenario passed".to_owned())
}

fn status(peer: &mut Peer, guest: Ipv4Addr) -> Result<Value> {
    let answer = peer.get(guest, "/status.json")?;
    ensure(answer.status == 200, || format!("status {}", answer.status))?;
    Ok(serde_json::from_str(&answer.body)?)
}

/// A value of the status that must be as expected.
fn expect(status: &Value, pointer: &str, wanted: &Value) -> Result {
    let found = status.pointer(pointer).unwrap_or(&Value::Null);
    ensure(found == wanted, || format!("{pointer} is {found}, not {wanted}; the whole status: {status}"))
}

fn contains(status: &Value, pointer: &str, part: &str) -> Result {
    let found = status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    ensure(found.contains(part), || format!("{pointer} lacks {part:?}: {found}"))
}

fn pings(peer: &mut Peer, guest: Ipv4Addr, count: u16) -> Result {
    let lost = peer.ping(guest, count, PATIENCE)?;
    ensure(lost == 0, || format!("{lost} of {count} pings lost"))
}
