//! The image as files on the host.

use std::fs;
use std::process::Command;

use super::Setting;
use crate::checkout::installed;
use crate::outcome::{Result, ensure};
use crate::rpi::build::{Built, Machine, build, check_instructions, forget};
use crate::rpi::{card, image};

pub(super) fn instructions(setting: &Setting) -> Result<String> {
    let count = check_instructions(&setting.raspi.elf)?;
    Ok(format!("{count} instructions"))
}

pub(super) fn reproducible(setting: &Setting) -> Result<String> {
    let make = |built: &Built| -> Result<String> {
        let card = image::assemble(fs::read(&built.image)?, image::default_config()?, Vec::new())?;
        Ok(image::sha256(&image::compress(&card)?))
    };
    let first = make(&setting.raspi)?;
    forget()?;
    let second = make(&build(Machine::Raspi)?)?;
    ensure(first == second, || format!("{first} and {second}"))?;
    Ok(format!(".img.xz {first}"))
}

pub(super) fn fsck(setting: &Setting) -> Result<String> {
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
    // A line for the version, and one that counts: it has nothing to remark.
    ensure(checked.status.success() && words.lines().count() == 2, || words.clone())?;
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

/// The made-up files show what is copied; that the real ones boot a board cannot be shown here.
pub(super) fn firmware(setting: &Setting) -> Result<String> {
    let folder = setting.folder.join("firmware");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("overlays"))?;
    let refused = |wanted: &str| match image::firmware(&folder, None) {
        Ok(_) => Err(format!("taken although {wanted:?} is wrong").into()),
        Err(error) => ensure(error.to_string().contains(wanted), || error.to_string()),
    };
    refused("bootcode.bin, start.elf, fixup.dat, start4.elf, fixup4.dat")?;
    for (number, name) in image::FIRMWARE.into_iter().chain(["overlays/disable-bt.dtbo"]).enumerate() {
        fs::write(folder.join(name), vec![number as u8 + 1; 100_000 + number])?;
    }
    refused("--firmware-licence")?;
    fs::write(folder.join("copyright"), "for use on Raspberry Pi only\n")?;
    let files = image::firmware(&folder, None)?;
    let mut made = image::assemble(fs::read(&setting.raspi.image)?, image::default_config()?, files.clone())?;
    for (name, content) in &files {
        ensure(card::read(&mut made, name)? == *content, || format!("{name} differs on the card"))?;
    }
    ensure(files.iter().any(|(name, _)| name == "LICENCE.broadcom"), || "the licence is not among them".to_owned())?;
    Ok(format!("{} files", files.len()))
}
