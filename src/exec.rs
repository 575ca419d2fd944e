//! Running a command: finding it, starting it, passing signals on, limits, how it ended. Knows nothing of locks.

pub mod sys;
