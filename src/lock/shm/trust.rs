//! Who may do what to whom: what may be used of what stands in /dev/shm, decided from facts alone.
//!
//! Everybody may create files in /dev/shm, and whoever owns or may write a lock's files controls the lock: he can free
//! it, hold it for ever, and forge what others see. So only locks of owners whom the caller trusts are used: the caller's
//! own, root's, and those that he names.
//!
//! | caller | uses locks of |
//! |---|---|
//! | a user | himself, root |
//! | root | root |
//! | either, with `owner` | that user, too |
//! | either, with `group` | anybody, if the files belong to that group and the world may not write them |
//! | either, with a mode for the world | anybody |
//!
//! Files that the world may write are used in the last case only, whoever owns them: anybody may have linked them to this
//! name.
//!
//! What a file must be to be used at all, whoever owns it: regular, with one link, and its lock's other files of the same
//! owner. And a file that is not a lock's is neither written nor deleted: which text at a note's path may be a note is
//! decided here, too.
//!
//! Nothing here asks the system: callers bring what fstat(2) says of the opened files, and an [`Outside`] for the rest,
//! which is asked only where the answer matters.

/// What fstat(2) tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) owner: u32,
    pub(crate) group: u32,
    /// Permission bits, with the sticky and set-id bits.
    pub(crate) mode: u32,
    /// How many names it has.
    pub(crate) links: u64,
}

/// Bits of a mode.
const STICKY: u32 = 0o1000;
const SET_GID: u32 = 0o2000;
const GROUP_WRITES: u32 = 0o020;
const WORLD_WRITES: u32 = 0o002;
const WORLD: u32 = 0o007;

/// Root's number in every user namespace.
const ROOT: u32 = 0;

/// What stands for all users whom a user namespace does not know, unless the administrator chose another number. That
/// it is the caller's own is asked about only for this one: the answer takes system calls, at every start.
const USUAL_OVERFLOW: u32 = 65_534;

/// What the system knows and a file does not tell.
pub(crate) trait Outside {
    /// False for a number that may stand for any user whom this user namespace does not know.
    fn knows_user(&self, uid: u32) -> bool;
    /// The same of a group.
    fn knows_group(&self, gid: u32) -> bool;
    /// True if the group database lists the user as a member of the group.
    fn is_member(&self, uid: u32, gid: u32) -> bool;
}

/// Why a lock is not used although it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// Its files belong to somebody whom the caller does not trust.
    Owner {
        /// His number; `None` if this user namespace does not know him.
        owner: Option<u32>,
    },
    /// The world may write its files, and the caller has not said that this is meant.
    World,
    /// Others can replace or delete anybody's files in the directory.
    Directory,
}

/// Whom a caller names, to use their locks, too. Nobody by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Users. If root creates a lock, it becomes the first one's.
    pub(crate) owners: Vec<u32>,
    /// Users, too, but new locks do not become theirs.
    pub(crate) accepted: Vec<u32>,
    /// A group that only its members can have given files to.
    pub(crate) group: Option<u32>,
    /// Anybody: the caller shares the lock with the world, or does not rely on it.
    pub(crate) anybody: bool,
}

impl Named {
    /// True if objects that are created with this mode are shared with the world.
    pub(crate) fn is_for_world(mode: u32) -> bool {
        mode & WORLD != 0
    }
}

/// Who opens a lock, and whose locks are used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// The caller: effective user.
    uid: u32,
    named: &'a Named,
}

impl<'a> Trust<'a> {
    /// What the user `uid` trusts.
    pub(crate) fn of(uid: u32, named: &'a Named) -> Self {
        Self { uid, named }
    }

    /// The caller.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Whom a new lock is to belong to, if not to the caller.
    pub(crate) fn new_owner(&self) -> Option<u32> {
        let first = self.named.owners.first().copied();
        first.filter(|_| self.uid == ROOT)
    }

    /// Checks that the lock that this file belongs to may be used, as far as its owner is concerned. `directory` is the one
    /// that it stands in.
    pub(crate) fn judge_file(&self, file: &Facts, directory: &Facts, outside: &impl Outside) -> Result<(), Distrust> {
        if self.named.anybody {
            return Ok(());
        }
        if self.trusts_owner(file.owner, outside) || self.trusts_group(file, directory, outside) {
            return if file.mode & WORLD_WRITES == 0 {
                Ok(())
            } else {
                Err(Distrust::World)
            };
        }
        Err(Distrust::Owner {
            owner: Some(file.owner).filter(|uid| outside.knows_user(*uid)),
        })
    }

    /// Checks that what stands in this directory can be relied on to stay there.
    pub(crate) fn judge_directory(&self, directory: &Facts, outside: &impl Outside) -> Result<(), Distrust> {
        let others_write = directory.mode & (GROUP_WRITES | WORLD_WRITES) != 0;
        let is_protected = !others_write || directory.mode & STICKY != 0;
        // In a user namespace the machine's root is nobody known. It is he who owns the machine's /dev/shm; and only
        // whoever made the namespace can have put another user's directory in its place.
        let is_ours =
            [ROOT, self.uid].contains(&directory.owner) || is_protected && !outside.knows_user(directory.owner);
        if self.named.anybody || is_protected && is_ours {
            Ok(())
        } else {
            Err(Distrust::Directory)
        }
    }

    fn trusts_owner(&self, owner: u32, outside: &impl Outside) -> bool {
        let Named { owners, accepted, .. } = self.named;
        let is_named = || owners.contains(&owner) || accepted.contains(&owner);
        owner == ROOT || self.owns(owner, outside) || is_named() && outside.knows_user(owner)
    }

    /// The kernel lets only root and members of a group give it a file. But in a set-gid directory every file belongs to
    /// the directory's group, whoever makes it.
    fn trusts_group(&self, file: &Facts, directory: &Facts, outside: &impl Outside) -> bool {
        self.named.group == Some(file.group)
            && file.mode & WORLD_WRITES == 0
            && outside.knows_group(file.group)
            && (directory.mode & SET_GID == 0 || outside.is_member(file.owner, file.group))
    }

    /// True if the caller may make a part of a lock that is missing: he can give it to the owner of the others.
    pub(crate) fn may_complete(&self, owner: u32, outside: &impl Outside) -> bool {
        self.owns(owner, outside) || self.uid == ROOT && outside.knows_user(owner)
    }

    /// True if the files are the caller's own.
    fn owns(&self, owner: u32, outside: &impl Outside) -> bool {
        owner == self.uid && (owner != USUAL_OVERFLOW || outside.knows_user(owner))
    }
}

/// How much of a segment is looked at.
pub(crate) const LOOKED_AT: usize = 1 << 16;

/// Length of a note's date: `YYYY-MM-DD HH:MM:SS.ffffff`.
const DATE: &[u8] = b"0000-00-00 00:00:00.000000";

/// True if a segment beside a semaphore without a table may be its note. `beginning` is what the segment begins with, up
/// to [`LOOKED_AT`] bytes. The textbook's use of a semaphore and a segment of one name keeps a struct there.
pub(crate) fn may_be_note(beginning: &[u8]) -> bool {
    let is_text = |byte: &u8| matches!(byte, 0 | b'\t' | b'\n' | b'\r' | 0x20..);
    beginning.is_empty() || beginning.iter().all(is_text) && beginning.contains(&0)
}

/// True if a segment without a semaphore may be taken for a note: nobody has written anything there, or only a note.
pub(crate) fn may_become_note(beginning: &[u8]) -> bool {
    beginning.iter().all(|byte| *byte == 0) || is_dated(beginning)
}

/// True if it is surely a note: it begins with a date, and is text that ends with a NUL.
pub(crate) fn is_dated(beginning: &[u8]) -> bool {
    let fits = |(byte, form): (&u8, &u8)| {
        if *form == b'0' {
            byte.is_ascii_digit()
        } else {
            byte == form
        }
    };
    beginning.len() > DATE.len() && beginning.iter().zip(DATE).all(fits) && may_be_note(beginning)
}

#[cfg(test)]
mod tests;
