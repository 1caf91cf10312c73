//! `cargo xtask rpi test`: what the image does, seen from outside.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::build::{Built, Machine, build, check_instructions};
use super::peer::Peer;
use super::qemu::Guest;
use super::{card, image};
use crate::checkout::{installed, root};
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

/// The images and the place for what a scenario leaves behind.
struct Setting {
    raspi: Built,
    virt: Built,
    folder: PathBuf,
}

/// What a scenario shows, and how; it ends with a figure worth reading, or nothing.
struct Scenario {
    name: &'static str,
    run: fn(&Setting) -> Result<String>,
}

const SCENARIOS: [Scenario; 10] = [
    Scenario { name: "no instruction that a Pi 3 or 4 lacks", run: instructions },
    Scenario { name: "two builds make the same image, octet for octet", run: reproducible },
    Scenario { name: "fsck.fat and mtools agree with the card", run: fsck },
    Scenario { name: "raspi3b: card read, USB adapter up, 1,000 pings, page and JSON", run: raspi },
    Scenario { name: "raspi3b: USB adapter unplugged and plugged in again", run: replug },
    Scenario { name: "raspi3b: panic, reset, report at the next boot", run: raspi_panic },
    Scenario { name: "raspi3b: bad configuration, missing file, no card: safe mode", run: safe_mode },
    Scenario { name: "virt: two adapters, 1,000 pings each, flood survived", run: virt },
    Scenario { name: "virt: entered at EL1, EL2 and EL3, DHCP, up within a second", run: entry_levels },
    Scenario { name: "virt: slow and broken clients, panic only when allowed", run: clients },
];

/// Runs all scenarios whose name contains `filter`; the last line counts.
///
/// # Errors
/// When one fails.
pub(crate) fn run(filter: &str) -> Result {
    let folder = root().join("target/rpi/test");
    fs::create_dir_all(&folder)?;
    let setting = Setting { raspi: build(Machine::Raspi, "target")?, virt: build(Machine::Virt, "target")?, folder };
    let (mut passed, mut failed) = (0, 0);
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(filter)) {
        let start = Instant::now();
        match (scenario.run)(&setting) {
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

fn instructions(setting: &Setting) -> Result<String> {
    let count = check_instructions(&setting.raspi.elf)?;
    Ok(format!("{count} instructions"))
}

fn reproducible(setting: &Setting) -> Result<String> {
    let again = build(Machine::Raspi, "target/again")?;
    let make = |kernel: &Path| -> Result<Vec<u8>> {
        image::compress(&image::assemble(fs::read(kernel)?, image::default_config()?, Vec::new())?)
    };
    let (first, second) = (image::sha256(&make(&setting.raspi.image)?), image::sha256(&make(&again.image)?));
    ensure(first == second, || format!("{first} and {second}"))?;
    Ok(format!(".img.xz {first}"))
}

/// A card for a guest, with this configuration or none.
fn make_card(setting: &Setting, name: &str, config: Option<&str>) -> Result<String> {
    let mut card = image::assemble(fs::read(&setting.raspi.image)?, image::default_config()?, Vec::new())?;
    match config {
        Some(text) => card::write(&mut card, &[("portcullis.toml".to_owned(), text.into())])?,
        None => card::remove(&mut card, "portcullis.toml")?,
    }
    let path = setting.folder.join(name);
    fs::write(&path, card)?;
    Ok(format!("if=sd,format=raw,file={}", path.display()))
}

/// Boots the very kernel8.img that lies on the card: QEMU plays the firmware and loads it.
fn boot_raspi(setting: &Setting, drive: Option<&str>, peer: &Peer) -> Result<Guest> {
    let kernel = match drive.and_then(|drive| drive.split_once("file=")) {
        Some((_, path)) => {
            let kernel = card::read(&mut fs::read(path)?, "kernel8.img")?;
            let place = setting.folder.join("kernel8-from-card.img");
            fs::write(&place, kernel)?;
            place
        }
        None => setting.raspi.image.clone(),
    };
    let netdev = peer.netdev("n0")?;
    let device = format!("usb-net,netdev=n0,id=nic0,mac={GUEST_MAC}");
    let mut arguments = vec!["-M", "raspi3b", "-netdev", &netdev, "-device", &device];
    if let Some(drive) = drive {
        arguments.extend(["-drive", drive]);
    }
    Guest::start(&kernel, &arguments)
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

fn fsck(setting: &Setting) -> Result<String> {
    let path = setting.folder.join("fsck.img");
    let card = image::assemble(fs::read(&setting.raspi.image)?, image::default_config()?, Vec::new())?;
    let partition = setting.folder.join("fsck.fat");
    fs::write(&partition, &card[1 << 20..])?;
    fs::write(&path, card)?;
    for tool in ["fsck.fat", "mtype"] {
        ensure(installed(tool), || format!("missing {tool}; on Debian install dosfstools and mtools"))?;
    }
    let checked = Command::new("fsck.fat").arg("-n").arg(&partition).output()?;
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure(checked.status.success(), || words.clone())?;
    for (name, content) in
        [("portcullis.toml", image::default_config()?), ("kernel8.img", fs::read(&setting.raspi.image)?)]
    {
        let listed =
            Command::new("mtype").arg("-i").arg(format!("{}@@1M", path.display())).arg(format!("::{name}")).output()?;
        ensure(listed.status.success() && listed.stdout == content, || {
            format!("mtype {name}: {}", String::from_utf8_lossy(&listed.stderr))
        })?;
    }
    let (_, counts) = words.trim_end().rsplit_once(": ").unwrap_or_default();
    Ok(counts.to_owned())
}

fn raspi(setting: &Setting) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "good.img", Some(CONFIG))?;
    let mut guest = boot_raspi(setting, Some(&drive), &peer)?;
    guest.wait_for("on Raspberry Pi 3 Model B, revision a02082, entered at EL2", PATIENCE)?;
    pings(&mut peer, GUEST, 1_000)?;
    let status = status(&mut peer, GUEST)?;
    expect(&status, "/mode", &json!("normal"))?;
    expect(&status, "/configuration", &json!(image::sha256(CONFIG.as_bytes()).get(..32)))?;
    expect(&status, "/ports/0/origin", &json!("static"))?;
    expect(&status, "/entropy", &json!("healthy"))?;
    let page = peer.get(GUEST, "/")?;
    ensure(page.status == 200 && page.body.contains("Raspberry Pi 3 Model B"), || page.body.clone())?;
    Ok(format!("network up after {} ms of guest time", status["network_up_ms"]))
}

fn replug(setting: &Setting) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "replug.img", Some(CONFIG))?;
    let guest = boot_raspi(setting, Some(&drive), &peer)?;
    pings(&mut peer, GUEST, 10)?;
    for _ in 0..3 {
        guest.command("device_del", &json!({ "id": "nic0" }))?;
        ensure(peer.ping(GUEST, 0, Duration::from_secs(1)).is_err(), || "it answers while unplugged".to_owned())?;
        guest.command("device_add", &json!({ "driver": "usb-net", "netdev": "n0", "id": "nic0", "mac": GUEST_MAC }))?;
        pings(&mut peer, GUEST, 10)?;
    }
    let status = status(&mut peer, GUEST)?;
    let log = status["log"].as_str().unwrap_or_default();
    let lost = log.matches("link down").count();
    ensure(lost == 3, || format!("link lost {lost} times, says the log:\n{log}"))?;
    Ok(String::new())
}

fn raspi_panic(setting: &Setting) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "panic.img", Some(CONFIG))?;
    let mut guest = boot_raspi(setting, Some(&drive), &peer)?;
    pings(&mut peer, GUEST, 1)?;
    expect(&status(&mut peer, GUEST)?, "/last_panic", &Value::Null)?;
    // It resets instead of answering.
    let _ = peer.request(GUEST, "POST", "/panic");
    guest.wait_for("asked to by POST /panic", PATIENCE)?;
    guest.wait_for("*** reset ***", PATIENCE)?;
    guest.wait_for("the last run ended with", PATIENCE)?;
    pings(&mut peer, GUEST, 1)?;
    let status = status(&mut peer, GUEST)?;
    contains(&status, "/last_panic", "asked to by POST /panic")?;
    contains(&status, "/last_panic", "backtrace: 0x")?;
    Ok(String::new())
}

fn safe_mode(setting: &Setting) -> Result<String> {
    // No DHCP server is on this cable.
    let (guest_address, peer_address) = (Ipv4Addr::new(192, 168, 77, 1), Ipv4Addr::new(192, 168, 77, 2));
    let bad = "# a comment\n[[network]]\naddress = \"192.0.2.300/24\"\n";
    for (config, problem) in [
        (Some(Some(bad)), "portcullis.toml:3:12: found \"192.0.2.300/24\""),
        (Some(None), "portcullis.toml: not on the card"),
        (None, "portcullis.toml: no card answers"),
    ] {
        let mut peer = Peer::new(peer_address)?;
        let drive = config.map(|config| make_card(setting, "safe.img", config)).transpose()?;
        let _guest = boot_raspi(setting, drive.as_deref(), &peer)?;
        pings(&mut peer, guest_address, 1)?;
        let status = status(&mut peer, guest_address)?;
        expect(&status, "/mode", &json!("safe"))?;
        expect(&status, "/ports/0/origin", &json!("fallback"))?;
        contains(&status, "/problems/0", problem)?;
        ensure(peer.get(guest_address, "/")?.body.contains("Safe mode."), || "the page does not say so".to_owned())?;
    }
    Ok(String::new())
}

/// Arguments of a virt machine with one adapter for each netdev.
fn virt_arguments(machine: &str, config: Option<&Path>, netdevs: &[String]) -> Vec<String> {
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

fn boot_virt(setting: &Setting, kernel: &Path, machine: &str, config: &str, netdevs: &[String]) -> Result<Guest> {
    let place = setting.folder.join("virt.toml");
    fs::write(&place, config)?;
    let arguments = virt_arguments(machine, Some(&place), netdevs);
    Guest::start(kernel, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn virt(setting: &Setting) -> Result<String> {
    let second = Ipv4Addr::new(198, 51, 100, 1);
    let mut peers = [Peer::new(PEER)?, Peer::new(Ipv4Addr::new(198, 51, 100, 2))?];
    let netdevs = [peers[0].netdev("n0")?, peers[1].netdev("n1")?];
    let _guest = boot_virt(setting, &setting.virt.image, "virt", CONFIG, &netdevs)?;
    pings(&mut peers[0], GUEST, 1_000)?;
    pings(&mut peers[1], second, 1_000)?;
    let before = status(&mut peers[0], GUEST)?;
    let thrown = flood(&mut peers[0]);
    pings(&mut peers[0], GUEST, 100)?;
    pings(&mut peers[1], second, 100)?;
    let after = status(&mut peers[0], GUEST)?;
    let count = |status: &Value| status["ports"][0]["rx_frames"].as_u64().unwrap_or(0);
    let taken = count(&after) - count(&before);
    ensure(taken > 10_000, || format!("only {taken} of {thrown} frames arrived; that was no flood"))?;
    expect(&after, "/ports/0/tx_drops", &json!(0))?;
    expect(&after, "/last_panic", &Value::Null)?;
    let heap = |status: &Value| status["memory"]["heap_used"].as_u64().unwrap_or(0);
    ensure(heap(&after) <= heap(&before) + 4096, || format!("heap {} before, {} after", heap(&before), heap(&after)))?;
    Ok(format!("{taken} of {thrown} hostile frames taken in"))
}

/// Frames of 64 octets, and malformed ones of every protocol the guest reads; how many.
fn flood(peer: &mut Peer) -> u32 {
    const FRAMES: u32 = 40_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..FRAMES {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let len = if number % 2 == 0 { 64 } else { 14 + next() as usize % 1500 };
        let mut frame: Vec<u8> = (0..len).map(|_| next() as u8).collect();
        let to_all = number % 8 == 0;
        frame[..6].copy_from_slice(if to_all { &[0xff; 6] } else { &[0x52, 0x54, 0, 0, 0, 1] });
        frame[6] &= 0xfe;
        frame[12..14].copy_from_slice([[8, 0], [8, 6], [0x86, 0xdd], [8, 0]][number as usize % 4].as_slice());
        if let Some(first) = frame.get_mut(14).filter(|_| number % 4 == 0) {
            *first = 0x45;
        }
        peer.throw(&frame);
        // QEMU's end of the cable has room for some hundred frames.
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    FRAMES
}

fn entry_levels(setting: &Setting) -> Result<String> {
    let mut times = Vec::new();
    for (machine, kernel, level) in [
        ("virt", &setting.virt.image, "EL1"),
        ("virt,virtualization=on", &setting.virt.image, "EL2"),
        // QEMU enters an ELF file, which it does not take for Linux, at the highest level.
        ("virt,virtualization=on,secure=on", &setting.virt.elf, "EL3"),
    ] {
        // QEMU's own network has a DHCP server; the guest's port 80 is reached through loopback.
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let netdev = format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80");
        let mut guest = boot_virt(setting, kernel, machine, "", &[netdev])?;
        guest.wait_for(&format!("entered at {level}"), PATIENCE)?;
        let status = status_over_loopback(port)?;
        expect(&status, "/ports/0/origin", &json!("dhcp"))?;
        let up = status["network_up_ms"].as_u64().ok_or("the network is not up")?;
        ensure(up <= 1_000, || format!("network up after {up} ms"))?;
        times.push(format!("{level} {up} ms"));
    }
    Ok(format!("network up: {}", times.join(", ")))
}

/// Asks until the guest has a lease and answers.
fn status_over_loopback(port: u16) -> Result<Value> {
    use std::io::{Read, Write};
    let until = Instant::now() + PATIENCE;
    loop {
        let attempt = || -> Result<Value> {
            let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /status.json HTTP/1.1\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let (_, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
            Ok(serde_json::from_str(body)?)
        };
        match attempt() {
            Ok(status) => return Ok(status),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn clients(setting: &Setting) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let config = CONFIG.replace("\"yes\"", "\"no\"");
    let netdev = peer.netdev("n0")?;
    let _guest = boot_virt(setting, &setting.virt.image, "virt", &config, &[netdev])?;
    pings(&mut peer, GUEST, 1)?;
    for (method, path, wanted) in
        [("POST", "/panic", 403), ("GET", "/panic", 405), ("GET", "/none", 404), ("\u{1}", "/", 400)]
    {
        let answer = peer.request(GUEST, method, path)?;
        ensure(answer.status == wanted, || format!("{method:?} {path}: {} instead of {wanted}", answer.status))?;
    }
    let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 6_000]].concat();
    let answer = peer.converse(GUEST, &long)?;
    ensure(answer.starts_with(b"HTTP/1.1 431 "), || String::from_utf8_lossy(&answer).into_owned())?;
    // Half a request is not waited for longer than five seconds, and takes no other client's place.
    let start = Instant::now();
    let answer = peer.converse(GUEST, b"GET / HT")?;
    ensure(answer.is_empty() && start.elapsed() < Duration::from_secs(9), || "half a request was answered".to_owned())?;
    expect(&status(&mut peer, GUEST)?, "/last_panic", &Value::Null)?;
    Ok(String::new())
}
