//! The note: the Python module's shared memory segment, whose text says who took the lock and when.

use crate::lock::shm::deferred_log::log_unlocked;
use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::sys::{Descriptor, Mapping};
use crate::lock::system::printable_bytes;
use crate::lock::types::{Error, LockName, Result};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Size of a note that this library creates, as in the Python module.
pub(crate) const DEFAULT_SIZE: usize = 4096;
/// No more than this is read or written: a note is one line, whatever the size of the segment.
const MOST: usize = 1 << 16;
/// Nor more than this of each of many.
const BRIEF: usize = 1 << 10;
/// It is read and written in words of this size.
const WORD: usize = size_of::<u64>();

/// An open note, of whatever size it was found.
pub(crate) enum Note {
    /// To be read and written. Every page has its space, so a full /dev/shm does no harm. Its last word may reach beyond the
    /// end of the segment, within its last page.
    Mapped { words: Mapping<[AtomicU64]>, size: usize },
    /// To be read only. Reading a page that was never written allocates no space, as it would through a mapping.
    Read {
        file: Descriptor,
        path: PathBuf,
        size: usize,
    },
    /// Not there.
    Absent,
}

impl Note {
    /// Creates a note at `name`'s path, unless there is one. False = there is not enough space: the lock does without.
    pub(crate) fn create(name: &LockName, size: usize, owner: &Ownership) -> Result<bool> {
        match files::publish(&NewFile {
            path: &name.note_path(),
            size: size.max(1) as u64,
            space: None,
            content: &[],
            owner,
        }) {
            Err(Error::Os { source, .. })
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                log_unlocked!(Warn, "<{name}> there is no note: {source}");
                Ok(false)
            }
            created => created.map(|()| true),
        }
    }

    /// The note that was found at `name`'s path.
    pub(crate) fn new(opened: Opened, writable: bool, name: &LockName) -> Result<Self> {
        let path = name.note_path();
        if writable {
            match Self::to_write(&opened.file, opened.size) {
                Ok(note) => return Ok(note),
                // The lock works without it.
                Err(error) => log_unlocked!(Warn, "<{name}> the note cannot be written, it stays as it is: {error}"),
            }
        }
        if opened.size == 0 {
            return Ok(Self::Absent);
        }
        Ok(Self::Read {
            file: Descriptor::of(opened.file, opened.device, opened.inode),
            path,
            size: usable(opened.size),
        })
    }

    /// Maps an open note.
    pub(crate) fn to_write(file: &OwnedFd, size: u64) -> io::Result<Self> {
        let size = usable(size);
        if size == 0 {
            // The Python module creates the segment and sizes it in two steps: it is empty for a moment, or for ever if
            // the process was killed in between. It is treated as absent.
            return Ok(Self::Absent);
        }
        // The module only sizes the segment: in a full /dev/shm, a page that has no space yet would be a SIGBUS.
        files::allocate(file, &(0..size as u64))?;
        let words = Mapping::words(file.as_fd(), size.div_ceil(WORD))?;
        Ok(Self::Mapped { words, size })
    }

    /// Writes `text` (UTF-8) and a NUL. True = it fitted; false = it was cut at a character boundary. Only what lies before a
    /// NUL in it can be read.
    pub(crate) fn write(&self, text: &[u8]) -> bool {
        let Self::Mapped { words, size } = self else {
            return true;
        };
        let mut end = text.len().min(size - 1);
        while text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
            end -= 1; // the middle of a character
        }
        let whole = text[..end].chunks_exact(WORD);
        let mut last = [0; WORD];
        last[..whole.remainder().len()].copy_from_slice(whole.remainder());
        let last = std::iter::once(u64::from_ne_bytes(last));
        let new = whole
            .map(|bytes| bytes.try_into().map_or(0, u64::from_ne_bytes))
            .chain(last);
        for (to, new) in words.iter().zip(new) {
            to.store(new, Relaxed);
        }
        // What does not fit may be no more than what follows a NUL.
        text.get(..=end).is_none_or(|written| written.contains(&0))
    }

    /// The same for display: what is not UTF-8, and what could disturb a terminal, is escaped.
    pub(crate) fn text(&self) -> String {
        printable_bytes(&self.read())
    }

    /// The same of no more than a list of many locks needs.
    pub(crate) fn brief_text(&self) -> String {
        printable_bytes(&self.beginning(BRIEF))
    }

    /// The bytes up to the first NUL or the end.
    pub(crate) fn read(&self) -> Vec<u8> {
        self.beginning(MOST)
    }

    /// The beginning of the message of a note that was written at about this time, in µs since 1970. The zone in which it
    /// was written is not known, so what is compared is the time within a quarter of an hour, of which the offsets of
    /// zones are multiples.
    pub(crate) fn message_written_at(&self, wall_us: u64) -> Option<Vec<u8>> {
        const QUARTER_US: u64 = 900 * 1_000_000;
        const APART_US: u64 = 1_000_000;
        let note = self.beginning(BRIEF);
        let number = |digits: Range<usize>| std::str::from_utf8(note.get(digits)?).ok()?.parse::<u64>().ok();
        // YYYY-MM-DD HH:MM:SS.ffffff - MESSAGE
        let (minute, second, micros) = (number(14..16)?, number(17..19)?, number(20..26)?);
        let written_us = (minute % 15 * 60 + second) * 1_000_000 + micros;
        let apart = (written_us + QUARTER_US).abs_diff(wall_us % QUARTER_US) % QUARTER_US;
        let is_near = apart.min(QUARTER_US - apart) < APART_US;
        (is_near && note.get(26..29) == Some(b" - ")).then(|| note[29..].to_vec())
    }

    fn beginning(&self, most: usize) -> Vec<u8> {
        match self {
            Self::Mapped { words, size } => {
                let bytes = words.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes());
                let bytes = bytes.take(most.min(*size));
                bytes.take_while(|&byte| byte != 0).collect()
            }
            Self::Read { file, path, size } => read_file(file, path, (*size).min(most)),
            Self::Absent => Vec::new(),
        }
    }
}

fn usable(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX).min(MOST)
}

/// The same from a file. If the program has closed its descriptor, from the file at `path`, if that is the same.
fn read_file(file: &Descriptor, path: &Path, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    loop {
        let read = file.read(&mut bytes);
        if file.is_ours() {
            bytes.truncate(read.unwrap_or(0));
            let text = bytes.iter().position(|&byte| byte == 0);
            bytes.truncate(text.unwrap_or(bytes.len()));
            return bytes;
        }
        if !files::open(path, false).is_ok_and(|again| file.renew(again.file)) {
            return Vec::new();
        }
    }
}
