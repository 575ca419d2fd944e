//! Links the program statically (static-pie), so that it starts faster than flock(1).
//!
//! The dynamic loader takes about a third of a millisecond of each start. `-C target-feature=+crt-static` would avoid
//! it, but a crate cannot ask for that, and it breaks proc-macros unless `--target` is given. So only the final link of
//! the program is changed: rustc asks the linker for `-lgcc_s … -lc`; a directory of linker scripts, first in the search
//! path, answers with the static libraries, and `-static-pie` makes the compiler driver use the matching start-up
//! objects. (`-static` alone gives a program that crashes at once: rustc compiles position-independent code and passes
//! `-pie`.)
//!
//! A static program cannot call libc's name services (users, hosts): the library does without them.
//!
//! The libraries are those that the target's linker finds, so a cross build is static as well, if Cargo knows that
//! linker (`CARGO_TARGET_…_LINKER`). Where they are missing, the program is linked dynamically, and a warning says so.
//! `RESOURCELOCK_DYNAMIC=1` in the environment asks for that.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries that rustc names on the command line; in glibc they are part of libc.a, or archives of their own.
const SYSTEM_LIBS: [&str; 5] = ["util", "rt", "pthread", "m", "dl"];

/// Start-up code of a static-pie program.
const STARTUP: &str = "rcrt1.o";

/// Set to anything but the empty string: link dynamically.
const OPT_OUT: &str = "RESOURCELOCK_DYNAMIC";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OPT_OUT}");
    // Cargo makes RUSTC_LINKER from this, and does not notice by itself that it has changed.
    let target = env::var("TARGET").unwrap_or_default();
    let target = target.to_uppercase().replace(['-', '.'], "_");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_{target}_LINKER");
    // Without the program there is nothing to link.
    if env::var_os("CARGO_FEATURE_CLI").is_none() || !is_wanted() {
        return;
    }
    match write_scripts(&Linker::of_target()) {
        Ok(directory) => {
            println!("cargo::rustc-link-arg-bins=-L{}", directory.display());
            println!("cargo::rustc-link-arg-bins=-static-pie");
        }
        // That works everywhere; the program only starts more slowly.
        Err(why) => println!("cargo::warning=linking resourcelock dynamically: {why} ({OPT_OUT}=1 silences this)"),
    }
}

/// True if this build should be linked statically.
fn is_wanted() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let opted_out = env::var_os(OPT_OUT).is_some_and(|v| !v.is_empty());
    let already = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|f| f.split(',').any(|f| f == "crt-static"));
    let gnu_linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    gnu_linux && !opted_out && !already
}

/// Writes one linker script for each library, and returns their directory.
fn write_scripts(linker: &Linker) -> Result<PathBuf, String> {
    let directory = PathBuf::from(env::var_os("OUT_DIR").ok_or("Cargo names no OUT_DIR")?);
    linker.check_target()?;
    linker.find(STARTUP)?;
    let (libc, gcc, gcc_eh) = (linker.archive("c")?, linker.archive("gcc")?, linker.archive("gcc_eh")?);
    let write = |name: &str, script: &str| {
        let path = directory.join(format!("lib{name}.a"));
        fs::write(&path, script).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    // The three need each other (libc.a unwinds, libgcc_eh.a allocates): a group is searched until nothing is new.
    let group = format!(
        "GROUP ( \"{}\" \"{}\" \"{}\" )\n",
        libc.display(),
        gcc_eh.display(),
        gcc.display()
    );
    write("c", &group)?;
    write("gcc_s", &group)?;
    for name in SYSTEM_LIBS {
        write(name, &format!("INPUT ( \"{}\" )\n", linker.archive(name)?.display()))?;
    }
    Ok(directory)
}

/// The compiler driver that links.
struct Linker(OsString);

impl Linker {
    /// What Cargo was told to link with for the target, else what rustc uses for the machine that builds.
    fn of_target() -> Self {
        Self(env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into()))
    }

    /// Its answer to a question.
    fn ask(&self, question: &str) -> Result<String, String> {
        let name = self.0.to_string_lossy();
        let output = Command::new(&self.0).arg(question).output();
        let output = output.map_err(|e| format!("cannot run {name}: {e}"))?;
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !answer.is_empty() {
            Ok(answer)
        } else {
            Err(format!("{name} does not understand {question}"))
        }
    }

    /// Fails if it links for another architecture than the target's.
    fn check_target(&self) -> Result<(), String> {
        let machine = self.ask("-dumpmachine")?;
        let own = machine.split('-').next().unwrap_or_default();
        // Two ways to spell it: x86_64 and riscv64 are those of CARGO_CFG_TARGET_ARCH, powerpc64le is that of TARGET.
        let target = env::var("TARGET").unwrap_or_default();
        let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        if own == arch || target.split('-').next() == Some(own) {
            Ok(())
        } else {
            let name = self.0.to_string_lossy();
            Err(format!("{name} links for {machine}, not for {target}"))
        }
    }

    /// Where it finds a file.
    fn find(&self, file: &str) -> Result<PathBuf, String> {
        let path = PathBuf::from(self.ask(&format!("-print-file-name={file}"))?);
        // A file that it does not find is echoed as a bare name.
        if path.is_absolute() && Path::exists(&path) {
            Ok(path)
        } else {
            Err(format!("{} finds no {file}", self.0.to_string_lossy()))
        }
    }

    /// Where it finds `libNAME.a`.
    fn archive(&self, name: &str) -> Result<PathBuf, String> {
        self.find(&format!("lib{name}.a"))
    }
}
