//! The controlling terminal, as far as job control needs it.

use nix::unistd::{Pid, getpgrp, getpid, getsid, tcgetpgrp, tcsetpgrp};
use std::fs::File;

/// This process's controlling terminal.
pub struct Terminal(File);

impl Terminal {
    /// `None` if there is none.
    pub fn open() -> Option<Self> {
        File::open("/dev/tty").ok().map(Self)
    }

    /// True if this process is in the foreground.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.0) == Ok(getpgrp())
    }

    /// Puts `group` into the foreground.
    pub fn lend(&self, group: u32) -> bool {
        tcsetpgrp(&self.0, Pid::from_raw(group.cast_signed())).is_ok()
    }

    /// Puts this process's group into the foreground again, if `group` is there. SIGTTOU must be blocked.
    pub fn take_back(&self, group: u32) {
        if tcgetpgrp(&self.0) == Ok(Pid::from_raw(group.cast_signed())) {
            // If it fails, the shell will do it.
            let _ = tcsetpgrp(&self.0, getpgrp());
        }
    }
}

/// True if this process leads its session: then the terminal's hang-up goes to it alone.
pub fn leads_session() -> bool {
    getsid(None) == Ok(getpid())
}
