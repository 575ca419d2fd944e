//! Links the command-line tool statically (static-pie), so that it starts faster than flock(1).
//!
//! The dynamic loader costs about a third of a millisecond a start. `-C target-feature=+crt-static` would avoid it,
//! but a crate cannot ask for that, and it breaks proc-macros unless `--target` is given. So the stock build is
//! kept and only the final link of the binary is changed: rustc asks the linker for `-lgcc_s … -lc`; a folder of
//! linker scripts that comes first in the search path answers with the static libraries, and `-static-pie` makes cc
//! use the matching start-up objects. (`-static` alone gives a program that crashes at once: rustc compiles
//! position-independent code and passes `-pie`.)
//!
//! What a static program cannot do is call libc's name services (users, hosts): the library does without them.
//!
//! Falls back to the ordinary dynamic link where the static libraries are missing. `RESOURCELOCK_DYNAMIC=1` in the
//! environment asks for it.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries that rustc names on the command line and glibc has made part of libc.a or left as archives of their own.
const SYSTEM_LIBS: [&str; 5] = ["util", "rt", "pthread", "m", "dl"];

/// Set to anything but the empty string: link dynamically.
const OPT_OUT: &str = "RESOURCELOCK_DYNAMIC";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OPT_OUT}");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    if !wanted() {
        return;
    }
    match write_scripts() {
        Ok(Some(folder)) => {
            println!("cargo::rustc-link-arg-bins=-L{}", folder.display());
            println!("cargo::rustc-link-arg-bins=-static-pie");
        }
        // No static libc here: the dynamic link works everywhere, it only starts more slowly.
        Ok(None) => {}
        Err(e) => println!("cargo::warning=linking dynamically: cannot write linker scripts: {e}"),
    }
}

/// Whether this build should be linked statically at all.
fn wanted() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let opted_out = env::var_os(OPT_OUT).is_some_and(|v| !v.is_empty());
    let already = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|f| f.split(',').any(|f| f == "crt-static"));
    let gnu_linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    // `cc -print-file-name` answers for the machine that builds.
    let native = env::var_os("HOST") == env::var_os("TARGET");
    gnu_linux && native && !opted_out && !already
}

/// Writes one linker script for each library; `None` if a static library is missing.
fn write_scripts() -> io::Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return Ok(None);
    };
    let (Some(libc), Some(gcc), Some(gcc_eh)) = (archive("c"), archive("gcc"), archive("gcc_eh")) else {
        return Ok(None);
    };
    // The three need each other (libc.a unwinds, libgcc_eh.a allocates): a group is searched until nothing is new.
    let group = format!(
        "GROUP ( \"{}\" \"{}\" \"{}\" )\n",
        libc.display(),
        gcc_eh.display(),
        gcc.display()
    );
    fs::write(folder.join("libc.a"), &group)?;
    fs::write(folder.join("libgcc_s.a"), &group)?;
    for name in SYSTEM_LIBS {
        let Some(path) = archive(name) else {
            return Ok(None);
        };
        fs::write(
            folder.join(format!("lib{name}.a")),
            format!("INPUT ( \"{}\" )\n", path.display()),
        )?;
    }
    Ok(Some(folder))
}

/// Where the compiler driver finds `libNAME.a`, if it does.
fn archive(name: &str) -> Option<PathBuf> {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let output = Command::new(linker)
        .arg(format!("-print-file-name=lib{name}.a"))
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // An unknown library is echoed as a bare file name.
    (path.is_absolute() && Path::exists(&path)).then_some(path)
}
