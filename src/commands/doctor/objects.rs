//! Problems with locks' files: other versions, wrong kinds, owners and permissions that do not match.

use super::{Finding, Remedy};
use crate::cli::{quoted, shell_word};
use crate::commands::list::NO_PERMISSION;
use crate::output::names;
use resourcelock::{LockName, State};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub fn findings(states: &[State], unreadable: &[(LockName, String)]) -> Vec<Finding> {
    let mut findings = other_versions();
    findings.extend(states.iter().filter_map(|state| permissions(&state.name)));
    // Other people's locks are no problem; what nobody can use is.
    for (name, reason) in unreadable.iter().filter(|(_, reason)| reason != NO_PERMISSION) {
        findings.push(Finding {
            kind: "unusable",
            lock: Some(name.to_string()),
            what: reason.clone(),
            why: "nobody can acquire the lock",
            mend: format!("resourcelock {} remove --force", shell_word(name.as_str())),
            remedy: Remedy::None,
        });
    }
    findings
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
    let look = |path: &PathBuf| fs::symlink_metadata(path).ok();
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
        file.gid()
    )
}
