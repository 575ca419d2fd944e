//! Problems with locks' files: other versions, wrong kinds, owners and permissions that do not match.

use super::{Finding, Remedy};
use crate::cli::{quoted, shell_word};
use crate::commands::advice;
use crate::output::view::Level;
use crate::output::{names, shown};
use resourcelock::system::group_name;
use resourcelock::{Error, LockName, State};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub fn findings(states: &[State], unreadable: &[(LockName, Error)]) -> Vec<Finding> {
    let mut findings = other_versions();
    findings.extend(states.iter().filter_map(|state| permissions(&state.name)));
    findings.extend(second_names(states));
    // Other people's locks are no problem; what nobody can use is.
    for (name, error) in unreadable {
        if matches!(error, Error::Permission { .. }) {
            continue;
        }
        findings.push(Finding {
            level: Level::Problem,
            kind: "unusable",
            lock: Some(name.to_string()),
            what: advice::fact(error),
            why: "nobody can acquire the lock",
            mend: advice::advice(error, Some(name.as_str())).unwrap_or_else(|| "find out what it is".to_owned()),
            remedy: Remedy::None,
        });
    }
    findings
}

/// A program that is killed while it creates a semaphore with sem_open(3) may leave the temporary name behind.
fn second_names(states: &[State]) -> Vec<Finding> {
    let twice = |state: &&State| look(&state.name.semaphore_path()).filter(|semaphore| semaphore.nlink() == 2);
    let twice: Vec<_> = states
        .iter()
        .filter_map(|state| Some((state, twice(&state)?)))
        .collect();
    if twice.is_empty() {
        return Vec::new();
    }
    let temporary = resourcelock::temporary_names();
    let second = |semaphore: &Metadata| temporary.get(&semaphore.ino());
    twice
        .into_iter()
        .filter_map(|(state, semaphore)| Some((state, second(&semaphore)?)))
        .map(|(state, path)| Finding {
            level: Level::Problem,
            kind: "second name",
            lock: Some(state.name.to_string()),
            what: format!("{} is another name of its semaphore", path.display()),
            why: "a program was killed while it created the lock; until that name is gone, opening the lock takes longer",
            mend: "resourcelock doctor --fix".to_owned(),
            remedy: Remedy::DeleteName(path.clone()),
        })
        .collect()
}

/// Deletes the other name of the lock's semaphore; false if it is not one any more.
pub fn delete_second_name(name: &LockName, path: &Path) -> bool {
    let inode = |path: &Path| look(path).map(|file| file.ino());
    let is_second = inode(path).is_some() && inode(path) == inode(&name.semaphore_path());
    is_second && fs::remove_file(path).is_ok()
}

fn look(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok()
}

/// Tables of another layout: named `resourcelock`, its number (none for the first one), a dot, the lock's name.
fn other_versions() -> Vec<Finding> {
    let mut files: Vec<(PathBuf, String)> = fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let (version, name) = file.strip_prefix("resourcelock")?.split_once('.')?;
            let is_table = version.bytes().all(|byte| byte.is_ascii_digit());
            let is_ours = LockName::new(name).is_ok_and(|name| name.table_path() == entry.path());
            (is_table && !is_ours).then(|| (entry.path(), name.to_owned()))
        })
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|(path, name)| Finding {
            level: Level::Note,
            kind: "other version",
            lock: Some(name),
            what: format!("{} is the table of another version of this program", path.display()),
            why: "both versions exclude each other, but do not see each other's queue, so the order is not kept",
            mend: format!(
                "use one version; when no program of the other one runs any more, delete it: rm {}",
                quoted(&path)
            ),
            remedy: Remedy::None,
        })
        .collect()
}

/// Who may use the flag must be able to use note and table, and nobody else.
fn permissions(name: &LockName) -> Option<Finding> {
    let flag = look(&name.semaphore_path())?;
    for path in [name.note_path(), name.table_path()] {
        if let Some(other) = look(&path)
            && access(&other) != access(&flag)
        {
            return Some(finding(
                name,
                format!(
                    "{} is {}, but its semaphore is {}",
                    path.display(),
                    describe(&other),
                    describe(&flag)
                ),
                "some users can use only one of them: they fail, or hold the lock without being seen",
                format!(
                    "as its owner, when it is idle: resourcelock {} remove",
                    shell_word(name.as_str())
                ),
            ));
        }
    }
    let (read, write) = (flag.mode() >> 2 & 0o111, flag.mode() >> 1 & 0o111);
    (read != write).then(|| {
        finding(
            name,
            format!("its semaphore is {}: some may only read it", describe(&flag)),
            "whoever can read a lock's files can make a dead holder look alive, and nobody else can tell",
            format!(
                "let its group write it as well (660), or nobody else: chmod 600 {}",
                quoted(name.semaphore_path())
            ),
        )
    })
}

fn finding(name: &LockName, what: String, why: &'static str, mend: String) -> Finding {
    Finding {
        level: Level::Problem,
        kind: "permissions",
        lock: Some(name.to_string()),
        what,
        why,
        mend,
        remedy: Remedy::None,
    }
}

fn access(file: &Metadata) -> (u32, u32, u32) {
    (file.uid(), file.gid(), file.mode() & 0o777)
}

fn describe(file: &Metadata) -> String {
    format!(
        "{:o} of user {} and group {}",
        file.mode() & 0o777,
        names::user(file.uid()),
        shown(group_name(file.gid()))
    )
}
