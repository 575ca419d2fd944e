//! What a run costs: processes, memory, descriptors, shared memory; and what the lock itself has counted.

use resourcelock::ResourceLock;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;

/// What the lock has counted, added up over its tables: each begins at 0 after a removal.
#[derive(Debug, Default)]
pub struct Counted {
    /// Grants, holds whose holder died, and holds whose command crashed.
    sums: [u64; 3],
    last: [u64; 3],
}

impl Counted {
    /// Looks once more. What a table has counted between the last look and its removal is missing.
    pub fn look(&mut self, name: &str) {
        let state = ResourceLock::builder(name)
            .open_existing()
            .and_then(|lock| lock.state());
        let Some(now) = state.ok().and_then(|state| state.counters) else {
            return;
        };
        let now = [now.acquisitions, now.abandoned, now.crashed];
        if now[0] < self.last[0] {
            self.last = [0; 3];
        }
        for (i, number) in now.iter().enumerate() {
            self.sums[i] += number.saturating_sub(self.last[i]);
        }
        self.last = now;
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [grants, died, crashed] = self.sums;
        write!(
            f,
            "{grants} grants, {died} recoveries from a dead holder, {crashed} from a crashed command"
        )
    }
}

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    memory_kib: u64,
    descriptors: usize,
}

impl Usage {
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(Self {
            memory_kib: memory.trim().trim_end_matches(" kB").parse().ok()?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB, {} descriptors", self.memory_kib, self.descriptors)
    }
}

/// A process that runs all the time, at first and at last.
#[derive(Debug)]
pub struct Lasting {
    what: &'static str,
    pid: u32,
    first: Option<Usage>,
    last: Option<Usage>,
}

impl Lasting {
    pub fn new(what: &'static str, pid: u32) -> Self {
        Self {
            what,
            pid,
            first: None,
            last: None,
        }
    }

    /// Looks once more.
    pub fn look(&mut self) {
        self.last = Usage::of(self.pid).or(self.last);
        self.first = self.first.or(self.last);
    }
}

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |usage: Option<Usage>| usage.map_or("none".to_owned(), |usage| usage.to_string());
        let (first, last) = (shown(self.first), shown(self.last));
        write!(f, "{}: {first} at the begin, {last} at the end", self.what)
    }
}

/// The files in /dev/shm: each one's size on it.
pub fn shared_memory() -> BTreeMap<String, u64> {
    let files = std::fs::read_dir("/dev/shm").unwrap();
    let sized = files.filter_map(|file| {
        let file = file.ok()?;
        Some((
            file.file_name().to_string_lossy().into_owned(),
            file.metadata().ok()?.blocks() * 512,
        ))
    });
    sized.collect()
}

/// How many processes this one has started that run now, directly or not, without those that have lost their parents.
pub fn started_now() -> usize {
    let numbers = std::fs::read_dir("/proc").unwrap();
    let pids = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let parents: BTreeMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let is_ours = |pid: &u32| {
        let line = std::iter::successors(Some(*pid), |pid| parents.get(pid).copied());
        line.skip(1).any(|above| above == std::process::id())
    };
    parents.keys().filter(|pid| is_ours(pid)).count()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
