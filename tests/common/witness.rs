//! A resource that notices if two processes use it at once, and survives kills: an occupancy marker, and a counter that
//! loses updates if they overlap.

use super::worker::monotonic;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The resource, opened by one process.
pub struct Witness {
    /// Its first byte is locked while somebody is inside, by a classic fcntl(2) lock: when the process dies, the kernel
    /// drops that before anything else, beacons included.
    inside: File,
    /// The value, token and time (monotonic ns) of the last visit.
    counter: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Number of visits.
    pub value: u64,
    /// The last visitor's token.
    pub token: u64,
    /// When the last visitor came.
    pub at: u64,
}

/// What a visitor saw.
#[derive(Debug)]
pub struct Visit {
    /// What was wrong, if somebody else was inside or tokens did not grow.
    pub wrong: Option<String>,
    /// Time since the previous visit, ns.
    pub gap: u64,
}

impl Witness {
    /// Opens the resource in this directory; creates it if it is not there.
    pub fn open(folder: &Path) -> Self {
        let open = |name| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.open(folder.join(name)).expect("a file in the test's folder")
        };
        Self {
            inside: open("inside"),
            counter: open("counter"),
        }
    }

    fn mark(&self, kind: i32) -> bool {
        let byte = nix::libc::flock {
            l_type: kind as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&self.inside, FcntlArg::F_SETLK(&byte)).is_ok()
    }

    /// Enters; returns when, and what the counter says.
    fn enter(&self, kind: i32, token: u64, wrong: &mut Option<String>) -> (u64, Count) {
        let at = monotonic();
        if !self.mark(kind) {
            *wrong = Some("somebody else was inside".to_owned());
        }
        let before = self.read();
        if before.token >= token {
            *wrong = Some(format!("token {token} after {}", before.token));
        }
        (at, before)
    }

    /// Enters under `token`, adds 1 with `work` done between reading and writing, and leaves.
    pub fn visit(&self, token: u64, work: impl FnOnce()) -> Visit {
        let mut wrong = None;
        let (at, before) = self.enter(nix::libc::F_WRLCK, token, &mut wrong);
        work();
        let mine = Count {
            value: before.value + 1,
            token,
            at,
        };
        if self.read() != before {
            wrong = Some(format!("{before:?} became {:?}", self.read()));
        }
        let words = [mine.value, mine.token, mine.at].map(u64::to_le_bytes);
        self.counter.write_all_at(words.as_flattened(), 0).expect("written");
        if self.read() != mine {
            wrong = Some(format!("{mine:?} became {:?}", self.read()));
        }
        self.mark(nix::libc::F_UNLCK);
        Visit {
            wrong,
            gap: at.saturating_sub(before.at),
        }
    }

    /// Enters under `token` beside others that share it, looks twice with `work` done in between, and leaves.
    pub fn visit_shared(&self, token: u64, work: impl FnOnce()) -> Visit {
        let mut wrong = None;
        let (at, before) = self.enter(nix::libc::F_RDLCK, token, &mut wrong);
        work();
        if self.read() != before {
            wrong = Some(format!("{before:?} became {:?} beside one that shares it", self.read()));
        }
        self.mark(nix::libc::F_UNLCK);
        Visit {
            wrong,
            gap: at.saturating_sub(before.at),
        }
    }

    /// The counter as last written.
    pub fn read(&self) -> Count {
        let mut bytes = [0; 24];
        match self.counter.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(_) => return Count::default(), // not visited yet
        }
        let word = |i: usize| u64::from_le_bytes(bytes[i * 8..][..8].try_into().expect("8 bytes"));
        Count {
            value: word(0),
            token: word(1),
            at: word(2),
        }
    }
}

/// The percentile of the times, ms.
pub fn percentile(times_ns: &mut [u64], percent: usize) -> f64 {
    times_ns.sort_unstable();
    let last = times_ns.len().saturating_sub(1);
    times_ns
        .get(last * percent / 100)
        .map_or(f64::NAN, |ns| *ns as f64 / 1e6)
}
