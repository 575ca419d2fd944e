//! The Python package: built and installed with pip into an environment of its own, where `python/tests/` runs.

use crate::common::{example, peer, printed};
use crate::engine_common::etcd::Etcd;
use crate::engine_common::postgres::Postgres;
use crate::package_cargo::turn;
use crate::tested;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where what is built and installed here stays, for the next time.
fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("python package")
}

/// Python with what builds the package; without optimization, and from what is here already.
fn python() -> Command {
    let python = peer::python();
    // With maturin.
    let mut path = vec![python.parent().unwrap().to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(python);
    // Cargo has said them of this test. Some crates are built anew if they differ.
    for (name, _) in env::vars_os() {
        let said = name.to_string_lossy();
        if said.starts_with("CARGO_PKG_") || said.starts_with("CARGO_MANIFEST_") || said == "OUT_DIR" {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(ROOT)
        .env("PATH", env::join_paths(path).unwrap())
        .env("CARGO_TARGET_DIR", tested::target())
        .env("CARGO_NET_OFFLINE", "true")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RESOURCELOCK_WHEEL_PROFILE", "dev");
    command
}

/// What `command` says; it must succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said = said.concat();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// The wheel that pip builds from `source`.
fn wheel(source: &Path) -> PathBuf {
    let folder = place().join("wheel");
    let _ = fs::remove_dir_all(&folder);
    let options = [
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
    ];
    let turn = turn();
    run(python()
        .args(["-m", "pip", "wheel"])
        .args(options)
        .arg(&folder)
        .arg(source));
    drop(turn);
    let mut wheels = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let wheel = wheels.next().unwrap();
    assert_eq!(wheels.next(), None);
    wheel
}

/// An environment with the package, and with what the tests' own has.
fn environment(wheel: &Path) -> PathBuf {
    let folder = place().join("environment");
    run(python().args(["-m", "venv", "--clear", "--without-pip"]).arg(&folder));
    let installed = folder.join("bin/python");
    let packages = |python: &mut Command| {
        let ask = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
        PathBuf::from(printed(python.args(["-c", ask])))
    };
    let also = packages(&mut python());
    let link = packages(&mut Command::new(&installed)).join("tests.pth");
    fs::write(link, also.as_os_str().as_encoded_bytes()).unwrap();
    let options = ["install", "--quiet", "--no-index", "--no-deps"];
    run(python()
        .args(["-m", "pip", "--disable-pip-version-check", "--python"])
        .arg(&installed)
        .args(options)
        .arg(wheel));
    installed
}

#[test]
fn the_package_is_installed_by_pip_and_its_tests_pass() {
    let installed = environment(&wheel(Path::new(ROOT)));
    let tests = |pattern| {
        let mut python = Command::new(&installed);
        python.current_dir(ROOT).args(["-m", "unittest", "discover"]);
        python.args(["--start-directory", "python", "--top-level-directory", "python"]);
        python.args(["--pattern", pattern]).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    std::thread::scope(|scope| {
        // They wait for a lease most of the time.
        scope.spawn(|| {
            let (etcd, postgres) = (Etcd::one(), Postgres::start());
            let mut python = tests("engines_*.py");
            python.env("RESOURCELOCK_TEST_ETCD", etcd.url());
            python.env("RESOURCELOCK_TEST_POSTGRES", postgres.url());
            println!("{}", run(&mut python));
        });
        let mut python = tests("test_*.py");
        println!(
            "{}",
            run(python.env("RESOURCELOCK_TEST_COUNT", example("count").get_program()))
        );
    });
}

/// The source archive has what a build needs. (With `RESOURCELOCK_ALL_CASES=1`, it is built.)
#[test]
fn the_source_archive_is_complete() {
    let folder = place().join("sources");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let build =
        "import sys; sys.path.insert(0, 'python'); import build_backend; build_backend.build_sdist(sys.argv[1])";
    run(python().args(["-c", build]).arg(&folder));
    let archive = folder.join("resourcelock-0.1.0.tar.gz");
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder));
    let unpacked = folder.join("resourcelock-0.1.0");
    let files = |root: &Path, under: &str| {
        let listed = printed(Command::new("find").args([under, "-type", "f"]).current_dir(root));
        let mut listed: Vec<String> = listed
            .lines()
            .filter(|path| !path.contains("__pycache__") && !path.contains("resourcelock.data"))
            .map(str::to_owned)
            .collect();
        listed.sort();
        listed
    };
    for under in ["src", "man", "completions", "python/src", "python/python"] {
        assert_eq!(files(&unpacked, under), files(Path::new(ROOT), under), "{under}");
    }
    for file in [
        "pyproject.toml",
        "python/build_backend.py",
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
    ] {
        assert!(unpacked.join(file).exists(), "{file}");
    }
    let metadata = [
        "metadata",
        "--offline",
        "--locked",
        "--no-deps",
        "--format-version",
        "1",
    ];
    run(Command::new(env!("CARGO")).args(metadata).current_dir(&unpacked));
    if env::var_os("RESOURCELOCK_ALL_CASES") == Some(OsString::from("1")) {
        wheel(&unpacked);
    }
}
