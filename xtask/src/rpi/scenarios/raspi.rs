//! The image for Raspberry Pi on the boards that QEMU has.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Board, CONFIG, GUEST, GUEST_MAC, PATIENCE, PEER, Setting, contains, expect, pings, status};
use crate::outcome::{Result, ensure};
use crate::rpi::peer::Peer;
use crate::rpi::qemu::Guest;
use crate::rpi::{card, image, log};

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
fn boot(setting: &Setting, board: &Board, drive: Option<&str>, peer: &Peer, left: &[(u32, u32)]) -> Result<Guest> {
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
    let mut arguments = vec!["-M", board.machine, "-netdev", &netdev, "-device", &device];
    if let Some(drive) = drive {
        arguments.extend(["-drive", drive]);
    }
    match left {
        [] => Guest::start(&board.emulator, &kernel, &arguments),
        left => Guest::start_after(&board.emulator, &kernel, &arguments, left),
    }
}

pub(super) fn whole(setting: &Setting, board: &Board) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "good.img", Some(CONFIG))?;
    let mut guest = boot(setting, board, Some(&drive), &peer, &[])?;
    let (model, revision) = match board.machine {
        "raspi3b" => ("Raspberry Pi 3 Model B", "a02082"),
        _ => ("Raspberry Pi 4 Model B", "b03115"),
    };
    guest.wait_for(&format!("on {model}, revision {revision}, entered at EL2"), PATIENCE)?;
    pings(&mut peer, GUEST, 1_000)?;
    let status = status(&mut peer, GUEST)?;
    expect(&status, "/mode", &json!("normal"))?;
    expect(&status, "/configuration", &json!(image::sha256(CONFIG.as_bytes()).get(..32)))?;
    expect(&status, "/ports/0/origin", &json!("static"))?;
    // QEMU has the random number generator of a Pi 3, and none in its Pi 4: that must be told, not papered over.
    let entropy = if board.machine == "raspi3b" { "healthy" } else { "no random number generator" };
    expect(&status, "/entropy", &json!(entropy))?;
    let page = peer.get(GUEST, "/")?;
    ensure(page.status == 200 && page.body.contains(model), || page.body.clone())?;
    Ok(format!("network up after {} ms of guest time", status["network_up_ms"]))
}

/// The firmware of a real board reads the card through the SDHOST, and leaves it connected with that.
pub(super) fn other_controller(setting: &Setting, board: &Board) -> Result<String> {
    // Pins 48 and 49, and 50 to 53, as ALT0: function select registers 4 and 5.
    let left_by_firmware = [(0x3f20_0010, 4 << 24 | 4 << 27), (0x3f20_0014, 4 | 4 << 3 | 4 << 6 | 4 << 9)];
    let changed = CONFIG.replace("192.0.2.1/24", "192.0.2.77/24");
    for (config, address) in [(CONFIG, GUEST), (&changed, Ipv4Addr::new(192, 0, 2, 77))] {
        let mut peer = Peer::new(PEER)?;
        let drive = make_card(setting, "sdhost.img", Some(config))?;
        let _guest = boot(setting, board, Some(&drive), &peer, &left_by_firmware)?;
        pings(&mut peer, address, 1)?;
        let status = status(&mut peer, address)?;
        expect(&status, "/mode", &json!("normal"))?;
        contains(&status, "/log", "card read through SDHOST")?;
    }
    Ok(String::new())
}

/// Adapters on the hub that QEMU puts into the one socket, and on a hub behind that; each has its own cable.
pub(super) fn several(setting: &Setting, board: &Board) -> Result<String> {
    const PORTS: u8 = 3;
    let address = |port: u8, host: u8| Ipv4Addr::new(198, 51, 100 + port, host);
    let mut config = String::new();
    let mut arguments: Vec<String> =
        ["-M", board.machine, "-device", "usb-hub,port=1", "-device", "usb-hub,port=1.1"].map(str::to_owned).into();
    let mut peers = Vec::new();
    for port in 0..PORTS {
        config += &format!("[[network]]\nport = {port}\naddress = \"{}/24\"\n", address(port, 1));
        let peer = Peer::new(address(port, 2))?;
        let place = if port == 0 { "1.2".to_owned() } else { format!("1.1.{port}") };
        let device = format!("usb-net,netdev=n{port},mac=52:54:00:00:00:{:02x},port={place}", port + 1);
        arguments.extend(["-netdev".to_owned(), peer.netdev(&format!("n{port}"))?, "-device".to_owned(), device]);
        peers.push(peer);
    }
    let drive = make_card(setting, "several.img", Some(&config))?;
    arguments.extend(["-drive".to_owned(), drive]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _guest = Guest::start(&board.emulator, &setting.raspi.image, &arguments)?;
    for (port, peer) in (0..PORTS).zip(&mut peers) {
        pings(peer, address(port, 1), 100)?;
    }
    let status = status(&mut peers[0], address(0, 1))?;
    let macs: Vec<&str> =
        status["ports"].as_array().into_iter().flatten().filter_map(|port| port["mac"].as_str()).collect();
    ensure(macs.len() == usize::from(PORTS), || format!("{status}"))?;
    Ok(format!("{macs:?}"))
}

pub(super) fn replug(setting: &Setting, board: &Board) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "replug.img", Some(CONFIG))?;
    let guest = boot(setting, board, Some(&drive), &peer, &[])?;
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

pub(super) fn panic(setting: &Setting, board: &Board) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "panic.img", Some(CONFIG))?;
    let mut guest = boot(setting, board, Some(&drive), &peer, &[])?;
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

pub(super) fn safe_mode(setting: &Setting, board: &Board) -> Result<String> {
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
        let _guest = boot(setting, board, drive.as_deref(), &peer, &[])?;
        pings(&mut peer, guest_address, 1)?;
        let status = status(&mut peer, guest_address)?;
        expect(&status, "/mode", &json!("safe"))?;
        expect(&status, "/ports/0/origin", &json!("fallback"))?;
        contains(&status, "/problems/0", problem)?;
        ensure(peer.get(guest_address, "/")?.body.contains("Safe mode."), || "the page does not say so".to_owned())?;
    }
    Ok(String::new())
}

/// The console carries text, then frames of defmt, which the ELF file of the same build explains.
pub(super) fn log(setting: &Setting, board: &Board) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let drive = make_card(setting, "log.img", Some(CONFIG))?;
    let guest = boot(setting, board, Some(&drive), &peer, &[])?;
    pings(&mut peer, GUEST, 1)?;
    let shown = status(&mut peer, GUEST)?;
    let console = guest.console();
    let lines = log::decode(&setting.raspi.elf, &console)?;
    for wanted in ["configuration ", &format!("port 0: {GUEST_MAC} link up"), "port 0: address 192.0.2.1/24 (static)"] {
        ensure(lines.iter().any(|line| line.contains(wanted)), || format!("no line with {wanted:?}: {lines:#?}"))?;
        contains(&shown, "/log", wanted)?;
    }
    Ok(format!("{} lines", lines.len()))
}
