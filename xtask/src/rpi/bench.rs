//! `cargo xtask bench rpi`: what the image costs, in instructions, milliseconds of guest time and octets.
//!
//! QEMU counts: under `-icount shift=0` an instruction takes a nanosecond of guest time, so the figures are the same on
//! every machine and in every run. They say nothing of caches or of memory that is not cached.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::build::{Machine, build};
use super::emulator::Emulator;
use super::image;
use super::peer::Peer;
use super::qemu::{Guest, virt_arguments};
use crate::checkout::root;
use crate::outcome::Result;

/// Frames of one order; `board/virt/bench.rs` has the same number.
const FRAMES: u16 = 16;
/// A 64-octet frame on the wire has 60 before its FCS.
const LENGTHS: [u16; 3] = [60, 590, 1514];
const PATIENCE: Duration = Duration::from_secs(60);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
/// From the entry of the image to an address on the first port.
const UP_MS: u64 = 1_000;
/// A nanosecond an instruction.
const COUNTED: [&str; 2] = ["-icount", "shift=0"];
const CONFIG: &str = "[[network]]\naddress = \"192.0.2.1/24\"\n";

/// Measures and prints.
///
/// # Errors
/// When an image does not build or does not do what it is told.
pub(crate) fn run() -> Result {
    let folder = root().join("target/rpi/bench");
    fs::create_dir_all(&folder)?;
    let (raspi, virt) = (build(Machine::Raspi)?, build(Machine::Virt)?);

    println!("instructions a frame, virtio-net on QEMU virt; in brackets times the copy of its octets");
    println!(
        "{:>7} {:>6} {:>15} {:>15} {:>15} {:>15}",
        "octets", "copy", "received", "sent", "forwarded", "echo answered"
    );
    let mut bench = Orders::start(&virt.image, &folder)?;
    for len in LENGTHS {
        let copy = bench.order(b'c', len)?;
        print!("{len:>7} {copy:>6}");
        for what in [b'r', b's', b'f', b'e'] {
            let count = bench.order(what, len)?;
            print!("{:>16}", format!("{count} ({:.1})", count as f64 / copy as f64));
        }
        println!();
    }
    drop(bench);

    println!();
    let card = image::assemble(fs::read(&raspi.image)?, CONFIG.into(), Vec::new())?;
    let (drive, config) = (folder.join("card.img"), folder.join("portcullis.toml"));
    fs::write(&drive, &card)?;
    fs::write(&config, CONFIG)?;
    let drive = format!("if=sd,format=raw,file={}", drive.display());
    let pi = ["-M", "raspi3b", "-device", "usb-net,netdev=n0", "-drive", &drive].map(str::to_owned);
    let status = [
        (
            "raspi3b, CDC-ECM behind USB",
            when_up(&raspi.image, |netdev| [&["-netdev".to_owned(), netdev][..], &pi].concat())?,
        ),
        ("virt, virtio-net", when_up(&virt.image, |netdev| virt_arguments("virt", Some(&config), &[netdev]))?),
    ];
    for (board, status) in &status {
        let up = status["network_up_ms"].as_u64().ok_or("the network is not up")?;
        let verdict = if up <= UP_MS { "goal met" } else { "GOAL MISSED" };
        println!("network up after {up} ms of guest time on {board} (at most {UP_MS}: {verdict})");
    }
    let memory = |what: &str| status[0].1["memory"][what].as_u64().unwrap_or_default();
    println!(
        "memory: {} octets of code, static data, stacks and DMA; {} of {} octets of heap in use",
        memory("fixed"),
        memory("heap_used"),
        memory("heap_total")
    );
    println!(
        "kernel8.img {} octets; card without firmware {} octets as .xz",
        fs::metadata(&raspi.image)?.len(),
        image::compress(&card)?.len()
    );
    Ok(())
}

/// The status of a guest with one adapter, once it has its address.
fn when_up(kernel: &Path, arguments: impl FnOnce(String) -> Vec<String>) -> Result<serde_json::Value> {
    let mut peer = Peer::new(PEER)?;
    let mut arguments = arguments(peer.netdev("n0")?);
    arguments.extend(COUNTED.map(str::to_owned));
    let _guest = Guest::start(&Emulator::usual(), kernel, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    peer.ping(GUEST, 1, PATIENCE)?;
    Ok(serde_json::from_str(&peer.get(GUEST, "/status.json")?.body)?)
}

/// A guest that measures what it is told to.
struct Orders {
    guest: Guest,
    /// The cables of both ports: frames, and orders.
    frames: Peer,
    orders: Peer,
}

impl Orders {
    fn start(kernel: &Path, folder: &Path) -> Result<Self> {
        let (frames, orders) = (Peer::new(PEER)?, Peer::new(PEER)?);
        let wish = folder.join("wish");
        fs::write(&wish, "1")?;
        let wish = format!("name=opt/portcullis-bench,file={}", wish.display());
        let netdevs = [frames.netdev("n0")?, orders.netdev("n1")?];
        let mut arguments = virt_arguments("virt", None, &netdevs);
        arguments.extend(COUNTED.into_iter().chain(["-fw_cfg", &wish]).map(str::to_owned));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut guest = Guest::start(&Emulator::usual(), kernel, &arguments)?;
        guest.wait_for("bench: ready", PATIENCE)?;
        let mut orders = Self { guest, frames, orders };
        // Answered without an echo, so it counts nothing.
        orders.frames.throw(&super::peer::arp_request(GUEST, PEER));
        orders.give(b'e', 0)?;
        Ok(orders)
    }

    /// Instructions a frame of `len` octets.
    fn order(&mut self, what: u8, len: u16) -> Result<u64> {
        let frame = super::peer::echo_request(MAC, GUEST, PEER, len.into());
        if matches!(what, b'r' | b'f' | b'e') {
            (0..FRAMES).for_each(|_| self.frames.throw(&frame));
        }
        let line = self.give(what, len)?;
        let count = line.trim_start_matches("bench: ").parse();
        count.map_err(|_| format!("{:?} of {len} octets: {line}", char::from(what)).into())
    }

    fn give(&mut self, what: u8, len: u16) -> Result<String> {
        // The frames come by another way than the order, and must be there before it.
        std::thread::sleep(Duration::from_millis(300));
        let mut order = vec![0xff; 12];
        order.extend([0x88, 0xb5, what]);
        order.extend(len.to_be_bytes());
        order.resize(60, 0);
        self.orders.throw(&order);
        self.guest.wait_for("bench: ", PATIENCE)
    }
}
