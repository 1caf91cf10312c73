//! Chooses the memory layout of the machine and hands the linker script to the linker.

use std::env;

fn main() {
    let virt = env::var_os("CARGO_FEATURE_VIRT").is_some();
    // Load address, start of RAM, and the 2 MiB block that is mapped non-cacheable.
    let (load, ram, dma) =
        if virt { (0x4020_0000u32, 0x4000_0000u32, 0x4200_0000u32) } else { (0x8_0000, 0, 0x200_0000) };
    let directory = env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=src/boot.s");
    for argument in [
        format!("--defsym=LOAD_ADDRESS={load:#x}"),
        format!("--defsym=RAM_START={ram:#x}"),
        format!("--defsym=DMA_ADDRESS={dma:#x}"),
        format!("-T{directory}/link.ld"),
        "-Tdefmt.x".to_owned(),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
