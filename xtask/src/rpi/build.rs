//! Builds the bare-metal image with whatever compiler has the target.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::elf::{ElfFile64, ProgramHeader};

use crate::checkout::{cargo, root, succeed};
use crate::cross::{Route, cargo_for, route};
use crate::outcome::{Result, ensure};

/// What the image is compiled for.
pub(crate) const TARGET: &str = "aarch64-unknown-none";

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

/// The packages of this repository in the image.
const OURS: [&str; 7] =
    ["appliance-rpi", "rpi-drivers", "rpi-services", "gateway-core", "traffic-core", "ike-core", "ipsec-core"];

/// Builds the image of one machine below `appliance-rpi/target`.
///
/// # Errors
/// Without a compiler for the target, and when the build fails.
pub(crate) fn build(machine: Machine) -> Result<Built> {
    let directory = directory();
    let target = directory.join("target");
    // The MMU is on before anything but `mmu::enable` runs, and with it accesses to memory need no alignment.
    let mut flags = "-C force-frame-pointers=yes -C target-feature=-strict-align".to_owned();
    // This machine's paths stay out of the image, so that two checkouts build the same octets.
    for (path, name) in [
        (root().to_path_buf(), "portcullis"),
        (cargo_home()?, "cargo"),
        (PathBuf::from("/usr/lib/rustlib/src/rust"), "rust"),
    ] {
        flags += &format!(" --remap-path-prefix={}={name}", path.display());
    }
    let features: &[&str] = if machine == Machine::Virt { &["--features", "virt"] } else { &[] };
    let route = route(TARGET)?;
    if route == Route::Debian {
        flags += " -C linker=ld.lld"; // what cargo_for would set alone
    }
    let mut command = cargo_for(TARGET, route, &["build", "--release", "--locked", "--quiet"]);
    command.current_dir(&directory).arg("--target-dir").arg(&target).args(features);
    // Every level is compiled in; the configuration chooses among them at run time.
    command.env("RUSTFLAGS", flags).env("DEFMT_LOG", "debug").env("PORTCULLIS_BUILD", build_id());
    // The compiler warns of that target feature, each time; what else it has to say clippy says too.
    let output = command.output()?;
    ensure(output.status.success(), || {
        format!("the bare-metal build failed\n{}", String::from_utf8_lossy(&output.stderr))
    })?;

    let out = target.join("image");
    fs::create_dir_all(&out)?;
    let name = match machine {
        Machine::Raspi => "kernel8",
        Machine::Virt => "virt",
    };
    let built = Built { elf: out.join(format!("{name}.elf")), image: out.join(format!("{name}.img")) };
    let elf = fs::read(target.join(TARGET).join("release/appliance-rpi"))?;
    fs::write(&built.image, flatten(&elf)?)?;
    fs::write(&built.elf, elf)?;
    Ok(built)
}

/// Has the next build compile all that is ours anew, and make all machine code anew: the link does that, as what others
/// wrote is kept as bitcode.
///
/// # Errors
/// When cargo fails.
pub(crate) fn forget() -> Result {
    let mut command = cargo(&["clean", "--quiet", "--release", "--target", TARGET, "--target-dir", "target"]);
    command.args(OURS.iter().flat_map(|package| ["-p", package]));
    succeed(command.current_dir(directory()))
}

fn directory() -> PathBuf {
    root().join("appliance-rpi")
}

/// The commit, with a "+" when the tree has changes.
fn build_id() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    if changed { commit + "+" } else { commit }
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .ok_or_else(|| "neither CARGO_HOME nor a home directory".into())
}

/// The octets of all loaded segments, laid out from the lowest physical address.
fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<object::LittleEndian>::parse(elf)?;
    let endian = file.endian();
    let mut segments: Vec<(u64, &[u8])> = Vec::new();
    for header in file.elf_program_headers() {
        if header.p_type(endian) == object::elf::PT_LOAD && header.p_filesz(endian) > 0 {
            let octets = header.data(endian, elf).map_err(|()| "a segment lies outside the file")?;
            segments.push((header.p_paddr(endian), octets));
        }
    }
    segments.sort_by_key(|(address, _)| *address);
    let start = segments.first().ok_or("the image has no segments")?.0;
    let mut image = Vec::new();
    for (address, octets) in segments {
        image.resize(usize::try_from(address - start)?, 0);
        image.extend_from_slice(octets);
    }
    Ok(image)
}

/// Counts instructions that a Pi 3 or 4 does not have, though QEMU runs them: the cryptographic extensions.
///
/// # Errors
/// Names the instructions found; also when the disassembler is missing.
pub(crate) fn check_instructions(elf: &Path) -> Result<usize> {
    let disassembler = ["llvm-objdump", "rust-objdump", "aarch64-linux-gnu-objdump"]
        .into_iter()
        .find(|program| crate::checkout::installed(program))
        .ok_or("missing llvm-objdump; on Debian install llvm")?;
    let output = Command::new(disassembler).args(["-d", "--no-show-raw-insn"]).arg(elf).output()?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Names are looked for between tabs, where a disassembler puts mnemonics.
    let mnemonics: Vec<&str> = text.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    ensure(mnemonics.len() > 10_000, || format!("{disassembler} shows {} instructions only", mnemonics.len()))?;
    let foreign: Vec<&str> = mnemonics
        .iter()
        .map(|mnemonic| mnemonic.trim())
        .filter(|mnemonic| {
            ["aes", "pmull", "sha1", "sha256", "sha512", "eor3", "rax1"].iter().any(|name| mnemonic.starts_with(name))
        })
        .collect();
    ensure(foreign.is_empty(), || format!("instructions that a Pi 3 and 4 lack: {foreign:?}"))?;
    Ok(mnemonics.len())
}
