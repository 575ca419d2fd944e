//! Random damage: while every command works on a lock, bytes of its table, its semaphore and its note change, and the files
//! are cut and extended. Nobody crashes or hangs, memory stays bounded, and a `run` never ends before its command.
//!
//! `RESOURCELOCK_ROUNDS` sets the number of rounds, `RESOURCELOCK_SEED` the random numbers.

use crate::common::{Dice, TestLock, binary, once_more, peer, printed, private_shm};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Set in the process that runs the storm, in a /dev/shm of its own.
const INSIDE: &str = "RESOURCELOCK_TEST_DAMAGE";
/// No command of the storm takes longer by itself.
const LONGEST: Duration = Duration::from_secs(60);
/// More than the program ever takes, and far less than a forged number could make it take. (A process counts the memory
/// of the one that started it, until its program is loaded.)
const MEMORY: u64 = 100 << 20;

/// What is run on the lock `NAME`: with its own short limits, so that it ends soon after the damage does. `trace` is
/// asked to end.
const COMMANDS: [&str; 44] = [
    "NAME run -t 0.05 -- sleep 0.02",
    "NAME run -t 0.05 -- sleep 0.02",
    "NAME run -t 0.05 -- true",
    "NAME run -n -- sleep 0.02",
    "NAME run -F -t 0.05 -- sleep 0.02",
    "NAME run -F -n -- true",
    "NAME run --shared -t 0.05 -- sleep 0.02",
    "NAME run --shared -n -- sleep 0.02",
    "NAME run -j 2 -t 0.05 -- sleep 0.02",
    "NAME run -t 0.05 --limit 0.03 -k 0.03 -- sleep 9",
    "NAME run -n --limit 0.03 --until tree -- sh -c sleep${IFS}9&true",
    "NAME run -t 0.05 --until tree -- sh -c sleep${IFS}0.04&true",
    "NAME run -t 0.1 --replace -- sleep 0.02",
    "NAME run -t 0.05 --recover true -- sleep 0.02",
    "NAME run -t 0.05 --on-abandoned fail -- true",
    "NAME run -t 0.05 -m note -c sleep${IFS}0.02",
    "NAME get -t 0.05 -q",
    "NAME get -n --json",
    "NAME get -t 0.05 --ttl 0.05",
    "NAME get -t 0.05 -a 0.02",
    "NAME get -n --pid PID",
    "NAME unget",
    "NAME unget",
    "NAME unget --pid PID",
    "NAME unget --token 5",
    "NAME state",
    "NAME state --json",
    "NAME state -q",
    "NAME state --mine",
    "NAME history",
    "NAME history --json",
    "NAME history --svg -",
    "NAME history --html -",
    "NAME trace -u 0.02",
    "NAME trace -f",
    "NAME trace -f --json",
    "NAME remove",
    "NAME remove --force",
    "list",
    "list --json",
    "list --prometheus",
    "doctor",
    "doctor --fix",
    "completions fish -- NAM",
];

/// Random bytes, or a number that means something.
fn bytes(dice: &mut Dice) -> Vec<u8> {
    let own = u64::from(std::process::id());
    let most = match dice.below(4) {
        0 => 64,
        1 => 4096,
        2 => return dice.bytes(4),
        _ => {
            let numbers = [0, 1, 2, 3, 255, u64::MAX, u64::MAX / 2, own, own << 32, 1 << 63];
            return dice.one_of(&numbers).to_le_bytes().to_vec();
        }
    };
    let count = dice.below(most) + 1;
    dice.bytes(count as usize)
}

/// The three files of a lock as they were after it was used, to begin each round with.
struct Intact(Vec<(PathBuf, Vec<u8>)>);

impl Intact {
    fn of(lock: &TestLock) -> Self {
        for words in [&["run", "--", "true"][..], &["run", "-s", "--", "true"]] {
            printed(&mut lock.command(words));
        }
        let read = |path: PathBuf| (path.clone(), fs::read(path).expect("it is readable"));
        Self(lock.objects().into_iter().map(read).collect())
    }

    fn restore(&self) {
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).expect("it can be written");
        }
    }

    /// Does something to one of them, if it is there.
    fn damage(&self, dice: &mut Dice) {
        let [semaphore, note, table] = &self.0[..] else {
            panic!("a lock has three files")
        };
        let (path, intact) = match dice.below(8) {
            0 => semaphore,
            1 => note,
            _ => table,
        };
        let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
            return; // a command has removed it
        };
        let size = intact.len() as u64;
        let place = match dice.below(2) {
            0 => dice.below(size.min(8192)), // header, words, first records
            _ => dice.below(size),
        };
        match dice.below(12) {
            0 => cut(&file, dice, size),
            1 => drop(file.write_all_at(&intact[place as usize..], place)),
            2 => {
                let end = intact.len().min(place as usize + 512);
                let elsewhere = dice.below(size) / 16 * 16;
                let _ = file.write_all_at(&intact[place as usize..end], elsewhere);
            }
            3..6 => drop(file.write_all_at(&bytes(dice), place / 8 * 8)),
            _ => drop(file.write_all_at(&bytes(dice), place)),
        }
    }
}

/// Cuts the file short, or makes it longer, and mostly gives it back its size.
fn cut(file: &File, dice: &mut Dice, size: u64) {
    let length = match dice.below(6) {
        0 => 0,
        1 => 4096,
        2 => size + 4096,
        3 => 1 << 36, // with nothing in it
        _ => dice.below(size),
    };
    let _ = file.set_len(length);
    if dice.below(4) > 0 {
        let _ = file.set_len(size);
    }
}

/// A command of the storm.
struct Running {
    words: String,
    child: Child,
    /// Where its messages go.
    said: PathBuf,
    /// Ends when the last of those has ended that the command has started.
    pipe: std::io::PipeReader,
    end: Option<(ExitStatus, u64)>,
}

impl Running {
    fn start(lock: &TestLock, words: &str, said: PathBuf) -> Self {
        let command = if words == "python" {
            python(lock)
        } else {
            let own = std::process::id().to_string();
            let word = |word: &str| word.replace("NAME", lock.name()).replace("PID", &own);
            let mut command = binary();
            command.args(words.split(' ').map(word));
            command
        };
        Self::spawn(command, words, said)
    }

    fn spawn(mut command: Command, words: &str, said: PathBuf) -> Self {
        let (pipe, writer) = std::io::pipe().expect("a pipe");
        let messages = File::create(&said).expect("a file");
        let output = File::create(said.with_extension("out")).expect("a file");
        command.stdin(writer).stdout(output).stderr(messages);
        Self {
            words: words.to_owned(),
            child: command.spawn().expect("it starts"),
            said,
            pipe,
            end: None,
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// True if it has ended; then it is known how, and how much memory it took at most, in bytes.
    #[allow(unsafe_code)]
    fn poll(&mut self) -> bool {
        if self.end.is_none() {
            let mut status = 0;
            // SAFETY: both are written by the call, and zeros are a valid `rusage`.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: as above; the process is a child that nobody else waits for.
            let ended = unsafe { libc::wait4(self.pid().as_raw(), &mut status, libc::WNOHANG, &mut usage) };
            if ended == self.pid().as_raw() {
                self.end = Some((ExitStatus::from_raw(status), usage.ru_maxrss as u64 * 1024));
            }
        }
        self.end.is_some()
    }

    /// True if nothing that it started is alive.
    fn left_nothing(&self) -> bool {
        let mut ends = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut ends, PollTimeout::ZERO).is_ok() && ends[0].any() == Some(true)
    }
}

/// The Python module on the same lock.
fn python(lock: &TestLock) -> Command {
    let mut command = Command::new(peer::python());
    let script = "import sys\nfrom cjnfuncs.resourcelock import resource_lock\nlock = resource_lock(sys.argv[1])\n\
                  for _ in range(20):\n    lock.get_lock(timeout=0.01, lock_info='python')\n    lock.get_lock_info()\n    lock.unget_lock()";
    command.args(["-c", script, lock.name()]);
    command
}

/// What was seen.
#[derive(Default)]
struct Seen {
    commands: u32,
    damages: u32,
    statuses: BTreeMap<String, u32>,
    memory: u64,
    hangs: Vec<String>,
    crashes: Vec<String>,
    left_behind: Vec<String>,
}

impl Seen {
    fn add(&mut self, running: &Running) {
        self.commands += 1;
        let words = &running.words;
        let Some((status, memory)) = running.end else {
            self.hangs.push(words.clone());
            return;
        };
        *self.statuses.entry(status.to_string()).or_default() += 1;
        if words == "python" {
            return; // the module maps the files itself: a truncation ends it
        }
        self.memory = self.memory.max(memory);
        let said = fs::read(&running.said).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
        let is_asked = matches!(signal, None | Some(Signal::SIGTERM)); // by this test, or by --replace
        if !is_asked || said.contains("please report it") || said.contains("panicked") {
            self.crashes.push(format!("{words}: {status}: {said}"));
        }
        if words.contains(" run ") && !running.left_nothing() {
            self.left_behind.push(format!("{words}: {status}: {said}"));
        }
    }
}

/// A few commands at once, and damage as long as they work, or for a moment.
fn round(lock: &TestLock, intact: &Intact, dice: &mut Dice, folder: &Path, seen: &mut Seen) {
    intact.restore();
    let count = dice.below(4) + 1;
    let mut words: Vec<&str> = (0..count).map(|_| *dice.one_of(&COMMANDS)).collect();
    if dice.below(50) == 0 {
        words.push("python");
    }
    let start = |(place, words): (usize, &&str)| Running::start(lock, words, folder.join(place.to_string()));
    let mut all: Vec<Running> = words.iter().enumerate().map(start).collect();
    let followed = |running: &Running| running.words.contains("trace");
    let damage_ends = Instant::now() + Duration::from_millis(20 + dice.below(60));
    while Instant::now() < damage_ends && !all.iter_mut().all(|one| one.poll() || followed(one)) {
        intact.damage(dice);
        seen.damages += 1;
        sleep(Duration::from_micros(dice.below(1500)));
    }
    let patience = Instant::now() + LONGEST;
    while !all.iter_mut().all(Running::poll) && Instant::now() < patience {
        for one in all.iter().filter(|one| one.end.is_none() && followed(one)) {
            let _ = kill(one.pid(), Signal::SIGTERM); // INT is ignored under a shell that runs this in the background
        }
        sleep(Duration::from_millis(2));
    }
    for one in &mut all {
        seen.add(one);
        if one.end.is_none() {
            let _ = one.child.kill();
            let _ = one.child.wait();
        }
    }
}

fn storm() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().expect("a number"));
    let (rounds, seed) = (number("RESOURCELOCK_ROUNDS", 100), number("RESOURCELOCK_SEED", 1));
    let (lock, folder) = (TestLock::new("damage"), tempfile::tempdir().unwrap());
    let intact = Intact::of(&lock);
    let mut dice = Dice::new(seed);
    let mut seen = Seen::default();
    for _ in 0..rounds {
        round(&lock, &intact, &mut dice, folder.path(), &mut seen);
    }
    let Seen {
        commands,
        damages,
        statuses,
        memory,
        hangs,
        crashes,
        left_behind,
    } = seen;
    println!(
        "{rounds} rounds, {commands} commands, {damages} damages: {} crashes, {} hangs, {} commands left behind, at most {} KiB",
        crashes.len(),
        hangs.len(),
        left_behind.len(),
        memory / 1024
    );
    println!("{statuses:#?}");
    assert!(crashes.is_empty(), "{crashes:#?}");
    assert!(hangs.is_empty(), "{hangs:#?}");
    assert!(left_behind.is_empty(), "{left_behind:#?}");
    assert!(memory < MEMORY, "{memory} bytes");
    // Intact again, the lock is one.
    intact.restore();
    printed(&mut lock.command(&["run", "-t", "60", "--", "true"]));
}

#[test]
fn every_command_while_the_files_are_damaged() {
    if std::env::var_os(INSIDE).is_some() {
        return storm();
    }
    let mut inside = private_shm("exec \"$@\"");
    inside.arg("sh").env(INSIDE, "1");
    once_more(inside, "storm_damage::every_command_while_the_files_are_damaged");
}
