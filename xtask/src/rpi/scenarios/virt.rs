//! QEMU's virt machine with virtio adapters.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Board, CONFIG, GUEST, PATIENCE, PEER, Setting, expect, pings, status};
use crate::outcome::{Result, ensure};
use crate::rpi::build::{Machine, build};
use crate::rpi::peer::Peer;
use crate::rpi::qemu::{Guest, virt_arguments};

fn boot(
    setting: &Setting,
    board: &Board,
    (machine, kernel): (&str, &Path),
    config: &str,
    netdevs: &[String],
) -> Result<Guest> {
    let place = setting.folder.join("virt.toml");
    fs::write(&place, config)?;
    let arguments = virt_arguments(machine, Some(&place), netdevs);
    Guest::start(&board.emulator, kernel, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn whole(setting: &Setting, board: &Board) -> Result<String> {
    let second = Ipv4Addr::new(198, 51, 100, 1);
    let mut peers = [Peer::new(PEER)?, Peer::new(Ipv4Addr::new(198, 51, 100, 2))?];
    let netdevs = [peers[0].netdev("n0")?, peers[1].netdev("n1")?];
    let _guest = boot(setting, board, ("virt", &build(Machine::Virt)?.image), CONFIG, &netdevs)?;
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

pub(super) fn entry_levels(setting: &Setting, board: &Board) -> Result<String> {
    let mut times = Vec::new();
    let virt = build(Machine::Virt)?;
    for (machine, kernel, level) in [
        ("virt", &virt.image, "EL1"),
        ("virt,virtualization=on", &virt.image, "EL2"),
        // QEMU enters an ELF file, which it does not take for Linux, at the highest level.
        ("virt,virtualization=on,secure=on", &virt.elf, "EL3"),
    ] {
        // QEMU's own network has a DHCP server; the guest's port 80 is reached through loopback.
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let netdev = format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80");
        let mut guest = boot(setting, board, (machine, kernel), "", &[netdev])?;
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
pub(super) fn status_over_loopback(port: u16) -> Result<Value> {
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

pub(super) fn clients(setting: &Setting, board: &Board) -> Result<String> {
    let mut peer = Peer::new(PEER)?;
    let config = CONFIG.replace("\"yes\"", "\"no\"");
    let netdev = peer.netdev("n0")?;
    let _guest = boot(setting, board, ("virt", &build(Machine::Virt)?.image), &config, &[netdev])?;
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
