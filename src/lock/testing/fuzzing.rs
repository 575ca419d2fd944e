//! Entry points for fuzzing and property tests: what hostile content in a lock's files can do. Not part of the API.

use crate::lock::engines;
use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::protocol::latch::SLEEPERS;
use crate::lock::protocol::queue::{self, Sweep};
use crate::lock::shm::files;
use crate::lock::shm::layout::{Layout, MAGIC};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::real_world::Real;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::system::printable_bytes;
use crate::lock::types::{HistoryRecord, LockName, State};
use chrono::{DateTime, Local};
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;

/// Long enough for any machine.
const MINUTE_NS: u64 = 60_000_000_000;

fn in_memory(bytes: &[u8], size: usize) -> Option<OwnedFd> {
    let fd = nix::sys::memfd::memfd_create("fuzz", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).ok()?;
    nix::unistd::ftruncate(&fd, i64::try_from(size).ok()?).ok()?;
    let mut rest = bytes.get(..bytes.len().min(size))?;
    while !rest.is_empty() {
        let n = nix::unistd::write(&fd, rest).ok()?;
        rest = rest.get(n..)?;
    }
    Some(fd)
}

/// The objects of a lock with `bytes` as its table's content, after the semaphore's word. They are validated as when a lock
/// is opened.
fn objects(name: &LockName, bytes: &[u8]) -> Option<Objects> {
    let (word, bytes) = bytes.split_at(bytes.len().min(8));
    let size = if bytes.len() % 7 == 6 {
        bytes.len()
    } else {
        size_of::<Layout>()
    };
    let file = std::fs::File::from(in_memory(bytes, size)?);
    // Too far behind the beginning to be found by chance.
    if size == size_of::<Layout>() {
        let seal = offset_of!(Layout, seal) as u64;
        file.write_all_at(&MAGIC.to_ne_bytes(), seal).ok()?;
    }
    let table = files::opened(file.into(), &name.table_path()).ok()?;
    let semaphore = files::opened(in_memory(word, 32)?, &name.semaphore_path()).ok()?;
    Some(Objects {
        semaphore: Semaphore::new(&semaphore, name).ok()?,
        note: Note::Absent,
        table: Table::new(table, name).ok()?,
        id: 7,
        beacon: None,
    })
}

fn inspect(name: &LockName, objects: &Objects) -> (State, Vec<HistoryRecord>) {
    let semaphore = &objects.semaphore;
    let state = snapshot::state(name, Owned::used(semaphore), semaphore, &objects.note, Some(objects));
    (state, snapshot::history(objects))
}

/// What is seen of a lock with `bytes` as its table's content, after the semaphore's word: its state and its history.
/// `None` if such a table is refused.
pub fn seen(name: &LockName, bytes: &[u8]) -> Option<(State, Vec<HistoryRecord>)> {
    Some(inspect(name, &objects(name, bytes)?))
}

/// `bytes` as a table's content, after a semaphore's word. If that is not refused, it is inspected, repaired, and inspected
/// again; every time that is seen can be displayed.
pub fn table(bytes: &[u8]) {
    let Ok(name) = LockName::new("fuzz") else { return };
    let Some(objects) = objects(&name, bytes) else { return };
    let inspect = || {
        let (state, history) = inspect(&name, &objects);
        let gave_up = snapshot::gave_up_from(&objects.table, 0);
        assert!(state.holders.len() + state.waiters.len() <= 1024 && history.len() <= 256);
        let holders = state.holders.iter().flat_map(|one| [one.since, one.queued()]);
        let waiters = state.waiters.iter().map(|one| one.since);
        let past = history.iter().chain(&gave_up);
        let past = past.flat_map(|one| [one.queued, one.granted(), Some(one.ended)]);
        for time in holders.chain(waiters).chain(past).flatten() {
            let shown = DateTime::<Local>::from(time).to_rfc3339();
            assert!(DateTime::parse_from_rfc3339(&shown).is_ok(), "{shown}");
        }
    };
    inspect();
    // Whoever writes this handle's own id there keeps it out for as long as it waits.
    if objects.table.header.latch.load(Relaxed) & !SLEEPERS == objects.id {
        return;
    }
    let now = sys::monotonic();
    let real = Real::new(&objects, now, now.saturating_add(MINUTE_NS));
    let visited = real.in_latch_of_any(|real, _, wakes| queue::visit(real, Sweep::All, wakes));
    inspect();
    assert!(
        visited.is_ok(),
        "a latch that no living process holds was not taken over"
    );
}

/// `bytes` as a note: it is read, then overwritten with a text made of the same bytes, and read back.
pub fn note(bytes: &[u8]) {
    let Some(file) = in_memory(bytes, bytes.len()) else {
        return;
    };
    let Ok(note) = Note::to_write(&file, bytes.len() as u64) else {
        return;
    };
    let shown = printable_bytes(&note.read());
    assert!(!shown.chars().any(char::is_control));
    let text = String::from_utf8_lossy(bytes).into_owned();
    let whole = note.write(text.as_bytes());
    let back = note.read();
    let expected = text.split('\0').next().unwrap_or_default();
    assert!(bytes.is_empty() || expected.as_bytes().starts_with(&back));
    assert!(std::str::from_utf8(&back).is_ok());
    assert!(bytes.is_empty() || whole == (back.len() == expected.len()));
}

/// `bytes` as a lock's name: it is refused, or it names three files directly in /dev/shm that say whose they are.
pub fn name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(name) = LockName::new(&text) else { return };
    assert_eq!(
        LockName::new(name.as_str()).ok().as_ref(),
        Some(&name),
        "the bare name means the same lock"
    );
    let [semaphore, note, table] = [name.semaphore_path(), name.note_path(), name.table_path()];
    for path in [&semaphore, &note, &table] {
        assert_eq!(path.parent(), Some(std::path::Path::new("/dev/shm")));
    }
    // No other lock's note has the file name of this one's semaphore or table, because such names are refused.
    for path in [&semaphore, &table] {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        assert!(LockName::new(&file).is_err());
    }
}

/// `bytes` as the URL of an engine, and as a part of one that has a password: it is opened, without connecting, or refused
/// in a line that does not contain the password.
pub fn url(bytes: &[u8]) {
    const PASSWORD: &str = "do-not-tell";
    let text = String::from_utf8_lossy(bytes);
    if text.contains(PASSWORD) {
        return; // outside the password, too
    }
    let refusal = |url: &str| {
        engines::open(url)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(!refusal(&text).chars().any(char::is_control));
    for place in engines::passwords_in(bytes) {
        assert!(place.start <= place.end && place.end <= bytes.len(), "{place:?}");
    }
    for scheme in ["etcd", "postgres"] {
        for url in [
            format!("{scheme}://u:{PASSWORD}@{text}"),
            format!("{scheme}://h/d?password={PASSWORD}&{text}"),
        ] {
            let refusal = refusal(&url);
            assert!(!refusal.contains(PASSWORD), "{refusal}");
            let hidden: usize = engines::passwords_in(url.as_bytes())
                .iter()
                .map(|place| place.len())
                .sum();
            assert!(hidden >= PASSWORD.len(), "ps(1) shows the password of {url}");
        }
    }
}
