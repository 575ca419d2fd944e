//! T2 and T3: what stands at a lock's paths is used only if it can be a lock's, and nothing else is written or deleted.
//!
//! The matrix of all that somebody may put there is generated: every kind of object, at each path, of each owner, alone
//! or beside the other parts of a lock, against every command of root and of a user. For each of them: the command ends,
//! with a documented status; what is refused is refused in one line that names the file, its owner and what to do; the
//! command under the lock is not started then, nor skipped silently; and no file changes that is not the lock's.
//!
//! The suite tries all that can be a lock's, and of the rest each kind of each owner; `RESOURCELOCK_ALL_CASES=1`, each of
//! these also beside each choice of other parts.

use crate::common::is_chosen;
use crate::common::machine::{ALICE, BOB, I2C, MALLORY, Machine, PI, ROOT, User, finished, give, interrupted};
use resourcelock::LockName;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

// --- what may stand somewhere

/// Kinds of objects. Regular files that are large enough for what would be there, too small, and of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Zeros,
    /// As the Python module writes it.
    Note,
    /// Text with a NUL behind it.
    Text,
    /// Text without.
    TextFile,
    Binary,
    /// A struct of 32 bytes, none of them 0.
    Struct,
    Semaphore,
    Table,
    /// A table's beginning.
    ShortTable,
    /// One terabyte without a block.
    Huge,
    Directory,
    FullDirectory,
    DanglingLink,
    LinkToRootsFile,
    LinkToOthersLock,
    HardLink,
    Fifo,
    Socket,
    Device,
}

const KINDS: [Kind; 20] = [
    Kind::Empty,
    Kind::Zeros,
    Kind::Note,
    Kind::Text,
    Kind::TextFile,
    Kind::Binary,
    Kind::Struct,
    Kind::Semaphore,
    Kind::Table,
    Kind::ShortTable,
    Kind::Huge,
    Kind::Directory,
    Kind::FullDirectory,
    Kind::DanglingLink,
    Kind::LinkToRootsFile,
    Kind::LinkToOthersLock,
    Kind::HardLink,
    Kind::Fifo,
    Kind::Socket,
    Kind::Device,
];

const HUGE: u64 = 1 << 40;

/// One of a lock's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Semaphore,
    Note,
    Table,
    /// The table of the version before.
    OlderTable,
}

/// The other parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// A semaphore of the same owner.
    Semaphore,
    /// All other parts, of the same owner.
    Theirs,
    /// All other parts, of the caller.
    Ours,
}

/// Whose it is, as the caller sees him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Stranger,
    Own,
    Roots,
    /// Of a user who was named with `--owner`.
    Named,
    /// Of another member of the group that was named with `--group`.
    Member,
    /// Root's, but everybody may write it.
    World,
}

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    kind: Kind,
    place: Place,
    whose: Whose,
    beside: Beside,
    caller: User,
    pub number: usize,
    /// The sum of the places in the lists above.
    place_in_lists: usize,
}

/// Every cell for one path and one caller. An owner is named only where that could matter.
pub fn cells(place: Place, caller: User) -> Vec<Cell> {
    let beside: &[Beside] = match place {
        Place::Semaphore | Place::Table => &[Beside::Nothing, Beside::Theirs, Beside::Ours],
        Place::Note => &[Beside::Nothing, Beside::Semaphore, Beside::Theirs, Beside::Ours],
        Place::OlderTable => &[Beside::Ours],
    };
    let mut all = Vec::new();
    for kind in KINDS {
        for whose in [
            Whose::Stranger,
            Whose::Own,
            Whose::Roots,
            Whose::Named,
            Whose::Member,
            Whose::World,
        ] {
            for (at, beside) in beside.iter().enumerate() {
                let cell = Cell {
                    kind,
                    place,
                    whose,
                    beside: *beside,
                    caller,
                    number: all.len(),
                    place_in_lists: kind as usize + whose as usize + at,
                };
                let is_double = whose == Whose::Own && (caller == ROOT || *beside == Beside::Theirs);
                let is_named = matches!(whose, Whose::Named | Whose::Member | Whose::World);
                if !is_double && (!is_named || cell.is_lock()) {
                    all.push(cell);
                }
            }
        }
    }
    all
}

impl Cell {
    pub fn name(&self) -> LockName {
        LockName::new(format!("cell-{}", self.number)).unwrap()
    }

    /// A table that an older version has made for the caller's lock.
    fn is_older_table(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::ShortTable) && self.owner() == self.caller
    }

    fn owner(&self) -> User {
        match self.whose {
            Whose::Stranger => MALLORY,
            Whose::Own => self.caller,
            Whose::Roots | Whose::World => ROOT,
            Whose::Named => PI,
            Whose::Member => BOB,
        }
    }

    fn path(&self) -> PathBuf {
        match self.place {
            Place::Semaphore => self.name().semaphore_path(),
            Place::Note => self.name().note_path(),
            Place::Table => self.name().table_path(),
            Place::OlderTable => Path::new("/dev/shm").join(format!("resourcelock.{}", self.name())),
        }
    }

    /// The paths that commands look at.
    fn paths(&self) -> [PathBuf; 3] {
        let name = self.name();
        [name.semaphore_path(), name.table_path(), name.note_path()]
    }

    /// The lock's other parts, and their owner.
    fn others(&self) -> (Vec<PathBuf>, User) {
        let name = self.name();
        let (parts, owner) = match self.beside {
            Beside::Nothing => (vec![], ROOT),
            Beside::Semaphore => (vec![name.semaphore_path()], self.owner()),
            Beside::Theirs => (self.paths().to_vec(), self.owner()),
            Beside::Ours => (self.paths().to_vec(), self.caller),
        };
        (parts.into_iter().filter(|path| *path != self.path()).collect(), owner)
    }

    /// True if this kind of object can be what belongs to its path.
    fn fits(&self) -> bool {
        use Kind::{Empty, Huge, Note, Semaphore, Struct, Table, Text, Zeros};
        let nothing_or_dated = [Empty, Zeros, Huge, Note].contains(&self.kind);
        match (self.place, self.beside) {
            (Place::OlderTable, _) => true,
            // Whatever has the right size.
            (Place::Semaphore, _) => [Semaphore, Struct].contains(&self.kind),
            (Place::Table, _) => self.kind == Table,
            // Beside a table it is known to be the lock's.
            (Place::Note, Beside::Theirs | Beside::Ours) => self.kind.is_plain(),
            (Place::Note, Beside::Semaphore) => nothing_or_dated || self.kind == Text,
            (Place::Note, Beside::Nothing) => nothing_or_dated,
        }
    }

    /// True if all that is there is of one owner.
    fn has_one_owner(&self) -> bool {
        let (others, owner) = self.others();
        others.is_empty() || owner == self.owner()
    }

    /// True if it can be a lock, or what is left of one, whoever may use it.
    pub fn is_lock(&self) -> bool {
        self.place == Place::OlderTable || self.fits() && self.has_one_owner()
    }

    /// True if the caller relies on what it says, once it is a lock.
    fn is_trusted(&self) -> bool {
        !matches!(self.whose, Whose::Stranger | Whose::World)
    }

    /// True if the caller uses it.
    fn is_used(&self) -> bool {
        if self.place == Place::OlderTable {
            return true;
        }
        // Whose a lock would be that the caller creates.
        let (caller, owner) = (self.caller, self.owner());
        let new = if caller == ROOT && self.whose == Whose::Named {
            PI
        } else {
            caller
        };
        let can_have_the_rest = match (self.beside, self.place) {
            (Beside::Theirs | Beside::Ours, _) => true,
            (Beside::Semaphore, _) | (_, Place::Semaphore) => caller == ROOT || owner == caller,
            (Beside::Nothing, _) => owner == new,
        };
        self.is_lock() && self.is_trusted() && can_have_the_rest
    }

    /// Whose the lock is, or will be.
    fn lock_owner(&self) -> User {
        if self.place == Place::OlderTable {
            self.caller
        } else {
            self.owner()
        }
    }

    /// True if it is damaged, so that its owner and root may delete it, alone, by force.
    fn is_damaged(&self) -> bool {
        let may_delete = self.caller == ROOT || self.owner() == self.caller;
        let can_be = matches!(self.place, Place::Semaphore | Place::Table);
        can_be && self.kind.is_plain() && !self.fits() && self.has_one_owner() && may_delete
    }

    /// What the caller says, so that the locks of this owner are used.
    fn options(&self) -> &'static [&'static str] {
        match self.whose {
            Whose::Named => &["--owner", "pi"],
            Whose::Member => &["--mode", "660", "--group", "i2c"],
            _ => &[],
        }
    }
}

impl Kind {
    /// True for a regular file with one name.
    fn is_plain(self) -> bool {
        let plain = KINDS.iter().take_while(|kind| **kind != Kind::Directory);
        plain.into_iter().any(|kind| *kind == self)
    }
}

// --- putting it there

/// A directory, and files that nobody may change.
pub struct Stage<'a> {
    machine: &'a Machine,
    /// What a good semaphore and a good table contain.
    semaphore: Vec<u8>,
    pub table: Vec<u8>,
    precious: PathBuf,
    victim: LockName,
}

/// Where the semaphore's inode stands in the table, see `Header` in `src/lock/shm/layout.rs`.
const INODE: u64 = 16;

impl<'a> Stage<'a> {
    pub fn new(machine: &'a Machine) -> Self {
        let victim = LockName::new("victim").unwrap();
        let output = finished(machine.command(ROOT).args(["victim", "run", "--", "true"]));
        assert!(output.status.success(), "{output:?}");
        let precious = machine.folder().join("precious");
        fs::write(&precious, "precious\n").unwrap();
        Self {
            machine,
            semaphore: fs::read(victim.semaphore_path()).unwrap(),
            table: fs::read(victim.table_path()).unwrap(),
            precious,
            victim,
        }
    }

    fn file(&self, path: &Path, content: &[u8], owner: User) {
        fs::write(path, content).unwrap();
        self.give(path, owner, 0o660);
    }

    /// The callers may write it, as far as the kernel is concerned: they are members of the group.
    fn give(&self, path: &Path, owner: User, mode: u32) {
        give(path, owner, I2C);
        if !path.is_symlink() {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Puts a cell's files there, as they were before anybody used them.
    pub fn set(&self, cell: &Cell) {
        for path in cell.paths().iter().chain([&cell.path(), &second_name(cell)]) {
            if fs::remove_file(path).is_err() {
                let _ = fs::remove_dir_all(path);
            }
        }
        self.set_object(cell, &cell.path());
        let (others, owner) = cell.others();
        for path in others {
            if path == cell.name().semaphore_path() {
                self.file(&path, &self.semaphore, owner);
            } else if path == cell.name().table_path() {
                self.file(&path, &self.table, owner);
                let semaphore = fs::symlink_metadata(cell.name().semaphore_path()).map_or(0, |file| file.ino());
                let table = OpenOptions::new().write(true).open(&path).unwrap();
                table.write_all_at(&semaphore.to_ne_bytes(), INODE).unwrap();
            } else {
                self.file(&path, b"2026-01-01 00:00:00.000000 - note\0", owner);
            }
        }
    }

    fn set_object(&self, cell: &Cell, path: &Path) {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let of_victim = match cell.place {
            Place::Semaphore => self.victim.semaphore_path(),
            Place::Note => self.victim.note_path(),
            Place::Table | Place::OlderTable => self.victim.table_path(),
        };
        let text = b"2026-01-01 00:00:00.000000 - note\0";
        let write = |content: &[u8]| fs::write(path, content).unwrap();
        match cell.kind {
            Kind::Empty => write(b""),
            Kind::Zeros => write(&[0; 4096]),
            Kind::Note => write(&[&text[..], &[0; 100]].concat()),
            Kind::Text => write(b"some text\0"),
            Kind::TextFile => write(b"some text\n"),
            Kind::Binary => write(b"\x7fELF\x02\x01\x01\0\x1b\xff"),
            Kind::Struct => write(&[1; 32]),
            Kind::Semaphore => write(&self.semaphore),
            Kind::Table => write(&self.table),
            Kind::ShortTable => write(&self.table[..self.table.len() - 1]),
            Kind::Huge => File::create(path).unwrap().set_len(HUGE).unwrap(),
            Kind::Directory => fs::create_dir(path).unwrap(),
            Kind::FullDirectory => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("file"), "content").unwrap();
            }
            Kind::DanglingLink => symlink("/dev/shm/nothing", path).unwrap(),
            Kind::LinkToRootsFile => symlink(&self.precious, path).unwrap(),
            Kind::LinkToOthersLock => symlink(of_victim, path).unwrap(),
            Kind::HardLink => {
                fs::copy(of_victim, second_name(cell)).unwrap();
                fs::hard_link(second_name(cell), path).unwrap();
            }
            Kind::Fifo => nix::unistd::mkfifo(path, Mode::empty()).unwrap(),
            Kind::Socket => drop(UnixListener::bind(path).unwrap()),
            Kind::Device => mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(1, 3)).unwrap(),
        }
        // One file that everybody may write spoils the rest.
        let mode = if cell.whose == Whose::World { 0o666 } else { 0o660 };
        self.give(path, cell.owner(), mode);
    }

    /// The program as the cell's caller runs it.
    fn command(&self, cell: &Cell) -> Command {
        self.machine.member(cell.caller)
    }

    /// All that a command about this cell could harm.
    fn seen(&self, cell: &Cell) -> BTreeMap<PathBuf, Seen> {
        let [a, b, c] = cell.paths();
        let victims = [
            self.victim.semaphore_path(),
            self.victim.note_path(),
            self.victim.table_path(),
        ];
        [
            a,
            b,
            c,
            cell.path(),
            second_name(cell),
            self.precious.clone(),
            "/dev/shm/nothing".into(),
        ]
        .into_iter()
        .chain(victims)
        .filter_map(|path| Some((path.clone(), Seen::of(&path)?)))
        .collect()
    }
}

/// The other name of a hard link.
fn second_name(cell: &Cell) -> PathBuf {
    Path::new("/dev/shm").join(format!("second-{}", cell.number))
}

/// A file as it can be told from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    inode: u64,
    owner: (u32, u32),
    mode: u32,
    links: u64,
    size: u64,
    /// Not of a huge file: reading what was never written there allocates it.
    blocks: Option<u64>,
    changed: (i64, i64),
    content: Vec<u8>,
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::symlink_metadata(path).ok()?;
        let content = if file.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
        } else if file.is_dir() {
            let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
            names.collect::<Vec<_>>().join("/".as_ref()).into_encoded_bytes()
        } else {
            // A huge file has nothing behind that.
            let mut content = Vec::new();
            if file.is_file() {
                File::open(path)
                    .unwrap()
                    .take(1 << 20)
                    .read_to_end(&mut content)
                    .unwrap();
            }
            content
        };
        Some(Self {
            inode: file.ino(),
            owner: (file.uid(), file.gid()),
            mode: file.mode(),
            links: file.nlink(),
            size: file.len(),
            blocks: (file.len() < HUGE).then(|| file.blocks()),
            changed: (file.mtime(), file.mtime_nsec()),
            content,
        })
    }
}

// --- the commands

const COMMANDS: [&[&str]; 8] = [
    &["run", "-n", "-E", "0", "--", "echo", "ran"],
    &["run", "--replace", "-t", "0.05", "--", "echo", "ran"],
    &["get", "-t", "0"],
    &["state", "-q"],
    &["trace", "-u", "0.001"],
    &["unget"],
    &["remove"],
    &["remove", "--force"],
];

/// Runs every command on one cell.
fn try_out(stage: &Stage<'_>, cell: &Cell) {
    stage.set(cell);
    let mut before = stage.seen(cell);
    for words in COMMANDS {
        // Refused alike.
        if !cell.is_lock() && (words[0] == "trace" || words[1..].contains(&"--replace")) {
            continue;
        }
        let mut command = stage.command(cell);
        command.args(cell.options()).arg(cell.name().as_str()).args(words);
        // Tracing has no end of its own.
        let output = if words[0] == "trace" {
            interrupted(&mut command)
        } else {
            finished(&mut command)
        };
        let after = stage.seen(cell);
        let tried = Tried {
            cell,
            words,
            status: output.status.code(),
            printed: text(&output.stdout),
            said: text(&output.stderr),
            before: &before,
        };
        tried.check_status();
        tried.check_line();
        tried.check_changes(&after);
        if before != after {
            stage.set(cell);
            before = stage.seen(cell);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command has come to.
#[derive(Debug)]
struct Tried<'a> {
    cell: &'a Cell,
    words: &'a [&'a str],
    status: Option<i32>,
    printed: String,
    said: String,
    before: &'a BTreeMap<PathBuf, Seen>,
}

impl Tried<'_> {
    /// For messages: all but the files' content.
    fn what(&self) -> String {
        let Self {
            cell,
            words,
            status,
            printed,
            said,
            before,
        } = self;
        let files: Vec<_> = before.keys().collect();
        format!("{cell:?} {words:?}: {status:?} {printed:?} {said:?} {files:?}")
    }

    fn check_status(&self) {
        let what = self.what();
        let status = self.status.unwrap_or_else(|| panic!("killed: {what}"));
        let cell = self.cell;
        // Whether it is free, nobody knows.
        let any_word = cell.place == Place::Semaphore && cell.kind == Kind::Struct;
        match self.words[0] {
            "run" if cell.is_used() => {
                let ran = (status, self.printed.as_str()) == (0, "ran\n");
                assert!(ran || any_word && self.printed.is_empty(), "{what}");
            }
            "get" if cell.is_used() => assert!(status == 0 || any_word && status == 75, "{what}"),
            "run" | "get" => assert!(status == 125 && self.printed.is_empty(), "refused: {what}"),
            "state" => {
                assert!([0, 1, 125].contains(&status), "{what}");
                // Nobody's word but a trusted owner's says that it is taken.
                assert!(status != 0 || cell.is_lock() && cell.is_trusted(), "{what}");
            }
            _ => assert!([0, 125].contains(&status), "{what}"),
        }
    }

    /// What is refused is so in one line that names the file, its owner, and what to do.
    fn check_line(&self) {
        let (cell, what) = (self.cell, self.what());
        assert!(!self.said.contains("panicked"), "{what}");
        if self.status != Some(125) {
            return;
        }
        assert_eq!(self.said.lines().count(), 1, "{what}");
        let begins = format!("resourcelock: {}: ", cell.name());
        assert!(self.said.starts_with(&begins) && self.said.contains("; "), "{what}");
        if cell.is_lock() && self.said.contains(" waiting in the semaphore itself ") {
            return;
        }
        let is_named = |path: &PathBuf| {
            [' ', ':']
                .iter()
                .any(|end| self.said.contains(&format!("{}{end}", path.display())))
        };
        let named = cell.paths().into_iter().find(is_named);
        let named = named.unwrap_or_else(|| panic!("no path: {what}"));
        let owner = match self.before.get(&named) {
            Some(file) => User(file.owner.0),
            None => cell.owner(), // of the other parts
        };
        assert!(
            owner == cell.caller || self.said.contains(owner.name()),
            "no owner: {what}"
        );
    }

    /// Only what is a lock's changes, and only by a command that changes locks.
    fn check_changes(&self, after: &BTreeMap<PathBuf, Seen>) {
        let (cell, what) = (self.cell, self.what());
        let object = cell.path();
        let may_change = |path: &PathBuf| match self.words {
            // A table of another version is only read, and goes with the lock.
            _ if cell.place == Place::OlderTable && *path == object => {
                self.words[0] == "remove" && cell.is_older_table()
            }
            ["run" | "get", ..] => cell.is_used(),
            ["unget"] => cell.is_lock(),
            ["remove", ..] if cell.is_lock() => true,
            ["remove", "--force"] => cell.is_damaged() && *path == object,
            _ => false,
        };
        for (path, was) in self.before {
            let is = after.get(path);
            if is == Some(was) {
                continue;
            }
            assert!(
                (cell.paths().contains(path) || *path == object) && may_change(path),
                "{} has changed: {what}",
                path.display()
            );
            match is {
                None => assert_eq!(self.words[0], "remove", "{} is gone: {what}", path.display()),
                Some(is) => assert!(
                    (is.inode, is.owner, is.mode, is.links) == (was.inode, was.owner, was.mode, was.links),
                    "{} was replaced: {what}",
                    path.display()
                ),
            }
        }
        for (path, is) in after.iter().filter(|(path, _)| !self.before.contains_key(*path)) {
            // Whoever releases a lock of the semaphore alone gives it a table.
            let creates = match self.words[0] {
                "run" | "get" => cell.is_used(),
                "unget" => cell.is_lock(),
                _ => false,
            };
            assert!(
                creates && cell.paths().contains(path),
                "{} is new: {what}",
                path.display()
            );
            assert_eq!(User(is.owner.0), cell.lock_owner(), "{what}");
        }
    }
}

/// The cells that are tried.
fn chosen(place: Place, caller: User) -> Vec<Cell> {
    let mut cells = cells(place, caller);
    // Of one's own there are fewer: one for each kind is always tried.
    let is_own = |cell: &Cell| cell.whose == Whose::Own && cell.beside == Beside::Ours;
    cells.retain(|cell| cell.is_lock() || is_own(cell) || is_chosen(cell.place_in_lists, 3));
    cells
}

/// Tries the cells of one path and one caller. Many at once: some commands wait a moment.
fn matrix(place: Place, caller: User) {
    Machine::run(|machine| {
        let stage = Stage::new(machine);
        let cells = chosen(place, caller);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                        try_out(&stage, cell);
                    }
                });
            }
        });
    });
}

const THREADS: usize = 16;

#[test]
fn at_the_semaphores_path_for_root() {
    matrix(Place::Semaphore, ROOT);
}

#[test]
fn at_the_semaphores_path_for_a_user() {
    matrix(Place::Semaphore, ALICE);
}

#[test]
fn at_the_notes_path_for_root() {
    matrix(Place::Note, ROOT);
}

#[test]
fn at_the_notes_path_for_a_user() {
    matrix(Place::Note, ALICE);
}

#[test]
fn at_the_tables_path_for_root() {
    matrix(Place::Table, ROOT);
}

#[test]
fn at_the_tables_path_for_a_user() {
    matrix(Place::Table, ALICE);
}

#[test]
fn at_the_path_of_an_older_table() {
    matrix(Place::OlderTable, ROOT);
}

#[test]
fn each_kind_of_each_owner_is_tried_at_each_path() {
    let pairs = |cells: Vec<Cell>| {
        let pairs = cells.iter().map(|cell| format!("{:?} {:?}", cell.kind, cell.whose));
        pairs.collect::<BTreeSet<_>>()
    };
    for place in [Place::Semaphore, Place::Note, Place::Table, Place::OlderTable] {
        for caller in [ROOT, ALICE] {
            assert_eq!(pairs(chosen(place, caller)), pairs(cells(place, caller)));
        }
    }
}

// --- a second name, and what is missing

/// sem_open(3) links a temporary name, which stays if its caller is killed in between. The lock is used, and that name
/// alone is deleted by `doctor --fix`, for the lock's owner; any other second name is refused.
#[test]
fn a_temporary_name_that_was_left_behind() {
    Machine::run(|machine| {
        for owner in [ROOT, ALICE] {
            let name = LockName::new(format!("of-{}", owner.name())).unwrap();
            let run = |user: User| {
                let mut command = machine.command(user);
                finished(command.args([name.as_str(), "run", "-n", "-E", "0", "--", "echo", "ran"]))
            };
            assert!(run(owner).status.success());
            for (second, is_temporary) in [
                ("sem.a1B2c3", true),
                (".resourcelock-0123456789abcdef", true),
                ("sem.a1B2c", false),
                ("sem.a1B2c3d", false),
                ("backup", false),
            ] {
                let second = Path::new("/dev/shm").join(second);
                fs::hard_link(name.semaphore_path(), &second).unwrap();
                let output = run(owner);
                let what = format!("{second:?} {owner:?} {output:?}");
                if is_temporary {
                    assert_eq!(
                        (output.status.code(), &*output.stdout),
                        (Some(0), &b"ran\n"[..]),
                        "{what}"
                    );
                    let fixed = |user: User| {
                        let output = finished(machine.command(user).args(["doctor", "--fix"]));
                        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
                        !second.exists()
                    };
                    assert!(!fixed(MALLORY), "{what}");
                    assert!(owner == ROOT || !fixed(ROOT), "it is another's: {what}");
                    assert!(fixed(owner), "{what}");
                } else {
                    assert_eq!((output.status.code(), &*output.stdout), (Some(125), &b""[..]), "{what}");
                    let said = text(&output.stderr);
                    assert!(
                        said.contains("it has 2 names (hard links)") && said.lines().count() == 1,
                        "{what}"
                    );
                    let _ = finished(machine.command(owner).args(["doctor", "--fix"]));
                    assert!(second.exists(), "{what}");
                    fs::remove_file(&second).unwrap();
                }
                assert!(run(owner).status.success() && name.table_path().exists());
            }
            // A lock that is called so is not a temporary name.
            let other = LockName::new("a1B2c3").unwrap();
            assert!(
                finished(machine.command(owner).args(["a1B2c3", "run", "--", "true"]))
                    .status
                    .success()
            );
            fs::remove_file(other.semaphore_path()).unwrap();
            fs::hard_link(name.semaphore_path(), other.semaphore_path()).unwrap();
            for lock in [&name, &other] {
                let output = finished(machine.command(owner).args([lock.as_str(), "run", "--", "echo", "ran"]));
                assert_eq!(
                    (output.status.code(), &*output.stdout),
                    (Some(125), &b""[..]),
                    "{output:?}"
                );
            }
            for path in [other.semaphore_path(), other.note_path(), other.table_path()] {
                fs::remove_file(path).unwrap();
            }
        }
    });
}

/// Whoever may write a semaphore may link it to any name. What looks temporary then is its own name, or that of a lock
/// of somebody else: nothing is used by such a name, and neither is deleted.
#[test]
fn a_second_name_that_others_may_have_made() {
    Machine::run(|machine| {
        let group = I2C.to_string();
        for (owner, access, other, other_group) in [
            (ROOT, ["--mode", "666"], MALLORY, MALLORY.0),
            (ALICE, ["--group", &group], BOB, I2C),
        ] {
            let run = |lock: &str| {
                let mut command = machine.command(owner);
                finished(command.args([lock, "run", "-n", "-E", "0", "--", "echo", "ran"]))
            };
            for (own, given, is_listed) in [("shared", "backup", false), ("daemon", "nightly", true)] {
                let [path, link] = [own, given].map(|lock| LockName::new(lock).unwrap().semaphore_path());
                for lock in [own, given] {
                    let mut command = machine.member(owner);
                    let made = finished(command.args([lock, "run"]).args(access).args(["--", "true"]));
                    assert!(made.status.success(), "{made:?}");
                }
                fs::remove_file(&link).unwrap();
                let delete_others = |lock: &str| {
                    for part in [lock.to_owned(), format!("resourcelock3.{lock}")] {
                        fs::remove_file(Path::new("/dev/shm").join(part)).unwrap();
                    }
                };
                delete_others(own);
                if !is_listed {
                    delete_others(given);
                }
                let linked = finished(machine.program(other, "ln").gid(other_group).args([&path, &link]));
                assert!(linked.status.success(), "{linked:?}");
                for lock in [own, given] {
                    let output = run(lock);
                    let what = format!("{own} {given} {lock} {output:?}");
                    assert_eq!((output.status.code(), &*output.stdout), (Some(125), &b""[..]), "{what}");
                    for words in [&["remove"][..], &["remove", "--force"]] {
                        let output = finished(machine.command(owner).arg(lock).args(words));
                        assert_eq!(output.status.code(), Some(125), "{what} {words:?} {output:?}");
                    }
                }
                let fixed = finished(machine.command(owner).args(["doctor", "--fix"]));
                assert!(matches!(fixed.status.code(), Some(0 | 1)), "{fixed:?}");
                assert!(path.exists() && link.exists(), "{own} {given} {fixed:?}");
                fs::remove_file(path).unwrap();
                fs::remove_file(link).unwrap();
                if is_listed {
                    delete_others(given);
                }
            }
        }
    });
}

/// Only who can give a missing part to the owner of the others creates it.
#[test]
fn a_lock_that_is_half_made() {
    Machine::run(|machine| {
        for (owner, user) in [(ROOT, ALICE), (PI, ALICE), (PI, ROOT)] {
            for part in ["", "resourcelock3."] {
                let name = format!("{}{part}", owner.name());
                let name = name.trim_end_matches('.');
                let run = |user: User| {
                    let mut command = machine.command(user);
                    command.args([
                        "--owner",
                        owner.name(),
                        name,
                        "run",
                        "-n",
                        "-E",
                        "0",
                        "--mode",
                        "666",
                        "--",
                        "echo",
                        "ran",
                    ]);
                    let output = finished(&mut command);
                    (output.status.code(), text(&output.stdout), text(&output.stderr))
                };
                assert_eq!(run(owner).0, Some(0));
                let missing = Path::new("/dev/shm").join(format!("{part}{name}"));
                fs::remove_file(&missing).unwrap();
                let (status, printed, said) = run(user);
                if user == ROOT {
                    assert_eq!((status, &*printed), (Some(0), "ran\n"), "{said}");
                } else {
                    assert_eq!((status, &*printed, said.lines().count()), (Some(125), "", 1), "{said}");
                    let expected = format!("{} is missing", missing.display());
                    let advice = format!("; let {} use it once\n", owner.name());
                    assert!(said.contains(&expected) && said.ends_with(&advice), "{said}");
                    assert!(!missing.exists());
                    assert_eq!(run(owner).1, "ran\n");
                    assert_eq!(run(user).1, "ran\n");
                }
                assert_eq!(fs::metadata(&missing).unwrap().uid(), owner.0);
            }
        }
    });
}
