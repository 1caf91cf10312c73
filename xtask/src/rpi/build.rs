//! Builds the bare-metal image with whatever compiler has the target.

use super::{Result, root};
use object::read::elf::{ElfFile64, ProgramHeader};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "aarch64-unknown-none";
/// Debian's compiler and library sources (packages `rustc-web`, `rust-web-src`, `lld`).
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The machines the one source tree is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// Raspberry Pi 3, Zero 2 W and 4.
    Raspi,
    /// QEMU's virt.
    Virt,
}

/// Where a build left its results.
pub(crate) struct Built {
    /// With symbols and log formats, for `defmt-print`, disassembly and loading at EL3.
    pub(crate) elf: PathBuf,
    /// The flat image the firmware loads.
    pub(crate) image: PathBuf,
}

/// Builds the image of one machine.
pub(crate) fn build(machine: Machine) -> Result<Built> {
    let directory = root().join("appliance-rpi");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&directory).args(["build", "--release", "--locked", "--target", TARGET]);
    let mut flags = vec!["-C force-frame-pointers=yes".to_owned()];
    if !target_installed()? {
        if !Path::new(DEBIAN_RUSTC).exists() {
            return Err(format!(
                "no compiler for {TARGET}: run `rustup target add {TARGET}`, or on Debian install rustc-web, rust-web-src and lld"
            )
            .into());
        }
        command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core,alloc");
        flags.push("-C linker=ld.lld".to_owned());
    }
    flags.extend(remapped_paths()?);
    // Every level is compiled in; the configuration chooses among them at run time.
    command.env("DEFMT_LOG", "debug").env("RUSTFLAGS", flags.join(" "));
    if machine == Machine::Virt {
        command.args(["--features", "virt"]);
    }
    if !command.status()?.success() {
        return Err("the bare-metal build failed".into());
    }

    let out = directory.join("target/image");
    fs::create_dir_all(&out)?;
    let name = match machine {
        Machine::Raspi => "kernel8",
        Machine::Virt => "virt",
    };
    let built = Built { elf: out.join(format!("{name}.elf")), image: out.join(format!("{name}.img")) };
    let elf = fs::read(directory.join("target").join(TARGET).join("release/appliance-rpi"))?;
    fs::write(&built.image, flatten(&elf)?)?;
    fs::write(&built.elf, elf)?;
    Ok(built)
}

/// Whether the compiler that runs us can build for the target by itself.
fn target_installed() -> Result<bool> {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output()?;
    Ok(output.status.success() && Path::new(String::from_utf8(output.stdout)?.trim()).is_dir())
}

/// Flags that keep this machine's paths out of the image, so that two checkouts build the same bytes.
fn remapped_paths() -> Result<Vec<String>> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .ok_or("neither CARGO_HOME nor a home directory")?;
    Ok([(root(), "portcullis"), (cargo_home, "cargo"), (PathBuf::from("/usr/lib/rustlib/src/rust"), "rust")]
        .into_iter()
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
        .collect())
}

/// The bytes of all loaded segments, laid out from the lowest physical address.
fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<object::LittleEndian>::parse(elf)?;
    let endian = file.endian();
    let mut segments: Vec<(u64, &[u8])> = Vec::new();
    for header in file.elf_program_headers() {
        if header.p_type(endian) == object::elf::PT_LOAD && header.p_filesz(endian) > 0 {
            let bytes = header.data(endian, elf).map_err(|()| "a segment lies outside the file")?;
            segments.push((header.p_paddr(endian), bytes));
        }
    }
    segments.sort_by_key(|(address, _)| *address);
    let start = segments.first().ok_or("the image has no segments")?.0;
    let mut image = Vec::new();
    for (address, bytes) in segments {
        image.resize(usize::try_from(address - start)?, 0);
        image.extend_from_slice(bytes);
    }
    Ok(image)
}
