//! Starting the command: in a child, or in this process.
//!
//! The child is made with clone(2), CLONE_VM and CLONE_VFORK: no page tables are copied, and this process stands still
//! until the child has executed the command or failed to. That is faster than posix_spawn(3), and the command inherits
//! exactly what is written here, while glibc's posix_spawn would leave signals 32 and 33 ignored.
//!
//! The child shares this process's memory. So between clone and execve it makes nothing but system calls: it does not
//! allocate, lock or panic. Everything that it needs is prepared in an [`Image`].

use super::shared_page::Number;
use super::signal::{self, Disposition, SignalSet};
use std::cell::Cell;
use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

const SHELL: &std::ffi::CStr = c"/bin/sh";

unsafe extern "C" {
    /// The environment (environ(7)).
    static environ: *const *const c_char;
}

/// A command in the form that the kernel takes. The pointers point into the strings beside them (whose heap memory does
/// not move) and into this process's environment.
pub struct Image {
    paths: Vec<CString>,
    _strings: Vec<CString>,
    argv: Vec<*const c_char>,
    /// The same with room for `/bin/sh PATH` instead of the command's name.
    script_argv: Vec<Cell<*const c_char>>,
    envp: Vec<*const c_char>,
}

impl Image {
    /// `paths` are tried in turn, as execvp(3) does. `environment`: variables to set, or to remove (`None`).
    ///
    /// # Errors
    /// A text contains a NUL.
    pub fn new(paths: &[OsString], args: &[OsString], environment: &[(&str, Option<OsString>)]) -> io::Result<Self> {
        let paths = paths
            .iter()
            .map(|p| Ok(CString::new(p.as_bytes())?))
            .collect::<io::Result<Vec<_>>>()?;
        let mut strings = args
            .iter()
            .map(|a| Ok(CString::new(a.as_bytes())?))
            .collect::<io::Result<Vec<_>>>()?;
        let mut argv: Vec<_> = strings.iter().map(|a| a.as_ptr()).collect();
        argv.push(ptr::null());
        let script_argv = [SHELL.as_ptr(), ptr::null()]
            .into_iter()
            .chain(argv.iter().skip(1).copied());
        let script_argv = script_argv.map(Cell::new).collect();
        let mut envp = inherited_environment(environment);
        for (name, value) in environment {
            if let Some(value) = value {
                let variable = CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?;
                envp.push(variable.as_ptr());
                strings.push(variable);
            }
        }
        envp.push(ptr::null());
        Ok(Self {
            paths,
            _strings: strings,
            argv,
            script_argv,
            envp,
        })
    }

    /// Executes it in the calling process; returns only on failure, with errno. Async-signal-safe.
    ///
    /// # Safety
    /// All is well in a child of clone with CLONE_VM as well: it writes to this image's `script_argv` and errno only.
    unsafe fn execute(&self) -> c_int {
        let mut permission = 0;
        let mut error = libc::ENOENT;
        for path in &self.paths {
            // SAFETY: both vectors are NULL-terminated and point to NUL-terminated strings that live as long as
            // `self` (and this process's environment, which nobody changes: there are no other threads here).
            error = unsafe {
                libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
                *libc::__errno_location()
            };
            match error {
                libc::ENOEXEC => {
                    if let Some(script) = self.script_argv.get(1) {
                        script.set(path.as_ptr());
                    }
                    // SAFETY: as above; Cell<*const c_char> has the layout of *const c_char.
                    return unsafe {
                        libc::execve(SHELL.as_ptr(), self.script_argv.as_ptr().cast(), self.envp.as_ptr());
                        *libc::__errno_location()
                    };
                }
                libc::EACCES => permission = error,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return error,
            }
        }
        if permission != 0 { permission } else { error }
    }
}

/// This process's environment without the variables that are changed.
fn inherited_environment(changes: &[(&str, Option<OsString>)]) -> Vec<*const c_char> {
    let mut envp = Vec::with_capacity(64);
    // SAFETY: environ is NULL or a NULL-terminated vector of pointers to strings; nothing in this program changes it.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            let variable = std::ffi::CStr::from_ptr(*next).to_bytes();
            let name = variable.split(|b| *b == b'=').next().unwrap_or_default();
            if !changes.iter().any(|(changed, _)| changed.as_bytes() == name) {
                envp.push(*next);
            }
            next = next.add(1);
        }
    }
    envp
}

/// What this program's caller had set, to be restored for the command.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    /// The signal mask.
    pub mask: SignalSet,
    /// SIGCHLD was ignored (it is not, here).
    pub child_ignored: bool,
}

impl Inherited {
    /// Async-signal-safe.
    fn restore(self) {
        if self.child_ignored {
            signal::set_disposition(libc::SIGCHLD, Disposition::Ignored);
        }
        if super::bus_error::was_ignored() {
            signal::set_disposition(libc::SIGBUS, Disposition::Ignored);
        }
        signal::restore_file_limit();
        signal::set_mask(self.mask);
    }
}

/// Bytes of stack for the child, a multiple of 16. The child needs less than a page; system calls on some architectures
/// and a debug build's frames are counted generously.
const STACK: usize = 32 * 1024;

/// What the child needs to know, and where it stores errno.
struct Order<'a> {
    image: &'a Image,
    inherited: Inherited,
    own_group: bool,
    guarded: Option<&'a Guarded<'a>>,
    errno: Cell<c_int>,
}

/// A command that a guard process ends.
pub struct Guarded<'a> {
    /// The kernel writes its PID here before its first instruction.
    pub pid_cell: &'a Number,
    /// The command must not be executed if the number here has this value.
    pub bar: (&'a Number, c_int),
}

impl Guarded<'_> {
    fn is_barred(&self) -> bool {
        self.bar.0.load() == self.bar.1
    }
}

/// Starts the command in a child process; returns its PID once it has been executed.
///
/// The dispositions of caught signals must be set to default before, and those signals be blocked: a handler must
/// not run in the child.
///
/// # Errors
/// See [`Failure`].
pub fn spawn(
    image: &Image,
    inherited: Inherited,
    own_group: bool,
    guarded: Option<&Guarded<'_>>,
) -> Result<u32, Failure> {
    let order = Order {
        image,
        inherited,
        own_group,
        guarded,
        errno: Cell::new(0),
    };
    // On the heap: a frame of that size would be probed page by page, and only the last page is used.
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK / size_of::<u128>()); // u128: aligned to 16 bytes
    let tell = guarded.map_or(0, |_| libc::CLONE_PARENT_SETTID);
    // SAFETY: the stack grows down from its end, which is 16-byte aligned. This process does not continue before the
    // child has executed or exited (CLONE_VFORK), so stack and order outlive the child's use of them. The child's
    // function keeps to the rules at the top of this file. The cell is an atomic number, or null and not used.
    let pid = unsafe {
        libc::clone(
            in_child,
            stack.as_mut_ptr().cast::<u8>().add(STACK).cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | tell,
            (&raw const order).cast_mut().cast::<c_void>(),
            guarded.map_or(ptr::null_mut(), |guarded| guarded.pid_cell.as_ptr()),
        )
    };
    if pid < 0 {
        return Err(Failure::NoChild(io::Error::last_os_error()));
    }
    // SAFETY: the child wrote it before it ended. Volatile: the compiler does not know of the child.
    match unsafe { order.errno.as_ptr().read_volatile() } {
        0 => Ok(pid as u32),
        errno => {
            if let Some(guarded) = guarded {
                guarded.pid_cell.store(0); // before the number can come to mean another process
            }
            let _ = wait(Whose::Child(pid as u32), Block::Yes);
            if guarded.is_some_and(Guarded::is_barred) {
                return Err(Failure::Barred);
            }
            Err(Failure::NotExecuted(io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Why there is no command.
#[derive(Debug)]
pub enum Failure {
    /// A process could not be made.
    NoChild(io::Error),
    /// It could not be executed.
    NotExecuted(io::Error),
    /// The guard did not allow it.
    Barred,
}

extern "C" fn in_child(order: *mut c_void) -> c_int {
    // SAFETY: the pointer is `spawn`'s order, which outlives this function; setpgid and _exit are system calls.
    unsafe {
        let order = &*order.cast_const().cast::<Order>();
        if order.own_group {
            libc::setpgid(0, 0);
        }
        order.inherited.restore();
        // As late as possible: if this process was stopped before, the right may be lost by now.
        let errno = if order.guarded.is_some_and(Guarded::is_barred) {
            libc::ECANCELED
        } else {
            order.image.execute()
        };
        order.errno.set(errno);
        libc::_exit(127)
    }
}

/// Executes the command in this process; returns only if that failed. Then signals are as this program's caller had set
/// them, apart from those that are still caught.
pub fn exec_here(image: &Image, inherited: Inherited) -> io::Error {
    inherited.restore();
    // SAFETY: this is the only thread.
    io::Error::from_raw_os_error(unsafe { image.execute() })
}

/// Which children [`wait`] asks about.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// This one.
    Child(u32),
    /// Any.
    Any,
}

/// How [`wait`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Until there is something to report.
    Yes,
    /// Report what there is.
    No,
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It ended with this status.
    Exited(c_int),
    /// It was killed by this signal.
    Killed(c_int),
    /// It was stopped by this signal.
    Stopped(c_int),
    /// It was continued.
    Continued,
}

/// What happened to children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// This, to the child with that PID.
    Of(u32, Change),
    /// Nothing new.
    Nothing,
    /// There are no such children.
    NoChildren,
}

/// Reaps an ended child, or reports a stop or a continuation.
pub fn wait(whose: Whose, block: Block) -> Report {
    let pid = match whose {
        Whose::Child(pid) => pid as c_int,
        Whose::Any => -1,
    };
    let flags = match block {
        // A caller that blocks wants to know of the end only.
        Block::Yes => 0,
        Block::No => libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED,
    };
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a c_int.
        match unsafe { libc::waitpid(pid, &raw mut status, flags) } {
            0 => return Report::Nothing,
            -1 => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ECHILD) => return Report::NoChildren,
                // A sandbox that does not know this call may know its younger sister.
                _ => return wait_by_id(whose, flags),
            },
            pid => return Report::Of(pid as u32, change(status)),
        }
    }
}

/// The same through waitid(2).
fn wait_by_id(whose: Whose, flags: c_int) -> Report {
    let (kind, id) = match whose {
        Whose::Child(pid) => (libc::P_PID, pid),
        Whose::Any => (libc::P_ALL, 0),
    };
    loop {
        // SAFETY: an all-zero siginfo is a valid one, and the kernel writes one.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::waitid(kind, id, &raw mut info, flags | libc::WEXITED), info)
        };
        match result {
            0 => {}
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
            _ => return Report::NoChildren,
        }
        // SAFETY: these fields are the kernel's, or zero as before if there is nothing to report.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return match (pid, info.si_code) {
            (0, _) => Report::Nothing,
            (pid, libc::CLD_EXITED) => Report::Of(pid as u32, Change::Exited(status)),
            (pid, libc::CLD_STOPPED | libc::CLD_TRAPPED) => Report::Of(pid as u32, Change::Stopped(status)),
            (pid, libc::CLD_CONTINUED) => Report::Of(pid as u32, Change::Continued),
            (pid, _) => Report::Of(pid as u32, Change::Killed(status)),
        };
    }
}

fn change(status: c_int) -> Change {
    if libc::WIFEXITED(status) {
        Change::Exited(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Change::Killed(libc::WTERMSIG(status))
    } else if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status))
    } else {
        Change::Continued
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared_page::Page;
    use super::*;

    #[test]
    fn what_is_barred_is_not_executed() {
        let page = Page::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("executed");
        let args = ["touch".into(), trace.clone().into_os_string()];
        let image = Image::new(&["/usr/bin/touch".into()], &args, &[]).unwrap();
        let inherited = Inherited {
            mask: signal::block(SignalSet::of(&[])),
            child_ignored: false,
        };
        let guarded = Guarded {
            pid_cell: &page.command,
            bar: (&page.acted, 2),
        };
        page.acted.store(2);
        let barred = spawn(&image, inherited, false, Some(&guarded));
        assert!(matches!(barred, Err(Failure::Barred)) && !trace.exists());
        page.acted.store(1);
        let pid = spawn(&image, inherited, false, Some(&guarded)).unwrap();
        assert_eq!(page.command.load().cast_unsigned(), pid);
        assert_eq!(wait(Whose::Child(pid), Block::Yes), Report::Of(pid, Change::Exited(0)));
        assert!(trace.exists());
    }
}
