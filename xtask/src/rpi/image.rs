//! `cargo xtask image`: the card image that a person flashes.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lzma_rust2::{XzOptions, XzWriter};
use sha2::{Digest, Sha256};

use super::build::{Machine, build};
use super::card::{self, File};
use crate::checkout::root;
use crate::outcome::{Result, ensure};

/// Make the SD-card image for Raspberry Pi: portcullis-rpi.img, .img.xz and a repository for Raspberry Pi Imager.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Where the Raspberry Pi firmware lies (start.elf and the like; Debian: package raspi-firmware,
    /// /usr/lib/raspi-firmware). Without it the image has none, and boots in QEMU only.
    #[arg(long, value_name = "DIRECTORY")]
    firmware_dir: Option<PathBuf>,
    /// The firmware's licence, which goes onto the card; default: LICENCE.broadcom or copyright in that directory.
    #[arg(long, value_name = "FILE")]
    firmware_licence: Option<PathBuf>,
    /// Another configuration than the commented default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the results go; default: target/rpi.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Address under which the .img.xz will be offered, for the repository; default: the file itself.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Read by the firmware. The kernel routes the serial port by itself; the overlay frees it where a device tree is used.
/// With less than 32 MiB for graphics the firmware wants its cut-down files instead of those below. The kernel asks for
/// full speed itself; a firmware that begins with it takes it away after a minute, in the middle of the work.
const CONFIG_TXT: &str = "\
arm_64bit=1
kernel=kernel8.img
kernel_address=0x80000
enable_uart=1
dtoverlay=disable-bt
disable_commandline_tags=1
gpu_mem=32
initial_turbo=0
";

/// Needed by Pi 3 and Zero 2 W, and by Pi 4.
pub(super) const FIRMWARE: [&str; 5] = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
/// Taken along where they are.
const FIRMWARE_OPTIONAL: [&str; 5] = [
    "bcm2710-rpi-3-b.dtb",
    "bcm2710-rpi-3-b-plus.dtb",
    "bcm2710-rpi-zero-2-w.dtb",
    "bcm2711-rpi-4-b.dtb",
    "overlays/disable-bt.dtbo",
];
const LICENCES: [&str; 2] = ["LICENCE.broadcom", "copyright"];

/// Runs `cargo xtask image`.
///
/// # Errors
/// When the kernel does not build, or a file is missing.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kernel = fs::read(build(Machine::Raspi)?.image)?;
    let firmware = match &arguments.firmware_dir {
        Some(directory) => firmware(directory, arguments.firmware_licence.as_deref())?,
        None => {
            println!("no --firmware-dir: this image boots in QEMU, not on a Raspberry Pi");
            Vec::new()
        }
    };
    let config = match &arguments.config {
        Some(path) => fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => default_config()?,
    };
    let card = assemble(kernel, config, firmware)?;
    let out = arguments.out.clone().unwrap_or_else(|| root().join("target/rpi"));
    for path in write(&card, &out, arguments.url.as_deref())? {
        println!("{}: {} octets", path.display(), fs::metadata(&path)?.len());
    }
    println!("sha256 of the image: {}", sha256(&card));
    Ok(ExitCode::SUCCESS)
}

/// The commented configuration.
///
/// # Errors
/// When the file is not in the checkout.
pub(super) fn default_config() -> Result<Vec<u8>> {
    Ok(fs::read(root().join("appliance-rpi/portcullis.toml"))?)
}

/// The card with everything on it.
///
/// # Errors
/// When it does not fit.
pub(super) fn assemble(kernel: Vec<u8>, config: Vec<u8>, firmware: Vec<File>) -> Result<Vec<u8>> {
    let mut files = vec![
        ("config.txt".to_owned(), CONFIG_TXT.as_bytes().to_vec()),
        ("kernel8.img".to_owned(), kernel),
        ("portcullis.toml".to_owned(), config),
    ];
    files.extend(firmware);
    card::make(&files)
}

/// The firmware's files and its licence.
///
/// # Errors
/// Which are missing.
pub(super) fn firmware(directory: &Path, licence: Option<&Path>) -> Result<Vec<File>> {
    let missing: Vec<&str> = FIRMWARE.into_iter().filter(|name| !directory.join(name).is_file()).collect();
    ensure(missing.is_empty(), || format!("{} lacks {}", directory.display(), missing.join(", ")))?;
    let licence = match licence {
        Some(path) => path.to_path_buf(),
        None => LICENCES.iter().map(|name| directory.join(name)).find(|path| path.is_file()).ok_or(
            "the firmware may be passed on only with its licence: name it with --firmware-licence \
             (Debian: /usr/share/doc/raspi-firmware/copyright)",
        )?,
    };
    let mut files = vec![("LICENCE.broadcom".to_owned(), fs::read(&licence)?)];
    let optional = FIRMWARE_OPTIONAL.into_iter().filter(|name| directory.join(name).is_file());
    for name in FIRMWARE.into_iter().chain(optional) {
        files.push((name.to_owned(), fs::read(directory.join(name))?));
    }
    Ok(files)
}

/// Writes image, compressed image and repository; returns their paths.
fn write(card: &[u8], out: &Path, url: Option<&str>) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(out)?;
    let image = out.join("portcullis-rpi.img");
    fs::write(&image, card)?;
    let compressed = compress(card)?;
    let packed = out.join("portcullis-rpi.img.xz");
    fs::write(&packed, &compressed)?;
    let url = match url {
        Some(url) => url.to_owned(),
        None => format!("file://{}", fs::canonicalize(&packed)?.display()),
    };
    // Field names as in Raspberry Pi Imager's own repository (os_list_imagingutility_v4.json).
    let repository = serde_json::json!({ "os_list": [{
        "name": "Portcullis",
        "description": "IPsec gateway without an operating system",
        "url": url,
        "extract_size": card.len(),
        "extract_sha256": sha256(card),
        "image_download_size": compressed.len(),
        "image_download_sha256": sha256(&compressed),
        "devices": ["pi3-64bit", "pi4-64bit"],
        "init_format": "none",
    }]});
    let list = out.join("portcullis-rpi.json");
    fs::write(&list, serde_json::to_string_pretty(&repository)? + "\n")?;
    Ok(vec![image, packed, list])
}

/// The same octets for the same content: one thread, one setting.
pub(super) fn compress(card: &[u8]) -> Result<Vec<u8>> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6))?;
    writer.write_all(card)?;
    Ok(writer.finish()?)
}

pub(super) fn sha256(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().fold(String::new(), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
