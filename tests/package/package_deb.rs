//! The Debian package: built, installed, used, purged. `dpkg --root` installs into a directory with its own package
//! database: this system is not touched.

use crate::common::{TestLock, binary};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Builds the package around the binary under test. A release build would take minutes, and the best compression seconds;
/// both differ in nothing that packaging could break.
fn build(folder: &Path) -> PathBuf {
    let target = folder.join("target");
    std::fs::create_dir_all(target.join("release")).unwrap();
    std::fs::copy(binary().get_program(), target.join("release/resourcelock")).unwrap();
    let package = folder.join("resourcelock.deb");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join(".tools/bin");
    let path = std::env::join_paths(
        [tools]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new(env!("CARGO"))
        .args(["deb", "--no-build", "--fast", "--offline", "--locked", "--output"])
        .arg(&package)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", &target)
        .env("PATH", path.unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    package
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(command: &mut Command) -> String {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Makes a directory into the root of a system with nothing installed yet.
fn empty_system(folder: &Path) -> PathBuf {
    let system = folder.join("system");
    let database = system.join("var/lib/dpkg");
    for part in ["info", "updates", "triggers"] {
        std::fs::create_dir_all(database.join(part)).unwrap();
    }
    for file in ["status", "available"] {
        std::fs::write(database.join(file), "").unwrap();
    }
    system
}

fn dpkg(system: &Path) -> Command {
    let mut dpkg = Command::new("dpkg");
    // The dependencies that $auto found are installed on the system that runs the tests, not on the empty one.
    dpkg.arg(format!("--root={}", system.display()))
        .args(["--force-not-root", "--force-depends", "--no-triggers"])
        .arg(format!("--log={}", system.join("log").display()));
    dpkg
}

/// The files below the system's root, except the package database.
fn files(system: &Path) -> Vec<String> {
    let listed = run(Command::new("find")
        .arg(system.join("usr"))
        .args(["-type", "f", "-printf", "%m %P\n"]));
    let mut files: Vec<String> = listed.lines().map(str::to_owned).collect();
    files.sort();
    files
}

#[test]
fn built_installed_used_purged() {
    let folder = TempDir::new().unwrap();
    let package = build(folder.path());
    let system = empty_system(folder.path());
    run(dpkg(&system).arg("-i").arg(&package));
    assert!(run(dpkg(&system).args(["-s", "resourcelock"])).contains("Status: install ok installed"));

    let files_there = files(&system);
    for file in [
        "755 bin/resourcelock",
        "644 share/man/man1/resourcelock.1.gz",
        "644 share/bash-completion/completions/resourcelock",
        "644 share/zsh/vendor-completions/_resourcelock",
        "644 share/fish/vendor_completions.d/resourcelock.fish",
        "644 share/doc/resourcelock/copyright",
        "644 share/doc/resourcelock/README.md",
        "644 share/doc/resourcelock/docs/design.md",
    ] {
        assert!(files_there.contains(&file.to_owned()), "no {file} in {files_there:#?}");
    }
    let programs = files_there.iter().filter(|file| file.starts_with("755"));
    assert_eq!(programs.count(), 1, "{files_there:#?}");

    // The program.
    let lock = TestLock::new("deb");
    let installed = system.join("usr/bin/resourcelock");
    let ran = run(Command::new(&installed).args([lock.name(), "run", "--", "echo", "ran"]));
    assert_eq!(ran, "ran\n");
    assert!(run(Command::new(&installed).args(["list"])).contains(lock.name()));

    // man(1) and the shells find the package's files by themselves.
    let share = system.join("usr/share");
    let man = run(Command::new("man")
        .arg("-M")
        .arg(share.join("man"))
        .args(["-w", "resourcelock"]));
    assert!(man.ends_with("/man1/resourcelock.1.gz\n"), "{man}");
    let path = format!(
        "{}:{}",
        installed.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let in_shell = |shell: &str, script: &str| {
        let mut command = Command::new(shell);
        command
            .args(["-c", script])
            .env("PATH", &path)
            .env("HOME", folder.path())
            .env("XDG_DATA_DIRS", &share)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME");
        run(&mut command)
    };
    let bash =
        ". /usr/share/bash-completion/bash_completion; _completion_loader resourcelock; complete -p resourcelock";
    assert_eq!(in_shell("bash", bash), "complete -F _resourcelock resourcelock\n");
    let fish = format!("complete -C 'resourcelock {}'", lock.name());
    assert_eq!(in_shell("fish", &fish), format!("{}\tfree\n", lock.name()));
    let zsh = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[resourcelock]",
        share.join("zsh/vendor-completions").display()
    );
    assert_eq!(in_shell("zsh", &zsh), "_resourcelock\n");

    run(dpkg(&system).args(["--purge", "resourcelock"]));
    assert!(!system.join("usr").exists() || files(&system).is_empty());
    assert_eq!(
        lock.objects().len(),
        3,
        "locks belong to those who use them, not to the package"
    );
}
