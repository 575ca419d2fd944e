//! Finding the file to execute for a command, as execvp(3) does.

use super::sys::spawn::Failure;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Where execvp(3) looks when there is no PATH (confstr(3), _CS_PATH).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command that can be run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Files to try, in order. More than one only if the name was found in several directories of PATH.
    pub(super) paths: Vec<OsString>,
    /// The arguments; the first is the command as typed.
    pub(super) args: Vec<OsString>,
}

impl Program {
    /// The command's name: the last part of its path.
    pub fn name(&self) -> String {
        let typed = self.args.first().map(Path::new);
        let name = typed
            .and_then(|t| t.file_name().or(Some(t.as_os_str())))
            .unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The report that this command was not run.
    pub(super) fn not_run(&self, failure: Failure) -> NotRun {
        NotRun {
            command: self.args.first().cloned().unwrap_or_default(),
            failure,
        }
    }

    /// `text` as a command line for the user's shell (`$SHELL`, else /bin/sh), like `flock -c`.
    ///
    /// # Errors
    /// The shell is a bare name and not found.
    pub fn shell(text: OsString) -> Result<Self, NotRun> {
        let shell = super::variable("SHELL")
            .filter(|s| !s.is_empty())
            .unwrap_or_else(|| "/bin/sh".into());
        resolve(vec![shell, "-c".into(), text])
    }
}

/// Finds the command. A name without a slash is looked up in PATH now. A path with a slash is taken as it is: the file
/// may still be created.
///
/// # Errors
/// A name without a slash was not found, or was found only where this user may not execute it.
pub fn resolve(args: Vec<OsString>) -> Result<Program, NotRun> {
    let typed = args.first().cloned().unwrap_or_default();
    if typed.as_bytes().contains(&b'/') {
        return Ok(Program {
            paths: vec![typed],
            args,
        });
    }
    let mut refused = io::Error::from_raw_os_error(libc::ENOENT);
    let mut paths = Vec::new();
    for path in candidates(&typed) {
        match executable(&path) {
            Ok(()) => paths.push(path),
            // Others that can be executed may follow; if one vanishes while we wait, the next is tried.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused = e,
            Err(_) => {}
        }
    }
    if paths.is_empty() {
        return Err(NotRun {
            command: typed,
            failure: Failure::NotExecuted(refused),
        });
    }
    Ok(Program { paths, args })
}

/// The paths that a bare name may mean. An empty element of PATH is the current directory.
fn candidates(name: &OsStr) -> Vec<OsString> {
    if name.is_empty() {
        return Vec::new();
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let in_directory = |directory: &[u8]| {
        let directory = if directory.is_empty() { b"." } else { directory };
        OsString::from_vec([directory, b"/", name.as_bytes()].concat())
    };
    path.as_bytes().split(|b| *b == b':').map(in_directory).collect()
}

/// Fails unless this user may execute the file at `path`.
fn executable(path: &OsStr) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, AtFlags};
    use nix::unistd::{AccessFlags, faccessat};
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        // A sandbox does not know the question: execve(2) will answer it.
        Err(Errno::EPERM | Errno::ENOSYS) => Ok(()),
        answer => Ok(answer?),
    }
}

/// A command that was not run.
#[derive(Debug)]
pub struct NotRun {
    command: OsString,
    failure: Failure,
}

impl NotRun {
    /// True if there is no such file. (Else it could not be executed, or no process could be made.)
    pub fn not_found(&self) -> bool {
        matches!(&self.failure, Failure::NotExecuted(e) if e.kind() == io::ErrorKind::NotFound)
    }

    /// True if the command is not to blame: no process could be made, or it was not allowed to start.
    pub fn system_failed(&self) -> bool {
        matches!(self.failure, Failure::NoChild(_) | Failure::Barred)
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.to_string_lossy();
        match &self.failure {
            Failure::NoChild(e) => write!(f, "cannot create a process for '{command}': clone(2): {e}"),
            Failure::NotExecuted(e) if e.kind() == io::ErrorKind::NotFound => {
                let bare = !self.command.as_bytes().contains(&b'/');
                let hint = if bare {
                    "no such command in PATH"
                } else {
                    "no such file, or its interpreter is missing"
                };
                write!(f, "cannot execute '{command}': {hint}")
            }
            Failure::NotExecuted(e) => write!(f, "cannot execute '{command}': {e}"),
            Failure::Barred => write!(f, "'{command}' was not started: the right to run it was lost before"),
        }
    }
}

impl std::error::Error for NotRun {}
