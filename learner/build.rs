//! Tells the linker where the crate's binaries and tests find libtorch when they run.
//!
//! The path of the libtorch that the build used comes first, then places relative to the binary, for a deployed
//! one. All of them are a RUNPATH: an `LD_LIBRARY_PATH` goes before them, so that a binary also runs on the libtorch
//! of a Python installation.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::exit;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(env::var_os("LIBTORCH").unwrap_or_default());
    let lib = libtorch.join("lib");
    println!(
        "cargo::rerun-if-changed={}",
        lib.join("libtorch_cpu.so").display()
    );
    let lib = match lib.canonicalize() {
        Ok(lib) if lib.join("libtorch_cpu.so").is_file() => lib,
        _ => {
            println!(
                "cargo::error=no libtorch at LIBTORCH={}: run `scripts/libtorch` (or `make setup`), which fetches it, \
                 or set LIBTORCH to the folder of a libtorch 2.11",
                libtorch.display()
            );
            exit(1);
        }
    };
    let version = fs::read_to_string(libtorch.join("build-version")).unwrap_or_default();
    println!(
        "cargo::rustc-env=ROOKERY_LIBTORCH_VERSION={}",
        version.trim()
    );
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags");
    for path in [
        lib.to_string_lossy().as_ref(),
        "$ORIGIN",
        "$ORIGIN/lib",
        "$ORIGIN/../lib",
    ] {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{path}");
    }
}
