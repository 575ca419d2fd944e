//! Who is at work, as the kernel tells it: each visitor locks bytes of a side file. What it finds wrong goes into the
//! journal, with what the lock itself says of both sides at that time.

use crate::common::worker::monotonic;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_RDLCK, F_UNLCK, F_WRLCK};
use resourcelock::{Mode, ResourceLock};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Of a counting lock.
pub const SLOTS: u32 = 3;
/// This byte guards the tokens.
const GUARD: i64 = 100;
/// Where the tokens begin: for each mode the largest one that was seen, and since when its visitor had asked.
const TOKENS: u64 = 4096;

/// A visitor, as it describes itself.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The lock.
    pub name: String,
    /// What it is, for whoever reads the journal.
    pub role: String,
    pub mode: Mode,
    pub token: u64,
    /// When it expires at the earliest (monotonic ns), if it does.
    pub expires: Option<u64>,
    /// It was left held: then a release by somebody else counts as a usual one.
    pub detached: bool,
    /// When it began to ask for the lock, or before that: monotonic ns.
    pub since: u64,
}

/// The side file, the journal, and the visitors' descriptions, opened by one process.
pub struct Occupancy {
    folder: PathBuf,
    /// Locks of fcntl(2)'s classic kind: the kernel drops them when the process dies, before it drops anything else of
    /// it, beacons included.
    side: File,
    journal: File,
}

fn open(path: PathBuf, append: bool) -> File {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.append(append).open(path).expect("a file in the test's folder")
}

/// In one piece: others write as well.
fn write_line(mut file: &File, line: &Value) {
    file.write_all(format!("{line}\n").as_bytes()).expect("written");
}

fn mode_index(mode: Mode) -> usize {
    match mode {
        Mode::Exclusive => 0,
        Mode::Shared => 1,
        Mode::Slots(_) => 2,
    }
}

impl Occupancy {
    /// Opens what lies in this folder; makes it, if it is not there.
    pub fn open(folder: &Path) -> Self {
        Self {
            side: open(folder.join("side"), false),
            journal: open(folder.join("journal"), true),
            folder: folder.to_owned(),
        }
    }

    /// Adds a line to the journal.
    pub fn note(&self, line: &Value) {
        write_line(&self.journal, line);
    }

    fn set(&self, kind: i32, start: i64, len: i64) -> bool {
        fcntl(&self.side, FcntlArg::F_SETLK(&range(kind, start, len))).is_ok()
    }

    /// The process that has bytes of this range in a way that keeps `kind` out.
    fn user_of(&self, kind: i32, start: i64, len: i64) -> Option<i32> {
        let mut bytes = range(kind, start, len);
        fcntl(&self.side, FcntlArg::F_GETLK(&mut bytes)).expect("it can be asked");
        (i32::from(bytes.l_type) != F_UNLCK).then_some(bytes.l_pid)
    }

    /// Takes these bytes; else how whoever has them described itself. (It is asked first: once it has left, nobody knows
    /// it.)
    fn take(&self, kind: i32, start: i64, len: i64) -> Result<(), Value> {
        loop {
            let before = monotonic();
            if let Some(pid) = self.user_of(kind, start, len) {
                if let Some(other) = self.described(pid, before, monotonic()) {
                    return Err(other);
                }
            } else if self.set(kind, start, len) {
                return Ok(());
            }
        }
    }

    /// Takes the bytes that nobody may have who must not be at work beside this mode; else those who have them.
    fn enter(&self, mode: Mode) -> Result<(), Vec<Value>> {
        let all = i64::from(SLOTS);
        let alone = |other| vec![other];
        match mode {
            Mode::Exclusive => self.take(F_WRLCK, 0, all).map_err(alone),
            Mode::Shared => self.take(F_RDLCK, 0, all).map_err(alone),
            Mode::Slots(_) => {
                let mut others = vec![];
                for slot in 0..all {
                    match self.take(F_WRLCK, slot, 1) {
                        Ok(()) => return Ok(()),
                        Err(other) => others.push(other),
                    }
                }
                Err(others)
            }
        }
    }

    /// Comes in, does `work`, and leaves. What is wrong is noted.
    pub fn visit(&self, me: &Visitor, work: impl FnOnce()) {
        write_line(&open(self.visitor_path(std::process::id()), true), &me.described());
        match self.enter(me.mode) {
            Ok(()) => {
                self.note(&json!({
                    "what": "visit", "at": monotonic(), "mode": mode_index(me.mode), "role": me.role, "token": me.token,
                    "pid": std::process::id(), "since": me.since,
                }));
                self.check_token(me);
            }
            Err(mut others) => {
                let at = monotonic();
                for other in &mut others {
                    if let (Some(name), Some(token)) = (other["name"].as_str(), other["token"].as_u64()) {
                        other["fate"] = json!(fate(name, token));
                    }
                }
                self.note(&json!({ "what": "overlap", "at": at, "me": me.with_fate(), "others": others }));
            }
        }
        work();
        assert!(self.set(F_UNLCK, 0, i64::from(SLOTS)));
    }

    fn visitor_path(&self, pid: u32) -> PathBuf {
        self.folder.join(format!("visitor.{pid}"))
    }

    /// How the process describes itself that was found at work at a time between these two. `None`: it may have left, and
    /// come again, in the meantime.
    fn described(&self, pid: i32, before: u64, after: u64) -> Option<Value> {
        let text = std::fs::read_to_string(self.visitor_path(pid.cast_unsigned())).unwrap_or_default();
        let said = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let since = |said: &Value| said["since"].as_u64().unwrap_or_default();
        let last = said.filter(|said| since(said) <= after).max_by_key(since);
        let last = last.unwrap_or_default();
        (since(&last) <= before).then_some(last)
    }

    /// Tokens grow: each is larger than those of all visitors that could not be at work at the same time.
    fn check_token(&self, me: &Visitor) {
        let guard = range(F_WRLCK, GUARD, 1);
        fcntl(&self.side, FcntlArg::F_SETLKW(&guard)).expect("the tokens can be guarded");
        let own = mode_index(me.mode);
        for mode in 0..3 {
            let [token, since] = self.token(mode);
            if token >= me.token && (mode != own || me.mode == Mode::Exclusive) {
                let other = json!({ "name": me.name, "token": token, "since": since, "fate": fate(&me.name, token) });
                self.note(&json!({
                    "what": "inversion", "at": monotonic(), "me": me.with_fate(), "others": [other],
                }));
            }
        }
        if self.token(own)[0] < me.token {
            let bytes = [me.token, me.since].map(u64::to_le_bytes);
            let at = TOKENS + own as u64 * 16;
            self.side.write_all_at(bytes.as_flattened(), at).expect("written");
        }
        assert!(self.set(F_UNLCK, GUARD, 1));
    }

    fn token(&self, mode: usize) -> [u64; 2] {
        let mut bytes = [0; 16];
        // Nothing is there before the first visit.
        let _ = self.side.read_exact_at(&mut bytes, TOKENS + mode as u64 * 16);
        [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")))
    }
}

impl Visitor {
    fn described(&self) -> Value {
        json!({ "name": self.name, "role": self.role, "pid": std::process::id(), "token": self.token, "since": self.since, "expires": self.expires, "detached": self.detached })
    }

    fn with_fate(&self) -> Value {
        let mut told = self.described();
        told["fate"] = json!(fate(&self.name, self.token));
        told
    }
}

fn range(kind: i32, start: i64, len: i64) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

/// What has become of a hold, by what the lock says: `held`, how it ended, or `unknown`.
fn fate(name: &str, token: u64) -> &'static str {
    let Ok(lock) = ResourceLock::builder(name).open_existing() else {
        return "unknown";
    };
    if lock
        .state()
        .unwrap()
        .holders
        .iter()
        .any(|holder| holder.token == Some(token))
    {
        return "held";
    }
    let ended = lock
        .history()
        .unwrap()
        .into_iter()
        .find(|past| past.token == Some(token));
    ended.map_or("unknown", |past| past.how.as_str())
}
