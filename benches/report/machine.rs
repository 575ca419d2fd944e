//! The machine and the versions of everything that is compared; what building costs.

use crate::contenders::Place;
use crate::figures::{Report, Target};
use crate::programs::{built, output};

/// What was measured, and on what.
pub fn facts() -> Vec<(&'static str, String)> {
    let python = std::env::var("RESOURCELOCK_BENCH_PYTHON").unwrap_or_default();
    let module = |name: &str| {
        let script = format!("import importlib.metadata as m; print('{name}', m.version('{name}'))");
        output(&[&python, "-c", &script])
    };
    let package = |name: &str| output(&["dpkg-query", "-W", "-f=${Package} ${Version}", name]);
    let crates = include_str!("../crates/Cargo.lock");
    let of_crate = |name: &str| {
        let after = crates
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .map(|(_, rest)| rest);
        let version = after.and_then(|rest| rest.split('"').next()).unwrap_or_default();
        format!("{name} {version}")
    };
    let root = env!("CARGO_MANIFEST_DIR");
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let joined = |words: &[String]| {
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        words.join(", ")
    };
    vec![
        ("date", output(&["date", "-u", "+%Y-%m-%d %H:%M UTC"])),
        (
            "resourcelock",
            format!(
                "{}, commit {}",
                env!("CARGO_PKG_VERSION"),
                output(&["git", "-C", root, "describe", "--always", "--dirty"])
            ),
        ),
        ("processor", format!("{}, {} CPUs", processor(), processors())),
        ("kernel", output(&["uname", "-srm"])),
        (
            "load average, processes",
            std::fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        ),
        (
            "locale",
            std::env::var("LC_ALL")
                .or(std::env::var("LANG"))
                .unwrap_or_else(|_| "none (C)".to_owned()),
        ),
        ("compiler", output(&["rustc", "--version"])),
        ("C library", first_line(output(&["ldd", "--version"]))),
        ("the program", linked_with()),
        (
            "programs",
            joined(&[
                first_line(output(&["flock", "--version"])),
                package("moreutils"),
                package("parallel"),
                std::env::var("RESOURCELOCK_BENCH_PACKAGES").unwrap_or_default(),
            ]),
        ),
        (
            "Python",
            joined(&[
                output(&[&python, "--version"]),
                module("cjnfuncs"),
                module("posix_ipc"),
                module("filelock"),
                module("fasteners"),
                module("portalocker"),
            ]),
        ),
        ("crates", joined(&[of_crate("fd-lock"), of_crate("named-lock")])),
        (
            "engines",
            joined(&[
                first_line(output(&["etcd", "--version"])),
                first_line(output(&["etcdctl", "version"])),
                output(&["psql", "--version"]),
            ]),
        ),
    ]
}

/// Which program was measured.
fn linked_with() -> String {
    let both = std::env::var_os("RESOURCELOCK_BENCH_FROM_SOURCE").is_some();
    let text = if both {
        "as it is handed out, linked with musl; where it says so, built from source, with the C library above"
    } else {
        "built from source, with the C library above"
    };
    text.to_owned()
}

/// The processor's name.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown".to_owned(), |name| {
        name.trim_start_matches([' ', '\t', ':']).to_owned()
    })
}

/// How many processors this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What building takes and makes.
pub fn measure(_: &Place, report: &mut Report) {
    if std::env::var_os("RESOURCELOCK_BENCH_PROGRAM").is_some() {
        let size = std::fs::metadata(built()).expect("the program is there").len();
        report.alone(
            "the program, default features, stripped",
            "MB",
            size as f64 / 1e6,
            Target::AtMost(3.0),
        );
    } else {
        report.left_out("the program's size", "RESOURCELOCK_BENCH_PROGRAM is not set");
    }
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = output(&[
        &cargo,
        "tree",
        "--manifest-path",
        manifest,
        "--no-default-features",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
    ]);
    let crates: std::collections::BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    if crates.is_empty() {
        report.left_out("the library's crates", "cargo tree cannot be run");
    } else {
        report.alone(
            "crates for the library alone, with itself",
            "",
            crates.len() as f64,
            Target::AtMost(18.0),
        );
    }
    match std::env::var("RESOURCELOCK_BENCH_SUITE").map(|seconds| seconds.parse::<f64>()) {
        Ok(Ok(seconds)) => report.alone(
            "scripts/test.sh from a fresh clone",
            "min",
            seconds / 60.0,
            Target::AtMost(6.0),
        ),
        _ => report.left_out(
            "scripts/test.sh from a fresh clone",
            "takes minutes: measured by scripts/benchmarks.sh --suite",
        ),
    }
}
