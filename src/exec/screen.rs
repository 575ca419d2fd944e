//! A terminal that a program has to itself for a while: keys without Enter, the second screen of the terminal, and all of
//! that undone at the end, however that comes ([`give_back`]).
//!
//! The terminal is opened once more, so that writing never blocks: one that is slow gets the latest picture when it has
//! taken the one before, and keeps nobody from ending this program. It sends the signals of its keys as ever (Ctrl-C,
//! Ctrl-Z), to everybody who is meant.
//!
//! The control sequences are those of ECMA-48 and xterm that every terminal of today understands.

use super::sys::{Size, terminal_size};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, InputFlags, LocalFlags, SetArg, Termios};
use nix::unistd::{getpgrp, getsid, tcgetpgrp};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The second screen, without a cursor, and without a new line where a line is too long.
const TAKE: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Colours off, all of that undone.
const GIVE_BACK: &[u8] = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Ends a control sequence that was begun (CAN).
const BREAK_OFF: &[u8] = b"\x18";
/// How often the end waits for a terminal that takes nothing, and how long each time, in milliseconds.
const PATIENCE: (u32, u8) = (3, 100);
/// What is assumed if a terminal does not know its size: a serial line.
const USUAL: Size = Size { columns: 80, lines: 24 };

/// A terminal that was taken, and its settings before.
struct Taken {
    tty: File,
    settings: libc::termios,
}

static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);
/// The terminal has got the beginning of a picture, perhaps of a control sequence.
static HALF_WRITTEN: AtomicBool = AtomicBool::new(false);

/// This process's terminal.
pub struct Screen {
    tty: File,
    /// What the terminal shows, or will when it has taken what is due.
    shown: Vec<String>,
    due: Vec<u8>,
    written: usize,
}

impl Screen {
    /// The terminal on which this process was started, if that is where standard output goes, and if it can be
    /// controlled: neither `TERM=dumb` nor another terminal.
    pub fn open() -> Option<Self> {
        let out = io::stdout();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if is_dumb || !out.is_terminal() || termios::tcgetsid(&out) != getsid(None) {
            return None;
        }
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        options.open("/dev/tty").ok().map(Self::of)
    }

    fn of(tty: File) -> Self {
        Self {
            tty,
            shown: Vec::new(),
            due: Vec::new(),
            written: 0,
        }
    }

    /// True if this process may use it now: its job is in the foreground.
    ///
    /// # Errors
    /// It has hung up.
    pub fn is_ours(&self) -> io::Result<bool> {
        Ok(tcgetpgrp(&self.tty)? == getpgrp())
    }

    /// True if it is taken: not if [`give_back`] was called since.
    pub fn is_taken(&self) -> bool {
        TAKEN.lock().is_ok_and(|taken| taken.is_some())
    }

    /// Takes it, or takes it again after others had it.
    ///
    /// # Errors
    /// The system's: it has hung up.
    pub fn take(&mut self) -> io::Result<()> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &*taken {
            Some(taken) => Termios::from(taken.settings),
            None => termios::tcgetattr(&self.tty)?,
        };
        let mut ours = before.clone();
        ours.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::IEXTEN);
        // Ctrl-S does not halt what has to be undone at the end.
        ours.input_flags.remove(InputFlags::IXON);
        if taken.is_none() {
            *taken = Some(Taken {
                tty: self.tty.try_clone()?,
                settings: before.into(),
            });
        }
        termios::tcsetattr(&self.tty, SetArg::TCSANOW, &ours)?;
        let half = HALF_WRITTEN.load(Ordering::Relaxed);
        self.due = [if half { BREAK_OFF } else { b"" }, TAKE].concat();
        self.written = 0;
        self.shown.clear();
        Ok(())
    }

    /// From now on the terminal shows nothing that is known: the next picture is drawn as a whole.
    pub fn forget(&mut self) {
        self.shown.clear();
    }

    /// How large it is.
    pub fn size(&self) -> Size {
        terminal_size(&self.tty).unwrap_or(USUAL)
    }

    /// True if it has taken everything: the next picture can be drawn.
    pub fn is_ready(&self) -> bool {
        self.due.is_empty()
    }

    /// Draws lines, from the top, that may contain colours and nothing else that moves the cursor. Only what has changed
    /// is written, as much of it as the terminal takes: [`write`](Self::write) writes the rest.
    ///
    /// # Errors
    /// The system's: the terminal has hung up.
    pub fn draw(&mut self, lines: Vec<String>) -> io::Result<()> {
        if self.shown.len() != lines.len() {
            self.shown = vec![String::new(); lines.len()];
            self.due.extend_from_slice(b"\x1b[0m\x1b[2J");
        }
        for (place, (line, before)) in lines.iter().zip(&self.shown).enumerate() {
            if line != before {
                // Erased first: at the end of a full line, the cursor still stands on its last column.
                self.due
                    .extend_from_slice(format!("\x1b[{};1H\x1b[K{line}", place + 1).as_bytes());
            }
        }
        self.shown = lines;
        self.write()
    }

    /// Writes what is due, as much of it as the terminal takes.
    ///
    /// # Errors
    /// The system's: the terminal has hung up.
    pub fn write(&mut self) -> io::Result<()> {
        while self.written < self.due.len() {
            match self.tty.write(&self.due[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    HALF_WRITTEN.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.due.clear();
        self.written = 0;
        HALF_WRITTEN.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// What was typed; empty if nothing was.
    ///
    /// # Errors
    /// The terminal has hung up.
    pub fn typed(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 512];
        match self.tty.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(bytes[..read].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Screen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tty.as_fd()
    }
}

/// Gives the terminal back as it was, if it has been taken. Can be called from everywhere: it waits for nobody but for a
/// slow terminal, for a moment, and allocates nothing.
pub fn give_back() {
    let Some(Taken { mut tty, settings }) = TAKEN.try_lock().ok().and_then(|mut taken| taken.take()) else {
        return;
    };
    let (mut tries, wait) = PATIENCE;
    let half = HALF_WRITTEN.swap(false, Ordering::Relaxed);
    for part in [if half { BREAK_OFF } else { b"" }, GIVE_BACK] {
        let mut rest = part;
        while !rest.is_empty() && tries > 0 {
            match tty.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tries -= 1;
                    let _ = poll(
                        &mut [PollFd::new(tty.as_fd(), PollFlags::POLLOUT)],
                        PollTimeout::from(wait),
                    );
                }
                Err(_) => tries -= 1,
            }
        }
    }
    // Not when everything has been written (TCSADRAIN): that may be never.
    let _ = termios::tcsetattr(&tty, SetArg::TCSANOW, &Termios::from(settings));
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use std::fs::File;

    fn terminal() -> (File, Screen) {
        let pair = openpty(None, None).expect("a terminal can be made");
        nix::fcntl::fcntl(
            &pair.slave,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_RDWR),
        )
        .expect("a flag can be set");
        (File::from(pair.master), Screen::of(File::from(pair.slave)))
    }

    fn echoes(screen: &Screen) -> bool {
        let settings = termios::tcgetattr(&screen.tty).expect("it is a terminal");
        settings.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// There is one terminal in a process, so this is one test.
    #[test]
    fn the_terminal_is_given_back() {
        let (mut master, mut screen) = terminal();
        assert!(echoes(&screen));
        screen.take().expect("it is there");
        assert!(!echoes(&screen));
        screen
            .draw(vec!["one".to_owned(), "two".to_owned()])
            .expect("it is there");
        screen
            .draw(vec!["one".to_owned(), "2".to_owned()])
            .expect("it is there");
        assert!(screen.is_ready());
        // A panic gives it back before anything is printed.
        let _alone = crate::entry::tests::HOOK.lock();
        let status = crate::entry::unless_panicking(|| panic!("tried on purpose"));
        let _ = std::panic::take_hook();
        assert_eq!(status, 125);
        assert!(echoes(&screen));
        let expected = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[0m\u{1b}[2J\u{1b}[1;1H\u{1b}[Kone\u{1b}[2;1H\u{1b}[Ktwo\
             \u{1b}[2;1H\u{1b}[K2\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
        let mut written = vec![0; expected.len()];
        master.read_exact(&mut written).expect("it was written to");
        assert_eq!(String::from_utf8_lossy(&written), expected);
        // Nobody reads any more: that keeps nobody from giving it back.
        let (_master, mut screen) = terminal();
        screen.take().expect("it is there");
        screen.draw(vec!["x".repeat(100_000)]).expect("it is there");
        assert!(!screen.is_ready());
        give_back();
        assert!(echoes(&screen));
    }
}
