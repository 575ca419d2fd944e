//! Every exit status of the program.

/// How the program ends. One enum, one conversion: [`Exit::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The command that ran under the lock ended by itself with this status.
    Command(u8),
    /// This signal killed the command, or ended this program's wait: the program dies of the same one.
    Signal(i32),
    /// The answer is no: the lock was not held (any more), it is free, or something was found.
    No,
    /// The previous holder died, and `--on-abandoned fail` was asked for (EX_DATAERR of sysexits.h).
    Abandoned,
    /// The engine cannot be reached; the command never started (EX_UNAVAILABLE).
    Unavailable,
    /// The lock was not acquired in time (EX_TEMPFAIL), or the status that the user chose for that.
    NotAcquired(Option<u8>),
    /// The lock was lost while the command ran.
    Lost,
    /// The command reached its time limit, and ended.
    Limit,
    /// The command reached its time limit, and had to be killed.
    LimitKilled,
    /// This program failed: usage, permission, system.
    Failed,
    /// The command was found, but could not be executed.
    CannotExecute,
    /// The command was not found.
    NotFound,
}

impl Exit {
    /// The status as a shell shows it. [`Exit::Signal`] is 128 + N, which is also what a process that cannot die of
    /// the signal (PID 1) exits with.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Command(status) => status,
            Self::Signal(signal) => u8::try_from(signal).unwrap_or(0).saturating_add(128),
            Self::No => 1,
            Self::Abandoned => 65,
            Self::Unavailable => 69,
            Self::NotAcquired(chosen) => chosen.unwrap_or(75),
            Self::Lost => 76,
            Self::Limit => 124,
            Self::LimitKilled => 137,
            Self::Failed => 125,
            Self::CannotExecute => 126,
            Self::NotFound => 127,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_documented_statuses() {
        for (exit, status) in [
            (Exit::Done, 0),
            (Exit::Command(3), 3),
            (Exit::Signal(15), 143),
            (Exit::No, 1),
            (Exit::Abandoned, 65),
            (Exit::Unavailable, 69),
            (Exit::NotAcquired(None), 75),
            (Exit::NotAcquired(Some(0)), 0),
            (Exit::Lost, 76),
            (Exit::Limit, 124),
            (Exit::LimitKilled, 137),
            (Exit::Failed, 125),
            (Exit::CannotExecute, 126),
            (Exit::NotFound, 127),
        ] {
            assert_eq!(exit.status(), status, "{exit:?}");
        }
    }
}
