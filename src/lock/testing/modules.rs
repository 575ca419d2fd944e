//! The order in which the library's modules depend on each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module may use those before it; `testing` is used by all, in tests.
const ORDER: [&str; 9] = [
    "sys", "system", "types", "protocol", "shm", "inspect", "acquire", "engines", "api",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What a source file uses, by the names after `crate::lock`; tests and documentation left out.
fn paths(text: &str) -> Vec<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let paths = lines.flat_map(|line| line.split("crate::lock::").skip(1));
    let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    let names = |path: &str| {
        path.split(end)
            .next()
            .unwrap_or_default()
            .split("::")
            .map(str::to_owned)
            .collect()
    };
    paths.map(names).collect()
}

/// The modules that it uses.
fn imports(text: &str) -> Vec<String> {
    paths(text).into_iter().map(|mut path| path.swap_remove(0)).collect()
}

fn is_of_the_root(line: &str) -> bool {
    line.strip_prefix("use crate::")
        .is_some_and(|path| !path.starts_with("lock::"))
}

#[test]
fn dependencies_run_one_way() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lock");
    let mut wrong = Vec::new();
    for (place, module) in ORDER.iter().enumerate() {
        let mut files = vec![lock.join(format!("{module}.rs"))];
        sources(&lock.join(module), &mut files);
        assert!(files.len() > 1, "{module} has files");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // Through the crate's root any module could be reached unseen.
            if text.lines().any(is_of_the_root) {
                wrong.push(format!("{} imports from the crate's root", file.display()));
            }
            for used in imports(&text).iter().filter(|used| *used != "testing") {
                match ORDER.iter().position(|known| known == used) {
                    Some(other) if other <= place => {}
                    _ => wrong.push(format!("{} uses {used}", file.display())),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Within a module, too, no file needs one that needs it.
#[test]
fn no_two_files_need_each_other() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lock");
    let mut files = Vec::new();
    for module in ORDER.iter().filter(|module| **module != "engines") {
        sources(&lock.join(module), &mut files);
    }
    let uses: BTreeMap<String, BTreeSet<String>> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(&lock).unwrap().with_extension("");
            let of = |path: &Vec<String>| path.iter().take(2).cloned().collect::<Vec<_>>().join("/");
            let used = paths(&fs::read_to_string(file).unwrap()).iter().map(of).collect();
            (name.to_string_lossy().into_owned(), used)
        })
        .collect();
    for file in uses.keys() {
        let mut reached = BTreeSet::new();
        let mut edge = vec![file];
        while let Some(next) = edge.pop() {
            for used in uses.get(next).into_iter().flatten().filter(|used| *used != next) {
                assert_ne!(used, file, "{file} needs {next}, which needs it");
                if reached.insert(used) {
                    edge.push(used);
                }
            }
        }
    }
}

#[test]
fn imports_are_found() {
    let text =
        "//! crate::lock::doc\nuse crate::lock::shm::{a, b};\nlet x = crate::lock::sys::f() + crate::lock::api::g();";
    assert_eq!(imports(text), ["shm", "sys", "api"]);
    assert_eq!(paths(text)[1], ["sys", "f"]);
}
