//! `top`: all locks, who has them and who waits, as it changes.
//!
//! Three kinds of threads: one draws and listens to the keyboard (here), one knows all locks (`collector.rs`), and one per
//! lock waits until something happens to it. The first never waits for the others, nor for the terminal.

mod arrivals;
mod choice;
mod collector;
mod keys;

use super::{Failure, list};
use crate::cli::ListArgs;
use crate::exec::{self, Screen, SignalQueue};
use crate::exit::Exit;
use crate::output::Style;
use crate::output::top::{self, Board};
use choice::{Chosen, Wish};
use collector::{Inbox, News};
use keys::Keys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use resourcelock::engines::Engine;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the ages on the screen are renewed.
const TICK: Duration = Duration::from_secs(1);
/// How long the rest of a key may take.
const KEY: Duration = Duration::from_millis(50);

/// Carries it out. The engine has to be there until the process ends, as the threads are.
pub fn perform(engine: &'static dyn Engine) -> Result<Exit, Failure> {
    let Some(screen) = Screen::open() else {
        return list::perform(engine, &ListArgs::default());
    };
    if io::stderr().is_terminal() {
        // Messages would stand in the middle of the picture.
        log::set_max_level(log::LevelFilter::Off);
    }
    let failed = |error: io::Error| Failure::general(format!("cannot show a live view: {error}"));
    // Before there are threads.
    let signals = SignalQueue::open().map_err(failed)?;
    let (board, wake_up) = io::pipe().map_err(failed)?;
    let known = Arc::new(Known::default());
    let publish = {
        let known = known.clone();
        move |board| known.publish(board, &wake_up)
    };
    let mut view = View {
        screen,
        signals,
        board: Board {
            place: engine.place(),
            ..Board::default()
        },
        inbox: collector::start(engine, Box::new(publish)).map_err(failed)?,
        wake_up: board,
        known,
        chosen: Chosen::default(),
        keys: Keys::default(),
        typed: Instant::now(),
        style: Style::of_stdout(),
        taken: false,
        due: Instant::now(),
    };
    let ended = view.run();
    exec::give_back();
    match ended {
        Ok(exit) => Ok(exit),
        // As if it had been told so by a signal, which may have been ignored.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof) => Ok(Exit::Signal(libc::SIGHUP)),
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(Exit::Signal(libc::SIGHUP)),
        Err(error) => Err(failed(error)),
    }
}

/// What the collector knows, on its way to the screen.
#[derive(Default)]
struct Known(Mutex<Option<Board>>);

impl Known {
    /// Hands it over; false if nobody is there any more.
    fn publish(&self, board: Board, mut wake_up: &PipeWriter) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One byte for each that is taken: the pipe is never full.
        known.replace(board).is_some() || wake_up.write_all(b"!").is_ok()
    }

    fn take(&self) -> Option<Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct View {
    screen: Screen,
    signals: SignalQueue,
    board: Board,
    known: Arc<Known>,
    wake_up: PipeReader,
    inbox: Arc<Inbox>,
    chosen: Chosen,
    keys: Keys,
    /// When something was typed last.
    typed: Instant,
    style: Style,
    /// The terminal is in use.
    taken: bool,
    /// When the next picture is due.
    due: Instant,
}

/// What there is to do.
struct Ready {
    typed: bool,
    writable: bool,
    known: bool,
}

impl View {
    /// Until somebody has had enough of it.
    ///
    /// # Errors
    /// The terminal has hung up.
    fn run(&mut self) -> io::Result<Exit> {
        loop {
            // First: whoever is to end does not touch the terminal.
            if let Some(exit) = self.heed_signals() {
                return Ok(exit);
            }
            if !self.taken && !self.take()? {
                continue;
            }
            if !self.screen.is_taken() {
                return Ok(Exit::Failed); // another thread has panicked, and said so
            }
            if self.due <= Instant::now() && self.screen.is_ready() {
                if !self.screen.is_ours()? {
                    self.taken = false;
                    continue;
                }
                self.draw()?;
                self.due = Instant::now() + TICK;
            }
            let ready = self.wait()?;
            if ready.writable {
                self.screen.write()?;
            }
            if ready.known && !self.learn()? {
                return Ok(Exit::Failed);
            }
            if ready.typed {
                self.keys.add(&self.screen.typed()?);
                self.typed = Instant::now();
            }
            if self.press_keys() == Wish::Quit {
                return Ok(Exit::Done);
            }
        }
    }

    /// Acts on the signals that have come; returns how to end, if one of them asks for that.
    fn heed_signals(&mut self) -> Option<Exit> {
        while let Some(signal) = self.signals.next() {
            match signal {
                // Ctrl-C is how one leaves many a live view.
                libc::SIGINT => return Some(Exit::Done),
                libc::SIGWINCH => self.due = Instant::now(),
                // Somebody else may have had the terminal meanwhile.
                libc::SIGCONT => self.taken = false,
                libc::SIGTSTP => {
                    exec::give_back();
                    self.taken = false;
                    self.signals.stop_by(signal);
                }
                signal => return Some(Exit::Signal(signal)),
            }
        }
        None
    }

    /// Takes the terminal; false: not now, another job has it.
    fn take(&mut self) -> io::Result<bool> {
        if self.screen.is_ours()? {
            self.screen.take()?;
            (self.taken, self.due) = (true, Instant::now());
            return Ok(true);
        }
        // As the system stops whoever touches a terminal that is another job's.
        self.signals.stop_by(libc::SIGTTOU);
        // If it does not, nobody could continue this one: the shell that started it is gone.
        match poll(
            &mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)],
            timeout(TICK),
        ) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(false),
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> io::Result<Ready> {
        let (of_screen, left) = match self.screen.is_ready() {
            true => (PollFlags::POLLIN, self.due.saturating_duration_since(Instant::now())),
            false => (PollFlags::POLLIN | PollFlags::POLLOUT, TICK),
        };
        let left = if self.keys.is_unfinished() { left.min(KEY) } else { left };
        let mut sources = [
            PollFd::new(self.screen.as_fd(), of_screen),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake_up.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut sources, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [screen, _, known] = sources.map(|source| source.revents().unwrap_or(PollFlags::empty()));
        Ok(Ready {
            typed: screen.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            writable: screen.intersects(PollFlags::POLLOUT),
            known: !known.is_empty(),
        })
    }

    /// Takes over what has become known; false if nothing will become known any more.
    fn learn(&mut self) -> io::Result<bool> {
        if self.wake_up.read(&mut [0; 16])? == 0 {
            return Ok(false);
        }
        if let Some(board) = self.known.take() {
            (self.board, self.due) = (board, Instant::now());
        }
        Ok(true)
    }

    /// Does what the keys say that have been typed.
    fn press_keys(&mut self) -> Wish {
        while let Some(key) = self.keys.next(self.typed.elapsed() >= KEY) {
            self.due = Instant::now();
            match self.chosen.press(key, &self.board, size(&self.screen)) {
                Wish::Quit => return Wish::Quit,
                Wish::Redraw => self.screen.forget(),
                Wish::Show(lock) => {
                    self.board.detail = None;
                    self.inbox.put(News::Show(lock));
                }
                Wish::Nothing => {}
            }
        }
        Wish::Nothing
    }

    fn draw(&mut self) -> io::Result<()> {
        let size = size(&self.screen);
        self.chosen.settle(&self.board, size);
        let detail = self.board.detail.as_ref();
        let picture = match detail.filter(|detail| Some(detail.name.as_str()) == self.chosen.shown()) {
            Some(detail) => top::one_lock(&self.board, detail, self.chosen.line(), size),
            None => top::overview(
                &self.board,
                &self.chosen.rows(&self.board),
                self.chosen.choice(),
                size,
                Instant::now(),
            ),
        };
        self.screen
            .draw(picture.iter().map(|line| line.painted(self.style)).collect())
    }
}

fn size(screen: &Screen) -> (usize, usize) {
    let size = screen.size();
    (size.columns, size.lines)
}

/// For poll(2), which counts in milliseconds: not earlier than that.
fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}
