//! Hands the memory of the machine to the linker.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-T{folder}/mps2-an386.ld");
    println!("cargo::rerun-if-changed=mps2-an386.ld");
}
