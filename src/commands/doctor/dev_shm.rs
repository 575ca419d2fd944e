//! What this machine does to everything in /dev/shm.

use super::{Finding, Remedy};
use crate::cli::quoted;
use crate::commands::advice;
use crate::commands::own_locks::space_in_idle_locks;
use crate::output::names;
use crate::output::view::Level;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::getuid;
use resourcelock::engines::Local;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// With less than this, it counts as full: a lock takes up 20 KiB or more, and grows.
const SCARCE: u64 = 4 << 20;
/// The same of files: a lock has three.
const SCARCE_FILES: u64 = 30;

pub fn findings() -> Vec<Finding> {
    [
        remove_ipc(),
        private(),
        insecure_directory(),
        read_only(),
        folder(),
        space(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn finding(kind: &'static str, what: String, why: &'static str, mend: &str) -> Finding {
    Finding {
        level: Level::Problem,
        kind,
        lock: None,
        what,
        why,
        mend: mend.to_owned(),
        remedy: Remedy::None,
    }
}

fn note(kind: &'static str, what: String, why: &'static str, mend: &str) -> Finding {
    Finding {
        level: Level::Note,
        ..finding(kind, what, why, mend)
    }
}

fn insecure_directory() -> Option<Finding> {
    let error = Local::new().check_directory().err()?;
    Some(finding(
        "unsafe directory",
        advice::fact(&error),
        "whoever deletes a lock's files lets two processes in at once",
        "chown root /dev/shm && chmod 1777 /dev/shm",
    ))
}

/// systemd-logind deletes an ordinary user's objects at the end of the last session (logind.conf(5), RemoveIPC).
fn remove_ipc() -> Option<Finding> {
    let uid = getuid().as_raw();
    let user = names::user(uid);
    let is_ordinary = (1000..60000).contains(&uid);
    let lingers = Path::new("/var/lib/systemd/linger").join(&user).exists();
    let logind_runs = Path::new("/run/systemd/seats").exists();
    (is_ordinary && logind_runs && !lingers && removes_ipc()).then(|| {
        finding(
            "remove-ipc",
            format!("systemd deletes all locks of {user} when {user} logs out"),
            "a job that goes on in the background believes that it holds a lock, but others can take it",
            &format!(
                "RemoveIPC=no in /etc/systemd/logind.conf, or: loginctl enable-linger {}",
                quoted(&user)
            ),
        )
    })
}

/// The setting as systemd reads it: drop-in files come last, the last assignment wins, the default is yes.
fn removes_ipc() -> bool {
    let mut files = vec![Path::new("/etc/systemd/logind.conf").to_owned()];
    for folder in [
        "/usr/lib/systemd/logind.conf.d",
        "/run/systemd/logind.conf.d",
        "/etc/systemd/logind.conf.d",
    ] {
        let mut drop_ins: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        drop_ins.sort();
        files.extend(drop_ins);
    }
    let mut removes = true;
    for file in files {
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            if let Some(value) = line.trim().strip_prefix("RemoveIPC") {
                let value = value.trim_start().trim_start_matches('=').trim();
                removes = !matches!(
                    value.to_ascii_lowercase().as_str(),
                    "no" | "false" | "off" | "0" | "n" | "f"
                );
            }
        }
    }
    removes
}

/// True if other programs on this machine have another /dev/shm: root sees that through the first process, others by
/// the marks that container engines leave.
fn private() -> Option<Finding> {
    let device = |path: &str| fs::metadata(path).ok().map(|folder| folder.dev());
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    let what = match (device("/proc/1/root/dev/shm"), device("/dev/shm")) {
        (Some(first), Some(ours)) if first != ours => "/dev/shm is not that of the machine's first process".to_owned(),
        _ => {
            let mark = marks.into_iter().find(|mark| Path::new(mark).exists())?;
            format!("this is a container ({mark} exists)")
        }
    };
    Some(note(
        "private",
        what,
        "programs outside, or in other containers, do not see the locks made here",
        "to share it: docker run --ipc=host, or -v /dev/shm:/dev/shm",
    ))
}

fn folder() -> Option<Finding> {
    let is_memory = statfs("/dev/shm").is_ok_and(|file_system| file_system.filesystem_type() == TMPFS_MAGIC);
    (!is_memory).then(|| {
        note(
            "not in memory",
            "/dev/shm is not a tmpfs".to_owned(),
            "locks may survive a restart of the machine, or be slow",
            "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        )
    })
}

fn read_only() -> Option<Finding> {
    let file_system = statvfs("/dev/shm").ok()?;
    file_system.flags().contains(FsFlags::ST_RDONLY).then(|| {
        finding(
            "read-only",
            "/dev/shm is mounted read-only".to_owned(),
            "no lock can be acquired, released or created",
            "mount -o remount,rw /dev/shm (for a container, on the host or in its definition)",
        )
    })
}

fn space() -> Option<Finding> {
    let file_system = statvfs("/dev/shm").ok()?;
    let free = file_system
        .blocks_available()
        .saturating_mul(file_system.fragment_size());
    let what = if file_system.blocks() > 0 && free < SCARCE {
        format!("/dev/shm has {} KiB left", free >> 10)
    } else if file_system.files() > 0 && file_system.files_available() < SCARCE_FILES {
        format!("/dev/shm has room for {} more files", file_system.files_available())
    } else {
        return None;
    };
    Some(finding(
        "full",
        what,
        "a new lock cannot be created",
        &space_in_idle_locks()
            .unwrap_or_else(|| "find what is large, or there in large numbers: du -ah /dev/shm | sort -h".to_owned()),
    ))
}
