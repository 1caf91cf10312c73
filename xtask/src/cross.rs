//! Builds for targets without an operating system.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::checkout::cargo;
use crate::outcome::Result;

/// Where a compiler for a target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The toolchain in use has the target (`rustup target add`).
    Toolchain,
    /// Debian's compiler and its library sources: packages rustc-web, rust-web-src, lld.
    Debian,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toolchain => "installed target",
            Self::Debian => "Debian's rustc-web",
        })
    }
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";

/// The first route that is open for `target`.
///
/// # Errors
/// What to install when none is.
pub(crate) fn route(target: &str) -> Result<Route> {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output()?;
    if output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(Route::Toolchain);
    }
    let debian = Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]).output().ok();
    let sysroot = debian.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let library = format!("{sysroot}/lib/rustlib/src/rust/library");
    if [library.as_str(), DEBIAN_LIBRARY].iter().any(|folder| Path::new(folder).join("core").is_dir())
        && crate::checkout::installed("ld.lld")
    {
        return Ok(Route::Debian);
    }
    Err(format!("no compiler for {target}: `rustup target add {target}`, or on Debian rustc-web, rust-web-src and lld")
        .into())
}

/// `cargo <arguments> --target <target>` by that route.
pub(crate) fn cargo_for(target: &str, route: Route, arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.args(["--target", target]);
    if route == Route::Debian {
        command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-C linker=ld.lld");
        command.arg("-Zbuild-std=core,alloc");
    }
    command
}
